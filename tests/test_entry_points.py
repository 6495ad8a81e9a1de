"""Every public function refuses all kinds of bad arguments, in one line that says what it expects.

`ENTRIES` is the only table of functions, and `BAD` is the only table of arguments. A function that
takes an argument of `BAD` and is not in the table fails `test_none_is_left_out`.
"""

import errno
import inspect
import os
import sys

import matplotlib.pyplot as plt
import nengo
import numpy as np
import pytest
import scipy.sparse

import nengonet as nn
import nengonet.plots as plots
from nengonet import datasets
from nengonet import testing as assertions
from nengonet.ann import activations as rates
from nengonet.ann import scaling
from nengonet.explain import budget, diagnosis, prediction
from nengonet.results import operations, readout

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((3, 4)), np.array([0, 1, 1])
with nengo.Network(seed=0) as NETWORK:
    PIXELS = nn.constant_input((4,))
    HIDDEN = nn.dense(PIXELS, RNG.random((4, 5)), nn.IntegrateAndFire(), gain=100.0, label="hidden")
    OUTPUT = nn.dense(HIDDEN, RNG.random((5, 2)), nn.IntegrateAndFire(), gain=20.0, label="output")
with nengo.Network(seed=0) as LOOP:
    RING = nn.dense(nn.constant_input((4,)), RNG.random((4, 5)), nn.IntegrateAndFire(), gain=100.0)
    nengo.Connection(RING.output, RING.output, transform=-0.01, synapse=0.01)
WEIGHTS = [HIDDEN.weights, OUTPUT.weights]
RESULT = nn.present(
    NETWORK, OUTPUT, IMAGES, presentation_time=0.02, rasters=["hidden"], progress=False
)
STEPS = np.ones((3, 4, 2))


def call(function, *arguments, **good):
    return lambda **changed: function(*arguments, **good | changed)


def run_steps(data):
    with nn.MinibatchSimulator(NETWORK, 3, progress_bar=False) as simulator:
        simulator.run_steps(2, data={PIXELS.node: data})


def reset(**changed):
    with nn.MinibatchSimulator(NETWORK, 3, progress_bar=False) as simulator:
        simulator.reset_to_examples(**{"images": IMAGES} | changed)


def build(**changed):
    with nn.MinibatchSimulator(NETWORK, **{"minibatch_size": 3, "progress_bar": False} | changed):
        pass


def lowpass(tau):
    with NETWORK:
        nn.lowpass(HIDDEN, tau)


def cell(seed):
    return seed


class Sequential:
    """What is known of a Keras model without Keras."""

    def get_weights(self):
        raise AssertionError

    def __repr__(self):
        return "<Sequential>"


KERAS_MODEL = Sequential()


def dense(weights, pre=None, **settings):
    with nengo.Network():
        pre = nn.constant_input((4,)) if pre is None else pre
        nn.dense(pre, weights, nengo.LIF(), **{"gain": 1.0} | settings)


