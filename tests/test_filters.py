"""Filters: the Node with a time constant for each unit, Nengo's synapses and Nengo's noise."""

import pickle

import nengo
import numpy as np
import pytest
from nengo.dists import Choice, Exponential, Gaussian, Uniform
from nengo.processes import FilteredNoise, WhiteNoise

import nengonet as nn
from nengonet.explain.prediction import predict
from nengonet.layers.filters import filter_of, noise_of
from nengonet.minibatch import MinibatchSimulator

RNG = np.random.default_rng(4)
KERNEL = RNG.normal(0.2, 0.5, (6, 3))
IMAGES = RNG.uniform(size=(4, 2, 3))
TAUS = np.array([0.0, 0.01, 0.3])


def built(tau=TAUS, poisson=False):
    with nengo.Network(seed=1) as network:
        layer = nn.poisson_input((2, 3), 200.0) if poisson else nn.constant_input((2, 3))
        neuron_type = nn.IntegrateAndFire(amplitude=0.01)
        hidden = nn.dense(layer, KERNEL, neuron_type, gain=100.0, label="hidden")
        filtered = nn.lowpass(hidden, tau)
    return network, hidden, filtered


def test_it_is_one_node_and_one_connection():
    network, hidden, filtered = built()
    assert filtered.ensemble is None
    assert not filtered.spiking
    assert (filtered.label, filtered.shape, filtered.pre) == ("lowpass", (3,), hidden)
    assert network.nodes[-1] is filtered.node
    assert filtered.connection.pre == hidden.ensemble.neurons
    assert filtered.connection.synapse is None


def test_worked_by_hand():
    """The level halves in a step of tau * ln 2: inputs 8, 0, 4 give 4, 2, 3."""
    process = nn.layers.filters.LowpassPerUnit(np.array([0.01 / np.log(2), 0.0]))
    state = process.make_state((2,), (2,), 0.01)
    step = process.make_step((2,), (2,), 0.01, None, state)
    found = [step(0.0, np.array([x, x])).copy() for x in (8.0, 0.0, 4.0)]
    np.testing.assert_allclose(found, [[4, 8], [2, 0], [3, 4]], rtol=1e-12)


@pytest.mark.parametrize("dt", [0.001, 0.1, 1.0])
def test_it_is_nengos_lowpass_one_step_sooner(dt):
    with nengo.Network(seed=0) as network:
        node = nengo.Node(
            nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, 1), seed=3), size_out=2
        )
        filters = nengo.Node(nn.layers.filters.LowpassPerUnit(np.full(2, 0.25)), size_in=2)
        later = nengo.Node(size_in=2)
        nengo.Connection(node, filters, synapse=None)
        nengo.Connection(node, later, synapse=nengo.Lowpass(0.25))
        probes = [nengo.Probe(each) for each in (filters, later)]
    with nengo.Simulator(network, dt=dt, progress_bar=False) as simulator:
        simulator.run_steps(20)
        now, after = (simulator.data[probe] for probe in probes)
    np.testing.assert_allclose(now[:-1], after[1:], rtol=1e-9, atol=1e-12)
    assert np.ptp(now) > 0
    assert np.all(after[0] == 0)


@pytest.mark.parametrize("dt", [0.01, 1.0])
def test_twin_and_reference_agree_example_by_example(dt):
    network, _, filtered = built(poisson=True)
    settings = {"presentation_time": 12 * dt, "dt": dt, "readout": "last_step", "progress": False}
    twin = nn.present(network, filtered, IMAGES, **settings)
    reference = nn.present(network, filtered, IMAGES, simulator="reference", **settings)
    np.testing.assert_array_equal(twin.counts["hidden"], reference.counts["hidden"])
    np.testing.assert_allclose(twin.steps, reference.steps, rtol=1e-9, atol=1e-12)
    assert twin.steps.std() > 0


def test_a_reset_empties_the_filters():
    network, _, filtered = built()
    settings = {"presentation_time": 0.05, "readout": "last_step", "progress": False}
    result = nn.present(network, filtered, IMAGES[[0, 1, 0]], minibatch_size=1, **settings)
    np.testing.assert_array_equal(result.steps[0], result.steps[2])
    assert np.any(result.steps[0] != result.steps[1])


def test_its_prediction_is_its_mean_and_its_variance():
    """The mean over a long time, and the spread from step to step, of filtered Poisson spikes."""
    network, hidden, filtered = built(TAUS, poisson=True)
    found = predict(filtered, IMAGES[:1])
    *_, before, after = found
    np.testing.assert_array_equal(after.mean_outputs, before.mean_outputs)
    assert after.delay == 0.3
    # white noise of variance 1 through y += (1 - d) (x - y) has the variance (1 - d) / (1 + d)
    decay = np.array([0.0, *np.exp(-0.001 / TAUS[1:])])
    np.testing.assert_allclose(after.variance, before.variance * (1 - decay) / (1 + decay))
    result = nn.present(
        network, filtered, IMAGES[:1], presentation_time=20.0, readout="mean", progress=False
    )
    # a rate of 100 Hz over 20 s is known to 2 %, and no neuron's is below
    assert before.rates.min() > 10
    mean = result.mean_output("lowpass")
    np.testing.assert_allclose(mean[0, :2], result.mean_output("hidden")[0, :2], rtol=0.01)
    np.testing.assert_allclose(mean, after.mean_outputs, rtol=0.2)


