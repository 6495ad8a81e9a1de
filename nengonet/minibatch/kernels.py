"""Numba kernels: the frames in which neurons are stepped, and products over spikes.

Imported only where Numba is installed (`nengonet.minibatch.acceleration`). Every kernel computes
what the NumPy step of the reference computes, in the same order for each neuron; only sums over
inputs are taken in another order. Arrays are ``(n, batch)``. Neurons whose current is a signal of
its own have gain 1 and bias 0, which changes no current.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable

import numba
import numpy as np

from nengonet.minibatch.compiling import compiled

# Examples that are worked on together: one cache line of a float64 row, twice.
LANES = 16

# Examples whose states are copied together: a cache line of float64.
_STRETCH_LANES = 8

# Spikes of a stretch are listed up to this number, or one for each neuron and step.
_MOST_SPIKES = 2**22

# Neurons of a layer are worked on in multiples of this many: a few vector instructions.
WHOLE = 16


def uncounted(function: Callable) -> Callable:
    """Compile a kernel that makes no array, without counting references to those it is given."""
    # An option of Numba's own library that its manual does not name.
    has_option = hasattr(numba.core.options.DefaultOptions, "_nrt")
    return compiled(function, **({"_nrt": False} if has_option else {}))


# For what is called for each row: with a small minibatch, the call takes longer than the row.
inlined = functools.partial(compiled, inline="always")


@compiled
def _any(bits, row, start, stop):
    # Integers, because the compiler may combine those in any order, so in vectors.
    together = bits[row, start]
    for b in range(start + 1, stop):
        together |= bits[row, b]
    return together != 0


@inlined
def _sum_rows(rows, event, last, weights, total):
    """Add up ``weights[rows[event:last]]``.

    Element by element: in a loop, Numba counts the references to a view of each row.
    """
    n = total.shape[0]
    for j in range(n):
        total[j] = 0
    # Eight rows in one go, so that the total is loaded and stored less often.
    while event + 8 <= last:
        a, b, c, d = rows[event], rows[event + 1], rows[event + 2], rows[event + 3]
        e, f, g, h = rows[event + 4], rows[event + 5], rows[event + 6], rows[event + 7]
        for j in range(n):
            half = total[j] + weights[a, j] + weights[b, j] + weights[c, j] + weights[d, j]
            total[j] = half + weights[e, j] + weights[f, j] + weights[g, j] + weights[h, j]
        event += 8
    while event + 2 <= last:
        a, b = rows[event], rows[event + 1]
        for j in range(n):
            total[j] += weights[a, j] + weights[b, j]
        event += 2
    if event < last:
        a = rows[event]
        for j in range(n):
            total[j] += weights[a, j]


@compiled
def event_product(rows, bounds, step, weights, product, assign):
    """Add up, for each example, the rows of ``weights`` that spiked in this step.

    ``rows[bounds[b, step]:bounds[b, step + 1]]`` are those of example ``b``; ``weights`` is
    ``(n_inputs, n_outputs)``.
    """
    n_outputs, batch = product.shape
    sums = np.empty((LANES, n_outputs), weights.dtype)
    for start in range(0, batch, LANES):
        n = min(LANES, batch - start)
        for k in range(n):
            _sum_rows(rows, bounds[start + k, step], bounds[start + k, step + 1], weights, sums[k])
        for j in range(n_outputs):
            for k in range(n):
                if assign:
                    product[j, start + k] = sums[k, j]
                else:
                    product[j, start + k] += sums[k, j]


@uncounted
def spike_product(
    spikes, bits, in_strides, shape, table, kernel, sums, product, out_strides, assign
):
    """Spread each spike over the outputs that it reaches; return how many there were.

    ``shape`` is ``(n_positions, n_channels)`` of the input. Element ``(position, channel)`` stands
    in row ``position * strides[0] + channel * strides[1]`` of the input and of the output;
    ``bits`` are the spikes as integers. The spikes of a position reach ``table = (starts, outputs,
    taps)``: the output positions ``outputs[starts[position]:starts[position + 1]]``, through those
    taps of ``kernel`` (n_taps, n_channels, n_outputs). ``sums`` is working memory.
    """
    starts, outputs, taps = table
    lanes, n_positions, n_outputs = sums.shape
    batch = spikes.shape[1]
    zero = spikes.dtype.type(0)
    found = 0
    for first in range(0, batch, lanes):
        n = min(lanes, batch - first)
        sums[:n] = 0
        for position in range(shape[0]):
            for channel in range(shape[1]):
                row = position * in_strides[0] + channel * in_strides[1]
                if not _any(bits, row, first, first + n):
                    continue
                for k in range(n):
                    spike = spikes[row, first + k]
                    if spike == zero:
                        continue
                    found += 1
                    for way in range(starts[position], starts[position + 1]):
                        total, weights = sums[k, outputs[way]], kernel[taps[way], channel]
                        for j in range(n_outputs):
                            total[j] += spike * weights[j]
        for position in range(n_positions):
            for j in range(n_outputs):
                row = position * out_strides[0] + j * out_strides[1]
                for k in range(n):
                    if assign:
                        product[row, first + k] = sums[k, position, j]
                    else:
                        product[row, first + k] += sums[k, position, j]
    return found


@compiled
def add_events(rows, first, last, height, totals):
    """Add spikes to ``totals``, which is ``(batch, n_inputs)``.

    ``rows[first[b]:last[b]]`` are those of example ``b``.
    """
    for b in range(totals.shape[0]):
        for event in range(first[b], last[b]):
            totals[b, rows[event]] += height


@compiled
def spread_events(rows, bounds, step, height, signal):
    """Write the spikes of this step to ``signal``, which is ``(n_inputs, batch)``."""
    signal[:] = 0
    for b in range(signal.shape[1]):
        for event in range(bounds[b, step], bounds[b, step + 1]):
            signal[rows[event], b] += 1
    for i in range(signal.shape[0]):
        for b in range(signal.shape[1]):
            signal[i, b] *= height


@compiled
def longer(spikes, used, more):
    """Return a longer copy of some spikes, with room for ``more``."""
    longer = np.empty(2 * spikes.shape[0] + more, spikes.dtype)
    for event in range(used):  # copying slices, Numba compiles a message for those that differ
        longer[event] = spikes[event]
    return longer


@inlined
def _spread_rows(rows, event, last, starts, outputs, taps, kernel, total):
    """Add up what each spike of a convolution's input does to ``total``."""
    n_channels, n_filters = kernel.shape[1:]
    for j in range(total.shape[0]):
        total[j] = 0
    while event < last:
        row = rows[event]
        event += 1
        # Several spikes of one neuron in a step stand side by side.
        times = 1
        while event < last and rows[event] == row:
            times += 1
            event += 1
        position = row // n_channels
        channel = row - position * n_channels
        count = kernel.dtype.type(times)
        for way in range(starts[position], starts[position + 1]):
            tap, first = taps[way], outputs[way] * n_filters
            for j in range(n_filters):
                total[first + j] += count * kernel[tap, channel, j]


