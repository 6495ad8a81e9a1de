"""Layers from arrays: their kind, and the names of their numbered arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from nengonet.exceptions import InputError
from nengonet.files import printable
from nengonet.weights.config import Entry
from nengonet.weights.records import BATCH_NORM, KERNEL_NDIM, LayerWeights

Arrays = dict[str, np.ndarray]
Found = tuple[Entry | None, LayerWeights]

_BATCH_NORM_ARRAYS = ("gamma", "beta", "moving_mean", "moving_variance")


def snake_case(name: str) -> str:
    """Return a class name as Keras 3 makes it a group name."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


_OTHERS = (
    "LayerNormalization GroupNormalization RMSNormalization Conv1DTranspose Conv3DTranspose "
    "SeparableConv1D SeparableConv2D Embedding LSTM GRU SimpleRNN ConvLSTM2D "
    "Bidirectional TimeDistributed PReLU MultiHeadAttention EinsumDense LocallyConnected1D "
    "LocallyConnected2D"
)
_CLASSES = {snake_case(name): name for name in (*KERNEL_NDIM, BATCH_NORM, *_OTHERS.split())}


def named_layer(name: str, arrays: Arrays, entry: Entry | None = None) -> LayerWeights:
    """Return the record of a layer whose arrays have Keras' names."""
    arrays = _dequantised(name, arrays)
    kind = "unknown"
    if "depthwise_kernel" in arrays and "pointwise_kernel" not in arrays:
        arrays = {"kernel": arrays.pop("depthwise_kernel")} | arrays
        by_ndim = {3: "DepthwiseConv1D", 4: "DepthwiseConv2D"}
        kind = by_ndim.get(arrays["kernel"].ndim, "unknown")
    elif "moving_mean" in arrays and set(arrays) <= set(_BATCH_NORM_ARRAYS):
        kind = BATCH_NORM
    elif {"kernel"} <= set(arrays) <= {"kernel", "bias"}:
        shapes = [array.shape for array in arrays.values()]
        kind = kind_of(name, shapes)
        # The kernel of a DepthwiseConv2D has another name; that of a transpose has other axes.
        if kind.startswith("Depthwise") or (kind == "unknown" and shapes[1:] == [shapes[0][2:3]]):
            kind = "Conv2DTranspose" if len(shapes[0]) == 4 else "unknown"
    return record(name, arrays, kind, entry)


def numbered_layer(
    name: str, arrays: list[np.ndarray], class_name: str | None, entry: Entry | None = None
) -> LayerWeights:
    """Return the record of a layer whose arrays have numbers.

    ``class_name`` is the class in snake case, as Keras 3 names groups, or None.
    """
    shapes = [array.shape for array in arrays]
    kind = kind_of(name, shapes) if class_name is None else _CLASSES.get(class_name, "unknown")
    kind = entry.kind if entry else kind
    names = []
    if kind in KERNEL_NDIM and len(shapes[0]) == KERNEL_NDIM[kind]:
        n_scales = int(arrays[0].dtype == np.int8)
        names = ["kernel", "bias"][: len(arrays) - n_scales] + ["kernel_scale"] * n_scales
    elif kind == BATCH_NORM:
        options = entry.config if entry else {}
        left_out = {
            name
            for name, option in (("gamma", "scale"), ("beta", "center"))
            if options.get(option) is False or len(arrays) == 2
        }
        names = [name for name in _BATCH_NORM_ARRAYS if name not in left_out]
    if len(names) != len(arrays):
        names = [str(number) for number in range(len(arrays))]
    without_kernel = kind in KERNEL_NDIM and "kernel" not in names
    if entry and without_kernel:
        raise InputError(
            f"{name}: expected a kernel of {KERNEL_NDIM[kind]} dimensions and a bias for {kind}, "
            f"got arrays of shapes {', '.join(map(str, shapes))}"
        )
    norm_like = len(shapes) in (2, 3, 4) and set(map(len, shapes)) == {1}
    if without_kernel or (not entry and kind == BATCH_NORM and not norm_like):
        kind = "unknown"
    return record(name, _dequantised(name, dict(zip(names, arrays, strict=True))), kind, entry)


