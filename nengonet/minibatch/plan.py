"""Decide which operators must run, how often, and which of them run as one.

All decisions follow from what operators write and read. None of them changes a spike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
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
from nengonet.minibatch.processes import is_image, is_shown_at_once
from nengonet.minibatch.registry import Context, steps_as
from nengonet.minibatch.signals import Uses, overlap, same_place, span, writes

if TYPE_CHECKING:
    from nengonet.minibatch.simulator import MinibatchSimulator

# Operators that only compute their outputs from their inputs.
_PRODUCTS = (DotInc, SparseDotInc, BsrDotInc, ElementwiseInc, ConvInc, ConvTransposeInc)
PURE = (*_PRODUCTS, Reset, Copy)


def plan_of(simulator: MinibatchSimulator) -> Context:
    """Return the context that steps are made from, and which of them are needed."""
    images = {}
    for node, operator in simulator._facts.image_inputs.items():
        if is_shown_at_once(operator.process):
            image = operator.process.image
            shape = simulator.minibatch_size, *image.shape
            images[operator] = np.broadcast_to(simulator._images.get(node, image), shape)
    context = Context(
        signals=simulator.signals,
        dt=simulator.dt,
        seed=int(simulator.seed),
        examples=simulator.examples,
        kernels=simulator._kernels,
        constants=simulator._constants,
        states=simulator._states,
        images=images,
        objects=simulator._own.objects,
        late={operator: each for each in simulator._facts.late for operator in each.operators},
    )
    fed = [simulator._facts.nodes[node] for node in simulator._fed]
    kept = [signal for _, signal in simulator._probed] + [*simulator.data.learned.values()]
    for signal, record in simulator._records:
        # The spikes of an image input need not be written to be added up.
        inputs = simulator._facts.image_inputs.values()
        if record.keeps_steps or not any(same_place(signal, each.output) for each in inputs):
            kept.append(signal)
    make_plan(
        [
            operator
            for operator in simulator.step_order
            if not any(same_place(place, signal) for place in writes(operator) for signal in fed)
        ],
        inputs=simulator._facts.nodes.values(),
        varying=[
            simulator._facts.nodes[node] for node, rows in simulator._fed.items() if rows.ndim == 3
        ],
        kept=kept,
        context=context,
    )
    return context


def make_plan(
    operators: Sequence[Operator],
    *,
    inputs: Iterable[Signal],
    varying: Iterable[Signal],
    kept: Iterable[Signal],
    context: Context,
) -> None:
    """Store in the context what must run; the plan is the same for the same signals."""
    inputs, varying, kept = tuple(inputs), tuple(varying), tuple(kept)
    key = "plan", tuple(operators), inputs, varying, kept
    decided = context.constant(key, lambda: _planned(operators, inputs, varying, kept, context))
    for name, value in decided.items():
        setattr(context, name, value)


def _planned(
    operators: Sequence[Operator],
    inputs: Sequence[Signal],
    varying: Sequence[Signal],
    kept: Sequence[Signal],
    context: Context,
) -> dict[str, object]:
    """Return the decisions of `make_plan`."""
    inputs, varying, kept = list(inputs), list(varying), list(kept)
    context.assigning, context.currents = set(), {}
    operators = [operator for operator in operators if not steps_as(operator, SimProbe)]
    operators = _without_unread(_without_zeros(operators, inputs), kept)
    static = _static(operators, varying)
    operators = _assign(operators, context)
    operators = _fuse_currents(operators, kept, context)
    uses = Uses(operators)
    return {
        "spiking": [each.output for each in operators if _is_spiking(each)],
        "event_only": {
            each
            for each in operators
            if _shows(each, "events") and _is_read_as_events(each.output, uses, kept, context)
        },
        "once": [operator for operator in operators if operator in static],
        "always": [operator for operator in operators if operator not in static],
        "assigning": context.assigning,
        "currents": context.currents,
    }


def _is_spiking(operator: Operator) -> bool:
    if steps_as(operator, SimProcess):
        return known(operator.process, "amplitude") is not None
    return steps_as(operator, SimNeurons) and operator.neurons.spiking


def _shows(operator: Operator, how: str) -> bool:
    """Return whether an operator shows images in the way ``how``: "events" or "steady"."""
    shows = steps_as(operator, SimProcess) and is_image(operator.process)
    return shows and known(operator.process, how) is not None


def _is_read_as_events(signal: Signal, uses: Uses, kept: list[Signal], context: Context) -> bool:
    """Return whether an input's signal need not be written, because only products read it."""
    # Neurons whose current is computed in their step read the parts of this current.
    kept = [*kept, *(weighted for *_, weighted in context.currents.values())]
    return not any(overlap(each, signal) for each in kept) and all(
        type(operator) is DotInc
        and operator.X.ndim == 1
        and operator.A.ndim > 0
        and not context.signals.is_batched(operator.A)
        and same_place(operator.X, signal)
        and not overlap(operator.A, signal)
        for _, operator in uses.readers(signal)
    )


def _is_zero_reset(operator: Operator) -> bool:
    return steps_as(operator, Reset) and operator.value == 0


def _factors(operator: Operator) -> list[Signal]:
    """Return the signals that, if any of them is 0, make an operator add 0."""
    if steps_as(operator, ElementwiseInc):
        return [operator.A, operator.X]
    if steps_as(operator, Copy):
        return [operator.src] if operator.inc else []
    return [operator.X] if steps_as(operator, *_PRODUCTS) else []


