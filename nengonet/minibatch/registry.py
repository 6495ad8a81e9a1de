"""The batched step of each class of operator, and the context that steps are made from.

A maker takes an operator and the `Context` and returns the step, a function without arguments. It
returns None if there is nothing to do. `register` adds a maker for an operator of your own.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
from nengo import Node
from nengo.builder import Model
from nengo.builder.operator import Operator
from nengo.builder.signal import Signal
from nengo.connection import LearningRule
from nengo.ensemble import Neurons

from nengonet.minibatch.signals import BatchSignals, same_place, writes

Step = Callable[[], None]

# Number of dense steps after a product over spikes has met too many of them.
DENSE_STEPS = 20


def spikes_or_dense(
    operator: Operator, context: Context, product: Callable[[], float], limit: float, dense: Step
) -> Step:
    """Return the step of a product over spikes, which is dense when there are too many."""
    dense_left = 0
    context.is_dense[operator] = lambda: dense_left > 0

    def step():
        nonlocal dense_left
        if dense_left > 0:
            dense_left -= 1
            dense()
        elif product() > limit:
            dense_left = DENSE_STEPS

    return step


class Constants(dict):
    """Values that follow from a model alone, made once for all threads."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()


@dataclass
class Context:
    """Everything that makers need besides the operator."""

    signals: BatchSignals
    dt: float
    seed: int
    examples: np.ndarray
    kernels: ModuleType | None
    constants: Constants
    states: dict[Hashable, object]
    images: dict[Operator, np.ndarray]
    objects: list[dict[Operator, object]]
    # Weights that are changed late, by operator: see `nengonet.minibatch.late`.
    late: dict[Operator, object] = field(default_factory=dict)
    # Operators that are stepped example by example, and why.
    one_by_one: dict[Operator, str] = field(default_factory=dict)
    # Functions that return whether an operator's product is dense now, as too many neurons spike.
    is_dense: dict[Operator, Callable[[], bool]] = field(default_factory=dict)
    # The decisions of `nengonet.minibatch.plan`.
    once: list[Operator] = field(default_factory=list)
    always: list[Operator] = field(default_factory=list)
    spiking: list[Signal] = field(default_factory=list)
    assigning: set[Operator] = field(default_factory=set)
    currents: dict[Operator, tuple[Signal, Signal, Signal]] = field(default_factory=dict)
    event_only: set[Operator] = field(default_factory=set)
    # The events that stand for the signals of Poisson inputs, once their steps are made.
    events: list[tuple[Signal, object]] = field(default_factory=list)

    @property
    def stretch_kernels(self) -> ModuleType:
        """The kernels that run many steps at a time."""
        from nengonet.minibatch import stretch_kernels

        return stretch_kernels

    @property
    def batch(self) -> int:
        """Number of examples."""
        return len(self.examples)

    def constant(self, key: Hashable, make: Callable[[], object]) -> object:
        """Return the value made under this key, or make it now."""
        if key not in self.constants:
            with self.constants.lock:
                if key not in self.constants:
                    self.constants[key] = make()
        return self.constants[key]

    def state(self, key: Hashable, make: Callable[[], object]) -> object:
        """Return the value made under this key since the last reset, or make it now."""
        if key not in self.states:
            self.states[key] = make()
        return self.states[key]

    def own(self, operator: Operator, shared: object) -> list:
        """Return each example's copy of the object that an operator calls, or the shared one."""
        return [each.get(operator, shared) for each in self.objects or self.batch * [{}]]

    def events_of(self, signal: Signal) -> object | None:
        """Return the events that stand for a signal, if there are any."""
        return next((each for place, each in self.events if same_place(place, signal)), None)


Maker = Callable[[Operator, Context], "Step | None"]
_MAKERS: dict[type[Operator], Maker] = {}


def register(operator_class: type[Operator]) -> Callable[[Maker], Maker]:
    """Register the batched step of an operator class.

    The decorated function takes the operator and a `Context`, and returns a function without
    arguments that does one step. ``context.signals[signal]`` is an array whose last axis is the
    batch, unless all examples share the signal (weights); ``context.signals.operand(signal)`` has
    a batch axis in either case, of length 1 for a shared signal.

    Parameters
    ----------
    operator_class : type
        A subclass of `nengo.builder.Operator`.

    Examples
    --------
    >>> from nengonet.minibatch import register
    >>> from nengo.builder import Operator
    >>> class Nothing(Operator):
    ...     pass
    >>> @register(Nothing)
    ... def make_step(operator, context):
    ...     return lambda: None
    """

    def decorate(maker: Maker) -> Maker:
        _MAKERS[operator_class] = maker
        return maker

    return decorate


def maker_of(operator: Operator) -> Maker | None:
    """Return the registered maker; None for a subclass with a step of its own."""
    cls = next((cls for cls in type(operator).__mro__ if cls in _MAKERS), None)
    return None if cls is None or not steps_as(operator, cls) else _MAKERS[cls]


def steps_as(operator: Operator, *classes: type[Operator]) -> bool:
    """Return whether an operator is of one of the classes, and has the step of that class."""
    return _step_as(type(operator), classes)


@functools.cache
def _step_as(kind: type[Operator], classes: tuple[type[Operator], ...]) -> bool:
    """Return the same for a class; each plan asks for it thousands of times."""
    make_step = getattr(kind, "make_step", None)
    return any(issubclass(kind, cls) and make_step is cls.make_step for cls in classes)


def label_of(operator: Operator) -> str:
    """Return the operator's class and what it writes."""
    written = [signal.name for signal in writes(operator)[:1]]
    return " -> ".join([type(operator).__name__, *written])


def name_of(operator: Operator, model: Model) -> str:
    """Return the Node, ensemble or connection that an operator was built for, or the operator."""
    for touched in (writes(operator), operator.reads):
        for key, signals in model.sig.items():
            if isinstance(key, Neurons) and any(signal in signals.values() for signal in touched):
                return str(key.ensemble)
            if isinstance(key, Node) and (
                signals.get("out") in touched
                or signals.get("in") in touched
                or getattr(operator, "fn", operator) is key.output
            ):
                return str(key)
            if isinstance(key, LearningRule) and signals.get("delta") in touched:
                return str(key.connection)
    return str(operator)
