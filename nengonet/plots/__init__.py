"""Figures, each one function on results."""

from nengonet.plots.accuracies import plot_budget, plot_confusion, plot_latency, plot_sweep
from nengonet.plots.drawing import COLOURS, check_figure_path, save_figure
from nengonet.plots.firing import plot_comparison, plot_rates
from nengonet.plots.runs import plot_logits, plot_output, plot_presentation, plot_raster
from nengonet.plots.weight_images import plot_weights

__all__ = [
    "COLOURS",
    "check_figure_path",
    "plot_budget",
    "plot_comparison",
    "plot_confusion",
    "plot_latency",
    "plot_logits",
    "plot_output",
    "plot_presentation",
    "plot_raster",
    "plot_rates",
    "plot_sweep",
    "plot_weights",
    "save_figure",
]
