"""Print how the minibatch simulator's time grows with the minibatch, the images and the steps.

    python benchmarks/scaling.py [--same] [--bengali] [--convolutions]

The job is the repaired forum network. It shows the bundled images, and repeats them where there are
too few. Each figure is the shortest of three runs. ``--convolutions`` shows instead how the time of
a convolutional network grows with its channels, the image, steps, images and jobs. ``--same`` also
counts the spike counts that differ from the reference simulator's, on all 1000 images (two
minutes). ``--bengali`` compares the minibatch simulator with the reference on the Bengali CNN, in
turn, on all cores. It needs that data set.
"""

from __future__ import annotations

import argparse
import time

import nengo
import numpy as np

import nengonet as nn
from nengonet.ann.unweighted import Pool
from nengonet.studies import bengali, forum_mnist, shared

REPEATS = 3


def seconds(output, images, *, n_steps=350, **running):
    """Return the time of the fastest of several runs; ``running`` goes to `nengonet.present`."""
    running = {"presentation_time": n_steps / 1000, "progress": False} | running
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        nn.present(output.network, output, images, **running)
        times.append(time.perf_counter() - start)
    return min(times)


def table(head: str, columns, values) -> None:
    """Print a table of one row in Markdown."""
    print(f"| {head} | " + " | ".join(str(column) for column in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    print("| | " + " | ".join(f"{value:.3g}" for value in values) + " |\n")


def convolutional(channels: int, size: int) -> tuple[nn.Layer, np.ndarray]:
    """Return a network of the CSNN's shape with random weights, and images of that size.

    A convolution (3x3) has ``channels`` filters, and two more have twice as many. An average pool
    (2x2) follows each of the first two. Two dense layers follow. Neurons are integrate-and-fire,
    with full scale at 500 Hz.
    """
    images, _ = nn.datasets.load("fashion_mnist")
    places = np.arange(size) * images.shape[1] // size
    images = images[:, places][:, :, places]
    rng, layers, side, before = np.random.default_rng(0), [], size, 1
    for number, filters in enumerate((channels, 2 * channels, 2 * channels)):
        kernel = rng.normal(0, np.sqrt(2 / (9 * before)), (3, 3, before, filters))
        layers.append(nn.LayerWeights(kernel, name=f"conv{number}", activation="relu"))
        side, before = side - 2, filters
        if number < 2:
            layers.append(Pool("average", name=f"pool{number}"))
            side //= 2
    before *= side**2
    for name, units in (("dense", 64), ("output", 10)):
        kernel = rng.normal(0, np.sqrt(2 / before), (before, units))
        layers.append(nn.LayerWeights(kernel, name=name, activation="relu"))
        before = units
    neuron_type = nn.IntegrateAndFire()
    tuned = nn.tune(layers[:-1], images[:50], neuron_type, 500.0)
    with nengo.Network(seed=0):
        layer = nn.constant_input((size, size))
        for each in layers[:-1]:
            if isinstance(each, Pool):
                layer = nn.avg_pool2d(layer, label=each.name)
            else:
                own = tuned[each.name]
                layer = shared.add(layer, each, neuron_type, label=each.name, **own)
        return nn.dense(layer, layers[-1], None), images


def scale_convolutions(precision: int) -> None:
    """Print how the time of a convolutional network grows, from one of 16 channels."""
    running = {"readout": "mean", "keep": (), "precision": precision}
    output, images = convolutional(16, 28)
    few = images[:20]
    seconds(output, few, n_steps=100, **running)  # compiles

    def per_image(channels: int, size: int) -> float:
        """Return milliseconds."""
        output, images = convolutional(channels, size)
        return 1000 * seconds(output, images[:20], n_steps=100, **running) / 20

    channels, sizes = (4, 8, 16, 32), (20, 28, 40, 56)
    table("channels: ms per image", channels, [per_image(each, 28) for each in channels])
    table("image of n x n: ms per image", sizes, [per_image(16, each) for each in sizes])
    steps = (25, 50, 100, 200)
    table("steps, 20 images: s", steps, [seconds(output, few, n_steps=n, **running) for n in steps])
    counts = (10, 20, 40, 80, 160)
    found = [seconds(output, images[:n], n_steps=100, **running) for n in counts]
    table("images: s", counts, found)
    found = []
    for n_jobs in (1, 2):
        nn.present(output.network, output, few, n_jobs=n_jobs, progress=False, **running)  # starts
        found.append(seconds(output, images[:160], n_steps=100, n_jobs=n_jobs, **running))
    table("jobs, 160 images: s", (1, 2), found)


def count_differences(images) -> None:
    """Print how many spike counts differ from the reference simulator's."""
    for neurons in ("lif", "if", "relu"):
        example = forum_mnist.STUDY.build(neurons=neurons)
        twin, reference = (
            nn.present(
                example.network,
                example.output,
                images,
                simulator=simulator,
                progress=False,
                n_jobs=-1,
            )
            for simulator in ("minibatch", "reference")
        )
        pairs = [(twin.counts[label], counts) for label, counts in reference.counts.items()]
        different = sum(int((one != other).sum()) for one, other in pairs)
        changed = int((twin.predictions() != reference.predictions()).sum())
        total = sum(counts.size for _, counts in pairs)
        print(f"{neurons}: {different} of {total:,} spike counts differ, {changed} predictions")


def compare_on_bengali() -> None:
    """Print images per second of the Bengali CNN, as posted and repaired, 30 steps."""
    images, _ = bengali.DATA.load(n_images=200)
    layers = bengali.cnn_layers(nn.load_weights(nn.pretrained("bengali_cnn")))
    outputs = {
        "posted": bengali.posted(layers, neurons="spiking"),
        "repaired": bengali.repaired(layers, bengali.training_sample()),
    }
    for name, output in outputs.items():
        for _ in range(REPEATS):
            speeds, counts = {}, {}
            for simulator, n, n_jobs in (("reference", 3, 1), ("minibatch", len(images), -1)):
                run = {"presentation_time": 0.03, "progress": False, "simulator": simulator}
                if simulator == "minibatch":  # processes and memory are there
                    nn.present(output.network, output, images[:100], n_jobs=n_jobs, **run)
                start = time.perf_counter()
                result = nn.present(output.network, output, images[:n], n_jobs=n_jobs, **run)
                speeds[simulator] = n / (time.perf_counter() - start)
                counts[simulator] = result.counts
            same = all(
                (counts["minibatch"][label][:3] == few).all()
                for label, few in counts["reference"].items()
            )
            print(
                f"{name}: {speeds['minibatch']:.0f} against {speeds['reference']:.1f} images/s, "
                f"{speeds['minibatch'] / speeds['reference']:.0f} times; counts are "
                f"{'the same' if same else 'different'}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--same", action="store_true", help="compare with the reference, too")
    parser.add_argument("--bengali", action="store_true", help="time the Bengali CNN, too")
    parser.add_argument("--convolutions", action="store_true", help="of a CNN, instead")
    parser.add_argument("--precision", type=int, choices=[32, 64], default=32, help="of the CNN")
    arguments = parser.parse_args()
    if arguments.convolutions:
        scale_convolutions(arguments.precision)
        raise SystemExit
    images, _ = nn.datasets.load("mnist")
    more = np.concatenate([images] * 4)
    output = forum_mnist.STUDY.build().output
    seconds(output, images[:500])  # compiles

    sizes = (1, 10, 50, 100, 250, 500, 1000)
    per_image = [1000 * seconds(output, images, minibatch_size=size) / 1000 for size in sizes]
    table("minibatch: ms per image", sizes, per_image)
    counts = (500, 1000, 2000, 4000)
    table("images: s", counts, [seconds(output, more[:n]) for n in counts])
    steps = (100, 200, 400, 800)
    table("steps, 500 images: s", steps, [seconds(output, images[:500], n_steps=n) for n in steps])
    if arguments.same:
        count_differences(images)
    if arguments.bengali:
        compare_on_bengali()
