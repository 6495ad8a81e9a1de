"""Figures of accuracy: over time, split into effects, by class."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nengonet.checks import as_labels, as_number, described, positive_integer
from nengonet.exceptions import InputError
from nengonet.explain.budget import Budget
from nengonet.plots.frame import COLOURS, STYLES, in_style, names_of_classes, time_unit
from nengonet.plots.labels import label_ends
from nengonet.results.readout import Accuracy, share_interval
from nengonet.results.result import Result

_MOST_IN_CELLS = 15  # classes whose shares can be read in a confusion matrix


@in_style
def plot_latency(
    curves: dict[str, np.ndarray],
    ann: Accuracy | None = None,
    *,
    dt: float = 0.001,
    n_images: int | None = None,
) -> Figure:
    """Draw accuracy against the number of steps, with 95 % intervals (Wilson's).

    Parameters
    ----------
    curves : dict of (n_steps,) array_like
        Accuracies from `nengonet.Result.latency`, by name of the network.
    ann : Accuracy, optional
        The ANN's accuracy on the same images.
    dt
        See `nengonet.plots`.
    n_images : int, optional
        Number of images. By default that of ``ann``; needed without it.

    Examples
    --------
    >>> figure = nn.plots.plot_latency({"LIF": np.linspace(0.1, 0.97, 50)}, n_images=1000)
    """
    dt = as_number("dt", dt, "a time in seconds", above=0)
    if not curves:
        raise InputError("curves: expected {name: accuracies}, got none")
    if ann is not None and not isinstance(ann, Accuracy):
        given = "an Accuracy, such as nengonet.diagnose(…, labels=labels).ann_accuracy"
        raise InputError(f"ann: expected {given}, got {described(ann)}")
    if n_images is None and ann is None:
        raise InputError("n_images: expected the number of images, got None; give it, or give ann")
    n_images = ann.n_images if n_images is None else positive_integer("n_images", n_images)
    factor, unit = time_unit(dt)
    n_steps = max(map(len, curves.values()))
    figure, axis = plt.subplots(figsize=(8.0, 4.2))
    ends = [] if ann is None else [(n_steps, 100 * ann.value, "ANN", "black")]
    if ann is not None:
        axis.axhspan(*(100 * end for end in ann.interval), color="0.85", lw=0)
        axis.axhline(100 * ann.value, c="black", lw=0.8, ls="--")
    for k, (name, curve) in enumerate(curves.items()):
        steps, colour = np.arange(1, len(curve) + 1), COLOURS[k % len(COLOURS)]
        low, high = share_interval([curve], n_images)
        axis.fill_between(steps, 100 * low, 100 * high, color=colour, alpha=0.2, lw=0)
        axis.plot(steps, 100 * np.asarray(curve), STYLES[k % len(STYLES)], c=colour, label=name)
        ends.append((steps[-1], 100 * curve[-1], name, colour))
    axis.set(
        xlabel=f"steps of {dt * factor:g} {unit}",
        ylabel=f"accuracy (%) on {n_images} images",
        xlim=(1, n_steps),
        ylim=(0, 102),  # a line at 100 can be seen
    )
    axis.set_title("shaded: 95 % intervals")
    label_ends(axis, ends)
    return figure


@in_style
def plot_budget(budget: Budget) -> Figure:
    """Draw a `nengonet.error_budget` as a waterfall from the ANN's accuracy to the network's.

    Dots are accuracies, arrows the changes by each effect. The axis does not start at 0.

    Parameters
    ----------
    budget : Budget
        A budget from `nengonet.error_budget`.

    Examples
    --------
    >>> weights = nn.load_weights(nn.pretrained("mnist_dense"))
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.poisson_input((28, 28))
    ...     neurons = nn.IntegrateAndFire(amplitude=1 / 30)
    ...     hidden = nn.dense(pixels, weights["hidden"], neurons, gain=30.0)
    ...     output = nn.dense(hidden, weights["output"], neurons, gain=12.0)
    >>> images, labels = nn.datasets.load("mnist", n_images=20)
    >>> budget = nn.error_budget(output, images, labels, presentation_time=0.1)
    >>> figure = nn.plots.plot_budget(budget)
    """
    steps = budget.steps
    levels = [100 * step.accuracy for step in steps]
    rows = np.arange(len(steps) + 1)
    figure, axis = plt.subplots(figsize=(8.0, 0.5 * len(rows) + 1.4))
    axis.plot([levels[0], levels[-1]], [0, rows[-1]], "o", c="black", ms=7)
    texts = [(0, levels[0], f"{levels[0]:.1f} %"), (rows[-1], levels[-1], f"{levels[-1]:.1f} %")]
    ends = list(levels)
    for row, step, before, after in zip(rows[1:], steps[1:], levels, levels[1:], strict=False):
        colour = COLOURS[2] if after >= before else COLOURS[1]
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 3.0, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", (after, row), (before, row), arrowprops=arrow)
        interval = [before + end for end in step.interval]
        axis.plot(interval, [row + 0.25] * 2, c="black", lw=1.0)
        axis.plot([before, before], [row - 1, row], c="0.6", lw=0.7)
        texts.append((row, max(before, after, interval[1]), f"{step.change:+.1f}"))
        ends += interval
    for row, right, text in texts:
        axis.annotate(text, (right, row), (8, 0), textcoords="offset points", va="center")
    axis.set_yticks(rows, [*(step.name for step in steps), "as it is run"])
    axis.invert_yaxis()
    # The axis begins a little below the lowest interval, so that small changes are visible, and
    # ends with room for the figures beside the highest.
    span = max(max(ends) - min(ends), 2.0)
    limits = (max(0, min(ends) - 0.4 * span), max(ends) + 0.2 * span)
    axis.set_xlim(limits)
    axis.set_xticks([tick for tick in axis.get_xticks() if limits[0] <= tick <= 100])
    axis.set_xlabel(f"accuracy (%) on {budget.n_images} images")
    axis.plot([levels[-1]] * 2, [rows[-1] - 1, rows[-1]], c="0.6", lw=0.7)
    axis.set_title("changes in percentage points; thin: their 95 % intervals")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


@in_style
def plot_confusion(
    result: Result,
    labels: ArrayLike,
    class_names: Sequence[str] | None = None,
    *,
    readout: str | None = None,
) -> Figure:
    """Draw a confusion matrix: a row for each right class, a column for each answer.

    Shares of each row are in per cent; zeros are left blank, and so is the row of a class without
    images.

    Parameters
    ----------
    result, labels, class_names
        See `nengonet.plots`.
    readout : str, optional
        By default that of the run.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, presentation_time=1.0)
    >>> figure = nn.plots.plot_confusion(result, labels=[2], class_names=["a", "b", "c"])
    """
    n_classes = result.steps.shape[2]
    labels = as_labels(labels, result.n_images, n_classes)
    names = names_of_classes(class_names, n_classes)
    accuracy = result.accuracy(labels, readout)
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (labels, result.predictions(readout)), 1)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axis = plt.subplots(figsize=(6.6, 5.6))
    # The square root makes rare mistakes visible.
    image = axis.imshow(shares, cmap="cividis", norm=PowerNorm(0.5, vmin=0, vmax=100))
    many = n_classes > _MOST_IN_CELLS
    centred = {"fontsize": "small", "ha": "center", "va": "center"}
    for row, column in [] if many else np.argwhere(counts):
        share = shares[row, column]
        text = f"{share:.0f}" if share >= 10 else f"{share:.1f}"
        axis.text(column, row, text, color="black" if share > 25 else "white", **centred)
    axis.set_xticks(range(n_classes), names, rotation=90 if many or max(map(len, names)) > 3 else 0)
    axis.set_yticks(range(n_classes), names)
    if many:
        axis.tick_params(labelsize="xx-small")
    axis.set(xlabel="answer of the network", ylabel="right class")
    axis.set_title(f"accuracy {100 * accuracy.value:.1f} % on {accuracy.n_images} images")
    figure.colorbar(image, label="share of the images of a class (%)", ticks=[0, 1, 5, 25, 50, 100])
    return figure
