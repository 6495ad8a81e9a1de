"""Numba kernels that pass spikes on through pools and other sparse matrices of equal weights.

Imported only if Numba is installed. Spikes are lists as in `nengonet.minibatch.event_kernels`: the
spikes of one example in one step, as indices into a flat signal with its channels last.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse

from nengonet.minibatch.compiling import compiled
from nengonet.minibatch.event_kernels import ONE, add_before, index, position_of, share_of
from nengonet.minibatch.kernels import inlined, inner, uncounted
from nengonet.minibatch.vectors import move, plus_products, put, zeros_of

# Bytes of a part of a run that is added up together.
_PIECE = 64
_piece_zeros = zeros_of(_PIECE)
# Spikes that are moved together. More may be written than there are.
SLACK = 8


class Ways(NamedTuple):
    """The outputs that the spikes of each input reach, and the order in which they come out.

    A block is ``size`` inputs that stand side by side and reach outputs that stand side by side.
    All inputs of a block have ``n_ways[block]`` ways, at most ``most``. Way ``w`` leads from input
    ``i`` to ``i + shifts[block * most + w]``.

    Spikes come out in the order of positions of ``n_channels``. Blocks that each reach at most one
    position are in this order within ``runs`` of neighbours (first, behind the last). Without
    runs, spikes are sorted.
    """

    size: int
    most: int
    n_ways: np.ndarray
    shifts: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    n_channels: int
    n_positions: int


def ways_of(matrix: scipy.sparse.sparray, n_channels: int, n_ordered: int = 1) -> Ways:
    """Return the ways through a matrix, (n_outputs, n_inputs), along its nonzero elements.

    Spikes come in the order of positions of ``n_ordered`` channels (1: in the order of their
    indices). They must come out in the order of positions of ``n_channels``.
    """
    by_input = scipy.sparse.csc_array(matrix)
    by_input.sort_indices()
    (n_outputs, n_inputs), targets = matrix.shape, by_input.indices.astype(np.int64)
    n_ways = np.diff(by_input.indptr)
    inputs = np.repeat(np.arange(n_inputs), n_ways)
    size = n_channels
    if n_channels % n_ordered or not _are_blocks(by_input.indptr, inputs, targets, size):
        size = 1
    is_first = inputs % size == 0
    n_ways, inputs, targets = n_ways[::size], inputs[is_first], targets[is_first]
    most, blocks = int(n_ways.max(initial=0)), inputs // size
    shifts = np.zeros((len(n_ways), most), np.int32)
    shifts[blocks, np.arange(len(blocks)) - (np.cumsum(n_ways) - n_ways)[blocks]] = targets - inputs
    begins = ends = np.empty(0, np.int32)
    if size > 1 and most == 1:
        blocks = blocks[np.argsort(targets, kind="stable")].astype(np.int32)
        breaks = np.flatnonzero(np.diff(blocks) != 1)
        begins, ends = blocks[np.append(0, breaks + 1)], blocks[np.append(breaks, -1)] + 1
    n_positions = n_outputs // n_channels
    return Ways(
        size, most, n_ways.astype(np.int32), shifts.ravel(), begins, ends, n_channels, n_positions
    )


def _are_blocks(starts: np.ndarray, inputs: np.ndarray, targets: np.ndarray, size: int) -> bool:
    """Return whether every ``size`` inputs reach outputs side by side, within a position."""
    n_ways = np.diff(starts)
    if len(n_ways) % size or np.any(n_ways.reshape(-1, size) != n_ways[::size, np.newaxis]):
        return False
    # For each way, the way with the same number of the first input of its block.
    blocks = inputs // size * size
    first = starts[blocks] + (np.arange(len(inputs)) - starts[blocks]) % n_ways[inputs]
    shifts = targets - inputs
    return bool(np.all(shifts == shifts[first]) and not np.any(targets[first] % size))


@inner
def _sort(near, n, n_channels, n_positions, counts, spikes, used):
    """Write the first ``n`` of some spikes to ``spikes[used:]``, in the order of positions."""
    share, place = share_of(n_channels), np.int32(used)
    for position in range(n_positions):
        counts[position] = 0
    for event in range(index(n)):
        counts[position_of(near[event], share)] += np.int32(1)
    for position in range(n_positions):
        n_here = counts[position]
        counts[position] = place
        place += n_here
    for event in range(index(n)):
        row = near[event]
        position = position_of(row, share)
        spikes[index(counts[position])] = row
        counts[position] += np.int32(1)


@inner
def _hand_on(ways, near, n, marks, spikes, used):
    """Write the ``n`` spikes that come out of all blocks to ``spikes[used:]``, in order.

    ``marks[block + 1]`` is the number of spikes of a block. Returns where the list ends.
    """
    if ways.begins.shape[0] == 0:
        _sort(near, n, ways.n_channels, ways.n_positions, marks, spikes, used)
        return used + np.int64(n)
    add_before(marks, ways.n_ways.shape[0] + 1)
    for run in range(ways.begins.shape[0]):
        event, last = np.int64(marks[ways.begins[run]]), np.int64(marks[ways.ends[run]])
        move(near, event, spikes, used)
        used += last - event
        # Rare, and a correctly predicted branch costs nothing.
        while last - event > SLACK:
            event += SLACK
            move(near, event, spikes, used - (last - event))
    return used


@inlined
def _clear(marks):
    """Set all to 0."""
    for mark in range(marks.shape[0]):
        marks[mark] = 0


@uncounted
def relay(rows, first, last, ways, working, spikes, used):
    """Pass a step's spikes on through a sparse matrix whose nonzero weights are all equal.

    Parameters
    ----------
    rows : (n,) int32 array
        Spikes; ``rows[first:last]`` are those of the step.
    ways : Ways
        The ways through the matrix.
    working : (near, marks)
        Working memory, two int32 arrays. ``near`` has room for ``ways.most`` spikes for each that
        comes in, and ``SLACK`` more; ``marks`` for one more than there are blocks or positions.
    spikes : (n,) int32 array
        The list to write; the spikes of the step begin at ``used``. It needs room for the spikes
        that come out, ``ways.most`` for each that comes in, and for ``SLACK`` more.

    Returns
    -------
    int
        The new ``used``.
    """
    (near, marks), n, most, share = working, index(0), index(ways.most), share_of(ways.size)
    if ways.begins.shape[0] == 0:
        for event in range(index(first), index(last)):
            row = rows[event]
            block = position_of(row, share)
            for way in range(block * most, block * most + index(ways.n_ways[block])):
                near[n] = row + ways.shifts[way]
                n += ONE
    else:
        _clear(marks)
        for event in range(index(first), index(last)):
            row = rows[event]
            block = position_of(row, share)
            # One way or none: a loop takes twice as long.
            near[n] = row + ways.shifts[block]
            n_ways = ways.n_ways[block]
            n += index(n_ways)
            marks[block + ONE] += n_ways
    return _hand_on(ways, near, n, marks, spikes, used)


@uncounted
def running_max(rows, first, last, ways, working, sums, sent, spikes, used):
    """Send a step's spikes through a max pool of kind ``"running_max"``.

    Parameters
    ----------
    rows, first, last, ways, working, spikes, used
        As for `relay`. The outputs are windows, which may share inputs.
    sums : (n_inputs,) float array
        Spikes of each input since the reset.
    sent : (n_windows,) float array
        Spikes of each window since the reset: the largest of its sums.

    Returns
    -------
    int
        The new ``used``.
    """
    (near, marks), n, most, share = working, index(0), index(ways.most), share_of(ways.size)
    _clear(marks)
    for event in range(index(first), index(last)):
        row = index(rows[event])
        block = position_of(row, share)
        spikes_so_far = sums[row] + 1
        sums[row] = spikes_so_far
        for way in range(block * most, block * most + index(ways.n_ways[block])):
            window = index(row + ways.shifts[way])
            # Sums grow by one spike, so the largest sum does too.
            has_grown = spikes_so_far > sent[window]
            sent[window] = max(spikes_so_far, sent[window])
            near[n] = window
            n += index(has_grown)
            marks[block + ONE] += np.int32(has_grown)
    return _hand_on(ways, near, n, marks, spikes, used)


@uncounted
def instant_max(rows, first, last, ways, working, sums, sent, spikes, used):
    """Send a step's spikes through a max pool of kind ``"instant"``.

    All is as for `running_max`, except that ``sums`` and ``sent`` are working memory that is 0
    before and after.
    """
    before = used
    used = running_max(rows, first, last, ways, working, sums, sent, spikes, used)
    for event in range(first, last):
        sums[rows[event]] = 0
    for event in range(before, used):
        sent[spikes[event]] = 0
    return used


@uncounted
def winner(rows, first, last, ways, working, sums, leaders, spikes, used):
    """Send a step's spikes through a max pool of kind ``"winner"``.

    All is as for `running_max`, except for ``leaders``, (n_windows,) int32: each window's input
    with the largest sum (the first, if several are equal), as `find_leaders` sets them.
    """
    (near, marks), n, most, share = working, index(0), index(ways.most), share_of(ways.size)
    _clear(marks)
    for event in range(index(first), index(last)):
        sums[index(rows[event])] += 1
    for event in range(index(first), index(last)):
        row = index(rows[event])
        block = position_of(row, share)
        for way in range(block * most, block * most + index(ways.n_ways[block])):
            window = index(row + ways.shifts[way])
            leader = index(leaders[window])
            lead = sums[row] - sums[leader]
            leads = (lead > 0) | ((lead == 0) & (row < leader))
            leaders[window] = row if leads else leader
    for event in range(index(first), index(last)):
        row = index(rows[event])
        block = position_of(row, share)
        for way in range(block * most, block * most + index(ways.n_ways[block])):
            window = index(row + ways.shifts[way])
            near[n] = window
            is_leader = index(leaders[window]) == row
            n += index(is_leader)
            marks[block + ONE] += np.int32(is_leader)
    return _hand_on(ways, near, n, marks, spikes, used)


@uncounted
def find_leaders(ways, sums, leaders):
    """Set ``leaders`` to each window's input with the largest sum; the first of equal ones."""
    most, share = index(ways.most), share_of(ways.size)
    for window in range(leaders.shape[0]):
        leaders[window] = -1
    for row in range(sums.shape[0]):
        block = position_of(row, share)
        for way in range(block * most, block * most + index(ways.n_ways[block])):
            window = row + ways.shifts[way]
            leader = leaders[window]
            if leader < 0 or sums[row] > sums[leader]:
                leaders[window] = row


