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
    log_gamma,
    next_double,
    poisson_multiplied,
    poisson_rejected,
    shape_of,
)
from nengonet.minibatch.kernels import inlined
from nengonet.minibatch.trials import (
    ACCEPTED,
    CHANCES,
    EIGHT,
    FIRST,
    INVERSE_ALPHA,
    MEAN,
    N_CONSTANTS,
    QUARTER,
    TWICE_A,
    B,
    eight_trials,
)

# Words of the state. The number of used words stands behind them. A double takes two words.
_N, _AHEAD = 624, 397
_DOUBLES = _N // 2
_UPPER, _LOWER = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)
_MATRIX, _ONE, _TWO = np.uint32(0x9908B0DF), np.uint32(1), np.uint32(2)
_SHIFTS = np.uint32(11), np.uint32(7), np.uint32(15), np.uint32(18)
_MASKS = np.uint32(0x9D2C5680), np.uint32(0xEFC60000)
# What a stream knows of its doubles: the next one, their end, where those of the newest words
# begin, and the row of these words.
_AT, _END, _NEWEST, _ROW = range(4)

# The largest mean for which NumPy draws.
_MOST = float(np.iinfo(np.int64).max - 10 * np.sqrt(np.iinfo(np.int64).max))
# The chances of counts around a mean are kept for means up to this one.
_KEPT = 64.0
_INVERSE = 1 / np.arange(1.0, CHANCES + _KEPT)
# Means whose constants a table has at least.
_MEANS = 512
# Behind the constants of trials: what a product of random numbers stays above.
_LEAST = N_CONSTANTS
_SPREAD, _SPREAD_SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(40)


# --- the bit generator: a stream is (words, doubles made of these words, places)


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
def _twist(words, following):
    """Make the next words."""
    for k in range(_N - _AHEAD):
        following[k] = _twisted(words[k], words[k + 1], words[k + _AHEAD])
    for k in range(_AHEAD - 1):
        j = k + _N - _AHEAD
        following[j] = _twisted(words[j], words[j + 1], following[k])
    following[_N - 1] = _twisted(words[_N - 1], following[0], following[_AHEAD - 1])


@compiled
def _refill(stream):
    """Make more doubles, and move those that are left before them."""
    words, doubles, places = stream
    left = places[_END] - places[_AT]
    for k in range(left):
        doubles[k] = doubles[places[_AT] + k]
    row = 1 - places[_ROW]
    _twist(words[1 - row], words[row])
    _temper(words[row], doubles[left:])
    places[_AT], places[_END], places[_NEWEST], places[_ROW] = 0, left + _DOUBLES, left, row


@compiled
def _open(stream, address):
    """Begin with the state of a ``RandomState``."""
    words, doubles, places = stream
    state = _words_at(address)
    for k in range(_N):
        words[0, k] = state[k]
    _temper(words[0], doubles)
    # There are no words before these.
    places[_AT], places[_END] = np.int64(state[_N]) // 2, _DOUBLES
    places[_NEWEST], places[_ROW] = -1, 0


@compiled
def _close(stream, address):
    """Write the state of a ``RandomState``."""
    words, doubles, places = stream
    state = _words_at(address)
    used, row = places[_AT] - max(places[_NEWEST], 0), places[_ROW]
    if places[_NEWEST] >= places[_AT]:  # the newest words are not used yet
        used, row = used + _DOUBLES, 1 - row
    for k in range(_N):
        state[k] = words[row, k]
    state[_N] = 2 * used


@inlined
def _new_stream():
    """Return a stream that holds nothing yet."""
    return np.empty((2, _N), np.uint32), np.empty(2 * _DOUBLES), np.zeros(4, np.int64)


@numba.extending.overload(next_double, jit_options={"error_model": "numpy"})
def _next_of_mt19937(state):
    if not isinstance(state, numba.types.BaseTuple):
        return None

    def advance(state):
        words, doubles, places = state
        if places[_AT] == places[_END]:
            _refill(state)
        places[_AT] += 1
        return doubles[places[_AT] - 1]

    return advance


# --- counts of means that stay the same


