import dataclasses
import os

import nengo
import numpy as np
import pytest
from killing import start_and_kill
from nengo.dists import Choice

import nengonet as nn
from nengonet.results.result import Collector, load_result
from nengonet.run.presentation import RunJournal, default_minibatch_size, present
from nengonet.run.runner import Runner

RNG = np.random.default_rng(42)
KERNELS = [RNG.normal(0, 0.5, (16, 12)), RNG.normal(0, 0.5, (12, 4))]
IMAGES = RNG.uniform(size=(20, 4, 4))
LABELS = RNG.integers(4, size=20)
TIME = 0.06


def build(neuron_type=None, kind="process", seed=0, kernels=KERNELS, **settings):
    neuron_type = neuron_type or nn.IntegrateAndFire()
    with nengo.Network(seed=seed) as network:
        pixels = nn.poisson_input((4, 4), max_rate=400.0, kind=kind)
        hidden = nn.dense(
            pixels,
            kernels[0],
            neuron_type,
            gain=150.0,
            amplitude=1 / 150,
            label="hidden",
            **settings,
        )
        output = nn.dense(hidden, kernels[1], neuron_type, gain=150.0, label="output", **settings)
    return network, output


def run(images=IMAGES, network=None, **settings):
    network, output = network or build()
    settings = {"presentation_time": TIME, "progress": False} | settings
    return present(network, output, images, **settings)


def assert_same(a, b):
    assert a.counts.keys() == b.counts.keys()
    for label in a.counts:
        np.testing.assert_array_equal(a.counts[label], b.counts[label])
    np.testing.assert_array_equal(a.outputs, b.outputs)
    np.testing.assert_array_equal(a.examples, b.examples)


RANDOM_KINDS = {
    "process": {},
    "Nengo's Poisson ensemble": {"kind": "ensemble"},
    "two random ensembles": {
        "kind": "ensemble",
        "neuron_type": nengo.PoissonSpiking(nengo.RectifiedLinear()),
    },
    "LIF with drawn voltages": {"neuron_type": nengo.LIF()},
}


@pytest.mark.parametrize("settings", RANDOM_KINDS.values(), ids=RANDOM_KINDS)
@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
def test_an_example_has_the_same_spikes_wherever_it_stands(settings, simulator):
    whole = run(network=build(**settings), simulator=simulator)
    assert whole.counts["output"].sum() > 20
    assert_same(whole, run(network=build(**settings), simulator=simulator))
    for order in ([17], [3, 17, 0], range(19, -1, -1)):
        order = list(order)
        part = run(IMAGES[order], network=build(**settings), examples=order, simulator=simulator)
        np.testing.assert_array_equal(part.counts["output"], whole.counts["output"][order])
        np.testing.assert_array_equal(part.counts["input"], whole.counts["input"][order])
        np.testing.assert_array_equal(part.outputs, whole.outputs[order])
    other = run(network=build(**settings), seed=1)
    assert not np.array_equal(other.counts["output"], whole.counts["output"])


@pytest.mark.parametrize("settings", RANDOM_KINDS.values(), ids=RANDOM_KINDS)
@pytest.mark.parametrize(
    "running",
    [{"minibatch_size": 1}, {"minibatch_size": 7}, {}, {"n_jobs": 2}, {"numba": False}],
    ids=str,
)
def test_the_way_of_running_changes_no_spike(settings, running, monkeypatch):
    running = dict(running)
    if running.pop("numba", True) is False:
        monkeypatch.setenv("NENGONET_NUMBA", "0")
    reference = run(network=build(**settings), simulator="reference", rasters=["hidden"])
    other = run(network=build(**settings), rasters=["hidden"], **running)
    assert_same(reference, other)
    np.testing.assert_array_equal(reference.rasters["hidden"], other.rasters["hidden"])


def test_32_bits_give_nearly_the_same_counts():
    for simulator in ("minibatch", "reference"):
        halved = run(simulator=simulator, precision=32)
        assert np.abs(halved.counts["output"] - run().counts["output"]).max() <= 1
        assert halved.settings["precision"] == 32


def test_repeats_itself_within_one_network():
    network = build()
    assert_same(run(network=network), run(network=network))
    assert len(network[0].probes) == 0


def test_an_unseeded_network_is_repeatable_and_stays_unseeded():
    first, second = (build(nengo.LIF(), seed=None) for _ in range(2))
    assert_same(run(network=first, seed=5), run(network=second, seed=5))
    assert first[0].seed is None


