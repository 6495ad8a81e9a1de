"""Merges of branches, and zeros around an image: one Node, and a Connection from each layer.

Such a Node has no function: it passes on its input within the same step, spikes too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import nengo
import numpy as np

from nengonet.ann.unweighted import Merge, Padding
from nengonet.layers.record import (
    Layer,
    Layers,
    SynapseLike,
    as_layers,
    connect,
    listed_layers,
    new_label,
)


def add(pre: Sequence[Layer], *, synapse: SynapseLike = None, label: str | None = None) -> Layer:
    """Add a Node that outputs the sum of several layers, as Keras' Add does.

    A builder that is given a list of layers takes their sum without such a Node. Use `add` for a
    sum that several layers read, or that you want to probe.

    Parameters
    ----------
    pre : list of Layer
        Layers of one shape.
    synapse : Synapse, float or None
        Synapse of every connection.
    label : str, optional
        By default ``"add"``, numbered if the network already has it.

    Returns
    -------
    Layer
        A layer of the same shape. If all layers before have the same ``amplitude``, it is the
        sum's too, and several spikes may come in one step. Otherwise it is None.

    Raises
    ------
    InputError
        The layers have different shapes, or layers on different paths to them share a label.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     a, b = (nn.constant_input((3,), label=label) for label in "ab")
    ...     both = nn.add([a, b])
    >>> both
    <Layer 'add', shape (3,)>
    """
    pres = as_layers(pre)
    return _merged(pres, "add", synapse, name=new_label(label, "add", pres))


def concatenate(
    pre: Sequence[Layer], axis: int = -1, *, synapse: SynapseLike = None, label: str | None = None
) -> Layer:
    """Add a Node that outputs several layers side by side, as Keras' Concatenate does.

    Parameters
    ----------
    pre : list of Layer
        Layers whose shapes differ along the axis only.
    axis : int
        Axis of the layers' shapes; by default the last one, channels. Keras counts the axis of
        images as well, so Keras' 1 is 0 here. Negative axes are the same in both.
    synapse, label
        As for `add`; the label is ``"concatenate"`` by default.

    Returns
    -------
    Layer
        Its ``amplitude`` is that of the layers before if they all have the same, else None.

    Raises
    ------
    InputError
        As for `add`; or the axis does not exist.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     a, b = (nn.constant_input((2, 2, 3), label=label) for label in "ab")
    ...     both = nn.concatenate([a, b])
    >>> both.shape
    (2, 2, 6)
    """
    pres = listed_layers(pre)
    label = new_label(label, "concatenate", pres)
    return _merged(pres, "concatenate", synapse, axis=axis, name=label)


def _merged(pres: Sequence[Layer], kind: str, synapse: SynapseLike, **of_merge: object) -> Layer:
    merge = Merge(kind, [layer.label for layer in pres], **of_merge)
    shape = merge.of_shapes([layer.shape for layer in pres], " and ".join(merge.of))
    into = [np.arange(layer.size) for layer in pres]
    if kind == "concatenate":
        # The merge of the numbers of all places: where in it each of them ends up.
        starts = np.cumsum([0, *map(len, into)])
        places = [
            (places + start).reshape(1, *layer.shape)
            for places, start, layer in zip(into, starts, pres, strict=False)
        ]
        into = np.split(np.argsort(merge.of_values(places), axis=None), starts[1:-1])
    return _placed(pres, into, shape, merge.name, synapse)


def _placed(
    pres: Sequence[Layer],
    into: Sequence[np.ndarray],
    shape: tuple[int, ...],
    label: str,
    synapse: SynapseLike,
) -> Layer:
    """Add a Node, and the connections of layers into its places."""
    node = nengo.Node(size_in=math.prod(shape), label=label)
    layer = Layer(label=label, shape=shape, node=node)
    for pre, places in zip(pres, into, strict=True):
        connect(pre, layer, _as_slice(places, layer.size), synapse=synapse)
    return layer


def _as_slice(places: np.ndarray, size: int) -> slice | list[int]:
    """Return places as a slice if they are consecutive."""
    if np.array_equal(places, np.arange(size)):
        return slice(None)
    if np.array_equal(places, np.arange(places[0], places[0] + len(places))):
        return slice(int(places[0]), int(places[-1]) + 1)
    return places.tolist()


def zero_padding2d(
    pre: Layers,
    padding: int | Sequence = 1,
    *,
    synapse: SynapseLike = None,
    label: str | None = None,
) -> Layer:
    """Add a Node that outputs a layer with zeros around it, as Keras' ZeroPadding2D does.

    Parameters
    ----------
    pre : Layer or list of Layer
        Of shape ``(rows, columns, channels)``; ``(rows, columns)`` is one channel. Several stand
        for their sum.
    padding : int, (rows, columns) or ((top, bottom), (left, right))
    synapse : Synapse, float or None
        On the connection.
    label : str, optional
        By default the builder's name, numbered if the network already has it.

    Returns
    -------
    Layer
        With the ``amplitude`` of the layer before.

    Raises
    ------
    InputError
        The layer before has no rows, columns and channels; or the padding is impossible.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((4, 4, 3))
    ...     wider = nn.zero_padding2d(pixels, ((1, 2), (0, 0)))
    >>> wider.shape
    (7, 4, 3)
    """
    return _zero_padding(pre, padding, 2, synapse, label)


def zero_padding1d(
    pre: Layers,
    padding: int | tuple[int, int] = 1,
    *,
    synapse: SynapseLike = None,
    label: str | None = None,
) -> Layer:
    """Add a Node that outputs a layer with steps of zeros around it, as `zero_padding2d` does.

    Parameters
    ----------
    pre : Layer or list of Layer
        Of shape ``(steps, channels)``; ``(steps,)`` is one channel.
    padding : int or (before, after)
    synapse : Synapse, float or None
        On the connection.
    label : str, optional
        By default the builder's name, numbered if the network already has it.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     samples = nn.constant_input((10, 2))
    ...     longer = nn.zero_padding1d(samples, (3, 0))
    >>> longer.shape
    (13, 2)
    """
    return _zero_padding(pre, padding, 1, synapse, label)


def _zero_padding(
    pre: Layers, padding: object, dimensions: int, synapse: object, label: str | None
) -> Layer:
    pres = as_layers(pre)
    label = new_label(label, f"zero_padding{dimensions}d", pres)
    zeros, first = Padding(padding, label, dimensions), pres[0]
    shape = zeros.shape_after(first.shape, first.label)
    # The places that are not padding.
    places = np.flatnonzero(zeros.values(np.ones((1, *first.shape))))
    return _placed(pres, [places] * len(pres), shape, label, synapse)
