"""Layers in a row: many steps of one layer, then as many of the next.

Where spikes only go forward, and reach the next layer within the same step, it makes no difference
whether all layers do one step after the other or one layer does many steps at a time. The second
is faster: the state of one example stays in the cache, spikes are handed on as a list, and Python
is called once for a hundred steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import DotInc, Operator, TimeUpdate
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal
from nengo.builder.transforms import GeneralConvInc

from nengonet.layers.inputs import BLOCK_STEPS
from nengonet.minibatch.convolutions import fan_out, has_fan_out
from nengonet.minibatch.inputs import PoissonEvents
from nengonet.minibatch.neuron_steps import kernel_arguments, kernel_of
from nengonet.minibatch.operators import event_rows, is_batched_function
from nengonet.minibatch.plan import PURE
from nengonet.minibatch.records import OutputRecord
from nengonet.minibatch.registry import Context, Step, label_of, maker_of
from nengonet.minibatch.signals import overlap, same_place, writes

# With more spikes than this per neuron and step, dense products in single steps are faster.
_DENSEST = 0.3
# Steps to begin with: who knows how many spikes there are. Later, as many as bring so many spikes.
_FIRST, _SPIKES = 10, 4_000_000
# Stretches whose spikes cannot be listed, before all steps are single ones.
_FAILURES = 3
_CACHE_LINE = 64  # bytes


@dataclasses.dataclass(frozen=True)
class Spikes:
    """Spikes of some steps."""

    rows: np.ndarray
    bounds: np.ndarray
    first: int = 0


Link = Callable[[Spikes, int], Spikes]


class _CannotList(Exception):
    """The spikes of a stretch cannot be listed: single steps can do it, or say why not."""


class Chain:
    """A network that is a row of layers, and what is computed from the last of them."""

    def __init__(
        self,
        source: Callable[[int], tuple[Spikes, int]],
        back: Callable[[int], None],
        links: list[Link],
        keeping: list[Callable[[Spikes], None]],
        states: list[np.ndarray],
        spread: Callable[[Spikes, int], None],
        rest: Sequence[Step],
        ahead: Callable[[int], None] | None,
        steady: list[tuple[OutputRecord, np.ndarray]],
        size: int,
    ) -> None:
        self._source, self._back, self._steady = source, back, steady
        self._links, self._keeping, self._states = links, keeping, states
        self._spread, self._rest, self._ahead = spread, rest, ahead
        self._size = size
        self._most = _FIRST
        self._failures = 0
        self.dense = False

    def advance(self, most: int) -> int:
        """Do at most ``most`` steps; return how many: 0 where the next needs a single step.

        Afterwards, ``dense`` tells that there were too many spikes for this to be fast.
        """
        before = [state.copy() for state in self._states]
        spikes, n_steps = self._source(min(most, self._most))
        total, found = 0, []
        try:
            for link in self._links:
                spikes = link(spikes, n_steps)
                found.append(spikes)
                total += spikes.bounds[-1, -1]
        except _CannotList:
            self._back(n_steps)
            for state, old in zip(self._states, before, strict=True):
                state[...] = old
            self._failures += 1
            self.dense = self._failures > _FAILURES
            return 0
        for keep, each in zip(self._keeping, found, strict=True):
            keep(each)
        if self._ahead is not None:
            self._ahead(n_steps)
        else:
            for step in range(n_steps):
                self._spread(spikes, step)
                for rest in self._rest:
                    rest()
        for record, output in self._steady:
            record.add(output, n_steps)
        self.dense = total > _DENSEST * self._size * n_steps
        self._most = int(np.clip(_SPIKES * n_steps / max(total, 1), _FIRST, BLOCK_STEPS))
        return n_steps


def find_links(
    operators: Sequence[Operator], context: Context
) -> tuple[list[tuple[Operator | None, SimNeurons]], list[Operator]]:
    """Return the products and neurons of the longest row of layers, and the other operators."""
    sources = [signal for signal, _ in context.events]
    rest = [
        operator
        for operator in operators
        if not (isinstance(operator, SimProcess) and operator.output in sources)
    ]
    links: list[tuple[Operator | None, SimNeurons]] = []
    before = context.events[0][0] if context.events else None
    while True:
        neurons, product = _next_link(rest, before, context)
        if neurons is None:
            return links, rest
        links.append((product, neurons))
        rest = [operator for operator in rest if operator not in (product, neurons)]
        before = neurons.output


def _next_link(
    operators: list[Operator], before: Signal | None, context: Context
) -> tuple[SimNeurons | None, Operator | None]:
    for neurons in operators:
        if not isinstance(neurons, SimNeurons) or not _has_stretch(neurons, context):
            continue
        if before is None:
            if neurons not in context.currents and not _is_written(neurons.J, operators):
                return neurons, None
            continue
        for product in operators:
            if _is_product(product, before, context) and _is_driven(neurons, product, context):
                return neurons, product
    return None, None


def _has_stretch(neurons: SimNeurons, context: Context) -> bool:
    return kernel_of(neurons, context) is not None and neurons.neurons.amplitude > 0


def _is_written(signal: Signal, operators: list[Operator]) -> bool:
    return any(overlap(place, signal) for operator in operators for place in writes(operator))


def _is_product(operator: Operator, before: Signal, context: Context) -> bool:
    if operator not in context.assigning or not same_place(operator.X, before):
        return False
    if isinstance(operator, GeneralConvInc):
        return has_fan_out(operator)
    return (
        type(operator) is DotInc
        and not context.signals.is_batched(operator.A)
        and operator.A.ndim == 2
    )


def _is_driven(neurons: SimNeurons, product: Operator, context: Context) -> bool:
    return neurons in context.currents and same_place(context.currents[neurons][2], product.Y)


def _can_follow(rest: list[Operator], links: list, context: Context) -> bool:
    """Tell whether the other operators only go on from the last layer, and need no Python."""
    *others, last = [neurons for _, neurons in links]
    hidden = [neurons.output for neurons in others] + [signal for signal, _ in context.events]
    for _, neurons in links:
        hidden += [neurons.J, *neurons.state.values()]
    hidden += [product.Y for product, _ in links if product is not None]
    for operator in rest:
        plain = isinstance(operator, (*PURE, TimeUpdate)) or is_batched_function(operator)
        touched = [*operator.reads, *writes(operator)]
        if not plain or any(overlap(signal, place) for signal in touched for place in hidden):
            return False
        if any(overlap(signal, last.output) for signal in writes(operator)):
            return False
    return True


def make_link(
    product: Operator | None, neurons: SimNeurons, height: float, context: Context
) -> Link:
    """Return what does some steps of one layer."""
    _, stretch = context.kernels.kernels_of(kernel_of(neurons, context))
    arguments = kernel_arguments(neurons, context)
    dtype = context.signals[neurons.output].dtype
    fan = _fan_out(product, context, dtype.type(height))

    def link(spikes: Spikes, n_steps: int) -> Spikes:
        given = (spikes.rows, spikes.bounds, spikes.first, n_steps, fan)
        rows, bounds, valid = stretch(*given, *arguments)
        if not valid:
            raise _CannotList
        return Spikes(rows, bounds)

    return link


def _keeping(
    neurons: SimNeurons, records: Sequence[OutputRecord], context: Context
) -> Callable[[Spikes], None]:
    dtype = context.signals[neurons.output].dtype
    height = dtype.type(neurons.neurons.amplitude / context.dt)

    def keep(spikes: Spikes) -> None:
        for record in records:
            record.add_spikes(spikes.rows, spikes.bounds, height, context.kernels)

    return keep


def _source_of(events: PoissonEvents) -> Callable[[int], tuple[Spikes, int]]:
    def source(most: int) -> tuple[Spikes, int]:
        first, n_steps = events.stretch(most)
        return Spikes(events.pixels, events.bounds, first), n_steps

    return source


def _no_spikes(batch: int) -> Callable[[int], tuple[Spikes, int]]:
    """Return the source of a first layer whose current is constant."""
    none = Spikes(np.empty(0, np.int32), np.zeros((batch, BLOCK_STEPS + 1), np.int64))
    return lambda most: (none, most)


def _fan_out(product: Operator | None, context: Context, height: np.floating) -> tuple:
    """Return what the kernels call so; what does not apply is empty."""
    dtype, no_numbers = height.dtype, np.empty(0, np.int64)
    dense, ways = np.empty((0, 0), dtype), (*3 * [no_numbers], np.empty((0, 0, 0), dtype))
    if isinstance(product, GeneralConvInc):
        ways = fan_out(product, context, height)
    elif product is not None:
        dense = _aligned(event_rows(product, context, height), context.kernels.WHOLE)
    return dense, *ways


def _aligned(rows: np.ndarray, whole: int) -> np.ndarray:
    """Return rows with zeros behind, each of which begins with a cache line.

    Loads that straddle two lines made sums of rows up to 1.3 times as slow.
    """
    n_rows, n = rows.shape
    shape = n_rows, n + -n % whole
    size = n_rows * shape[1] * rows.itemsize
    memory = np.zeros(size + _CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % _CACHE_LINE
    copy = memory[first : first + size].view(rows.dtype).reshape(shape)
    copy[:, :n] = rows
    return copy


def make_chain(
    operators: Sequence[Operator],
    records: Sequence[tuple[Signal, OutputRecord]],
    context: Context,
    named: Callable[[Callable, str], Callable],
) -> Chain | None:
    """Return the chain that does what the operators do, or None where they are no row of layers."""
    if context.kernels is None or len(context.events) > 1:
        return None
    links, others = find_links(operators, context)
    if not links or not _can_follow(others, links, context):
        return None
    source_signal, events = context.events[0] if context.events else (None, None)
    outputs = [neurons.output for _, neurons in links]
    by_output: list[list[OutputRecord]] = [[] for _ in links]
    steady, recordings = [], []
    for signal, record in records:
        at = [k for k, output in enumerate(outputs) if same_place(signal, output)]
        if at:
            by_output[at[0]].append(record)
        elif _is_written(signal, others):
            recordings.append(_recording(record, context.signals[signal]))
        elif record.keeps_steps:
            return None
        elif events is None:
            steady.append((record, context.signals[signal]))
        elif not same_place(signal, source_signal):
            return None
    made, keeping, states = [], [], []
    height = 1.0 if events is None else events.height
    for (product, neurons), kept in zip(links, by_output, strict=True):
        link = make_link(product, neurons, height, context)
        made.append(named(link, f"{neurons.output.name}, in stretches"))
        keeping.append(_keeping(neurons, kept, context))
        states += [context.signals[s] for s in (neurons.output, *neurons.state.values())]
        height = neurons.neurons.amplitude / context.dt
    rest = [
        named(step, f"{label_of(operator)}, after stretches")
        for operator in others
        if (step := maker_of(operator)(operator, context)) is not None
    ]
    if events is None:
        source = _no_spikes(context.batch)
    else:
        source = named(_source_of(events), f"{source_signal.name}, in stretches")
    last = context.signals[outputs[-1]]
    needs_last = any(overlap(s, outputs[-1]) for operator in others for s in operator.reads)
    size = sum(output.size for output in outputs) * context.batch
    return Chain(
        source,
        _nothing if events is None else events.back,
        made,
        keeping,
        states,
        _spreading(last, last.dtype.type(height), context.kernels) if needs_last else _nothing,
        [*rest, *recordings],
        None if needs_last or recordings else _ahead_of(others, context),
        steady,
        size,
    )


def _ahead_of(others: list[Operator], context: Context) -> Callable[[int], None] | None:
    """Return what lets the time go on by several steps, where there is nothing else to do."""
    if len(others) != 1 or not isinstance(others[0], TimeUpdate):
        return None
    (clock,) = others
    count, tick = context.signals[clock.step], maker_of(clock)(clock, context)

    def ahead(n_steps: int) -> None:
        count[...] += n_steps - 1
        tick()

    return ahead


def _nothing(*_: object) -> None:
    pass


def _spreading(
    signal: np.ndarray, height: np.floating, kernels: ModuleType
) -> Callable[[Spikes, int], None]:
    return lambda spikes, step: kernels.spread_events(
        spikes.rows, spikes.bounds, step, height, signal
    )


def _recording(record: OutputRecord, output: np.ndarray) -> Step:
    return lambda: record.add(output)
