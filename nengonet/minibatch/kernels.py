"""Numba kernels: fused neuron steps, and products over spikes.

Imported only where Numba is installed (`nengonet.minibatch.acceleration`). Every kernel computes
what the NumPy step of the reference computes, in the same order for each neuron; only sums over
inputs are taken in another order. Arrays are ``(n, batch)``. Neurons whose current is a signal of
its own have gain 1 and bias 0, which changes no current.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numba
import numpy as np

# Examples that are worked on together: one cache line of a float64 row, twice.
_LANES = 16

# Examples whose states are copied together: a cache line of float64.
_STRETCH_LANES = 8

# Spikes of a stretch are listed up to this number, or one for each neuron and step.
_MOST_SPIKES = 2**22

# Neurons of a layer are worked on in multiples of so many: a few vector instructions.
WHOLE = 16


def compiled(function: Callable, **settings: object) -> Callable:
    """Compile a kernel, and keep it on disk where that is possible."""
    settings |= {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **settings)(function)
    except RuntimeError:  # no folder that Numba may write to
        return numba.njit(**settings)(function)


def uncounted(function: Callable) -> Callable:
    """Compile a kernel that makes no array, without counting references to those it is given."""
    # An option of Numba's own library that its manual does not name.
    has_option = hasattr(numba.core.options.DefaultOptions, "_nrt")
    return compiled(function, **({"_nrt": False} if has_option else {}))


# For what is called for each row: with a small minibatch, the call takes longer than the row.
inlined = functools.partial(compiled, inline="always")


@inlined
def _lif_usual(current, eventful, voltage, refractory, constants):
    """Step LIF neurons that neither spike nor come out of their refractory time.

    Marks the others as ``eventful``: `_lif_event` finishes them.
    """
    dt, _, _, min_voltage, _, decay = constants
    zero, one = dt - dt, dt / dt
    # Without a branch, so that the compiler turns it into vector instructions.
    for k in range(current.shape[0]):
        left = refractory[k] - dt
        refractory[k] = left
        old = voltage[k]
        new = old - (current[k] - old) * decay
        new = new if left <= zero else old
        usual = (left <= zero) | (left >= dt)
        floored = min_voltage if new < min_voltage else new
        voltage[k] = floored if usual else old
        eventful[k] = np.uint8(0) if usual & (new <= one) else np.uint8(1)


@inlined
def _lif_event(drive, voltage, refractory, k, constants):
    """Finish neuron ``k``; return whether it spikes, and whether its voltage is a number."""
    dt, tau_rc, tau_ref, min_voltage, _, _ = constants
    zero, one = dt - dt, dt / dt
    left, new = refractory[k], voltage[k]
    if left > zero and left < dt:
        new = new - (drive - new) * math.expm1(-min(dt - left, dt) / tau_rc)
        voltage[k] = min_voltage if new < min_voltage else new
    if new > one:
        t_spike = dt + tau_rc * math.log1p(-(new - one) / (drive - one))
        voltage[k] = zero
        refractory[k] = tau_ref + t_spike
        return True, t_spike == t_spike
    return False, new == new


@inlined
def _lif_row(current, eventful, output, voltage, refractory, constants):
    """Step LIF neurons on ``current``; ``eventful`` is working memory."""
    _lif_usual(current, eventful, voltage, refractory, constants)
    height, valid = constants[4], True
    output[:] = 0
    for k in range(current.shape[0]):
        if eventful[k]:
            spikes, is_number = _lif_event(current[k], voltage, refractory, k, constants)
            valid &= is_number
            if spikes:
                output[k] = height
    return valid


@compiled
def lif(weighted, gain, bias, output, voltage, refractory, constants):
    """Step LIF neurons on ``bias + gain * weighted``; return False where a voltage is no number."""
    n, batch = output.shape
    current, eventful = np.empty(batch, output.dtype), np.empty(batch, np.uint8)
    valid = True
    for i in range(n):
        for b in range(batch):
            current[b] = bias[i] + gain[i] * weighted[i, b]
        valid &= _lif_row(current, eventful, output[i], voltage[i], refractory[i], constants)
    return valid


@compiled
def adaptive_lif(
    weighted, gain, bias, output, voltage, refractory, adaptation, constants, rate, increment
):
    """Step AdaptiveLIF neurons on ``bias + gain * weighted``."""
    n, batch = output.shape
    current, eventful = np.empty(batch, output.dtype), np.empty(batch, np.uint8)
    valid = True
    for i in range(n):
        for b in range(batch):
            current[b] = bias[i] + gain[i] * weighted[i, b] - adaptation[i, b]
        valid &= _lif_row(current, eventful, output[i], voltage[i], refractory[i], constants)
        for b in range(batch):
            adaptation[i, b] += rate * (increment * output[i, b] - adaptation[i, b])
    return valid


@inlined
def _integrate_usual(current, eventful, voltage, constants):
    """Step integrate-and-fire neurons that do not spike; `_integrate_event` finishes the others."""
    rectify, lowest, min_voltage, dt, _ = constants
    zero, one = dt - dt, dt / dt
    for k in range(current.shape[0]):
        drive = current[k]
        if rectify:
            drive = zero if drive < zero else drive
        v = voltage[k] + drive * dt
        usual = (v < one) & (v >= lowest)
        floored = min_voltage if v < min_voltage else v
        voltage[k] = floored if usual else v
        eventful[k] = np.uint8(0) if usual else np.uint8(1)


@inlined
def _integrate_event(voltage, k, constants):
    """Finish neuron ``k``, which subtracts one for every spike.

    Returns how many there are, and whether its voltage is a number.
    """
    rectify, _, min_voltage, dt, _ = constants
    v = voltage[k]
    spikes = np.floor(v) if rectify or v > 0 else dt - dt
    v -= spikes
    voltage[k] = min_voltage if v < min_voltage else v
    return spikes, v - v == 0


@compiled
def integrate(weighted, gain, bias, output, voltage, constants):
    """Step integrate-and-fire neurons, which subtract one for every spike."""
    n, batch = output.shape
    height, valid = constants[4], True
    current, eventful = np.empty(batch, output.dtype), np.empty(batch, np.uint8)
    for i in range(n):
        for b in range(batch):
            current[b] = bias[i] + gain[i] * weighted[i, b]
        _integrate_usual(current, eventful, voltage[i], constants)
        output[i, :] = 0
        for b in range(batch):
            if eventful[b]:
                spikes, is_number = _integrate_event(voltage[i], b, constants)
                output[i, b] = height * spikes
                valid &= is_number
    return valid


@compiled
def _any(bits, row, start, stop):
    # Integers, because the compiler may combine those in any order, so in vectors.
    together = bits[row, start]
    for b in range(start + 1, stop):
        together |= bits[row, b]
    return together != 0


@compiled
def _store(sums, n, start, product, assign):
    for j in range(product.shape[0]):
        for k in range(n):
            if assign:
                product[j, start + k] = sums[k, j]
            else:
                product[j, start + k] += sums[k, j]


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
    sums = np.empty((_LANES, n_outputs), weights.dtype)
    for start in range(0, batch, _LANES):
        n = min(_LANES, batch - start)
        for k in range(n):
            _sum_rows(rows, bounds[start + k, step], bounds[start + k, step + 1], weights, sums[k])
        _store(sums, n, start, product, assign)


@compiled
def spike_product(spikes, bits, weights, product, assign):
    """Multiply ``weights.T`` with signals that are mostly 0; return how many were not.

    ``spikes`` is ``(n_inputs, batch)``, ``weights`` ``(n_inputs, n_outputs)``; ``bits`` are the
    spikes as integers.
    """
    n_inputs, batch = spikes.shape
    n_outputs = weights.shape[1]
    sums = np.empty((_LANES, n_outputs), weights.dtype)
    zero = spikes.dtype.type(0)
    found = 0
    for start in range(0, batch, _LANES):
        n = min(_LANES, batch - start)
        sums[:n] = 0
        for i in range(n_inputs):
            if not _any(bits, i, start, start + n):
                continue
            row = weights[i]
            for k in range(n):
                spike = spikes[i, start + k]
                if spike != zero:
                    found += 1
                    total = sums[k]
                    for j in range(n_outputs):
                        total[j] += spike * row[j]
        _store(sums, n, start, product, assign)
    return found


@compiled
def spike_convolution(
    spikes, bits, in_strides, shape, table, kernel, sums, product, out_strides, assign
):
    """Spread each spike over the outputs that it reaches; return how many there were.

    ``shape`` is ``(n_positions, n_channels)`` of the input. Element ``(position, channel)`` stands
    in row ``position * strides[0] + channel * strides[1]`` of the input and of the output. The
    spikes of a position reach ``table = (starts, outputs, taps)``: the output positions
    ``outputs[starts[position]:starts[position + 1]]``, through those taps of ``kernel``
    (n_taps, n_channels, n_outputs).
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
    longer[:used] = spikes[:used]
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
def _currents(
    rows, event, last, dense, starts, outputs, taps, kernel, steady, gain, bias, current
):  # fmt: skip
    """Compute the current of an example's neurons; with no fan-out it is ``steady``."""
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
def _by_example(signal, first, rows):
    """Copy some examples of a signal (n, batch) into ``rows`` (examples, n or more)."""
    for i in range(signal.shape[0]):
        for k in range(rows.shape[0]):
            rows[k, i] = signal[i, first + k]


