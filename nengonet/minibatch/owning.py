"""What each example has of its own of the Python objects that a network calls.

A function of a Node, a process or a neuron type may keep a state: in attributes, a closure, a
default value, a generator. Called for all examples in turn, it would mix them up. Here everything
that such an object can change is found, and copied for each example; what cannot be copied is
refused. An object that can reach nothing that changes is shared.
"""

from __future__ import annotations

import builtins
import copy
import dis
import functools
import gc
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import nengo
import numpy as np
from nengo.base import NengoObject
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Operator, SimPyFunc
from nengo.builder.processes import SimProcess
from nengo.params import FrozenObject, Parameter

from nengonet.exceptions import InputError
from nengonet.minibatch.neuron_steps import steps_of
from nengonet.nengo_internals import state_of

# Packages whose functions keep no state between calls, except where they are bound to an object.
_TRUSTED = frozenset(
    "abc bisect builtins cmath collections copy dataclasses decimal enum fractions functools heapq "
    "itertools math nengo nengonet numbers numpy operator re scipy statistics string struct typing "
    "warnings".split()
)
_REFUSED_BUILTINS = frozenset(("__import__", "eval", "exec", "globals", "input", "open"))
_ATOMS = (
    type(None), type(Ellipsis), bool, int, float, complex, str, bytes, range, slice, np.generic,
    np.dtype, np.ufunc, type(np.concatenate), types.CodeType, NengoObject,
)  # fmt: skip
_DESCRIPTORS = (
    types.GetSetDescriptorType, types.MemberDescriptorType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.ClassMethodDescriptorType, Parameter,
)  # fmt: skip
# Larger arrays are not copied for each example: all share them, and none may write to them.
_LARGEST_COPY = 2**20  # bytes


def stateless(function: Callable) -> Callable:
    """State that a function keeps nothing from one call to the next, so that examples may share it.

    A decorator for functions of Nodes (or classes of processes and neuron types) that
    `MinibatchSimulator` refuses because it cannot know this.
    """
    function._nengonet_stateless = True
    return function


class Root(NamedTuple):
    """An object that an operator calls."""

    operator: Operator
    attribute: str
    methods: tuple[str, ...]

    @property
    def value(self) -> object:
        """The object."""
        return getattr(self.operator, self.attribute)

    @property
    def is_sink(self) -> bool:
        """Whether nothing that it computes comes back into the network."""
        return self.attribute == "fn" and self.operator.output is None


_CALLED = {
    SimPyFunc: ("fn", ("__call__",)),
    SimProcess: ("process", ("make_step",)),
    SimNeurons: ("neurons", ("step",)),
}


def roots_of(operators: Iterable[Operator]) -> list[Root]:
    """Return the Python objects that operators call."""
    return [
        Root(operator, *called)
        for operator in operators
        for cls, called in _CALLED.items()
        if isinstance(operator, cls)
        # What is registered as element-wise keeps no state.
        and not (cls is SimNeurons and steps_of(operator))
    ]


class Own(NamedTuple):
    """What examples have of their own."""

    objects: list[dict[Operator, object]]
    classes: list[tuple[type, dict]]

    def check(self) -> None:
        """Raise an `InputError` if a class changed, which no copy keeps apart."""
        for cls, held in self.classes:
            for name, value in vars(cls).items():
                if held.get(name, held) is not value:
                    raise InputError(
                        f"{cls.__name__}.{name}: expected classes that stay the same while a "
                        "network runs, got one that changes, for all examples; hold what changes "
                        "in attributes of the instance"
                    )


def own_copies(roots: Sequence[Root], n: int, name_of: Callable[[Operator], str]) -> Own:
    """Copy for each of ``n`` examples the objects that it must have of its own."""
    reaches = {root: _Reach(root) for root in roots}
    seen = set().union(*(reaches[root].reached for root in roots if not root.is_sink))
    changing = {
        root
        for root, reach in reaches.items()
        if reach.changes and not (root.is_sink and reach.reached.isdisjoint(seen))
    }
    while True:
        shared = set().union(*(reaches[root].reached for root in changing))
        more = {root for root in roots if reaches[root].reached & shared} - changing
        if not more:
            break
        changing |= more
    ordered = [root for root in roots if root in changing]
    for root in ordered:
        problem = reaches[root].problem or _copying_problem(root, reaches[root])
        if problem:
            raise InputError(
                f"{name_of(root.operator)}: expected {_described(root)} of which each example can "
                f"have its own copy, got one that {problem}; hold what changes in attributes or "
                "in a closure, or state with nengonet.minibatch.stateless that nothing does"
            )
    if not ordered:
        return Own([], [])
    classes = {cls: dict(vars(cls)) for root in ordered for cls in reaches[root].classes}
    objects = []
    for _ in range(n):
        memo = _memo([reaches[root] for root in ordered])
        objects.append({root.operator: copy.deepcopy(root.value, memo) for root in ordered})
    return Own(objects, list(classes.items()))


