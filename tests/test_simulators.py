"""Building and running change no object of the user's, and threads do not interfere."""

import threading
import warnings

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.layers.inputs import ImageInput
from nengonet.run import simulators
from nengonet.run.bench import bench
from nengonet.run.content import digest
from nengonet.run.simulators import (
    minibatch_simulator,
    neurons_alone,
    reference_simulator,
    reset_to_example,
)

IMAGES = np.random.default_rng(0).uniform(size=(5, 9))
SIMULATORS = ["minibatch", "reference"]


class Counter:
    """Keeps a state from call to call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, t, x):
        self.calls += 1
        return x + self.calls


def counting_network(seed=None):
    """Return a network with everything that a run could leave a mark on, and its last layer."""
    weights = np.random.default_rng(1).normal(0.3, 1, (9, 6))
    with nengo.Network(seed=seed) as network:
        pixels = nn.poisson_input((3, 3), 300.0)
        hidden = nn.dense(
            pixels, weights, nengo.PoissonSpiking(nengo.LIFRate()), label="hidden", **nn.FORUM
        )
        output = nn.dense(hidden, weights[:6, :3], nengo.LIF(), label="output", **nn.FORUM)
        counter = nengo.Node(Counter(), size_in=1, size_out=1)
        noise = nengo.Node(nengo.processes.WhiteNoise(), size_out=3)
        decoded = nengo.Ensemble(10, 1)
        nengo.Connection(hidden.output[:1], counter, synapse=0.01)
        nengo.Connection(counter, output.output[:1], transform=1e-3)
        nengo.Connection(noise, output.output, transform=1e-2, synapse=0.01)
        nengo.Connection(decoded, output.output[1:2], function=np.square, transform=1e-2)
        nengo.Probe(output.output)
    pixels.show(IMAGES[0], example=3, seed=8)
    return network, output


def everything(network):
    """Return the visible state of a network, and all global state."""
    parts = network.all_objects
    return (
        digest(network, "network"),
        [(type(part), part.label, part.seed, sorted(vars(part))) for part in parts],
        [network.seed, *(each.seed for each in network.all_networks)],
        [process_state(node.output) for node in network.all_nodes],
        {section: dict(nengo.rc[section]) for section in nengo.rc},
        list(warnings.filters),
        np.geterr(),
    )


def process_state(output):
    if isinstance(output, ImageInput):
        return output.image.tolist(), output.example, output.seed_of_examples
    return vars(output).copy() if isinstance(output, Counter) else None


def run(network, output, simulator="minibatch", **settings):
    settings = {"presentation_time": 0.05, "progress": False, "seed": 2} | settings
    return nn.present(network, output, IMAGES, simulator=simulator, **settings)


@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("seed", [None, 4])
def test_a_run_leaves_the_network_as_it_is(simulator, precision, seed):
    network, output = counting_network(seed)
    before = everything(network)
    run(network, output, simulator, precision=precision)
    assert everything(network) == before


def fails_in_a_step(network):
    nengo.Node(lambda t: 1 / (t < 0.01), size_out=1)


def fails_when_built(network):
    """Nengo calls it with zeros for its size, and to build it with other values."""
    ensemble = network.ensembles[-1]
    nengo.Connection(ensemble, nengo.Node(size_in=1), function=lambda x: 1 / (not x.any()))


@pytest.mark.parametrize("fails", [fails_in_a_step, fails_when_built])
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_run_that_fails_leaves_the_network_as_it_is(simulator, fails):
    network, output = counting_network()
    with network:
        fails(network)
    before = everything(network)
    with pytest.raises(ZeroDivisionError):
        run(network, output, simulator, precision=32)
    assert everything(network) == before


def test_threads_that_run_one_network_do_not_disturb_each_other():
    network, output = counting_network()
    cases = [
        {"simulator": simulator, "precision": precision, "seed": seed}
        for simulator in SIMULATORS
        for precision in (32, 64)
        for seed in (2, 3)
    ]
    expected = [run(network, output, **case) for case in cases]
    before, found = everything(network), {}
    start = threading.Barrier(len(cases))

    def work(number):
        start.wait()
        found[number] = run(network, output, **cases[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert everything(network) == before
    for number, one in enumerate(expected):
        for label, counts in one.counts.items():
            np.testing.assert_array_equal(found[number].counts[label], counts)
        np.testing.assert_array_equal(found[number].outputs, one.outputs)
    assert not np.array_equal(expected[0].counts["hidden"], expected[1].counts["hidden"])


def test_a_seed_stands_in_for_that_of_the_network():
    gains = []
    for own, given in ((None, 7), (7, 3), (None, 3)):
        with nengo.Network(seed=own) as network:
            ensemble = nengo.Ensemble(10, 1)
        with reference_simulator(network, 0.001, given) as simulator:
            gains.append(simulator.data[ensemble].gain)
        with minibatch_simulator(network, 2, 0.001, given) as simulator:
            np.testing.assert_array_equal(simulator.data[ensemble].gain, gains[-1])
    np.testing.assert_array_equal(gains[0], gains[1])
    assert not np.array_equal(gains[1], gains[2])


def test_images_are_shown_to_the_simulator_alone():
    """A second input has equal parameters, so Nengo regards both as equal."""
    with nengo.Network(seed=0) as network:
        nodes = [nn.constant_input((2,), label=label).node for label in ("one", "two")]
        probes = [nengo.Probe(node) for node in nodes]
    assert nodes[0].output == nodes[1].output
    nodes[1].output.show([5.0, 6.0], example=0, seed=0)
    with reference_simulator(network, 0.001, 0) as simulator:
        for images, shown in (([1.0, 2.0], [1, 2]), (None, [0, 0])):
            reset_to_example(simulator, 0, 0, images and {nodes[0]: images})
            simulator.run_steps(1)
            np.testing.assert_array_equal(simulator.data[probes[0]], [shown])
            np.testing.assert_array_equal(simulator.data[probes[1]], [[5, 6]])
    assert not nodes[0].output.image.any()


def test_a_measurement_leaves_the_network_as_it_is():
    network, output = counting_network()
    before = everything(network)
    found = bench(output, IMAGES, plain=output, presentation_time=0.02, n_reference=3, n_jobs=1)
    assert found["identical_share"] == 1.0
    assert everything(network) == before


# What the build of a minibatch simulator leaves out.

ALIKE = {"max_rates": nengo.dists.Choice([100]), "intercepts": nengo.dists.Choice([0.1])}


def mixed_network(**last):
    """Build ensembles of every kind: two used by their neurons alone, the others drawn or read."""
    with nengo.Network(seed=7) as network:
        source = nengo.Node(np.zeros(4), label="source")
        drawn = nengo.Ensemble(30, 2, label="drawn")
        noise = nengo.processes.WhiteNoise(seed=1)
        alone = nengo.Ensemble(
            20, 1, neuron_type=nengo.AdaptiveLIF(), noise=noise, label="alone", **ALIKE
        )
        stated = nengo.Ensemble(20, 3, gain=np.full(20, 2.0), bias=np.ones(20), label="stated")
        probed = nengo.Ensemble(15, 1, label="probed", **ALIKE)
        fed = nengo.Ensemble(15, 1, label="fed", **ALIKE)
        output = nengo.Ensemble(
            **{"n_neurons": 12, "dimensions": 1, "label": "output"} | ALIKE | last
        )
        nengo.Connection(source, drawn.neurons, transform=np.full((30, 4), 0.6))
        nengo.Connection(drawn.neurons, alone.neurons, transform=np.full((20, 30), 0.002))
        nengo.Connection(alone.neurons, stated.neurons, transform=np.eye(20) / 300)
        nengo.Connection(stated.neurons[5:], probed.neurons, transform=np.eye(15) / 300)
        nengo.Connection(probed.neurons[0], fed, transform=1 / 300)
        for each in (stated, fed):
            nengo.Connection(
                each.neurons, output.neurons, transform=np.full((12, each.n_neurons), 1e-4)
            )
        nengo.Probe(probed[0], label="decoded")
        nengo.Probe(alone.neurons, "voltage", label="voltage")
    return network, output


@pytest.mark.parametrize("last", [{}, {"n_eval_points": 9}, {"dimensions": 2}])
def test_what_nothing_reads_is_not_drawn(last):
    network, output = mixed_network(**last)
    names = {each.label for each in neurons_alone(network)}
    assert names == {"alone", "stated", "output"}
    with minibatch_simulator(network, 2, 0.001, 3) as simulator:
        built = {each.label: simulator.model.params[each] for each in network.all_ensembles}
        assert {name for name in built if len(built[name].eval_points) == 1} == names
        assert not any(
            each not in network.all_objects
            for each in simulator.model.seeds
            if isinstance(each, nengo.Ensemble)
        )
    with nengo.Simulator(network, progress_bar=False) as plain:
        for ensemble in network.all_ensembles:
            for name in ("gain", "bias", "max_rates", "intercepts"):
                values = (getattr(each.data[ensemble], name) for each in (plain, simulator))
                assert np.array_equal(*values, equal_nan=True), (ensemble, name)


def test_what_is_left_out_changes_no_spike():
    network, output = mixed_network()
    before = digest(network, "network")
    images = np.random.default_rng(0).uniform(0, 1, (3, 4))
    run = {"presentation_time": 0.1, "progress": False, "probes": "all", "rasters": ["alone"]}
    twin, reference = (
        nn.present(network, output.neurons, images, simulator=name, **run)
        for name in ("minibatch", "reference")
    )
    assert digest(network, "network") == before
    assert twin.spikes["alone"].min() > 0
    assert twin.spikes["output"].min() > 0
    for label, counts in reference.counts.items():
        assert np.array_equal(twin.counts[label], counts), label
    for name, data in reference.data.items():
        np.testing.assert_allclose(twin.data[name], data, atol=1e-9)


def test_decoders_alone_are_looked_for_on_disk(monkeypatch):
    asked = []
    cache = simulators.get_default_decoder_cache
    monkeypatch.setattr(simulators, "get_default_decoder_cache", lambda: asked.append(1) or cache())
    with nengo.Network() as network:
        one = nengo.Ensemble(5, 1)
        two = nengo.Ensemble(5, 1)
        nengo.Connection(one.neurons, two.neurons)
    with minibatch_simulator(network, 1, 0.001, 0), reference_simulator(network, 0.001, 0):
        pass
    assert not asked
    for add in (lambda: nengo.Probe(two[0]), lambda: nengo.Connection(one[0], two.neurons[0])):
        with network:
            added = add()
        with minibatch_simulator(network, 1, 0.001, 0):
            assert asked.pop()
        network.objects[type(added)].remove(added)
