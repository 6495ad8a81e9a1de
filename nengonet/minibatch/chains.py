"""Layers in a row: many steps of one layer, then as many of the next.

Where spikes only go forward, and reach the next layer within the same step, it makes no difference
whether all layers do one step after the other or one layer does many steps at a time. The second
is faster: the state of one example stays in the cache, spikes are handed on as a list, and Python
is called once for a hundred steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import DotInc, Operator, TimeUpdate
from nengo.builder.signal import Signal

from nengonet.encoding import BLOCK_STEPS
from nengonet.minibatch.inputs import PoissonEvents
from nengonet.minibatch.neuron_steps import stretch_of
from nengonet.minibatch.operators import event_rows
from nengonet.minibatch.records import OutputRecord
from nengonet.minibatch.registry import Context, Step
from nengonet.minibatch.signals import same_place

# With more spikes than this per neuron and step, dense products in single steps are faster.
_DENSEST = 0.3


@dataclasses.dataclass(frozen=True)
class Spikes:
    """Spikes of some steps.

    Attributes
    ----------
    rows : (n_spikes,) ndarray of int
        The neurons that spiked.
    bounds : (batch, at least first + n_steps + 1) ndarray of int
        Those of example ``b`` in step ``k``, counted from ``first``, are
        ``rows[bounds[b, first + k]:bounds[b, first + k + 1]]``.
    first : int
    """

    rows: np.ndarray
    bounds: np.ndarray
    first: int = 0


_NONE = Spikes(np.empty(0, np.int32), np.zeros((0, 0), np.int64))

Link = Callable[[Spikes, int], Spikes]


class Chain:
    """A network that is a row of layers.

    Parameters
    ----------
    tick : sequence of callable
        Count one step.
    source : callable or None
        Takes a number of steps; returns the spikes of the input, and how many steps these are.
        None where the first layer's current is constant.
    links : list of callable
        Each takes the spikes of some steps, and the number of steps, and returns those of the
        next layer.
    steady : list of (OutputRecord, ndarray)
        Outputs that stay the same.
    size : int
        Neurons of all links, in all examples.
    """

    def __init__(
        self,
        tick: Sequence[Step],
        source: Callable[[int], tuple[Spikes, int]] | None,
        links: list[Link],
        steady: list[tuple[OutputRecord, np.ndarray]],
        size: int,
    ) -> None:
        self._tick, self._source, self._links, self._steady = tick, source, links, steady
        self._size = size
        self._most = 10  # to begin with: who knows how many spikes there are
        self.dense = False

    def advance(self, most: int) -> int:
        """Do at most so many steps; return how many.

        Afterwards, ``dense`` tells that there were too many spikes for this to be fast.
        """
        n_steps = min(most, self._most)
        spikes = _NONE
        if self._source is not None:
            spikes, n_steps = self._source(n_steps)
        total = 0
        for link in self._links:
            spikes = link(spikes, n_steps)
            total += spikes.bounds[-1, -1]
        for record, output in self._steady:
            record.add(output, n_steps)
        for count in n_steps * list(self._tick):
            count()
        self.dense = total > _DENSEST * self._size * n_steps
        self._most = BLOCK_STEPS
        return n_steps


def find_links(
    operators: Sequence[Operator], context: Context
) -> list[tuple[DotInc | None, SimNeurons]] | None:
    """Return the products and neurons of a network that is a row of layers, else None.

    Parameters
    ----------
    operators : sequence of Operator
        Those that run at every step, in order.
    context : Context
        With its events, once the steps are made.
    """
    if context.kernels is None or len(context.events) > 1:
        return None
    sources = [signal for signal, _ in context.events]
    inputs = {operator for operator in context.event_only}
    rest = [op for op in operators if not isinstance(op, TimeUpdate) and op not in inputs]
    if len(rest) + len(inputs) + 1 != len(operators) or len(inputs) != len(sources):
        return None
    links: list[tuple[DotInc | None, SimNeurons]] = []
    before = sources[0] if sources else None
    while rest:
        product = rest.pop(0) if before is not None else None
        if product is not None and not _is_product(product, before, context):
            return None
        neurons = rest.pop(0) if rest else None
        if not isinstance(neurons, SimNeurons) or stretch_of(neurons, context) is None:
            return None
        if not _is_driven(neurons, product, context):
            return None
        links.append((product, neurons))
        before = neurons.output
    return links or None


def _is_product(operator: Operator, before: Signal, context: Context) -> bool:
    return (
        type(operator) is DotInc
        and operator in context.assigning
        and not context.signals.is_batched(operator.A)
        and operator.A.ndim == 2
        and same_place(operator.X, before)
    )


def _is_driven(neurons: SimNeurons, product: DotInc | None, context: Context) -> bool:
    if product is None:
        return neurons not in context.currents
    return neurons in context.currents and same_place(context.currents[neurons][2], product.Y)


def make_link(
    product: DotInc | None,
    neurons: SimNeurons,
    height: float,
    records: Iterable[OutputRecord],
    context: Context,
) -> Link:
    """Return what does some steps of one layer.

    Parameters
    ----------
    product : DotInc or None
        Its weights; None where the current is constant.
    neurons : SimNeurons
    height : float
        Of the spikes that come in.
    records : iterable of OutputRecord
    context : Context
    """
    output = context.signals[neurons.output]
    step = stretch_of(neurons, context)(neurons, context)
    spike_height = output.dtype.type(neurons.neurons.amplitude / context.dt)
    if product is None:
        weights = np.empty((0, len(output)), output.dtype)
    else:
        weights = event_rows(product, context, output.dtype.type(height))
    records = list(records)

    def link(spikes: Spikes, n_steps: int) -> Spikes:
        rows, bounds, valid = step(spikes.rows, spikes.bounds, spikes.first, n_steps, weights)
        if not valid:
            raise FloatingPointError(f"invalid value encountered in {neurons.neurons}")
        for record in records:
            record.add_spikes(rows, bounds, spike_height, context.kernels)
        return Spikes(rows, bounds)

    return link


def _source_of(events: PoissonEvents) -> Callable[[int], tuple[Spikes, int]]:
    def source(most: int) -> tuple[Spikes, int]:
        first, n_steps = events.stretch(most)
        return Spikes(events.pixels, events.bounds, first), n_steps

    return source


def make_chain(
    operators: Sequence[Operator],
    tick: Sequence[Step],
    records: Sequence[tuple[Signal, OutputRecord]],
    context: Context,
    named: Callable[[Link, str], Link],
) -> Chain | None:
    """Return the chain that does what the operators do, or None where they are no row of layers.

    Parameters
    ----------
    operators : sequence of Operator
        Those that run at every step, in order.
    tick : sequence of callable
        Count one step.
    records : sequence of (Signal, OutputRecord)
    context : Context
    named : callable
        Takes a link and its name, and returns it, perhaps timed.
    """
    links = find_links(operators, context)
    if links is None:
        return None
    source_signal, events = context.events[0] if context.events else (None, None)
    outputs = [neurons.output for _, neurons in links]
    by_output: list[list[OutputRecord]] = [[] for _ in links]
    steady = []
    for signal, record in records:
        at = [k for k, output in enumerate(outputs) if same_place(signal, output)]
        if at:
            by_output[at[0]].append(record)
        elif record.keeps_steps:
            return None
        elif events is None:
            steady.append((record, context.signals[signal]))
        elif not same_place(signal, source_signal):
            return None
    made, height = [], 1.0 if events is None else events.height
    for (product, neurons), kept in zip(links, by_output, strict=True):
        link = make_link(product, neurons, height, kept, context)
        made.append(named(link, f"{neurons.output.name}, in stretches"))
        height = neurons.neurons.amplitude / context.dt
    size = sum(output.size for output in outputs) * context.batch
    source = events and named(_source_of(events), f"{source_signal.name}, in stretches")
    return Chain(tick, source, made, steady, size)
