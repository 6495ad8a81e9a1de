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
from nengonet.plots.frame import COLOURS, in_style
from nengonet.results.result import Result

_BINS = 30


@in_style
def plot_comparison(comparison: Comparison) -> Figure:
    """Draw each spiking layer's observed rates against the predicted: `nengonet.compare`."""
    rows = comparison.layers
    figure, axes = plt.subplots(1, len(rows), figsize=(3.4 * len(rows), 3.8), squeeze=False)
    for axis, row in zip(axes[0], rows, strict=True):
        rates = (comparison.predicted[row["label"]], comparison.observed[row["label"]])
        ends = 1.05 * min(0.0, *map(np.min, rates)), 1.05 * max(1.0, *map(np.max, rates))
        # Drawn as an image: a layer may have a hundred thousand points.
        alpha = float(np.clip(2000 / rates[0].size, 0.15, 0.7))
        axis.scatter(*rates, s=3, alpha=alpha, c=COLOURS[0], lw=0, rasterized=True)
        axis.plot(ends, ends, c="black", lw=0.8, ls="--", label="equal")
        correlation = row["correlation"]
        note = "" if correlation is None else f"\ncorrelation {correlation:.3f}"
        axis.set_title(f"{row['label']}{note}")
        axis.set(xlabel="predicted rate (Hz)", xlim=ends, ylim=ends, aspect=1)
    axes[0, 0].set_ylabel("observed rate (Hz)")
    axes[0, 0].legend(loc="upper left")
    return figure


@in_style
def plot_rates(result: Result, layers: Sequence[str] | None = None) -> Figure:
    """Draw how the rates of layers (labels; by default all counted ones) are spread."""
    labels = list(result.counts) if layers is None else list(layers)
    if not labels:
        raise InputError("expected a result with the counts of a spiking layer: name it in keep")
    size = (3.4 * len(labels), 3.2)
    figure, axes = plt.subplots(1, len(labels), figsize=size, sharey=True, squeeze=False)
    for axis, label in zip(axes[0], labels, strict=True):
        rates = np.abs(result.rates(label)).ravel()
        spiking = rates[rates > 0]
        # Some 30 bins of equally many whole counts, from 1 to the largest.
        time = result.n_steps * result.dt
        largest = round(rates.max() * time) or 1
        width = -(-largest // _BINS)
        edges = (0.5 + width * np.arange(-(-largest // width) + 1)) / time
        shares = np.full(spiking.size, 100 / rates.size)
        axis.hist(spiking, bins=edges, weights=shares, color=COLOURS[0])
        axis.set_title(
            f"{label}: {np.mean(rates == 0):.0%} silent\nmean {rates.mean():.3g} Hz, "
            f"largest {rates.max():,.0f} Hz"
        )
        axis.set(xlabel="rate of a neuron in an image (Hz)", xlim=(0, edges[-1]), yscale="log")
    axes[0, 0].set_ylabel("share of all rates (%)")
    return figure


def draw_spike_histogram(axis: Axes, spikes: np.ndarray) -> None:
    """Draw how often neurons emit 0, 1, 2, … spikes in a step: (n_steps, n_neurons) of int."""
    times = np.bincount(np.ravel(spikes))
    bars = axis.bar(np.arange(len(times)), times, width=0.9, color=COLOURS[0])
    labels = [f"{n:,}" if n and len(times) <= 8 else "" for n in times]
    axis.bar_label(bars, labels, fontsize="x-small")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    # A logarithm, since nearly all neurons are silent in nearly all steps: as counted, one bar.
    axis.set(yscale="log", ylim=(0.5, 12 * times.max()), xlim=(-0.6, max(len(times) - 1, 2) + 0.6))
    axis.set(xlabel="spikes", ylabel="neurons x steps")
