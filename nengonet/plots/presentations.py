"""Figures of single presentations: the image, the spikes, the output over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.special import softmax

from nengonet.checks import as_labels, as_number, as_pixels, check_among, positive_integer
from nengonet.exceptions import InputError
from nengonet.plots import frame
from nengonet.plots.frame import COLOURS, in_style, names_of_classes, plain
from nengonet.plots.layers import draw_spike_histogram
from nengonet.results.result import Result

_WINDOWS = 25  # windows of a presentation, where rates replace spikes
# Spikes times the height of a mark, in points: some tenth of the axes is black.
_MOST_MARKS = 12_000


@in_style
def plot_presentation(
    image: ArrayLike, result: Result, index: int = 0, label: int | None = None
) -> Figure:
    """Draw an image, the raster of each spiking layer that has one, and the scores over time.

    Parameters
    ----------
    image, result, index, label
        See `nengonet.plots`.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, rasters=["layer"], presentation_time=0.1)
    >>> figure = nn.plots.plot_presentation([images[0]], result, label=2)
    """
    layers = [info.label for info in result.layers if info.label in result.rasters]
    if not layers:
        raise InputError("result: expected rasters, got none; pass rasters=[…] to present")
    n_rows = len(layers) + 1
    figure, axes = _beside_image(image, result, index, label, n_rows, (9.0, 2.2 * n_rows))
    for axis, layer in zip(axes, layers, strict=False):
        _draw_spikes(axis, result, layer, index)
        axis.set(xlabel="", xticklabels=[])
    _draw_scores(axes[-1], result, index, label)
    return figure


@in_style
def plot_output(
    image: ArrayLike,
    result: Result,
    index: int = 0,
    label: int | str | None = None,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draw an image beside the score of every class over time; ``label`` may be a word.

    Parameters
    ----------
    image, result, index, class_names
        See `nengonet.plots`.
    label : int or str, optional
        The right class, or a word.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, rasters=["layer"], presentation_time=0.1)
    >>> figure = nn.plots.plot_output([images[0]], result, class_names=["a", "b", "c"])
    """
    class_names = names_of_classes(class_names, result.steps.shape[2])
    figure, axes = _beside_image(image, result, index, label, 1, (9.0, 3.4))
    right = class_names.index(label) if label in class_names else label
    _draw_scores(axes[0], result, index, None if isinstance(right, str) else right, class_names)
    return figure


@in_style
def plot_raster(
    result: Result, label: str, index: int = 0, *, predicted: np.ndarray | None = None
) -> Figure:
    """Draw the spikes of one layer in one presentation, beside the rate of every neuron.

    If the marks of spikes would overlap, colours show rates in short windows instead.

    Parameters
    ----------
    result, index
        See `nengonet.plots`.
    label : str
        Label of the layer.
    predicted : (n_neurons,) or (n_images, n_neurons) array_like, in Hz, optional
        Rates from `nengonet.predict_rates`, drawn beside the observed ones.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, rasters=["layer"], presentation_time=0.1)
    >>> predicted = nn.predict_rates(layer, images)
    >>> figure = nn.plots.plot_raster(result, "layer", predicted=predicted)
    """
    check_among("label", label, [info.label for info in result.layers])
    if label not in result.rasters:
        give = f"pass rasters=[{label!r}] to present"
        raise InputError(f"{label}: expected a result with the raster of this layer; {give}")
    index = positive_integer("index", index, 0, result.n_images - 1)
    counts = result.rasters[label][index].sum(axis=0)
    if predicted is not None:
        rates = np.atleast_2d(predicted)
        rates = rates[index if len(rates) > 1 else 0]
        if rates.shape != counts.shape:
            raise InputError(
                f"predicted: expected rates of {counts.size} neurons, got {np.shape(predicted)}"
            )
    shared = {"width_ratios": (2.6, 1), "sharey": True}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 4.0), **shared)
    _draw_spikes(left, result, label, index)
    neurons, observed = np.arange(counts.size), counts / (result.n_steps * result.dt)
    right.barh(neurons, observed, height=1.0, color=COLOURS[0], alpha=0.5)
    above = {"xycoords": "axes fraction", "xytext": (0, 4), "textcoords": "offset points"}
    right.annotate("bars: observed", (0, 1), color=COLOURS[0], fontsize="small", **above)
    if predicted is not None:
        right.plot(rates, neurons, ".", color=COLOURS[1], ms=4)
        words = {"color": COLOURS[1], "fontsize": "small", "ha": "right"}
        right.annotate("dots: predicted", (1, 1), **words, **above)
    right.set(xlabel="rate (Hz)", xlim=(0, None))
    return figure


