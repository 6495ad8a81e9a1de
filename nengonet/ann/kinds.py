"""The computation of each kind of Keras layer: one class per kind.

To add a kind, pass an object with ``shape_after`` and ``product`` (see `Kind`) to `register`, under
the name that `nengonet.LayerWeights` has as its ``kind``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from nengonet.ann import convolution
from nengonet.ann.unweighted import named, with_channels
from nengonet.exceptions import InputError
from nengonet.weights import LayerWeights

_ACTIVATIONS = {
    "linear": lambda values: values,
    "relu": lambda values: np.maximum(values, 0.0),
    "sigmoid": expit,
    "tanh": np.tanh,
}


class Kind:
    """The computation of a kind of layer with weights. This one is Dense.

    Examples
    --------
    >>> from nengonet.ann.kinds import kind_of
    >>> weights = nn.LayerWeights(np.eye(3), name="hidden")
    >>> kind_of(weights)
    <Kind>
    """

    def __repr__(self) -> str:
        """Write the class, which has no state."""
        return f"<{type(self).__name__}>"

    def shape_after(
        self, layer: LayerWeights, shape: tuple[int, ...], before: str
    ) -> tuple[int, ...]:
        """Return the output shape, for the shape of the layer before, named ``before``."""
        layer.check_inputs(shape, pre_label=before)
        return (layer.n_outputs,)

    def product(self, layer: LayerWeights, values: np.ndarray) -> np.ndarray:
        """Return the output for ``values``, (n_images, ...), without bias and activation."""
        return values.reshape(len(values), -1) @ layer.kernel

    def multiply_adds(self, layer: LayerWeights, shape: tuple[int, ...]) -> int:
        """Count the multiply-adds for one image; ``shape`` is that of the layer's output."""
        return math.prod(shape[:-1]) * layer.kernel.size


class Convolution(Kind):
    """Convolutions over (steps, channels) or (rows, columns, channels); depthwise ones too."""

    def shape_after(
        self, layer: LayerWeights, shape: tuple[int, ...], before: str
    ) -> tuple[int, ...]:
        """Return (steps, filters) or (rows, columns, filters)."""
        shape = self.with_channels(layer, shape)
        layer.check_inputs(shape, pre_label=before)
        kernel, options = self.plain(layer, shape)
        geometry = (kernel.shape[:-2], options["strides"], options["padding"])
        with named(layer.name):
            return (*convolution.output_shape(shape[:-1], *geometry), layer.n_outputs)

    def product(self, layer: LayerWeights, values: np.ndarray) -> np.ndarray:
        """Return the convolution."""
        shape = self.with_channels(layer, values.shape[1:])
        kernel, options = self.plain(layer, shape)
        return convolution.convolve(values.reshape(len(values), *shape), kernel, **options)

    def with_channels(self, layer: LayerWeights, shape: Sequence[int]) -> tuple[int, ...]:
        """Return a shape with channels; a shape without them has one channel."""
        return with_channels(shape, layer.kernel.ndim - 2)

    def plain(self, layer: LayerWeights, shape: tuple[int, ...]) -> tuple[np.ndarray, dict]:
        """Return an equivalent kernel that needs only strides, padding and groups, and these.

        They are those of the file. A dilated, causal or depthwise kernel is converted to a plain
        one, which `nengo.Convolution` takes.
        """
        found, dimensions = layer.config.get("data_format", "channels_last"), layer.kernel.ndim - 2
        if found != "channels_last":
            raise InputError(
                f"{layer.name}: data_format: expected channels_last, got {found}; no other is "
                "supported"
            )
        options = {"strides": 1, "padding": "valid", "groups": 1, "dilation_rate": 1}
        options = {name: layer.config.get(name, value) for name, value in options.items()}
        with named(layer.name):
            kernel = layer.kernel
            if layer.kind.startswith("Depthwise"):
                kernel = convolution.depthwise_as_grouped(kernel, shape[-1])
                options["groups"] = shape[-1]
            kernel = convolution.dilated(kernel, options.pop("dilation_rate"))
            strides = convolution.as_lengths("strides", options["strides"], dimensions)
            if options["padding"] == "causal" and dimensions == 1:
                kernel = convolution.causal_as_same(kernel, shape[0], *strides)
                options["padding"] = "same"
        return kernel, options | {"strides": strides}


class Activation(Kind):
    """A kind that passes on its input: no weights."""

    def shape_after(
        self, layer: LayerWeights, shape: tuple[int, ...], before: str
    ) -> tuple[int, ...]:
        """Return the same shape."""
        return shape

    def product(self, layer: LayerWeights, values: np.ndarray) -> np.ndarray:
        """Return the values."""
        return values

    def multiply_adds(self, layer: LayerWeights, shape: tuple[int, ...]) -> int:
        """Return 0."""
        return 0


_KINDS: dict[str, Kind] = {
    "Dense": Kind(),
    **dict.fromkeys(("Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D"), Convolution()),
    "Activation": Activation(),
}


def register(name: str, kind: Kind) -> None:
    """Register the computation of layers with weights of a kind.

    Parameters
    ----------
    name : str
        Name of the kind: the layer's class in Keras.
    kind : Kind
        An object with the methods of `Kind`.

    Examples
    --------
    >>> from nengonet.ann.kinds import Kind, kind_of, register
    >>> class Doubled(Kind):
    ...     pass
    >>> register("Doubled", Doubled())
    >>> isinstance(kind_of(nn.LayerWeights(np.eye(3), kind="Doubled")), Doubled)
    True
    """
    _KINDS[name] = kind


def kind_of(layer: LayerWeights) -> Kind:
    """Return the kind of a layer with weights, or refuse it by name."""
    if layer.kind not in _KINDS:
        fold = "; fold it into the layer before with fold_batch_norm"
        raise InputError(
            f"{layer.name}: expected a {', '.join(_KINDS)} layer or a Pool, got "
            f"{layer.kind}{fold if layer.kind == 'BatchNormalization' else ''}"
        )
    return _KINDS[layer.kind]


def shape_after(
    layer: LayerWeights, shape: Sequence[int], *, pre_label: str = ""
) -> tuple[int, ...]:
    """Return the output shape of a layer for the shape of the layer before, or refuse it."""
    return kind_of(layer).shape_after(layer, tuple(shape), pre_label)


def drive_of(layer: LayerWeights, values: np.ndarray) -> np.ndarray:
    """Return a layer's output before its activation, for values (n_images, ...)."""
    drive = kind_of(layer).product(layer, values)
    return drive if layer.bias is None else drive + layer.bias


def given_activation(layer: LayerWeights, *, last: bool) -> str | None:
    """Return the activation that a layer's file gives, if any; the last layer returns logits."""
    given = layer.activation
    if last and given is not None:
        given = "linear" if given == "softmax" else given.removesuffix(" then softmax")
    if given is not None and given not in _ACTIVATIONS:
        raise InputError(
            f"{layer.name}: expected the activation {', '.join(_ACTIVATIONS)}, got {given}"
        )
    return given


def activate(activation: str, values: np.ndarray) -> np.ndarray:
    """Apply an activation (linear, relu, sigmoid, tanh) to values."""
    return _ACTIVATIONS[activation](values)
