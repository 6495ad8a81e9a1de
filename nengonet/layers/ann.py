"""The ANN that corresponds to a network, read from the network as it is.

Its weights and biases are those that the layers were built from. Its activations come from the
weights' file or from the neurons. Its structure is that of the network's connections: sums of
several layers, pools, constants. Gains, biases and amplitudes of neurons only scale the network;
an ANN does not have them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import nengo
import numpy as np

from nengonet.ann.activations import multiply_adds
from nengonet.ann.kinds import activate, drive_of, given_activation, kind_of
from nengonet.exceptions import InputError
from nengonet.layers.filters import filter_of
from nengonet.layers.graph import Graph, Item, has_weights, owner
from nengonet.layers.protocol import known
from nengonet.layers.record import Layer, known_layers, labels_of
from nengonet.layers.transforms import Weights
from nengonet.layers.weighted import AddBias
from nengonet.neurons import model_of

# Weights count as the file's, times one positive number, if they compute the same up to this share
# of the largest value.
_SAME = 1e-6


class Ann:
    """The ANN that corresponds to a network."""

    def __init__(self, target: object, network: nengo.Network) -> None:
        self.graph = Graph(network)
        self.layers = known_layers(target, network)
        self.labels = labels_of(network, self.layers)
        self.target = owner(target.output if isinstance(target, Layer) else target)
        self.order, recurrent = self.graph.upstream(self.target)
        for item in recurrent:
            raise InputError(f"{self.labels[item]} feeds itself")
        found = {item: self._own(item) for item in self.order}
        # The connections whose weights are those of the layer's file.
        self.own = {item: own for item, own in found.items() if own}
        if not self.own:
            raise InputError(f"{self.labels[self.target]} was built without Keras weights")

    def _own(self, item: Item) -> list[nengo.Connection]:
        """Return the connections with a layer's Keras weights; refuse objects that no ANN has."""
        layer, incoming = self.layers.get(item), self.graph.into(item)
        weights = {connection: Weights(connection) for connection in incoming}
        if layer is not None and layer.weights is not None:
            factors = {each: _factor(each, weights[each], layer) for each in incoming}
            found = [each for each, factor in factors.items() if factor is not None]
            if found:
                # The bias is in the weights.
                if not isinstance(self._function_of(item), AddBias | None):
                    raise InputError(f"{self.labels[item]} computes a function of its own")
                # A connection with the same weights on another scale does not belong to the layer.
                scale = factors[found[0]]
                return [each for each in found if abs(factors[each] - scale) <= _SAME * scale]
            raise InputError(
                f"{layer.label}: its weights in the network are not those it was built from; "
                "build it from the weights that are meant"
            )
        if isinstance(item, nengo.Ensemble):
            plain = [each.pre_obj for each in incoming if not has_weights(each)]
            pixels = [each for each in plain if isinstance(each, nengo.Node) and not each.size_in]
            if len(pixels) < len(incoming) or model_of(item.neuron_type).activation != "relu":
                raise InputError(f"{self.labels[item]} was built without Keras weights")
        elif item.size_in > 0:
            self._function_of(item)
        return []

    def _function_of(self, item: Item) -> object | None:
        """Return the function or process that a Node with an input runs, if any."""
        output = item.output if isinstance(item, nengo.Node) else None
        if output is not None and known(output, "moments") is None:
            raise InputError(f"{self.labels[item]} computes a function of its own")
        return output

    def _activation(self, item: Item) -> str:
        """Return the file's activation, or else the neurons'; the last layer gives logits."""
        is_ensemble = isinstance(item, nengo.Ensemble)
        neurons = model_of(item.neuron_type).activation if is_ensemble else "linear"
        if item not in self.own:
            return neurons
        layer, last = self.layers[item], item is self.target
        given = given_activation(layer.weights, last=last)
        if last:
            return given or "linear"
        if given and neurons and given != neurons:
            raise InputError(
                f"{layer.label}: the weights' file states the activation {given}, and the "
                f"network computes {neurons} there"
            )
        if not (given or neurons):
            raise InputError(
                f"{layer.label}: neither the weights' file nor "
                f"{type(layer.neuron_type).__name__} neurons state an activation"
            )
        return given or neurons

    def activations(self, images: Mapping[nengo.Node, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute the values of layers with Keras weights, and the output, by label."""
        activations = {item: self._activation(item) for item in self.order}
        n_images, values = len(next(iter(images.values()))), {}
        for item in self.order:
            if isinstance(item, nengo.Node) and item.size_in == 0:
                shown = images.get(item, item.output)
                if not isinstance(shown, np.ndarray):
                    raise InputError(f"{self.labels[item]}: its output is unknown")
                values[item] = np.broadcast_to(shown, (n_images, item.size_out))
                continue
            drive, inputs, own = 0.0, 0.0, self.own.get(item, [])
            for connection in self.graph.into(item):
                before = values[owner(connection.pre_obj)]
                if connection in own:
                    inputs = inputs + before
                else:
                    gain = filter_of(connection.synapse, 0.001).gain
                    drive = drive + gain * Weights(connection).apply(before)
            if own:
                layer = self.layers[item]
                shaped = inputs.reshape(n_images, *layer.shape_in)
                drive = drive + drive_of(layer.weights, shaped).reshape(n_images, -1)
            elif isinstance(item, nengo.Node) and item.output is not None:
                drive, *_ = item.output.moments(drive, np.zeros_like(drive), 0.001)
            values[item] = activate(activations[item], drive)
        found = {self.layers[item].label: values[item] for item in self.own}
        output = self.layers.get(self.target, self.target)
        return found | {output.label or str(output): values[self.target]}

    def multiply_adds(self) -> dict[str, int]:
        """Count the multiply-adds for one image, by the label of the layers with weights."""
        counts = {}
        for item, own in self.own.items():
            layer = self.layers[item]
            if layer.weights.kernel is None:
                continue
            (count,) = multiply_adds([layer.weights], layer.shape_in).values()
            others = [each for each in self.graph.into(item) if each not in own]
            counts[layer.label] = len(own) * count + sum(
                Weights(each).matrix().nnz for each in others if has_weights(each)
            )
        return counts


def _factor(connection: nengo.Connection, weights: Weights, layer: Layer) -> float | None:
    """Return the number above 0 by which a connection multiplies the weights of a layer's file.

    Random numbers show it: both compute the same, up to that factor. None where they do not.
    """
    if layer.shape_in is None:
        return None
    size = math.prod(layer.shape_in)
    # Neurons without weights take their input as it is.
    weighted = layer.weights.kernel is not None
    if connection.pre_obj.size_out != size or has_weights(connection) != weighted:
        return None
    numbers = np.random.default_rng(0).standard_normal((1, size))
    shaped = numbers.reshape(1, *layer.shape_in)
    expected = kind_of(layer.weights).product(layer.weights, shaped).reshape(1, -1)
    found = weights.apply(numbers)
    factor = np.vdot(found, expected) / max(np.vdot(expected, expected), 1e-300)
    least = _SAME * np.abs(found).max(initial=0)
    same = np.abs(found - factor * expected).max() <= least
    return factor if same and (factor > 0 or not expected.any()) else None
