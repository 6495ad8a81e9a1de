"""Kernels that follow the spikes of one example in one step, compared with NumPy and Nengo."""

import types

import nengo
import numpy as np
import pytest
from nengo.builder.transforms import conv2d_gradx, conv2d_groups

from nengonet.ann.convolution import convolve, output_shape, padding_of
from nengonet.minibatch.convolutions import _ways

numba = pytest.importorskip("numba")

from nengonet.minibatch import event_kernels  # noqa: E402

DTYPES = (np.float32, np.float64)
# Image, size, strides, padding, filters.
CONVOLUTIONS = {
    "one pixel": ((1, 1, 3), (1, 1), (1, 1), "valid", 2),
    "csnn": ((15, 15, 32), (3, 3), (1, 1), "valid", 64),
    "bengali": ((9, 8, 5), (2, 2), (1, 1), "valid", 10),
    "one channel": ((8, 9, 1), (3, 3), (1, 1), "same", 8),
    "same": ((7, 6, 4), (3, 2), (1, 1), "same", 16),
    "same, large": ((4, 3, 2), (6, 5), (1, 1), "same", 3),
    "same, strides": ((9, 10, 3), (4, 5), (2, 3), "same", 33),
    "stride beyond the size": ((11, 12, 2), (2, 2), (3, 4), "valid", 7),
    "stride beyond the size, same": ((10, 11, 2), (1, 2), (4, 3), "same", 128),
    "one dimension": ((1, 20, 3), (1, 4), (1, 2), "same", 5),
}


def random_spikes(rng, n, density):
    """Return a step's spike counts, and their list among other spikes."""
    counts = rng.poisson(density, n)
    return counts, np.repeat(np.arange(n), counts)


