"""Commands for a network in a script: `nengonet.cli.scripts`."""

import json
import pathlib
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import nengonet as nn
from nengonet.cli import main
from nengonet.cli.scripts import load_script

SCRIPT = pathlib.Path(__file__).parent / "data" / "forum_script.py"
TIME = ["--time", "0.05"]


@pytest.fixture(autouse=True)
def path(monkeypatch):
    # A script's folder stays on the path, for what it imports while it runs.
    monkeypatch.setattr(sys, "path", list(sys.path))


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(*arguments):
    """Return the one line that a command prints instead of a traceback."""
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()[-1:]
    assert line.startswith("nengonet: ")
    assert "Traceback" not in done.output
    return line


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_present():
    """The command runs what `present` runs, and prints one JSON object."""
    words = ["--images", "images", "--labels", "labels", *TIME]
    done = call("present", f"{SCRIPT}:out", *words, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    module = load_script(SCRIPT)
    result = nn.present(module.model, module.out, module.images, presentation_time=0.05)
    assert report["accuracy"] == result.accuracy(module.labels).value
    assert (report["n_images"], report["n_steps"], report["readout"]) == (9, 50, "spike_count")
    assert [row["label"] for row in report["layers"]] == ["pixels", "hidden", "ensemble 2"]
    for row in report["layers"]:
        counts = result.counts[row["label"]]
        assert row["spikes"] == pytest.approx(counts.sum(axis=1).mean())
        assert row["silent"] == pytest.approx((counts == 0).mean())
    text = call("present", f"{SCRIPT}:out", *words, "--simulator", "reference", "--jobs", 2)
    assert text.exit_code == 0, text.output
    assert f"accuracy by spike_count: {report['accuracy']:.4f}" in text.stdout
    assert "the script prints this" in text.stderr
    assert "the script prints this" not in text.stdout


def test_images_from_files_and_options(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (6, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.savez(tmp_path / "both.npz", images=images, labels=np.arange(6) % 4)
    np.save(tmp_path / "labels.npy", np.arange(6) % 4)
    words = ["present", f"{SCRIPT}:out", *TIME, "--json", "--input", "inp", "--n-images", 5]
    # Of a file of images with labels, the pixels are in [0, 1]; of an array, as they are.
    both = json.loads(call(*words, "--images", tmp_path / "both.npz").stdout)
    array = call(*words, "--images", tmp_path / "images.npy", "--labels", tmp_path / "labels.npy")
    array = json.loads(array.stdout)
    assert both["n_images"] == array["n_images"] == 5
    assert array["layers"][0]["spikes"] > 100 * both["layers"][0]["spikes"]
    other = json.loads(call(*words, "--images", tmp_path / "both.npz", "--seed", 3).stdout)
    assert other["layers"][0]["spikes"] != both["layers"][0]["spikes"]
    # Labels that the output has no classes for say nothing of it.
    few = ["present", f"{SCRIPT}:out.neurons[:2]", *TIME, "--images", tmp_path / "both.npz"]
    few = json.loads(call(*few, "--json").stdout)
    assert few["accuracy"] is None
    assert (few["layers"][-1]["label"], few["layers"][-1]["size"]) == ("ensemble 2[:2]", 2)


def test_save_and_resume(tmp_path):
    words = ["present", f"{SCRIPT}:hidden", *TIME, "--images", "images", "--json"]
    file = tmp_path / "run.h5"
    first = call(*words, "--save", file)
    assert first.exit_code == 0, first.output
    again = call(*words, "--save", file, "--resume")
    assert again.stdout == first.stdout
    assert "already exists; pass --resume to continue" in refused(*words, "--save", file)
    assert "expected --save FILE" in refused(*words, "--resume")
    assert nn.load_result(file).n_images == 9


def test_diagnose_and_budget(tmp_path):
    words = [f"{SCRIPT}:out", "--images", "images", "--labels", "labels", *TIME]
    module = load_script(SCRIPT)
    figure = ["--plot", tmp_path / "compared.svg"]
    done = call("diagnose", *words, "--simulate", 3, *figure, "--json")
    assert (tmp_path / "compared.svg").stat().st_size > 0
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    expected = nn.diagnose(
        module.out,
        module.images,
        labels=module.labels,
        presentation_time=0.05,
        network=module.model,
    )
    assert report["predicted_accuracy"] == expected.predicted_accuracy.value
    assert [row["label"] for row in report["observed"]["layers"]] == [
        "pixels",
        "hidden",
        "ensemble 2",
    ]
    assert "built without Keras weights" in report["ann_reason"]
    # Before anything is run or read.
    assert "--plot: expected --simulate N" in refused("diagnose", "none.py:x", *words[1:], *figure)
    budget = call("budget", *words, "--plot", tmp_path / "budget.svg")
    assert (tmp_path / "budget.svg").stat().st_size > 0
    assert budget.exit_code == 0, budget.output
    assert budget.stdout.splitlines()[1].startswith("scales and biases of the network")
    assert "no ANN to begin with" in budget.stdout
    assert "--labels: expected the labels" in refused(
        "budget", f"{SCRIPT}:out", "--images", "images", *TIME
    )


def test_a_budget_begins_with_scores_that_are_given():
    module = load_script(SCRIPT)
    scores = np.eye(4)[module.labels]
    settings = {"network": module.model, "presentation_time": 0.05, "n_repeats": 2}
    run = {"progress": False} | settings
    found = nn.error_budget(module.out, module.images, module.labels, ann=scores, **run)
    assert (found.steps[0].name, found.steps[0].accuracy, found.ann_reason) == ("ANN", 1.0, None)
    result = nn.present(
        module.model, module.out, module.images, presentation_time=0.05, progress=False
    )
    assert found.steps[-1].accuracy == result.accuracy(module.labels).value
    with pytest.raises(nn.InputError, match=r"ann: expected scores .* \(9, 4\), got \(9, 3\)"):
        nn.error_budget(module.out, module.images, module.labels, ann=scores[:, :3], **run)


def test_sweeps(tmp_path):
    words = ["sweep", f"{SCRIPT}:out", "--images", "images", "--labels", "labels", "--json"]
    settings = ["--set", "presentation-time=0.02,0.05", "--seeds", "1,2"]
    files = ["--csv", tmp_path / "rows.csv", "--plot", tmp_path / "sweep.svg"]
    done = call(*words, *settings, *files)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    module = load_script(SCRIPT)
    assert len(rows) == 4
    for row in rows:
        time = {"presentation_time": row["presentation_time"], "seed": row["seed"]}
        result = nn.present(module.model, module.out, module.images, **time, progress=False)
        assert row["accuracy"] == result.accuracy(module.labels).value
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 5
    assert (tmp_path / "sweep.svg").stat().st_size > 0
    readouts = call(*words, "--set", "readout=mean,steps_after_first_spike,none")
    assert readouts.exit_code == 0, readouts.output
    found = [(row["readout"], row["accuracy"]) for row in json.loads(readouts.stdout)["rows"]]
    time = {"seed": 0, "progress": False}
    result = nn.present(module.model, module.out, module.images, **time)
    for readout, accuracy in found:
        assert accuracy == result.accuracy(module.labels, readout or "spike_count").value
    assert len(found) == 3
    function = call("sweep", f"{SCRIPT}:measure", "--set", "factor=2,0.5", "--jobs", 2, "--json")
    assert function.exit_code == 0, function.output
    assert [row["value"] for row in json.loads(function.stdout)["rows"]] == [2, 0.5]
    assert "got 'presentation'; did you mean" in refused(*words, "--set", "presentation=1")
    assert "--set: expected at least one parameter" in refused(*words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = (2,\n", r"mine.py, line 2: SyntaxError: '(' was never closed"),
        (
            "def f():\n    return nothing\n\nf()\n",
            "mine.py, line 2, in f: NameError: name 'nothing'",
        ),
        ("import sys\nsys.exit('no')\n", "mine.py, line 2, in <module>: SystemExit: no"),
        ("import nengo\nnengo.Node([1])\n", "mine.py, line 2, in <module>: NetworkContextError"),
        ("import not_there\n", "mine.py, line 1, in <module>: ModuleNotFoundError"),
        ("x = 1\n", "unknown name 'out' (NameError: name 'out' is not defined); its Nengo objects"),
        ("out = 1\n", "expected a nengo.Network in a variable of the module, got none"),
        ("import nengo\nnet = nengo.Network()\nout = 1\n", "out: expected a Layer, an Ensemble"),
    ],
)
def test_what_is_wrong_with_a_script(write, text, message):
    for verb in ("present", "diagnose"):
        assert message in refused(verb, f"{write(text)}:out", "--images", "mnist")


def test_wrong_names_list_what_there_is():
    words = ["--images", "images"]
    line = refused("present", f"{SCRIPT}:hiden", *words)
    assert "model (Network), inp (Node), pixels (Ensemble), hidden (Ensemble)" in line
    assert line.endswith("did you mean 'hidden'?")
    assert "expected SCRIPT.py:OUTPUT" in refused("present", "forum-mnist", *words)
    assert "expected SCRIPT.py:OUTPUT" in refused("present", SCRIPT, *words)
    assert "a path that does not exist" in refused("diagnose", "none.py:out", *words)
    assert "unknown name 'imp'" in refused("present", f"{SCRIPT}:out", *words, "--input", "imp")
    assert "did you mean 'mnist'" in refused("present", f"{SCRIPT}:out", "--images", "mnits")
    line = refused("present", f"{SCRIPT}:out", "--images", "image")
    assert (
        "--images: expected an array in the script (images, labels, other_images) or one of mn"
        in line
    )
    assert call("diagnose", "forum-mnits").exit_code == 2


def test_a_script_sees_no_words_of_the_command_and_is_imported_once(write):
    path = write("import sys\nassert sys.argv == [__file__], sys.argv\nseen = list(sys.argv)\n")
    before = list(sys.argv)
    assert load_script(path).seen == [str(path)]
    assert sys.argv == before
    # A name that a module has already is left to it.
    other = load_script(write("value = 3\n", "numpy.py"))
    assert other.value == 3
    assert sys.modules["numpy"] is np


def test_the_network_is_found():
    """Of two networks, the one with the output is found, or the named one."""
    words = ["--images", "images", *TIME]
    assert call("present", f"{SCRIPT}:out", *words, "--network", "model").exit_code == 0
    line = refused("present", f"{SCRIPT}:out", *words, "--network", "another")
    assert "is not part of the network that was given" in line
    line = refused("present", f"{SCRIPT}:lonely", *words)
    assert "images: expected a network with one input, got none" in line
    line = refused("present", f"{SCRIPT}:[out, lonely]", *words)
    assert "is not part of the network that was given" in line


BUILT = """
import nengo
import numpy as np

images = np.random.default_rng(0).uniform(-1, 1, (4, 2))
made = []

class Model(nengo.Network):
    def __init__(self, **given):
        super().__init__(**given)
        with self:
            self.stimulus = nengo.Node(np.zeros(2))
            self.cells = nengo.Ensemble(9, 2, label="cells")
            nengo.Connection(self.stimulus, self.cells)

def build(seed=3):
    made.append(seed)
    assert len(made) == 1, "built twice"
    net = Model(seed=seed)
    return {"net": net, "cells": net.cells}

class Holder:
    def __init__(self):
        self.net = Model(seed=3)
        self.cells = self.net.cells

def several():
    return [Model(seed=1), Model(seed=3)]
"""


@pytest.mark.parametrize(
    "output",
    [
        "build()['cells']",
        "build()['cells'].neurons[::-1]",
        "build(seed=3)['net'].cells",
        "Holder().cells",
        "several()[1].cells",
    ],
)
def test_the_network_of_an_output_that_a_function_makes(write, output):
    """The network is made once, and found in the parts of the expression."""
    path = write(BUILT, "built.py")
    done = call("present", f"{path}:{output}", "--images", "images", *TIME, "--json")
    assert done.exit_code == 0, done.output
    net = load_script(path).Model(seed=3)
    result = nn.present(net, net.cells, load_script(path).images, presentation_time=0.05)
    row = json.loads(done.stdout)["layers"][0]
    assert row["label"] == "cells"
    assert row["spikes"] == result.spikes["cells"].mean() > 0
    shown = call(
        "present",
        f"{path}:build()['cells']",
        *("--images", "images", "--input", "build()['net'].stimulus", "--json"),
        *TIME,
    )
    assert shown.exit_code == 0, shown.output


def test_images_of_the_wrong_shape():
    line = refused("present", f"{SCRIPT}:out", "--images", "other_images")
    assert line.endswith("--images: expected shape (n_images, 16) for node 0, got (2, 5)")


def test_numbers_of_images_that_there_are_not(tmp_path):
    words = [f"{SCRIPT}:out", "--images", "images", *TIME]
    for verb, option in (("present", "--n-images"), ("diagnose", "--simulate")):
        for number in (0, -1):
            line = refused(verb, *words, option, number)
            assert line.endswith(f"{option}: expected a whole number of at least 1, got {number}")
    line = refused("present", *words, "--n-images", 10)
    assert line.endswith("--n-images: expected a whole number from 1 to 9, got 10")
    np.save(tmp_path / "one.npy", 3.0)
    line = refused("present", words[0], "--images", tmp_path / "one.npy", "--n-images", 1)
    assert line.endswith("expected shape (n_images, 16) for node 0, got (1,)")
    assert "none.npy" in refused("present", words[0], "--images", "none.npy")


def test_help_has_the_options_and_an_example():
    for verb in ("present", "diagnose", "budget", "sweep"):
        done = call(verb, "my_script.py:output", "--help")
        assert done.exit_code == 0
        assert f"nengonet {verb} my_script.py:output" in done.stdout
        assert "--images" in done.stdout
    for verb in ("diagnose", "budget", "sweep"):
        text = " ".join(call(verb, "--help").stdout.split())
        assert "your " in text
        assert f"nengonet {verb} SCRIPT.py:OUTPUT --help" in text
    assert "SCRIPT.py:OUTPUT" not in call("reproduce", "--help").stdout


def test_what_does_not_spike_is_read_out_as_a_sum(write):
    text = "import nengo\nimport numpy as np\nwith nengo.Network() as net:\n"
    text += "    inp = nengo.Node(np.zeros(3))\n    out = nengo.Node(size_in=3)\n"
    path = write(f"{text}    nengo.Connection(inp, out)\nimages = np.eye(3)\nlabels = [0, 1, 2]\n")
    words = ["--images", "images", "--labels", "labels", *TIME, "--json"]
    report = json.loads(call("present", f"{path}:out", *words).stdout)
    assert (report["readout"], report["accuracy"]) == ("sum", 1.0)
    assert report["layers"][-1]["mean_rate"] is None
    last = json.loads(call("present", f"{path}:out", *words, "--readout", "last_step").stdout)
    assert last["readout"] == "last_step"


def test_a_few_images_of_a_named_input_are_simulated():
    words = [f"{SCRIPT}:out", "--images", "images", "--input", "inp", *TIME]
    done = call("diagnose", *words, "--simulate", 2)
    assert done.exit_code == 0, done.output
    assert "observed in 2 images:" in done.stdout
