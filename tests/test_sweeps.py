import concurrent.futures
import csv
import functools
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import pytest
from scipy.stats import t as students_t

import nengonet as nn
from nengonet.results.readout import accuracy, share_interval
from nengonet.run import parallel
from nengonet.run.content import versions
from nengonet.sweeps import grid
from nengonet.sweeps import sweep as sweeps

GRID = {"scale": [1.0, 0.1], "kind": ["a", "b"]}


def noisy(scale, kind, seed, offset=0.0):
    """Numbers with many digits, so that equal ones are no accident."""
    rng = np.random.default_rng([seed, ord(kind)])
    return {"mean": scale * rng.normal() + offset, "trace": rng.normal(size=3), "odd": seed % 2}


def picky(x, seed):
    if x == 2:
        raise ValueError("two is\nno good")
    return x + seed


def fatal(x, seed):
    if x == 3:
        os._exit(1)
    time.sleep(0.02)
    return x


def greedy(x, items, seed):
    items.append(x)
    return len(items)


def slow(x, seed):
    time.sleep(0.05)
    return x / 7 + seed


def run(function=noisy, grid=GRID, **settings):
    return nn.sweep(function, grid, **({"seeds": 3, "progress": False} | settings))


def numbers(result):
    return [{name: row[name] for name in row if name != "seconds"} for row in result.rows]


def recorded(file):
    """The keys in a sweep's file, in the order in which they were written."""
    found = []
    with sweeps.SweepJournal(file, None) as journal:
        journal.replay(found.append)
    return [record["key"] for record in found]


# The table.


def test_rows_are_the_grid_with_seeds_innermost():
    result = run(constants={"offset": 2.0})
    asked = [(s, k, i) for s, k in itertools.product(GRID["scale"], GRID["kind"]) for i in range(3)]
    assert [(row["scale"], row["kind"], row["seed"]) for row in result.rows] == asked
    for row, (scale, kind, seed) in zip(result.rows, asked, strict=True):
        expected = noisy(scale, kind, seed, offset=2.0)
        assert row["mean"] == expected["mean"]
        assert row["trace"] == expected["trace"].tolist()
        assert row["error"] is None
        assert row["seconds"] >= 0
        assert tuple(row) == result.columns
    assert result.columns == ("scale", "kind", "seed", "mean", "trace", "odd", "error", "seconds")


def test_several_grids_share_a_table_and_a_cell_runs_once():
    def function(x, seed, y=0):
        return 10 * x + y

    result = nn.sweep(
        function,
        [{"x": [1, 2]}, {"x": np.array([2, 3])}, {"x": [1], "y": (5,)}],
        seeds=[7],
        progress=False,
    )
    assert [(row["x"], row["y"], row["value"]) for row in result.rows] == [
        (1, None, 10),
        (2, None, 20),
        (3, None, 30),
        (1, 5, 15),
    ]
    assert all(type(row["x"]) is int for row in result.rows)


def test_summary_is_students_t_over_seeds():
    result = run(lambda x, seed: x + [0.0, 1.0, 5.0][seed], {"x": [0.0, 10.0]})
    low, high = result.summary()
    std = math.sqrt((4 + 1 + 9) / 2)
    margin = 4.302652729911275 * std / math.sqrt(3)  # t of 2 degrees of freedom, from a table
    assert low == pytest.approx(
        {"x": 0.0, "value": "value", "mean": 2, "std": std, "n": 3}
        | {"low": 2 - margin, "high": 2 + margin}
    )
    assert high["mean"] == pytest.approx(12)


def test_summary_by_fewer_parameters_has_no_more_seeds():
    result = run(lambda x, y, seed: x + 100 * y + seed, {"x": [0, 1], "y": [0, 1]})
    rows = result.summary(by=["x"])
    assert [(row["x"], row["mean"], row["n"]) for row in rows] == [(0, 51, 3), (1, 52, 3)]
    margin = students_t.ppf(0.975, 2) * 1.0 / math.sqrt(3)
    assert rows[0]["high"] == pytest.approx(51 + margin)
    (row,) = result.summary(by=[])
    assert (row["mean"], row["n"]) == (51.5, 3)


