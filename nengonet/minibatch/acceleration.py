"""Choose whether to use Numba, and tell the user about it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

from tqdm import tqdm

from nengonet.exceptions import InputError

# From this many updates of neurons on, steps in NumPy take about ten seconds.
_LONG = 1_000_000_000
_INSTALL = 'pip install "nengonet[fast]"'


def load_kernels(numba: bool | None = None) -> ModuleType | None:
    """Return the module of Numba kernels, or None to compute with NumPy and SciPy."""
    if numba is None and _is_unwanted() or numba is False:
        return None
    try:
        from nengonet.minibatch import kernels
    except ImportError as error:
        if numba:
            raise InputError(
                f"numba=True: Numba cannot be imported ({error}); "
                f"install it with `{_INSTALL}`, or leave it out"
            ) from None
        return None
    return kernels


def _is_unwanted() -> bool:
    return os.environ.get("NENGONET_NUMBA", "1") == "0"


class _Telling:
    """The messages written so far, and the number of callers that want messages."""

    lock, wanted, told = threading.Lock(), 0, set()


@contextlib.contextmanager
def telling(wanted: bool) -> Iterator[None]:
    """Let `tell` write during this block, in all threads, if ``wanted``; else change nothing."""
    with _Telling.lock:
        _Telling.wanted += bool(wanted)
    try:
        yield
    finally:
        with _Telling.lock:
            _Telling.wanted -= bool(wanted)


def tell(message: str) -> None:
    """Write a line to standard error, once in this process, if `telling` allows it."""
    with _Telling.lock:
        if not _Telling.wanted or message in _Telling.told:
            return
        _Telling.told.add(message)
    tqdm.write(f"nengonet: {message}", file=sys.stderr)  # above progress bars


def suggest_numba(n_updates: int) -> None:
    """Say that Numba is not installed, if the steps of neurons will take long without it."""
    if n_updates >= _LONG and not _is_unwanted() and load_kernels() is None:
        tell(f"this would be several times faster with Numba: {_INSTALL}")
