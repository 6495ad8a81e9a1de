"""Figures of accuracy: over time, split into effects, over parameters, by class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from nengonet.checks import as_labels, as_number
from nengonet.exceptions import InputError
from nengonet.explain.budget import Budget
from nengonet.plots.drawing import COLOURS, names_of_classes, time_unit
from nengonet.results.readout import Accuracy, wilson_interval
from nengonet.results.result import Result
from nengonet.sweeps.sweep import Sweep

# Curves that lie upon each other are told apart by their styles.
_TOLD_APART = ("-", ":", "-.")
# Of what nengonet's own networks are swept over; others are stated.
_UNITS = {
    "input_rate": "Hz",
    "full_scale_rate": "Hz",
    "presentation_time": "s",
    "synapse": "s",
}
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
    dt = as_number("dt", dt, "a time in seconds", above=0)
    if not curves:
        raise InputError("curves: expected {name: accuracies}, got none")
    factor, unit = time_unit(dt)
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
        xlabel=f"steps of {dt * factor:g} {unit}",
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
    intervals = [wilson_interval(k, n_images) for k in found]
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
    # From a little below the lowest bar or interval, so that small changes can be seen, to room for
    # the figures beside the highest.
    ends = [100 * step.accuracy - step.change + end for step in steps[1:] for end in step.interval]
    lowest, highest = min(levels + ends), max(levels + ends)
    span = max(highest - lowest, 2.0)
    limits = (max(0, lowest - 0.4 * span), highest + 0.2 * span)
    axis.set_xlim(limits)
    axis.set_xticks([tick for tick in axis.get_xticks() if limits[0] <= tick <= 100])
    axis.set_xlabel(f"accuracy (%) on {budget.n_images} images")
    axis.set_title("changes in percentage points, with 95 % intervals", fontsize="medium")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure


def plot_sweep(
    sweep: Sweep,
    value: str = "accuracy",
    x: str | None = None,
    *,
    lines: str | Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """Draw what a sweep found against one of its parameters, with 95 % intervals over the seeds.

    Parameters
    ----------
    sweep : Sweep
        From `nengonet.sweep`.
    value : str
        Which of the values that the function returned; a number.
    x : str, optional
        The parameter along the axis; by default the one with most values, numbers before others.
        Numbers make lines; anything else stands side by side.
    lines : str or sequence of str, optional
        The parameters whose combinations are lines of their own; by default all others. Over
        those that are not named, the mean is taken.
    units : dict of str, optional
        By the name of a parameter or value, for axes and legend: ``{"input_rate": "Hz"}``.

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
            f"value: expected one of {', '.join(sweep.values) or 'none'}; found {value!r}"
        )
    x = _widest(sweep) if x is None else x
    if lines is None:
        lines = [name for name in sweep.parameters if name != x]
    lines = [lines] if isinstance(lines, str) else list(lines)
    rows = [row for row in sweep.summary([x, *lines]) if row["value"] == value]
    if any(np.ndim(row["mean"]) for row in rows):
        raise InputError(f"{value}: expected a number in each cell, found lists")
    units = _UNITS | dict(units or {})
    figure, axis = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    measured = _are_numbers(row[x] for row in rows)
    ticks = list(dict.fromkeys(_as_text(row[x]) for row in rows))
    if not measured:
        axis.set_xticks(range(len(ticks)), ticks)
    curves: dict[str, list[dict]] = {}
    for row in rows:
        name = ", ".join(f"{_spaced(line)} {_measured(line, row[line], units)}" for line in lines)
        curves.setdefault(name, []).append(row)
    for number, (name, points) in enumerate(curves.items()):
        if measured:
            points = sorted(points, key=lambda row: row[x])
        at = [row[x] if measured else ticks.index(_as_text(row[x])) for row in points]
        mean, low, high = (
            np.array([row[key] for row in points], dtype=float) for key in ("mean", "low", "high")
        )
        axis.errorbar(
            at,
            mean,
            # One seed has no interval.
            np.nan_to_num([mean - low, high - mean]),
            fmt="o",
            ls=_TOLD_APART[number % len(_TOLD_APART)] if measured else "",
            c=COLOURS[number % len(COLOURS)],
            ms=4,
            lw=1.4,
            elinewidth=0.8,
            capsize=3,
            label=name,
        )
    if lines:
        axis.legend(fontsize="small")
    axis.grid(alpha=0.3)
    axis.set(xlabel=_with_unit(x, units), ylabel=_with_unit(value, units))
    axis.set_title(_of_seeds({int(row["n"]) for row in rows}), fontsize="medium")
    return figure


def _widest(sweep: Sweep) -> str:
    values = {name: [row[name] for row in sweep.rows] for name in sweep.parameters}
    return max(
        values, key=lambda name: (_are_numbers(values[name]), len(set(map(_as_text, values[name]))))
    )


def _are_numbers(values: Iterable[object]) -> bool:
    return all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def _as_text(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _measured(name: str, value: object, units: Mapping[str, str]) -> str:
    return _as_text(value) + (f" {units[name]}" if name in units and _are_numbers([value]) else "")


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _with_unit(name: str, units: Mapping[str, str]) -> str:
    return _spaced(name) + (f" ({units[name]})" if name in units else "")


def _of_seeds(numbers: set[int]) -> str:
    if max(numbers) <= 1:
        return "one seed"
    each = "-".join(str(n) for n in sorted({min(numbers), max(numbers)}))
    return f"mean over {each} seeds, with 95 % interval"


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

    Raises
    ------
    InputError
        The labels are not one for each example, or there is no such readout.
    """
    n_classes = result.steps.shape[2]
    labels = as_labels(labels, result.n_images, n_classes)
    names = names_of_classes(class_names, n_classes)
    accuracy = result.accuracy(labels, readout)
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (labels, result.predictions(readout)), 1)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
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
