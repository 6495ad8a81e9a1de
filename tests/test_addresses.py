"""Calls of kernels by address."""

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from nengonet.minibatch.addresses import ByAddress  # noqa: E402


@numba.njit
def scale(numbers, place, factors, total):
    for i in range(total.shape[0]):
        total[i] = numbers[i] * factors[0] + factors[1] * place


def examples(dtype):
    return np.empty(0, np.int32), 0, (0.5, 2), np.empty(0, dtype)


SCALE = ByAddress(scale, examples)
call_scale = SCALE.call


@numba.njit
def scaled(address, numbers, place, factors, total):
    call_scale(address, (numbers, place, factors, total))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kernel_called_by_address_does_what_it_does_when_called(dtype):
    given = np.array([3, -1, 4], np.int32), 7, (0.1, 3)
    total, expected = np.zeros(3, dtype), np.zeros(3, dtype)
    scaled(SCALE.address(np.dtype(dtype)), *given, total)
    scale(*given, expected)
    np.testing.assert_array_equal(total, expected)
    np.testing.assert_allclose(total, [21.3, 20.9, 21.4], rtol=1e-6)


def test_numbers_are_converted_and_arrays_may_be_read_only():
    total, numbers = np.zeros(2), np.ones(2, np.int32)
    numbers.flags.writeable = False
    for place in (np.uint8(3), 3.9):
        scaled(SCALE.address(np.dtype(float)), numbers, place, (2.0, 5), total)
        np.testing.assert_array_equal(total, 17)


def test_a_kernel_is_compiled_when_its_address_is_asked_for_and_once():
    @numba.njit
    def count(total):
        total[0] += 1

    counting = ByAddress(count, lambda dtype: (np.empty(0, dtype),))
    assert count.signatures == []
    first = counting.address(np.dtype(np.float32))
    assert counting.address(np.dtype(np.float32)) == first
    assert counting.address(np.dtype(np.float64)) != first
    assert [each[0].dtype for each in count.signatures] == [numba.float32, numba.float64]


@pytest.mark.parametrize(
    "given",
    [
        (np.ones(3, np.int64), 0, (1.0, 1), np.zeros(3)),
        (np.ones(3, np.int32), 0, (1.0, 1, 1), np.zeros(3)),
        (np.ones(3, np.int32), 0, (1.0, np.int8(1)), np.zeros(3)),
        (np.ones(3, np.int32), 0, 1.0, np.zeros(3)),
        (np.ones(3, np.int32), np.zeros(1), (1.0, 1), np.zeros(3)),
        (np.ones((3, 1), np.int32), 0, (1.0, 1), np.zeros(3)),
        (np.ones(6, np.int32)[::2], 0, (1.0, 1), np.zeros(3)),
        (np.ones(3, np.int32), 0, (1.0, 1), np.zeros(6)[::2]),
    ],
)
def test_arguments_of_other_types_are_refused(given):
    # A kernel would misread them.
    with pytest.raises(numba.TypingError, match="expected arguments of"):
        scaled(SCALE.address(np.dtype(float)), *given)
