import re

import nengo
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, poisson

import nengonet as nn
from nengonet.testing import (
    assert_at_rest,
    assert_counts_match_rates,
    assert_same_spikes,
    counts_from_probe,
)

FAULTS = ("weights", "gain", "shift")


def failure(*args, **settings):
    """Return the message of the failed assertion; None where it passes."""
    try:
        assert_counts_match_rates(*args, **settings)
    except AssertionError as error:
        return str(error)
    return None


def passes(*args, **settings):
    return failure(*args, **settings) is None


def layer_rates(seed, shape=(40, 64), mean=100.0):
    """Return the rates of a layer of ReLU neurons, for several images."""
    rng = np.random.default_rng(seed)
    drive = rng.uniform(size=(shape[0], 50)) @ rng.normal(0.02, 0.1, (50, shape[1]))
    return mean * np.maximum(drive, 0) / np.maximum(drive, 0).mean()


# -- regular: exact corners -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "expected, allowed, settings",
    [
        (20.4, [20, 21], {}),
        # A voltage that reaches 1 by rounding, or ``voltage > 1``, is a step late.
        (10.0, [9, 10, 11], {}),
        (0.0, [0], {}),
        (20.58, [20, 21], {"bound": 0.6}),
        (20.58, [21], {"bound": 0.5}),
        (20.58, [19, 20, 21, 22], {"bound": 2}),
    ],
)
def test_regular_bound_is_one_spike(expected, allowed, settings):
    found = [count for count in range(40) if passes([count], [expected / 0.2], 0.2, **settings)]
    assert found == allowed


def test_rate_zero_is_silent():
    for kind in ("regular", "poisson"):
        assert passes([0, 0], [0.0, 0.0], 1.0, kind)
        assert "expected 0 spikes, observed 1" in failure([0, 1], [0.0, 0.0], 1.0, kind)


def test_rates_broadcast_over_images():
    assert passes([[10, 20], [10, 20]], [50.0, 100.0], 0.2)
    assert passes([[10, 10], [20, 20]], [[50.0], [100.0]], 0.2)
    message = failure([[10, 20], [10, 29]], [50.0, 100.0], 0.2)
    assert "1 of 4 counts, worst: neuron 1 of image 1: expected 20 spikes, observed 29" in message
    assert "(allowed: 19 to 21)" in message


def test_every_step_is_checked_and_the_first_bad_one_named():
    raster = np.zeros((100, 2), dtype=int)
    raster[9::10] = 1  # 100 Hz at 1 ms
    settings = {"rates": [100.0, 100.0], "duration": 0.1}
    assert passes(raster, dt=0.001, **settings)
    late = raster.copy()
    late[40:60, 1], late[80:82, 1] = 0, 1  # right at the end, wrong in between
    assert late.sum(axis=0)[1] == 10
    assert passes(late.sum(axis=0), **settings)
    message = failure(late, dt=0.001, **settings)
    assert "1 of 2 spike trains, worst: neuron 1 after step 51 of 100 (0.051 s)" in message
    assert "expected 5.1 spikes, observed 4" in message
    message = failure(np.stack([raster, late]), dt=0.001, **settings)
    assert "neuron 1 of image 1 after step 51" in message


def test_several_spikes_in_a_step_are_regular_too():
    raster = np.diff(np.floor(3700.0 * 0.001 * np.arange(0, 101) + 0.5))[:, None]
    assert raster.max() == 4
    assert passes(raster, [3700.0], 0.1, dt=0.001)
    assert not passes(np.minimum(raster, 1), [3700.0], 0.1, dt=0.001)


def test_uneven_spikes_within_the_bound_fail():
    raster = np.zeros((100, 1), dtype=int)
    raster[[2, 12, 22, 39, 49, 59, 69, 79, 89]] = 1
    message = failure(raster, [90.0], 0.1, dt=0.001)
    assert "within the bound, but not evenly spaced" in message
    assert "count - rate * t: expected 0 spikes, observed 1.44 (allowed: 0 to 1)" in message
    assert passes(raster, [90.0], 0.1, dt=0.001, bound=1.5)