def ordered(rng, rows, n_channels):
    """Shuffle the channels within a position."""
    rows = rng.permutation(rows)
    return rows[np.argsort(rows // n_channels, kind="stable")]


def between(rows):
    """Return a longer list that contains the rows, and their place in it."""
    return np.concatenate(([2, 0, 1], rows, [1, 0])).astype(np.int32), 3, 3 + len(rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0, 0.01, 0.1, 1.5, 40])
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_gathering_convolution(case, density, dtype):
    shape, size, strides, padding, n_filters = case
    rng = np.random.default_rng([len(str(case)), int(100 * density)])
    kernel = rng.integers(-50, 50, (*size, shape[-1], n_filters)).astype(dtype)
    counts, rows = random_spikes(rng, np.prod(shape), density)
    shape_out = output_shape(shape, size, strides, padding)
    (top, _), (left, _) = padding_of(shape[:2], size, strides, padding)
    geometry = (*shape, *shape_out, *size, *strides, top, left, n_filters)
    n_out = np.prod(shape_out) * n_filters
    total = np.full(n_out + 5, 7.5, dtype)
    places = np.full(event_kernels.n_places(geometry) + len(rows), 99, np.int32)
    list_of_rows = between(ordered(rng, rows, shape[-1]))
    flat = event_kernels.kernel_rows(kernel)
    event_kernels.gather_convolution(*list_of_rows, geometry, flat, places, total)
    images = counts.reshape(1, *shape).astype(float)
    expected = convolve(images, kernel, strides=strides, padding=padding)
    np.testing.assert_array_equal(total[:n_out], expected.ravel())
    np.testing.assert_array_equal(total[n_out:], 7.5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_filters", [3, 40, 100])
def test_spikes_are_summed_in_their_order(n_filters, dtype):
    """Sums are equal to the bit for any number of spikes, also at the list's end."""
    rng = np.random.default_rng(n_filters)
    shape, size = (4, 5, 3), (2, 2)
    geometry = (*shape, 3, 4, *size, 1, 1, 0, 0, n_filters)
    kernel = rng.normal(size=(*size, shape[-1], n_filters)).astype(dtype)
    for n_spikes in (5, 60, 20_000):
        places = np.empty(event_kernels.n_places(geometry) + n_spikes, np.int32)
        rows = np.sort(rng.integers(0, np.prod(shape), n_spikes)).astype(np.int32)
        total = np.full((3, 4, n_filters), np.nan, dtype)
        given = rows, 0, n_spikes, geometry, event_kernels.kernel_rows(kernel), places
        event_kernels.gather_convolution(*given, total.reshape(-1))
        for row, column in np.ndindex(3, 4):
            sums = np.zeros(n_filters, dtype)
            for r, c, channel in zip(*np.unravel_index(rows, shape), strict=True):
                if 0 <= r - row < 2 and 0 <= c - column < 2:
                    sums += kernel[r - row, c - column, channel]
            np.testing.assert_array_equal(total[row, column], sums)


def near(geometry):
    """Return working memory that was used before."""
    return np.full(event_kernels.n_near(geometry), 99, np.int32)


def check_windows(case, values, kernel, n_beyond=5):
    """Compare with NumPy, whose sums of integers are the same in any order."""
    shape, size, strides, padding, n_filters = case
    shape_out = output_shape(shape, size, strides, padding)
    (top, _), (left, _) = padding_of(shape[:2], size, strides, padding)
    geometry = (*shape, *shape_out, *size, *strides, top, left, n_filters)
    n_out = np.prod(shape_out) * n_filters
    total = np.full((len(values), n_out + n_beyond), 7.5, kernel.dtype)
    flat = event_kernels.kernel_rows(kernel)
    event_kernels.window_convolution(values, geometry, flat, near(geometry), total)
    images = values[:, : np.prod(shape)].reshape(-1, *shape).astype(float)
    expected = convolve(images, kernel, strides=strides, padding=padding)
    np.testing.assert_array_equal(total[:, :n_out], expected.reshape(len(values), n_out))
    np.testing.assert_array_equal(total[:, n_out:], 7.5)


@pytest.mark.parametrize("n_steps", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution_of_windows(case, dtype, share, n_steps):
    """With this share of values that may be other than 0; those of two steps differ."""
    shape, size, *_, n_filters = case
    rng = np.random.default_rng(len(str(case)))
    kernel = rng.integers(-50, 50, (*size, shape[-1], n_filters)).astype(dtype)
    values = rng.integers(-9, 10, (n_steps, np.prod(shape) + 3)).astype(dtype)
    values[rng.random(values.shape) >= share] = 0
    check_windows(case, values, kernel)


@pytest.mark.parametrize("seed", range(60))
def test_convolution_of_windows_of_any_geometry(seed):
    rng = np.random.default_rng(seed)
    padding, dtype = rng.choice(["valid", "same"]), rng.choice(DTYPES)
    size, strides = (tuple(map(int, rng.integers(1, 6, 2))) for _ in range(2))
    least = size if padding == "valid" else (1, 1)
    shape = tuple(int(rng.integers(n, n + 9)) for n in (*least, 1))
    # Whole vectors of filters as well, with channels for which rows of the kernel fill a cache.
    n_filters = int(rng.integers(1, 150))
    shape = (*shape[:2], shape[2] * int(rng.choice([1, 1, 30])))
    kernel = rng.integers(-50, 50, (*size, shape[-1], n_filters)).astype(dtype)
    values = rng.integers(-9, 10, (rng.integers(1, 3), np.prod(shape))).astype(dtype)
    values[rng.random(values.shape) > rng.choice([0.2, 0.6, 1.0])] = 0
    check_windows((shape, size, strides, padding, n_filters), values, kernel, n_beyond=1)


def test_windows_are_worth_it_where_rows_of_the_kernel_are_short_or_spikes_many():
    few, many = (
        (27, 27, 5, 26, 26, 2, 2, 1, 1, 0, 0, 10),
        (15, 15, 16, 13, 13, 3, 3, 1, 1, 0, 0, 64),
    )
    assert event_kernels.windows_from(few, 4) < 0.1
    assert event_kernels.windows_from(few, 4) < event_kernels.windows_from(few, 8)
    assert 0.4 < event_kernels.windows_from(many, 4) < 0.5
    large, strided = (
        (15, 15, 64, 15 // stride, 15 // stride, 3, 3, stride, stride, 1, 1, 64)
        for stride in (1, 2)
    )
    assert 0.1 < event_kernels.windows_from(large, 4) < 0.3
    assert 0.4 < event_kernels.windows_from(strided, 4) < 0.5


def test_windows_of_other_numbers_than_the_kernel():
    one, geometry = np.ones((1, 1)), (1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1)
    kernel = np.ones((1, 1), np.float32)
    for values, total in [(one, one.astype(np.float32)), (one.astype(np.float32), one)]:
        with pytest.raises(numba.errors.TypingError, match="expected an array of float32"):
            event_kernels.window_convolution(values, geometry, kernel, near(geometry), total)


@pytest.mark.parametrize("share", [0.4, 1.0])
@pytest.mark.parametrize("n_filters", [37, 64, 200])
@pytest.mark.parametrize("dtype", DTYPES)
def test_windows_are_summed_in_the_order_of_the_kernel(dtype, n_filters, share):
    """Sums are equal to the bit if products are rounded before they are added."""
    rng = np.random.default_rng(2)
    shape, size = (7, 6, 30), (3, 2)
    geometry = (*shape, 5, 5, *size, 1, 1, 0, 0, n_filters)
    values = rng.normal(size=(2, np.prod(shape))).astype(dtype)
    values[rng.random(values.shape) >= share] = 0
    kernel = rng.normal(size=(np.prod(size) * shape[-1], n_filters)).astype(dtype)
    total = np.empty((2, 5, 5, n_filters), dtype)
    rows = event_kernels.kernel_rows(kernel)
    event_kernels.window_convolution(values, geometry, rows, near(geometry), total.reshape(2, -1))
    images = values.reshape(2, *shape)
    for step, row, column in np.ndindex(2, 5, 5):
        sums = np.zeros(n_filters, dtype)
        window = images[step, row : row + size[0], column : column + size[1]]
        for value, weights in zip(window.ravel(), kernel, strict=True):
            sums += value * weights
        np.testing.assert_array_equal(total[step, row, column], sums)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_value_that_is_no_number_is_not_taken_for_zero(dtype):
    n_filters = 64
    geometry = (3, 3, 5, 2, 2, 2, 2, 1, 1, 0, 0, n_filters)
    values, kernel = np.zeros((1, 45), dtype), np.ones((20, n_filters), dtype)
    values[0, 4], values[0, 44] = np.nan, -np.inf
    total = np.empty((2, 2, n_filters), dtype)
    rows = event_kernels.kernel_rows(kernel)
    event_kernels.window_convolution(values, geometry, rows, near(geometry), total.reshape(1, -1))
    assert np.isnan(total[0, 0]).all()
    assert np.all(total[1, 1] == -np.inf)
    np.testing.assert_array_equal(total[[0, 1], [1, 0]], 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_groups", [1, 2, 4])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_scattering_convolution(strides, padding, n_groups, dtype):
    rng = np.random.default_rng(3 * n_groups + strides[1])
    shape, size, n_filters = (7, 8, 4), (3, 2), 12
    kernel = rng.integers(-50, 50, (*size, shape[-1] // n_groups, n_filters)).astype(dtype)
    conv = nengo.Convolution(
        n_filters, shape, kernel_size=size, strides=strides, padding=padding, groups=n_groups
    )
    table = _ways(types.SimpleNamespace(conv=conv, is_transpose=False))
    counts, rows = random_spikes(rng, np.prod(shape), 0.4)
    total = np.full(conv.size_out + 3, 7.5, dtype)
    list_of_rows = between(rng.permutation(rows))
    flat = kernel.reshape(-1, *kernel.shape[2:])
    event_kernels.scatter_convolution(*list_of_rows, shape[-1], n_groups, table, flat, total)
    images = counts.reshape(1, *shape).astype(float)
    expected = conv2d_groups(images, kernel.astype(float), padding.upper(), strides)
    np.testing.assert_array_equal(total[: conv.size_out], expected.ravel())
    np.testing.assert_array_equal(total[conv.size_out :], 0)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_scattering_transposed_convolution(padding):
    rng = np.random.default_rng(8)
    shape, size, strides = (4, 5, 3), (3, 2), (2, 3)
    kernel = rng.integers(-50, 50, (*size, 3, 6)).astype(float)
    conv = nengo.transforms.ConvolutionTranspose(
        6, shape, kernel_size=size, strides=strides, padding=padding
    )
    table = _ways(types.SimpleNamespace(conv=conv, is_transpose=True))
    counts, rows = random_spikes(rng, np.prod(shape), 0.4)
    total = np.empty(conv.size_out)
    flat = kernel.reshape(-1, 3, 6)
    event_kernels.scatter_convolution(*between(rows), 3, 1, table, flat, total)
    images, shape_out = counts.reshape(1, *shape).astype(float), conv.output_shape.spatial_shape
    expected = conv2d_gradx(kernel, images, xsize=shape_out, pad=padding.upper(), stride=strides)
    np.testing.assert_array_equal(total, expected.ravel())


@numba.njit
def position_of(row, n):
    return event_kernels.position_of(row, event_kernels.share_of(n))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 64, 100, 4096, 2**16 + 1, 2**31 - 1])
def test_positions(n):
    firsts = n * np.unique(np.minimum(np.array([0, 1, 2, 1000, 2**31]), (2**31 - 1) // n))
    for row in np.concatenate([firsts, firsts[1:] - 1, [2**31 - 1]]).tolist():
        assert position_of(np.int32(row), n) == row // n


@pytest.mark.parametrize("n", [0, 1, 7, 8, 63, 64, 65, 128, 1000, 1024, 10816])
@pytest.mark.parametrize("density", [0, 0.005, 0.03, 0.1, 0.5, 1])
def test_events_are_listed(n, density):
    rng = np.random.default_rng(n)
    eventful = (rng.random(n + 16) < density).astype(np.uint8)
    eventful[n:] = 1  # what stands behind is no event
    which = np.full(n + 1, -1, np.int32)
    found = event_kernels.list_events(eventful, n, 255, which)
    np.testing.assert_array_equal(which[:found], np.flatnonzero(eventful[:n]))


@pytest.mark.parametrize("mask", [1, 2, 6, 255])
def test_events_of_some_marks_are_listed(mask):
    eventful = np.random.default_rng(mask).choice([0, 1, 2, 4, 128, 255], 1000).astype(np.uint8)
    which = np.full(1001, -1, np.int32)
    found = event_kernels.list_events(eventful, 1000, mask, which)
    np.testing.assert_array_equal(which[:found], np.flatnonzero(eventful & np.uint8(mask)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0, 0.02, 0.5])
@pytest.mark.parametrize("in_order", [False, True])
def test_steps_are_multiplied_in_blocks_of_rows(in_order, density, dtype):
    rng = np.random.default_rng(int(100 * density))
    n_inputs, n_outputs, batch, n_steps = 600, 700, 7, 40  # blocks of either
    weights = rng.integers(-50, 50, (n_inputs, n_outputs)).astype(dtype)
    counts = rng.poisson(density, (batch, n_steps + 2, n_inputs))
    lists = [np.repeat(np.arange(n_inputs), each) for each in counts.reshape(-1, n_inputs)]
    if not in_order:
        lists = [rng.permutation(each) for each in lists]
    ends = np.cumsum([0, *map(len, lists)])
    bounds = np.stack([ends[b * (n_steps + 2) :][: n_steps + 3] for b in range(batch)])
    rows = np.concatenate(lists).astype(np.int32)
    sums = np.full((batch, n_steps, n_outputs), 7.5, dtype)
    event_kernels.multiply_steps(rows, bounds, 1, weights, sums)
    np.testing.assert_array_equal(sums, counts[:, 1:-1] @ weights.astype(float))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0, 0.02, 0.5, 1])
def test_numbers_that_are_not_0_are_multiplied(density, dtype):
    rng = np.random.default_rng(int(100 * density))
    values = rng.integers(-9, 9, (3, 5, 61)) * (rng.random((3, 5, 61)) < density)
    weights = rng.integers(-50, 50, (61, 37)).astype(dtype)
    sums = np.full((3, 5, 37), np.nan, dtype)
    event_kernels.multiply_nonzero(values.astype(dtype), weights, sums)
    np.testing.assert_array_equal(sums, values @ weights)