def test_the_networks_seed_is_the_default():
    assert_same(run(network=build(seed=9)), run(network=build(seed=9), seed=9))
    assert run(network=build(seed=9)).settings["seed"] == 9


def test_a_process_of_the_users_follows_the_example():
    def noisy():
        network, output = build()
        with network:
            noise = nengo.Node(nengo.processes.WhiteNoise(), size_out=4)
            nengo.Connection(noise, output.ensemble.neurons, synapse=None)
        return network, output

    whole = run(network=noisy())
    np.testing.assert_array_equal(
        run(IMAGES[7:8], network=noisy(), examples=[7]).outputs[0], whole.outputs[7]
    )
    reference = run(IMAGES[:2], network=noisy(), simulator="reference")
    np.testing.assert_array_equal(reference.outputs, whole.outputs[:2])
    assert not np.array_equal(whole.outputs, run().outputs)


@pytest.mark.parametrize("neurons", ["lif", "if", "relu"])
@pytest.mark.parametrize("synapse", [None, 0.005])
def test_plain_nengo_gives_the_same_counts(neurons, synapse):
    """The same network in plain Nengo has the same counts in its probes."""
    neuron_type = {
        "lif": nengo.LIF(amplitude=0.02, initial_state={"voltage": Choice([0.25])}),
        "if": nn.IntegrateAndFire(amplitude=0.02),
        "relu": nengo.SpikingRectifiedLinear(
            amplitude=0.02, initial_state={"voltage": Choice([0])}
        ),
    }[neurons]
    gain, bias = (3.0, 0.9) if neurons == "lif" else (200.0, 1.0)
    with nengo.Network(seed=0) as ours:
        layer = nn.constant_input((4, 4))
        for label, kernel in zip(("hidden", "output"), KERNELS, strict=True):
            layer = nn.dense(
                layer, kernel, neuron_type, gain=gain, bias=bias, synapse=synapse, label=label
            )
    result = run(network=(ours, layer), rasters=["hidden"])

    for example in (0, 11, 19):
        with nengo.Network(seed=0) as plain:
            node = nengo.Node(IMAGES[example].ravel())
            populations = []
            for n_neurons, kernel in zip((12, 4), KERNELS, strict=True):
                population = nengo.Ensemble(
                    n_neurons,
                    1,
                    neuron_type=neuron_type,
                    gain=np.full(n_neurons, gain),
                    bias=np.full(n_neurons, bias),
                )
                source = populations[-1].neurons if populations else node
                nengo.Connection(source, population.neurons, transform=kernel.T, synapse=synapse)
                populations.append(population)
            probes = [nengo.Probe(population.neurons) for population in populations]
        with nengo.Simulator(plain, progress_bar=False) as simulator:
            simulator.run(TIME)
            spikes = [simulator.data[probe] * 0.001 / 0.02 for probe in probes]
        assert spikes[1].sum() > 0
        np.testing.assert_array_equal(result.counts["hidden"][example], np.rint(spikes[0].sum(0)))
        np.testing.assert_array_equal(result.counts["output"][example], np.rint(spikes[1].sum(0)))
        np.testing.assert_array_equal(result.rasters["hidden"][example], np.rint(spikes[0]))


def test_every_presentation_begins_from_the_reset_state():
    """A, B, A gives A again."""
    result = run(IMAGES[[4, 9, 4]], examples=[4, 9, 4], network=build(nengo.AdaptiveLIF()))
    np.testing.assert_array_equal(result.outputs[0], result.outputs[2])
    assert not np.array_equal(result.outputs[0], result.outputs[1])


def test_result_adds_up():
    result = run(rasters=["input", "hidden"])
    for label in ("input", "hidden"):
        np.testing.assert_array_equal(result.rasters[label].sum(axis=1), result.counts[label])
    np.testing.assert_array_equal(result.scores()[:, -1], result.counts["output"])
    np.testing.assert_allclose(result.rates("hidden"), result.counts["hidden"] / TIME)
    np.testing.assert_allclose(
        result.mean_output("hidden"), result.counts["hidden"] / 150 / TIME, rtol=1e-12
    )
    accuracy = result.accuracy(LABELS)
    assert accuracy.value == (result.predictions() == LABELS).mean()
    assert accuracy.ties == result.tied().sum()
    latency = result.latency(LABELS)
    assert latency.shape == (60,)
    for n_steps in (1, 30, 60):
        assert latency[n_steps - 1] == result.accuracy(LABELS, n_steps=n_steps).value
    short = run(presentation_time=0.03)
    np.testing.assert_array_equal(short.predictions(), result.predictions(n_steps=30))
    spikes = result.spikes_per_image()
    assert list(spikes) == ["input", "hidden", "output"]
    assert spikes["output"] == result.counts["output"].sum() / 20