@given(
    rate=st.floats(0, 5000),
    phase=st.floats(0, 1, exclude_max=True),
    n_steps=st.integers(1, 300),
    dt=st.sampled_from([0.0001, 0.001, 0.0123]),
)
def test_any_regular_train_passes(rate, phase, n_steps, dt):
    raster = np.diff(np.floor(rate * dt * np.arange(n_steps + 1) + phase))[:, None]
    assert_counts_match_rates(raster, [rate], n_steps * dt, dt=dt)
    assert_counts_match_rates(raster.sum(axis=0), [rate], n_steps * dt)


# -- regular: real neurons ------------------------------------------------------------------------


def layer_of(neuron_type, n_neurons, gain, bias):
    gain, bias = np.full(n_neurons, gain), np.full(n_neurons, bias)
    return nengo.Ensemble(n_neurons, 1, neuron_type=neuron_type, gain=gain, bias=bias)


def run_layer(neuron_type, kernel, pixels, *, gain, bias=0.0, n_steps=350, dt=0.001, seed=0):
    """Run one layer of a plain Nengo network under constant input; return its raster."""
    with nengo.Network(seed=seed) as network:
        layer = layer_of(neuron_type, kernel.shape[1], gain, bias)
        nengo.Connection(nengo.Node(pixels), layer.neurons, transform=kernel.T, synapse=None)
        probe = nengo.Probe(layer.neurons, synapse=None)
    with nengo.Simulator(network, dt=dt, progress_bar=False) as simulator:
        simulator.run_steps(n_steps)
        return counts_from_probe(simulator.data[probe], dt, neuron_type.amplitude, per_step=True)


def predicted(neuron_type, kernel, pixels, gain, bias=0.0):
    current = gain * (pixels @ kernel)[None] + bias
    ones = np.ones(current.shape[1])
    return neuron_type.rates(current, ones, 0 * ones)[0] / neuron_type.amplitude


REGULAR = {
    "SpikingRectifiedLinear": (nengo.SpikingRectifiedLinear(), 100.0, 10.0),
    "several spikes a step": (nengo.SpikingRectifiedLinear(amplitude=0.02), 2000.0, 10.0),
    "IntegrateAndFire": (nn.IntegrateAndFire(amplitude=0.1), 100.0, 10.0),
    "LIF": (nengo.LIF(), 2.0, 1.0),
    "LIF, amplitude": (nengo.LIF(amplitude=0.01), 2.0, 1.0),
}


