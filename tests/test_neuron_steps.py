"""Neurons of a minibatch, stepped together or one by one, compared with Nengo's."""

import re

import nengo
import numpy as np
import pytest
from minibatches import (
    BATCH,
    HAVE_NUMBA,
    NUMBA,
    SEED,
    STEPS,
    assert_same_as_nengo,
    minibatch,
    neurons,
    random_rows,
    reference,
)
from nengo.dists import Choice, Uniform

import nengonet as nn

RELU = nengo.RectifiedLinear()
NEURONS = {
    "LIF": nengo.LIF(),
    "LIF, deep": nengo.LIF(min_voltage=-1, amplitude=0.1, tau_ref=0.0005),
    "LIF, late": nengo.LIF(
        min_voltage=-0.5,
        initial_state={"voltage": Choice([-2.0]), "refractory_time": Uniform(0, 0.004)},
    ),
    "LIFRate": nengo.LIFRate(),
    "AdaptiveLIF": nengo.AdaptiveLIF(tau_n=0.05, inc_n=0.05),
    "AdaptiveLIFRate": nengo.AdaptiveLIFRate(tau_n=0.05),
    "RectifiedLinear": nengo.RectifiedLinear(amplitude=0.3),
    "SpikingRectifiedLinear": nengo.SpikingRectifiedLinear(amplitude=0.01),
    "Sigmoid": nengo.Sigmoid(),
    "Tanh": nengo.Tanh(),
    "Izhikevich": nengo.Izhikevich(),
    "RegularSpiking": nengo.RegularSpiking(nengo.LIFRate()),
    "RegularSpiking(Tanh)": nengo.RegularSpiking(nengo.Tanh()),
    "StochasticSpiking": nengo.StochasticSpiking(nengo.Tanh()),
    "PoissonSpiking": nengo.PoissonSpiking(RELU),
    "PoissonSpiking(Tanh)": nengo.PoissonSpiking(nengo.Tanh(), amplitude=0.2),
    "IntegrateAndFire": nn.IntegrateAndFire(amplitude=0.5),
    "IntegrateAndFire, clipped": nn.IntegrateAndFire(min_voltage=-0.25),
}


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("name", NEURONS)
def test_neurons(name, optimize):
    neuron_type, rng = NEURONS[name], np.random.default_rng(0)
    scale = 500 if "Rectified" in name or name.startswith(("Integrate", "Poisson")) else 3
    with nengo.Network(seed=1) as network:
        node = nengo.Node(np.zeros(4))
        one, two = (
            neurons(n, neuron_type, rng.uniform(0.5, 1, n) * scale, rng.uniform(-0.2, 1, n) * scale)
            for n in (12, 7)
        )
        first = nengo.Connection(
            node, one.neurons, transform=rng.normal(0, 1, (12, 4)), synapse=None
        )
        weights = rng.normal(0, 0.002 if neuron_type.spiking else 0.02, (7, 12))
        nengo.Connection(one.neurons, two.neurons, transform=weights, synapse=0.003)
        probes = [nengo.Probe(each) for each in (one.neurons, two.neurons, first)]
        probes.append(nengo.Probe(one.neurons, "input"))
        probes += [nengo.Probe(two.neurons, state) for state in neuron_type.state]
    # Merged, random neurons share one stream.
    optimize = optimize and "Spiking" not in name
    expected = assert_same_as_nengo(network, probes, {node: random_rows(4)}, optimize=optimize)
    assert len(np.unique(expected[probes[0]])) > 1


@pytest.mark.parametrize("name", sorted(set(NEURONS) - {"Izhikevich"}))
def test_numbers_of_16_bits_are_those_of_nengo(name, monkeypatch):
    rng = np.random.default_rng(1)
    before = nengo.rc.get("precision", "bits")
    nengo.rc.set("precision", "bits", "16")
    try:
        with nengo.Network(seed=1) as network:
            node = nengo.Node(np.zeros(6))
            one, two = (neurons(n, NEURONS[name], 2.0, 1.0) for n in (6, 300))
            nengo.Connection(node, one.neurons, synapse=None)
            weights = rng.normal(0, 0.002, (300, 6))
            nengo.Connection(one.neurons, two.neurons, transform=weights, synapse=0.005)
            probes = [nengo.Probe(layer.neurons) for layer in (one, two)]
        rows = random_rows(6).astype(np.float16)
        expected = reference(network, probes, {node: rows})
        with minibatch(network) as simulator:
            simulator.run_steps(STEPS, data={node: rows})
            for probe in probes:
                assert simulator.data[probe].dtype == np.float16
                np.testing.assert_array_equal(simulator.data[probe], expected[probe])
    finally:
        nengo.rc.set("precision", "bits", before)


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("neuron_type", [nengo.LIF(), nn.IntegrateAndFire()])
def test_currents_that_are_no_numbers_are_errors(numba, neuron_type):
    with nengo.Network(seed=0) as network:
        node, ensemble = nengo.Node(np.zeros(2)), neurons(2, neuron_type)
        nengo.Connection(node, ensemble.neurons, transform=[[1e308, -1e308], [1, 1]], synapse=None)
    with (
        np.errstate(over="ignore"),
        minibatch(network, numba=numba) as simulator,
        pytest.raises(FloatingPointError, match="invalid"),
    ):
        simulator.run_steps(3, data={node: np.full((3, 2), 1e10)})


