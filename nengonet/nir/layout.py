"""Channels first: which element of Nengo's flat order stands where in an array of NIR."""

from __future__ import annotations

import dataclasses
import math

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


def layouts_of(order: list[Item], graph: Graph) -> dict[Item, Layout]:
    """Return the layout of everything that a network has, given each after what feeds it.

    Channels stand first where a convolution or a pool reads or writes a signal, or passes it on;
    in one row where a matrix writes it as well.
    """
    mixed: set[Item] = set()
    while True:
        found: dict[Item, Layout] = {}
        for item in order:
            found[item] = _layout(item, graph, found)
            if item in mixed:
                found[item] = found[item].flat
        late = {
            item
            for item in order
            if found[item].is_image
            and any(_after(each, found) != found[item] for each in graph.into(item))
        }
        if not late:
            return found
        mixed |= late


def _layout(item: Item, graph: Graph, found: dict[Item, Layout]) -> Layout:
    """Return an object's layout, for those of what feeds it; unknown where it is on a way back."""
    size = size_of(item)
    come_in = [_after(each, found) for each in graph.into(item)]
    if not come_in:
        return _wanted(item, graph) or row(size)
    come_in = [each for each in come_in if each is not None] or [row(size)]
    return next((each for each in come_in if each.is_image), come_in[0])


def _after(connection: nengo.Connection, found: dict[Item, Layout]) -> Layout | None:
    """Return the layout in which a connection delivers; None where that is not known yet."""
    pre, images = found.get(owner(connection.pre_obj)), images_of(connection)
    if images is not None and pre in (None, images[0]):
        return images[1]
    return pre if is_plain(connection) else row(size_of(owner(connection.post_obj)))


def _wanted(item: Item, graph: Graph, seen: frozenset = frozenset()) -> Layout | None:
    """Return the layout that convolutions and pools behind an item read, if there is one."""
    for connection in graph.out_of(item) if item not in seen else ():
        images = images_of(connection)
        if images is not None:
            return images[0]
        if is_plain(connection):
            found = _wanted(owner(connection.post_obj), graph, seen | {item})
            if found is not None:
                return found
    return None
