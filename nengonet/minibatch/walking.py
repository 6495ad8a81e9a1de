"""Find what a Python function can reach: its variables, and the names that its code uses.

`nengonet.minibatch.owning` uses it to find what a call may change. `nengonet.run.content` uses it
to find what a result depends on.
"""

from __future__ import annotations

import dis
import functools
import types
import weakref
from collections.abc import Iterator

UNBOUND = ...  # the content of a variable without a value
# Names of instructions, by their effect.
_READS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_READS_CELL = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
_READS_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
_WRITES = {
    **dict.fromkeys(("STORE_GLOBAL", "DELETE_GLOBAL"), "writes global"),
    **dict.fromkeys(("STORE_DEREF", "DELETE_DEREF"), "writes variable"),
    "STORE_ATTR": "writes attribute",
    "IMPORT_NAME": "imports",
}


def cells_of(function: types.FunctionType) -> dict[str, types.CellType]:
    """Return the cells of the variables that a function closes over, by name."""
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def content_of(cell: types.CellType) -> object:
    """Return the value of a variable, or `UNBOUND`."""
    try:
        return cell.cell_contents
    except ValueError:
        return UNBOUND


def is_gone(value: object) -> bool:
    """Return whether a value is a weak proxy of a deleted object, so that it reaches nothing."""
    if type(value) not in weakref.ProxyTypes:
        return False
    try:
        value.__class__  # noqa: B018
    except ReferenceError:
        return True
    return False


def codes_of(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a function's code, and the code of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_of(constant)


@functools.lru_cache(1024)
def _instructions(code: types.CodeType) -> tuple[tuple[str, object], ...]:
    steps = dis.get_instructions(code)
    return tuple((step.opname, step.argval) for step in steps if step.opname != "EXTENDED_ARG")


def names_in(function: types.FunctionType) -> frozenset[str]:
    """Return all names of globals, attributes and modules in a function's code."""
    return frozenset(name for code in codes_of(function.__code__) for name in code.co_names)


def uses_of(function: types.FunctionType) -> Iterator[tuple[str, str, object]]:
    """Yield each use of an outside name in a function's code: (how, name, value).

    ``how`` is one of these: "global" or "builtin" for a name that is read, "attribute" for one
    taken from a module, "module" for a module that is used in another way, "writes global",
    "writes variable" (of the closure: ``value`` is its cell), "writes attribute" or "imports".
    """
    scope, cells = function.__globals__, cells_of(function)
    for code in codes_of(function.__code__):
        module = None  # the module that was loaded last
        for step, name in _instructions(code):
            value = None
            if module is not None and step in _READS_ATTRIBUTE:
                value = getattr(module, name, None)
                if not isinstance(value, types.ModuleType):
                    yield "attribute", f"{module.__name__}.{name}", value
            else:
                if module is not None:
                    yield "module", module.__name__, module
                if step in _READS_GLOBAL:
                    value = scope.get(name)
                    yield "global" if name in scope else "builtin", name, value
                elif step in _READS_CELL and name in cells:
                    value = content_of(cells[name])
                elif step in _WRITES and (_WRITES[step] != "writes variable" or name in cells):
                    yield _WRITES[step], name, cells.get(name)
            is_module = not is_gone(value) and isinstance(value, types.ModuleType)
            module = value if is_module else None
