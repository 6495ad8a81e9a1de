"""Batched steps of Nengo's learning rules, and products with weights of each example's own.

Each number is computed by the reference's own operations in their order, so that it is the same.
"""

from __future__ import annotations

import numpy as np
from nengo.builder.learning_rules import SimBCM, SimOja, SimPES, SimVoja
from nengo.builder.operator import DotInc

from nengonet.minibatch.registry import Context, Step, register
from nengonet.minibatch.signals import as_view


def own_product(operator: DotInc, context: Context) -> Step:
    """Return the product of each example's weights with its inputs."""
    signals = context.signals
    weights = np.moveaxis(signals[operator.A], -1, 0)
    x, y = signals.operand(operator.X), signals[operator.Y]
    n_inputs, assign = weights.shape[-1], operator in context.assigning
    weights = as_view(weights, (len(weights), weights[0].size // n_inputs, n_inputs))

    def step_own_product():
        # One matrix-vector product each, as the reference's.
        columns = np.ascontiguousarray(x.reshape(n_inputs, -1).T)[..., np.newaxis]
        product = (weights @ columns)[..., 0].T.reshape(y.shape)
        if assign:
            y[...] = product
        else:
            y[...] += product

    return step_own_product


def _operands(operator, context: Context, *names: str) -> list[np.ndarray]:
    """Return signals with a batch axis first, and the change of the weights."""
    signals = context.signals
    arrays = [signals.operand(getattr(operator, name)) for name in names]
    return [np.moveaxis(array, -1, 0) for array in (*arrays, signals[operator.delta])]


@register(SimPES)
def _pes(operator: SimPES, context: Context) -> Step:
    pre, error, delta = _operands(operator, context, "pre_filtered", "error")
    alpha = -operator.learning_rate * context.dt / pre.shape[1]

    def step_pes():
        np.multiply((alpha * error)[:, :, None], pre[:, None, :], out=delta)

    return step_pes


@register(SimBCM)
def _bcm(operator: SimBCM, context: Context) -> Step:
    names = "pre_filtered", "post_filtered", "theta"
    pre, post, theta, delta = _operands(operator, context, *names)
    alpha = operator.learning_rate * context.dt

    def step_bcm():
        np.multiply((alpha * post * (post - theta))[:, :, None], pre[:, None, :], out=delta)

    return step_bcm


@register(SimOja)
def _oja(operator: SimOja, context: Context) -> Step:
    names = "pre_filtered", "post_filtered", "weights"
    pre, post, weights, delta = _operands(operator, context, *names)
    alpha, beta = operator.learning_rate * context.dt, operator.beta

    def step_oja():
        np.multiply(-beta * weights, (alpha * post * post)[:, :, None], out=delta)
        delta[...] += (alpha * post)[:, :, None] * pre[:, None, :]

    return step_oja


@register(SimVoja)
def _voja(operator: SimVoja, context: Context) -> Step:
    names = "pre_decoded", "post_filtered", "scaled_encoders", "learning_signal"
    pre, post, encoders, learning, delta = _operands(operator, context, *names)
    alpha, scale = operator.learning_rate * context.dt, operator.scale[:, None]
    learning = learning.reshape(len(learning), 1, 1)

    def step_voja():
        outer = scale * (post[:, :, None] * pre[:, None, :])
        delta[...] = (alpha * learning) * (outer - post[:, :, None] * encoders)

    return step_voja
