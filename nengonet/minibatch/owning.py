"""Give each example its own copies of the Python objects that a network calls.

A function of a Node, a process or a neuron type may keep a state: in attributes, a closure, a
default value, a generator. If all examples called it in turn, their states would mix. This module
finds everything that such an object can change, and copies it for each example. It refuses
anything that cannot be copied. An object that cannot reach anything that changes is shared.
"""

from __future__ import annotations

import builtins
import copy
import functools
import gc
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import nengo
import numpy as np
from nengo.base import NengoObject
from nengo.builder import Model
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Operator, SimPyFunc
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal
from nengo.params import FrozenObject, Parameter

from nengonet.exceptions import InputError
from nengonet.layers.protocol import known
from nengonet.layers.showing import MadeInput
from nengonet.minibatch.neuron_steps import is_elementwise
from nengonet.minibatch.registry import maker_of, name_of
from nengonet.minibatch.walking import (
    UNBOUND,
    cells_of,
    content_of,
    is_gone,
    names_in,
    uses_of,
)
from nengonet.nengo_internals import state_of

# Packages whose functions keep no state between calls, unless they are bound to an object.
_TRUSTED = frozenset(
    "abc bisect builtins cmath collections copy dataclasses decimal enum fractions functools heapq "
    "itertools math nengo nengonet numbers numpy operator re scipy statistics string struct typing "
    "warnings".split()
)
_REFUSED_BUILTINS = frozenset(("__import__", "eval", "exec", "globals", "input", "open"))
_ATOMS = (
    type(None), type(Ellipsis), bool, int, float, complex, str, bytes, range, slice, np.generic,
    np.dtype, np.ufunc, type(np.concatenate), types.CodeType, NengoObject, Signal,
)  # fmt: skip
_DESCRIPTORS = (
    types.GetSetDescriptorType, types.MemberDescriptorType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.ClassMethodDescriptorType, Parameter,
)  # fmt: skip
# Larger arrays are not copied for each example: all examples share them, and none may write.
_LARGEST_COPY = 2**20  # bytes


def stateless(function: Callable) -> Callable:
    """Declare that a function keeps nothing from one call to the next, so examples may share it.

    A decorator for functions of Nodes (or classes of processes and neuron types) that
    `MinibatchSimulator` refuses because it cannot know this.
    """
    function._nengonet_stateless = True
    return function


class Root(NamedTuple):
    """An object that an operator calls, the attribute that holds it, and the methods called.

    Without an attribute, it is the operator itself, about which nothing else is known.
    """

    operator: Operator
    attribute: str
    kind: str
    method: str

    @property
    def value(self) -> object:
        """The object that is called."""
        return getattr(self.operator, self.attribute) if self.attribute else self.operator

    @property
    def original(self) -> object:
        """The object as it is now, to be copied even after `put` changes the operator."""
        return self.value if self.attribute else copy.copy(self.operator)

    def put(self, value: object) -> None:
        """Let the operator call another object, or take over the state of another operator."""
        if self.attribute:
            setattr(self.operator, self.attribute, value)
        else:
            vars(self.operator).update(vars(value))

    @property
    def is_sink(self) -> bool:
        """Whether none of its results come back into the network."""
        return self.attribute == "fn" and self.operator.output is None

    def __str__(self) -> str:
        """Return a name for the object in a message."""
        name = self.attribute == "fn" and _lookup(self.value, "__name__")
        return f"{self.kind} ({name or type(self.value).__name__})"


_UNKNOWN = ("", "an operator", "make_step")
_CALLED = {
    SimPyFunc: ("fn", "a function", "__call__"),
    SimProcess: ("process", "a process", "make_step"),
    SimNeurons: ("neurons", "a neuron type", "step"),
}


