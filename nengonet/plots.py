"""Figures, each one function on results."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import softmax

from nengonet.budget import Budget
from nengonet.diagnosis import Comparison
from nengonet.exceptions import InputError
from nengonet.readout import Accuracy
from nengonet.results import Result

# Okabe & Ito (2008): told apart by colour-blind readers; ten classes need line styles as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
_STYLES = ("-", "--")


def plot_presentation(
    image: np.ndarray, result: Result, index: int = 0, label: int | None = None
) -> Figure:
    """Draw one presentation: the image, a raster of each spiking layer, the counts over time.

    Parameters
    ----------
    image : (rows, columns) or (rows, columns, channels) array_like, in [0, 1]
    result : Result
        With the rasters of every spiking layer but the last.
    index : int
        Which of the result's examples.
    label : int, optional
        The right class, for the title.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        The result holds no rasters.
    """
    rastered = [info for info in result.layers if info.label in result.rasters]
    if not rastered:
        raise InputError("expected a result with rasters: give present(…, rasters=[…])")
    factor, unit = time_unit(result.n_steps * result.dt)
    times = factor * result.dt * np.arange(1, result.n_steps + 1)
    figure, axes = plt.subplot_mosaic(
        [["image", info.label] for info in rastered] + [["image", "scores of the last layer"]],
        figsize=(9.0, 2.2 * (len(rastered) + 1)),
        width_ratios=(1, 2.4),
        layout="constrained",
    )
    _draw_image(axes["image"], image, result, index, label)
    for info in rastered:
        spikes = result.rasters[info.label][index]
        _draw_raster(axes[info.label], times, spikes, info.label, result.n_steps * result.dt)
    _draw_scores(axes["scores of the last layer"], times, result, index)
    axes["scores of the last layer"].set_xlabel(f"time ({unit})")
    return figure


def _draw_image(axis, image, result, index, label):
    image = np.asarray(image)
    axis.imshow(image, cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=1)
    axis.set_axis_off()
    answer = int(result.predictions()[index])
    tie = ", a tie" if result.tied()[index] else ""
    title = f"answer {answer}{tie}"
    axis.set_title(title if label is None else f"image of a {label}\n{title}")


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


def _draw_raster(axis, times, spikes, label, duration):
    steps, neurons = np.nonzero(spikes)
    counts = spikes[steps, neurons]
    most = int(counts.max(initial=0))
    # Several spikes of a neuron in one step are one mark, the wider the more they are.
    widths = 0.6 * np.minimum(counts, 8)
    axis.scatter(times[steps], neurons, s=1.5, c="black", marker="|", linewidths=widths)
    mean_rate = spikes.sum() / spikes.shape[1] / duration
    rate = f"{mean_rate:.0f}" if mean_rate >= 10 else f"{mean_rate:.2g}"
    several = f", up to {most} in a step" if most > 1 else ""
    axis.set_title(
        f"{label}: {spikes.sum():,} spikes of {spikes.shape[1]} neurons{several}, mean {rate} Hz",
        fontsize="medium",
    )
    step = times[0]
    axis.set(
        ylabel="neuron", ylim=(-1, spikes.shape[1]), xlim=(0, times[-1] + step / 2), xticklabels=[]
    )


def _draw_scores(axis, times, result, index):
    scores = result.scores()[index]
    winner = int(result.predictions()[index])
    _draw_curves(axis, times, scores, [f"{k}" for k in range(scores.shape[1])], thick=winner)
    readout = result.settings["readout"].replace("_", " ")
    axis.set_title(f"{result.layers[-1].label}: {readout} of each class", fontsize="medium")
    axis.set(ylabel=readout, xlim=(0, times[-1] + times[0] / 2))
    axis.legend(title="class", ncols=2, fontsize="x-small", loc="upper left")


def plot_comparison(comparison: Comparison) -> Figure:
    """Draw each spiking layer's observed rates against the predicted ones.

    Parameters
    ----------
    comparison : Comparison
        From `nengonet.compare`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = comparison.layers
    figure, axes = plt.subplots(
        1, len(rows), figsize=(3.4 * len(rows), 3.8), layout="constrained", squeeze=False
    )
    for axis, row in zip(axes[0], rows, strict=True):
        predicted = comparison.predicted[row["label"]].ravel()
        observed = comparison.observed[row["label"]].ravel()
        highest = 1.05 * max(predicted.max(), observed.max(), 1.0)
        # Drawn as an image: a layer may have a hundred thousand points.
        axis.scatter(predicted, observed, s=3, alpha=0.15, c=COLOURS[0], lw=0, rasterized=True)
        axis.plot([0, highest], [0, highest], c="black", lw=0.8, ls="--", label="equal")
        correlation = row["correlation"]
        note = "" if correlation is None else f"\ncorrelation {correlation:.3f}"
        axis.set_title(f"{row['label']}{note}", fontsize="medium")
        axis.set(xlabel="predicted rate (Hz)", xlim=(0, highest), ylim=(0, highest), aspect=1)
    axes[0][0].set_ylabel("observed rate (Hz)")
    axes[0][0].legend(loc="upper left", fontsize="small")
    return figure