@inlined
def _currents(rows, event, last, fan_out, steady, gain, bias, current):
    """Compute the current of an example's neurons; with no fan-out it is ``steady``."""
    dense, starts, outputs, taps, kernel = fan_out
    if dense.shape[0] > 0:
        _sum_rows(rows, event, last, dense, current)
    elif kernel.shape[0] > 0:
        _spread_rows(rows, event, last, starts, outputs, taps, kernel, current)
    if dense.shape[0] > 0 or kernel.shape[0] > 0:
        for i in range(current.shape[0]):
            current[i] = bias[i] + gain[i] * current[i]
    else:
        for i in range(current.shape[0]):
            current[i] = steady[i]


@compiled
def _copy_rows(source, target):
    """Copy some examples of a signal (n, batch), or back, in the order of the signal."""
    for i in range(source.shape[0]):
        for k in range(source.shape[1]):
            target[i, k] = source[i, k]


@inlined
def _find(eventful, n, which):
    """List those of the first ``n`` that are eventful in ``which``; return how many they are."""
    found = 0
    # Without a branch: which neuron has an event cannot be guessed, and a wrong guess costs more.
    for i in range(n):
        which[found] = i
        found += eventful[i]
    return found


@compiled
def spread_stretch(rows, bounds, counts, most):
    """Add spikes to ``counts``, which is ``(batch, n_steps, n)``.

    Returns False as soon as a count is above ``most``.
    """
    for b in range(counts.shape[0]):
        for step in range(counts.shape[1]):
            for event in range(bounds[b, step], bounds[b, step + 1]):
                counts[b, step, rows[event]] += 1
                if counts[b, step, rows[event]] > most:
                    return False
    return True


