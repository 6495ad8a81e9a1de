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
        # (batch, n) ndarray: the outputs below 0 summed over all steps, where `keep_signs` asked.
        self.negative: np.ndarray | None = None
        self.restart((0, 0), np.dtype(np.float64))

    def restart(self, shape: tuple[int, int], dtype: np.dtype) -> None:
        """Begin with nothing; ``shape`` is ``(batch, n)``."""
        # In 64 bits whatever the signal has: many small outputs are added to a large sum. Summed
        # up as (n, batch), like the signal.
        self.so_far = np.zeros(shape[::-1]).T
        self._dtype = np.promote_types(dtype, np.float32)
        if self.negative is not None:
            self.keep_signs()
        # Some steps each: as spikes, or as a list of outputs (n, batch).
        self._steps: list[_Counts | list[np.ndarray]] = []
        self._add_rest: Callable[[], None] | None = None

    def keep_signs(self) -> None:
        """Sum up from now on what is put out below 0 apart, too."""
        self.negative = np.zeros_like(self.so_far)

    def let_add(self, add_rest: Callable[[], None]) -> None:
        """Let somebody else add to ``so_far``; call ``add_rest`` before ``total`` is read."""
        self.so_far = np.ascontiguousarray(self.so_far)
        self._add_rest = add_rest

    @property
    def total(self) -> np.ndarray:
        """(batch, n) ndarray: the output summed over all steps.

        For spikes, divided by ``amplitude / dt`` it is their number.
        """
        if self._add_rest is not None:
            self._add_rest()
        return self.so_far.astype(self._dtype, copy=False)

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
        nothing = np.empty((len(self.so_far), 0, self.so_far.shape[1]))
        parts = [
            part.counts * part.height
            if isinstance(part, _Counts)
            else np.stack(part).transpose(2, 0, 1)
            for part in self._steps
        ]
        return np.concatenate(parts or [nothing], axis=1)

    @property
    def step_counts(self) -> np.ndarray | None:
        """(batch, n_steps, n) ndarray of int: spikes of every step, where they were kept so."""
        if not self._steps or any(isinstance(part, list) for part in self._steps):
            return None
        return np.concatenate([part.counts for part in self._steps], axis=1)

    def add(self, signal: np.ndarray, n_steps: int = 1) -> None:
        """Add one step, or several that are alike; ``signal`` is ``(n, batch)``."""
        total = self.so_far.T
        total += signal if n_steps == 1 else n_steps * signal
        if self.negative is not None:
            self.negative += n_steps * np.minimum(signal.T, 0)
        if self.keeps_steps:
            if not self._steps or isinstance(self._steps[-1], _Counts):
                self._steps.append([])
            self._steps[-1].extend([signal.copy()] * n_steps)

    def add_spikes(
        self, rows: np.ndarray, bounds: np.ndarray, height: np.floating, kernels: ModuleType
    ) -> None:
        """Add the spikes of several steps: see `nengonet.minibatch.stretches.Spikes`."""
        # One example after the other is added up, so that it should lie together.
        self.so_far = np.ascontiguousarray(self.so_far)
        kernels.add_events(rows, bounds[:, 0], bounds[:, -1], float(height), self.so_far)
        if self.keeps_steps:
            shape = (len(bounds), bounds.shape[1] - 1, self.so_far.shape[1])
            counts = np.zeros(shape, np.int16)
            # Few neurons spike so often in a step that sixteen bits are not enough.
            if not kernels.spread_stretch(rows, bounds, counts, LARGEST_SMALL):
                counts = np.zeros(shape, np.int64)
                kernels.spread_stretch(rows, bounds, counts, len(rows))
            self._steps.append(_Counts(counts, height))
