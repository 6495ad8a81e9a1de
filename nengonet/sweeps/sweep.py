"""Sweeps of any function over a grid of parameters and seeds, local or on a cluster.

Every finished cell (one call of the function) is appended to a journal. A sweep that was killed and
is resumed runs only the missing cells.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import pathlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from nengonet.checks import described
from nengonet.exceptions import InputError
from nengonet.results.journal import Journal, checked_file
from nengonet.results.readout import Accuracy
from nengonet.run.parallel import WorkerDied, n_processes, shared_out
from nengonet.run.progress import in_words, progress_bar
from nengonet.sweeps.grid import COLUMNS, cells_of, check_names, fingerprint, name_of
from nengonet.sweeps.result import Sweep

_RECORD = ("values", "n_images", "error", "seconds")
_DIED = "WorkerDied: the process that ran this cell ended without an answer"


def sweep(
    function: Callable,
    grid: Mapping[str, Sequence] | Sequence[Mapping[str, Sequence]],
    *,
    seeds: int | Sequence[int] = 1,
    constants: Mapping[str, object] | None = None,
    n_jobs: int = 1,
    scheduler: str | None = None,
    save: str | os.PathLike | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    progress: bool | str = True,
) -> Sweep:
    """Call a function for every combination of parameters and every seed.

    One call is a whole sweep, with a keyword for each choice.

    Parameters
    ----------
    function : callable
        Called as ``function(**parameters, **constants, seed=seed)``. It returns a number or a flat
        dict of numbers; an `Accuracy`, a short list or a 1-d array may replace a number. All its
        randomness must come from ``seed``. It must be picklable, as functions of the running script
        or notebook are.
    grid : dict of sequences, or several of them
        All combinations of the values of each name. A cell of several grids runs once. Values are
        numbers, strings, None, or lists, tuples and dicts of them; NumPy scalars reach the
        function as plain Python numbers.
    seeds : int or sequence of int
        This many seeds from 0 on, or the seeds themselves.
    constants : dict, optional
        Further arguments, the same for all cells. Keep them small: every process gets them.
    n_jobs : int
        Local processes with one thread each; -1 for one per core; 1 runs within this process.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``"tcp://10.0.0.1:8786"``, whose workers run the cells
        instead. Scheduler and workers need nengonet; workers also need the module of the function.
    save : path_like, optional
        Journal of the finished cells; each is written as soon as it is finished.
    resume : bool
        Resume the sweep in ``save``. Saved cells that are no longer in the grid stay in the file. A
        different function or different constants are refused.
    retry_failed : bool
        When resuming, run failed cells again. By default their errors are kept.
    progress : bool or str
        Show a progress bar on standard error, if that is a terminal, with the last finished cell; a
        text is the bar's title.

    Returns
    -------
    Sweep
        The numbers do not depend on ``n_jobs`` and ``scheduler``.

    Raises
    ------
    InputError
        An argument cannot be used, or the function does not take it; the function cannot be sent to
        other processes; the scheduler or Dask is missing; or the file ``save`` already exists, or
        belongs to another sweep.

    Notes
    -----
    A cell that raises is recorded with its error, and so is one whose worker process dies; the
    others continue.

    A function counts as changed if its code changes, or that of the functions and classes that it
    names, in its own module or another of yours, or a value that it names or closes over. An array
    or a file (a path, or the name of a file) in the constants or the grid counts by its content; if
    cells write a file, give its folder, as a string, instead. A ``save`` from another version of
    nengonet, Nengo, NumPy or Python is refused.

    Examples
    --------
    >>> def noisy(x, seed):
    ...     return {"y": x + np.random.default_rng(seed).normal()}
    >>> found = nn.sweep(noisy, {"x": [0, 10]}, seeds=3)
    >>> print(found)
    6 cells, 0 failed; mean (95 % interval, seeds)
     x  value    mean            interval  n
     0      y  0.2201  -0.06101 to 0.5013  3
    10      y   10.22       9.939 to 10.5  3
    """
    constants = {} if constants is None else constants
    if not isinstance(constants, Mapping):
        raise InputError(f"constants: expected a dict, got {described(constants)}")
    constants = dict(constants)
    names, cells = cells_of(grid, seeds)
    check_names(function, names, next(iter(cells.values())), constants)
    if scheduler is not None and n_jobs != 1:
        raise InputError(
            f"n_jobs: expected 1, as the scheduler's workers run the cells, got {n_jobs}"
        )
    n_jobs = n_processes(n_jobs)
    job = _Job(function, constants, frozenset((*names, *COLUMNS)))
    found: dict[str, dict] = {}

    def take(record: dict) -> None:
        if record["error"] is None or not retry_failed:
            found[record["key"]] = {name: record[name] for name in _RECORD}

    with contextlib.ExitStack() as opened:
        if save is not None:
            journal = SweepJournal(checked_file(save, resume), fingerprint(function, constants))
            opened.enter_context(journal).replay(take)
        missing = [each for each in cells.items() if each[0] not in found]
        n_done = len(cells) - len(missing)
        bar = opened.enter_context(progress_bar(progress, "sweeping", "cell", n_done, len(cells)))
        outcomes = contextlib.closing(_outcomes(job, missing, n_jobs, scheduler))
        for key, outcome in opened.enter_context(outcomes):
            found[key] = outcome
            if save is not None:
                journal.append({"key": key} | outcome)
            bar.set_postfix_str(in_words(cells[key]), refresh=False)
            bar.update()
    records = [found[key] for key in cells]
    values = tuple(dict.fromkeys(name for record in records for name in record["values"]))
    rows = [
        dict.fromkeys(names)
        | cell
        | dict.fromkeys(values)
        | record["values"]
        | {"error": record["error"], "seconds": record["seconds"]}
        for cell, record in zip(cells.values(), records, strict=True)
    ]
    return Sweep(names, values, rows, [record["n_images"] for record in records])


class SweepJournal(Journal):
    """The finished cells of a sweep."""

    holds = "earlier sweep"
    advice = "use the same one, or save to another file"


def _outcomes(
    job: _Job,
    cells: list[tuple[str, dict]],
    n_jobs: int,
    scheduler: str | None,
    alone: bool = False,
) -> Iterator[tuple[str, dict]]:
    """Run cells, and yield the key and the outcome of each, in any order.

    A process that dies also loses cells that were not at fault. They run again one by one, which
    shows the cell at fault.
    """
    lost = []
    name = f"function: {name_of(job.function)} and its arguments"
    for cell, result in shared_out(job, cells, n_jobs, scheduler, name=name, in_order=False):
        try:
            yield cell[0], result()
        except WorkerDied:
            if alone:
                yield cell[0], dict(zip(_RECORD, ({}, {}, _DIED, None), strict=True))
            else:
                lost.append(cell)
    for cell in lost:
        yield from _outcomes(job, [cell], n_jobs, scheduler, alone=True)


@dataclasses.dataclass(frozen=True)
class _Job:
    """Everything that is the same for all cells; called with one, in any process."""

    function: Callable
    constants: dict
    taken: frozenset[str]  # names of columns that values cannot have

    def __call__(self, key: str, cell: dict) -> dict:
        """Call the function, and return its values or its error."""
        values, n_images, error = {}, {}, None
        start = time.perf_counter()
        try:
            # A function that changes its arguments must not change those of the next cell.
            named = self.function(**copy.deepcopy(cell | self.constants))
            if not isinstance(named, Mapping):
                named = {"accuracy" if isinstance(named, Accuracy) else "value": named}
            values = _checked_values(named, self.taken)
            n_images = {k: each.n_images for k, each in named.items() if isinstance(each, Accuracy)}
        except (Exception, SystemExit) as raised:
            error = f"{type(raised).__name__}: {raised}"
            if not isinstance(raised, InputError):  # such a message says all that a caller can do
                place = traceback.extract_tb(raised.__traceback__)[-1]
                where = f"{pathlib.Path(place.filename).name}, line {place.lineno}, in {place.name}"
                error += f" ({where}{f': {place.line}' if place.line else ''})"
        seconds = time.perf_counter() - start
        return dict(zip(_RECORD, (values, n_images, error, seconds), strict=True))


def _checked_values(values: Mapping, taken: frozenset[str]) -> dict:
    checked = {}
    for name, value in values.items():
        if not isinstance(name, str) or name in taken:
            raise InputError(
                "expected values named by strings that are neither parameters nor "
                f"{', '.join(COLUMNS)}, got {name!r}"
            )
        array = np.asarray(value.value if isinstance(value, Accuracy) else value)
        if array.dtype.kind not in "biuf" or array.ndim > 1:
            raise InputError(
                f"{name}: expected a number, or a 1-d list of numbers, got {described(value)}"
            )
        checked[name] = array.tolist()
    return checked