def test_neurons_that_were_printed_are_stepped_together():
    """Nengo stores the words of a ``repr`` in the object, as a list."""
    with nengo.Network(seed=0) as net:
        nengo.Connection(nengo.Node([0.5]), nengo.Ensemble(4, 1, neuron_type=nengo.LIF(0.03)))
    for _ in range(2):
        with nn.MinibatchSimulator(net, 3, progress_bar=False) as simulator:
            assert simulator.report().one_by_one == {}
        repr(net.ensembles[0].neuron_type)


RATES = [0.0, 1e-6, 500.0, 9900.0, 10_000.0, 50_000.0, 1e6]  # Hz: up to a thousand a step


def random_network():
    """Return a network of steady and changing random neurons, its input and its probes."""
    with nengo.Network(seed=3) as network:
        node = nengo.Node(np.zeros(2))
        steady = neurons(14, nengo.PoissonSpiking(RELU), 1.0, RATES + RATES[::-1])
        wrapped = nengo.StochasticSpiking(nengo.Tanh(1e3), amplitude=0.5)
        others = [neurons(9, each, 400.0, 100.0) for each in (nengo.PoissonSpiking(RELU), wrapped)]
        for each in others:
            nengo.Connection(node, each.neurons, transform=np.ones((9, 2)), synapse=None)
            weights = np.linspace(-1e-3, 2e-3, 9 * 14).reshape(9, 14)
            nengo.Connection(steady.neurons, each.neurons, transform=weights, synapse=0.01)
        probes = [nengo.Probe(each.neurons) for each in (steady, *others)]
    return network, node, probes


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("bits", ["32", "64"])
def test_random_numbers_go_on_from_run_to_run(numba, bits):
    """Numbers continue over calls of any length and parts of a batch, and restart at a reset."""
    before = nengo.rc.get("precision", "bits")
    nengo.rc.set("precision", "bits", bits)
    try:
        network, node, probes = random_network()
        rows = random_rows(2).astype(f"f{int(bits) // 8}")
        expected = reference(network, probes, {node: rows})
        for batch in (BATCH, 1):
            with minibatch(network, batch, numba=numba) as simulator:
                for first in range(0, BATCH, batch):
                    examples = np.arange(first, first + batch)
                    for _ in range(2):
                        simulator.reset_to_examples(None, examples, SEED)
                        step = 0
                        for n in (1, 17, 1, 1, STEPS - 20):
                            simulator.run_steps(n, data={node: rows[examples, step : step + n]})
                            step += n
                        for probe in probes:
                            found = simulator.data[probe]
                            if probe is probes[0] or bits == "64":
                                np.testing.assert_array_equal(found, expected[probe][examples])
                            assert found.dtype == expected[probe].dtype
    finally:
        nengo.rc.set("precision", "bits", before)
    counts = expected[probes[0]].sum(axis=1) * simulator.dt
    assert not counts[:, 0].any()
    assert (counts[:, 6] > 30_000).all()


@pytest.mark.parametrize("seed", [1, 77])
@pytest.mark.parametrize("numba", ["0", "1"])
def test_random_inputs_are_the_same_in_any_batch_and_job(seed, numba, monkeypatch):
    monkeypatch.setenv("NENGONET_NUMBA", numba)
    rng = np.random.default_rng(seed)
    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((5, 4), max_rate=25_500.0, kind="ensemble")
        weights = rng.normal(0, 1e-4, (20, 6))
        hidden = nn.dense(pixels, weights, nengo.LIF(), gain=30.0, bias=1.0, label="hidden")
    images = rng.choice([0.0, 0.01, 0.4, 1.0], (7, 5, 4))
    run = {"presentation_time": 0.03, "seed": seed, "rasters": ["hidden"], "progress": False}
    expected = nn.present(network, hidden, images, simulator="reference", **run)
    for size, n_jobs in ((7, 1), (1, 1), (3, 2)):
        found = nn.present(network, hidden, images, minibatch_size=size, n_jobs=n_jobs, **run)
        for label, counts in expected.counts.items():
            np.testing.assert_array_equal(found.counts[label], counts)
        np.testing.assert_array_equal(found.rasters["hidden"], expected.rasters["hidden"])


@pytest.mark.skipif(not HAVE_NUMBA, reason="no Numba")
@pytest.mark.parametrize("wrapper", [nengo.PoissonSpiking, nengo.StochasticSpiking])
def test_steps_that_are_done_again_draw_the_same_numbers(wrapper):
    """If many steps at once fail, they are repeated one by one to find the failing one."""
    with nengo.Network(seed=0) as network:
        source, target = neurons(3, wrapper(RELU), 1.0, 3.0), neurons(1, nengo.LIF())
        weights = np.full((1, 3), 1e306)
        nengo.Connection(source.neurons, target.neurons, transform=weights, synapse=None)
    found = []
    for numba in (False, True):
        with (
            np.errstate(over="ignore"),
            minibatch(network, 2, seed=2, numba=numba) as simulator,
            pytest.raises(FloatingPointError, match="in step") as error,
        ):
            simulator.run_steps(500)
        found.append(re.search(r"in step (\d+), examples? .*;", str(error.value)))
    assert found[0].group() == found[1].group()
    assert int(found[0].group(1)) > 10
