"""Synaptic operations: how many weights the spikes of a run reach.

A spike costs one addition for every weight other than 0 that its neuron has in the layers after
it. Compare their number with the multiply-adds of the ANN
(`nengonet.ann.activations.multiply_adds`).
"""

from __future__ import annotations

import dataclasses

import nengo
import numpy as np

from nengonet.exceptions import InputError
from nengonet.layers.ann import Ann
from nengonet.layers.graph import Graph, Item, has_weights, owner
from nengonet.layers.record import Layer, labels_of
from nengonet.layers.targets import Output, read_output
from nengonet.layers.transforms import Weights


@dataclasses.dataclass(frozen=True, eq=False)
class Synapses:
    """The weights that the spikes of one layer reach in another."""

    source: str
    label: str
    per_spike: np.ndarray


def synapses_of(output: Output, network: nengo.Network | None = None) -> list[Synapses]:
    """Count the weights that a spike of every neuron reaches, on the way to the output."""
    target = read_output(output, network)
    graph, layers = Graph(target.network), target.upstream()
    labels = labels_of(target.network, target.layers)
    order = graph.upstream(*target.items)[0]
    found = [
        (order.index(target), Synapses(layer.label, labels[target], np.rint(sums).astype(np.int64)))
        for layer in layers
        if layer.spiking and (layer.node is None or layer.node.output is not None)
        for target, sums in _behind(graph, owner(layer.output), set(order)).items()
    ]
    return [synapses for _, synapses in sorted(found, key=lambda pair: pair[0])]


def _behind(graph: Graph, item: Item, within: set[Item]) -> dict[Item, np.ndarray]:
    """Return how many weights a spike of each neuron reaches, by the object after them."""
    totals: dict[Item, np.ndarray] = {}
    for connection in graph.out_of(item):
        target = owner(connection.post_obj)
        if target not in within:
            continue
        try:
            weights = Weights(connection)
        except InputError:  # such as weights that the build draws
            continue
        if isinstance(target, nengo.Ensemble) or has_weights(connection):
            after = {target: np.ones(connection.post_obj.size_in)}
        else:
            after = _behind(graph, target, within) if target.output is None else {}
        for receiver, sums in after.items():
            totals[receiver] = totals.get(receiver, 0) + weights.reached(sums)
    return totals


def ann_multiply_adds(output: Layer) -> dict[str, int]:
    """Count the multiply-adds for one image of the ANN that corresponds to a network.

    Parameters
    ----------
    output : Layer
        The last layer.

    Returns
    -------
    counts : dict of int
        The counts by label of the layers with weights: see
        `nengonet.ann.activations.multiply_adds`. Connections that add to a layer count with their
        weights other than 0.

    Examples
    --------
    >>> from nengonet.results.operations import ann_multiply_adds
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> ann_multiply_adds(layer)
    {'layer': 9}
    """
    return Ann(output, output.network).multiply_adds()
