"""Numba kernels: NumPy's random numbers, for many examples outside Python.

The kernels draw the same numbers as `nengonet.layers.inputs.draw_events`, which draws with NumPy
for one example at a time. They contain the PCG64 bit generator (O'Neill 2014),
``Generator.poisson`` (Hörmann's PTRS, 1993, from a mean of 10 on; multiplication below) and
``Generator.integers`` (Lemire 2019), as in NumPy's ``random/src``. If a later NumPy draws other
numbers (see `is_numpys`), NumPy itself draws.
`nengonet.minibatch.mersenne` draws Poisson counts from MT19937.
"""

from __future__ import annotations

import functools
import itertools
import math

import numba
import numpy as np

from nengonet.layers.inputs import BLOCK_STEPS, draw_events
from nengonet.minibatch.kernels import compiled, inlined, longer
from nengonet.streams import example_rng

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
# The multiplier of PCG64, in two halves.
_FACTOR_HIGH, _FACTOR_LOW = np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645)
UNIT = 1.0 / 9007199254740992.0  # the unit of the 53 bits of a double

_LOG_GAMMA = (
    8.333333333333333e-02,
    -2.777777777777778e-03,
    7.936507936507937e-04,
    -5.952380952380952e-04,
    8.417508417508418e-04,
    -1.917526917526918e-03,
    6.410256410256410e-03,
    -2.955065359477124e-02,
    1.796443723688307e-01,
    -1.39243221690590e00,
)
_LOG_TWO_PI = 1.8378770664093453


@inlined
def _high_product(a, b):
    """Return the upper 64 of the 128 bits of ``a * b``."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    middle = a_high * b_low + ((a_low * b_low) >> _HALF)
    other = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _HALF) + (other >> _HALF)


@inlined
def _advanced(high, low, more_high, more_low):
    """Return the next state; the second pair is the increment."""
    new_low = low * _FACTOR_LOW
    new_high = _high_product(low, _FACTOR_LOW) + low * _FACTOR_HIGH + high * _FACTOR_LOW
    low = new_low + more_low
    return new_high + more_high + (np.uint64(1) if low < new_low else np.uint64(0)), low


@inlined
def _mixed(high, low):
    """Return the 64 random bits that belong to a state."""
    both, turn = high ^ low, high >> np.uint64(58)
    return (both >> turn) | (both << ((np.uint64(64) - turn) & np.uint64(63)))


def next_double(state):
    """Advance to the next state, and return a random number in [0, 1).

    Kernels call it. `numba.extending.overload` selects the bit generator by the type of its state.
    """


@numba.extending.overload(next_double, jit_options={"error_model": "numpy"})
def _next_of_pcg64(state):
    if not isinstance(state, numba.types.Array):
        return None

    def advance(state):
        state[0], state[1] = _advanced(state[0], state[1], state[2], state[3])
        return (_mixed(state[0], state[1]) >> np.uint64(11)) * UNIT

    return advance


@compiled
def log_gamma(x):
    """Return the logarithm of the gamma function."""
    if x == 1.0 or x == 2.0:
        return 0.0
    n = int(7 - x) if x < 7.0 else 0
    x0 = x + n
    x2 = (1.0 / x0) * (1.0 / x0)
    total = _LOG_GAMMA[9]
    for k in range(8, -1, -1):
        total = total * x2 + _LOG_GAMMA[k]
    result = total / x0 + 0.5 * _LOG_TWO_PI + (x0 - 0.5) * math.log(x0) - x0
    for _ in range(n):
        result -= math.log(x0 - 1.0)
        x0 -= 1.0
    return result


@compiled
def poisson_multiplied(least, state):
    """Draw a Poisson count with a mean below 10; ``least`` is ``exp(-mean)``."""
    product, count = 1.0, 0
    while True:
        product *= next_double(state)
        if product <= least:
            return count
        count += 1


@inlined
def shape_of(mean):
    """Return the constants that `poisson_rejected` needs for a mean of at least 10."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    return b, -0.059 + 0.02483 * b, 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2)


@inlined
def is_accepted(k, u_left, v, mean, b, a, inverse_alpha):
    """Return whether to accept a count that was drawn far from the mean."""
    if k < 0 or (u_left < 0.013 and v > u_left):
        return False
    return math.log(v) + math.log(inverse_alpha) - math.log(a / (u_left * u_left) + b) <= (
        -mean + k * math.log(mean) - log_gamma(k + 1.0)
    )


@compiled
def poisson_rejected(mean, state):
    """Draw a Poisson count with a mean of at least 10."""
    b, a, inverse_alpha, accepted = shape_of(mean)
    while True:
        u = next_double(state) - 0.5
        v = next_double(state)
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= accepted:
            return int(k)
        if is_accepted(k, us, v, mean, b, a, inverse_alpha):
            return int(k)


@compiled
def _draw_steps(n_steps, state, steps, bound):
    """Draw a step for each event, and count in ``bound[step + 1]``."""
    # Below this remainder, some steps would come more often than others.
    least = (_LOW - n_steps + np.uint64(1)) % n_steps
    high, low, is_left, half = state[0], state[1], state[4], state[5]
    event = 0
    while event < steps.shape[0]:
        if is_left:
            bits, is_left = half, np.uint64(0)
        else:
            high, low = _advanced(high, low, state[2], state[3])
            both = _mixed(high, low)
            bits, half, is_left = both & _LOW, both >> _HALF, np.uint64(1)
        product = bits * n_steps
        if product & _LOW >= least:
            step = product >> _HALF
            steps[event] = step
            bound[step + np.uint64(1)] += 1
            event += 1
    state[0], state[1], state[4], state[5] = high, low, is_left, half


