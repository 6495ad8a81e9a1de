"""Which operators have to run, how often, and which of them run as one.

Everything here follows from what operators write and read; none of it changes a spike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import (
    BsrDotInc,
    Copy,
    DotInc,
    ElementwiseInc,
    Operator,
    Reset,
    SparseDotInc,
)
from nengo.builder.probe import SimProbe
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal
from nengo.builder.transforms import ConvInc, ConvTransposeInc

from nengonet.layers.protocol import known
from nengonet.minibatch.neuron_steps import is_elementwise, kernel_of
from nengonet.minibatch.processes import is_image
from nengonet.minibatch.registry import Context
from nengonet.minibatch.signals import BatchSignals, Uses, overlap, same_place, span, writes

# They only compute what they write from what they read.
_PRODUCTS = (DotInc, SparseDotInc, BsrDotInc, ElementwiseInc, ConvInc, ConvTransposeInc)
PURE = (*_PRODUCTS, Reset, Copy)


def make_plan(
    operators: Sequence[Operator],
    *,
    inputs: Iterable[Signal],
    varying: Iterable[Signal],
    kept: Iterable[Signal],
    context: Context,
) -> None:
    """Decide what has to run, in the context."""
    inputs, varying, kept = list(inputs), list(varying), list(kept)
    operators = [operator for operator in operators if not isinstance(operator, SimProbe)]
    operators = _without_zeros(operators, inputs)
    operators = _without_unread(operators, kept)
    static = _static(operators, varying)
    operators = _assign(operators, context)
    operators = _fuse_currents(operators, static, kept, context)
    _find_events(operators, kept, context)
    context.spiking = [operator.output for operator in operators if _is_spiking(operator)]
    context.once = [operator for operator in operators if operator in static]
    context.always = [operator for operator in operators if operator not in static]


def _is_spiking(operator: Operator) -> bool:
    if isinstance(operator, SimProcess):
        return known(operator.process, "amplitude") is not None
    return isinstance(operator, SimNeurons) and operator.neurons.spiking


def _is_poisson(operator: Operator) -> bool:
    return (
        isinstance(operator, SimProcess)
        and is_image(operator.process)
        and known(operator.process, "events") is not None
    )


def _is_zero_reset(operator: Operator) -> bool:
    return isinstance(operator, Reset) and operator.value == 0


def _factors(operator: Operator) -> list[Signal]:
    """Return the signals any of which makes the product 0."""
    if isinstance(operator, ElementwiseInc):
        return [operator.A, operator.X]
    if isinstance(operator, Copy):
        return [operator.src] if operator.inc else []
    return [operator.X]


def _without_zeros(operators: list[Operator], inputs: list[Signal]) -> list[Operator]:
    """Leave out increments by 0: the encoders of ensembles reached only through their neurons."""
    while True:
        uses = Uses(operators)

        def is_zero(signal: Signal, uses: Uses = uses) -> bool:
            writers = uses.writers(signal)
            return (
                bool(writers)
                and all(_is_zero_reset(operator) for _, operator in writers)
                and any(_covers(place, signal) for place, _ in writers)
                and not any(overlap(place, signal) for place in inputs)
            )

        left = [
            operator
            for operator in operators
            if not isinstance(operator, (*_PRODUCTS, Copy))
            or not any(is_zero(signal) for signal in _factors(operator))
        ]
        if len(left) == len(operators):
            return operators
        operators = left


def _covers(outer: Signal, inner: Signal) -> bool:
    if outer.base is not inner.base:
        return False
    contiguous = outer.size * outer.itemsize == span(outer)[1] - span(outer)[0]
    (low, high), (inner_low, inner_high) = span(outer), span(inner)
    return contiguous and low <= inner_low and inner_high <= high


def _is_partial(operator: Operator) -> bool:
    """Tell whether an operator sets a part of what it says that it sets."""
    return isinstance(operator, Copy) and operator.dst_slice is not None


def _without_unread(operators: list[Operator], kept: list[Signal]) -> list[Operator]:
    """Leave out what writes only where nobody reads."""
    needed = {operator for operator in operators if not isinstance(operator, PURE)}
    uses = Uses(operators)
    reads = [signal for operator in needed for signal in operator.reads] + kept
    while reads:
        signal = reads.pop()
        for _, operator in uses.writers(signal):
            if operator not in needed:
                needed.add(operator)
                reads.extend(operator.reads)
                # An increment stands on what was there before.
                reads.extend(operator.incs)
    return [operator for operator in operators if operator in needed]


def _static(operators: list[Operator], varying: list[Signal]) -> set[Operator]:
    """Return the operators whose result is the same at every step after a reset."""
    uses = Uses(operators)
    # A step that is not known may write to its current.
    varying = varying + [
        operator.J
        for operator in operators
        if isinstance(operator, SimNeurons) and not is_elementwise(operator)
    ]
    static = {
        operator
        for operator in operators
        if isinstance(operator, PURE)
        or (
            isinstance(operator, SimProcess)
            and operator.mode == "set"
            and is_image(operator.process)
            and known(operator.process, "steady") is not None
        )
    }

    def changes(signal: Signal) -> bool:
        if any(overlap(place, signal) for place in varying):
            return True
        return any(writer not in static for _, writer in uses.writers(signal))

    def is_set(signal: Signal) -> bool:
        return any(
            signal_set in writer.sets and not _is_partial(writer) and _covers(signal_set, signal)
            for signal_set, writer in uses.writers(signal)
        )

    # What is added to a signal that nothing sets stays there for the next step.
    static = {operator for operator in static if all(map(is_set, operator.incs))}
    while True:
        changing = set()
        for operator in static:
            reads = [] if isinstance(operator, SimProcess) else operator.reads
            if any(changes(signal) for signal in reads + writes(operator)):
                changing.add(operator)
        if not changing:
            return static
        static -= changing


def _assign(operators: list[Operator], context: Context) -> list[Operator]:
    """Let a signal's only increment set it, instead of a reset and an increment."""
    uses = Uses(operators)
    dropped = set()
    for reset in filter(_is_zero_reset, operators):
        others = [(place, op) for place, op in uses.writers(reset.dst) if op is not reset]
        if len(others) != 1:
            continue
        place, operator = others[0]
        if isinstance(operator, _PRODUCTS) and same_place(place, reset.dst):
            context.assigning.add(operator)
            dropped.add(reset)
    return [operator for operator in operators if operator not in dropped]


