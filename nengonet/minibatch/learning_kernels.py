"""Numba kernels of learned weights: see `nengonet.minibatch.late`.

Each weight is the result of the reference's own operations, one change after the other.
"""

from __future__ import annotations

from nengonet.minibatch.kernels import compiled, inlined
from nengonet.minibatch.late import OJA, OUTER


@inlined
def _add_changes(kind, weights, b, j, changes, first, last):
    """Add changes ``first`` to ``last`` to the weights of one example and one input."""
    post, pre, damping, factor, scale, forget = changes
    n = weights.shape[2]
    k = first
    if kind == OUTER:
        # Four changes at once, so that a weight is loaded and stored less often.
        while k + 4 <= last:
            c, d, e, f = pre[b, k, j], pre[b, k + 1, j], pre[b, k + 2, j], pre[b, k + 3, j]
            for i in range(n):
                weight = weights[b, j, i] + post[b, k, i] * c
                weight = weight + post[b, k + 1, i] * d
                weight = weight + post[b, k + 2, i] * e
                weights[b, j, i] = weight + post[b, k + 3, i] * f
            k += 4
        while k < last:
            c = pre[b, k, j]
            for i in range(n):
                weights[b, j, i] += post[b, k, i] * c
            k += 1
    elif kind == OJA:
        for k in range(first, last):
            c = pre[b, k, j]
            for i in range(n):
                weight = weights[b, j, i]
                change = (forget * weight) * damping[b, k, i] + post[b, k, i] * c
                weights[b, j, i] = weight + change
    else:
        for k in range(first, last):
            c, a = pre[b, k, j], factor[b, k]
            for i in range(n):
                weight, p = weights[b, j, i], damping[b, k, i]
                weights[b, j, i] = weight + a * (scale[i] * (p * c) - p * weight)


@compiled
def product(kind, weights, x, changes, done, applied, are_finite, total, y, assign):
    """Multiply each example's weights with its inputs; return whether all results are numbers.

    ``weights`` is ``(batch, n_inputs, n_outputs)``. The kernel reads only the weights of inputs
    that are not 0, or all weights if they may be infinite, because 0 times infinity is not a
    number. It first adds their changes up to ``applied``; ``done`` (batch, n_inputs) counts the
    changes that were added. ``total`` is working memory.
    """
    batch, n_inputs, n_outputs = weights.shape
    are_numbers = True
    for b in range(batch):
        for i in range(n_outputs):
            total[i] = 0
        for j in range(n_inputs):
            value = x[j, b]
            if value != 0 or not are_finite:
                if done[b, j] < applied:
                    _add_changes(kind, weights, b, j, changes, done[b, j], applied)
                    done[b, j] = applied
                for i in range(n_outputs):
                    total[i] += weights[b, j, i] * value
        for i in range(n_outputs):
            if assign:
                y[i, b] = total[i]
            else:
                y[i, b] += total[i]
            are_numbers &= total[i] == total[i]
    return are_numbers


@compiled
def add_all_changes(kind, weights, changes, done, applied, total):
    """Add all changes up to ``applied``; return whether all changed weights are finite."""
    batch, n_inputs, n_outputs = weights.shape
    for i in range(n_outputs):
        total[i] = 0
    for b in range(batch):
        for j in range(n_inputs):
            if done[b, j] < applied:
                _add_changes(kind, weights, b, j, changes, done[b, j], applied)
                done[b, j] = applied
                for i in range(n_outputs):
                    total[i] += weights[b, j, i] - weights[b, j, i]
    are_finite = True
    for i in range(n_outputs):
        are_finite &= total[i] == 0
    return are_finite


@inlined
def _changed(kind, weight, c, i, b, changes):
    """Return a weight after the one change that is kept."""
    post, pre, damping, factor, scale, forget = changes
    if kind == OUTER:
        return weight + post[i, b] * c
    if kind == OJA:
        return weight + ((forget * weight) * damping[i, b] + post[i, b] * c)
    p = damping[i, b]
    return weight + factor[b] * (scale[i] * (p * c) - p * weight)


@compiled
def product_of_few(kind, weights, x, changes, is_changed, total, y, assign):
    """Multiply each example's weights with its inputs; return whether all results are numbers.

    ``weights`` is ``(n_outputs, n_inputs, batch)``. If there is a change, it is added first.
    """
    n_outputs, n_inputs, batch = weights.shape
    pre = changes[1]
    are_numbers = True
    for i in range(n_outputs):
        for b in range(batch):
            total[b] = 0
        for j in range(n_inputs):
            if is_changed:
                for b in range(batch):
                    weights[i, j, b] = _changed(kind, weights[i, j, b], pre[j, b], i, b, changes)
            for b in range(batch):
                total[b] += weights[i, j, b] * x[j, b]
        for b in range(batch):
            if assign:
                y[i, b] = total[b]
            else:
                y[i, b] += total[b]
            are_numbers &= total[b] == total[b]
    return are_numbers


@compiled
def change_few(kind, weights, changes):
    """Add the change that is kept."""
    n_outputs, n_inputs, batch = weights.shape
    pre = changes[1]
    for i in range(n_outputs):
        for j in range(n_inputs):
            for b in range(batch):
                weights[i, j, b] = _changed(kind, weights[i, j, b], pre[j, b], i, b, changes)
