"""Figures of accuracy over parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nengonet.checks import check_among
from nengonet.exceptions import InputError
from nengonet.plots.frame import COLOURS, STYLES, in_style
from nengonet.plots.labels import label_ends, label_lines
from nengonet.sweeps.result import Sweep

# Units of the parameters of nengonet's own networks; others are given.
_UNITS = {"input_rate": "Hz", "full_scale_rate": "Hz", "presentation_time": "s", "synapse": "s"}
_INTERVAL = ("mean", "low", "high")
# Labels and markers of the curves beside the thread's.
_BESIDE = {
    "compensated": ("weights compensated for the amplitude", "s"),
    "linear": ("no neurons in the last layer", "^"),
    "unclipped": ("LIF voltage may go below 0", "v"),
    "retrained": ("weights trained at that amplitude", "D"),
}


@in_style
def plot_sweep(
    sweep: Sweep,
    value: str = "accuracy",
    x: str | None = None,
    *,
    lines: str | Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """Draw a value of a sweep against one of its parameters, with 95 % intervals over the seeds.

    Parameters
    ----------
    sweep : Sweep
        A sweep from `nengonet.sweep`.
    value : str
        Name of a value that the function returned; it must be a number.
    x : str, optional
        The parameter along the axis; by default the one with the most values, numbers first.
        Numbers are joined by lines; other values are drawn side by side.
    lines : str or sequence of str, optional
        The parameters whose combinations are separate lines; by default all others. Parameters
        that are not named are averaged over.
    units : dict of str, optional
        Units by the name of a parameter or value, for axes and legend: ``{"input_rate": "Hz"}``.

    Examples
    --------
    >>> found = nn.sweep(lambda rate, seed: {"y": rate**0.5}, {"rate": [1, 2, 3]}, seeds=2)
    >>> figure = nn.plots.plot_sweep(found, "y", units={"rate": "Hz"})
    """
    check_among("value", value, sweep.values)
    x = max(sweep.parameters, key=lambda name: _width(sweep, name)) if x is None else x
    if lines is None:
        lines = [name for name in sweep.parameters if name != x]
    lines = [lines] if isinstance(lines, str) else list(lines)
    rows = [row for row in sweep.summary([x, *lines]) if row["value"] == value]
    if any(np.ndim(row["mean"]) for row in rows):
        raise InputError(f"{value}: expected a number in each cell, got lists")
    units = _UNITS | dict(units or {})
    curves: dict[str, list[dict]] = {}
    for row in rows:
        words = (f"{_with_unit(k, {})} {_in_words(row[k], units.get(k))}" for k in lines)
        curves.setdefault(", ".join(words), []).append(row)
    figure, axis = plt.subplots()
    numbers = all(_is_number(row[x]) for row in rows)
    names = list(dict.fromkeys(_in_words(row[x]) for row in rows))
    if not numbers:
        axis.set_xticks(range(len(names)), names)
    style = {"fmt": "o", "ms": 4, "lw": 1.4, "elinewidth": 0.8, "capsize": 3}
    ends: list[tuple] = []
    for k, (name, points) in enumerate(curves.items()):
        points = sorted(points, key=lambda row: row[x]) if numbers else points
        mean, low, high = (np.array([row[key] for row in points]) for key in _INTERVAL)
        places = [row[x] if numbers else names.index(_in_words(row[x])) for row in points]
        ends.append((places[-1], mean[-1], name, COLOURS[k % len(COLOURS)]))
        axis.errorbar(
            places,
            mean,
            np.nan_to_num([mean - low, high - mean]),  # one seed has no interval
            ls=STYLES[k % len(STYLES)] if numbers else "",
            c=COLOURS[k % len(COLOURS)],
            label=name,
            **style,
        )
    if lines:
        label_ends(axis, ends)
    axis.grid(alpha=0.3)
    axis.set(xlabel=_with_unit(x, units), ylabel=_with_unit(value, units))
    seeds = sorted({int(row["n"]) for row in rows})
    n = "-".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    axis.set_title(f"mean over {n} seeds, with 95 % interval" if seeds[-1] > 1 else "one seed")
    return figure


def _width(sweep: Sweep, name: str) -> tuple[bool, int]:
    values = [row[name] for row in sweep.rows]
    return all(map(_is_number, values)), len(set(map(_in_words, values)))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _in_words(value: object, unit: str | None = None) -> str:
    if not _is_number(value):
        return "none" if value is None else str(value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if unit is None else f"{text} {unit}"


def _with_unit(name: str, units: Mapping[str, str]) -> str:
    return name.replace("_", " ") + (f" ({units[name]})" if name in units else "")


@in_style
def plot_amplitude(cells: Sequence[Mapping]) -> Figure:
    """Draw accuracy against LIF amplitude, from the cells of `nengonet.studies.amplitude`.

    Parameters
    ----------
    cells : sequence of dict
        Rows of the study's report.

    Examples
    --------
    >>> common = {"network": "mlp", "kind": "fixed", "n": 10}
    >>> figures = {"mean": 0.9, "low": 0.88, "high": 0.92, "one_seed": 0.9}
    >>> cells = [{"amplitude": amplitude, **common, **figures} for amplitude in (0.01, 0.02)]
    >>> figure = nn.plots.plot_amplitude(cells)
    """
    names = list(dict.fromkeys(cell["network"] for cell in cells))
    figure, axes = plt.subplots(len(names), 1, figsize=(10.0, 3.6 * len(names)), squeeze=False)
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
    def columns(kind: str, *names: str) -> np.ndarray:
        rows = [[cell["amplitude"], *(100 * cell[name] for name in names)] for cell in kinds[kind]]
        return np.transpose(rows)

    amplitudes, mean, low, high, one = columns("fixed", *_INTERVAL, "one_seed")
    axis.fill_between(amplitudes, low, high, color=COLOURS[0], alpha=0.25, lw=0)
    label = f"mean of {kinds['fixed'][0]['n']} seeds, 95 % interval"
    axis.plot(amplitudes, mean, c=COLOURS[0], lw=2, label=label)
    axis.plot(amplitudes, one, "o-", c=COLOURS[1], ms=2.5, lw=1, label="one seed")
    # A kind has the same colour in every panel.
    for colour, (kind, (label, marker)) in zip((*COLOURS[2:], "0.4"), _BESIDE.items(), strict=True):
        if kind in kinds:
            style = {"markevery": max(1, len(kinds[kind]) // 10), "ms": 5, "lw": 0.8}
            axis.plot(*columns(kind, "mean"), marker=marker, c=colour, label=label, **style)
    axis.set(ylabel="accuracy (%)", xlim=(0, amplitudes[-1] + 0.01))
    label_lines(axis)
