"""Batched steps of Nengo's learning rules, and products with each example's own weights.

Each number is the result of the reference's own operations in their order, so it is the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nengo.builder.learning_rules import SimBCM, SimOja, SimPES, SimVoja
from nengo.builder.operator import DotInc, Operator

from nengonet.minibatch.late import LateWeights, late_weights
from nengonet.minibatch.registry import Context, Step, register
from nengonet.minibatch.signals import as_view, filled


def own_product(operator: DotInc, context: Context) -> Step:
    """Return the product of each example's weights with its inputs."""
    signals = context.signals
    weights = np.moveaxis(signals[operator.A], -1, 0)
    x, y = signals.operand(operator.X), signals[operator.Y]
    n_inputs, assign = weights.shape[-1], operator in context.assigning
    weights = as_view(weights, (len(weights), weights[0].size // n_inputs, n_inputs))

    def step_own_product():
        # One matrix-vector product for each example, as in the reference.
        columns = np.ascontiguousarray(x.reshape(n_inputs, -1).T)[..., np.newaxis]
        product = (weights @ columns)[..., 0].T.reshape(y.shape)
        if assign:
            y[...] = product
        else:
            y[...] += product

    return step_own_product


def late_product(operator: DotInc, context: Context, late: LateWeights) -> Step:
    """Return the product of weights that are changed late."""
    x, y = context.signals.operand(operator.X), context.signals[operator.Y]
    return late.product(filled(x, (len(x), context.batch)), y, operator in context.assigning)


def _operands(operator: Operator, context: Context, *names: str) -> list[np.ndarray]:
    """Return signals with the batch axis first."""
    arrays = [context.signals.operand(getattr(operator, name)) for name in names]
    return [np.moveaxis(array, -1, 0) for array in arrays]


def _delta(operator: Operator, context: Context) -> np.ndarray:
    return np.moveaxis(context.signals[operator.delta], -1, 0)


def _outer(operator: Operator, context: Context, pre: np.ndarray, post: Callable) -> Step:
    """Return the step of a rule that changes weights by a product of two vectors."""
    late = late_weights(operator, context)
    if late is not None:
        return lambda: late.record(pre, post())
    delta = _delta(operator, context)
    return lambda: np.multiply(post()[:, :, None], pre[:, None, :], out=delta)


@register(SimPES)
def _pes(operator: SimPES, context: Context) -> Step:
    pre, error = _operands(operator, context, "pre_filtered", "error")
    alpha = -operator.learning_rate * context.dt / pre.shape[1]
    return _outer(operator, context, pre, lambda: alpha * error)


@register(SimBCM)
def _bcm(operator: SimBCM, context: Context) -> Step:
    pre, post, theta = _operands(operator, context, "pre_filtered", "post_filtered", "theta")
    alpha = operator.learning_rate * context.dt
    return _outer(operator, context, pre, lambda: alpha * post * (post - theta))


@register(SimOja)
def _oja(operator: SimOja, context: Context) -> Step:
    pre, post = _operands(operator, context, "pre_filtered", "post_filtered")
    alpha, beta = operator.learning_rate * context.dt, operator.beta
    late = late_weights(operator, context)
    if late is not None:
        return lambda: late.record(pre, alpha * post, alpha * post * post)
    (weights,), delta = _operands(operator, context, "weights"), _delta(operator, context)

    def step_oja():
        np.multiply(-beta * weights, (alpha * post * post)[:, :, None], out=delta)
        delta[...] += (alpha * post)[:, :, None] * pre[:, None, :]

    return step_oja


@register(SimVoja)
def _voja(operator: SimVoja, context: Context) -> Step:
    names = "pre_decoded", "post_filtered", "learning_signal"
    pre, post, learning = _operands(operator, context, *names)
    alpha, scale = operator.learning_rate * context.dt, operator.scale[:, None]
    late = late_weights(operator, context)
    if late is not None:
        return lambda: late.record(pre, None, post, alpha * learning[:, 0])
    (encoders,), delta = _operands(operator, context, "scaled_encoders"), _delta(operator, context)
    learning = learning.reshape(len(learning), 1, 1)

    def step_voja():
        outer = scale * (post[:, :, None] * pre[:, None, :])
        delta[...] = (alpha * learning) * (outer - post[:, :, None] * encoders)

    return step_voja
