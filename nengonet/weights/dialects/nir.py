"""Graphs of the Neuromorphic Intermediate Representation (``.nir``): HDF5, channels first.

Kernels come in Keras' order, channels last, and so do the rows of a matrix behind an image that
was flattened. Neurons, pools and filters are layers without a kernel; what is the same for all
neurons stands in their ``config``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import h5py
import numpy as np

from nengonet.exceptions import InputError
from nengonet.files import Hdf5, printable
from nengonet.weights.records import LayerWeights

_NEURONS = ("IF", "LIF", "CubaLIF", "LI", "CubaLI", "I", "Threshold", "Delay", "Scale")
_CONVOLUTIONS = {"Conv1d": "Conv1D", "Conv2d": "Conv2D"}
_MATRICES = ("Affine", "Linear")
_POOLS = {"AvgPool2d": "AveragePooling2D", "SumPool2d": "SumPooling2D"}
_MOST_DEPTH = 16


@dataclasses.dataclass(eq=False)
class _Node:
    """One node, what it holds, and what a signal behind it is."""

    name: str
    kind: str
    values: dict[str, np.ndarray | str]
    pres: list[_Node] = dataclasses.field(default_factory=list)
    posts: list[_Node] = dataclasses.field(default_factory=list)
    #: Shape, channels first; None where the file does not say.
    shape: tuple[int, ...] | None = None
    #: Of the image that stands there in one row, or as it is.
    image: tuple[int, ...] | None = None

    def whole(self, name: str, default: object = None) -> tuple[int, ...]:
        """Return whole numbers, one or several."""
        value = self.values.get(name, default)
        if value is None or isinstance(value, str):
            raise InputError(f"{self.name}: damaged file (a {self.kind} without {name})")
        return tuple(int(each) for each in np.ravel(value))

    def array(self, name: str, ndim: int | None = None) -> np.ndarray:
        """Return an array."""
        value = self.values.get(name)
        if not isinstance(value, np.ndarray) or ndim not in (None, value.ndim):
            found = getattr(value, "shape", "none")
            many = "an array" if ndim is None else f"{ndim} dimensions"
            raise InputError(f"{self.name}: {name}: expected {many} for {self.kind}, got {found}")
        return value


def matches(content: object) -> bool:
    """Return whether the file holds a node that says its type, as NIR writes it."""
    return isinstance(content, Hdf5) and isinstance(content.get("node/type"), h5py.Dataset)


def read(file: Hdf5) -> tuple[list[LayerWeights], str]:
    """Return the layers, in the order in which signals go, and NIR's version."""
    version = file.get("version")
    version = file.texts(version) if isinstance(version, h5py.Dataset) else []
    nodes, edges = _nodes(file, file.get("node"), "", 0)
    for pre, post in dict.fromkeys(edges):
        nodes[pre].posts.append(nodes[post])
        nodes[post].pres.append(nodes[pre])
    order = list(_in_order(list(nodes.values())))
    for node in order:
        _follow(node)
    layers = [_layer(node) for node in order if node.kind not in ("Output", "NIRGraph")]
    return layers, " ".join(["NIR", *map(printable, version)])


def _nodes(
    file: Hdf5, group: object, prefix: str, depth: int
) -> tuple[dict[str, _Node], list[tuple[str, str]]]:
    """Return the nodes of a graph by name, those of graphs in it as ``graph/node``, and edges."""
    if not isinstance(group, h5py.Group) or depth > _MOST_DEPTH:
        raise InputError(f"{prefix or 'node'}: damaged file (expected a node of NIR)")
    kinds = [
        text
        for key, item in file.children(group)
        if key == "type" and isinstance(item, h5py.Dataset)
        for text in file.texts(item)
    ]
    kind = kinds[0] if len(kinds) == 1 else ""
    if kind != "NIRGraph":
        node = _Node(printable(prefix or "node"), printable(kind), dict(_values(file, group)))
        return {prefix: node}, []
    inner, listed = file.get("nodes", group), file.get("edges", group)
    if not isinstance(inner, h5py.Group) or not isinstance(listed, h5py.Dataset):
        raise InputError(f"{prefix or 'node'}: damaged file (a NIRGraph without nodes and edges)")
    nodes, edges, ends = {}, [], {}
    for key, item in file.children(inner):
        name = f"{prefix}/{key}" if prefix else key
        found, within = _nodes(file, item, name, depth + 1)
        nodes |= found
        edges += within
        ends[key] = (
            [each for each, node in found.items() if len(found) == 1 or node.kind == "Input"],
            [each for each, node in found.items() if len(found) == 1 or node.kind == "Output"],
        )
    texts = file.texts(listed)
    for pre, post in zip(texts[::2], texts[1::2], strict=True):
        if pre not in ends or post not in ends:
            raise InputError(f"damaged file (an edge from {pre!r} to {post!r}, which it lacks)")
        edges += [(a, b) for a in ends[pre][1] for b in ends[post][0]]
    return nodes, edges