@pytest.mark.parametrize("dt", [0.01, 1.0])
def test_several_spikes_a_step_are_several(dt):
    result = run(network=build(), dt=dt, presentation_time=5 * dt)
    assert result.outputs.max() * dt > 1
    assert result.counts["input"].mean() == pytest.approx(400 * IMAGES.mean() * 5 * dt, rel=0.2)
    np.testing.assert_array_equal(result.scores()[:, -1], result.counts["output"])


def test_save_and_load(tmp_path):
    file = tmp_path / "run.h5"
    result = run(save=file, rasters=["hidden"])
    loaded = load_result(file)
    assert_same(result, loaded)
    np.testing.assert_array_equal(result.rasters["hidden"], loaded.rasters["hidden"])
    assert loaded.layers == result.layers
    assert str(loaded.accuracy(LABELS)) == str(result.accuracy(LABELS))
    assert os.listdir(tmp_path) == ["run.h5"]
    assert_same(result, run(save=file, resume=True, rasters=["hidden"]))
    with pytest.raises(nn.InputError, match="run.h5 already exists; pass resume=True"):
        run(save=file)
    with pytest.raises(nn.InputError, match="the saved run has another seed: expected 3, got 0"):
        run(save=file, resume=True, seed=3, rasters=["hidden"])


class Stop(Exception):
    pass


def recorded(file):
    """The examples that are finished."""
    batches = []
    with RunJournal(file, None) as journal:
        journal.replay(batches.append)
    return [int(example) for batch in batches for example in batch["examples"]]


def interrupted_run(file, monkeypatch, after, **settings):
    """Run until ``after`` examples are finished, then fail."""
    whole, finished = Runner._arrays, []

    def counted(*arguments):
        if len(finished) == after:
            raise Stop
        finished.append(1)
        return whole(*arguments)

    settings = {"minibatch_size": 1} | settings
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_arrays", counted)
        with pytest.raises(Stop):
            run(save=file, **settings)
    return finished


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    file = tmp_path / "run.h5"
    unbroken = run()
    interrupted_run(file, monkeypatch, 5)
    assert os.listdir(tmp_path) == ["run.h5.partial"]
    with pytest.raises(nn.InputError, match="run.h5.partial already exists"):
        run(save=file)
    assert len(interrupted_run(file, monkeypatch, 7, resume=True)) == 7
    assert_same(unbroken, run(save=file, resume=True))
    assert os.listdir(tmp_path) == ["run.h5"]
    assert_same(unbroken, load_result(file))


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 300])
def test_a_record_cut_short_is_done_again(tmp_path, monkeypatch, cut):
    file, journal = tmp_path / "run.h5", tmp_path / "run.h5.partial"
    interrupted_run(file, monkeypatch, 4)
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert len(interrupted_run(file, monkeypatch, 2, resume=True)) == 2
    # three whole ones of the first run, and both of the second
    assert len(recorded(journal)) == 5
    assert_same(run(), run(save=file, resume=True))


@pytest.mark.parametrize("at", [0.0, 0.3, 0.999])
def test_a_broken_journal_is_not_trusted(tmp_path, monkeypatch, at):
    file, journal = tmp_path / "run.h5", tmp_path / "run.h5.partial"
    interrupted_run(file, monkeypatch, 4)
    content = bytearray(journal.read_bytes())
    content[int(at * len(content))] ^= 0xFF
    journal.write_bytes(content)
    if at == 0.0:
        with pytest.raises(nn.InputError, match="expected the file of an unfinished run"):
            run(save=file, resume=True)
    else:
        assert_same(run(), run(save=file, resume=True))