def test_summary_of_lists_is_element_by_element():
    (row,) = run(lambda seed: [seed, 10], {}).summary()
    assert row["mean"] == [1, 10]
    assert row["std"] == [1, 0]
    result = run(lambda seed: [0] * (seed + 1), {})
    with pytest.raises(nn.InputError, match="value: expected lists of one length"):
        result.summary()


def test_one_seed_has_no_interval():
    (row,) = run(lambda seed: 4.0, {}, seeds=1).summary()
    assert (row["mean"], row["n"]) == (4.0, 1)
    assert math.isnan(row["std"])
    assert math.isnan(row["low"])


def test_the_interval_covers_the_mean_as_often_as_it_says():
    """95 % of 2,000 intervals: outside 1,840 to 1,960 with a chance below 1e-6 (binomial)."""

    def draw(group, seed):
        return np.random.default_rng([group, seed]).normal()

    rows = run(draw, {"group": range(2000)}, seeds=4).summary()
    assert 1840 < sum(row["low"] <= 0 <= row["high"] for row in rows) < 1960


def test_intervals_of_accuracies_include_the_sampling_of_images(tmp_path):
    def cell(right, seed):
        return {"accuracy": wilson(right + seed), "same": wilson(right), "spikes": 5.0}

    def wilson(right):
        return accuracy(np.zeros(50), (np.arange(50) >= right).astype(int))

    settings = {"seeds": 2, "progress": False, "save": tmp_path / "accuracies.sweep"}
    grid = {"right": [40, 49]}
    plain = nn.sweep(cell, grid, **settings)
    for found in (plain, nn.sweep(cell, grid, resume=True, **settings)):
        rows = {(row["right"], row["value"]): row for row in found.summary()}
        assert found.rows[0]["accuracy"] == 0.8
        assert rows[40, "same"]["low"] < 0.7
        assert rows[40, "same"]["high"] > 0.88
        assert rows[49, "accuracy"]["high"] == 1
        expected = share_interval([0.98, 1.0], 50)
        assert (rows[49, "accuracy"]["low"], rows[49, "accuracy"]["high"]) == expected
        # Seeds that agree on a number of unknown origin give no interval.
        assert np.isnan([rows[40, "spikes"]["low"], rows[40, "spikes"]["high"]]).all()
        assert "5 to 5" not in str(found)
        assert "0.98 to 0.98" not in str(found)
    (row,) = [row for row in plain.summary([]) if row["value"] == "same"]
    assert (row["low"], row["high"]) == share_interval([0.89, 0.89], 50)


