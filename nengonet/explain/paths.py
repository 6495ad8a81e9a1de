"""The map of a connection from one object to another: a product of known matrices.

A connection out of an Ensemble multiplies rates by decoders, any connection by its transform, and
one into an Ensemble by encoders. A function on a connection from a Node is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import nengo
import numpy as np
from nengo.connection import Neurons

from nengonet.ann.kinds import named
from nengonet.exceptions import InputError
from nengonet.explain.built import Built
from nengonet.layers.filters import filter_of
from nengonet.layers.graph import Item, owner
from nengonet.layers.transforms import Between

# Steps for the slope of a function, in terms of the size of its input.
_STEP = 1e-6


def is_direct(item: object) -> bool:
    """Whether this is an Ensemble in Direct mode, which passes values on as a Node does."""
    return isinstance(item, nengo.Ensemble) and isinstance(item.neuron_type, nengo.Direct)


def size_of(item: Item) -> int:
    """Return the number of an object's input values: one for each neuron, if it has neurons."""
    if isinstance(item, nengo.Node) or is_direct(item):
        return item.size_in
    return item.n_neurons


class Path:
    """One connection.

    It takes mean outputs of ``pre``, (n_samples, n). `carried` returns the input of the synapse,
    and `into` the drive of ``post`` from that, in units of its neurons' drive.
    """

    def __init__(self, connection: nengo.Connection, built: Built, dt: float) -> None:
        self.pre, self.post = owner(connection.pre_obj), owner(connection.post_obj)
        _check(connection)
        with named(connection):
            self.filter = filter_of(connection.synapse, dt)
            self._decoders, init = built.weights(connection)
        self.synapse, self.connection = connection.synapse, connection
        self._encoders, self._between, self._function = None, None, None
        solver, post = connection.solver, connection.post_obj
        to_ensemble = isinstance(post, nengo.Ensemble) and not is_direct(post)
        self.encoded = to_ensemble
        if self._decoders is not None and solver.weights and not solver.compositional:
            # The weights themselves, which hold the gain.
            gain = built.tuning(post)[0]
            scale = np.divide(1.0, gain, out=np.zeros(gain.shape), where=gain != 0)
            self._decoders = scale[:, None] * self._decoders
            self.width = len(gain)
            return
        if to_ensemble:
            with named(post):
                self._encoders = built.ensemble(post).encoders / post.radius
        self.width = post.size_in
        before = connection.pre_obj.size_out, connection.pre_slice
        if self._decoders is not None or connection.function is not None:
            before = connection.size_mid, slice(None)
        if self._decoders is not None and len(self._decoders) != connection.size_mid:
            raise InputError(
                f"{connection}: expected decoders of {connection.size_mid} values, got "
                f"{len(self._decoders)} from {solver}"
            )
        if self._decoders is None and connection.function is not None:
            self._function = _rows(connection.function, connection.size_mid, connection)
            self._taken = np.arange(connection.pre_obj.size_out)[connection.pre_slice].ravel()
        self._between = Between(connection, before, (post.size_in, connection.post_slice), init)

    def carried(self, outputs: np.ndarray, deviation: np.ndarray | None = None) -> np.ndarray:
        """Return the input of the synapse, for mean outputs of ``pre``.

        If a deviation from step to step is given, a function is averaged over it.
        """
        values = outputs
        if self._decoders is not None:
            values = outputs @ self._decoders.T
        elif self._function is not None:
            values = outputs[:, self._taken]
            if deviation is None or not np.any(deviation):
                values = self._function(values)
            else:
                values = _average(self._function, values, deviation[:, self._taken])
        return values if self._between is None else self._between.apply(values)

    def into(self, carried: np.ndarray) -> np.ndarray:
        """Return what drives ``post``, given the output of the synapse."""
        return carried if self._encoders is None else carried @ self._encoders.T

    def variance(self, outputs: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return the variance of the drive, for means and variances of independent outputs."""
        if self._function is not None:
            means = outputs[:, self._taken]
            variance = _variance(self._function, means, variance[:, self._taken])
        if self._decoders is None and self._encoders is None:
            return self._between.apply(variance, power=2)
        return variance @ self._squares.T

    @property
    def matrix(self) -> np.ndarray:
        """The weights, (n_post, n_pre), from the outputs of ``pre`` to the drive."""
        if self._function is not None:
            raise InputError(f"{self.connection}: expected weights, got a function of the output")
        return self._weights

    @functools.cached_property
    def _weights(self) -> np.ndarray:
        """The weights to the drive: from the outputs of ``pre``, or from those of a function."""
        weights = self._decoders
        if self._between is not None:
            matrix = self._between.matrix()
            weights = matrix.toarray() if weights is None else matrix @ weights
        return weights if self._encoders is None else self._encoders @ weights

    @functools.cached_property
    def _squares(self) -> np.ndarray:
        return self._weights**2


def _check(connection: nengo.Connection) -> None:
    """Refuse connections whose weights change, and connections to neurons in Direct mode."""
    if connection.learning_rule_type is not None:
        raise InputError(f"{connection}: cannot predict a connection with a learning rule")
    for end in (connection.pre_obj, connection.post_obj):
        if isinstance(end, Neurons) and is_direct(end.ensemble):
            raise InputError(f"{end.ensemble}: cannot predict Direct mode, which has no neurons")


def _rows(function: Callable, size: int, connection: nengo.Connection) -> Callable:
    """Return a function of values, row by row, as Nengo calls it."""

    def of_rows(values: np.ndarray) -> np.ndarray:
        made = np.empty((len(values), size))
        for row, found in zip(np.array(values, dtype=np.float64), made, strict=True):
            found[:] = np.ravel(function(row))
        return made

    if isinstance(function, np.ndarray):
        raise InputError(f"{connection}: Nengo cannot build points of a function without neurons")
    return of_rows


def _average(function: Callable, means: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Average a function over independent noise, by points on both sides of every mean.

    The points have the noise's means, variances and skewness: exact up to third powers of one
    input, and for products of two.
    """
    root, total = np.sqrt(means.shape[1]), 0.0
    for k in range(means.shape[1]):
        for sign in (-1, 1):
            moved = means.copy()
            moved[:, k] += sign * root * deviation[:, k]
            total = total + function(moved)
    return total / (2 * means.shape[1])


def _variance(function: Callable, means: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the variance after a function, from its slopes."""
    found = np.zeros(function(means).shape)
    if not np.any(variance):
        return found
    for k in range(means.shape[1]):
        step = _STEP * (1 + np.abs(means[:, k]))
        low, high = means.copy(), means.copy()
        low[:, k] -= step
        high[:, k] += step
        slope = (function(high) - function(low)) / (2 * step)[:, None]
        found += slope**2 * variance[:, [k]]
    return found
