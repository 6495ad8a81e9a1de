"""Encoders, decoders, functions and transforms, as `nengo.Simulator` steps them."""

import hypothesis
import hypothesis.strategies as st
import nengo
import numpy as np
import pytest
from nengo.dists import Choice, Uniform
from nengo.solvers import Lstsq, LstsqL2, NoSolver

import nengonet as nn
from nengonet.explain.prediction import predict

RATE_TYPES = [nengo.LIFRate(), nengo.RectifiedLinear(amplitude=0.3), nengo.Sigmoid(), nengo.Tanh()]


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


def squared_norm(x):
    return np.sum(np.square(x)), x[0]


def random_ensemble(rng):
    n, d = int(rng.integers(8, 30)), int(rng.integers(1, 4))
    settings = {"radius": rng.uniform(0.5, 2.0), "neuron_type": pick(rng, RATE_TYPES)}
    if rng.random() < 0.3:
        settings["encoders"] = rng.normal(size=(n, d))
        settings["normalize_encoders"] = bool(rng.integers(2))
    if isinstance(settings["neuron_type"], nengo.Sigmoid | nengo.Tanh):
        settings |= {"gain": Uniform(0.5, 3), "bias": Uniform(-1, 1)}
    elif rng.random() < 0.3:
        settings |= {"gain": Uniform(1.5, 3), "bias": rng.uniform(0, 2, n)}
    else:
        settings |= {"max_rates": Uniform(50, 90), "intercepts": Uniform(-0.9, 0.1)}
    if rng.random() < 0.2:
        settings = {"neuron_type": nengo.Direct()}
    return nengo.Ensemble(
        n, d, seed=int(rng.integers(99)) if rng.random() < 0.3 else None, **settings
    )


def has_neurons(thing):
    return isinstance(thing, nengo.Ensemble) and not isinstance(thing.neuron_type, nengo.Direct)