@compiled
def multiply_runs(values, runs, columns, weights, sums):
    """Set ``sums``, (batch, n), to the product of values, (batch, n_inputs), and a sparse matrix.

    A run is ``(first, length, begin, end)``: outputs from the ``first`` on. The first of them is
    reached by the ``ways`` from ``begin`` to ``end``, each with its input in ``columns`` and its
    weight. The next output is reached in the same way by the next inputs, and so on. Each sum is
    taken in the order of the ways.
    """
    piece = _PIECE // sums.itemsize
    for b in range(values.shape[0]):
        given, goal = b * values.shape[1], b * sums.shape[1]
        for run in range(runs.shape[0]):
            first, length, begin, end = runs[run, 0], runs[run, 1], runs[run, 2], runs[run, 3]
            for i in range(0, length, piece):
                n, total = length - i, (_piece_zeros(sums),)
                for way in range(begin, end):
                    at = given + columns[way] + i
                    total = plus_products(total, values, at, n, weights, (way,), 0)
                put(total[0], sums, goal + first + i, n)


@compiled
def relay_stretch(rows, bounds, first, n_steps, ways, spikes):
    """Pass spikes through a matrix with `relay`, as `pool_stretch` does."""
    working, found, used = _room(bounds, first, n_steps, ways)
    for k in range(bounds.shape[0]):
        for step in range(n_steps):
            event, last = bounds[k, first + step], bounds[k, first + step + 1]
            found[k, step] = used
            used = relay(rows, event, last, ways, working, spikes, used)
        found[k, n_steps] = used
    return spikes, found


