"""Numba kernels: the draws of random neuron types from NumPy's ``RandomState``, outside Python.

The kernels draw the same numbers as ``RandomState.poisson`` and ``random_sample`` draw from the
MT19937 bit generator (Matsumoto and Nishimura 1998), as in NumPy's ``random/src``. They work in the
memory of the ``RandomState`` itself. So the next one to draw from it, a kernel or NumPy, continues
where the last one ended. If a later NumPy draws other numbers, or keeps its state in another way
(see `is_numpys`), NumPy itself draws.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numba
import numpy as np
from nengo.neurons import RatesToSpikesNeuronType

from nengonet.minibatch.compiling import compiled
from nengonet.minibatch.drawing import (
    UNIT,
    is_accepted,
    log_gamma,
    next_double,
    poisson_multiplied,
    poisson_rejected,
    shape_of,
)
from nengonet.minibatch.kernels import inlined

# Words of the state. The number of used words stands behind them. A double takes two words.
_N, _AHEAD = 624, 397
_DOUBLES = _N // 2
_UPPER, _LOWER = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)
_MATRIX, _ONE, _TWO = np.uint32(0x9908B0DF), np.uint32(1), np.uint32(2)
_SHIFTS = np.uint32(11), np.uint32(7), np.uint32(15), np.uint32(18)
_MASKS = np.uint32(0x9D2C5680), np.uint32(0xEFC60000)

# The largest mean for which NumPy draws.
_MOST = float(np.iinfo(np.int64).max - 10 * np.sqrt(np.iinfo(np.int64).max))
# The chances of this many counts around a mean are kept, for means up to the second number. A drawn
# number is compared with the rounded chance only if it differs by more than these factors.
_CHANCES, _KEPT = 64, 64.0
_LESS, _MORE = 1 - 1e-6, 1 + 1e-6
_INVERSE = 1 / np.arange(1.0, _CHANCES + _KEPT)


# --- the bit generator: a state is (words, doubles made of these words)


@numba.extending.intrinsic
def _pointer(typing_context, address):
    """Return the pointer to words at an address."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return numba.types.CPointer(numba.types.uint32)(address), generate


@inlined
def _words_at(address):
    """Return the words in the memory of a ``RandomState``."""
    return numba.carray(_pointer(address), _N + 1)


@inlined
def _twisted(word, following, ahead):
    both = (word & _UPPER) | (following & _LOWER)
    return ahead ^ (both >> _ONE) ^ (_MATRIX if both & _ONE else np.uint32(0))


@inlined
def _tempered(word):
    word = word ^ (word >> _SHIFTS[0])
    word = word ^ ((word << _SHIFTS[1]) & _MASKS[0])
    word = word ^ ((word << _SHIFTS[2]) & _MASKS[1])
    return word ^ (word >> _SHIFTS[3])


@compiled
def _temper(words, doubles):
    """Fill in the doubles that the words make."""
    for k in range(_DOUBLES):
        high = np.int32(_tempered(words[2 * k]) >> np.uint32(5))
        low = np.int32(_tempered(words[2 * k + 1]) >> np.uint32(6))
        doubles[k] = (high * 67108864.0 + low) * UNIT


@compiled
def _refill(words, doubles):
    """Replace the words by the next ones, and the doubles with them."""
    for k in range(_N - _AHEAD):
        words[k] = _twisted(words[k], words[k + 1], words[k + _AHEAD])
    for k in range(_N - _AHEAD, _N - 1):
        words[k] = _twisted(words[k], words[k + 1], words[k + _AHEAD - _N])
    words[_N - 1] = _twisted(words[_N - 1], words[0], words[_AHEAD - 1])
    words[_N] = 0
    _temper(words, doubles)


@numba.extending.overload(next_double, jit_options={"error_model": "numpy"})
def _next_of_mt19937(state):
    if not isinstance(state, numba.types.BaseTuple):
        return None

    def advance(state):
        words, doubles = state
        if words[_N] >= _N:
            _refill(words, doubles)
        double = doubles[words[_N] >> _ONE]
        words[_N] += _TWO
        return double

    return advance


