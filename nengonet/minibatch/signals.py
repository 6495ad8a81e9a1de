"""Signals with one trailing batch axis, beside the signals that all examples share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from nengo.builder.operator import Operator
from nengo.builder.signal import Signal, SignalDict
from nengo.transforms import SparseMatrix

from nengonet.minibatch import memory


class BatchSignals(SignalDict):
    """Map from Signal to array; batched signals have the batch as their last axis.

    Views of a batched signal are views of its array. With the batch last, a byte offset or stride
    of the reference becomes ``batch`` times as long. Two kinds of signals lie in memory in another
    way. Those of ``matrices`` (weights that every example learns) lie one example after the other,
    each as in the reference. Those of ``transposed``, of which nobody has a view, lie the other
    way round, so that the weights of an input lie together. ``unused`` signals take no memory.
    """

    def __init__(
        self,
        batched: set[Signal],
        batch: int,
        matrices: set[Signal] = frozenset(),
        *,
        transposed: set[Signal] = frozenset(),
        unused: set[Signal] = frozenset(),
    ) -> None:
        super().__init__()
        self.batched, self.batch = batched, batch
        # Those of the batched signals that have their initial values, but not yet in memory.
        self._initial: set[Signal] = set()
        self.matrices, self.transposed, self.unused = matrices, transposed, unused

    def is_batched(self, signal: Signal) -> bool:
        """Return whether a signal has a batch axis."""
        return signal.base in self.batched

    def init(self, signal: Signal) -> None:
        """Make the array of a signal's base; views are made when they are asked for."""
        base = signal.base
        if base in self:
            return
        value = base.initial_value
        if isinstance(value, SparseMatrix):
            array = value.allocate()
        elif base in self.unused:
            array = np.moveaxis(np.zeros((self.batch, *base.shape), base.dtype), 0, -1)
        elif base in self.batched:
            # Most are never read, as stretches keep states and currents of their own.
            array = None
            self._initial.add(base)
        else:
            array = value if base.readonly else value.copy()
        dict.__setitem__(self, base, array)

    def _made(self, base: Signal) -> np.ndarray:
        """Return memory for a batched signal."""
        if base in self.transposed:
            return memory.empty((self.batch, *base.shape[::-1]), base.dtype).T
        if base in self.matrices:
            return np.moveaxis(memory.empty((self.batch, *base.shape), base.dtype), 0, -1)
        return memory.empty((*base.shape, self.batch), base.dtype)

    def has_initial(self, signal: Signal) -> bool:
        """Return whether all examples have the initial value, which need not be read."""
        return signal.base in self._initial

    def some(self, signal: Signal, lanes: slice) -> np.ndarray:
        """Return some examples of a batched signal, examples first, or its initial value."""
        if self.has_initial(signal):
            return signal.initial_value
        return np.moveaxis(self[signal][..., lanes], -1, 0)

    def __getitem__(self, signal: Signal) -> np.ndarray:
        """Return the array of a signal."""
        if isinstance(signal, Signal) and signal.base in self._initial:
            base = signal.base
            self._initial.discard(base)
            if dict.__getitem__(self, base) is None:
                dict.__setitem__(self, base, self._made(base))
            self[base][...] = base.initial_value[..., np.newaxis]
        if signal not in self and isinstance(signal, Signal) and signal.base in self:
            shape, offset, strides = signal.shape, signal.offset, signal.strides
            base = self[signal.base]
            if signal.base in self.transposed:
                # Somebody reads a part of the weights, so they must be up to date.
                base = np.ascontiguousarray(np.moveaxis(base, -1, 0))
                views = [np.ndarray(shape, signal.dtype, each, offset, strides) for each in base]
                return np.stack(views, axis=-1)
            if signal.base in self.matrices:
                base, shape = np.moveaxis(base, -1, 0), (*shape, self.batch)
                strides = (*strides, base.strides[0])
            elif self.is_batched(signal):
                shape, offset = (*shape, self.batch), offset * self.batch
                strides = (*(stride * self.batch for stride in strides), signal.itemsize)
            view = np.ndarray(shape, signal.dtype, base, offset, strides)
            dict.__setitem__(self, signal, view)
        return dict.__getitem__(self, signal)

    def operand(self, signal: Signal) -> np.ndarray:
        """Return the array with a batch axis; for a shared signal, one of length 1."""
        array = self[signal]
        return array if self.is_batched(signal) else array[..., np.newaxis]

    def reset(self, signal: Signal) -> None:
        """Let every example have the initial value, which is written when it is first read."""
        if self.is_batched(signal):
            self._initial.add(signal.base)
        elif not signal.readonly:
            self[signal][...] = signal.initial_value


