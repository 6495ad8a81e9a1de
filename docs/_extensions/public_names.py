"""What is public, found and not listed: a page each, a table for each folder of the package.

Public is what ``nengonet.__all__`` has; of its modules, what they have; the classes that public
functions return and public classes hold; and what a page of the reference names in a
``public-names`` block, which is for those who add to nengonet. A folder that no page shows has
nothing public.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pathlib
import re
import types
import typing
from collections.abc import Iterable

REFERENCE = pathlib.Path(__file__).parents[1] / "reference"
_BLOCK = re.compile(r"```\{public-names\}(?P<folders>[^\n]*)\n(?P<names>.*?)```", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]\w*(?:\.\w+)*")


def find(name: str) -> object:
    """Return the object of a dotted name."""
    parent, _, last = name.rpartition(".")
    if not parent:
        return importlib.import_module(name)
    try:
        return getattr(find(parent), last)
    except AttributeError:
        return importlib.import_module(name)


@functools.cache
def names() -> dict[str, object]:
    """Return every public function and class by the shortest name it can be imported by."""
    listed = _expanded("nengonet")
    for name in named_by_pages():
        listed |= _expanded(name)
    found, shown = {}, set(folders_of_pages())
    for name, each in sorted(listed.items(), key=lambda item: item[0].count(".")):
        if each not in found.values():  # else it has a shorter name
            found[name] = each
    waiting = list(found.values())
    while waiting:
        for each in _mentioned(waiting.pop()):
            if each not in found.values() and folder_of(each) in shown:
                found[_shortest(each)] = each
                waiting.append(each)
    return dict(sorted(found.items(), key=lambda item: _place(item[1])))


def of_block(folders: Iterable[str], named: Iterable[str]) -> dict[str, object]:
    """Return what a block shows: what it names, or else all of its folders that none names."""
    folders = set(folders)
    chosen = [id(each) for name in named for each in _expanded(name).values()]
    others = [id(each) for name in named_by_pages() for each in _expanded(name).values()]
    return {
        name: each
        for name, each in names().items()
        if id(each) in chosen or (folder_of(each) in folders and id(each) not in others)
    }


def folder_of(each: object) -> str:
    """Return the folder, or module, of the package that an object is defined in."""
    return each.__module__.split(".")[1]


def named_by_pages() -> list[str]:
    """Return the names in the blocks of the reference's pages."""
    return [name for block in _blocks() for name in block["names"].split()]


def folders_of_pages() -> list[str]:
    """Return the folders in the blocks of the reference's pages."""
    return [name for block in _blocks() for name in block["folders"].split()]


def _blocks() -> list[re.Match]:
    texts = (page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.md")))
    return [block for text in texts for block in _BLOCK.finditer(text)]


def summary(each: object) -> str:
    """Return the first line of a docstring, as Markdown."""
    return (inspect.getdoc(each) or "").partition("\n")[0].replace("``", "`").replace("|", "\\|")


def _expanded(name: str) -> dict[str, object]:
    """Return an object by its name; of a module, what it has."""
    found = find(name)
    if not isinstance(found, types.ModuleType):
        return {name: found}
    own = getattr(found, "__all__", None) or [
        key
        for key, value in vars(found).items()
        if not key.startswith("_") and getattr(value, "__module__", None) == found.__name__
    ]
    several = {}
    for key in own:
        each = getattr(found, key)
        if isinstance(each, types.ModuleType):
            # Of a package, only what the top level shows as a module.
            several |= _expanded(f"{name}.{key}") if name == "nengonet" else {}
        elif inspect.isclass(each) or inspect.isroutine(each):
            several[f"{name}.{key}"] = each
    return several


def _mentioned(each: object) -> list[type]:
    """Return the classes of nengonet that a function returns, or a class holds and returns."""
    found = []
    for owner, text in _annotations(each):
        scope = vars(importlib.import_module(owner))
        for word in _WORD.findall(text):
            first, *rest = word.split(".")
            value = scope.get(first)
            for part in rest:
                value = getattr(value, part, None)
            public = inspect.isclass(value) and not value.__name__.startswith("_")
            public = public and not typing.is_typeddict(value)  # a dict, when it runs
            if public and value.__module__.startswith("nengonet.") and value not in found:
                found.append(value)
    return found


def _annotations(each: object) -> Iterable[tuple[str, str]]:
    """Yield modules and annotations: of what is returned, of described fields and properties."""
    if not inspect.isclass(each):
        yield each.__module__, str(getattr(each, "__annotations__", {}).get("return", ""))
        return
    text = inspect.getdoc(each) or ""
    for key, value in vars(each).get("__annotations__", {}).items():
        described = re.search(rf"^(?:[\w, ]+, )?{key}(?:, [\w, ]+)? : (.*)$", text, re.MULTILINE)
        if described and set(_WORD.findall(described[1])) & set(_WORD.findall(str(value))):
            yield each.__module__, str(value)
    for key, value in vars(each).items():
        function = value.fget if isinstance(value, property) else getattr(value, "func", value)
        shown = key == "__getitem__" or not key.startswith("_")
        if shown and inspect.isfunction(function):
            yield function.__module__, str(function.__annotations__.get("return", ""))


def _shortest(each: type) -> str:
    parts = each.__module__.split(".")
    for n_parts in range(1, len(parts)):
        package = importlib.import_module(".".join(parts[:n_parts]))
        if getattr(package, each.__name__, None) is each:
            return f"{package.__name__}.{each.__name__}"
    return f"{each.__module__}.{each.__name__}"


def _place(each: object) -> tuple:
    """Return where an object is defined, so that tables follow the source."""
    try:
        return each.__module__, inspect.getsourcelines(each)[1]
    except (OSError, TypeError):
        return each.__module__, 0
