"""The cells of a sweep, and the changes that make it a different sweep."""

import functools
import itertools
import os
import sys
import threading
import time

import numpy as np
import pytest
from sweeping import GRID, noisy, picky, recorded, run, slow

import nengonet as nn
from nengonet.run.content import versions
from nengonet.sweeps import grid


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
    """Load a text as a module, each time under the same name."""
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
    with pytest.raises(nn.InputError, match=r"function: .*factor: expected content .*got lock"):
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
    with pytest.raises(nn.InputError, match="function: .*lock: expected content that a later run"):
        run(function, {"x": [1]}, save=tmp_path / "sweep")
    with pytest.raises(nn.InputError, match="constants: lock: expected content that a later run"):
        run(lambda x, lock, seed: x, {"x": [1]}, constants={"lock": lock}, save=tmp_path / "sweep")
    assert not os.listdir(tmp_path)


def test_files_count_by_their_content(tmp_path):
    """A path counts by content alone, a string (which may be a word) by text and content."""
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


def test_another_version_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "sweep"
    run(slow, {"x": [1]}, save=file)
    monkeypatch.setattr(grid, "versions", lambda: versions() | {"Nengo": "4.0.0"})
    with pytest.raises(nn.InputError, match="another Nengo: expected 4.0.0, got 4.1.0"):
        run(slow, {"x": [1]}, save=file, resume=True)


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"grid": {"scale": 1.0, "kind": ["a"]}},
            "grid: scale: expected a list of values, got 1",
        ),
        ({"grid": {"scale": [1.0], "kind": "ab"}}, "grid: kind: expected a list of values"),
        ({"grid": {"scale": [], "kind": ["a"]}}, "grid: scale: expected at least one value"),
        ({"grid": []}, "grid: expected a dict of lists"),
        ({"grid": [1]}, "grid: expected a dict of parameter names"),
        ({"grid": {"scale": [{1}], "kind": ["a"]}}, "grid: scale: expected numbers.* got set"),
        ({"grid": GRID | {"seed": [1]}}, "grid: expected names other than the columns .* got seed"),
        ({"grid": GRID | {"sclae": [1]}}, "to take the arguments scale, kind, sclae, seed, got"),
        (
            {"constants": {"kind": "a"}},
            "constants: expected names other than those of the grid, got kind",
        ),
        ({"constants": [1]}, r"^constants: expected a dict, got shape \(1,\)$"),
        ({"grid": np.zeros((2, 2))}, r"a list of them, got shape \(2, 2\)$"),
        (
            {"constants": {"error": "a"}},
            "constants: expected names other than the columns .* got error",
        ),
        ({"seeds": 0}, "seeds: expected a number of seeds, at least 1, .* got 0"),
        ({"seeds": [-1]}, "seeds: expected .* got -1"),
        ({"seeds": 1.5}, "seeds: expected a number of seeds.* got 1.5"),
        ({"seeds": "12"}, "seeds: expected a number of seeds.* got '12'"),
        ({"seeds": True}, "seeds: expected a number of seeds.* got True"),
        ({"n_jobs": 0}, "n_jobs: expected a number of processes, or -1 for one per core, got 0"),
        ({"n_jobs": 2, "scheduler": "tcp://x:1"}, "n_jobs: expected 1, as the scheduler's workers"),
        ({"function": 3}, "function: expected a function, got 3"),
    ],
)
def test_what_is_refused(changed, message):
    with pytest.raises(nn.InputError, match=message):
        run(**changed)
