"""The cells of a sweep: their checks, their keys, and all that their values depend on."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from nengonet.checks import described, positive_integer, quoted
from nengonet.exceptions import InputError
from nengonet.run.content import digest, file_digest, versions

COLUMNS = ("seed", "error", "seconds")
_LONGEST = 60  # characters of a constant in a message; longer ones are shown as digests


def plain(value: object) -> object:
    """Return a value as JSON holds it, equal for equal values; arrays and files as digests."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and os.path.isfile(value):
        return [value, file_digest(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return {"file": digest(value, os.fspath(value))}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcSU":
        return {"array": digest(value, "array")}
    raise TypeError(type(value).__name__)


def key_of(value: object) -> str:
    """Return a value's plain form as text."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"))


def name_of(function: Callable) -> str:
    """Return a function's module and name."""
    while isinstance(function, functools.partial):
        function = function.func
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"


def fingerprint(function: Callable, constants: dict) -> dict[str, str]:
    """Return all that the cells of a sweep depend on."""
    found = {
        "function": name_of(function),
        "code": digest(function, "function"),
        "set of constants": ", ".join(sorted(constants)) or "none",
    }
    for name, value in constants.items():
        text = ""
        with contextlib.suppress(TypeError):
            text = key_of(value)
        short = 0 < len(text) <= _LONGEST
        found[f"constant {name}"] = text if short else digest(value, f"constants: {name}")
    return found | versions()


def cells_of(
    grid: Mapping[str, Sequence] | Sequence[Mapping[str, Sequence]], seeds: int | Sequence[int]
) -> tuple[tuple[str, ...], dict[str, dict]]:
    """Return the names of the parameters, and the arguments of every cell, seeds innermost.

    A cell's key is equal for equal values.
    """
    seeds, grids = _checked_seeds(seeds), [grid] if isinstance(grid, Mapping) else grid
    if isinstance(grids, str) or not isinstance(grids, Sequence) or not grids:
        found = described(grid)
        raise InputError(f"grid: expected a dict of lists, or a list of them, got {found}")
    names, cells = {}, {}
    for each in grids:
        _check_grid(each)
        names |= dict.fromkeys(each)
        for *values, seed in itertools.product(*each.values(), seeds):
            values = [
                value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value
                for value in values
            ]
            arguments = dict(zip(each, values, strict=True))
            cells.setdefault(key_of([arguments, seed]), arguments | {"seed": seed})
    return tuple(names), cells


def _checked_seeds(seeds: int | Sequence[int]) -> list[int]:
    if not isinstance(seeds, (str, bytes, Mapping)) and isinstance(seeds, Iterable):
        found = [positive_integer("seeds", seed, at_least=0) for seed in seeds]
    else:
        found = []
        with contextlib.suppress(InputError):
            found = list(range(positive_integer("seeds", seeds)))
    if not found:
        raise InputError(
            "seeds: expected a number of seeds, at least 1, or a list of whole numbers, at least "
            f"0, got {described(seeds)}"
        )
    return found


def _check_grid(grid: Mapping[str, Sequence]) -> None:
    if not isinstance(grid, Mapping) or not all(isinstance(name, str) for name in grid):
        raise InputError(f"grid: expected a dict of parameter names and lists, got {quoted(grid)}")
    for name, values in grid.items():
        if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
            raise InputError(f"grid: {name}: expected a list of values, got {quoted(values)}")
        if len(values) == 0:
            raise InputError(f"grid: {name}: expected at least one value, got none")
        try:
            key_of(list(values))
        except TypeError as error:
            raise InputError(
                f"grid: {name}: expected numbers, strings, None, or lists and dicts of them, "
                f"got {error}; give a name instead, and make the object in the function"
            ) from None


def check_names(function: Callable, names: tuple[str, ...], cell: dict, constants: dict) -> None:
    """Check that the function takes the arguments of a cell and the constants."""
    if not callable(function):
        raise InputError(f"function: expected a function, got {described(function)}")
    for where, given in {"grid": names, "constants": constants}.items():
        for name in given:
            if where == "constants" and name in names:
                raise InputError(
                    f"constants: expected names other than those of the grid, got {name}"
                )
            if name in COLUMNS:
                raise InputError(
                    f"{where}: expected names other than the columns of the table, got {name}; "
                    "give seeds as seeds"
                )
    try:
        inspect.signature(function).bind(**cell, **constants)
    except ValueError:
        pass  # some functions written in C have no signature
    except TypeError as error:
        raise InputError(
            f"function: expected {name_of(function)} to take the arguments "
            f"{', '.join((*cell, *constants))}, got: {error}"
        ) from None