# --- counts of means that stay the same


@compiled
def _chances_of(mean, chances):
    """Fill in the chances of the counts around a mean; return the first of these counts."""
    mode = int(mean)
    first = max(0, mode - _CHANCES // 2)
    top = math.exp(-mean + mode * math.log(mean) - log_gamma(mode + 1.0))
    chance = top
    chances[mode - first] = top
    for k in range(mode + 1, first + _CHANCES):
        chance *= mean * _INVERSE[k - 1]
        chances[k - first] = chance
    chance, inverse = top, 1 / mean
    for k in range(mode, first, -1):
        chance *= k * inverse
        chances[k - 1 - first] = chance
    return first


@inlined
def _rejected(mean, shape, first, chances, words, doubles, at):
    """Draw like `poisson_rejected`, from the doubles ``at`` on; also return where it ends.

    It computes logarithms only if a number is too close to the chance that it is compared with.
    """
    b, a, inverse_alpha, accepted, quarter = shape
    while True:
        if at == _DOUBLES:
            _refill(words, doubles)
            at = 0
        u = doubles[at] - 0.5
        at += 1
        if at == _DOUBLES:
            _refill(words, doubles)
            at = 0
        v = doubles[at]
        at += 1
        us = 0.5 - abs(u)
        slope = 2 * a / us
        k = math.floor((slope + b) * u + mean + 0.43)
        place = int(k) - first
        is_kept = (place >= 0) & (place < _CHANCES)
        chance = chances[place if is_kept else 0] * (slope * slope * quarter + b)
        scaled = v * inverse_alpha
        if is_kept & (scaled < chance * _LESS) & ((us >= 0.013) | (v <= us)):
            return int(k), at
        if us >= 0.07 and v <= accepted:
            return int(k), at
        if is_kept and scaled > chance * _MORE:
            continue
        if is_accepted(k, us, v, mean, b, a, inverse_alpha):
            return int(k), at


@inlined
def _multiplied(least, words, doubles, at):
    """Draw like `poisson_multiplied`, from the doubles ``at`` on; also return where it ends."""
    product, count = 1.0, 0
    while True:
        if at + 4 <= _DOUBLES:  # four at once, with a single branch
            one = product * doubles[at]
            two = one * doubles[at + 1]
            three = two * doubles[at + 2]
            product = three * doubles[at + 3]
            above = int(one > least) + int(two > least) + int(three > least) + int(product > least)
            count += above
            if above < 4:
                return count, at + above + 1
            at += 4
            continue
        if at == _DOUBLES:
            _refill(words, doubles)
            at = 0
        product *= doubles[at]
        at += 1
        if product <= least:
            return count, at
        count += 1


@compiled
def _draw_known(means, shapes, firsts, chances, state, counts):
    """Draw counts of means above 0, for which `_know` has filled in the constants."""
    words, doubles = state
    at = np.int64(words[_N]) // 2
    for j in range(means.shape[0]):
        mean = means[j]
        if mean < 10:
            counts[j], at = _multiplied(shapes[j, 0], words, doubles, at)
        elif mean <= _KEPT:
            shape = shapes[j, 0], shapes[j, 1], shapes[j, 2], shapes[j, 3], shapes[j, 4]
            counts[j], at = _rejected(mean, shape, firsts[j], chances[j], words, doubles, at)
        else:
            words[_N] = 2 * at
            counts[j] = poisson_rejected(mean, state)
            at = np.int64(words[_N]) // 2
    words[_N] = 2 * at


@compiled
def _know(means, shapes, firsts, chances):
    """Fill in the constants that `_draw_known` takes."""
    for j in range(means.shape[0]):
        if means[j] < 10:
            shapes[j, 0] = math.exp(-means[j])
        elif means[j] <= _KEPT:
            b, a, inverse_alpha, accepted = shape_of(means[j])
            shapes[j, 0], shapes[j, 1], shapes[j, 2], shapes[j, 3] = b, a, inverse_alpha, accepted
            shapes[j, 4] = 1 / (4 * a)
            firsts[j] = _chances_of(means[j], chances[j])


@compiled
def _draw(means, state, counts):
    """Draw counts of means above 0."""
    for j in range(means.shape[0]):
        if means[j] >= 10:
            counts[j] = poisson_rejected(means[j], state)
        else:
            counts[j] = poisson_multiplied(math.exp(-means[j]), state)


@compiled
def _means_of(rates, dt, is_signed, which, means, signs):
    """List the neurons that can spike; return their number, or -1 at a mean that NumPy refuses."""
    n = 0
    for i in range(rates.shape[0]):
        rate, sign = rates[i], 1.0
        if rate == 0:
            continue
        if is_signed and rate < 0:
            rate, sign = -rate, -1.0
        mean = np.float64(rate * dt)
        if not 0 <= mean <= _MOST:
            which[0], means[0] = i, mean
            return -1
        if mean > 0:
            which[n], means[n], signs[n] = i, mean, sign
            n += 1
    return n


@inlined
def _is_same(row, other):
    n_different = 0
    for i in range(row.shape[0]):
        n_different += row[i] != other[i]
    return n_different == 0


@compiled
def poisson_steps(rates, dt, height, is_signed, addresses, output):
    """Draw the steps of ``PoissonSpiking``, (batch, n_steps, n), each example in its own stream.

    See `Drawing`. ``dt`` has the type in which rates are multiplied by it. Returns a mean that
    NumPy refuses, or 0.
    """
    batch, n_steps, n = output.shape
    which, counts, firsts = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    signs, means, shapes = np.empty(n), np.empty(n), np.empty((n, 5))
    chances, doubles = np.empty((n, _CHANCES), np.float32), np.empty(_DOUBLES)
    for b in range(batch):
        words = _words_at(addresses[b])
        state = words, doubles
        _temper(words, doubles)
        n_same, is_steady = 0, rates.shape[1] < n_steps
        # The constants take time to compute; this pays from the second step on.
        first_known = 0 if is_steady else 1
        for s in range(n_steps):
            is_same = s > 0 and (is_steady or _is_same(rates[b, s], rates[b, s - 1]))
            n_same = n_same + 1 if is_same else 0
            if n_same == 0:
                n_active = _means_of(rates[b, s], dt, is_signed, which, means, signs)
                if n_active < 0:
                    return means[0]
            if n_same == first_known:
                _know(means[:n_active], shapes, firsts, chances)
            if n_same >= first_known:
                _draw_known(means[:n_active], shapes, firsts, chances, state, counts)
            else:
                _draw(means[:n_active], state, counts)
            out = output[b, s]
            out[:] = 0
            for j in range(n_active):
                out[which[j]] = height * counts[j] * signs[j]
    return 0.0


@compiled
def stochastic_steps(rates, dt, height, is_signed, addresses, output):
    """Draw the steps of ``StochasticSpiking``: see `poisson_steps`."""
    batch, n_steps, n = output.shape
    doubles, one = np.empty(_DOUBLES), type(height)(1)
    for b in range(batch):
        words = _words_at(addresses[b])
        _temper(words, doubles)
        at = np.int64(words[_N]) // 2
        for s in range(n_steps):
            for i in range(n):
                if at == _DOUBLES:
                    _refill(words, doubles)
                    at = 0
                rate, sign = rates[b, s if rates.shape[1] == n_steps else 0, i], 1
                if is_signed and rate < 0:
                    rate, sign = -rate, -1
                mean = dt * rate
                whole = np.trunc(mean)
                if doubles[at] < mean - whole:
                    whole += one
                at += 1
                output[b, s, i] = height * whole * sign
        words[_N] = 2 * at
    return 0.0


_STEPS = {"poisson": poisson_steps, "random_sample": stochastic_steps}


class Drawing:
    """Draw the spikes of neurons from the states of some examples.

    ``draws`` is the method of ``RandomState`` that the neurons' step calls.
    """

    def __init__(
        self, neurons: RatesToSpikesNeuronType, draws: str, dt: float, dtype: np.dtype
    ) -> None:
        self._kernel = _STEPS[draws]
        # As in NumPy: a Python number takes the type of the array.
        rates = np.empty(0, dtype) * dt
        height = neurons.amplitude / dt
        spikes = height * (np.empty(0, np.int64) if draws == "poisson" else rates)
        self._numbers = rates.dtype.type(dt), spikes.dtype.type(height), bool(neurons.negative)

    def draw(self, rates: np.ndarray, output: np.ndarray, addresses: np.ndarray) -> None:
        """Fill in an output (batch, n_steps, n).

        ``rates`` are of the same shape, or of a single step that counts for all steps.
        ``addresses`` are those of the states, from `addresses_of` or `addresses_in`.
        """
        refused = self._kernel(rates, *self._numbers, addresses, output)
        if refused != 0:
            np.random.RandomState(0).poisson([refused])  # raises NumPy's own error


def can_draw(dtype: np.dtype, streams: Sequence[np.random.RandomState]) -> bool:
    """Return whether the kernels can draw from these states for rates of this type."""
    return dtype.char in "fd" and is_numpys() and bool(_are_even(addresses_of(streams)))


def addresses_of(streams: Sequence[np.random.RandomState]) -> np.ndarray:
    """Return the addresses of the states that the kernels draw from, and change."""
    return np.array([each._bit_generator.ctypes.state_address for each in streams], np.uint64)


def addresses_in(words: np.ndarray) -> np.ndarray:
    """Return the addresses of the rows of copied states (see `copies_of`)."""
    rows = np.arange(len(words), dtype=np.uint64) * np.uint64(words.strides[0])
    return np.uint64(words.ctypes.data) + rows


def copies_of(streams: Sequence[np.random.RandomState]) -> np.ndarray:
    """Return copies of states, as rows."""
    words = np.empty((len(streams), _N + 1), np.uint32)
    _copy(addresses_of(streams), addresses_in(words))
    return words


def put_back(words: np.ndarray, streams: Sequence[np.random.RandomState]) -> None:
    """Write copies of states back."""
    _copy(addresses_in(words), addresses_of(streams))


@compiled
def _are_even(addresses):
    """Return whether all states have used up whole doubles."""
    for address in addresses:
        if _words_at(address)[_N] % _TWO:
            return False
    return True


@compiled
def _copy(sources, targets):
    for k in range(sources.shape[0]):
        target, source = _words_at(targets[k]), _words_at(sources[k])
        for i in range(_N + 1):
            target[i] = source[i]


@functools.cache
def is_numpys() -> bool:
    """Return whether the installed NumPy keeps and draws numbers as the kernels do."""
    ours, theirs = np.random.RandomState(0), np.random.RandomState(0)

    def is_same() -> bool:
        name, words, used, *_ = theirs.get_state()
        return name == "MT19937" and np.array_equal(copies_of([ours])[0], [*words, used])

    # Nothing is written before it was read.
    if not hasattr(ours, "_bit_generator") or not is_same():
        return False
    rates = np.geomspace(0.01, 3000.0, 60)
    output = np.empty((1, 4, len(rates)))
    for draws, kernel in _STEPS.items():
        kernel(np.tile(rates, (1, 4, 1)), 1.0, 1.0, False, addresses_of([ours]), output)
        for found in output[0]:
            if draws == "poisson":
                expected = theirs.poisson(rates)
            else:
                expected = np.trunc(rates) + (theirs.random_sample(len(rates)) < rates % 1)
            if not np.array_equal(found, expected):
                return False
    return is_same()
