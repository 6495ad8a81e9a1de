"""Numba kernels that run many steps of one layer, one example after the other.

Imported only if Numba is installed. The state of one example stays in the cache, spikes are passed
on as lists, and Python is called once for many steps. Arrays here are ``(batch, …, n)``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nengonet.minibatch.addresses import ByAddress
from nengonet.minibatch.compiling import compiled
from nengonet.minibatch.event_kernels import (
    LARGE,
    gather_convolution,
    index,
    kernel_rows,
    list_events,
    multiply_nonzero,
    multiply_steps,
    n_near,
    n_places,
    scatter_convolution,
    window_convolution,
    windows_from,
)
from nengonet.minibatch.kernels import (
    WHOLE,
    count_events,
    framed,
    inlined,
    inner,
    longer,
    pieces_of,
    sum_rows,
    uncounted,
)
from nengonet.minibatch.pool_kernels import (
    SLACK,
    multiply_runs,
    pool_stretch,
    relay_stretch,
    ways_of,
)
from nengonet.minibatch.terms import NO_GEOMETRY, NO_WAYS, nothing
from nengonet.neurons.model import Kernel

# Kernels that stages call besides those of this module.
__all__ = [
    "LARGE",
    "SLACK",
    "WHOLE",
    "count_events",
    "multiply_nonzero",
    "multiply_runs",
    "kernel_rows",
    "multiply_steps",
    "n_near",
    "n_places",
    "pool_stretch",
    "relay_stretch",
    "ways_of",
    "windows_from",
]

# Spikes of a stretch are listed up to this number, or up to one for each neuron and step.
_MOST_SPIKES = 2**22

# Currents are computed in blocks of this size before their neurons are stepped: they stay in the
# nearest cache.
_BLOCK = 2**12


# How a term is computed. For every spike: by rows of a matrix, a convolution's filters, ways of
# many filters, ways of one number each, or a single way, with one number for all. Dense:
# beforehand, by a convolution's windows, or beforehand for the parts of a mixture.
NOTHING, ROWS, GATHER, SCATTER, SPARSE, SINGLE, BLOCK, WINDOWS, MIXTURE = range(9)


@inner
def add_numbers(rows, first, last, starts, outputs, weights, total):
    """Set ``total`` to the product of spikes and a sparse matrix, whose ways are numbers."""
    for j in range(total.shape[0]):
        total[j] = 0
    for event in range(first, last):
        row = rows[event]
        for way in range(starts[row], starts[row + 1]):
            total[outputs[way]] += weights[way, 0, 0]


@inner
def add_single(rows, first, last, outputs, weight, total):
    """Set ``total`` to the product of spikes and a sparse matrix of one ``weight``, (1, 1, 1).

    Each input reaches one of the ``outputs``, (n_inputs,) int32, or none: that is -1.
    """
    for j in range(total.shape[0]):
        total[j] = 0
    for event in range(index(first), index(last)):
        output = outputs[index(rows[event])]
        if output >= 0:
            total[index(output)] += weight[0, 0, 0]


@inner
def filter_step(system, state, values):
    """Step a linear filter with the states (order + 1, n); the last state is its output.

    ``values`` become its output, or the output of the step before if the filter is ``late``.
    """
    _, a, b, c, d, late, memory = system
    n, order = state.shape[1], b.shape[0]
    if order == 1 and d[0] == 0:
        # In numbers of the signals' type, as in the reference's step.
        kept, taken = state.dtype.type(a[0, 0]), state.dtype.type(c[0] * b[0])
        for i in range(n):
            x = state[0, i] * kept + taken * values[i]
            values[i] = state[1, i] if late else x
            state[0, i] = x
            state[1, i] = x
        return
    for i in range(n):
        output = d[0] * values[i]
        for r in range(order):
            memory[r] = b[r] * values[i]
            for other in range(order):
                memory[r] += a[r, other] * state[other, i]
            if d[0] != 0:
                output += c[r] * state[r, i]
        for r in range(order):
            state[r, i] = memory[r]
            # As in Nengo's steps: if nothing passes at once, an input shows a step earlier.
            if d[0] == 0:
                output += c[r] * state[r, i]
        values[i] = state[order, i] if late else state.dtype.type(output)
        state[order, i] = output


def _of_events(dtype, *more):
    """Return arguments of a kernel for a step's spikes: see `ByAddress`."""
    return np.empty(0, np.int32), 0, 0, *more, np.empty(0, dtype)


