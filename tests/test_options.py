"""The parameters of reproductions, and ``nengonet sweep``, which varies them."""

import csv
import json

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner

import nengonet as nn
from nengonet import datasets, studies
from nengonet.cli import main
from nengonet.studies.forum_mnist import STUDY
from nengonet.studies.options import grid_of


def call(*arguments):
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)])


def grid(name, settings):
    return grid_of(name, studies.get(name).parameters, settings)


@pytest.mark.parametrize("name", studies.names())
def test_every_parameter_has_values_and_a_default_among_them(name):
    parameters = studies.get(name).parameters
    assert len(parameters) > 3
    for parameter in parameters.values():
        assert bool(parameter.choices) != bool(parameter.number)
        text = "none" if parameter.default is None else str(parameter.default)
        assert parameter.parse(text) == [parameter.default]
        assert parameter.dashed in str(parameter)


def test_values_are_read_by_their_kind():
    found = grid("bengali", ["synapse=none,0.005", "n-steps=10,30", "neurons=rate", "scale=1e3"])
    assert found == {
        "synapse": [None, 0.005],
        "n_steps": [10, 30],
        "neurons": ["rate"],
        "scale": [1000.0],
    }
    assert [type(n) for n in found["n_steps"]] == [int, int]


def test_a_range_has_no_rounding_error_and_includes_its_end():
    (values,) = grid("forum-mnist", ["presentation-time=0.01:0.5:0.01"]).values()
    assert values == [k / 100 for k in range(1, 51)]
    assert grid("bengali", ["n-steps=5:9:2,20"]) == {"n_steps": [5, 7, 9, 20]}
    assert grid("bengali", ["n-steps=5:8:2"]) == {"n_steps": [5, 7]}


@pytest.mark.parametrize(
    "settings, message",
    [
        (["input-rate"], "--set: expected NAME=VALUE,VALUE,…, got 'input-rate'"),
        (["input-rate="], "--set: expected NAME=VALUE"),
        (["input-rat=1"], "full-scale-rate.*, got 'input-rat'; did you mean 'input-rate'"),
        (["xyzzy=1"], r"expected parameters of forum-mnist \(variant, neurons.* got 'xyzzy'"),
        (["input-rate=1,fast"], "--set input-rate: expected a number, got 'fast'"),
        (["neurons=lif,adex"], "--set neurons: expected lif or if or relu, got 'adex'"),
        (["neurons=none"], "got 'none'"),
        (["input-rate=1,1.0"], "--set input-rate: expected different values, got 1.0 twice"),
        (
            ["input-rate=1", "input-rate=2"],
            "--set: expected every parameter once, got input-rate twice",
        ),
        (["input-rate=1:2"], "expected START:STOP:STEP"),
        (["input-rate=1:2:0"], "expected START:STOP:STEP"),
        (["input-rate=2:1:1"], "expected START:STOP:STEP"),
        (["input-rate=a:b:c"], "expected START:STOP:STEP"),
        (["seed=1"], "got 'seed'"),
        (["n-images=1"], "got 'n-images'"),
    ],
)
def test_what_cannot_be_set_is_refused(settings, message):
    with pytest.raises(nn.InputError, match=message):
        grid("forum-mnist", settings)


def test_a_cell_is_the_reproduction():
    chosen = {"neurons": "if", "full_scale_rate": 400.0, "n_images": 20, "presentation_time": 0.1}
    measured = STUDY.measure(**chosen, seed=3)
    report = STUDY.reproduce(**chosen, seed=3, progress=False)
    assert measured["accuracy"] == report.accuracy
    assert measured["ties"] == report.accuracy.ties / 20
    assert measured["spikes"] == sum(report.spikes_per_image.values())
    assert measured["operations"] == sum(report.operations_per_image.values())
    posted = STUDY.measure(variant="posted", n_images=20)
    again = STUDY.reproduce(variant="posted", n_images=20, progress=False)
    assert posted["accuracy"] == again.accuracy
    with pytest.raises(nn.InputError, match="posted fixes neurons, input_rate"):
        STUDY.measure(variant="posted", neurons="if")