@in_style
def plot_logits(
    times: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    titles: Sequence[str],
    labels: Sequence[int],
) -> Figure:
    """Draw the output of every class over time: a row for each network, a column for each image.

    The right class is blue. If another class is the largest at the end, it is red.

    Parameters
    ----------
    times : (n_steps,) array_like, in seconds
    outputs : dict of (n_images, n_steps, n_classes) array_like
        Outputs by the name of the network; all NaN for images that were not run.
    class_names, labels
        See `nengonet.plots`.
    titles : sequence of str
        A title for each image.

    Examples
    --------
    >>> logits = {"LIF": np.random.default_rng(0).normal(size=(1, 20, 3))}
    >>> times = np.arange(1, 21) * 0.001
    >>> figure = nn.plots.plot_logits(times, logits, ["a", "b", "c"], ["an image"], [0])
    """
    for logits in outputs.values():
        class_names = names_of_classes(class_names, np.shape(logits)[-1])
    labels = as_labels(labels, len(titles), len(class_names))
    n_rows, n_columns = len(outputs), len(titles)
    size = ((4.2 if n_columns <= 3 else 2.6) * n_columns + 0.6, 2.3 * n_rows + 0.6)
    shared = {"sharex": True, "sharey": "row", "squeeze": False}
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, **shared)
    factor, unit = frame.time_unit(times[-1])
    for row, (name, logits) in zip(axes, outputs.items(), strict=True):
        row[0].set_ylabel(f"{name}\nlogit")
        for axis, curves, label in zip(row, logits, labels, strict=True):
            if np.all(np.isnan(curves)):
                axis.text(0.5, 0.5, "not run", ha="center", transform=axis.transAxes)
            else:
                shown = factor * np.asarray(times), curves, class_names
                frame.draw_curves(axis, *shown, int(curves[-1].argmax()), label)
    for top, bottom, title in zip(axes[0], axes[-1], titles, strict=True):
        top.set_title(title)
        bottom.set_xlabel(f"time ({unit})")
    return figure


@in_style
def plot_rate_and_spikes(
    image: ArrayLike,
    label: int,
    rates: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    *,
    dt: float = 0.001,
) -> Figure:
    """Draw the response of several networks to one image, with a row for each network.

    The image is on the left. In the middle is the rate of every neuron of the first layer, map by
    map; on the right the softmax of the last layer's output at every step.

    Parameters
    ----------
    image, label, dt
        See `nengonet.plots`.
    rates : dict of (rows, columns, channels) array_like, in Hz
        Rates of the first layer, by the name of the network.
    outputs : dict of (n_steps, n_classes) array_like
        Outputs of the last layer, by the name of the network.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rates, outputs = {"LIF": 100 * rng.random((4, 4, 2))}, {"LIF": rng.normal(size=(10, 3))}
    >>> figure = nn.plots.plot_rate_and_spikes(rng.random((8, 8)), 0, rates, outputs)
    """
    n_classes = min(np.shape(each)[-1] for each in outputs.values())
    label = positive_integer("label", label, 0, n_classes - 1)
    image = frame.as_image(image)
    dt = as_number("dt", dt, "a time in seconds", above=0)
    shared = {"width_ratios": (1, 4.4, 2.4), "squeeze": False}
    figure, axes = plt.subplots(len(rates), 3, figsize=(12.0, 2.3 * len(rates)), **shared)
    for row, (name, maps) in zip(axes, rates.items(), strict=True):
        row[0].imshow(image, cmap="gray")
        row[0].set(xticks=[], yticks=[], ylabel=name)
        # The maps are side by side, with a gap of one column.
        maps = np.asarray(maps, dtype=float)
        padded = np.pad(maps, ((0, 0), (0, 1), (0, 0)))
        drawn = row[1].imshow(np.concatenate(np.moveaxis(padded, 2, 0), axis=1), cmap="cividis")
        figure.colorbar(drawn, ax=row[1], label="Hz", shrink=0.8)
        row[1].set(xticks=[], yticks=[])
        row[1].set_title(f"first layer: mean {maps.mean():,.2f} Hz, max {maps.max():,.4g} Hz")
        time = _draw_answer(row[2], dt, outputs[name], label)
    axes[0, 0].set_title(f"class {label}")
    axes[-1, 2].set_xlabel(time)
    return figure


