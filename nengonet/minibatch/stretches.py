"""Layers in a row: a stretch of steps of one layer, then as many of the next.

Where spikes only go forward, and reach the next layer within the same step, it makes no difference
whether all layers do one step after the other or one layer does many steps at a time. The second
is faster: the state of one example stays in the cache, spikes are handed on as a list, and Python
is called once for a hundred steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import DotInc, Operator, TimeUpdate
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal
from nengo.builder.transforms import GeneralConvInc

from nengonet.layers.inputs import BLOCK_STEPS
from nengonet.minibatch.convolutions import fan_out, has_fan_out
from nengonet.minibatch.neuron_steps import kernel_arguments, kernel_of
from nengonet.minibatch.operators import event_rows, is_batched_function
from nengonet.minibatch.plan import PURE
from nengonet.minibatch.records import OutputRecord
from nengonet.minibatch.registry import Context, label_of, maker_of
from nengonet.minibatch.signals import overlap, same_place, writes
from nengonet.neurons import model_of

# With more spikes than this per neuron and step, dense products in single steps are faster.
_DENSEST = 0.3
# Steps to begin with: the number of spikes is unknown at first. Later, as many as bring this many.
_FIRST, _SPIKES = 10, 4_000_000
# Stretches whose spikes cannot be listed, before all steps are single ones.
_FAILURES = 3
_CACHE_LINE = 64  # bytes


class Spikes(NamedTuple):
    """Spikes of some steps: ``rows[bounds[b, first + step]:…]`` are those of example ``b``."""

    rows: np.ndarray
    bounds: np.ndarray
    first: int = 0


class _Layer(NamedTuple):
    """One layer of the row: the product that drives it, if any does, and its neurons."""

    product: Operator | None
    neurons: SimNeurons


class FusedRow:
    """A network that is a row of layers, and what is computed from the last of them."""

    def __init__(
        self,
        layers: list[_Layer],
        rest: list[Operator],
        context: Context,
        named: Callable[[Callable, str], Callable],
    ) -> None:
        signals = self._signals = context.signals
        self._kernels, self._layers, self._others = context.kernels, layers, rest
        self._input, self._events = context.events[0] if context.events else (None, None)
        no_spikes = np.zeros((context.batch, BLOCK_STEPS + 1), np.int64)
        self._no_spikes = Spikes(np.empty(0, np.int32), no_spikes)
        self._source = self._come_in
        if self._events is not None:
            self._source = named(self._come_in, f"{self._input.name}, in stretches")
        heights = [model_of(neurons.neurons).amplitude / context.dt for _, neurons in layers]
        self._heights = [
            signals[neurons.output].dtype.type(height)
            for height, (_, neurons) in zip(heights, layers, strict=True)
        ]
        before = [1.0 if self._events is None else self._events.height, *heights]
        self._links = [
            named(_link(layer, height, context), f"{layer.neurons.output.name}, in stretches")
            for layer, height in zip(layers, before, strict=False)
        ]
        changed = [(neurons.output, *neurons.state.values()) for _, neurons in layers]
        self._states = [signals[signal] for each in changed for signal in each]
        self._rest = [
            named(step, f"{label_of(operator)}, after stretches")
            for operator in rest
            if (step := maker_of(operator)(operator, context)) is not None
        ]
        self._kept: list[list[OutputRecord]] = [[] for _ in layers]
        self._steady: list[tuple[OutputRecord, np.ndarray]] = []
        self._most, self._failures, self.dense = _FIRST, 0, False

    def keep(self, signal: Signal, record: OutputRecord) -> bool:
        """Add to a record from now on; return False where stretches cannot."""
        for (_, neurons), kept in zip(self._layers, self._kept, strict=True):
            if same_place(signal, neurons.output):
                kept.append(record)
                return True
        array = self._signals[signal]
        if _is_written(signal, self._others):
            self._rest.append(lambda: record.add(array))
            return True
        if self._events is None and not record.keeps_steps:
            self._steady.append((record, array))
            return True
        # Events add to the record of the image input themselves.
        return not (self._events is None or record.keeps_steps) and same_place(signal, self._input)

    def advance(self, most: int) -> int:
        """Do at most ``most`` steps; return how many: 0 where the next needs a single step.

        Afterwards, ``dense`` tells that there were too many spikes for this to be fast.
        """
        before = [state.copy() for state in self._states]
        spikes, n_steps = self._source(min(most, self._most))
        found: list[Spikes] = []
        for link in self._links:
            spikes = link(spikes, n_steps)
            if spikes is None:
                return self._undo(before, n_steps)
            found.append(spikes)
        for records, each, height in zip(self._kept, found, self._heights, strict=True):
            for record in records:
                record.add_spikes(each.rows, each.bounds, height, self._kernels)
        self._go_on(spikes, n_steps)
        for record, output in self._steady:
            record.add(output, n_steps)
        total = sum(each.bounds[-1, -1] for each in found)
        size = sum(each.size for each in self._outputs)
        self.dense = total > _DENSEST * size * n_steps
        self._most = int(np.clip(_SPIKES * n_steps / max(total, 1), _FIRST, BLOCK_STEPS))
        return n_steps

    @property
    def _outputs(self) -> list[np.ndarray]:
        return [self._signals[neurons.output] for _, neurons in self._layers]

    def _come_in(self, most: int) -> tuple[Spikes, int]:
        """Return the spikes of `most` steps or fewer: none where the current is constant."""
        if self._events is None:
            return self._no_spikes, most
        first, n_steps = self._events.stretch(most)
        return Spikes(self._events.pixels, self._events.bounds, first), n_steps

    def _undo(self, before: list[np.ndarray], n_steps: int) -> int:
        """Go back, and leave to single steps what cannot be listed: they do it, or say why not."""
        if self._events is not None:
            self._events.back(n_steps)
        for state, old in zip(self._states, before, strict=True):
            state[...] = old
        self._failures += 1
        self.dense = self._failures > _FAILURES
        return 0

    def _go_on(self, spikes: Spikes, n_steps: int) -> None:
        """Let the other operators follow, step by step, or the clock alone at once."""
        if len(self._rest) == 1 and isinstance(self._others[0], TimeUpdate):
            self._signals[self._others[0].step][...] += n_steps - 1
            self._rest[0]()
            return
        last, height = self._outputs[-1], self._heights[-1]
        for step in range(n_steps):
            self._kernels.spread_events(spikes.rows, spikes.bounds, step, height, last)
            for rest in self._rest:
                rest()


def fuse_row(
    operators: Sequence[Operator],
    records: Sequence[tuple[Signal, OutputRecord]],
    context: Context,
    named: Callable[[Callable, str], Callable],
) -> FusedRow | None:
    """Return what does what the operators do, or None where they are no row of layers."""
    if context.kernels is None or len(context.events) > 1:
        return None
    layers, rest = _row_of(operators, context)
    if not layers or not _can_follow(rest, layers, context):
        return None
    row = FusedRow(layers, rest, context, named)
    return row if all([row.keep(signal, record) for signal, record in records]) else None


def _row_of(operators: Sequence[Operator], context: Context) -> tuple[list[_Layer], list[Operator]]:
    """Return the longest row of layers, and the other operators."""
    sources = [signal for signal, _ in context.events]
    rest = [
        operator
        for operator in operators
        if not (isinstance(operator, SimProcess) and operator.output in sources)
    ]
    layers: list[_Layer] = []
    before = sources[0] if sources else None
    while (layer := _next_layer(rest, before, context)) is not None:
        layers.append(layer)
        rest = [operator for operator in rest if operator not in layer]
        before = layer.neurons.output
    return layers, rest


def _next_layer(
    operators: list[Operator], before: Signal | None, context: Context
) -> _Layer | None:
    for neurons in operators:
        if (
            not isinstance(neurons, SimNeurons)
            or kernel_of(neurons, context) is None
            or model_of(neurons.neurons).amplitude <= 0
        ):
            continue
        current = context.currents.get(neurons)
        if before is None and current is None and not _is_written(neurons.J, operators):
            return _Layer(None, neurons)
        for product in () if before is None or current is None else operators:
            if _is_product(product, before, context) and same_place(current[2], product.Y):
                return _Layer(product, neurons)
    return None


def _is_written(signal: Signal, operators: list[Operator]) -> bool:
    return any(overlap(place, signal) for operator in operators for place in writes(operator))


def _is_product(operator: Operator, before: Signal, context: Context) -> bool:
    if operator not in context.assigning or not same_place(operator.X, before):
        return False
    if isinstance(operator, GeneralConvInc):
        return has_fan_out(operator)
    shared = type(operator) is DotInc and not context.signals.is_batched(operator.A)
    return shared and operator.A.ndim == 2


def _can_follow(rest: list[Operator], layers: list[_Layer], context: Context) -> bool:
    """Tell whether the other operators only go on from the last layer, and need no Python."""
    last = layers[-1].neurons.output
    hidden = [neurons.output for _, neurons in layers[:-1]] + [each for each, _ in context.events]
    hidden += [signal for _, neurons in layers for signal in (neurons.J, *neurons.state.values())]
    hidden += [product.Y for product, _ in layers if product is not None]
    for operator in rest:
        plain = isinstance(operator, (*PURE, TimeUpdate)) or is_batched_function(operator)
        touched = [*operator.reads, *writes(operator)]
        if not plain or any(overlap(signal, place) for signal in touched for place in hidden):
            return False
        if any(overlap(signal, last) for signal in writes(operator)):
            return False
    return True


def _link(layer: _Layer, height: float, context: Context) -> Callable[[Spikes, int], Spikes | None]:
    """Return what does some steps of one layer; None where its spikes cannot be listed."""
    _, stretch = context.kernels.kernels_of(*kernel_of(layer.neurons, context)[:3])
    current, gain, bias, *rest = kernel_arguments(layer.neurons, context)
    scale = [np.pad(each, (0, -len(each) % context.kernels.WHOLE)) for each in (gain, bias)]
    dtype = context.signals[layer.neurons.output].dtype
    fan = _fan_out(layer.product, context, dtype.type(height))

    def link(spikes: Spikes, n_steps: int) -> Spikes | None:
        given = (spikes.rows, spikes.bounds, spikes.first, n_steps, fan)
        rows, bounds, could = stretch(*given, current, *scale, *rest)
        return Spikes(rows, bounds) if could else None

    return link


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
