"""Keras' convolution and pooling layers in NumPy, channels last.

All functions compute in float64. ``'same'`` pads as Keras on TensorFlow does: the padding
depends on the stride, and an odd row or column of it goes to the bottom or right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nengonet.checks import positive_integer
from nengonet.exceptions import InputError

# Windows are copied before they are multiplied; this bounds the copy whatever the image count.
_CHUNK_BYTES = 32 * 2**20

Pair = int | Sequence[int]


def conv2d(
    images: np.ndarray,
    kernel: np.ndarray,
    *,
    strides: Pair = (1, 1),
    padding: str = "valid",
    groups: int = 1,
) -> np.ndarray:
    """Compute what Keras' Conv2D computes, without bias and activation.

    ``images`` are (n_images, rows, columns, channels), ``kernel`` is (kernel_rows, kernel_columns,
    channels / groups, filters). Filter group ``i`` sees channel group ``i`` only.
    """
    images, kernel = _images(images), _kernel(kernel)
    n_images, *shape_in, channels = images.shape
    *size, group_channels, filters = kernel.shape
    groups = positive_integer("groups", groups)
    if group_channels * groups != channels:
        raise InputError(
            f"kernel: expected {channels} input channels, as the images have, got "
            f"{group_channels} x {groups} groups (shape {kernel.shape}); the third axis of a "
            "Conv2D kernel is channels / groups"
        )
    if filters % groups:
        raise InputError(
            f"groups: expected a divisor of the {filters} filters, got {groups}; the last axis "
            "of a Conv2D kernel counts the filters of all groups"
        )
    out_shape = output_shape(shape_in, size, strides, padding)
    pad = padding_of(shape_in, size, strides, padding)
    row_step, column_step = as_pair("strides", strides)
    matrices = kernel.reshape(-1, groups, filters // groups).transpose(1, 0, 2)
    values = np.empty((n_images, *out_shape, filters))
    window_bytes = values.itemsize * math.prod([*out_shape, *size, channels])
    n_chunk = max(1, _CHUNK_BYTES // window_bytes)
    for start in range(0, n_images, n_chunk):
        padded = np.pad(images[start : start + n_chunk], ((0, 0), *pad, (0, 0)))
        windows = sliding_window_view(padded, size, axis=(1, 2))[:, ::row_step, ::column_step]
        windows = windows.reshape(*windows.shape[:3], groups, group_channels, *size)
        rows = windows.transpose(3, 0, 1, 2, 5, 6, 4).reshape(groups, -1, matrices.shape[1])
        products = (rows @ matrices).transpose(1, 0, 2)
        values[start : start + n_chunk] = products.reshape(-1, *out_shape, filters)
    return values


def depthwise_as_grouped(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return the Conv2D kernel that does what DepthwiseConv2D does, one group for each channel."""
    kernel = _kernel(kernel)
    if kernel.shape[2] != channels:
        raise InputError(
            f"kernel: expected {channels} input channels, as the images have, got "
            f"{kernel.shape[2]} (shape {kernel.shape}); the third axis of a DepthwiseConv2D "
            "kernel is channels"
        )
    return kernel.reshape(*kernel.shape[:2], 1, -1)


def max_pool2d(
    images: np.ndarray, size: Pair = (2, 2), strides: Pair | None = None, padding: str = "valid"
) -> np.ndarray:
    """Compute what Keras' MaxPooling2D computes; padding is never the largest."""
    return _pooled(images, size, strides, padding, np.maximum, -np.inf)


def average_pool2d(
    images: np.ndarray, size: Pair = (2, 2), strides: Pair | None = None, padding: str = "valid"
) -> np.ndarray:
    """Compute what Keras' AveragePooling2D computes: padding is no pixel of a mean."""
    sums, n_pixels = (
        _pooled(each, size, strides, padding, np.add, 0.0)
        for each in (images, np.ones((1, *np.shape(images)[1:3], 1)))
    )
    return sums / n_pixels


def global_average_pool2d(images: np.ndarray) -> np.ndarray:
    """Compute what Keras' GlobalAveragePooling2D computes: the mean of every channel."""
    return _images(images).mean(axis=(1, 2))


