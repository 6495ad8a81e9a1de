"""The failing cells of a sweep, and the file of its finished cells."""

import functools
import itertools
import warnings

import numpy as np
import pytest
from sweeping import greedy, numbers, picky, recorded, run, slow

import nengonet as nn
from nengonet.sweeps import sweep as sweeps


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_failing_cell_does_not_stop_the_rest(n_jobs):
    result = run(picky, {"x": [1, 2, 3]}, seeds=2, n_jobs=n_jobs)
    assert [row["value"] for row in result.rows] == [1, 2, None, None, 3, 4]
    assert [(row["x"], row["seed"]) for row in result.failed] == [(2, 0), (2, 1)]
    error = result.failed[0]["error"]
    assert error.startswith("ValueError: two is\nno good (sweeping.py, line ")
    assert error.endswith('in picky: raise ValueError("two is\\nno good"))')
    assert [(row["x"], row["n"]) for row in result.summary()] == [(1, 2), (2, 0), (3, 2)]


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


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_cells_do_not_share_their_arguments(n_jobs):
    result = run(greedy, {"x": range(6)}, constants={"items": []}, n_jobs=n_jobs)
    assert {row["value"] for row in result.rows} == {1}


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
    """A write may stop at any byte, even in the first line."""
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
        nn.InputError, match="expected the file of an earlier sweep .*, got another file"
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


def test_a_second_writer_is_refused(tmp_path):
    file = tmp_path / "sweep"
    with sweeps.SweepJournal(file, None) as journal:
        journal.append({"key": "k", "values": {}, "error": None, "seconds": 1.0})
        with pytest.raises(nn.InputError, match="sweep: another run is writing this file; wait"):
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
    with pytest.raises(nn.InputError, match="a record does not belong to this earlier sweep"):
        run(slow, {"x": [1]}, save=file, resume=True)


def test_progress_is_shown_only_to_people(capsys):
    with warnings.catch_warnings():
        run(progress=True)
    assert capsys.readouterr().err == ""
