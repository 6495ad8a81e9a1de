"""Figures of firing rates: against the predicted ones, and how they are spread."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nengonet.exceptions import InputError
from nengonet.explain.comparison import Comparison
from nengonet.plots.drawing import COLOURS
from nengonet.results.result import Result

_BINS = 30


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
        lowest = 1.05 * min(predicted.min(), observed.min(), 0.0)
        highest = 1.05 * max(predicted.max(), observed.max(), 1.0)
        # Drawn as an image: a layer may have a hundred thousand points.
        axis.scatter(predicted, observed, s=3, alpha=0.15, c=COLOURS[0], lw=0, rasterized=True)
        axis.plot([lowest, highest], [lowest, highest], c="black", lw=0.8, ls="--", label="equal")
        correlation = row["correlation"]
        note = "" if correlation is None else f"\ncorrelation {correlation:.3f}"
        axis.set_title(f"{row['label']}{note}", fontsize="medium")
        ends = (lowest, highest)
        axis.set(xlabel="predicted rate (Hz)", xlim=ends, ylim=ends, aspect=1)
    axes[0][0].set_ylabel("observed rate (Hz)")
    axes[0][0].legend(loc="upper left", fontsize="small")
    return figure


def plot_rates(result: Result, layers: Sequence[str] | None = None) -> Figure:
    """Draw how the rates of each layer are spread, over neurons and images.

    Parameters
    ----------
    result : Result
        With the counts of those layers.
    layers : sequence of str, optional
        Labels; by default every spiking layer whose counts were kept.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        A layer was not kept, or none was.
    """
    labels = list(result.counts) if layers is None else list(layers)
    if not labels:
        raise InputError("expected a result with the counts of a spiking layer: name it in keep")
    figure, axes = plt.subplots(
        1,
        len(labels),
        figsize=(3.4 * len(labels), 3.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, label in zip(axes[0], labels, strict=True):
        rates = np.abs(result.rates(label)).ravel()
        spiking = rates[rates > 0]
        edges = _edges(np.abs(result.counts[label].astype(np.int64)).max(initial=1)) / (
            result.n_steps * result.dt
        )
        shares = np.full(spiking.size, 100 / rates.size)
        axis.hist(spiking, bins=edges, weights=shares, color=COLOURS[0])
        axis.set_title(
            f"{label}: {np.mean(rates == 0):.0%} silent\nmean {rates.mean():.3g} Hz, "
            f"largest {rates.max():,.0f} Hz",
            fontsize="medium",
        )
        axis.set(xlabel="rate of a neuron in an image (Hz)", xlim=(0, edges[-1]), yscale="log")
    axes[0][0].set_ylabel("share of all rates (%)")
    return figure


def _edges(largest: int) -> np.ndarray:
    """Return the edges of some 30 bins of equally many whole counts, from 1 to the largest."""
    width = -(-int(largest) // _BINS)
    return 0.5 + width * np.arange(-(-int(largest) // width) + 1)


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
