"""Digests of all content that a saved run depends on; they are the same in every process.

`digest` walks through values, functions, objects and Nengo networks. A change anywhere gives
another digest: in the middle of a long array, in a function's code, or in the values it closes
over. Labels, probes and memory addresses do not count. Functions and classes of Python or of an
installed package are identified by name and version. A user's own functions and classes are
identified by their content, wherever they are imported from. Objects without content to compare
(a lock, an open file) are refused.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import hashlib
import importlib.util
import os
import pathlib
import sys
import types
from collections.abc import Callable, Iterator

import nengo
import numpy as np
from nengo.base import NengoObject, ObjView
from nengo.builder import Builder
from nengo.connection import LearningRule
from nengo.ensemble import Neurons
from nengo.params import FrozenObject, Parameter
from scipy import sparse

from nengonet.exceptions import InputError
from nengonet.minibatch.walking import cells_of, content_of, names_in, uses_of
from nengonet.nengo_internals import state_of
from nengonet.version import __version__
from nengonet.weights import pretrained_files

_INSTALLED = {"site-packages", "dist-packages"}
_CODE = (
    *("co_code", "co_flags", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount"),
    *("co_names", "co_varnames", "co_freevars", "co_cellvars", "co_consts", "co_exceptiontable"),
)
_CALLED = (types.FunctionType, classmethod, staticmethod, property, functools.cached_property)
_HELD_BY_CALLED = ("__func__", "fget", "fset", "func")
_GLOBAL_STREAM = np.random.rand.__self__
_LARGEST_FOLDER = 4 * 2**30  # bytes


def digest(value: object, what: str, without: dict[int, tuple[str, ...]] | None = None) -> str:
    """Return 16 hexadecimal digits that identify the content of a value."""
    walk = _Walk(without or {}, what)
    walk.feed(value)
    return walk.hash.hexdigest()[:16]


def file_digest(path: str | os.PathLike) -> str:
    """Return 16 hexadecimal digits that identify the content of a file."""
    path = pathlib.Path(path).resolve()
    found = path.stat()
    return _file_digest(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache
def _file_digest(path: pathlib.Path, size: int, changed: int) -> str:
    import pooch

    return pooch.file_hash(str(path))[:16]


@functools.lru_cache
def versions() -> dict[str, str]:
    """Return the versions of the packages on which the numbers of a run may depend.

    nengonet's version includes a digest of its code and weights, because a checkout changes
    between versions.
    """
    package, code = pathlib.Path(__file__).parents[1], hashlib.sha256()
    shown = (package / "cli", package / "plots")
    sources = [f for f in sorted(package.rglob("*.py")) if not {*shown} & {*f.parents}]
    for file in (*sources, *pretrained_files().values()):
        code.update(file.read_bytes())
    return {
        "nengonet": f"{__version__} (code {code.hexdigest()[:8]})",
        "Nengo": nengo.__version__,
        "NumPy": np.__version__,
        "Python": "{}.{}".format(*sys.version_info),
    }


class _Walk:
    """One walk through a value that puts every part into a hash.

    Each kind of value has a feeder, which writes the plain parts and returns the others.
    """

    def __init__(self, without: dict[int, tuple[str, ...]], place: str) -> None:
        self.hash = hashlib.sha256()
        self._without, self._place = without, [place]
        # Numbers of the objects met, by id. The objects are kept alive, so that ids stay unique.
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []

    def feed(self, value: object, name: str = "") -> None:
        """Add a value; messages use this name for it."""
        self._place.append(name)
        self._write(type(value).__qualname__)
        feeder = _EXACTLY.get(type(value))
        if feeder is None:
            kinds = (feeder for kind, feeder in _KINDS.items() if isinstance(value, kind))
            feeder = next(kinds, _Walk._feed_object)
        try:
            for part in feeder(self, value) or ():
                self.feed(part)
        except RecursionError:
            raise self._refusal(value) from None
        self._place.pop()

    def _write(self, data: str | bytes | memoryview) -> None:
        data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        self.hash.update(f"{len(data)} ".encode())
        self.hash.update(data)

    def _feed_items(self, value: list | tuple) -> None:
        """Add values; messages use their numbers."""
        if not isinstance(value, list) or not self._is_met(value):
            self._write(str(len(value)))
            for number, each in enumerate(value):
                self.feed(each, f"[{number}]")

    def _is_met(self, value: object) -> bool:
        """Return whether a value was met before; if so, add its number."""
        if id(value) in self._numbers:
            self._write(f"met as {self._numbers[id(value)]}")
            return True
        self._numbers[id(value)] = len(self._kept)
        self._kept.append(value)
        return False

    def _is_known(self, value: type | Callable) -> bool:
        """Return whether a function or class was met, or is identified by its package and name."""
        module, name = value.__module__, value.__qualname__
        found = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not value or not _is_installed(module):
            return self._is_met(value)
        version = getattr(sys.modules.get((module or "").partition(".")[0]), "__version__", "")
        self._write(f"{module} {name} {version}")
        return True

    def _refusal(self, value: object) -> InputError:
        return InputError(
            f"{self._where()}: expected content that a later run can be compared with (numbers, "
            f"arrays, functions, objects made of them), got {type(value).__qualname__}; make it "
            "inside the function, or leave save out"
        )

    def _where(self) -> str:
        return ": ".join(filter(None, self._place))

    def _feed_plain(self, value: object) -> None:
        self._write(f"{value:x}" if type(value) is int else repr(value))

    def _feed_array(self, value: np.ndarray | np.generic) -> None:
        array = np.asarray(value)
        self._write(repr((array.shape, np.lib.format.dtype_to_descr(array.dtype))))
        if array.dtype.hasobject:
            self._feed_items(array.ravel().tolist())
        elif array.nbytes:
            self._write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def _feed_set(self, value: set | frozenset) -> None:
        self._write(" ".join(sorted(digest(each, self._where(), self._without) for each in value)))

    def _feed_dict(self, value: dict) -> None:
        """Add keys and values; messages use the keys."""
        if not self._is_met(value):
            self._write(str(len(value)))
            for key, each in value.items():
                self.feed(key)
                self.feed(each, str(key)[:40])

    def _feed_path(self, value: os.PathLike) -> None:
        """Add a file's content instead of its path."""
        path = pathlib.Path(value)
        files = [path]
        if path.is_dir():
            files = sorted(each for each in path.rglob("*") if each.is_file())
            self._write(" ".join(each.relative_to(path).as_posix() for each in files))
        if sum(each.stat().st_size for each in files if each.exists()) > _LARGEST_FOLDER:
            raise self._refusal(value)
        for each in files:
            self._write(file_digest(each) if each.is_file() else str(each))

    def _feed_function(self, value: types.FunctionType) -> tuple | None:
        if self._is_known(value):
            return None
        held = {name: content_of(cell) for name, cell in cells_of(value).items()}
        attributes = {name: each for name, each in vars(value).items() if name != "__wrapped__"}
        made = value.__code__, value.__defaults__, value.__kwdefaults__
        return *made, held, dict(_named_by(value)), attributes

    def _feed_class(self, value: type) -> tuple | None:
        if self._is_known(value):
            return None
        members = sorted(vars(value).items())
        plain = {name for name, _ in members if not name.startswith("__")} - {"_abc_impl"}
        kept = {name: each for name, each in members if name in plain or isinstance(each, _CALLED)}
        return value.__bases__, kept

    def _feed_network(self, value: nengo.Network) -> None:
        if not self._is_met(value):
            self.feed(value.seed)
            # Nengo draws the seeds of probes after all others.
            for objects in (value.ensembles, value.nodes, value.connections, value.networks):
                self._write(str(len(objects)))
                for each in objects:
                    self.feed(each, str(each))

    def _feed_nengo(self, value: NengoObject | FrozenObject) -> tuple | None:
        """Add a Nengo object: its class, build function, parameters and plain attributes."""
        left_out = self._without.get(id(value), ())
        if isinstance(value, NengoObject):
            if self._is_met(value):
                return None
            left_out = ("label", *left_out)
        built = (Builder.builders[each] for each in type(value).__mro__ if each in Builder.builders)
        state = {name: each for name, each in state_of(value).items() if name not in left_out}
        return type(value), next(built, None), state

    def _feed_object(self, value: object) -> tuple | None:
        if hasattr(value, "detach") and hasattr(value, "numpy"):  # a tensor
            return (value.detach().cpu().numpy(),)
        for name in ("__wrapped__", "py_func"):  # of functools' caches, of Numba
            if isinstance(inner := getattr(value, name, None), types.FunctionType):
                return (inner,)
        # NumPy's own stream, as in a function that calls np.random, is identified by its name.
        if value is _GLOBAL_STREAM or self._is_met(value):
            return None
        try:
            reducer = copyreg.dispatch_table.get(type(value))
            reduced = reducer(value) if reducer else value.__reduce_ex__(4)
        except Exception:
            raise self._refusal(value) from None
        if isinstance(reduced, str):
            return getattr(value, "__module__", ""), reduced
        function, arguments, state, *items = (*reduced, None, None, None)[:5]
        if isinstance(state, dict):
            of_class = {name: getattr(type(value), str(name), None) for name in state}
            cached = {k for k, v in of_class.items() if isinstance(v, functools.cached_property)}
            state = {name: each for name, each in state.items() if name not in cached}
        made = {"made by": function, "of": arguments, "state": state}
        return made, *([*(each or ())] for each in items)


