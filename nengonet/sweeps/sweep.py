"""Any function on a grid of parameters and seeds: local or on a cluster, table out.

Every finished cell (one call of the function) is appended to a journal, so that a sweep that was
killed and is started again runs only what is missing. The work is shared out by loky or by Dask.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import dataclasses
import functools
import inspect
import itertools
import json
import math
import os
import pathlib
import pickle
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from loky.process_executor import TerminatedWorkerError
from scipy.stats import t as students_t
from tqdm import tqdm

from nengonet.checks import described, positive_integer
from nengonet.exceptions import InputError
from nengonet.results.journal import Journal, checked_file
from nengonet.results.readout import Accuracy, share_interval
from nengonet.run.content import digest, file_digest, versions
from nengonet.run.parallel import n_processes, process_pool
from nengonet.tables import aligned

_COLUMNS = ("seed", "error", "seconds")
_DIED = "WorkerDied: the process that ran this cell ended without an answer"
_NUMPY = (np.generic, np.ndarray)
_LONGEST = 60  # characters of a constant in a message; of a longer one its digest
_SHOWN = 20  # rows of a printed table


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """What a sweep found, one row for each cell.

    Attributes
    ----------
    parameters : tuple of str
        Names of the grid's parameters.
    values : tuple of str
        Names of what the function returned.
    rows : list of dict
        In the order of the grid, seeds innermost: the parameters, ``seed``, the values, ``error``
        (None, or type, message and last place of the traceback) and ``seconds``. A failing cell's
        values are None.
    n_images : list of dict of int
        For each row, the number of images behind each value that was returned as an `Accuracy`.
    """

    parameters: tuple[str, ...]
    values: tuple[str, ...]
    rows: list[dict]
    n_images: list[dict[str, int]] = dataclasses.field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return (*self.parameters, "seed", *self.values, "error", "seconds")

    @property
    def failed(self) -> list[dict]:
        """The rows of the cells that failed."""
        return [row for row in self.rows if row["error"] is not None]

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write the rows as CSV, with a header; sequences as JSON, None as nothing.

        Parameters
        ----------
        path : path_like
        """
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            for row in self.rows:
                cells = (row[column] for column in self.columns)
                writer.writerow(
                    json.dumps(_plain(cell)) if _is_long(cell) else cell for cell in cells
                )

    def to_pandas(self):
        """Return the rows as a pandas frame.

        Returns
        -------
        frame : pandas.DataFrame

        Raises
        ------
        InputError
            pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise InputError(
                "to_pandas: pandas is not installed: pip install pandas, or take to_csv"
            ) from None
        return pandas.DataFrame(self.rows, columns=list(self.columns))

    def summary(self, by: Sequence[str] | None = None) -> list[dict]:
        """Compute mean, spread and 95 % interval over the seeds.

        The interval of a value returned as an `Accuracy` includes the sampling of the images and
        stays in [0, 1] (`nengonet.results.readout.share_interval`); that of others is Student's t,
        and NaN where all seeds agree, which says nothing of how far others would differ.

        Parameters
        ----------
        by : sequence of str, optional
            The parameters that make a group; all by default. Over the others, every seed's mean is
            taken first, so that the interval is over seeds alone.

        Returns
        -------
        rows : list of dict
            One for each group and value: the parameters, ``value`` (its name), ``mean``, ``std``
            (of a sample), ``n`` (seeds), ``low`` and ``high`` (the interval). Lists, element by
            element, for a value that is a list. A seed counts in a group only if all its cells
            have the value; with less than two seeds the interval is NaN.

        Raises
        ------
        InputError
            No such parameter, or lists of different lengths.
        """
        by = self.parameters if by is None else tuple(by)
        for name in by:
            if name not in self.parameters:
                raise InputError(
                    f"by: expected parameters of the grid ({', '.join(self.parameters)}), "
                    f"found {name!r}"
                )
        groups: dict[str, list[tuple[dict, dict]]] = {}
        n_images = self.n_images or [{}] * len(self.rows)
        for row, behind in zip(self.rows, n_images, strict=True):
            groups.setdefault(_key([row[name] for name in by]), []).append((row, behind))
        return [
            {name: rows[0][0][name] for name in by} | {"value": value} | _over_seeds(rows, value)
            for rows in groups.values()
            for value in self.values
        ]

    def __str__(self) -> str:
        """Write how many cells there are, a table of means, and the first errors."""
        n_failed = len(self.failed)
        lines = [f"{len(self.rows)} cells, {n_failed} failed; mean (95 % interval, seeds)"]
        summary = self.summary()
        table = [[*self.parameters, "value", "mean", "interval", "n"]]
        table += [
            [
                *(str(row[name]) for name in (*self.parameters, "value")),
                _short(row["mean"]),
                _interval(row),
                str(row["n"]),
            ]
            for row in summary[:_SHOWN]
        ]
        lines += aligned(table)
        if len(summary) > _SHOWN:
            lines.append(f"… {len(summary) - _SHOWN} more rows: see summary()")
        return "\n".join(lines + first_failures(self))


def first_failures(sweep: Sweep) -> list[str]:
    """Write where the first three cells failed, and why, one line each."""
    lines = []
    for row in sweep.failed[:3]:
        where = ", ".join(f"{name}={row[name]}" for name in (*sweep.parameters, "seed"))
        lines.append(f"failed: {where}: {row['error']}")
    return lines


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
    progress: bool = True,
) -> Sweep:
    """Call a function for every combination of parameters and every seed.

    Parameters
    ----------
    function : callable
        Called as ``function(**parameters, **constants, seed=seed)``. It returns a number, or a
        flat dict of numbers; an `Accuracy`, a short list or a 1-d array of numbers may stand for a
        number. All its
        randomness must come from ``seed``. It must be picklable; functions of the script or
        notebook that runs are.
    grid : dict of sequences, or several of them
        All combinations of the values of each name. A cell of several grids runs once. Values are
        numbers, strings, None, or lists, tuples and dicts of them; NumPy scalars reach the
        function as plain Python numbers.
    seeds : int or sequence of int
        So many seeds from 0 on, or the seeds themselves.
    constants : dict, optional
        Further arguments, the same for all cells. Keep them small: every process gets them.
    n_jobs : int
        Local processes with one thread each; -1 for one per core; 1 runs within this process.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``"tcp://10.0.0.1:8786"``, whose workers run the cells
        instead. It and they need nengonet, and they the module that holds the function.
    save : path_like, optional
        Journal of the finished cells; each is written as soon as it is finished.
    resume : bool
        Go on with the sweep in ``save``. Its cells that the grid no longer asks for stay in the
        file. Another function or other constants are refused.
    retry_failed : bool
        When going on, run the cells again that failed. By default their errors stand.
    progress : bool
        Show a progress bar on standard error, if that is a terminal.

    Returns
    -------
    Sweep
        The same numbers whatever ``n_jobs`` and ``scheduler``.

    Raises
    ------
    InputError
        The grid, the seeds or the constants cannot be used, or the function does not take them; the
        function cannot be sent to other processes; there is no such scheduler, or Dask is missing;
        or the file of ``save`` already exists, or is that of another sweep.

    Notes
    -----
    A cell that raises is recorded with its error, as is one whose worker process dies; the others
    go on. A function counts as changed when its code does, or that of the functions and classes
    that it names, in its own module or another of yours, or a value that it names or closes over.
    A constant or a grid's value that is an array or a file (a path, or the name of a file) counts
    by its content: name a file that cells write by its folder, a string. The ``save`` of another
    version of nengonet, Nengo, NumPy or Python is refused.
    """
    constants = dict(constants or {})
    names, cells = _checked_cells(grid, _checked_seeds(seeds))
    _check_names(function, names, cells[0], constants)
    n_jobs = _checked_jobs(n_jobs, scheduler)

    job = _Job(function, constants, frozenset((*names, *_COLUMNS)))
    if save is None:
        return _table(names, cells, _finished(job, cells, {}, n_jobs, scheduler, progress))
    found: dict[str, dict] = {}
    fingerprint = _fingerprint(function, constants)
    with SweepJournal(checked_file(save, resume), fingerprint) as journal:
        journal.replay(lambda record: found.update({record["key"]: record}))
        if retry_failed:
            found = {key: record for key, record in found.items() if record["error"] is None}
        found = _finished(job, cells, found, n_jobs, scheduler, progress, journal)
    return _table(names, cells, found)


def _finished(
    job: _Job,
    cells: list[_Cell],
    found: dict[str, dict],
    n_jobs: int,
    scheduler: str | None,
    progress: bool,
    journal: SweepJournal | None = None,
) -> dict[str, dict]:
    """Return the records of all cells, by key: those that were found, and the others run now."""
    missing = [cell for cell in cells if cell.key not in found]
    with (
        tqdm(
            desc="sweeping",
            unit="cell",
            initial=len(cells) - len(missing),
            total=len(cells),
            disable=None if progress else True,
            file=sys.stderr,
        ) as bar,
        contextlib.closing(_run(job, missing, n_jobs, scheduler)) as finished,
    ):
        for cell, outcome in finished:
            found[cell.key] = record = {"key": cell.key, **outcome}
            if journal is not None:
                journal.append(record)
            bar.update()
    return found


@dataclasses.dataclass(frozen=True)
class _Cell:
    parameters: dict
    seed: int

    @functools.cached_property
    def key(self) -> str:
        return _key({"parameters": self.parameters, "seed": self.seed})


class SweepJournal(Journal[dict]):
    """The finished cells of a sweep: the file of ``save``.

    A record has the cell's ``key``, its ``values``, ``error`` and ``seconds``.
    """

    magic = b"nengonet sweep 2\n"
    holds = "earlier sweep"
    advice = "go back to the same one, or save to another file"

    @staticmethod
    def encode(record: dict) -> bytes:
        """Return the record as JSON."""
        return json.dumps(record).encode()

    @staticmethod
    def decode(payload: bytes) -> dict:
        """Return the record that JSON holds."""
        record = json.loads(payload)
        if not isinstance(record["error"], (str, type(None))):
            raise ValueError("expected an error's text")
        _checked_values(record["values"], frozenset())
        _checked_values(record["n_images"], frozenset())
        return {name: record[name] for name in ("key", "values", "n_images", "error", "seconds")}


def _table(names: tuple[str, ...], cells: list[_Cell], found: dict[str, dict]) -> Sweep:
    records = [found[cell.key] for cell in cells]
    values = tuple(dict.fromkeys(name for record in records for name in record["values"]))
    return Sweep(
        parameters=names,
        values=values,
        rows=[
            dict.fromkeys(names)
            | cell.parameters
            | {"seed": cell.seed}
            | dict.fromkeys(values)
            | record["values"]
            | {"error": record["error"], "seconds": record["seconds"]}
            for cell, record in zip(cells, records, strict=True)
        ],
        n_images=[record["n_images"] for record in records],
    )


def _over_seeds(rows: list[tuple[dict, dict]], value: str) -> dict:
    seeds: dict[int, list] = {}
    for row, _ in rows:
        seeds.setdefault(row["seed"], []).append(row[value])
    try:
        of_seeds = np.array(
            [np.mean(found, axis=0) for found in seeds.values() if None not in found], dtype=float
        )
    except ValueError:
        raise InputError(
            f"summary: {value}: expected lists of one length, found several; see rows"
        ) from None
    n = len(of_seeds)
    nothing = np.full(of_seeds.shape[1:], np.nan)
    mean = of_seeds.mean(axis=0) if n else nothing
    std = of_seeds.std(axis=0, ddof=1) if n > 1 else nothing
    images = [behind[value] for row, behind in rows if row[value] is not None and value in behind]
    if n < 2:
        low = high = nothing
    elif images:
        low, high = share_interval(of_seeds, min(images))
    else:
        margin = students_t.ppf(0.975, n - 1) * np.where(std > 0, std, np.nan) / math.sqrt(n)
        low, high = mean - margin, mean + margin
    figures = {"mean": mean, "std": std, "n": np.array(n), "low": low, "high": high}
    return {name: each.tolist() for name, each in figures.items()}


# One cell, in whatever process.


@dataclasses.dataclass(frozen=True)
class _Job:
    """What is the same for all cells."""

    function: Callable
    constants: dict
    taken: frozenset[str]  # names of columns that values cannot have


def _run_cell(job: _Job, parameters: dict, seed: int) -> dict:
    """Call the function, and return its values or its error."""
    values, n_images, error = {}, {}, None
    start = time.perf_counter()
    try:
        # A function that changes its arguments must not change those of the next cell.
        arguments = copy.deepcopy(parameters | job.constants)
        values = _named_values(job.function(**arguments, seed=seed))
        n_images = {k: each.n_images for k, each in values.items() if isinstance(each, Accuracy)}
        values = _checked_values(values, job.taken)
    except (Exception, SystemExit) as raised:
        error = _described(raised)
    seconds = time.perf_counter() - start
    return {"values": values, "n_images": n_images, "error": error, "seconds": seconds}


def _described(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{pathlib.Path(place.filename).name}, line {place.lineno}, in {place.name}"
    return f"{type(error).__name__}: {error} ({where}{f': {place.line}' if place.line else ''})"


def _named_values(returned: object) -> Mapping:
    if isinstance(returned, Mapping):
        return returned
    return {"accuracy" if isinstance(returned, Accuracy) else "value": returned}


def _checked_values(values: Mapping, taken: frozenset[str]) -> dict:
    for name in values:
        if not isinstance(name, str) or name in taken:
            raise InputError(
                "expected values named by strings that are neither parameters nor "
                f"{', '.join(_COLUMNS)}; found {name!r}"
            )
    return {name: _checked_number(name, value) for name, value in values.items()}


def _checked_number(name: str, value: object) -> float | list:
    array = np.asarray(value.value if isinstance(value, Accuracy) else value)
    if array.dtype.kind not in "biuf" or array.ndim > 1:
        raise InputError(
            f"{name}: expected a number, or a 1-d list of numbers; "
            f"found {type(value).__name__} {_short(value)}"
        )
    return array.tolist()


# Where cells run. Each way yields every cell once with its outcome, in any order.


def _run(
    job: _Job, cells: list[_Cell], n_jobs: int, scheduler: str | None
) -> Iterator[tuple[_Cell, dict]]:
    if not cells:
        return
    if scheduler is not None:
        yield from _run_on_dask(job, cells, scheduler)
    elif n_jobs == 1:
        for cell in cells:
            yield cell, _run_cell(job, cell.parameters, cell.seed)
    else:
        yield from _run_apart(functools.partial(_run_in_pool, job, n_jobs), cells)


def _run_apart(
    run: Callable[[list[_Cell]], Iterator[tuple[_Cell, dict | None]]], cells: list[_Cell]
) -> Iterator[tuple[_Cell, dict]]:
    """Run cells in other processes; those that were lost with a process again, one by one.

    A process that dies takes cells with it that did nothing wrong. Alone, the guilty one shows.
    """
    lost = []
    for cell, outcome in run(cells):
        if outcome is None:
            lost.append(cell)
        else:
            yield cell, outcome
    for cell in lost:
        for _, outcome in run([cell]):
            yield cell, outcome or {"values": {}, "n_images": {}, "error": _DIED, "seconds": None}


def _run_in_pool(job: _Job, n_jobs: int, cells: list[_Cell]) -> Iterator[tuple[_Cell, dict | None]]:
    waiting, running = deque(cells), {}
    try:
        while waiting or running:
            # Broken by a process that died, it is replaced by a new one here.
            pool = process_pool(n_jobs)
            # Why it breaks while cells are submitted, those that are running tell below.
            with contextlib.suppress(BrokenProcessPool):
                while waiting and len(running) < 2 * n_jobs:
                    cell = waiting[0]
                    running[pool.submit(_run_cell, job, cell.parameters, cell.seed)] = cell
                    waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                try:
                    yield cell, future.result()
                except TerminatedWorkerError:
                    yield cell, None
                except (pickle.PicklingError, BrokenProcessPool) as error:
                    raise _unpicklable(job, error) from None
    finally:
        for future in running:
            future.cancel()


def _run_on_dask(job: _Job, cells: list[_Cell], scheduler: str) -> Iterator[tuple[_Cell, dict]]:
    try:
        import cloudpickle
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise InputError(
            "scheduler: Dask is not installed: pip install 'nengonet[distributed]'"
        ) from None
    try:
        # Bytes, so that the scheduler need not load what only its workers know.
        payload = cloudpickle.dumps(job)
    except (pickle.PicklingError, TypeError) as error:
        raise _unpicklable(job, error) from None
    try:
        client = Client(scheduler, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"scheduler: expected the address of a running Dask scheduler, such as "
            f"tcp://10.0.0.1:8786, found {scheduler} ({error}); start one with `dask scheduler`"
        ) from None
    with client:
        # Sent once, and loaded anew by Dask if the worker that holds it is lost.
        shared = client.submit(pickle.loads, payload, pure=False, retries=2)

        def run(cells: list[_Cell]) -> Iterator[tuple[_Cell, dict | None]]:
            running = {
                client.submit(
                    _run_cell, shared, cell.parameters, cell.seed, pure=False, retries=2
                ): cell
                for cell in cells
            }
            for future, outcome in as_completed(
                running, loop=client.loop, with_results=True, raise_errors=False
            ):
                if future.status == "finished":
                    yield running.pop(future), outcome
                elif future.status != "error":
                    raise ConnectionError(
                        f"the scheduler {scheduler} is gone; with save, every finished cell is "
                        "kept: start it again, and go on (resume)"
                    )
                elif isinstance(error := future.exception(), KilledWorker):
                    yield running.pop(future), None
                else:
                    raise _unpicklable(job, error)

        yield from _run_apart(run, cells)


def _unpicklable(job: _Job, error: Exception) -> InputError:
    return InputError(
        f"function: {_name(job.function)} and its arguments cannot be sent to other processes, or "
        f"not be loaded there ({error}); expected a picklable function, in a module that is "
        "installed there"
    )


# What a sweep rests on: keys of cells, and the fingerprint of the function and its constants.


def _plain(value: object) -> object:
    """Return a value as JSON holds it, equal for equal values; of arrays and files, the digest."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and os.path.isfile(value):
        return [value, file_digest(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return {"file": digest(value, os.fspath(value))}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcSU":
        return {"array": digest(value, "array")}
    raise TypeError(type(value).__name__)


def _key(value: object) -> str:
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def _is_long(value: object) -> bool:
    return isinstance(value, (list, tuple, dict))


def _interval(row: dict) -> str:
    """Write an interval, or nothing where there is none."""
    known = np.isfinite(row["low"]).any()
    return f"{_short(row['low'])} to {_short(row['high'])}" if known else ""


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _name(function: Callable) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"


def _fingerprint(function: Callable, constants: dict) -> dict[str, str]:
    fingerprint = {
        "function": _name(function),
        "code": digest(function, "function"),
        "set of constants": ", ".join(sorted(constants)) or "none",
    }
    for name, value in constants.items():
        try:
            text = _key(value)
        except TypeError:
            text = None
        short = text is not None and len(text) <= _LONGEST
        fingerprint[f"constant {name}"] = text if short else digest(value, f"constants: {name}")
    return fingerprint | versions()


# What the caller gave.


def _checked_seeds(seeds: int | Sequence[int]) -> list[int]:
    if not isinstance(seeds, (str, bytes, Mapping)) and isinstance(seeds, Iterable):
        found = [positive_integer("seeds", seed, at_least=0) for seed in seeds]
    else:
        with contextlib.suppress(InputError):
            return list(range(positive_integer("seeds", seeds)))
        found = []
    if not found:
        raise InputError(
            "seeds: expected how many, at least 1, or a list of whole numbers from 0, "
            f"got {described(seeds)}"
        )
    return found


def _checked_cells(
    grid: Mapping[str, Sequence] | Sequence[Mapping[str, Sequence]], seeds: list[int]
) -> tuple[tuple[str, ...], list[_Cell]]:
    grids = [grid] if isinstance(grid, Mapping) else grid
    if isinstance(grids, str) or not isinstance(grids, Sequence) or not grids:
        raise InputError(f"grid: expected a dict of lists, or a list of them; found {grid!r}")
    names, cells = {}, {}
    for each in grids:
        _check_grid(each)
        names |= dict.fromkeys(each)
        for values in itertools.product(*each.values()):
            values = [value.tolist() if isinstance(value, _NUMPY) else value for value in values]
            for seed in seeds:
                cell = _Cell(dict(zip(each, values, strict=True)), seed)
                cells.setdefault(cell.key, cell)
    return tuple(names), list(cells.values())


def _check_grid(grid: Mapping[str, Sequence]) -> None:
    if not isinstance(grid, Mapping) or not all(isinstance(name, str) for name in grid):
        raise InputError(f"grid: expected a dict of parameter names and lists, found {grid!r}")
    for name, values in grid.items():
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(
            values, (Sequence, np.ndarray)
        ):
            raise InputError(f"grid: {name}: expected a list of values, found {values!r}")
        if len(values) == 0:
            raise InputError(f"grid: {name}: expected one value or more, found none")
        try:
            _key(list(values))
        except TypeError as error:
            raise InputError(
                f"grid: {name}: expected numbers, strings, None, or lists and dicts of them, "
                f"found {error}; name what it should be, and make it in the function"
            ) from None


def _check_names(function: Callable, names: tuple[str, ...], cell: _Cell, constants: dict) -> None:
    if not callable(function):
        raise InputError(f"function: expected a function, found {function!r}")
    for name in constants:
        if name in names:
            raise InputError(f"constants: {name} is a parameter of the grid as well")
    for name in (*names, *constants):
        if name in _COLUMNS:
            raise InputError(
                f"{'grid' if name in names else 'constants'}: {name} is a column of the table; "
                "expected another name (seeds are given as seeds)"
            )
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # some functions written in C have none
    try:
        signature.bind(**cell.parameters, **constants, seed=cell.seed)
    except TypeError as error:
        given = ", ".join((*cell.parameters, *constants, "seed"))
        raise InputError(
            f"function: expected {_name(function)} to take the arguments {given}; found: {error}"
        ) from None


def _checked_jobs(n_jobs: int, scheduler: str | None) -> int:
    if scheduler is not None and n_jobs != 1:
        raise InputError(
            f"n_jobs: the scheduler's workers run the cells; expected 1 beside it, found {n_jobs}"
        )
    return n_processes(n_jobs)