def roots_of(operators: Iterable[Operator]) -> list[Root]:
    """Return the Python objects that operators call, and the operators without a maker."""
    roots = []
    for operator in operators:
        if maker_of(operator) is None:
            roots.append(Root(operator, *_UNKNOWN))
            continue
        roots += [
            Root(operator, *called)
            for cls, called in _CALLED.items()
            if isinstance(operator, cls)
            # Neurons that are registered as element-wise keep no state.
            and not (cls is SimNeurons and is_elementwise(operator))
            # An object that takes a whole minibatch is not called for single examples. An object
            # made of an image is already each example's own.
            and not isinstance(getattr(operator, called[0]), MadeInput)
            and not known(getattr(operator, called[0]), "batched", False)
        ]
    return roots


class Own(NamedTuple):
    """The objects that each example has of its own."""

    objects: list[dict[Operator, object]]
    classes: list[tuple[type, dict]]

    def check(self) -> None:
        """Raise an `InputError` if a class changed, because copies share their class."""
        for cls, held in self.classes:
            for name, value in vars(cls).items():
                if held.get(name, held) is not value:
                    raise InputError(
                        f"{cls.__name__}.{name}: expected classes that stay the same while a "
                        "network runs, got one that changes, for all examples; hold what changes "
                        "in attributes of the instance"
                    )


def own_copies(roots: Sequence[Root], n: int, model: Model) -> Own:
    """Copy the objects that each of ``n`` examples must have of its own."""
    reaches = {root: _Reach(root) for root in roots}
    read = set().union(*(reaches[root].reached for root in roots if not root.is_sink))
    changing = {
        root
        for root, reach in reaches.items()
        if reach.changes and not (root.is_sink and reach.reached.isdisjoint(read))
    }
    more = changing
    while more:  # roots that reach the same objects are copied together
        shared = set().union(*(reaches[root].reached for root in more))
        more = {root for root in roots if reaches[root].reached & shared} - changing
        changing |= more
    reaches = {root: reach for root, reach in reaches.items() if root in changing}
    for root, reach in reaches.items():
        problem = reach.problem
        if not problem:
            try:
                copy.deepcopy(root.value, _memo([reach]))
            except Exception as error:  # a user's object may raise anything when copied
                problem = f"cannot be copied ({error})"
        if problem:
            raise InputError(
                f"{name_of(root.operator, model)}: expected {root} of which each example can "
                f"have its own copy, got one that {problem}; hold what changes in attributes or "
                "in a closure, or state with nengonet.minibatch.stateless that nothing does"
            )
    classes = {cls: dict(vars(cls)) for reach in reaches.values() for cls in reach.classes}
    objects = []
    for _ in range(n if reaches else 0):
        memo = _memo(reaches.values())
        objects.append({root.operator: copy.deepcopy(root.value, memo) for root in reaches})
    return Own(objects, list(classes.items()))


def _memo(reaches: Collection[_Reach]) -> dict[int, object]:
    """Return the memo of `copy.deepcopy`: functions, and the objects that all examples share."""
    memo = {id(value): value for reach in reaches for value in reach.shared}
    functions = {id(function): function for reach in reaches for function in reach.functions}
    bound = {id(value): value for reach in reaches for value in reach.bound}
    for array in (array for reach in reaches for array in reach.arrays):
        if array.nbytes > _LARGEST_COPY:
            memo[id(array)] = view = array.view()
            view.setflags(write=False)
    # Functions first, with empty cells, because a cell's content may lead back to a function.
    cells: dict[int, types.CellType] = {}
    for key, old in functions.items():
        closure = tuple(cells.setdefault(id(c), types.CellType()) for c in old.__closure__ or ())
        scope = _Scope(old.__globals__)
        memo[key] = types.FunctionType(old.__code__, scope, old.__name__, None, closure or None)
        memo[key].__qualname__, memo[key].__module__ = old.__qualname__, old.__module__
    for key, value in bound.items():
        memo[key] = getattr(copy.deepcopy(value.__self__, memo), value.__name__)
    for key, old in functions.items():
        new, own = memo[key], functools.partial(copy.deepcopy, memo=memo)
        for cell in old.__closure__ or ():
            if content_of(cell) is not UNBOUND:
                cells[id(cell)].cell_contents = own(cell.cell_contents)
        new.__defaults__, new.__kwdefaults__ = own(old.__defaults__), own(old.__kwdefaults__)
        new.__dict__.update(own(old.__dict__))
        new.__globals__.update(own(_changing_globals(old)))
    return memo


