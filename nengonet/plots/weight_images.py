"""The weights of a layer as images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from nengonet.checks import positive_integer
from nengonet.exceptions import InputError
from nengonet.plots.frame import in_style
from nengonet.weights import LayerWeights, as_layer_weights

_TILES_IN_A_ROW = 8


@in_style
def plot_weights(
    weights: LayerWeights | np.ndarray, shape: Sequence[int] | None = None, *, n_max: int = 32
) -> Figure:
    """Draw the weights of a layer as images, in one colour scale with 0 in its middle.

    Parameters
    ----------
    weights : LayerWeights or array_like
        Of a Dense layer or a convolution, as Keras stores them.
    shape : (rows, columns), optional
        Of the layer before a Dense layer: each neuron's weights then make an image of that shape.
        Without it, the kernel is one image. Not for convolutions, whose kernels have a shape.
    n_max : int
        Draw the first ``n_max`` neurons, or filters and input channels.
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
    elif shape is not None:
        if len(shape) != 2 or math.prod(shape) != kernel.shape[0]:
            raise InputError(
                f"{weights.name}: shape: expected (rows, columns) of {kernel.shape[0]} inputs, "
                f"got {tuple(shape)}"
            )
        tiles = _in_rows(kernel.T[:n_max].reshape(-1, *shape))
        n_drawn = min(n_max, kernel.shape[1])
        labels = (f"neurons 0 to {n_drawn - 1}, row by row" if n_drawn > 1 else "neuron 0", "")
    else:
        tiles, labels = kernel[:, :n_max].T[np.newaxis, np.newaxis], ("input", "neuron")
    return _drawn(weights.name, tiles, labels)


def _in_rows(images: np.ndarray) -> np.ndarray:
    """Arrange images in rows; what is left of the last row stays blank."""
    columns = min(_TILES_IN_A_ROW, len(images))
    rows = -(-len(images) // columns)
    tiles = np.full((rows * columns, *images.shape[1:]), np.nan)
    tiles[: len(images)] = images
    return tiles.reshape(rows, columns, *images.shape[1:])


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
    axis.set_title(f"weights of {name}")
    figure.colorbar(drawn, label="weight", shrink=0.8)
    return figure
