"""Predict the rates of every layer without a simulation, from the Nengo objects themselves.

Works on networks made with nengonet's builders and on plain Nengo, as long as they are fed forward
through ``.neurons`` connections only; the first object that cannot be predicted is named.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping

import nengo
import numpy as np
from nengo.builder.ensemble import get_gain_bias
from nengo.dists import Choice, Distribution
from nengo.exceptions import NengoException
from nengo.neurons import NeuronType

from nengonet.ann.kinds import named
from nengonet.checks import as_number, count_steps
from nengonet.exceptions import InputError
from nengonet.layers.ann import Ann
from nengonet.layers.filters import Filter, filter_of, noise_of
from nengonet.layers.graph import Graph, Item, owner
from nengonet.layers.inputs import images_by_node
from nengonet.layers.protocol import known
from nengonet.layers.record import labels_of
from nengonet.layers.targets import Output, Target, read_output
from nengonet.layers.transforms import Weights
from nengonet.neurons import model_of

Images = np.ndarray | Mapping[nengo.Node, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class LayerPrediction:
    """What one layer is predicted to do, image by image."""

    item: Item | None
    label: str
    drive: np.ndarray
    current: np.ndarray
    deviation: np.ndarray
    rates: np.ndarray
    mean_outputs: np.ndarray
    variance: np.ndarray
    amplitude: float
    spiking: bool
    delay: float
    neuron_type: NeuronType | None = None
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None

    def filtered_variance(self, after: Filter, dt: float) -> np.ndarray:
        """Return the variance of the output behind a filter."""
        if self.neuron_type is None:
            return after.power * self.variance
        model = model_of(self.neuron_type)
        now = (self.rates, self.current, self.deviation, dt)
        return model.amplitude**2 * model.filtered_variance(*now, after.gain, after.power)


def predict_rates(
    output: Output,
    images: Images,
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
        The layer to predict, a slice of it, or a list of these, one after the other.
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
    settings = {"network": network, "dt": dt, "presentation_time": presentation_time}
    return predict(output, images, noise=noise, **settings)[-1].rates


def predict(
    output: Output,
    images: Images,
    *,
    network: nengo.Network | None = None,
    dt: float = 0.001,
    presentation_time: float | None = None,
    noise: bool = False,
    lines: bool = False,
) -> list[LayerPrediction]:
    """Predict every layer that the output depends on, from the inputs to the output.

    Parameters and errors are those of `predict_rates`. With ``lines``, the LIF types have a
    rectified line, ``max(0, J - 1) / tau_rc``, for their curve: what is left of them without
    refractory time and without the bend at the threshold.
    """
    target = read_output(output, network)
    network = target.network
    graph, labels = Graph(network), labels_of(network, target.layers)
    dt = as_number("dt", dt, "a time in seconds", above=0)
    if presentation_time is not None:
        count_steps(presentation_time, dt)
    order, recurrent = graph.upstream(*target.items)
    images = _shown(images, order, network)
    for item in recurrent:
        raise InputError(f"{item}: cannot predict a recurrent connection")
    time, found = {"dt": dt, "presentation_time": presentation_time}, {}
    for item in order:
        with named(item):
            tuning = _gain_bias(item) if isinstance(item, nengo.Ensemble) else None
        came_in = _drive_of(item, graph, found, len(next(iter(images.values()))), dt)
        with named(item):
            if tuning is not None:
                now = _ensemble(item, *tuning, *came_in, time, noise, lines)
            else:
                now = _node(item, *came_in, images, dt, graph.spike_area(item))
        found[item] = LayerPrediction(item, labels[item], **now)
    return [*found.values(), *_joined(target, found)]


def _joined(target: Target, found: Mapping[Item, LayerPrediction]) -> list[LayerPrediction]:
    """Return what a slice or a list puts out: as a Node would that passes it on."""
    if target.item is not None:
        return []
    kinds = ("mean_outputs", "variance", "deviation", "rates")
    taken = {
        kind: target.take({item: getattr(found[item], kind) for item in target.items})
        for kind in kinds
    }
    area = target.amplitude
    return [
        LayerPrediction(
            item=None,
            label=target.label,
            drive=taken["mean_outputs"],
            current=taken["mean_outputs"],
            amplitude=area or 1.0,
            spiking=area is not None,
            delay=max(found[item].delay for item in target.items),
            **taken,
        )
    ]


def keras_activations(
    output: Output, images: Images, network: nengo.Network | None = None
) -> dict[str, np.ndarray]:
    """Compute what the ANN computes that a network stands for.

    It has the weights that the layers were built from, the activations that their file or else
    their neurons give, and the sums and pools of the network.
    """
    target = read_output(output, network)
    by_item = {item: _activations(item, images, target) for item in target.items}
    if target.item is not None:
        return by_item[target.item]
    last = target.take({item: list(found.values())[-1] for item, found in by_item.items()})
    return {k: v for found in by_item.values() for k, v in found.items()} | {target.label: last}


def _activations(item: Item, images: Images, target: Target) -> dict[str, np.ndarray]:
    ann = Ann(target.layers.get(item, item), target.network)
    return ann.activations(_shown(images, ann.order, target.network))


def _shown(images: Images, order: list[Item], network: nengo.Network) -> dict:
    """Return what each input shows, one row for each image."""
    upstream = [item for item in order if isinstance(item, nengo.Node)]
    return images_by_node(images, upstream, network.all_nodes)


def _drive_of(
    item: Item, graph: Graph, found: dict[Item, LayerPrediction], n_images: int, dt: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return mean, variance and delay of what comes in."""
    size = item.n_neurons if isinstance(item, nengo.Ensemble) else item.size_in
    mean, variance = np.zeros((2, n_images, size))
    delay = 0.0
    for connection in graph.into(item):
        pre, weights = found[owner(connection.pre_obj)], Weights(connection)
        with named(connection):
            after = filter_of(connection.synapse, dt)
        mean += after.gain * weights.apply(pre.mean_outputs)
        variance += weights.apply(pre.filtered_variance(after, dt), power=2)
        delay = max(delay, pre.delay + after.delay)
    return mean, variance, delay


