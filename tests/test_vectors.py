"""Vectors of numbers as Numba values."""

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from nengonet.minibatch.vectors import (  # noqa: E402
    bits_of,
    eight_places,
    lowest,
    move,
    n_set,
    plus,
    plus_products,
    put,
    put_all,
    zeros_of,
)

DTYPES = (np.float32, np.float64)
N_BYTES = 128
zeros = zeros_of(N_BYTES)


@numba.njit
def added(array, first, second, n, result, at):
    put(plus(plus(zeros(array), array, first, n), array, second, n), result, at, n)


@numba.njit
def multiplied(array, at, n, values, places, offset, result, to, shift):
    sums = (zeros(array), zeros(array), zeros(array))
    sums = plus_products(sums, array, at, n, values, places, offset)
    put_all(plus_products(sums, array, 0, n, values, places, 0), result, to, shift, n)


@numba.njit
def placed(first, last, width, of_position, of_row):
    return eight_places(first, last, 1 / width, of_position, of_row)


@numba.njit
def moved(source, at, target, to):
    move(source, at, target, to)


@numba.njit
def place_of_bits(array, at, mask):
    bits, places = bits_of(array, at, mask), []
    n = n_set(bits)
    while bits != 0:
        places.append(lowest(bits))
        bits &= bits - np.uint64(1)
    return n, places, lowest(bits)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 3, 4, 15, 16, 17, 31, 32, 100])
def test_the_first_numbers_of_a_part_are_added(n, dtype):
    array = np.random.default_rng(n).normal(size=(3, 50)).astype(dtype)
    result = np.full(60, 7.5, dtype)
    added(array, 53, 2, n, result, 5)
    expected, n = np.full(60, 7.5, dtype), min(n, N_BYTES // array.itemsize)
    expected[5 : 5 + n] = array.ravel()[53 : 53 + n] + array.ravel()[2 : 2 + n]
    np.testing.assert_array_equal(result, expected)


def test_what_stands_behind_the_first_numbers_does_not_count():
    """Not even NaN does, although a product with 0 keeps it."""
    array, result = np.full(40, np.nan, np.float32), np.zeros(40, np.float32)
    array[:3] = 1
    added(array, 0, 0, 3, result, 0)
    np.testing.assert_array_equal(result, [2, 2, 2] + 37 * [0])


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_32_bytes_are_moved(dtype):
    source, target = np.arange(20).astype(dtype), np.full(20, -1, dtype)
    moved(source, 3, target, 5)
    n = 32 // source.itemsize
    np.testing.assert_array_equal(target, [-1] * 5 + list(range(3, 3 + n)) + [-1] * (15 - n))
    with pytest.raises(numba.TypingError, match="expected an array of"):
        moved(source, 3, target.astype(np.int16), 5)


def test_an_array_with_gaps_is_refused():
    array = np.zeros((8, 8), np.float32)[:, ::2]
    with pytest.raises(numba.TypingError, match="expected a C-contiguous array"):
        added(array, 0, 0, 2, np.zeros(4, np.float32), 0)


@pytest.mark.parametrize("mask", [1, 2, 130, 255])
@pytest.mark.parametrize("places", [[], [0], [63], [0, 1, 8, 31, 32, 62], list(range(64))])
def test_bits_stand_for_bytes_that_have_one_of_a_mask(places, mask):
    array = np.full(80, 255 - mask, np.uint8)
    array[:7] = array[71:] = mask  # around the 64
    array[7 + np.array(places, int)] |= mask & -mask
    assert place_of_bits(array, 7, mask) == (len(places), places, 64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 7, 16, 31, 32, 100])
def test_parts_are_multiplied_by_a_value_for_each_sum(n, dtype):
    rng = np.random.default_rng(n)
    array, values = rng.normal(size=(2, 50)).astype(dtype), rng.normal(size=12).astype(dtype)
    result, expected = np.full((2, 120), 7.5, dtype)
    multiplied(array, 21, n, values, (4, 0, 7), 3, result, (80, 0, 41), 2)
    n = min(n, N_BYTES // array.itemsize)
    for place, to in [(4, 80), (0, 0), (7, 41)]:
        first = values[place + 3] * array.ravel()[21 : 21 + n]
        expected[to + 2 : to + 2 + n] = first + values[place] * array.ravel()[:n]
    np.testing.assert_array_equal(result, expected)


def test_vectors_are_put_into_nothing_but_an_array_of_their_numbers():
    array, other = np.ones(9, np.float32), np.ones(9)
    for values, result in [(other, array), (array, other)]:
        with pytest.raises(numba.TypingError, match="expected an array of float32, got float64"):
            multiplied(array, 0, 1, values, (0, 1, 2), 0, result, (0, 1, 2), 0)
    with pytest.raises(numba.TypingError, match="expected an array of float32, got float64"):
        added(array, 0, 0, 1, other, 0)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 49, 1000])
@pytest.mark.parametrize("first", [0, 5, 48, 999, 10**6 - 4])
def test_places_of_positions(first, width):
    positions = np.minimum(first + np.arange(8), last := first + 5)
    expected = positions * 3 + positions // width * 11
    np.testing.assert_array_equal(placed(first, last, width, 3, 11), expected)
