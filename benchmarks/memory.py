"""Measure the peak memory of `present` for growing numbers of images of CIFAR's size.

    python benchmarks/memory.py [--images 200 1000 10000] [--steps 10] [--pool max] [--json]

The network is the CSNN of the paper with random weights: convolutions 32-64-64 (3x3), two 2x2
pools, dense 64-10, integrate-and-fire neurons; images are random bytes. Each number of images runs
in its own process. The figure is the peak of that process above its memory before `present`, which
includes the images. If the figure is flat, memory grows only by the content of the result.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import nengo
import numpy as np

import nengonet as nn
from nengonet.tables import aligned

MIB = 2**20


def network(pool: str, tau: float) -> tuple[nengo.Network, nn.Layer]:
    """Return the CSNN with random weights, and its last layer."""
    rng, rate = np.random.default_rng(0), 500.0
    synapse = nengo.Lowpass(tau) if tau else None

    def kernel(*shape: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[:-1])), shape)

    with nengo.Network(seed=0) as net:
        layer = nn.constant_input((32, 32, 3))
        for filters in (32, 64, 64):
            weights = kernel(3, 3, layer.shape[-1], filters)
            neurons = nn.IntegrateAndFire(amplitude=1 / rate)
            layer = nn.conv2d(layer, weights, neurons, gain=rate, bias=0.0, synapse=synapse)
            if filters == 32 or layer.shape[0] > 6:
                layer = (nn.max_pool2d if pool == "max" else nn.avg_pool2d)(layer)
        neurons = nn.IntegrateAndFire(amplitude=1 / rate)
        layer = nn.dense(layer, kernel(layer.size, 64), neurons, gain=rate, bias=0.0)
        return net, nn.dense(layer, kernel(64, 10), None, label="output")


def measured(options: argparse.Namespace, n_images: int) -> dict:
    """Present images, and return memory in MiB."""
    net, output = network(options.pool, options.tau)
    settings = {
        "presentation_time": options.steps * 0.001,
        "n_jobs": options.jobs,
        "precision": options.precision,
        "readout": "mean",
        "keep": [],
        "progress": False,
    }
    images = np.random.default_rng(1).integers(0, 256, (n_images, 32, 32, 3), np.uint8)
    # Compile, and allocate whatever is allocated once.
    nn.present(net, output, images[:2], **settings)
    before = _peak()
    result = nn.present(net, output, images, **settings)
    held = [result.steps, *result.spikes.values(), *result.operations.values()]
    return {
        "images": n_images,
        "given": images.nbytes / MIB,
        "result": sum(each.nbytes for each in held) / MIB,
        "before": before,
        "peak": _peak(),
    }


def _peak() -> float:
    """Return the largest memory that this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024)


def main() -> None:
    """Measure each number of images in its own process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 1000, 10_000])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pool", choices=("avg", "max"), default="avg")
    parser.add_argument("--tau", type=float, default=0.0, help="of the synapses, in seconds")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--precision", type=int, choices=(32, 64), default=32)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options, options.images[0])))
        return
    found = []
    for n_images in options.images:
        # The last value of an option counts.
        command = [sys.executable, __file__, *sys.argv[1:], "--one", "--images", str(n_images)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found.append(json.loads(done.stdout))
    if options.json:
        print(json.dumps(found, indent=1))
        return
    rows = [("images", "images, MiB", "result, MiB", "before, MiB", "peak, MiB", "growth, MiB")]
    for each in found:
        values = [each[name] for name in ("given", "result", "before", "peak")]
        values.append(each["peak"] - each["before"])
        rows.append((f"{each['images']:,}", *(f"{value:,.1f}" for value in values)))
    print("\n".join(aligned(rows)))


if __name__ == "__main__":
    main()