def _without_zeros(operators: list[Operator], inputs: list[Signal]) -> list[Operator]:
    """Leave out increments by 0: the encoders of ensembles reached only through their neurons."""
    while True:
        uses = Uses(operators)

        def is_zero(signal: Signal, uses: Uses = uses) -> bool:
            writers = uses.writers(signal)
            return (
                all(_is_zero_reset(operator) for _, operator in writers)
                and any(_covers(place, signal) for place, _ in writers)
                and not any(overlap(place, signal) for place in inputs)
            )

        left = [each for each in operators if not any(map(is_zero, _factors(each)))]
        if len(left) == len(operators):
            return operators
        operators = left


def _covers(outer: Signal, inner: Signal) -> bool:
    """Return whether writing all of ``outer`` also writes all of ``inner``."""
    (low, high), (inner_low, inner_high) = span(outer), span(inner)
    contiguous = outer.size * outer.itemsize == high - low
    return outer.base is inner.base and contiguous and low <= inner_low and inner_high <= high


def _without_unread(operators: list[Operator], kept: list[Signal]) -> list[Operator]:
    """Leave out operators that write only to signals that nobody reads."""
    needed = {operator for operator in operators if not steps_as(operator, *PURE)}
    uses = Uses(operators)
    reads = [signal for operator in needed for signal in operator.reads] + kept
    while reads:
        for _, operator in uses.writers(reads.pop()):
            if operator not in needed:
                needed.add(operator)
                # An increment also depends on the value that was there before.
                reads += [*operator.reads, *operator.incs]
    return [operator for operator in operators if operator in needed]


def _static(operators: list[Operator], varying: list[Signal]) -> set[Operator]:
    """Return the operators whose result is the same at every step after a reset."""
    uses = Uses(operators)
    # An unknown step may write to its current.
    neurons = [operator for operator in operators if isinstance(operator, SimNeurons)]
    varying = varying + [each.J for each in neurons if not is_elementwise(each)]

    def is_set(signal: Signal) -> bool:
        return any(
            place in writer.sets and _covers(place, signal) and not _is_part(writer)
            for place, writer in uses.writers(signal)
        )

    # If nothing sets a signal, an increment stays there for the next step.
    static = {
        operator
        for operator in operators
        if (steps_as(operator, *PURE) and all(map(is_set, operator.incs)))
        or (_shows(operator, "steady") and operator.mode == "set")
    }

    def changes(signal: Signal) -> bool:
        return any(overlap(place, signal) for place in varying) or any(
            writer not in static for _, writer in uses.writers(signal)
        )

    # A process reads the time, but an image does not depend on it.
    touched = {
        operator: writes(operator) + ([] if steps_as(operator, SimProcess) else operator.reads)
        for operator in static
    }
    while True:
        changing = {operator for operator in static if any(map(changes, touched[operator]))}
        if not changing:
            return static
        static -= changing


def _is_part(operator: Operator) -> bool:
    """Return whether an operator sets only a part of the signal that it claims to set."""
    return steps_as(operator, Copy) and operator.dst_slice is not None


def _assign(operators: list[Operator], context: Context) -> list[Operator]:
    """Let a signal's only increment set the signal, instead of a reset and an increment."""
    uses = Uses(operators)
    dropped = set()
    for reset in filter(_is_zero_reset, operators):
        others = [(place, op) for place, op in uses.writers(reset.dst) if op is not reset]
        if len(others) == 1:
            ((place, operator),) = others
            if steps_as(operator, *_PRODUCTS) and same_place(place, reset.dst):
                context.assigning.add(operator)
                dropped.add(reset)
    return [operator for operator in operators if operator not in dropped]


def _fuse_currents(
    operators: list[Operator], kept: list[Signal], context: Context
) -> list[Operator]:
    """Compute ``bias + gain * weighted`` in the step of the neurons."""
    uses = Uses(operators)
    hoisted: dict[Operator, Operator] = {}
    dropped = set()
    for neurons in operators:
        if not isinstance(neurons, SimNeurons) or kernel_of(neurons, context) is None:
            continue
        read_by = [operator for _, operator in uses.readers(neurons.J)]
        written = uses.writers(neurons.J)
        # The bias is set before the product is added.
        by_kind = sorted((each for _, each in written), key=lambda op: steps_as(op, Copy))
        if (
            read_by == [neurons]
            and not any(overlap(signal, neurons.J) for signal in kept)
            and all(same_place(place, neurons.J) for place, _ in written)
            and len(by_kind) == 2
            and _are_gain_and_bias(*by_kind, neurons, context)
        ):
            product, copy = by_kind
            context.currents[neurons] = (copy.src, product.A, product.X)
            # The neurons replace the product. Later in the step, a synapse may have changed X.
            hoisted[product] = neurons
            dropped |= {copy, neurons}
    return [hoisted.get(operator, operator) for operator in operators if operator not in dropped]


def _are_gain_and_bias(
    product: Operator, copy: Operator, neurons: SimNeurons, context: Context
) -> bool:
    return (
        steps_as(product, ElementwiseInc)
        and steps_as(copy, Copy)
        and not (copy.inc or copy.src_slice is not None or copy.dst_slice is not None)
        and copy.src.shape == copy.dst.shape
        and product.A.shape in ((), (1,), neurons.J.shape)
        and product.X.shape == neurons.J.shape
        and not any(context.signals.is_batched(each) for each in (copy.src, product.A))
    )
