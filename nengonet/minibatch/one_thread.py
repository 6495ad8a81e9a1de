"""Run BLAS on one thread while examples are stepped.

The products of a step are small. Two threads gain little, and they wait for each other in each
product while other work keeps a core busy. Other cores are for other examples.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Iterable

try:
    from threadpoolctl import LibController, ThreadpoolController
except ImportError:  # without the dependency, all is as correct, but slower
    ThreadpoolController = None


def _libraries() -> tuple[list[LibController], list[LibController]]:
    """Return the BLAS libraries with one setting for the process, and with one for each thread."""
    return ([], []) if ThreadpoolController is None else _found(len(sys.modules))


@functools.lru_cache(1)
def _found(n_modules: int) -> tuple[list[LibController], list[LibController]]:
    """Look for the libraries again; it takes 10 ms, and only new imports can have loaded more."""
    ours: tuple[list, list] = [], []
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        layer = getattr(library, "threading_layer", None)
        ours[library.internal_api == "mkl" or layer == "openmp"].append(library)
    return ours


def _exchange(libraries: list[LibController], numbers: Iterable[int]) -> list[int]:
    """Set the libraries' numbers of threads, and return the numbers before."""
    before = []
    for library, number in zip(libraries, numbers, strict=True):
        before.append(library.get_num_threads())
        # Otherwise threadpoolctl ignores all threads but the first that limited a library.
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(number)
        release(force=True)
    return before


class _OneThread(contextlib.ContextDecorator):
    """Hold the settings of the process from the first entry to the last exit, in all threads."""

    def __init__(self) -> None:
        self._lock, self._entries, self._own = threading.Lock(), 0, threading.local()

    def __enter__(self) -> None:
        of_process, of_thread = _libraries()
        with self._lock:
            if self._entries == 0:
                self._before = of_process, _exchange(of_process, len(of_process) * [1])
            self._entries += 1
        before = of_thread, _exchange(of_thread, len(of_thread) * [1])
        vars(self._own).setdefault("before", []).append(before)

    def __exit__(self, *error: object) -> None:
        _exchange(*self._own.before.pop())
        with self._lock:
            self._entries -= 1
            if self._entries == 0:
                _exchange(*self._before)


# One object for all uses: a context manager and a decorator.
on_one_blas_thread = _OneThread()
