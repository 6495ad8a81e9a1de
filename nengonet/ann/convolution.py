"""Keras' convolution and pooling layers in NumPy, over any number of dimensions, channels last.

All functions compute in float64. ``'same'`` pads as Keras on TensorFlow does: the padding
depends on the stride, and an odd row or column of it goes to the bottom or right.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nengonet.checks import positive_integer, quoted
from nengonet.exceptions import InputError

# Windows are copied before they are multiplied; this many bytes of them stay in the cache.
_CHUNK_BYTES = 2 * 2**20
# Names of the axes of an input, by their number.
AXES = {1: "steps", 2: "rows, columns"}

Lengths = int | Sequence[int]


def convolve(
    images: np.ndarray,
    kernel: np.ndarray,
    *,
    strides: Lengths = 1,
    padding: str = "valid",
    groups: int = 1,
) -> np.ndarray:
    """Compute a Keras Conv1D or Conv2D, without bias and activation.

    ``images`` are (n_images, rows, columns, channels), ``kernel`` is (kernel_rows, kernel_columns,
    channels / groups, filters); or both without columns. Filter group ``i`` sees channel group
    ``i`` only.
    """
    kernel = _kernel(kernel)
    images = _images(images, kernel.ndim - 2)
    n_images, *shape_in, channels = images.shape
    *size, group_channels, filters = kernel.shape
    groups = positive_integer("groups", groups)
    what = f"Conv{len(size)}D"
    if group_channels * groups != channels:
        raise InputError(
            f"kernel: expected {channels} input channels, as the images have, got "
            f"{group_channels} x {groups} groups (shape {kernel.shape}); the second-last axis of "
            f"a {what} kernel is channels / groups"
        )
    if filters % groups:
        raise InputError(
            f"groups: expected a divisor of the {filters} filters, got {groups}; the last axis "
            f"of a {what} kernel counts the filters of all groups"
        )
    _, _, steps, out_shape, pad = zip(*_axes(shape_in, size, strides, padding), strict=True)
    steps = tuple(slice(None, None, step) for step in steps)
    matrices = kernel.reshape(-1, groups, filters // groups).transpose(1, 0, 2)
    values = np.empty((n_images, *out_shape, filters))
    window_bytes = values.itemsize * math.prod([*out_shape, *size, channels])
    n_chunk = max(1, _CHUNK_BYTES // window_bytes)
    places = [1 + k for k in range(len(size))]
    of_window = [len(size) + 2 + k for k in places]
    for start in range(0, n_images, n_chunk):
        padded = np.pad(images[start : start + n_chunk], ((0, 0), *pad, (0, 0)))
        windows = sliding_window_view(padded, size, axis=places)[(slice(None), *steps)]
        windows = windows.reshape(*windows.shape[: -1 - len(size)], groups, group_channels, *size)
        order = (len(size) + 1, 0, *places, *of_window, len(size) + 2)
        rows = windows.transpose(order).reshape(groups, -1, matrices.shape[1])
        products = (rows @ matrices).transpose(1, 0, 2)
        values[start : start + n_chunk] = products.reshape(-1, *out_shape, filters)
    return values


def dilated(kernel: np.ndarray, rates: Lengths) -> np.ndarray:
    """Return the undilated kernel that computes the same, with zeros in between."""
    kernel = _kernel(kernel)
    rates = as_lengths("dilation_rate", rates, kernel.ndim - 2)
    size = [(k - 1) * rate + 1 for k, rate in zip(kernel.shape, rates, strict=False)]
    spread = np.zeros((*size, *kernel.shape[-2:]))
    spread[tuple(slice(None, None, rate) for rate in rates)] = kernel
    return spread


def causal_as_same(kernel: np.ndarray, n_steps: int, stride: int) -> np.ndarray:
    """Return the kernel that computes with padding 'same' what this one does with 'causal'.

    Zeros are added after its end. It gets so long that the left half of its padding is that of
    'causal': one step less than the kernel's length without these zeros.
    """
    kernel = _kernel(kernel)
    rest = n_steps - (-(-n_steps // stride) - 1) * stride
    return np.pad(kernel, ((0, len(kernel) - 2 + rest), (0, 0), (0, 0)))


def depthwise_as_grouped(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return the kernel that computes the same as a depthwise one, with one group per channel."""
    kernel = _kernel(kernel)
    if kernel.shape[-2] != channels:
        raise InputError(
            f"kernel: expected {channels} input channels, as the images have, got "
            f"{kernel.shape[-2]} (shape {kernel.shape}); the second-last axis of a depthwise "
            "kernel is channels"
        )
    return kernel.reshape(*kernel.shape[:-2], 1, -1)


def max_pool(
    images: np.ndarray, size: Lengths = 2, strides: Lengths | None = None, padding: str = "valid"
) -> np.ndarray:
    """Compute a Keras MaxPooling; padding is never the largest."""
    return _pooled(images, size, strides, padding, np.maximum, -np.inf)


def average_pool(
    images: np.ndarray, size: Lengths = 2, strides: Lengths | None = None, padding: str = "valid"
) -> np.ndarray:
    """Compute a Keras AveragePooling; padding does not count in a mean."""
    sums, n_pixels = (
        _pooled(each, size, strides, padding, np.add, 0.0)
        for each in (images, np.ones((1, *np.shape(images)[1:-1], 1)))
    )
    return sums / n_pixels