@pytest.mark.parametrize(
    "changed, name",
    [
        ({"seed": 1}, "seed"),
        ({"presentation_time": 0.05}, "n_steps"),
        ({"presentation_time": 0.03, "dt": 0.0005}, "dt"),
        ({"precision": 32}, "precision"),
        ({"images": 1 - IMAGES}, "images"),
        ({"examples": range(1, 21)}, "examples"),
        ({"network": build(nn.IntegrateAndFire(min_voltage=-1))}, "network"),
        ({"network": build(kernels=[KERNELS[0], -KERNELS[1]])}, "network"),
        ({"network": build(synapse=0.001)}, "network"),
    ],
)
def test_another_run_is_not_gone_on_with(tmp_path, monkeypatch, changed, name):
    file = tmp_path / "run.h5"
    interrupted_run(file, monkeypatch, 3)
    with pytest.raises(nn.InputError, match=f"the unfinished run has (an)?other {name}"):
        run(save=file, resume=True, **changed)


_KILLED = """
from killing import wait_after
from test_presentation import run
wait_after(3)
run(save={file!r}, resume=True, simulator={simulator!r}, minibatch_size=2)
"""


@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
def test_a_killed_run_goes_on(tmp_path, simulator):
    """After ``kill -9`` at several moments, no finished example is lost or repeated."""
    file, journal = tmp_path / "run.h5", tmp_path / "run.h5.partial"
    code, sizes = _KILLED.format(file=str(file), simulator=simulator), [0]
    for _ in range(3):
        start_and_kill(code, journal)
        assert journal.stat().st_size > sizes[-1]
        sizes.append(journal.stat().st_size)
    assert_same(run(), run(save=file, resume=True))
    assert os.listdir(tmp_path) == ["run.h5"]


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"images": IMAGES[:, :3]},
            r"\(n_images, 4, 4\) or flat for input, got \(20, 3, 4\)",
        ),
        ({"images": IMAGES[0].reshape(4, 4)}, r"single image as image\[numpy.newaxis\]"),
        ({"images": 255 * IMAGES}, r"in \[0, 1\]"),
        ({"images": IMAGES * np.nan}, "NaN|finite"),
        ({"presentation_time": 0.0}, "presentation_time: expected a time .*, above 0, got 0"),
        ({"presentation_time": 1e-5}, "expected at least one step of 0.001 s"),
        ({"dt": -1}, "dt: expected a time in seconds, above 0, got -1"),
        ({"seed": -1}, "seed: expected a whole number from 0"),
        ({"seed": 0.5}, "seed: expected a whole number from 0"),
        ({"examples": [1, 2]}, "examples: expected 20 whole numbers"),
        ({"examples": np.arange(20) - 1}, "examples: expected 20 whole numbers"),
        ({"simulator": "nengo"}, "simulator: expected one of minibatch, reference, got"),
        ({"minibatch_size": 0}, "minibatch_size: expected a whole number of at least 1, got 0"),
        ({"n_jobs": 0}, "n_jobs: expected a number of processes, or -1 for one per core, got 0"),
        ({"n_jobs": -2}, "n_jobs: expected a number of processes, or -1 for one per core, got -2"),
        ({"precision": 16}, "precision: expected one of 32, 64, got 16"),
        ({"readout": "loudest"}, "readout: expected one of spike_count"),
        ({"rasters": ["hiden"]}, "layer 'hiden'; .*input, hidden, output, .*did you mean 'hidden'"),
        ({"rasters": "hidden"}, "rasters: expected a list of spiking layer labels.*got 'hidden'"),
        ({"keep": "hidden"}, "keep: expected a list of layer labels"),
        ({"resume": True}, "resume: expected save=… too"),
        ({"save": "no/such/folder/run.h5"}, "the folder no/such/folder does not exist"),
        ({"save": "."}, "expected the name of a file, got a folder"),
        ({"save": 3}, "save: expected the name of a file, got 3"),
        ({"save": b"run.h5"}, "save: expected the name of a file"),
        ({"save": "a\0b"}, "save: expected the name of a file"),
        ({"network": (nengo.Network(), build()[1])}, "is not part of the network"),
    ],
)
def test_bad_input_is_named(settings, message):
    with pytest.raises(nn.InputError, match=message):
        run(**settings)


def test_the_output_must_be_one():
    network, output = build()
    with pytest.raises(nn.InputError, match="output: expected a Layer.*got 'output'"):
        run(network=(network, "output"))


