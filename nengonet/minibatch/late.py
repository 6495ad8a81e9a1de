"""Learned weights that are changed late: when a product or anything else reads them.

Nengo's rules change a matrix by products of two vectors. These vectors are kept instead of the
matrix of changes. They are added to the weights when those are needed: to the weights of inputs
that spike, or to all weights after some steps. The changes of a weight are the reference's, in the
same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import NamedTuple

import numpy as np
from nengo.builder.learning_rules import SimBCM, SimOja, SimPES, SimVoja
from nengo.builder.operator import Copy, DotInc, Operator
from nengo.builder.probe import SimProbe
from nengo.builder.signal import Signal

from nengonet.minibatch.registry import Context, Step, steps_as
from nengonet.minibatch.signals import Uses, overlap

# How a rule changes weights: `kind` of the kernels.
OUTER, OJA, VOJA = 0, 1, 2

# Steps whose changes are kept: few enough for the cache, enough to rarely update all weights.
_STEPS = 32
# From this number of outputs on, a kernel skips inputs that are 0.
_MANY = 16
# Without Numba and with fewer weights, calls for each example take longer than they save.
_SMALLEST = 4096


class Late(NamedTuple):
    """Weights that may be changed late, and the operators that write or read them."""

    weights: Signal
    delta: Signal
    rule: Operator
    add: Operator
    products: tuple[Operator, ...]

    @property
    def operators(self) -> tuple[Operator, ...]:
        """Return all of the operators."""
        return self.rule, self.add, *self.products


def find_late(
    operators: Iterable[Operator], probed: Iterable[Signal], with_kernels: bool
) -> list[Late]:
    """Return the weights that a single rule changes, and that only products and probes read."""
    operators = [operator for operator in operators if not steps_as(operator, SimProbe)]
    probed = {signal.base for signal in probed}
    uses, found = Uses(operators), []
    for rule in operators:
        if not steps_as(rule, SimPES, SimBCM, SimOja, SimVoja):
            continue
        readers = uses.readers(rule.delta)
        add = readers[0][1] if len(readers) == 1 else None
        if (
            [operator for _, operator in uses.writers(rule.delta)] != [rule]
            or not steps_as(add, Copy)
            or not (add.inc and add.src is rule.delta)
            or not (add.src_slice is add.dst_slice is None)
            or rule.delta.base in probed
        ):
            continue
        weights = add.dst
        products = [op for _, op in uses.readers(weights) if op is not rule]
        scale = getattr(rule, "scale", np.ones(1, weights.dtype))
        if (
            not (weights.is_view or rule.delta.is_view)
            and weights.ndim == 2
            and np.dtype(weights.dtype) in (np.float32, np.float64)
            and scale.dtype == weights.dtype
            and getattr(rule, "weights", weights) is weights
            and [operator for _, operator in uses.writers(weights)] == [add]
            and all(_is_product(each, weights) for each in products)
            and (with_kernels or weights.size >= _SMALLEST)
        ):
            found.append(Late(weights, rule.delta, rule, add, tuple(products)))
    return found


def _is_product(operator: Operator, weights: Signal) -> bool:
    return (
        steps_as(operator, DotInc)
        and operator.A is weights
        and operator.X.ndim == operator.Y.ndim == 1
        and not overlap(operator.X, weights)
    )


def lies_transposed(late: Late, with_kernels: bool) -> bool:
    """Return whether the weights of an input lie together, for a kernel that skips inputs."""
    return with_kernels and late.weights.shape[0] >= _MANY


class LateWeights:
    """Each example's weights, and the changes that they do not contain yet.

    Parameters
    ----------
    late : Late
    context : Context
    shape : callable
        Gives the shape of an array that keeps ``n`` numbers for each example, or one number.
    """

    def __init__(self, late: Late, context: Context, shape: Callable[..., tuple]) -> None:
        (rows, columns), dtype = late.weights.shape, late.weights.dtype
        self._array = context.signals[late.weights]
        self._kind, forget, scale = OUTER, 0, np.empty(0, dtype)
        if isinstance(late.rule, SimOja):
            self._kind, forget = OJA, -late.rule.beta
        elif isinstance(late.rule, SimVoja):
            self._kind, scale = VOJA, late.rule.scale
        self._post = np.empty(shape(0 if self._kind == VOJA else rows), dtype)
        self._pre = np.empty(shape(columns), dtype)
        self._damping = np.empty(shape(0 if self._kind == OUTER else rows), dtype)
        self._factor = np.empty(shape(), dtype)
        changes = self._post, self._pre, self._damping, self._factor
        self._changes = *changes, scale, dtype.type(forget)

    def record(
        self,
        pre: np.ndarray,
        post: np.ndarray | None = None,
        damping: np.ndarray | None = None,
        factor: np.ndarray | None = None,
    ) -> None:
        """Keep the factors of a change, (batch, n) each."""
        step = self._next()
        self._pre[step] = pre
        if post is not None:
            self._post[step] = post
        if damping is not None:
            self._damping[step] = damping
        if factor is not None:
            self._factor[step] = factor

    def _next(self) -> tuple:
        """Return the place of the next change."""
        raise NotImplementedError

    def add(self) -> None:
        """Let the recorded changes count from now on."""
        raise NotImplementedError

    def catch_up(self) -> None:
        """Add the changes that count to all weights."""
        raise NotImplementedError

    def product(self, x: np.ndarray, y: np.ndarray, assign: bool) -> Step:
        """Return the step that multiplies the current weights with ``x``."""
        raise NotImplementedError

    @staticmethod
    def _check(are_numbers: bool) -> None:
        if not are_numbers:
            raise FloatingPointError("invalid value encountered in a product")


class _ByInput(LateWeights):
    """Weights that a kernel changes when their input is not 0; now and then it changes all."""

    def __init__(self, late: Late, context: Context) -> None:
        batch, (rows, columns) = context.batch, late.weights.shape
        super().__init__(late, context, lambda *n: (batch, _STEPS, *n))
        self._weights = self._array.T  # (batch, n_inputs, n_outputs), in this order
        self._done = np.zeros((batch, columns), np.int64)
        self._total = np.empty(rows, self._array.dtype)
        self._recorded = self._applied = 0
        self._are_finite, self._kernels = True, _kernels()

    def _next(self) -> tuple:
        if self._recorded == _STEPS:
            self.catch_up()
            self._recorded = self._applied = 0
            self._done[...] = 0
        self._recorded += 1
        return slice(None), self._recorded - 1

    def add(self) -> None:
        self._applied = self._recorded

    def catch_up(self) -> None:
        arguments = self._weights, self._changes, self._done, self._applied, self._total
        self._are_finite &= self._kernels.add_all_changes(self._kind, *arguments)

    def product(self, x: np.ndarray, y: np.ndarray, assign: bool) -> Step:
        multiply, kind, weights = self._kernels.product, self._kind, self._weights

        def step_by_input():
            late = self._changes, self._done, self._applied, self._are_finite
            self._check(multiply(kind, weights, x, *late, self._total, y, assign))

        return step_by_input


class _OneChange(LateWeights):
    """Weights that keep one change until they are multiplied."""

    _is_kept = _counts = False

    def _next(self) -> tuple:
        self.catch_up()
        self._is_kept = True
        return (...,)

    def add(self) -> None:
        self._counts = self._is_kept

    def catch_up(self) -> None:
        if self._counts:
            self._is_kept = self._counts = False
            self._change()

    def _change(self) -> None:
        """Add the change that is kept."""
        raise NotImplementedError


class _OfFew(_OneChange):
    """Weights to few outputs, (n_outputs, n_inputs, batch) like other signals, for a kernel."""

    def __init__(self, late: Late, context: Context) -> None:
        super().__init__(late, context, lambda *n: (*n, context.batch))
        self._total = np.empty(context.batch, self._array.dtype)
        self._kernels = _kernels()
        # Recorded vectors have the batch first.
        self._post, self._pre, self._damping = self._post.T, self._pre.T, self._damping.T

    def _change(self) -> None:
        self._kernels.change_few(self._kind, self._array, self._changes)

    def product(self, x: np.ndarray, y: np.ndarray, assign: bool) -> Step:
        multiply, kind, weights = self._kernels.product_of_few, self._kind, self._array

        def step_of_few():
            changed, self._is_kept = self._counts, self._is_kept and not self._counts
            self._counts = False
            self._check(multiply(kind, weights, x, self._changes, changed, self._total, y, assign))

        return step_of_few


class _ByExample(_OneChange):
    """Weights (batch, n_outputs, n_inputs) that NumPy changes and multiplies in the cache."""

    def __init__(self, late: Late, context: Context) -> None:
        super().__init__(late, context, lambda *n: (context.batch, *n))
        self._weights = np.moveaxis(self._array, -1, 0)
        self._memory = np.empty((2, *late.weights.shape), self._array.dtype)

    def _change(self) -> None:
        for example in range(len(self._weights)):
            self._change_example(example)

    def _change_example(self, b: int) -> None:
        weights, (change, other) = self._weights[b], self._memory
        post, pre, damping, _, scale, forget = self._changes
        if self._kind == OUTER:
            np.multiply(post[b, :, None], pre[b], out=change)
        elif self._kind == OJA:
            np.multiply(forget, weights, out=change)
            np.multiply(change, damping[b, :, None], out=change)
            np.multiply(post[b, :, None], pre[b], out=other)
            np.add(change, other, out=change)
        else:
            np.multiply(damping[b, :, None], pre[b], out=change)
            np.multiply(scale[:, None], change, out=change)
            np.multiply(damping[b, :, None], weights, out=other)
            np.subtract(change, other, out=change)
            np.multiply(self._factor[b], change, out=change)
        np.add(weights, change, out=weights)

    def product(self, x: np.ndarray, y: np.ndarray, assign: bool) -> Step:
        products = np.empty(y.shape[::-1], y.dtype)

        def step_by_example():
            for b, column in enumerate(np.ascontiguousarray(x.T)):
                if self._counts:
                    self._change_example(b)
                np.dot(self._weights[b], column, out=products[b])
            if self._counts:
                self._is_kept = self._counts = False
            if assign:
                y[...] = products.T
            else:
                y[...] += products.T

        return step_by_example


def _kernels() -> ModuleType:
    from nengonet.minibatch import learning_kernels

    return learning_kernels


def late_weights(operator: Operator, context: Context) -> LateWeights | None:
    """Return the late weights that an operator changes, adds to or reads, if there are any."""
    late = context.late.get(operator)
    if late is None:
        return None
    with_kernels = context.kernels is not None
    cls = (
        _ByInput if lies_transposed(late, with_kernels) else _OfFew if with_kernels else _ByExample
    )
    return context.state(("late", late.weights), lambda: cls(late, context))


def catch_up(states: Mapping, weights: Signal | None = None) -> None:
    """Bring learned weights up to date: all late weights, or those of one signal."""
    late = states.values() if weights is None else [states.get(("late", weights))]
    # A value that is not a number is an error in the next product.
    with np.errstate(invalid="ignore", over="ignore"):
        for each in late:
            if isinstance(each, LateWeights):
                each.catch_up()


def finish(late: Iterable[Late], states: Mapping) -> set[Operator]:
    """Add every change, that of the last step too; return the operators that this replaces."""
    found = {each: states.get(("late", each.weights)) for each in late}
    for weights in filter(None, found.values()):
        weights.add()
    catch_up(states)
    return {each.add for each, weights in found.items() if weights is not None}
