"""Figures, each one function on results."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    times = 1000 * result.dt * np.arange(1, result.n_steps + 1)
    figure, axes = plt.subplot_mosaic(
        [["image", info.label] for info in rastered] + [["image", "scores of the last layer"]],
        figsize=(9.0, 2.2 * (len(rastered) + 1)),
        width_ratios=(1, 2.4),
        layout="constrained",
    )
    _draw_image(axes["image"], image, result, index, label)
    for info in rastered:
        _draw_raster(axes[info.label], times, result.rasters[info.label][index], info.label)
    _draw_scores(axes["scores of the last layer"], times, result, index)
    return figure


def _draw_image(axis, image, result, index, label):
    image = np.asarray(image)
    axis.imshow(image, cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=1)
    axis.set_axis_off()
    answer = int(result.predictions()[index])
    tie = ", a tie" if result.tied()[index] else ""
    title = f"answer {answer}{tie}"
    axis.set_title(title if label is None else f"image of a {label}\n{title}")


def _draw_raster(axis, times, spikes, label):
    steps, neurons = np.nonzero(spikes)
    axis.scatter(times[steps], neurons, s=1.5, c="black", marker="|", linewidths=0.6)
    mean_rate = spikes.sum() / spikes.shape[1] / (times[-1] / 1000)
    axis.set_title(
        f"{label}: {spikes.sum():,} spikes of {spikes.shape[1]} neurons, mean {mean_rate:.0f} Hz",
        fontsize="medium",
    )
    axis.set(ylabel="neuron", ylim=(-1, spikes.shape[1]), xlim=(0, times[-1]), xticklabels=[])


def _draw_scores(axis, times, result, index):
    scores = result.scores()[index]
    winner = int(result.predictions()[index])
    _draw_curves(axis, times, scores, [f"{k}" for k in range(scores.shape[1])], thick=winner)
    readout = result.settings["readout"].replace("_", " ")
    axis.set_title(f"{result.layers[-1].label}: {readout} of each class", fontsize="medium")
    axis.set(xlabel="time (ms)", ylabel=readout)
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
    for row, (name, logits) in zip(axes, outputs.items(), strict=True):
        row[0].set_ylabel(f"{name}\nlogit")
        for axis, curves, label in zip(row, logits, labels, strict=True):
            _draw_curves(axis, 1000 * np.asarray(times), curves, class_names, thick=label)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize="medium")
    for axis in axes[-1]:
        axis.set_xlabel("time (ms)")
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


def _draw_curves(
    axis: Axes, times: np.ndarray, curves: np.ndarray, names: Sequence[str], *, thick: int
) -> None:
    """Draw a curve for each class; ``times`` are in ms, ``curves`` (n_steps, n_classes)."""
    for number, (curve, name) in enumerate(zip(np.transpose(curves), names, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        style = _STYLES[number // len(COLOURS) % len(_STYLES)]
        width = 2.6 if number == thick else 1.2
        axis.plot(times, curve, style, color=colour, lw=width, label=name)
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
        xlabel=f"steps of {1000 * dt:g} ms",
        ylabel=f"accuracy (%) on {ann.n_images} images",
        xlim=(1, max(len(curve) for curve in curves.values())),
        ylim=(0, 100),
    )
    axis.legend(loc="center right", fontsize="small")
    return figure


# Of the curves beside the thread's: what they are, and their markers.
_BESIDE = {
    "compensated": ("weights compensated for the amplitude", "s"),
    "linear": ("no neurons in the last layer", "^"),
    "unclipped": ("LIF voltage may go below 0", "v"),
    "retrained": ("weights trained at that amplitude", "D"),
}


def plot_amplitude(cells: Sequence[Mapping]) -> Figure:
    """Draw accuracy against the LIF amplitude: one seed, and the mean over seeds.

    Parameters
    ----------
    cells : sequence of dict
        From `nengonet.reproductions.amplitude.reproduce`; every network gets a panel.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = list(dict.fromkeys(cell["network"] for cell in cells))
    figure, axes = plt.subplots(
        len(names), 1, figsize=(10.0, 3.6 * len(names)), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[:, 0], names, strict=True):
        kinds: dict[str, list[Mapping]] = {}
        for cell in sorted(cells, key=lambda cell: cell["amplitude"]):
            if cell["network"] == name:
                kinds.setdefault(cell["kind"], []).append(cell)
        _draw_amplitude(axis, kinds)
        axis.set_title(name.upper())
    axes[-1, 0].set_xlabel("amplitude of the LIF neurons (weights trained at 0.01)")
    return figure


def _draw_amplitude(axis: Axes, kinds: Mapping[str, Sequence[Mapping]]) -> None:
    def column(kind: str, figure: str) -> np.ndarray:
        return np.array([cell[figure] for cell in kinds[kind]])

    amplitudes = column("fixed", "amplitude")
    # Student's interval knows no bounds.
    ends = (100 * column("fixed", end).clip(0, 1) for end in ("low", "high"))
    axis.fill_between(amplitudes, *ends, color=COLOURS[0], alpha=0.25, lw=0)
    label = f"mean of {kinds['fixed'][0]['n']} seeds, 95 % interval"
    axis.plot(amplitudes, 100 * column("fixed", "mean"), c=COLOURS[0], lw=2, label=label)
    one = 100 * column("fixed", "one_seed")
    axis.plot(amplitudes, one, "o-", c=COLOURS[1], ms=2.5, lw=1, label="one seed")
    # A kind has the same colour in every panel.
    for colour, kind in zip((*COLOURS[2:], "0.4"), _BESIDE, strict=True):
        if kind not in kinds:
            continue
        label, marker = _BESIDE[kind]
        axis.plot(
            column(kind, "amplitude"),
            100 * column(kind, "mean"),
            marker=marker,
            markevery=max(1, len(kinds[kind]) // 10),
            ms=5,
            lw=0.8,
            c=colour,
            label=label,
        )
    axis.set(ylabel="accuracy (%)", xlim=(0, amplitudes[-1] + 0.01))
    axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))


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
