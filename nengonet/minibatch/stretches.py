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
from nengonet.minibatch.registry import Context, label_of, maker_of, steps_as
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


class _Layer:
    """One layer of the row: the product that drives it, if any does, and its neurons."""

    def __init__(self, product: Operator | None, neurons: SimNeurons, context: Context) -> None:
        self.product, self.neurons = product, neurons
        self.output = context.signals[neurons.output]
        self.changed = [self.output, *(context.signals[each] for each in neurons.state.values())]
        self.height = self.output.dtype.type(model_of(neurons.neurons).amplitude / context.dt)
        self.records: list[OutputRecord] = []

    def link(self, height: float, context: Context) -> Callable[[Spikes, int], Spikes | None]:
        """Return what does some steps; it returns None where spikes cannot be listed.

        ``height`` is that of a spike that comes in.
        """
        kernel = kernel_of(self.neurons, context)
        _, stretch = context.kernels.kernels_of(*kernel[:3])
        current, gain, bias, *rest = kernel_arguments(self.neurons, kernel, context)
        scale = [np.pad(each, (0, -len(each) % context.kernels.WHOLE)) for each in (gain, bias)]
        fan = _fan_out(self.product, context, self.output.dtype.type(height))

        def link(spikes: Spikes, n_steps: int) -> Spikes | None:
            given = (spikes.rows, spikes.bounds, spikes.first, n_steps, fan)
            rows, bounds, could = stretch(*given, current, *scale, *rest)
            return Spikes(rows, bounds) if could else None

        return link


class FusedRow:
    """A network that is a row of layers, and what is computed from the last of them."""

    def __init__(
        self,
        layers: list[_Layer],
        rest: list[Operator],
        context: Context,
        named: Callable[[Callable, str], Callable],
    ) -> None:
        self._signals, self._kernels = context.signals, context.kernels
        self._layers, self._others = layers, rest
        self._input, self._events = context.events[0] if context.events else (None, None)
        self._come_in, height, self._links = self._constant, 1.0, []
        if self._events is not None:
            self._come_in = named(self._spiking, f"{self._input.name}, in stretches")
            height = self._events.height
        for layer in layers:
            link = layer.link(height, context)
            self._links.append(named(link, f"{layer.neurons.output.name}, in stretches"))
            height = layer.height
        self._rest = [
            named(step, f"{label_of(operator)}, after stretches")
            for operator in rest
            if (step := maker_of(operator)(operator, context)) is not None
        ]
        self._steady: list[tuple[OutputRecord, np.ndarray]] = []
        self._most, self._failures, self.dense = _FIRST, 0, False

    def keep(self, signal: Signal, record: OutputRecord) -> bool:
        """Add to a record from now on; return False where stretches cannot."""
        for layer in self._layers:
            if same_place(signal, layer.neurons.output):
                layer.records.append(record)
                return True
        array = self._signals[signal]
        if _is_written(signal, self._others):
            self._rest.append(lambda: record.add(array))
            return True
        if record.keeps_steps:
            return False
        if self._events is None:
            self._steady.append((record, array))
        # Events add to the record of the image input themselves.
        return self._events is None or same_place(signal, self._input)

    def advance(self, most: int) -> int:
        """Do at most ``most`` steps; return how many: 0 where the next needs a single step.

        Afterwards, ``dense`` tells that there were too many spikes for this to be fast.
        """
        changed = [array for layer in self._layers for array in layer.changed]
        before = [array.copy() for array in changed]
        spikes, n_steps = self._come_in(min(most, self._most))
        found: list[Spikes] = []
        for link in self._links:
            spikes = link(spikes, n_steps)
            if spikes is None:
                # Single steps can do what cannot be listed, or say why not.
                if self._events is not None:
                    self._events.back(n_steps)
                for array, old in zip(changed, before, strict=True):
                    array[...] = old
                self._failures += 1
                self.dense = self._failures > _FAILURES
                return 0
            found.append(spikes)
        for layer, each in zip(self._layers, found, strict=True):
            for record in layer.records:
                record.add_spikes(each.rows, each.bounds, layer.height, self._kernels)
        self._go_on(spikes, n_steps)
        for record, output in self._steady:
            record.add(output, n_steps)
        total = sum(each.bounds[-1, -1] for each in found)
        size = sum(layer.output.size for layer in self._layers)
        self.dense = total > _DENSEST * size * n_steps
        self._most = int(np.clip(_SPIKES * n_steps / max(total, 1), _FIRST, BLOCK_STEPS))
        return n_steps

    def _spiking(self, most: int) -> tuple[Spikes, int]:
        """Return the input's spikes in `most` steps or fewer, and the number of steps."""
        first, n_steps = self._events.stretch(most)
        return Spikes(self._events.pixels, self._events.bounds, first), n_steps

    def _constant(self, most: int) -> tuple[Spikes, int]:
        """Return the spikes of an input that sends none."""
        batch = self._layers[0].output.shape[1]
        return Spikes(np.empty(0, np.int32), np.zeros((batch, most + 1), np.int64)), most

    def _go_on(self, spikes: Spikes, n_steps: int) -> None:
        """Let the other operators follow, step by step, or the clock alone at once."""
        if len(self._rest) == 1 and isinstance(self._others[0], TimeUpdate):
            self._signals[self._others[0].step][...] += n_steps - 1
            self._rest[0]()
            return
        last = self._layers[-1]
        for step in range(n_steps):
            self._kernels.spread_events(spikes.rows, spikes.bounds, step, last.height, last.output)
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
    sources = [signal for signal, _ in context.events]
    rest = [op for op in operators if not (isinstance(op, SimProcess) and op.output in sources)]
    before = sources[0] if sources else None
    layers: list[_Layer] = []
    while (layer := _next_layer(rest, before, context)) is not None:
        layers.append(layer)
        rest = [operator for operator in rest if operator not in (layer.product, layer.neurons)]
        before = layer.neurons.output
    if not layers or not _can_follow(rest, layers, context):
        return None
    row = FusedRow(layers, rest, context, named)
    return row if all([row.keep(signal, record) for signal, record in records]) else None


