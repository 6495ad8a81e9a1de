"""Graphs of the Neuromorphic Intermediate Representation (``.nir``): HDF5, channels first.

Kernels are converted to Keras' order, channels last, and so are the rows of a matrix after a
flattened image. Neurons, pools and filters are layers without a kernel; values that all neurons
share are in their ``config``.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

import h5py
import numpy as np

from nengonet.exceptions import InputError
from nengonet.files import Hdf5, printable
from nengonet.weights.records import LayerWeights

_NEURONS = ("IF", "LIF", "CubaLIF", "LI", "CubaLI", "I", "Threshold", "Delay", "Scale")
_CONVOLUTIONS = {"Conv1d": "Conv1D", "Conv2d": "Conv2D"}
_MATRICES = ("Affine", "Linear")
_POOLS = {"AvgPool2d": "AveragePooling2D", "SumPool2d": "SumPooling2D"}
_SHAPES = {"Input": "shape", "Flatten": "input_type"}
_MOST_DEPTH, _MOST_EDGES = 16, 100_000


@dataclasses.dataclass(eq=False)
class _Node:
    """One node, its content, and the shape of the signal after it."""

    name: str
    kind: str
    values: dict[str, np.ndarray | str]
    pres: list[_Node] = dataclasses.field(default_factory=list)
    posts: list[_Node] = dataclasses.field(default_factory=list)
    #: Shape, channels first, of the image at this place, flattened or not.
    image: tuple[int, ...] | None = None

    def whole(self, name: str, default: object = None, n: int = 1) -> tuple[int, ...]:
        """Return whole numbers; a single one stands for ``n``."""
        value = self.values.get(name, default)
        if value is None or isinstance(value, str):
            raise InputError(f"{self.name}: damaged file (a {self.kind} without {name})")
        value = tuple(int(each) for each in np.ravel(value))
        return value * n if len(value) == 1 else value

    def array(self, name: str, ndim: int | None = None) -> np.ndarray:
        """Return an array."""
        value = self.values.get(name)
        if not isinstance(value, np.ndarray) or ndim not in (None, value.ndim):
            found = getattr(value, "shape", "none")
            many = "an array" if ndim is None else f"{ndim} dimensions"
            raise InputError(f"{self.name}: {name}: expected {many} for {self.kind}, got {found}")
        return value

    def behind(self, ends: tuple[str, ...], image: bool = False) -> Iterator[_Node]:
        """Yield the first nodes of some kinds that its values reach; with ``image``, of images."""
        left, seen = self.posts[::-1], set()
        while left:
            node = left.pop()
            if node not in seen:
                seen.add(node)
                if node.kind in ends and (node.image or not image):
                    yield node
                elif node.kind in ends or not image:
                    left += node.posts[::-1]


def channels_first(shape: tuple[int, ...]) -> np.ndarray:
    """Return, for each place of an image with channels first, its place with channels last."""
    return np.moveaxis(np.arange(math.prod(shape)).reshape(*shape[1:], shape[0]), -1, 0).ravel()


def matches(content: object) -> bool:
    """Return whether the file holds a node with a type, as NIR writes it."""
    return isinstance(content, Hdf5) and isinstance(content.get("node/type"), h5py.Dataset)


def read(file: Hdf5) -> tuple[list[LayerWeights], str]:
    """Return the layers, in the order in which signals go, and NIR's version."""
    nodes, edges = _nodes(file, file.get("node"), "", 0)
    for pre, post in dict.fromkeys(edges):
        nodes[pre].posts.append(nodes[post])
        nodes[post].pres.append(nodes[pre])
    order = list(_in_order(list(nodes.values())))
    for node in order:
        _follow(node)
    layers = [_layer(node) for node in order if node.kind not in ("Output", "NIRGraph")]
    return layers, " ".join(["NIR", *map(printable, _texts(file, file.get("version")))])


def _texts(file: Hdf5, item: object) -> list[str]:
    return file.texts(item) if isinstance(item, h5py.Dataset) else []


