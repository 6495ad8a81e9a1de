"""The weights of a layer as images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from nengonet.exceptions import InputError
from nengonet.weights import LayerWeights, as_layer_weights

_TILES_IN_A_ROW = 8


def plot_weights(
    weights: LayerWeights | np.ndarray,
    shape: Sequence[int] | None = None,
    *,
    n_max: int = 32,
) -> Figure:
    """Draw the weights of a layer as images.

    Parameters
    ----------
    weights : LayerWeights or array_like
        Of a Dense, Conv2D or DepthwiseConv2D layer, as Keras stores them.
    shape : (rows, columns), optional
        Of the layer before a Dense layer: each neuron's weights then make an image of that shape.
        Without it, the kernel is one image. Not for convolutions, whose kernels have a shape.
    n_max : int
        Draw the first so many neurons, or so many filters and input channels.

    Returns
    -------
    matplotlib.figure.Figure
        One colour scale for all, with 0 in its middle.

    Raises
    ------
    InputError
        The shape does not fit the kernel, or there is nothing to draw.
    """
    weights = as_layer_weights(weights, name="weights")
    if n_max < 1:
        raise InputError(f"n_max: expected 1 or more, found {n_max}")
    kernel = np.asarray(weights.kernel)
    if kernel.ndim == 4:
        if shape is not None:
            raise InputError(f"{weights.name}: expected no shape for a convolution, found {shape}")
        kernel = kernel[:, :, :n_max, :n_max]
        tiles = np.moveaxis(kernel, (3, 2), (0, 1))
        axes = ("input channel", "filter")
    elif shape is not None:
        if len(shape) != 2 or math.prod(shape) != kernel.shape[0]:
            raise InputError(
                f"{weights.name}: shape: expected (rows, columns) of {kernel.shape[0]} inputs, "
                f"found {tuple(shape)}"
            )
        tiles = _in_rows(kernel.T[:n_max].reshape(-1, *shape))
        axes = (f"neurons 0 to {min(n_max, kernel.shape[1]) - 1}, row by row", "")
    else:
        tiles = kernel[:, :n_max].T[np.newaxis, np.newaxis]
        axes = ("input", "neuron")
    return _drawn(weights.name, tiles, axes, framed=tiles.shape[:2] != (1, 1))


def _in_rows(images: np.ndarray) -> np.ndarray:
    """Arrange images in rows; what is left of the last row stays blank."""
    columns = min(_TILES_IN_A_ROW, len(images))
    rows = -(-len(images) // columns)
    tiles = np.full((rows * columns, *images.shape[1:]), np.nan)
    tiles[: len(images)] = images
    return tiles.reshape(rows, columns, *images.shape[1:])


def _drawn(name: str, tiles: np.ndarray, axes: tuple[str, str], *, framed: bool) -> Figure:
    """Draw (rows, columns, height, width) tiles as one image, with a gap between them."""
    if framed:
        tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    rows, columns, height, width = tiles.shape
    picture = tiles.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    ratio = picture.shape[0] / picture.shape[1]
    size = (6.5, 6.5 * ratio) if ratio < 1 else (6.5 / ratio, 6.5)
    # Room for the colour bar and the labels.
    figure, axis = plt.subplots(
        figsize=(size[0] + 1.6, max(size[1] + 0.8, 2.2)), layout="constrained"
    )
    largest = float(np.nanmax(np.abs(tiles))) or 1.0
    drawn = axis.imshow(
        picture,
        cmap="PuOr",
        vmin=-largest,
        vmax=largest,
        interpolation="none",
        aspect="auto" if not framed else "equal",
    )
    if framed:
        ticks = (np.arange(columns) * width + (width - 2) / 2, np.arange(rows) * height)
        axis.set_xticks(ticks[0] if axes[1] else [], range(columns) if axes[1] else [])
        axis.set_yticks(
            ticks[1] + (height - 2) / 2 if axes[1] else [], range(rows) if axes[1] else []
        )
        axis.tick_params(length=0, labelsize="x-small")
        axis.set_frame_on(False)
    axis.set(xlabel=axes[0], ylabel=axes[1])
    axis.set_title(f"weights of {name}", fontsize="medium")
    figure.colorbar(drawn, label="weight", shrink=0.8)
    return figure
