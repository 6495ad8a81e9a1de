"""The interface of the minibatch simulator: examples, images, data, resets, bad input."""

import pickle

import nengo
import numpy as np
import pytest
from minibatches import (
    BATCH,
    NUMBA,
    SEED,
    STEPS,
    image_network,
    minibatch,
    passing_network,
    quiet,
    random_rows,
)
from nengo.exceptions import SimulatorClosed

import nengonet as nn
from nengonet.minibatch import MinibatchSimulator
from nengonet.studies import forum_mnist

# Examples: images, random streams, batches.

RANDOM = {
    "process": {},
    "Nengo's Poisson ensemble": {"kind": "ensemble"},
    "two random layers": {"neuron_type": nengo.PoissonSpiking(nengo.RectifiedLinear())},
    "stochastic": {"neuron_type": nengo.StochasticSpiking(nengo.RectifiedLinear())},
    "three random layers": {
        "kind": "ensemble",
        "neuron_type": nengo.PoissonSpiking(nengo.RectifiedLinear()),
    },
}
IMAGES = np.random.default_rng(0).uniform(size=(9, 16))


def totals_of(network, output, images, examples, batch, seed=3, **settings):
    """Sum up every layer's output, shown in batches of ``batch``."""
    totals = []
    with minibatch(network, batch, **settings) as simulator:
        records = [simulator.record(layer.output) for layer in output.upstream()]
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            simulator.reset_to_examples(images[part], examples[part], seed)
            simulator.run_steps(130)
            totals.append(np.concatenate([record.total for record in records], axis=1))
    return np.concatenate(totals)


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("kind", RANDOM)
def test_batch_size_order_and_company_change_nothing(kind, numba):
    network, output = image_network(**RANDOM[kind])
    images, examples = IMAGES[:7].reshape(7, 4, 4), np.arange(10, 17)
    whole = totals_of(network, output, images, examples, 7, numba=numba)
    for batch in (1, 3):
        parts = totals_of(network, output, images, examples, batch, numba=numba)
        np.testing.assert_allclose(parts, whole, rtol=1e-9)
    order = np.random.default_rng(1).permutation(7)
    shuffled = totals_of(network, output, images[order], examples[order], 7, numba=numba)
    np.testing.assert_allclose(shuffled, whole[order], rtol=1e-9)
    assert not np.allclose(whole, totals_of(network, output, images, examples, 7, seed=4))
    assert not np.allclose(whole, totals_of(network, output, images, examples + 1, 7))
    if kind == "process":
        merged = totals_of(network, output, images, examples, 7, numba=numba, optimize=True)
        np.testing.assert_allclose(merged, whole)


def forum(kind):
    layers = forum_mnist.mlp_layers(nn.load_weights(nn.pretrained("mnist_dense")))
    output = forum_mnist.build(layers, neurons=kind)
    return output.network, output, nn.datasets.load("mnist", n_images=12)[0]


CASES = {name: lambda name=name: (*image_network(**RANDOM[name]), IMAGES) for name in RANDOM}
CASES |= {kind: lambda kind=kind: forum(kind) for kind in forum_mnist.NEURONS}


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("case", CASES)
def test_layers_are_those_of_the_reference(case, numba):
    network, output, images = CASES[case]()
    examples = np.random.default_rng(2).permutation(len(images))
    run = {"presentation_time": 0.12, "seed": 3, "examples": examples, "progress": False}
    result = nn.present(network, output, images, simulator="reference", **run)
    with minibatch(network, len(images), numba=numba) as simulator:
        records = {layer: simulator.record(layer.output) for layer in output.upstream()}
        steps = simulator.record(output.output, steps=True)
        simulator.reset_to_examples(images, examples, seed=3)
        simulator.run_steps(120)
        for layer, record in records.items():
            np.testing.assert_allclose(record.total / 120, result.mean_output(layer.label))
            if layer.spiking:
                counts = np.rint(record.total * 0.001 / layer.amplitude)
                np.testing.assert_array_equal(counts, result.counts[layer.label])
        np.testing.assert_allclose(steps.steps, result.outputs)
    assert result.counts[output.label].sum() > 20


