"""Predict the rates of every layer without a simulation, from the Nengo objects themselves.

This works on networks made with nengonet's builders and on plain Nengo: connections between
neurons, through encoders and decoders. An error names the first object that cannot be predicted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

import nengo
import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from nengo.neurons import NeuronType
from numpy.typing import ArrayLike

from nengonet.ann.kinds import named
from nengonet.checks import as_number, check_finite, count_steps, positive_integer, short_repr
from nengonet.exceptions import InputError
from nengonet.explain.built import Built
from nengonet.explain.fixed_points import FixedPoint, joined
from nengonet.explain.paths import Path, is_direct, size_of
from nengonet.explain.resting import Resting
from nengonet.layers.ann import Ann
from nengonet.layers.filters import Filter, noise_of
from nengonet.layers.graph import Graph, Item, owner
from nengonet.layers.inputs import images_by_node
from nengonet.layers.protocol import known
from nengonet.layers.record import labels_of
from nengonet.layers.targets import Output, Target, read_output
from nengonet.neurons import model_of

Images: TypeAlias = ArrayLike | Mapping[nengo.Node, ArrayLike]


@dataclasses.dataclass(frozen=True, eq=False)
class LayerPrediction:
    """The prediction of one layer, image by image."""

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
    encoded: bool = False
    loop: FixedPoint | None = None

    __repr__ = short_repr

    def at(self, point: FixedPoint) -> LayerPrediction:
        """Return the prediction with the fixed point of its loop."""
        return dataclasses.replace(self, loop=point)

    def filtered_variance(self, after: Filter, dt: float) -> np.ndarray:
        """Return the variance of the output after a filter."""
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
    seed: int | None = None,
) -> np.ndarray:
    """Predict the rate of every neuron of a layer for every image, without a simulation.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons or nengo.Node
        The layer to predict, a slice of it, or a list of these, one after the other.
    images : (n_images, ...) array_like, or dict
        The images that the input shows. For plain Nengo, the output of the input Node. For several
        inputs, give a dict ``{node: (n_images, size_out) array_like}``.
    network : nengo.Network, optional
        The network that is simulated. Needed for plain Nengo objects; a `Layer` knows its own.
    dt : float, in seconds
        Step of the simulation to predict. It matters for ``noise``, and for ``LIF`` and similar
        types, which spike at most once per step.
    presentation_time : float, in seconds, optional
        Average adapting neurons over this time from the reset state. By default they have the rate
        after adaptation.
    noise : bool
        Include the effect of noisy currents on neurons that rectify or clip (see
        `nengonet.neurons`). Without it, each neuron has the rate of its mean current. Inputs
        through different connections are taken as independent, in loops as well.
    seed : int, optional
        Seed for the build of a network that has none, as for `present`. The build draws encoders
        and tuning, and decoders follow from them.

    Returns
    -------
    rates : (n_images, n_neurons) ndarray, in Hz
        For layers that do not spike, these are output divided by amplitude. In a loop of
        connections, they are the rates at which it comes to rest from the reset state: see
        `fixed_point`.

    Raises
    ------
    InputError
        The network has an object that cannot be predicted, or a loop without a stable rest; the
        message names it.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> nn.predict_rates(layer, images).round(1)
    array([[ 54.9, 142.3, 215.7]])
    """
    settings = {"network": network, "dt": dt, "presentation_time": presentation_time}
    layers = predict(output, images, noise=noise, seed=seed, **settings)
    for layer in layers:
        trouble = None if layer.loop is None else layer.loop.trouble()
        if trouble is not None:
            raise InputError(f"{trouble}; nengonet.fixed_point returns what was found")
    return layers[-1].rates


def fixed_point(
    output: Output,
    images: Images,
    *,
    network: nengo.Network | None = None,
    dt: float = 0.001,
    presentation_time: float | None = None,
    noise: bool = False,
    seed: int | None = None,
    n_starts: int = 8,
) -> FixedPoint:
    """Find the rates at which the loops of a network rest, and whether they stay there.

    Parameters
    ----------
    output, images, network, dt, presentation_time, noise, seed
        As for `predict_rates`. All loops that the output depends on are examined.
    n_starts : int
        Number of starts to try besides the reset state. Each is a random input for a moment.

    Returns
    -------
    FixedPoint

    Raises
    ------
    InputError
        The output depends on no loop, or the network has something that cannot be predicted.

    Notes
    -----
    The rates are those of a mean field: every neuron has the rate of its mean current, which
    depends on the rates of the others. The fixed point is found by a damped iteration from rates of
    0, in which every synapse moves as fast as its time constant allows (with the inputs at their
    values from the start). A spiking network fluctuates around it. If there are several fixed
    points, noise can select another one. Neurons that spike in synchrony can have other rates than
    those of the mean field. Adaptation, which is slower, is taken as complete, and its effect on
    stability is left out.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((1,))
    ...     layer = nn.dense(pixels, [[1.0]], nengo.LIF(), gain=5.0, bias=1.0, label="layer")
    ...     neurons = layer.ensemble.neurons
    ...     loop = nengo.Connection(neurons, neurons, transform=-0.002, synapse=0.05)
    >>> point = nn.fixed_point(layer, [[1.0]])
    >>> point.converged.tolist(), point.stable.tolist()
    ([True], [True])
    >>> point.rates["layer"].round(1).tolist()  # Hz
    [[143.9]]
    """
    n_starts = positive_integer("n_starts", n_starts, at_least=0)
    settings = {"network": network, "dt": dt, "presentation_time": presentation_time}
    layers = predict(output, images, noise=noise, seed=seed, n_starts=n_starts, **settings)
    loops = {id(layer.loop): layer.loop for layer in layers if layer.loop is not None}
    if not loops:
        raise InputError(
            f"{layers[-1].label}: expected an output that depends on a loop of connections, got "
            "one that is fed forward; predict_rates predicts it"
        )
    return joined(list(loops.values()))


def predict(
    output: Output,
    images: Images,
    *,
    network: nengo.Network | None = None,
    dt: float = 0.001,
    presentation_time: float | None = None,
    noise: bool = False,
    lines: bool = False,
    seed: int | None = None,
    n_starts: int = 0,
    n_tried: int | None = None,
    built: Built | None = None,
) -> list[LayerPrediction]:
    """Predict every layer that the output depends on, from the inputs to the output.

    Parameters and errors are those of `predict_rates`, except that a loop that does not come to
    rest is stated in `LayerPrediction.loop`. With ``lines``, the curve of the LIF types is the
    rectified line ``max(0, J - 1) / tau_rc``, which has neither a refractory time nor the bend at
    the threshold. Other starts are tried for the first ``n_tried`` images, by default all.
    ``built`` holds what an earlier prediction of the same network has built.
    """
    target = read_output(output, network)
    network = target.network
    graph, labels = Graph(network), labels_of(network, target.layers)
    dt = as_number("dt", dt, "a time in seconds", above=0)
    if presentation_time is not None:
        count_steps(presentation_time, dt)
    order, recurrent = graph.upstream(*target.items)
    images = _shown(images, order, network)
    walk = Walk(
        graph=graph,
        built=Built(network, seed, dt) if built is None else built,
        images=images,
        n_images=len(next(iter(images.values()))),
        dt=dt,
        presentation_time=presentation_time,
        noise=noise,
        lines=lines,
        labels=labels,
    )
    for part in _parts(graph, order) if recurrent else [[item] for item in order]:
        if len(part) > 1 or part[0] in recurrent:
            Resting(walk, part).predict(n_starts, n_tried)
        else:
            walk.predict(part[0])
    found = {item: walk.found[item] for item in order}
    return [*found.values(), *_joined(target, found)]


def _parts(graph: Graph, order: list[Item]) -> list[list[Item]]:
    """Return groups of objects that feed each other, each after the groups that feed it."""
    at = {item: k for k, item in enumerate(order)}
    pairs = [(at[owner(each.pre_obj)], at[item]) for item in order for each in graph.into(item)]
    ones, ends = np.ones(len(pairs)), np.transpose(pairs)
    matrix = scipy.sparse.coo_array((ones, ends), (len(order),) * 2)
    _, names = scipy.sparse.csgraph.connected_components(matrix, connection="strong")
    parts: dict[int, list[Item]] = {}
    for item, name in zip(order, names, strict=True):
        parts.setdefault(name, []).append(item)
    return sorted(parts.values(), key=lambda part: at[part[-1]])


def _joined(target: Target, found: Mapping[Item, LayerPrediction]) -> list[LayerPrediction]:
    """Return the output of a slice or a list, as of a Node that passes it on."""
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
    """Compute the activations of the ANN that corresponds to a network.

    Its weights are those that the layers were built from, its activations those of their file or
    else of their neurons; its sums and pools are those of the network.
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


