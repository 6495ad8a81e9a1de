"""The gain and bias of a layer, and the explanation of a neuron."""

import nengo
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nengo.dists import Choice, Uniform

import nengonet as nn
import nengonet.neurons.tuning
from nengonet.neurons import gain_bias, with_settings


@pytest.mark.parametrize("n_neurons", [-1, 1.5, "3", None, True])
def test_the_number_of_neurons_is_checked(n_neurons):
    with pytest.raises(
        nn.InputError, match="n_neurons: expected a whole number of at least 0, got"
    ):
        gain_bias(nengo.LIF(), n_neurons)


def test_posts_tuning_has_the_known_gain_and_bias():
    gain, bias = gain_bias(nengo.LIF(), 3)
    np.testing.assert_allclose(gain, 2.033245, atol=1e-6)
    np.testing.assert_allclose(bias, 1.0)
    gain, bias = gain_bias(nengo.RectifiedLinear(), 3)
    np.testing.assert_allclose([gain, bias], [[100.0] * 3, [0.0] * 3])


@pytest.mark.parametrize(
    "neuron_type",
    [
        nengo.LIF(),
        nengo.LIF(tau_rc=0.05, amplitude=0.1),
        nengo.RectifiedLinear(),
        nengo.AdaptiveLIF(),
        nn.IntegrateAndFire(),
        nengo.Tanh(),
        nengo.PoissonSpiking(nengo.LIFRate()),
    ],
    ids=str,
)
@settings(max_examples=20)
@given(
    max_rates=st.lists(st.floats(20, 300), min_size=3, max_size=3), intercept=st.floats(-0.9, 0.9)
)
def test_gain_bias_is_what_nengo_builds(neuron_type, max_rates, intercept):
    with nengo.Network(seed=0) as network:
        ensemble = nengo.Ensemble(
            3, 1, neuron_type=neuron_type, max_rates=max_rates, intercepts=Choice([intercept])
        )
    with nengo.Simulator(network, progress_bar=False) as simulator:
        built = simulator.data[ensemble]
    gain, bias = gain_bias(neuron_type, 3, max_rates, intercept)
    np.testing.assert_array_equal(gain, built.gain)
    np.testing.assert_array_equal(bias, built.bias)


def test_stated_gain_takes_the_place_of_the_tuning():
    gain, bias = gain_bias(nengo.LIF(), 2, gain=[0.5, 0.7])
    np.testing.assert_array_equal([gain, bias], [[0.5, 0.7], [0, 0]])
    gain, bias = gain_bias(nengo.LIF(), 2, bias=0.25)
    np.testing.assert_allclose(gain, 2.033245, atol=1e-6)
    np.testing.assert_array_equal(bias, 0.25)
    drawn = gain_bias(nengo.LIF(), 50, max_rates=Uniform(100, 200), seed=1)[0]
    np.testing.assert_array_equal(
        drawn, gain_bias(nengo.LIF(), 50, max_rates=Uniform(100, 200), seed=1)[0]
    )
    assert not np.array_equal(
        drawn, gain_bias(nengo.LIF(), 50, max_rates=Uniform(100, 200), seed=2)[0]
    )


@pytest.mark.parametrize(
    "stated, message",
    [
        ({"max_rates": 600}, "LIF.max_rates: .*below the inverse refractory period"),
        ({"gain": -1.0}, "gain: expected finite values above 0, got -1"),
        ({"gain": [1.0, 2.0]}, r"gain: expected one number, 3 numbers .* got shape \(2,\)"),
        ({"gain": [[1.0], [1.0, 2.0]]}, "gain: expected one number.* rows of unequal lengths"),
        ({"bias": "high"}, "bias: expected one number"),
        ({"bias": np.nan}, "bias: expected finite values"),
        ({"intercepts": 1.5}, "intercepts must be below 1"),
    ],
)
def test_impossible_tunings_are_named(stated, message):
    with pytest.raises(nn.InputError, match=message):
        gain_bias(nengo.LIF(), 3, **stated)


def test_direct_mode_is_refused():
    with pytest.raises(nn.InputError, match="got Direct, which has no neurons"):
        gain_bias(nengo.Direct(), 3)


def test_explain_neuron_writes_the_sum_out():
    facts = nn.explain_neuron(nengo.LIF(amplitude=0.01), drive=1.0)
    assert facts.current == pytest.approx(3.033245, abs=1e-6)
    assert facts.rate == pytest.approx(100)
    assert facts.output == pytest.approx(1.0)
    assert str(facts).splitlines() == [
        "LIF(amplitude=0.01)",
        "gain 2.03324, bias 1",
        "J = gain * drive + bias = 2.03324 * 1 + 1 = 3.03324",
        "rate 100 Hz, mean output 1 (amplitude 0.01)",
    ]


def test_explained_rate_is_the_simulated_one():
    for neuron_type in (nengo.LIF(), nn.IntegrateAndFire(amplitude=0.5)):
        facts = nn.explain_neuron(neuron_type, drive=0.37, gain=120.0, bias=2.0)
        with nengo.Network(seed=3) as network:
            ensemble = nengo.Ensemble(
                1, 1, neuron_type=neuron_type, gain=[1.0], bias=[facts.current]
            )
            probe = nengo.Probe(ensemble.neurons)
        with nengo.Simulator(network, progress_bar=False) as simulator:
            simulator.run_steps(2000)
            output = simulator.data[probe].sum() * simulator.dt
        assert abs(output - 2 * facts.output) < 1.5 * neuron_type.amplitude


def test_with_settings_changes_only_what_is_named():
    original = nengo.AdaptiveLIF(tau_rc=0.03, inc_n=0.02)
    changed = with_settings(original, amplitude=0.2)
    assert changed == nengo.AdaptiveLIF(tau_rc=0.03, inc_n=0.02, amplitude=0.2)
    assert original.amplitude == 1
    with pytest.raises(nn.InputError, match="Tanh has no amplitude: expected one of tau_ref"):
        with_settings(nengo.Tanh(), amplitude=0.2)


@pytest.mark.parametrize("seed", ["x", -1, 2.5, [1], 2**32])
def test_the_seed_of_a_tuning_is_a_number(seed):
    with pytest.raises(nn.InputError, match="^seed: expected a whole number"):
        gain_bias(nengo.LIF(), 3, seed=seed)
