"""The record of a layer, and the Nengo objects it stands for."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import nengo
import numpy as np
from nengo.connection import Neurons
from nengo.neurons import NeuronType
from nengo.solvers import NoSolver
from nengo.synapses import Synapse
from nengo.transforms import Transform
from numpy.typing import ArrayLike

from nengonet import html
from nengonet.checks import as_number, as_seed, described, positive_integer, quoted
from nengonet.exceptions import InputError
from nengonet.layers.graph import Graph, has_weights, owner, size_of
from nengonet.nengo_internals import outermost_network
from nengonet.neurons import model_of
from nengonet.weights import LayerWeights


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A view of the Nengo objects of one layer, which you may edit at any time.

    Attributes
    ----------
    label : str
    shape : tuple of int
        Shape of the layer's output; neurons are in (row, column, channel) order.
    ensemble : nengo.Ensemble or None
        None for inputs and for a last layer without neurons.
    node : nengo.Node or None
    weights : LayerWeights or None
        The weights that the layer was built from.
    network : nengo.Network
        The network that the layer was built in.
    tuned_gain : ndarray or None
        The gain that ``max_rates`` and ``intercepts`` gave; None where the gain itself was given.
    shape_in : tuple of int or None
        The shape in which the layer's weights take their input; None without weights.
    listed : bool
        Whether the network's other layers find this one.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="hidden")
    >>> layer
    <Layer 'hidden', shape (3,)>
    >>> layer.ensemble.label, layer.ensemble.n_neurons
    ('hidden', 3)
    >>> layer.ensemble.gain = nengo.dists.Choice([18.0])  # an edit counts at once
    """

    label: str
    shape: tuple[int, ...]
    ensemble: nengo.Ensemble | None = None
    node: nengo.Node | None = None
    weights: LayerWeights | None = None
    network: nengo.Network = dataclasses.field(default_factory=outermost_network)
    tuned_gain: np.ndarray | None = None
    shape_in: tuple[int, ...] | None = None
    listed: dataclasses.InitVar[bool] = True

    def __post_init__(self, listed: bool) -> None:
        """Let the network's other layers find this one."""
        if listed:
            self.network.__dict__.setdefault("nengonet_layers", {})[owner(self.output)] = self

    def __repr__(self) -> str:
        """Show label and shape; the weights would fill the screen."""
        return f"<Layer {self.label!r}, shape {self.shape}>"

    def _repr_html_(self) -> str:
        from nengonet.layers.drawing import draw_layer

        return html.display(html.card(f"Layer {self.label!r}, and what feeds it", draw_layer(self)))

    @property
    def size(self) -> int:
        """Number of neurons, or of outputs where there are none."""
        return math.prod(self.shape)

    @property
    def neuron_type(self) -> NeuronType | None:
        """The neurons' type as it is now; None without neurons."""
        return None if self.ensemble is None else self.ensemble.neuron_type

    @property
    def connections(self) -> list[nengo.Connection]:
        """The connections that feed the layer now, in the network's order."""
        return Graph(self.network).into(owner(self.output))

    @property
    def connection(self) -> nengo.Connection | None:
        """The first connection that feeds the layer now; None for inputs."""
        return next(iter(self.connections), None)

    @property
    def amplitude(self) -> float | None:
        """Area of one spike as it is now; None where the layer does not spike."""
        return Graph(self.network).spike_area(owner(self.output))

    @property
    def spiking(self) -> bool:
        """Whether the output is spikes."""
        return self.amplitude is not None

    @property
    def tuned(self) -> bool:
        """Whether the gain still is the one that ``max_rates`` and ``intercepts`` gave."""
        return self.tuned_gain is not None and np.array_equal(self.ensemble.gain, self.tuned_gain)

    @property
    def neurons(self) -> Neurons:
        """``ensemble.neurons``, to connect and to probe; an error if the layer is a Node."""
        if self.ensemble is None:
            raise InputError(
                f"{self.label}: expected a layer with neurons, got a Node; use layer.output, which "
                "is either the neurons or the Node"
            )
        return self.ensemble.neurons

    @property
    def output(self) -> Neurons | nengo.Node:
        """The object to connect from and to probe: ``ensemble.neurons`` or the node."""
        return self.node if self.ensemble is None else self.ensemble.neurons

    def upstream(self) -> list[Layer]:
        """Return this layer and all layers upstream, each after the layers that feed it."""
        return layers_of(self, self.network)

    @property
    def pres(self) -> tuple[Layer, ...]:
        """The layers that feed this one now, in the order of the network's connections.

        Plain Nengo Ensembles and Nodes count as layers too.
        """
        feeding = dict.fromkeys(owner(each.pre_obj) for each in self.connections)
        layers = layers_of([self, *feeding], self.network)
        known = {owner(layer.output): layer for layer in layers}
        return tuple(known[item] for item in feeding)

    @property
    def pre(self) -> Layer | None:
        """The only layer that feeds this one now; None for inputs, an error if several do."""
        pres = self.pres
        if len(pres) > 1:
            raise InputError(
                f"{self.label}: expected one layer that feeds it, got "
                f"{', '.join(layer.label for layer in pres)}; use pres"
            )
        return pres[0] if pres else None

    def show(self, image: ArrayLike, example: int = 0, seed: int = 0) -> None:
        """Show an image to the image input that feeds the layer, from the next reset on.

        Parameters
        ----------
        image : array_like
            The image, in the input's shape or flat. uint8 is divided by 255.
        example : int
            The example's number, which chooses its random stream.
        seed : int
        """
        example = positive_integer("example", example, at_least=0)
        image_input(self).output.show(image, example=example, seed=as_seed(seed))


