"""Channels first: which element of Nengo's flat order stands where in an array of NIR."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import nengo
import numpy as np
from nengo.connection import Neurons
from nengo.transforms import ChannelShape

from nengonet.ann.convolution import padding_of
from nengonet.layers.graph import Graph, Item, owner
from nengonet.layers.pools import AveragePool
from nengonet.layers.targets import size_of


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Shape of a signal in NIR, and the element of Nengo's order at each of its places."""

    shape: tuple[int, ...]
    order: np.ndarray

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Layout) and self.shape == other.shape
        return same and np.array_equal(self.order, other.order)

    @property
    def flat(self) -> Layout:
        """The same order in one dimension."""
        return Layout((math.prod(self.shape),), self.order)

    @property
    def is_image(self) -> bool:
        """Whether there are channels, and positions."""
        return len(self.shape) > 1

    def place(self, values: np.ndarray) -> np.ndarray:
        """Return values in Nengo's order as an array of NIR."""
        return np.asarray(values, dtype=np.float64)[self.order].reshape(self.shape)


def row(size: int) -> Layout:
    """Return the layout of a signal without channels."""
    return Layout((size,), np.arange(size))


def image(shape: ChannelShape) -> Layout:
    """Return the layout of an image with channels."""
    order = np.arange(shape.size).reshape(shape.shape)
    order = np.moveaxis(order, -1, 0) if shape.channels_last else order
    return Layout(order.shape, order.ravel())


def is_whole(connection: nengo.Connection) -> bool:
    """Whether a connection reads and feeds all of its two objects, each element once."""
    if connection.function is not None or isinstance(connection.pre_obj, nengo.Ensemble):
        return False
    both = (connection.pre_slice, connection.post_slice)
    return all(isinstance(each, slice) and each == slice(None) for each in both)


def is_plain(connection: nengo.Connection) -> bool:
    """Whether a connection passes everything on as it is, one to one."""
    ends = (connection.pre_obj, connection.post_obj)
    units = all(isinstance(end, (Neurons, nengo.Node)) for end in ends)
    plain = isinstance(connection.transform, nengo.transforms.NoTransform)
    return units and plain and connection.function is None and is_whole(connection)


