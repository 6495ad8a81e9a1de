"""Kernels that the steps of single operators and those of stretches share."""

import numpy as np
import pytest

pytest.importorskip("numba")

from nengonet.minibatch import kernels

# Times a count, the first are exact; the third is in 64 bits alone, the last in neither.


def spikes_of(rng, n, batch, n_spikes):
    """Return rows with the spikes of each example among others, and their counts."""
    rows = rng.integers(n, size=batch * (n_spikes + 2)).astype(np.int32)
    first = np.arange(batch) * (n_spikes + 2) + 1
    last = first + n_spikes - rng.integers(0, min(2, n_spikes + 1), batch)
    pairs = zip(first, last, strict=True)
    counts = np.stack([np.bincount(rows[one:other], minlength=n) for one, other in pairs])
    return rows, first, last, counts


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("n_spikes", [0, 1, 9, 30, 70_000])
def test_spikes_are_counted_beside_those_before(n_spikes, dtype):
    rows, first, last, expected = spikes_of(np.random.default_rng(n_spikes), 40, 3, n_spikes)
    counts = np.full((3, 40), 2, dtype)
    kernels.count_events(rows, first, last, counts)
    np.testing.assert_array_equal(counts, expected + 2)