def _nodes(
    file: Hdf5, group: object, prefix: str, depth: int
) -> tuple[dict[str, _Node], list[tuple[str, str]]]:
    """Return the nodes of a graph by name, those of subgraphs as ``graph/node``, and the edges."""
    name = prefix or "node"
    if not isinstance(group, h5py.Group) or depth > _MOST_DEPTH:
        raise InputError(f"{name}: damaged file (expected a node of NIR)")
    kinds, values = _texts(file, file.get("type", group)), {}
    if kinds != ["NIRGraph"]:
        for key, item in file.children(group):
            value = file.numbers(item) if isinstance(item, h5py.Dataset) else None
            texts = _texts(file, item) if value is None else [value]
            values |= {key: texts[0]} if len(texts) == 1 else {}
        kind = kinds[0] if len(kinds) == 1 else ""
        return {prefix: _Node(printable(name), printable(kind), values)}, []
    inner, listed = file.get("nodes", group), file.get("edges", group)
    if not isinstance(inner, h5py.Group) or not isinstance(listed, h5py.Dataset):
        raise InputError(f"{name}: damaged file (a NIRGraph without nodes and edges)")
    nodes, edges, ends = {}, [], {}
    for key, item in file.children(inner):
        found, within = _nodes(file, item, f"{prefix}/{key}" if prefix else key, depth + 1)
        nodes |= found
        edges += within
        ends[key] = [
            [each for each, node in found.items() if len(found) == 1 or node.kind == end]
            for end in ("Output", "Input")
        ]
    texts = file.texts(listed)
    for pre, post in zip(texts[::2], texts[1::2], strict=True):
        if pre not in ends or post not in ends:
            raise InputError(f"damaged file (an edge from {pre!r} to {post!r}, which it lacks)")
        if len(edges) + len(ends[pre][0]) * len(ends[post][1]) > _MOST_EDGES:
            raise InputError(f"damaged file (it has more than {_MOST_EDGES} edges)")
        edges += itertools.product(ends[pre][0], ends[post][1])
    return nodes, edges


def _in_order(nodes: list[_Node]) -> Iterator[_Node]:
    """Yield nodes, each after those that feed it; of a loop, the first one reached comes first."""
    left, done = nodes, set()
    while left:
        ready = [node for node in left if done.issuperset(node.pres)]
        reached = [node for node in left if not done.isdisjoint(node.pres)]
        ready = ready or reached[:1] or left[:1]
        yield from ready
        done.update(ready)
        left = [node for node in left if node not in done]


def _follow(node: _Node) -> None:
    """Return the shape of a node's output image, from its input or from what it states itself."""
    node.image, shape = next((pre.image for pre in node.pres if pre.image is not None), None), ()
    if node.kind in _MATRICES:
        node.image = None
    elif node.kind in _CONVOLUTIONS:
        filters, _, *size = node.array("weight", 3 + (node.kind == "Conv2d")).shape
        before = _before(node)
        node.image = before and _windows(node, (filters, *before), size)
    elif node.kind in _POOLS and node.image is not None:
        size = node.whole("kernel_size", n=len(node.image) - 1)
        node.image = _windows(node, node.image, size)
    elif node.kind in _NEURONS:
        arrays = [each for each in node.values.values() if isinstance(each, np.ndarray)]
        shape = max((each.shape for each in arrays), key=len, default=())
    elif (key := _SHAPES.get(node.kind)) in node.values:
        shape = node.whole(key)
    # Two dimensions are rows and columns, or channels and positions.
    n = 2 if any(post.kind == "Conv1d" for post in node.posts) else 3
    node.image = node.image or (shape if len(shape) in (n, 3) else None)


def _before(node: _Node) -> tuple[int, ...] | None:
    """Return the rows and columns that a convolution reads."""
    if "input_shape" in node.values:
        return node.whole("input_shape")
    return next((pre.image[1:] for pre in node.pres if pre.image is not None), None)


