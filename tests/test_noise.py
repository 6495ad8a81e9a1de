"""The effect of noise, compared with neurons simulated under Gaussian currents."""

import nengo
import numpy as np
import pytest

from nengonet.neurons import IntegrateAndFire, model_of
from nengonet.neurons.lif import noisy_lif_rates
from nengonet.neurons.rectified import noisy_integrator_rates, rectified_mean

MEANS = np.array([-1e5, -300.0, -30, -3, 0, 0.7, 1, 1.3, 4, 30, 1000, 1e5])


def simulated(neuron_type, mean, deviation, n_steps=20_000, dt=0.001):
    rng = np.random.default_rng(3)
    state = {"voltage": np.zeros(mean.shape)}
    if "refractory_time" in neuron_type.state:
        state["refractory_time"] = np.zeros(mean.shape)
    output, total = np.zeros(mean.shape), np.zeros(mean.shape)
    for _ in range(n_steps):
        neuron_type.step(dt, rng.normal(mean, deviation), output, **state)
        total += output
    return total / n_steps


@pytest.mark.parametrize("min_voltage", [0.0, -0.5])
@pytest.mark.parametrize("tau_rc, tau_ref", [(0.02, 0.002), (0.05, 0.004)])
def test_lif_rates_are_those_of_simulated_neurons(min_voltage, tau_rc, tau_ref):
    mean = np.tile(MEANS, 4)
    deviation = np.repeat([0.3, 4.0, 40.0, 9000.0], MEANS.size)
    settings = {"tau_rc": tau_rc, "tau_ref": tau_ref, "min_voltage": min_voltage}
    expected = simulated(nengo.LIF(**settings), mean, deviation)
    found = noisy_lif_rates(mean, deviation, **settings)
    # 20 s of simulated spikes scatter by some 4 Hz; the plain curve is off by 300 Hz
    assert np.abs(found - expected).max() < 0.03 / tau_ref
    plain = noisy_lif_rates(mean, np.zeros_like(deviation), **settings)
    assert np.abs(plain - expected).max() > 0.4 / tau_ref


@pytest.mark.parametrize("min_voltage", [0.0, -0.5, -3.0])
def test_clipped_integrators_are_those_simulated(min_voltage):
    mean = np.tile([-80.0, -20, 0, 5, 30, 100, 250], 3)
    deviation = np.repeat([30.0, 100.0, 400.0], 7)
    expected = simulated(IntegrateAndFire(min_voltage=min_voltage), mean, deviation)
    found = noisy_integrator_rates(mean, deviation, min_voltage=min_voltage)
    assert np.abs(found - expected).max() < 8
    assert np.all(noisy_integrator_rates(mean, 0 * deviation) == np.maximum(mean, 0))


def test_without_noise_the_curve_is_nengos():
    expected = nengo.LIFRate().rates(MEANS[:, None], [1.0], [0.0])[:, 0]
    np.testing.assert_allclose(noisy_lif_rates(MEANS, np.zeros(MEANS.size)), expected)


def test_noise_never_lowers_a_silent_neuron_and_grows_with_the_deviation():
    rates = noisy_lif_rates(np.zeros(30), np.linspace(0, 50, 30))
    assert rates[0] == 0
    assert np.all(np.diff(rates) > -1.0)
    assert rates[-1] > 100


@pytest.mark.parametrize("mean, deviation", [(0.0, 1.0), (-2.0, 3.0), (5.0, 2.0), (3.0, 0.0)])
def test_rectified_mean_is_the_average(mean, deviation):
    draws = np.random.default_rng(0).normal(mean, deviation, size=400_000)
    found = rectified_mean(np.array([mean]), np.array([deviation]))[0]
    # six standard errors
    assert abs(found - np.maximum(draws, 0).mean()) <= 6 * deviation / np.sqrt(4e5)
    assert found >= max(mean, 0)


class Parabola(nengo.neurons.NeuronType):
    def step(self, dt, J, output):
        output[...] = J**2


def test_averages_over_noise_are_exact_for_polynomials():
    mean, deviation = np.array([[1.0, -2.0]]), np.array([[0.5, 3.0]])
    model = model_of(Parabola())
    np.testing.assert_allclose(model.rates(mean, deviation), mean**2 + deviation**2, rtol=3e-5)
    variance = model.variance(None, mean, deviation, 0.001)
    np.testing.assert_allclose(variance, 2 * deviation**4 + 4 * (mean * deviation) ** 2, rtol=3e-4)


def test_the_neuron_furthest_from_the_threshold_has_its_noise_too():
    """Rounding moved about every third one beyond the grid of its mean and deviation."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        mean, deviation = rng.uniform(-30, -20, 5), rng.uniform(20, 30, 5)
        assert noisy_lif_rates(mean, deviation).min() > 10
