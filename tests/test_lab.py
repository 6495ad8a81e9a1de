"""The lab: its state without a browser, its server, and its page in a real one."""

import gc
import inspect
import subprocess
import sys
import threading
import weakref

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet import studies
from nengonet.laboratory import knobs
from nengonet.laboratory import state as states
from nengonet.run.content import digest

RNG = np.random.default_rng(5)
IMAGES, LABELS = RNG.random((40, 3, 4)), RNG.integers(0, 3, 40)
KERNELS = RNG.normal(size=(12, 7)), RNG.normal(size=(7, 3))
KERAS_BIAS = RNG.normal(size=7) / 10
SETTINGS = {"presentation_time": 0.05, "seed": 3}
LONG = 300  # seconds: no test waits for so long, unless what it waits for never comes


def built(pixels=None, neurons=None, synapse=None, **tuning):
    """Build a small network; arguments are what the knobs change."""
    pixels = {"max_rate": 200.0} if pixels is None else pixels
    neurons = nengo.LIF() if neurons is None else neurons
    make = nn.constant_input if pixels.get("kind") == "constant" else nn.poisson_input
    pixels = {name: value for name, value in pixels.items() if value != "constant"}
    with nengo.Network(seed=1):
        image = make((3, 4), **pixels)
        tuning = tuning or {"gain": 2.0, "bias": 0.5}
        hidden = nn.dense(
            image, (KERNELS[0], KERAS_BIAS), neurons, synapse=synapse, label="hidden", **tuning
        )
        return nn.dense(
            hidden, KERNELS[1], nengo.LIF(amplitude=0.01), gain=3.0, bias=0.0, label="output"
        )


def lab_of(output=None, **settings):
    return states.of_output(
        built() if output is None else output, IMAGES, LABELS, **SETTINGS | settings
    )


def shown(output, **given):
    return nn.present(output.network, output, IMAGES, progress=False, **SETTINGS | given)


def finished(lab):
    lab.run()
    assert lab.wait(LONG)
    assert lab.trouble is None
    return lab.done.result


def assert_equal(result, other):
    assert result.counts.keys() == other.counts.keys()
    for label, counts in other.counts.items():
        np.testing.assert_array_equal(result.counts[label], counts)
    np.testing.assert_array_equal(result.steps, other.steps)


TURNS = {
    "gain": ({"hidden.gain": 1.5}, {"gain": 1.5, "bias": 0.5}),
    "bias": ({"hidden.bias": -0.25}, {"gain": 2.0, "bias": -0.25}),
    "max_rates": (
        {"hidden.max_rates": 150.0, "hidden.intercepts": 0.25},
        {"max_rates": 150.0, "intercepts": 0.25},
    ),
    "tau_rc": ({"hidden.tau_rc": 0.05}, {"neurons": nengo.LIF(tau_rc=0.05)}),
    "tau_ref": ({"hidden.tau_ref": 0.004}, {"neurons": nengo.LIF(tau_ref=0.004)}),
    "min_voltage": ({"hidden.min_voltage": -1.0}, {"neurons": nengo.LIF(min_voltage=-1)}),
    "amplitude": ({"hidden.amplitude": 0.5}, {"neurons": nengo.LIF(amplitude=0.5)}),
    "neuron_type": (
        {"hidden.neuron_type": "SpikingRectifiedLinear"},
        {"neurons": nengo.SpikingRectifiedLinear()},
    ),
    "adaptive": (
        {"hidden.neuron_type": "AdaptiveLIF", "hidden.inc_n": 0.02},
        {"neurons": nengo.AdaptiveLIF(inc_n=0.02)},
    ),
    "drawn": (
        {"hidden.neuron_type": "StochasticSpiking"},
        {"neurons": nengo.StochasticSpiking(nengo.RectifiedLinear())},
    ),
    "rate": ({"hidden.neuron_type": "LIFRate"}, {"neurons": nengo.LIFRate()}),
    "synapse": ({"hidden.synapse": 0.02}, {"synapse": 0.02}),
    "max_rate": ({"input.max_rate": 90.0}, {"pixels": {"max_rate": 90.0}}),
    "area": ({"input.amplitude": 0.02}, {"pixels": {"max_rate": 200.0, "amplitude": 0.02}}),
    "ensemble": (
        {"input.kind": "ensemble"},
        {"pixels": {"max_rate": 200.0, "kind": "ensemble"}},
    ),
    "constant": ({"input.kind": "constant"}, {"pixels": {"kind": "constant"}}),
    "scale": (
        {"input.kind": "constant", "input.scale": 0.5},
        {"pixels": {"kind": "constant", "scale": 0.5}},
    ),
}