def _node(node, drive, variance, delay, images, dt, spike_area) -> dict:
    moments = known(node.output, "moments")
    if node.size_in == 0:
        drive = _given(node, images, len(drive), moments)
        variance = np.zeros(drive.shape)
    elif moments is None and node.output is not None:
        raise InputError("cannot predict a Node with a function of its own")
    mean, late = drive, 0.0
    if moments is not None:
        mean, variance, late = moments(drive, variance, dt)
    return {
        "drive": drive,
        "current": mean,
        "deviation": np.sqrt(variance),
        "rates": mean / (spike_area or 1.0),
        "mean_outputs": mean,
        "variance": variance,
        "amplitude": spike_area or 1.0,
        "spiking": spike_area is not None,
        "delay": delay + late,
    }


def _given(node, images, n_images: int, moments) -> np.ndarray:
    """Return what a Node without an input shows or puts out."""
    if node in images:
        return images[node]
    if isinstance(node.output, np.ndarray):
        return np.broadcast_to(node.output, (n_images, node.size_out))
    if moments is not None:
        raise InputError("expected its images as well: images={node: array}")
    kind = "Process" if isinstance(node.output, nengo.Process) else "function"
    raise InputError(
        f"cannot predict a Node that runs a {kind} of its own; say what it puts out: "
        "images={node: (n_images, size_out) array}"
    )


def _ensemble(ensemble, gain, bias, drive, variance, delay, time, noise, lines) -> dict:
    model, dt = model_of(ensemble.neuron_type), time["dt"]
    mean, own = (0.0, 0.0) if ensemble.noise is None else noise_of(ensemble.noise, dt)
    current = gain * drive + bias + mean
    deviation = np.sqrt(gain**2 * variance + own)
    if lines:
        rates = model.line(current)
    else:
        rates = model.rates(current, deviation if noise else None, **time)
    return {
        "neuron_type": ensemble.neuron_type,
        "gain": gain,
        "bias": bias,
        "drive": drive,
        "current": current,
        "deviation": deviation,
        "rates": rates,
        "mean_outputs": model.amplitude * rates,
        "variance": model.amplitude**2 * model.variance(rates, current, deviation, dt),
        "amplitude": model.amplitude,
        "spiking": model.spiking,
        "delay": delay,
    }


def _gain_bias(ensemble: nengo.Ensemble) -> tuple[np.ndarray, np.ndarray]:
    """Return gain and bias as Nengo's builder computes them."""
    if not model_of(ensemble.neuron_type).has_neurons:
        raise InputError("cannot predict Direct mode, which has no neurons")
    names = ("gain", "bias") if ensemble.gain is not None else ("max_rates", "intercepts")
    for name in names:
        value = getattr(ensemble, name)
        alike = isinstance(value, Choice) and len(value.options) == 1
        if isinstance(value, Distribution) and not alike:
            raise InputError(
                f"cannot predict {name}={value}, which the build draws at random; "
                "state one value for each neuron"
            )
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            gain, bias, *_ = get_gain_bias(ensemble, np.random.RandomState(0))
    except (NengoException, NotImplementedError) as error:
        raise InputError(f"Nengo cannot build it: {error}") from None
    return gain, bias