# By the name under which the discovery finds it.
ENTRIES = {
    "present": call(nn.present, NETWORK, OUTPUT, images=IMAGES, progress=False),
    "predict_rates": call(nn.predict_rates, OUTPUT, images=IMAGES),
    "fixed_point": call(nn.fixed_point, RING, images=IMAGES),
    "to_nir": call(nn.to_nir, OUTPUT),
    "as_script": call(nn.as_script, OUTPUT, images=IMAGES, labels=LABELS),
    "tune": call(nn.tune, WEIGHTS, images=IMAGES, neuron_type=nengo.LIF()),
    "lab": call(nn.lab, OUTPUT, images=IMAGES, labels=LABELS),
    "diagnose": call(nn.diagnose, OUTPUT, images=IMAGES, labels=LABELS),
    "compare": call(nn.compare, RESULT, OUTPUT, images=IMAGES),
    "error_budget": call(nn.error_budget, OUTPUT, images=IMAGES, labels=LABELS, progress=False),
    "sweep": call(nn.sweep, cell, {}, progress=False),
    "balance": call(nn.balance, WEIGHTS, images=IMAGES),
    "explain_neuron": call(nn.explain_neuron, nengo.LIF(), 1.0),
    "lowpass": lowpass,
    "Layer.show": call(OUTPUT.show, image=IMAGES[0]),
    "MinibatchSimulator": build,
    "MinibatchSimulator.reset_to_examples": reset,
    "MinibatchSimulator.run_steps": run_steps,
    "Result.accuracy": call(RESULT.accuracy, labels=LABELS),
    "Result.latency": call(RESULT.latency, labels=LABELS),
    "Result.to_html": call(RESULT.to_html, labels=LABELS, images=IMAGES),
    "Result.scores": call(RESULT.scores),
    "Result.predictions": call(RESULT.predictions),
    "Result.tied": call(RESULT.tied),
    "budget.budget_of": call(budget.budget_of, [("ANN", STEPS[:, 0], "")], labels=LABELS),
    "prediction.predict": call(prediction.predict, OUTPUT, images=IMAGES),
    "prediction.keras_activations": call(prediction.keras_activations, OUTPUT, images=IMAGES),
    "activations.activations": call(rates.activations, WEIGHTS, images=IMAGES),
    "readout.scores": call(readout.scores, STEPS),
    "readout.spike_counts": call(readout.spike_counts, STEPS, dt=1.0),
    "readout.accuracy": call(readout.accuracy, LABELS, labels=LABELS, n_classes=2),
    "readout.cross_entropy": call(readout.cross_entropy, STEPS[:, 0], labels=LABELS),
    "readout.share_interval": call(readout.share_interval, [0.5], n_images=10),
    "readout.wilson_interval": call(readout.wilson_interval, 0, n_images=10),
    "datasets.as_images": call(datasets.as_images, images=IMAGES, labels=LABELS),
    "testing.counts_from_probe": call(assertions.counts_from_probe, data=STEPS, dt=1.0),
    "testing.assert_counts_match_rates": call(
        assertions.assert_counts_match_rates, STEPS[0], [1.0, 1.0], 4.0, dt=1.0
    ),
    "plots.plot_confusion": call(plots.plot_confusion, RESULT, labels=LABELS),
    "plots.plot_latency": call(
        plots.plot_latency, {"a": [0.5]}, readout.accuracy([0, 1], [0, 1]), dt=0.001
    ),
    "plots.plot_logits": call(
        plots.plot_logits, [0.1], {"a": STEPS[:, :1]}, class_names="ab", titles="xyz", labels=LABELS
    ),
    "plots.plot_presentation": call(
        plots.plot_presentation, image=IMAGES[0].reshape(2, 2), result=RESULT
    ),
    "plots.plot_output": call(plots.plot_output, image=IMAGES[0].reshape(2, 2), result=RESULT),
    "plots.plot_rate_and_spikes": call(
        plots.plot_rate_and_spikes,
        image=IMAGES,
        label=0,
        rates={"a": np.ones((2, 2, 1))},
        outputs={"a": STEPS[0]},
    ),
    "plots.plot_spikes_and_probabilities": call(
        plots.plot_spikes_and_probabilities,
        images=IMAGES,
        labels=LABELS,
        class_names="ab",
        cells={"a": (0.001, np.ones((3, 4, 5), int), STEPS, LABELS)},
    ),
    "plots.plot_raster": call(plots.plot_raster, RESULT, "hidden"),
}
# Called by Nengo at every step.
EXEMPT = {"IntegrateAndFire.step"}

