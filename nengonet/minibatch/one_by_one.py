"""The reference's own step of an operator, for one example after the other.

Slow and exact: for every operator without a batched step. Each example has contiguous arrays of
its own, as the reference has; they are copied in before the step and out after it.
"""

from __future__ import annotations

import numpy as np
from nengo.builder.operator import Operator
from nengo.builder.signal import Signal

from nengonet.minibatch.registry import Context, Step
from nengonet.minibatch.signals import BatchSignals, overlap, writes


class _Scratch(dict):
    """One example's arrays, made for the signals that a step asks for."""

    def __init__(self, signals: BatchSignals, example: int) -> None:
        self._signals, self._example = signals, example

    def __missing__(self, signal: Signal) -> np.ndarray:
        array = self._signals[signal]
        if self._signals.is_batched(signal):
            array = np.array(array[..., self._example], order="C")
        self[signal] = array
        return array


def one_by_one(operator: Operator, context: Context) -> Step:
    """Return the step that runs the reference's for one example after the other."""
    signals, runs = context.signals, []
    # What is the only increment of a signal begins with 0.
    set_to_0 = operator.incs if operator in context.assigning else []
    for example, number in enumerate(context.examples):
        scratch = _Scratch(signals, example)
        rng = context.state(
            (operator, "rng", example),
            lambda number=number: np.random.RandomState((context.seed + int(number)) % 2**32),
        )
        step = operator.make_step(scratch, context.dt, rng)
        used = [signal for signal in scratch if signals.is_batched(signal)]
        written = [s for s in used if any(overlap(s, each) for each in writes(operator))]
        runs.append(
            (
                step,
                [(scratch[s], 0 if s in set_to_0 else signals[s][..., example]) for s in used],
                [(signals[s][..., example], scratch[s]) for s in written],
            )
        )

    def step_one_by_one():
        for step, copied_in, copied_out in runs:
            for mine, array in copied_in:
                mine[...] = array
            step()
            for array, mine in copied_out:
                array[...] = mine

    return step_one_by_one
