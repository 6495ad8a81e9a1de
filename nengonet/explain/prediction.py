"""Predict the rates of every layer without a simulation, from the Nengo objects themselves.

Works on networks made with our builders and on plain Nengo, as long as they are fed forward
through ``.neurons`` connections only; the first object that cannot be predicted is named.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping

import nengo
import numpy as np
from nengo.base import ObjView
from nengo.builder.ensemble import get_gain_bias
from nengo.connection import Neurons
from nengo.dists import Choice, Distribution
from nengo.exceptions import NengoException
from nengo.neurons import NeuronType

from nengonet.checks import as_number, count_steps
from nengonet.exceptions import InputError
from nengonet.layers.ann import Ann
from nengonet.layers.graph import Filter, Graph, Weights, analytic, filter_of, noise_of, owner
from nengonet.layers.inputs import images_by_node
from nengonet.layers.record import Layer, known_layers
from nengonet.neurons import model_of


@dataclasses.dataclass(frozen=True, eq=False)
class LayerPrediction:
    """What one layer is predicted to do, image by image."""

    label: str
    neuron_type: NeuronType | None
    gain: np.ndarray | None
    bias: np.ndarray | None
    drive: np.ndarray
    current: np.ndarray
    deviation: np.ndarray
    rates: np.ndarray
    mean_outputs: np.ndarray
    variance: np.ndarray
    amplitude: float
    spiking: bool
    delay: float
    is_input: bool = False

    def filtered_variance(self, after: Filter, dt: float) -> np.ndarray:
        """Return the variance of the output behind a filter."""
        if self.neuron_type is None:
            return after.power * self.variance
        model = model_of(self.neuron_type)
        now = (self.rates, self.current, self.deviation, dt)
        return model.amplitude**2 * model.filtered_variance(*now, after.gain, after.power)


def predict_rates(
    output: Layer | nengo.Ensemble | Neurons | nengo.Node,
    images: np.ndarray | Mapping[nengo.Node, np.ndarray],
    *,
    network: nengo.Network | None = None,
    dt: float = 0.001,
    presentation_time: float | None = None,
    noise: bool = False,
) -> np.ndarray:
    """Predict the rate of every neuron of a layer for every image, with no simulation.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons or nengo.Node
        The layer to predict, or a slice of it.
    images : (n_images, ...) array_like, or dict
        What the input shows. For plain Nengo, what the input Node puts out; with several inputs a
        dict ``{node: (n_images, size_out) array_like}``.
    network : nengo.Network, optional
        Needed for plain Nengo objects; a `Layer` knows its own.
    dt : float, in seconds
        Of the simulation to be predicted. It matters for ``noise``, and for ``LIF`` and its kin,
        which spike once a step at most.
    presentation_time : float, in seconds, optional
        Average adapting neurons over this time from the reset state. By default their rate once
        they have adapted.
    noise : bool
        Add what noisy currents do to neurons that rectify or clip (see `nengonet.neurons`).
        Without it, each neuron has the rate that its mean current gives. What comes in through
        different connections is taken as independent.

    Returns
    -------
    rates : (n_images, n_neurons) ndarray, in Hz
        For layers that do not spike: output divided by amplitude.

    Raises
    ------
    InputError
        The network has something that cannot be predicted; the message names it.
    """
    whole, chosen = output, slice(None)
    if isinstance(output, ObjView):
        whole, chosen = output.obj, output.slice
    settings = {"network": network, "dt": dt, "presentation_time": presentation_time}
    return predict(whole, images, noise=noise, **settings)[-1].rates[:, chosen]


def predict(
    output: Layer | nengo.Ensemble | Neurons | nengo.Node,
    images: np.ndarray | Mapping[nengo.Node, np.ndarray],
    *,
    network: nengo.Network | None = None,
    dt: float = 0.001,
    presentation_time: float | None = None,
    noise: bool = False,
    lines: bool = False,
) -> list[LayerPrediction]:
    """Predict every layer that the output depends on, from the inputs to the output.

    Parameters and errors are those of `predict_rates`, and one more:

    lines : bool
        Give the LIF types a rectified line, ``max(0, J - 1) / tau_rc``, for their curve: what is
        left of them without refractory time and without the bend at the threshold.
    """
    network = _network_of(output, network)
    graph, target = Graph(network), target_of(output)
    if target not in graph.objects:
        raise InputError(
            f"{target} is not part of the network that was given; expected the one in which it "
            "was built"
        )
    dt = as_number("dt", dt, "a time in seconds", above=0)
    if presentation_time is not None:
        count_steps(presentation_time, dt)
    images = _shown(images, graph.upstream(target)[0], network)
    labels = {item: layer.label for item, layer in known_layers(output, network).items()}
    return _Walk(graph, images, labels, dt, presentation_time, noise, lines).to(target)


def target_of(
    output: Layer | nengo.Ensemble | Neurons | nengo.Node,
) -> nengo.Ensemble | nengo.Node:
    """Return the Ensemble or Node that an output belongs to."""
    target = owner(output.output if isinstance(output, Layer) else output)
    if isinstance(target, (nengo.Ensemble, nengo.Node)) and not isinstance(output, ObjView):
        return target
    raise InputError(f"expected a whole layer, Ensemble or Node to predict, got {output!r}")


def keras_activations(
    output: Layer | nengo.Ensemble | Neurons | nengo.Node,
    images: np.ndarray | Mapping[nengo.Node, np.ndarray],
    network: nengo.Network | None = None,
) -> dict[str, np.ndarray]:
    """Compute what the ANN computes that a network stands for.

    It has the weights that the layers were built from, the activations that their file or else
    their neurons state, and the sums and pools of the network.
    """
    network = _network_of(output, network)
    ann = Ann(output, network)
    return ann.by_label(ann.values(_shown(images, ann.order, network)))


def _shown(images, order, network) -> dict[nengo.Node, np.ndarray]:
    """Return what each input shows, one row for each image."""
    upstream = [item for item in order if isinstance(item, nengo.Node)]
    return images_by_node(images, upstream, network.all_nodes)


def _network_of(output: object, network: nengo.Network | None) -> nengo.Network:
    if network is None:
        if not isinstance(output, Layer):
            raise InputError(f"{output}: expected its network as well: network=…")
        network = output.network
    return network


class _Walk:
    """Follow the connections from the inputs to an object, each object once."""

    def __init__(self, graph, images, labels, dt, presentation_time, noise, lines) -> None:
        self.graph, self.images, self.labels = graph, images, labels
        self.dt, self.presentation_time = dt, presentation_time
        self.noise, self.lines = noise, lines
        self.n_images = len(next(iter(images.values())))
        self.found = {}

    def to(self, target: nengo.Ensemble | nengo.Node) -> list[LayerPrediction]:
        order, recurrent = self.graph.upstream(target)
        for item in recurrent:
            raise InputError(f"{item}: cannot predict a recurrent connection")
        for item in order:
            predicted = self._node if isinstance(item, nengo.Node) else self._ensemble
            self.found[item] = predicted(item)
        return list(self.found.values())

    def _drive(self, item) -> tuple[np.ndarray, np.ndarray, float]:
        size = item.n_neurons if isinstance(item, nengo.Ensemble) else item.size_in
        mean, variance = (np.zeros((self.n_images, size)) for _ in range(2))
        delay = 0.0
        for connection in self.graph.into(item):
            pre, weights = self.found[owner(connection.pre_obj)], Weights(connection)
            with _named(connection):
                after = filter_of(connection.synapse, self.dt)
            mean += after.gain * weights.apply(pre.mean_outputs)
            variance += weights.apply(pre.filtered_variance(after, self.dt), power=2)
            delay = max(delay, pre.delay + after.delay)
        return mean, variance, delay

    def _node(self, node: nengo.Node) -> LayerPrediction:
        drive, variance, delay = self._drive(node)
        if node.size_in == 0:
            drive, mean, variance = self._input(node)
        elif node.output is None:
            mean = drive
        elif analytic(node.output) is not None:
            with _named(node):
                mean, variance, late = node.output.moments(drive, variance, self.dt)
            delay += late
        else:
            raise InputError(f"{node}: cannot predict a Node with a function of its own")
        area = self.graph.spike_area(node)
        amplitude = 1.0 if area is None else area
        return LayerPrediction(
            label=self.labels.get(node, node.label or str(node)),
            neuron_type=None,
            gain=None,
            bias=None,
            drive=drive,
            current=mean,
            deviation=np.sqrt(variance),
            rates=mean / amplitude,
            mean_outputs=mean,
            variance=variance,
            amplitude=amplitude,
            spiking=area is not None,
            delay=delay,
            is_input=node.size_in == 0,
        )

    def _input(self, node: nengo.Node) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        given, process = self.images.get(node), analytic(node.output)
        if given is not None and process is not None:
            return given, process.mean_output(given), process.step_variance(given, self.dt)
        if given is None and isinstance(node.output, np.ndarray):
            given = np.broadcast_to(node.output, (self.n_images, node.size_out))
        if given is not None:
            return given, given, np.zeros(given.shape)
        if process is not None:
            raise InputError(f"{node}: expected its images as well: images={{node: array}}")
        kind = "Process" if isinstance(node.output, nengo.Process) else "function"
        raise InputError(
            f"{node}: cannot predict a Node that runs a {kind} of its own; say what it puts out: "
            "images={node: (n_images, size_out) array}"
        )

    def _ensemble(self, ensemble: nengo.Ensemble) -> LayerPrediction:
        gain, bias = _gain_bias(ensemble)
        drive, variance, delay = self._drive(ensemble)
        neuron_type = ensemble.neuron_type
        with _named(ensemble):
            noise = (0.0, 0.0) if ensemble.noise is None else noise_of(ensemble.noise, self.dt)
        current = gain * drive + bias + noise[0]
        deviation = np.sqrt(gain**2 * variance + noise[1])
        model = model_of(neuron_type)
        time = {"dt": self.dt, "presentation_time": self.presentation_time}
        with _named(ensemble):
            if self.lines:
                rates = model.line(current)
            else:
                rates = model.rates(current, deviation if self.noise else None, **time)
        return LayerPrediction(
            label=self.labels.get(ensemble, ensemble.label or str(ensemble)),
            neuron_type=neuron_type,
            gain=gain,
            bias=bias,
            drive=drive,
            current=current,
            deviation=deviation,
            rates=rates,
            mean_outputs=model.amplitude * rates,
            variance=model.amplitude**2 * model.variance(rates, current, deviation, self.dt),
            amplitude=model.amplitude,
            spiking=model.spiking,
            delay=delay,
        )


@contextlib.contextmanager
def _named(item: object) -> Iterator[None]:
    """Put an object's name in front of an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{item}: {error}") from None


def _gain_bias(ensemble: nengo.Ensemble) -> tuple[np.ndarray, np.ndarray]:
    """Return gain and bias as Nengo's builder computes them."""
    if type(ensemble.neuron_type).step is nengo.Direct.step:
        raise InputError(f"{ensemble}: cannot predict Direct mode, which has no neurons")
    names = ("gain", "bias") if ensemble.gain is not None else ("max_rates", "intercepts")
    for name in names:
        value = getattr(ensemble, name)
        if isinstance(value, Distribution) and not (
            isinstance(value, Choice) and len(value.options) == 1
        ):
            raise InputError(
                f"{ensemble}: cannot predict {name}={value}, which the build draws at random; "
                "state one value for each neuron"
            )
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            gain, bias, *_ = get_gain_bias(ensemble, np.random.RandomState(0))
    except (NengoException, NotImplementedError) as error:
        raise InputError(f"{ensemble}: Nengo cannot build it: {error}") from None
    return gain, bias