@pytest.mark.parametrize("turns, changed", TURNS.values(), ids=TURNS)
def test_a_turned_knob_gives_the_network_that_is_built_so(turns, changed):
    lab = lab_of()
    for name, value in turns.items():
        lab.set(name, value)
    tuning = {"gain": 2.0, "bias": 0.5} | changed if "max_rates" not in changed else changed
    other = built(**tuning)
    found = nn.diagnose(other, IMAGES, labels=LABELS, presentation_time=0.05)
    assert lab.predict() == found
    assert_equal(finished(lab), shown(other))


@pytest.mark.parametrize("first", ["process", "ensemble", "constant"])
@pytest.mark.parametrize("then", ["process", "ensemble", "constant"])
def test_any_input_becomes_any_other(first, then):
    own = {} if first == "constant" else {"max_rate": 255.0}
    lab = lab_of(built({"kind": first, **own}))
    lab.set("input.kind", then)
    own = {} if then == "constant" else {"max_rate": 255.0}
    assert_equal(finished(lab), shown(built({"kind": then, **own})))
    lab.back()
    assert lab.now.values["input"]["kind"] == first


def test_back_undoes_exactly():
    lab = lab_of()
    first, before = lab.now, lab.predict()
    lab.set("hidden.gain", 0.3)
    second = lab.now
    lab.set("hidden.neuron_type", "SpikingRectifiedLinear")
    assert lab.now.values["hidden"]["tau_rc"] is None
    assert not lab.knobs["hidden.tau_rc"].used(lab.now.values)
    lab.back()
    assert lab.now is second
    lab.back()
    assert lab.now is first
    assert lab.predict() == before
    lab.back()  # nothing is left to undo
    assert lab.now is first


def test_a_knob_put_where_it_was_leaves_the_network_as_it_was():
    lab = lab_of()
    result = finished(lab)
    for name, value, before in (
        ("hidden.neuron_type", "RectifiedLinear", "LIF"),
        ("input.kind", "constant", "process"),
        ("hidden.tuning", knobs.MAX_RATES, knobs.GAIN),
    ):
        lab.set(name, value)
        lab.set(name, before)
    lab.set("input.max_rate", 200.0)
    assert lab.now.values == lab.now.base.values
    assert_equal(finished(lab), result)


def test_parameters_that_both_neuron_types_have_keep_their_values():
    lab = lab_of(built(neurons=nengo.LIF(tau_rc=0.03)))
    lab.set("hidden.amplitude", 0.5)
    lab.set("hidden.neuron_type", "AdaptiveLIF")
    now = lab.now.values["hidden"]
    assert (now["tau_rc"], now["amplitude"], now["tau_n"]) == (0.03, 0.5, nengo.AdaptiveLIF().tau_n)
    lab.set("hidden.neuron_type", "SpikingRectifiedLinear")
    with pytest.raises(nn.InputError, match="knob: expected one of"):
        lab.set("hidden.tau_rc", 0.02)
    lab.set("hidden.neuron_type", "IntegrateAndFire")
    assert lab.now.values["hidden"]["min_voltage"] == -np.inf
    lab.set("hidden.neuron_type", "LIF")
    now = lab.now.values["hidden"]
    assert (now["tau_rc"], now["amplitude"], now["tau_n"]) == (0.03, 0.5, None)


BAD = {
    "hidden.tau_rc": (-1.0, "hidden: LIF.tau_rc: "),
    "hidden.gain": (-1.0, "hidden: gain: expected finite values above 0, got -1"),
    "hidden.max_rates": (600.0, "hidden: "),
    "hidden.intercepts": (1.0, "hidden: "),
    "hidden.amplitude": (None, "hidden.amplitude: expected a number, got None"),
    "hidden.neuron_type": ("LIFF", "hidden.neuron_type: expected one of .* did you mean 'LIF'"),
    "hidden.synapse": (-0.1, "hidden.synapse: expected a time in seconds, at least 0, got -0.1"),
    "input.max_rate": (0.0, "input: max_rate: expected a rate in Hz, above 0, got 0"),
    "run.dt": (0.0, "dt: expected a time in seconds, above 0"),
    "run.presentation_time": (1e-9, "presentation_time: expected at least one step"),
    "run.n_images": (41, "run.n_images: expected a whole number from 1 to 40, got 41"),
    "run.seed": (1.5, "run.seed: expected a whole number"),
    "run.readout": ("loudest", "run.readout: expected one of"),
    "hidden.gains": (1.0, "knob: expected one of .* did you mean 'hidden.gain'"),
}


