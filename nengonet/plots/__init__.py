"""Figures, each one function of results.

A ``plot_…`` function returns a `matplotlib.figure.Figure`, and raises `InputError` where its
arguments do not fit.
"""

from nengonet.plots.accuracies import plot_budget, plot_confusion, plot_latency
from nengonet.plots.frame import COLOURS, check_figure_path, save_figure, time_unit
from nengonet.plots.presentations import (
    plot_logits,
    plot_output,
    plot_presentation,
    plot_raster,
    plot_rate_and_spikes,
    plot_spikes_and_probabilities,
)
from nengonet.plots.rates import draw_spike_histogram, plot_comparison, plot_rates
from nengonet.plots.sweeps import plot_amplitude, plot_sweep
from nengonet.plots.weight_images import plot_weights

__all__ = [
    "COLOURS",
    "check_figure_path",
    "draw_spike_histogram",
    "plot_amplitude",
    "plot_budget",
    "plot_comparison",
    "plot_confusion",
    "plot_latency",
    "plot_logits",
    "plot_output",
    "plot_presentation",
    "plot_raster",
    "plot_rate_and_spikes",
    "plot_rates",
    "plot_spikes_and_probabilities",
    "plot_sweep",
    "plot_weights",
    "save_figure",
    "time_unit",
]