def test_plain_resets_take_the_last_image_and_the_first_examples():
    network, output = image_network()
    output.show(IMAGES[0])
    totals = []
    with minibatch(network, 4, seed=3) as simulator:
        record = simulator.record(output.output)
        for seed in (None, None, 4):
            simulator.reset(seed=seed)
            assert not record.total.any()
            simulator.run_steps(130)
            totals.append(record.total)
    np.testing.assert_array_equal(totals[0], totals[1])
    assert not np.array_equal(totals[1], totals[2])
    images = np.tile(IMAGES[0], (4, 1))
    found = totals_of(network, output, images, np.arange(4), 4)
    np.testing.assert_allclose(found[:, -4:], totals[0])


def test_minibatch_size_follows_the_examples():
    network, output = image_network()
    with network:
        probe = nengo.Probe(output.output)
    with minibatch(network, 4) as simulator:
        record = simulator.record(output.output)
        for n in (4, 9, 2):
            simulator.reset_to_examples(IMAGES[:n])
            simulator.run_steps(5)
            assert simulator.minibatch_size == n
            assert simulator.data[probe].shape == (n, 5, 4)
            assert record.total.shape == (n, 4)
        with pytest.raises(nn.InputError, match="expected 3 images .* got those of the last"):
            simulator.reset_to_examples(examples=[5, 6, 7])
        simulator.reset_to_examples(examples=[5, 6], seed=1)
        np.testing.assert_array_equal(simulator.examples, [5, 6])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"images": np.zeros((3, 15))}, r"expected shape \(n_images, 4, 4\).*got \(3, 15\)"),
        ({"images": np.zeros(16)}, r"got \(16,\)"),
        ({"images": np.zeros((0, 16))}, r"at least one image, got shape \(0, 16\)"),
        ({"images": np.full((3, 16), np.inf)}, "finite"),
        ({"images": np.zeros((3, 16)), "examples": [1, 2]}, "expected 3 whole numbers"),
        ({"images": {"x": np.zeros((3, 16))}}, r"expected Nodes .*\(.*input.*\), got 'x'"),
        ({"images": {}}, "got an empty dict"),
        ({"images": np.zeros((3, 16)) - 1}, r"expected values in \[0, 1\]"),
        ({"examples": [0, -1]}, "whole numbers from 0, .* got"),
        ({"examples": [0.5]}, "whole numbers"),
        ({"examples": []}, "whole numbers"),
    ],
)
def test_bad_examples(settings, message):
    network, _ = image_network()
    with minibatch(network) as simulator, pytest.raises(nn.InputError, match=message):
        simulator.reset_to_examples(**settings)


def test_images_need_an_image_input():
    network, *_ = passing_network()
    with minibatch(network) as simulator:
        with pytest.raises(
            nn.InputError, match="images: expected a network with one input, got none"
        ):
            simulator.reset_to_examples(np.zeros((3, 16)))


# Data for a call.


def test_data_is_put_out_during_one_call_only():
    network, source, _, probe = passing_network()
    rows = random_rows(3)
    with minibatch(network) as simulator:
        simulator.run_steps(2)
        simulator.run_steps(STEPS, data={source: rows})
        simulator.run_steps(2, data={source: rows[:, 0]})
        simulator.run(0.002, data={source: rows[:, 1]})
        simulator.run_steps(1)
        found = simulator.data[probe]
        assert simulator.n_steps == STEPS + 7
        np.testing.assert_allclose(simulator.trange()[-1], simulator.time)
    own = np.broadcast_to(np.arange(3.0), (BATCH, 1, 3))
    expected = [own, own, rows, rows[:, :1], rows[:, :1], rows[:, 1:2], rows[:, 1:2], own]
    np.testing.assert_array_equal(found, np.concatenate(expected, axis=1) + 1)


