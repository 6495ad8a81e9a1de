"""Kernels that pass spikes through pools and matrices, compared with NumPy and MaxPool."""

import numpy as np
import pytest
import scipy.sparse

from nengonet.ann.convolution import output_shape, places
from nengonet.layers.pools import MaxPool

pytest.importorskip("numba")

from nengonet.minibatch import pool_kernels, stretch_kernels, terms

DTYPES = (np.float32, np.float64)
POOLS = {
    "one window": ((2, 2, 3), (2, 2), (2, 2), "valid"),
    "csnn": ((13, 13, 16), (2, 2), (2, 2), "valid"),
    "large windows": ((8, 9, 2), (4, 4), (4, 4), "valid"),
    "overlapping": ((7, 8, 3), (3, 2), (1, 1), "valid"),
    "same": ((5, 6, 2), (3, 3), (2, 2), "same"),
    "gaps": ((9, 8, 1), (2, 1), (3, 2), "valid"),
}


def windows(shape, size, strides, padding):
    """Return the matrix from the inputs of a pool to its windows, and the shape of those."""
    geometry = (shape, size, strides, padding)
    shape_out = (*output_shape(*geometry), shape[-1])
    inputs, outputs = (np.arange(np.prod(each)).reshape(each) for each in (shape, shape_out))
    pairs = [(outputs[there].ravel(), inputs[here].ravel()) for there, here in places(*geometry)]
    return matrix_of(np.concatenate(pairs, axis=1).T, (outputs.size, inputs.size)), shape_out


def matrix_of(pairs, shape):
    """Return a matrix of ones where there are pairs (output, input)."""
    return scipy.sparse.csr_array((np.ones(len(pairs)), np.transpose(pairs)), shape)


