"""Run many steps at a time: some examples through all stages of a network, then the next examples.

In a network without feedback, two orders give the same result: all layers do one step after the
other, or one layer does many steps at a time. The second is faster. The state of one example stays
in the cache, spikes are passed on as lists, and Python is called once for many steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from nengo.builder.operator import Operator, TimeUpdate
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal

from nengonet.layers.inputs import BLOCK_STEPS
from nengonet.minibatch.flow import Flow
from nengonet.minibatch.operators import is_batched_function
from nengonet.minibatch.plan import PURE
from nengonet.minibatch.records import OutputRecord
from nengonet.minibatch.registry import Context, label_of, maker_of, steps_as
from nengonet.minibatch.signals import same_place, writes
from nengonet.minibatch.stages import Neurons, NotANumber, Stage, Stepped
from nengonet.minibatch.streams import Chunk, Spikes, Stream, as_block
from nengonet.minibatch.terms import Filter

# Steps of the first part, as the number of spikes is still unknown; then spikes of a part.
_FIRST, _SPIKES = 10, 8_000_000
# Bytes of the step-by-step output that is kept for all examples.
_KEPT_BYTES = 2**26
# Bytes of step-by-step output of stages, for the examples that are processed together.
_BLOCK_BYTES = 2**25
# Bytes of the states of such examples, and their least number: a cache line of float64.
_STATE_BYTES, _LANES = 2**23, 8
# Failed stretches that are allowed before all steps become single ones.
_FAILURES = 3


# The first function is asked whether it wants the output of a numbered step. The second is then
# given this output, (n, batch).
Watch = tuple[Callable[[int], bool], Callable[[np.ndarray], object]]


class Found(NamedTuple):
    """What is kept of a chunk's steps: the output of some stages, in parts of ``n_steps`` each."""

    lanes: slice
    parts: list[tuple[int, dict[Stage, Stream]]]
    # The signals after all steps, of stages that are read a step later.
    last: dict[Stage, np.ndarray | None]


