"""Displays of nengonet's objects in a prompt and a notebook: lines, drawings and tables."""

import gc
import pathlib
import re
import sys
import types
import weakref

import nengo
import numpy as np
import pytest
from parsed_html import BAD, Parsed

import nengonet as nn
from nengonet import studies
from nengonet.results.result import assemble

ROOT = pathlib.Path(__file__).parents[1]

sys.path.insert(0, str(ROOT / "docs" / "_extensions"))
import public_names  # noqa: E402


@pytest.fixture(scope="module")
def objects():
    """Return objects of every class in the reference, from a small network and its run."""
    rng = np.random.default_rng(3)
    images, labels = rng.random((9, 4, 5)), np.arange(9) % 3
    pool = nn.Weights([nn.LayerWeights(rng.normal(size=(20, 6)), np.ones(6), name=BAD)])
    with nengo.Network(seed=2, label="small") as net:
        pixels = nn.poisson_input((4, 5), max_rate=300.0)
        hidden = nn.dense(pixels, pool[BAD], nengo.LIF(), gain=4.0, bias=1.0, label=BAD)
        again = nengo.Connection(
            hidden.ensemble.neurons, hidden.ensemble.neurons, transform=-np.eye(6), synapse=0.05
        )
        out = nn.dense(
            hidden, rng.normal(size=(6, 3)), nengo.LIF(), gain=4.0, bias=1.0, label="out"
        )
    result = nn.present(net, out, images, presentation_time=0.04, rasters=["out"], progress=False)
    simulator = nn.MinibatchSimulator(net, minibatch_size=9, progress_bar=False)
    found = {
        "weights": pool,
        "layer": out,
        "result": result,
        "diagnosis": nn.diagnose(out, images, labels=labels, presentation_time=0.04),
        "comparison": nn.compare(result, out, images),
        "fixed point": nn.fixed_point(out, images),
        "sweep": nn.sweep(
            lambda x, seed: {"y": x + seed}, {"x": [1, BAD]}, seeds=3, progress=False
        ),
        "simulator": simulator,
        "record": simulator.record(out.ensemble.neurons),
        "how": simulator.report(),
        "facts": nn.explain_neuron(nengo.LIF(), 1.0),
        "balanced": nn.balance([pool[BAD]], images),
        "result of a layer": result[BAD],
        "accuracy": result.accuracy(labels),
        "studies": [studies.get(name) for name in studies.names()],
    }
    del net.connections[net.connections.index(again)]
    found["budget"] = nn.error_budget(
        out, images, labels, presentation_time=0.02, n_repeats=2, progress=False
    )
    yield found
    simulator.close()


def public_classes():
    """Return the classes of the reference."""
    found = {each for each in public_names.names().values() if isinstance(each, type)}
    assert len(found) > 20
    return found


def held(objects):
    """Return everything that these objects hold, except code and modules."""
    code = (type, types.ModuleType, types.FunctionType, types.FrameType, weakref.ref)
    found, waiting = {}, [objects]
    while waiting:
        each = waiting.pop()
        if id(each) not in found and not isinstance(each, code):
            found[id(each)] = each
            waiting += gc.get_referents(each)
    return found.values()


def test_every_public_class_has_a_short_repr(objects):
    """Every instance shows its class in one line without arrays."""
    classes = public_classes()
    alive = [each for each in held(objects) if type(each) in classes]
    seen = {type(each) for each in alive}
    assert len(seen) > 15, seen
    for each in alive:
        line, name = repr(each), type(each).__name__.removeprefix("Layer")
        assert "\n" not in line, line
        assert len(line) < 260, line
        assert name in line or type(each).__name__ in line, line
        # Nengo shows a neuron type's initial states, which are short.
        assert "array(" not in line or isinstance(each, nengo.neurons.NeuronType), line
        assert " object at 0x" not in line, line


def test_reprs_of_large_objects_stay_short_and_count_what_there_is():
    large = nn.LayerWeights(np.zeros((3000, 500)), name="wide")
    assert repr(large) == "<LayerWeights 'wide', Dense, kernel (3000, 500) float64>"
    many = nn.Weights([nn.LayerWeights(np.zeros((2, 2)), name=f"layer_{k}") for k in range(300)])
    assert len(repr(many)) < 200
    assert "1,200 parameters" in repr(many)
    sweep = nn.sweep(lambda x, seed: {"y": x}, {"x": range(40)}, seeds=2, progress=False)
    assert repr(sweep) == "<Sweep over x: 80 cells, 0 failed; values y>"


def test_reprs_say_the_facts(objects):
    n_found = len(objects["diagnosis"].findings)
    counted = re.findall(r"(\d+) (?:error|warning|note)s", repr(objects["diagnosis"]))
    assert n_found == sum(map(int, counted)) > 0
    first, last = objects["budget"].steps[0].accuracy, objects["budget"].steps[-1].accuracy
    assert f"ANN {first:.4f}" in repr(objects["budget"])
    assert f"as it is run {last:.4f}" in repr(objects["budget"])
    assert repr(objects["comparison"]).startswith("<Comparison of 9 images: ")
    assert "9 examples, dt 0.001 s, time 0 s" in repr(objects["simulator"])
    counts = repr(objects["result"].counts)
    assert "'out': int" in counts
    assert "(9, 3)" in counts