def _copying_problem(root: Root, reach: _Reach) -> str | None:
    try:
        copy.deepcopy(root.value, _memo([reach]))
    except Exception as error:  # whatever the copying of a user's objects raises
        return f"cannot be copied ({error})"
    return None


def _described(root: Root) -> str:
    kind = {"fn": "a function", "process": "a process", "neurons": "a neuron type"}[root.attribute]
    value = root.value
    name = (root.attribute == "fn" and _lookup(value, "__name__")) or type(value).__name__
    return f"{kind} ({name})"


def _memo(reaches: Sequence[_Reach]) -> dict[int, object]:
    """Return what `copy.deepcopy` takes for copied: functions, and what all examples share."""
    memo: dict[int, object] = {}
    functions: dict[int, types.FunctionType] = {}
    for reach in reaches:
        memo |= {id(value): value for value in reach.shared}
        functions |= {id(function): function for function in reach.functions}
        for array in reach.arrays:
            if array.nbytes > _LARGEST_COPY:
                view = array.view()
                view.setflags(write=False)
                memo[id(array)] = view
    cells: dict[int, types.CellType] = {}
    for function in functions.values():
        closure = [cells.setdefault(id(c), types.CellType()) for c in function.__closure__ or ()]
        scope = _Scope(function.__globals__)
        new = types.FunctionType(
            function.__code__, scope, function.__name__, closure=tuple(closure) or None
        )
        new.__qualname__, new.__module__ = function.__qualname__, function.__module__
        memo[id(function)] = new
    bound = {id(value): value for reach in reaches for value in reach.bound}
    for key, value in bound.items():
        memo[key] = getattr(copy.deepcopy(value.__self__, memo), value.__name__)
    for key, function in functions.items():
        new = memo[key]
        for old, cell in zip(function.__closure__ or (), new.__closure__ or (), strict=True):
            if not _is_empty(old):
                cell.cell_contents = copy.deepcopy(old.cell_contents, memo)
        new.__defaults__ = copy.deepcopy(function.__defaults__, memo)
        new.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
        new.__dict__.update(copy.deepcopy(function.__dict__, memo))
        for name, value in _globals_of(function).items():
            new.__globals__[name] = copy.deepcopy(value, memo)
    return memo


class _Scope(dict):
    """The copies of a function's globals, and behind them the globals themselves."""

    def __init__(self, live: dict) -> None:
        super().__init__({"__builtins__": builtins})
        self._live = live

    def __missing__(self, name: str) -> object:
        return self._live[name]


