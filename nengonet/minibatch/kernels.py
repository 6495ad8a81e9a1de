"""Numba kernels: the frames in which neurons are stepped, and products over spikes.

Imported only if Numba is installed (`nengonet.minibatch.acceleration`). Every kernel computes the
same as the NumPy step of the reference, in the same order for each neuron; only sums over inputs
are taken in another order. Arrays are ``(n, batch)``. If the current of neurons is a signal of its
own, they have gain 1 and bias 0, which changes no current.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable

import numba
import numpy as np

from nengonet.minibatch.compiling import compiled
from nengonet.neurons.model import Kernel

# Examples that are processed together: one cache line of a float64 row, twice.
LANES = 16

# The neurons of a layer are processed in multiples of this many: a few vector instructions.
WHOLE = 16


def uncounted(function: Callable, **settings: object) -> Callable:
    """Compile a kernel that makes no array, without counting references to its arguments."""
    # This option belongs to Numba's own library; the manual does not name it.
    has_option = hasattr(numba.core.options.DefaultOptions, "_nrt")
    return compiled(function, **settings, **({"_nrt": False} if has_option else {}))


# For functions that only kernels call.
inner = functools.partial(uncounted, no_cpython_wrapper=True)


# For functions called for each row: with a small minibatch, a call takes longer than the row.
inlined = functools.partial(compiled, inline="always")


@compiled
def _any(bits, row, start, stop):
    # Integers, because the compiler may combine them in any order, and so in vectors.
    together = bits[row, start]
    for b in range(start + 1, stop):
        together |= bits[row, b]
    return together != 0


@inlined
def add_eights(rows, event, last, weights, total):
    """Add ``weights[rows[event:last]]`` to ``total``, eight at once; return where the rest begins.

    The loop goes element by element, because Numba would count the references to a view of each
    row. It adds eight rows at once, so that the total is loaded and stored less often.
    """
    n = total.shape[0]
    while event + 8 <= last:
        a, b, c, d = rows[event], rows[event + 1], rows[event + 2], rows[event + 3]
        e, f, g, h = rows[event + 4], rows[event + 5], rows[event + 6], rows[event + 7]
        for j in range(n):
            half = total[j] + weights[a, j] + weights[b, j] + weights[c, j] + weights[d, j]
            total[j] = half + weights[e, j] + weights[f, j] + weights[g, j] + weights[h, j]
        event += 8
    return event


@inlined
def sum_rows(rows, event, last, weights, total):
    """Add up ``weights[rows[event:last]]``."""
    n = total.shape[0]
    for j in range(n):
        total[j] = 0
    event = add_eights(rows, event, last, weights, total)
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

    ``rows[bounds[b, step]:bounds[b, step + 1]]`` are the rows of example ``b``. ``weights`` is
    ``(n_inputs, n_outputs)``.
    """
    n_outputs, batch = product.shape
    sums = np.empty((LANES, n_outputs), weights.dtype)
    for start in range(0, batch, LANES):
        n = min(LANES, batch - start)
        for k in range(n):
            sum_rows(rows, bounds[start + k, step], bounds[start + k, step + 1], weights, sums[k])
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
    """Spread each spike over the outputs that it reaches; return the number of spikes.

    ``shape`` is the ``(n_positions, n_channels)`` of the input. Element ``(position, channel)`` is
    row ``position * strides[0] + channel * strides[1]`` of the input and of the output. ``bits``
    are the spikes as integers. ``table`` is ``(starts, outputs, taps)``. The spikes of a position
    reach the output positions ``outputs[starts[position]:starts[position + 1]]``, through the
    same taps of ``kernel`` (n_taps, n_channels, n_outputs). ``sums`` is working memory.
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
def count_events(rows, first, last, counts):
    """Count the spikes ``rows[first[b]:last[b]]`` of each example in ``counts``, (batch, n)."""
    for b in range(counts.shape[0]):
        for e in range(np.uint64(first[b]), np.uint64(last[b])):
            counts[b, np.uint64(rows[e])] += 1


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
    for event in range(used):  # for slices, Numba compiles a message on unequal sizes
        longer[event] = spikes[event]
    return longer


# --- neurons, in the frames that all families share

# The functions of a family: frames are compiled with those of its `Kernel`.
_usual = _event = _most = _counts_spikes = None


def _step(weighted, gain, bias, output, states, constants, height, current, eventful):
    """Step neurons on ``bias + gain * weighted``; return False if a voltage is not a number.

    ``current`` and ``eventful``, (batch,), are working memory.
    """
    n, batch = output.shape
    valid = True
    for i in range(n):
        for b in range(batch):
            current[b] = bias[i] + gain[i] * weighted[i, b]
        _usual(current, eventful, states, i, constants)
        for b in range(batch):
            if _counts_spikes and eventful[b] < 255:
                output[i, b] = height * eventful[b]
            elif eventful[b]:
                spikes, is_number = _event(current, states, i, b, constants)
                output[i, b] = height * spikes
                valid &= is_number
            else:
                output[i, b] = 0
    return valid


def framed(function: Callable, names: dict[str, object], mark: str = "") -> Callable:
    """Return a copy of a function in which some global names stand for other objects."""
    copy = types.FunctionType(function.__code__, function.__globals__ | names, function.__name__)
    copy.__qualname__ = function.__name__ + mark
    return copy


def piece(function: Callable, codes: list) -> Callable:
    """Compile a function of a family and those that it names; add their code to ``codes``."""
    code = function.__code__
    codes.append((code.co_code, code.co_consts))
    named = {name: function.__globals__.get(name) for name in code.co_names}
    named = {name: each for name, each in named.items() if isinstance(each, types.FunctionType)}
    return inlined(framed(function, {name: piece(each, codes) for name, each in named.items()}))


def pieces_of(family: Kernel) -> tuple[dict[str, object], str]:
    """Return the values of the names that a frame leaves open, and a mark for the family."""
    flags = {"_keeps_current": family.keeps_current, "_counts_spikes": family.counts_spikes}
    flags["_takes_lists"] = family.resume is not None
    flags["_simplifies"], flags["_wakes"] = family.simplify is not None, family.wake is not None
    codes: list = [flags]
    functions = {"_usual": family.usual, "_event": family.event, "_most": family.most}
    if family.resume is not None:
        functions |= {"_resume": family.resume, "_spike": family.spike}
    if family.simplify is not None:
        functions |= {"_simplify": family.simplify, "_simple": family.simple}
    if family.wake is not None:
        functions["_wake"] = family.wake
    pieces = {name: piece(each, codes) for name, each in functions.items()}
    # Numba caches by the frame's file and name, so the name must distinguish the families.
    mark = "_" + hashlib.sha256(repr(codes).encode()).hexdigest()[:12]
    return pieces | flags, mark


@functools.cache
def step_of(family: Kernel) -> Callable:
    """Return one step of a family of neurons."""
    return uncounted(framed(_step, *pieces_of(family)))
