"""Checks of arguments: one function here for each kind of argument, called by all modules.

A check converts its argument and returns a value that the caller can rely on. Its message is one
line: what was expected, what was given and, where it is known, the fix. Images at an input of a
network are checked by `nengonet.layers.inputs.images_at`, which knows the input's shape and range.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import operator
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from nengonet.exceptions import InputError

_LONGEST = 60  # characters of a value in a message
_WORDS = {
    "O": "Python objects; convert with numpy.asarray(…, dtype=float)",
    "U": "text",
    "S": "bytes",
    "c": "complex numbers; take .real or numpy.abs",
    "b": "booleans; convert with .astype(float) if 0 and 1 are meant",
}


def described(value: object) -> str:
    """Return a value for a message, in one line: an array's shape, or the value itself."""
    if isinstance(value, (np.ndarray, list, tuple)):
        try:
            shape = np.shape(value)
        except ValueError:
            return _shapes(value) or "rows of unequal lengths"
        if shape:
            return f"shape {shape}"
    elif isinstance(value, (Mapping, set, frozenset)):
        return f"a {type(value).__name__} of {len(value)}"
    elif not isinstance(value, type) and (shape := getattr(value, "shape", None)):
        return f"{type(value).__name__} of shape {tuple(shape)}"
    return quoted(value)


def quoted(value: object) -> str:
    """Return a value as it was typed, in one line; of a long one the beginning."""
    return shortened(" ".join(repr(value).split()))


def _shapes(values: Sequence) -> str:
    """Return the shapes of a few arrays, such as the pair of images and labels, or nothing."""
    if len(values) > 4 or not all(isinstance(getattr(v, "shape", None), tuple) for v in values):
        return ""
    shapes = " and ".join(str(tuple(each.shape)) for each in values)
    return f"a {type(values).__name__} of {len(values)} arrays of the shapes {shapes}"