def test_keras_activations_see_nothing_of_it():
    with nengo.Network():
        hidden = nn.dense(
            nn.constant_input((2, 3)), KERNEL, nengo.SpikingRectifiedLinear(), gain=1.0
        )
        output = nn.dense(nn.lowpass(hidden, 0.1), KERNEL[:3], None, label="output")
    logits = np.maximum(IMAGES.reshape(4, 6) @ KERNEL, 0) @ KERNEL[:3]
    from nengonet.explain.prediction import keras_activations

    np.testing.assert_allclose(keras_activations(output, IMAGES)["output"], logits)


def test_it_is_pickled_and_compared_by_its_taus():
    process = nn.layers.filters.LowpassPerUnit(TAUS)
    assert pickle.loads(pickle.dumps(process)) == process
    assert process != nn.layers.filters.LowpassPerUnit(TAUS + 1)


def test_the_simulator_of_minibatches_runs_it_with_float32():
    network, _, filtered = built()
    with network:
        probe = nengo.Probe(filtered.node)
    with MinibatchSimulator(network, 3, progress_bar=False, precision=32) as simulator:
        simulator.run_steps(5)
        assert simulator.data[probe].dtype == np.float32


@pytest.mark.parametrize(
    "tau, message",
    [
        (
            [0.1, 0.2],
            r"lowpass: tau: expected one number .* each of the 3 units of hidden, got sh",
        ),
        ("slow", r"lowpass: tau: expected an array of numbers, got 'slow'"),
        (-0.1, r"lowpass: tau: expected times of at least 0 s, got -0\.1"),
        (np.nan, r"lowpass: tau: expected finite values, got nan"),
    ],
)
def test_bad_time_constants_are_named(tau, message):
    with pytest.raises(nn.InputError, match=message):
        built(tau)


SYNAPSES = [
    None,
    nengo.Lowpass(0.005),
    nengo.Lowpass(0),
    nengo.Alpha(0.004),
    nengo.synapses.Triangle(0.006),
    nengo.LinearFilter([2.0], [0.003, 1.0]),
    nengo.LinearFilter([0.002, 1.0], [0.00001, 0.007, 1.0]),
    nengo.LinearFilter([1.0], [0.004, 1.0], method="euler"),
    nengo.LinearFilter([0.3, 0.1], [1, -0.5, 0.2], analog=False),
    nengo.LinearFilter([0.5, 0.2, 0.1], [1, 0, 0], analog=False),
    nengo.LinearFilter([0.2], [1.0, -0.9], analog=False),
    nengo.LinearFilter([1.5], [1.0]),
]


@pytest.mark.parametrize("synapse", SYNAPSES, ids=str)
@pytest.mark.parametrize("dt", [0.001, 0.0002, 0.005])
def test_a_filter_does_what_nengo_steps(synapse, dt):
    found = filter_of(synapse, dt)
    if synapse is None:
        assert (found.gain, found.power, found.delay) == (1, 1, 0)
        return
    impulse = np.zeros((20000, 1))
    impulse[0] = 1
    response = synapse.filt(impulse, dt=dt, y0=0)[:, 0]
    assert response.sum() == pytest.approx(found.gain, rel=1e-9)
    assert (response**2).sum() == pytest.approx(found.power, rel=1e-9)
    late = dt * (np.arange(20000) * response).sum() / response.sum()
    if type(synapse) is nengo.LinearFilter:
        assert late == pytest.approx(found.delay, abs=1.1 * dt)


@pytest.mark.parametrize(
    "synapse, message",
    [
        (nengo.LinearFilter([1], [1, 0]), "integrates"),
        (nengo.LinearFilter([1], [1, -1], analog=False), "integrates"),
        (nengo.LinearFilter([1], [1, -1.2], analog=False), "is unstable"),
        (nengo.LinearFilter([1], [0.01, -1]), "is unstable"),
        (nengo.LinearFilter([1], [0.0004, 1], method="euler"), "is unstable"),
    ],
    ids=str,
)
def test_filters_that_never_settle_are_refused(synapse, message):
    with pytest.raises(nn.InputError, match=f"cannot predict a synapse that {message}"):
        filter_of(synapse, 0.001)


@pytest.mark.parametrize(
    "distribution",
    [Uniform(-1, 3), Gaussian(0.5, 2), Exponential(0.7, shift=-0.3), Choice([[1, 0], [4, -2]])],
    ids=str,
)
@pytest.mark.parametrize("kind", ["white", "filtered", "unscaled"])
def test_noise_of_an_ensemble_has_the_moments_of_its_steps(distribution, kind):
    """Bounds of six standard errors of 20,000 steps; filtered ones are 10 steps alike."""
    process = {
        "white": WhiteNoise(distribution, seed=1),
        "filtered": FilteredNoise(0.005, distribution, seed=1),
        "unscaled": WhiteNoise(distribution, scale=False, seed=1),
    }[kind]
    mean, variance = noise_of(process, 0.001)
    found = process.run_steps(20000, d=2, dt=0.001)[50:]
    error = 6 * np.sqrt(variance / (2000 if kind == "filtered" else 20000))
    assert np.all(np.abs(found.mean(axis=0) - mean) < error)
    assert np.all(np.abs(found.var(axis=0) / variance - 1) < 0.25)
