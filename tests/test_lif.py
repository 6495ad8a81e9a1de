"""Steps of leaky neurons in NumPy. The effect of noise on their rates is in test_noise.py."""

import nengo
import numpy as np
import pytest

from nengonet.neurons import model_of
from nengonet.neurons.lif import noisy_lif_rates


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("dt", [0.001, 0.0007, 0.01])
def test_the_step_in_numpy_is_nengos_to_the_bit(dt, bits):
    rng = np.random.default_rng(11)
    neurons = nengo.LIF(tau_rc=0.017, tau_ref=0.0031, min_voltage=-0.4, amplitude=0.3)
    dtype, shape = f"f{bits // 8}", (13, 7)
    current, output = np.zeros((2, *shape), dtype)
    voltage = np.linspace(0, 1, 91, dtype=dtype).reshape(shape)
    ours = {"voltage": voltage, "refractory_time": np.zeros(shape, dtype)}
    theirs = {name: values.copy() for name, values in ours.items()}
    step, spikes = model_of(neurons).batched_step(dt, current, output, ours, []), 0
    for _ in range(200):
        current[...] = rng.normal(1.0, 4.0, shape) * rng.choice([0.0, 1.0, 30.0], 7)
        expected = np.zeros_like(output)
        step()
        neurons.step(dt, current, expected, **theirs)
        np.testing.assert_array_equal(output, expected)
        for name, values in theirs.items():
            np.testing.assert_array_equal(ours[name], values, name)
        spikes += (expected > 0).sum()
    assert spikes > 1000


@pytest.mark.parametrize("min_voltage", [0.0, -1.0])
def test_noisy_rates_are_those_of_the_current_alone(min_voltage):
    rng = np.random.default_rng(8)
    mean, deviation = rng.normal(1.0, 2.0, 60), rng.uniform(0.3, 4.0, 60)
    together = noisy_lif_rates(mean, deviation, min_voltage=min_voltage)
    alone = [
        noisy_lif_rates(*each, min_voltage=min_voltage)[0]
        for each in zip(mean[:6, np.newaxis], deviation[:6, np.newaxis], strict=True)
    ]
    np.testing.assert_allclose(together[:6], alone, rtol=1e-9)
    assert np.ptp(together) > 50


def test_a_deeper_voltage_has_other_noisy_rates():
    mean, deviation = np.array([-2.0]), np.array([15.0])
    shallow, deep = (noisy_lif_rates(mean, deviation, min_voltage=v)[0] for v in (0.0, -1.0))
    assert shallow > 1.2 * deep > 0
