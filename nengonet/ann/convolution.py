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


def conv2d(
    images: np.ndarray,
    kernel: np.ndarray,
    *,
    strides: int | Sequence[int] = (1, 1),
    padding: str = "valid",
    groups: int = 1,
) -> np.ndarray:
    """Compute what Keras' Conv2D computes, without bias and activation.

    Parameters
    ----------
    images : (n_images, rows, columns, channels) array_like
    kernel : (kernel_rows, kernel_columns, channels / groups, filters) array_like
    strides : int or (int, int)
        In rows and columns.
    padding : {'valid', 'same'}
    groups : int
        Filter group ``i`` sees channel group ``i`` only.

    Returns
    -------
    values : (n_images, out_rows, out_columns, filters) ndarray

    Raises
    ------
    InputError
        The channels do not fit the kernel and the groups, or the kernel is larger than the image.
    """
    images, kernel = _images(images), _kernel(kernel)
    n_images, *shape_in, channels = images.shape
    *size, group_channels, filters = kernel.shape
    groups = positive_integer("groups", groups)
    if group_channels * groups != channels:
        raise InputError(
            f"kernel: expected {channels} input channels, as the images have, found "
            f"{group_channels} x {groups} groups (shape {kernel.shape}); the third axis of a "
            "Conv2D kernel is channels / groups"
        )
    if filters % groups:
        raise InputError(
            f"groups: expected a divisor of the {filters} filters, found {groups}; the last axis "
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


def depthwise_conv2d(
    images: np.ndarray,
    kernel: np.ndarray,
    *,
    strides: int | Sequence[int] = (1, 1),
    padding: str = "valid",
) -> np.ndarray:
    """Compute what Keras' DepthwiseConv2D computes, without bias and activation."""
    images, kernel = _images(images), _kernel(kernel)
    channels = images.shape[3]
    if kernel.shape[2] != channels:
        raise InputError(
            f"kernel: expected {channels} input channels, as the images have, found "
            f"{kernel.shape[2]} (shape {kernel.shape}); the third axis of a DepthwiseConv2D "
            "kernel is channels"
        )
    grouped = depthwise_as_grouped(kernel)
    return conv2d(images, grouped, strides=strides, padding=padding, groups=channels)


def depthwise_as_grouped(kernel: np.ndarray) -> np.ndarray:
    """Return the Conv2D kernel that does the same with one group for each input channel."""
    kernel = _kernel(kernel)
    return kernel.reshape(*kernel.shape[:2], 1, -1)


def max_pool2d(
    images: np.ndarray,
    size: int | Sequence[int] = (2, 2),
    strides: int | Sequence[int] | None = None,
    padding: str = "valid",
) -> np.ndarray:
    """Compute what Keras' MaxPooling2D computes.

    Parameters
    ----------
    images : (n_images, rows, columns, channels) array_like
    size : int or (int, int)
        Of the window, in rows and columns.
    strides : int or (int, int), optional
        By default the size.
    padding : {'valid', 'same'}
        Padding is never the largest, also where all pixels are negative.

    Returns
    -------
    values : (n_images, out_rows, out_columns, channels) ndarray

    Raises
    ------
    InputError
        The window is larger than the image.
    """
    return _pooled(_images(images), size, strides, padding, np.maximum, -np.inf)


def average_pool2d(
    images: np.ndarray,
    size: int | Sequence[int] = (2, 2),
    strides: int | Sequence[int] | None = None,
    padding: str = "valid",
) -> np.ndarray:
    """Compute what Keras' AveragePooling2D computes."""
    images = _images(images)
    sums = _pooled(images, size, strides, padding, np.add, 0.0)
    pixels = np.ones((1, *images.shape[1:3], 1))
    return sums / _pooled(pixels, size, strides, padding, np.add, 0.0)


def global_average_pool2d(images: np.ndarray) -> np.ndarray:
    """Compute what Keras' GlobalAveragePooling2D computes: the mean of every channel."""
    return _images(images).mean(axis=(1, 2))


def output_shape(
    shape_in: Sequence[int],
    size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str,
) -> tuple[int, int]:
    """Return the rows and columns that a convolution or a pool puts out."""
    return tuple(n_out for n_out, _ in _axes(shape_in, size, strides, padding))


def padding_of(
    shape_in: Sequence[int],
    size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how many rows and columns of padding go around an image."""
    totals = [total for _, total in _axes(shape_in, size, strides, padding)]
    return tuple((total // 2, total - total // 2) for total in totals)


def as_pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Return a size or stride in rows and columns."""
    values = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(values) != 2:
        raise InputError(f"{name}: expected one whole number or two, found {value!r}")
    return tuple(positive_integer(name, item) for item in values)


def _axes(shape_in, size, strides, padding) -> list[tuple[int, int]]:
    """Return the output length and the total padding of rows, then of columns."""
    if padding not in ("valid", "same"):
        raise InputError(f"padding: expected 'valid' or 'same', found {padding!r}")
    shape, size = tuple(shape_in)[:2], as_pair("size", size)
    if len(shape) != 2:
        raise InputError(f"shape_in: expected (rows, columns), found {tuple(shape_in)}")
    if padding == "valid" and any(k > n for k, n in zip(size, shape, strict=True)):
        raise InputError(
            f"size: expected at most the image's {shape[0]} x {shape[1]} for padding 'valid', "
            f"found {size[0]} x {size[1]}; use a smaller kernel or window, or padding 'same'"
        )
    axes = []
    for n, k, step in zip(shape, size, as_pair("strides", strides), strict=True):
        if padding == "valid":
            axes.append(((n - k) // step + 1, 0))
        else:
            n_out = -(-n // step)
            axes.append((n_out, max((n_out - 1) * step + k - n, 0)))
    return axes


def _pooled(
    images: np.ndarray,
    size: int | Sequence[int],
    strides: int | Sequence[int] | None,
    padding: str,
    combine: Callable,
    neutral: float,
) -> np.ndarray:
    """Combine the pixels of every window; `neutral` is the padding that changes nothing."""
    size = as_pair("size", size)
    strides = size if strides is None else as_pair("strides", strides)
    out_shape = output_shape(images.shape[1:], size, strides, padding)
    pad = padding_of(images.shape[1:], size, strides, padding)
    padded = np.pad(images, ((0, 0), *pad, (0, 0)), constant_values=neutral)
    values = np.full((len(images), *out_shape, images.shape[3]), neutral)
    for place in np.ndindex(*size):
        rows, columns = (
            slice(first, first + step * (n - 1) + 1, step)
            for first, step, n in zip(place, strides, out_shape, strict=True)
        )
        combine(values, padded[:, rows, columns], out=values)
    return values


def _images(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images, dtype=np.float64)
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise InputError(
            "images: expected shape (n_images, rows, columns, channels) with at least one pixel, "
            f"found {images.shape}; add a last axis to images of one channel"
        )
    return images


def _kernel(kernel: np.ndarray) -> np.ndarray:
    kernel = np.asarray(kernel, dtype=np.float64)
    if kernel.ndim != 4 or not kernel.size:
        raise InputError(
            "kernel: expected 4 dimensions (rows, columns, input channels, outputs), none of "
            f"them empty, found shape {kernel.shape}"
        )
    return kernel