def test_what_is_printed_is_short():
    network, output = build()
    result = run(network=(network, output))
    assert repr(result).startswith("<Result of 20 images, ")
    assert repr(output) == f"<Layer {output.label!r}, shape {output.shape}>"


def test_equal_labels_are_refused():
    network, output = build()
    output = dataclasses.replace(output, label="hidden")
    with pytest.raises(nn.InputError, match="layers with different labels, got input, hidden, hid"):
        run(network=(network, output))


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "no such file"),
        (b"", "expected a result written by nengonet, got a damaged or truncated file"),
        (b"not HDF5 at all", "expected a result written by nengonet, got a damaged"),
    ],
)
def test_a_file_that_is_no_result(tmp_path, content, message):
    file = tmp_path / "run.h5"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(nn.InputError, match=message):
        load_result(file)


def test_a_weights_file_is_no_result():
    with pytest.raises(nn.InputError, match="result written by nengonet .*got another HDF5 file"):
        load_result(nn.pretrained("mnist_dense"))


def test_unknown_layers_and_steps_are_named():
    result = run(IMAGES[:2])
    with pytest.raises(nn.InputError, match="unknown layer 'hiden'; expected any of input, hidden"):
        result.rates("hiden")
    with pytest.raises(nn.InputError, match=r"unknown layer shape \(1,\); expected any of input"):
        result.layer(["hidden"])
    with pytest.raises(nn.InputError, match="n_steps: expected .* from 1 to 60, got 61"):
        result.predictions(n_steps=61)


def test_scores_are_computed_some_examples_at_a_time(monkeypatch):
    result = run(IMAGES[:9])
    labels = np.arange(9) % 3
    expected = result.predictions(), result.tied(), result.latency(labels)
    monkeypatch.setattr("nengonet.results.result._CHUNK", 2)
    found = result.predictions(), result.tied(), result.latency(labels)
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_collector_widens_its_numbers():
    found = Collector(np.array([7, 8, 9]))
    found.add({"examples": np.array([7, 8]), "steps": np.array([[1], [2]], dtype=np.int16)})
    found.add({"examples": np.array([9]), "steps": np.array([[100_000]], dtype=np.int64)})
    np.testing.assert_array_equal(found.arrays["steps"], [[1], [2], [100_000]])


def test_minibatches_of_large_networks_are_smaller():
    with nengo.Network() as network:
        nengo.Ensemble(900, 1)
    assert default_minibatch_size(network, 10_000) == 250
    with nengo.Network() as network:
        nengo.Ensemble(90_000, 1)
        nengo.Node(size_in=10_000)
    assert default_minibatch_size(network, 1000) == 46


@pytest.mark.parametrize(
    ("n_images", "size"), [(0, 1), (1, 1), (45, 45), (67, 67), (68, 34), (75, 38), (113, 38)]
)
def test_no_minibatch_is_much_smaller_than_the_others(n_images, size):
    with nengo.Network() as network:
        nengo.Ensemble(100_000, 1)
    assert default_minibatch_size(network, n_images) == size


@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
def test_images_are_for_the_input_that_feeds_the_output(simulator):
    """A second input keeps its own values."""
    with nengo.Network(seed=0) as network:
        columns = {}
        for name, gain in (("left", 40.0), ("right", 100.0)):
            pixels = nn.constant_input((3,), label=f"{name} pixels")
            columns[name] = nn.dense(
                pixels, np.eye(3), nn.IntegrateAndFire(), gain=gain, label=name
            )
    columns["left"].show([1.0, 1.0, 1.0])
    images = np.array([[0.2, 0.5, 1.0], [1.0, 0.0, 0.3]])
    settings = {"presentation_time": 0.5, "simulator": simulator, "progress": False}
    result = nn.present(network, columns["right"], images, **settings)
    assert np.array_equal(result.counts["right"], 50 * images)
    with network:
        nengo.Connection(columns["left"].output, columns["right"].output, synapse=None)
    with pytest.raises(nn.InputError, match="left pixels.*right pixels"):
        nn.present(network, columns["right"], images, **settings)


def test_a_probe_that_was_not_sampled_yet_has_a_row_of_no_steps():
    network, output = build()
    with network:
        probe = nengo.Probe(output.output, sample_every=0.5)
    for simulator in ("minibatch", "reference"):
        result = run(network=(network, output), probes=[probe], simulator=simulator)
        assert result.data[probe].shape == (20, 0, 4)
