"""The parts of Nengo that nengonet uses beyond its documented interface: tested functions.

Tried with Nengo 4.1.0, the only version that runs with NumPy 2.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import nengo
import numpy as np
from nengo.base import NengoObject
from nengo.params import FrozenObject, iter_params

from nengonet.checks import check_among

# How Nengo stores parameters, and what it keeps in its objects as a side effect of use.
_BOOKKEEPING = frozenset(("_paramdict", "_FrozenObject__argreprs", "_initialized"))
_thread = threading.local()


def outermost_network() -> nengo.Network | None:
    """Return the outermost network whose ``with`` block is open."""
    return nengo.Network.context[0] if nengo.Network.context else None


def state_of(value: NengoObject | FrozenObject) -> dict[str, object]:
    """Return the parameters and the plain attributes of a Nengo object."""
    plain = {name: each for name, each in vars(value).items() if name not in _BOOKKEEPING}
    return plain | {name: getattr(value, name) for name in iter_params(value)}


def state_space(synapse: nengo.LinearFilter, dt: float) -> tuple[np.ndarray, ...]:
    """Return A, B, C and D, as Nengo steps a linear filter."""
    return synapse._get_ss(dt)


def read_clock(simulator: nengo.Simulator) -> None:
    """Set ``n_steps`` and ``time`` of a simulator from its signals."""
    simulator._probe_step_time()


@contextlib.contextmanager
def precision_of(bits: int | None) -> Iterator[None]:
    """Let Nengo build with numbers of 32 or 64 bits in this thread; None leaves its setting."""
    if bits is None:
        yield
        return
    check_among("precision", bits, (32, 64))
    if not isinstance(nengo.rc, _Settings):
        nengo.rc.__class__ = _Settings
    before = getattr(_thread, "bits", None)
    _thread.bits = str(bits)
    try:
        yield
    finally:
        _thread.bits = before


class _Settings(type(nengo.rc)):
    """Nengo's settings: a thread in `precision_of` sees that precision, and others the setting."""

    def get(self, section: str, option: str, **given: object) -> str:
        """Return a setting."""
        bits = getattr(_thread, "bits", None)
        if bits is not None and (section, option) == ("precision", "bits"):
            return bits
        return super().get(section, option, **given)
