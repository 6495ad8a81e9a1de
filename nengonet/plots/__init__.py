"""Figures of results, one function each.

A ``plot_…`` function returns a `matplotlib.figure.Figure`, and raises `InputError` if its arguments
do not fit. These parameters mean the same in all of them:

``result``, ``index``
    A `nengonet.Result` with the counts or rasters to draw, and the number of the example.
``image``, ``images``
    (rows, columns) or (rows, columns, channels) array_like, in [0, 1]; one for each image.
``label``, ``labels``, ``class_names``
    The right class of each image, an int; and a name for each class, by default its number.
``dt``
    Length of a step, in seconds.
"""

from nengonet.plots.accuracies import plot_budget, plot_confusion, plot_latency
from nengonet.plots.frame import COLOURS, check_figure_path, save_figure, time_unit
from nengonet.plots.labels import label_lines
from nengonet.plots.layers import (
    draw_spike_histogram,
    plot_comparison,
    plot_rates,
    plot_weights,
)
from nengonet.plots.presentations import (
    plot_logits,
    plot_output,
    plot_presentation,
    plot_raster,
    plot_rate_and_spikes,
    plot_spikes_and_probabilities,
)
from nengonet.plots.sweeps import plot_amplitude, plot_sweep

__all__ = [
    "COLOURS",
    "check_figure_path",
    "draw_spike_histogram",
    "label_lines",
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
