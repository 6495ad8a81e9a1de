"""Filters of what is the same in all steps, as rates are that follow a constant input.

A filter is linear. So its output in a step is the sum of its input and of its states before all
steps, each multiplied by a number that is the same for all neurons. What such a filter feeds
computes its product for these summands, once, and not for every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nengo.builder.signal import Signal

from nengonet.minibatch.registry import Context
from nengonet.minibatch.stages import Linear, Stage, Steady, Sum
from nengonet.minibatch.streams import Mixture
from nengonet.minibatch.terms import Term


class Filtered(Stage):
    """A filter of what is the same in all steps."""

    keeps_state, filters = True, ()

    def __init__(self, output: Signal, context: Context, term: Term) -> None:
        super().__init__(output, context)
        self._term, self._filter = term, term.filter
        self._given = Linear(output, context, Sum([term.unfiltered], [], context))

    @property
    def terms(self):
        """Return the term that it filters."""
        return [self._term]

    def load(self, lanes, kernels):
        """Return its states, with room for the input, and the factors of both in its states."""
        (states,) = self._filter.load(lanes, kernels)
        parts = np.concatenate([states, np.zeros_like(states[:, :1])], axis=1)
        return [parts, np.eye(parts.shape[1] - 1, parts.shape[1])]

    def store(self, arrays, lanes, kernels):
        """Write its states back."""
        parts, after = arrays
        self._filter.store([after.astype(self.dtype) @ parts], lanes, kernels)

    def last(self, chunk):
        """Return the output of its last step, if it is read a step later."""
        parts, after = chunk.states[self]
        is_late = self._filter.system[-1] and self._filter.operator.output is self.output
        return after[-1].astype(self.dtype) @ parts if is_late else None

    def run(self, chunk):
        """Return the outputs as a mixture."""
        parts, after = chunk.states[self]
        if self not in chunk.steady:
            chunk.steady[self] = self._given.run(chunk)[:, 0]
        parts[:, -1] = chunk.steady[self]
        factors = self._filter.responses(after, chunk.n_steps)
        # After a reset, its states are 0: nothing to add.
        factors[:, ~parts.any(axis=(0, 2))] = 0
        return Mixture(factors.astype(self.dtype), parts)


def linear_of(
    output: Signal, context: Context, terms: Sequence[Term], steady: Sequence[Steady]
) -> Stage:
    """Return the stage of a sum without neurons."""
    if len(terms) == 1 and not steady:
        (term,) = terms
        if term.filter is not None and term.scale is None and term.source.is_steady:
            return Filtered(output, context, term)
    return Linear(output, context, Sum(terms, steady, context))
