"""Learning rules: each example has weights of its own, as in a reference run of its own."""

import nengo
import numpy as np
import pytest
from minibatches import assert_same_as_nengo, random_rows


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
