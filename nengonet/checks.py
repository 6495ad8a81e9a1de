"""Checks of what callers give, for the modules that are given the same kinds of things."""

from __future__ import annotations

import operator
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from nengonet.exceptions import InputError


def described(value: object) -> str:
    """Return a value for a message, in one line: an array's shape, or the value itself.

    Parameters
    ----------
    value : object
    """
    if isinstance(value, (np.ndarray, list, tuple)):
        try:
            shape = np.shape(value)
        except ValueError:
            return "rows of unequal lengths"
        if shape:
            return f"shape {shape}"
    return repr(value)


def as_numbers(name: str, values: ArrayLike) -> np.ndarray:
    """Convert to finite numbers of 64 bits.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    values : array_like

    Returns
    -------
    values : ndarray of float64, of the same shape

    Raises
    ------
    InputError
        They are no numbers, or one is NaN or infinite.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: expected an array of numbers, found {described(values)} ({error})"
        ) from None
    if not np.all(np.isfinite(array)):
        raise InputError(f"{name}: expected finite values, found NaN or infinity")
    return array


def whole_number(name: str, value: object) -> int:
    """Convert to a whole number of at least 1.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : int

    Raises
    ------
    InputError
        It is another number, or none.
    """
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(f"{name}: expected a whole number of at least 1, found {value!r}")
    return number


def check_among(name: str, value: object, choices: Iterable[object]) -> None:
    """Check that a value is one of several.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object
    choices : iterable

    Raises
    ------
    InputError
        It is another; the message lists the choices.
    """
    choices = list(choices)
    if value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(map(str, choices))}; found {value!r}")


def check_precision(bits: object) -> None:
    """Check that numbers are to have 32 or 64 bits.

    Parameters
    ----------
    bits : {32, 64}

    Raises
    ------
    InputError
        It is another number.
    """
    if bits not in (32, 64):
        raise InputError(f"precision: expected 32 or 64 bits, found {bits!r}")
