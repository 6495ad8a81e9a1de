"""The ANN that a network stands for, read from the network as it is.

It has the weights and biases that the layers were built from, the activations that their file or
their neurons state, and the network's own connections: sums of several layers, pools, constants.
Gains, biases and amplitudes of neurons are scales of the network, which an ANN has none of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import nengo
import numpy as np

from nengonet.ann.activations import activate, drive_of, multiply_adds, stated_activation
from nengonet.exceptions import InputError
from nengonet.layers.graph import Graph, Weights, analytic, filter_of, has_weights, owner
from nengonet.layers.record import Layer, known_layers
from nengonet.layers.weighted import AddBias, transform_of
from nengonet.neurons import model_of

# Weights that were multiplied by one positive number are the same to this share of the largest.
_SAME = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class _Unit:
    """What stands for one object: its layer, and what its neurons compute; None if unknown.

    ``own`` is the connection whose weights are those of the layer's file.
    """

    layer: Layer | None = None
    own: nengo.Connection | None = None
    neurons: str | None = "linear"


class Ann:
    """The ANN that a network stands for."""

    def __init__(self, target: object, network: nengo.Network) -> None:
        self.graph = Graph(network)
        self.layers = known_layers(target, network)
        self.target = owner(target.output if isinstance(target, Layer) else target)
        self.order, recurrent = self.graph.upstream(self.target)
        for item in recurrent:
            raise InputError(f"{item} feeds itself")
        self.units = {item: self._unit(item) for item in self.order}
        if not any(unit.own is not None for unit in self.units.values()):
            raise InputError(f"{self.target} was built without Keras weights")

    def _unit(self, item: nengo.Ensemble | nengo.Node) -> _Unit:
        layer, incoming = self.layers.get(item), self.graph.into(item)
        for connection in incoming:
            Weights(connection)
        neurons = model_of(item.neuron_type).activation if isinstance(item, nengo.Ensemble) else ""
        if layer is not None and layer.weights is not None:
            own = next((each for each in incoming if _is_of_file(each, layer)), None)
            if own is None:
                raise InputError(
                    f"{layer.label}: its weights in the network are not those that it was built "
                    "from; build it from the weights that it should have"
                )
            if isinstance(item, nengo.Node):
                neurons = "linear"
                self._check_linear(item)
            return _Unit(layer, own, neurons)
        if isinstance(item, nengo.Ensemble):
            pixels = all(owner(each.pre_obj).size_in == 0 for each in incoming if _is_node(each))
            plain = [each for each in incoming if _is_node(each) and not has_weights(each)]
            if pixels and plain == incoming and neurons == "relu":
                return _Unit(neurons="relu")
            raise InputError(f"{item} was built without Keras weights")
        if item.size_in > 0 and item.output is not None and analytic(item.output) is None:
            raise InputError(f"{item} computes a function of its own")
        return _Unit()

    def _check_linear(self, node: nengo.Node) -> None:
        if node.output is not None and not isinstance(analytic(node.output), AddBias):
            raise InputError(f"{node} computes a function of its own")

    def _activation(self, unit: _Unit) -> str:
        """Return what the file states, else what the neurons do; the last layer gives logits."""
        layer, neurons = unit.layer, unit.neurons
        if unit.own is None:
            return neurons
        last = owner(layer.output) is self.target
        stated = stated_activation(layer.weights, last=last)
        if last:
            return stated or "linear"
        if stated and neurons and stated != neurons:
            raise InputError(
                f"{layer.label}: the weights' file states the activation {stated}, and the "
                f"network computes {neurons} there"
            )
        if not (stated or neurons):
            raise InputError(
                f"{layer.label}: neither the weights' file nor "
                f"{type(layer.neuron_type).__name__} neurons state an activation"
            )
        return stated or neurons

    def values(self, images: Mapping[nengo.Node, np.ndarray]) -> dict[object, np.ndarray]:
        """Compute what every unit of the ANN computes."""
        activations = {item: self._activation(unit) for item, unit in self.units.items()}
        n_images, values = len(next(iter(images.values()))), {}
        for item, unit in self.units.items():
            if isinstance(item, nengo.Node) and item.size_in == 0:
                shown = images.get(item)
                if shown is None and not isinstance(item.output, np.ndarray):
                    raise InputError(f"{item} puts out what is unknown")
                shown = item.output if shown is None else shown
                values[item] = np.broadcast_to(shown, (n_images, item.size_out))
                continue
            drive = 0.0
            for connection in self.graph.into(item):
                before = values[owner(connection.pre_obj)]
                if connection is unit.own:
                    shape = (n_images, *unit.layer.pre.shape)
                    made = drive_of(unit.layer.weights, before.reshape(shape))
                    drive = drive + made.reshape(n_images, -1)
                else:
                    gain = filter_of(connection.synapse, 0.001).gain
                    drive = drive + gain * Weights(connection).apply(before)
            if unit.own is None and isinstance(item, nengo.Node) and item.output is not None:
                drive, *_ = item.output.moments(drive, np.zeros_like(drive), 0.001)
            values[item] = activate(activations[item], drive)
        return values

    def by_label(self, values: dict[object, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the values of the layers with Keras weights and of the output, by label."""
        found = {
            unit.layer.label: values[item]
            for item, unit in self.units.items()
            if unit.own is not None
        }
        output = self.layers.get(self.target, self.target)
        return found | {output.label or str(output): values[self.target]}

    def multiply_adds(self) -> dict[str, int]:
        """Count the multiply-adds for one image, by the label of the layers with weights."""
        counts = {}
        for item, unit in self.units.items():
            if unit.own is None:
                continue
            (count,) = multiply_adds([unit.layer.weights], unit.layer.pre.shape).values()
            others = [each for each in self.graph.into(item) if each is not unit.own]
            counts[unit.layer.label] = count + sum(
                Weights(each).matrix().nnz for each in others if has_weights(each)
            )
        return counts


def _is_node(connection: nengo.Connection) -> bool:
    return isinstance(connection.pre_obj, nengo.Node)


def _is_of_file(connection: nengo.Connection, layer: Layer) -> bool:
    """Whether a connection has the weights that a layer was built from, times a number above 0."""
    if layer.pre is None or owner(connection.pre_obj) is not owner(layer.pre.output):
        return False
    expected, found = transform_of(layer.weights, layer.pre), connection.transform
    whole = connection.pre_slice == slice(None) and connection.post_slice == slice(None)
    if not whole or type(found) is not type(expected):
        return False
    if isinstance(found, nengo.Convolution):
        names = ("input_shape", "strides", "padding", "groups", "channels_last")
        if any(getattr(found, name) != getattr(expected, name) for name in names):
            return False
    # Not a Distribution, as `Weights` has seen it.
    found, expected = (np.asarray(each.init, dtype=np.float64) for each in (found, expected))
    if found.shape != expected.shape:
        return False
    factor = np.vdot(found, expected) / max(np.vdot(expected, expected), 1e-300)
    least = _SAME * np.abs(found).max(initial=0)
    return (factor > 0 or not expected.any()) and np.abs(found - factor * expected).max() <= least
