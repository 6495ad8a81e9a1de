"""The reference's own step of an operator, for one example after the other.

This is slow and exact, for every operator without a batched step. Each example has its own arrays,
which lie in memory as the reference's do. Arrays of matrices are the signals' own. Others are
copied in before the step and out after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Operator
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal

from nengonet.minibatch import neuron_steps, processes
from nengonet.minibatch.registry import Context, Step, maker_of, steps_as
from nengonet.minibatch.signals import BatchSignals, writes

if TYPE_CHECKING:
    from nengonet.minibatch.simulator import MinibatchSimulator


class _Arrays(dict):
    """One example's arrays, made when a step asks for their signals."""

    def __init__(self, signals: BatchSignals, example: int) -> None:
        self._signals, self._example = signals, example

    def __missing__(self, signal: Signal) -> np.ndarray:
        if not self._signals.is_batched(signal):
            array = self._signals[signal]
        elif signal.is_view:
            place = self[signal.base], signal.offset, signal.strides
            array = np.ndarray(signal.shape, signal.dtype, *place)
        else:
            array = self.theirs(signal)
            if not array.flags.c_contiguous:
                array = np.array(array, order="C")
        self[signal] = array
        return array

    def theirs(self, base: Signal) -> np.ndarray:
        """Return the example's part of a signal."""
        return self._signals[base][..., self._example]


class Run(NamedTuple):
    """A step of the reference, and the arrays copied before and after it, in pairs (to, from)."""

    step: Step
    copied_in: list[tuple[np.ndarray, np.ndarray]]
    copied_out: list[tuple[np.ndarray, np.ndarray]]
    set_to_0: list[np.ndarray]


def make_run(
    operator: Operator,
    signals: BatchSignals,
    example: int,
    dt: float,
    rng: np.random.RandomState | None,
    set_to_0: Sequence[Signal] = (),
) -> Run:
    """Make the step of an example; it first sets ``set_to_0``, signals that nothing else sets."""
    arrays = _Arrays(signals, example)
    step = operator.make_step(arrays, dt, rng)
    written = {signal.base for signal in writes(operator)}
    copied = [
        (arrays[base], arrays.theirs(base))
        for base in {signal.base for signal in arrays}
        if signals.is_batched(base) and not np.may_share_memory(arrays[base], arrays.theirs(base))
    ]
    back = {id(arrays[base]) for base in written if base in arrays}
    return Run(
        step,
        copied,
        [(theirs, mine) for mine, theirs in copied if id(mine) in back],
        [arrays[signal] for signal in set_to_0],
    )


def one_by_one(operator: Operator, context: Context) -> Step:
    """Return the step that runs the reference's step for one example after the other."""
    context.one_by_one[operator] = "no batched step"
    signals, made = context.signals, context.states.get((operator, "runs"))
    if made is None:
        # One of Nengo's own operators, with weights for each example: it draws nothing.
        context.one_by_one[operator] = "each example has weights of its own"
        zeros = operator.incs if operator in context.assigning else []
        examples = range(context.batch)
        made = [make_run(operator, signals, b, context.dt, None, zeros) for b in examples]

    def step_one_by_one():
        for step, copied_in, copied_out, set_to_0 in made:
            for mine, theirs in copied_in:
                mine[...] = theirs
            for mine in set_to_0:
                mine[...] = 0
            step()
            for theirs, mine in copied_out:
                theirs[...] = mine

    return step_one_by_one


def new_streams(simulator: MinibatchSimulator) -> dict:
    """Return the random streams of all examples, and the steps made here, which draw from them."""
    signals, dt, objects = simulator.signals, simulator.dt, simulator._own.objects

    def make(operator: Operator, place: int, rng: np.random.RandomState) -> Run:
        own = objects[place].get(operator, operator) if objects else operator
        return make_run(own, signals, place, dt, rng)

    operators, seed = simulator.step_order, int(simulator.seed)
    neurons = [operator for operator in operators if isinstance(operator, SimNeurons)]
    drawing = [each for each in operators if steps_as(each, SimProcess) or not maker_of(each)]
    streams = neuron_steps.new_streams(neurons, seed, simulator.examples)
    return streams | processes.new_streams(drawing, seed, simulator.examples, make, objects)


def own_processes(simulator: MinibatchSimulator) -> list[dict[Operator, object]]:
    """Return each example's own processes, among them those that show its image."""
    own, seed = simulator._own.objects, int(simulator.seed)
    for node, operator in simulator._facts.image_inputs.items():
        if node in simulator._images and not processes.is_shown_at_once(operator.process):
            own = own or [{} for _ in simulator.examples]
            shown = zip(own, simulator._images[node], simulator.examples, strict=True)
            for mine, image, example in shown:
                process = mine.get(operator, operator.process)
                mine[operator] = process.showing(image, int(example), seed)
    return own
