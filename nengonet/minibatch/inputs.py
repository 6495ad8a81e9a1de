"""Poisson spikes of a batch of images, as events."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import scipy.sparse

from nengonet.layers.inputs import block_steps, draw_events, lit_pixels
from nengonet.minibatch.records import OutputRecord
from nengonet.streams import example_rng


class PoissonEvents:
    """The spikes that `nengonet.layers.inputs.PoissonImage` would output for each example.

    They are drawn block by block from each example's own stream, as `poisson_block` does, and kept
    as a list of the pixels that spiked. At 255 Hz, about one pixel in 30 spikes in a step.
    """

    def __init__(
        self,
        rates: np.ndarray,
        height: float,
        examples: np.ndarray,
        seed: int,
        dt: float,
        kernels: ModuleType | None,
    ) -> None:
        self.rates = rates
        self.height = height
        self._kernels = kernels
        draws = _NumPyDraws
        if kernels is not None:
            from nengonet.minibatch.drawing import is_numpys

            draws = _KernelDraws if is_numpys() else _NumPyDraws
        self._draws = draws(rates, dt, seed, examples)
        self._n_steps = block_steps(dt)
        self.step = self._added = self._n_steps - 1
        self._records: list[OutputRecord] = []
        self.bounds = np.zeros((len(examples), self._n_steps + 1), np.int64)
        self.pixels = np.zeros(0, np.int32)

    def advance(self) -> None:
        """Advance by one step."""
        self.stretch(1)

    def stretch(self, most: int) -> tuple[int, int]:
        """Advance by several steps at once, up to the end of the block."""
        if self.step == self._n_steps - 1:
            self._add_up()
            self.pixels = self._draws.draw(self.bounds)
            self.step = self._added = -1
        first = self.step + 1
        n_steps = min(most, self._n_steps - first)
        self.step += n_steps
        return first, n_steps

    @property
    def ready(self) -> int:
        """Steps that `stretch` can advance at once: the rest of a block, or a new one."""
        left = self._n_steps - 1 - self.step
        return left or self._n_steps

    def back(self, n_steps: int) -> None:
        """Go back by the steps of the last `stretch`."""
        self.step -= n_steps

    def keep(self, record: OutputRecord) -> None:
        """Add the outputs of all steps from now on to a record, a block at a time."""
        if record not in self._records:
            self._add_up()
            self._records.append(record)
            record.let_add(self._add_up)

    def _add_up(self) -> None:
        """Add the outputs of the steps that were not added yet."""
        if self.step > self._added:
            for record in self._records:
                self._add_to(record)
            self._added = self.step

    def as_matrix(self, dtype: np.dtype) -> scipy.sparse.csr_array:
        """Return the spikes of this step as a sparse (batch, n_pixels) matrix of ones."""
        starts = self.bounds[:, self.step]
        counts = self.bounds[:, self.step + 1] - starts
        bounds = np.concatenate(([0], np.cumsum(counts)))
        where = np.repeat(starts - bounds[:-1], counts) + np.arange(bounds[-1])
        ones = np.ones(len(where), dtype)
        return scipy.sparse.csr_array((ones, self.pixels[where], bounds), shape=self.rates.shape)

    def spread(self, signal: np.ndarray) -> None:
        """Write the spikes of this step into an (n_pixels, batch) signal."""
        if self._kernels is None:
            spikes = self.as_matrix(np.dtype(np.float64)).toarray()
            np.multiply(spikes.T, self.height, out=signal)
            return
        height = signal.dtype.type(self.height)
        self._kernels.spread_events(self.pixels, self.bounds, self.step, height, signal)

    def _add_to(self, record: OutputRecord) -> None:
        first, last = self.bounds[:, self._added + 1], self.bounds[:, self.step + 1]
        counts = record.spikes(int((last - first).sum()), self.height)
        is_whole = self._added == -1 and self.step == self._n_steps - 1
        if is_whole and isinstance(self._draws, _KernelDraws):
            self._draws.count_block(counts)
        elif self._kernels is not None:
            first, last = np.ascontiguousarray(first), np.ascontiguousarray(last)
            self._kernels.count_events(self.pixels, first, last, counts)
        else:
            n_pixels = counts.shape[1]
            for each, start, stop in zip(counts, first, last, strict=True):
                each += np.bincount(self.pixels[start:stop], minlength=n_pixels)


class _NumPyDraws:
    """Draw the events of block after block, one example after the other."""

    def __init__(self, rates: np.ndarray, dt: float, seed: int, examples: np.ndarray) -> None:
        self._streams = [example_rng(seed, int(example)) for example in examples]
        self._lit = [lit_pixels(each, dt) for each in rates]

    def draw(self, bounds: np.ndarray) -> np.ndarray:
        """Fill ``bounds`` and return the pixels: see the attributes of `PoissonEvents`."""
        drawn, first = [], 0
        for lit, rng, bound in zip(self._lit, self._streams, bounds, strict=True):
            n_steps = len(bound) - 1
            steps, pixels = draw_events(*lit, rng, n_steps)
            # NumPy sorts numbers of sixteen bits by counting.
            drawn.append(pixels[np.argsort(steps.astype(np.uint16), kind="stable")])
            bound[0] = first
            bound[1:] = first + np.cumsum(np.bincount(steps, minlength=n_steps))
            first += len(pixels)
        return np.concatenate(drawn)


class _KernelDraws:
    """Draw the same events in a kernel that does not need Python's lock: see `_NumPyDraws`."""

    def __init__(self, rates: np.ndarray, dt: float, seed: int, examples: np.ndarray) -> None:
        from nengonet.minibatch import drawing

        self._kernels = drawing
        self._states = drawing.first_states(seed, examples)
        n_examples, n_pixels = rates.shape
        where, self._mean_counts = lit_pixels(rates.ravel(), dt)
        self._pixels = where % n_pixels
        self._firsts = np.searchsorted(where, n_pixels * np.arange(n_examples + 1))
        self._counts = np.empty(len(where), np.int64)
        mean = float(self._mean_counts.sum())
        self._ordered = np.empty(int(mean + 6 * mean**0.5) + 1, np.int32)

    def draw(self, bounds: np.ndarray) -> np.ndarray:
        lit = self._pixels, self._mean_counts, self._firsts
        # Memory that was written before is faster than new memory.
        self._ordered = self._kernels.draw_block(
            self._states, *lit, self._counts, bounds, self._ordered
        )
        return self._ordered

    def count_block(self, counts: np.ndarray) -> None:
        """Add all spikes of the block to ``counts``, (batch, n_pixels) of int."""
        self._kernels.add_counts(self._pixels, self._counts, self._firsts, counts)