def random_layer(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(0.02, 0.1, (50, 64)), rng.uniform(size=50)


def with_fault(kernel, gain, fault):
    if fault == "weights":
        return 1.02 * kernel, gain
    return (np.roll(kernel, 1, axis=1), gain) if fault == "shift" else (kernel, 2 * gain)


@pytest.mark.parametrize("name", REGULAR)
@pytest.mark.parametrize("seed", range(3))
def test_correct_regular_layers_pass_and_each_fault_fails(name, seed):
    neuron_type, gain, bias = REGULAR[name]
    kernel, pixels = random_layer(seed)
    rates = predicted(neuron_type, kernel, pixels, gain, bias)
    raster = run_layer(neuron_type, kernel, pixels, gain=gain, bias=bias, n_steps=1000, seed=seed)
    settings = {"must_detect": 0.02}
    assert_counts_match_rates(raster, rates, 1.0, dt=0.001, **settings)
    assert_counts_match_rates(raster.sum(axis=0), rates, 1.0, **settings)
    for fault in FAULTS:
        faulty, factor = with_fault(kernel, gain, fault)
        raster = run_layer(neuron_type, faulty, pixels, gain=factor, bias=bias, n_steps=1000)
        for message in (
            failure(raster.sum(axis=0), rates, 1.0),
            failure(raster, rates, 1.0, dt=0.001),
        ):
            if fault == "shift":
                assert "the layer looks shifted by one neuron" in message
            elif "LIF" not in name and bias / gain < 0.01:
                cause = {"weights": "weights or gain off by +2", "gain": "gain or weights doubled"}
                assert cause[fault] in message


def lif_range(neuron_type, dt, start):
    """Return the extremes of ``count - rate * t`` over many currents and all steps."""
    rng = np.random.default_rng(0)
    current = 1 + 10 ** rng.uniform(-5, 5, 2000)
    rates = neuron_type.rates(current[None], np.ones(2000), np.zeros(2000))[0]
    voltage, output = rng.uniform(size=2000) if start is None else np.full(2000, start), 0 * current
    refractory_time, counts = np.zeros(2000), np.zeros(2000)
    low, high = np.zeros(2000), np.zeros(2000)
    for step in range(1, 601):
        neuron_type.step(dt, current, output, voltage, refractory_time)
        counts += output * dt
        low = np.minimum(low, counts - rates * step * dt)
        high = np.maximum(high, counts - rates * step * dt)
    return low, high


@pytest.mark.parametrize("start", [0.0, None, 0.999999])
@pytest.mark.parametrize(
    "dt, tau_ref", [(1e-4, 0.002), (0.001, 0.002), (0.002, 0.002), (5e-3, 5e-3)]
)
def test_lif_is_regular_up_to_a_step_of_tau_ref(dt, tau_ref, start):
    low, high = lif_range(nengo.LIF(tau_ref=tau_ref), dt, start)
    assert low.min() > -1
    assert high.max() < 1 + 1e-9
    assert np.max(high - low) < 1 + 1e-9  # evenly spaced, too


def test_lif_is_too_slow_at_a_step_above_tau_ref():
    low, _ = lif_range(nengo.LIF(), 0.003, 0.0)
    assert low.min() < -100


def test_adaptive_lif_is_not_regular():
    kernel, pixels = random_layer(0)
    raster = run_layer(nengo.AdaptiveLIF(), kernel, pixels, gain=2.0, bias=1.0)
    rates = predicted(nengo.AdaptiveLIF(), kernel, pixels, 2.0, 1.0)
    assert not passes(raster, rates, 0.35, dt=0.001)


# -- Poisson --------------------------------------------------------------------------------------


def test_poisson_bounds_are_the_exact_tails():
    """One count of mean 20 gets the whole share, half for each tail."""
    tail = 0.75 * 1e-3 / 2
    low, high = int(poisson.ppf(tail, 20.0)), int(poisson.isf(tail, 20.0))
    settings = {"rates": [100.0], "duration": 0.2, "kind": "poisson", "false_alarm": 1e-3}
    for count in (low, high):
        assert passes([count], **settings)
    message = failure([low - 1], **settings)
    assert f"neuron 0: expected 20 spikes, observed {low - 1} (allowed: {low} to {high})" in message
    assert not passes([high + 1], **settings)


def false_alarms(kind, make, level, n_cases):
    return sum(not passes(*make(seed), kind, false_alarm=level) for seed in range(n_cases))


def poisson_case(seed, shape=(8, 64), mean=40.0):
    rates = layer_rates(seed, shape, mean)
    return np.random.default_rng([1, seed]).poisson(rates * 0.5), rates, 0.5


@pytest.mark.parametrize("level", [0.2, 0.05])
def test_poisson_false_alarms_are_as_stated(level):
    # 1e-6: chance that this test fails although the rate of false alarms is ``level``
    assert false_alarms("poisson", poisson_case, level, 300) <= binom.isf(1e-6, 300, level)


@pytest.mark.parametrize(
    "fault, cause",
    [
        (lambda rates: 1.02 * rates, "weights or gain off by +"),
        (lambda rates: 2 * rates, "counts are twice the expected ones: gain or weights doubled?"),
        (lambda rates: np.roll(rates, 1, axis=1), "the layer looks shifted by one neuron"),
    ],
    ids=FAULTS,
)
def test_poisson_faults_fail(fault, cause):
    for seed in range(40):
        rates = layer_rates(seed)
        counts = np.random.default_rng(seed).poisson(fault(rates))
        message = failure(counts, rates, 1.0, "poisson", must_detect=0.02)
        assert f"probable cause: {cause}" in message


@pytest.mark.parametrize("kind", ["process", "ensemble"])
def test_real_poisson_inputs_pass_and_faults_fail(kind):

    images = np.random.default_rng(3).uniform(size=(6, 15, 15))
    with nengo.Network(seed=0) as network:
        layer = nn.poisson_input((15, 15), max_rate=1000.0, amplitude=0.3, kind=kind)
    shown = {"presentation_time": 0.5, "rasters": ["input"], "progress": False}
    result = nn.present(network, layer, images, **shown)
    counts, raster = result.counts["input"], result.rasters["input"]
    rates = 1000.0 * images.reshape(6, -1)
    assert passes(counts, rates, 0.5, "poisson", must_detect=0.02)
    assert passes(raster, rates, 0.5, "poisson", dt=0.001)
    for wrong in (rates / 1.02, rates / 2, np.roll(rates, -1, axis=1)):
        assert not passes(counts, wrong, 0.5, "poisson")
    late = raster.copy()
    late[:, :100] = 0
    assert "steps' sums, worst: step 0" in failure(late, rates, 0.5, "poisson", dt=0.001)


def test_counts_too_regular_or_too_variable_for_poisson_fail():
    rates = layer_rates(0)
    message = failure(np.rint(rates), rates, 1.0, "poisson")
    assert "dispersion of the counts" in message
    assert "too regular for a Poisson process" in message
    rng = np.random.default_rng(0)
    bursty = 2 * rng.poisson(rates / 2)
    assert "more variable than a Poisson process" in failure(bursty, rates, 1.0, "poisson")
    noisy_weights = rng.poisson(rates * rng.normal(1, 0.05, 64))
    assert not passes(noisy_weights, rates, 1.0, "poisson")


# -- noisy ----------------------------------------------------------------------------------------


def renewal_case(seed, n_repeats=20, factor=1.0, shift=0):
    rng = np.random.default_rng([2, seed])
    rates = layer_rates(seed, (1, 32), 80.0)[0]
    driven = factor * np.roll(rates, shift)
    shape = rng.uniform(0.5, 6)
    intervals = rng.gamma(shape, 1 / shape, (n_repeats, int(1.5 * driven.max() + 60), 32))
    return (np.cumsum(intervals, axis=1) < driven).sum(axis=1), rates, 1.0


@pytest.mark.parametrize("level", [0.2, 0.05])
@pytest.mark.parametrize("n_repeats", [5, 20])
def test_renewal_false_alarms_are_as_stated(n_repeats, level):
    def make(seed):
        return renewal_case(seed, n_repeats)

    assert false_alarms("noisy", make, level, 150) <= binom.isf(1e-6, 150, level)


def test_renewal_faults_fail():
    for seed in range(20):
        counts, rates, duration = renewal_case(seed, factor=2.0)
        assert "gain or weights doubled" in failure(counts, rates, duration, "noisy")
        counts, rates, duration = renewal_case(seed, shift=1)
        assert "shifted by one neuron" in failure(counts, rates, duration, "noisy")


def run_noisy(kernel, input_rates, gain, n_repeats=40, n_steps=500, neuron_type=None):
    """Run a Poisson input and a layer n_repeats times; return (n_repeats, n_neurons) counts."""
    neuron_type = neuron_type or nn.IntegrateAndFire(amplitude=0.1)
    with nengo.Network(seed=1) as network:
        # Nengo keeps the random stream of these neurons through a reset: every repeat differs.
        poisson = nengo.PoissonSpiking(nengo.RectifiedLinear())
        source = layer_of(poisson, len(kernel), 1.0, input_rates)
        layer = layer_of(neuron_type, kernel.shape[1], gain, 0.0)
        nengo.Connection(source.neurons, layer.neurons, transform=kernel.T, synapse=None)
        probe = nengo.Probe(layer.neurons, synapse=None)
    counts = []
    with nengo.Simulator(network, progress_bar=False) as simulator:
        for _ in range(n_repeats):
            simulator.reset(seed=0)
            simulator.run_steps(n_steps)
            counts.append(counts_from_probe(simulator.data[probe], 0.001, neuron_type.amplitude))
    return np.stack(counts)


def noisy_layer(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(0.0025, 0.0075, (50, 64)), rng.uniform(200, 2000, 50)


def test_layer_behind_poisson_input_passes_and_each_fault_fails():
    kernel, input_rates = noisy_layer(0)
    rates = np.maximum(input_rates @ kernel, 0)
    counts = run_noisy(kernel, input_rates, 1.0)
    assert_counts_match_rates(counts, rates, 0.5, "noisy", must_detect=0.03)
    causes = {"weights": "off by +", "gain": "gain or weights doubled", "shift": "shifted by one"}
    for fault in FAULTS:
        faulty, gain = with_fault(kernel, 1.0, fault)
        message = failure(run_noisy(faulty, input_rates, gain), rates, 0.5, "noisy")
        assert causes[fault] in message
        assert "over 40 repeats" in message or "slope of the counts" in message


def test_rectified_noise_is_a_true_deviation():
    kernel, input_rates = noisy_layer(0)
    counts = run_noisy(kernel, input_rates, 1.0, neuron_type=nengo.SpikingRectifiedLinear())
    message = failure(counts, np.maximum(input_rates @ kernel, 0), 0.5, "noisy")
    assert "mean counts over 40 repeats, worst: neuron" in message


def test_noisy_knows_images_bias_and_relative():
    rng = np.random.default_rng(0)
    rates = np.linspace(50, 400, 24).reshape(2, 12)
    counts = rng.poisson(rates, (30, 2, 12))
    assert_counts_match_rates(counts, rates, 1.0, "noisy", bias=0.0)
    assert "of image" in failure(counts + 90, rates, 1.0, "noisy")
    assert_counts_match_rates(counts + 90, rates, 1.0, "noisy", bias=91)
    scaled = rng.poisson(1.1 * rates, (30, 2, 12))
    assert not passes(scaled, rates, 1.0, "noisy")
    assert_counts_match_rates(scaled, rates, 1.0, "noisy", relative=0.12)


def test_voltage_below_zero_lets_counts_exceed_the_rate():
    """A signed neuron keeps the spikes of a drive that has fallen again."""
    rng = np.random.default_rng(4)
    kernel, input_rates = rng.normal(0.0, 0.1, (50, 64)), rng.uniform(200, 2000, 50)
    rates = np.maximum(input_rates @ kernel, 0)
    counts = run_noisy(kernel, input_rates, 1.0, n_repeats=60)
    assert np.max(counts.mean(axis=0) - 0.5 * rates) > 4
    assert_counts_match_rates(counts, rates, 0.5, "noisy", bias=0.0)
    # Fewer spikes than the rate are never excused so.
    fewer = np.maximum(counts - 4, 0)
    assert not passes(fewer, rates, 0.5, "noisy", bias=0.0)


def test_few_repeats_that_agree_by_chance_are_no_alarm():
    rates = np.linspace(1, 4, 300)
    agreed = 0
    for seed in range(30):
        counts = np.random.default_rng(seed).poisson(rates, (5, 300))
        agreed += np.sum(counts.std(axis=0) == 0)
        assert_counts_match_rates(counts, rates, 1.0, "noisy", bias=0.0)
    assert agreed > 20


def test_repeats_that_agree_have_no_variance_but_pass():
    assert_counts_match_rates(np.full((8, 3), 10), [10.4, 9.6, 10.0], 1.0, "noisy")
    assert "neuron 2: expected 20" in failure(np.full((8, 3), 10), [10.4, 9.6, 20.0], 1.0, "noisy")
    assert_counts_match_rates(np.zeros((8, 3)), np.zeros(3), 1.0, "noisy")


# -- causes ---------------------------------------------------------------------------------------

RATES = np.maximum(np.random.default_rng(0).normal(40, 40, (5, 64)), 0)
ROUNDED = np.rint(RATES)


@pytest.mark.parametrize(
    "counts, cause",
    [
        (np.rint(1.02 * RATES), r"weights or gain off by \+2 %"),
        (np.rint(2 * RATES), "twice the expected ones: gain or weights doubled"),
        (np.rint(RATES / 2), "half the expected ones"),
        (np.roll(ROUNDED, 1, axis=1), "shifted by one neuron: .* the neuron 1 before"),
        (np.roll(ROUNDED, -2, axis=1), "shifted by 2 neurons: .* the neuron 2 after"),
        (np.roll(ROUNDED, 1, axis=0), "images look shifted by one: .* the image before"),
        (ROUNDED[:, np.random.default_rng(1).permutation(64)], "in another order"),
        (0 * ROUNDED, "no neuron spiked"),
        (np.minimum(ROUNDED, 60), "counts stop near 60 Hz, below their rates: a ceiling"),
        (1000 * ROUNDED, "1000 times the expected ones: heights of spikes"),
        (np.rint(0.1 * RATES), r"counts are 0\.\d+ times the expected ones: .* amplitude"),
        (ROUNDED + 50 * (np.arange(320) == 7).reshape(5, 64), "only single neurons are off"),
        (
            np.where(RATES > 0, np.maximum(0, 1000 - 700 // np.maximum(RATES, 0.5)), 0),
            "steps after the first spike are counted",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_probable_causes(counts, cause):
    message = failure(counts, RATES, 1.0)
    assert message.splitlines()[0] == "counts do not match their rates (kind regular)"
    assert re.search(f"probable cause: .*{cause}", message)


def test_causes_that_other_arguments_show():
    assert "duration given in steps or milliseconds" in failure(ROUNDED, RATES, 1000.0)
    assert "neurons spike where every rate is 0" in failure([3, 0], [0.0, 0.0], 1.0)
    rates = np.linspace(20, 250, 30)
    message = failure(np.floor(rates - 3.0), rates, 1.0)
    assert "spikes fewer in nearly every neuron: a synapse, delay or transient" in message


# -- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "gamma"}, "kind: expected one of regular, poisson, noisy, got 'gamma'"),
        ({"counts": [1.5, 2]}, "expected whole numbers of spikes, got 1.5; .*counts_from_probe"),
        ({"counts": [np.nan, 2]}, "counts: expected finite values"),
        ({"counts": []}, r"counts: expected at least one value, got shape \(0,\)"),
        ({"counts": "many"}, "counts: expected an array of numbers"),
        ({"counts": np.ones((2, 3, 2))}, r"expected \(n_neurons\) or \(n_images, n_neurons\)"),
        ({"rates": [1.0, 2.0, 3.0]}, r"rates: expected shape \(2,\), got \(3,\)"),
        ({"rtol": -1.0}, "rtol: expected a share, at least 0, got -1"),
        ({"duration": 0.0}, "duration: expected seconds, above 0, got 0.0"),
        ({"bound": -1.0}, "bound: expected spikes, above 0"),
        ({"false_alarm": 1.0}, "false_alarm: expected a chance, above 0 and below 1"),
        ({"must_detect": -0.1}, "must_detect: expected a share"),
        ({"kind": "noisy"}, r"expected \(n_repeats, n_neurons\) or \(n_repeats, n_images, n_n"),
        ({"kind": "noisy", "counts": np.ones((4, 2))}, "at least 5 repeats on the first axis"),
        ({"kind": "noisy", "counts": np.ones((9, 2)), "bias": -1}, "bias: expected at least 0"),
        ({"kind": "noisy", "counts": np.ones((9, 2)), "bias": [1, 2, 3]}, "bias: expected one"),
        ({"dt": 0.001}, r"\(kind regular, dt given\): expected \(n_steps, n_neurons\)"),
        (
            {"dt": 0.001, "counts": np.zeros((100, 2))},
            "duration: expected n_steps \\* dt = 100 steps of 0.001 s, .* got 0.2 s, 200 steps",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    given_ = {"counts": [10, 20], "rates": [50.0, 100.0], "duration": 0.2} | arguments
    with pytest.raises(nn.InputError, match=message):
        assert_counts_match_rates(**given_)


def test_little_data_is_refused_where_power_is_asked_for():
    for kind, counts in {
        "regular": [10, 20],
        "poisson": [10, 20],
        "noisy": np.tile([10, 20], (9, 1)),
    }.items():
        assert_counts_match_rates(counts, [50.0, 100.0], 0.2, kind)
        with pytest.raises(nn.InputError, match="enough spikes to detect weights off by 2 %, got"):
            assert_counts_match_rates(counts, [50.0, 100.0], 0.2, kind, must_detect=0.02)
    assert_counts_match_rates([10, 200], [50.0, 1000.0], 0.2, must_detect=0.02)


# -- probes ---------------------------------------------------------------------------------------


def test_counts_from_probe_counts_areas():
    raster = np.array([[[0, 1], [3, 0], [2, 1]]])
    data = raster * (0.05 / 0.002)
    np.testing.assert_array_equal(counts_from_probe(data, 0.002, 0.05), [[5, 2]])
    np.testing.assert_array_equal(counts_from_probe(data, 0.002, 0.05, per_step=True), raster)
    single = counts_from_probe(data.astype(np.float32), 0.002, 0.05)
    np.testing.assert_array_equal(single, [[5, 2]])
    assert single.dtype == np.int64


@pytest.mark.parametrize(
    "data, message",
    [
        (
            np.array([[0, 0], [0, 50.0]]),
            "got 50, which is 0.05 spikes, in step 1 of neuron 1; .* amplitude 0.05",
        ),
        (1000 * np.exp(-np.arange(9.0))[:, None], "a filtered probe or a rate neuron"),
        (np.array([[0.0], [-1001.0]]), "values below 0 are spikes of Tanh neurons, wrapped, or no"),
        (np.zeros(4), r"data: expected \(..., n_steps, n_neurons\).* got \(4,\)"),
    ],
)
def test_data_that_are_no_spikes_are_named(data, message):
    with pytest.raises(nn.InputError, match=message):
        counts_from_probe(data, 0.001)


def test_bad_dt_and_amplitude_are_named():
    with pytest.raises(nn.InputError, match="dt: expected seconds"):
        counts_from_probe(np.zeros((2, 2)), 0.0)
    with pytest.raises(nn.InputError, match="amplitude: expected a spike's area"):
        counts_from_probe(np.zeros((2, 2)), 0.001, -1.0)


# -- the same spikes ------------------------------------------------------------------------------

RASTER = np.random.default_rng(5).poisson(0.1, (3, 60, 8))
OTHER = np.random.default_rng(6).poisson(0.1, (3, 60, 8))


def changed(values, index, by=1):
    values = values.copy()
    values[index] += by
    return values


@pytest.mark.parametrize(
    "a, b, message",
    [
        (
            np.arange(200).reshape(2, 100),
            changed(np.arange(200).reshape(2, 100), (1, 7)),
            r"1 of 200 values differ\nfirst: image 1, neuron 7: 107 and 108\n.*rounding",
        ),
        (RASTER[0, 0] + 1, changed(RASTER[0, 0] + 1, 3, 2), r"first: neuron 3: "),
        (RASTER, changed(RASTER, (2, 11, 4)), "first: image 2, step 11, neuron 4"),
        (RASTER, np.roll(RASTER, 1, axis=1), "b is later by one step: a synapse"),
        (np.roll(RASTER, 5, axis=1), RASTER, "a is later by 5 steps"),
        (RASTER, np.roll(RASTER, 1, axis=2), "the layer is shifted by one neuron"),
        (RASTER, np.roll(RASTER, -1, axis=2), "the layer is shifted by one neuron"),
        (RASTER, RASTER[..., [3, 1, 0, 2, 7, 6, 5, 4]], "another order of the neurons"),
        (RASTER, RASTER[[2, 0, 1]], "another order of the images"),
        (RASTER, 0 * RASTER, "b has no spike at all"),
        (0 * RASTER, RASTER, "a has no spike at all"),
        (RASTER, 1000.0 * RASTER, "b is 1000 times a: another amplitude"),
        (RASTER, RASTER[:, ::-1], "the counts are the same and the times are not"),
        (ROUNDED, np.rint(1.02 * RATES), r"b has \+2 % spikes"),
        (RASTER, OTHER, "none of the known patterns"),
    ],
)
def test_different_spikes_are_explained(a, b, message):
    assert_same_spikes(a, a)
    assert_same_spikes(a, a.astype(float))
    with pytest.raises(AssertionError, match=message):
        assert_same_spikes(a, b)


def test_some_may_differ_and_axes_may_be_named():
    b = changed(changed(RASTER, (0, 3, 1)), (1, 2, 3))
    assert_same_spikes(RASTER, b, max_differing=2)
    with pytest.raises(AssertionError, match=r"2 of 1440 values differ \(allowed: 1\)"):
        assert_same_spikes(RASTER, b, max_differing=1)
    with pytest.raises(AssertionError, match="first: step 3, neuron 1"):
        assert_same_spikes(RASTER[0], b[0], axes=("step", "neuron"))


@pytest.mark.parametrize(
    "a, b, settings, message",
    [
        ([1, 2], [1, 2, 3], {}, r"expected the same shape, got \(2,\) and \(3,\)"),
        ([1, np.inf], [1, 2], {}, "a: expected finite values"),
        ([1], [1], {"max_differing": -1}, "max_differing: expected a whole number"),
        ([1], [1], {"axes": ("step", "neuron")}, r"axes: expected 1 names, for shape \(1,\)"),
    ],
)
def test_bad_comparisons_are_named(a, b, settings, message):
    with pytest.raises(nn.InputError, match=message):
        assert_same_spikes(a, b, **settings)


def test_a_network_gives_the_same_spikes_twice_and_others_with_a_fault():
    kernel, pixels = random_layer(0)
    first = run_layer(nengo.LIF(), kernel, pixels, gain=2.0, bias=1.0)
    axes = ("step", "neuron")
    assert_same_spikes(first, run_layer(nengo.LIF(), kernel, pixels, gain=2.0, bias=1.0), axes=axes)
    for fault in FAULTS:
        faulty, gain = with_fault(kernel, 2.0, fault)
        other = run_layer(nengo.LIF(), faulty, pixels, gain=gain, bias=1.0)
        with pytest.raises(AssertionError, match="values differ"):
            assert_same_spikes(first, other, axes=axes)


# -- the module -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["regular", "poisson", "noisy"])
@pytest.mark.parametrize("steps", [False, True])
def test_spikes_below_0_are_held_to_their_rates(kind, steps):
    wrapper = {"regular": nengo.RegularSpiking, "poisson": nengo.PoissonSpiking}
    wrapper = wrapper.get(kind, nengo.StochasticSpiking)
    currents = np.linspace(-2, 2, 21)
    rates = 400 * np.tanh(currents)
    runs = []
    for seed in range(12 if kind == "noisy" else 1):
        with nengo.Network(seed=seed) as network:
            ensemble = nengo.Ensemble(
                21,
                1,
                neuron_type=wrapper(nengo.Tanh(), amplitude=0.02),
                gain=np.ones(21),
                bias=currents,
            )
            probe = nengo.Probe(ensemble.neurons, synapse=None)
        with nengo.Simulator(network, progress_bar=False) as simulator:
            simulator.run_steps(500, progress_bar=False)
        data = simulator.data[probe]
        runs.append(counts_from_probe(data, 0.001, 0.02, per_step=steps))
    counts = np.stack(runs) if kind == "noisy" else runs[0]
    settings = {"kind": kind, "dt": 0.001 if steps else None}
    assert counts.min() < 0 < counts.max()
    assert_counts_match_rates(counts, rates, 0.5, **settings)
    for wrong in (np.abs(rates), -rates, 1.5 * rates):
        with pytest.raises(AssertionError, match="counts do not match"):
            assert_counts_match_rates(counts, wrong, 0.5, **settings)
    below = np.where(rates < 0, 1.2 * rates, rates)
    named = r"neuron \d+ \(below 0\)" if kind == "regular" else "total: all neurons"
    with pytest.raises(AssertionError, match=named):
        assert_counts_match_rates(counts, below, 0.5, **settings)


def test_differences_that_cancel_are_named_without_a_warning():
    with pytest.raises(AssertionError, match="1 of 2 values differ"):
        assert_same_spikes([1.0, -1.0], [1.0, 1.0])
    with pytest.raises(AssertionError, match="b has no spike at all"):
        assert_same_spikes([1.0, -1.0], [0.0, 0.0])


def neurons_that_inhibit_each_other(weight, **settings):
    with nengo.Network(seed=1):
        layer = nn.constant_input((6,))
        layer = nn.dense(layer, np.eye(6), nengo.LIF(), gain=3.0, label="layer")
        transform = weight * (np.ones((6, 6)) - np.eye(6))
        nengo.Connection(layer.output, layer.output, transform=transform, synapse=0.02)
    images = np.linspace(0.6, 1.0, 12).reshape(2, 6)
    return layer, images, nn.fixed_point(layer, images, **settings)


def test_a_run_is_held_to_its_fixed_point():
    layer, images, point = neurons_that_inhibit_each_other(-0.002)
    result = nn.present(layer.network, layer, images, presentation_time=6.0, progress=False)
    assert_at_rest(result, point, rms=4.0)
    off = point.rates["layer"] + 3.0
    assert_at_rest({"layer": off}, point, rms=3.01)
    with pytest.raises(
        AssertionError, match=r"(?s)layer: .* are 3 Hz \(RMS\).*allowed: 2.9.*known pat"
    ):
        assert_at_rest({"layer": off}, point, rms=2.9)
    with pytest.raises(nn.InputError, match="rms: expected"):
        assert_at_rest({"layer": off}, point, rms=0)


def test_a_run_is_not_held_to_what_it_leaves_or_need_not_reach():
    _, _, point = neurons_that_inhibit_each_other(-0.05)
    with pytest.raises(AssertionError, match="cause: a run that came to rest elsewhere"):
        assert_at_rest({"layer": point.rates["layer"][:, ::-1]}, point, rms=1.0)
    with nengo.Network(seed=1):
        layer = nn.dense(nn.constant_input((1,)), [[1.0]], nengo.RectifiedLinear(), gain=1.0)
        nengo.Connection(layer.output, layer.output, transform=-3.0, synapse=0)
    point = nn.fixed_point(layer, np.ones((1, 1)))
    with pytest.raises(AssertionError, match="got an unstable one for 1 of 1"):
        assert_at_rest(point.rates, point, rms=1.0)
