"""Compile kernels with Numba, and report compilations that take seconds."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import numba
from numba.core import event

from nengonet.minibatch.acceleration import tell

# The kernels, and the message for when they must be compiled.
_messages: WeakKeyDictionary[Callable, str] = WeakKeyDictionary()
_ONCE = "compiling once: Numba keeps the result for later runs"
_EACH_TIME = (
    "compiling in each new process, as Numba finds no folder for its cache: name one in "
    "NUMBA_CACHE_DIR"
)


def compiled(function: Callable, **settings: object) -> Callable:
    """Compile a kernel, and cache it on disk if possible."""
    # Nobody calls kernels by address.
    settings |= {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    try:
        kernel, message = numba.njit(cache=True, **settings)(function), _ONCE
    except RuntimeError:  # Numba may not write to any folder
        kernel, message = numba.njit(**settings)(function), _EACH_TIME
    _messages[kernel] = message
    return kernel


class _Listener(event.Listener):
    """Listen for compilations by Numba that were not found in a cache."""

    def on_start(self, event: event.Event) -> None:
        message = _messages.get(event.data["dispatcher"])
        if message is not None:
            tell(message)

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Listener())