def images_of(connection: nengo.Connection) -> tuple[Layout, Layout] | None:
    """Return the layouts before and behind a convolution or pool; None for other transforms."""
    transform = connection.transform
    if not is_whole(connection):
        return None
    if type(transform).sample is nengo.Convolution.sample and transform.dimensions <= 2:
        return image(transform.input_shape), image(transform.output_shape)
    if isinstance(transform, AveragePool) and pool_geometry(transform) is not None:
        *shape, channels = transform.image_shape
        windows = zip(shape, *pool_geometry(transform), strict=True)
        after = [(n - k) // step + 1 for n, k, step in windows]
        shapes = ((*shape, channels), (*after, channels))
        return tuple(image(ChannelShape(each)) for each in shapes)
    return None


def pool_geometry(transform: AveragePool) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return size and strides of an average pool; None where its padding reaches the image.

    There a window has fewer pixels, and a mean of its own.
    """
    shape = transform.image_shape
    size, strides, padding = transform.pool.geometry(shape)
    pads = padding_of(shape, size, strides, padding)
    return None if np.any(pads) else (size, strides)


def placement(
    connection: nengo.Connection, before: Layout, after: Layout | None
) -> tuple[np.ndarray, list[tuple[int, int]]] | None:
    """Return how an image comes to stand in a larger one; None where a connection does not do so.

    The channel of each of its channels, and the padding before and behind each axis: what
    concatenation and zero padding are.
    """
    plain = isinstance(connection.transform, nengo.transforms.NoTransform)
    images = after is not None and before.is_image and len(before.shape) == len(after.shape)
    units = all(isinstance(each, (Neurons, nengo.Node)) for each in _ends(connection))
    if not (plain and images and units) or connection.function is not None:
        return None
    n_before, n_after = len(before.order), len(after.order)
    taken = np.arange(n_before)[connection.pre_slice]
    places = np.arange(n_after)[connection.post_slice]
    if not np.array_equal(taken, np.arange(n_before)):
        return None
    at = np.unravel_index(np.argsort(after.order)[places[before.order]], after.shape)
    channels, *positions = (each.reshape(before.shape) for each in at)
    first = channels.reshape(before.shape[0], -1)[:, 0]
    fits = np.all(channels == first.reshape(-1, *(1,) * len(positions)))
    pads = []
    for axis, found in enumerate(positions, start=1):
        start = int(found.flat[0])
        fits &= np.array_equal(found, np.indices(before.shape)[axis] + start)
        pads.append((start, after.shape[axis] - before.shape[axis] - start))
    return (first, pads) if fits else None


def _ends(connection: nengo.Connection) -> tuple[object, object]:
    return connection.pre_obj, connection.post_obj


def _of_shape(shape: tuple[int, ...] | None, n_axes: int) -> Layout | None:
    """Return the layout of a layer of a shape; one channel may be left out."""
    if shape is not None and len(shape) == n_axes - 1:
        shape = (*shape, 1)
    return None if shape is None or len(shape) != n_axes else image(ChannelShape(shape))


def layouts_of(
    order: list[Item], graph: Graph, shapes: Mapping[Item, tuple[int, ...]]
) -> dict[Item, Layout]:
    """Return the layout of everything that a network has, given each after what feeds it.

    Channels stand first where a convolution or a pool reads or writes a signal, or passes it on;
    in one row where a matrix writes it as well. ``shapes`` are those of layers.
    """
    mixed: set[Item] = set()
    while True:
        found: dict[Item, Layout] = {}
        for item in order:
            found[item] = _layout(item, graph, found, shapes)
            if item in mixed:
                found[item] = found[item].flat
        late = {
            item
            for item in order
            if found[item].is_image
            and any(_after(each, found, shapes) != found[item] for each in graph.into(item))
        }
        if not late:
            return found
        mixed |= late


def _layout(
    item: Item, graph: Graph, found: dict[Item, Layout], shapes: Mapping[Item, tuple[int, ...]]
) -> Layout:
    """Return an object's layout, for those of what feeds it; unknown where it is on a way back."""
    size = size_of(item)
    come_in = [_after(each, found, shapes) for each in graph.into(item)]
    if not come_in:
        return _wanted(item, graph, shapes) or row(size)
    come_in = [each for each in come_in if each is not None] or [row(size)]
    return next((each for each in come_in if each.is_image), come_in[0])


def _after(
    connection: nengo.Connection,
    found: dict[Item, Layout],
    shapes: Mapping[Item, tuple[int, ...]],
) -> Layout | None:
    """Return the layout in which a connection delivers; None where that is not known yet."""
    pre, images = found.get(owner(connection.pre_obj)), images_of(connection)
    if images is not None and pre in (None, images[0]):
        return images[1]
    post = owner(connection.post_obj)
    if is_plain(connection):
        return pre
    larger = None if pre is None else _of_shape(shapes.get(post), len(pre.shape))
    placed = larger is not None and placement(connection, pre, larger) is not None
    return larger if placed else row(size_of(post))


def _wanted(
    item: Item,
    graph: Graph,
    shapes: Mapping[Item, tuple[int, ...]],
    seen: frozenset = frozenset(),
) -> Layout | None:
    """Return the layout that convolutions and pools behind an item read, if there is one."""
    for connection in graph.out_of(item) if item not in seen else ():
        images = images_of(connection)
        if images is not None:
            return images[0]
        if isinstance(connection.transform, nengo.transforms.NoTransform):
            found = _wanted(owner(connection.post_obj), graph, shapes, seen | {item})
            if found is not None and not is_plain(connection):
                found = _of_shape(shapes.get(item), len(found.shape))
            if found is not None:
                return found
    return None