Layers = Layer | Sequence[Layer]
SynapseLike = Synapse | float | None
_ALL = slice(None)


def as_layers(pre: object) -> list[Layer]:
    """Return one layer, or several of one shape, as a list, checked."""
    layers = listed_layers(pre)
    if len({layer.shape for layer in layers}) > 1:
        raise InputError(
            "pre: expected layers of one shape, whose sum is taken, got "
            + ", ".join(f"{layer.label} {layer.shape}" for layer in layers)
        )
    return layers


def listed_layers(pre: object) -> list[Layer]:
    """Return one layer, or several of any shapes, as a list, checked."""
    layers = list(pre) if isinstance(pre, list | tuple) else [pre]
    if not layers:
        raise InputError("pre: expected a Layer, or a list of them, got an empty list")
    return [checked_layer(layer, "pre") for layer in layers]


def _connect(given: object) -> str:
    """Return how to connect one of Nengo's own objects, as it is not a layer."""
    plain = isinstance(given, nengo.Ensemble | nengo.Node | nengo.ensemble.Neurons)
    return "; connect it with nengo.Connection(…, synapse=None)" if plain else ""


def checked_layer(layer: object, name: str) -> Layer:
    """Return a layer, or refuse anything else."""
    if not isinstance(layer, Layer):
        raise InputError(
            f"{name}: expected a Layer, such as nengonet.dense returns, got {described(layer)}"
            f"{_connect(layer)}"
        )
    return layer


def _check_reached(pre: Layer, network: nengo.Network) -> None:
    """Refuse a layer of another network, which no simulation of this one would have."""
    own = pre.network
    inside = own is network or network in own.all_networks or own in network.all_networks
    if not inside:
        raise InputError(
            f"pre: expected layers of the network that is being built, got {pre.label} of another "
            "one; build both inside the same `with nengo.Network():`"
        )


def new_label(label: str | None, default: str, before: Sequence[Layer] = ()) -> str:
    """Return the label of a layer that is being added: the one given, or a numbered default."""
    network = outermost_network()
    if network is None:
        raise InputError(
            f"{default if label is None else label}: expected a call inside `with nengo.Network():`"
            ", got one outside; the layer is added to that network"
        )
    for pre in before:
        _check_reached(pre, network)
    taken = _labels(layer for pre in before for layer in pre.upstream())
    if label is None:
        used = {item.label for item in (*network.all_ensembles, *network.all_nodes)}
        numbered = (f"{default}_{number}" for number in itertools.count(1))
        return next(name for name in itertools.chain([default], numbered) if name not in used)
    if not isinstance(label, str) or not label:
        raise InputError(f"label: expected a name, got {quoted(label)}")
    if label in taken:
        raise InputError(
            f"{label}: expected a label that no layer has yet, got one of these: "
            f"{', '.join(taken)}; pass another one as label="
        )
    return label


def neuron_layer(
    pre: Layers, neuron_type: NeuronType, gain: np.ndarray, bias: np.ndarray, **of_layer: object
) -> Layer:
    """Add an Ensemble and a Connection from every layer before; nothing is left to Nengo."""
    ensemble = nengo.Ensemble(
        len(gain),
        dimensions=1,
        # Encoders have no effect: connections go to the neurons only, not to the ensemble.
        encoders=nengo.dists.Choice([[1.0]]),
        neuron_type=neuron_type,
        gain=gain,
        bias=bias,
        label=of_layer["label"],
    )
    return _connected(pre, ensemble=ensemble, **of_layer)


def node_layer(
    pre: Layers, output: object, transform: Transform | None = None, **of_layer: object
) -> Layer:
    """Add a Node that runs ``output``, and a Connection from every layer before.

    By default the connections have no transform, and the Node's input is their sum.

    Parameters
    ----------
    pre : Layer or list of Layer
        The Node's input; several layers stand for their sum.
    output : callable or Process
        What the Node runs, as ``nengo.Node`` takes it.
    transform : nengo transform, optional
        Transform of every connection. By default ``output`` takes the input as it is.
    **of_layer
        The layer's ``label`` and ``shape``, and the connections' ``synapse``.

    Examples
    --------
    >>> from nengonet.layers.record import node_layer
    >>> def halve(t, x):
    ...     return x / 2
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((3,))
    ...     half = node_layer(pixels, halve, label="half", shape=(3,))
    >>> half
    <Layer 'half', shape (3,)>
    """
    size_in = as_layers(pre)[0].size if transform is None else transform.size_out
    node = nengo.Node(output, size_in=size_in, label=of_layer["label"])
    return _connected(pre, transform, node=node, **of_layer)