# --- neurons, in the frames that all families share

# What a family does: `kernels_of` compiles the frames with the functions of its `Kernel`.
_usual = _event = _most = None


def _step(weighted, gain, bias, output, states, constants, height, current, eventful):
    """Step neurons on ``bias + gain * weighted``; return False where a voltage is not a number.

    ``current`` and ``eventful``, (batch,), are working memory.
    """
    n, batch = output.shape
    valid = True
    for i in range(n):
        for b in range(batch):
            current[b] = bias[i] + gain[i] * weighted[i, b]
        _usual(current, eventful, states, i, constants)
        for b in range(batch):
            if eventful[b]:
                spikes, is_number = _event(current, states, i, b, constants)
                output[i, b] = height * spikes
                valid &= is_number
            else:
                output[i, b] = 0
    return valid


# What a stretch does for one example is a function of its own, in which Numba counts no references
# to arrays: in a loop that names arrays anew, that took 0.2 us a step. So it makes no array, and
# returns where it is when there is no more room for spikes.


def _stretch_of_one(
    rows, bounds, fan_out, gain, bias, states, k, steady, current, eventful, which, constants,
    spikes, most, found, at,
):  # fmt: skip
    """Do the steps of example ``k`` for `_stretch`, as far as there is room for its spikes.

    It begins ``at = (step, event, n_events, used)``: the step, the event in it, of how many, and
    the room that is used up. Returns where to go on, and the room that the next event needs: 0
    where all is done, -1 where its spikes cannot be listed.
    """
    step, event, n_events, used = at
    n = which.shape[0] - 1
    while step + 1 < found.shape[0]:
        if event == n_events:
            _currents(rows, bounds[step], bounds[step + 1], fan_out, steady, gain, bias, current)
            _usual(current, eventful, states, k, constants)
            event, n_events = 0, _find(eventful, n, which)
        while event < n_events:
            i = which[event]
            room = _most(states, k, i)
            # No number, or too many spikes to list, or fewer than none.
            if not 0 <= room < most - used:
                return (step, event, n_events, used), -1
            if used + room >= spikes.shape[0]:
                return (step, event, n_events, used), int(room) + 1
            n_spikes, is_number = _event(current, states, k, i, constants)
            if not is_number:
                return (step, event, n_events, used), -1
            # Mostly one or none: written without a branch that would be guessed wrong.
            spikes[used] = i
            for more in range(1, int(n_spikes)):
                spikes[used + more] = i
            used += int(n_spikes)
            event += 1
        step += 1
        found[step] = used
    return (step, event, n_events, used), 0