def _values(file: Hdf5, group: h5py.Group) -> Iterator[tuple[str, np.ndarray | str]]:
    """Yield the numbers and the text of a node."""
    for key, item in file.children(group):
        if isinstance(item, h5py.Dataset) and key != "type":
            value = file.numbers(item)
            texts = file.texts(item) if value is None else []
            if value is not None or len(texts) == 1:
                yield key, texts[0] if value is None else value


def _in_order(nodes: list[_Node]) -> Iterator[_Node]:
    """Yield nodes, each after what feeds it; on a loop, the first that something has reached."""
    left, done = nodes, set()
    while left:
        ready = [node for node in left if done.issuperset(node.pres)]
        reached = [node for node in left if not done.isdisjoint(node.pres)]
        ready = ready or reached[:1] or left[:1]
        yield from ready
        done.update(ready)
        left = [node for node in left if node not in done]


# --- shapes


def _follow(node: _Node) -> None:
    """Find the shape of what a node puts out, from what comes in or what it says itself."""
    known = [pre for pre in node.pres if pre.shape is not None]
    images = [pre for pre in known if pre.image is not None]
    first = (images or known or [_Node("", "", {})])[0]
    node.shape, node.image = first.shape, first.image
    if node.kind == "Input" and "shape" in node.values:
        node.shape = node.whole("shape")
        # Two dimensions are rows and columns, or channels and positions.
        channels = len(node.shape) == 3 or any(post.kind == "Conv1d" for post in node.posts)
        node.image = node.shape if channels else None
    elif node.kind in _MATRICES:
        node.shape, node.image = node.array("weight").shape[-2:-1], None
    elif node.kind in _CONVOLUTIONS:
        before = _before(node)
        filters, _, *size = node.array("weight", 3 + (node.kind == "Conv2d")).shape
        node.shape = before and _windows(node, (filters, *before), size, "weight")
        node.image = node.shape
    elif node.kind in _POOLS and node.shape is not None:
        size = _times(node.whole("kernel_size"), len(node.shape) - 1)
        node.shape = node.image = _windows(node, node.shape, size, "kernel_size")
    elif node.kind == "Flatten":
        shape = node.whole("input_type") if "input_type" in node.values else node.shape
        node.image = node.image or (shape if shape and len(shape) == 3 else None)
        node.shape = shape and (math.prod(shape),)
    elif node.shape is None and node.kind in _NEURONS:
        shapes = [each.shape for each in node.values.values() if isinstance(each, np.ndarray)]
        node.shape = max(shapes, key=len, default=None)
        node.image = node.shape if node.shape and len(node.shape) == 3 else None


def _before(node: _Node) -> tuple[int, ...] | None:
    """Return the rows and columns that a convolution reads."""
    if "input_shape" in node.values:
        return node.whole("input_shape")
    shape = next((pre.shape for pre in node.pres if pre.shape is not None), None)
    return shape and shape[1:]