def plot_budget(budget: Budget) -> Figure:
    """Draw an error budget as a waterfall from the ANN's accuracy to the network's.

    Parameters
    ----------
    budget : Budget
        From `nengonet.error_budget`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    steps = budget.steps
    figure, axis = plt.subplots(figsize=(8.0, 0.5 * (len(steps) + 1) + 1.2), layout="constrained")
    names = [step.name for step in steps] + ["as it is run"]
    levels = [100 * step.accuracy for step in steps]
    rows = np.arange(len(names))
    axis.barh([0, rows[-1]], [levels[0], levels[-1]], color="0.65", height=0.6)
    for row, (step, before, after) in enumerate(
        zip(steps[1:], levels, levels[1:], strict=False), 1
    ):
        colour = COLOURS[2] if after >= before else COLOURS[1]
        axis.barh(row, after - before, left=before, color=colour, height=0.6)
        low, high = step.interval
        axis.plot([before + low, before + high], [row, row], c="black", lw=1.0)
        axis.plot([before, before], [row - 0.8, row + 0.3], c="0.4", lw=0.7)
        right = max(before, after, before + high)
        axis.annotate(
            f"{step.change:+.1f}", (right, row), (5, 0), textcoords="offset points", va="center"
        )
    for row, level in ((0, levels[0]), (rows[-1], levels[-1])):
        axis.annotate(
            f"{level:.1f} %", (level, row), (5, 0), textcoords="offset points", va="center"
        )
    axis.set_yticks(rows, names)
    axis.invert_yaxis()
    limits = (max(0, min(levels) - 20), 110)  # room for the figures beside the bars
    axis.set_xlim(limits)
    axis.set_xticks([tick for tick in axis.get_xticks() if limits[0] <= tick <= 100])
    axis.set_xlabel(f"accuracy (%) on {budget.n_images} images")
    axis.set_title("changes in percentage points, with 95 % intervals", fontsize="medium")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure


def plot_logits(
    times: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    titles: Sequence[str],
    labels: Sequence[int],
) -> Figure:
    """Draw the output of every class over time: a row for each network, a column for each image.

    Parameters
    ----------
    times : (n_steps,) array_like, in seconds
    outputs : dict of (n_images, n_steps, n_classes) array_like
        By the name of the network.
    class_names : sequence of str
    titles : sequence of str
        Of the images.
    labels : (n_images,) sequence of int
        The right classes, whose curves are drawn thick.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(
        len(outputs),
        len(titles),
        figsize=(3.6 * len(titles) + 1.6, 2.1 * len(outputs) + 0.6),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    factor, unit = time_unit(times[-1])
    for row, (name, logits) in zip(axes, outputs.items(), strict=True):
        row[0].set_ylabel(f"{name}\nlogit")
        for axis, curves, label in zip(row, logits, labels, strict=True):
            _draw_curves(axis, factor * np.asarray(times), curves, class_names, thick=label)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize="medium")
    for axis in axes[-1]:
        axis.set_xlabel(f"time ({unit})")
    handles, names = axes[0, 0].get_legend_handles_labels()
    legend = figure.legend(
        handles,
        names,
        title="class\n(its own: thick)",
        loc="outside right center",
        fontsize="small",
    )
    for line in legend.get_lines():
        line.set_linewidth(1.2)
    return figure