def random_lists(rng, n, density, n_channels, n_steps=1):
    """Yield the counts of spikes of steps, and their lists, ordered, in others."""
    for _ in range(n_steps):
        counts = rng.poisson(density, n)
        rows = rng.permutation(np.repeat(np.arange(n), counts))
        rows = rows[np.argsort(rows // n_channels, kind="stable")]
        lists = np.concatenate(([2, 0, 1], rows, [1, 0])).astype(np.int32)
        yield counts, (lists, 3, 3 + len(rows))


def memory(ways, n_spikes):
    """Return working memory with rubbish in it, and room for spikes behind four others."""
    n_marks = max(len(ways.n_ways), ways.n_positions) + 1
    n_spikes = n_spikes * ways.most + pool_kernels.SLACK
    near, marks, spikes = (np.full(n, -1, np.int32) for n in (n_spikes, n_marks, 4 + n_spikes))
    return (near, marks + 100), spikes


def check(spikes, used, expected, n_channels):
    """Compare with counts the spikes that were appended to four others, and their order."""
    assert np.all(spikes[:4] == -1)
    np.testing.assert_array_equal(np.bincount(spikes[4:used], minlength=len(expected)), expected)
    assert np.all(np.diff(spikes[4:used] // n_channels) >= 0)


def check_relay(rng, matrix, n_channels, density, n_ordered=1):
    """Relay a step's spikes, and compare them with a product; return the ways."""
    ways = pool_kernels.ways_of(matrix, n_channels, n_ordered)
    ((counts, given),) = random_lists(rng, matrix.shape[1], density, n_ordered)
    working, spikes = memory(ways, len(given[0]))
    used = pool_kernels.relay(*given, ways, working, spikes, 4)
    check(spikes, used, np.rint(matrix @ counts).astype(int), n_channels)
    return ways


@pytest.mark.parametrize("density", [0, 0.03, 0.5, 2, 9])
@pytest.mark.parametrize("case", POOLS.values(), ids=POOLS)
def test_relay_of_pools(case, density):
    rng = np.random.default_rng(int(100 * density))
    matrix, (*_, n_channels) = windows(*case)
    ways = check_relay(rng, matrix, n_channels, density)
    # Windows side by side need no sorting, if there is more than one channel.
    apart = case[1] == case[2] and n_channels > 1
    assert (len(ways.begins) > 0) == apart
    assert ways.size == n_channels
    check_relay(rng, matrix, n_channels, density, n_ordered=n_channels)
    for asked in (1, matrix.shape[0]):
        check_relay(rng, matrix, asked, density, n_ordered=n_channels)


def test_order_within_a_position_is_that_of_the_inputs():
    """Sums that are rounded are taken in this order."""
    matrix, shape_out = windows(*POOLS["csnn"])
    rows = np.arange(matrix.shape[1], dtype=np.int32)
    came_from = scipy.sparse.csc_array(matrix).indices
    for n_channels in (16, 32):  # in runs, and sorted
        ways = pool_kernels.ways_of(matrix, n_channels)
        assert (len(ways.begins) > 0) == (n_channels == 16)
        working, spikes = memory(ways, len(rows))
        used = pool_kernels.relay(rows, 0, len(rows), ways, working, spikes, 0)
        expected = came_from[np.argsort(came_from // n_channels, kind="stable")]
        np.testing.assert_array_equal(spikes[:used], expected)
    assert shape_out == (6, 6, 16)


PLAIN = {
    "slice of rows": np.s_[1:3],
    "slice of columns": np.s_[:, 2:],
    "every second": np.s_[::2, 1::2],
    "slice of channels": np.s_[..., 1:3],
    "backwards": np.s_[::-1],
    "channels backwards": np.s_[..., ::-1],
}


@pytest.mark.parametrize("part", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("padded", [False, True])
def test_relay_of_slices_and_padding(part, padded):
    """There and back: of a part of an image, or to it with zeros around."""
    shape = (5, 6, 4)
    there = np.arange(np.prod(shape)).reshape(shape)[part]
    shapes = [there.shape, shape]
    pairs = np.stack([np.arange(there.size), there.ravel()], axis=1)
    if padded:
        shapes, pairs = shapes[::-1], pairs[:, ::-1]
    matrix = matrix_of(pairs, tuple(map(np.prod, shapes)))
    for n_channels in {1, 2, shapes[0][-1]}:
        check_relay(np.random.default_rng(5), matrix, n_channels, 0.7)


@pytest.mark.parametrize("n_channels", [1, 2, 6, 24])
def test_relay_of_any_matrix(n_channels):
    rng = np.random.default_rng(n_channels)
    reached = matrix_of(np.argwhere(rng.random((24, 18)) < 0.2), (24, 18))
    check_relay(rng, reached, n_channels, 0.8)


def test_relay_of_nothing():
    ways = check_relay(np.random.default_rng(0), matrix_of(np.empty((0, 2), int), (4, 6)), 2, 1)
    assert ways.most == 0


BLOCKS = {
    "alike": ([(2, 0), (3, 1), (0, 2), (1, 3)], True),
    "crossed": ([(3, 0), (2, 1), (0, 2), (1, 3)], False),
    "half of it": ([(2, 0), (0, 2), (1, 3)], False),
    "across positions": ([(1, 0), (2, 1)], False),
    "two outputs each": ([(0, 0), (1, 1), (2, 0), (3, 1)], True),
}


@pytest.mark.parametrize(("pairs", "are_blocks"), BLOCKS.values(), ids=BLOCKS)
def test_blocks_of_inputs(pairs, are_blocks):
    matrix = matrix_of(pairs, (4, 4))
    assert pool_kernels.ways_of(matrix, 2).size == (2 if are_blocks else 1)
    # Spikes in the order of wider positions are not in that of blocks.
    assert pool_kernels.ways_of(matrix, 2, n_ordered=4).size == 1
    for n_ordered in (1, 2, 4):
        check_relay(np.random.default_rng(1), matrix, 2, 3, n_ordered)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["running_max", "winner", "instant"])
@pytest.mark.parametrize("density", [0.02, 0.4, 2])
@pytest.mark.parametrize("case", POOLS.values(), ids=POOLS)
def test_max_pools(case, density, kind, dtype):
    matrix, (*_, n_channels) = windows(*case)
    (n_windows, n_inputs), ways = matrix.shape, pool_kernels.ways_of(matrix, n_channels, n_channels)
    pool = MaxPool(*case, kind, amplitude=0.5)
    state = pool.make_state((n_inputs,), (n_windows,), 0.001)
    step = pool.make_step((n_inputs,), (n_windows,), 0.001, None, state)
    sums, sent = np.zeros(n_inputs, dtype), np.zeros(n_windows, dtype)
    leaders = np.zeros(n_windows, np.int32)
    pool_kernels.find_leaders(ways, sums, leaders)
    function = {
        "running_max": pool_kernels.running_max,
        "winner": pool_kernels.winner,
        "instant": pool_kernels.instant_max,
    }[kind]
    of_windows = leaders if kind == "winner" else sent
    rng = np.random.default_rng(int(100 * density) + len(kind))
    for counts, given in random_lists(rng, n_inputs, density, n_channels, 12):
        working, spikes = memory(ways, len(given[0]))
        used = function(*given, ways, working, sums, of_windows, spikes, 4)
        check(spikes, used, np.rint(step(0, counts * 500.0) / 500).astype(int), n_channels)
    if kind == "instant":
        assert not np.any(sums)
        assert not np.any(sent)
    else:
        np.testing.assert_array_equal(sums, state["sums"])
    if kind == "winner":
        again = np.full_like(leaders, 99)
        pool_kernels.find_leaders(ways, sums, again)
        np.testing.assert_array_equal(leaders, again)


class OfKernels:
    """What `terms.dense_product` needs of a context."""

    stretch_kernels = stretch_kernels


def random_matrix(rng, shape, density=0.2):
    """Return a matrix of normal weights at random places."""
    weights = rng.normal(size=shape) * (rng.random(shape) < density)
    return scipy.sparse.csr_array(weights)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_numbers_through_a_pool_are_summed_as_scipy_does(pool, dtype):
    rng = np.random.default_rng(4)
    matrix, _ = windows(*pool)
    matrix = 0.3 * matrix
    block = rng.normal(size=(2, 3, matrix.shape[1])).astype(dtype)
    found = terms.dense_product(matrix, matrix.shape[0], OfKernels)(block)
    expected = matrix.astype(dtype) @ block.reshape(6, -1).T
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.reshape(6, -1).T, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(8))
def test_runs_of_a_matrix_multiply_like_the_matrix(seed, dtype):
    """Rows that are alike but for a shift, some rows that are not, and rows of zeros."""
    rng = np.random.default_rng(seed)
    pattern, length = rng.normal(size=(3, 5)), int(rng.integers(1, 40))
    shifted = np.zeros((length, length + 4))
    for row in range(length):
        shifted[row, row : row + 5] = pattern[0]
    other = random_matrix(rng, (int(rng.integers(1, 9)), shifted.shape[1])).toarray()
    broken = shifted.copy()
    broken[length // 2, length // 2] *= 2
    parts = [shifted, other, broken, np.zeros((3, shifted.shape[1])), shifted]
    matrix = scipy.sparse.csr_array(np.concatenate([parts[k] for k in rng.permutation(5)]))
    runs = terms._runs_of(matrix)
    assert runs[:, 1].sum() == matrix.shape[0]
    assert runs[:, 1].max() == length if length > 3 else True
    values = rng.normal(size=(4, matrix.shape[1])).astype(dtype)
    sums, weights = np.full((4, matrix.shape[0]), np.nan, dtype), matrix.data.astype(dtype)
    pool_kernels.multiply_runs(values, runs, matrix.indices.astype(np.int32), weights, sums)
    np.testing.assert_array_equal(sums.T, matrix.astype(dtype) @ values.T)