class _Scope(dict):
    """The copies of a function's globals; other names are looked up in the globals themselves."""

    def __init__(self, live: dict) -> None:
        super().__init__({"__builtins__": builtins})
        self._live = live

    def __missing__(self, name: str) -> object:
        return self._live[name]


def _changing_globals(function: types.FunctionType) -> dict[str, object]:
    read = {name: value for how, name, value in uses_of(function) if how == "global"}
    return {name: value for name, value in read.items() if _may_change(value)}


def _may_change(value: object) -> bool:
    if isinstance(value, types.FunctionType):
        return not _is_trusted(value.__module__)
    return not isinstance(value, (*_ATOMS, type, types.ModuleType))


def _lookup(value: object, name: str) -> object:
    try:
        return getattr(value, name, None)
    except Exception:  # a user's object may raise anything when looked up
        return None


def _is_trusted(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _TRUSTED


class _Reach:
    """The objects that calls of a root may change, found by a walk through all that it reaches.

    During the walk, an object is ``fixed`` if no copy can take its place. It is ``carried`` if
    unknown code can reach it.
    """

    def __init__(self, root: Root) -> None:
        self.changes, self.problem = False, None
        self.reached: set[int] = set()
        # Objects that `_memo` treats specially.
        self.functions: list[types.FunctionType] = []
        self.arrays: list[np.ndarray] = []
        self.bound: list[object] = []
        self.shared: list[object] = []
        self.classes: list[type] = []
        self._names = {root.method}
        self._seen: set[tuple] = set()
        self._todo: list[tuple[object, bool, bool]] = [(root.value, False, False)]
        while self._todo or self._add_members():
            self._look_at(*self._todo.pop())
        for k, one in enumerate(self.arrays):
            if any(np.may_share_memory(one, other) for other in self.arrays[:k]):
                self._refuse("holds two arrays that share memory")

    def _refuse(self, reason: str) -> None:
        self.changes, self.problem = True, self.problem or reason

    def _mark(self, value: object, fixed: bool, what: str) -> None:
        """Note an object that may change."""
        self.changes = True
        self.reached.add(id(value))
        if fixed:
            self._refuse(f"reaches {what}, which all examples would share")

    def _look_at(self, value: object, fixed: bool, carried: bool) -> None:
        if is_gone(value):
            return
        if isinstance(value, (NengoObject, Signal)):
            self.shared.append(value)
        key = id(value), fixed, carried
        if key in self._seen or isinstance(value, _ATOMS):
            return
        self._seen.add(key)
        if isinstance(value, types.ModuleType) or _lookup(value, "_nengonet_stateless"):
            self.shared.append(value)
        elif isinstance(value, type):
            if not _is_trusted(value.__module__):
                self.classes.append(value)
        elif isinstance(value, types.FunctionType):
            self._look_at_function(value, fixed)
        elif isinstance(value, types.MethodType):
            self._names.add(value.__func__.__name__)
            self._todo.append((value.__self__, fixed, True))
            if isinstance(value.__func__, types.FunctionType):
                self._todo.append((value.__func__, True, True))
        elif callable(value) and hasattr(type(value), "__self__"):
            self._look_at_bound(value, fixed)
        elif isinstance(value, np.ndarray):
            self._look_at_array(value, fixed, carried)
        else:
            self._look_at_instance(value, fixed, carried)

    def _look_at_function(self, function: types.FunctionType, fixed: bool) -> None:
        trusted, cells = _is_trusted(function.__module__), cells_of(function)
        if trusted and not (cells and function.__module__.startswith("nengo")):
            return
        self.reached |= {id(function), *map(id, cells.values())}
        if not fixed:
            self.functions.append(function)
        if function.__dict__:
            self._mark(function, fixed, f"attributes of the function {function.__name__}")
        if not trusted:
            self._names |= names_in(function)
            for use in uses_of(function):
                self._look_at_use(*use, function, fixed)
        held = [content_of(cell) for cell in cells.values()]
        held += [function.__defaults__, *(function.__kwdefaults__ or {}).values()]
        held += _changing_globals(function).values()
        self._todo += [(each, fixed, True) for each in held]

    def _look_at_use(
        self, how: str, name: str, value: object, function: types.FunctionType, fixed: bool
    ) -> None:
        if how == "writes attribute":
            self.changes = True
        elif how == "writes variable":
            self._mark(value, fixed, f"the variable {name}")
        elif how == "writes global":
            self._refuse(f"writes the global {name}")
        elif how == "module":
            self._refuse(f"uses the module {name} as a value")
        elif how == "builtin" and name in _REFUSED_BUILTINS:
            self._refuse(f"calls {name}")
        elif how == "imports" and not (_is_trusted(name) and "random" not in names_in(function)):
            self._refuse(f"imports {name}")
        elif how == "attribute":  # no copy can take its place
            self._todo.append((value, True, True))
            if _may_change(value) and not callable(value):
                self._mark(value, True, name)

    def _look_at_bound(self, value: object, fixed: bool) -> None:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            if not _is_trusted(getattr(value, "__module__", None)):
                self._refuse(f"calls {value.__module__}.{value.__name__}")
        elif not isinstance(owner, (*_ATOMS, type)):
            self._mark(owner, fixed, f"{type(owner).__name__}.{value.__name__}")
            self.bound.append(value)
            self._todo.append((owner, fixed, True))

    def _look_at_array(self, array: np.ndarray, fixed: bool, carried: bool) -> None:
        base = array
        while isinstance(base, np.ndarray) and not base.flags.writeable:
            base = base.base
        if base is None and not array.dtype.hasobject:
            self.shared.append(array)
        elif carried:
            self._mark(array, fixed, "an array")
            self.arrays.append(array)
            self._todo += [(v, fixed, True) for v in (array.flat if array.dtype.hasobject else ())]

    def _look_at_instance(self, value: object, fixed: bool, carried: bool) -> None:
        cls = type(value)
        if isinstance(value, (nengo.Network, nengo.Simulator)):
            self._refuse(f"reaches a {cls.__name__}")
            return
        known, frozen = _is_trusted(cls.__module__), isinstance(value, FrozenObject)
        if not known:
            self.classes.append(cls)
        carried = not known or carried and not frozen
        is_partial = isinstance(value, functools.partial)
        if carried and not (known and (is_partial or isinstance(value, (tuple, frozenset)))):
            self._mark(value, fixed, f"a {cls.__name__}")
        held = state_of(value).values() if frozen else gc.get_referents(value)
        # A cache is not copied.
        fixed = fixed or inspect.getattr_static(value, "cache_clear", None) is not None
        self._todo += [(each, fixed, carried or is_partial) for each in held if each is not cls]

    def _add_members(self) -> bool:
        """Look at the members of the classes found so far that calls can reach."""
        bases = {base: None for cls in self.classes for base in cls.__mro__}
        for base in (base for base in bases if not _is_trusted(base.__module__)):
            for name, member in vars(base).items():
                called = name in self._names or name.startswith("__") and callable(member)
                seen = (base, name) in self._seen or isinstance(member, _DESCRIPTORS)
                if called and not seen:
                    self._seen.add((base, name))
                    inner = (_lookup(member, part) for part in ("fget", "fset", "__func__"))
                    parts = [each for each in inner if each is not None] or [member]
                    self._todo += [(each, True, True) for each in parts]
        return bool(self._todo)
