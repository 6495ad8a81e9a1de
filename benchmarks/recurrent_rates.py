"""Compare `nengonet.fixed_point` with long runs of `nengo.Simulator`, for networks with loops.

    python benchmarks/recurrent_rates.py [--time 10] [--random 60] [--seed 1]

There are three networks, with one row for each layer: neurons that inhibit each other, excitation
and inhibition, and a memory held by decoded feedback. ``--random`` adds networks of neurons that
inhibit each other, or feed each other at random. Their weights cover two orders of magnitude, and
their synapses one and a half. It counts the networks whose rates are near to those of a run,
grouped by the fixed point's own verdict. The run's first second is left out.
"""

from __future__ import annotations

import argparse
import collections

import nengo
import numpy as np

import nengonet as nn
from nengonet.explain.fixed_points import COARSE
from nengonet.neurons import model_of
from nengonet.tables import table

COLUMNS = {
    "network": ("network", "s"),
    "layer": ("layer", "s"),
    "mean": ("mean Hz", ".1f"),
    "rms": ("RMS Hz", ".2f"),
    "noisy": ("with noise", ".2f"),
    "share": ("within 5 Hz", ".0%"),
    "converged": ("converged", "s"),
    "stable": ("stable", "s"),
    "settling": ("settles, ms", ".0f"),
    "fluctuation": ("fluctuates", ".0%"),
    "elsewhere": ("other starts", "s"),
}
# Rates this near, as a share of the RMS rate, count as equal to those of the run.
NEAR = 0.1


def lateral(seed: int = 0) -> tuple[nengo.Network, nengo.Node, list[nengo.Ensemble]]:
    """Return 50 LIF neurons that inhibit each other."""
    rng, n = np.random.default_rng(seed), 50
    with nengo.Network(seed=seed) as network:
        node = nengo.Node(rng.uniform(1, 2, n))
        layer = nengo.Ensemble(n, 1, gain=np.full(n, 2.0), bias=np.ones(n), label="layer")
        nengo.Connection(node, layer.neurons, synapse=None)
        transform = -0.001 * (np.ones((n, n)) - np.eye(n))
        nengo.Connection(layer.neurons, layer.neurons, transform=transform, synapse=0.01)
    return network, node, [layer]


def balanced(seed: int = 3) -> tuple[nengo.Network, nengo.Node, list[nengo.Ensemble]]:
    """Return 80 neurons that excite, and 20 neurons of another type that inhibit."""
    rng = np.random.default_rng(seed)
    with nengo.Network(seed=seed) as network:
        node = nengo.Node(rng.uniform(0.3, 1.5, 80))
        excites = nengo.Ensemble(80, 1, gain=np.full(80, 2.0), bias=np.ones(80), label="E")
        inhibits = nengo.Ensemble(
            20, 1, neuron_type=nengo.SpikingRectifiedLinear(), gain=np.full(20, 50.0),
            bias=np.zeros(20), label="I",
        )  # fmt: skip
        nengo.Connection(node, excites.neurons, synapse=None)
        for pre, post, low, high, synapse in (
            (excites, excites, 0, 1.5e-4, 0.01),
            (excites, inhibits, 0, 4e-4, 0.005),
            (inhibits, excites, -2e-3, 0, 0.02),
        ):
            transform = rng.uniform(low, high, (post.n_neurons, pre.n_neurons))
            nengo.Connection(pre.neurons, post.neurons, transform=transform, synapse=synapse)
    return network, node, [excites, inhibits]


def memory(seed: int = 1) -> tuple[nengo.Network, nengo.Node, list[nengo.Ensemble]]:
    """Return 200 LIF neurons that hold two dimensions by decoded feedback of 0.7."""
    with nengo.Network(seed=seed) as network:
        node = nengo.Node([0.5, -0.3])
        layer = nengo.Ensemble(200, 2, label="memory")
        nengo.Connection(node, layer, transform=0.3, synapse=None)
        nengo.Connection(layer, layer, transform=0.7, synapse=0.1)
    return network, node, [layer]