MASKED = np.ma.masked_array(IMAGES, IMAGES > 0.5)
WORDS = [["cat"] * 4] * 3
NOT_ARRAYS = [None, "images", {}, {1}, WORDS, [[1.0], [1.0, 2.0]], IMAGES * 1j, MASKED]
NOT_ARRAYS += [IMAGES.astype(object), scipy.sparse.csr_array(IMAGES), object()]
NOT_FINITE = [np.where(IMAGES > 0.9, np.nan, IMAGES), IMAGES * np.inf, np.full((3, 4), -np.inf)]
WRONG_SHAPES = [np.zeros((0, 4)), np.zeros((3, 0)), IMAGES[:, :3], np.float64(1.0)]
PIXEL_KINDS = [np.arange(12).reshape(3, 4), np.full((3, 4), 255, np.uint16)]
TIMES = [0, -0.1, np.nan, np.inf, "0.1", True, np.True_, [0.1], 1j, np.zeros(2)]
WHOLE = [0, -2, 1.5, True, np.True_, "2", [2], np.nan, 10**30 * 1.0]
SEEDS = [-1, 0.5, True, np.False_, "1", 2**32, [1], np.nan]
BAD = {
    "images": NOT_ARRAYS + NOT_FINITE + WRONG_SHAPES + PIXEL_KINDS,
    "image": [*(NOT_ARRAYS + NOT_FINITE), IMAGES[0][:3], np.arange(4), IMAGES],
    "data": [each for each in NOT_ARRAYS if each is not None] + NOT_FINITE + WRONG_SHAPES,
    "labels": [
        *([0, 1], LABELS[:1], [], np.eye(3), LABELS[None], 3, ["cat", "dog", "cat"], "012"),
        *([0, 1, -1], [0.5, 1, 1], [0, np.nan, 1], [True, False, True], np.array([0, 1, 1j])),
        *(np.array(["0", "1", "1"]), np.array([0, 1, 1], object), [b"0", b"1", b"1"], {}, {0, 1}),
        *(np.ma.masked_array(LABELS, [0, 1, 0]), [0, 1, 2**63], [[0], [1, 1], [0]]),
    ],
    "examples": [
        *([0, 1], [], [0, 1, -1], [0.0, 1.0, 2.0], [True, False, True], "012", 3, [[0, 1, 2]]),
        *(["a", "b", "c"], np.array([0, 1, 2**63], np.uint64), {0: 1}),
    ],
    "presentation_time": TIMES,
    "dt": TIMES,
    "tau": [each for each in TIMES if each is not TIMES[0]],
    "seed": SEEDS,
    "seeds": [0, -1, 0.5, True, "3", [], [0.5], [True], [-1], None, ["a"], {}],
    "example": [-1, 0.5, True, "1", None],
    "n_jobs": [*WHOLE, None],
    "minibatch_size": WHOLE,
    "n_repeats": [*WHOLE, None],
    "n_images": [*WHOLE, None],
    "n_steps": [*WHOLE, 21],
    "index": [each for each in WHOLE if each != 0 or isinstance(each, (bool, np.bool_))] + [3],
    "readout": ["loudest", 3, ["sum"], True, ""],
    "precision": [16, "64", True, 64.5, [64]],
    "percentile": [0, -1, 101, "most", np.nan],
    "simulator": ["nengo", 3, None, ["minibatch"]],
    "rasters": ["hidden", ["hiden"], [3], 5, None],
    "keep": ["hidden", ["hiden"], [3], 5],
    "initial_states": [
        *({"hiden": {}}, {"input": {}}, [1], {"hidden": {"volt": None}}, {"hidden": 3}),
        {"hidden": {"voltage": 0.5}},
    ],
    "class_names": ["abc", ["a", "b", "c"]],
    "false_alarm": [0, 1, -1, "a", np.nan, True],
    "bound": [0, -1, "a", np.nan, True],
    "rtol": [-1, "a", np.nan],
    "relative": [-1, "a", np.nan],
    "must_detect": [0, -1, "a", np.nan],
    "amplitude": [0, -1, "a", np.nan, True, [1.0, 2.0]],
    "n_worst": [-1, 0.5, True, "a"],
}
# A function that is not told the shape of an image cannot refuse one; nor has a probe one shape.
RIGHT = {
    "datasets.as_images": WRONG_SHAPES[2:3],
    "testing.counts_from_probe": [*WRONG_SHAPES, *PIXEL_KINDS],
    "lowpass": [TIMES[7], TIMES[-1]],
    "plots.plot_output": [IMAGES],
    "plots.plot_rate_and_spikes": [IMAGES],
    "plots.plot_spikes_and_probabilities": WRONG_SHAPES[2:3],
    "plots.plot_presentation": [IMAGES],
    "Result.to_html": WRONG_SHAPES[2:3],
}