def test_data_takes_the_place_of_functions_and_processes():
    with nengo.Network(seed=1) as network:
        nodes = [
            nengo.Node(lambda t: [t, t], label="function"),
            nengo.Node(nengo.processes.WhiteNoise(), size_out=2, label="process"),
        ]
        probes = [nengo.Probe(node) for node in nodes]
    rows = random_rows(2)
    with minibatch(network) as simulator:
        simulator.run_steps(STEPS, data={node: rows for node in nodes})
        for probe in probes:
            np.testing.assert_array_equal(simulator.data[probe], rows)
        simulator.run_steps(1)
        np.testing.assert_allclose(simulator.data[probes[0]][:, -1], simulator.time)
        assert np.all(simulator.data[probes[1]][:, -1] != 0)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda s, b: {s: np.zeros((BATCH, 2))}, r"expected shape \(3, 5, 3\).* or \(3, 3\)"),
        (lambda s, b: {s: np.zeros((BATCH, 4, 3))}, r"got \(3, 4, 3\)"),
        (lambda s, b: {s: np.zeros((2, 5, 3))}, r"got \(2, 5, 3\)"),
        (lambda s, b: {s: np.full((BATCH, 3), np.nan)}, "finite"),
        (lambda s, b: {s: np.full((BATCH, 3), 1e39)}, "finite"),
        (lambda s, b: {s: [["a"] * 3] * BATCH}, "array of numbers"),
        (lambda s, b: {b: np.zeros((BATCH, 3))}, "expected nodes without an input, got <.*size_in"),
        (lambda s, b: {"x": np.zeros((BATCH, 3))}, "expected nodes of the network"),
        (lambda s, b: np.zeros((BATCH, 3)), r"expected a dict of \{Node: values\}, got shape"),
        (lambda s, b: [s], "expected a dict"),
        (lambda s, b: {s: np.zeros((BATCH, 3), bool)}, "expected an array of numbers"),
        (lambda s, b: {s: None}, "expected an array of numbers"),
        (lambda s, b: {s: np.zeros((BATCH, 3), complex)}, "expected an array of numbers"),
        (lambda s, b: {s: [[1.0, 2.0], [3.0]]}, "expected an array of numbers"),
    ],
)
def test_bad_data(make, message):
    """In 32 bits, large numbers of 64 bits are infinite."""
    network, source, behind, probe = passing_network()
    with minibatch(network, precision=32) as simulator:
        with pytest.raises(nn.InputError, match=message):
            simulator.run_steps(5, data=make(source, behind))
        simulator.run_steps(5)
        assert simulator.data[probe].shape == (BATCH, 5, 3)


# The interface of nengo.Simulator.


