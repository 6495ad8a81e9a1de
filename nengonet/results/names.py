"""The names of the readouts, which the command line lists without importing NumPy."""

from __future__ import annotations

from typing import Literal, get_args

Readout = Literal[
    "spike_count",
    "sum",
    "mean",
    "last_step",
    "filtered",
    "first_spike",
    "steps_after_first_spike",
]
READOUTS: tuple[str, ...] = get_args(Readout)
OF_SPIKES = ("spike_count", "first_spike", "steps_after_first_spike")
