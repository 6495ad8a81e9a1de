"""Make calls in this process, threads, other processes or Dask, a limited number at once."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool

import cloudpickle
import loky
from tqdm import tqdm

from nengonet.checks import described, positive_integer
from nengonet.exceptions import InputError

_ENVIRONMENT = {
    # Limit the threads of the libraries below NumPy. Worker processes already share the cores, and
    # more threads would compete for them: on two busy cores, a convolution took 14 times as long.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    # If psutil is installed, loky replaces a process that has grown by 0.3 GB, and warns of a
    # leak. A process's first convolutional network is enough to cause that.
    "LOKY_MAX_MEMORY_LEAK_SIZE": "2e9",
}
_ON_CLUSTER = 1000  # calls at once: enough for 500 workers, and few enough to wait for
_CHECK_EVERY = 1.0  # seconds


class WorkerDied(Exception):
    """Raised when the process that worked on a task ended without an answer."""


def _nothing() -> None:
    pass


def n_processes(n_jobs: int) -> int:
    """Return the number of processes; -1 means one per core."""
    with contextlib.suppress(InputError):
        given = positive_integer("n_jobs", n_jobs, at_least=-1)
        return loky.cpu_count() if given == -1 else positive_integer("n_jobs", given)
    raise InputError(
        f"n_jobs: expected a number of processes, or -1 for one per core, got {described(n_jobs)}"
    )


def shared_out(
    function: Callable,
    tasks: Iterable[tuple],
    n_jobs: int,
    scheduler: str | None = None,
    *,
    name: str,
    in_order: bool = True,
) -> Iterator[tuple[tuple, Callable[[], object]]]:
    """Call a function for every task, and yield each task with a function that gives its result.

    With one job, the call is made in this process. Otherwise it is made in other processes, or by
    the workers of a Dask scheduler. Asking for the result raises the call's error, or `WorkerDied`.
    """
    with _workers(function, n_jobs, scheduler, name) as (submit, at_once, check):
        for task, future in in_window(submit, tasks, at_once, in_order=in_order, check=check):
            yield task, functools.partial(_result, future, name, scheduler)


def in_window(
    submit: Callable[..., Future],
    tasks: Iterable[tuple],
    at_once: int,
    *,
    in_order: bool = True,
    check: Callable[[], object] = _nothing,
) -> Iterator[tuple[tuple, Future]]:
    """Yield tasks with their finished futures, and cancel the rest when the caller stops waiting.

    ``check`` is called now and then, and may raise.
    """
    waiting, running = iter(tasks), {}
    try:
        while True:
            for task in itertools.islice(waiting, at_once - len(running)):
                running[submit(*task)] = task
            if not running:
                return
            looked_at = [next(iter(running))] if in_order else running
            for future in wait(looked_at, _CHECK_EVERY, FIRST_COMPLETED).done:
                yield running.pop(future), future
            check()
    finally:
        for future in running:
            future.cancel()


@contextlib.contextmanager
def _workers(
    function: Callable, n_jobs: int, scheduler: str | None, name: str
) -> Iterator[tuple[Callable[..., Future], int, Callable[[], object]]]:
    """Yield the function that submits a call, the number of calls at once, and a check."""
    if scheduler is None and n_jobs == 1:
        yield functools.partial(_call_here, function), 1, _nothing
        return
    try:
        # Pickled once for all tasks. Bytes need to be loadable by workers only.
        payload = cloudpickle.dumps(function)
    except (pickle.PicklingError, TypeError) as error:
        raise _unsendable(name, error) from None
    if scheduler is None:
        # Tasks are limited because each carries a copy of its arguments and of the function.
        yield functools.partial(_submit_to_process, n_jobs, _call, payload), 2 * n_jobs, _nothing
        return
    with _client(scheduler) as client:
        # Dask may repeat the work lost with a worker: the function that it held, and its calls.
        settings = {"pure": False, "retries": 2}
        shared = client.submit(bytes, payload, **settings)
        submit = functools.partial(client.get_executor(**settings).submit, _call, shared)

        def check() -> None:
            # An executor's future may wait forever when the scheduler ends.
            if client.status != "running":
                raise _gone(scheduler)

        yield submit, _ON_CLUSTER, check


def _call_here(function: Callable, *arguments: object) -> Future:
    future = Future()
    future.set_result(function(*arguments))
    return future


def _submit_to_process(n_jobs: int, *call: object) -> Future:
    with contextlib.suppress(BrokenProcessPool):  # by a process that has just died
        return _process_pool(n_jobs).submit(*call)
    return _process_pool(n_jobs).submit(*call)


def _client(scheduler: str) -> contextlib.AbstractContextManager:
    try:
        from distributed import Client

        return Client(scheduler, set_as_default=False)
    except ImportError:
        raise InputError(
            'scheduler: Dask is not installed: pip install "nengonet[distributed]"'
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            "scheduler: expected the address of a running Dask scheduler, such as "
            f"tcp://10.0.0.1:8786, got {scheduler} ({error}); start one with `dask scheduler`"
        ) from None


@functools.lru_cache(maxsize=1)
def _loaded(payload: bytes) -> Callable:
    return pickle.loads(payload)


def _call(payload: bytes, *arguments: object) -> object:
    """Call the function in a worker, which loads it once."""
    try:
        function = _loaded(payload)
    except Exception as error:
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from None
    return function(*arguments)


def _result(future: Future, name: str, scheduler: str | None) -> object:
    try:
        return future.result()
    except CancelledError:
        raise _gone(scheduler) from None
    except Exception as error:
        # Errors of Dask, which may not be installed, and of loky.
        if type(error).__name__ in ("KilledWorker", "TerminatedWorkerError"):
            raise WorkerDied(f"a worker process ended without an answer ({error})") from None
        if isinstance(error, (pickle.PickleError, BrokenProcessPool, ImportError)):
            raise _unsendable(name, error) from None
        raise


def _gone(scheduler: str | None) -> ConnectionError:
    return ConnectionError(
        f"scheduler: lost the connection to {scheduler}; with save, every finished cell is kept: "
        "start the scheduler again, and resume"
    )


def _unsendable(name: str, error: Exception) -> InputError:
    return InputError(
        f"{name} cannot be sent to other processes, or cannot be loaded there ({error}); expected "
        "a picklable function or network, from a module that is installed there"
    )


def _process_pool(n_jobs: int) -> Executor:
    """Return a pool of worker processes: the existing one, or a new one.

    A pool in which a process died is replaced.
    """
    global _latest
    with _deaf_to_interrupts():
        pool = loky.get_reusable_executor(
            max_workers=n_jobs,
            timeout=60,
            env=_ENVIRONMENT,
            initializer=_begin_worker,
            initargs=(os.getpid(),),
        )
        if pool is not _latest:
            # Processes start with the first work, and inherit the signals that are blocked then.
            pool.submit(_nothing)
            _latest = pool
    return pool


def stop_processes() -> None:
    """End the worker processes, even in the middle of their work."""
    if _latest is not None:
        # Loky logs a traceback if a task was cancelled just before.
        logger = logging.getLogger("concurrent.futures")
        logger.addFilter(_refuse)
        try:
            _latest.shutdown(wait=True, kill_workers=True)
        finally:
            logger.removeFilter(_refuse)


def _refuse(record: logging.LogRecord) -> bool:
    return False


_latest: Executor | None = None


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Block Ctrl-C in all processes but the first; a terminal sends it to all of them.

    The first process receives it at the end of the block. Processes that start inside the block
    never receive it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(parent: int) -> None:
    if os.name != "nt":  # there, a process keeps its parent's number
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # Processes that start later, as replacements, do not block it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # tqdm's own lock spans processes, and a stopped process would never release it.
    tqdm.set_lock(threading.RLock())
    # Nengo warns whenever a Node without a function is unpickled.
    warnings.filterwarnings("ignore", "'Node.size_out' is being overwritten")


def _end_with(parent: int) -> None:
    """End this process soon after its parent. Loky waits up to a minute, or until work ends."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
