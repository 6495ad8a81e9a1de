import json
import os
import re
import subprocess
import sys

import click
import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner

import nengonet as nn
from nengonet import datasets, studies
from nengonet.cli import main
from nengonet.minibatch.acceleration import load_kernels

# What the command line has another name for.
PYTHONS = r"\bn_(images|jobs|steps|seeds|sweep)\b|\b\w+_rate\b|presentation_time|allow=|networks:"
FEW = ["reproduce", "forum-mnist", "--images", "3", "--presentation-time", "0.05"]
KEYS = {
    "name",
    "published",
    "accuracy",
    "interval",
    "ann_accuracy",
    "n_images",
    "n_steps",
    "ties",
    "spikes_per_image",
    "settings",
    "cells",
}


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_json_is_one_object_and_nothing_else():
    done = call(*FEW, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report.keys() >= KEYS
    assert (report["name"], report["n_images"], report["n_steps"]) == ("forum-mnist", 3, 50)
    low, high = report["interval"]
    assert low <= report["accuracy"] <= high
    assert report["settings"]["neurons"] == "lif"


def test_options_reach_the_network():
    done = call(*FEW, "--neurons", "if", "--input-rate", 1000, "--seed", 4, "--json")
    settings = json.loads(done.stdout)["settings"]
    assert (settings["neurons"], settings["input_rate"], settings["seed"]) == ("if", 1000.0, 4)
    posted = json.loads(call(*FEW, "--as-posted", "--json").stdout)
    assert posted["settings"]["readout"] == "steps_after_first_spike"


def test_report_for_people():
    done = call("reproduce", "forum-mnist", "--images", 3, "--as-posted")
    for words in ("published", "0.45", "ANN", "spiking", "ties", "saturated", "silent"):
        assert words in done.stdout


def test_runs_as_a_program_from_another_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "nengonet", *FEW, "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path), "NENGONET_DATA": ""},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_images"] == 3
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr.replace("DeprecationWarning: numpy.core", "")


def test_save_and_resume(tmp_path):
    file = tmp_path / "run.h5"
    first = call(*FEW, "--save", file, "--json")
    again = call(*FEW, "--save", file, "--resume", "--json")
    assert first.exit_code == again.exit_code == 0
    assert json.loads(first.stdout)["accuracy"] == json.loads(again.stdout)["accuracy"]
    assert nn.load_result(file).n_images == 3


def test_plot(tmp_path):
    for arguments in ([], ["--as-posted"]):
        done = call(*FEW, *arguments, "--plot", tmp_path / "run.png")
        assert done.exit_code == 0, done.output
        pixels = plt.imread(tmp_path / "run.png")
        assert pixels.shape[0] > 500
        assert pixels[..., :3].std() > 0.05
    assert plt.get_fignums() == []


def test_weights_table_and_json():
    path = nn.pretrained("mnist_dense")
    table = call("weights", path)
    assert table.exit_code == 0
    for words in ("hidden", "output", "784", "128", "101632"):
        assert words in table.stdout
    summary = json.loads(call("weights", path, "--json").stdout)
    assert [layer["name"] for layer in summary["layers"]] == [
        "input",
        "flatten",
        "hidden",
        "output",
    ]
    assert [layer["activation"] for layer in summary["layers"][2:]] == ["relu", "softmax"]


def test_bundled_weights_go_by_their_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(nn.pretrained("mnist_dense"))
    assert call("weights", "mnist_dense").stdout == call("weights", path).stdout
    assert nn.load_weights("mnist_dense").path == nn.pretrained("mnist_dense")
    found = [
        json.loads(call(*FEW, "--weights", each, "--json").stdout)["accuracy"]
        for each in ("mnist_dense", path)
    ]
    assert found[0] == found[1]
    grid = ["--set", "neurons=if", "--images", 3, "--weights", "mnist_dense", "--json"]
    swept = json.loads(call("sweep", "forum-mnist", *grid).stdout)
    assert swept["rows"][0]["error"] is None
    missing = call("weights", "mnist_dens")
    assert missing.exit_code == 2
    assert missing.stderr == (
        "nengonet: mnist_dens: no such file or bundled weights; did you mean 'mnist_dense'?\n"
    )
    # A file here comes first.
    (tmp_path / "mnist_dense").write_bytes(b"")
    assert "got an empty file" in call("weights", "mnist_dense").stderr