def _draw_answer(axis: Axes, dt: float, outputs: np.ndarray, label: int) -> str:
    """Draw probabilities over time: the right class and the last answer, the others in grey."""
    curves = _probabilities(outputs)
    times, time = frame.step_ends(len(curves), dt)
    answer = int(outputs[-1].argmax())
    names = list(map(str, range(curves.shape[1])))
    frame.draw_curves(axis, times, curves, names, answer, label, marker=".", ms=4)
    axis.set(ylabel="probability", ylim=(-0.05, 1.05), xlim=(0, times[-1] + times[0] / 2))
    axis.set_title(f"softmax; answer at the end: {answer}")
    return time


@in_style
def plot_spikes_and_probabilities(
    images: ArrayLike,
    labels: Sequence[int],
    class_names: Sequence[str],
    cells: Mapping[str, tuple[float, np.ndarray, np.ndarray, np.ndarray]],
) -> Figure:
    """Draw the responses of several networks to some images, as in KerasSpiking's tutorial.

    There is a row for each network, and two columns for each image. The first shows how often a
    neuron emits 0, 1, 2, … spikes in a step; the second the softmax of the last layer's output at
    every step, with the right class in blue and a wrong answer in red.

    Parameters
    ----------
    images, labels, class_names
        See `nengonet.plots`.
    cells : dict of (float, ndarray, ndarray, ndarray)
        For each title: dt in seconds, the spikes of each neuron in each step (n_images, n_steps,
        n_neurons), the last layer's outputs (n_images, n_steps, n_classes), and the predicted
        classes (n_images,).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> spikes, outputs = rng.integers(0, 2, (1, 10, 5)), rng.normal(size=(1, 10, 3))
    >>> cells = {"plain": (0.001, spikes, outputs, np.array([0]))}
    >>> images = rng.random((1, 8, 8))
    >>> figure = nn.plots.plot_spikes_and_probabilities(images, [0], ["a", "b", "c"], cells)
    """
    images = as_pixels(images)
    for _, _, outputs, _ in cells.values():
        class_names = names_of_classes(class_names, np.shape(outputs)[-1])
    labels = as_labels(labels, len(images), len(class_names))
    n_rows, n_images = len(cells) + 1, len(images)
    size = (5.8 * n_images + 0.6, 2.1 * n_rows + 0.3)
    shared = {"width_ratios": (1, 1.4) * n_images, "squeeze": False}
    figure, axes = plt.subplots(n_rows, 2 * n_images, figsize=size, **shared)
    for axis in axes[0]:
        axis.set_axis_off()
    for axis, image, label in zip(axes[0, ::2], images, labels, strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(class_names[label])
    for row, (title, (dt, *of_images)) in zip(axes[1:], cells.items(), strict=True):
        columns = zip(row[::2], row[1::2], labels, *of_images, strict=True)
        for left, right, label, spikes, outputs, answer in columns:
            draw_spike_histogram(left, spikes)
            left.set_title(title, fontsize="small")
            # The value of a step holds for the whole step.
            curves = _probabilities(outputs)
            curves, ends = np.concatenate([curves, curves[-1:]]), dt * np.arange(len(curves) + 1)
            shown = ends, curves, class_names, answer, label
            # Too low for the names of all.
            frame.draw_curves(right, *shown, most_named=0, drawstyle="steps-post")
            right.locator_params(axis="x", nbins=4)
            right.set(xlabel="time (s)", ylabel="probability", ylim=(-0.05, 1.05))
            right.set_title(f"answer: {class_names[answer]}", fontsize="small")
    return figure


def _probabilities(outputs: np.ndarray) -> np.ndarray:
    return softmax(np.asarray(outputs, dtype=np.float64), axis=-1)


def _beside_image(image, result, index, label, n_rows, size) -> tuple[Figure, list[Axes]]:
    """Draw an image under the run's answer; return the axes in the rows beside it."""
    index = positive_integer("index", index, 0, result.n_images - 1)
    image = frame.as_image(image)
    rows = [["image", k] for k in range(n_rows)]
    ratios = (1, 3) if n_rows == 1 else (1, 2.4)
    figure, axes = plt.subplot_mosaic(rows, figsize=size, width_ratios=ratios)
    left = axes.pop("image")
    left.imshow(image, cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=1)
    # With set_axis_off, the layout would leave no room for the title.
    left.set(xticks=[], yticks=[], frame_on=False)
    answer = f"answer {result.predictions()[index]}{', a tie' if result.tied()[index] else ''}"
    left.set_title(answer if label is None else f"image of a {plain(label)}\n{answer}")
    return figure, list(axes.values())


def _draw_spikes(axis: Axes, result: Result, label: str, index: int) -> None:
    """Draw a layer's spikes as marks; if there are too many, rates in windows as colours."""
    spikes = result.rasters[label][index]
    n_steps, n_neurons = spikes.shape
    times, time = frame.step_ends(n_steps, result.dt)
    if np.count_nonzero(spikes) * max(200 / n_neurons, 2.0) > _MOST_MARKS:
        _draw_rates(axis, spikes, times, result.dt)
    else:
        _draw_marks(axis, spikes, times)
    mean_rate = spikes.sum() / n_neurons / (n_steps * result.dt)
    rate = f"{mean_rate:.0f}" if mean_rate >= 10 else f"{mean_rate:.2g}"
    several = f", up to {spikes.max()} in a step" if spikes.max(initial=0) > 1 else ""
    words = f"{spikes.sum():,} spikes of {n_neurons} neurons{several}, mean {rate} Hz"
    axis.set_title(f"{plain(label)}: {words}")
    axis.set(ylabel="neuron", ylim=(-1, n_neurons), xlim=(0, times[-1] + times[0] / 2), xlabel=time)


def _draw_rates(axis: Axes, spikes: np.ndarray, times: np.ndarray, dt: float) -> None:
    """Draw the rate of every neuron in windows of some steps."""
    n_steps, n_neurons = spikes.shape
    width = -(-n_steps // _WINDOWS)
    starts = np.arange(0, n_steps, width)
    lengths = np.diff([*starts, n_steps])
    rates = np.add.reduceat(spikes, starts, axis=0).T / (lengths * dt)
    edges = np.concatenate([[0.0], times[np.cumsum(lengths) - 1]])
    neurons = np.arange(n_neurons + 1) - 0.5
    drawn = axis.pcolormesh(edges, neurons, rates, cmap="cividis", vmin=0, rasterized=True)
    steps = f"{width} steps" if width > 1 else "one step"
    axis.figure.colorbar(drawn, ax=axis, label=f"rate in {steps} (Hz)")


def _draw_marks(axis: Axes, spikes: np.ndarray, times: np.ndarray) -> None:
    """Draw a mark for each spike."""
    n_neurons = spikes.shape[1]
    steps, neurons = np.nonzero(spikes)
    counts = spikes[steps, neurons]
    # A mark fills the room of its neuron, but stays visible among hundreds. Several spikes of a
    # neuron in one step are one wider mark.
    height = float(np.clip(200 / n_neurons, 2.0, 12.0))
    widths = 0.8 * np.minimum(counts, 8)
    axis.scatter(times[steps], neurons, s=height**2, c="black", marker="|", linewidths=widths)


def _draw_scores(axis: Axes, result: Result, index: int, right=None, class_names=None) -> None:
    """Draw the score of every class over time."""
    scores = result.scores()[index]
    names = names_of_classes(class_names, scores.shape[1])
    times, time = frame.step_ends(result.n_steps, result.dt)
    # A score holds until the end of the next step: counts rise in steps.
    shown = times, scores, names, int(result.predictions()[index]), right
    frame.draw_curves(axis, *shown, drawstyle="steps-post")
    readout = result.settings["readout"].replace("_", " ")
    axis.set_title(f"{plain(result.layers[-1].label)}: {readout} of each class")
    axis.set(xlabel=time, ylabel=readout, xlim=(0, times[-1] + times[0] / 2))
