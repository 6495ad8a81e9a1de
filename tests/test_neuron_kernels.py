"""Numba's steps for lists and for steady currents, compared with single neurons."""

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.neurons import model_of

DT = 0.001
DTYPES = (np.float32, np.float64)
LIFS = {
    "LIF": nengo.LIF(),
    "deep": nengo.LIF(min_voltage=-0.7, tau_ref=0.0005),
    "without refractory time": nengo.LIF(tau_ref=0),
    "short": nengo.LIF(tau_rc=0.002),  # whose exponentials are not near 0
    "adaptive": nengo.AdaptiveLIF(tau_n=0.03, inc_n=0.05, amplitude=0.2),
}
INTEGRATORS = {
    "signed": nn.IntegrateAndFire(),
    "clipped": nn.IntegrateAndFire(min_voltage=-0.25),
    "stock": nengo.SpikingRectifiedLinear(),
}


def constants_of(neuron_type, dtype):
    kernel = model_of(neuron_type).kernel
    return kernel, kernel.constants(neuron_type, DT, np.dtype(dtype))


def by_event(kernel, current, states, constants):
    """Step a row neuron by neuron; return spikes, and whether all values are numbers."""
    marks = np.zeros(len(current), np.uint8)
    kernel.usual(current, marks, states, 0, constants)
    spikes = marks.astype(float) if kernel.counts_spikes else np.zeros(len(current))
    valid = True
    for k in np.flatnonzero(marks == 255 if kernel.counts_spikes else marks):
        spikes[k], is_number = kernel.event(current, states, 0, k, constants)
        valid &= bool(is_number)
    return spikes, valid


def by_lists(kernel, current, states, constants):
    """Step a row as lists."""
    marks, memory = np.zeros(len(current), np.uint8), np.empty_like(current)
    kernel.usual(current, marks, states, 0, constants)
    which = np.flatnonzero(marks == 2)
    kernel.resume(current, states, 0, which, len(which), marks, memory, constants)
    assert set(marks) <= {0, 1}
    which = np.flatnonzero(marks)
    valid = kernel.spike(current, states, 0, which, len(which), memory, constants)
    return marks.astype(float), bool(valid)


def assert_same(one, other):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LIFS)
def test_lists_of_neurons_are_stepped_as_single_ones(name, dtype):
    kernel, constants = constants_of(LIFS[name], dtype)
    rng, n = np.random.default_rng(5), 40
    states = tuple(np.zeros((1, n), dtype) for _ in kernel.states)
    states[0][:] = rng.uniform(-0.5, 1.2, n)
    states[1][:] = rng.choice([0, 0.0004, 0.001, 0.0023], n)
    others = tuple(each.copy() for each in states)
    total = 0
    for _ in range(60):
        current = rng.uniform(-2, 40, n).astype(dtype)
        expected, valid = by_event(kernel, current.copy(), states, constants)
        found, is_valid = by_lists(kernel, current.copy(), others, constants)
        assert valid
        assert is_valid
        np.testing.assert_array_equal(found, expected)
        assert_same(others, states)
        total += expected.sum()
    assert total > 150


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
@pytest.mark.parametrize("state", [0, 1])
@pytest.mark.parametrize("refractory", [0.0, 0.0005, 0.01])
def test_voltages_that_are_no_numbers_are_found_in_lists(refractory, state):
    kernel, constants = constants_of(nengo.LIF(), np.float64)
    states = np.zeros((1, 4)), np.full((1, 4), refractory)
    states[state][0, 2] = np.nan
    others = tuple(each.copy() for each in states)
    current = np.full(4, 3.0)
    expected, valid = by_event(kernel, current, states, constants)
    found, is_valid = by_lists(kernel, current, others, constants)
    assert is_valid == valid == (state == 1)
    if valid:
        np.testing.assert_array_equal(found, expected)
        assert_same(others, states)


def edge(value, dtype):
    """Return the next smaller number."""
    return np.nextafter(dtype(value), dtype(-9))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", INTEGRATORS)
def test_steady_currents_are_integrated_faster_and_alike(name, dtype):
    kernel, constants = constants_of(INTEGRATORS[name], dtype)
    rng, n = np.random.default_rng(6), 60
    current = (rng.uniform(-1, 1, n) / DT).astype(dtype)
    added = np.array([edge(1, dtype), 0.5, 0, edge(1, dtype)], dtype)
    current[:4] = np.where(added == edge(1, dtype), edge(1 / DT, dtype), added / DT)
    states = (rng.uniform(0 if name == "stock" else -3, 1, (1, n)).astype(dtype),)
    states[0][0, :4] = edge(1, dtype), 0.5, 0, 0
    other = (states[0].copy(),)
    steady = current.copy()
    # The number below 1 / dt, times dt, may be 1: not in these bits.
    while dtype(steady[0]) * constants[0] >= 1:
        steady[[0, 3]] = current[[0, 3]] = edge(current[0], dtype)
    assert kernel.simplify(steady, other, 0, constants)
    marks, total = np.zeros(n, np.uint8), 0
    for _ in range(40):
        expected, valid = by_event(kernel, current, states, constants)
        kernel.simple(steady, marks, other, 0, constants)
        assert valid
        np.testing.assert_array_equal(marks, expected)
        assert_same(other, states)
        total += expected.sum()
    assert 300 < total < 40 * n


