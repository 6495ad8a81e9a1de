"""The connections of a network: which object feeds which.

Everything that describes a network (prediction, findings, operations, the ANN, what `present`
records) reads it here, from Nengo's objects, at the time of need.
"""

from __future__ import annotations

import functools

import nengo
from nengo.base import ObjView
from nengo.connection import Neurons

from nengonet.checks import described
from nengonet.exceptions import InputError
from nengonet.layers.protocol import known
from nengonet.neurons import model_of

Item = nengo.Ensemble | nengo.Node


def owner(item: object) -> Item:
    """Return the Ensemble or Node behind a view, neurons, or the object itself."""
    item = item.obj if isinstance(item, ObjView) else item
    return item.ensemble if isinstance(item, Neurons) else item


def size_of(item: Item) -> int:
    """Return the number of an Ensemble's neurons, or of a Node's outputs."""
    return item.n_neurons if isinstance(item, nengo.Ensemble) else item.size_out


def as_network(network: nengo.Network) -> nengo.Network:
    """Check that this is a network."""
    if not isinstance(network, nengo.Network):
        raise InputError(f"network: expected a nengo.Network, got {described(network)}")
    return network


class Graph:
    """The connections of a network, grouped by their targets."""

    def __init__(self, network: nengo.Network) -> None:
        self._network = as_network(network)

    @functools.cached_property
    def objects(self) -> set[Item]:
        """The network's Ensembles and Nodes."""
        return {*self._network.all_ensembles, *self._network.all_nodes}

    @property
    def size(self) -> int:
        """Number of neurons, and of outputs of Nodes, together."""
        return sum(map(size_of, self.objects))

    @functools.cached_property
    def _into(self) -> dict[Item, list[nengo.Connection]]:
        into: dict[Item, list[nengo.Connection]] = {}
        for connection in self._network.all_connections:
            into.setdefault(owner(connection.post_obj), []).append(connection)
        return into

    @functools.cached_property
    def _out_of(self) -> dict[Item, list[nengo.Connection]]:
        out_of: dict[Item, list[nengo.Connection]] = {}
        for item in self._into:
            for connection in self.into(item):
                out_of.setdefault(owner(connection.pre_obj), []).append(connection)
        return out_of

    def into(self, item: Item) -> list[nengo.Connection]:
        """Return the connections that feed an object, in the network's order.

        A Node that only passes on its input, and has none, carries nothing. Connections from such
        Nodes are left out; an EnsembleArray has them.
        """
        return [each for each in self._into.get(item, ()) if not self._is_nothing(each)]

    def out_of(self, item: Item) -> list[nengo.Connection]:
        """Return the connections that an object feeds, in the order of their targets."""
        return self._out_of.get(item, [])

    def _is_nothing(self, connection: nengo.Connection, seen: tuple = ()) -> bool:
        node = connection.pre_obj
        if node in seen:
            return True
        if not isinstance(node, nengo.Node) or node.output is not None or connection.function:
            return False
        return all(self._is_nothing(each, (*seen, node)) for each in self._into.get(node, ()))

    def upstream(self, *items: Item) -> tuple[list[Item], set[Item]]:
        """Return objects and all that they depend on, in order of dependence, and those in a loop.

        Each object stands after the objects that feed it.
        """
        order, done, recurrent = [], set(), set()
        for item in items:
            under_way = {} if item in done else {item: self._sources(item)}
            while under_way:
                item = next(reversed(under_way))
                for pre in under_way[item]:
                    if pre in under_way:
                        recurrent.add(pre)
                    elif pre not in done:
                        under_way[pre] = self._sources(pre)
                        break
                else:
                    del under_way[item]
                    done.add(item)
                    order.append(item)
        return order, recurrent

    def _sources(self, item: Item) -> object:
        return iter([owner(each.pre_obj) for each in self.into(item)])

    def spike_area(self, item: Item, seen: tuple = ()) -> float | None:
        """Return the area of one spike that an object outputs; None where it does not spike.

        A Node that passes spikes on does so where its input is unchanged spikes of one area.
        """
        if isinstance(item, nengo.Ensemble):
            return model_of(item.neuron_type).amplitude if item.neuron_type.spiking else None
        if item.size_in == 0:
            return known(item.output, "amplitude")
        if item in seen or not passes_spikes(item):
            return None
        areas = {
            None if alters(each) else self.spike_area(owner(each.pre_obj), (*seen, item))
            for each in self.into(item)
        }
        return areas.pop() if len(areas) == 1 else None

    def may_be_negative(self, item: Item, seen: tuple = ()) -> bool:
        """Return whether an object that spikes may send spikes below 0.

        Wrapped ``Tanh`` neurons do, and ``SpikingRectifiedLinear`` does once, if it starts below 0.
        """
        if isinstance(item, nengo.Ensemble):
            return model_of(item.neuron_type).may_be_negative
        return item not in seen and any(
            self.may_be_negative(owner(each.pre_obj), (*seen, item)) for each in self.into(item)
        )


def passes_spikes(node: nengo.Node) -> bool:
    """Whether a Node outputs whole spikes where whole spikes come in."""
    return node.output is None or known(node.output, "passes_spikes", False)


def alters(connection: nengo.Connection) -> bool:
    """Whether a connection changes the spikes that pass through it."""
    plain = isinstance(connection.transform, nengo.transforms.NoTransform)
    from_units = isinstance(connection.pre_obj, (Neurons, nengo.Node))
    return not (plain and from_units and connection.function is None and connection.synapse is None)


def has_weights(connection: nengo.Connection) -> bool:
    """Whether a connection multiplies: it is neither plain nor the matrix of an average pool."""
    plain = isinstance(connection.transform, nengo.transforms.NoTransform)
    return known(connection.transform, "has_weights", not plain)
