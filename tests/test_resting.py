"""The predictions for a loop's layers at rest, noise included."""

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.explain.prediction import predict
from nengonet.explain.resting import _Noisy, _Stepped
from nengonet.neurons import model_of


def test_tables_of_noisy_rates_are_near_the_rates_themselves():
    """Also where currents and deviations leave what was seen before."""
    rng, rates = np.random.default_rng(12), model_of(nengo.LIF(min_voltage=-1)).rates
    noisy = _Noisy(rates)
    for low, high, most in ((0, 3, 1.0), (-10, 8, 4.0), (0.9, 1.1, 0.5)):
        current = rng.uniform(low, high, (5, 40))
        deviation = rng.uniform(0.3, most, (5, 40))
        deviation[0, :5] = 0.0
        found = noisy(current, deviation, rates(current))
        expected = rates(current, deviation)
        np.testing.assert_array_equal(found[0, :5], rates(current)[0, :5])
        assert np.abs(found - expected).max() < 2 + 0.03 * expected.max()


def test_stepped_rates_are_near_those_of_the_type():
    rng, curve = np.random.default_rng(3), model_of(nengo.AdaptiveLIF(tau_n=0.2)).rates
    stepped = _Stepped(curve)
    for high in (3.0, 12.0):
        current = rng.uniform(-1, high, (3, 20))
        stepped(current)
        stepped.refine()
        assert np.abs(stepped(current) - curve(current)).max() < 2.0


@pytest.mark.parametrize("noise", [False, True])
def test_every_layer_of_a_loop_is_predicted_in_full(noise):
    """As a layer that is fed forward is, from the same drive and variance."""
    rng = np.random.default_rng(5)
    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((30,), max_rate=300.0)
        a = nn.dense(pixels, rng.normal(0.05, 0.1, (30, 12)), nengo.LIF(), gain=2.0, label="a")
        b = nn.dense(a, rng.normal(0.0, 0.01, (12, 8)), nengo.LIF(), gain=2.0, bias=1.2, label="b")
        nengo.Connection(b.output, a.output, transform=rng.normal(0, 0.01, (12, 8)), synapse=0.01)
        after = nn.dense(b, np.full((8, 3), 0.005), nengo.LIF(), gain=1.0, bias=1.0, label="c")
    images = rng.uniform(size=(4, 30))
    layers = {each.label: each for each in predict(after, images, network=network, noise=noise)}
    assert layers["a"].loop is layers["b"].loop
    assert layers["c"].loop is None
    assert layers["a"].loop.stable.all()
    weights = layers["a"].item.neurons, layers["b"].item.neurons
    (back,) = (each for each in network.all_connections if each.post == weights[0] and each.synapse)
    from_b = layers["b"].mean_outputs @ back.transform.init.T
    from_pixels = layers["input"].mean_outputs @ network.connections[0].transform.init.T
    np.testing.assert_allclose(layers["a"].drive, from_pixels + from_b, rtol=1e-6, atol=1e-6)
    forward = layers["input"].variance @ (network.connections[0].transform.init ** 2).T
    assert (layers["a"].deviation ** 2 > 4.0 * forward).all()  # gain**2, and more from b
    model = model_of(nengo.LIF())
    for label in "abc":
        layer = layers[label]
        deviation = layer.deviation if noise else None
        expected = model.rates(layer.current, deviation)
        bound = 1e-4 if not noise or label == "c" else 3.0
        assert np.abs(layer.rates - expected).max() < bound
        np.testing.assert_allclose(layer.mean_outputs, layer.rates)
        np.testing.assert_allclose(
            layer.current, 2.0 * layer.drive + layer.bias
        ) if label < "c" else 0
        assert layer.spiking
    assert layers["c"].delay >= layers["b"].delay


def test_the_noise_of_a_loop_is_that_of_a_long_run():
    """Lateral inhibition by Poisson neurons: variance of the drive from step to step."""
    n, weight, tau = 40, -2e-3, 0.02
    with nengo.Network(seed=0) as network:
        node = nengo.Node(np.linspace(30, 60, n), label="inputs")
        neurons = nengo.PoissonSpiking(nengo.RectifiedLinear())
        layer = nengo.Ensemble(
            n, 1, neuron_type=neurons, gain=np.ones(n), bias=np.zeros(n), label="layer"
        )
        nengo.Connection(node, layer.neurons, synapse=None)
        transform = 10 * weight * (np.ones((n, n)) - np.eye(n))
        nengo.Connection(layer.neurons, layer.neurons, transform=transform, synapse=tau)
        probe = nengo.Probe(layer.neurons, "input")
    found = predict(layer, node.output[None], network=network)[-1]
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run(30.0, progress_bar=False)
    currents = simulator.data[probe][1000:]
    assert np.abs(found.current[0] - currents.mean(axis=0)).max() < 1.0
    # Feedback holds the sum of all down, which independent noise does not know.
    ratio = currents.std(axis=0).mean() / found.deviation.mean()
    assert 0.6 < ratio < 1.1


def test_direct_mode_and_functions_in_a_loop():
    """A controlled decay in Direct mode: no neurons, and no error."""
    with nengo.Network(seed=0) as network:
        node = nengo.Node([0.5], label="inputs")
        state = nengo.Ensemble(1, 1, neuron_type=nengo.Direct(), label="state")
        nengo.Connection(node, state, synapse=None)
        nengo.Connection(state, state, function=lambda x: -(x**3), synapse=0.05)
        probe = nengo.Probe(state, synapse=None)
    point = nn.fixed_point(state, [[0.5], [0.0]], network=network)
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run(1.5, progress_bar=False)
    np.testing.assert_allclose(point.rates["state"][0], simulator.data[probe][-1], rtol=1e-6)
    x, left = point.rates["state"][0, 0], np.exp(-0.001 / 0.05)
    assert x + x**3 == pytest.approx(0.5)
    assert point.multiplier[0] == pytest.approx(left - (1 - left) * 3 * x**2, rel=1e-5)
    assert not point.several.any()


def test_a_node_of_its_own_in_a_loop_is_refused():
    with nengo.Network(seed=0) as network:
        node = nengo.Node([0.5], label="inputs")
        layer = nengo.Ensemble(10, 1, label="layer")
        mine = nengo.Node(lambda t, x: x, size_in=1, label="mine")
        for pre, post in ((node, layer), (layer, mine), (mine, layer)):
            nengo.Connection(pre, post)
    with pytest.raises(nn.InputError, match="mine.*cannot predict a Node with a function of its"):
        nn.predict_rates(layer, [[0.5]], network=network)