@pytest.mark.parametrize("knob", BAD)
def test_a_value_out_of_range_says_so_and_changes_nothing(knob):
    lab, (value, message) = lab_of(), BAD[knob]
    before = lab.now
    with pytest.raises(nn.InputError, match=message) as found:
        lab.set(knob, value)
    assert "\n" not in str(found.value)
    assert lab.now is before
    lab.back()
    assert lab.now is before


@pytest.mark.parametrize("variant", ["repaired", "posted", "obvious"])
def test_the_networks_of_a_study_give_its_own_numbers(variant):
    study = studies.get("forum-mnist")
    lab = states.of_study("forum-mnist", n_images=25)
    lab.choose(variant)
    result, case = finished(lab), study.build(variant)
    images, labels = study.data.load("test", 25)
    assert_equal(result, case.present(images, progress=False))
    assert lab.history[-1].accuracy == result.accuracy(labels, case.readout)
    assert lab.predict() == case.diagnose(images, labels)
    assert lab.now.published == case.published
    lab.set("hidden.amplitude", 3.0)
    assert lab.now.published is None


def test_knobs_turn_the_posted_network_into_the_repaired_one():
    lab = states.of_study("forum-mnist", "posted", 10, initial_voltage="zero")
    case = studies.get("forum-mnist").build("repaired")
    lab.set("input.kind", "process")
    lab.set("input.max_rate", 255.0)
    lab.set("input.amplitude", None)
    lab.set("run.readout", "spike_count")
    for layer in case.layers:
        ensemble = next(each for each in case.network.all_ensembles if each.label == layer.name)
        lab.set(f"{layer.name}.gain", ensemble.gain[0])
        lab.set(f"{layer.name}.bias", 0.0)
        lab.set(f"{layer.name}.amplitude", ensemble.neuron_type.amplitude)
    images, _ = studies.get("forum-mnist").data.load("test", 10)
    assert_equal(finished(lab), case.present(images, progress=False))


def test_the_seed_of_a_study_is_that_of_its_network():
    lab = states.of_study("forum-mnist", "posted", 5)
    lab.set("run.seed", 4)
    images, _ = studies.get("forum-mnist").data.load("test", 5)
    other = studies.get("forum-mnist").build("posted", seed=4)
    assert_equal(finished(lab), other.present(images, progress=False))


def test_all_layers_are_there_whatever_a_study_keeps():
    output = built()
    case = states.Case("few", output, (), None, 0.05, keep=["output"], seed=3)
    base = states.Base(case, 40)
    lab = states.Lab({"few": lambda: base}, IMAGES, LABELS, "few", "few", ["a", "b", "c"])
    assert_equal(finished(lab), shown(output))
    assert [*lab.done.layers] == ["hidden", "output", "input"]  # those with weights come first


def test_nobodys_objects_change():
    output = built()
    before = digest(output.network, "network")
    lab = lab_of(output)
    lab.set("input.kind", "ensemble")
    lab.set("hidden.gain", 1.0)
    finished(lab)
    assert digest(output.network, "network") == before


def test_two_labs_do_not_disturb_each_other():
    lab = lab_of()
    other = lab.fresh()
    lab.set("hidden.gain", 0.3)
    finished(lab)
    assert other.now.values == other.now.base.values
    assert (other.history, other.done, other.job) == ([], None, None)
    assert_equal(finished(other), shown(built()))


@pytest.fixture
def begun(monkeypatch):
    """Return an event that is set as soon as a run takes steps."""
    event, told = threading.Event(), states.Job.told

    def hear(job, n_done, total):
        told(job, n_done, total)
        if 0 < n_done < total:
            event.set()

    monkeypatch.setattr(states.Job, "told", hear)
    return event