def global_average_pool(images: np.ndarray) -> np.ndarray:
    """Compute a Keras GlobalAveragePooling: the mean of every channel."""
    return np.mean(images, axis=tuple(range(1, np.ndim(images) - 1)), dtype=np.float64)


def global_max_pool(images: np.ndarray) -> np.ndarray:
    """Compute a Keras GlobalMaxPooling: the largest value of every channel."""
    return np.max(images, axis=tuple(range(1, np.ndim(images) - 1)))


def _pooled(
    images: np.ndarray,
    size: Lengths,
    strides: Lengths | None,
    padding: str,
    combine: Callable,
    neutral: float,
) -> np.ndarray:
    """Combine the pixels of every window."""
    images = _images(images, 1 if np.ndim(images) == 3 else 2)
    geometry = (images.shape[1:-1], size, size if strides is None else strides, padding)
    values = np.full((len(images), *output_shape(*geometry), images.shape[-1]), neutral)
    for there, here in places(*geometry):
        chosen = values[(slice(None), *there)]
        combine(chosen, images[(slice(None), *here)], out=chosen)
    return values


def places(
    shape: Sequence[int], size: Lengths, strides: Lengths, padding: str
) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Return, for each place in a window, the windows that have an input there, and those inputs.

    They are slices of rows and columns: of the output, and of the image.
    """
    axes = []
    for n, k, step, n_out, (before, _) in _axes(shape, size, strides, padding):
        along = []
        for offset in range(-before, k - before):
            # The windows for which window * step + offset is an input.
            first, last = max(0, -(offset // step)), min(n_out - 1, (n - 1 - offset) // step)
            if first <= last:
                inputs = slice(first * step + offset, last * step + offset + 1, step)
                along.append((slice(first, last + 1), inputs))
        axes.append(along)
    return [tuple(zip(*along, strict=True)) for along in itertools.product(*axes)]


def output_shape(
    shape_in: Sequence[int], size: Lengths, strides: Lengths, padding: str
) -> tuple[int, ...]:
    """Return the rows and columns that a convolution or a pool outputs."""
    return tuple(n_out for *_, n_out, _ in _axes(shape_in, size, strides, padding))


def padding_of(
    shape_in: Sequence[int], size: Lengths, strides: Lengths, padding: str
) -> tuple[tuple[int, int], ...]:
    """Return how many rows and columns of padding go around an image."""
    return tuple(pad for *_, pad in _axes(shape_in, size, strides, padding))


def as_padding(padding: object) -> object:
    """Return padding in lower case, as Keras takes ``"SAME"`` too; anything else as it is."""
    lower = str(padding).lower()
    return lower if lower in ("valid", "same", "causal") else padding


def as_lengths(name: str, value: Lengths, dimensions: int) -> tuple[int, ...]:
    """Return a size or stride along every dimension: one number, or one for each."""
    values = (value,) * dimensions if np.ndim(value) == 0 else tuple(value)
    if len(values) != dimensions:
        more = {1: "", 2: " or two"}.get(dimensions, f" or {dimensions}")
        raise InputError(f"{name}: expected one whole number{more}, got {quoted(value)}")
    return tuple(positive_integer(name, item) for item in values)


def _axes(
    shape_in: Sequence[int], size: Lengths, strides: Lengths, padding: str
) -> list[tuple[int, int, int, int, tuple[int, int]]]:
    """Return length, size, stride, output length and padding of rows, then of columns.

    There are as many axes as size or strides name.
    """
    if padding not in ("valid", "same"):
        raise InputError(f"padding: expected 'valid' or 'same', got {quoted(padding)}")
    shape_in = tuple(shape_in)
    dimensions = next((len(each) for each in (size, strides) if np.ndim(each)), len(shape_in))
    if len(shape_in) < dimensions:
        raise InputError(f"shape_in: expected ({AXES[dimensions]}), got {shape_in}")
    size, strides = as_lengths("size", size, dimensions), as_lengths("strides", strides, dimensions)
    shape = shape_in[:dimensions]
    if padding == "valid" and any(k > n for k, n in zip(size, shape, strict=True)):
        image, window = (" x ".join(map(str, each)) for each in (shape, size))
        raise InputError(
            f"size: expected at most the image's {image} for padding 'valid', got {window}; use "
            "a smaller kernel or window, or padding 'same'"
        )
    axes = []
    for n, k, step in zip(shape, size, strides, strict=True):
        n_out = (n - k) // step + 1 if padding == "valid" else -(-n // step)
        total = 0 if padding == "valid" else max((n_out - 1) * step + k - n, 0)
        axes.append((n, k, step, n_out, (total // 2, total - total // 2)))
    return axes


def _images(images: np.ndarray, dimensions: int) -> np.ndarray:
    images = np.asarray(images, dtype=np.float64)
    if images.ndim != dimensions + 2 or 0 in images.shape[1:]:
        raise InputError(
            f"images: expected shape (n_images, {AXES[dimensions]}, channels) with at least one "
            f"pixel, got {images.shape}; add a last axis to images of one channel"
        )
    return images


def _kernel(kernel: np.ndarray) -> np.ndarray:
    kernel = np.asarray(kernel, dtype=np.float64)
    if kernel.ndim - 2 not in AXES or not kernel.size:
        raise InputError(
            "kernel: expected 4 dimensions (rows, columns, input channels, outputs), or 3 without "
            f"columns, none of them empty, got shape {kernel.shape}"
        )
    return kernel
