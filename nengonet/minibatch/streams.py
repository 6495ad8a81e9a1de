"""The output of a stage for some examples and steps: a list of spikes, numbers, or a mixture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import NamedTuple

import numpy as np
from nengo.builder.signal import Signal

from nengonet.minibatch import memory
from nengonet.minibatch.signals import BatchSignals


class Spikes(NamedTuple):
    """Spikes: ``rows[bounds[b, first + step]:…]`` are those of example ``b`` in a step.

    ``height`` is the value of each spike.
    """

    rows: np.ndarray
    bounds: np.ndarray
    first: int
    height: np.floating

    @property
    def n(self) -> int:
        """Number of spikes in the steps from ``first`` on."""
        return int((self.bounds[:, -1] - self.bounds[:, self.first]).sum())


class Mixture(NamedTuple):
    """The same numbers in all steps, each time with other factors: ``factors[step] @ parts``.

    ``factors`` are (n_steps, n_parts). ``parts``, (batch, n_parts, n), are those of all steps of a
    run.
    """

    factors: np.ndarray
    parts: np.ndarray

    @property
    def block(self) -> np.ndarray:
        """The numbers of every step, (batch, n_steps, n)."""
        return self.factors @ self.parts

    @property
    def mean(self) -> np.ndarray:
        """The mean over all steps, (batch, 1, n)."""
        return self.factors.mean(axis=0, keepdims=True) @ self.parts


# Spikes, a mixture, or the outputs of every step, (batch, n_steps, n).
Stream = Spikes | Mixture | np.ndarray


@dataclass
class Chunk:
    """Some examples, their states from step to step, and the output of their stages."""

    lanes: slice
    # Returns the states of these examples in the signals, as before the run.
    load: Callable[[object], list[np.ndarray]]
    n_steps: int = 0
    # The steps that the simulator had done before the stretch, and those done in it.
    begin: int = 0
    done: int = 0
    # All steps of the stretch, if the states are not read after it; else 0.
    horizon: int = 0
    # The states by their keeper: now, before the steps, and before the stretch. The last two are
    # empty while the signals still hold them.
    states: dict[object, list[np.ndarray]] = field(default_factory=dict)
    before: dict[object, list[np.ndarray]] = field(default_factory=dict)
    first: dict[object, list[np.ndarray]] = field(default_factory=dict)
    streams: dict[object, Stream] = field(default_factory=dict)
    # The neurons of each stage that may spike within the horizon: see `stretch_kernels.Working`.
    awake: dict[object, np.ndarray] = field(default_factory=dict)
    # What is the same in all steps: the constant part of each sum, and products of a mixture.
    steady: dict[object, np.ndarray] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of examples."""
        return self.lanes.stop - self.lanes.start

    def begin_steps(self, n_steps: int, begin: int, done: int) -> None:
        """Let the stages do more steps: ``done`` were done in the stretch, ``begin`` before it."""
        if self.n_steps:
            self.before = {
                keeper: [each.copy() for each in arrays] for keeper, arrays in self.states.items()
            }
        if done == 0:
            self.first = self.before
        self.n_steps, self.begin, self.done = n_steps, begin, done

    def go_back(self, *keepers: object) -> None:
        """Set the states of the keepers back to those before the steps."""
        self._set(keepers, self.before)

    def begin_again(self) -> None:
        """Set all states back to those before the stretch."""
        self._set(self.states, self.first)

    def _set(self, keepers: Iterable, states: dict[object, list[np.ndarray]]) -> None:
        for keeper in keepers:
            old = states[keeper] if states else self.load(keeper)
            for array, each in zip(self.states[keeper], old, strict=True):
                array[...] = each


def as_block(
    stream: Stream, n_steps: int, n: int, kernels: ModuleType, lanes: slice = slice(None)
) -> np.ndarray:
    """Return the output of some of the examples in every step, (examples, n_steps, n)."""
    if isinstance(stream, Mixture):
        return stream._replace(parts=stream.parts[lanes]).block
    if not isinstance(stream, Spikes):
        return stream[lanes]
    bounds = np.ascontiguousarray(stream.bounds[lanes])
    block = memory.empty((len(bounds), n_steps, n), type(stream.height))
    kernels.spread_block(stream.rows, bounds, stream.first, stream.height, block)
    return block


def joined(streams: Sequence[Stream]) -> Stream:
    """Join the output of several groups of examples: either all are lists, or none is."""
    if len(streams) == 1:
        return streams[0]
    if not isinstance(streams[0], Spikes):
        return np.concatenate(streams)
    starts = np.cumsum([0, *(len(each.rows) for each in streams)])
    bounds = [each.bounds + start for each, start in zip(streams, starts, strict=False)]
    rows = np.concatenate([each.rows for each in streams])
    return streams[0]._replace(rows=rows, bounds=np.concatenate(bounds))


def take(
    signals: BatchSignals,
    signal: Signal,
    lanes: slice,
    kernels: ModuleType,
    whole: int | None = None,
) -> np.ndarray:
    """Return a copy of some examples of a signal, (n, batch), as (examples, n or more)."""
    n = signal.size
    copy = memory.zeros((lanes.stop - lanes.start, n if whole is None else whole), signal.dtype)
    if signals.has_initial(signal):
        copy[:, :n] = signals.some(signal, lanes)
    else:
        kernels.copy_examples(signals[signal][:, lanes], copy)
    return copy


def put(copy: np.ndarray, array: np.ndarray, lanes: slice, kernels: ModuleType) -> None:
    """Write examples, in the form that `take` returns, back to their signal."""
    kernels.copy_examples(copy[:, : len(array)].T, array[:, lanes].T)
