"""The engine of the studies: a sixth study in one file, and the common parts of all."""

import json
import pathlib
import sys
from unittest import mock

import matplotlib.pyplot as plt
import pytest
from click.testing import CliRunner

import nengonet as nn
from nengonet import studies
from nengonet.cli import main
from nengonet.run.progress import progress_bar
from nengonet.studies.options import check_options

SIXTH = '''"""Digits with IntegrateAndFire neurons, at one rate for all layers."""

from typing import Annotated, Literal

import nengo

from nengonet.layers.inputs import constant_input
from nengonet.layers.tune import tune
from nengonet.layers.weighted import dense
from nengonet.neurons import IntegrateAndFire
from nengonet.studies.engine import Case, Data, Study, Variant
from nengonet.studies.forum_mnist import mlp_layers


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
    tuned = tune(layers, given.images("train", 100)[0], IntegrateAndFire(), rate)
    with nengo.Network(seed=given.seed):
        layer = constant_input((28, 28))
        for each in layers:
            neurons, tuning = IntegrateAndFire(), tuned[each.name]
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
    """It has every feature of the other studies, without further edits."""
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
    in_two = json.loads(call("budget", *run, "--linear", "--jobs", 2, "--json"))
    assert in_two == budget
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


# The quick version.

RUNS = '''

def runs(
    given,
    *,
    rates: Annotated[Sequence[float], Option("Hz.", "--rate", default="100")] = (100.0, 200.0),
    synapses: Annotated[
        Sequence[float | None], Option("In ms.", "--synapse", values={"none": None, "5": 0.005})
    ] = (0.005,),
    n_seeds: Annotated[int, Option(flag="--seeds", default="three")] = 3,
) -> dict:
    """Run some rates, and sweep over seeds."""
    seeds = {"voltages": Sweeping({"last": ["neurons"]}, n_seeds, {"n_images": 5})}
    return seeds | {f"rate-{rate:g}": Run({"rate": rate}) for rate in rates}


STUDY = dataclasses.replace(
    STUDY,
    variants={"": Variant()},
    runs=runs,
    quick={"n_images": 6, "rates": (150.0, 300.0), "synapses": (None, 0.005), "n_seeds": 1},
    n_images_text="a dozen, or more",
)
'''


@pytest.fixture
def with_quick(tmp_path, monkeypatch):
    text = SIXTH.replace(
        "from typing import Annotated, Literal",
        "import dataclasses\nfrom collections.abc import Sequence\n"
        "from typing import Annotated, Literal\n"
        "from nengonet.studies.engine import Run, Sweeping\n"
        "from nengonet.studies.options import Option",
    )
    (tmp_path / "sixth_study.py").write_text(text + RUNS)
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path)])
    yield studies.get("sixth-study")
    del sys.modules["nengonet.studies.sixth_study"]


def test_quick_is_the_same_as_its_options_and_says_so(with_quick):
    quick = json.loads(call("reproduce", "sixth-study", "--quick", "--json"))
    smaller = "--images 6 --rate 150 --rate 300 --synapse none --synapse 5 --seeds 1"
    shown = " ".join(call("reproduce", "sixth-study", "--help").split())
    assert f"--quick Get a first, rougher answer: {smaller}." in shown
    assert "[default: a dozen, or more]" in shown
    same = json.loads(call("reproduce", "sixth-study", *smaller.split(), "--json"))
    assert quick.pop("quick") == {
        "n_images": {"quick": 6, "full": "a dozen, or more"},
        "rates": {"quick": [150.0, 300.0], "full": "100"},
        "synapses": {"quick": [None, 0.005], "full": "(0.005,)"},
        "n_seeds": {"quick": 1, "full": "three"},
    }
    for rows in (quick["rows"]["voltages"], same["rows"]["voltages"]):
        (row,) = rows
        del row["seconds"]
    # A record of the same settings that the caller chose is not marked.
    assert same == quick
    assert same["n_images"] == 6
    text = call("reproduce", "sixth-study", "--quick")
    assert text.startswith("sixth-study, quick version\n")
    assert "images 6 (in full a dozen, or more), rate 150/300 (in full 100)" in text
    assert "synapse none/5" in text
    assert "quick" not in call("reproduce", "sixth-study", *smaller.split())


def test_what_the_caller_gives_is_not_made_smaller(with_quick):
    report = with_quick.reproduce(
        n_images=4, rates=[100.0], synapses=[0.005], quick=True, progress=False
    )
    assert report.result.n_images == 4
    assert list(report.results) == ["rate-100"]
    assert report.to_json()["quick"] == {"n_seeds": {"quick": 1, "full": "three"}}
    everything = {"n_images": 4, "rates": [100.0], "synapses": [0.005], "n_seeds": 2}
    report = with_quick.reproduce(**everything, quick=True, progress=False)
    assert "quick" not in report.to_json()
    assert len(report.sweeps["voltages"].rows) == 2


def test_a_quick_run_is_not_resumed_as_a_full_one(with_quick, tmp_path):
    save = {"save": tmp_path / "runs", "progress": False}
    with_quick.reproduce(quick=True, **save)
    with pytest.raises(nn.InputError, match="rate-150.h5: .*images"):
        with_quick.reproduce(n_images=8, rates=[150.0], n_seeds=1, resume=True, **save)


def test_a_study_without_a_quick_version_says_so(sixth):
    with pytest.raises(nn.InputError, match="quick: expected a study with a quick version, got si"):
        sixth.reproduce(quick=True)
    assert "--quick" not in call("reproduce", "sixth-study", "--help")


@pytest.mark.parametrize("name", studies.names())
def test_quick_settings_are_options_and_smaller(name):
    study = studies.get(name)
    options = study.options("reproduce")
    for each in study.quick_settings():
        if each.name != "n_images":
            check = {each.name: each.value}
            check_options(options, check)
            assert each.value != options[each.name].default
    # Of a study that takes minutes there is one.
    assert bool(study.quick) == (study.runs is not None)


def test_each_run_of_a_study_is_named(with_quick, monkeypatch):
    asked = []
    for module in ("run.presentation", "sweeps.sweep"):
        path = f"nengonet.{module}.progress_bar"
        monkeypatch.setattr(
            path, lambda shown, *rest, own=progress_bar: asked.append(shown) or own(shown, *rest)
        )
    with_quick.reproduce(n_images=3, rates=[100.0, 250.0], n_seeds=1)
    names = ["1 of 3: voltages", "2 of 3: rate 100", "3 of 3: rate 250"]
    # The cells of a sweep show none.
    assert [each for each in asked if each] == [f"sixth-study {name}" for name in names]
    asked.clear()
    with_quick.reproduce(n_images=3, rates=[100.0], n_seeds=1, progress=False)
    assert not any(asked)


def test_the_figures_of_a_report_have_a_bar(with_quick, monkeypatch):
    report = with_quick.reproduce(n_images=3, rates=[100.0], n_seeds=1, progress=False)
    bar, measured = mock.MagicMock(), []
    monkeypatch.setattr(
        "nengonet.studies.report.progress_bar", lambda *asked: measured.append(asked) or bar
    )
    report.measure()
    ((doing, _, unit, first, total),) = measured
    assert (doing, unit, first) == ("sixth-study: figures of the report", "step", 0)
    assert bar.__enter__().update.call_count == total
    # All is there: what follows measures nothing.
    monkeypatch.setattr(type(report.study), "_case", None)
    assert {"ann_accuracy", "further", "notes", "settings"} <= set(vars(report))
    assert report.to_json()["name"] == "sixth-study"