def test_reset_clear_probes_and_close():
    network, source, _, probe = passing_network()
    with network:
        nengo.Probe(source, sample_every=0.002)
    rows = random_rows(3)
    with minibatch(network) as simulator:
        simulator.run_steps(STEPS, data={source: rows})
        first = simulator.data[probe]
        assert not first.flags.writeable
        assert simulator.data[network.probes[1]].shape == (BATCH, STEPS // 2, 3)
        assert len(simulator.trange(sample_every=0.002)) == STEPS // 2
        simulator.clear_probes()
        assert simulator.data[probe].shape == (BATCH, 0, 3)
        simulator.reset()
        assert simulator.n_steps == 0
        assert simulator.time == 0
        simulator.run_steps(STEPS, data={source: rows})
        np.testing.assert_array_equal(simulator.data[probe], first)
        with pytest.warns(UserWarning, match="0 timesteps"):
            simulator.run(0)
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(simulator)
    assert simulator.closed
    np.testing.assert_array_equal(simulator.data[probe], first)
    reset = (simulator.reset, simulator.reset_to_examples)
    for action in (simulator.step, *reset, lambda: simulator.run_steps(1), simulator.__enter__):
        with pytest.raises(SimulatorClosed):
            action()


@pytest.mark.parametrize("numba", NUMBA)
def test_signals_have_their_initial_values_after_a_reset(numba):
    """Also those that no run has read; and what is written after it is where a run begins."""
    rng = np.random.default_rng(6)
    with nengo.Network(seed=2) as network:
        pixels = nn.constant_input((3,))
        layer = nn.dense(pixels, rng.normal(size=(3, 5)), nengo.LIF(), gain=4.0, bias=1.0)
        nengo.Connection(layer.ensemble.neurons, nengo.Node(size_in=5), synapse=0.02)
    with nn.MinibatchSimulator(network, 7, progress_bar=False, numba=numba) as simulator:
        voltage = simulator.model.sig[layer.ensemble.neurons]["voltage"]
        record = simulator.record(layer.output)
        written = [s for op in simulator.model.operators for s in op.sets + op.updates]
        written = [s for s in written if s.name not in ("step", "time")]
        for n_steps in (0, 30):
            if n_steps:
                simulator.run_steps(n_steps)
                assert not (simulator.signals[voltage] == 0).all()
                simulator.reset_to_examples(rng.uniform(size=(4, 3)))
            for signal in written:
                batch = simulator.minibatch_size
                expected = np.broadcast_to(signal.initial_value[..., None], (*signal.shape, batch))
                np.testing.assert_array_equal(simulator.signals[signal], expected)
        images = rng.uniform(size=(4, 3))
        counts = []
        for share in (0, 0.99):
            simulator.reset_to_examples(images)
            simulator.signals[voltage][...] = share
            simulator.run_steps(1)
            counts.append(record.total.sum())
    assert counts[1] > counts[0] == 0


def test_built_parameters_and_shared_probes():
    with nengo.Network(seed=1) as network:
        a, b = nengo.Ensemble(10, 1), nengo.Ensemble(11, 2)
        weights = nengo.Probe(nengo.Connection(a, b[0]), "weights")
        encoders = nengo.Probe(a, "scaled_encoders")
    with minibatch(network) as simulator:
        simulator.run_steps(4)
        built = simulator.data[a]
        assert built.gain.shape == (10,)
        assert simulator.data[weights].shape == (BATCH, 4, 1, 10)
        np.testing.assert_array_equal(simulator.data[encoders][2, 3], built.scaled_encoders)


def test_a_built_model_and_progress():
    network, _, _, probe = passing_network()
    with minibatch(network) as first:
        model = first.model
    with MinibatchSimulator(None, 2, model=model, seed=0, progress_bar=True) as simulator:
        simulator.run_steps(3, progress_bar=False)
        assert simulator.data[probe].shape == (2, 3, 3)


def steps_told(neuron_type, batch, steps, calls=1, **settings):
    """Return a run's progress reports, call by call."""
    network, output = image_network(neuron_type=neuron_type)
    with minibatch(network, batch, **settings) as simulator:
        simulator.record(output.output)
        simulator.reset_to_examples(IMAGES[:batch], seed=3)
        told = [[] for _ in range(calls)]
        for each in told:
            simulator.run_steps(steps, on_progress=each.append)
        simulator.run_steps(steps)  # and nobody is told
        return told


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("batch, steps, least", [(1, 7, 1), (5, 230, 3)])
def test_a_run_reports_the_steps_of_all_examples(batch, steps, least, numba):
    for neuron_type in (nengo.LIF(), nengo.AdaptiveLIF(), nengo.RectifiedLinear()):
        for told in steps_told(neuron_type, batch, steps, calls=2, numba=numba):
            assert len(told) >= least
            assert told[0] > 0
            assert told == sorted(told)
            assert told[-1] == batch * steps


@pytest.mark.parametrize("number", [0, -1, 2.5, "3", True, None, np.nan])
def test_bad_numbers(number):
    network, *_ = passing_network()
    with pytest.raises(nn.InputError, match="minibatch_size"):
        MinibatchSimulator(network, number)
    with minibatch(network) as simulator:
        with pytest.raises(nn.InputError, match="steps: expected a whole number of at least 1"):
            simulator.run_steps(number)
        with pytest.raises(nn.InputError, match="time_in_seconds: expected seconds"):
            simulator.run("long")
        assert simulator.n_steps == 0


def test_what_people_of_nengo_expect():
    network, *_, probe = passing_network()
    with quiet(), MinibatchSimulator(network, 0.002, progress_bar=False) as simulator:
        assert (simulator.dt, simulator.minibatch_size) == (0.002, 1)
    with quiet(), MinibatchSimulator(network, seed=SEED, progress_bar=False) as simulator:
        simulator.run_steps(3)
        assert simulator.data[probe].shape == (1, 3, 3)
        assert simulator.rng.randint(1000) == np.random.RandomState(SEED).randint(1000)
    with pytest.raises(nn.InputError, match="minibatch_size"):
        MinibatchSimulator(network, 0.002, dt=0.005)
