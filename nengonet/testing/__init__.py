"""Assertions for your tests: spike counts match rates, and spikes are the same.

They are plain functions on arrays: they need neither a network nor Nengo. A failed assertion raises
``AssertionError`` and names the neuron, the image, the expected and the observed value, and the
probable cause. An invalid argument raises `InputError`.

Spikes are counted by their area (`counts_from_probe`), so a neuron may spike several times in one
step, with any amplitude.
"""

from nengonet.testing.assertions import (
    assert_at_rest,
    assert_counts_match_rates,
    assert_same_spikes,
)
from nengonet.testing.bounds import KINDS
from nengonet.testing.probes import counts_from_probe

__all__ = [
    "KINDS",
    "assert_at_rest",
    "assert_counts_match_rates",
    "assert_same_spikes",
    "counts_from_probe",
]