@dataclasses.dataclass(frozen=True, eq=False)
class Walk:
    """One prediction, on its way from the inputs to the output."""

    graph: Graph
    built: Built
    images: dict[nengo.Node, np.ndarray]
    n_images: int
    dt: float
    presentation_time: float | None
    noise: bool
    lines: bool
    labels: Mapping[Item, str]
    found: dict[Item, LayerPrediction] = dataclasses.field(default_factory=dict)

    def predict(self, item: Item) -> None:
        """Predict an object whose inputs are predicted."""
        tuning = self.tuning(item)
        paths = self.paths(item)
        self.found[item] = self.layer(item, tuning, paths, *self.comes_in(item, paths))

    def tuning(self, item: Item) -> tuple[np.ndarray, np.ndarray] | None:
        """Return gain and bias; None without neurons."""
        if isinstance(item, nengo.Node) or is_direct(item):
            return None
        with named(item):
            return self.built.tuning(item)

    def paths(self, item: Item) -> list[Path]:
        """Return the connections that feed an object."""
        return [Path(each, self.built, self.dt) for each in self.graph.into(item)]

    def comes_in(self, item: Item, paths: list[Path]) -> tuple[np.ndarray, np.ndarray, float]:
        """Return mean, variance and delay of an object's input from predicted objects."""
        mean, variance = np.zeros((2, self.n_images, size_of(item)))
        delay = 0.0
        for path in paths:
            pre, after = self.found[path.pre], path.filter
            deviation = np.sqrt(pre.variance) if self.noise else None
            carried = path.carried(pre.mean_outputs, deviation)
            if path.connection.function is not None:  # of which Nengo refuses what is not finite
                check_finite(f"{path.connection}", carried)
            mean += path.into(after.gain * carried)
            variance += path.variance(pre.mean_outputs, pre.filtered_variance(after, self.dt))
            delay = max(delay, pre.delay + after.delay)
        return mean, variance, delay

    def layer(self, item, tuning, paths, mean, variance, delay, rates=None) -> LayerPrediction:
        """Return the prediction of an object from its input."""
        with named(item):
            if tuning is not None:
                settings = (self.dt, self.presentation_time, self.noise, self.lines)
                now = _ensemble(item, *tuning, mean, variance, delay, settings, rates)
                now["encoded"] = any(path.encoded for path in paths)
            elif isinstance(item, nengo.Ensemble):
                now = _direct(item, mean, variance, delay, self.dt)
            else:
                area = self.graph.spike_area(item)
                now = _node(item, mean, variance, delay, self.images, self.dt, area)
        return LayerPrediction(item, self.labels[item], **now)


