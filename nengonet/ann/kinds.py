"""What each kind of Keras layer computes: one class a kind.

A kind of your own is any object with ``shape_after`` and ``product``, see `Kind`, given to
`register` under the name that `nengonet.LayerWeights` has as its ``kind``.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import expit

from nengonet.ann import convolution
from nengonet.exceptions import InputError
from nengonet.weights import LayerWeights

_ACTIVATIONS = {
    "linear": lambda values: values,
    "relu": lambda values: np.maximum(values, 0.0),
    "sigmoid": expit,
    "tanh": np.tanh,
}
# Options of a Keras convolution that change its result and are not computed here.
_ONLY = {"dilation_rate": 1, "data_format": "channels_last"}


class Kind:
    """What a kind of layer with weights computes. This one is Dense."""

    def shape_after(
        self, layer: LayerWeights, shape: tuple[int, ...], before: str
    ) -> tuple[int, ...]:
        """Return the shape that it makes of the shape of the layer before, named ``before``."""
        layer.check_inputs(shape, pre_label=before)
        return (layer.n_outputs,)

    def product(self, layer: LayerWeights, values: np.ndarray) -> np.ndarray:
        """Return what it makes of ``values``, (n_images, ...), without bias and activation."""
        return values.reshape(len(values), -1) @ layer.kernel


class Convolution(Kind):
    """Conv2D and DepthwiseConv2D, on (rows, columns, channels) or (rows, columns)."""

    def shape_after(
        self, layer: LayerWeights, shape: tuple[int, ...], before: str
    ) -> tuple[int, ...]:
        """Return (rows, columns, filters)."""
        shape = with_channels(shape)
        layer.check_inputs(shape, pre_label=before)
        kernel, options = self.grouped(layer, shape[2])
        geometry = (kernel.shape[:2], options["strides"], options["padding"])
        with named(layer.name):
            return (*convolution.output_shape(shape, *geometry), layer.n_outputs)

    def product(self, layer: LayerWeights, values: np.ndarray) -> np.ndarray:
        """Return the convolution."""
        values = values.reshape(len(values), *with_channels(values.shape[1:]))
        kernel, options = self.grouped(layer, values.shape[3])
        return convolution.conv2d(values, kernel, **options)

    def grouped(self, layer: LayerWeights, channels: int) -> tuple[np.ndarray, dict]:
        """Return the kernel of a Conv2D, and its strides, padding and groups: the file's."""
        for option, only in _ONLY.items():
            found = layer.config.get(option, only)
            if np.any(np.asarray(found) != only):
                raise InputError(
                    f"{layer.name}: {option}: expected {only}, got {found}; nothing else is "
                    "computed"
                )
        defaults = {"strides": (1, 1), "padding": "valid", "groups": 1}
        options = {name: layer.config.get(name, value) for name, value in defaults.items()}
        if layer.kind == "Conv2D":
            return layer.kernel, options
        kernel = convolution.depthwise_as_grouped(layer.kernel, channels)
        return kernel, options | {"groups": channels}


_KINDS: dict[str, Kind] = {
    "Dense": Kind(),
    "Conv2D": Convolution(),
    "DepthwiseConv2D": Convolution(),
}


def register(name: str, kind: Kind) -> None:
    """Say what layers compute whose weights are of a kind: an object with `Kind`'s methods."""
    _KINDS[name] = kind


def kind_of(layer: LayerWeights) -> Kind:
    """Return what a layer with weights computes, or refuse it by name."""
    if layer.kind not in _KINDS:
        fold = "; fold it into the layer before with fold_batch_norm"
        raise InputError(
            f"{layer.name}: expected a {', '.join(_KINDS)} layer or a Pool, got "
            f"{layer.kind}{fold if layer.kind == 'BatchNormalization' else ''}"
        )
    return _KINDS[layer.kind]


