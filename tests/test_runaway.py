"""Runaway networks raise errors that name the layer, and never give wrong counts."""

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.exceptions import RunawayError
from nengonet.layers.targets import read_output
from nengonet.minibatch import MinibatchSimulator
from nengonet.results.readout import most_spikes, spike_counts
from nengonet.run.presentation import present
from nengonet.run.runner import Job, Runner

# Nengo lets NumPy warn on the way to infinity.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

IMAGES = np.random.default_rng(0).uniform(size=(4, 3))
INTEGRATORS = [
    nengo.RegularSpiking(nengo.RectifiedLinear()),
    nengo.SpikingRectifiedLinear(),
    nn.IntegrateAndFire(),
]
SIMULATORS = pytest.mark.parametrize("simulator", ["reference", "minibatch"])


def network_of(neuron_type, gain, *, recurrent=None, bias=1.0):
    with nengo.Network(seed=0) as network:
        source = nn.constant_input((3,))
        settings = {"neuron_type": neuron_type, "gain": gain, "bias": bias}
        hidden = nn.dense(source, np.eye(3), label="hidden", **settings)
        if recurrent is not None:
            nengo.Connection(hidden.output, hidden.output, transform=recurrent, synapse=0.005)
        output = nn.dense(hidden, np.eye(3), nn.IntegrateAndFire(), gain=1.0, label="output")
    return network, output


@SIMULATORS
@pytest.mark.parametrize("neuron_type", INTEGRATORS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    "time, message",
    [
        (0.05, r"hidden: spike counts: expected at most 2\.25e\+15 spikes, got .* in example 0"),
        (1.0, r"<Ensemble 'hidden'>: expected finite .* in step 1[67]\d, example"),
    ],
)
def test_spikes_that_feed_themselves(neuron_type, simulator, time, message):
    network, output = network_of(neuron_type, 50.0, recurrent=9.0)
    with pytest.raises(RunawayError, match=message) as caught:
        present(
            network, output, IMAGES, presentation_time=time, simulator=simulator, progress=False
        )
    assert isinstance(caught.value, nn.InputError)
    assert "\n" not in str(caught.value)


