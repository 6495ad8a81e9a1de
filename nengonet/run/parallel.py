"""Processes that share out work, for `nengonet.run.presentation` and `nengonet.sweeps.sweep`."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor

import loky
import numpy as np
from tqdm import tqdm

from nengonet.checks import described, positive_integer
from nengonet.exceptions import InputError

# Of the libraries below NumPy: worker processes share out the cores, and threads of each on top
# of that fight for them. On two busy cores, a convolution took 14 times as long.
_ONE_THREAD = {
    name: "1"
    for name in (
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    )
}
# Where psutil is installed, loky replaces a process that has grown by 0.3 GB, and warns of a leak:
# it is the first convolutional network that it steps.
_ROOM_TO_GROW = {"LOKY_MAX_MEMORY_LEAK_SIZE": "2e9"}


def n_processes(n_jobs: int) -> int:
    """Return how many processes are meant: -1 is one per core."""
    if isinstance(n_jobs, (int, np.integer)) and n_jobs == -1:
        return loky.cpu_count()
    try:
        return positive_integer("n_jobs", n_jobs)
    except InputError:
        raise InputError(
            "n_jobs: expected a number of processes, or -1 for one per core, got "
            f"{described(n_jobs)}"
        ) from None


def process_pool(n_jobs: int) -> Executor:
    """Return a pool of worker processes: the one that is there, or a new one.

    A pool that a process has broken by dying is replaced.
    """
    global _latest
    with _deaf_to_interrupts():
        pool = loky.get_reusable_executor(
            max_workers=n_jobs,
            timeout=60,
            env=_ONE_THREAD | _ROOM_TO_GROW,
            initializer=_begin_worker,
            initargs=(os.getpid(),),
        )
        if pool is not _latest:
            # Processes begin with the first work, and inherit the signals that are blocked then.
            pool.submit(_nothing)
            _latest = pool
    return pool


def stop_processes() -> None:
    """End the worker processes, in the middle of their work."""
    if _latest is not None:
        _latest.shutdown(wait=True, kill_workers=True)


_latest: Executor | None = None


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Block Ctrl-C, which goes to all processes of a terminal: it is for the first one alone.

    Ours is then delivered at the end of the block; processes that begin in it never get theirs.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _nothing() -> None:
    pass


def _begin_worker(parent: int) -> None:
    if os.name != "nt":  # where a process keeps its parent's number
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # Those that begin later, in place of others, are not blocked.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # tqdm's own lock is for several processes, and would be left behind by one that is stopped.
    tqdm.set_lock(threading.RLock())
    # Nengo warns whenever a Node without a function is unpickled.
    warnings.filterwarnings("ignore", "'Node.size_out' is being overwritten")


def _end_with(parent: int) -> None:
    """End this process soon after its parent; loky waits for up to a minute, or for the work."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
