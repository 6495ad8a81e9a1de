"""Read operators as stages, which can run many steps at a time in a network without feedback.

A signal is one of four things: the output of a stage; a sum of terms; constant; or `Unfit`. A term
is the output of a stage after a product, a filter or a factor. What depends on an unfit signal is
unfit as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy.sparse
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import (
    BsrDotInc,
    Copy,
    ElementwiseInc,
    Operator,
    Reset,
    SimPyFunc,
)
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal
from nengo.builder.transforms import GeneralConvInc
from nengo.synapses import LinearFilter

from nengonet.layers.pools import MaxPool
from nengonet.layers.weighted import AddBias
from nengonet.minibatch.convolutions import (
    channels_are_last,
    geometry_of,
    with_channels_last,
)
from nengonet.minibatch.mixtures import linear_of
from nengonet.minibatch.neuron_steps import drawing_of, is_elementwise, kernel_of
from nengonet.minibatch.operators import is_batched_function
from nengonet.minibatch.passing import MaximumPool, Relay
from nengonet.minibatch.plan import PURE
from nengonet.minibatch.processes import is_for_all
from nengonet.minibatch.registry import Context, steps_as
from nengonet.minibatch.signals import Uses, same_place
from nengonet.minibatch.stages import (
    Constant,
    Drawn,
    EventInput,
    Linear,
    Neurons,
    Stage,
    Steady,
    Stepped,
    Stepwise,
    Sum,
)
from nengonet.minibatch.terms import MOST_ORDER, Term, dense_product


class Unfit(Exception):
    """A signal or operator depends on something that cannot run many steps at a time."""


def place_of(signal: Signal) -> tuple:
    """Return a key that is equal for signals with the same elements in the same order."""
    return signal.base, signal.offset, signal.shape, signal.strides


class Flow:
    """The stages of some operators, each after those that feed it."""

    def __init__(self, operators: Sequence[Operator], context: Context) -> None:
        self.operators, self._context = operators, context
        self._uses = Uses(operators)
        self.stages: list[Stage] = []
        # By place; a place is open while it is being read.
        self._found: dict[tuple, Stage | Unfit] = {}
        self._open: set[tuple] = set()
        self._copies: dict[tuple, scipy.sparse.csr_array] = {}
        self.inputs = [EventInput(signal, context, events) for signal, events in context.events]
        for stage in self.inputs:
            self._add(stage)
        # A filter is part of its only reader. Filters without a single reader come last.
        candidates = [operator for operator in operators if self._is_stage(operator)]
        for operator in candidates:
            if not _is_filter(operator):
                self.stage_of(operator.output)
        done = self.done
        for operator in candidates:
            if operator not in done:
                self.stage_of(operator.output)

    def stage_of(self, signal: Signal) -> Stage | None:
        """Return the stage that outputs a signal; make it now if possible."""
        try:
            return self._stage(signal)
        except Unfit:
            return None

    def writers(self, signal: Signal) -> list[tuple[Signal, Operator]]:
        """Return the signals written to the memory of a signal, each with its operator."""
        return self._uses.writers(signal)

    def is_constant(self, signal: Signal) -> bool:
        """Return whether no operator writes to the signal."""
        return not self._uses.writers(signal)

    @property
    def done(self) -> set[Operator]:
        """The operators with a state of their own that the stages replace."""
        synapses = {
            term.filter.operator for stage in self.stages for term in stage.terms if term.filter
        }
        return synapses | {stage.operator for stage in self.stages if stage.operator is not None}

    # --- stages

    def _add(self, stage: Stage) -> Stage:
        self.stages.append(stage)
        self._found[place_of(stage.output)] = stage
        return stage

    def _stage(self, signal: Signal) -> Stage:
        """Return the stage of a signal; a sum becomes a stage, too."""
        place = place_of(signal)
        if place not in self._found:
            try:
                self._make(signal)
            except Unfit as error:
                self._found[place] = error
        if isinstance(self._found[place], Unfit):
            raise self._found[place]
        return self._found[place]

    def _make(self, signal: Signal) -> None:
        context, whole = self._context, self._whole(signal)
        if not same_place(whole, signal):
            matrix = _selection(_numbers(signal), _numbers(whole))
            self._add(Relay(signal, context, self._stage(whole), matrix))
            return
        operator = self._operator_of(signal)
        if operator is not None:
            if not same_place(operator.output, signal):
                raise Unfit  # a state
            with self._opened(signal):
                stage = self._made_from(operator)
            self._add(stage)
            return
        terms, steady = self._terms(signal)
        if not terms:
            self._add(Constant(signal, context))
        elif len(terms) == 1 and not steady and _is_relay(terms[0]):
            self._add(Relay(signal, context, terms[0].source, terms[0].sparse()))
        else:
            self._add(linear_of(signal, context, terms, steady))

    def _whole(self, signal: Signal) -> Signal:
        """Return the signal that is set as a whole, of which this signal may be a part."""
        for place, operator in self._uses.writers(signal):
            is_whole = place in operator.sets or operator in self._context.assigning
            if (is_whole or self._is_stage(operator)) and place.size > signal.size:
                return place
        return signal

    def _operator_of(self, signal: Signal) -> Operator | None:
        """Return the operator for a stage of its own, if it alone writes a signal."""
        writers = [operator for _, operator in self._uses.writers(signal)]
        return writers[0] if len(writers) == 1 and self._is_stage(writers[0]) else None

    def _is_stage(self, operator: Operator) -> bool:
        """Return whether a stage may replace an operator, if its inputs can be stages."""
        if isinstance(operator, SimNeurons):
            return is_elementwise(operator)
        if steps_as(operator, SimProcess):
            return operator.mode != "inc" and is_for_all(operator)
        return is_batched_function(operator)

    def _made_from(self, operator: Operator) -> Stage:
        context = self._context
        if isinstance(operator, SimNeurons):
            what, scale = self._current(operator)
            drawing = drawing_of(operator, context)
            if drawing is not None:
                return Drawn(operator, context, what, scale, drawing)
            kind = Stepped if kernel_of(operator, context) is None else Neurons
            return kind(operator, context, what, scale)
        if _is_filter(operator):
            return linear_of(operator.output, context, [self._filtered(operator)], [])
        source = operator.x if isinstance(operator, SimPyFunc) else operator.input
        if type(getattr(operator, "fn", None)) is AddBias:
            terms, steady = self._terms(source)
            what = Sum(terms, [*steady, (operator.fn.bias, None)], context)
            return Linear(operator.output, context, what, operator)
        linear = Linear(source, context, Sum(*self._terms(source), context))
        is_pool = type(getattr(operator, "process", None)) is MaxPool
        return (MaximumPool if is_pool else Stepwise)(operator, context, linear)

    def _current(self, operator: SimNeurons) -> tuple[Sum, tuple[np.ndarray, np.ndarray]]:
        """Return the sum in the current of neurons, and their bias and gain."""
        n, dtype, signals = operator.output.size, operator.output.dtype, self._context.signals
        if operator in self._context.currents:
            bias, gain, weighted = self._context.currents[operator]
            scale = np.array(signals[bias]), np.array(np.broadcast_to(signals[gain], n))
        else:
            weighted, scale = operator.J, (np.zeros(n, dtype), np.ones(n, dtype))
        return Sum(*self._terms(weighted), self._context), scale

    # --- sums

    @contextlib.contextmanager
    def _opened(self, signal: Signal) -> Iterator[None]:
        """Refuse a signal that feeds itself."""
        place = place_of(signal)
        if place in self._open:
            raise Unfit
        self._open.add(place)
        try:
            yield
        finally:
            self._open.remove(place)

    def _terms(self, signal: Signal) -> tuple[list[Term], list[Steady]]:
        """Return the parts added up in a signal: terms and constants."""
        if signal.ndim != 1:
            raise Unfit
        writers = self._uses.writers(signal)
        if not writers:
            return [], [(signal, None)]
        if isinstance(self._found.get(place_of(signal)), Stage):
            return [self._term(self._stage(signal), signal)], []
        operator = self._operator_of(signal)
        if operator is not None:
            if _is_filter(operator) and len(self._uses.readers(signal)) <= 1:
                with self._opened(signal):
                    return [self._filtered(operator)], []
            return [self._term(self._stage(signal), signal)], []
        if not same_place(self._whole(signal), signal):
            return [self._term(self._stage(signal), signal)], []
        terms, steady, n_sets = [], [], 0
        with self._opened(signal):
            for place, writer in writers:
                is_set = place in writer.sets or writer in self._context.assigning
                n_sets += is_set and same_place(place, signal)
                more = self._brought(writer, place, signal)
                terms, steady = terms + more[0], steady + more[1]
        # If nothing sets a signal, an increment stays there for the next step.
        if n_sets != 1:
            raise Unfit
        return terms, steady

    def _term(self, source: Stage, signal: Signal, **what: object) -> Term:
        return Term(source, signal.size, self._context, **what)

    def _brought(
        self, operator: Operator, place: Signal, signal: Signal
    ) -> tuple[list[Term], list[Steady]]:
        """Return what an operator adds to a signal or to a part of it, or sets it to."""
        if not steps_as(operator, *PURE):
            raise Unfit
        if isinstance(operator, Reset):
            value = np.full(signal.size, operator.value)
            return [], [(value, None)] if np.any(value) else []
        if isinstance(operator, Copy):
            return self._copied(operator, place, signal)
        if not same_place(place, signal):
            if not isinstance(operator, ElementwiseInc):
                raise Unfit
            return self._multiplied_part(operator, place, signal)
        if isinstance(operator, ElementwiseInc) or 0 in (operator.reads[0].ndim, operator.X.ndim):
            return self._multiplied(*operator.reads)
        weights, x = operator.reads
        if not self.is_constant(weights) or self._context.signals.is_batched(weights):
            raise Unfit
        if isinstance(operator, GeneralConvInc):
            if operator.conv.dimensions > 2:
                raise Unfit
            if not channels_are_last(operator):
                return self._permuted(operator, signal)
        elif weights.ndim != 2 and not isinstance(operator, BsrDotInc):
            raise Unfit
        if self.is_constant(x):
            dense = dense_product(operator, signal.size, self._context)
            return [], [(x, lambda array: dense(array.T).T)]
        geometry = geometry_of(operator) if isinstance(operator, GeneralConvInc) else None
        terms = []
        for source in self._sources(x):
            if geometry is not None:
                source.order_for(geometry[2])
            terms.append(self._term(source, signal, product=operator))
        return terms, []

    def _copied(
        self, operator: Copy, place: Signal, signal: Signal
    ) -> tuple[list[Term], list[Steady]]:
        src_slice, dst_slice = operator.src_slice, operator.dst_slice
        if src_slice is None and dst_slice is None and same_place(place, signal):
            if operator.src.shape == signal.shape:
                return self._terms(operator.src)
        if operator.src.ndim != 1:
            raise Unfit
        to = _selection(_numbers(signal), _numbers(place))
        if dst_slice is not None:
            to = to[:, np.arange(place.size)[dst_slice]]
        taken = np.arange(operator.src.size)[... if src_slice is None else src_slice]
        if to.shape[1] != len(taken):
            taken = np.broadcast_to(taken, to.shape[1])
        # One stage for each copy, however often it is read: the copy identifies the relay.
        key = operator, place_of(place), place_of(signal)
        matrix = self._copies.setdefault(key, to @ _selection(taken, np.arange(operator.src.size)))
        if self.is_constant(operator.src):
            return [], [(operator.src, matrix.__matmul__)]
        return [self._term(s, signal, product=matrix) for s in self._sources(operator.src)], []

    def _permuted(
        self, operator: GeneralConvInc, signal: Signal
    ) -> tuple[list[Term], list[Steady]]:
        """Return a convolution with channels first, as one with channels last."""
        context, x = self._context, operator.X
        key = operator, "channels last"
        last, into, out = context.constant(key, lambda: with_channels_last(operator))
        if key not in self._found:
            there = Signal(np.zeros(x.size, x.dtype), name=f"{x.name}, permuted")
            given = [Relay(there, context, source, into) for source in self._sources(x)]
            geometry = geometry_of(last)
            for relay in given if geometry is not None else ():
                relay.order_for(geometry[2])
            terms = [self._term(relay, last.Y, product=last) for relay in given]
            self._found[key] = Linear(last.Y, context, Sum(terms, [], context))
            self.stages += [*given, self._found[key]]
        return [self._term(self._found[key], signal, product=out)], []

    def _multiplied_part(
        self, operator: ElementwiseInc, place: Signal, signal: Signal
    ) -> tuple[list[Term], list[Steady]]:
        """Return what is multiplied and added to a part of a signal."""
        a, x = operator.reads
        if not self.is_constant(a):
            a, x = x, a
        if not self.is_constant(a) or self._context.signals.is_batched(a) or x.size != place.size:
            raise Unfit
        factor = np.broadcast_to(self._context.signals[a].ravel(), place.size)
        matrix = _selection(_numbers(signal), _numbers(place)) @ scipy.sparse.diags_array(factor)
        if self.is_constant(x):
            return [], [(x, matrix.__matmul__)]
        return [self._term(s, signal, product=matrix) for s in self._sources(x)], []

    def _multiplied(self, a: Signal, x: Signal) -> tuple[list[Term], list[Steady]]:
        signals = self._context.signals
        if not self.is_constant(a):
            a, x = x, a
        if not self.is_constant(a) or signals.is_batched(a):
            raise Unfit
        factor, (terms, steady) = signals[a], self._terms(x)
        if factor.ndim > 1 or factor.size not in (1, x.size):
            raise Unfit
        steady = [(signal, _then(made, factor)) for signal, made in steady]
        return [term.scaled(factor) for term in terms], steady

    def _sources(self, signal: Signal) -> list[Stage]:
        """Return the stages whose sum is the signal; several, where spikes stay spikes."""
        if isinstance(self._found.get(place_of(signal)), Stage) or self._operator_of(signal):
            return [self._stage(signal)]
        if not same_place(self._whole(signal), signal):
            return [self._stage(signal)]
        terms, steady = self._terms(signal)
        if steady or len(terms) < 2 or not all(map(_is_relay, terms)):
            return [self._stage(signal)]
        return [self._relay(term, signal) for term in terms]

    def _relay(self, term: Term, signal: Signal) -> Stage:
        if term.is_identity:
            return term.source
        key = term.source, id(term.product), *place_of(signal)
        if key not in self._found:
            relay = Relay(signal, self._context, term.source, term.sparse())
            self.stages.append(relay)
            self._found[key] = relay
        return self._found[key]

    def _filtered(self, operator: SimProcess) -> Term:
        """Return a filter, and the product that feeds it, as one term."""
        terms, steady = self._terms(operator.input)
        if len(terms) == 1 and not steady and terms[0].filter is None and terms[0].scale is None:
            source, product = terms[0].source, terms[0].product
            return self._term(source, operator.input, product=product, synapse=operator)
        return self._term(self._stage(operator.input), operator.input, synapse=operator)


def _is_filter(operator: Operator) -> bool:
    if not steps_as(operator, SimProcess) or not isinstance(operator.process, LinearFilter):
        return False
    own = type(operator.process).make_step is LinearFilter.make_step
    return (
        own and operator.output.ndim == 1 and len(operator.state["X"].initial_value) <= MOST_ORDER
    )


def _is_relay(term: Term) -> bool:
    """Return whether whole spikes that come in also leave as whole spikes."""
    if term.source.height is None or term.filter is not None:
        return False
    if term.is_identity:
        return True
    matrix = term.sparse() if term.is_sparse else None
    return matrix is not None and matrix.nnz > 0 and np.ptp(matrix.data) == 0


def _then(made: Callable | None, factor: np.ndarray) -> Callable:
    """Return a function that makes a value of (n, batch), then multiplies it by a factor."""
    column = factor.reshape(-1, 1)
    return lambda array: column * (array if made is None else made(array))


def _numbers(signal: Signal) -> np.ndarray:
    """Return the places of a signal's elements in its base."""
    base = signal.base
    numbers = np.arange(base.size, dtype=np.int64).reshape(base.shape)
    scale = numbers.itemsize / base.itemsize
    strides = [int(stride * scale) for stride in signal.strides]
    return np.ndarray(signal.shape, np.int64, numbers, int(signal.offset * scale), strides).ravel()


def _selection(wanted: np.ndarray, given: np.ndarray) -> scipy.sparse.csr_array:
    """Return the matrix that picks the ``wanted`` numbers from the ``given`` ones, else 0."""
    order = np.argsort(given, kind="stable")
    found = np.searchsorted(given, wanted, sorter=order)
    found = order[np.minimum(found, len(given) - 1)]
    rows = np.flatnonzero(given[found] == wanted)
    shape = len(wanted), len(given)
    return scipy.sparse.csr_array((np.ones(len(rows)), (rows, found[rows])), shape)
