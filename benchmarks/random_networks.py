"""Compare the spike counts of both simulators on random networks, setting by setting.

    python benchmarks/random_networks.py [--networks 40] [--seed 0] [--json FILE]

Every network has its own layers (dense, convolutions, pools, zeros around them, branches that are
summed or joined), neuron types with random parameters and initial states, synapses, transforms,
slices, recurrent connections, noise, processes, Nodes with a state, and a time step. Each runs on
the unmodified ``nengo.Simulator``, example by example, and on the minibatch simulator with 1, 3 and
7 examples, 1 and 2 jobs, with Numba and without, in 64 and 32 bits. Where a voltage meets the
threshold exactly, the order of sums decides. ``--decimal`` makes weights, currents and initial
voltages decimal numbers, so that this happens often.
"""

from __future__ import annotations

import functools
import itertools
import warnings

import nengo
import numpy as np
from comparing import compare, parser_of
from nengo.dists import Choice, Uniform

import nengonet as nn

EXAMPLES, STEPS = 7, 60
MINIBATCHES, JOBS, BITS = (1, 3, 7), (1, 2), (64, 32)


class Delay:
    """A function with a state: it returns its input of some steps ago."""

    def __init__(self, size: int, steps: int) -> None:
        self.past = [np.zeros(size)] * steps

    def __call__(self, t: float, x: np.ndarray) -> np.ndarray:
        """Return the oldest input, and store this one."""
        self.past = [*self.past[1:], x]
        return self.past[0]


def random_type(rng: np.random.Generator, decimal: bool) -> tuple[nengo.neurons.NeuronType, float]:
    """Return a neuron type with random parameters and initial states, and a fitting gain."""

    def state(name: str, low: float, high: float) -> dict:
        kind = rng.integers(4)
        if decimal:
            return {name: Choice([round(float(rng.uniform(max(low, 0), 1)), 1)])}
        if kind == 0:
            return {}
        return {name: [Uniform(low, high), Choice([low]), Choice([high])][kind - 1]}

    voltage = state("voltage", -1.5, 3.0)
    # A LIF voltage beyond the threshold and above its current has no spike time.
    late = state("voltage", -1.5, 1.0) | state("refractory_time", 0, 0.004)
    leak = {
        "tau_rc": float(rng.choice([0.02, 0.005, 0.0013])),
        "tau_ref": float(rng.choice([0.002, 0.0, 0.0003, 0.0025])),
        "amplitude": float(rng.choice([1.0, 0.01])),
    }
    clip = {"min_voltage": float(rng.choice([0, -0.5, -np.inf]))}
    rates = [nengo.RectifiedLinear(), nengo.LIFRate(), nengo.Tanh(), nengo.Sigmoid()]
    base = rates[rng.integers(4)]
    amplitude = leak["amplitude"]
    return [
        lambda: (nengo.LIF(**leak, **clip, initial_state=late), 4.0),
        lambda: (
            nengo.AdaptiveLIF(
                tau_n=0.05,
                inc_n=0.01,
                **leak,
                **clip,
                initial_state=late | state("adaptation", 0.0, 1.0),
            ),
            4.0,
        ),
        lambda: (nengo.SpikingRectifiedLinear(amplitude, initial_state=voltage), 150.0),
        lambda: (nn.IntegrateAndFire(amplitude, **clip, initial_state=voltage), 150.0),
        lambda: (nengo.Izhikevich(), 10.0),
        lambda: (nengo.RegularSpiking(base, amplitude, initial_state=voltage), 4.0),
        lambda: (nengo.StochasticSpiking(base, amplitude), 4.0),
        lambda: (nengo.PoissonSpiking(base, amplitude), 4.0),
        lambda: (base, 4.0),
    ][rng.integers(9)]()


def random_network(seed: int, decimal: bool = False) -> tuple[nengo.Network, nn.Layer, np.ndarray]:
    """Return a network, its last layer and images for it."""
    rng = np.random.default_rng([seed, decimal])

    def numbers(scale: float, *shape: int) -> np.ndarray:
        values = rng.normal(0.3 * scale, scale, shape)
        return np.round(values, 1) if decimal else values

    shape = [(4, 4, 2), (9,), (9, 2)][rng.integers(3)]
    with nengo.Network(seed=seed) as network:
        poisson = rng.integers(2)
        layer = nn.poisson_input(shape, 300.0) if poisson else nn.constant_input(shape)
        strength = 1.0
        for k in range(rng.integers(1, 4)):
            neuron_type, gain = random_type(rng, decimal)
            synapse = [None, None, nengo.Lowpass(0.005), nengo.Alpha(0.004), nengo.Lowpass(0)][
                rng.integers(5)
            ]
            settings = {"gain": gain, "synapse": synapse, "label": f"layer {k}"}
            before, dimensions, weak = layer, len(layer.shape) - 1, 0.3 * strength
            if dimensions and min(layer.shape[:-1]) > 1 and rng.integers(2):
                kernel = numbers(strength, *[2] * dimensions, layer.shape[-1], _pick(rng, 3, 8))
                options = {"padding": "same", "bias": gain / 2}
                if dimensions == 1:
                    options["padding"] = ["same", "causal"][rng.integers(2)]
                    options["dilation_rate"] = _pick(rng, 1, 2)
                convolve = nn.conv1d if dimensions == 1 else nn.conv2d
                layer = convolve(before, kernel, neuron_type, **options, **settings)
            else:
                kernel = numbers(strength, layer.size, _pick(rng, 5, 12, 260))
                bias = numbers(gain, kernel.shape[1])
                layer = nn.dense(before, kernel, neuron_type, bias=bias, **settings)
            # An output of height 1 / dt, or rates, and images in [0, 1].
            strength = 1.0 if layer.amplitude is None else 0.02 / layer.amplitude
            if rng.integers(2):
                layer = _branched(rng, before, layer, numbers, (weak, strength), k)
            if len(layer.shape) > 1 and rng.integers(2):
                layer = _pooled(rng, layer, k)
        layers = [each for each in layer.upstream() if each.ensemble is not None]
        _add_extras(rng, layers)
        if layer.ensemble is None:
            layer = nn.dense(layer, numbers(0.1, layer.size, 4), nn.IntegrateAndFire(), gain=100.0)
    images = rng.uniform(0, 1, (EXAMPLES, *shape))
    return network, layer, np.round(images, 1) if decimal else images