def _next_layer(
    operators: list[Operator], before: Signal | None, context: Context
) -> _Layer | None:
    for neurons in operators:
        if not isinstance(neurons, SimNeurons) or kernel_of(neurons, context) is None:
            continue
        current = context.currents.get(neurons)
        if before is None and current is None and not _is_written(neurons.J, operators):
            return _Layer(None, neurons, context)
        for product in () if before is None or current is None else operators:
            if _is_product(product, before, context) and same_place(current[2], product.Y):
                return _Layer(product, neurons, context)
    return None


def _is_written(signal: Signal, operators: list[Operator]) -> bool:
    return any(overlap(place, signal) for operator in operators for place in writes(operator))


def _is_product(operator: Operator, before: Signal, context: Context) -> bool:
    if operator not in context.assigning or not same_place(operator.X, before):
        return False
    if isinstance(operator, GeneralConvInc):
        return has_fan_out(operator) and not context.signals.is_batched(operator.W)
    shared = type(operator) is DotInc and not context.signals.is_batched(operator.A)
    return shared and operator.A.ndim == 2


def _can_follow(rest: list[Operator], layers: list[_Layer], context: Context) -> bool:
    """Tell whether the other operators only go on from the last layer, and need no Python."""
    last = layers[-1].neurons.output
    hidden = [layer.neurons.output for layer in layers[:-1]] + [each for each, _ in context.events]
    hidden += [layer.product.Y for layer in layers if layer.product is not None]
    for layer in layers:
        hidden += [layer.neurons.J, *layer.neurons.state.values()]
    for operator in rest:
        plain = steps_as(operator, *PURE, TimeUpdate) or is_batched_function(operator)
        touched = [*operator.reads, *writes(operator)]
        if not plain or any(overlap(signal, place) for signal in touched for place in hidden):
            return False
        if any(overlap(signal, last) for signal in writes(operator)):
            return False
    return True


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
