"""Parameters of the studies that the engine does not run yet."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterable

from nengonet.studies import options


def cell_of(name: str) -> Callable:
    """Return the function that a sweep of a reproduction calls."""
    return importlib.import_module(f"nengonet.studies.{name.replace('-', '_')}").sweep_cell


def parameters_of(function: Callable) -> dict[str, options.Parameter]:
    """Read the parameters of a function, by their names in a sweep."""
    skip = ("weights", "data", "n_images", "seed")
    hints = typing.get_type_hints(function)
    given = {name: each.default for name, each in inspect.signature(function).parameters.items()}
    found = (
        options._parameter(name, hints[name], given[name]) for name in given if name not in skip
    )
    return {each.dashed: each for each in found}


def grid_of(name: str, settings: Iterable[str]) -> dict[str, list]:
    """Turn settings into the grid of a sweep."""
    found = parameters_of(cell_of(name))
    return options.grid_of(name, {each.name: each for each in found.values()}, settings)
