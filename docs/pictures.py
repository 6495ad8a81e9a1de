"""Draw the README's figures into docs/_static.

    python docs/pictures.py

The one at the top shows the image that comes first among those that the forum's network gets wrong
as posted and right repaired; the other is what the README's own code calls ``figure``.
"""

from __future__ import annotations

import json
import pathlib

import examples
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import nengonet as nn
from nengonet.plots import plot_presentation
from nengonet.studies import forum_mnist

FOLDER = pathlib.Path(__file__).parent
README = FOLDER.parent / "README.md"


def posted_and_repaired(n_images: int = 10) -> np.ndarray:
    """Return the pixels of one image's runs, as posted beside repaired."""
    images, labels = nn.datasets.load("mnist", n_images=n_images)
    runs = {}
    for variant in ("posted", "repaired"):
        example = forum_mnist.STUDY.build(variant=variant)
        runs[variant] = nn.present(
            example.network,
            example.output,
            images,
            readout=example.readout,
            rasters=["hidden"],
            progress=False,
        )
    right = {variant: run.predictions() == labels for variant, run in runs.items()}
    index = int(np.flatnonzero(~right["posted"] & right["repaired"])[0])
    halves = []
    for (variant, run), record in zip(
        runs.items(), ("forum-mnist-posted", "forum-mnist"), strict=True
    ):
        figure = plot_presentation(images[index], run, index, label=labels[index])
        text = (FOLDER / "results" / f"{record}.json").read_text(encoding="utf-8")
        report = json.loads(text)["report"]
        words = "as posted" if variant == "posted" else variant
        figure.suptitle(
            f"{words}: {report['accuracy']:.0%} of {report['n_images']:,} images right",
            fontweight="bold",
        )
        figure.set_size_inches(6.5, 4.2)
        halves.append(pixels(figure, dpi=100))
    return np.hstack(halves)


def by_hand() -> np.ndarray:
    """Return the pixels of what the README's code draws."""
    [figure] = [block.figure for block in examples.run(README) if block.figure is not None]
    return pixels(figure, dpi=100)


PICTURES = {"posted-and-repaired.png": posted_and_repaired, "by-hand.png": by_hand}


def pixels(figure: Figure, dpi: int) -> np.ndarray:
    """Return a figure as (rows, columns, 4) bytes."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    plt.close(figure)
    return np.array(canvas.buffer_rgba())


def main() -> None:
    """Draw all of them."""
    for name, draw in PICTURES.items():
        plt.imsave(FOLDER / "_static" / name, draw())


if __name__ == "__main__":
    main()