def test_a_run_ends_when_its_knobs_move_on(begun):
    lab = lab_of(presentation_time=600.0, dt=0.001)
    lab.run()
    assert begun.wait(LONG)
    old = lab.job
    lab.set("run.presentation_time", 0.05)
    lab.run()
    assert lab.wait(LONG)
    assert old.run.result(LONG) is None
    assert [run.number for run in lab.history] == [1]
    assert lab.trouble is None
    assert_equal(lab.done.result, shown(built()))


def test_the_list_says_what_changed_from_run_to_run():
    lab = lab_of()
    finished(lab)
    assert lab.changed == {}
    lab.set("hidden.gain", 0.3)
    lab.set("hidden.bias", 0.1)
    lab.set("hidden.bias", 0.5)  # as it was
    assert lab.changed == {"hidden.gain": (2.0, 0.3)}
    result = finished(lab)
    lab.set("hidden.synapse", 0.01)
    finished(lab)
    assert [run.changed for run in lab.history] == [
        {},
        {"hidden.gain": (2.0, 0.3)},
        {"hidden.synapse": (None, 0.01)},
    ]
    row = lab.history[1]
    assert row.accuracy == result.accuracy(LABELS)
    assert row.accuracy.ties == result.tied().sum()
    lab.back()
    assert_equal(finished(lab), result)


def test_of_earlier_runs_small_things_are_kept():
    lab = lab_of()
    first = weakref.ref(finished(lab))
    lab.set("hidden.gain", 0.3)
    finished(lab)
    gc.collect()
    assert first() is None


@pytest.mark.parametrize("error", [nn.InputError("hidden:  too\nmuch"), ZeroDivisionError("x")])
def test_what_a_run_cannot_do_is_said_and_the_next_one_runs(error, monkeypatch):
    def fail(*_, **__):
        raise error

    lab = lab_of()
    with monkeypatch.context() as patched:
        patched.setattr(states.Case, "present", fail)
        lab.run()
        assert lab.wait(LONG)
    own = isinstance(error, nn.InputError)
    assert lab.trouble == ("hidden: too much" if own else "ZeroDivisionError('x')")
    assert lab.history == []
    finished(lab)


def test_plain_nengo_has_knobs_for_what_its_objects_say():
    with nengo.Network(seed=2) as network:
        image = nengo.Node(np.zeros(12))
        neurons = nengo.Ensemble(7, 1, gain=RNG.random(7) + 1, bias=RNG.random(7), label="a")
        nengo.Connection(image, neurons.neurons, transform=KERNELS[0].T, synapse=0.005)
    lab = states.of_output(neurons, IMAGES, network=network, presentation_time=0.05)
    assert lab.now.values["a"]["synapse"] == 0.005
    assert lab.now.values["a"]["tuning"] == knobs.BUILT
    before = finished(lab)
    lab.set("a.synapse", None)
    lab.set("a.tau_ref", 0.003)
    result = finished(lab)
    network.connections[0].synapse = None
    neurons.neuron_type = nengo.LIF(tau_ref=0.003)
    own = {"presentation_time": 0.05, "progress": False}
    assert_equal(result, nn.present(network, neurons, IMAGES, **own))
    assert np.any(result.counts["a"] != before.counts["a"])
    lab.set("a.tuning", knobs.GAIN)
    lab.set("a.gain", 4.0)
    neurons.gain, neurons.bias = np.full(7, 4.0), np.zeros(7)
    assert_equal(finished(lab), nn.present(network, neurons, IMAGES, **own))


def test_what_is_inside_is_what_the_run_did():
    lab = lab_of(presentation_time=0.2)
    result, done = finished(lab), lab.done
    example, _ = done.again(17)
    assert example.rasters.keys() == {"input", "hidden", "output"}
    for label, raster in example.rasters.items():
        np.testing.assert_array_equal(raster[0].sum(axis=0), result.counts[label][17])
    np.testing.assert_array_equal(done.images[17], IMAGES[17])
    neuron = done.neuron(17, "hidden", 2)
    np.testing.assert_array_equal(neuron["weights"], KERNELS[0][:, 2].reshape(3, 4))
    assert neuron["traces"]["spikes"].sum() == result.counts["hidden"][17, 2]
    assert neuron["rates"][0] == pytest.approx(result.counts["hidden"][17, 2] / 0.2)
    currents, rates = neuron["tuning"]
    np.testing.assert_allclose(rates, nengo.LIF().rates(currents[:, None], [1.0], [0.0])[:, 0])
    mean = IMAGES.reshape(40, 12) @ KERNELS[0][:, 2] + KERAS_BIAS[2]
    np.testing.assert_allclose(neuron["currents"], 2.0 * mean + 0.5)
    # Its mean over steps of noise; the voltage stays under the threshold.
    assert abs(neuron["traces"]["current"].mean() - neuron["currents"][17]) < 1.5
    assert neuron["traces"]["voltage"].max() <= 1