def test_csv_and_pandas_hold_the_same_numbers(tmp_path):
    result = run()
    result.to_csv(tmp_path / "sweep.csv")
    with open(tmp_path / "sweep.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in rows] == [row["mean"] for row in result.rows]
    assert [json.loads(row["trace"]) for row in rows] == [row["trace"] for row in result.rows]
    assert {row["error"] for row in rows} == {""}

    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = result.to_pandas()
    assert tuple(frame.columns) == result.columns
    means = frame.groupby(["scale", "kind"], sort=False)["mean"].mean()
    expected = [row["mean"] for row in result.summary() if row["value"] == "mean"]
    assert isinstance(frame, pandas.DataFrame)
    np.testing.assert_allclose(means, expected, rtol=1e-12)


def test_without_pandas_there_is_a_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(nn.InputError, match="pip install pandas"):
        run().to_pandas()


def test_the_printed_table(capsys):
    text = str(run(picky, {"x": [1, 2]}))
    assert "6 cells, 3 failed" in text
    assert "failed: x=2, seed=0: ValueError" in text
    assert str(run(lambda x, seed: x, {"x": range(30)}, seeds=1)).endswith(
        "… 10 more rows: see summary()"
    )


# Failing cells.


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_failing_cell_does_not_stop_the_rest(n_jobs):
    result = run(picky, {"x": [1, 2, 3]}, seeds=2, n_jobs=n_jobs)
    assert [row["value"] for row in result.rows] == [1, 2, None, None, 3, 4]
    assert [(row["x"], row["seed"]) for row in result.failed] == [(2, 0), (2, 1)]
    error = result.failed[0]["error"]
    assert error.startswith("ValueError: two is\nno good (test_sweeps.py, line ")
    assert error.endswith('in picky: raise ValueError("two is\\nno good"))')
    assert [(row["x"], row["n"]) for row in result.summary()] == [(1, 2), (2, 0), (3, 2)]


def test_a_seed_without_all_its_cells_does_not_count():
    def function(x, seed):
        return x if (x, seed) != (2, 1) else 1 / 0

    (row,) = run(function, {"x": [1, 2]}, seeds=3).summary(by=[])
    assert (row["mean"], row["n"]) == (1.5, 2)


def test_a_cell_that_kills_its_process_is_the_only_one_lost():
    result = run(fatal, {"x": range(8)}, seeds=1, n_jobs=2)
    assert [row["x"] for row in result.failed] == [3]
    assert result.failed[0]["error"].startswith("WorkerDied")
    assert [row["value"] for row in result.rows if row["x"] != 3] == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "returned, message",
    [
        ("text", "value: expected a number, or a 1-d list of numbers, got 'text'"),
        (None, "got None"),
        ({"a": np.zeros((2, 2))}, "a: expected a number"),
        ({"a": 1j}, "a: expected a number"),
        ({"x": 1}, "got 'x'"),
        ({"seconds": 1}, "got 'seconds'"),
        ({1: 1}, "got 1"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_what_is_no_number_fails_that_cell(returned, message):
    def function(x, seed):
        if isinstance(returned, BaseException):
            raise returned
        return returned

    (row,) = run(function, {"x": [1]}, seeds=1).rows
    assert message in row["error"]


# The same numbers everywhere.


def test_processes_give_the_same_numbers():
    assert numbers(run(n_jobs=2)) == numbers(run())


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_cells_do_not_share_their_arguments(n_jobs):
    result = run(greedy, {"x": range(6)}, constants={"items": []}, n_jobs=n_jobs)
    assert {row["value"] for row in result.rows} == {1}


class Unloadable:
    def __reduce__(self):
        return missing_module, ()


def missing_module():
    raise ModuleNotFoundError("No module named 'mine'")


CANNOT_BE_SENT = pytest.mark.parametrize("constant", [threading.Lock(), Unloadable()])


@CANNOT_BE_SENT
def test_what_cannot_be_sent_is_refused(constant):
    with pytest.raises(nn.InputError, match="expected a picklable function"):
        run(greedy, {"x": [1, 2]}, constants={"items": constant}, n_jobs=2)


def test_a_pool_that_breaks_while_cells_are_submitted_loses_none(monkeypatch):
    """Each cell has ended, and the fatal one has broken the pool, before the next is submitted."""
    pools = parallel._process_pool

    class Late:
        def __init__(self, pool):
            self.pool = pool

        def submit(self, *arguments):
            future = self.pool.submit(*arguments)
            concurrent.futures.wait([future], timeout=30)
            return future

    monkeypatch.setattr(parallel, "_process_pool", lambda n_jobs: Late(pools(n_jobs)))
    result = run(fatal, {"x": range(6)}, seeds=1, n_jobs=2)
    assert [row["x"] for row in result.failed] == [3]


# The file.


def counting(calls):
    """A function that tells its calls, through the module, so that it has no closure to digest."""
    return functools.partial(_counted, calls=calls)


def _counted(x, seed, calls):
    with open(calls, "a") as file:
        file.write(f"{x} {seed}\n")
    if x == 2:
        raise ValueError
    return x + seed / 10


@pytest.fixture
def calls(tmp_path):
    path = tmp_path / "calls"

    def since():
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [tuple(map(int, line.split())) for line in lines]

    since.function = counting(str(path))
    return since


def test_only_what_is_missing_runs(tmp_path, calls):
    file = tmp_path / "sweep"
    sweep = functools.partial(run, calls.function, save=file)
    first = sweep({"x": [0, 1]}, seeds=2)
    assert calls() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    with pytest.raises(nn.InputError, match="sweep already exists"):
        sweep({"x": [0, 1]}, seeds=2)
    assert numbers(sweep({"x": [0, 1]}, seeds=2, resume=True)) == numbers(first)
    assert calls() == []
    # More seeds, another grid: cells that are no longer asked for stay in the file.
    more = sweep({"x": [1, 3]}, seeds=[0, 5], resume=True)
    assert calls() == [(1, 5), (3, 0), (3, 5)]
    assert [row["value"] for row in more.rows] == [1, 1.5, 3, 3.5]
    assert numbers(sweep({"x": [0, 1]}, seeds=2, resume=True)) == numbers(first)
    assert calls() == []


def test_cells_are_told_apart_by_type_as_well(tmp_path, calls):
    sweep = functools.partial(run, calls.function, save=tmp_path / "sweep", seeds=1)
    sweep({"x": [1]})
    sweep({"x": np.array([1])}, resume=True)
    assert len(calls()) == 1
    (row,) = sweep({"x": [True]}, resume=True).rows
    assert row["x"] is True


def test_failing_cells_run_again_only_on_request(tmp_path, calls):
    sweep = functools.partial(run, calls.function, {"x": [1, 2]}, save=tmp_path / "s", seeds=1)
    sweep()
    calls()
    assert len(sweep(resume=True).failed) == 1
    assert calls() == []
    assert len(sweep(resume=True, retry_failed=True).failed) == 1
    assert calls() == [(2, 0)]
    assert len(sweep(resume=True).rows) == 2


@pytest.mark.parametrize("cut", [1, 8, 40])
def test_a_record_cut_short_is_done_again(tmp_path, calls, cut):
    file = tmp_path / "sweep"
    expected = run(calls.function, {"x": [0, 1]}, save=file)
    calls()
    file.write_bytes(file.read_bytes()[:-cut])
    assert numbers(run(calls.function, {"x": [0, 1]}, save=file, resume=True)) == numbers(expected)
    assert calls() == [(1, 2)]
    assert len(set(recorded(file))) == len(recorded(file)) == 6


def test_a_file_cut_anywhere_goes_on(tmp_path):
    """A write may stop at any byte, that of the first line included."""
    file = tmp_path / "sweep"
    expected = numbers(run(picky, {"x": [0, 1]}, save=file, seeds=1))
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert numbers(run(picky, {"x": [0, 1]}, save=file, seeds=1, resume=True)) == expected
        assert len(recorded(file)) == 2


def test_another_file_is_refused(tmp_path):
    file = tmp_path / "sweep"
    file.write_bytes(b"nengonet journal 3\n and more")
    with pytest.raises(
        nn.InputError, match="expected the journal of an earlier sweep, .* got another file"
    ):
        run(save=file, resume=True)
    assert file.read_bytes() == b"nengonet journal 3\n and more"


def test_an_interrupt_leaves_a_good_file(tmp_path, monkeypatch):
    file = tmp_path / "sweep"

    def interrupted(*args):
        raise KeyboardInterrupt

    cells = itertools.count()
    call = sweeps._Job.__call__
    monkeypatch.setattr(
        sweeps._Job, "__call__", lambda *args: (call if next(cells) < 5 else interrupted)(*args)
    )
    with pytest.raises(KeyboardInterrupt):
        run(save=file)
    monkeypatch.undo()
    assert len(recorded(file)) == 5
    assert numbers(run(save=file, resume=True)) == numbers(run())


MODULE = """
import functools

FACTOR = 2.0

class Helper:
    power = 1

@functools.lru_cache
def helper(x):
    return x ** Helper.power

def cell(x, seed, constant=0):
    return [FACTOR * helper(each) for each in [x]]

def unrelated():
    return 1
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Load a module of that text; another text under the same name, each time."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(text):
        name = "cells_of_a_sweep"
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        stamp = time.time() + next(stamps)
        os.utime(file, (stamp, stamp))
        sys.modules.pop(name, None)
        return __import__(name)

    stamps = itertools.count(1, 10)
    yield load
    sys.modules.pop("cells_of_a_sweep", None)


@pytest.mark.parametrize(
    "old, new",
    [
        ("constant=0", "constant=1"),
        ("FACTOR * helper", "FACTOR + helper"),
        ("FACTOR = 2.0", "FACTOR = 3.0"),
        ("x ** Helper", "2 * x ** Helper"),
        ("power = 1", "power = 2"),
    ],
)
def test_a_changed_function_is_refused(tmp_path, module, old, new):
    file = tmp_path / "sweep"
    run(module(MODULE).cell, {"x": [1]}, save=file)
    run(module(MODULE.replace("return 1", "return 2")).cell, {"x": [1]}, save=file, resume=True)
    before = file.read_bytes()
    changed = module(MODULE.replace(old, new)).cell
    with pytest.raises(
        nn.InputError, match="the earlier sweep has another code: expected .*, got .*; use"
    ):
        run(changed, {"x": [1]}, save=file, resume=True)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "changed, name",
    [
        ({"offset": 1.5}, "constant offset: expected 1.5, got 1.0"),
        ({}, "set of constants: expected none, got offset"),
        ({"offset": np.zeros(3)}, "constant offset"),
    ],
)
def test_changed_constants_are_refused(tmp_path, changed, name):
    file = tmp_path / "sweep"
    run(constants={"offset": 1.0}, save=file)
    with pytest.raises(nn.InputError, match=f"the earlier sweep has another {name}"):
        run(constants=changed, save=file, resume=True)


def test_another_function_is_refused(tmp_path):
    file = tmp_path / "sweep"
    run(picky, {"x": [1]}, save=file)
    with pytest.raises(nn.InputError, match=r"another function: expected \S+slow, got \S+picky"):
        run(slow, {"x": [1]}, save=file, resume=True)


def test_what_a_function_closes_over_belongs_to_it(tmp_path):
    def make(factor):
        def inner(x):
            return factor * x

        return lambda x, seed: inner(x)

    file = tmp_path / "sweep"
    run(make(2), {"x": [1]}, save=file)
    run(make(2), {"x": [1]}, save=file, resume=True)
    with pytest.raises(nn.InputError, match="another code"):
        run(make(3), {"x": [1]}, save=file, resume=True)
    with pytest.raises(nn.InputError, match=r"function: .*factor: a saved run needs .*got lock"):
        run(make(threading.Lock()), {"x": [1]}, save=tmp_path / "other")
    partial = functools.partial(noisy, kind="a")
    run(partial, {"scale": [1]}, save=tmp_path / "partial")
    with pytest.raises(nn.InputError, match="another code"):
        run(
            functools.partial(noisy, kind="b"),
            {"scale": [1]},
            save=tmp_path / "partial",
            resume=True,
        )


class Callable:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x, seed):
        return self.factor * x

    method = __call__


@pytest.mark.parametrize("function", [Callable, lambda factor: Callable(factor).method])
def test_the_state_of_an_object_belongs_to_it(tmp_path, function):
    file = tmp_path / "sweep"
    run(function(2), {"x": [1]}, save=file)
    run(function(2), {"x": [1]}, save=file, resume=True)
    with pytest.raises(nn.InputError, match="another code"):
        run(function(3), {"x": [1]}, save=file, resume=True)


def test_without_content_nothing_is_saved(tmp_path):
    function, lock = Callable(2), threading.Lock()
    function.lock = lock
    assert run(function, {"x": [1]}, seeds=1).rows[0]["value"] == 2
    with pytest.raises(nn.InputError, match="function: .*lock: a saved run needs what a later one"):
        run(function, {"x": [1]}, save=tmp_path / "sweep")
    with pytest.raises(nn.InputError, match="constants: lock: a saved run needs"):
        run(lambda x, lock, seed: x, {"x": [1]}, constants={"lock": lock}, save=tmp_path / "sweep")
    assert not os.listdir(tmp_path)


def test_files_count_by_their_content(tmp_path):
    """A path of its own type by content alone; a string, which may be a word, by both."""
    one, two, file = tmp_path / "one", tmp_path / "two", tmp_path / "sweep"
    sizes = functools.partial(run, size_of, seeds=1, resume=True)
    one.write_text("same")
    two.write_text("same")
    for given in (one, two):
        sizes({"path": [given]}, constants={"other": given}, save=file)
    assert len(recorded(file)) == 1
    sizes({"path": [str(one), str(two)]}, constants={"other": one}, save=file)
    assert len(recorded(file)) == 3
    one.write_text("else")
    assert len(sizes({"path": [one, str(one)]}, constants={"other": two}, save=file).rows) == 2
    assert len(recorded(file)) == 5
    for given in (one, str(two)):
        with pytest.raises(nn.InputError, match="another constant other"):
            sizes({"path": [one]}, constants={"other": given}, save=file)


def size_of(path, seed, other):
    return os.stat(path).st_size


def test_a_second_writer_is_refused(tmp_path):
    file = tmp_path / "sweep"
    with sweeps.SweepJournal(file, None) as journal:
        journal.append({"key": "k", "values": {}, "error": None, "seconds": 1.0})
        with pytest.raises(nn.InputError, match="sweep: another run writes this file; wait"):
            run(save=file, resume=True)


@pytest.mark.parametrize(
    "record", [{}, {"key": "k"}, {"key": "k", "values": 1, "n_images": {}, "error": None}]
)
def test_a_record_of_something_else_is_refused(tmp_path, record):
    file = tmp_path / "sweep"
    run(slow, {"x": [1]}, save=file)
    with sweeps.SweepJournal(file, None) as journal:
        journal.replay(lambda _: None)
        journal.append(record)
    with pytest.raises(nn.InputError, match="a record holds no part of this earlier sweep"):
        run(slow, {"x": [1]}, save=file, resume=True)


def test_another_version_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "sweep"
    run(slow, {"x": [1]}, save=file)
    monkeypatch.setattr(grid, "versions", lambda: versions() | {"Nengo": "4.0.0"})
    with pytest.raises(nn.InputError, match="another Nengo: expected 4.0.0, got 4.1.0"):
        run(slow, {"x": [1]}, save=file, resume=True)


_KILLED = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {folder!r})
    from test_sweeps import run, slow
    run(slow, {{"x": range(60)}}, seeds=1, save={file!r}, resume=True, n_jobs={n_jobs})
    """
)


@pytest.mark.parametrize("n_jobs, kills", [(1, 5), (2, 2)])
def test_a_killed_sweep_goes_on(tmp_path, n_jobs, kills):
    """``kill -9`` at random moments: no finished cell is lost, none is there twice."""
    file = tmp_path / "sweep"
    code = _KILLED.format(folder=os.path.dirname(__file__), file=str(file), n_jobs=n_jobs)
    moments = random.Random(n_jobs)
    done = []
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
        wait_for_growth(file, process)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        keys = recorded(file)
        assert keys[: len(done)] == done
        assert len(keys) > len(done)
        done = keys
    assert len(done) < 60
    result = run(slow, {"x": range(60)}, seeds=1, save=file, resume=True, n_jobs=2)
    assert [row["value"] for row in result.rows] == [x / 7 for x in range(60)]
    assert recorded(file)[: len(done)] == done
    assert len(set(recorded(file))) == len(recorded(file)) == 60


def wait_for_growth(file, process=None, by=1):
    before = file.stat().st_size if file.exists() else 1000
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        if file.exists() and file.stat().st_size > before + 100 * by:
            return
        time.sleep(0.005)


# A Dask cluster.


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        # One worker lost by a cell instead of four: they take seconds to start.
        pytest.importorskip("dask").config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
    ):
        yield cluster


def test_a_cluster_gives_the_same_numbers(cluster):
    result = run(scheduler=cluster.scheduler_address, constants={"offset": 1.0})
    assert numbers(result) == numbers(run(constants={"offset": 1.0}))


def test_a_cluster_runs_failing_and_local_functions(cluster):
    result = run(picky, {"x": [1, 2]}, scheduler=cluster.scheduler_address)
    assert numbers(result) == numbers(run(picky, {"x": [1, 2]}))
    factor = 3
    assert (run(lambda x, seed: factor * x, {"x": [1]}, scheduler=cluster.scheduler_address)).rows[
        0
    ]["value"] == 3


def test_a_worker_lost_on_the_way_loses_no_cell(cluster, tmp_path):
    from distributed import Client

    file = tmp_path / "sweep"
    with Client(cluster, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())
        assert len(set(pids)) == 2
        killed = []

        def kill():
            wait_for_growth(file, by=10)
            os.kill(pids[0], signal.SIGKILL)
            # The sweep holds its file's lock.
            killed.append(len(recorded(shutil.copy(file, tmp_path / "copy"))))

        killer = threading.Thread(target=kill)
        killer.start()
        result = run(
            slow, {"x": range(60)}, seeds=2, save=file, scheduler=cluster.scheduler_address
        )
        killer.join()
        assert 0 < killed[0] < 120
        client.wait_for_workers(2, timeout=60)
        assert pids[0] not in client.run(os.getpid).values()
    assert not result.failed
    assert numbers(result) == numbers(run(slow, {"x": range(60)}, seeds=2, n_jobs=2))
    assert len(set(recorded(file))) == len(recorded(file)) == 120


def test_a_cell_that_kills_workers_is_recorded(cluster):
    result = run(fatal, {"x": range(6)}, seeds=1, scheduler=cluster.scheduler_address)
    assert [row["x"] for row in result.failed] == [3]
    assert result.failed[0]["error"].startswith("WorkerDied")


@CANNOT_BE_SENT
def test_what_cannot_be_sent_to_a_cluster_is_refused(cluster, constant):
    with pytest.raises(nn.InputError, match="expected a picklable function"):
        run(
            greedy,
            {"x": [1, 2]},
            constants={"items": constant},
            scheduler=cluster.scheduler_address,
        )


def test_a_scheduler_that_goes_away_leaves_a_good_file(tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    file = tmp_path / "sweep"
    cluster = distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0")

    def close():
        wait_for_growth(file, by=5)
        cluster.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(ConnectionError, match="is gone; .* and resume"):
        run(slow, {"x": range(200)}, save=file, scheduler=cluster.scheduler_address)
    closer.join()
    assert 0 < len(recorded(file)) < 600


def test_a_scheduler_that_is_not_there():
    dask = pytest.importorskip("dask", reason="Dask is not installed")
    pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "200ms"}),
        pytest.raises(nn.InputError, match="scheduler: expected the address of a running Dask"),
    ):
        run(scheduler="tcp://127.0.0.1:9")


