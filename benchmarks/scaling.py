"""Print how the twin's time grows: with the minibatch, the images and the steps.

    python benchmarks/scaling.py [--same] [--bengali]

One job, the forum network, repaired; the embedded images, again and again where there are too few.
Each figure is the shortest of three runs. ``--same`` also counts the spike counts that differ from
the reference simulator's, on all 1000 images (two minutes). ``--bengali`` sets the twin beside the
reference on the Bengali CNN, in turn, on all cores; it needs that data set.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import nengonet as nn
from nengonet.studies import bengali, forum_mnist

REPEATS = 3


def seconds(example, images, *, n_steps=350, minibatch_size=250):
    """Return the time of the fastest of some runs."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        nn.present(
            example.network,
            example.output,
            images,
            presentation_time=n_steps / 1000,
            minibatch_size=minibatch_size,
            progress=False,
        )
        times.append(time.perf_counter() - start)
    return min(times)


def table(head: str, columns, values) -> None:
    """Print a table of one row in Markdown."""
    print(f"| {head} | " + " | ".join(str(column) for column in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    print("| | " + " | ".join(f"{value:.3g}" for value in values) + " |\n")


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
    arguments = parser.parse_args()
    images, _ = nn.datasets.load("mnist")
    more = np.concatenate([images] * 4)
    example = forum_mnist.STUDY.build()
    seconds(example, images[:500])  # compiles

    sizes = (1, 10, 50, 100, 250, 500, 1000)
    per_image = [1000 * seconds(example, images, minibatch_size=size) / 1000 for size in sizes]
    table("minibatch: ms per image", sizes, per_image)
    counts = (500, 1000, 2000, 4000)
    table("images: s", counts, [seconds(example, more[:n]) for n in counts])
    steps = (100, 200, 400, 800)
    table("steps, 500 images: s", steps, [seconds(example, images[:500], n_steps=n) for n in steps])
    if arguments.same:
        count_differences(images)
    if arguments.bengali:
        compare_on_bengali()
