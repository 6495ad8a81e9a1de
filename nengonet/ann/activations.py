"""Rate predictions in NumPy: what the ANN computes, and how large its activations get."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy.special import expit

from nengonet.ann import convolution
from nengonet.checks import as_number, as_numbers, as_pixels
from nengonet.exceptions import InputError
from nengonet.weights import LayerWeights

_POOLS = {
    "max": convolution.max_pool2d,
    "average": convolution.average_pool2d,
    "global_average": convolution.global_average_pool2d,
}
_CONVOLUTIONS = {
    "Conv2D": convolution.conv2d,
    "DepthwiseConv2D": convolution.depthwise_conv2d,
}
_ACTIVATIONS = {
    "linear": lambda values: values,
    "relu": lambda values: np.maximum(values, 0.0),
    "sigmoid": expit,
    "tanh": np.tanh,
}
# Options of a Keras convolution that change its result and are not computed here.
_ONLY = {"dilation_rate": 1, "data_format": "channels_last"}


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
        There is no such kind or padding, or a size or stride is no whole number above 0.
    """

    kind: str = "max"
    size: int | Sequence[int] = (2, 2)
    strides: int | Sequence[int] | None = None
    padding: str = "valid"
    name: str = "pool"

    def __post_init__(self):
        if self.kind not in _POOLS:
            raise InputError(
                f"{self.name}: kind: expected {', '.join(map(repr, _POOLS))}, found {self.kind!r}"
            )
        # A window that just fits itself: what is left to check is the arguments.
        with _named(self):
            convolution.output_shape(self.geometry[0], *self.geometry)

    @property
    def geometry(self) -> tuple[tuple[int, int], tuple[int, int], str]:
        """Size and strides in rows and columns, and the padding."""
        size = convolution.as_pair("size", self.size)
        strides = size if self.strides is None else convolution.as_pair("strides", self.strides)
        return size, strides, self.padding


