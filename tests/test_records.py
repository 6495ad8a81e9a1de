"""Outputs kept without a probe."""

import nengo
import numpy as np
import pytest
from minibatches import NUMBA, image_network, minibatch

import nengonet as nn
from nengonet.minibatch import MinibatchSimulator
from nengonet.minibatch.records import OutputRecord

IMAGES = np.random.default_rng(0).uniform(size=(5, 16))


@pytest.mark.parametrize("numba", NUMBA)
def test_probes_and_records_of_the_input(numba):
    """Whatever reads the input, its spikes are the same; so is what is made of them."""
    totals, spikes = [], []
    for probed, every_step in ((False, False), (False, True), (True, True)):
        network, output = image_network()
        source = output.upstream()[0]
        with network:
            if probed:
                beside = nengo.Node(size_in=16)
                nengo.Connection(source.node, beside, synapse=None)
                probes = [nengo.Probe(source.node), nengo.Probe(beside)]
                nengo.Probe(source.node[3:5], synapse=0.01)
        with minibatch(network, 5, numba=numba) as simulator:
            records = [simulator.record(layer.output) for layer in output.upstream()]
            steps = [simulator.record(source.output, steps=True)] if every_step else []
            simulator.reset_to_examples(IMAGES, seed=3)
            simulator.run_steps(130)
            totals.append(np.concatenate([record.total for record in records], axis=1))
            spikes += [record.steps for record in steps]
            spikes += [simulator.data[probe] for probe in probes] if probed else []
    for total in totals:
        np.testing.assert_allclose(total, totals[0])
    for each in spikes:
        np.testing.assert_array_equal(each, spikes[0])
    np.testing.assert_allclose(spikes[0].sum(axis=1), totals[0][:, :16])


@pytest.mark.parametrize("numba", NUMBA)
def test_precision(numba):
    network, output = image_network()
    totals = {}
    for bits in (32, 64, None):
        with minibatch(network, 5, precision=bits, numba=numba) as simulator:
            record = simulator.record(output.output)
            simulator.reset_to_examples(IMAGES)
            simulator.run_steps(100)
            totals[bits] = record.total
    assert totals[32].dtype == np.float32
    assert totals[64].dtype == totals[None].dtype == np.float64
    assert np.abs(totals[32] - totals[64]).sum() <= 0.02 * totals[64].sum()
    with pytest.raises(nn.InputError, match="precision: expected .*, got 16"):
        minibatch(network, precision=16)


def test_bad_records():
    network, output = image_network()
    with minibatch(network) as simulator:
        with pytest.raises(nn.InputError, match="expected a node or neurons"):
            simulator.record(nengo.Node(0, add_to_container=False))
        with pytest.raises(nn.InputError, match="steps=True"):
            _ = simulator.record(output.output).steps


def test_spikes_are_counted_as_long_as_nothing_else_comes():
    record, counts = OutputRecord(steps=False), np.array([[3, 0, 1], [0, 0, 7]])
    record.restart(counts.shape, np.dtype(np.float32))
    assert record.counts is None
    for _ in range(2):
        record.spikes(11, 0.375)[...] += counts
    np.testing.assert_array_equal(record.counts, 2 * counts)
    np.testing.assert_array_equal(record.total, 0.75 * counts)
    numbers = np.array([[1.0, -2], [0, 0.5], [4, 0]])
    record.add(numbers)
    assert record.counts is None
    np.testing.assert_array_equal(record.total, 0.75 * counts + numbers.T)
    record.restart(counts.shape, np.dtype(np.float32))
    assert record.counts is None
    np.testing.assert_array_equal(record.total, np.zeros((2, 3)))


def test_more_spikes_than_32_bits_count():
    record = OutputRecord(steps=False)
    record.restart((1, 2), np.dtype(float))
    for _ in range(3):
        record.spikes(2**30, 1.0)[0, 1] += 2**30
    assert record.counts.tolist() == [[0, 3 * 2**30]]
    assert record.total.tolist() == [[0, 3 * 2.0**30]]


@pytest.mark.parametrize("numba", NUMBA)
def test_spikes_of_stretches_and_of_single_steps(numba):
    # Spikes of steps on their own are added as numbers, those of stretches are counted.
    images = np.array([[1.0, 0.2, 0.7], [0.1, 0.0, 1.0]])
    with nengo.Network(seed=5) as network:
        source = nn.constant_input((3,))
        weights = nn.LayerWeights(np.diag([900.0, 400, 150]), np.zeros(3), "a")
        layer = nn.dense(source, weights, nn.IntegrateAndFire(), gain=1, bias=0)
        probe = nengo.Probe(layer.output)
    with MinibatchSimulator(network, 2, progress_bar=False, numba=numba) as simulator:
        record = simulator.record(layer.output)
        simulator.reset_to_examples(images)
        simulator.run_steps(57)
        simulator.step()
        np.testing.assert_array_equal(record.total, simulator.data[probe].sum(axis=1))
    assert (record.total[0] > 4000).all()
