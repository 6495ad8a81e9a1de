"""The networks of the forum's "Effect of amplitude on accuracy", and their measurements.

`build` makes the thread's network at an amplitude, and variants that separate the causes. `cell`
runs such a network once. `channel` is a communication channel with growing spikes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence

import nengo
import numpy as np

import nengonet as nn
from nengonet.ann.kinds import kind_of
from nengonet.ann.scaling import multiplied
from nengonet.checks import as_number, check_among
from nengonet.explain.findings import SATURATED
from nengonet.run.content import file_digest
from nengonet.run.simulators import quiet, reference_simulator
from nengonet.studies import shared
from nengonet.studies.case import Arrays, Data
from nengonet.studies.forum_mnist import mlp_layers

DATA = Data("mnist")
KERNELS = ((3, 3, 1, 32), (3, 3, 32, 64), (3, 3, 64, 128), (3200, 10))
AMPLITUDES = tuple(n / 100 for n in range(1, 51))
TRAINED_AT = 0.01
# The amplitude at which the bundled weights files were trained.
RETRAINED = (0.01, 0.05, 0.1, 0.25, 0.5)
N_STEPS = 30
DT = 0.001
# Images of the MLP that run at once: so few neurons take less time than a reset of them.
_MLP_MINIBATCH = 1000
# The value of a white pixel: the tutorial feeds 0 to 255, and the MLP was trained on [0, 1].
WHITE = {"mlp": 1.0, "cnn": 255.0}
_POISSON_RATE = 255.0
# The thread's tuning: gain 2.033, bias 1. A Choice of one value is that value.
TUNING = {"max_rates": nengo.dists.Choice([100]), "intercepts": nengo.dists.Choice([0])}
KINDS = {
    "fixed": "the weights as they were trained at 0.01",
    "compensated": "kernels that take spikes, times 0.01 / amplitude",
    "linear": "no neurons in the last layer",
    "rate": "LIFRate neurons: no spikes",
    "unclipped": "LIF whose voltage may go below 0",
    "synapse": "a synapse of 5 ms on the spikes",
    "biases": "biases beside spikes, times amplitude / 0.01",
    "retrained": "weights trained at that amplitude",
    "training-1": "weights trained at 0.01 from seed 1",
    "training-2": "weights trained at 0.01 from seed 2",
    "loop": "the same amplitude from many seeds",
}
# The kinds that multiply weights (by 1 at 0.01), and all kinds whose networks differ from the fixed
# one.
_FACTORS = ("compensated", "biases")
_BUILT_OTHERWISE = (*_FACTORS, "linear", "rate", "unclipped", "synapse")
SYNAPSE = 0.005
# The channel's neurons, its input, and its running time.
CHANNEL = {"sender": 100, "receiver": 500, "value": 0.5, "settle": 0.2, "measure": 1.0}


def lif(amplitude: float, kind: str = "fixed") -> nengo.neurons.NeuronType:
    """Return the thread's neurons, with Nengo's own initial voltages given."""
    if kind == "rate":
        return nengo.LIFRate(amplitude=amplitude)
    lowest = -np.inf if kind == "unclipped" else 0.0
    return nengo.LIF(amplitude=amplitude, min_voltage=lowest, initial_state=shared.INITIAL_STATE)


def network_layers(weights: nn.Weights) -> tuple[str, list[nn.LayerWeights]]:
    """Recognise the network in a file by its shapes, and return its layers in order."""
    if all(np.ndim(layer.kernel) != 4 for layer in weights.values()):
        return "mlp", mlp_layers(weights)
    *convolutions, last = shared.layers_of_shapes(weights, KERNELS, "the tutorial's")
    # A plain file of arrays does not contain strides.
    convolutions = [
        dataclasses.replace(layer, config={"strides": [stride, stride]} | layer.config)
        for layer, stride in zip(convolutions, (1, 2, 2), strict=True)
    ]
    return "cnn", [*convolutions, last]


def build(
    layers: Sequence[nn.LayerWeights],
    *,
    amplitude: float = TRAINED_AT,
    kind: str = "fixed",
    poisson: bool = False,
    seed: int = 0,
) -> tuple[nengo.Network, nn.Layer]:
    """Build the thread's network at an amplitude.

    It has constant pixels, and LIF layers with the thread's tuning and no synapse. The CNN's last
    layer is linear, a Node. The MLP's last layer is LIF, as in the forum's own post, and its spikes
    are read out.
    """
    check_among("kind", kind, KINDS)
    larger = as_number("amplitude", amplitude, above=0) / TRAINED_AT
    kernel_factor = 1 / larger if kind == "compensated" else 1.0
    bias_factor = larger if kind == "biases" else 1.0
    name = "cnn" if np.ndim(layers[0].kernel) == 4 else "mlp"
    neurons, synapse = lif(amplitude, kind), SYNAPSE if kind == "synapse" else None
    last, white = None if name == "cnn" or kind == "linear" else neurons, WHITE[name]
    with nengo.Network(seed=seed) as network:
        if poisson:
            layer = nn.poisson_input(DATA.shape, _POISSON_RATE, amplitude=white / _POISSON_RATE)
        else:
            layer = nn.constant_input(DATA.shape, scale=white)
        for index, weights in enumerate(layers):
            own = last if weights is layers[-1] else neurons
            if index:  # what comes in are spikes
                weights = multiplied(weights, kernel_factor, bias_factor)
            filtered = synapse if index else None
            layer = shared.add(layer, weights, own, synapse=filtered, **TUNING)
    return network, layer


def simulate(output: nn.Layer, images: np.ndarray, **running: object) -> nn.Result:
    """Show images as the tutorial does: 30 steps, low-passed outputs (0.1 s), the last one read."""
    settings = {"presentation_time": N_STEPS * DT, "dt": DT, "readout": "filtered"}
    return nn.present(output.network, output, images, progress=False, **settings, **running)


def cell(
    kind: str,
    amplitude: float,
    *,
    files: dict[str, list[str]],
    n_images: int | str,
    poisson: bool,
    precision: int,
    data: str | os.PathLike | None = None,
    seed: int,
) -> dict:
    """Run one network at one amplitude from one seed, as a cell of the sweep."""
    file = f"{amplitude:g}" if kind == "retrained" else kind if kind in files else ""
    built = kind if kind in _BUILT_OTHERWISE else "fixed"
    if amplitude == TRAINED_AT and kind in _FACTORS:
        built = "fixed"
    if kind == "rate" and not poisson:
        seed = 0  # as nothing is drawn
    shown = tuple(files[file]), n_images, data, poisson, precision
    return dict(_outcome(built, amplitude, *shown, seed))


# A process reads a file and the images once for all its cells. It makes a run that several cells
# share only once.


@functools.lru_cache(maxsize=4096)
def _outcome(
    kind: str,
    amplitude: float,
    file: tuple[str, str],
    n_images: int | str,
    data: str | os.PathLike | None,
    poisson: bool,
    precision: int,
    seed: int,
) -> dict:
    """Run a network, and return the values of its cell."""
    layers = read_layers(*file)
    _, output = build(layers, amplitude=amplitude, kind=kind, poisson=poisson, seed=seed)
    images, labels = digits(n_images, data)
    size = None if np.ndim(layers[0].kernel) == 4 else _MLP_MINIBATCH
    running = {"precision": precision, "minibatch_size": size, "keep": [output.label]}
    found = simulate(output, images, seed=seed, **running)
    accuracy = found.accuracy(labels)
    values = {"accuracy": accuracy, "ties": accuracy.ties}
    spikes = [mean for label, mean in found.spikes_per_image().items() if label != "input"]
    return values | ({"spikes": spikes} if spikes else {})


@functools.lru_cache(maxsize=len(RETRAINED) + 3)
def read_layers(path: str, digest: str) -> list[nn.LayerWeights]:
    """Return the layers of a file that has this digest."""
    if file_digest(path) != digest:
        raise nn.InputError(f"{path}: the file was changed while the sweep ran; start it again")
    return network_layers(nn.load_weights(path))[1]


@functools.lru_cache(maxsize=1)
def digits(n_images: int | str, data: str | os.PathLike | None = None) -> Arrays:
    """Return the first test images of MNIST, or of a file of the same kind, and their labels."""
    return DATA.load("test", n_images, data)


# The channel.


def channel(amplitude: float, decoders: str, *, seed: int) -> dict:
    """Send a value from one ensemble to another, and measure what arrives."""
    check_among("decoders", decoders, ("fixed", "solved"))
    value = CHANNEL["value"]
    weights = _decoders(seed, TRAINED_AT if decoders == "fixed" else amplitude)
    with nengo.Network(seed=seed) as network:
        source = nengo.Node(value)
        sender = nengo.Ensemble(CHANNEL["sender"], 1, neuron_type=lif(amplitude), seed=seed)
        # The radius is wide enough for the largest output, so that the receiver does not saturate.
        radius = value * AMPLITUDES[-1] / TRAINED_AT
        receiver = nengo.Ensemble(
            CHANNEL["receiver"], 1, radius=radius, neuron_type=lif(1.0), seed=seed + 1
        )
        nengo.Connection(source, sender, synapse=None)
        nengo.Connection(sender.neurons, receiver, transform=weights, synapse=0.01)
        probe = nengo.Probe(receiver, synapse=0.01)
    settle, measure = (round(CHANNEL[name] / DT) for name in ("settle", "measure"))
    with quiet():
        simulator = nn.MinibatchSimulator(network, 1, dt=DT, seed=seed, progress_bar=False)
    with simulator:
        simulator.run_steps(settle + measure)
        output = simulator.data[probe][0, settle:].mean()
    return {"output": float(output), "decoder": float(np.abs(weights).mean())}


@functools.lru_cache(maxsize=len(AMPLITUDES))
def _decoders(seed: int, amplitude: float) -> np.ndarray:
    """Let Nengo solve for the sender's decoders at an amplitude, (1, n_neurons)."""
    with nengo.Network(seed=seed) as network:
        sender = nengo.Ensemble(CHANNEL["sender"], 1, neuron_type=lif(amplitude), seed=seed)
        connection = nengo.Connection(sender, nengo.Node(size_in=1), seed=seed)
    with reference_simulator(network, DT, seed) as simulator:
        return simulator.data[connection].weights