def in_order(entries: list[Entry], found: list[Found]) -> list[LayerWeights]:
    """Return all layers in the order of the config, with those without weights; the rest last."""
    by_leaf: dict[Entry | None, list[LayerWeights]] = {}
    for leaf, layer in found:
        by_leaf.setdefault(leaf, []).append(layer)
    rest = by_leaf.pop(None, [])
    layers = []
    for leaf in (leaf for entry in entries for leaf in entry.leaves()):
        if leaf in by_leaf:
            layers += by_leaf[leaf]
        # Arrays of a custom layer may be among the rest.
        elif not (leaf.kind == "InputLayer" and leaf.parent or rest and leaf.kind in KERNEL_NDIM):
            layers.append(record(leaf.name, {}, leaf.kind, leaf))
    return layers + rest


def is_weights(arrays: Iterable[np.ndarray]) -> bool:
    """Return whether these are weights, not the state of random generators or metrics."""
    return any(array.dtype.kind == "f" and array.ndim > 0 for array in arrays)


def record(name: str, arrays: Arrays, kind: str, entry: Entry | None = None) -> LayerWeights:
    """Return the record of a layer; a config states its kind, activation and next layers."""
    others = dict(arrays)
    kernel, bias = others.pop("kernel", None), others.pop("bias", None)
    given = {}
    if entry is not None:
        kind = entry.kind
        counted = {"Dense": "units", "Conv1D": "filters", "Conv2D": "filters"}
        size = entry.config.get(counted.get(kind, ""))
        if kernel is not None and type(size) is int and kernel.shape[-1:] != (size,):
            raise InputError(
                f"{entry.name}: damaged file (the config says {size} outputs, but the kernel has "
                f"shape {kernel.shape})"
            )
        activation, next_names = entry.what_follows()
        given = {"config": entry.config, "activation": printable(activation)}
        given["followed_by"] = tuple(map(printable, next_names))
    return LayerWeights(kernel, bias, printable(name), printable(kind), others=others, **given)


def _dequantised(name: str, arrays: Arrays) -> Arrays:
    """Return the arrays with a kernel of int8 times its scales; refuse other quantisations."""
    if "lora_kernel_a" in arrays:
        raise InputError(f"{name}: a LoRA layer that is not merged; save the model as .keras")
    arrays = dict(arrays)
    n_small = [array.dtype for array in arrays.values()].count(np.int8)
    if not n_small and "kernel_scale" not in arrays:
        return arrays
    kernel, scale = arrays.get("kernel"), arrays.pop("kernel_scale", None)
    if (
        kernel is None
        or scale is None
        or kernel.dtype != np.int8
        or n_small > 1
        or not set(arrays) <= {"kernel", "bias"}
        or scale.shape != kernel.shape[-1:]
        or not (scale > 0).all()
    ):
        found = ", ".join(f"{key} {a.dtype} {a.shape}" for key, a in arrays.items())
        raise InputError(
            f"{name}: expected floats, or a Dense kernel of int8 with one scale per unit, got "
            f"another quantisation ({found}); save the model before quantize()"
        )
    return arrays | {"kernel": (kernel / scale.astype(np.float64)).astype(np.float32)}


def kind_of(name: str, shapes: list[tuple[int, ...]]) -> str:
    """Return the class that Keras named a layer by, if its kernel fits, or else by its shapes."""
    last, kernel, bias = name.rpartition("/")[2].lower(), shapes[0], shapes[1:]
    if len(kernel) == 4 and re.search("transpose|deconv", last):
        return "Conv2DTranspose"
    kind = _CLASSES.get(re.sub(r"_\d+$", "", last), "")
    if KERNEL_NDIM.get(kind) == len(kernel) or kind == "Embedding":
        return kind
    if len(kernel) == 2 and bias in ([], [kernel[1:]]):
        return "Dense"
    if len(kernel) == 4 and bias in ([], [kernel[3:]]):
        return "Conv2D"
    if len(kernel) == 4 and bias == [(kernel[2] * kernel[3],)]:
        return "DepthwiseConv2D"
    if len(kernel) == 1 and bias == [kernel] * 3:
        return BATCH_NORM
    return "unknown"
