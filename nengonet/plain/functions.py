"""The source of functions: what a Node or a Connection of a network calls."""

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
    """Return a function's source, a ``def`` or a ``lambda``, and what it reads by name.

    Raises
    ------
    InputError
        It is not a plain function, its source is unknown, or it keeps or reads what is more than
        numbers, arrays, modules and functions.
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
            "function that is defined in a file, without decorators"
        )
    _check_keeps_nothing(node, what)
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
    """Return where a function is defined; where a line has several, by its columns."""
    code = function.__code__
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return None
    found = [
        node
        for node in nodes
        if (isinstance(node, ast.Lambda) and code.co_name == "<lambda>")
        or (isinstance(node, ast.FunctionDef) and node.name == code.co_name)
    ]
    found = [node for node in found if node.lineno == code.co_firstlineno]
    if len(found) > 1:
        spans = [each for each in getattr(code, "co_positions", tuple)() if each[3]]
        inside = [
            node
            for node in found
            if spans
            and min((a, c) for a, _, c, _ in spans) >= (node.lineno, node.col_offset)
            and max((b, d) for _, b, _, d in spans) <= (node.end_lineno, node.end_col_offset)
        ]
        found = inside[-1:]  # an inner one comes after the one that it is in
    return found[0] if found else None


def _check_keeps_nothing(node: ast.AST, what: str) -> None:
    """Refuse functions that change what outlives a call."""
    local = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)} - {
        each.arg for each in node.args.args
    }
    local |= {
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }
    for each in ast.walk(node):
        kept = isinstance(each, ast.Nonlocal | ast.Global)
        if isinstance(each, ast.Subscript | ast.Attribute) and isinstance(each.ctx, ast.Store):
            base = each.value
            kept = not (isinstance(base, ast.Name) and base.id in local)
        if kept:
            raise InputError(
                f"{what}: cannot write a function that keeps a state (line {each.lineno}); "
                "expected one whose output depends on its arguments alone, or a nengo Process"
            )
