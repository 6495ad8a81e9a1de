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


def _compiled(function: Callable, **settings: object) -> Callable:
    settings |= {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **settings)(function)
    except RuntimeError:  # no folder that Numba may write to
        return numba.njit(**settings)(function)


# For what is called for each row: with a small minibatch, the call takes longer than the row.
_inlined = functools.partial(_compiled, inline="always")


@_inlined
def _lif_row(current, eventful, output, voltage, refractory, i, constants):
    """Step row ``i`` on ``current``; ``eventful`` is working memory."""
    dt, _, _, min_voltage, _, decay = constants
    zero, one = dt - dt, dt / dt
    batch = current.shape[0]
    # Without a branch, so that the compiler turns it into vector instructions. Where a neuron
    # spikes, or comes out of its refractory time, it is finished below.
    for b in range(batch):
        left = refractory[i, b] - dt
        refractory[i, b] = left
        old = voltage[i, b]
        new = old - (current[b] - old) * decay
        new = new if left <= zero else old
        usual = (left <= zero) | (left >= dt)
        floored = min_voltage if new < min_voltage else new
        voltage[i, b] = floored if usual else old
        output[i, b] = zero
        eventful[b] = np.uint8(0) if usual & (new <= one) else np.uint8(1)
    valid = True
    for b in range(batch):
        if eventful[b]:
            valid &= _lif_event(current[b], output, voltage, refractory, i, b, constants)
    return valid


@_compiled
def _lif_event(drive, output, voltage, refractory, i, b, constants):
    dt, tau_rc, tau_ref, min_voltage, height, _ = constants
    zero, one = dt - dt, dt / dt
    left, new = refractory[i, b], voltage[i, b]
    if left > zero and left < dt:
        new = new - (drive - new) * math.expm1(-min(dt - left, dt) / tau_rc)
        voltage[i, b] = min_voltage if new < min_voltage else new
    if new > one:
        t_spike = dt + tau_rc * math.log1p(-(new - one) / (drive - one))
        voltage[i, b] = zero
        refractory[i, b] = tau_ref + t_spike
        output[i, b] = height
        return t_spike == t_spike
    return new == new


@_compiled
def lif(weighted, gain, bias, output, voltage, refractory, constants):
    """Step LIF neurons on ``bias + gain * weighted``; return False where a voltage is no number."""
    n, batch = output.shape
    current, eventful = np.empty(batch, output.dtype), np.empty(batch, np.uint8)
    valid = True
    for i in range(n):
        for b in range(batch):
            current[b] = bias[i] + gain[i] * weighted[i, b]
        valid &= _lif_row(current, eventful, output, voltage, refractory, i, constants)
    return valid


@_compiled
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
        valid &= _lif_row(current, eventful, output, voltage, refractory, i, constants)
        for b in range(batch):
            adaptation[i, b] += rate * (increment * output[i, b] - adaptation[i, b])
    return valid


@_compiled
def integrate(weighted, gain, bias, output, voltage, rectify, min_voltage, dt, height):
    """Step integrate-and-fire neurons, which subtract one for every spike."""
    n, batch = output.shape
    zero = dt - dt
    valid = True
    for i in range(n):
        for b in range(batch):
            drive = bias[i] + gain[i] * weighted[i, b]
            if rectify:
                drive = zero if drive < zero else drive
            v = voltage[i, b] + drive * dt
            spikes = np.floor(v)
            spikes = zero if spikes < zero else spikes
            output[i, b] = height * spikes
            v -= spikes
            voltage[i, b] = min_voltage if v < min_voltage else v
            valid &= v - v == zero
    return valid


@_compiled
def _any(bits, row, start, stop):
    # Integers, because the compiler may combine those in any order, so in vectors.
    together = bits[row, start]
    for b in range(start + 1, stop):
        together |= bits[row, b]
    return together != 0


@_compiled
def _store(sums, n, start, product, assign):
    for j in range(product.shape[0]):
        for k in range(n):
            if assign:
                product[j, start + k] = sums[k, j]
            else:
                product[j, start + k] += sums[k, j]


@_compiled
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
            total = sums[k]
            total[:] = 0
            event, last = bounds[start + k, step], bounds[start + k, step + 1]
            while event + 4 <= last:
                one, two = weights[rows[event]], weights[rows[event + 1]]
                three, four = weights[rows[event + 2]], weights[rows[event + 3]]
                for j in range(n_outputs):
                    total[j] += (one[j] + two[j]) + (three[j] + four[j])
                event += 4
            while event < last:
                one = weights[rows[event]]
                for j in range(n_outputs):
                    total[j] += one[j]
                event += 1
        _store(sums, n, start, product, assign)


@_compiled
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


@_compiled
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


@_compiled
def sort_events(steps, pixels, first, bounds, ordered):
    """Put the events of one example in the order of their steps, by counting.

    Fills ``bounds`` (n_steps + 1,) with the places in ``ordered``, from ``first`` on.
    """
    n_steps = bounds.shape[0] - 1
    bounds[:] = 0
    for event in range(steps.shape[0]):
        bounds[steps[event] + 1] += 1
    bounds[0] = first
    for step in range(n_steps):
        bounds[step + 1] += bounds[step]
    place = bounds[:n_steps].copy()
    for event in range(steps.shape[0]):
        step = steps[event]
        ordered[place[step]] = pixels[event]
        place[step] += 1


@_compiled
def add_events(rows, first, last, height, totals):
    """Add spikes to ``totals``, which is ``(batch, n_inputs)``.

    ``rows[first[b]:last[b]]`` are those of example ``b``.
    """
    for b in range(totals.shape[0]):
        for event in range(first[b], last[b]):
            totals[b, rows[event]] += height


@_compiled
def spread_events(rows, bounds, step, height, signal):
    """Write the spikes of this step to ``signal``, which is ``(n_inputs, batch)``."""
    signal[:] = 0
    for b in range(signal.shape[1]):
        for event in range(bounds[b, step], bounds[b, step + 1]):
            signal[rows[event], b] += 1
    for i in range(signal.shape[0]):
        for b in range(signal.shape[1]):
            signal[i, b] *= height