def _is_installed(module: str | None) -> bool:
    """Return whether a module is part of Python, of nengonet or of an installed package."""
    top = (module or "").partition(".")[0]
    if top in sys.stdlib_module_names or top == "nengonet":
        return True
    if module in sys.modules or not top:
        file = getattr(sys.modules.get(module), "__file__", None)
    else:
        spec = importlib.util.find_spec(top)
        file = None if spec is None else spec.origin
    return not _INSTALLED.isdisjoint(pathlib.Path(file or "").parts)


def _named_by(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """Yield the objects that a function names, in its own and in other modules of the user."""
    names = sorted(names_in(function))
    for how, name, value in uses_of(function):
        if how == "global":
            yield name, value
            yield from _in_module(value, names, set())
        elif how == "imports":
            for each in (name, f"{function.__globals__.get('__package__')}.{name}"):
                with contextlib.suppress(Exception):
                    if not _is_installed(each):
                        yield from _in_module(importlib.import_module(each), names, set())


def _in_module(module: object, names: list[str], seen: set[str]) -> Iterator[tuple[str, object]]:
    """Yield the objects with these names in a user's module and in the modules it reaches."""
    if isinstance(module, types.ModuleType) and module.__name__ not in seen:
        seen.add(module.__name__)
        if not _is_installed(module.__name__):
            for name in names:
                if hasattr(module, name):
                    yield f"{module.__name__}.{name}", getattr(module, name)
                    yield from _in_module(getattr(module, name), names, seen)


_PLAIN = (bool, int, float, complex, type(None), type(...), type(NotImplemented), range, slice)
_EXACTLY = {
    **dict.fromkeys(_PLAIN, _Walk._feed_plain),
    **dict.fromkeys((str, bytes), _Walk._write),
    **dict.fromkeys((list, tuple), _Walk._feed_items),
    **dict.fromkeys((set, frozenset), _Walk._feed_set),
    dict: _Walk._feed_dict,
}
_IN_A_CLASS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_KINDS = {
    (np.ndarray, np.generic): _Walk._feed_array,
    os.PathLike: _Walk._feed_path,
    types.CodeType: lambda _, code: [getattr(code, name, None) for name in _CODE],
    types.FunctionType: _Walk._feed_function,
    types.BuiltinFunctionType: lambda _, value: (value.__qualname__, value.__self__),
    types.MethodType: lambda _, value: (value.__self__, value.__func__),
    type: _Walk._feed_class,
    _CALLED: lambda _, value: [getattr(value, name, None) for name in _HELD_BY_CALLED],
    (types.ModuleType, *_IN_A_CLASS): lambda _, value: (value.__name__,),
    # The class itself, not the data of its objects in memory.
    Parameter: lambda _, value: (type(value), value.name, value.default, value.optional),
    nengo.Network: _Walk._feed_network,
    (NengoObject, FrozenObject): _Walk._feed_nengo,
    Neurons: lambda _, value: (value.ensemble,),
    ObjView: lambda _, value: (value.obj, value.slice),
    LearningRule: lambda _, value: (value.connection, value.learning_rule_type),
    (sparse.spmatrix, sparse.sparray): lambda _, value: (value.shape, *sparse.find(value)),
}