@pytest.mark.parametrize("name", sorted({"bengali", "cifar-csnn"} & set(studies.names())))
def test_cells_of_convolutional_reproductions(name, monkeypatch):
    """Images are noise; the test is that the parameters reach the network."""
    shape = (2, 28, 28) if name == "bengali" else (2, 32, 32, 3)
    images = np.random.default_rng(0).random(shape)
    monkeypatch.setattr(datasets, "load", lambda *_, **__: (images, np.zeros(2, dtype=int)))
    cell = studies.get(name).measure
    few = {"n_images": 2} | ({"n_steps": 5} if name == "bengali" else {"presentation_time": 0.005})
    spiking = {"neurons": "spiking" if name == "bengali" else "relu"} | few
    fast = cell(**spiking, scale=1000.0)
    assert fast["spikes"] > cell(**spiking, scale=100.0)["spikes"] > 0
    filtered = cell(**spiking, scale=1000.0, synapse=0.01)["spikes"]
    assert 0 < filtered != fast["spikes"]
    # With the CSNN's weights this filter gave more spikes on this noise, not fewer.
    assert name == "cifar-csnn" or filtered < fast["spikes"]
    assert cell(**few | {"neurons": "repaired"})["spikes"] > 0
    with pytest.raises(nn.InputError, match="expected none for the repaired network, got 0.01"):
        cell(**few, neurons="repaired", synapse=0.01)


SMALL = ["forum-mnist", "--images", 4, "--set", "presentation-time=0.02,0.05"]


def test_sweep_prints_saves_and_draws(tmp_path):
    files = {name: tmp_path / name for name in ("a.sweep", "out.csv", "sweep.png")}
    arguments = [*SMALL, "--set", "neurons=lif,if", "--seeds", "3,5", "--save", files["a.sweep"]]
    done = call(*arguments, "--csv", files["out.csv"], "--plot", files["sweep.png"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "forum-mnist: 8 cells, 0 failed; means of 2 seeds"
    assert lines[1].split()[:2] == ["presentation-time", "neurons"]
    assert len(lines) == 2 + 4
    with open(files["out.csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["3", "5"] * 4
    assert plt.imread(files["sweep.png"])[..., :3].std() > 0.05
    again = call(*arguments, "--resume", "--json")
    report = json.loads(again.stdout)
    assert [row["accuracy"] for row in report["rows"]] == [float(row["accuracy"]) for row in rows]
    assert report["grid"] == {"presentation_time": [0.02, 0.05], "neurons": ["lif", "if"]}
    assert report["constants"] == {"n_images": 4}
    assert plt.get_fignums() == []


def test_other_weights_in_the_same_file_are_not_resumed(tmp_path):
    """Nor is a changed data set; the path of the files does not matter."""
    weights, moved = tmp_path / "weights.h5", tmp_path / "moved.h5"
    (tmp_path / "data").mkdir()
    weights.write_bytes(nn.pretrained("mnist_dense").read_bytes())
    arguments = ["forum-mnist", "--images", 2, "--set", "presentation-time=0.01"]
    arguments += ["--data", tmp_path / "data", "--save", tmp_path / "a.sweep", "--weights"]
    assert json.loads(call(*arguments, weights, "--json").stdout)["constants"]["weights"] == str(
        weights
    )
    moved.write_bytes(weights.read_bytes())
    assert call(*arguments, moved, "--resume").exit_code == 0
    with h5py.File(weights, "r+") as file:
        names = []
        file.visit(names.append)
        array = next(file[name] for name in names if isinstance(file[name], h5py.Dataset))
        array[...] = array[...] + 1
    done = call(*arguments, weights, "--resume")
    assert done.exit_code == 2
    assert "has another constant weights" in done.stderr
    (tmp_path / "data" / "more").write_text("")
    assert "has another constant data" in call(*arguments, moved, "--resume").stderr


def test_json_of_one_seed_has_null_for_its_interval():
    done = call(*SMALL, "--json")
    summary = json.loads(done.stdout, parse_constant=pytest.fail)["summary"]
    assert {row["low"] for row in summary} == {None}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["forum-mnist"], "--set: expected at least one parameter, such as --set input-rate"),
        ([*SMALL, "--seeds", "a"], "--seeds: expected a number of seeds, or several seeds"),
        ([*SMALL, "--seeds", "0"], "--seeds: expected a number of seeds"),
        ([*SMALL, "--resume"], "--resume: expected --save FILE"),
        ([*SMALL, "--jobs", "0"], "--jobs: expected a number of processes"),
        ([*SMALL, "--plot", "a.xyz"], "expected the name of a figure"),
        ([*SMALL, "--set", "speed=1"], "got 'speed'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message):
    done = call(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_cluster_runs_the_cells():
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        there = call(*SMALL, "--scheduler", cluster.scheduler_address, "--json")
    assert there.exit_code == 0, there.output
    here = json.loads(call(*SMALL, "--json").stdout)
    for row, other in zip(json.loads(there.stdout)["rows"], here["rows"], strict=True):
        assert row | {"seconds": 0} == other | {"seconds": 0}


@pytest.mark.parametrize("name", studies.names())
def test_help_has_the_words_of_the_study(name):
    study = studies.get(name)
    for key, text in study.help.items():
        verb = key.split()[0] if " " in key else "diagnose"
        shown = CliRunner().invoke(main, [verb, name, "--help"], terminal_width=300).stdout
        assert " ".join(text.split()) in " ".join(shown.split())