def shortened(text: str) -> str:
    """Return a text, cut to the length that a message or a table has room for."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def short_repr(record: object) -> str:
    """Return a dataclass in one line, with arrays as shapes; a ``__repr__`` for such classes."""
    fields = (field.name for field in dataclasses.fields(record) if field.repr)
    values = (f"{name}={described(getattr(record, name))}" for name in fields)
    return f"<{type(record).__name__} {', '.join(values)}>"


def slice_text(view: object) -> str:
    """Return the slice of a view of a Nengo object as text, such as ``[:10]``."""
    return " ".join(str(view)[len(str(view.obj)) :].split())


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """Return the end of a message about an unknown name: the closest known one, or nothing."""
    close = difflib.get_close_matches(str(name), [str(each) for each in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


# -- one number, one choice -----------------------------------------------------------------------


_LIMITS = {"above": operator.gt, "at_least": operator.ge}
_LIMITS |= {"below": operator.lt, "at_most": operator.le}


def as_number(name: str, value: object, unit: str = "a number", **limits: float) -> float:
    """Convert to a finite number within limits: above, at_least, below, at_most."""
    number = np.nan
    with contextlib.suppress(Exception):  # whatever an object's own conversion raises
        array = np.asarray(value)
        if array.ndim == 0 and array.dtype.kind in "iufO" and not np.ma.is_masked(value):
            number = float(array)
    if np.isfinite(number) and all(_LIMITS[word](number, each) for word, each in limits.items()):
        return number
    words = " and ".join(f"{word.replace('_', ' ')} {each:g}" for word, each in limits.items())
    raise InputError(f"{name}: expected {unit}{words and ', '}{words}, got {described(value)}")


def positive_integer(
    name: str, value: object, at_least: int = 1, at_most: int | None = None
) -> int:
    """Convert to a whole number within its limits, by default from 1."""
    number = None
    with contextlib.suppress(Exception):  # TypeError, or what an object's own conversion raises
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    if number is None or number < at_least or (at_most is not None and number > at_most):
        limits = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise InputError(f"{name}: expected a whole number {limits}, got {described(value)}")
    return number


def as_seed(seed: object, default: int | None = 0, name: str = "seed") -> int:
    """Convert to a seed, from 0 to 2**32 - 1."""
    seed = default if seed is None else seed
    return positive_integer(name, 0 if seed is None else seed, 0, 2**32 - 1)


def count_steps(presentation_time: object, dt: object) -> int:
    """Return the number of steps of a presentation."""
    dt = as_number("dt", dt, "a time in seconds", above=0)
    time = as_number("presentation_time", presentation_time, "a time in seconds", above=0)
    n_steps = round(time / dt)
    if n_steps < 1:
        raise InputError(f"presentation_time: expected at least one step of {dt:g} s, got {time:g}")
    return n_steps


def check_among(name: str, value: object, choices: Iterable[object]) -> None:
    """Check that a value is one of several."""
    choices = list(choices)
    if not any(_equal(value, each) for each in choices):
        raise InputError(
            f"{name}: expected one of {', '.join(map(str, choices)) or 'none'}, got "
            f"{described(value)}{did_you_mean(value, choices)}"
        )


def _equal(value: object, choice: object) -> bool:
    """Return whether a value is a choice; True is not 1, and an array equals nothing."""
    if isinstance(value, (np.ndarray, list, tuple)):
        return False
    flags = [isinstance(each, (bool, np.bool_)) for each in (value, choice)]
    return flags[0] == flags[1] and bool(value == choice)


def as_names(name: str, given: object, known: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names in a list, each of which must be known."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise InputError(
            f"{name}: expected a list of {what} labels, such as {list(known)[:1]}, "
            f"got {described(given)}"
        )
    given = tuple(given)
    for each in given:
        if not any(_equal(each, label) for label in known):
            raise InputError(
                f"{name}: unknown {what} {each!r}; expected any of {', '.join(known) or 'none'}, "
                f"got {each!r}{did_you_mean(each, known)}"
            )
    return given


# -- arrays ---------------------------------------------------------------------------------------


def as_array(name: str, values: ArrayLike, kinds: str = "iuf") -> np.ndarray:
    """Convert to an array of numbers; anything with ``__array__`` is accepted."""
    if np.ma.is_masked(values):
        found = f"{np.ma.count_masked(values)} masked values; remove or fill them"
    elif isinstance(values, (str, bytes, Mapping, set, frozenset)) or values is None:
        found = described(values)
    elif hasattr(values, "toarray"):
        found = f"{type(values).__name__}; give .toarray()"
    else:
        try:
            array = np.asarray(values)
            if array.dtype.kind in kinds:
                return array
            found = _WORDS.get(array.dtype.kind, f"values of type {array.dtype}")
            if array.ndim == 0 and array.dtype.kind == "O":  # no array at all
                found = described(values)
                if isinstance(values, Iterable):
                    found += "; collect what it yields with numpy.stack(list(…))"
        except Exception as error:  # ragged rows, or whatever an object's own conversion raises
            why = "" if isinstance(values, (list, tuple)) else f" ({str(error).splitlines()[0]})"
            found = f"{described(values)}{why}"
    raise InputError(f"{name}: expected an array of numbers, got {found}")


def as_numbers(name: str, values: ArrayLike, kinds: str = "iuf") -> np.ndarray:
    """Convert to finite numbers of 64 bits."""
    # Large longdoubles become infinite, and are refused below.
    with np.errstate(over="ignore"):
        array = as_array(name, values, kinds).astype(np.float64, copy=False)
    return check_finite(name, array)


def check_finite(name: str, array: np.ndarray) -> np.ndarray:
    """Return the array if all its values are finite."""
    finite = np.isfinite(array)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        where = f" at {list(first)}" if first else ""
        raise InputError(
            f"{name}: expected finite values, got {array[first]}{where}; remove or replace "
            "values that are NaN or infinite"
        )
    return array


def as_pixels(
    images: ArrayLike, name: str = "images", *, dtype: DTypeLike = np.float64
) -> np.ndarray:
    """Convert images to floats: uint8 is divided by 255, booleans are 0 and 1."""
    array = as_array(name, images, "biuf")
    check_batch(name, array)
    if array.dtype == np.uint8:
        array = array.astype(dtype)
        array /= 255
        return array
    if array.dtype.kind in "iu":
        raise InputError(
            f"{name}: expected uint8 (0 to 255), bool or floats, got {array.dtype}; divide by 255 "
            "if white is 255, or convert with .astype(float) to keep the values as they are"
        )
    return check_finite(name, array.astype(dtype, copy=False))


def check_batch(name: str, images: np.ndarray) -> None:
    """Check that an array has an axis of images, and at least one."""
    if images.ndim < 2:
        raise InputError(
            f"{name}: expected shape (n_images, ...), got {images.shape}; "
            "give a single image as image[numpy.newaxis]"
        )
    if images.size == 0:
        raise InputError(
            f"{name}: expected at least one image of one pixel, got shape {images.shape}"
        )


def as_labels(
    labels: ArrayLike, n_images: int, n_classes: int | None = None, name: str = "labels"
) -> np.ndarray:
    """Convert labels to class numbers, one for each image."""
    classes = as_classes(labels, n_classes, name)
    if classes.ndim == 2 and classes.shape[1] == 1:  # as keras.datasets.cifar10 gives them
        classes = classes[:, 0]
    if classes.ndim != 1:
        hint = "; turn one-hot rows into labels with .argmax(axis=1)" if classes.ndim == 2 else ""
        raise InputError(f"{name}: expected shape ({n_images},), got {classes.shape}{hint}")
    if len(classes) != n_images:
        found = f"{len(classes)}; give one label for each of these images"
        raise InputError(f"{name}: expected {n_images}, one for each image, got {found}")
    return classes


def as_classes(labels: ArrayLike, n_classes: int | None = None, name: str = "labels") -> np.ndarray:
    """Convert to class numbers, of any shape."""
    array = as_array(name, labels, "biufUSO")
    if n_classes is not None:
        n_classes = positive_integer("n_classes", n_classes)
    wanted, found = "class numbers", None
    if array.size == 0:
        wanted, found = "at least one class number", f"shape {array.shape}"
    elif array.dtype.kind in "US" or isinstance(array.flat[0], str):
        found = (
            f"the word {str(array.flat[0])!r}; number them in the order of the outputs: "
            "[class_names.index(word) for word in labels]"
        )
    elif array.dtype.kind in "bO":
        kind = {"b": "booleans", "O": "Python objects"}[array.dtype.kind]
        found = f"{kind}; convert with .astype(int)"
    else:
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(array) & (array == np.rint(array)) & (np.abs(array) < 2**63)
        if not whole.all():
            wanted, found = "whole class numbers", f"{array[~whole][0]}"
        elif array.min() < 0:
            wanted, found = "class numbers from 0", f"{int(array.min())}"
        elif n_classes is not None and array.max() >= n_classes:
            from_1 = array.min() == 1 and array.max() == n_classes
            wanted += f" from 0 to {n_classes - 1}, as there are {n_classes} outputs"
            found = f"{int(array.max())}" + ("; they begin at 1: subtract 1" if from_1 else "")
    if found is not None:
        raise InputError(f"{name}: expected {wanted}, got {found}")
    return array.astype(np.int64)


def as_examples(examples: ArrayLike | None, n_images: int) -> np.ndarray:
    """Convert to the examples' numbers, which choose their random streams."""
    if examples is None:
        return np.arange(n_images)
    array, found = as_array("examples", examples, "biuf"), ""
    if array.shape != (n_images,):
        found = described(array)
    elif array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= 2**63:
        found = f"{array.dtype} from {array.min()} to {array.max()}"
    if found:
        wanted = f"{n_images} whole numbers from 0, one for each image"
        raise InputError(f"examples: expected {wanted}, got {found}")
    return array.astype(np.int64)