def _gather_examples(dtype):
    return _of_events(dtype, NO_GEOMETRY, np.empty((0, 0), dtype), np.empty(0, np.int32))


def _scatter_examples(dtype):
    return _of_events(dtype, 1, 1, NO_WAYS[:3], np.empty((0, 0, 0), dtype))


def _sparse_examples(dtype):
    return _of_events(dtype, *NO_WAYS[:2], np.empty((0, 0, 0), dtype))


def _single_examples(dtype):
    return _of_events(dtype, np.empty(0, np.int32), np.empty((0, 0, 0), dtype))


def _window_examples(dtype):
    numbers = np.empty((0, 0), dtype)
    return numbers, NO_GEOMETRY, numbers, np.empty(0, np.int32), numbers


def _filter_examples(dtype):
    return nothing(dtype).system, np.empty((0, 0), dtype), np.empty(0, dtype)


def _weigh_examples(dtype):
    numbers = np.empty(0, dtype)
    steady, block = np.empty((0, 0), dtype), np.empty((0, 0, 0), dtype)
    return nothing(dtype), steady, (numbers, numbers), 0, 0, 0, block


# Kernels that others call by address. They are compiled if a network needs them.
PRODUCTS = {
    GATHER: ByAddress(gather_convolution, _gather_examples),
    SCATTER: ByAddress(scatter_convolution, _scatter_examples),
    SPARSE: ByAddress(add_numbers, _sparse_examples),
    SINGLE: ByAddress(add_single, _single_examples),
    WINDOWS: ByAddress(window_convolution, _window_examples),
}
FILTER = ByAddress(filter_step, _filter_examples)
_gather, _scatter, _add_numbers, _add_single, _windows = (each.call for each in PRODUCTS.values())
_filter = FILTER.call


@uncounted
def weigh(term, steady, scale, k, first_step, n_steps, block):
    """Write to ``block``, (examples, n_steps or more, n), what a term adds in some steps.

    The examples are those from ``k`` on. The ``steady`` part, (batch, n) or none, is added. If
    there is a ``scale``, (bias, gain), the result is ``bias + gain * sum``.

    The term is as described by `nengonet.minibatch.terms.Arguments`.
    """
    how, address, spikes, geometry, ways, matrix, kernel, dense, factors, system, state, places = (
        term
    )
    rows, bounds, first = spikes
    bias, gain = scale
    for b in range(block.shape[0]):
        for s in range(n_steps):
            at, total = first_step + s, block[b, s]
            if how == NOTHING:
                for i in range(total.shape[0]):
                    total[i] = 0
            elif how == BLOCK:
                # A single step counts for all steps.
                of_step = at if dense.shape[1] > 1 else 0
                for i in range(dense.shape[2]):
                    total[i] = dense[k + b, of_step, i]
            elif how == MIXTURE:
                for i in range(total.shape[0]):
                    total[i] = 0
                for part in range(dense.shape[1]):
                    factor = matrix[at, part]
                    for i in range(dense.shape[2] if factor != 0 else 0):
                        total[i] += factor * dense[k + b, part, i]
            elif how == WINDOWS:
                # Two steps at once.
                if s % 2 == 0:
                    end = min(s + 2, n_steps)
                    values, totals = dense[k + b, at : first_step + end], block[b, s:end]
                    _windows(address, (values, geometry, matrix, places, totals))
            else:
                event, last = bounds[k + b, first + at], bounds[k + b, first + at + 1]
                if how == ROWS:
                    sum_rows(rows, event, last, matrix, total)
                elif how == GATHER:
                    _gather(address, (rows, event, last, geometry, matrix, places, total))
                elif how == SPARSE:
                    _add_numbers(address, (rows, event, last, ways[0], ways[1], kernel, total))
                elif how == SINGLE:
                    _add_single(address, (rows, event, last, places, kernel, total))
                else:
                    table, of_groups = ways[:3], ways[3:]
                    _scatter(address, (rows, event, last, *of_groups, table, kernel, total))
            if state.shape[1] > 0:
                _filter(system[0], (system, state[k + b], total))
            for i in range(factors.shape[0]):
                total[i] *= factors[i]
            # The usual case in one pass over the currents.
            if steady.shape[0] > 0 and bias.shape[0] > 0:
                for i in range(total.shape[0]):
                    total[i] = bias[i] + gain[i] * (total[i] + steady[k + b, i])
            elif steady.shape[0] > 0:
                for i in range(total.shape[0]):
                    total[i] += steady[k + b, i]
            elif bias.shape[0] > 0:
                for i in range(total.shape[0]):
                    total[i] = bias[i] + gain[i] * total[i]


