"""Kernels that the steps of single operators and those of stretches share."""

import numpy as np
import pytest

pytest.importorskip("numba")

from nengonet.minibatch import kernels

# Times a count, the first are exact; the third is in 64 bits alone, the last in neither.
HEIGHTS = (1000.0, 0.375, float(np.float32(1 / 0.415)), 1 / 0.415)


def spikes_of(rng, n, batch, n_spikes):
    """Return rows, the spikes of each example in them, with others around, and their counts."""
    rows = rng.integers(n, size=batch * (n_spikes + 2)).astype(np.int32)
    first = np.arange(batch) * (n_spikes + 2) + 1
    last = first + n_spikes - rng.integers(0, min(2, n_spikes + 1), batch)
    pairs = zip(first, last, strict=True)
    counts = np.stack([np.bincount(rows[one:other], minlength=n) for one, other in pairs])
    return rows, first, last, counts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("n_spikes", [0, 1, 9, 30, 500])
def test_spikes_are_added(n_spikes, height, dtype):
    rows, first, last, counts = spikes_of(np.random.default_rng(n_spikes), 40, 3, n_spikes)
    totals = np.full((3, 40), 2 * height, dtype)
    kernels.add_events(rows, first, last, height, totals)
    np.testing.assert_allclose(totals, height * (counts + 2), rtol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("n_spikes", [2**16 - 1, 2**16, 3 * 2**16 + 5])
def test_more_spikes_of_one_neuron_than_16_bits_count(n_spikes):
    totals = np.ones((2, 3))
    ends = np.array([0, n_spikes]), np.array([n_spikes, n_spikes])
    kernels.add_events(np.full(n_spikes, 1, np.int32), *ends, 10.0, totals)
    np.testing.assert_array_equal(totals, [[1, 1 + 10 * n_spikes, 1], [1, 1, 1]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("height", HEIGHTS)
def test_totals_are_the_same_in_however_many_parts_spikes_are_added(height, dtype):
    rows, first, last, _ = spikes_of(np.random.default_rng(4), 50, 2, 2000)
    at_once, in_parts = np.zeros((2, 2, 50), dtype)
    kernels.add_events(rows, first, last, height, at_once)
    for at in range(0, 2000, 7):
        part = np.minimum(first + at, last), np.minimum(first + at + 7, last)
        kernels.add_events(rows, *part, height, in_parts)
    np.testing.assert_array_equal(at_once, in_parts)
