"""Neurons that fire at their current: the counts and voltages of `IntegrateAndFire`."""

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.neurons import model_of


def counts_over_time(neuron_type, currents, n_steps, dt=0.001):
    """Run neurons under constant currents; return the spike counts after every step."""
    n_neurons = len(currents)
    with nengo.Network(seed=3) as network:
        ensemble = nengo.Ensemble(
            n_neurons, 1, neuron_type=neuron_type, gain=np.ones(n_neurons), bias=currents
        )
        probe = nengo.Probe(ensemble.neurons, synapse=None)
    with nengo.Simulator(network, dt=dt, progress_bar=False) as simulator:
        simulator.run_steps(n_steps)
        spikes = simulator.data[probe] * dt / neuron_type.amplitude
    np.testing.assert_allclose(spikes, np.rint(spikes), atol=1e-9)
    return np.cumsum(np.rint(spikes), axis=0)


@pytest.mark.parametrize("dt", [0.001, 0.01, 1.0])
@pytest.mark.parametrize("amplitude", [1.0, 0.023])
def test_counts_stay_within_half_a_spike_of_the_rate(dt, amplitude):
    currents = np.array([-50.0, 0.0, 0.3, 7.7, 99.0, 333.3, 1000.0, 2718.3])
    n_steps = 400
    counts = counts_over_time(nn.IntegrateAndFire(amplitude=amplitude), currents, n_steps, dt)
    times = dt * np.arange(1, n_steps + 1)[:, None]
    expected = np.maximum(currents, 0) * times
    # 1e-6: at a current of 2718 and dt = 1 s a voltage of 10^6 was added up
    assert np.max(np.abs(counts - expected)) <= 0.5 + 1e-6
    assert counts[-1, -1] > 2.7 * n_steps * dt * 1000  # several spikes a step


def test_signed_voltage_averages_what_rectification_does_not():
    """A current that alternates 300, -200 has the mean 50; only signed voltage gives 50 Hz."""
    dt, n_steps = 0.001, 1000
    rates = {}
    for name, neuron_type in {
        "signed": nn.IntegrateAndFire(),
        "clipped": nn.IntegrateAndFire(min_voltage=0),
        "stock": nengo.SpikingRectifiedLinear(),
    }.items():
        state = {"voltage": np.array([0.5])}
        output, total = np.zeros(1), 0.0
        for step in range(n_steps):
            current = np.array([-200.0 if step % 2 else 300.0])
            neuron_type.step(dt, current, output, **state)
            total += output[0] * dt
        rates[name] = total
    assert rates["signed"] == pytest.approx(50, abs=1)
    assert rates["stock"] == pytest.approx(150, abs=1)
    assert rates["clipped"] > 60


@pytest.mark.parametrize("min_voltage", [0.0, -0.5, -np.inf])
def test_min_voltage_bounds_the_voltage(min_voltage):
    voltage, output = np.array([0.5, 0.5]), np.zeros(2)
    neuron_type = nn.IntegrateAndFire(min_voltage=min_voltage)
    neuron_type.step(0.001, np.array([-2000.0, 100.0]), output, voltage)
    np.testing.assert_allclose(voltage, [max(min_voltage, -1.5), 0.6])
    np.testing.assert_array_equal(output, 0)
    neuron_type.step(0.001, np.array([0.0, 2500.0]), output, voltage)
    np.testing.assert_allclose(output, [0, 3000])  # three spikes in one step
    np.testing.assert_allclose(voltage[1], 0.1)


def test_min_voltage_above_zero_is_refused():
    with pytest.raises(nengo.exceptions.ValidationError, match="min_voltage"):
        nn.IntegrateAndFire(min_voltage=0.1)


def test_rates_are_nengos_relu():
    drive, gain, bias = np.linspace(-2, 3, 7)[:, None] * np.ones(4), np.arange(1.0, 5), np.ones(4)
    for amplitude in (1.0, 0.2):
        np.testing.assert_array_equal(
            nn.IntegrateAndFire(amplitude=amplitude).rates(drive, gain, bias),
            nengo.SpikingRectifiedLinear(amplitude=amplitude).rates(drive, gain, bias),
        )
        np.testing.assert_allclose(
            model_of(nn.IntegrateAndFire(amplitude=amplitude)).rates(gain * drive + bias),
            np.maximum(gain * drive + bias, 0),
        )