def _pick(rng: np.random.Generator, *choices: int) -> int:
    return int(rng.choice(choices))


def _branched(rng, before, layer, numbers, strengths, k) -> nn.Layer:
    """Add a layer parallel to another, with the same source, and join the two."""
    weak, strength = strengths
    kernel = numbers(weak, before.size, layer.size)
    neurons = [None, nn.IntegrateAndFire(layer.amplitude or 1.0)][rng.integers(2)]
    beside = nn.dense(before, kernel, neurons, gain=150.0, label=f"beside {k}")
    row = nn.flatten(layer)
    join = rng.integers(4)
    if join == 0:
        return nn.add([row, beside], label=f"add {k}")
    if join == 1:
        return nn.concatenate([row, beside, row], label=f"concatenate {k}")
    if join == 2:
        return nn.activation(
            [row, beside], nn.IntegrateAndFire(), gain=100.0 * strength, label=f"activation {k}"
        )
    # The sum of both layers goes through the same weights.
    kernel = numbers(strength, layer.size, 12)
    return nn.dense([row, beside], kernel, nengo.LIF(), gain=4.0, label=f"sum {k}")


def _pooled(rng, layer, k) -> nn.Layer:
    """Add zeros around a layer, or a pool."""
    dimensions = len(layer.shape) - 1
    if rng.integers(3) == 0:
        pad = nn.zero_padding1d if dimensions == 1 else nn.zero_padding2d
        return pad(layer, label=f"zeros {k}")
    average, largest = (
        (nn.avg_pool1d, nn.max_pool1d) if dimensions == 1 else (nn.avg_pool2d, nn.max_pool2d)
    )
    if rng.integers(2):
        return average(layer, label=f"pool {k}")
    return largest(layer, label=f"pool {k}")


def _add_extras(rng: np.random.Generator, layers: list) -> None:
    last = layers[-1]
    weak = 0.002 / (last.amplitude or 1.0)
    if rng.integers(2):  # recurrent
        nengo.Connection(
            last.output,
            last.output,
            transform=rng.normal(0, weak, (last.size, last.size)) / np.sqrt(last.size),
            synapse=0.005,
        )
    if rng.integers(2):  # slices
        nengo.Connection(
            layers[0].output[1:4:2], last.output[[3, 0]], transform=weak, synapse=0.003
        )
    if rng.integers(2):  # a Node with a state
        node = nengo.Node(Delay(3, 4), size_in=3, size_out=3)
        nengo.Connection(layers[0].output[:3], node, synapse=None)
        nengo.Connection(node, last.output[:3], transform=weak, synapse=0)
    if rng.integers(2):
        process = [
            nengo.processes.WhiteSignal(0.1, high=40, rms=0.5),
            nengo.processes.FilteredNoise(nengo.Alpha(0.01), scale=False),
            nengo.processes.PresentInput([[0.1, 0.5], [0.3, -0.2]], 0.01),
        ][rng.integers(3)]
        nengo.Connection(nengo.Node(process, size_out=2), last.output[:2], synapse=None)
    if rng.integers(2):
        last.ensemble.noise = nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, 0.01))
    if rng.integers(2):
        nengo.Probe(layers[0].output)


def compared(seed: int, decimal: bool, settings: list[tuple]) -> list[dict]:
    """Run one network at all settings, and count compared and different values."""
    dt = float(np.random.default_rng([seed, 7]).choice([0.001, 0.001, 0.0005, 0.002]))
    found = []
    for bits, group in itertools.groupby(settings, key=lambda each: each[0]):
        run = {"presentation_time": STEPS * dt, "dt": dt, "precision": bits, "progress": False}
        run["seed"] = seed
        network, output, images = random_network(seed, decimal)
        expected = nn.present(network, output, images, simulator="reference", **run)
        for _, minibatch, jobs in group:
            result = nn.present(
                network, output, images, minibatch_size=minibatch, n_jobs=jobs, **run
            )
            differences = {
                label: int(np.count_nonzero(counts != result.counts[label]))
                for label, counts in expected.counts.items()
            }
            found.append(
                {
                    "network": seed,
                    "decimal": decimal,
                    "bits": bits,
                    "minibatch": minibatch,
                    "jobs": jobs,
                    "compared": sum(counts.size for counts in expected.counts.values()),
                    "spikes": int(sum(np.abs(c).sum() for c in expected.counts.values())),
                    "different": sum(differences.values()),
                    "where": {label: n for label, n in differences.items() if n},
                }
            )
    return found


def run(networks: range, decimal: bool) -> list[dict]:
    """Compare several networks in this process."""
    settings = list(itertools.product(BITS, MINIBATCHES, JOBS))
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in networks:
            found += compared(seed, decimal, settings)
    return found


def main() -> None:
    """Compare some random networks."""
    parser = parser_of(__doc__, networks=40)
    parser.add_argument("--decimal", action="store_true")
    options = parser.parse_args()
    names = ("decimal", "bits", "numba", "minibatch", "jobs")
    compare(options, functools.partial(run, decimal=options.decimal), names)


if __name__ == "__main__":
    main()