@compiled
def pool_stretch(kind, rows, bounds, first, n_steps, ways, sums, sent, spikes):
    """Pass spikes through a max pool; ``kind`` is its number in `nengonet.layers.pools.KINDS`.

    See `running_max`. ``sums`` and ``sent`` are (batch, n). ``spikes`` has room for the spikes that
    come out. Returns them, and the bounds of each step in them, (batch, n_steps + 1).
    """
    working, found, used = _room(bounds, first, n_steps, ways)
    leaders = np.empty(sent.shape[1], np.int32)
    for k in range(bounds.shape[0]):
        of_inputs, of_windows = sums[k], sent[k]
        if kind == 1:
            find_leaders(ways, of_inputs, leaders)
        for step in range(n_steps):
            found[k, step] = used
            given = rows, bounds[k, first + step], bounds[k, first + step + 1], ways, working
            if kind == 0:
                used = running_max(*given, of_inputs, of_windows, spikes, used)
            elif kind == 1:
                used = winner(*given, of_inputs, leaders, spikes, used)
            else:
                used = instant_max(*given, of_inputs, of_windows, spikes, used)
        found[k, n_steps] = used
    return spikes, found


@inlined
def _room(bounds, first, n_steps, ways):
    """Return working memory, room for the bounds of the spikes that come out, and 0 used."""
    largest = 0
    for k in range(bounds.shape[0]):
        for step in range(first, first + n_steps):
            largest = max(largest, bounds[k, step + 1] - bounds[k, step])
    n_marks = max(ways.n_ways.shape[0], ways.n_positions) + 1
    near, marks = np.empty(largest * ways.most + SLACK, np.int32), np.empty(n_marks, np.int32)
    found = np.empty((bounds.shape[0], n_steps + 1), np.int64)
    # If called with a plain 0, Numba would compile `relay` once more.
    return (near, marks), found, np.int64(0)