def plot_spikes_and_probabilities(
    image: np.ndarray,
    label: int,
    class_names: Sequence[str],
    cells: Mapping[str, tuple[float, np.ndarray, np.ndarray, int]],
) -> Figure:
    """Draw what several networks do with one image: a row each, as KerasSpiking's tutorial does.

    On the left, how often a neuron emits 0, 1, 2, … spikes in a step; on the right, the softmax of
    the last layer's output at every step.

    Parameters
    ----------
    image : (rows, columns) array_like, in [0, 1]
    label : int
        The right class, whose curve is drawn thick.
    class_names : sequence of str
    cells : dict of (float, ndarray, ndarray, int)
        By title: dt in seconds, the spikes of each neuron in each step (n_steps, n_neurons), the
        last layer's outputs (n_steps, n_classes), and the class that is read out.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(
        len(cells),
        3,
        figsize=(10.5, 1.9 * len(cells) + 0.8),
        width_ratios=(1, 2, 2.6),
        squeeze=False,
        layout="constrained",
    )
    for row, (title, (dt, spikes, outputs, answer)) in zip(axes, cells.items(), strict=True):
        row[0].imshow(image, cmap="gray", vmin=0, vmax=1)
        row[0].set_title(f"{title}\nanswer: {class_names[answer]}", fontsize="small")
        row[0].set_axis_off()
        draw_spike_histogram(row[1], spikes)
        _draw_probabilities(row[2], dt, outputs, class_names, label)
    figure.suptitle(f"one test image: {class_names[label]}")
    axes[0, 1].set_title("spikes of a neuron in a step", fontsize="medium")
    axes[0, 2].set_title("softmax of the output, step by step", fontsize="medium")
    handles, names = axes[0, 2].get_legend_handles_labels()
    figure.legend(
        handles, names, title="class\n(right: thick)", loc="outside right center", fontsize="small"
    )
    return figure


def draw_spike_histogram(axis: Axes, spikes: np.ndarray) -> None:
    """Draw how often a neuron emits 0, 1, 2, … spikes in a step.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    spikes : (n_steps, n_neurons) array_like of int
        A row of `nengonet.Result.rasters`.
    """
    times = np.bincount(np.ravel(spikes))
    bars = axis.bar(np.arange(len(times)), times, width=0.9, color=COLOURS[0])
    # A logarithm, since nearly all neurons are silent in nearly all steps: as counted, one bar.
    axis.set_yscale("log")
    axis.set_ylim(0.5, 12 * times.max())
    labels = [f"{n:,}" if n and len(times) <= 8 else "" for n in times]
    axis.bar_label(bars, labels, fontsize="x-small")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlim(-0.6, max(len(times) - 1, 2) + 0.6)
    axis.set(xlabel="spikes", ylabel="neurons x steps")


def _draw_probabilities(axis, dt, outputs, class_names, label):
    n_steps = len(outputs)
    # Every step's value stands for the whole of its step.
    edges = dt * np.arange(n_steps + 1)
    curves = softmax(np.asarray(outputs, dtype=np.float64), axis=-1)
    curves = np.concatenate([curves, curves[-1:]])
    _draw_curves(axis, edges, curves, class_names, thick=label, drawstyle="steps-post")
    axis.set(xlabel="time (s)", ylabel="probability", ylim=(-0.05, 1.05))


def _draw_curves(
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
        line = _STYLES[number // len(COLOURS) % len(_STYLES)]
        width = 2.6 if number == thick else 1.2
        axis.plot(times, curve, line, color=colour, lw=width, label=name, **style)
    axis.set_xlim(0, times[-1])


def plot_latency(curves: dict[str, np.ndarray], ann: Accuracy, *, dt: float = 0.001) -> Figure:
    """Draw accuracy against the number of steps.

    Parameters
    ----------
    curves : dict of (n_steps,) array_like
        From `nengonet.Result.latency`, by name of the network.
    ann : Accuracy
        The ANN's on the same images: a line, and its 95 % interval.
    dt : float, in seconds

    Returns
    -------
    matplotlib.figure.Figure
    """
    factor, unit = time_unit(dt)
    figure, axis = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    low, high = (100 * value for value in ann.interval)
    axis.axhspan(low, high, color="0.85", lw=0, label="ANN, 95 % interval")
    axis.axhline(100 * ann.value, c="black", lw=0.8, ls="--", label="ANN")
    # Curves that lie upon each other are told apart by their styles.
    for number, (name, curve) in enumerate(curves.items()):
        steps = np.arange(1, len(curve) + 1)
        colour, style = COLOURS[number % len(COLOURS)], ("-", ":", "-.")[number % 3]
        axis.plot(steps, 100 * np.asarray(curve), style, c=colour, label=name)
    axis.set(
        xlabel=f"steps of {dt * factor:g} {unit}",
        ylabel=f"accuracy (%) on {ann.n_images} images",
        xlim=(1, max(len(curve) for curve in curves.values())),
        ylim=(0, 100),
    )
    axis.legend(loc="center right", fontsize="small")
    return figure


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
