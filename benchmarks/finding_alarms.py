"""Measure how often `rectified-noise` of `nengonet.diagnose` is raised where noise does no harm.

    python benchmarks/finding_alarms.py [--seeds 6] [--images 60]

The networks are random and have two layers; neuron types, inputs, synapses and numbers of images
vary. The truth is measured: every network runs for 2 s per image, in which counting errors average
out, and its classes are compared with those of the rate model without noise. Noise harms a network
if more than 10 % of 200 images change their class, and does no harm if less than 2 % do. An alarm
is a finding of severity "error" or "warning" on the first images.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter

import nengo
import numpy as np

import nengonet as nn

TYPES = {
    "spiking ReLU": (nengo.SpikingRectifiedLinear(amplitude=0.01), 100.0, 0.0),
    "IF": (nn.IntegrateAndFire(amplitude=0.01), 100.0, 0.0),
    "IF, clipped": (nn.IntegrateAndFire(amplitude=0.01, min_voltage=0), 100.0, 0.0),
    "LIF": (nengo.LIF(amplitude=0.02), 2.0, 1.0),
    "LIF, -1": (nengo.LIF(amplitude=0.02, min_voltage=-1), 2.0, 1.0),
    "regular LIF": (nengo.RegularSpiking(nengo.LIFRate(), amplitude=0.02), 2.0, 1.0),
    "regular tanh": (nengo.RegularSpiking(nengo.Tanh(), amplitude=0.0025), 1.0, 0.0),
}
ALARMS = ("error", "warning")


def network(name: str, synapse: float | None, poisson: bool, seed: int) -> nn.Layer:
    """Build one random network."""
    neuron_type, gain, bias = TYPES[name]
    rng = np.random.default_rng([seed, 7])
    with nengo.Network(seed=seed):
        layer = nn.poisson_input((40,), 255.0) if poisson else nn.constant_input((40,))
        for label, shape in (("hidden", (40, 60)), ("output", (60, 10))):
            kernel = rng.normal(0.02, 1.6, shape) / np.sqrt(shape[0])
            tuning = {"gain": gain, "bias": bias, "synapse": synapse, "label": label}
            layer = nn.dense(layer, kernel, neuron_type, **tuning)
    return layer


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--images", type=int, default=40)
    arguments = parser.parse_args()
    alarms, cases = Counter(), Counter()
    for name, poisson, synapse in itertools.product(TYPES, (False, True), (None, 0.005)):
        changes, severities, error = [], [], []
        for seed in range(arguments.seeds):
            images = np.random.default_rng([seed, 1]).uniform(size=(200, 40)) ** 2
            output = network(name, synapse, poisson, seed)
            plain = nn.predict_rates(output, images, presentation_time=2.0)
            noisy = nn.predict_rates(output, images, presentation_time=2.0, noise=True)
            run = nn.present(
                output.network, output, images, presentation_time=2.0, progress=False
            ).rates("output")
            changed = float((plain.argmax(axis=1) != run.argmax(axis=1)).mean())
            error.append([np.sqrt(((each - run) ** 2).mean()) for each in (plain, noisy)])
            truth = "harm" if changed > 0.1 else "none" if changed < 0.02 else "between"
            for n_images in (20, arguments.images, 200):
                found = nn.diagnose(output, images[:n_images], presentation_time=2.0).findings
                level = [each.severity for each in found if each.code == "rectified-noise"]
                cases[truth, n_images] += 1
                alarms[truth, n_images] += bool(level) and level[0] in ALARMS
            changes.append(changed)
            severities += level or ["-"]
        source = "poisson" if poisson else "constant"
        print(
            f"{name:16} {source:9} synapse {synapse}: classes changed "
            f"{min(changes):.0%} to {max(changes):.0%}; RMS Hz without and with noise "
            f"{np.round(np.mean(error, axis=0), 1)}; {dict(Counter(severities))}",
            flush=True,
        )
    for (truth, n_images), n in sorted(cases.items()):
        print(f"{truth:8} {n_images:4} images: {alarms[truth, n_images]} alarms in {n} networks")


if __name__ == "__main__":
    main()
