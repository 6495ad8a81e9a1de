"""Synaptic operations: how many weights the spikes of a run reach.

A spike costs one addition for every weight other than 0 that its neuron has in the layers after
it. Their number stands beside the multiply-adds of the ANN (`nengonet.rates.multiply_adds`).
"""

from __future__ import annotations

import dataclasses

import nengo
import numpy as np
from nengo.dists import Distribution

from nengonet.convolution import padding_of
from nengonet.objects import Layer
from nengonet.pools import AveragePool
from nengonet.rates import multiply_adds


@dataclasses.dataclass(frozen=True, eq=False)
class Synapses:
    """What the spikes of one layer reach in the next layer with weights.

    Attributes
    ----------
    source : str
        Label of the layer that spikes.
    label : str
        Label of the layer that receives.
    per_spike : (n_neurons,) ndarray of int
        Weights other than 0 that a spike of each neuron of the source reaches.
    """

    source: str
    label: str
    per_spike: np.ndarray


def synapses_of(output: Layer) -> list[Synapses]:
    """Count what a spike of every neuron reaches, layer by layer.

    Parameters
    ----------
    output : Layer
        The last layer.

    Returns
    -------
    synapses : list of Synapses
        For each layer with weights that spikes come into, from the first to the last. A neuron at
        the edge of an image reaches fewer weights of a convolution than one in the middle. An
        average pool passes a spike on to all weights behind it. A layer that no spikes come into,
        such as the first one after a constant input, is left out: it multiplies.
    """
    found = []
    for layer in output.chain():
        if layer.weights is None or layer.pre is None:
            continue
        source, per_spike = layer.pre, _reached(layer.connection, np.ones(layer.size))
        while per_spike is not None and _is_average(source):
            source, per_spike = source.pre, _reached(source.connection, per_spike)
        if source.spiking and per_spike is not None:
            found.append(Synapses(source.label, layer.label, np.rint(per_spike).astype(np.int64)))
    return found


def ann_multiply_adds(output: Layer) -> dict[str, int]:
    """Count the multiply-adds of the ANN that a chain of layers was built from, for one image.

    Parameters
    ----------
    output : Layer
        The last layer.

    Returns
    -------
    counts : dict of int
        By label of the layers with weights: see `nengonet.rates.multiply_adds`.
    """
    return {
        layer.label: sum(multiply_adds([layer.weights], layer.pre.shape).values())
        for layer in output.chain()
        if layer.weights is not None
    }


def _is_average(layer: Layer) -> bool:
    return layer.connection is not None and isinstance(layer.connection.transform, AveragePool)


def _reached(connection: nengo.Connection, after: np.ndarray) -> np.ndarray | None:
    """Return the sum of ``after`` over the weights other than 0 of every input.

    None where the weights cannot be told before the build.
    """
    transform = connection.transform
    if isinstance(transform, nengo.transforms.NoTransform):
        return after
    if isinstance(getattr(transform, "init", None), Distribution):
        return None
    if isinstance(transform, nengo.Convolution):
        return _reached_by_convolution(transform, after)
    if isinstance(transform, AveragePool):
        return (transform.sample().allocate() != 0).T @ after
    if isinstance(transform, nengo.Dense):
        weights = np.asarray(transform.init) != 0
        # One number, or a diagonal.
        return weights.T @ after if weights.ndim == 2 else weights * after
    return None


def _reached_by_convolution(transform: nengo.Convolution, after: np.ndarray) -> np.ndarray:
    rows, columns, channels = transform.input_shape.shape
    kernel = np.asarray(transform.init) != 0
    after = after.reshape(transform.output_shape.shape)
    n_rows, n_columns, n_filters = after.shape
    strides = transform.strides
    (top, bottom), (left, right) = padding_of(
        (rows, columns), kernel.shape[:2], strides, transform.padding
    )
    found = np.zeros((rows + top + bottom, columns + left + right, channels))
    # The filters of a group see that group's channels only.
    groups = transform.groups
    after = after.reshape(n_rows, n_columns, groups, n_filters // groups)
    kernel = kernel.reshape(*kernel.shape[:3], groups, n_filters // groups)
    for row, column in np.ndindex(kernel.shape[:2]):
        reached = np.einsum("rcgf,igf->rcgi", after, kernel[row, column])
        found[
            row : row + strides[0] * n_rows : strides[0],
            column : column + strides[1] * n_columns : strides[1],
        ] += reached.reshape(n_rows, n_columns, channels)
    return found[top : top + rows, left : left + columns].reshape(-1)
