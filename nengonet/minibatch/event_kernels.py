"""Numba kernels that follow single spikes: convolutions, products, and lists of what spiked.

Imported only if Numba is installed. Spikes are lists of indices into a flat signal, with one entry
for each spike. A signal of several channels has its channels last: index
``position * n_channels + channel``. *Ordered* spikes come in ascending order of their positions;
the channels of a position may come in any order. Functions that run for each step of an example,
``rows[first:last]``, make no array: the caller gives them working memory. Products with large
matrices take many steps at a time.
"""

from __future__ import annotations

import numpy as np

from nengonet.minibatch import memory
from nengonet.minibatch.kernels import add_eights, compiled, inlined, inner, uncounted
from nengonet.minibatch.vectors import (
    EIGHTH,
    FOURTH,
    bits_of,
    eight_places,
    length_of,
    list_nonzero,
    lowest,
    move_scaled,
    n_set,
    plus,
    plus_products,
    put,
    put_all,
    put_sum,
    zeros_of,
)

# Sums of rows that stay in registers: see `put_sum`.
_WIDE = 4 * FOURTH
# Single rows are added to an array in pieces of this many bytes.
_PIECE = 64
_piece_zeros = zeros_of(_PIECE)
# Filters that are processed together: many at one position, fewer at eight.
_MANY = 4 * EIGHTH
# Bytes of the rows of a kernel that stay in the nearest cache.
_NEAREST = 24 * 2**10
# The largest share of values other than 0 that are listed (measured).
_WORTH_LISTING = 0.65
_many_zeros, _eighth_zeros, _half_zeros = zeros_of(_MANY), zeros_of(EIGHTH), zeros_of(EIGHTH // 2)
# Numba checks whether a signed index counts from the end. It does not check an unsigned index.
index = np.uint64
ONE = np.uint64(1)


@inlined
def share_of(n):
    """Return ``1 / n`` as a whole number, and the number of bits to shift its products by."""
    shift = index(31)
    while (ONE << (shift - index(31))) < index(n):
        shift += ONE
    return (ONE << shift) // index(n) + ONE, shift


@inlined
def position_of(row, share):
    """Return ``row // n`` for the ``share`` `of n <share_of>`: faster, and exact.

    The share is too large by at most ``1 / 2**(shift - 31)`` of ``1 / 2**31``. So no row below
    ``2**31`` reaches the next whole number.
    """
    number, shift = share
    return (index(row) * number) >> shift


@inner
def _find_positions(rows, first, last, n_channels, n_positions, starts):
    """Write where the spikes of each position begin in ordered spikes, and where the last end."""
    starts[0] = first
    for position in range(1, n_positions + 1):
        starts[position] = 0
    share = share_of(n_channels)
    for event in range(index(first), index(last)):
        starts[position_of(rows[event], share) + ONE] += np.int32(1)
    add_before(starts, n_positions + 1)


@inlined
def add_before(counts, n):
    """Add to each of the first ``n`` counts those before it.

    Taking the larger of the last two would also work, but it becomes a branch that is often
    mispredicted.
    """
    total = np.int32(0)
    for place in range(n):
        total += counts[place]
        counts[place] = total


@inlined
def _list_range(rows, event, last, shift, pitch, near, used):
    """List where the kernel's rows begin for ``rows[event:last]``; return the used length."""
    while True:
        if event + 16 <= rows.shape[0]:
            move_scaled(rows, event, near, used, shift, pitch)
        else:
            for each in range(event, last):
                near[used + each - event] = (rows[each] - shift) * pitch
        # Rarely more than 16 spikes, and a correctly predicted branch costs nothing.
        if last - event <= 16:
            return used + last - event
        event, used = event + 16, used + 16


@uncounted
def gather_convolution(rows, first, last, geometry, kernel, places, total):
    """Set ``total`` to the convolution of a step's ordered spikes, one group of channels.

    Parameters
    ----------
    rows : (n,) int32 array
        Spikes; ``rows[first:last]`` are those of the step.
    geometry : tuple of int
        ``(rows_in, columns_in, n_channels, rows_out, columns_out, size_rows, size_columns,
        stride_rows, stride_columns, top, left, n_filters)``; ``top`` and ``left`` are the padding.
    kernel : (size_rows * size_columns * n_channels + 1, n_filters or more) array
        As `kernel_rows` makes it.
    places : (n,) int32 array
        Working memory, of the length given by `n_places` plus the number of spikes.
    total : (rows_out * columns_out * n_filters,) array
        The product. Elements beyond this length are left unchanged.

    Notes
    -----
    The kernel moves down the image, column of outputs by column. All spikes in the columns of the
    image under it are listed once, row after row, as their row of a kernel that is as high as the
    image. So the spikes under the kernel are neighbours in the list, at every position, and their
    row of the kernel itself is the same number less a constant. One loop then adds them up.
    """
    rows_in, columns_in, n_channels, rows_out, columns_out = geometry[:5]
    size_rows, size_columns, stride_rows, stride_columns, top, left, n_filters = geometry[5:]
    n_positions, pitch = rows_in * columns_in, kernel.shape[1]
    starts, bounds, near = places, places[n_positions + 1 :], places[n_positions + rows_in + 2 :]
    _find_positions(rows, first, last, n_channels, n_positions, starts)
    nothing, of_row = (kernel.shape[0] - 1) * pitch, size_columns * n_channels * pitch
    for out in range(columns_out):
        before = out * stride_columns - left
        begin, end = max(before, 0), min(before + size_columns, columns_in)
        used = np.int64(0)
        for r in range(rows_in):
            bounds[index(r)] = used
            # Where few spike, most rows of the image have no spikes.
            if starts[index(r * columns_in)] < starts[index((r + 1) * columns_in)]:
                one = np.int64(starts[index(r * columns_in + begin)])
                other = np.int64(starts[index(r * columns_in + end)])
                shift = (r * (columns_in - size_columns) + before) * n_channels
                used = _list_range(rows, one, other, shift, pitch, near, used)
        bounds[index(rows_in)] = used
        for row in range(rows_out):
            above = row * stride_rows - top
            upper, lower = max(above, 0), min(above + size_rows, rows_in)
            event, other = np.int64(bounds[index(upper)]), np.int64(bounds[index(lower)])
            at, begun = (row * columns_out + out) * n_filters, above * of_row
            for j in range(0, n_filters, _WIDE // kernel.itemsize):
                put_sum(
                    kernel, j - begun, near, event, other, nothing + begun,
                    total, at + j, n_filters - j,
                )  # fmt: skip


def n_places(geometry: tuple[int, ...]) -> int:
    """Return the working memory of `gather_convolution` in numbers of 32 bits, without spikes."""
    # Sixteen spikes at a time are listed, whether or not there are as many.
    return geometry[0] * geometry[1] + geometry[0] + 2 + 16


def kernel_rows(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel, (…, n_channels, n_filters), in the form that these kernels take.

    It has one row for each channel at each position, and a row of zeros follows. Each row begins
    at a cache line and is padded with zeros.
    """
    rows = kernel.reshape(-1, kernel.shape[-1])
    n_rows, n_filters = rows.shape
    copy = memory.zeros((n_rows + 1, n_filters + -n_filters % (64 // rows.itemsize)), rows.dtype)
    copy[:-1, :n_filters] = rows
    return copy


@inlined
def _alike(first, n_out, n_in, size, stride, padding):
    """Return the end of the positions whose windows are cut off like that of the ``first``."""
    end = first + 1
    if first * stride >= padding:
        while end < n_out and end * stride - padding + size <= n_in:
            end += 1
    return end


@inner
def _slide(sums_before, column, corner, shape, values, geometry, kernel, total):
    """Set the filters from ``column`` on, for positions whose windows are cut off alike.

    The positions are a part of the image, given by its first position (row, column) and its shape.
    """
    rows_in, columns_in, n_channels, _, columns_out = geometry[:5]
    size_rows, size_columns, stride_rows, stride_columns, top, left, n_filters = geometry[5:]
    n, pitch = n_filters - column, kernel.shape[1]
    n_positions, share = shape[0] * shape[1], 1.0 / shape[1]
    above, before = corner[0] * stride_rows - top, corner[1] * stride_columns - left
    upper, lower = max(above, 0), min(above + size_rows, rows_in)
    begin, end = max(before, 0), min(before + size_columns, columns_in)
    n_values, of_row = (end - begin) * n_channels, columns_in * n_channels
    first = (upper * columns_in + begin) * n_channels
    weights = ((upper - above) * size_columns + begin - before) * n_channels * pitch + column
    to = (corner[0] * columns_out + corner[1]) * n_filters + column
    step, wrap = stride_columns * n_channels, (columns_out - shape[1]) * n_filters
    down = stride_rows * of_row - shape[1] * step
    for i in range(0, n_positions, 8):
        places = eight_places(i, n_positions - 1, share, step, down)
        sums = sums_before
        for r in range(lower - upper):
            at, here = weights + r * size_columns * n_channels * pitch, first + r * of_row
            for value in range(here, here + n_values):
                sums = plus_products(sums, kernel, at, pitch - column, values, places, value)
                at += pitch
        places = eight_places(i, n_positions - 1, share, n_filters, wrap)
        put_all(sums, total, places, to, n)


@inner
def _slide_listed(nothing, end, values, geometry, kernel, near, total):
    """Set the filters before the ``end`` from the values that `_list_values` has listed.

    All positions use some rows of the kernel, which stay in the nearest cache, then the next rows.
    Each row is loaded once for both steps. A single step is taken for both.
    """
    other, below = (values.shape[0] - 1) * values.shape[1], (total.shape[0] - 1) * total.shape[1]
    rows_in, columns_in, n_channels, rows_out, columns_out = geometry[:5]
    size_rows, size_columns, stride_rows, stride_columns, top, left, n_filters = geometry[5:]
    starts, listed = near, near[rows_in * columns_in + 1 :]
    # A constant for the compiler, unlike the item size of an array.
    n, pitch = length_of(nothing), kernel.shape[1]
    # Columns of the kernel that are used together, and the parts of its width.
    width = max(1, min(size_columns, _NEAREST // (n_channels * n * kernel.itemsize)))
    n_parts = -(-size_columns // width)
    for column in range(0, end, n):
        for tap in range(0, size_rows * n_parts):
            r, c = tap // n_parts, tap % n_parts * width
            wide, under = min(width, size_columns - c), (r * size_columns + c) * n_channels
            for row in range(rows_out):
                of_row = row * stride_rows - top + r
                is_inside, of_row = 0 <= of_row < rows_in, of_row * columns_in
                for out in range(columns_out):
                    before = out * stride_columns - left + c
                    begin, behind = max(before, 0), min(before + wide, columns_in)
                    to = (row * columns_out + out) * n_filters + column
                    sums = nothing, nothing
                    if tap > 0:
                        sums = plus(nothing, total, to, n), plus(nothing, total, to + below, n)
                    if is_inside and begin < behind:
                        first, last = starts[index(of_row + begin)], starts[index(of_row + behind)]
                        # The row of the kernel for the value with index 0.
                        zeroth = under - (of_row + before) * n_channels
                        for number in range(index(first), index(last)):
                            value = np.int64(listed[number])
                            at = (zeroth + value) * pitch + column
                            both = value, value + other
                            sums = plus_products(sums, kernel, at, n, values, both, 0)
                    put_all(sums, total, (to, to + below), 0, n)


@inner
def _list_values(values, n_positions, n_channels, near):
    """List the values that are not 0 in all steps, and where each position's begin and end.

    Writes ``n_positions + 1`` numbers to ``near``, then the list. Returns its length.
    """
    listed, used = near[n_positions + 1 :], np.int64(0)
    other = (values.shape[0] - 1) * values.shape[1]
    whole = n_channels - n_channels % 8
    for position in range(n_positions):
        near[index(position)] = used
        first = position * n_channels
        for at in range(first, first + whole, 8):
            used = list_nonzero(values, at, 8, other, listed, used)
        if whole < n_channels:
            at = first + whole
            used = list_nonzero(values, at, n_channels - whole, other, listed, used)
    near[index(n_positions)] = used
    return used


@uncounted
def window_convolution(values, geometry, kernel, near, total):
    """Set ``total`` to the convolution of the values of a step or two, one group of channels.

    Parameters
    ----------
    values : (n_steps, rows_in * columns_in * n_channels) array
        Channels last, of the kernel's type.
    geometry, kernel
        As for `gather_convolution`, but the kernel is multiplied by the values only.
    total : (n_steps, rows_out * columns_out * n_filters or more) array
        The products.
    near : (n,) int32 array
        Working memory, of the length given by `n_near`.

    Notes
    -----
    With many filters, values of 0 are left out: the rates and filtered spikes of a layer are 0 for
    half of its neurons or more, and mostly for the same ones in two steps. With fewer filters, or
    where few values are 0, eight positions are processed together, so that they share each load of
    a row of the kernel; values of 0 are then multiplied as well. Every sum is taken in the order of
    the kernel's rows, whatever its neighbours are, and products are rounded before they are added.
    So both ways give the same result to the bit, unless a weight is not finite.
    """
    rows_in, columns_in, n_channels, rows_out, columns_out = geometry[:5]
    size_rows, size_columns, stride_rows, stride_columns, top, left, n_filters = geometry[5:]
    piece, many = EIGHTH // kernel.itemsize, _MANY // kernel.itemsize
    listed, n_positions = n_filters // many * many, rows_in * columns_in
    if listed > 0:
        n_values = _list_values(values, n_positions, n_channels, near)
        if n_values < _WORTH_LISTING * n_positions * n_channels:
            _slide_listed(_many_zeros(kernel), listed, values, geometry, kernel, near, total)
        else:
            listed = 0
    zeros, halves = _eighth_zeros(kernel), _half_zeros(kernel)
    row = 0
    while row < rows_out and listed < n_filters:
        below = _alike(row, rows_out, rows_in, size_rows, stride_rows, top)
        column = 0
        while column < columns_out:
            end = _alike(column, columns_out, columns_in, size_columns, stride_columns, left)
            part = (row, column), (below - row, end - column)
            for step in range(values.shape[0]):
                of_step = values[step], geometry, kernel, total[step]
                for j in range(listed, n_filters, piece):
                    if 2 * (n_filters - j) > piece:
                        eight = zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros
                        _slide(eight, j, *part, *of_step)
                    else:
                        eight = halves, halves, halves, halves, halves, halves, halves, halves
                        _slide(eight, j, *part, *of_step)
            column = end
        row = below


def n_near(geometry: tuple[int, ...]) -> int:
    """Return the working memory of `window_convolution` in numbers of 32 bits."""
    # Eight numbers are written at a time, whether or not all of them count.
    return geometry[0] * geometry[1] * (1 + geometry[2]) + 1 + 8


def windows_from(geometry: tuple[int, ...], itemsize: int) -> float:
    """Return the number of spikes from which `window_convolution` is faster than gathering.

    Measured with 8 to 128 filters of 1 to 64 channels (Zen 4). Adding a row of the kernel takes
    twice as long as multiplying it for eight positions. The number of spikes under the kernel
    cannot be predicted, which costs as much time as multiplying some 50 vectors. For the smallest
    kernels (2x2x5 to 10 filters, 3x3x3 to 16), both took the same time with spikes of 1 to 3 % of
    the inputs. Of large kernels with many filters, the rows of listed values stay in the nearest
    cache, those of spikes do not, which decides if most inputs are under many windows.
    """
    n_rows = geometry[5] * geometry[6] * geometry[2]
    is_large = geometry[-1] * itemsize >= _MANY and n_rows * _MANY >= 3 * _NEAREST
    if is_large and geometry[7:9] == (1, 1):
        return 0.2
    vectors = n_rows * -(-geometry[-1] * itemsize // 32) / 2
    return max(0.03, 0.5 * (vectors - 25) / (vectors + 25))


@uncounted
def scatter_convolution(rows, first, last, n_channels, n_groups, table, kernel, total):
    """Set ``total`` to any convolution of a step's spikes, which may come in any order.

    Parameters
    ----------
    rows : (n,) int32 array
        Spikes; ``rows[first:last]`` are those of the step.
    n_channels, n_groups : int
        Of the input. Each group of channels reaches its own group of filters.
    table : (starts, outputs, taps), each (n,) int array
        The spikes of a position reach the output positions ``outputs[starts[position]:
        starts[position + 1]]``, through the ``taps`` of the kernel at the same places.
    kernel : (n_taps, n_channels // n_groups, n_filters) array
        The kernel times the height of a spike.
    total : (n_output_positions * n_filters,) array
        The product, and zeros beyond.
    """
    starts, outputs, taps = table
    n_filters = kernel.shape[2]
    n_inputs, n_reached = n_channels // n_groups, n_filters // n_groups
    for j in range(total.shape[0]):
        total[j] = 0
    share, piece = share_of(n_channels), _PIECE // kernel.itemsize
    for event in range(index(first), index(last)):
        position = np.int64(position_of(rows[event], share))
        channel = rows[event] - position * n_channels
        group = channel // n_inputs
        channel, begin = channel - group * n_inputs, group * n_reached
        for way in range(starts[position], starts[position + 1]):
            at = outputs[way] * n_filters + begin
            row = (taps[way] * n_inputs + channel) * n_filters + begin
            for j in range(0, n_reached, piece):
                n = n_reached - j
                sums = plus(_piece_zeros(kernel), kernel, row + j, n)
                put(plus(sums, total, at + j, n), total, at + j, n)


@uncounted
def list_events(eventful, n, mask, which):
    """List the eventful among the first ``n`` in ``which``; return their number.

    ``eventful`` is (n,) or longer, uint8. An event has a bit of the ``mask``. ``which`` is
    (n + 1,) int32.
    """
    found, whole, mask = 0, n - n % 64, np.uint8(mask)
    for i in range(0, whole, 64):
        bits = bits_of(eventful, i, mask)
        at = found
        found += n_set(bits)
        # In groups of four, with a few too many at the end. The number of events cannot be
        # predicted, and a wrong prediction costs more.
        while bits != 0:
            for k in range(4):
                which[at + k] = i + lowest(bits)
                bits &= bits - ONE
            at += 4
    for i in range(whole, n):
        which[found] = i
        found += (eventful[i] & mask) != 0
    return found


# Larger matrices do not stay in any cache from one step to the next. For them, `multiply_steps` is
# faster than a sum for every step (measured).
LARGE = 8 * 2**20
# Bytes of the rows of a large matrix, and of the totals, that share the second cache.
_TOGETHER = 512 * 2**10
# The least number of rows added at once, to make it worth loading and storing the total.
_FEWEST = 16


@inner
def _add_rows(rows, event, last, weights, total):
    """Add ``weights[rows[event:last]]`` to ``total``, one after the other."""
    n, event = total.shape[0], add_eights(rows, event, last, weights, total)
    while event < last:
        a = rows[event]
        for j in range(n):
            total[j] += weights[a, j]
        event += 1


@compiled
def multiply_steps(rows, bounds, first, weights, sums):
    """Set ``sums``, (batch, n_steps, n_outputs), to the products of spikes and a large matrix.

    ``rows[bounds[b, first + step]:bounds[b, first + step + 1]]`` are the spikes of example ``b``.
    ``weights``, (n_inputs, n_outputs), already include the height of a spike. Some rows of the
    matrix are added for many steps of several examples, then the next rows. So the matrix is read
    once for all of them. This saves nothing if spikes do not come in ascending order.
    """
    (n_inputs, n_outputs), (batch, n_steps, _) = weights.shape, sums.shape
    of_row, n_spikes = n_outputs * weights.itemsize, 0
    for b in range(batch):
        n_spikes += bounds[b, first + n_steps] - bounds[b, first]
    n_rows = max(1, _TOGETHER // of_row)
    needed = _FEWEST * n_inputs * batch * n_steps // max(1, n_spikes)
    # With few spikes, more rows would be needed than stay in the cache.
    n_rows = max(n_rows, needed) if needed < 4 * n_rows else n_inputs
    lanes = min(batch, max(1, _TOGETHER // (of_row * n_steps)))
    events = np.empty((lanes, n_steps), np.int64)
    for lane in range(0, batch, lanes):
        here = min(lanes, batch - lane)
        for k in range(here):
            for step in range(n_steps):
                events[k, step] = bounds[lane + k, first + step]
                sums[lane + k, step] = 0
        for row in range(0, n_inputs, n_rows):
            # The last pass also adds the spikes behind one that comes too late.
            for k in range(here):
                for step in range(n_steps):
                    begin, last = events[k, step], bounds[lane + k, first + step + 1]
                    event = begin
                    while event < last and rows[event] < row + n_rows:
                        event += 1
                    _add_rows(rows, begin, event, weights, sums[lane + k, step])
                    events[k, step] = event


@compiled
def multiply_nonzero(values, weights, sums):
    """Multiply numbers, (batch, n_steps, n_inputs), most of which are 0, by (n_inputs, n_outputs).

    Sets ``sums``, (batch, n_steps, n_outputs). Each sum is in the order of its inputs.
    """
    (n_inputs, n_outputs), (batch, n_steps, _) = weights.shape, sums.shape
    rows = np.empty(n_inputs + 1, np.int64)
    for b in range(batch):
        for step in range(n_steps):
            given, total = values[b, step], sums[b, step]
            n = 0
            for i in range(n_inputs):
                rows[n] = i
                n += given[i] != 0
            total[:] = 0
            at = 0
            # Four rows at once, so that the total is loaded and stored less often.
            while at + 4 <= n:
                i, j, k, m = rows[at], rows[at + 1], rows[at + 2], rows[at + 3]
                one, two, three, four = given[i], given[j], given[k], given[m]
                for c in range(n_outputs):
                    half = total[c] + one * weights[i, c] + two * weights[j, c]
                    total[c] = half + three * weights[k, c] + four * weights[m, c]
                at += 4
            while at < n:
                i = rows[at]
                one = given[i]
                for c in range(n_outputs):
                    total[c] += one * weights[i, c]
                at += 1
