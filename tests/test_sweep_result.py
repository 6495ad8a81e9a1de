"""The table of a sweep, and its statistics over seeds."""

import csv
import itertools
import json
import math
import sys

import numpy as np
import pytest
from scipy.stats import t as students_t
from sweeping import GRID, noisy, picky, run

import nengonet as nn
from nengonet.results.readout import accuracy, share_interval


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


def test_a_seed_without_all_its_cells_does_not_count():
    def function(x, seed):
        return x if (x, seed) != (2, 1) else 1 / 0

    (row,) = run(function, {"x": [1, 2]}, seeds=3).summary(by=[])
    assert (row["mean"], row["n"]) == (1.5, 2)


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


def test_a_summary_by_no_parameter_is_refused():
    with pytest.raises(
        nn.InputError, match="by: unknown parameter 'sclae'; expected any of scale, kind"
    ):
        run().summary(by=["sclae"])