WEIGH = ByAddress(weigh, _weigh_examples)
_weigh = WEIGH.call


@compiled
def copy_examples(source, target):
    """Copy (n, batch) to (batch, n or more); one of the two is a signal."""
    for i in range(source.shape[0]):
        for k in range(source.shape[1]):
            target[k, i] = source[i, k]


@compiled
def sum_steps(block, sums):
    """Set ``sums``, (batch, n), to those of a ``block``, (batch, n_steps, n), over its steps."""
    for b in range(block.shape[0]):
        total, block_of_one = sums[b], block[b]
        total[:] = 0
        step, n_steps = 0, block.shape[1]
        # Four steps at once, so that the total is loaded and stored less often.
        while step + 4 <= n_steps:
            one, two = block_of_one[step], block_of_one[step + 1]
            three, four = block_of_one[step + 2], block_of_one[step + 3]
            for i in range(total.shape[0]):
                total[i] = total[i] + one[i] + two[i] + three[i] + four[i]
            step += 4
        while step < n_steps:
            one = block_of_one[step]
            for i in range(total.shape[0]):
                total[i] += one[i]
            step += 1


@compiled
def spread_block(rows, bounds, first, height, block):
    """Write spikes to ``block``, (batch, n_steps, n)."""
    block[:] = 0
    for b in range(block.shape[0]):
        for step in range(block.shape[1]):
            for event in range(bounds[b, first + step], bounds[b, first + step + 1]):
                block[b, step, rows[event]] += 1
            for i in range(block.shape[2]):
                block[b, step, i] *= height


@compiled
def spread_stretch(rows, bounds, first, counts, most):
    """Add spikes to ``counts``, which is ``(batch, n_steps, n)``.

    Returns False as soon as a count exceeds ``most``.
    """
    for b in range(counts.shape[0]):
        for step in range(counts.shape[1]):
            for event in range(bounds[b, first + step], bounds[b, first + step + 1]):
                counts[b, step, rows[event]] += 1
                if counts[b, step, rows[event]] > most:
                    return False
    return True


# The functions of a family: frames are compiled with those of its `Kernel`.
_usual = _event = _most = _resume = _spike = _simplify = _simple = None
_wake = _keeps_current = _counts_spikes = _takes_lists = _simplifies = _wakes = None


class Working(NamedTuple):
    """Working memory of a stretch of ``n`` neurons; ``whole`` is ``n`` or more.

    currents : (1, n_rows, whole), of some steps; a single row if they are the same in all steps
    row, numbers : (whole,), numbers of a step
    eventful : (whole,), what a step's neurons are marked with
    which : (n + 1,), neurons of a step. Unsigned, so that no index counts from the end.
    awake : (batch, n + 1), neurons that may spike in the ``horizon`` of steps; the last column is
        their number and one, or 0 if it is unknown. Empty if all neurons are stepped. Spikes get
        the numbers of their neurons back, counts do not.
    """

    currents: np.ndarray
    row: np.ndarray
    numbers: np.ndarray
    eventful: np.ndarray
    which: np.ndarray
    awake: np.ndarray
    horizon: int