def connect(rng, pre, post):
    """Connect in one of Nengo's ways, without delay."""
    settings, function = {"synapse": None}, None
    relay = isinstance(pre, nengo.Node) and pre.output is None
    if has_neurons(pre) and rng.random() < 0.2:
        pre = pre.neurons
    elif not relay and rng.random() < 0.3:
        function = squared_norm
    if has_neurons(post) and rng.random() < 0.3:
        post = post.neurons
    if isinstance(pre, nengo.Ensemble):
        weights = has_neurons(pre) and has_neurons(post) and rng.random() < 0.3
        settings["solver"] = pick(rng, [LstsqL2(weights=weights), Lstsq(weights=weights)])
        if not weights and function is None and rng.random() < 0.2:
            values = rng.normal(0, 0.01, (pre.n_neurons, pre.dimensions))
            settings["solver"] = NoSolver(values)
    if not isinstance(settings.get("solver"), NoSolver) and rng.random() < 0.3:
        pre = pre[: max(1, pre.size_out // 2)] if rng.random() < 0.5 else pre[[-1, 0]]
    if rng.random() < 0.3:
        post = pick(rng, [post[::2], post[[-1]]])
    n = 2 if function is not None else pre.size_out
    if rng.random() < 0.3:
        transform = nengo.Dense((post.size_in, n), init=Uniform(-0.02, 0.02))
    else:
        transform = rng.normal(0, 0.3, (post.size_in, n))
    nengo.Connection(pre, post, function=function, transform=transform, **settings)


def random_network(seed):
    rng = np.random.default_rng(seed)
    with nengo.Network(seed=int(rng.integers(1000))) as network:
        things = [nengo.Node(rng.normal(size=2), label="first"), nengo.Node(rng.normal(size=3))]
        for _ in range(rng.integers(2, 6)):
            new = nengo.Node(size_in=2) if rng.random() < 0.2 else random_ensemble(rng)
            for pre in {pick(rng, things) for _ in range(2)}:
                connect(rng, pre, new)
            things.append(new)
        probes = {each: nengo.Probe(each.neurons, "input") for each in things if has_neurons(each)}
    return network, things, probes


# Of gains and biases that belong to no max_rates, which nothing uses.
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero", "ignore:Non-finite")
@hypothesis.settings(max_examples=60)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_currents_are_those_of_nengo_in_random_networks(seed):
    network, things, probes = random_network(seed)
    # Nengo's Sigmoid overflows far below its threshold.
    with (
        np.errstate(over="ignore"),
        nengo.Simulator(network, progress_bar=False, optimize=False) as simulator,
    ):
        simulator.run_steps(2, progress_bar=False)
    target, first = things[-1], things[0]
    found = predict(target, {first: first.output[None]}, network=network)
    for layer in found:
        if layer.item in probes:
            current = simulator.data[probes[layer.item]][-1]
            scale = max(1.0, np.abs(current).max())
            np.testing.assert_allclose(layer.current[0], current, rtol=0, atol=1e-9 * scale)


def test_most_random_networks_have_something_to_compare():
    n_layers = [sum(map(has_neurons, random_network(seed)[1])) for seed in range(50)]
    assert np.mean(np.array(n_layers) > 0) > 0.8


def simulated(network, target, steps=3):
    """Return a target's output after some steps."""
    with network:
        probe = nengo.Probe(target, synapse=None)
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run_steps(steps, progress_bar=False)
    return simulator.data[probe][-1]


@pytest.mark.parametrize("seed", [0, 5])
def test_a_product_of_two_dimensions(seed):
    """The decoded product is Nengo's own, for rates, and near x * y."""
    with nengo.Network(seed=seed) as network:
        inputs = nengo.Node([0.6, -0.7], label="inputs")
        pair = nengo.Ensemble(300, 2, neuron_type=nengo.LIFRate(), radius=1.5)
        product = nengo.Node(size_in=1, label="product")
        nengo.Connection(inputs, pair, synapse=None)
        nengo.Connection(pair, product, function=lambda x: x[0] * x[1], synapse=None)
    found = nn.predict_rates(product, [[0.6, -0.7], [0.5, 0.5]], network=network)
    np.testing.assert_allclose(found[0], simulated(network, product), rtol=1e-9)
    np.testing.assert_allclose(found[:, 0], [-0.42, 0.25], atol=0.05)


def test_ensemble_arrays_and_slices():
    with nengo.Network(seed=3) as network:
        inputs = nengo.Node([0.3, -0.8, 0.5, 0.9], label="inputs")
        array = nengo.networks.EnsembleArray(
            80, 4, neuron_type=nengo.LIFRate(), max_rates=Uniform(100, 200)
        )
        array.add_output("squares", np.square)
        network.config[nengo.Ensemble].neuron_type = nengo.LIFRate()
        product = nengo.networks.Product(60, 2)
        nengo.Connection(inputs, array.input, synapse=None)
        nengo.Connection(array.output[:2], product.input_a, synapse=None)
        nengo.Connection(array.squares[[3, 0]], product.input_b, synapse=None)
    for node in (array.squares, product.output):
        found = nn.predict_rates(node, [[0.3, -0.8, 0.5, 0.9]], network=network)[0]
        np.testing.assert_allclose(found, simulated(network, node, steps=20), rtol=1e-9)
    np.testing.assert_allclose(found, [0.3 * 0.81, -0.8 * 0.09], atol=0.1)


@pytest.mark.parametrize("neuron_type", [nengo.LIF(), nengo.SpikingRectifiedLinear()], ids=str)
def test_a_communication_channel_of_spikes(neuron_type):
    """Rates behind decoders and encoders of regular spikes are within some Hz of a run's."""
    with nengo.Network(seed=2) as network:
        inputs = nengo.Node([0.4], label="inputs")
        a, b = (nengo.Ensemble(120, 1, neuron_type=neuron_type, label=name) for name in "ab")
        nengo.Connection(inputs, a, synapse=None)
        nengo.Connection(a, b, synapse=0.02)
        probes = {each: nengo.Probe(each.neurons, synapse=None) for each in (a, b)}
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run(2.2, progress_bar=False)
    for each, bound in ((a, 0.6), (b, 4.0)):
        rates = nn.predict_rates(each, [[0.4]], network=network)[0]
        observed = simulator.data[probes[each]][200:].mean(axis=0)
        assert rates.max() > 100
        assert np.abs(observed - rates).max() < bound, each


def test_the_variance_goes_through_decoders_and_encoders():
    """Independent Poisson neurons, whose decoded value is encoded again with the same sign."""
    rng = np.random.default_rng(4)
    decoders, encoders = rng.normal(0, 1e-3, (2, 15)), rng.normal(size=(6, 2))
    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((15,), max_rate=100.0, amplitude=1.0)
        layer = nengo.Ensemble(
            6, 2, encoders=encoders, normalize_encoders=False, radius=2.0, seed=1,
            gain=np.full(6, 3.0), bias=np.zeros(6), neuron_type=nengo.RectifiedLinear(),
        )  # fmt: skip
        nengo.Connection(pixels.node, layer, transform=decoders, synapse=None)
    images = rng.uniform(size=(3, 15))
    found = predict(layer, images, network=network)[-1]
    weights = 3.0 * encoders / 2.0 @ decoders
    np.testing.assert_allclose(found.current, 100 * images @ weights.T)
    np.testing.assert_allclose(found.deviation**2, 100 * images / 0.001 @ (weights**2).T)
    decoded = nengo.solvers.NoSolver(rng.normal(0, 1e-3, (6, 1)))
    with network:
        after = nengo.Node(size_in=1)
        nengo.Connection(layer.neurons, after, transform=decoded.values.T, synapse=None)
        copy = nengo.Node(size_in=1)
        nengo.Connection(layer, copy, function=lambda x: 0, solver=decoded, synapse=None)
    plain, same = (predict(each, images, network=network)[-1] for each in (after, copy))
    np.testing.assert_allclose(same.mean_outputs, plain.mean_outputs)
    np.testing.assert_allclose(same.variance, plain.variance)
    assert plain.variance.min() > 0


def test_a_function_of_noise_is_averaged_over_it():
    """It is exact up to the square of one input and the product of two."""
    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((2,), max_rate=50.0, amplitude=1.0)
        both = nengo.Node(size_in=2)
        nengo.Connection(
            pixels.node, both, function=lambda x: (x[0] * x[1], x[0] ** 2), synapse=None
        )
    plain, noisy = (
        nn.predict_rates(both, [[0.4, 0.6]], network=network, noise=noise)
        for noise in (False, True)
    )
    np.testing.assert_allclose(plain, [[600, 400]])
    np.testing.assert_allclose(noisy, [[600, 400 + 20 / 0.001]])


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_function_without_a_finite_value_is_an_error(value):
    """The error is that of a run."""
    with nengo.Network(seed=0) as network:
        node, layer = nengo.Node([0.0], label="in"), nengo.Ensemble(5, 1, label="layer")
        nengo.Connection(node, layer, function=lambda x: x if x < 0.5 else value)
    assert np.isfinite(nn.predict_rates(layer, [[0.2]], network=network)).all()
    with pytest.raises(nn.InputError, match=r"'in'> to <Ensemble 'layer'>.*: expected finite"):
        nn.predict_rates(layer, [[0.2], [0.7]], network=network)
    node.output = [0.7]
    with nengo.Simulator(network, progress_bar=False) as simulator:
        with pytest.raises(nengo.exceptions.SimulationError, match="non-finite"):
            simulator.run_steps(3)


def test_direct_mode_passes_values_on():
    with nengo.Network(seed=1) as network:
        inputs = nengo.Node([0.2, 0.5], label="inputs")
        direct = nengo.Ensemble(1, 2, neuron_type=nengo.Direct(), label="direct")
        after = nengo.Node(size_in=1)
        nengo.Connection(inputs, direct, transform=2.0, synapse=None)
        nengo.Connection(direct, after, function=lambda x: x[0] - 3 * x[1], synapse=None)
    np.testing.assert_allclose(
        nn.predict_rates(direct, [[0.2, 0.5], [1, 0]], network=network), [[0.4, 1.0], [2, 0]]
    )
    np.testing.assert_allclose(
        nn.predict_rates(after, [[0.2, 0.5]], network=network)[0], simulated(network, after)
    )


def test_weights_of_a_solver_that_solves_for_them():
    class Own(LstsqL2):
        compositional = False

    with nengo.Network(seed=1) as network:
        inputs = nengo.Node([0.5])
        a = nengo.Ensemble(50, 1, neuron_type=nengo.LIFRate())
        b = nengo.Ensemble(40, 1, neuron_type=nengo.LIFRate(), gain=Choice([2.0]), bias=Choice([1]))
        nengo.Connection(inputs, a, synapse=None)
        nengo.Connection(a, b, solver=Own(weights=True), synapse=None, transform=-1)
        rates = simulated(network, b.neurons)
    np.testing.assert_allclose(nn.predict_rates(b, [[0.5]], network=network)[0], rates, rtol=1e-9)
    assert rates.max() > 10


@pytest.mark.parametrize("decoded", [False, True])
def test_a_synapse_that_does_not_keep_the_mean(decoded):
    """A filter of gain 0.4, in front of neurons and behind decoders."""
    synapse = nengo.LinearFilter([0.4], [0.005, 1])
    with nengo.Network(seed=6) as network:
        inputs = nengo.Node([0.5], label="inputs")
        a = nengo.Ensemble(40, 1, neuron_type=nengo.LIFRate())
        b = nengo.Ensemble(30, 1, neuron_type=nengo.LIFRate())
        nengo.Connection(inputs, a, synapse=None)
        if decoded:
            nengo.Connection(a, b, synapse=synapse)
        else:
            weights = np.full((30, 40), 1e-3)
            nengo.Connection(a.neurons, b.neurons, transform=weights, synapse=synapse)
    rates = nn.predict_rates(b, [[0.5]], network=network)[0]
    np.testing.assert_allclose(
        rates, simulated(network, b.neurons, steps=300), rtol=1e-6, atol=1e-6
    )
    assert rates.max() > 10
