"""Poisson spikes of a batch of images, as events."""

from __future__ import annotations

import threading
from types import ModuleType

import numpy as np
import scipy.sparse

from nengonet.encoding import BLOCK_STEPS, draw_events, example_rng, lit_pixels
from nengonet.minibatch.records import OutputRecord

# Threads that drew at the same time would hand Python's lock over at every call.
_DRAWING = threading.Lock()


class PoissonEvents:
    """The spikes that `nengonet.encoding.PoissonImage` would put out for each example.

    Drawn block by block from each example's own stream, as `poisson_block` does, and kept as the
    list of the pixels that spiked: at 255 Hz, one pixel in some 30 does in a step.

    Parameters
    ----------
    rates : (batch, n_pixels) ndarray, in Hz
    height : float
        Of one spike.
    examples : (batch,) ndarray of int
    seed : int
    dt : float, in seconds
    kernels : module or None

    Attributes
    ----------
    pixels : (n_spikes,) ndarray of int
        Of the block, for each example in the order of its steps.
    bounds : (batch, BLOCK_STEPS + 1) ndarray of int
        The spikes of example ``b`` in this step are
        ``pixels[bounds[b, step]:bounds[b, step + 1]]``.
    step : int
        The step in the block.
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
        self._streams = [example_rng(seed, int(example)) for example in examples]
        self._lit = [lit_pixels(each, dt) for each in rates]
        mean = sum(float(mean_counts.sum()) for _, mean_counts in self._lit)
        self._room = int(mean + 6 * mean**0.5) + 1
        self.step = self._added = BLOCK_STEPS - 1
        self._records: list[OutputRecord] = []
        self.bounds = np.zeros((len(examples), BLOCK_STEPS + 1), np.int64)
        self.pixels = np.zeros(0, np.int32)

    def advance(self) -> None:
        """Go on to the next step."""
        self.stretch(1)

    def stretch(self, most: int) -> tuple[int, int]:
        """Go on by several steps at once, up to the end of the block.

        Parameters
        ----------
        most : int

        Returns
        -------
        first, n_steps : int
            The first of these steps in the block, and how many they are.
        """
        if self.step == BLOCK_STEPS - 1:
            self._add_up()
            self._draw()
            self.step = self._added = -1
        first = self.step + 1
        n_steps = min(most, BLOCK_STEPS - first)
        self.step += n_steps
        return first, n_steps

    def keep(self, record: OutputRecord) -> None:
        """Add the outputs of the steps from now on to a record, a block at a time."""
        if record not in self._records:
            self._add_up()
            self._records.append(record)
            record.add_lately(self._add_up)

    def _add_up(self) -> None:
        """Add the outputs of the steps that have not been added yet."""
        if self.step > self._added:
            for record in self._records:
                self._add_to(record.so_far)
            self._added = self.step

    def as_matrix(self, dtype: np.dtype) -> scipy.sparse.csr_array:
        """Return the spikes of this step as a sparse (batch, n_pixels) matrix of ones."""
        pixels, starts, counts = self._now()
        bounds = np.concatenate(([0], np.cumsum(counts)))
        return scipy.sparse.csr_array(
            (np.ones(len(pixels), dtype), pixels, bounds), shape=self.rates.shape
        )

    def spread(self, signal: np.ndarray) -> None:
        """Write the spikes of this step into an (n_pixels, batch) signal."""
        if self._kernels is not None:
            height = signal.dtype.type(self.height)
            self._kernels.spread_events(self.pixels, self.bounds, self.step, height, signal)
            return
        pixels, _, counts = self._now()
        where = pixels.astype(np.int64) * len(counts) + np.repeat(np.arange(len(counts)), counts)
        spikes = np.bincount(where, minlength=signal.size).reshape(self.rates.shape[::-1])
        np.multiply(spikes, self.height, out=signal)

    def _add_to(self, totals: np.ndarray) -> None:
        first, last = self.bounds[:, self._added + 1], self.bounds[:, self.step + 1]
        if self._kernels is not None:
            height = totals.dtype.type(self.height)
            self._kernels.add_events(self.pixels, first, last, height, totals)
            return
        n_pixels = totals.shape[1]
        for total, start, stop in zip(totals, first, last, strict=True):
            total += self.height * np.bincount(self.pixels[start:stop], minlength=n_pixels)

    def _now(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the pixels of this step, and each example's first and number of them."""
        starts = self.bounds[:, self.step]
        counts = self.bounds[:, self.step + 1] - starts
        firsts = np.cumsum(counts) - counts
        where = np.repeat(starts - firsts, counts) + np.arange(counts.sum())
        return self.pixels[where], starts, counts

    def _draw(self) -> None:
        with _DRAWING:
            self._draw_block()

    def _draw_block(self) -> None:
        self.pixels = np.empty(self._room, np.int32)
        first = 0
        for lit, rng, bounds in zip(self._lit, self._streams, self.bounds, strict=True):
            # Put in order at once, while they are in the cache.
            steps, pixels = draw_events(*lit, rng)
            if first + len(pixels) > len(self.pixels):
                self.pixels = np.concatenate((self.pixels, np.empty_like(self.pixels), pixels))
            self._sort(steps, pixels, first, bounds)
            first += len(pixels)

    def _sort(self, steps: np.ndarray, pixels: np.ndarray, first: int, bounds: np.ndarray) -> None:
        """Put one example's events in the order of their steps, from place ``first`` on."""
        if self._kernels is not None:
            self._kernels.sort_events(steps, pixels, first, bounds, self.pixels)
            return
        # Sixteen bits, because NumPy sorts those by counting.
        order = np.argsort(steps.astype(np.uint16), kind="stable")
        self.pixels[first : first + len(pixels)] = pixels[order]
        bounds[0] = first
        bounds[1:] = first + np.cumsum(np.bincount(steps, minlength=BLOCK_STEPS))
