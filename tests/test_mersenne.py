"""Kernels draw the same numbers from a ``RandomState`` as NumPy, so spikes equal Nengo's."""

import nengo
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from nengonet.minibatch import mersenne

# Means of a step: the method changes at 10, and what is known of a mean at 64.
MEANS = [0.0, 1e-300, 1e-9, 0.5, 9.9, np.nextafter(10, 0), 10.0, 25.5, 63.9, 64.0, 64.1, 1e3, 1e9]
TYPES = {"poisson": nengo.PoissonSpiking, "random_sample": nengo.StochasticSpiking}


def states(seed, n):
    return [np.random.RandomState([seed % 2**32, seed // 2**32, b]) for b in range(n)]


def assert_same_states(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        # What is left of each block of numbers, and the numbers that follow.
        assert one.get_state()[2] == other.get_state()[2]
        np.testing.assert_array_equal(one.get_state()[1], other.get_state()[1])


def drawn(neurons, rates, streams, dt=0.001):
    """Return the outputs of the type's own step, step by step."""
    output = np.empty_like(rates)
    for rng, example, out in zip(streams, rates, output, strict=True):
        for now, then in zip(example, out, strict=True):
            neurons.step(dt, now, then, rng=rng)
    return output


def assert_same_draws(neurons, draws, rates, seed, dt=0.001, n_calls=2):
    ours, theirs = (states(seed, len(rates)) for _ in range(2))
    output = np.full_like(rates, np.nan)
    for _ in range(n_calls):
        drawing = mersenne.Drawing(neurons, draws, dt, rates.dtype)
        drawing.draw(rates, output, mersenne.addresses_of(ours))
        np.testing.assert_array_equal(output, drawn(neurons, rates, theirs, dt))
    assert_same_states(ours, theirs)
    return output


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**60),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 40)),
    steady=st.sampled_from([0.0, 0.5, 1.0]),
    bits=st.sampled_from([32, 64]),
    draws=st.sampled_from(sorted(TYPES)),
    base=st.sampled_from([nengo.RectifiedLinear(), nengo.Tanh()]),
    amplitude=st.sampled_from([1.0, 0.3, 1 / 400]),
    dt=st.sampled_from([0.001, 0.0007, 0.25, np.float64(0.001)]),
)
def test_spikes_and_states_are_those_of_the_types_own_step(
    seed, shape, steady, bits, draws, base, amplitude, dt
):
    rng = np.random.default_rng(seed)
    rates = rng.choice(np.array(MEANS[: -1 if draws == "random_sample" else None]) / dt, shape)
    if base.negative:
        rates *= rng.choice([-1, 1], shape)
    for step in range(1, shape[1]):
        if rng.random() < steady:
            rates[:, step] = rates[:, step - 1]
    neurons = TYPES[draws](base, amplitude=amplitude)
    assert_same_draws(neurons, draws, rates.astype(f"f{bits // 8}"), seed, dt)


@pytest.mark.parametrize("peak", [9.99, 12.0, 30.0, 64.0, 100.0, 3000.0])
def test_a_hundred_thousand_counts_of_steady_rates(peak):
    """Stored probabilities decide as NumPy does, even for numbers very close to them."""
    rates = np.tile(np.geomspace(peak / 4, peak, 250)[np.newaxis, np.newaxis], (2, 200, 1)) / 0.001
    output = assert_same_draws(nengo.PoissonSpiking(nengo.RectifiedLinear()), "poisson", rates, 5)
    assert len(np.unique(output)) > 10


@pytest.mark.parametrize("draws", sorted(TYPES))
def test_a_call_may_end_anywhere_in_a_block_of_numbers(draws):
    """Numbers of the next block are made before those of this one are used up."""
    rng, neurons = np.random.default_rng(4), TYPES[draws](nengo.RectifiedLinear())
    ours, theirs = (np.random.RandomState(8) for _ in range(2))
    used = set()
    for _ in range(1500):
        n = rng.integers(1, 4)
        rates = np.tile(rng.choice([0.0, 2.0, 9.0, 15.0, 70.0], (1, 1, n)) / 0.001, (1, 2, 1))
        output = np.empty((1, 3, n))
        drawing = mersenne.Drawing(neurons, draws, 0.001, rates.dtype)
        # Three steps of steady rates, and then the means of a single step.
        for shown, out in ((rates[:, :1], output), (rates, output[:, :2])):
            drawing.draw(shown, out, mersenne.addresses_of([ours]))
            expected = drawn(neurons, np.tile(rates[:, :1], (1, out.shape[1], 1)), [theirs])
            np.testing.assert_array_equal(out, expected)
        assert_same_states([ours], [theirs])
        used.add(ours.get_state()[2])
    assert {2, 4, 6, 8, 10, 616, 618, 620, 622, 624} <= used


