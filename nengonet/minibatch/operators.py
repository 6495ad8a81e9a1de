"""Batched steps of Nengo's operators: copies, products and Python functions.

A reference operator that also works on arrays with the batch as their last axis is called as it is.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import numpy as np
import scipy.sparse
from nengo.builder.operator import (
    BsrDotInc,
    Copy,
    DotInc,
    ElementwiseInc,
    Operator,
    Reset,
    SimPyFunc,
    SparseDotInc,
    TimeUpdate,
)
from nengo.builder.probe import SimProbe

from nengonet.exceptions import InputError
from nengonet.layers.protocol import known
from nengonet.minibatch.late import late_weights
from nengonet.minibatch.learning import late_product, own_product
from nengonet.minibatch.one_by_one import one_by_one
from nengonet.minibatch.registry import Context, Step, register, spikes_or_dense
from nengonet.minibatch.signals import Operands, as_bits, as_view, same_place

# A product goes over spikes only if less than this share of the inputs spiked. Otherwise the dense
# product is faster. Measured with 16 to 512 outputs, 100 and 250 examples.
_SCIPY_DENSITY, _SCIPY_OUTPUTS = 0.05, 256


def _kernel_density(n_outputs: int) -> float:
    return min(0.2, n_outputs / 1280)


@register(TimeUpdate)
@register(Reset)
def _as_reference(operator: Operator, context: Context) -> Step:
    return operator.make_step(context.signals, context.dt, None)


@register(SimProbe)
def _nothing(operator: SimProbe, context: Context) -> None:
    return None


@register(Copy)
def _copy(operator: Operator, context: Context) -> Step:
    late = late_weights(operator, context)
    if late is not None:
        return late.add
    return operator.make_step(Operands(context.signals), context.dt, None)


@register(ElementwiseInc)
def _elementwise(operator: ElementwiseInc, context: Context) -> Step:
    a, x = context.signals.operand(operator.A), context.signals.operand(operator.X)
    y = context.signals[operator.Y]
    return _increment(operator, context, y, lambda out: np.multiply(a, x, out=out))


def _increment(
    operator: Operator, context: Context, y: np.ndarray, compute: Callable[[np.ndarray], object]
) -> Step:
    """Return a step that adds the result of ``compute``, or only writes it."""
    if operator in context.assigning:
        return lambda: compute(y)
    product = np.empty(y.shape, y.dtype)

    def step_increment():
        compute(product)
        np.add(y, product, out=y)

    return step_increment


def _into(operator: Operator, context: Context, y: np.ndarray) -> Callable[[np.ndarray], object]:
    """Return a function that adds a product to ``y``, or writes it there."""
    if operator in context.assigning:
        return lambda product: np.copyto(y, product)
    return lambda product: np.add(y, product, out=y)


def weights_of(operator: DotInc, context: Context) -> np.ndarray | scipy.sparse.sparray:
    """Return the weights of a product as a matrix."""
    weights = context.signals[operator.A]
    if isinstance(operator, BsrDotInc):
        return scipy.sparse.bsr_array((weights, operator.indices, operator.indptr))
    if isinstance(weights, np.ndarray):
        return weights.reshape(-1, weights.shape[-1])
    return weights


def _operands(
    operator: DotInc, context: Context
) -> tuple[np.ndarray | scipy.sparse.sparray, np.ndarray, np.ndarray]:
    """Return the weights as a matrix, and views of ``x`` and ``y`` as matrices that fit it."""
    signals, weights = context.signals, weights_of(operator, context)
    x, y = signals.operand(operator.X), signals[operator.Y]
    n_rows, n_columns = weights.shape
    return weights, as_view(x, (n_columns, x.shape[-1])), as_view(y, (n_rows, y.shape[-1]))


@register(SparseDotInc)
@register(BsrDotInc)
def _sparse_dot(operator: DotInc, context: Context) -> Step:
    if context.signals.is_batched(operator.A):
        return one_by_one(operator, context)
    weights, x, y = _operands(operator, context)
    put = _into(operator, context, y)
    return lambda: put(weights @ x)


@register(DotInc)
def _dot(operator: DotInc, context: Context) -> Step:
    if operator.A.ndim == 0 or operator.X.ndim == 0:
        return _elementwise(operator, context)
    if context.signals.is_batched(operator.A):
        late = late_weights(operator, context)
        own = (operator, context)
        return own_product(*own) if late is None else late_product(*own, late)
    weights, x, y = _operands(operator, context)
    events = context.events_of(operator.X)
    if events is not None:
        return _event_product(operator, context, events, y)
    if x.shape[1] == y.shape[1] and y.flags.c_contiguous:
        dense = _increment(operator, context, y, lambda out: np.matmul(weights, x, out=out))
    else:
        dense = _sparse_dot(operator, context)
    if any(same_place(signal, operator.X) for signal in context.spiking):
        return _spike_product(operator, context, weights, x, y, dense)
    return dense


def event_rows(operator: DotInc, context: Context, height: np.floating) -> np.ndarray:
    """Return the numbers that one spike of each input adds to the product."""
    weights = context.signals[operator.A]
    weights = weights.reshape(-1, weights.shape[-1])
    return context.constant(
        (operator, "event rows", height), lambda: np.ascontiguousarray(weights.T) * height
    )


def _event_product(operator: Operator, context: Context, events, y: np.ndarray) -> Step:
    rows = event_rows(operator, context, y.dtype.type(events.height))
    if context.kernels is None:
        put = _into(operator, context, y)
        return lambda: put((events.as_matrix(y.dtype) @ rows).T)
    product, assign = context.kernels.event_product, operator in context.assigning
    return lambda: product(events.pixels, events.bounds, events.step, rows, y, assign)


def _spike_product(
    operator: Operator,
    context: Context,
    weights: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    dense: Step,
) -> Step:
    if context.kernels is None and (len(weights) < _SCIPY_OUTPUTS or y.dtype == np.float16):
        return dense

    def transposed() -> np.ndarray:
        make = functools.partial(np.ascontiguousarray, weights.T)
        return context.constant((operator, "transposed"), make)

    if context.kernels is not None:
        n_outputs, n_inputs = weights.shape

        @functools.cache
        def arguments() -> tuple:
            # All inputs are channels of one position, which reach the only position of the output.
            table = np.array([0, 1]), np.array([0]), np.array([0])
            sums = np.empty((context.kernels.LANES, 1, n_outputs), y.dtype)
            shape = (x, as_bits(x), (n_inputs, 1), (1, n_inputs), table)
            rows = transposed()[np.newaxis]
            return *shape, rows, sums, y, (n_outputs, 1), operator in context.assigning

        product, limit = context.kernels.spike_product, _kernel_density(n_outputs) * x.size
        return spikes_or_dense(operator, context, lambda: product(*arguments()), limit, dense)
    rows = transposed()
    put = _into(operator, context, y)

    def step_spikes_scipy():
        if np.count_nonzero(x) > _SCIPY_DENSITY * x.size:
            dense()
        else:
            put((scipy.sparse.csr_array(x.T) @ rows).T)

    return step_spikes_scipy


def is_batched_function(operator: Operator) -> bool:
    """Return whether the operator calls a Node's function that takes a whole minibatch."""
    return (
        isinstance(operator, SimPyFunc)
        and known(operator.fn, "batched", False)
        and None not in (operator.t, operator.x, operator.output)
    )


@register(SimPyFunc)
def _function(operator: SimPyFunc, context: Context) -> Step:
    if is_batched_function(operator):
        t, x = context.signals[operator.t], context.signals.operand(operator.x)
        output = context.signals[operator.output]
        # Without the reference's check for infinite numbers, which takes longer than adding a bias.
        return lambda: np.copyto(output, operator.fn(t.item(), x))
    context.one_by_one[operator] = "a function in Python"
    steps, functions = [], context.own(operator, operator.fn)
    if operator.x is None and operator.output is None and len(set(map(id, functions))) == 1:
        del functions[1:]  # a function of only the time is called once a step
    for example, function in enumerate(functions):
        single = copy.copy(operator)
        single.fn = function
        signals = Operands(context.signals, example)
        steps.append(single.make_step(signals, context.dt, None))

    def step_functions():
        try:
            for step in steps:
                step()
        except ValueError as error:
            if not context.objects or "read-only" not in str(error):
                raise
            raise InputError(
                f"{operator}: expected a function that does not write to arrays above 1 MB, of "
                f"which examples have no copies of their own, got: {error}"
            ) from error

    return step_functions
