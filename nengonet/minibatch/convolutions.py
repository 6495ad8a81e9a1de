"""Batched steps of convolutions."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import scipy.sparse
from nengo.builder.signal import Signal
from nengo.builder.transforms import (
    ConvInc,
    ConvTransposeInc,
    GeneralConvInc,
    conv2d,
    conv2d_gradx,
    conv2d_groups,
)
from nengo.transforms import ChannelShape, Convolution, ConvolutionTranspose

from nengonet.ann.convolution import padding_of
from nengonet.exceptions import InputError
from nengonet.minibatch.one_by_one import one_by_one
from nengonet.minibatch.registry import Context, Step, register, spikes_or_dense
from nengonet.minibatch.signals import as_bits, as_view, same_place

# The reference copies every window of its input; this many bytes of windows stay in the cache.
_WINDOW_BYTES = 4 * 2**20
# Above this share of inputs that spiked, the reference's convolution is faster (measured).
_DENSITY = 0.3
# Examples that are processed together: a cache line of float64.
_LANES = 8
# From this many examples on, separate products are faster than the reference's (measured).
_ROWWISE_EXAMPLES = 4


@register(ConvInc)
@register(ConvTransposeInc)
def _convolution(operator: GeneralConvInc, context: Context) -> Step:
    if operator.conv.dimensions > 2:
        raise InputError(
            f"{operator}: expected a convolution over one or two dimensions, got "
            f"{operator.conv.dimensions} (the reference simulator refuses it too)"
        )
    if context.signals.is_batched(operator.W):
        return one_by_one(operator, context)
    dense = _rowwise if _is_rowwise(operator, context) else _in_chunks
    dense = dense(operator, context)
    spiking = any(same_place(signal, operator.X) for signal in context.spiking)
    if spiking and context.kernels is not None and groups_of(operator) == 1:
        return _over_spikes(operator, context, dense)
    return dense


def groups_of(operator: GeneralConvInc) -> int:
    """Return the number of groups of channels."""
    return getattr(operator.conv, "groups", 1)  # a transposed convolution has none


def channels_are_last(operator: GeneralConvInc) -> bool:
    """Return whether input and output have their channels last."""
    return operator.conv.input_shape.channels_last and operator.conv.output_shape.channels_last


def with_channels_last(
    operator: GeneralConvInc,
) -> tuple[GeneralConvInc, scipy.sparse.csr_array, scipy.sparse.csr_array]:
    """Return a convolution with channels last, and the permutations of its input and output.

    The convolution writes to a signal of its own.
    """
    conv, settings = operator.conv, {}
    if operator.is_transpose:
        settings["output_shape"] = _shape_with_channels_last(conv.output_shape)
    else:
        settings["groups"] = conv.groups
    last = (ConvolutionTranspose if operator.is_transpose else Convolution)(
        conv.n_filters,
        _shape_with_channels_last(conv.input_shape),
        kernel_size=conv.kernel_size,
        strides=conv.strides,
        padding=conv.padding,
        **settings,
    )
    y = Signal(np.zeros(operator.Y.size, operator.Y.dtype), name=f"{operator.Y.name}, permuted")
    into, out = (_to_channels_last(each) for each in (conv.input_shape, conv.output_shape))
    return type(operator)(operator.W, operator.X, y, last), into, out.T.tocsr()


def _shape_with_channels_last(shape: ChannelShape) -> tuple[int, ...]:
    return *shape.spatial_shape, shape.n_channels


def _to_channels_last(shape: ChannelShape) -> scipy.sparse.csr_array:
    """Return the permutation of a signal that puts channels last."""
    of_position, of_channel = _strides(shape)
    positions, channels = np.arange(_n_positions(shape)), np.arange(shape.n_channels)
    places = (of_position * positions[:, np.newaxis] + of_channel * channels).ravel()
    n = len(places)
    return scipy.sparse.csr_array((np.ones(n), places, np.arange(n + 1)), (n, n))


def _in_two_dimensions(operator: GeneralConvInc) -> list[tuple[int, int]]:
    """Return size, strides, and the rows and columns of input and output."""
    conv = operator.conv
    spatial = conv.input_shape.spatial_shape, conv.output_shape.spatial_shape
    one = (1,) * (2 - conv.dimensions)
    return [(*one, *each) for each in (conv.kernel_size, conv.strides, *spatial)]


def _in_chunks(operator: GeneralConvInc, context: Context) -> Step:
    """Return a step that calls the reference's convolution for some examples at a time."""
    conv, signals, batch = operator.conv, context.signals, context.batch
    x = _channels_last(signals.operand(operator.X), conv.input_shape)
    y = _channels_last(signals[operator.Y], conv.output_shape)
    x = np.broadcast_to(x, (batch, *x.shape[1:]))
    product = _product(operator, context.signals[operator.W])
    window = np.prod(conv.kernel_size) * conv.input_shape.n_channels * x.itemsize
    chunk = max(1, int(_WINDOW_BYTES // (window * _n_positions(conv.output_shape))))
    assign = operator in context.assigning

    def step_convolution():
        for start in range(0, batch, chunk):
            part = slice(start, start + chunk)
            # Copied, because the reference makes strided windows of a contiguous array.
            result = product(np.ascontiguousarray(x[part]))
            # NumPy's innermost loop runs over examples. A few examples are copied one by one.
            few = [(result, y[part])] if batch >= _LANES else zip(result, y[part], strict=True)
            for found, place in few:
                if assign:
                    place[...] = found
                else:
                    place += found

    return step_convolution


def _is_rowwise(operator: GeneralConvInc, context: Context) -> bool:
    return (
        not operator.is_transpose
        and groups_of(operator) == 1
        and context.signals.is_batched(operator.X)
        and context.batch >= _ROWWISE_EXAMPLES
    )


def _rowwise(operator: GeneralConvInc, context: Context) -> Step:
    """Return a step that computes one output row at a time, without copying its windows.

    An output row needs a few input rows. Once these stand column by column, every window is a
    contiguous matrix (values, batch), ready for a matrix product.
    """
    conv, signals, batch = operator.conv, context.signals, context.batch
    size, strides, shape_in, shape_out = _in_two_dimensions(operator)
    (n_rows, n_columns), n_channels = shape_in, conv.input_shape.n_channels
    x = np.moveaxis(_channels_last(signals[operator.X], conv.input_shape), 0, -1)
    y = np.moveaxis(_channels_last(signals[operator.Y], conv.output_shape), 0, -1)
    (top, _), (left, right) = padding_of(shape_in, size, strides, conv.padding)
    columns = np.zeros((left + n_columns + right, size[0], n_channels, batch), y.dtype)
    strides_of = columns.strides
    windows = np.lib.stride_tricks.as_strided(
        columns,
        (shape_out[1], size[1] * size[0] * n_channels, batch),
        (strides[1] * strides_of[0], *strides_of[2:]),
    )

    def matrix() -> np.ndarray:
        kernel = np.asarray(signals[operator.W], y.dtype).reshape(*size, n_channels, -1)
        return np.ascontiguousarray(kernel.transpose(3, 1, 0, 2).reshape(conv.n_filters, -1))

    weights = context.constant((operator, "rowwise"), matrix)
    product = None if operator in context.assigning else np.empty(y.shape[1:], y.dtype)

    def step_rowwise():
        for row in range(shape_out[0]):
            first = row * strides[0] - top
            start, stop = max(first, 0), min(first + size[0], n_rows)
            columns[:, : start - first] = 0
            columns[:, stop - first :] = 0
            columns[left : left + n_columns, start - first : stop - first] = x[start:stop].swapaxes(
                0, 1
            )
            if product is None:
                np.matmul(weights, windows, out=y[row])
            else:
                y[row] += np.matmul(weights, windows, out=product)

    return step_rowwise


def _over_spikes(operator: GeneralConvInc, context: Context, dense: Step) -> Step:
    conv, signals = operator.conv, context.signals
    x, y = signals.operand(operator.X), signals[operator.Y]

    @functools.cache
    def arguments() -> tuple:
        weights = np.array(signals[operator.W], dtype=y.dtype)
        weights = weights.reshape(-1, *weights.shape[-2:])
        table = context.constant((operator, "table"), lambda: _ways(operator))
        shape = (_n_positions(conv.input_shape), conv.input_shape.n_channels)
        sums = np.empty((_LANES, _n_positions(conv.output_shape), weights.shape[-1]), y.dtype)
        to = _strides(conv.output_shape), operator in context.assigning
        return x, as_bits(x), _strides(conv.input_shape), shape, table, weights, sums, y, *to

    product = context.kernels.spike_product
    limit = _DENSITY * x.size
    return spikes_or_dense(operator, context, lambda: product(*arguments()), limit, dense)


def geometry_of(operator: GeneralConvInc) -> tuple[int, ...] | None:
    """Return the geometry for `gather_convolution`, or None where `fan_out` is needed."""
    if operator.is_transpose or groups_of(operator) > 1:
        return None
    conv, (size, strides, shape_in, shape_out) = operator.conv, _in_two_dimensions(operator)
    (top, _), (left, _) = padding_of(shape_in, size, strides, conv.padding)
    shapes = (*shape_in, conv.input_shape.n_channels, *shape_out)
    # The rows of a kernel as high as the image are counted in 32 bits, and padded to a cache line.
    if shape_in[0] * size[1] * conv.input_shape.n_channels * (conv.n_filters + 16) >= 2**31:
        return None
    return tuple(map(int, (*shapes, *size, *strides, top, left, conv.n_filters)))


def fan_out(operator: GeneralConvInc, context: Context, height: np.floating) -> tuple:
    """Return the ways of a spike through a convolution, for kernels that follow single spikes."""
    weights = np.asarray(context.signals[operator.W])
    weights = context.constant(
        (operator, "kernel", height), lambda: weights.reshape(-1, *weights.shape[-2:]) * height
    )
    return *context.constant((operator, "table"), lambda: _ways(operator)), weights


def dense_convolution(
    operator: GeneralConvInc, context: Context
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the convolution over the last axis of an array, (…, n), with channels last."""
    conv, weights = operator.conv, context.signals[operator.W]
    product, size = _product(operator, weights), np.prod(conv.kernel_size)
    window = size * conv.input_shape.n_channels * weights.itemsize
    chunk = max(1, int(_WINDOW_BYTES // (window * _n_positions(conv.output_shape))))
    shape = (*(1,) * (2 - conv.dimensions), *conv.input_shape.shape)

    def convolve(block: np.ndarray) -> np.ndarray:
        images = np.ascontiguousarray(block).reshape(-1, *shape)
        found = np.empty((len(images), conv.output_shape.size), block.dtype)
        for start in range(0, len(images), chunk):
            part = product(images[start : start + chunk])
            found[start : start + chunk] = part.reshape(len(part), -1)
        return found.reshape(*block.shape[:-1], -1)

    return convolve


def _ways(operator: GeneralConvInc) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the output positions that each input position reaches, and the taps between them.

    The reference's own convolution finds them. With one tap set, it moves the number of each input
    position to the output position that the tap connects to it.
    """
    size, _, spatial, _ = _in_two_dimensions(operator)
    n_positions, n_taps = np.prod(spatial), np.prod(size)
    numbers = np.arange(1.0, n_positions + 1).reshape(1, *spatial, 1)
    ways = []
    for tap in range(n_taps):
        kernel = np.zeros(n_taps)
        kernel[tap] = 1
        moved = _product(operator, kernel.reshape(*size, 1, 1), 1)(numbers)
        moved = np.rint(moved.ravel()).astype(np.int64)
        outputs = np.flatnonzero(moved)
        ways.append(np.stack([moved[outputs] - 1, outputs, np.full(len(outputs), tap)]))
    inputs, outputs, taps = np.concatenate(ways, axis=1)
    order = np.argsort(inputs, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(inputs, minlength=n_positions))))
    return starts, outputs[order], taps[order]


def _n_positions(shape: ChannelShape) -> int:
    return int(np.prod(shape.spatial_shape))


def _strides(shape: ChannelShape) -> tuple[int, int]:
    """Return the distances of positions and of channels in the flat signal."""
    return (shape.n_channels, 1) if shape.channels_last else (1, _n_positions(shape))


def _channels_last(array: np.ndarray, shape: ChannelShape) -> np.ndarray:
    """Return a view of shape (batch, row, column, channel)."""
    view = np.moveaxis(as_view(array, (*shape.shape, array.shape[-1])), -1, 0)
    if not shape.channels_last:
        view = np.moveaxis(view, 1, -1)
    return view[:, np.newaxis] if shape.dimensions == 1 else view


def _product(
    operator: GeneralConvInc, kernel: np.ndarray, groups: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the reference's convolution."""
    size, strides, _, shape_out = _in_two_dimensions(operator)
    kernel = kernel.reshape(*size, *kernel.shape[-2:])
    settings = {"pad": operator.conv.padding.upper(), "stride": strides}
    if operator.is_transpose:
        return lambda x: conv2d_gradx(kernel, x, xsize=shape_out, **settings)
    one = (groups_of(operator) if groups is None else groups) == 1
    function = conv2d if one else conv2d_groups
    return lambda x: function(x, kernel, **settings)