def test_more_means_than_a_table_holds():
    rates = np.random.default_rng(6).uniform(0, 40, (9, 1, 300)) / 0.001
    neurons, output = nengo.PoissonSpiking(nengo.RectifiedLinear()), np.empty((9, 4, 300))
    ours, theirs = states(3, 9), states(3, 9)
    drawing = mersenne.Drawing(neurons, "poisson", 0.001, rates.dtype)
    drawing.draw(rates, output, mersenne.addresses_of(ours))
    np.testing.assert_array_equal(output, drawn(neurons, np.tile(rates, (1, 4, 1)), theirs))
    assert_same_states(ours, theirs)


@pytest.mark.parametrize("draws", sorted(TYPES))
def test_a_single_step_stands_for_all_and_copies_stand_for_states(draws):
    rates = np.random.default_rng(1).choice(np.array(MEANS[:-1]) / 0.001, (3, 1, 50))
    neurons = TYPES[draws](nengo.RectifiedLinear())
    ours, theirs = states(1, 3), states(1, 3)
    words, output = mersenne.copies_of(ours), np.empty((3, 20, 50))
    drawing = mersenne.Drawing(neurons, draws, 0.001, rates.dtype)
    drawing.draw(rates, output, mersenne.addresses_in(words))
    assert_same_states(ours, theirs)
    np.testing.assert_array_equal(output, drawn(neurons, np.tile(rates, (1, 20, 1)), theirs))
    mersenne.put_back(words, ours)
    assert_same_states(ours, theirs)


@pytest.mark.parametrize("refused", [-1.0, np.nan, 1e30, np.inf])
@pytest.mark.parametrize("negative", [False, True])
def test_rates_that_numpy_refuses_are_its_error(refused, negative):
    neurons = nengo.PoissonSpiking(nengo.Tanh() if negative else nengo.RectifiedLinear())
    rates = np.full((2, 3, 4), 5.0)
    rates[1, 1, 2] = refused
    if negative and refused == -1:
        assert_same_draws(neurons, "poisson", rates, 0)
        return
    with pytest.raises(ValueError, match="lam") as theirs:
        drawn(neurons, rates, states(0, 2))
    drawing, streams = mersenne.Drawing(neurons, "poisson", 0.001, rates.dtype), states(0, 2)
    with pytest.raises(ValueError, match="lam") as ours:
        drawing.draw(rates, np.empty_like(rates), mersenne.addresses_of(streams))
    assert str(ours.value) == str(theirs.value)


def test_numpy_draws_where_it_draws_other_numbers(monkeypatch):
    def can_draw(bits, streams):
        return mersenne.can_draw(np.dtype(f"f{bits // 8}"), streams)

    streams = states(0, 2)
    assert can_draw(64, streams)
    assert can_draw(32, streams)
    assert not can_draw(16, streams)
    streams[1].randint(2**32, dtype=np.uint32)  # half a double
    assert not can_draw(64, streams)

    class Tomorrow(np.random.RandomState):
        def poisson(self, *args):
            return super().poisson(*args) + 1

    class Elsewhere(np.random.RandomState):
        def get_state(self, legacy=True):
            name, words, *rest = super().get_state()
            return name, words + np.uint32(1), *rest

    for cls in (Tomorrow, Elsewhere):
        mersenne.is_numpys.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(np.random, "RandomState", cls)
            assert not mersenne.is_numpys()
            assert not can_draw(64, states(0, 1))
        mersenne.is_numpys.cache_clear()
    assert mersenne.is_numpys()