def parameters(name):
    return inspect.signature(PUBLIC[name]).parameters


def public():
    """Find every public function and method, by the name that `ENTRIES` uses."""
    found = {}
    for name in nn.__all__:
        item = getattr(nn, name)
        if inspect.isfunction(item) or name == "MinibatchSimulator":
            found[name] = item
        if inspect.isclass(item) and item.__module__.startswith("nengonet"):
            for method, function in vars(item).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    found[f"{name}.{method}"] = function
    modules = (budget, datasets, diagnosis, operations, prediction, rates, readout, scaling)
    for module in (*modules, assertions, plots):
        for name, item in vars(module).items():
            inside = getattr(item, "__module__", "").startswith(module.__name__)
            if inspect.isfunction(item) and inside and not name.startswith("_"):
                found[f"{module.__name__.split('.')[-1]}.{name}"] = item
    return {name: item for name, item in found.items() if item not in ALIASES.values()} | ALIASES


# Public under both names: one stands for both.
ALIASES = {
    name: getattr(nn, name)
    for name in nn.__all__
    if inspect.isfunction(getattr(nn, name)) or name == "MinibatchSimulator"
}
PUBLIC = public()
# What the table asks for; other arguments of these names have other meanings.
CHECKED = ("images", "labels", "examples", "presentation_time", "dt", "seeds", "n_jobs", "readout")
CHECKED += ("minibatch_size", "n_repeats", "tau", "precision")


def test_none_is_left_out():
    assert len(PUBLIC) > 50
    missing = {
        name: wanted
        for name, item in PUBLIC.items()
        if name not in ENTRIES.keys() | EXEMPT
        and (wanted := [each for each in CHECKED if each in inspect.signature(item).parameters])
    }
    assert missing == {}
    assert ENTRIES.keys() <= PUBLIC.keys()


CASES = [
    (name, argument, place)
    for name in ENTRIES
    for argument in BAD
    if argument in parameters(name)
    for place in range(len(BAD[argument]))
]


@pytest.mark.parametrize(
    "name, argument", sorted({(name, argument) for name, argument, _ in CASES})
)
def test_bad_arguments_are_one_line(name, argument):
    """Nothing is computed: the error names the argument, what is expected and what was given."""
    right = RIGHT.get(name, [])
    for value in BAD[argument]:
        if any(value is each for each in right):
            continue
        default = parameters(name)[argument].default
        if value is None and default is None:
            continue
        try:
            with pytest.raises(nn.InputError) as caught:
                ENTRIES[name](**{argument: value})
        except BaseException as error:
            plt.close("all")
            error.add_note(f"{name}({argument}={value!r})") if sys.version_info >= (3, 11) else None
            raise
        message = str(caught.value)
        assert "\n" not in message, message
        assert len(message) < 400, message
        # The form of what does not fit the layer before it.
        fits = ", but the layer before it" in message
        assert fits or ("expected" in message and ", got " in message), message
        assert fits or argument.rstrip("s") in message, message


def one(x, seed):
    return 1.0


SWEEP = nn.sweep(one, {"x": [1]}, progress=False)
# Each writes a file; the name of one that it accepts.
WRITERS = {
    "run.h5": RESULT.save,
    "saved.h5": lambda path: ENTRIES["present"](save=path),
    "run.html": RESULT.to_html,
    "sweep.csv": SWEEP.to_csv,
    "cells.sweep": lambda path: nn.sweep(one, {"x": [1]}, save=path, progress=False),
    "script.py": lambda path: nn.as_script(OUTPUT, IMAGES).save(path),
    "figure.png": lambda path: plots.save_figure(plots.plot_weights(np.eye(3)), path),
    "figure.svgz": lambda path: plots.save_figure(plots.plot_weights(np.eye(3)), path),
}


