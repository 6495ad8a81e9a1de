"""What the figures share: colours, the parts that several are made of, and saving."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nengonet.checks import as_array, as_pixels, positive_integer
from nengonet.exceptions import InputError
from nengonet.results.result import Result

# Okabe & Ito (2008): told apart by colour-blind readers; ten classes need line styles as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
STYLES = ("-", "--")


def checked_image(image: np.ndarray) -> np.ndarray:
    """Return an image as floats, of shape (rows, columns) or with three channels."""
    image = as_pixels(as_array("image", image, "biuf")[np.newaxis], "image")[0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise InputError(
            "image: expected (rows, columns) or (rows, columns, 1 or 3 channels), got "
            f"{image.shape}"
        )
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def draw_image(
    axis: Axes, image: np.ndarray, result: Result, index: int, label: int | str | None
) -> None:
    """Draw a `checked_image`, under the run's answer; ``label`` is the right class."""
    axis.imshow(image, cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=1)
    # Not set_axis_off: the layout would leave no room for the title.
    axis.set(xticks=[], yticks=[], frame_on=False)
    answer = int(result.predictions()[index])
    tie = ", a tie" if result.tied()[index] else ""
    title = f"answer {answer}{tie}"
    axis.set_title(title if label is None else f"image of a {label}\n{title}")


def draw_raster(
    axis: Axes, times: np.ndarray, spikes: np.ndarray, label: str, duration: float
) -> None:
    """Draw a mark for each spike.

    ``times`` are the ends of the steps, in some unit, ``spikes`` (n_steps, n_neurons), ``duration``
    is in seconds.
    """
    steps, neurons = np.nonzero(spikes)
    counts = spikes[steps, neurons]
    most = int(counts.max(initial=0))
    # A mark is as high as a neuron has room, but can still be seen among hundreds; several spikes
    # of a neuron in one step are one mark, the wider the more they are.
    height = float(np.clip(200 / spikes.shape[1], 2.0, 12.0))
    widths = 0.8 * np.minimum(counts, 8)
    axis.scatter(times[steps], neurons, s=height**2, c="black", marker="|", linewidths=widths)
    mean_rate = spikes.sum() / spikes.shape[1] / duration
    rate = f"{mean_rate:.0f}" if mean_rate >= 10 else f"{mean_rate:.2g}"
    several = f", up to {most} in a step" if most > 1 else ""
    axis.set_title(
        f"{label}: {spikes.sum():,} spikes of {spikes.shape[1]} neurons{several}, mean {rate} Hz",
        fontsize="medium",
    )
    axis.set(ylabel="neuron", ylim=(-1, spikes.shape[1]), xlim=(0, times[-1] + times[0] / 2))


def draw_scores(
    axis: Axes,
    times: np.ndarray,
    result: Result,
    index: int,
    class_names: Sequence[str] | None = None,
) -> None:
    """Draw the score of every class over time, the winner's thick; ``times`` as `times_of` says."""
    scores = result.scores()[index]
    names = names_of_classes(class_names, scores.shape[1])
    winner = int(result.predictions()[index])
    draw_curves(axis, times, scores, names, thick=winner)
    readout = result.settings["readout"].replace("_", " ")
    axis.set_title(f"{result.layers[-1].label}: {readout} of each class", fontsize="medium")
    _, unit = time_unit(result.n_steps * result.dt)
    axis.set(xlabel=f"time ({unit})", ylabel=readout, xlim=(0, times[-1] + times[0] / 2))
    # Beside the axes: within, it would hide the first steps.
    axis.legend(title="class", fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def names_of_classes(class_names: Sequence[str] | None, n_classes: int) -> list[str]:
    """Return a name for each class, by default its number."""
    if class_names is None:
        return [str(k) for k in range(n_classes)]
    if len(class_names) != n_classes:
        raise InputError(
            f"class_names: expected {n_classes}, one for each output, got {len(class_names)}"
        )
    return list(class_names)


def index_of(index: int, result: Result) -> int:
    """Return which of the result's examples is meant, from 0."""
    return positive_integer("index", index, 0, result.n_images - 1)


def draw_curves(
    axis: Axes,
    times: np.ndarray,
    curves: np.ndarray,
    names: Sequence[str],
    *,
    thick: int,
    **style: object,
) -> None:
    """Draw a curve for each class; ``curves`` are (n_steps, n_classes)."""
    for number, (curve, name) in enumerate(zip(np.transpose(curves), names, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        line = STYLES[number // len(COLOURS) % len(STYLES)]
        width = 2.6 if number == thick else 1.2
        axis.plot(times, curve, line, color=colour, lw=width, label=name, **style)
    axis.set_xlim(0, times[-1])


def time_unit(duration: float) -> tuple[float, str]:
    """Return in what unit to write times, and how many of it are a second.

    Parameters
    ----------
    duration : float, in seconds
        The longest of the times.

    Returns
    -------
    factor : float
    unit : {"ms", "s"}
    """
    return (1000.0, "ms") if duration < 2 else (1.0, "s")


def times_of(result: Result) -> np.ndarray:
    """Return the end of every step of a presentation, in the unit of `time_unit`."""
    factor, _ = time_unit(result.n_steps * result.dt)
    return factor * result.dt * np.arange(1, result.n_steps + 1)


def check_figure_path(path: str | os.PathLike) -> None:
    """Raise `InputError` now if a figure cannot be saved under that name later.

    Parameters
    ----------
    path : path_like
    """
    path = pathlib.Path(path)
    formats = plt.figure().canvas.get_supported_filetypes()
    plt.close()
    if path.suffix.lstrip(".").lower() not in formats:
        raise InputError(
            f"{path}: expected the name of a figure that ends in one of "
            f"{', '.join('.' + name for name in sorted(formats))}"
        )
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Save a figure and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path_like
        Its ending chooses the format.
    """
    figure.savefig(path, dpi=150)
    plt.close(figure)