def _windows(node: _Node, shape: tuple[int, ...], size: tuple[int, ...], name: str):
    """Return the shape behind windows over the positions of an image."""
    channels, *before = shape
    strides = _times(node.whole("stride", 1), len(size))
    padding, dilation = node.values.get("padding", 0), node.whole("dilation", 1)
    if len(before) != len(size) or min(strides) < 1:
        raise InputError(f"{node.name}: {name}: damaged file ({size} windows for {shape})")
    if isinstance(padding, str):
        pads = [k - 1 if padding == "same" else 0 for k in size]
    else:
        pads = [2 * pad for pad in _times(node.whole("padding", 0), len(size))]
    dilation = _times(dilation, len(size))
    spread = [d * (k - 1) + 1 for d, k in zip(dilation, size, strict=True)]
    each = zip(before, pads, spread, strides, strict=True)
    return (channels, *((n + pad - k) // step + 1 for n, pad, k, step in each))


def _times(values: tuple[int, ...], n: int) -> tuple[int, ...]:
    return values * n if len(values) == 1 else values


def _wanted(node: _Node, seen: frozenset = frozenset()) -> tuple[int, ...] | None:
    """Return the image whose order what a matrix puts out is added in."""
    for post in node.posts if node not in seen else ():
        if post.kind in _NEURONS or post.kind == "Output":
            found = post.image or _wanted(post, seen | {node})
            if found is not None:
                return found
    return None


# --- layers


def _layer(node: _Node) -> LayerWeights:
    """Return the record of a node."""
    make: dict[str, Callable] = dict.fromkeys(_MATRICES, _matrix)
    make |= dict.fromkeys(_CONVOLUTIONS, _convolution) | dict.fromkeys(_POOLS, _pool)
    make |= dict.fromkeys(_NEURONS, _neurons)
    config, given = {}, {}
    if node.kind in make:
        given = make[node.kind](node)
    elif node.kind == "Input" and node.shape is not None:
        shape = node.shape if node.image is None else (*node.shape[1:], node.shape[0])
        given = {"kind": "InputLayer", "config": {"batch_shape": [None, *shape]}}
    given = {"kind": node.kind or "unknown", "config": config} | given
    names = tuple(_next(node))
    return LayerWeights(name=node.name, followed_by=names or None, **given)


def _next(node: _Node, seen: frozenset = frozenset()) -> list[str]:
    """Return the names of the matrices and convolutions that take a node's values next."""
    found = []
    for post in node.posts if node not in seen else ():
        weighted = post.kind in _MATRICES or post.kind in _CONVOLUTIONS
        found += [post.name] if weighted else _next(post, seen | {node})
    return list(dict.fromkeys(found))


def channels_first(shape: tuple[int, ...]) -> np.ndarray:
    """Return, for each place of an image with channels first, its place with channels last."""
    return np.moveaxis(np.arange(math.prod(shape)).reshape(*shape[1:], shape[0]), -1, 0).ravel()


def _matrix(node: _Node) -> dict:
    weight = node.array("weight")
    bias = node.array("bias", 1) if "bias" in node.values else None
    if weight.ndim != 2:
        others = {"weight": weight} | ({} if bias is None else {"bias": bias})
        return {"kind": "unknown", "others": others}
    before = next((pre.image for pre in node.pres if pre.image is not None), None)
    for axis, shape in ((1, before), (0, _wanted(node))):
        if shape is None:
            continue
        if weight.shape[axis] != math.prod(shape):
            raise InputError(
                f"{node.name}: weight: damaged file (an image of shape {shape} meets an axis of "
                f"{weight.shape[axis]})"
            )
        back = np.argsort(channels_first(shape))
        weight = np.take(weight, back, axis)
        bias = bias[back] if axis == 0 and bias is not None else bias
    return {"kind": "Dense", "kernel": weight.T, "bias": bias}


def _convolution(node: _Node) -> dict:
    kernel = np.moveaxis(node.array("weight"), (0, 1), (-1, -2))
    kernel, padding = _padding(node, kernel)
    n = kernel.ndim - 2
    config = {
        "strides": list(_times(node.whole("stride", 1), n)),
        "padding": padding,
        "groups": node.whole("groups", 1)[0],
        "dilation_rate": list(_times(node.whole("dilation", 1), n)),
    }
    bias = node.array("bias", 1) if "bias" in node.values else None
    return {"kind": _CONVOLUTIONS[node.kind], "kernel": kernel, "bias": bias, "config": config}


def _padding(node: _Node, kernel: np.ndarray) -> tuple[np.ndarray, str | list[int]]:
    """Return the kernel and Keras' word for its padding, if there is one.

    Keras pads one more at the end where a number is odd. NIR pads alike on both sides, and such a
    kernel begins with a row of zeros, which is taken off.
    """
    size, padding = kernel.shape[:-2], node.values.get("padding", 0)
    if isinstance(padding, str):
        return kernel, padding
    padding = _times(node.whole("padding", 0), len(size))
    before, strides = _before(node), _times(node.whole("stride", 1), len(size))
    if not any(padding) or before is None:
        return kernel, list(padding) if any(padding) else "valid"
    zeros = []
    for axis, (n, k, pad, step) in enumerate(zip(before, size, padding, strides, strict=True)):
        total = [max((-(-n // step) - 1) * step + k - z - n, 0) for z in (0, 1)]
        pads = [(each // 2, each - each // 2) for each in total]
        begins = k > 1 and not np.any(np.take(kernel, 0, axis))
        fits = [z for z in ((1, 0) if begins else (0,)) if pads[z] == (pad - z, pad)]
        if not fits:
            return kernel, list(padding)
        zeros.append(slice(fits[0], None))
    return kernel[tuple(zeros)], "same"


def _pool(node: _Node) -> dict:
    size = _times(node.whole("kernel_size"), 2)
    padding = _times(node.whole("padding", 0), 2)
    config = {"pool_size": list(size), "strides": list(_times(node.whole("stride", size), 2))}
    config["padding"] = list(padding) if any(padding) else "valid"
    return {"kind": _POOLS[node.kind], "config": config}


def _neurons(node: _Node) -> dict:
    """Return what is the same for all neurons as numbers, the rest as arrays, channels last."""
    config, others = {}, {}
    for name, value in node.values.items():
        if isinstance(value, str):
            continue
        if value.size and np.all(value == value.flat[0]):
            config[name] = float(value.flat[0])
            continue
        if value.ndim > 1:
            value = np.moveaxis(value, 0, -1)
        elif node.image is not None and value.size == math.prod(node.image):
            value = value[np.argsort(channels_first(node.image))]
        others[name] = value
    return {"config": config, "others": others}