@compiled
def _by_neuron(rows, first, signal):
    """Copy ``rows`` back."""
    for i in range(signal.shape[0]):
        for k in range(rows.shape[0]):
            signal[i, first + k] = rows[k, i]


@inlined
def _padded(values, n):
    """Return a copy with zeros behind."""
    longer_values = np.zeros(n, values.dtype)
    longer_values[: values.shape[0]] = values
    return longer_values


@inlined
def _find(eventful, n, which):
    """List those of the first ``n`` that are eventful in ``which``; return how many they are."""
    found = 0
    # Without a branch: which neuron has an event cannot be guessed, and a wrong guess costs more.
    for i in range(n):
        which[found] = i
        found += eventful[i]
    return found


@inlined
def _last_outputs(spikes, used, found, height, outputs):
    """Write the outputs of the last step: its spikes are from ``found`` to ``used``."""
    outputs[:] = 0
    for event in range(found, used):
        outputs[spikes[event]] += height


# What a stretch does for one example is a function of its own, in which Numba counts no references
# to arrays: in a loop that names arrays anew, that took 0.2 us a step. So it makes no array, and
# returns where it is when there is no more room for spikes.


@uncounted
def _lif_example(
    rows, bounds, dense, starts, outputs, taps, kernel, steady, gain, bias, voltage, refractory,
    current, eventful, which, constants, step, spikes, used, found,
):  # fmt: skip
    """Do the steps of one example for `lif_stretch`, as far as there is room for its spikes.

    Returns the next step, the room that is used up, and whether every voltage is a number.
    """
    n, valid = which.shape[0] - 1, True
    while step + 1 < found.shape[0] and used + n <= spikes.shape[0]:
        _currents(
            rows, bounds[step], bounds[step + 1], dense, starts, outputs, taps, kernel, steady,
            gain, bias, current,
        )  # fmt: skip
        _lif_usual(current, eventful, voltage, refractory, constants)
        for event in range(_find(eventful, n, which)):
            i = which[event]
            is_spike, is_number = _lif_event(current[i], voltage, refractory, i, constants)
            valid &= is_number
            spikes[used] = i
            used += is_spike
        step += 1
        found[step] = used
    return step, used, valid