def at_random(rng: np.random.Generator) -> tuple[nengo.Network, nengo.Node, list[nengo.Ensemble]]:
    """Return neurons that inhibit each other, or feed each other by random weights."""
    n, weight = int(rng.integers(10, 60)), 10 ** rng.uniform(-3.7, -1.3)
    weight, rectified = 20 * weight / n, rng.random() < 0.3
    with nengo.Network(seed=int(rng.integers(1000))) as network:
        node = nengo.Node(rng.uniform(10, 60, n) if rectified else rng.uniform(0.5, 2, n))
        layer = nengo.Ensemble(
            n, 1, neuron_type=nengo.SpikingRectifiedLinear() if rectified else nengo.LIF(),
            gain=np.full(n, 1.0 if rectified else 2.0), bias=np.full(n, float(not rectified)),
            label="layer",
        )  # fmt: skip
        nengo.Connection(node, layer.neurons, synapse=None)
        transform = -weight * (np.ones((n, n)) - np.eye(n))
        if rng.random() < 0.4:
            transform = rng.normal(-weight / 2, weight, (n, n))
        synapse = 10 ** rng.uniform(-2.7, -1.1)
        transform = transform * (20 if rectified else 1)
        nengo.Connection(layer.neurons, layer.neurons, transform=transform, synapse=synapse)
    return network, node, [layer]


def compared(
    name: str, network: nengo.Network, node: nengo.Node, layers: list, time: float
) -> list:
    """Return one row for each layer."""
    with network:
        probes = [nengo.Probe(layer.neurons, synapse=None) for layer in layers]
    images = {node: node.output[None]}
    point, noisy = (
        nn.fixed_point(layers[0], images, network=network, noise=noise) for noise in (False, True)
    )
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run(1.0 + time, progress_bar=False)
    rows = []
    for layer, probe in zip(layers, probes, strict=True):
        rates = simulator.data[probe][1000:].mean(axis=0) / model_of(layer.neuron_type).amplitude
        far, far_noisy = (each.distance({layer.label: rates[None]}) for each in (point, noisy))
        rows.append(
            {
                "network": name,
                "layer": layer.label,
                "mean": rates.mean(),
                "size": np.sqrt((rates**2).mean()),
                "rms": far[layer.label]["rms"],
                "noisy": far_noisy[layer.label]["rms"],
                "share": far[layer.label]["share"],
                "converged": "yes" if point.converged.all() else "no",
                "stable": "yes" if point.stable.all() else "no",
                "settling": 1000 * point.settling_time.max(),
                "fluctuation": point.fluctuation.max(),
                "elsewhere": f"{point.elsewhere.max()} of {point.n_starts}",
            }
        )
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--time", type=float, default=10.0, help="seconds of each run")
    parser.add_argument("--random", type=int, default=0, help="networks at random")
    parser.add_argument("--seed", type=int, default=1, help="of the networks at random")
    given = parser.parse_args()
    rows = []
    for build in (lateral, balanced, memory):
        rows += compared(build.__name__, *build(), given.time)
    print(*table(rows, COLUMNS), sep="\n")
    rng, found = np.random.default_rng(given.seed), collections.defaultdict(list)
    for _ in range(given.random):
        (row,) = compared("random", *at_random(rng), given.time)
        said = "stable" if row["stable"] == "yes" else "unstable or not settled"
        if row["elsewhere"][0] != "0":
            said += ", several fixed points"
        elif said == "stable":
            said += f", fluctuates by {'less' if row['fluctuation'] < COARSE else 'more'} than 50%"
        near = [row[kind] <= NEAR * max(row["size"], 1.0) for kind in ("rms", "noisy")]
        found[said].append((*near, any(near)))
    for said, near in sorted(found.items()):
        means, noisy, either = np.sum(near, axis=0)
        print(
            f"{said}: {len(near)}; within {NEAR:.0%} of the run: {means}, with noise {noisy}, "
            f"one or the other {either}"
        )


if __name__ == "__main__":
    main()
