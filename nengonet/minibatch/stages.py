"""Stages compute a network for some examples in many steps, one operator after the other.

A stage's ``run`` is given a `Chunk`, in which the stages before it have left their output. It
returns its own output: spikes as a list, or the numbers of every step. ``load`` takes the state
that it keeps from step to step from the signals, and ``store`` writes it back.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Operator, SimPyFunc
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal

from nengonet.minibatch import memory
from nengonet.minibatch.inputs import PoissonEvents
from nengonet.minibatch.neuron_steps import kernel_of, states_of
from nengonet.minibatch.registry import Context
from nengonet.minibatch.streams import Chunk, Spikes, Stream, joined, put, take
from nengonet.minibatch.terms import Arguments, Filter, Term, add_up, nothing
from nengonet.neurons import model_of

if TYPE_CHECKING:
    from nengonet.minibatch.mersenne import Drawing

# With more spikes than this for each neuron and step, they are no longer listed.
_LISTED = 0.5
# Bytes of the dense output of a layer's terms, for some examples at a time.
_DENSE_BYTES = 2**22
# Bytes of currents that stay in the cache until their neurons are stepped.
_CURRENT_BYTES = 2**18
# Spikes of an example in a step for which a list has room at first.
_FEWEST = 16


class NotANumber(Exception):
    """A voltage is not a number: a single step then says where."""


class Stage:
    """The writer of a signal; ``height`` is that of its spikes, if they can be listed."""

    height: np.floating | None = None
    # The operator that the stage replaces, if it keeps a state of its own.
    operator: Operator | None = None
    # Whether it outputs numbers for every step.
    is_block = False
    # Spikes are listed in the order of positions of this many channels, if any reader asks for it.
    n_channels = 0
    # Whether it outputs a single step that counts for all steps.
    is_steady = False

    def __init__(self, output: Signal, context: Context) -> None:
        self.output, self.context = output, context
        self.dtype = output.dtype

    @property
    def array(self) -> np.ndarray:
        """The signal's array."""
        return self.context.signals[self.output]

    @property
    def terms(self) -> Sequence[Term]:
        """The terms that are added up."""
        return ()

    @property
    def sources(self) -> list[Stage]:
        """The stages that this one follows."""
        return [term.source for term in self.terms]

    @property
    def keeps_state(self) -> bool:
        """Whether the result of a step depends on the steps before."""
        return self.operator is not None or bool(self.filters)

    @property
    def filters(self) -> list[Filter]:
        """The filters of its terms."""
        return [term.filter for term in self.terms if term.filter is not None]

    def order_for(self, n_channels: int) -> None:
        """List spikes as a convolution of ``n_channels`` needs them, and as asked for before."""
        # Spikes in the order of fewer channels are also in the order of their multiples.
        self.n_channels = math.gcd(self.n_channels, n_channels)

    @property
    def n_ordered(self) -> int:
        """The channels of the positions in whose order spikes are listed; 1 for that of indices."""
        return 1

    def load(self, lanes: slice, kernels: ModuleType) -> list[np.ndarray]:
        """Return the kept state of some examples."""
        return []

    def store(self, arrays: list[np.ndarray], lanes: slice, kernels: ModuleType) -> None:
        """Write the state back to the signals."""

    def last(self, chunk: Chunk) -> np.ndarray | None:
        """Return the signal after the steps, if it is read a step later."""
        return None

    def run(self, chunk: Chunk) -> Stream:
        """Do the steps of the chunk."""
        raise NotImplementedError


class EventInput(Stage):
    """A Poisson input, whose spikes are drawn for all examples at once."""

    def __init__(self, output: Signal, context: Context, events: PoissonEvents) -> None:
        super().__init__(output, context)
        self.events, self.first, self.height = events, 0, self.dtype.type(events.height)

    def run(self, chunk: Chunk) -> Stream:
        """Return the chunk's spikes."""
        first = self.first + chunk.done
        bounds = self.events.bounds[chunk.lanes, : first + chunk.n_steps + 1]
        return Spikes(self.events.pixels, np.ascontiguousarray(bounds), first, self.height)