@pytest.fixture
def wrong_shapes(tmp_path):
    with h5py.File(tmp_path / "wrong.h5", "w") as file:
        file["kernel"] = np.ones((3, 4))
    return tmp_path / "wrong.h5"


def test_diagnosis_names_the_three_causes():
    done = call("diagnose", "forum-mnist", "--as-posted", "--images", 100, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    codes = [finding["code"] for finding in report["findings"]]
    assert codes[:3] == ["input-range", "saturation", "readout-filter"]
    assert 0.4 < report["predicted_accuracy"] < 0.8
    assert [layer["label"] for layer in report["layers"]][-2:] == ["hidden", "output"]
    text = call("diagnose", "forum-mnist", "--as-posted", "--images", 100).stdout
    assert "1. error: input: the brightest pixels fire at 25,500 Hz [input-range]" in text


def test_diagnosis_beside_a_run(tmp_path):
    arguments = ["diagnose", "forum-mnist", "--neurons", "if", "--images", 50, "--simulate", 5]
    done = call(*arguments, "--json", "--plot", tmp_path / "rates.png")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["findings"] == []
    assert report["observed"]["layers"][1]["correlation"] > 0.99
    assert (tmp_path / "rates.png").stat().st_size > 10_000
    assert "observed in 5 images" in call(*arguments).stdout


def test_budget(tmp_path):
    short = ["--images", 4, "--presentation-time", 0.05, "--plot", tmp_path / "budget.png"]
    done = call("budget", "forum-mnist", "--obvious", *short, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert sum(step["change"] for step in report["steps"]) == pytest.approx(report["total"])
    assert report["settings"]["network"] == "obvious"
    assert (tmp_path / "budget.png").stat().st_size > 10_000


def test_bench_compares_and_times():
    arguments = ["bench", "--images", 12, "--reference", 4, "--presentation-time", 0.05]
    arguments += ["--seed", 3]
    done = call(*arguments, "--jobs", 1, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["identical_share"] == 1.0
    assert report["compared_counts"] == 4 * (784 + 128 + 10)
    speeds = {name: report[f"{name}_images_per_s"] for name in ("plain", "reference", "twin")}
    slow = report["twin_without_numba_images_per_s"]
    assert min(speeds["plain"], speeds["reference"], slow) > 0
    assert report["ratio_without_numba"] == slow / speeds["reference"]
    assert report["ratio_to_plain"] == (speeds["twin"] or slow) / speeds["plain"]
    assert (report["ratio"] is None) == (speeds["twin"] is None) == (load_kernels() is None)
    spikes = report["twin_spikes_per_s"] / (speeds["twin"] or slow)
    case = studies.get("forum-mnist").build("repaired", seed=3)
    result = case.present(
        datasets.load("mnist", n_images=12)[0], presentation_time=0.05, progress=False
    )
    assert spikes == pytest.approx(sum(result.spikes_per_image().values()))
    assert report["peak_memory_mib"] > 10
    assert sum(report["operators"].values()) == pytest.approx(1)
    assert any("hidden" in name for name in report["operators"])
    assert call("bench", "--initial-voltage", "image").exit_code == 2  # it would change nothing
    text = call(*arguments, "--jobs", 1).stdout
    for words in (
        "nengo.Simulator, the forum's loop",
        "nengo.Simulator, 1 job",
        "MinibatchSimulator without Numba, 1 job",
        "identical spike counts: 100",
    ):
        assert words in text


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, wrong_shapes):
    (tmp_path / "text.h5").write_text("not HDF5")
    (tmp_path / "run.h5").write_text("there already")
    cases = {
        ("weights", tmp_path / "none.h5"): "none.h5",
        ("weights", tmp_path / "text.h5"): "expected HDF5",
        (*FEW, "--weights", wrong_shapes): "expected Dense layers from 784 inputs to 10 outputs",
        (*FEW, "--images", "many"): "--images: expected a whole number",
        (*FEW, "--images", "0"): "--images",
        (*FEW, "--as-posted", "--neurons", "if"): "--as-posted fixes neurons, --input-rate",
        (*FEW, "--as-posted", "--obvious"): "--as-posted and --obvious: expected one of them",
        (*FEW, "--constant-input", "--input-rate", "9"): "--constant-input and --input-rate: expe",
        ("diagnose", "forum-mnist", "--plot", "a.png"): "expected --simulate N",
        (*FEW, "--resume"): "expected --save FILE",
        ("bench", "--images", "3", "--reference", "0"): "--reference: expected a whole number of",
        (*FEW, "--save", tmp_path / "run.h5"): "already exists",
        (*FEW, "--plot", tmp_path / "run.xyz"): "expected the name of a figure",
        (*FEW, "--plot", tmp_path / "no" / "run.png"): "does not exist",
        (*FEW, "--presentation-time", "0"): "--presentation-time: expected a time",
        (*FEW, "--input-rate", "-5"): "--input-rate: expected a rate in Hz, above 0, got -5.0",
        (*FEW, "--full-scale-rate", "0"): "--full-scale-rate: expected a rate in Hz, above 0",
        (
            *FEW,
            "--full-scale-rate",
            "600",
        ): "--full-scale-rate: expected a rate that the neurons rea",
        (*FEW, "--seed", "-1"): "--seed: expected a whole number from 0 to 4294967295, got -1",
        (*FEW, "--images", "20000"): "(all of mnist's test split), or 'all', got 20000",
        (*FEW, "--data", "nowhere"): "--data: expected a folder with the data set, or an .npz file",
        ("reproduce", "bengali", "--steps", "0"): "--steps: expected a whole number of at least 1",
        ("reproduce", "bengali", "--sweep-images", "-1"): "--sweep-images: expected a whole number",
        ("reproduce", "amplitude", "--weights", "mnist_dense", "--network", "cnn"): (
            "--network: expected mlp, the network of"
        ),
        ("sweep", "forum-mnist", "--set", "input-rate=9", "--images", "0"): "--images: expected a ",
        ("sweep", "forum-mnist", "--set", "input-rate=9", "--retry-failed"): "--retry-failed: exp",
        ("sweep", "forum-mnist", "--set", "input-rate=9", "--images", 2, "--jobs", "0"): "--jobs: ",
        ("reproduce", "forum-mnst"): "unknown study 'forum-mnst'; did you mean 'forum-mnist'?",
        ("diagnose", "mine"): "forum-mnist, or SCRIPT.py:OUTPUT for your own network; see nengonet",
        ("--quick",): "unknown option --quick; see nengonet --help",
        (*FEW, "--as-postd"): "unknown option --as-postd; did you mean '--as-posted'?",
        (*FEW, "--seed", "1.0"): "--seed: expected a whole number, got '1.0'",
        (*FEW, "--simulator", "nengo"): "--simulator: expected one of minibatch, reference, got ",
        (*FEW, "--save"): "--save: expected a value, got none",
        (*FEW, "--resume=3"): "--resume: expected no value, got one",
        (*FEW, "more"): "expected no more words, got 'more'; see nengonet reproduce forum-mnist --",
        (
            "diagnose",
            "forum-mnist",
            "--simulate",
            "0",
        ): "expected a whole number of at least 1, got 0",
        ("weights",): "expected FILE, got none; see nengonet weights --help",
        ("diagnose", "a.py:b"): "expected --images, got none; see nengonet diagnose a.py:b --help",
        (*FEW, "--save", tmp_path / "no" / "a.h5"): "does not exist; create it first",
        ("export", "forum-mnist", "a.nir", "--constant-input"): "--allow tau_ref,min_voltage",
        ("export", "forum-mnist", "a.nir", "--constant-input", "--step", "0"): "--step: expected a",
    }
    for arguments, message in cases.items():
        done = call(*arguments)
        assert done.exit_code == 2, (arguments, done.output)
        assert message in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.splitlines()) == 1, (arguments, done.stderr)
        assert not re.search(PYTHONS, done.stderr), (arguments, done.stderr)
        assert done.stdout == ""
    assert sorted(os.listdir(tmp_path)) == ["run.h5", "text.h5", "wrong.h5"]


def test_export_writes_a_graph_of_nir(tmp_path):
    nir = pytest.importorskip("nir")
    file = tmp_path / "forum.nir"
    export = ["export", "forum-mnist", file, "--constant-input"]
    done = call(*export)
    assert (done.exit_code, file.exists()) == (2, False)
    assert "hidden, output: NIR has no refractory time" in done.stderr
    done = call(*export, "--allow", "tau_ref,min_voltage", "--step", "0.0005", "--euler")
    assert done.exit_code == 0, done.output
    assert "left out: tau_ref, min_voltage" in done.stdout
    graph, weights = nir.read(file), nn.load_weights(file)
    assert graph.metadata["dt"] == 0.0005
    assert list(weights) == ["hidden", "output"]
    assert 1 - 0.0005 / graph.nodes["output_lif"].tau[0] == pytest.approx(np.exp(-0.0005 / 0.02))
    found = json.loads(call(*export, "--allow", "tau_ref,min_voltage", "--json").stdout)
    assert found["left_out"] == "tau_ref, min_voltage"
    assert ["hidden", "hidden_lif"] in found["edges"]
    assert found["nodes"][0]["shape"] == [784]
    assert os.listdir(tmp_path) == ["forum.nir"]
    done = call("export", "forum-mnist", tmp_path / "no" / "a.nir", *export[3:], "--neurons", "if",
                "--allow", "reset,initial_state")  # fmt: skip
    assert "a.nir: expected a file in a folder that exists" in done.stderr


def test_export_takes_a_script(tmp_path):
    nir = pytest.importorskip("nir")
    script = tmp_path / "own.py"
    script.write_text(
        "import nengo, numpy as np\n"
        "zero = {'voltage': nengo.dists.Choice([0])}\n"
        "lif = nengo.LIF(tau_ref=0, min_voltage=-np.inf, initial_state=zero)\n"
        "with nengo.Network(seed=0) as net:\n"
        "    source = nengo.Node(np.zeros(3), label='source')\n"
        "    ens = nengo.Ensemble(4, 1, neuron_type=lif, label='ens')\n"
        "    nengo.Connection(source, ens.neurons, transform=np.ones((4, 3)), synapse=None)\n"
    )
    done = call("export", f"{script}:ens", tmp_path / "own.nir", "--step", "0.002")
    assert done.exit_code == 0, done.output
    graph = nir.read(tmp_path / "own.nir")
    assert sorted(graph.nodes) == ["ens", "ens_lif", "output", "source"]
    assert graph.metadata["dt"] == 0.002
    assert "ens_lif  LIF" in done.stdout


def test_every_option_has_a_sentence_of_help():
    def sentences(command, context=None):
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                yield from sentences(command.get_command(context, name))
        else:
            yield from (
                (command.name, each.opts, each.help or "")
                for each in command.params
                if isinstance(each, click.Option)
            )

    found = list(sentences(main))
    assert len(found) > 100
    assert not [each for each in found if not re.match(r'[A-Z].+[\w"]\.', each[2])]


def test_an_unknown_command_names_the_closest_one():
    for words in (["reproduce", "forum-mnst"], ["diagnose", "forum-mnst"]):
        done = call(*words)
        assert done.exit_code == 2
        assert "unknown study 'forum-mnst'; did you mean 'forum-mnist'?" in done.stderr
    assert "'xyzzy'; expected one of reproduce, diagnose, " in call("xyzzy").stderr


def test_help_shows_commands_and_an_example():
    text = call("--help").stdout
    for words in ("reproduce", "diagnose", "budget", "weights"):
        assert words in text
    assert "Example: nengonet reproduce forum-mnist" in call("reproduce", "--help").stdout
    assert nn.__version__ in call("--version").stdout
