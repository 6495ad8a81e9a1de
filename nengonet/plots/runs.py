"""Figures of single presentations: the image, the spikes, the output over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import softmax

from nengonet.checks import as_labels, as_number, as_pixels, positive_integer
from nengonet.exceptions import InputError
from nengonet.plots.drawing import (
    COLOURS,
    checked_image,
    draw_curves,
    draw_image,
    draw_raster,
    draw_scores,
    index_of,
    names_of_classes,
    time_unit,
    times_of,
)
from nengonet.plots.firing import draw_spike_histogram
from nengonet.results.result import Result


def plot_presentation(
    image: np.ndarray, result: Result, index: int = 0, label: int | None = None
) -> Figure:
    """Draw one presentation: the image, a raster of each spiking layer, the counts over time.

    Parameters
    ----------
    image : (rows, columns) or (rows, columns, channels) array_like, in [0, 1]
    result : Result
        With the rasters of every spiking layer but the last.
    index : int
        Which of the result's examples.
    label : int, optional
        The right class, for the title.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        The result holds no rasters.
    """
    rastered = [info for info in result.layers if info.label in result.rasters]
    if not rastered:
        raise InputError("expected a result with rasters: give present(…, rasters=[…])")
    index, image = index_of(index, result), checked_image(image)
    times = times_of(result)
    figure, axes = plt.subplot_mosaic(
        [["image", info.label] for info in rastered] + [["image", "scores of the last layer"]],
        figsize=(9.0, 2.2 * (len(rastered) + 1)),
        width_ratios=(1, 2.4),
        layout="constrained",
    )
    draw_image(axes["image"], image, result, index, label)
    for info in rastered:
        spikes = result.rasters[info.label][index]
        draw_raster(axes[info.label], times, spikes, info.label, result.n_steps * result.dt)
        axes[info.label].tick_params(labelbottom=False)
    draw_scores(axes["scores of the last layer"], times, result, index)
    return figure


def plot_output(
    image: np.ndarray,
    result: Result,
    index: int = 0,
    label: int | str | None = None,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draw an image beside the score of every class over time.

    Parameters
    ----------
    image : (rows, columns) or (rows, columns, channels) array_like, in [0, 1]
    result : Result
    index : int
        Which of the result's examples.
    label : int or str, optional
        The right class, for the title.
    class_names : sequence of str, optional
        By default the class numbers.

    Returns
    -------
    matplotlib.figure.Figure
    """
    index, image = index_of(index, result), checked_image(image)
    class_names = names_of_classes(class_names, result.steps.shape[2])
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.0, 3.4), width_ratios=(1, 3), layout="constrained"
    )
    draw_image(left, image, result, index, label)
    draw_scores(right, times_of(result), result, index, class_names)
    return figure


