"""The resting state of loops, and growth of small deviations: by hand, and stepped by Nengo."""

import nengo
import numpy as np
import pytest

import nengonet as nn

RNG = np.random.default_rng(8)
SYNAPSES = [
    nengo.Lowpass(0.01),
    nengo.Lowpass(0),
    nengo.Alpha(0.007),
    nengo.synapses.Triangle(0.006),
    nengo.LinearFilter([0.002, 1], [3e-5, 0.011, 1]),
    nengo.LinearFilter([0.5], [1.0]),
]


def linear(weights, synapse, bias=0.0, inputs=1):
    """Return a linear network: RectifiedLinear neurons whose currents stay above 0."""
    n = len(weights)
    with nengo.Network(seed=0) as network:
        node = nengo.Node(np.zeros(inputs), label="inputs")
        neurons = nengo.Ensemble(
            n, 1, neuron_type=nengo.RectifiedLinear(), gain=np.ones(n), bias=np.full(n, bias),
            label="neurons",
        )  # fmt: skip
        nengo.Connection(node, neurons.neurons, transform=np.ones((n, inputs)), synapse=None)
        nengo.Connection(neurons.neurons, neurons.neurons, transform=weights, synapse=synapse)
    return network, node, neurons


def simulated(network, node, neurons, image, dt=0.001, n_steps=2000):
    node.output = np.asarray(image, dtype=float)
    with network:
        probe = nengo.Probe(neurons.neurons, synapse=None)
    with nengo.Simulator(network, dt=dt, progress_bar=False) as simulator:
        simulator.run_steps(n_steps, progress_bar=False)
    network.probes.remove(probe)
    return simulator.data[probe]


@pytest.mark.parametrize("synapse", SYNAPSES, ids=str)
@pytest.mark.parametrize("dt", [0.001, 0.0004])
def test_a_linear_loop_rests_where_its_equations_do(synapse, dt):
    weights = RNG.uniform(-0.05, 0.08, (12, 12))
    network, _, neurons = linear(weights, synapse, bias=20.0)
    point = nn.fixed_point(neurons, [[1.0], [5.0]], network=network, dt=dt, n_starts=0)
    gain = 0.5 if synapse == SYNAPSES[-1] else 1.0
    expected = np.linalg.solve(np.eye(12) - gain * weights, np.outer(np.ones(12), [21.0, 25.0]))
    assert expected.min() > 5
    np.testing.assert_allclose(point.rates["neurons"], expected.T, rtol=1e-6)
    assert point.converged.all()
    assert point.stable.all()
    assert point.followed.all()
    assert point.residual.max() < 1e-4


@pytest.mark.parametrize("synapse", SYNAPSES, ids=str)
def test_a_deviation_grows_as_in_a_run(synapse):
    """Near rest, every step multiplies the deviation by the multiplier."""
    weights = np.array([[0.3, -0.5, 0.0], [0.6, 0.1, 0.2], [0.1, 0.0, 0.4]])
    network, node, neurons = linear(weights, synapse, bias=20.0)
    point = nn.fixed_point(neurons, [[3.0]], network=network, n_starts=0)
    n = min(250, round(np.log(1e-9) / np.log(point.multiplier[0])))
    run = simulated(network, node, neurons, [3.0], n_steps=n)
    away = np.linalg.norm(run - point.rates["neurons"], axis=1)
    # over half the steps, so that turns of the plane average out
    half = n // 2
    measured = np.exp(np.log(away[-half:].max() / away[: n - half].max()) / half)
    assert measured == pytest.approx(point.multiplier[0], rel=0.2)
    assert point.multiplier[0] < 1


@pytest.mark.parametrize("tau", [0.005, 0.1])
def test_the_multiplier_of_a_low_pass_is_worked_by_hand(tau):
    """``s += (1 - a) * (w * s - s)``, with ``a = exp(-dt / tau)``."""
    for weight in (-3.0, 0.5, 0.99, 1.2):
        network, _, neurons = linear(np.array([[weight]]), tau, bias=5.0 if weight < 1 else -5.0)
        point = nn.fixed_point(neurons, [[1.0 if weight < 1 else 4.0]], network=network, n_starts=0)
        if weight < 1:
            assert point.rates["neurons"][0, 0] == pytest.approx(6 / (1 - weight), rel=1e-5)
            left = np.exp(-0.001 / tau)
            assert point.multiplier[0] == pytest.approx(abs(left + (1 - left) * weight), rel=1e-6)
            time = 0.001 * np.log(0.05) / np.log(point.multiplier[0])
            assert point.settling_time[0] == pytest.approx(time)
        else:  # no current, no rate: nothing that would grow
            assert point.rates["neurons"][0, 0] == 0
            assert point.stable.all()


