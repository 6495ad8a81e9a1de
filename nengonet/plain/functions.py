"""The source of the functions that a Node or a Connection of a network calls."""

from __future__ import annotations

import ast
import inspect
import linecache
import types
from collections.abc import Callable

import numpy as np

from nengonet.exceptions import InputError

_PLAIN = (int, float, str, bool, type(None), np.generic, np.ndarray, types.ModuleType)


def source_of(function: Callable, what: str) -> tuple[str, dict[str, object]]:
    """Return a function's source, a ``def`` or a ``lambda``, and the values that it reads by name.

    Raises
    ------
    InputError
        The object is not a plain function, its source is unknown, or it keeps or reads something
        other than numbers, arrays, modules and functions.
    """
    if not isinstance(function, types.FunctionType):
        raise InputError(
            f"{what}: cannot write {type(function).__name__}; expected a function, an array, or a "
            "Process of Nengo or nengonet"
        )
    lines = linecache.getlines(inspect.getsourcefile(function) or "")
    node = _node_of(function, "".join(lines))
    if node is None or getattr(node, "decorator_list", None):
        raise InputError(
            f"{what}: cannot find the source of its function {function.__name__}; expected a "
            "function that is defined in a file, on a line of its own, without decorators"
        )
    if _keeps(node):
        raise InputError(
            f"{what}: cannot write {function.__name__}, a function that keeps a state; expected "
            "one whose output depends on its arguments alone, or a nengo Process"
        )
    found = inspect.getclosurevars(function)
    reads = {**found.globals, **found.nonlocals}
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    for name, value in (*reads.items(), *(("a default", each) for each in defaults)):
        if not isinstance(value, (*_PLAIN, types.FunctionType)):
            raise InputError(
                f"{what}: cannot write a function that reads {name}, of type "
                f"{type(value).__name__}; expected numbers, arrays, modules or functions"
            )
    text = ast.get_source_segment("".join(lines), node)
    pad = " " * node.col_offset if isinstance(node, ast.FunctionDef) else ""
    return "\n".join(each.removeprefix(pad) for each in text.split("\n")), reads


def _node_of(function: types.FunctionType, text: str) -> ast.AST | None:
    """Return where a function is defined; None unless the file has exactly one such place."""
    code = function.__code__
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return None
    kind = ast.Lambda if code.co_name == "<lambda>" else ast.FunctionDef
    found = [
        node
        for node in nodes
        if isinstance(node, kind)
        and node.lineno == code.co_firstlineno
        and getattr(node, "name", code.co_name) == code.co_name
        and len(node.args.args) == code.co_argcount
    ]
    return found[0] if len(found) == 1 else None


def _keeps(node: ast.AST) -> bool:
    """Return whether a function changes anything but its own variables."""
    inside = list(ast.walk(node))
    own = {each.id for each in inside if isinstance(each, ast.Name) and _stores(each)}
    return any(
        isinstance(each, ast.Nonlocal | ast.Global)
        or (
            isinstance(each, ast.Subscript | ast.Attribute)
            and _stores(each)
            and getattr(each.value, "id", None) not in own
        )
        for each in inside
    )


def _stores(node: ast.AST) -> bool:
    return isinstance(node.ctx, ast.Store)