def plot_raster(
    result: Result, label: str, index: int = 0, *, predicted: np.ndarray | None = None
) -> Figure:
    """Draw the spikes of one layer in one presentation, beside the rate of every neuron.

    Parameters
    ----------
    result : Result
        With the raster of that layer.
    label : str
        Of the layer.
    index : int
        Which of the result's examples.
    predicted : (n_neurons,) or (n_images, n_neurons) array_like, in Hz, optional
        From `nengonet.predict_rates`, drawn beside the observed rates.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        The result holds no raster of that layer, or the predictions are of another shape.
    """
    if label not in result.rasters:
        raise InputError(
            f"{label}: expected a result with the raster of this layer: "
            f"give present(…, rasters=[{label!r}])"
        )
    index = index_of(index, result)
    spikes = result.rasters[label][index]
    n_steps, n_neurons = spikes.shape
    if predicted is not None:
        rates = np.atleast_2d(predicted)
        rates = rates[index if len(rates) > 1 else 0]
        if rates.shape != (n_neurons,):
            raise InputError(
                f"predicted: expected rates of {n_neurons} neurons, found {np.shape(predicted)}"
            )
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.0, 4.0), width_ratios=(2.6, 1), sharey=True, layout="constrained"
    )
    duration = n_steps * result.dt
    draw_raster(left, times_of(result), spikes, label, duration)
    left.set_xlabel(f"time ({time_unit(duration)[1]})")
    neurons = np.arange(n_neurons)
    observed = spikes.sum(axis=0) / duration
    right.barh(neurons, observed, height=1.0, color=COLOURS[0], alpha=0.5, label="observed")
    if predicted is not None:
        right.plot(rates, neurons, ".", color=COLOURS[1], ms=4, label="predicted")
    right.set(xlabel="rate (Hz)", xlim=(0, None))
    right.legend(fontsize="small", ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def plot_logits(
    times: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    titles: Sequence[str],
    labels: Sequence[int],
) -> Figure:
    """Draw the output of every class over time: a row for each network, a column for each image.

    Parameters
    ----------
    times : (n_steps,) array_like, in seconds
    outputs : dict of (n_images, n_steps, n_classes) array_like
        By the name of the network; all NaN for what was not run.
    class_names : sequence of str
    titles : sequence of str
        Of the images.
    labels : (n_images,) sequence of int
        The right classes, whose curves are drawn thick.

    Returns
    -------
    matplotlib.figure.Figure
    """
    for logits in outputs.values():
        class_names = names_of_classes(class_names, np.shape(logits)[-1])
    labels = as_labels(labels, len(titles), len(class_names))
    figure, axes = plt.subplots(
        len(outputs),
        len(titles),
        figsize=((3.6 if len(titles) <= 3 else 2.2) * len(titles) + 1.6, 2.1 * len(outputs) + 0.6),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    factor, unit = time_unit(times[-1])
    for row, (name, logits) in zip(axes, outputs.items(), strict=True):
        row[0].set_ylabel(f"{name}\nlogit")
        for axis, curves, label in zip(row, logits, labels, strict=True):
            if np.all(np.isnan(curves)):
                axis.text(0.5, 0.5, "not run", ha="center", transform=axis.transAxes)
                continue
            draw_curves(axis, factor * np.asarray(times), curves, class_names, thick=label)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize="medium")
    for axis in axes[-1]:
        axis.set_xlabel(f"time ({unit})")
    drawn = next(axis for axis in axes.flat if axis.lines)
    handles, names = drawn.get_legend_handles_labels()
    legend = figure.legend(
        handles,
        names,
        title="class\n(its own: thick)",
        loc="outside right center",
        fontsize="small",
    )
    for line in legend.get_lines():
        line.set_linewidth(1.2)
    return figure


def plot_rate_and_spikes(
    image: np.ndarray,
    label: int,
    rates: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    *,
    dt: float = 0.001,
) -> Figure:
    """Draw what several networks make of one image: a row each, rate neurons beside spiking ones.

    On the left the image, in the middle the rate of every neuron of the first layer, map by map,
    on the right the softmax of the last layer's output at every step.

    Parameters
    ----------
    image : (rows, columns) array_like
    label : int
        The right class.
    rates : dict of (rows, columns, channels) array_like, in Hz
        By the name of the network.
    outputs : dict of (n_steps, n_classes) array_like
        Likewise.
    dt : float, in seconds

    Returns
    -------
    matplotlib.figure.Figure
    """
    n_classes = min(np.shape(each)[-1] for each in outputs.values())
    label = positive_integer("label", label, 0, n_classes - 1)
    image = checked_image(image)
    dt = as_number("dt", dt, "a time in seconds", above=0)
    figure, axes = plt.subplots(
        len(rates),
        3,
        figsize=(12.0, 2.3 * len(rates)),
        width_ratios=(1, 4.4, 2.4),
        squeeze=False,
        layout="constrained",
    )
    for row, (name, maps) in zip(axes, rates.items(), strict=True):
        row[0].imshow(image, cmap="gray")
        row[0].set(xticks=[], yticks=[], ylabel=name)
        # The maps side by side, a gap of one column between them.
        maps = np.pad(np.asarray(maps, dtype=float), ((0, 0), (0, 1), (0, 0)), "constant")
        drawn = row[1].imshow(np.concatenate(np.moveaxis(maps, 2, 0), axis=1), cmap="cividis")
        figure.colorbar(drawn, ax=row[1], label="Hz", shrink=0.8)
        neurons = maps[:, :-1]
        row[1].set(xticks=[], yticks=[])
        row[1].set_title(
            f"first layer: mean {neurons.mean():,.2f} Hz, max {neurons.max():,.4g} Hz",
            fontsize="medium",
        )
        _draw_one_of_many(row[2], dt, outputs[name], label)
    axes[0, 0].set_title(f"class {label}", fontsize="medium")
    axes[-1, 2].set_xlabel("time (ms)")
    return figure


def _draw_one_of_many(axis: Axes, dt: float, outputs: np.ndarray, label: int) -> None:
    """Draw probabilities over time: the right class and the last answer, the others in grey."""
    curves = softmax(np.asarray(outputs, dtype=np.float64), axis=-1)
    times = 1000 * dt * np.arange(1, len(curves) + 1)
    answer = int(outputs[-1].argmax())
    axis.plot(times, curves, color="0.75", lw=0.8)
    if answer != label:
        axis.plot(
            times, curves[:, answer], "o--", c=COLOURS[1], ms=3, label=f"{answer}, the answer"
        )
    axis.plot(times, curves[:, label], "o-", c=COLOURS[0], ms=3, label=f"{label}, the right class")
    axis.set(ylabel="probability", ylim=(-0.05, 1.05), xlim=(0, times[-1] + times[0] / 2))
    axis.set_title(f"softmax; answer at the end: {answer}", fontsize="medium")
    axis.legend(fontsize="x-small", loc="center right")


def plot_spikes_and_probabilities(
    images: np.ndarray,
    labels: Sequence[int],
    class_names: Sequence[str],
    cells: Mapping[str, tuple[float, np.ndarray, np.ndarray, np.ndarray]],
) -> Figure:
    """Draw what several networks do with some images, as KerasSpiking's tutorial does with four.

    A row for each network and two columns for each image: how often a neuron emits 0, 1, 2, …
    spikes in a step, and the softmax of the last layer's output at every step.

    Parameters
    ----------
    images : (n_images, rows, columns) array_like, in [0, 1]
    labels : (n_images,) sequence of int
        The right classes, whose curves are drawn thick.
    class_names : sequence of str
    cells : dict of (float, ndarray, ndarray, ndarray)
        By title: dt in seconds, the spikes of each neuron in each step (n_images, n_steps,
        n_neurons), the last layer's outputs (n_images, n_steps, n_classes), and the classes that
        are read out (n_images,).

    Returns
    -------
    matplotlib.figure.Figure
    """
    images = as_pixels(images)
    for _, _, outputs, _ in cells.values():
        class_names = names_of_classes(class_names, np.shape(outputs)[-1])
    labels = as_labels(labels, len(images), len(class_names))
    figure, axes = plt.subplots(
        len(cells) + 1,
        2 * len(images),
        figsize=(5.2 * len(images) + 1.4, 1.9 * len(cells) + 2.2),
        width_ratios=(1, 1.4) * len(images),
        squeeze=False,
        layout="constrained",
    )
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        left, right = axes[0, 2 * number : 2 * number + 2]
        left.imshow(image, cmap="gray", vmin=0, vmax=1)
        left.set_title(class_names[label], fontsize="medium")
        left.set_axis_off()
        right.set_axis_off()
        for row, (title, cell) in zip(axes[1:], cells.items(), strict=True):
            dt, spikes, outputs, answers = cell
            left, right = row[2 * number : 2 * number + 2]
            draw_spike_histogram(left, spikes[number])
            left.set_title(title, fontsize="small")
            _draw_probabilities(right, dt, outputs[number], class_names, label)
            right.set_title(f"answer: {class_names[answers[number]]}", fontsize="small")
    handles, names = axes[1, 1].get_legend_handles_labels()
    legend = figure.legend(
        handles, names, title="class\n(right: thick)", loc="outside right center", fontsize="small"
    )
    for line in legend.get_lines():
        line.set_linewidth(1.2)
    return figure


def _draw_probabilities(axis, dt, outputs, class_names, label):
    n_steps = len(outputs)
    # Every step's value stands for the whole of its step.
    edges = dt * np.arange(n_steps + 1)
    curves = softmax(np.asarray(outputs, dtype=np.float64), axis=-1)
    curves = np.concatenate([curves, curves[-1:]])
    draw_curves(axis, edges, curves, class_names, thick=label, drawstyle="steps-post")
    axis.set(xlabel="time (s)", ylabel="probability", ylim=(-0.05, 1.05))