def _is_empty(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a function's code, and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _globals_of(function: types.FunctionType) -> dict[str, object]:
    """Return the globals that a function names, where they are objects that may be copied."""
    steps = (step for code in _codes(function.__code__) for step in dis.get_instructions(code))
    names = {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    scope = function.__globals__
    return {name: scope[name] for name in names if name in scope and _may_change(scope[name])}


def _may_change(value: object) -> bool:
    if isinstance(value, types.FunctionType):
        return not _is_trusted(value.__module__)
    return not isinstance(value, (*_ATOMS, type, types.ModuleType))


def _lookup(value: object, name: str) -> object:
    try:
        return getattr(value, name, None)
    except Exception:  # whatever the lookup of a user's object raises
        return None


def _is_trusted(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _TRUSTED


class _Reach:
    """What the calls of a root may change."""

    def __init__(self, root: Root) -> None:
        self.changes, self.problem = False, None
        self.reached: set[int] = set()
        self.functions: list[types.FunctionType] = []
        self.arrays: list[np.ndarray] = []
        self.bound: list[object] = []
        self.shared: list[object] = []
        self._seen: set[tuple[int, bool, bool]] = set()
        self.classes: list[type] = []
        self._names = set(root.methods)
        self._members: set[tuple[type, str]] = set()
        self._todo: list[tuple[object, bool, bool]] = [(root.value, False, False)]
        while self._todo or self._more_members():
            while self._todo:
                self._look_at(*self._todo.pop())
        for k, one in enumerate(self.arrays):
            if any(np.may_share_memory(one, other) for other in self.arrays[:k]):
                self._refuse("holds two arrays that share memory")

    def _refuse(self, reason: str) -> None:
        self.changes, self.problem = True, self.problem or reason

    def _look_at(self, value: object, fixed: bool, carried: bool) -> None:
        """Look at an object.

        It is ``fixed`` where no copy can take its place, and ``carried`` where code that is not
        known can reach it.
        """
        key = id(value), fixed, carried
        if key in self._seen or isinstance(value, _ATOMS):
            return
        self._seen.add(key)
        if _lookup(value, "_nengonet_stateless"):
            self.shared.append(value)
        elif isinstance(value, type):
            if not _is_trusted(value.__module__):
                self.classes.append(value)
        elif isinstance(value, types.ModuleType):
            self.shared.append(value)
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

    def _mark(self, value: object, fixed: bool, what: str) -> None:
        """Note something that may change."""
        self.changes = True
        self.reached.add(id(value))
        if fixed:
            self._refuse(f"reaches {what}, which all examples would share")

    def _look_at_function(self, function: types.FunctionType, fixed: bool) -> None:
        ours = _is_trusted(function.__module__)
        if ours and not (function.__closure__ and function.__module__.startswith("nengo")):
            return
        self.reached.add(id(function))
        if not fixed:
            self.functions.append(function)
        if function.__dict__:
            self._mark(function, fixed, f"attributes of the function {function.__name__}")
        for cell in function.__closure__ or ():
            self.reached.add(id(cell))
        if not ours:
            self._look_at_code(function, fixed)
        held = [c.cell_contents for c in function.__closure__ or () if not _is_empty(c)]
        held += [function.__defaults__, function.__kwdefaults__, *_globals_of(function).values()]
        self._todo += [(each, fixed, True) for each in held]

    def _look_at_code(self, function: types.FunctionType, fixed: bool) -> None:
        free = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        for code in _codes(function.__code__):
            self._names.update(code.co_names)
            value: object = None  # of the module that was loaded last
            for step in dis.get_instructions(code):
                name = step.argval
                if isinstance(value, types.ModuleType):
                    if step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                        value = self._attribute(value, name)
                        continue
                    self._refuse(f"uses the module {value.__name__} as a value")
                value = None
                if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                    self._refuse(f"writes the global {name}")
                elif step.opname in ("STORE_DEREF", "DELETE_DEREF") and name in free:
                    self._mark(free[name], fixed, f"the variable {name}")
                elif step.opname == "STORE_ATTR":
                    self.changes = True
                elif step.opname == "IMPORT_NAME":
                    if not _is_trusted(name) or "random" in code.co_names:
                        self._refuse(f"imports {name}")
                elif step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                    value = function.__globals__.get(name)
                    if name not in function.__globals__ and name in _REFUSED_BUILTINS:
                        self._refuse(f"calls {name}")
                elif step.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF") and name in free:
                    value = None if _is_empty(free[name]) else free[name].cell_contents
                if not isinstance(value, types.ModuleType):
                    value = None

    def _attribute(self, module: types.ModuleType, name: str) -> object:
        """Look at what is taken from a module, which no copy can take the place of."""
        value = getattr(module, name, None)
        if not isinstance(value, types.ModuleType):
            self._todo.append((value, True, True))
            if _may_change(value) and not callable(value):
                self._mark(value, True, f"{module.__name__}.{name}")
        return value

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
        trusted, frozen = _is_trusted(cls.__module__), isinstance(value, FrozenObject)
        if isinstance(value, (nengo.Network, nengo.Simulator)):
            self._refuse(f"reaches a {cls.__name__}")
            return
        if not trusted:
            self.classes.append(cls)
        unchanging = isinstance(value, (tuple, frozenset, functools.partial))
        if not trusted or carried and not frozen and not unchanging:
            self._mark(value, fixed, f"a {cls.__name__}")
        held = [each for each in gc.get_referents(value) if each is not cls]
        if frozen:
            held = list(state_of(value).values())
        carried = (carried and not frozen) or not trusted or isinstance(value, functools.partial)
        # A cache is not copied.
        fixed = fixed or inspect.getattr_static(value, "cache_clear", None) is not None
        self._todo += [(each, fixed, carried) for each in held]

    def _more_members(self) -> bool:
        """Look at what is called of the classes that were met."""
        for cls in self.classes:
            for base in cls.__mro__:
                if _is_trusted(base.__module__):
                    continue
                for name, member in vars(base).items():
                    special = name.startswith("__") and callable(member)
                    if (base, name) in self._members or not (name in self._names or special):
                        continue
                    if isinstance(member, _DESCRIPTORS):
                        continue
                    self._members.add((base, name))
                    for each in (
                        (member.fget, member.fset)
                        if isinstance(member, property)
                        else (getattr(member, "__func__", member),)
                    ):
                        self._todo.append((each, True, True))
        return bool(self._todo)