class Stretches:
    """A network as stages, and the operators that follow them step by step."""

    def __init__(
        self,
        flow: Flow,
        rest: list[Operator],
        context: Context,
        named: Callable[[Callable, str], Callable],
    ) -> None:
        self._flow, self._context, self._kernels = flow, context, context.stretch_kernels
        self._rest, self._named = rest, named
        self._steps = [
            named(step, f"{label_of(operator)}, after stretches")
            for operator in rest
            if (step := maker_of(operator)(operator, context)) is not None
        ]
        # Stages whose signals are read step by step.
        self._boundary: list[Stage] = []
        self._records: list[tuple[Stage, OutputRecord]] = []
        self._watched: list[tuple[Stage, Watch]] = []
        self._watched_steady: list[tuple[np.ndarray, Watch]] = []
        self._steady: list[tuple[OutputRecord, np.ndarray]] = []
        self._added: list[Callable[[], object]] = []
        self._chunks: list[Chunk] = []
        self._most, self._failures, self.is_over = _FIRST, 0, False

    def keep(self, signal: Signal, record: OutputRecord) -> bool:
        """Add to a record from now on; return False if stretches cannot do so."""
        for stage in self._flow.inputs:
            if same_place(stage.output, signal) and not record.keeps_steps:
                return True  # events add to the record themselves
        if self._flow.is_constant(signal):
            self._steady.append((record, self._context.signals[signal]))
            return True
        stage = self._flow.stage_of(signal)
        if stage is not None:
            self._records.append((stage, record))
            return True
        if any(same_place(place, signal) for each in self._rest for place in writes(each)):
            array = self._context.signals[signal]
            self._added.append(lambda: record.add(array))
            return True
        return False

    def watch(self, signal: Signal, watch: Watch) -> bool:
        """Call ``watch`` after every step from now on; return False if stretches cannot do so."""
        if self._flow.is_constant(signal):
            self._watched_steady.append((self._context.signals[signal], watch))
            return True
        stage = self._flow.stage_of(signal)
        if stage is not None:
            self._watched.append((stage, watch))
        return stage is not None

    def begin(self) -> None:
        """Leave out stages that nothing needs, once all records are kept."""
        rest_reads = [signal for operator in self._rest for signal in operator.reads]
        self._boundary = [
            stage
            for stage in self._flow.stages
            if any(same_place(signal, stage.output) for signal in rest_reads)
        ]
        wanted = {stage for stage, _ in (*self._records, *self._watched)} | set(self._boundary)
        wanted |= {stage for stage in self._flow.stages if stage.keeps_state}
        wanted |= set(self._flow.inputs)
        stages = []
        # Each stage comes after those that feed it.
        for stage in reversed(self._flow.stages):
            if stage in wanted:
                wanted |= set(stage.sources)
                stages.append(stage)
        self._stages = stages[::-1]
        self._keepers = [*stages, *(each for stage in stages for each in stage.filters)]
        self._runs = {
            stage: self._named(stage.run, f"{stage.output.name}, in stretches")
            for stage in self._stages
        }
        itemsize = max((stage.dtype.itemsize for stage in self._stages), default=8)
        # Bytes of the states of one example.
        states = sum(stage.output.size for stage in self._stages) * 3 * itemsize
        self._n_examples = max(_LANES, _STATE_BYTES // max(states, 1))
        # Stages of which the output of every step is kept, until all examples are done.
        in_steps = [stage for stage, record in self._records if record.keeps_steps]
        watched = [stage for stage, _ in self._watched]
        self._kept = set(in_steps) | set(watched) | set(self._boundary)
        kept = sum(stage.output.size * stage.dtype.itemsize for stage in self._kept)
        self._most_kept = max(1, _KEPT_BYTES // max(kept * self._context.batch, 1))

    @property
    def dense(self) -> list[Operator]:
        """The operators whose products were dense in the last stretch, though spikes come in."""
        return [
            term.operator
            for stage in self._stages
            for term in stage.terms
            if term.was_dense and term.source.height is not None and term.operator is not None
        ]

    def advance(
        self, most: int, begin: int, tell: Callable[[int], object], *, keeps_states: bool = True
    ) -> int:
        """Do at most ``most`` steps after the first ``begin``; return how many.

        0 means that the next step must be a single one. ``tell`` is called with the number of
        steps done, summed over all examples. Without ``keeps_states``, nobody reads the states
        after ``most`` steps.
        """
        inputs = self._flow.inputs
        n_steps = min([most, self._most_kept, *(stage.events.ready for stage in inputs)])
        for stage in inputs:
            stage.first, _ = stage.events.stretch(n_steps)
        sums = [record.sums() for _, record in self._records]
        # Nothing else reads the states of one chunk after the other.
        passes, chunks, found = not (keeps_states or self._chunks) and n_steps == most, [], []
        try:
            for chunk in self._chunks or self._loaded():
                chunk.horizon = n_steps if passes else 0
                if not passes:
                    chunks.append(chunk)
                found.append(self._run(chunk, n_steps, begin, tell))
        except NotANumber:
            # A single step will say what is wrong.
            for stage in inputs:
                stage.events.back(n_steps)
            if self._chunks:
                for chunk in chunks:
                    chunk.begin_again()
            for (_, record), before in zip(self._records, sums, strict=True):
                record.go_back(before)
            self._failures += 1
            self.is_over = self._failures > _FAILURES
            return 0
        self._chunks = chunks
        for stage, record in self._records:
            if record.keeps_steps:
                record.keep_streams(_outputs(stage, found), n_steps, stage.dtype, self._kernels)
        for record, array in self._steady:
            record.add(array, n_steps)
        numbers = range(begin + 1, begin + n_steps + 1)
        for stage, watch in self._watched:
            self._show(stage, watch, found, numbers)
        for array, (wants, take) in self._watched_steady:
            for _ in filter(wants, numbers):
                take(array.copy())
        self._follow(found, n_steps)
        return n_steps

    def _loaded(self) -> Iterator[Chunk]:
        """Yield all examples in chunks, with the states in the signals."""
        n, size = self._context.batch, self._n_examples
        for at in range(0, n, size):
            lanes = slice(at, min(at + size, n))
            load = functools.partial(self._load, lanes)
            yield Chunk(lanes, load, states={keeper: load(keeper) for keeper in self._keepers})

    def _load(self, lanes: slice, keeper: Stage | Filter) -> list[np.ndarray]:
        return keeper.load(lanes, self._kernels)

    def finish(self) -> None:
        """Write the states of the stages back to the signals."""
        for chunk in self._chunks:
            for keeper, arrays in chunk.states.items():
                keeper.store(arrays, chunk.lanes, self._kernels)
        self._chunks = []

    def _next_most(self, chunk: Chunk) -> int:
        """Return a number of steps with neither too many spikes nor too many numbers."""
        listed = [each for each in chunk.streams.values() if isinstance(each, Spikes)]
        spikes_a_step = sum(each.n for each in listed) / chunk.n_steps
        dense = chunk.n * sum(
            stage.output.size * stage.dtype.itemsize for stage in self._stages if stage.is_block
        )
        most = min(_SPIKES / max(spikes_a_step, 1), _BLOCK_BYTES / max(dense, 1))
        return int(np.clip(most, 1, BLOCK_STEPS))

    def _run(self, chunk: Chunk, n_steps: int, begin: int, tell: Callable[[int], object]) -> Found:
        """Do a chunk's steps in parts, add to the records, and return what is kept."""
        found = Found(chunk.lanes, [], {})
        done, chunk.streams = 0, {}
        while done < n_steps:
            n = min(self._most, n_steps - done)
            chunk.begin_steps(n, begin, done)
            for stage in self._stages:
                if stage not in chunk.streams:
                    chunk.streams[stage] = self._runs[stage](chunk)
            for stage, record in self._records:
                # What is the same in all steps is added once.
                n_new = n if not stage.is_steady else n_steps if done == 0 else 0
                if n_new > 0:
                    record.add_stream(chunk.lanes, chunk.streams[stage], n_new, self._kernels)
            found.parts.append((n, {stage: chunk.streams[stage] for stage in self._kept}))
            self._most = self._next_most(chunk)
            # What is the same in all steps is kept.
            steady = [stage for stage in self._stages if stage.is_steady]
            chunk.streams = {stage: chunk.streams[stage] for stage in steady}
            done += n
            tell(n_steps * chunk.lanes.start + done * chunk.n)
        found.last.update((stage, stage.last(chunk)) for stage, _ in self._watched)
        return found

    def _blocks(
        self, stage: Stage, found: list[Found], *, after: bool = False
    ) -> list[tuple[slice, np.ndarray]]:
        """Return the output of a stage, (examples, n_steps, n), for each group of examples.

        The output is the one read within a step, or the one that stands there ``after`` the step.
        """
        blocks = []
        for each in found:
            parts = []
            for n, streams in each.parts:
                block = as_block(streams[stage], n, stage.output.size, self._kernels)
                parts.append(np.broadcast_to(block, (len(block), n, block.shape[2])))
            block = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            last = each.last[stage] if after else None
            if last is not None:
                block = np.concatenate([block[:, 1:], last[:, np.newaxis]], axis=1)
            blocks.append((each.lanes, block))
        return blocks

    def _show(self, stage: Stage, watch: Watch, found: list[Found], numbers: range) -> None:
        """Give a watch the steps of a stage that it wants."""
        wants, take = watch
        blocks = self._blocks(stage, found, after=True)
        for step in (step for step, number in enumerate(numbers) if wants(number)):
            output = np.empty((stage.output.size, self._context.batch), stage.dtype)
            for lanes, block in blocks:
                output[:, lanes] = block[:, step].T
            take(output)

    def _follow(self, found: list[Found], n_steps: int) -> None:
        """Let the other operators follow step by step, or advance only the clock, at once."""
        if len(self._rest) == 1 and isinstance(self._rest[0], TimeUpdate):
            self._context.signals[self._rest[0].step][...] += n_steps - 1
            self._steps[0]()
            return
        blocks = [
            (stage.array, *each) for stage in self._boundary for each in self._blocks(stage, found)
        ]
        for step in range(n_steps):
            for array, lanes, block in blocks:
                array[:, lanes] = block[:, step].T
            for follow in (*self._steps, *self._added):
                follow()


def _outputs(stage: Stage, found: list[Found]) -> Iterator[tuple[slice, slice, Stream]]:
    """Yield the examples, the steps and the output of each part of a stage's output."""
    for each in found:
        done = 0
        for n, streams in each.parts:
            yield each.lanes, slice(done, done + n), streams[stage]
            done += n


def stretches_of(
    operators: Sequence[Operator],
    records: Sequence[tuple[Signal, OutputRecord]],
    watched: Sequence[tuple[Signal, Watch]],
    context: Context,
    named: Callable[[Callable, str], Callable],
) -> Stretches | None:
    """Return the stretches that replace the operators, or None if only single steps can.

    ``watched`` signals are looked at after every step.
    """
    if context.kernels is None:
        return None
    flow = Flow(operators, context)
    rest = _left_over(flow)
    if rest is None or not any(isinstance(stage, Neurons | Stepped) for stage in flow.stages):
        return None
    found = Stretches(flow, rest, context, named)
    kept = all([found.keep(*each) for each in records])
    if not all([kept, *(found.watch(*each) for each in watched)]):
        return None
    found.begin()
    return found


def _left_over(flow: Flow) -> list[Operator] | None:
    """Return the operators that remain for single steps, or None if neurons are among them."""
    sources = [stage.output for stage in flow.inputs]
    done = flow.done
    rest = set()
    for operator in flow.operators:
        is_input = isinstance(operator, SimProcess) and operator.output in sources
        if operator in done or is_input or steps_as(operator, *PURE):
            continue
        if not isinstance(operator, TimeUpdate) and not is_batched_function(operator):
            return None
        rest.add(operator)
    wanted = [signal for operator in rest for signal in operator.reads]
    while wanted:
        signal = wanted.pop()
        if flow.is_constant(signal) or flow.stage_of(signal) is not None:
            continue
        for _, operator in flow.writers(signal):
            if operator in rest:
                continue
            if not steps_as(operator, *PURE):
                return None
            rest.add(operator)
            wanted += [*operator.reads, *operator.incs]
    return [operator for operator in flow.operators if operator in rest]