@pytest.mark.parametrize("name", INTEGRATORS)
@pytest.mark.parametrize(
    "current, voltage", [(1024, 0), (-1, 1), (np.nan, 0), (0, np.nan), (2.0**20, 0.5)]
)
def test_steps_that_bring_more_than_one_spike_are_not_simple(current, voltage, name):
    kernel = model_of(INTEGRATORS[name]).kernel
    constants = kernel.constants(INTEGRATORS[name], 2.0**-10, np.dtype(np.float32))
    currents, voltages = np.zeros(7, np.float32), np.zeros((1, 7), np.float32)
    assert kernel.simplify(currents, (voltages,), 0, constants)
    currents[3], voltages[0, 3] = current, voltage
    before = currents.copy()
    assert not kernel.simplify(currents, (voltages,), 0, constants)
    np.testing.assert_array_equal(currents, before)


def test_nengos_rectifier_takes_the_floor_of_a_voltage_below_0():
    for name in INTEGRATORS:
        kernel, constants = constants_of(INTEGRATORS[name], np.float64)
        is_simple = kernel.simplify(np.ones(3), (np.full((1, 3), -0.5),), 0, constants)
        assert bool(is_simple) == (name != "stock")


def sleepers_of(neuron_type, dtype, horizon, seed):
    """Return what `wake` marks, and which of these neurons then have an event or a spike."""
    kernel, constants = constants_of(neuron_type, dtype)
    rng, n, names = np.random.default_rng(seed), 400, kernel.states
    is_lif = "refractory_time" in names
    # Most are near the current below which nothing spikes; the rest is far from it.
    edge_of_current = 1.0 if is_lif else 0.7 / (horizon * DT)
    current = edge_of_current * (1 + rng.normal(0, 1e-3, n))
    current[::4] = rng.normal(0, 2 * edge_of_current, len(current[::4]))
    current[:4] = -np.inf, np.nan, -1e30, edge_of_current
    states = [np.zeros((1, n), dtype) for _ in names]
    voltage = states[0][0]
    voltage[:] = rng.choice([0, 0.3, -0.4, -5, 0.999, 1.2], n, p=[0.5, 0.3, 0.1, 0.04, 0.03, 0.03])
    if is_lif:
        states[1][0] = rng.choice([0, 0.0004, 0.0023, 0.09], n)
    if "adaptation" in names:
        states[2][0] = rng.choice([0, 0.1, 0.7, -0.5, 40], n, p=[0.5, 0.2, 0.2, 0.05, 0.05])
    current = current.astype(dtype)
    marks = np.full(n, 7, np.uint8)
    before = [current.copy(), *(each.copy() for each in states)]
    kernel.wake(current, marks, states, 0, horizon, constants)
    assert_same([current, *states], before)
    assert set(marks) <= {0, 1}
    assert marks[voltage > 1].all()
    if is_lif:
        voltage[voltage > 1] = 0  # below the threshold, their step would be an error
    acts = np.zeros(n, bool)
    for _ in range(horizon):
        found = np.zeros(n, np.uint8)
        kernel.usual(current.copy(), found, [each.copy() for each in states], 0, constants)
        # A neuron that leaves its refractory time is stepped by itself, but need not spike.
        acts |= (found == 255) | np.isnan(states[0][0])
        spikes, _ = by_event(kernel, current.copy(), states, constants)
        acts |= spikes != 0
    return current < 0.997 * edge_of_current, marks == 1, acts


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero", "ignore:overflow")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("horizon", [1, 23, 160])
@pytest.mark.parametrize("name", [*LIFS, *INTEGRATORS, "fast adaptation"])
def test_neurons_that_are_left_out_would_never_spike(name, horizon, dtype):
    types = LIFS | INTEGRATORS | {"fast adaptation": nengo.AdaptiveLIF(tau_n=0.0004, inc_n=0.3)}
    for seed in range(3):
        is_low, is_awake, acts = sleepers_of(types[name], dtype, horizon, seed)
        assert not (acts & ~is_awake).any()
        assert acts.sum() > 10 or horizon == 1
        # Most of those that do nothing are left out, unless adaptation may change its sign.
        still = is_low & ~acts
        assert still.sum() > 30
        assert (~is_awake & still).sum() >= (0 if name == "fast adaptation" else 0.8) * still.sum()


def test_the_neurons_of_a_dark_image_are_left_out():
    for name, neuron_type in (LIFS | INTEGRATORS).items():
        kernel, constants = constants_of(neuron_type, np.float32)
        current, marks = np.array([-3.0, 0, 0.99, 1.01, 1e4], np.float32), np.zeros(5, np.uint8)
        states = [np.zeros((1, 5), np.float32) for _ in kernel.states]
        kernel.wake(current, marks, states, 0, 200, constants)
        assert marks.tolist() == ([0, 0, 0, 1, 1] if name in LIFS else [0, 0, 0, 0, 1])