class Operands:
    """The signals for reference operators: all with a batch axis, or those of one example."""

    def __init__(self, signals: BatchSignals, example: int | None = None) -> None:
        self._signals, self._example = signals, example

    def __getitem__(self, signal: Signal) -> np.ndarray:
        """Return the array of a signal."""
        array = self._signals.operand(signal)
        return array if self._example is None else array[..., self._example % array.shape[-1]]


def filled(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array itself, or a copy with a whole batch axis if all examples share it."""
    return array if array.shape == shape else np.array(np.broadcast_to(array, shape))


def as_view(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array in another shape, without a copy."""
    view = array.reshape(shape)
    assert view.size == 0 or np.shares_memory(view, array)
    return view


def as_bits(array: np.ndarray) -> np.ndarray:
    """Return the floats as integers of the same size, without a copy: 0 stays 0."""
    return array.view(f"i{array.itemsize}")


def writes(operator: Operator) -> list[Signal]:
    """Return the signals that an operator changes."""
    return operator.sets + operator.incs + operator.updates


def span(signal: Signal) -> tuple[int, int]:
    """Return the first byte of a signal in its base, and the byte after its last."""
    if not signal.is_view or signal.size == 0:
        return 0, max(1, signal.size * signal.itemsize)
    ends = [(n - 1) * stride for n, stride in zip(signal.shape, signal.strides, strict=True)]
    low = signal.offset + sum(min(0, end) for end in ends)
    high = signal.offset + sum(max(0, end) for end in ends)
    return low, high + signal.itemsize


def overlap(a: Signal, b: Signal) -> bool:
    """Return whether two signals may share memory; if in doubt, they do."""
    if a.base is not b.base:
        return False
    (a_low, a_high), (b_low, b_high) = span(a), span(b)
    return a_low < b_high and b_low < a_high


def same_place(a: Signal, b: Signal) -> bool:
    """Return whether two signals are the same elements in the same order."""
    if a is b:
        return True
    return a.base is b.base and (a.offset, a.shape, a.strides) == (b.offset, b.shape, b.strides)


class Uses:
    """The operators that write and read a signal, or a part of it."""

    def __init__(self, operators: Iterable[Operator]) -> None:
        self._writers: dict[Signal, list[tuple[Signal, Operator]]] = defaultdict(list)
        self._readers: dict[Signal, list[tuple[Signal, Operator]]] = defaultdict(list)
        self._written_at: dict[Signal, list[tuple[Signal, Operator]]] = {}
        for operator in operators:
            for signal in writes(operator):
                self._writers[signal.base].append((signal, operator))
            for signal in operator.reads:
                self._readers[signal.base].append((signal, operator))

    def writers(self, signal: Signal) -> list[tuple[Signal, Operator]]:
        """Return the signals written to the memory of a signal, each with its operator."""
        if signal not in self._written_at:
            uses = self._writers[signal.base]
            self._written_at[signal] = [use for use in uses if overlap(use[0], signal)]
        return self._written_at[signal]

    def readers(self, signal: Signal) -> list[tuple[Signal, Operator]]:
        """Return the signals read from the memory of a signal, each with its operator."""
        return [use for use in self._readers[signal.base] if overlap(use[0], signal)]