# Measurements for the figures.


def tuning_counts(drives: Sequence[float]) -> np.ndarray:
    """Count a LIF neuron's spikes in a second, with the thread's tuning and constant drives."""
    with nengo.Network(seed=0) as network:
        kernel = np.array([drives], dtype=float)
        output = nn.dense(nn.constant_input((1,)), kernel, lif(1.0), **TUNING)
    time = {"presentation_time": 1.0, "dt": DT}
    result = nn.present(network, output, np.ones((1, 1)), progress=False, **time)
    return result.counts[output.label][0]


def explain(
    layers: Sequence[nn.LayerWeights],
    images: np.ndarray,
    amplitudes: Sequence[float] = RETRAINED,
    *,
    poisson: bool = False,
    seed: int = 0,
) -> list[dict]:
    """Measure the input of every layer at an amplitude, with fixed weights."""
    rows = []
    for amplitude in amplitudes:
        _, output = build(layers, amplitude=amplitude, poisson=poisson, seed=seed)
        found = simulate(output, images, seed=seed)
        for layer in output.upstream()[2:]:
            before = found.mean_output(layer.pre.label).reshape(-1, *layer.shape_in)
            drive = kind_of(layer.weights).product(layer.weights, before)
            bias = 0.0 if layer.weights.bias is None else _rms(layer.weights.bias)
            row = {"amplitude": amplitude, "layer": layer.label, "drive": _rms(drive), "bias": bias}
            row |= {"rate": None, "saturated": None, "silent": None}
            if layer.ensemble is not None:
                rates = found.rates(layer.label)
                ceiling = 1.0 / layer.ensemble.neuron_type.tau_ref
                row["rate"] = float(rates.mean())
                row["saturated"] = float((rates > SATURATED * ceiling).mean())
                row["silent"] = float((rates == 0).mean())
            rows.append(row)
    return rows


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


