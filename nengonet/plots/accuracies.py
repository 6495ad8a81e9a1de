"""Figures of accuracy: over time, split into effects, over parameters, by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.stats import binomtest

from nengonet.budget import Budget
from nengonet.exceptions import InputError
from nengonet.plots.drawing import COLOURS
from nengonet.readout import Accuracy
from nengonet.results import Result
from nengonet.sweeps import Sweep

# Curves that lie upon each other are told apart by their styles.
_TOLD_APART = ("-", ":", "-.")
_MOST_IN_CELLS = 15  # classes whose shares can be read in a confusion matrix


def plot_latency(curves: dict[str, np.ndarray], ann: Accuracy, *, dt: float = 0.001) -> Figure:
    """Draw accuracy against the number of steps.

    Parameters
    ----------
    curves : dict of (n_steps,) array_like
        From `nengonet.Result.latency`, by name of the network. Each is drawn with its 95 %
        interval (Wilson's).
    ann : Accuracy
        The ANN's on the same images: a line, and its 95 % interval.
    dt : float, in seconds

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axis = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    low, high = (100 * value for value in ann.interval)
    axis.axhspan(low, high, color="0.85", lw=0)
    axis.axhline(100 * ann.value, c="black", lw=0.8, ls="--", label="ANN")
    for number, (name, curve) in enumerate(curves.items()):
        steps = np.arange(1, len(curve) + 1)
        colour, style = COLOURS[number % len(COLOURS)], _TOLD_APART[number % len(_TOLD_APART)]
        low, high = _intervals(curve, ann.n_images)
        axis.fill_between(steps, 100 * low, 100 * high, color=colour, alpha=0.2, lw=0)
        axis.plot(steps, 100 * np.asarray(curve), style, c=colour, label=name)
    axis.set(
        xlabel=f"steps of {1000 * dt:g} ms",
        ylabel=f"accuracy (%) on {ann.n_images} images",
        xlim=(1, max(len(curve) for curve in curves.values())),
        ylim=(0, 102),  # a line at 100 can be seen
    )
    axis.legend(loc="lower right", fontsize="small", title="shaded: 95 % intervals")
    return figure


def _intervals(curve: np.ndarray, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % intervals of shares of so many images."""
    right = np.rint(np.asarray(curve) * n_images).astype(int)
    found, places = np.unique(right, return_inverse=True)
    intervals = [binomtest(k, n_images).proportion_ci(0.95, method="wilson") for k in found]
    return tuple(np.array(intervals)[places].T)


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


def plot_sweep(
    sweep: Sweep,
    value: str,
    x: str,
    *,
    lines: str | None = None,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """Draw what a sweep found against one of its parameters, with 95 % intervals over the seeds.

    Parameters
    ----------
    sweep : Sweep
        From `nengonet.sweep`.
    value : str
        Which of the values that the function returned; a number.
    x : str
        The parameter along the axis. Numbers make a line; anything else stands side by side.
    lines : str, optional
        Another parameter, of which each value makes a line of its own. Over parameters that are
        not named, the mean is taken.
    units : dict of str, optional
        By the name of a parameter or value, for the axes: ``{"input_rate": "Hz"}``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        No such parameter or value, or a value that is a list.
    """
    if value not in sweep.values:
        raise InputError(
            f"value: expected one of {', '.join(sweep.values) or 'none'}, found {value!r}"
        )
    by = [x] if lines is None else [x, lines]
    rows = [row for row in sweep.summary(by) if row["value"] == value]
    if any(np.ndim(row["mean"]) for row in rows):
        raise InputError(f"{value}: expected a number in each cell, found lists")
    figure, axis = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    ticks = list(dict.fromkeys(_hashable(row[x]) for row in rows))
    measured = all(isinstance(tick, Real) and not isinstance(tick, bool) for tick in ticks)
    names = [None] if lines is None else list(dict.fromkeys(_hashable(row[lines]) for row in rows))
    for number, name in enumerate(names):
        mine = [row for row in rows if lines is None or _hashable(row[lines]) == name]
        places = np.array(
            [row[x] if measured else ticks.index(_hashable(row[x])) for row in mine], dtype=float
        )
        order = np.argsort(places)
        mean, low, high = (
            np.array([row[key] for row in mine])[order] for key in ("mean", "low", "high")
        )
        colour = COLOURS[number % len(COLOURS)]
        label = None if lines is None else _as_text(name)
        if measured:
            axis.fill_between(places[order], low, high, color=colour, alpha=0.12, lw=0)
            for edge in (low, high):
                axis.plot(places[order], edge, c=colour, lw=0.6, alpha=0.6)
            style = _TOLD_APART[number % len(_TOLD_APART)]
            axis.plot(places[order], mean, style, c=colour, marker="o", ms=3, label=label)
        else:
            shift = 0.0 if len(names) == 1 else 0.4 * (number / (len(names) - 1) - 0.5)
            axis.errorbar(
                places[order] + shift,
                mean,
                yerr=[mean - low, high - mean],
                fmt="o",
                c=colour,
                capsize=3,
                label=label,
            )
    if not measured:
        axis.set_xticks(range(len(ticks)), map(_as_text, ticks))
    if lines is not None:
        axis.legend(title=_named(lines, units), fontsize="small")
    axis.set(xlabel=_named(x, units), ylabel=_named(value, units))
    axis.set_title(_of_seeds({int(row["n"]) for row in rows}), fontsize="medium")
    return figure


def _of_seeds(numbers: set[int]) -> str:
    if max(numbers) == 1:
        return "one seed"
    each = "-".join(str(n) for n in sorted({min(numbers), max(numbers)}))
    return f"mean over {each} seeds, with 95 % interval"


def _named(name: str, units: Mapping[str, str] | None) -> str:
    unit = (units or {}).get(name)
    return name.replace("_", " ") + (f" ({unit})" if unit else "")


def _as_text(value: object) -> str:
    return f"{value:g}" if isinstance(value, Real) and not isinstance(value, bool) else str(value)


def _hashable(value: object) -> object:
    return value if value is None or isinstance(value, (Real, str)) else str(value)


def plot_confusion(
    result: Result,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    *,
    readout: str | None = None,
) -> Figure:
    """Draw which class was taken for which: a row for each right class, a column for each answer.

    Parameters
    ----------
    result : Result
    labels : (n_images,) array_like of int
        The right classes.
    class_names : sequence of str, optional
        By default the class numbers.
    readout : str, optional
        By default the one of the run.

    Returns
    -------
    matplotlib.figure.Figure
        Shares of each row, in per cent; 0 is left blank, and so is the row of a class without
        images.
    """
    accuracy = result.accuracy(labels, readout)  # checks the labels
    n_classes = result.steps.shape[2]
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (np.asarray(labels), result.predictions(readout)), 1)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [str(k) for k in range(n_classes)] if class_names is None else list(class_names)
    figure, axis = plt.subplots(figsize=(6.6, 5.6), layout="constrained")
    # The square root, so that rare mistakes can be seen beside what is right.
    image = axis.imshow(shares, cmap="cividis", norm=PowerNorm(0.5, vmin=0, vmax=100))
    if n_classes <= _MOST_IN_CELLS:
        for row, column in np.argwhere(counts):
            share = shares[row, column]
            axis.text(
                column,
                row,
                f"{share:.0f}" if share >= 10 else f"{share:.1f}",
                ha="center",
                va="center",
                fontsize="small",
                color="black" if share > 25 else "white",
            )
    axis.set_xticks(range(n_classes), names, rotation=90 if max(map(len, names)) > 3 else 0)
    axis.set_yticks(range(n_classes), names)
    if n_classes > _MOST_IN_CELLS:
        axis.tick_params(labelsize="xx-small")
    axis.set(xlabel="answer of the network", ylabel="right class")
    axis.set_title(
        f"accuracy {100 * accuracy.value:.1f} % on {accuracy.n_images} images", fontsize="medium"
    )
    figure.colorbar(image, label="share of the images of a class (%)", ticks=[0, 1, 5, 25, 50, 100])
    return figure