class Constant(Stage):
    """A constant signal, as a single step that counts for all steps."""

    is_steady = True

    def load(self, lanes, kernels):
        """Return the signal."""
        array = self.context.signals.operand(self.output)
        array = np.broadcast_to(array, (*array.shape[:-1], self.context.batch))
        return [np.array(array[:, lanes].T, order="C")[:, np.newaxis]]

    def run(self, chunk):
        """Return one step."""
        return chunk.states[self][0]


# A constant part: a signal or numbers, and the function that is applied to them as (n, batch).
Steady = tuple[Signal | np.ndarray, Callable[[np.ndarray], np.ndarray] | None]


class Sum:
    """The parts added up in a signal: terms and constants."""

    def __init__(self, terms: Sequence[Term], steady: Sequence[Steady], context: Context) -> None:
        self.terms, self._steady = list(terms), list(steady)
        self._context = context

    @property
    def is_identity(self) -> bool:
        """Whether it is the unchanged output of one stage."""
        return len(self.terms) == 1 and not self._steady and self.terms[0].is_identity

    @property
    def is_steady(self) -> bool:
        """Whether it is the same in all steps."""
        return all(term.filter is None and term.source.is_steady for term in self.terms)

    def steady(self, chunk: Chunk, part: slice, n: int, whole: int, dtype: np.dtype) -> np.ndarray:
        """Return the constant part for some of the chunk's examples, (examples, n or more).

        The array is empty if there are only terms.
        """
        if not self._steady and self.terms:
            return np.empty((0, 0), dtype)
        if self not in chunk.steady:
            total = chunk.steady[self] = memory.zeros((chunk.n, whole), dtype)
            kernels = self._context.stretch_kernels
            for number, (signal, made) in enumerate(self._steady):
                if isinstance(signal, Signal):
                    array = self._context.signals.operand(signal)
                    array = array if array.shape[-1] == 1 else array[..., chunk.lanes]
                    array = array if made is None else made(array)
                    more = total if number == 0 else memory.zeros(total.shape, dtype)
                    if array.shape != (n, chunk.n):
                        # A copy: for arrays that are read-only, Numba would compile once more.
                        array = np.broadcast_to(array, (n, chunk.n)).copy()
                    kernels.copy_examples(array, more)
                    if number > 0:
                        total += more
                else:
                    total[:, :n] += signal
        return chunk.steady[self][part]

    def arguments(self, chunk: Chunk, part: slice, n: int, dtype: np.dtype) -> Arguments:
        """Return the only term, as kernels take it, for some of the chunk's examples.

        Several terms are added up beforehand, because a kernel for many terms takes minutes to
        compile.
        """
        terms = [term.arguments(chunk, part) for term in self.terms]
        if len(terms) < 2:
            return (*terms, nothing(dtype))[0]
        kernels, shape = self._context.stretch_kernels, (part.stop - part.start, chunk.n_steps, n)
        total, sums = memory.zeros(shape, dtype), memory.empty(shape, dtype)
        for term in terms:
            add_up(term, np.empty((0, 0), dtype), sums, kernels)
            total += sums
        return nothing(dtype)._replace(how=kernels.BLOCK, dense=total)

    def parts(self, chunk: Chunk, n: int, itemsize: int) -> list[slice]:
        """Return which of a chunk's examples to process together."""
        dense = [
            max(n, term.n_inputs)
            for term in self.terms
            if len(self.terms) > 1 or term.is_dense(chunk.streams[term.source], chunk.n_steps)
        ]
        size = min(chunk.n, _DENSE_BYTES // (chunk.n_steps * itemsize * max(dense, default=1)))
        size = max(1, size) if dense else chunk.n
        return [slice(at, min(at + size, chunk.n)) for at in range(0, chunk.n, size)]


class Linear(Stage):
    """A sum without neurons."""

    def __init__(
        self, output: Signal, context: Context, what: Sum, operator: Operator | None = None
    ) -> None:
        super().__init__(output, context)
        self._sum, self.is_identity, self.operator = what, what.is_identity, operator
        self.is_steady = what.is_steady
        self.is_block = not self.is_steady

    @property
    def terms(self):
        """Return the terms of the sum."""
        return self._sum.terms

    def last(self, chunk):
        """Return the output of its filter, if it is a filter."""
        (term,) = self.terms if len(self.terms) == 1 else (None,)
        late = term is not None and term.filter is not None and term.filter.system[-1]
        is_filter = late and term.filter.operator.output is self.output
        return chunk.states[term.filter][0][:, -1] if is_filter else None

    def run(self, chunk):
        """Add up the terms."""
        n = self.output.size
        if self.is_steady:
            chunk = dataclasses.replace(chunk, n_steps=1)
        sums = memory.empty((chunk.n, chunk.n_steps, n), self.dtype)
        for part in self._sum.parts(chunk, n, self.dtype.itemsize):
            steady = self._sum.steady(chunk, part, n, n, self.dtype)
            term = self._sum.arguments(chunk, part, n, self.dtype)
            add_up(term, steady, sums[part], self.context.stretch_kernels)
        return sums


class Neurons(Stage):
    """Neurons whose family has a step in Numba."""

    def __init__(self, operator: SimNeurons, context: Context, what: Sum, scale: tuple) -> None:
        super().__init__(operator.output, context)
        kernels, n, self.operator = context.stretch_kernels, operator.output.size, operator
        model, family = model_of(operator.neurons), kernel_of(operator, context)
        self._sum, self._whole = what, n + -n % kernels.WHOLE
        self._stretch, self._wakes = kernels.stretch_of(family), family.wake is not None
        working = functools.partial(kernels.working_memory, n, self._whole, self.dtype)
        self._working = functools.lru_cache(2)(working)
        self._scale = tuple(np.pad(each, (0, self._whole - n)) for each in scale)
        # Spikes of an example in a step, as listed last.
        self._listed = _FEWEST
        self._states = [operator.state[name] for name in family.states]
        self._constants = family.constants(operator.neurons, context.dt, self.dtype)
        self.height = self.dtype.type(model.amplitude / context.dt)

    @property
    def terms(self):
        """Return the terms of the sum."""
        return self._sum.terms

    def load(self, lanes, kernels):
        """Return the states, and room for the last outputs."""
        signals = self.context.signals
        states = [take(signals, each, lanes, kernels, self._whole) for each in self._states]
        return [*states, memory.zeros((lanes.stop - lanes.start, self._whole), self.dtype)]

    def store(self, arrays, lanes, kernels):
        """Write the states and the last outputs back."""
        for copy, signal in zip(arrays, [*self._states, self.output], strict=True):
            put(copy, self.context.signals[signal], lanes, kernels)

    def run(self, chunk):
        """List the spikes, or output numbers if there are too many."""
        stream = self._steps(chunk)
        if stream is None:
            # There are too many spikes for a list, or some are below 0.
            self.is_block = True
            chunk.go_back(self, *self.filters)
            stream = self._steps(chunk)
        is_list = isinstance(stream, Spikes)
        n_spikes = stream.n if is_list else np.abs(stream).sum(dtype=np.float64) / self.height
        share = n_spikes / (chunk.n * chunk.n_steps * self.output.size)
        # A dense output becomes a list again only when there are far fewer spikes.
        self.is_block = share >= (_LISTED if is_list else _LISTED / 2)
        return stream

    def _steps(self, chunk: Chunk) -> Stream | None:
        """Do the steps; return None if spikes cannot be listed."""
        n, streams, nothing = self.output.size, [], np.empty((0, 0, 0), self.dtype)
        block = memory.empty((chunk.n, chunk.n_steps, n), self.dtype) if self.is_block else None
        kernels = self.context.stretch_kernels
        weigh = kernels.WEIGH.address(self.dtype)
        leaves_out = self._wakes and chunk.horizon > 0 and not self.terms
        if leaves_out and chunk.done == 0:
            chunk.awake[self] = memory.zeros((chunk.n, n + 1), np.uint32)
        for part in self._sum.parts(chunk, n, self.dtype.itemsize):
            counts = nothing if block is None else block[part]
            *states, last = (each[part] for each in chunk.states[self])
            term = self._sum.arguments(chunk, part, n, self.dtype)
            steady = self._sum.steady(chunk, part, n, self._whole, self.dtype)
            working = self._working(1 if term.how == kernels.NOTHING else chunk.n_steps)
            if leaves_out:
                awake = chunk.awake[self][part]
                working = working._replace(awake=awake, horizon=chunk.horizon)
            bounds = np.empty((len(last), chunk.n_steps + 1), np.int64)
            # With some room to spare, as a longer list must be a copy.
            spikes = memory.empty((int(1.25 * self._listed * bounds.size),), np.int32)
            spikes, wrong = self._stretch(
                weigh, term, steady, self._scale, last,
                tuple(states), self._constants, self.height, working, (bounds, counts, spikes),
            )  # fmt: skip
            if wrong == -1 and not self.is_block:
                return None
            if wrong:
                raise NotANumber
            if leaves_out and block is not None:
                _put_back(counts, awake)
                last[:, :n] = counts[:, -1]
            self._listed = max(bounds[-1, -1] / bounds.size, _FEWEST)
            streams.append(Spikes(spikes, bounds, 0, self.height))
        return joined(streams) if block is None else block


def _put_back(counts: np.ndarray, awake: np.ndarray) -> None:
    """Put the counts of neurons that were not left out in their places."""
    for of_example, which in zip(counts, awake, strict=True):
        n = int(which[-1]) - 1
        moved = of_example[:, :n].copy()
        of_example[:] = 0
        of_example[:, which[:n]] = moved


class InArrays(Stage):
    """A stage that keeps its states and its output like signals, (…, n, examples)."""

    is_block = True

    def __init__(self, operator: Operator, context: Context) -> None:
        super().__init__(operator.output, context)
        states = getattr(operator, "state", {})
        self.operator = operator
        self._states = {name: context.signals[each] for name, each in states.items()}

    def load(self, lanes, kernels):
        """Return the states and the output."""
        return [each[..., lanes].copy() for each in (*self._states.values(), self.array)]

    def store(self, arrays, lanes, kernels):
        """Write the states and the output back."""
        for copy, array in zip(arrays, (*self._states.values(), self.array), strict=True):
            array[..., lanes] = copy


class Stepped(InArrays):
    """Neurons without a step in Numba; one call steps all of the chunk's examples."""

    def __init__(self, operator: SimNeurons, context: Context, what: Sum, scale: tuple) -> None:
        super().__init__(operator, context)
        self._sum, self._scale = what, scale
        self._linear = Linear(operator.output, context, what)
        self._is_function = not (self._states or operator.state_extra)
        self.is_steady = self._is_function and what.is_steady
        self.is_block = not self.is_steady

    @property
    def terms(self):
        """Return the terms of the sum."""
        return self._sum.terms

    def _current(self, chunk: Chunk) -> np.ndarray:
        """Return the current of every step, or of a single step that counts for all."""
        bias, gain = self._scale
        current = self._linear.run(chunk)
        current *= gain
        current += bias
        return current

    def run(self, chunk):
        """Step the neurons."""
        output = (self._outputs if self._is_function else self._steps)(chunk)
        chunk.states[self][-1][...] = output[:, -1].T
        return output

    def _outputs(self, chunk: Chunk) -> np.ndarray:
        """Call the function of neurons without a state, for a few steps at a time."""
        if self.is_steady:
            chunk = dataclasses.replace(chunk, n_steps=1)
        n, n_steps, dtype = self.output.size, chunk.n_steps, self.dtype
        weigh, dt = self.context.stretch_kernels.weigh, self.context.dt
        model, output = model_of(self.operator.neurons), memory.empty((chunk.n, n_steps, n), dtype)
        n_rows = min(n_steps, max(1, _CURRENT_BYTES // (n * dtype.itemsize)))
        currents = np.empty((1, n_rows, n), dtype)
        for part in self._sum.parts(chunk, n, dtype.itemsize):
            steady = self._sum.steady(chunk, part, n, n, dtype)
            term = self._sum.arguments(chunk, part, n, dtype)
            for k, outputs in enumerate(output[part]):
                for first in range(0, n_steps, n_rows):
                    some = outputs[first : first + n_rows]
                    weigh(term, steady, self._scale, k, first, len(some), currents)
                    model.batched_step(dt, currents[0, : len(some)], some, {}, [])()
        return output

    def _steps(self, chunk: Chunk) -> np.ndarray:
        """Step neurons that have a state."""
        model, dt, current = model_of(self.operator.neurons), self.context.dt, self._current(chunk)
        streams = self.context.states.get(self.operator, [])[chunk.lanes]
        output = memory.empty((chunk.n, chunk.n_steps, self.output.size), self.dtype)
        current = np.broadcast_to(current, output.shape)
        states = dict(zip(self._states, chunk.states[self], strict=False))
        now, then = (np.empty((self.output.size, chunk.n), self.dtype) for _ in range(2))
        step = model.batched_step(dt, now, then, states, streams)
        for s in range(chunk.n_steps):
            now[:] = current[:, s].T
            step()
            output[:, s] = then.T
        return output


class Drawn(Stepped):
    """Random neurons whose spikes are drawn in Numba."""

    def __init__(
        self, operator: SimNeurons, context: Context, what: Sum, scale: tuple, drawing: Drawing
    ) -> None:
        from nengonet.minibatch import mersenne  # which needs Numba

        super().__init__(operator, context, what, scale)
        self._drawing, self._kernels = drawing, mersenne

    def _streams(self, lanes: slice) -> list[np.random.RandomState]:
        return states_of(self.context.states[self.operator][lanes])

    def load(self, lanes, kernels):
        """Return the states and the output, then the random states."""
        return [*super().load(lanes, kernels), self._kernels.copies_of(self._streams(lanes))]

    def store(self, arrays, lanes, kernels):
        """Write the states, the output and the random states back."""
        super().store(arrays[:-1], lanes, kernels)
        self._kernels.put_back(arrays[-1], self._streams(lanes))

    def run(self, chunk):
        """Draw the spikes."""
        *_, last, words = chunk.states[self]
        output = memory.empty((chunk.n, chunk.n_steps, self.output.size), self.dtype)
        self._drawing.draw(self._current(chunk), output, self._kernels.addresses_in(words))
        last[...] = output[:, -1].T
        return output


class Stepwise(InArrays):
    """A process or a function that takes all examples, called once a step."""

    def __init__(self, operator: SimProcess | SimPyFunc, context: Context, source: Linear) -> None:
        super().__init__(operator, context)
        self._linear = source
        self._is_late = getattr(operator, "mode", "set") == "update"

    @property
    def terms(self):
        """Return the terms of the sum."""
        return self._linear.terms

    def last(self, chunk):
        """Return the last output of a process, if it is read a step later."""
        return chunk.states[self][-1].T if self._is_late else None

    def run(self, chunk):
        """Call the process or function for every step."""
        given = self._linear.run(chunk)
        given = np.broadcast_to(given, (chunk.n, chunk.n_steps, given.shape[-1]))
        step, operator = self._step(chunk), self.operator
        t, dt = self.context.signals[operator.t], self.context.dt
        output = memory.empty((chunk.n, chunk.n_steps, self.output.size), self.dtype)
        before = chunk.states[self][-1].copy()
        for s in range(chunk.n_steps):
            now = t.dtype.type((chunk.begin + chunk.done + s + 1) * dt).item()
            found = step(now, given[:, s].T)
            output[:, s] = (before if self._is_late else found).T
            before = np.array(found)
        chunk.states[self][-1][...] = before
        return output

    def _step(self, chunk: Chunk):
        operator, n = self.operator, chunk.n
        if isinstance(operator, SimPyFunc):
            return operator.fn
        states = dict(zip(self._states, chunk.states[self], strict=False))
        shapes = (operator.input.size, n), (operator.output.size, n)
        return operator.process.make_step(*shapes, self.context.dt, None, states)
