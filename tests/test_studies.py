"""The engine of the studies: a sixth one in one file, and what all have in common."""

import json
import pathlib
import sys

import matplotlib.pyplot as plt
import pytest
from click.testing import CliRunner

import nengonet as nn
from nengonet import studies
from nengonet.cli import main

SIXTH = '''"""Digits with IntegrateAndFire neurons, at one rate for all layers."""

from typing import Annotated, Literal

import nengo

from nengonet.ann.activations import activations, full_scale
from nengonet.layers.inputs import constant_input
from nengonet.layers.weighted import dense
from nengonet.neurons import IntegrateAndFire
from nengonet.studies.engine import Case, Data, Study, Variant
from nengonet.studies.forum_mnist import mlp_layers
from nengonet.studies.shared import matched


def network(
    given,
    *,
    rate: Annotated[float, "Hz of the largest activations."] = 200.0,
    last: Annotated[Literal["neurons", "node"], "What the last layer is."] = "neurons",
    presentation_time: Annotated[float, "Seconds per image."] = 0.05,
):
    """Build the network."""
    weights = given.load_weights("mnist_dense")
    layers = mlp_layers(weights)
    found = activations(layers, given.images("train", 100)[0])
    with nengo.Network(seed=given.seed):
        layer = constant_input((28, 28))
        for each in layers:
            neurons = IntegrateAndFire()
            tuning = matched(neurons, full_scale(found[each.name]), rate)
            if each is layers[-1] and last == "node":
                neurons, tuning = None, {}
            layer = dense(layer, each, neurons, **tuning)
    readout = "mean" if last == "node" else "spike_count"
    return Case(last, layer, layers, weights.path, presentation_time, readout=readout)


def on_rate(report):
    """Say how good it is."""
    yield f"one rate for all layers: {report.accuracy.value:.3f}"


STUDY = Study(
    name="sixth-study",
    title="digits at one rate",
    summary="Classify digits at one rate.",
    source="a test",
    data=Data("mnist"),
    network=network,
    variants={"neurons": Variant(), "linear": Variant({"last": "node"}, "--linear", "No neurons.")},
    notes=(on_rate,),
    examples={"sweep": "--set rate=100,200"},
)
'''


@pytest.fixture
def sixth(tmp_path, monkeypatch):
    (tmp_path / "sixth_study.py").write_text(SIXTH)
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path)])
    yield studies.get("sixth-study")
    del sys.modules["nengonet.studies.sixth_study"]


def call(*arguments):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_sixth_study_is_one_short_file(sixth, tmp_path):
    """Everything that the others have, with no other edit."""
    assert len(SIXTH.splitlines()) < 60
    for verb in ("reproduce", "diagnose", "budget", "sweep"):
        assert "sixth-study" in call(verb, "--help")
        assert f"$ nengonet {verb} sixth-study" in call(verb, "--help")

    run = ["sixth-study", "--images", 20]
    save = ["--save", tmp_path / "run.h5"]
    report = json.loads(call("reproduce", *run, "--rate", 300, *save, "--json"))
    assert report["n_images"] == 20
    assert report["accuracy"] > 0.6
    assert report["notes"] == [f"one rate for all layers: {report['accuracy']:.3f}"]
    again = call("reproduce", *run, "--rate", 300, *save, "--resume", "--plot", tmp_path / "a.png")
    assert "spiking" in again
    assert plt.imread(tmp_path / "a.png").std() > 0.05
    linear = json.loads(call("reproduce", *run, "--linear", "--json"))
    assert linear["settings"]["network"] == "node"

    found = json.loads(call("diagnose", *run, "--simulate", 3, "--json"))
    assert found["observed"]["layers"][0]["label"] == "hidden"
    for flags in ([], ["--linear"]):
        budget = json.loads(call("budget", *run, *flags, "--json"))
        assert budget["steps"][0]["name"] == "ANN"
        assert budget["settings"]["network"] == ("node" if flags else "neurons")
    swept = json.loads(call("sweep", *run, "--set", "rate=100,300", "--seeds", 2, "--json"))
    assert [row["rate"] for row in swept["rows"]] == [100, 100, 300, 300]
    assert swept["rows"][2]["accuracy"] == report["accuracy"]


def test_a_sixth_study_from_python(sixth):
    assert sixth.diagnose(n_images=10, rate=300.0).findings is not None
    assert sixth.measure(rate=300.0, n_images=20)["accuracy"].n_images == 20
    with pytest.raises(nn.InputError, match="last: expected one of neurons, node, got 'lif'"):
        sixth.build(last="lif")
    with pytest.raises(nn.InputError, match="options: expected one of rate, last, .* got 'rates'"):
        sixth.reproduce(rates=1.0)
    with pytest.raises(nn.InputError, match="variant: expected one of neurons, linear, got 'no'"):
        sixth.budget(variant="no")


def test_an_unknown_study_is_refused():
    with pytest.raises(nn.InputError, match="study: expected one of amplitude, bengali, .* 'mnist"):
        studies.get("mnist")


@pytest.mark.parametrize("name", studies.names())
def test_every_description_is_complete(name):
    study = studies.get(name)
    assert study.name == name
    assert pathlib.Path(sys.modules[study.network.__module__].__file__).stem == name.replace(
        "-", "_"
    )
    for text in (study.title, study.summary, study.source, study.examples["sweep"]):
        assert text