def test_strong_inhibition_within_a_step_is_unstable():
    """A weight of -3 with one step of delay triples a deviation and flips its sign."""
    network, node, neurons = linear(np.array([[-3.0]]), nengo.Lowpass(0), bias=5.0)
    point = nn.fixed_point(neurons, [[1.0]], network=network, n_starts=0)
    np.testing.assert_allclose(point.rates["neurons"], [[1.5]], rtol=1e-6)
    assert point.multiplier[0] == pytest.approx(3.0, rel=1e-6)
    assert not point.stable.any()
    assert point.settling_time[0] == np.inf
    run = simulated(network, node, neurons, [1.0], n_steps=40)
    assert set(run[-2:].ravel()) == {0.0, 6.0}
    with pytest.raises(nn.InputError, match="neurons: expected .*, got an unstable.*3"):
        nn.predict_rates(neurons, [[1.0]], network=network)


def test_a_loop_that_grows_without_end_does_not_converge():
    network, _, neurons = linear(np.array([[1.3]]), 0.01, bias=5.0)
    point = nn.fixed_point(neurons, [[1.0], [2.0]], network=network)
    assert not point.converged.any()
    assert not point.stable.any()
    assert (point.multiplier == np.inf).all()
    with pytest.raises(nn.InputError, match="do not settle for 2 of 2 images.*by .* Hz"):
        nn.predict_rates(neurons, [[1.0], [2.0]], network=network)


@pytest.mark.parametrize("n", [30, 90])
def test_the_largest_eigenvalue_is_found_among_many(n):
    """There are more values than followed directions; the result is within 1 %."""
    weights = RNG.normal(0.5 / n, 0.25 / np.sqrt(n), (n, n))
    network, _, neurons = linear(weights, 0.02, bias=200.0)
    point = nn.fixed_point(neurons, [[1.0]], network=network, n_starts=0)
    assert point.rates["neurons"].min() > 0
    left = np.exp(-0.001 / 0.02)
    expected = np.abs(np.linalg.eigvals(left * np.eye(n) + (1 - left) * weights)).max()
    # of how far it is from what a synapse alone keeps
    bound = 1e-6 if n <= 48 else 0.1
    assert abs(point.multiplier[0] - expected) <= bound * abs(expected - left)


def test_images_are_independent_of_each_other():
    weights = RNG.normal(-0.1, 0.2, (9, 9))
    network, _, neurons = linear(weights, 0.01, bias=10.0, inputs=3)
    images = RNG.uniform(0, 30, (7, 3))
    together = nn.predict_rates(neurons, images, network=network)
    for image, rates in zip(images, together, strict=True):
        alone = nn.predict_rates(neurons, image[None], network=network)[0]
        np.testing.assert_allclose(alone, rates, rtol=1e-6, atol=1e-6)


def test_nodes_in_a_loop_pass_on_within_a_step():
    """An EnsembleArray of rate neurons that feeds itself through Nodes is predicted exactly."""
    with nengo.Network(seed=5) as network:
        node = nengo.Node([0.5, -0.4], label="inputs")
        array = nengo.networks.EnsembleArray(50, 2, neuron_type=nengo.LIFRate())
        nengo.Connection(node, array.input, transform=0.5, synapse=None)
        nengo.Connection(
            array.output, array.input, transform=[[0.3, 0.2], [-0.2, 0.4]], synapse=0.02
        )
        probe = nengo.Probe(array.output, synapse=None)
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run_steps(1500, progress_bar=False)
    found = nn.predict_rates(array.output, [[0.5, -0.4]], network=network)
    np.testing.assert_allclose(found[0], simulator.data[probe][-1], rtol=1e-6)