def _pooled(
    images: np.ndarray,
    size: Pair,
    strides: Pair | None,
    padding: str,
    combine: Callable,
    neutral: float,
) -> np.ndarray:
    """Combine the pixels of every window."""
    images = _images(images)
    geometry = (images.shape[1:], size, size if strides is None else strides, padding)
    values = np.full((len(images), *output_shape(*geometry), images.shape[3]), neutral)
    for there, here in places(*geometry):
        chosen = values[(slice(None), *there)]
        combine(chosen, images[(slice(None), *here)], out=chosen)
    return values


def places(
    shape: Sequence[int], size: Pair, strides: Pair, padding: str
) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Return, for each place in a window, the windows that have an input there, and those inputs.

    As slices of rows and columns: of what is put out, and of the image.
    """
    size, strides = as_pair("size", size), as_pair("strides", strides)
    pads = padding_of(shape, size, strides, padding)
    n_outs = output_shape(shape, size, strides, padding)
    axes = []
    for n, k, step, n_out, (before, _) in zip(shape[:2], size, strides, n_outs, pads, strict=True):
        along = []
        for offset in range(-before, k - before):
            # The windows for which window * step + offset is an input.
            first, last = max(0, -(offset // step)), min(n_out - 1, (n - 1 - offset) // step)
            if first <= last:
                inputs = slice(first * step + offset, last * step + offset + 1, step)
                along.append((slice(first, last + 1), inputs))
        axes.append(along)
    rows, columns = axes
    return [tuple(zip(row, column, strict=True)) for row in rows for column in columns]


def output_shape(
    shape_in: Sequence[int], size: Pair, strides: Pair, padding: str
) -> tuple[int, int]:
    """Return the rows and columns that a convolution or a pool puts out."""
    return tuple(n_out for n_out, _ in _axes(shape_in, size, strides, padding))


def padding_of(
    shape_in: Sequence[int], size: Pair, strides: Pair, padding: str
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how many rows and columns of padding go around an image."""
    totals = [total for _, total in _axes(shape_in, size, strides, padding)]
    return tuple((total // 2, total - total // 2) for total in totals)


def as_pair(name: str, value: Pair) -> tuple[int, int]:
    """Return a size or stride in rows and columns."""
    values = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(values) != 2:
        raise InputError(f"{name}: expected one whole number or two, got {value!r}")
    return tuple(positive_integer(name, item) for item in values)


def _axes(
    shape_in: Sequence[int], size: Pair, strides: Pair, padding: str
) -> list[tuple[int, int]]:
    """Return the output length and the total padding of rows, then of columns."""
    if padding not in ("valid", "same"):
        raise InputError(f"padding: expected 'valid' or 'same', got {padding!r}")
    shape, size = tuple(shape_in)[:2], as_pair("size", size)
    if len(shape) != 2:
        raise InputError(f"shape_in: expected (rows, columns), got {tuple(shape_in)}")
    if padding == "valid" and any(k > n for k, n in zip(size, shape, strict=True)):
        raise InputError(
            f"size: expected at most the image's {shape[0]} x {shape[1]} for padding 'valid', "
            f"got {size[0]} x {size[1]}; use a smaller kernel or window, or padding 'same'"
        )
    axes = []
    for n, k, step in zip(shape, size, as_pair("strides", strides), strict=True):
        n_out = (n - k) // step + 1 if padding == "valid" else -(-n // step)
        total = 0 if padding == "valid" else max((n_out - 1) * step + k - n, 0)
        axes.append((n_out, total))
    return axes


def _images(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images, dtype=np.float64)
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise InputError(
            "images: expected shape (n_images, rows, columns, channels) with at least one pixel, "
            f"got {images.shape}; add a last axis to images of one channel"
        )
    return images


def _kernel(kernel: np.ndarray) -> np.ndarray:
    kernel = np.asarray(kernel, dtype=np.float64)
    if kernel.ndim != 4 or not kernel.size:
        raise InputError(
            "kernel: expected 4 dimensions (rows, columns, input channels, outputs), none of "
            f"them empty, got shape {kernel.shape}"
        )
    return kernel