@pytest.mark.parametrize("shape", [(6, 5, 2), (6, 2)])
def test_the_weights_of_a_filter_are_the_kernels(shape):
    kernel = RNG.normal(size=(*[3] * (len(shape) - 1), 2, 4))
    with nengo.Network(seed=0):
        image = nn.constant_input(shape)
        build = nn.conv2d if len(shape) == 3 else nn.conv1d
        layer = build(image, kernel, nengo.LIF(), gain=1.0, bias=0.0, label="filters")
    images = RNG.random((2, *shape))
    lab = states.of_output(layer, images, presentation_time=0.01)
    finished(lab)
    found = lab.done.neuron(0, "filters", 6)["weights"]  # of filter 2, at the second place
    np.testing.assert_array_equal(found, kernel[..., 2].reshape(-1, 3, 2))


def test_an_output_without_neurons_can_be_looked_at():
    with nengo.Network(seed=0):
        image = nn.constant_input((3, 4))
        hidden = nn.dense(image, KERNELS[0], nengo.LIF(), gain=2.0, bias=0.0, label="hidden")
        logits = nn.dense(hidden, KERNELS[1], None, label="logits")
    lab = states.of_output(logits, IMAGES, LABELS, **SETTINGS)
    finished(lab)
    assert [*lab.done.layers] == ["hidden"]
    assert lab.done.neuron(3, "hidden", 1)["traces"].keys() == {"current", "voltage", "spikes"}
    assert lab.done.again(3, "logits")[1] == {}


def test_the_code_is_that_of_the_network_of_now():
    lab = lab_of()
    lab.set("hidden.gain", 0.75)
    assert lab.code() == nn.as_script(
        built(gain=0.75, bias=0.5), IMAGES[:20], LABELS[:20], **SETTINGS
    )


def test_a_script_that_reads_arrays_runs(tmp_path):
    lab = lab_of(presentation_time=0.01)
    script = tmp_path / "network.py"
    script.write_text(f"{lab.code()}\nnp.save('counts', counts)\n", encoding="utf-8")
    (tmp_path / "network.npz").write_bytes(lab.code().npz())
    subprocess.run([sys.executable, script], check=True, cwd=tmp_path, capture_output=True)
    counts = finished(lab).counts["output"]
    np.testing.assert_array_equal(np.load(tmp_path / "counts.npy"), counts[:20])


def test_runs_share_one_thread_that_ends_with_the_lab():
    before = set(threading.enumerate())
    lab = lab_of()
    for gain in (0.5, 0.6, 0.7):
        lab.set("hidden.gain", gain)
        finished(lab)
    own = set(threading.enumerate()) - before
    assert len(own) == 2  # the other is for predictions and views
    del lab
    gc.collect()
    for thread in own:
        thread.join(LONG)
        assert not thread.is_alive()


def test_what_is_done_beside_the_run_does_not_wait_for_it(begun):
    lab = lab_of(presentation_time=600.0, dt=0.001)
    lab.run()
    assert begun.wait(LONG)
    assert lab.later(lambda: lab.is_running).result(LONG) is True
    with pytest.raises(ZeroDivisionError):
        lab.later(lambda: 1 / 0).result(LONG)
    lab.set("hidden.gain", 0.5)
    expected = lab.later(lab.predict).result(LONG)
    assert lab.predicted is expected
    lab.cancel()
    assert lab.wait(LONG)


def test_the_diagnosis_of_a_run_is_its_own_prediction():
    lab = lab_of()
    finished(lab)
    predicted = lab.predict()
    lab.set("hidden.gain", 0.2)
    assert lab.predict() != predicted
    assert lab.done.diagnosis is predicted


def test_it_is_a_function_whichever_was_imported_first():
    code = "import nengonet.laboratory.knobs, nengonet as nn; nn.lab(1, 2)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "InputError: output: expected a Layer" in found.stderr
    assert inspect.signature(nn.lab).parameters.keys() >= {"output", "images", "labels"}