def displays(objects):
    """Return the objects with a display for notebooks."""
    return {name: each for name, each in objects.items() if hasattr(type(each), "_repr_html_")}


def test_displays_are_well_formed_and_escape_what_users_write(objects):
    found = displays(objects)
    assert {"weights", "layer", "result", "diagnosis", "budget", "sweep"} <= found.keys()
    for name, each in found.items():
        made = each._repr_html_()
        Parsed(made).assert_self_contained()
        assert "<script" not in made, name
        assert len(made) < 30_000, name
    for name in ("weights", "layer", "result", "sweep"):
        assert "<script>alert" in Parsed(found[name]._repr_html_()).text, name


def test_a_display_has_the_figures_of_the_text(objects):
    """Every number in the table of `str` is in the display too."""
    for name in ("weights", "diagnosis", "comparison", "sweep", "budget"):
        shown = Parsed(objects[name]._repr_html_()).text
        numbers = re.findall(r"\d[\d,.]*\d", str(objects[name]).replace(BAD, ""))
        assert len(numbers) > 5
        assert [number for number in numbers if number not in shown] == [], name


def test_the_display_of_a_result_runs_and_reads_out_nothing(objects, monkeypatch):
    result = objects["result"]
    monkeypatch.setattr(nn.Result, "_chunks", None)
    text = Parsed(result._repr_html_()).text
    monkeypatch.undo()
    spikes = result.counts["out"].sum(axis=1).mean()
    assert f"{spikes:,.1f}" in text
    assert f"{result.rates('out').max():,.0f}" in text
    assert "40 steps of 0.001 s" in text


def test_what_a_run_did_not_keep_is_left_out():
    arrays = {"examples": np.arange(2), "steps": np.ones((2, 10, 3)), "spikes/a": np.array([4, 8])}
    infos = [nn.results.result.LayerInfo("a", (3,), 1.0)]
    settings = {"dt": 0.001, "n_steps": 10, "readout": "sum"}
    made = Parsed(assemble(infos, settings, arrays)._repr_html_()).text
    assert "a 3 200.0 - - 6.0 -" in made  # 6 spikes of 3 neurons in 10 ms are 200 Hz


def arrows(layer):
    return re.findall(r"marker-end", layer._repr_html_())


def test_a_layer_is_drawn_with_all_that_feeds_it(objects):
    drawn = Parsed(objects["layer"]._repr_html_())
    # A box, its title, and three texts for each layer.
    assert drawn.tags.count("rect") == 3
    for words in ("4 × 5", "PoissonImage", "LIF · 126 parameters", "LIF · 18 parameters"):
        assert words in drawn.text
    assert len(arrows(objects["layer"])) == 2


def boxes(layer):
    """Return left and top of every box, by label."""
    made = layer._repr_html_()
    labels = re.findall(r"<title>(.*?): ", made)
    places = re.findall(r'<rect x="(-?\d+)" y="(\d+)"', made)
    return {label: tuple(map(int, place)) for label, place in zip(labels, places, strict=True)}


def test_branches_stand_side_by_side_and_loops_come_back():
    with nengo.Network():
        pixels = nn.constant_input((4,))
        lif, of = nengo.LIF(), {"gain": 1.0, "bias": 0.0}
        left = nn.dense(pixels, np.eye(4), lif, label="left", **of)
        right = nn.dense(pixels, np.eye(4), lif, label="right", synapse=0.007, **of)
        total = nn.activation([left, right, pixels], lif, label="total", **of)
        plain = len(arrows(total))
        nengo.Connection(total.ensemble.neurons, right.ensemble.neurons, synapse=0.02)
    found = boxes(total)
    assert list(found) == ["input", "left", "right", "total"]
    assert found["left"][1] == found["right"][1] > found["input"][1]
    assert found["left"][0] < found["right"][0]
    assert found["total"][1] > found["left"][1]
    assert len(arrows(total)) == plain + 1 == 6
    text = Parsed(total._repr_html_()).text
    for synapse in ("synapse Lowpass(tau=0.007)", "synapse Lowpass(tau=0.02)", "synapse None"):
        assert synapse in text


def test_a_drawing_of_very_many_objects_is_cut():
    with nengo.Network() as net:
        layer = nn.constant_input((1,))
        for _ in range(60):
            layer = nn.dense(layer, [[1.0]], nengo.LIF(), gain=1.0, bias=0.0)
    assert len(net.all_ensembles) == 60
    assert len(boxes(layer)) == 40
    assert "21 more come before" in Parsed(layer._repr_html_()).text


def test_plain_nengo_is_drawn_too():
    with nengo.Network() as net:
        stimulus = nengo.Node([0.5], label="stimulus")
        first = nengo.Ensemble(30, 1, label="first")
        nengo.Connection(stimulus, first)
        last = nn.Layer("last", (20,), ensemble=nengo.Ensemble(20, 1, label="last"), network=net)
        nengo.Connection(first, last.ensemble, synapse=0.003)
    assert list(boxes(last)) == ["stimulus", "first", "last"]
    assert "constant output" in last._repr_html_()