def activations(layers: Iterable[LayerWeights | Pool], images: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what a Keras MLP or CNN computes.

    After every layer with weights comes the activation that its file states; where it states
    none, ReLU, and nothing after the last.

    Parameters
    ----------
    layers : iterable of LayerWeights and Pool
        Dense, Conv2D and DepthwiseConv2D layers and pools, from the first to the last. Strides,
        padding and groups are those that the file tells of a layer, else Keras' defaults
        (1, 1), 'valid' and 1.
    images : (n_images, ...) array_like
        ``(n_images, rows, columns, channels)``, or ``(n_images, rows, columns)`` for one channel.
        A Dense layer flattens what comes before it in (row, column, channel) order, images too.

    Returns
    -------
    activations : dict of ndarray
        By layer name, in order: ``(n_images, n_units)`` for Dense layers and global pools,
        ``(n_images, rows, columns, channels)`` for the rest. The last weight layer's are its
        logits, before any softmax. A name that comes again gets ``_2``, ``_3`` and so on.

    Raises
    ------
    InputError
        A layer does not fit the one before, or its kind or activation is not computed here.
    """
    named = by_name(layers)
    values = as_pixels(images)
    last = last_weights(named)
    before, found = "the images", {}
    for name, layer in named.items():
        shape = values.shape[1:]
        shape_after(layer, shape, pre_label=before)
        if not _is_dense(layer) and len(shape) == 2:
            values = values[..., np.newaxis]
        if isinstance(layer, Pool):
            values = _pooled(layer, values)
        else:
            stated = stated_activation(layer, last=name == last)
            default = "linear" if name == last else "relu"
            values = activate(stated or default, drive_of(layer, values))
        found[name], before = values, name
    return found


def multiply_adds(layers: Iterable[LayerWeights | Pool], shape: Sequence[int]) -> dict[str, int]:
    """Count the multiply-adds of the ANN for one image, layer by layer.

    Parameters
    ----------
    layers : iterable of LayerWeights and Pool
        As for `activations`.
    shape : sequence of int
        Of one image: ``(rows, columns, channels)``, ``(rows, columns)`` or ``(n_pixels,)``.

    Returns
    -------
    counts : dict of int
        By layer name, in order. A convolution counts its whole kernel at every output position,
        as usual; with the padding 'same', some of these products are with padding. Pools and
        biases multiply nothing and count 0.

    Raises
    ------
    InputError
        A layer does not fit the one before, or is of a kind that is not computed here.
    """
    before, shape, counts = "the images", tuple(shape), {}
    for name, layer in by_name(layers).items():
        shape = shape_after(layer, shape, pre_label=before)
        positions = 1 if _is_dense(layer) else math.prod(shape[:-1])
        counts[name] = 0 if isinstance(layer, Pool) else positions * layer.kernel.size
        before = name
    return counts


def full_scale(values: np.ndarray, percentile: float = 99.9) -> float:
    """Return the activation that counts as a layer's largest.

    Parameters
    ----------
    values : (n_images, ...) array_like
        Of any shape.
    percentile : float
        Taken over all units and images; a maximum would follow one outlier (Rueckauer 2017).

    Returns
    -------
    scale : float, above 0

    Raises
    ------
    InputError
        No activation is above 0.
    """
    values = as_numbers("values", values)
    if values.size == 0:
        raise InputError(f"values: expected at least one activation, got shape {values.shape}")
    percentile = as_number("percentile", percentile, "a percentile", at_least=0, at_most=100)
    scale = float(np.percentile(values, percentile))
    if not scale > 0:
        scale = float(np.max(values))
    if not scale > 0:
        raise InputError(
            "expected activations above 0 to choose a gain by, got none: the largest is "
            f"{float(np.max(values)):.4g}"
        )
    return scale


def by_name(layers: Iterable[LayerWeights | Pool]) -> dict[str, LayerWeights | Pool]:
    """Return the layers by name; a name that comes again gets ``_2``, ``_3`` and so on.

    Parameters
    ----------
    layers : iterable of LayerWeights and Pool

    Raises
    ------
    InputError
        They are not iterable, or an item is neither LayerWeights nor a Pool.
    """
    named: dict[str, LayerWeights | Pool] = {}
    for layer in layers if isinstance(layers, Iterable) else [layers]:
        if not isinstance(layer, (LayerWeights, Pool)):
            raise InputError(
                f"layers: expected LayerWeights and Pool, got {type(layer).__name__}; of "
                "loaded weights, take the values()"
            )
        name, count = layer.name, 1
        while name in named:
            count += 1
            name = f"{layer.name}_{count}"
        named[name] = layer
    return named


def last_weights(named: dict[str, LayerWeights | Pool]) -> str | None:
    """Return the name of the last layer with weights, the linear one; None where there is none."""
    names = [name for name, layer in named.items() if not isinstance(layer, Pool)]
    return names[-1] if names else None


def stated_activation(layer: LayerWeights, *, last: bool) -> str | None:
    """Return the activation that a layer's file states; None where it states none.

    Parameters
    ----------
    layer : LayerWeights
    last : bool
        The last layer's values are logits, before any softmax.

    Raises
    ------
    InputError
        It is not computed here.
    """
    stated = layer.activation
    if last and stated is not None:
        stated = "linear" if stated == "softmax" else stated.removesuffix(" then softmax")
    if stated is not None and stated not in _ACTIVATIONS:
        raise InputError(
            f"{layer.name}: expected the activation {', '.join(_ACTIVATIONS)}, found {stated}"
        )
    return stated


def activate(activation: str, values: np.ndarray) -> np.ndarray:
    """Return what an activation makes of values.

    Parameters
    ----------
    activation : {"linear", "relu", "sigmoid", "tanh"}
    values : ndarray
    """
    return _ACTIVATIONS[activation](values)


def shape_after(
    layer: LayerWeights | Pool, shape: Sequence[int], *, pre_label: str = ""
) -> tuple[int, ...]:
    """Return the shape that a layer makes of the shape before it.

    Parameters
    ----------
    layer : LayerWeights or Pool
    shape : sequence of int
        ``(rows, columns, channels)``; ``(rows, columns)`` is one channel. Any for Dense.
    pre_label : str
        Name of the layer before, for the message.

    Returns
    -------
    shape : (n_units,) or (rows, columns, channels) tuple of int

    Raises
    ------
    InputError
        The layer does not fit the shape, or is of a kind that is not computed here.
    """
    shape = tuple(shape)
    if _is_dense(layer):
        layer.check_inputs(shape, pre_label=pre_label)
        return (layer.n_outputs,)
    shape = (*shape, 1) if len(shape) == 2 else shape
    if isinstance(layer, Pool):
        if len(shape) != 3:
            raise InputError(
                f"{layer.name}: a pool takes (rows, columns, channels), but the layer before it, "
                f"{pre_label}, has shape {shape}"
            )
        if layer.kind == "global_average":
            return shape[2:]
        with _named(layer):
            return (*convolution.output_shape(shape, *layer.geometry), shape[2])
    if layer.kind not in _CONVOLUTIONS:
        fold = "; fold it into the layer before with fold_batch_norm"
        raise InputError(
            f"{layer.name}: expected a Dense, Conv2D or DepthwiseConv2D layer or a Pool, found "
            f"{layer.kind}{fold if layer.kind == 'BatchNormalization' else ''}"
        )
    layer.check_inputs(shape, pre_label=pre_label)
    options = _options(layer)
    size = layer.kernel.shape[:2]
    with _named(layer):
        rows_columns = convolution.output_shape(shape, size, options["strides"], options["padding"])
    return (*rows_columns, layer.n_outputs)


def _is_dense(layer: LayerWeights | Pool) -> bool:
    return layer.kind == "Dense"


@contextlib.contextmanager
def _named(layer: LayerWeights | Pool) -> Iterator[None]:
    """Put the layer's name in front of an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{layer.name}: {error}") from None


def _options(layer: LayerWeights) -> dict:
    """Return the keyword arguments of a convolution: the file's, else Keras' defaults."""
    for option, only in _ONLY.items():
        found = layer.config.get(option, only)
        if np.any(np.asarray(found) != only):
            raise InputError(
                f"{layer.name}: {option}: expected {only}, found {found}; nothing else is computed"
            )
    defaults = {"strides": (1, 1), "padding": "valid"}
    if layer.kind == "Conv2D":
        defaults["groups"] = 1
    return {option: layer.config.get(option, default) for option, default in defaults.items()}


def drive_of(layer: LayerWeights, values: np.ndarray) -> np.ndarray:
    """Return what a layer computes before its activation.

    Parameters
    ----------
    layer : LayerWeights
    values : (n_images, ...) ndarray
        Of the layer before; of shape ``(n_images, rows, columns)`` for one channel.

    Returns
    -------
    drive : (n_images, n_units) or (n_images, rows, columns, filters) ndarray
    """
    if not _is_dense(layer) and values.ndim == 3:
        values = values[..., np.newaxis]
    if _is_dense(layer):
        drive = values.reshape(len(values), -1) @ layer.kernel
    else:
        drive = _CONVOLUTIONS[layer.kind](values, layer.kernel, **_options(layer))
    if layer.bias is not None:
        drive += layer.bias
    return drive


def _pooled(pool: Pool, values: np.ndarray) -> np.ndarray:
    geometry = () if pool.kind == "global_average" else pool.geometry
    return _POOLS[pool.kind](values, *geometry)
