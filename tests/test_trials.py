"""Eight trials at once are those of NumPy's rejection method, one after the other."""

import math

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from nengonet.minibatch import mersenne, trials  # noqa: E402
from nengonet.minibatch.drawing import shape_of  # noqa: E402


@numba.njit
def tried(doubles, at, constants, first, rows, chances, counts):
    return trials.eight_trials(
        doubles, at, constants, first, constants.shape[1], rows, chances, counts
    )


def known(means):
    """Return constants, rows and chances of neurons, with eight behind them that are not tried."""
    n = len(means)
    constants = np.zeros((trials.N_CONSTANTS + 1, n + trials.EIGHT))
    rows, table = np.zeros(n + trials.EIGHT, np.int32), mersenne._new_table.py_func(2 * n)
    mersenne._know(means, table, constants, rows)
    return constants, rows, table[-1]


def outcome(mean, u, v):
    """Try a pair on a mean; return the count, and whether it is accepted (Hörmann 1993)."""
    b, a, inverse_alpha, accepted = shape_of.py_func(mean)
    u -= 0.5
    us = 0.5 - abs(u)
    if us == 0:
        return None, False
    k = math.floor((2 * a / us + b) * u + mean + 0.43)
    if us >= 0.07 and v <= accepted:
        return k, True
    if k < 0 or (us < 0.013 and v > us):
        return k, False
    left = math.log(v * inverse_alpha / (a / (us * us) + b)) if v else -math.inf
    return k, left <= k * math.log(mean) - mean - math.lgamma(k + 1)


def test_trials_are_those_of_single_pairs():
    rng = np.random.default_rng(3)
    n_unclear, n_trials = 0, 0
    for spread in (1.0, 1e-3):  # the second one: extreme numbers
        for first in range(0, 400, 3):
            means = rng.choice([10.0, 10.5, 17.0, 25.5, 40.0, 63.9, 64.0], 500)
            doubles = rng.random(40)
            doubles[1::2] **= rng.choice([1.0, 6.0])
            if spread < 1:
                ends = rng.integers(2, size=20)
                doubles[0::2] = ends + (1 - 2 * ends) * spread * doubles[0::2]
            at = 2 * int(rng.integers(10))
            constants, rows, chances = known(means)
            counts = np.full(508, -1)
            n_accepted, n_rejected = tried(doubles, at, constants, first, rows, chances, counts)
            pairs = doubles[at : at + 16].reshape(8, 2)
            expected = [
                outcome(mean, *pair)
                for mean, pair in zip(means[first : first + 8], pairs, strict=True)
            ]
            assert all(accepts for _, accepts in expected[:n_accepted])
            found = counts[first : first + n_accepted].tolist()
            assert found == [count for count, _ in expected[:n_accepted]]
            if n_rejected:
                assert not expected[n_accepted][1]
            n_trials += n_accepted + n_rejected
            n_unclear += n_accepted < 8 and not n_rejected
    assert n_trials > 500
    assert n_unclear < 0.02 * n_trials


@pytest.mark.parametrize("mean", [0.1, 9.99, 64.1, 1e9])
def test_other_means_are_not_tried(mean):
    means = np.array([20.0, mean, 20.0])
    counts = np.zeros(11, np.int64)
    # The middle of all numbers: every trial accepts.
    doubles = np.tile([0.5, 0.1], 8)
    assert tried(doubles, 0, *known(means)[:1], 0, *known(means)[1:], counts) == (1, 0)
    assert tried(doubles, 0, *known(means)[:1], 1, *known(means)[1:], counts) == (0, 0)
    assert tried(doubles, 0, *known(means)[:1], 2, *known(means)[1:], counts) == (1, 0)
    assert counts[[0, 2]].tolist() == [outcome(20.0, 0.5, 0.1)[0]] * 2


def test_other_types_are_refused():
    constants, rows, chances = known(np.array([20.0]))
    with pytest.raises(numba.TypingError, match="expected a contiguous array of int64, got"):
        tried(np.zeros(16), 0, constants, 0, rows, chances, np.zeros(9, np.int32))
