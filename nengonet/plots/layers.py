"""Figures of layers: observed against predicted rates, distributions of rates, and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nengonet.checks import positive_integer
from nengonet.exceptions import InputError
from nengonet.explain.comparison import Comparison
from nengonet.plots.frame import COLOURS, in_style, plain
from nengonet.results.result import Result
from nengonet.weights import LayerWeights, as_layer_weights

_BINS = 30
_DOTS = 300_000  # of a layer, whose drawing takes a second
_TILES_IN_A_ROW = 8


@in_style
def plot_comparison(comparison: Comparison) -> Figure:
    """Draw each spiking layer's observed rates against the predicted ones.

    Parameters
    ----------
    comparison : Comparison
        A comparison from `nengonet.compare`.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, presentation_time=1.0)
    >>> figure = nn.plots.plot_comparison(nn.compare(result, layer, images))
    """
    rows = comparison.layers
    figure, axes = plt.subplots(1, len(rows), figsize=(3.4 * len(rows), 3.8), squeeze=False)
    for axis, row in zip(axes[0], rows, strict=True):
        rates = (comparison.predicted[row["label"]], comparison.observed[row["label"]])
        ends = 1.05 * min(0.0, *map(np.min, rates)), 1.05 * max(1.0, *map(np.max, rates))
        # Drawn as an image: a layer may have a hundred thousand points.
        alpha = float(np.clip(2000 / rates[0].size, 0.15, 0.7))
        every = math.ceil(rates[0].size / _DOTS)
        axis.scatter(
            *(each.ravel()[::every] for each in rates),
            s=3,
            alpha=alpha,
            c=COLOURS[0],
            lw=0,
            rasterized=True,
        )
        axis.plot(ends, ends, c="black", lw=0.8, ls="--")
        correlation = row["correlation"]
        note = "" if correlation is None else f"\ncorrelation {correlation:.3f}"
        axis.set_title(f"{plain(row['label'])}{note}")
        axis.set(xlabel="predicted rate (Hz)", xlim=ends, ylim=ends, aspect=1)
    axes[0, 0].set_ylabel("observed rate (Hz)")
    along = {"ha": "right", "va": "bottom", "rotation": 45, "rotation_mode": "anchor"}
    axes[0, 0].text(0.9, 0.9, "equal", fontsize="small", transform=axes[0, 0].transAxes, **along)
    return figure


@in_style
def plot_rates(result: Result, layers: Sequence[str] | None = None) -> Figure:
    """Draw the distribution of the rates of layers.

    Parameters
    ----------
    result
        See `nengonet.plots`.
    layers : sequence of str, optional
        Labels; by default all counted layers.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, presentation_time=1.0)
    >>> figure = nn.plots.plot_rates(result, ["layer"])
    """
    labels = list(result.counts) if layers is None else list(layers)
    if not labels:
        raise InputError(
            "result: expected the counts of a spiking layer, got none; name it in keep of present"
        )
    size = (3.4 * len(labels), 3.2)
    figure, axes = plt.subplots(1, len(labels), figsize=size, sharey=True, squeeze=False)
    for axis, label in zip(axes[0], labels, strict=True):
        rates = np.abs(result.rates(label)).ravel()
        spiking = rates[rates > 0]
        # Some 30 bins with the same number of whole counts each, from 1 to the largest.
        time = result.n_steps * result.dt
        largest = round(rates.max() * time) or 1
        width = -(-largest // _BINS)
        edges = (0.5 + width * np.arange(-(-largest // width) + 1)) / time
        shares = np.full(spiking.size, 100 / rates.size)
        shares, _ = np.histogram(spiking, bins=edges, weights=shares)
        # Only the outline: on a logarithmic axis the area of a bar has no meaning.
        axis.stairs(shares, edges, color=COLOURS[0], lw=1.4)
        silent, mean = f"{np.mean(rates == 0):.0%} silent", f"mean {rates.mean():.3g} Hz"
        axis.set_title(f"{plain(label)}: {silent}\n{mean}, largest {rates.max():,.0f} Hz")
        axis.set(xlabel="rate of a neuron in an image (Hz)", xlim=(0, edges[-1]), yscale="log")
    axes[0, 0].set_ylabel("share of all rates (%)")
    return figure


def draw_spike_histogram(axis: Axes, spikes: np.ndarray) -> None:
    """Draw how often neurons emit 0, 1, 2, … spikes in a step: (n_steps, n_neurons) of int.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        The axes to draw on.
    spikes : (n_steps, n_neurons) array_like of int
        Spikes of each neuron in each step.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, axis = plt.subplots()
    >>> nn.plots.draw_spike_histogram(axis, np.array([[0, 1, 2], [0, 0, 1]]))
    """
    times = np.bincount(np.ravel(spikes))
    bars = axis.bar(np.arange(len(times)), times, width=0.9, color=COLOURS[0])
    labels = [f"{n:,}" if n and len(times) <= 8 else "" for n in times]
    axis.bar_label(bars, labels, fontsize="x-small")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    # A logarithm, since nearly all neurons are silent in nearly all steps.
    axis.set(yscale="log", ylim=(0.5, 12 * times.max()), xlim=(-0.6, max(len(times) - 1, 2) + 0.6))
    axis.set(xlabel="spikes", ylabel="neurons x steps")


@in_style
def plot_weights(
    weights: LayerWeights | np.ndarray, shape: Sequence[int] | None = None, *, n_max: int = 32
) -> Figure:
    """Draw the weights of a layer as images, on one colour scale centred at 0.

    Parameters
    ----------
    weights : LayerWeights or array_like
        Weights of a Dense layer or a convolution, as Keras stores them.
    shape : (rows, columns), optional
        Shape of the layer before a Dense layer: each neuron's weights are then drawn as an image of
        that shape. Without it, the kernel is one image. Not for convolutions, whose kernels already
        have a shape.
    n_max : int
        Draw the first ``n_max`` neurons, or filters and input channels.

    Examples
    --------
    >>> figure = nn.plots.plot_weights(np.eye(16, 4), shape=(4, 4))
    """
    weights = as_layer_weights(weights, name="weights")
    n_max = positive_integer("n_max", n_max)
    kernel = np.asarray(weights.kernel)
    kernel = kernel[np.newaxis] if kernel.ndim == 3 else kernel  # over steps: one row
    # Tiles of (height, width), in rows and columns.
    if kernel.ndim == 4:
        if shape is not None:
            raise InputError(f"{weights.name}: expected no shape for a convolution, got {shape}")
        tiles = np.moveaxis(kernel[:, :, :n_max, :n_max], (3, 2), (0, 1))
        labels = ("input channel", "filter")
        if len(tiles) > tiles.shape[1]:  # a figure is wide
            tiles, labels = tiles.swapaxes(0, 1), labels[::-1]
    elif shape is not None:
        if len(shape) != 2 or math.prod(shape) != kernel.shape[0]:
            raise InputError(
                f"{weights.name}: shape: expected (rows, columns) of {kernel.shape[0]} inputs, "
                f"got {tuple(shape)}"
            )
        images = kernel.T[:n_max].reshape(-1, *shape)
        columns = min(_TILES_IN_A_ROW, len(images))
        blank = np.full((-len(images) % columns, *shape), np.nan)
        tiles = np.concatenate([images, blank]).reshape(-1, columns, *shape)
        last = len(images) - 1
        labels = (f"neurons 0 to {last}, row by row" if last else "neuron 0", "")
    else:
        tiles, labels = kernel[:, :n_max].T[np.newaxis, np.newaxis], ("input", "neuron")
    return _drawn(weights.name, tiles, labels)


def _drawn(name: str, tiles: np.ndarray, labels: tuple[str, str]) -> Figure:
    """Draw tiles as one image, with a gap between them."""
    framed = tiles.shape[:2] != (1, 1)
    if framed:
        tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    rows, columns, height, width = tiles.shape
    picture = tiles.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    ratio = picture.shape[0] / picture.shape[1]
    across, up = (6.5, 6.5 * ratio) if ratio < 1 else (6.5 / ratio, 6.5)
    # Room for the colour bar and the labels.
    figure, axis = plt.subplots(figsize=(across + 1.6, max(up + 0.8, 2.2)))
    largest = float(np.nanmax(np.abs(tiles))) or 1.0
    scale = {"cmap": "PuOr", "vmin": -largest, "vmax": largest, "interpolation": "none"}
    drawn = axis.imshow(picture, aspect="equal" if framed else "auto", **scale)
    if framed:
        for side, n, size in ((axis.xaxis, columns, width), (axis.yaxis, rows, height)):
            n = n if labels[1] else 0
            side.set_ticks(np.arange(n) * size + (size - 2) / 2, range(n))
        axis.tick_params(length=0, labelsize="x-small")
        axis.set_frame_on(False)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    axis.set_title(f"weights of {plain(name)}")
    figure.colorbar(drawn, label="weight", shrink=0.8)
    return figure
