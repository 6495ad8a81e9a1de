import numpy as np
import pytest

import nengonet as nn
from nengonet.checks import (
    as_numbers,
    check_among,
    count_steps,
    described,
    positive_integer,
)


@pytest.mark.parametrize(
    "value, words",
    [
        (np.zeros((2, 3)), "shape (2, 3)"),
        ([1, 2], "shape (2,)"),
        ([[1], [1, 2]], "rows of unequal lengths"),
        # Such as images with their labels.
        ((np.zeros((2, 3)), np.zeros(2)), "a tuple of 2 arrays of the shapes (2, 3) and (2,)"),
        ([np.zeros(n) for n in range(5)], "rows of unequal lengths"),
        (np.array(0.5), "array(0.5)"),
        ("high", "'high'"),
        (None, "None"),
        (np.uint8, "<class 'numpy.uint8'>"),
    ],
)
def test_a_value_is_described_in_one_line(value, words):
    assert described(value) == words


def test_what_is_no_array_is_named_itself():
    class Dense:
        def __repr__(self):
            return "<Dense name=dense>"

    with pytest.raises(nn.InputError, match="^x: expected an array of numbers, got <Dense name="):
        as_numbers("x", Dense())
    with pytest.raises(nn.InputError, match=r"got <generator .*with numpy.stack\(list\(…\)\)$"):
        as_numbers("x", (each for each in range(3)))


def test_numbers_keep_their_shape():
    found = as_numbers("x", [[True, 2]])
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[1, 2]])
    assert as_numbers("x", 3).shape == ()
    for values, words in (([1, np.inf], "finite"), ("a", "got 'a'"), ([[1], [1, 2]], "unequal")):
        with pytest.raises(nn.InputError, match=f"x: expected .*{words}"):
            as_numbers("x", values)


def test_whole_numbers_begin_at_one():
    assert positive_integer("n", np.int16(7)) == 7
    for value in (0, -1, 2.0, "8", True, None):
        with pytest.raises(nn.InputError, match="n: expected a whole number of at least 1, got"):
            positive_integer("n", value)


def test_steps_are_counted_to_the_nearest():
    found = [count_steps(milliseconds / 1000, 0.001) for milliseconds in range(1, 400)]
    assert found == list(range(1, 400))
    with pytest.raises(nn.InputError, match="expected at least one step of 0.001 s, got 0.0004"):
        count_steps(0.0004, 0.001)


def test_choices_are_listed():
    check_among("kind", None, [None, 1])
    with pytest.raises(nn.InputError, match="kind: expected one of None, 1, got 'x'"):
        check_among("kind", "x", [None, 1])
    with pytest.raises(nn.InputError, match="kind: expected one of None, 1, got True"):
        check_among("kind", True, [None, 1])
    for bits in (16, "64", None):
        with pytest.raises(nn.InputError, match="bits: expected one of 32, 64, got"):
            check_among("bits", bits, (32, 64))