@dataclasses.dataclass(frozen=True)
class Pool:
    """State a pooling layer of the ANN, to stand between two layers with weights.

    Parameters
    ----------
    kind : {'max', 'average', 'global_average'}
        A global average takes the mean of every channel; it has no size, strides or padding.
    size : int or (int, int)
        Of the window, in rows and columns.
    strides : int or (int, int), optional
        By default the size.
    padding : {'valid', 'same'}
    name : str

    Raises
    ------
    InputError
        The kind or padding is unknown, or a size or stride is not a whole number above 0.
    """

    kind: str = "max"
    size: int | Sequence[int] = (2, 2)
    strides: int | Sequence[int] | None = None
    padding: str = "valid"
    name: str = "pool"

    def __post_init__(self):
        if self.kind not in _POOLS:
            raise InputError(
                f"{self.name}: kind: expected {', '.join(map(repr, _POOLS))}, got {self.kind!r}"
            )
        # A window that just fits itself: what is left to check is the arguments.
        with named(self.name):
            convolution.output_shape(self.geometry[0], *self.geometry)

    @property
    def geometry(self) -> tuple[tuple[int, int], tuple[int, int], str]:
        """Size and strides in rows and columns, and the padding."""
        size = convolution.as_pair("size", self.size)
        strides = size if self.strides is None else convolution.as_pair("strides", self.strides)
        return size, strides, self.padding

    def shape_after(self, shape: tuple[int, ...], before: str) -> tuple[int, ...]:
        """Return the shape that the pool makes of the shape of the layer before."""
        shape = with_channels(shape)
        if len(shape) != 3:
            raise InputError(
                f"{self.name}: a pool takes (rows, columns, channels), but the layer before it, "
                f"{before}, has shape {shape}"
            )
        if self.kind == "global_average":
            return shape[2:]
        with named(self.name):
            return (*convolution.output_shape(shape, *self.geometry), shape[2])

    def values(self, values: np.ndarray) -> np.ndarray:
        """Return what the pool makes of values, (n_images, rows, columns, channels)."""
        values = values.reshape(len(values), *with_channels(values.shape[1:]))
        geometry = () if self.kind == "global_average" else self.geometry
        return _POOLS[self.kind](values, *geometry)


_POOLS = {
    "max": convolution.max_pool2d,
    "average": convolution.average_pool2d,
    "global_average": convolution.global_average_pool2d,
}


def with_channels(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape with its channels; ``(rows, columns)`` is one channel."""
    return (*shape, 1) if len(shape) == 2 else tuple(shape)


def shape_after(
    layer: LayerWeights | Pool, shape: Sequence[int], *, pre_label: str = ""
) -> tuple[int, ...]:
    """Return the shape that a layer makes of the shape of the layer before, or refuse it."""
    if isinstance(layer, Pool):
        return layer.shape_after(tuple(shape), pre_label)
    return kind_of(layer).shape_after(layer, tuple(shape), pre_label)


def drive_of(layer: LayerWeights, values: np.ndarray) -> np.ndarray:
    """Return what a layer computes before its activation, of values (n_images, ...)."""
    drive = kind_of(layer).product(layer, values)
    return drive if layer.bias is None else drive + layer.bias


def given_activation(layer: LayerWeights, *, last: bool) -> str | None:
    """Return the activation that a layer's file gives, if any; the last layer's are logits."""
    given = layer.activation
    if last and given is not None:
        given = "linear" if given == "softmax" else given.removesuffix(" then softmax")
    if given is not None and given not in _ACTIVATIONS:
        raise InputError(
            f"{layer.name}: expected the activation {', '.join(_ACTIVATIONS)}, got {given}"
        )
    return given


def activate(activation: str, values: np.ndarray) -> np.ndarray:
    """Return what an activation (linear, relu, sigmoid, tanh) makes of values."""
    return _ACTIVATIONS[activation](values)


@contextlib.contextmanager
def named(name: object) -> Iterator[None]:
    """Put a name in front of an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
