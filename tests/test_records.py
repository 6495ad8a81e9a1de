"""Outputs kept without a probe."""

import nengo
import numpy as np
import pytest
from minibatches import NUMBA, image_network, minibatch

import nengonet as nn

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