def _connected(
    pre: Layers,
    transform: Transform | None = None,
    synapse: SynapseLike = None,
    **of_layer: object,
) -> Layer:
    layer = Layer(**of_layer)
    if synapse is not None and not isinstance(synapse, Synapse):
        words = "None, a Nengo synapse or a time constant in seconds"
        synapse = as_number(f"{layer.label}: synapse", synapse, words, at_least=0)
    for each in as_layers(pre):
        connect(each, layer, transform=transform, synapse=synapse)
    return layer


def connect(
    pre: Layer,
    layer: Layer,
    places: slice | list[int] = _ALL,
    transform: Transform | None = None,
    synapse: SynapseLike = None,
) -> None:
    """Add the Connection from a layer to another, or to places of it."""
    nengo.Connection(
        pre.output,
        layer.output if places == _ALL else layer.output[places],
        transform=nengo.transforms.NoTransform(pre.size) if transform is None else transform,
        synapse=synapse,
        solver=NoSolver(),
        label=f"{pre.label} -> {layer.label}",
    )


def image_input(layer: Layer) -> nengo.Node:
    """Return the Node that shows images: the only one in the network, or the only one upstream."""
    found = [node for node in layer.network.all_nodes if hasattr(node.output, "show")]
    if len(found) > 1:
        upstream = {*Graph(layer.network).upstream(owner(layer.output))[0]}
        found = [node for node in found if node in upstream] or found
    if len(found) != 1:
        raise InputError(
            "expected one image input in the network, as constant_input and poisson_input add it, "
            f"got {', '.join(map(str, found)) or 'none'}; MinibatchSimulator takes several"
        )
    return found[0]


def known_layers(output: object, network: nengo.Network) -> dict[object, Layer]:
    """Return the records of a network's layers by Ensemble or Node; an output stays as given."""
    known = dict(network.__dict__.get("nengonet_layers", {}))
    for each in output if isinstance(output, list | tuple) else [output]:
        if isinstance(each, Layer):
            known |= each.network.__dict__.get("nengonet_layers", {}) | {owner(each.output): each}
    return known


def labels_of(network: nengo.Network, layers: Mapping[object, Layer]) -> dict[object, str]:
    """Return a distinct label for every Ensemble and Node: the layer's, the object's, or a number.

    Objects that share a label are distinguished by the label of their network, or by a number.
    """
    found, taken = {}, {layer.label for layer in layers.values()}
    homes = {item: each for each in network.all_networks for item in (*each.ensembles, *each.nodes)}
    for kind, items in (("ensemble", network.all_ensembles), ("node", network.all_nodes)):
        for place, item in enumerate(items):
            if item in layers:
                found[item] = layers[item].label
                continue
            label = item.label or f"{kind} {place}"
            home = homes[item].label if item in homes else None
            if label in taken and home:
                label = f"{home}.{label}"
            numbered = (f"{label} {number}" for number in itertools.count(2))
            names = itertools.chain([label], numbered)
            found[item] = next(each for each in names if each not in taken)
            taken.add(found[item])
    return found


def layers_of(output: object, network: nengo.Network) -> list[Layer]:
    """Return the layers on the way to a network's output, each after the layers that feed it.

    The output is a layer, an Ensemble, a Node, or several of these.
    """
    graph, known = Graph(network), known_layers(output, network)
    items = output if isinstance(output, list | tuple) else [output]
    items = [owner(each.output if isinstance(each, Layer) else each) for each in items]
    labels, found = labels_of(network, known), []
    for item in graph.upstream(*items)[0]:
        neurons = isinstance(item, nengo.Ensemble) and model_of(item.neuron_type).has_neurons
        weighted = any(has_weights(each) for each in graph.into(item))
        spikes = item.size_in == 0 and graph.spike_area(item) is not None
        if item not in known and (neurons or weighted or spikes or item in items):
            # An object that no builder made.
            of = {"ensemble" if isinstance(item, nengo.Ensemble) else "node": item}
            known[item] = Layer(labels[item], (size_of(item),), **of, network=network, listed=False)
        found += [known[item]] if item in known else []
    return found


def _labels(layers: Iterable[Layer]) -> list[str]:
    """Return the labels of some layers; refuse two layers with the same label."""
    by_label: dict[str, object] = {}
    for layer in layers:
        if by_label.setdefault(layer.label, owner(layer.output)) is not owner(layer.output):
            raise InputError(
                f"{layer.label}: expected different labels for layers that meet, got this one "
                "twice; pass another one as label="
            )
    return list(by_label)