@SIMULATORS
@pytest.mark.parametrize("keep", [None, []])
def test_rates_that_feed_themselves(simulator, keep):
    """Layers that do not spike hold infinities, which NumPy adds up without an error."""
    with nengo.Network(seed=0) as network:
        source = nn.constant_input((3,))
        rates = nn.dense(source, np.ones((3, 2)), nengo.RectifiedLinear(), gain=50.0, label="rates")
        nengo.Connection(rates.output, rates.output, transform=np.ones((2, 2)), synapse=0.001)
    images = np.array([[0.1, 0.2, 0.3], [0.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    run = {"simulator": simulator, "keep": keep, "readout": "mean", "progress": False}
    assert present(network, rates, images, presentation_time=0.01, **run).n_images == 3
    with pytest.raises(RunawayError, match="rates: expected finite outputs, got inf in example"):
        present(network, rates, images, presentation_time=0.5, **run)


@SIMULATORS
@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize("neuron_type", INTEGRATORS[1:], ids=lambda each: type(each).__name__)
def test_rows_of_layers(neuron_type, precision, simulator):
    """Layers that run many steps at a time, and whose spikes are too many to list."""
    run = {"presentation_time": 0.05, "simulator": simulator, "progress": False}
    network, output = network_of(neuron_type, 1e20)
    with pytest.raises(RunawayError, match="hidden: spike counts: expected at most"):
        present(network, output, IMAGES, precision=precision, **run)
    if precision == 32:
        network, output = network_of(neuron_type, 1e38, bias=1e300)
        with pytest.raises(RunawayError, match="<Ensemble 'hidden'>.* step 1, example"):
            present(network, output, IMAGES, precision=precision, **run)


@pytest.mark.parametrize("neuron_type", INTEGRATORS[1:], ids=lambda each: type(each).__name__)
def test_as_many_spikes_as_can_be_counted(neuron_type):
    network, output = network_of(neuron_type, 1e9)
    run = {"presentation_time": 0.05, "progress": False}
    expected = present(network, output, IMAGES, simulator="reference", **run)
    found = present(network, output, IMAGES, **run)
    for label, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[label], counts)
    np.testing.assert_array_equal(found.steps, expected.steps)
    assert expected.counts["hidden"].max() > 4e7
    with pytest.raises(RunawayError, match=r"at most 4\.19e\+06 spikes.*of 32 bits"):
        present(network, output, IMAGES, precision=32, **run)


def test_small_outputs_are_added_to_large_sums_in_32_bits():
    """Added up in 32 bits, outputs other than multiples of 32 would be off by ten spikes."""
    network, output = network_of(nn.IntegrateAndFire(), 1.0, bias=234567.0)
    run = {"presentation_time": 6.0, "dt": 0.003, "progress": False, "precision": 32}
    expected = present(network, output, IMAGES[:1], simulator="reference", **run)
    found = present(network, output, IMAGES[:1], **run)
    for label, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[label], counts)
    assert expected.counts["hidden"].min() > 1e6


def test_the_examples_are_named():
    with nengo.Network(seed=0) as network:
        node = nengo.Node([0.0])
        ensemble = nengo.Ensemble(
            2, 1, gain=[1, 1], bias=[0, 0], neuron_type=nengo.LIF(), label="mine"
        )
        nengo.Connection(node, ensemble.neurons, transform=[[1e9], [1]], synapse=None)
        nengo.Probe(ensemble.neurons)
    rows = np.ones((5, 4, 1))
    rows[[1, 3], 2] = 1e308
    for numba in (False, None):
        with MinibatchSimulator(network, 5, progress_bar=False, numba=numba) as simulator:
            with pytest.raises(RunawayError, match="<Ensemble 'mine'>.*step 3, examples 1, 3;"):
                simulator.run_steps(4, data={node: rows})


def test_the_examples_in_which_a_filter_runs_away_are_named():
    """Its own state is what is no longer finite; what comes in is."""
    with nengo.Network(seed=0) as network:
        node = nengo.Node([0.0], label="mine")
        nengo.Probe(node, synapse=nengo.LinearFilter([1], [1e-4, -3e-2, 1]))
    rows = np.zeros((5, 3000, 1))
    rows[[1, 3]] = 1
    with MinibatchSimulator(network, 5, progress_bar=False) as simulator:
        with pytest.raises(RunawayError, match="<Node 'mine'>.*, examples 1, 3;"):
            simulator.run_steps(3000, data={node: rows})


@pytest.mark.parametrize("bits, most", [(32, 2**22), (64, 2**51)])
def test_counts_up_to_rounding(bits, most):
    dtype = np.dtype(f"f{bits // 8}")
    assert most_spikes(dtype) == most
    outputs = np.array([most, -most], dtype)
    np.testing.assert_array_equal(spike_counts(outputs, 1.0), [most, -most])
    for bad in (2.0 * most, -2.0 * most, np.inf, np.nan):
        with pytest.raises(RunawayError, match="expected at most"):
            spike_counts(np.array([1, bad], dtype), 1.0)


def test_probes_that_nobody_reads_keep_nothing():
    network, output = network_of(nengo.LIF(), 3.0)
    expected = present(network, output, IMAGES, presentation_time=0.05, progress=False)
    with network:
        probes = [nengo.Probe(output.output), nengo.Probe(network.ensembles[0].neurons)]
    for simulator in ("minibatch", "reference"):
        runner = Runner(_job(network, output, simulator))
        try:
            runner.run([IMAGES], np.arange(4))
            assert not any(probe in runner.simulator.model.probes for probe in probes)
            assert not any(runner.simulator.model.params.get(probe) for probe in probes)
        finally:
            runner.close()
        found = present(
            network, output, IMAGES, presentation_time=0.05, simulator=simulator, progress=False
        )
        np.testing.assert_array_equal(found.counts["output"], expected.counts["output"])
    assert network.all_probes == probes


def _job(network, output, simulator):
    settings = {"dt": 0.001, "seed": 0, "precision": 64, "n_steps": 50, "presentation_time": 0.05}
    target = read_output(output, network)
    inputs = tuple((node, node.output) for node in network.nodes)
    return Job(target, inputs, settings, [], (), ("hidden", "output"), {}, simulator, 4)