@compiled
def draw_block(states, pixels, mean_counts, firsts, counts, bounds, ordered):
    """Draw the spikes of a block of steps for every example, each in the order of its steps.

    ``states[b]`` comes from `state_of`, and is advanced. The pixels that can spike in example
    ``b``, and their mean counts, are those from ``firsts[b]`` to ``firsts[b + 1]``. The function
    fills ``counts`` with the number of spikes of each of them, and fills ``bounds`` (batch,
    n_steps + 1). It returns the pixels that spiked, in ``ordered`` or, if that is too short, in a
    longer array.
    """
    n_steps = np.uint64(bounds.shape[1] - 1)
    steps = np.empty(0, np.uint16)
    used = np.int64(0)
    for b in range(bounds.shape[0]):
        state, bound = states[b], bounds[b]
        n = np.int64(0)
        for each in range(firsts[b], firsts[b + 1]):
            mean = mean_counts[each]
            if mean >= 10:
                counts[each] = poisson_rejected(mean, state)
            else:
                counts[each] = poisson_multiplied(math.exp(-mean), state)
            n += counts[each]
        if n > steps.shape[0]:
            steps = np.empty(2 * n, np.uint16)
        if used + n > ordered.shape[0]:
            ordered = longer(ordered, used, n)
        bound[:] = 0
        _draw_steps(n_steps, state, steps[:n], bound)
        # Sorted by counting.
        bound[0] = used
        for step in range(bound.shape[0] - 1):
            bound[step + 1] += bound[step]
        place = bound.copy()
        event = 0
        for each in range(firsts[b], firsts[b + 1]):
            pixel = pixels[each]
            for _ in range(counts[each]):
                step = steps[event]
                ordered[place[step]] = pixel
                place[step] += 1
                event += 1
        used += n
    return ordered


@compiled
def add_counts(pixels, counts, firsts, totals):
    """Add the spikes of a whole block (see `draw_block`) to ``totals``, (batch, n_pixels)."""
    for b in range(totals.shape[0]):
        for each in range(firsts[b], firsts[b + 1]):
            totals[b, pixels[each]] += counts[each]


def state_of(rng: np.random.Generator) -> list[int]:
    """Return state and increment of a PCG64 generator in halves, and its unused half number."""
    found = rng.bit_generator.state
    state, increment = found["state"]["state"], found["state"]["inc"]
    low = 2**64 - 1
    halves = [state >> 64, state & low, increment >> 64, increment & low]
    return [*halves, found["has_uint32"], found["uinteger"]]


def first_states(seed: int, examples: np.ndarray) -> np.ndarray:
    """Return `state_of` every `example_rng`, computing NumPy's ``SeedSequence`` for all at once."""
    if max(seed, *map(int, examples)) >= 2**32:  # these are hashed in more words
        return np.array([state_of(example_rng(seed, int(each))) for each in examples], np.uint64)
    constant, factor = 0x43B0D7E5, 0x931E8875

    def hashed(value: np.ndarray) -> np.ndarray:
        nonlocal constant
        value = value ^ np.uint32(constant)
        constant = constant * factor & 0xFFFFFFFF
        value = value * np.uint32(constant)
        return value ^ value >> np.uint32(16)

    entropy = np.zeros((4, len(examples)), np.uint32)
    entropy[0], entropy[1] = seed, examples
    pool = [hashed(each) for each in entropy]
    for source, target in itertools.permutations(range(4), 2):
        left, right = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
        mixed = left * pool[target] - right * hashed(pool[source])
        pool[target] = mixed ^ mixed >> np.uint32(16)
    constant, factor = 0x8B51F9DD, 0x58F38DED
    words = [hashed(pool[word % 4]).astype(object) for word in range(8)]
    high, low, more_high, more_low = (words[i] | words[i + 1] << 32 for i in range(0, 8, 2))
    increment = ((more_high << 64 | more_low) << 1 | 1) % 2**128
    state = ((high << 64 | low) + increment) * (int(_FACTOR_HIGH) << 64 | int(_FACTOR_LOW))
    state = (state + increment) % 2**128
    halves = [state >> 64, state % 2**64, increment >> 64, increment % 2**64]
    return np.array([*halves, 0 * state, 0 * state], np.uint64).T.copy()


@functools.cache
def is_numpys() -> bool:
    """Return whether the installed NumPy draws the same numbers."""
    theirs = example_rng(0, 0)
    if not isinstance(theirs.bit_generator, np.random.PCG64):
        return False
    states = first_states(0, np.array([0]))
    pixels, mean_counts = np.arange(60, dtype=np.int32), np.geomspace(0.01, 100.0, 60)
    firsts, counts = np.array([0, len(pixels)]), np.empty(len(pixels), np.int64)
    for _ in range(3):
        bounds = np.zeros((1, BLOCK_STEPS + 1), np.int64)
        ordered = draw_block(
            states, pixels, mean_counts, firsts, counts, bounds, np.empty(1, np.int32)
        )
        steps, spiking = draw_events(pixels, mean_counts, theirs)
        order = np.argsort(steps, kind="stable")
        if not np.array_equal(ordered[: len(order)], spiking[order]):
            return False
    return state_of(theirs) == states[0].tolist()