def test_without_dask_there_is_a_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(nn.InputError, match=r"pip install 'nengonet\[distributed\]'"):
        run(scheduler="tcp://127.0.0.1:8786")


# What cannot be used.


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"grid": {"scale": 1.0, "kind": ["a"]}},
            "grid: scale: expected a list of values, got 1",
        ),
        ({"grid": {"scale": [1.0], "kind": "ab"}}, "grid: kind: expected a list of values"),
        ({"grid": {"scale": [], "kind": ["a"]}}, "grid: scale: expected one value or more"),
        ({"grid": []}, "grid: expected a dict of lists"),
        ({"grid": [1]}, "grid: expected a dict of parameter names"),
        ({"grid": {"scale": [{1}], "kind": ["a"]}}, "grid: scale: expected numbers.* got set"),
        ({"grid": GRID | {"seed": [1]}}, "grid: seed is a column of the table"),
        ({"grid": GRID | {"sclae": [1]}}, "to take the arguments scale, kind, sclae, seed, got"),
        ({"constants": {"kind": "a"}}, "constants: kind is a parameter of the grid as well"),
        ({"constants": {"error": "a"}}, "constants: error is a column of the table"),
        ({"seeds": 0}, "seeds: expected how many, at least 1, .* got 0"),
        ({"seeds": [-1]}, "seeds: expected .* got -1"),
        ({"seeds": 1.5}, "seeds: expected how many.* got 1.5"),
        ({"seeds": "12"}, "seeds: expected how many.* got '12'"),
        ({"seeds": True}, "seeds: expected how many.* got True"),
        ({"n_jobs": 0}, "n_jobs: expected a number of processes, or -1 for one per core, got 0"),
        ({"n_jobs": 2, "scheduler": "tcp://x:1"}, "n_jobs: the scheduler's workers run the cells"),
        ({"function": 3}, "function: expected a function, got 3"),
    ],
)
def test_what_is_refused(changed, message):
    with pytest.raises(nn.InputError, match=message):
        run(**changed)


def test_a_summary_by_no_parameter_is_refused():
    with pytest.raises(
        nn.InputError, match="by: unknown parameter 'sclae'; expected any of scale, kind"
    ):
        run().summary(by=["sclae"])


def test_progress_is_shown_only_to_people(capsys):
    with warnings.catch_warnings():
        run(progress=True)
    assert capsys.readouterr().err == ""
