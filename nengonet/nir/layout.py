"""Channels first: the place of each element of Nengo's flat order in an array of NIR."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import nengo
import numpy as np
from nengo.connection import Neurons
from nengo.transforms import ChannelShape, NoTransform

from nengonet.ann.convolution import output_shape, padding_of
from nengonet.layers.graph import Graph, Item, owner
from nengonet.layers.pools import AveragePool
from nengonet.layers.targets import size_of
from nengonet.weights.dialects.nir import channels_first


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Shape of a signal in NIR, and the element of Nengo's order at each place."""

    shape: tuple[int, ...]
    order: np.ndarray

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Layout) and self.shape == other.shape
        return same and np.array_equal(self.order, other.order)

    @property
    def is_image(self) -> bool:
        """Whether the signal has channels and positions."""
        return len(self.shape) > 1

    def place(self, values: np.ndarray) -> np.ndarray:
        """Return values in Nengo's order as an array of NIR."""
        return np.asarray(values, dtype=np.float64)[self.order].reshape(self.shape)

    def by_channel(self, values: np.ndarray | None) -> np.ndarray | None:
        """Return one value for each channel, or None if the values of a channel differ."""
        if values is None:
            return None
        values = self.place(values).reshape(self.shape[0], -1)
        return values[:, 0] if np.all(values == values[:, :1]) else None


def row(size: int) -> Layout:
    """Return the layout of a signal without channels."""
    return Layout((size,), np.arange(size))


def image(shape: ChannelShape) -> Layout:
    """Return the layout of an image with channels."""
    first = (shape.n_channels, *shape.spatial_shape)
    return Layout(first, channels_first(first) if shape.channels_last else np.arange(shape.size))


def _between_units(connection: nengo.Connection) -> bool:
    """Return whether a connection has neither a function nor decoders nor encoders."""
    ends = (connection.pre_obj, connection.post_obj)
    return connection.function is None and all(isinstance(e, (Neurons, nengo.Node)) for e in ends)


def _is_whole(connection: nengo.Connection) -> bool:
    """Return whether a connection reads and feeds all of its two objects, each element once."""
    both = (connection.pre_slice, connection.post_slice)
    whole = all(isinstance(each, slice) and each == slice(None) for each in both)
    return whole and _between_units(connection)


def _images(connection: nengo.Connection) -> tuple[str, Layout, Layout] | None:
    """Return "convolution" or "pool" with the layouts before and behind it, or None."""
    transform = connection.transform
    if not _is_whole(connection):
        return None
    if isinstance(transform, nengo.Convolution) and transform.dimensions <= 2:
        return "convolution", image(transform.input_shape), image(transform.output_shape)
    if isinstance(transform, AveragePool):
        *shape, channels = transform.image_shape
        geometry = (shape, *transform.pool.geometry(transform.image_shape))
        # Where a window reaches into the padding, it has fewer pixels, and its own mean.
        if not np.any(padding_of(*geometry)):
            after = ChannelShape((*output_shape(*geometry), channels))
            return "pool", image(ChannelShape((*shape, channels))), image(after)
    return None


def placement(
    connection: nengo.Connection, before: Layout, after: Layout
) -> tuple[np.ndarray, list[tuple[int, int]]] | None:
    """Return how a connection puts an image into a larger one; None if it does not.

    The result is the channel of each channel of the image, and the padding before and behind each
    axis. It describes concatenation and zero padding.
    """
    everything = np.arange(len(before.order))
    if not np.array_equal(everything[connection.pre_slice], everything):
        return None
    places = np.arange(len(after.order))[connection.post_slice][before.order]
    at = np.array(np.unravel_index(np.argsort(after.order)[places], after.shape))
    channels = at[0, :: math.prod(before.shape[1:])]
    grid, starts = np.indices(before.shape), at[1:, 0]
    expected = [channels[grid[0]], *(n + each for n, each in zip(starts, grid[1:], strict=True))]
    if not np.array_equal(at.reshape(grid.shape), expected):
        return None
    sizes = zip(starts.tolist(), before.shape[1:], after.shape[1:], strict=True)
    return channels, [(start, whole - n - start) for start, n, whole in sizes]


def _of_layer(shape: tuple[int, ...] | None, like: Layout) -> Layout | None:
    """Return the layout of a layer with the axes of another; one channel needs no axis."""
    if shape is not None and len(shape) == len(like.shape) - 1:
        shape = (*shape, 1)
    return None if shape is None or len(shape) != len(like.shape) else image(ChannelShape(shape))


def layouts_of(
    order: list[Item], graph: Graph, shapes: Mapping[Item, tuple[int, ...]]
) -> tuple[dict[Item, Layout], dict[nengo.Connection, tuple[str, Layout]]]:
    """Return the layout of every object of a network, and the kind of every connection.

    Each object comes after those that feed it. Channels stand first where a convolution or a pool
    reads, writes or passes on a signal. A signal that a matrix also writes is in one row.
    ``shapes`` are those of layers. A connection's kind is its kind in NIR, with the layout behind
    its node.
    """
    mixed: set[Item] = set()
    while True:
        found: dict[Item, Layout] = {}
        for item in order:
            come_in = [_route(each, found, shapes)[1] for each in graph.into(item)]
            come_in = come_in or [_wanted(item, graph, shapes)]
            known = [each for each in come_in if each is not None] or [row(size_of(item))]
            first = min(known, key=lambda each: not each.is_image)
            found[item] = Layout(first.order.shape, first.order) if item in mixed else first
        routes, late = {}, set()
        for item, after in found.items():
            for each in graph.into(item):
                kind, behind = routes[each] = _route(each, found, shapes)
                if after.is_image and behind != after:
                    late.add(item)
                elif not np.array_equal(behind.order, after.order):
                    routes[each] = "matrix", after
        if not late:
            return found, routes
        mixed |= late


def _route(
    connection: nengo.Connection,
    found: Mapping[Item, Layout],
    shapes: Mapping[Item, tuple[int, ...]],
) -> tuple[str, Layout | None]:
    """Return the kind of a connection in NIR and the layout behind it; None while unknown."""
    before, post = found.get(owner(connection.pre_obj)), owner(connection.post_obj)
    images = _images(connection)
    if images is not None and before in (None, images[1]):
        return images[0], images[2]
    if isinstance(connection.transform, NoTransform) and _between_units(connection):
        if _is_whole(connection):
            return "plain", before
        larger = _of_layer(shapes.get(post), before) if before and before.is_image else None
        if larger is not None and placement(connection, before, larger) is not None:
            return "placed", larger
    return "matrix", row(size_of(post))


def _wanted(
    item: Item, graph: Graph, shapes: Mapping[Item, tuple[int, ...]], seen: frozenset = frozenset()
) -> Layout | None:
    """Return the layout that the convolutions and pools behind an item read, if there are any."""
    for connection in graph.out_of(item) if item not in seen else ():
        images = _images(connection)
        if images is not None:
            return images[1]
        if isinstance(connection.transform, NoTransform):
            found = _wanted(owner(connection.post_obj), graph, shapes, seen | {item})
            if found is not None and not _is_whole(connection):
                found = _of_layer(shapes.get(item), found)
            if found is not None:
                return found
    return None