# Values from the sweeps.


def accuracies(run: nn.Sweep, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the amplitudes of one kind of cell, and its accuracies (n_amplitudes, n_seeds)."""
    found = _grouped(run, "amplitude", "accuracy", kind=kind)
    amplitudes = sorted(found)
    return np.array(amplitudes), np.array([found[amplitude] for amplitude in amplitudes])


def _grouped(run: nn.Sweep, by: str, value: str, **where: object) -> dict[object, list]:
    """Return one value of the rows that fit ``where``, grouped by another value."""
    found: dict[object, list] = {}
    for row in run.rows:
        if where.items() <= row.items():
            found.setdefault(row[by], []).append(row[value])
    return found


def roughness(curve: np.ndarray) -> float:
    """Return the standard deviation of independent noise on a smooth curve.

    It follows from second differences. In these, a straight line cancels, and the noise has six
    times its variance.
    """
    return float(np.sqrt(np.mean(np.square(np.diff(curve, 2))) / 6))


def channel_slopes(run: nn.Sweep, decoders: str) -> np.ndarray:
    """Fit a line to the channel's output against the amplitude, for every seed."""
    amplitudes, outputs = (
        np.transpose(list(_grouped(run, "seed", name, decoders=decoders).values()))
        for name in ("amplitude", "output")
    )
    return np.polyfit(amplitudes[:, 0] / TRAINED_AT, outputs / CHANNEL["value"], 1)[0]
