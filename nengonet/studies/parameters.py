"""The parameters of a reproduction that a sweep may go through, read from a function's signature.

A reproduction that can be swept has a function ``sweep_cell``: one network, one run, numbers out.
Its arguments say by their annotations what they take: a number, one of several words
(``Literal``), or either of them or None.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation

from nengonet.exceptions import InputError

# Every reproduction with a `sweep_cell`, as the command line names it.
NAMES = ("forum-mnist", "amplitude", "bengali", "fashion-mnist", "cifar-csnn")
# Arguments that are the same for all cells.
CONSTANTS = ("weights", "data", "n_images")
_NONE = "none"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What a parameter takes."""

    name: str
    choices: tuple[str, ...]
    number: type | None
    optional: bool
    default: object

    @property
    def argument(self) -> str:
        """The name in Python."""
        return self.name.replace("-", "_")

    @property
    def expected(self) -> str:
        """What values it takes, in words."""
        words = " or ".join(self.choices)
        if self.number is not None:
            words = "a whole number" if self.number is int else "a number"
        return f"{words} or {_NONE}" if self.optional else words

    def __str__(self) -> str:
        """Write name, values and default in one line."""
        default = _NONE if self.default is None else self.default
        shown = f"{default:g}" if isinstance(default, float) else default
        return f"{self.name}: {self.expected}  [default: {shown}]"

    def parse(self, text: str) -> list:
        """Return the values in ``"100,250"`` or, numbers with a step, in ``"0.01:0.5:0.01"``."""
        values = [value for part in text.split(",") for value in self._expanded(part.strip())]
        for position, value in enumerate(values):
            if value in values[:position]:
                raise InputError(f"--set {self.name}: {value} is there twice")
        return values

    def _expanded(self, part: str) -> Iterable:
        if self.number is None or ":" not in part:
            return [self._value(part)]
        try:
            start, stop, step = map(Decimal, part.split(":"))
        except (ValueError, InvalidOperation):
            start, stop, step = Decimal(0), Decimal(0), Decimal(0)
        if not (step > 0 and stop >= start):
            raise InputError(
                f"--set {self.name}: expected START:STOP:STEP, such as 0.1:0.5:0.1, found {part!r}"
            )
        # Decimal numbers, so that 0.01 in 50 steps ends at 0.5.
        return [self._value(str(start + k * step)) for k in range(int((stop - start) / step) + 1)]

    def _value(self, text: str) -> object:
        if self.optional and text == _NONE:
            return None
        if text in self.choices:
            return text
        try:
            if self.number is not None:
                return self.number(text)
        except ValueError:
            pass
        raise InputError(f"--set {self.name}: expected {self.expected}, found {text!r}")


def cell_of(name: str) -> Callable:
    """Return the function that a sweep of a reproduction calls."""
    module = f"nengonet.studies.{name.replace('-', '_')}"
    return importlib.import_module(module).sweep_cell


def parameters_of(function: Callable) -> dict[str, Parameter]:
    """Read the parameters of a function from its signature."""
    hints = typing.get_type_hints(function)
    found = {}
    for argument, given in inspect.signature(function).parameters.items():
        if argument in CONSTANTS or argument == "seed":
            continue
        kind = hints[argument]
        optional = isinstance(kind, types.UnionType)
        if optional:
            (kind,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
        choices = () if kind in (int, float) else typing.get_args(kind)
        name = argument.replace("_", "-")
        number = None if choices else kind
        found[name] = Parameter(name, choices, number, optional, given.default)
    return found


def grid_of(name: str, settings: Iterable[str]) -> dict[str, list]:
    """Turn settings such as ``"input-rate=255,1000"`` into the grid of a sweep."""
    parameters, grid = parameters_of(cell_of(name)), {}
    for setting in settings:
        chosen, equals, values = setting.partition("=")
        if not equals or not values:
            raise InputError(f"--set: expected NAME=VALUE,VALUE,…; found {setting!r}")
        if chosen not in parameters:
            close = difflib.get_close_matches(chosen, parameters, n=1)
            hint = f"; did you mean {close[0]}?" if close else ";"
            raise InputError(
                f"--set: {name} has no parameter {chosen!r}{hint} there are: "
                f"{', '.join(parameters)}"
            )
        if parameters[chosen].argument in grid:
            raise InputError(f"--set: {chosen} is there twice; give all its values at once")
        grid[parameters[chosen].argument] = parameters[chosen].parse(values)
    return grid