@pytest.mark.parametrize("path", [3, True, b"run.h5", ["run.h5"], "", "a\0b", OUTPUT, 1.5])
@pytest.mark.parametrize("name", WRITERS)
def test_what_is_no_path_is_written_to_by_none(name, path, tmp_path, monkeypatch):
    """A number is the file of somebody else: 1 is standard output."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nn.InputError, match="(path|save): expected the name of a file, got "):
        WRITERS[name](path)
    plt.close("all")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_written_whole_or_refused_in_one_line(name, tmp_path, monkeypatch):
    for folder, message in (("no", "the folder .*no does not exist; create it first"), ("", None)):
        path = tmp_path / folder / name
        if message:
            with pytest.raises(nn.InputError, match=message) as caught:
                WRITERS[name](path)
            assert "\n" not in str(caught.value)
        else:
            WRITERS[name](path)
            assert path.stat().st_size > 0
    written = {each: (tmp_path / each).read_bytes() for each in os.listdir(tmp_path)}

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((OSError, nn.InputError)) as caught:  # a saved run exists
        WRITERS[name](path)
    plt.close("all")
    assert str(path.with_suffix("")) in str(caught.value)  # or the arrays beside a script
    assert {each: (tmp_path / each).read_bytes() for each in os.listdir(tmp_path)} == written


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda: nn.gain_bias(nengo.LIF, 4), r"got the class LIF: write LIF\(\)"),
        (lambda: nn.explain_neuron(nengo.LIF, 1.0), r"got the class LIF: write LIF\(\)"),
        (lambda: nn.explain_neuron(3, 1.0), "neuron_type: expected a neuron type.* got 3"),
        (lambda: nn.present(None, OUTPUT, IMAGES), "network: expected a nengo.Network, got None"),
        (lambda: nn.diagnose(OUTPUT, IMAGES, network=3), "network: expected .*, got 3"),
        (lambda: nn.predict_rates(OUTPUT, IMAGES, network="net"), "network: .* got 'net'"),
        (lambda: nn.load_weights(KERAS_MODEL), r"path: .* got <Sequential>; .*model.save\("),
        (lambda: nn.tune(KERAS_MODEL, IMAGES, nengo.LIF()), "layers: .* got <Seq.*load_weights"),
        (lambda: nn.tune("a.h5", IMAGES, nengo.LIF()), r"layers: .* got 'a.h5'; .*load_weights"),
        (lambda: dense(KERAS_MODEL), "dense: expected .*, got <Sequential>; give .*get_weights"),
        (lambda: dense(np.eye(4), synapse="10ms"), "dense: synapse: expected None, .* got '10ms'"),
        (lambda: dense(np.eye(4), synapse=-1), "dense: synapse: expected .* at least 0, got -1"),
        (lambda: dense(np.eye(4), amplitude=0), "dense: amplitude: expected .* above 0, got 0"),
        (lambda: dense(np.eye(4), pre=PIXELS), "pre: expected layers .*, got input of another one"),
        (lambda: dense(np.eye(4), pre=HIDDEN.ensemble), "pre: .* got <Ens.* with nengo.Connection"),
        (lambda: plots.plot_raster(RESULT, "hiden"), "got 'hiden'; did you mean 'hidden'"),
        (lambda: nn.MinibatchSimulator(OUTPUT, 2), "network: expected a nengo.Network, got Layer"),
        (
            lambda: nn.compare(3, OUTPUT, IMAGES),
            "result: expected a Result, as present returns, got 3",
        ),
    ],
)
def test_the_wrong_kind_of_object_is_one_line(act, message):
    with pytest.raises(nn.InputError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)