@compiled
def lif_stretch(
    rows, bounds, first, n_steps, fan_out, weighted, gain, bias, output, voltage, refractory,
    constants,
):  # fmt: skip
    """Do ``n_steps`` steps of LIF neurons, one example after the other, on spikes.

    The spikes that come in are as in `event_product`, from step ``first`` on. ``fan_out`` is
    ``(rows, starts, outputs, taps, kernel)``: the rows of a matrix as in `event_product`, or the
    ways and the kernel (n_taps, n_channels, n_outputs) as in `spike_convolution`. Where both are
    empty, the current is constant, ``bias + gain * weighted``. The rows may have zeros behind.

    Returns the neurons that spiked and the bounds of each step in them, (batch, n_steps + 1), in
    the same way, and whether every voltage is a number.
    """
    n, batch = output.shape
    lanes, height = min(_STRETCH_LANES, batch), constants[4]
    whole = -(-n // WHOLE) * WHOLE
    gain, bias = _padded(gain, whole), _padded(bias, whole)
    current, shape = np.empty(whole, output.dtype), (lanes, whole)
    vs, lefts = np.zeros(shape, output.dtype), np.zeros(shape, output.dtype)
    outs, steadies = np.zeros(shape, output.dtype), np.zeros(shape, output.dtype)
    eventful, which = np.empty(whole, np.uint8), np.empty(n + 1, np.int32)
    spikes = np.empty(16 * batch * n_steps, np.int32)
    found = np.empty((batch, n_steps + 1), np.int64)
    dense, starts, outputs, taps, kernel = fan_out
    used, valid = 0, True
    for lane in range(0, batch, lanes):
        here = min(lanes, batch - lane)
        _by_example(voltage, lane, vs[:here])
        _by_example(refractory, lane, lefts[:here])
        _by_example(weighted, lane, steadies[:here])
        for k in range(here):
            b, steady = lane + k, steadies[k]
            for i in range(whole):
                steady[i] = bias[i] + gain[i] * steady[i]
            found[b, 0], step = used, 0
            while step < n_steps:
                if used + n > spikes.shape[0]:
                    spikes = longer(spikes, used, n)
                step, used, are_numbers = _lif_example(
                    rows, bounds[b, first:], dense, starts, outputs, taps, kernel, steady, gain,
                    bias, vs[k], lefts[k], current, eventful, which, constants, step, spikes, used,
                    found[b],
                )  # fmt: skip
                valid &= are_numbers
            _last_outputs(spikes, used, found[b, n_steps - 1], height, outs[k])
        _by_neuron(vs[:here], lane, voltage)
        _by_neuron(lefts[:here], lane, refractory)
        _by_neuron(outs[:here], lane, output)
    return spikes, found, valid


@uncounted
def _integrate_example(
    rows, bounds, dense, starts, outputs, taps, kernel, steady, gain, bias, voltage, current,
    eventful, which, constants, step, event, n_events, spikes, used, most, found,
):  # fmt: skip
    """Do the steps of one example for `integrate_stretch`, as far as there is room for its spikes.

    Returns the step and the event, of how many, at which to go on, the room that is used up, and
    whether the spikes could be listed.
    """
    n, zero = which.shape[0] - 1, constants[3] - constants[3]
    while step + 1 < found.shape[0]:
        if event == n_events:
            _currents(
                rows, bounds[step], bounds[step + 1], dense, starts, outputs, taps, kernel, steady,
                gain, bias, current,
            )  # fmt: skip
            _integrate_usual(current, eventful, voltage, constants)
            event, n_events = 0, _find(eventful, n, which)
        while event < n_events:
            i = which[event]
            # No number, or too many spikes to list, or fewer than none.
            if not zero <= voltage[i] < most - used:
                return step, event, n_events, used, False
            if used + voltage[i] > spikes.shape[0]:
                return step, event, n_events, used, True
            count, _ = _integrate_event(voltage, i, constants)
            for _ in range(int(count)):
                spikes[used] = i
                used += 1
            event += 1
        step += 1
        found[step] = used
    return step, event, n_events, used, True


@compiled
def integrate_stretch(
    rows, bounds, first, n_steps, fan_out, weighted, gain, bias, output, voltage, constants
):
    """Do ``n_steps`` steps of integrate-and-fire neurons: see `lif_stretch`.

    The last value returned tells whether the spikes could be listed: every voltage is a number,
    none brings spikes below 0, and there are not too many of them.
    """
    n, batch = output.shape
    lanes, height = min(_STRETCH_LANES, batch), constants[4]
    most = max(_MOST_SPIKES, n * batch * n_steps)
    whole = -(-n // WHOLE) * WHOLE
    gain, bias = _padded(gain, whole), _padded(bias, whole)
    current, shape = np.empty(whole, output.dtype), (lanes, whole)
    vs, outs = np.zeros(shape, output.dtype), np.zeros(shape, output.dtype)
    steadies = np.zeros(shape, output.dtype)
    eventful, which = np.empty(whole, np.uint8), np.empty(n + 1, np.int32)
    spikes = np.empty(16 * batch * n_steps, np.int32)
    found = np.empty((batch, n_steps + 1), np.int64)
    dense, starts, outputs, taps, kernel = fan_out
    used = 0
    for lane in range(0, batch, lanes):
        here = min(lanes, batch - lane)
        _by_example(voltage, lane, vs[:here])
        _by_example(weighted, lane, steadies[:here])
        for k in range(here):
            b, steady = lane + k, steadies[k]
            for i in range(whole):
                steady[i] = bias[i] + gain[i] * steady[i]
            found[b, 0], step, event, n_events = used, 0, 0, 0
            while step < n_steps:
                if event < n_events:
                    spikes = longer(spikes, used, int(vs[k, which[event]]))
                step, event, n_events, used, valid = _integrate_example(
                    rows, bounds[b, first:], dense, starts, outputs, taps, kernel, steady, gain,
                    bias, vs[k], current, eventful, which, constants, step, event, n_events, spikes,
                    used, most, found[b],
                )  # fmt: skip
                if not valid:
                    return spikes, found, False
            _last_outputs(spikes, used, found[b, n_steps - 1], height, outs[k])
        _by_neuron(vs[:here], lane, voltage)
        _by_neuron(outs[:here], lane, output)
    return spikes, found, True


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
