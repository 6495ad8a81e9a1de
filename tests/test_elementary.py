"""``expm1`` and ``log1p`` of numbers and lists."""

import math

import numpy as np
import pytest

from nengonet.neurons import elementary

FUNCTIONS = {
    "expm1": (elementary.expm1_of, elementary.set_expm1, math.expm1, np.expm1),
    "log1p": (elementary.log1p_of, elementary.set_log1p, math.log1p, np.log1p),
}
# Around both ends of what is near 0, and beyond.
EDGES = [
    -0.999,
    -0.85,
    -0.75,
    -0.5,
    -0.2900001,
    -0.29,
    -0.2899999,
    0.3399999,
    0.34,
    0.3400001,
    0.5,
    3,
    60,
]


@pytest.fixture(params=FUNCTIONS)
def functions(request):
    return FUNCTIONS[request.param]


@pytest.fixture(params=["Python", "Numba"])
def set_all(request, functions):
    """Return a list's function in pure Python and as kernels call it."""
    if request.param == "Python":
        return functions[1]
    numba = pytest.importorskip("numba")
    kernels = pytest.importorskip("nengonet.minibatch.kernels")
    inner = kernels.piece(functions[1], [])

    @numba.njit
    def call(values, n):
        inner(values, n)

    return call


def near(n, dtype):
    """Return numbers of all sizes, from 1e-40 to 0.28, of both signs."""
    rng = np.random.default_rng(n)
    return (rng.choice([-1, 1], n) * 0.28 * 10.0 ** rng.uniform(-39, 0, n)).astype(dtype)


@pytest.mark.parametrize("beyond", [[], EDGES], ids=["near", "any"])
def test_lists_in_32_bits_are_right_to_one_in_the_last_place(functions, set_all, beyond):
    of_one, _, _, exact = functions
    values = np.concatenate([near(500, np.float32), np.array([0, *beyond], np.float32)])
    found = values.copy()
    set_all(found, len(found))
    expected = exact(values.astype(np.float64))
    with np.errstate(under="ignore"):
        assert np.all(np.abs(found - expected) <= np.spacing(np.abs(expected).astype(np.float32)))
    # The same bits as one by one, whatever is beside them in a list; beyond, they are a library's.
    few = np.abs(values) < 0.28
    np.testing.assert_array_equal(found[few], [np.float32(of_one(x, 4)) for x in values[few]])


def test_lists_in_64_bits_are_the_librarys(functions, set_all):
    values = np.concatenate([near(500, np.float64), EDGES])
    found = values.copy()
    set_all(found, len(found))
    np.testing.assert_array_equal(found, [functions[2](x) for x in values])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_stands_behind_stays_as_it_is(set_all, dtype):
    values = near(40, dtype)
    found = values.copy()
    set_all(found, 17)
    np.testing.assert_array_equal(found[17:], values[17:])
    assert np.all(found[:17] != 0)
    set_all(values, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_number_stays_none(set_all, dtype):
    values = near(40, dtype)
    values[[3, 30]] = np.nan
    set_all(values, len(values))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), [3, 30])
