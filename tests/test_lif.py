"""Steps of leaky neurons in NumPy; what noise does to their rates is in test_noise.py."""

import nengo
import numpy as np
import pytest

from nengonet.neurons import model_of


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
