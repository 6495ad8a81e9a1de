"""Outputs kept without a probe: added up in place, or step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import NamedTuple

import numpy as np

from nengonet.exceptions import InputError
from nengonet.minibatch import memory
from nengonet.minibatch.streams import Mixture, Spikes, Stream, as_block
from nengonet.results.readout import LARGEST_SMALL


class _Counts(NamedTuple):
    """Spikes of some steps, (batch, n_steps, n), and the height of one spike."""

    counts: np.ndarray
    height: np.floating


class OutputRecord:
    """The output of a node or a layer of neurons since the last reset.

    Made by `MinibatchSimulator.record`.

    Parameters
    ----------
    steps : bool
        Keep the output of every step, not only the sum.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> with nn.MinibatchSimulator(net, minibatch_size=2, progress_bar=False) as sim:
    ...     record = sim.record(layer.ensemble)
    ...     sim.run_steps(10, data={pixels.node: [[0.2, 0.5, 0.9], [0.0, 0.0, 0.0]]})
    >>> record.total.shape
    (2, 3)
    """

    def __init__(self, steps: bool) -> None:
        self.keeps_steps = steps
        # (batch, n) ndarray: outputs below 0, summed over all steps, if `keep_signs` was called.
        self.negative: np.ndarray | None = None
        self.restart((0, 0), np.dtype(np.float64))

    def __repr__(self) -> str:
        """Show sizes only; the arrays would fill the screen."""
        batch, n = self._shape
        steps = "every step" if self.keeps_steps else "the sum"
        return f"<OutputRecord of {n} outputs, {batch} examples; keeps {steps}>"

    def restart(self, shape: tuple[int, int], dtype: np.dtype) -> None:
        """Begin again without outputs; ``shape`` is ``(batch, n)``."""
        self._shape, self._dtype = shape, np.promote_types(dtype, np.float32)
        # Output as numbers, (batch, n), once there is any. Always in 64 bits, because many small
        # outputs are added to a large sum.
        self._sum: np.ndarray | None = None
        # Output as spikes: their number, (batch, n) of int, and the height of one spike.
        self._spikes: np.ndarray | None = None
        self._n_spikes, self._height = 0, np.float64(1)
        if self.negative is not None:
            self.keep_signs()
        # Entries of some steps: spikes, a list of outputs (n, batch), or (batch, n_steps, n).
        self._steps: list[_Counts | list[np.ndarray] | np.ndarray] = []
        self._add_rest: Callable[[], None] | None = None

    def keep_signs(self) -> None:
        """From now on, also sum the outputs below 0 separately."""
        self.negative = np.zeros(self._shape)

    def let_add(self, add_rest: Callable[[], None]) -> None:
        """Let another object add to `spikes`; call ``add_rest`` before they are read."""
        self._add_rest = add_rest

    def spikes(self, n_more: int, height: float) -> np.ndarray:
        """Return the array to which to add ``n_more`` spikes of this height, (batch, n) of int."""
        self._n_spikes, self._height = self._n_spikes + n_more, np.float64(height)
        kind = np.int32 if self._n_spikes < 2**31 else np.int64
        if self._spikes is None:
            self._spikes = memory.zeros(self._shape, kind)
        self._spikes = self._spikes.astype(kind, copy=False)
        return self._spikes

    @property
    def counts(self) -> np.ndarray | None:
        """(batch, n) ndarray of int: the spikes of all steps, if all output came as spikes."""
        if self._add_rest is not None:
            self._add_rest()
        return self._spikes if self._sum is None else None

    @property
    def total(self) -> np.ndarray:
        """(batch, n) ndarray: the output summed over all steps.

        For spikes, the sum divided by ``amplitude / dt`` is their number.
        """
        if self._add_rest is not None:
            self._add_rest()
        total = np.zeros(self._shape) if self._sum is None else self._sum
        if self._spikes is not None:
            total = total + self._height * self._spikes
        return total.astype(self._dtype, copy=False)

    @property
    def steps(self) -> np.ndarray:
        """(batch, n_steps, n) ndarray: the output of every step.

        Raises
        ------
        InputError
            The record was made without ``steps=True``.
        """
        if not self.keeps_steps:
            raise InputError("this record keeps no steps: make it with record(…, steps=True)")
        nothing = np.empty((self._shape[0], 0, self._shape[1]))
        parts = [
            part.counts * part.height
            if isinstance(part, _Counts)
            else np.stack(part).transpose(2, 0, 1)
            if isinstance(part, list)
            else part
            for part in self._steps
        ]
        return np.concatenate(parts or [nothing], axis=1)

    @property
    def step_counts(self) -> np.ndarray | None:
        """(batch, n_steps, n) ndarray of int: spikes of every step, if they were kept as spikes."""
        if not all(isinstance(part, _Counts) for part in self._steps) or not self._steps:
            return None
        return np.concatenate([part.counts for part in self._steps], axis=1)

    def add(self, signal: np.ndarray, n_steps: int = 1) -> None:
        """Add one step, or several equal ones; ``signal`` is ``(n, batch)``."""
        if self._sum is None:
            self._sum = np.zeros(self._shape[::-1]).T  # in the memory order of the signal
        total = self._sum.T
        total += signal if n_steps == 1 else n_steps * signal
        if self.negative is not None:
            self.negative += n_steps * np.minimum(signal.T, 0)
        if self.keeps_steps:
            if not self._steps or not isinstance(self._steps[-1], list):
                self._steps.append([])
            self._steps[-1].extend([signal.copy()] * n_steps)

    def sums(self) -> tuple:
        """Return a copy of all sums."""
        arrays = (self._sum, self._spikes, self.negative)
        return *(None if each is None else each.copy() for each in arrays), self._n_spikes

    def go_back(self, sums: tuple) -> None:
        """Forget everything that was added since ``sums`` were copied."""
        self._sum, self._spikes, self.negative, self._n_spikes = sums

    def add_stream(self, lanes: slice, stream: Stream, n_steps: int, kernels: ModuleType) -> None:
        """Add up the output of a stage in several steps for some examples."""
        if isinstance(stream, Spikes):
            first, last = (np.ascontiguousarray(stream.bounds[:, at]) for at in (stream.first, -1))
            counts = self.spikes(stream.n, stream.height)[lanes]
            kernels.count_events(stream.rows, first, last, counts)
            return
        if self._sum is None:
            self._sum = memory.zeros(self._shape, np.float64)
        if isinstance(stream, Mixture):
            stream = stream.mean if self.negative is None else stream.block
        times = n_steps if stream.shape[1] < n_steps else 1
        sums = np.empty((len(stream), stream.shape[2]))
        kernels.sum_steps(np.ascontiguousarray(stream), sums)
        self._sum[lanes] += times * sums
        if self.negative is not None:
            self.negative[lanes] += times * np.minimum(stream, 0).sum(axis=1)

    def keep_streams(
        self,
        streams: Iterable[tuple[slice, slice, Stream]],
        n_steps: int,
        dtype: np.dtype,
        kernels: ModuleType,
    ) -> None:
        """Keep several steps of all examples: as numbers of spikes, if all spikes are listed.

        Each stream is that of some examples in some of the steps.
        """
        streams, shape = list(streams), (self._shape[0], n_steps, self._shape[1])
        if not all(isinstance(stream, Spikes) for *_, stream in streams):
            outputs = memory.empty(shape, dtype)
            for lanes, steps, stream in streams:
                n = steps.stop - steps.start
                outputs[lanes, steps] = as_block(stream, n, shape[2], kernels)
            self._steps.append(outputs)
            return
        for kind in (np.int16, np.int64):
            # Few neurons spike so often in a step that sixteen bits are not enough.
            counts, most = memory.zeros(shape, kind), LARGEST_SMALL if kind is np.int16 else 2**62
            if all(
                kernels.spread_stretch(
                    each.rows, each.bounds, each.first, counts[lanes, steps], most
                )
                for lanes, steps, each in streams
            ):
                break
        self._steps.append(_Counts(counts, streams[0][-1].height))
