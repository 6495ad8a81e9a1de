"""Objects built alone get the random numbers and solutions of the whole network's build."""

import nengo
import numpy as np
import pytest
from nengo.dists import Uniform

import nengonet as nn
from nengonet.explain.built import Built
from nengonet.explain.prediction import predict


def network_of(seed=4, **ensemble):
    """Return ensembles in a subnetwork, with and without seeds, and their connections."""
    with nengo.Network(seed=seed) as network:
        node = nengo.Node([0.3, 0.2])
        with nengo.Network():
            a = nengo.Ensemble(30, 2, neuron_type=nengo.LIF(), **ensemble)
            nengo.Ensemble(5, 1)
        b = nengo.Ensemble(20, 1, seed=9)
        nengo.Connection(node, a, transform=nengo.Dense((2, 2), init=Uniform(-1, 1)))
        nengo.Connection(a, b, function=np.prod)
    return network, node, a, b


@pytest.mark.parametrize("ensemble", [{}, {"gain": Uniform(1, 2), "bias": Uniform(0, 1)}], ids=str)
@pytest.mark.filterwarnings("ignore:Non-finite", "ignore:divide by zero", "ignore:invalid value")
def test_each_object_is_built_as_in_its_network(ensemble):
    network, _, a, b = network_of(**ensemble)
    built = Built(network)
    drawn, solved = network.connections
    with nengo.Simulator(network, progress_bar=False) as simulator:
        for each in (b, a):
            for name in ("gain", "bias", "encoders"):
                np.testing.assert_array_equal(
                    getattr(built.ensemble(each), name), getattr(simulator.data[each], name)
                )
        np.testing.assert_array_equal(built.weights(solved)[0], simulator.data[solved].weights)
        np.testing.assert_array_equal(built.weights(drawn)[1], simulator.data[drawn].weights)
    assert built.weights(solved)[1] is None
    assert built.weights(drawn)[0] is None


def test_a_network_without_a_seed_is_built_as_present_builds_it():
    for seed, network in ((0, network_of(None)), (7, network_of(None)), (7, network_of(0))):
        net, node, _, b = network
        given = {} if seed == 0 else {"seed": seed}
        rates = nn.predict_rates(b, {node: [[0.3, 0.2]]}, network=net, **given)
        net.seed = seed if net.seed is None else net.seed
        np.testing.assert_array_equal(rates, nn.predict_rates(b, [[0.3, 0.2]], network=net))


def test_the_global_random_state_stays_as_it_is():
    network, node, _, b = network_of(None)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    nn.predict_rates(b, [[0.3, 0.2]], network=network)
    after = np.random.get_state()[1]  # noqa: NPY002
    np.testing.assert_array_equal(before, after)


def test_nothing_is_built_where_all_is_stated(monkeypatch):
    def built(*_):
        raise AssertionError("a build")

    monkeypatch.setattr(nengo.builder.Model, "build", built)
    with nengo.Network():
        layer = nn.constant_input((2, 2))
        layer = nn.dense(layer, np.ones((4, 3)), nengo.LIF(), max_rates=200.0, intercepts=0.0)
    assert nn.predict_rates(layer, np.ones((1, 2, 2))).shape == (1, 3)
    network, node, _, b = network_of()
    with pytest.raises(AssertionError, match="a build"):
        nn.predict_rates(b, [[0.3, 0.2]], network=network)


def test_one_build_serves_several_predictions(monkeypatch):
    network, _, _, b = network_of()
    built, calls = Built(network), []
    build = nengo.builder.Model.build
    monkeypatch.setattr(
        nengo.builder.Model, "build", lambda *args, **kw: calls.append(args) or build(*args, **kw)
    )
    first = predict(b, [[0.3, 0.2]], network=network, built=built)[-1].rates
    n_calls = len(calls)
    again = predict(b, [[0.3, 0.2]], network=network, built=built)[-1].rates
    np.testing.assert_array_equal(first, again)
    assert 0 < n_calls == len(calls)


def test_the_seed_is_checked():
    network, _, _, b = network_of(None)
    with pytest.raises(nn.InputError, match="seed: expected"):
        nn.predict_rates(b, [[0.3, 0.2]], network=network, seed=-1)
