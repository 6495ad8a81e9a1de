"""Building and running change nothing of the user's, and threads do not disturb each other."""

import threading
import warnings

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.layers.inputs import ImageInput
from nengonet.run.bench import bench
from nengonet.run.content import digest
from nengonet.run.simulators import minibatch_simulator, reference_simulator, reset_to_example

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
        hidden = nn.dense(pixels, weights, nengo.PoissonSpiking(nengo.LIFRate()), label="hidden")
        output = nn.dense(hidden, weights[:6, :3], nengo.LIF(), label="output")
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
    """Return all that the user can see of a network and of what is global."""
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
    """A second input has the same parameters, so that Nengo calls the two equal."""
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