def working_memory(n: int, whole: int, dtype: np.dtype, n_steps: int) -> Working:
    """Return working memory for at most this many steps with different currents."""
    n_rows = min(n_steps, max(2, _BLOCK // whole))
    return Working(
        currents=np.zeros((1, n_rows, whole), dtype),
        row=np.zeros(whole, dtype),
        numbers=np.empty(whole, dtype),
        eventful=np.empty(whole, np.uint8),
        which=np.empty(n + 1, np.uint32),
        awake=np.empty((0, 0), np.uint32),
        horizon=0,
    )


@inlined
def _list_counted(which, n_events, eventful, largest, spikes, used):
    """List the spikes of finished neurons, at most ``largest`` of each; return the used room."""
    if largest == 1:
        for event in range(n_events):
            spikes[used + event] = which[event]
        return used + n_events
    at = np.uint64(used)
    for event in range(np.uint64(n_events)):
        i = which[event]
        n_spikes = eventful[i]
        spikes[at] = i
        if n_spikes > 1:
            for more in range(np.uint64(1), np.uint64(n_spikes)):
                spikes[at + more] = i
        at += np.uint64(n_spikes)
    return np.int64(at)


def _without_sleeping(working, states, k, constants):
    """Move the neurons of example ``k`` that may spike to the front; return their number.

    This concerns the first row of currents. States are moved once.
    """
    current, n = working.currents[0, 0], working.which.shape[0] - 1
    of_example, eventful = working.awake[k], working.eventful
    is_new = of_example[n] == 0
    if is_new:
        _wake(current, eventful, states, k, working.horizon, constants)
        of_example[n] = list_events(eventful, n, np.uint8(1), of_example) + 1
    n_awake = np.int64(of_example[n]) - 1
    for i in range(n_awake):
        current[i] = current[of_example[i]]
    if is_new:
        for state in states:
            for i in range(n_awake):
                state[k, i] = state[k, of_example[i]]
    return n_awake


# A stretch of one example is a function of its own, in which Numba counts no references to arrays.
# In a loop that names arrays anew, counting took 0.2 us a step. So the function makes no array. If
# there is no more room for spikes, it returns where it stopped.


def _steps_of_one(working, states, constants, height, k, steps, is_simple, spikes, sent, at):
    """Do the steps ``steps = (first, n_steps, n)`` for `_stretch`, as far as spikes find room.

    Only the first ``n`` neurons are stepped, and what follows up to a whole number of vectors. It
    begins at ``at = (step, event, n_events, used)``: the step, the event in it, the number of
    events, and the used room. Returns where to resume, and the room that the next event needs: 0
    if all is done, -1 if its spikes cannot be listed, -2 if a voltage is not a number. The rest is
    described by `_stretch` and `Working`; one more tuple would make calls harder to read.
    """
    (first, n_steps, n), (step, event, n_events, used), (found, counts, _) = steps, at, sent
    block, (_, row, numbers, eventful, which, awake, _) = working.currents[0], working
    whole, is_listing, is_steady = n + -n % WHOLE, counts.shape[0] == 0, block.shape[0] == 1
    most = max(_MOST_SPIKES, states[0].shape[1] * found.shape[0] * (found.shape[1] - 1))
    while step < n_steps:
        current = block[0 if is_steady else step] if _keeps_current else row
        current = current[:whole]
        if event == n_events:
            if not _keeps_current:
                given = block[0 if is_steady else step]
                for i in range(whole):
                    row[i] = given[i]
            if _simplifies and is_simple:
                _simple(current, eventful, states, k, constants)
            else:
                _usual(current, eventful, states, k, constants)
            if _takes_lists:
                n_unknown = list_events(eventful, n, np.uint8(2), which)
                _resume(current, states, k, which, n_unknown, eventful, numbers, constants)
            largest = np.uint8(1)
            if _counts_spikes and not is_simple:
                for i in range(n):
                    largest = max(largest, eventful[i])
            is_counted = _counts_spikes and largest < 255
            event, n_events = 0, 0
            if is_listing or not is_counted:
                n_events = list_events(eventful, n, np.uint8(1 if _takes_lists else 255), which)
            if not is_listing:
                for i in range(n):
                    counts[k, first + step, i] = height * eventful[i] if _counts_spikes else 0
            elif is_counted and used + largest * n_events < spikes.shape[0]:
                used = _list_counted(which, n_events, eventful, largest, spikes, used)
                event = n_events
        if _takes_lists and event < n_events:
            if is_listing:
                if n_events >= most - used:
                    return (step, event, n_events, used), -1
                if used + n_events >= spikes.shape[0]:
                    return (step, event, n_events, used), n_events + 1
            if not _spike(current, states, k, which, n_events, numbers, constants):
                return (step, event, n_events, used), -2
            if is_listing:
                for e in range(n_events):
                    spikes[used + e] = which[e]
                used += n_events
            else:
                for e in range(n_events):
                    counts[k, first + step, which[e]] = height
            event = n_events
        while not _takes_lists and event < n_events:
            i = which[event]
            n_spikes = int(eventful[i])
            is_counted = _counts_spikes and n_spikes < 255
            if is_listing:
                room = n_spikes if is_counted else _most(states, k, i)
                # Not a number, or too many spikes to list, or fewer than none.
                if not 0 <= room < most - used:
                    return (step, event, n_events, used), -1
                if used + room >= spikes.shape[0]:
                    return (step, event, n_events, used), int(room) + 1
            if not is_counted:
                brought, is_number = _event(current, states, k, i, constants)
                if not is_number:
                    return (step, event, n_events, used), -2
                n_spikes = int(brought)
                if not is_listing:
                    counts[k, first + step, i] = height * brought
            if is_listing:
                # Mostly one or none, so this is written without a hard-to-predict branch.
                spikes[used] = i
                for more in range(1, n_spikes):
                    spikes[used + more] = i
                used += n_spikes
            event += 1
        if awake.shape[0] > 0:
            # While they are in the nearest cache, the listed neurons get their numbers back.
            for e in range(index(found[k, first + step]), index(used)):
                spikes[e] = awake[k, index(spikes[e])]
        step += 1
        found[k, first + step] = used
    return (step, event, n_events, used), 0


def _stretch(address, term, steady, scale, output, states, constants, height, working, sent):
    """Do some steps of ``n`` neurons, one example after the other.

    Their currents are those of `weigh`, which is at the address, for the term, the ``steady`` part
    and the ``scale``. ``output`` and each of the ``states``, (batch, n), may be padded with zeros,
    and so may the scale and the rows of matrices. ``working`` is `Working`.

    The results are written to ``sent``, (found, counts, spikes). The spikes are written to
    ``counts``, (batch, n_steps, n), with their height. If it is empty, they are listed instead:
    the function returns the neurons that spiked, in ``spikes`` or in a longer copy, and writes the
    bounds of each step to ``found``, (batch, n_steps + 1). It also returns an error code: 0 for
    none, -1 for spikes that cannot be listed (too many, or below 0), -2 for a voltage that is not
    a number.
    """
    (found, counts, spikes), currents = sent, working.currents
    n = working.which.shape[0] - 1
    n_examples, n_steps, rows = found.shape[0], found.shape[1] - 1, currents.shape[1]
    # The same currents in all steps, or as many as there is room for.
    is_steady = term.how == NOTHING
    leaves_out = _wakes and working.awake.shape[0] > 0
    # If called with a plain 0, Numba would compile the function once more for other numbers.
    zero = used = room = np.int64(0)
    for k in range(n_examples):
        found[k, 0] = used
        for first in range(0, n_steps, n_steps if is_steady else rows):
            here = n_steps if is_steady else min(rows, n_steps - first)
            _weigh(address, (term, steady, scale, k, first, min(here, rows), currents))
            n_stepped = n
            if leaves_out:
                n_stepped = _without_sleeping(working, states, k, constants)
            if _simplifies:
                is_simple = is_steady and _simplify(currents[0, 0], states, k, constants)
            else:
                is_simple = False
            at, room = (zero, zero, zero, used), zero + 1
            while room > 0:
                at, room = _steps_of_one(
                    working, states, constants, height, k, (first, here, n_stepped), is_simple,
                    spikes, sent, at,
                )  # fmt: skip
                used = at[3]
                if room > 0:
                    spikes = longer(spikes, used, room)
            if room < 0:
                return spikes, room
        for i in range(n):
            output[k, i] = counts[k, n_steps - 1, i] if counts.shape[0] > 0 else 0
        for event in range(found[k, n_steps - 1], used):
            output[k, spikes[event]] += 1
        if counts.shape[0] == 0:
            for i in range(n):
                output[k, i] *= height
    return spikes, room


@functools.cache
def stretch_of(family: Kernel) -> Callable:
    """Return a stretch of steps of a family of neurons."""
    pieces, mark = pieces_of(family)
    steps = inner(framed(_steps_of_one, pieces, mark))
    sleep = inlined(framed(_without_sleeping, pieces, mark))
    return compiled(
        framed(_stretch, pieces | {"_steps_of_one": steps, "_without_sleeping": sleep}, mark)
    )