def _stretch(
    rows, bounds, first, n_steps, fan_out, weighted, gain, bias, output, states, constants, height
):  # fmt: skip
    """Do ``n_steps`` steps of neurons, one example after the other, on spikes.

    The spikes that come in are as in `event_product`, from step ``first`` on. ``fan_out`` is
    ``(rows, starts, outputs, taps, kernel)``: the rows of a matrix as in `event_product`, or the
    ways and the kernel (n_taps, n_channels, n_outputs) as in `spike_product`. Where both are
    empty, the current is constant, ``bias + gain * weighted``. The rows, ``gain`` and ``bias`` may
    have zeros behind.

    Returns the neurons that spiked and the bounds of each step in them, (batch, n_steps + 1), in
    the same way, and whether they could be listed: every voltage is a number, none brings spikes
    below 0, and there are not too many of them.
    """
    n, batch = output.shape
    lanes, n_states = min(_STRETCH_LANES, batch), len(states)
    whole, most = len(gain), max(_MOST_SPIKES, n * batch * n_steps)
    # The states of some examples, and their constant currents and last outputs: each so long that
    # no two begin at the same place of a page of memory, where they would wait for each other.
    copies = np.zeros((n_states + 2, lanes, whole + (24 - whole) % 64), output.dtype)
    current, eventful = np.empty(whole, output.dtype), np.empty(whole, np.uint8)
    which = np.empty(n + 1, np.int32)
    spikes = np.empty(16 * batch * n_steps, np.int32)
    found = np.empty((batch, n_steps + 1), np.int64)
    # Numba compiles what is called with a plain 0 once more for other numbers.
    zero = used = np.int64(0)
    for lane in range(0, batch, lanes):
        here = min(lanes, batch - lane)
        for s in range(n_states):
            _copy_rows(states[s][:, lane : lane + here], copies[s, :here].T)
        _copy_rows(weighted[:, lane : lane + here], copies[n_states, :here].T)
        for k in range(here):
            b, steady, last = lane + k, copies[n_states, k], copies[n_states + 1, k]
            for i in range(whole):
                steady[i] = bias[i] + gain[i] * steady[i]
            found[b, 0], at, room = used, (zero, zero, zero, used), 1
            while room > 0:
                at, room = _stretch_of_one(
                    rows, bounds[b, first:], fan_out, gain, bias, copies, k, steady, current,
                    eventful, which, constants, spikes, most, found[b], at,
                )  # fmt: skip
                used = at[3]
                if room > 0:
                    spikes = longer(spikes, used, room)
            if room < 0:
                return spikes, found, False
            last[:] = 0
            for event in range(found[b, n_steps - 1], used):
                last[spikes[event]] += height
        for s in range(n_states):
            _copy_rows(copies[s, :here, :n].T, states[s][:, lane : lane + here])
        _copy_rows(copies[n_states + 1, :here, :n].T, output[:, lane : lane + here])
    return spikes, found, True


def _with(function: Callable, names: dict[str, Callable], mark: str = "") -> Callable:
    """Return a copy of a function in which some global names stand for something else."""
    copy = types.FunctionType(function.__code__, function.__globals__ | names, function.__name__)
    copy.__qualname__ = function.__name__ + mark
    return copy


def _piece(function: Callable, codes: list) -> Callable:
    """Compile a function of a family, and those that it names; add their code to ``codes``."""
    code = function.__code__
    codes.append((code.co_code, code.co_consts))
    named = {name: function.__globals__.get(name) for name in code.co_names}
    named = {name: each for name, each in named.items() if isinstance(each, types.FunctionType)}
    return inlined(_with(function, {name: _piece(each, codes) for name, each in named.items()}))


@functools.cache
def kernels_of(usual: Callable, event: Callable, most: Callable) -> tuple[Callable, Callable]:
    """Return one step and a stretch of steps of a family, by functions of its `Kernel`."""
    codes: list = []
    functions = {"_usual": usual, "_event": event, "_most": most}
    pieces = {name: _piece(each, codes) for name, each in functions.items()}
    # Numba keeps what it compiled by the frame's file and name, so the name tells families apart.
    mark = "_" + hashlib.sha256(repr(codes).encode()).hexdigest()[:12]
    one = uncounted(_with(_stretch_of_one, pieces, mark))
    stretch = compiled(_with(_stretch, {"_stretch_of_one": one}, mark))
    return uncounted(_with(_step, pieces, mark)), stretch
