"""Learning rules: each example has weights of its own, as in a reference run of its own."""

import nengo
import numpy as np
import pytest
from minibatches import BATCH, STEPS, assert_same_as_nengo, minibatch, random_rows, reference


def learning_network(rule, *, neurons=False, sparse=False, n=12, error=True):
    """Return a network whose middle connection learns, its input and its probes."""
    rng = np.random.default_rng(2)
    with nengo.Network(seed=3) as network:
        source = nengo.Node(np.zeros(2))
        pre, post = nengo.Ensemble(n, 2), nengo.Ensemble(n + 3, 2)
        nengo.Connection(source, pre, synapse=None)
        settings = {"learning_rule_type": rule}
        if neurons:
            settings["transform"] = rng.normal(0, 1e-3, (n + 3, n))
            connection = nengo.Connection(pre.neurons, post.neurons, **settings)
        else:
            connection = nengo.Connection(pre, post, function=lambda x: x**2, **settings)
        for each in [connection.learning_rule] if error else []:
            difference = nengo.Node(size_in=2)
            nengo.Connection(post, difference, synapse=0.01)
            nengo.Connection(source, difference, transform=-1, synapse=None)
            nengo.Connection(difference, each, synapse=None)
        probes = [nengo.Probe(post, synapse=0.01), nengo.Probe(connection, "weights")]
        if isinstance(rule, nengo.Voja):
            probes.append(nengo.Probe(connection.learning_rule, "scaled_encoders"))
    return network, source, probes


RULES = [
    (nengo.PES(1e-3), {}),
    (nengo.PES(1e-3, pre_synapse=None), {"neurons": True}),
    (nengo.BCM(1e-8), {"neurons": True, "error": False}),
    (nengo.Oja(1e-6, beta=0.5), {"neurons": True, "error": False}),
    (nengo.Voja(0.1), {"error": False}),
    (nengo.RLS(1e-3), {}),
]


@pytest.mark.parametrize(
    "rule, settings", RULES, ids=[f"{type(r).__name__}{i}" for i, (r, _) in enumerate(RULES)]
)
def test_every_example_learns_as_in_a_reference_run(rule, settings):
    network, source, probes = learning_network(rule, **settings)
    data = {source: random_rows(2)}
    expected = assert_same_as_nengo(network, probes, data)
    learned = expected[probes[-1]]
    assert learned.shape[0] == 3
    assert np.any(learned[:, -1] != learned[:, 0])  # they learn
    assert np.any(learned[0, -1] != learned[1, -1])  # each what its own input says


def test_data_has_what_each_example_learned():
    network, source, probes = learning_network(nengo.PES(1e-3))
    rows = random_rows(2)
    learned = next(each for each in network.connections if each.learning_rule is not None)
    other = network.connections[0]
    expected = reference(network, probes, {source: rows})[probes[1]]
    with minibatch(network) as simulator:
        simulator.run_steps(STEPS, data={source: rows})
        weights = simulator.data[learned].weights
        assert weights.shape == (BATCH, 2, 12)
        np.testing.assert_allclose(weights, expected[:, -1], rtol=1e-12)
        with pytest.raises(ValueError, match="read-only"):
            weights[...] = 0
        assert np.shape(simulator.data[other].weights) == ()  # as Nengo gives it
        assert simulator.data[learned].transform is not None
        simulator.reset()
        again = simulator.data[learned].weights
        np.testing.assert_array_equal(again, np.broadcast_to(again[0], again.shape))
        assert np.any(again != weights)  # which is a copy
        simulator.run_steps(STEPS, data={source: rows})
    # and when the simulator is closed
    np.testing.assert_array_equal(simulator.data[learned].weights, weights)


def test_data_has_the_encoders_that_each_example_learned():
    network, source, probes = learning_network(nengo.Voja(0.1), error=False)
    rows = random_rows(2)
    post = network.ensembles[1]
    expected = reference(network, probes, {source: rows})[probes[-1]][:, -1]
    with minibatch(network) as simulator:
        simulator.run_steps(STEPS, data={source: rows})
        built = simulator.data[post]
        np.testing.assert_allclose(built.scaled_encoders, expected, rtol=1e-12)
        scale = (built.gain / post.radius)[:, np.newaxis]
        np.testing.assert_allclose(built.encoders, expected / scale)
        assert simulator.data[network.ensembles[0]].encoders.shape == (12, 2)


def test_weights_that_nobody_reads_are_learned():
    """Only `data` shows them."""
    with nengo.Network(seed=0) as network:
        source, pre = nengo.Node([0.5]), nengo.Ensemble(8, 1)
        nengo.Connection(source, pre, synapse=None)
        unread = nengo.Node(size_in=1)
        learned = nengo.Connection(pre, unread, learning_rule_type=nengo.PES(1e-2))
        nengo.Connection(source, learned.learning_rule)
    with minibatch(network) as simulator:
        before = simulator.data[learned].weights
        simulator.run_steps(20)
        after = simulator.data[learned].weights
        assert np.all(after <= before)  # those of neurons that spiked
        assert np.any(after < before)


def test_sparse_transforms_are_refused_by_nengo():
    sparse = nengo.Sparse((3, 2), indices=[[0, 0], [2, 1]], init=[1.0, 2.0])
    with nengo.Network() as network:
        a, b = nengo.Ensemble(2, 1), nengo.Ensemble(3, 1)
        nengo.Connection(a.neurons, b.neurons, transform=sparse, learning_rule_type=nengo.Oja())
    with pytest.raises(NotImplementedError, match="Sparse"):
        minibatch(network)
