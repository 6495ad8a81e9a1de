"""Outputs kept without a probe: summed up in place, or step by step."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np

from nengonet.exceptions import InputError
from nengonet.results.readout import LARGEST_SMALL


class _Counts(NamedTuple):
    """Spikes of some steps, (batch, n_steps, n), and the height of one."""

    counts: np.ndarray
    height: np.floating


class OutputRecord:
    """What a node or a layer of neurons has put out since the last reset.

    Made by `MinibatchSimulator.record`.

    Parameters
    ----------
    steps : bool
        Keep the output of every step beside the sum.
    """

    def __init__(self, steps: bool) -> None:
        self.keeps_steps = steps
        # In 64 bits whatever the signal has: many small outputs are added to a large sum.
        self._total = np.zeros((0, 0))
        self._dtype = np.dtype(np.float64)
        self._negative: np.ndarray | None = None
        self._add_rest: Callable[[], None] | None = None
        # Some steps each: as spikes, or as a list of outputs (n, batch).
        self._steps: list[_Counts | list[np.ndarray]] = []

    @property
    def total(self) -> np.ndarray:
        """(batch, n) ndarray: the output summed over all steps.

        For spikes, divided by ``amplitude / dt`` it is their number.
        """
        if self._add_rest is not None:
            self._add_rest()
        return self._total.astype(self._dtype, copy=False)

    def keep_signs(self) -> None:
        """Sum up from now on what is put out below 0 apart, too."""
        self._negative = np.zeros_like(self._total)

    @property
    def negative(self) -> np.ndarray | None:
        """(batch, n) ndarray: the outputs below 0 summed over all steps; None if not kept."""
        return self._negative

    @property
    def so_far(self) -> np.ndarray:
        """(batch, n) ndarray: what has been added to ``total``."""
        return self._total

    def let_add(self, add_rest: Callable[[], None]) -> None:
        """Let somebody else add to `so_far`; call ``add_rest`` before ``total`` is read."""
        self._total = np.ascontiguousarray(self._total)
        self._add_rest = add_rest

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
        return np.concatenate([self._as_outputs(part) for part in self._steps or [[]]], axis=1)

    def _as_outputs(self, part: list[np.ndarray] | _Counts) -> np.ndarray:
        if isinstance(part, list):
            return examples_first(part, self._total.shape)
        return part.counts * part.height

    @property
    def step_counts(self) -> np.ndarray | None:
        """(batch, n_steps, n) ndarray of int: spikes of every step, where they were kept so."""
        if not self._steps or any(isinstance(part, list) for part in self._steps):
            return None
        return np.concatenate([part.counts for part in self._steps], axis=1)

    def restart(self, shape: tuple[int, int], dtype: np.dtype) -> None:
        """Begin with nothing; ``shape`` is ``(batch, n)``."""
        # Summed up as (n, batch), like the signal.
        self._total = np.zeros(shape[::-1]).T
        self._dtype = np.promote_types(dtype, np.float32)
        if self._negative is not None:
            self.keep_signs()
        self._steps = []
        self._add_rest = None

    def add(self, signal: np.ndarray, n_steps: int = 1) -> None:
        """Add one step, or several that are alike; ``signal`` is ``(n, batch)``."""
        total = self._total.T
        total += signal if n_steps == 1 else n_steps * signal
        if self._negative is not None:
            self._negative += n_steps * np.minimum(signal.T, 0)
        if self.keeps_steps:
            if not self._steps or not isinstance(self._steps[-1], list):
                self._steps.append([])
            self._steps[-1].extend([signal.copy()] * n_steps)

    def add_spikes(
        self, rows: np.ndarray, bounds: np.ndarray, height: np.floating, kernels: ModuleType
    ) -> None:
        """Add the spikes of several steps.

        Parameters
        ----------
        rows, bounds : (n_spikes,) and (batch, n_steps + 1) ndarray of int
            See `nengonet.minibatch.stretches.Spikes`.
        height : float
            Of a spike.
        kernels : module
        """
        # One example after the other is added up, so that it should lie together.
        self._total = np.ascontiguousarray(self._total)
        kernels.add_events(rows, bounds[:, 0], bounds[:, -1], float(height), self._total)
        if self.keeps_steps:
            batch, n_steps = len(bounds), bounds.shape[1] - 1
            shape = (batch, n_steps, self._total.shape[1])
            counts = np.zeros(shape, np.int16)
            # Few neurons spike so often in a step that sixteen bits are not enough.
            if not kernels.spread_stretch(rows, bounds, counts, LARGEST_SMALL):
                counts = np.zeros(shape, np.int64)
                kernels.spread_stretch(rows, bounds, counts, len(rows))
            self._steps.append(_Counts(counts, height))


def examples_first(steps: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Stack steps of shape (..., batch) to an array of shape (batch, n_steps, ...)."""
    batch, *rest = shape
    stacked = np.empty((batch, len(steps), *rest), steps[0].dtype if steps else float)
    for index, step in enumerate(steps):
        stacked[:, index] = np.moveaxis(step, -1, 0)
    return stacked