@compiled
def _chances_of(mean, chances):
    """Fill in the chances of the counts around a mean; return the first of these counts."""
    mode = int(mean)
    first = max(0, mode - CHANCES // 2)
    top = math.exp(-mean + mode * math.log(mean) - log_gamma(mode + 1.0))
    chance = top
    chances[mode - first] = top
    for k in range(mode + 1, first + CHANCES):
        chance *= mean * _INVERSE[k - 1]
        chances[k - first] = chance
    chance, inverse = top, 1 / mean
    for k in range(mode, first, -1):
        chance *= k * inverse
        chances[k - 1 - first] = chance
    return first


@compiled
def _draw_known(means, constants, rows, chances, stream, counts):
    """Draw counts of means above 0, for which `_know` has filled in the constants."""
    _, doubles, places = stream
    at, end, j, n = places[_AT], places[_END], 0, means.shape[0]
    product, n_above = 1.0, 0
    while j < n:
        if at + 2 * EIGHT > end:
            places[_AT] = at
            _refill(stream)
            at, end = places[_AT], places[_END]
        if means[j] < 10:
            # As in `poisson_multiplied`, but eight at once, with a single branch.
            least, above = constants[_LEAST, j], 0
            for k in range(EIGHT):
                product *= doubles[at + k]
                above += product > least
            n_above += above
            if above == EIGHT:
                at += EIGHT
                continue
            counts[j] = n_above
            at += above + 1
            j += 1
            product, n_above = 1.0, 0
            continue
        n_accepted, n_rejected = eight_trials(
            doubles, at, constants, j, constants.shape[1], rows, chances, counts
        )
        at += 2 * (n_accepted + n_rejected)
        j += n_accepted
        if n_accepted + n_rejected == 0:
            places[_AT] = at
            counts[j] = poisson_rejected(means[j], stream)
            at, end = places[_AT], places[_END]
            j += 1
    places[_AT] = at


@inlined
def _new_table(n_means):
    """Return a table of constants and chances by mean, which holds none yet."""
    n_slots = 2
    while n_slots < 2 * n_means:
        n_slots *= 2
    keys, rows_by_key = np.empty(n_slots, np.int64), np.full(n_slots, -1, np.int32)
    known, chances = np.empty((n_means, N_CONSTANTS + 1)), np.empty((n_means, CHANCES), np.float32)
    return keys, rows_by_key, np.zeros(1, np.int64), known, chances


@inlined
def _row_of(bits, keys, rows):
    """Return where a table has the row of a mean, or where its row belongs."""
    slot = (np.uint64(bits) * _SPREAD) >> _SPREAD_SHIFT
    slot &= np.uint64(keys.shape[0] - 1)
    while rows[slot] >= 0 and keys[slot] != bits:
        slot = (slot + np.uint64(1)) & np.uint64(keys.shape[0] - 1)
    return slot


@compiled
def _know(means, table, constants, rows):
    """Fill in the constants that `_draw_known` takes; the table has those of earlier means."""
    keys, rows_by_key, n_known, known, chances = table
    if n_known[0] + means.shape[0] > known.shape[0]:
        rows_by_key[:] = -1
        n_known[0] = 0
    bits = means.view(np.int64)
    for j in range(means.shape[0]):
        slot = _row_of(bits[j], keys, rows_by_key)
        row = rows_by_key[slot]
        if row < 0:
            row = n_known[0]
            n_known[0] += 1
            keys[slot], rows_by_key[slot] = bits[j], row
            known[row] = np.nan
            mean = known[row, MEAN] = means[j]
            if mean < 10:
                known[row, _LEAST] = math.exp(-mean)
            elif mean <= _KEPT:
                b, a, inverse_alpha, accepted = shape_of(mean)
                known[row, TWICE_A], known[row, B], known[row, QUARTER] = 2 * a, b, 1 / (4 * a)
                known[row, INVERSE_ALPHA], known[row, ACCEPTED] = inverse_alpha, accepted
                known[row, FIRST] = _chances_of(mean, chances[row])
        rows[j] = row
        for k in range(N_CONSTANTS + 1):
            constants[k, j] = known[row, k]
    constants[:, means.shape[0] : means.shape[0] + EIGHT] = np.nan  # not tried


@compiled
def _draw(means, stream, counts):
    """Draw counts of means above 0."""
    for j in range(means.shape[0]):
        if means[j] >= 10:
            counts[j] = poisson_rejected(means[j], stream)
        else:
            counts[j] = poisson_multiplied(math.exp(-means[j]), stream)


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
    which, signs, means, stream = np.empty(n, np.int64), np.empty(n), np.empty(n), _new_stream()
    # Eight neurons are read and written at once, also behind the last one.
    counts, rows = np.empty(n + EIGHT, np.int64), np.zeros(n + EIGHT, np.int32)
    constants = np.full((N_CONSTANTS + 1, n + EIGHT), np.nan)
    table = _new_table(max(n, _MEANS) if n_steps > 1 else 0)
    for b in range(batch):
        _open(stream, addresses[b])
        n_same, is_steady = 0, rates.shape[1] < n_steps
        # The constants take time to compute; this pays from the second step on.
        first_known = 0 if is_steady else 1
        for s in range(n_steps):
            is_same = s > 0 and (is_steady or _is_same(rates[b, s], rates[b, s - 1]))
            n_same = n_same + 1 if is_same else 0
            if n_same == 0:
                n_active = _means_of(rates[b, s], dt, is_signed, which, means, signs)
                if n_active < 0:
                    _close(stream, addresses[b])
                    return means[0]
            if n_same == first_known:
                _know(means[:n_active], table, constants, rows)
            if n_same >= first_known:
                _draw_known(means[:n_active], constants, rows, table[-1], stream, counts)
            else:
                _draw(means[:n_active], stream, counts)
            out = output[b, s]
            out[:] = 0
            for j in range(n_active):
                out[which[j]] = height * counts[j] * signs[j]
        _close(stream, addresses[b])
    return 0.0


@compiled
def stochastic_steps(rates, dt, height, is_signed, addresses, output):
    """Draw the steps of ``StochasticSpiking``: see `poisson_steps`."""
    batch, n_steps, n = output.shape
    stream, one = _new_stream(), type(height)(1)
    _, doubles, places = stream
    for b in range(batch):
        _open(stream, addresses[b])
        at = places[_AT]
        for s in range(n_steps):
            for i in range(n):
                if at == places[_END]:
                    places[_AT] = at
                    _refill(stream)
                    at = places[_AT]
                rate, sign = rates[b, s if rates.shape[1] == n_steps else 0, i], 1
                if is_signed and rate < 0:
                    rate, sign = -rate, -1
                mean = dt * rate
                whole = np.trunc(mean)
                if doubles[at] < mean - whole:
                    whole += one
                at += 1
                output[b, s, i] = height * whole * sign
        places[_AT] = at
        _close(stream, addresses[b])
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
