"""Processes that share out work, for `nengonet.presentation` and `nengonet.sweeps`."""

from __future__ import annotations

import warnings
from concurrent.futures import Executor

import loky

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


def process_pool(n_jobs: int) -> Executor:
    """Return a pool of worker processes: the one that is there, or a new one.

    A pool that a process has broken by dying is replaced.

    Parameters
    ----------
    n_jobs : int
        Number of processes.
    """
    return loky.get_reusable_executor(
        max_workers=n_jobs, timeout=60, env=_ONE_THREAD, initializer=_begin_worker
    )


def _begin_worker() -> None:
    # Nengo warns whenever a Node without a function is unpickled.
    warnings.filterwarnings("ignore", "'Node.size_out' is being overwritten")