def _node(node, drive, variance, delay, images, dt, spike_area) -> dict:
    moments = known(node.output, "moments")
    if node.size_in == 0:
        drive = _given(node, images, len(drive), moments)
        variance = np.zeros(drive.shape)
    elif moments is None and node.output is not None:
        raise InputError(
            "cannot predict a Node with a function of its own, which takes the time and may keep a "
            "state; put a function of the values alone on the connection after it"
        )
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
    """Return what a Node without an input shows or outputs."""
    if node in images:
        return images[node]
    if isinstance(node.output, np.ndarray):
        return np.broadcast_to(node.output, (n_images, node.size_out))
    if moments is not None:
        raise InputError("expected its images too, got none; give images={node: array}")
    kind = "Process" if isinstance(node.output, nengo.Process) else "function"
    raise InputError(
        f"cannot predict a Node that runs a {kind} of its own; give its output: "
        "images={node: (n_images, size_out) array}"
    )


def _direct(ensemble, drive, variance, delay, dt) -> dict:
    """Return the prediction of an Ensemble in Direct mode, which passes its values on."""
    mean, own = (0.0, 0.0) if ensemble.noise is None else noise_of(ensemble.noise, dt)
    return {
        "drive": drive,
        "current": drive + mean,
        "deviation": np.sqrt(variance + own),
        "rates": drive + mean,
        "mean_outputs": drive + mean,
        "variance": variance + own,
        "amplitude": 1.0,
        "spiking": False,
        "delay": delay,
    }


def _ensemble(ensemble, gain, bias, drive, variance, delay, settings, rates=None) -> dict:
    dt, presentation_time, noise, lines = settings
    model = model_of(ensemble.neuron_type)
    mean, own = (0.0, 0.0) if ensemble.noise is None else noise_of(ensemble.noise, dt)
    current = gain * drive + bias + mean
    deviation = np.sqrt(gain**2 * variance + own)
    time = {"dt": dt, "presentation_time": presentation_time}
    if rates is not None:
        pass
    elif lines:
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
