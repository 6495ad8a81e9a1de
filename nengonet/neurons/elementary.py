"""``expm1`` and ``log1p`` of single numbers and of lists, for steps of neurons in Numba.

In 64 bits, the functions call the C library once for each number. In 32 bits, numbers near 0 use
the approximations of ``s_expm1f.c`` and ``s_log1pf.c`` in Sun's fdlibm, as the GNU C library does.
Without a call, the compiler can use vector instructions, and the bits do not depend on the library.
"""

from __future__ import annotations

import math

import numpy as np

# The range in which both approximations hold.
_LOW, _HIGH = np.float32(-0.29), np.float32(0.34)
_HALF, _ONE, _TWO, _THREE, _SIX = map(np.float32, (0.5, 1, 2, 3, 6))
# The constants that fdlibm names Q1 to Q5 and Lp1 to Lp7.
_Q1, _Q2, _Q3, _Q4, _Q5 = map(
    np.float32,
    (-3.3333335072e-02, 1.5873016091e-03, -7.9365076090e-05, 4.0082177293e-06, -2.0109921195e-07),
)
_L1, _L2, _L3, _L4, _L5, _L6, _L7 = map(
    np.float32,
    (
        6.6666668653e-01,
        4.0000000596e-01,
        2.8571429849e-01,
        2.2222198546e-01,
        1.8183572590e-01,
        1.5313838422e-01,
        1.4798198640e-01,
    ),
)


def expm1_of(x, itemsize):
    """Return ``exp(x) - 1`` of a number with this many bytes."""
    return _near_expm1(x) if itemsize == 4 and x > _LOW and x < _HIGH else math.expm1(x)


def log1p_of(x, itemsize):
    """Return ``log(1 + x)`` of a number with this many bytes."""
    return _near_log1p(x) if itemsize == 4 and x > _LOW and x < _HIGH else math.log1p(x)


def set_expm1(values, n):
    """Set the first ``n`` numbers to ``exp(x) - 1``."""
    # If no number needs the library, the loop uses vector instructions.
    if values.itemsize == 4 and _are_near(values, n):
        for i in range(n):
            values[i] = _near_expm1(values[i])
    else:
        for i in range(n):
            values[i] = expm1_of(values[i], values.itemsize)


def set_log1p(values, n):
    """Set the first ``n`` numbers to ``log(1 + x)``."""
    if values.itemsize == 4 and _are_near(values, n):
        for i in range(n):
            values[i] = _near_log1p(values[i])
    else:
        for i in range(n):
            values[i] = log1p_of(values[i], values.itemsize)


def _are_near(values, n):
    """Return whether the approximations hold for all numbers."""
    n_near = 0
    for i in range(n):
        n_near += (values[i] > _LOW) & (values[i] < _HIGH)
    return n_near == n


def _near_expm1(x):
    half = _HALF * x
    square = x * half
    r = _ONE + square * (_Q1 + square * (_Q2 + square * (_Q3 + square * (_Q4 + square * _Q5))))
    t = _THREE - r * half
    error = square * ((r - t) / (_SIX - x * t))
    return x - (x * error - square)


def _near_log1p(x):
    half = _HALF * x * x
    s = x / (_TWO + x)
    z = s * s
    r = z * (_L1 + z * (_L2 + z * (_L3 + z * (_L4 + z * (_L5 + z * (_L6 + z * _L7))))))
    return x - (half - s * (half + r))
