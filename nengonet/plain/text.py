"""Python source: numbers that read back exactly, and calls that break at full lines."""

from __future__ import annotations

import builtins
import dataclasses
import keyword
import re
from collections.abc import Mapping, Sequence

import numpy as np

# The default line length of formatters.
_LINE = 88


@dataclasses.dataclass(frozen=True)
class Group:
    """Items in the brackets of a call, a list or a dict, each with the text in front of it."""

    opening: str
    items: tuple[tuple[str, Source], ...]
    closing: str

    def __str__(self) -> str:
        """Return the text on one line."""
        return f"{self.opening}{', '.join(f'{p}{v}' for p, v in self.items)}{self.closing}"


Source = str | Group


def call(name: str, *positional: Source, **named: Source) -> Group:
    """Return a call; a name that ends with a bracket makes a display such as ``[``."""
    items = [("", each) for each in positional]
    items += [(f"{key}=", each) for key, each in named.items()]
    return Group(f"{name}(", tuple(items), ")")


def listed(items: Sequence[Source], brackets: str = "[]") -> Group:
    """Return a list or a tuple."""
    if brackets == "()" and len(items) == 1:
        return Group("(", (("", f"{items[0]},"),), ")")
    return Group(brackets[0], tuple(("", each) for each in items), brackets[1])


def mapped(items: Mapping[object, Source]) -> Group:
    """Return a dict with names or numbers as keys."""
    keys = [quoted(each) if isinstance(each, str) else number(each) for each in items]
    pairs = zip(keys, items.values(), strict=True)
    return Group("{", tuple((f"{key}: ", each) for key, each in pairs), "}")


def lines_of(source: Source, before: str = "", after: str = "", indent: int = 0) -> list[str]:
    """Return a statement's lines; if one line is too short, with one item on each line."""
    line = f"{' ' * indent}{before}{source}{after}"
    if isinstance(source, str) or len(line) <= _LINE or not source.items:
        return [line]
    found = [f"{' ' * indent}{before}{source.opening}"]
    for name, item in source.items:
        found += lines_of(item, name, ",", indent + 4)
    return [*found, f"{' ' * indent}{source.closing}{after}"]


def quoted(text: str) -> str:
    """Return a string in the quotes that formatters use."""
    shown = repr(str(text))
    if shown[0] == "'" and '"' not in shown:
        shown = f'"{shown[1:-1]}"'
    return shown


def number(value: object) -> str:
    """Return the text of a number, True, False or None that reads back as the same value."""
    value = value.item() if isinstance(value, np.generic | np.ndarray) else value
    if isinstance(value, float) and not np.isfinite(value):
        return {"inf": "np.inf", "-inf": "-np.inf"}.get(str(value), "np.nan")
    return repr(value)


class Names:
    """Names of a script's variables, each given once."""

    def __init__(self, reserved: Sequence[str]) -> None:
        self._reserved = {*dir(builtins), *keyword.kwlist, *keyword.softkwlist, *reserved}
        self._given: set[str] = set()

    def new(self, label: str) -> str:
        """Return a name for a label, in lower case."""
        name = re.sub(r"\W+", "_", label, flags=re.ASCII).strip("_").lower() or "part"
        name = f"n_{name}" if name[0].isdigit() else name
        names = [f"{name}_" if name in self._reserved else name]
        while names[-1] in self._given or names[-1] in self._reserved:
            names.append(f"{name}_{len(names) + 1}")
        self._given.add(names[-1])
        return names[-1]