def _fuse_currents(
    operators: list[Operator],
    static: set[Operator],
    kept: list[Signal],
    context: Context,
) -> list[Operator]:
    """Compute ``bias + gain * weighted`` in the step of the neurons."""
    uses = Uses(operators)
    hoisted: dict[Operator, Operator] = {}
    dropped = set()
    for neurons in operators:
        if not isinstance(neurons, SimNeurons) or kernel_of(neurons, context) is None:
            continue
        read_by = [operator for _, operator in uses.readers(neurons.J)]
        looked_at = any(overlap(signal, neurons.J) for signal in kept)
        written = uses.writers(neurons.J)
        if read_by != [neurons] or looked_at or len(written) != 2:
            continue
        if not all(same_place(place, neurons.J) for place, _ in written):
            continue
        copy, product = (operator for _, operator in written)
        if isinstance(copy, ElementwiseInc):
            copy, product = product, copy
        if _is_bias(copy, context.signals) and _is_gain(product, neurons, context.signals):
            if copy in static and product in static:
                continue
            context.currents[neurons] = (copy.src, product.A, product.X)
            # The neurons take the place of the product: later, a synapse may have changed X.
            hoisted[product] = neurons
            dropped |= {copy, neurons}
    return [hoisted.get(operator, operator) for operator in operators if operator not in dropped]


def _is_bias(operator: Operator, signals: BatchSignals) -> bool:
    return (
        isinstance(operator, Copy)
        and not operator.inc
        and operator.src_slice is None
        and operator.dst_slice is None
        and not signals.is_batched(operator.src)
        and operator.src.shape == operator.dst.shape
    )


def _is_gain(operator: Operator, neurons: SimNeurons, signals: BatchSignals) -> bool:
    return (
        isinstance(operator, ElementwiseInc)
        and not signals.is_batched(operator.A)
        and operator.A.shape in ((), (1,), neurons.J.shape)
        and operator.X.shape == neurons.J.shape
    )


def _find_events(operators: list[Operator], kept: list[Signal], context: Context) -> None:
    """Find Poisson inputs whose signal need not be written: only products read it."""
    uses = Uses(operators)
    for source in filter(_is_poisson, operators):
        read_as_events = all(
            type(operator) is DotInc
            and operator.X.ndim == 1
            and operator.A.ndim > 0
            and same_place(operator.X, source.output)
            and not overlap(operator.A, source.output)
            for _, operator in uses.readers(source.output)
        )
        if read_as_events and not any(overlap(signal, source.output) for signal in kept):
            context.event_only.add(source)