def _windows(node: _Node, shape: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape after windows over the positions of an image."""
    (channels, *before), n, padding = shape, len(size), node.values.get("padding", 0)
    strides, dilation = node.whole("stride", 1, n), node.whole("dilation", 1, n)
    if len(before) != n or min(strides) < 1:
        name = "kernel_size" if node.kind in _POOLS else "weight"
        raise InputError(f"{node.name}: {name}: damaged file ({size} windows for {shape})")
    if isinstance(padding, str):
        pads = [k - 1 if padding == "same" else 0 for k in size]
    else:
        pads = [2 * pad for pad in node.whole("padding", 0, n)]
    each = zip(before, pads, dilation, size, strides, strict=True)
    return (channels, *((n + pad - d * (k - 1) - 1) // step + 1 for n, pad, d, k, step in each))


# --- layers


def _layer(node: _Node) -> LayerWeights:
    """Return the record of a node."""
    given = _RECORDS[node.kind](node) if node.kind in _RECORDS else {}
    names = tuple(post.name for post in node.behind((*_MATRICES, *_CONVOLUTIONS)))
    given = {"kind": node.kind or "unknown"} | given
    return LayerWeights(name=node.name, followed_by=names or None, **given)


def _input(node: _Node) -> dict:
    shape = node.whole("shape") if "shape" in node.values else node.image
    shape = (*shape[1:], shape[0]) if shape and shape == node.image else shape
    return {"kind": "InputLayer", "config": {"batch_shape": [None, *shape]}} if shape else {}


def _matrix(node: _Node) -> dict:
    weight = node.array("weight")
    bias = node.array("bias", 1) if "bias" in node.values else None
    if weight.ndim != 2:
        others = {"weight": weight} | ({} if bias is None else {"bias": bias})
        return {"kind": "unknown", "others": others}
    before = next((pre.image for pre in node.pres if pre.image is not None), None)
    # What it is added to, and so the order of its output.
    added = next((post.image for post in node.behind((*_NEURONS, "Output"), image=True)), None)
    for axis, shape in ((1, before), (0, added)):
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
    """Return a convolution with Keras' word for its padding, if there is one.

    Where the total padding is odd, Keras pads one more at the end. NIR pads both sides equally, so
    such a kernel begins with a row of zeros, which is removed.
    """
    kernel = np.moveaxis(node.array("weight"), (0, 1), (-1, -2))
    size, padding, before = kernel.shape[:-2], node.values.get("padding", 0), _before(node)
    strides, zeros = node.whole("stride", 1, len(size)), []
    if not isinstance(padding, str):
        padding = list(node.whole("padding", 0, len(size)))
        lengths = zip(before or size, size, padding, strides, strict=True)
        for axis, (n, k, pad, step) in enumerate(lengths):
            total = [max((-(-n // step) - 1) * step + k - z - n, 0) for z in (0, 1)]
            begins = k > 1 and not np.any(np.take(kernel, 0, axis))
            pads = [(pad - z, pad) == (total[z] // 2, -(-total[z] // 2)) for z in (0, 1)]
            zeros += [slice(z, None) for z in (1, 0) if pads[z] and begins >= z][:1]
        if not any(padding):
            padding = "valid"
        elif before is not None and len(zeros) == len(size):
            kernel, padding = kernel[tuple(zeros)], "same"
    config = {
        "strides": list(strides),
        "padding": padding,
        "groups": node.whole("groups", 1)[0],
        "dilation_rate": list(node.whole("dilation", 1, len(size))),
    }
    bias = node.array("bias", 1) if "bias" in node.values else None
    return {"kind": _CONVOLUTIONS[node.kind], "kernel": kernel, "bias": bias, "config": config}


def _pool(node: _Node) -> dict:
    size, padding = node.whole("kernel_size", n=2), node.whole("padding", 0, 2)
    config = {"pool_size": list(size), "strides": list(node.whole("stride", size, 2))}
    config["padding"] = list(padding) if any(padding) else "valid"
    return {"kind": _POOLS[node.kind], "config": config}


def _neurons(node: _Node) -> dict:
    """Return values that all neurons share as numbers, the rest as arrays, channels last."""
    config, others = {}, {}
    for name, value in node.values.items():
        if not isinstance(value, np.ndarray):
            continue
        if value.size and np.all(value == value.flat[0]):
            config[name] = float(value.flat[0])
        elif value.ndim == 1 and node.image is not None and value.size == math.prod(node.image):
            others[name] = value[np.argsort(channels_first(node.image))]
        else:
            others[name] = np.moveaxis(value, 0, -1) if value.ndim > 1 else value
    return {"config": config, "others": others}


_RECORDS = {"Input": _input} | dict.fromkeys(_MATRICES, _matrix)
_RECORDS |= dict.fromkeys(_CONVOLUTIONS, _convolution) | dict.fromkeys(_POOLS, _pool)
_RECORDS |= dict.fromkeys(_NEURONS, _neurons)
