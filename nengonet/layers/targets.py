"""Outputs as functions take them: a layer, Nengo's own objects, slices, and lists of these."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import nengo
import numpy as np
from nengo.base import ObjView
from nengo.connection import Neurons

from nengonet.checks import described, slice_text
from nengonet.exceptions import InputError
from nengonet.layers.graph import Graph, Item, as_network, owner, size_of
from nengonet.layers.record import Layer, known_layers, labels_of, layers_of
from nengonet.nengo_internals import outermost_network

Output: TypeAlias = Layer | nengo.Ensemble | Neurons | nengo.Node | ObjView | Sequence

_EXPECTED = (
    "expected a Layer, an Ensemble, .neurons or a Node, a slice of neurons or of a Node, or a list "
    "of these"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Some of the neurons of an Ensemble, or of the outputs of a Node."""

    item: Item
    indices: np.ndarray
    label: str

    @property
    def is_whole(self) -> bool:
        """Whether it is all of them, in order."""
        return np.array_equal(self.indices, np.arange(size_of(self.item)))


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """The objects behind an output: parts of Ensembles and Nodes, one after the other.

    Attributes
    ----------
    parts : tuple of Part
    network : nengo.Network
    layers : dict of {Ensemble or Node: Layer}
        The known records of the network's objects.
    """

    parts: tuple[Part, ...]
    network: nengo.Network
    layers: Mapping[Item, Layer]

    def __str__(self) -> str:
        """Return the label."""
        return self.label

    @property
    def items(self) -> tuple[Item, ...]:
        """The Ensembles and Nodes, each once."""
        return tuple(dict.fromkeys(part.item for part in self.parts))

    @property
    def item(self) -> Item | None:
        """The one Ensemble or Node, where the output is all of it and nothing else."""
        only = len(self.parts) == 1 and self.parts[0].is_whole
        return self.parts[0].item if only else None

    @property
    def label(self) -> str:
        """The labels of the parts."""
        return " + ".join(part.label for part in self.parts)

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(part.indices.size for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer, where the output is one."""
        layer = self.layers.get(self.item)
        return (self.size,) if layer is None else layer.shape

    @functools.cached_property
    def amplitude(self) -> float | None:
        """Area of one spike; None where some part does not spike, or areas differ."""
        graph = Graph(self.network)
        areas = {graph.spike_area(item) for item in self.items}
        return areas.pop() if len(areas) == 1 else None

    @property
    def usual_readout(self) -> str:
        """The readout if none is asked for: of spikes, where there are any."""
        return "sum" if self.amplitude is None else "spike_count"

    def upstream(self) -> list[Layer]:
        """Return the output's layers and all upstream, each after the layers that feed it."""
        return layers_of([self.layers.get(item, item) for item in self.items], self.network)

    def take(self, values: Mapping[Item, np.ndarray]) -> np.ndarray:
        """Return the output's values, (..., size), from those of whole items, (..., n)."""
        return np.concatenate([values[part.item][..., part.indices] for part in self.parts], -1)


def read_output(
    output: Output, network: nengo.Network | None = None, name: str = "output"
) -> Target:
    """Find the Ensembles and Nodes that an output stands for.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons, nengo.Node, a slice, or a list of these
        An Ensemble stands for its neurons; a list, for its items one after the other.
    network : nengo.Network, optional
        A `Layer` knows its own. Plain objects are found in the network whose ``with`` block is
        open.
    name : str
        The argument's name, for messages.

    Returns
    -------
    Target

    Raises
    ------
    InputError
        The output is something else, has no values, or is not in the network; or the objects are
        plain Nengo objects whose network is unknown.
    """
    if isinstance(output, Target):
        return output
    given = list(_flat(output, name))
    if not given:
        raise InputError(f"{name}: {_EXPECTED}, got an empty list")
    network = _network_of(given, network, name)
    layers = known_layers(given, network)
    labels, inside = labels_of(network, layers), Graph(network).objects
    parts = []
    for each in given:
        item = owner(each.output if isinstance(each, Layer) else each)
        if item not in inside:
            where = ", output.network" if isinstance(each, Layer) else ""
            shown = f"the layer {each.label}" if isinstance(each, Layer) else str(each)
            raise InputError(
                f"{shown} is not part of the network that was given; expected the one in which it "
                f"was built{where}"
            )
        indices, label = np.arange(size_of(item)), labels[item]
        if isinstance(each, ObjView):
            indices = indices[each.slice]
            label += slice_text(each)
        if indices.size == 0:
            raise InputError(f"{name}: expected an output with at least one value, got {each}")
        parts.append(Part(item, indices, label))
    return Target(tuple(parts), network, layers)


def _flat(output: object, name: str) -> Iterator[Output]:
    """Yield the layers, objects and slices of nested lists."""
    if isinstance(output, (list, tuple)):
        for each in output:
            yield from _flat(each, name)
        return
    whole = output.obj if isinstance(output, ObjView) else output
    if isinstance(whole, nengo.Ensemble) and whole is not output:
        raise InputError(
            f"{name}: {_EXPECTED}, got {output}, some of the dimensions that an Ensemble "
            "represents; for its neurons give ensemble.neurons[…], for decoded values a Node after "
            "a connection"
        )
    if not isinstance(whole, (Layer, nengo.Ensemble, Neurons, nengo.Node)):
        hint = ""
        if isinstance(output, nengo.Probe):
            hint = f"; give the object that it probes, {output.target}"
        elif isinstance(output, nengo.Network):
            hint = "; give the Layer to read in it, or an object such as an EnsembleArray's output"
        raise InputError(f"{name}: {_EXPECTED}, got {described(output)}{hint}")
    yield output


def _network_of(given: list, network: nengo.Network | None, name: str) -> nengo.Network:
    if network is not None:
        return as_network(network)
    networks = [each.network for each in given if isinstance(each, Layer)]
    networks += [] if outermost_network() is None else [outermost_network()]
    if not networks:
        raise InputError(f"{name}: expected the network of {given[0]} too; give network=…")
    return networks[0]
