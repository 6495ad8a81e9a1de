"""A kernel draws the same random numbers as NumPy, number by number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nengonet.layers.inputs import BLOCK_STEPS, draw_events
from nengonet.minibatch import inputs
from nengonet.minibatch.acceleration import load_kernels
from nengonet.minibatch.records import OutputRecord
from nengonet.streams import example_rng

pytest.importorskip("numba")

from nengonet.minibatch import drawing


def drawn(rates, seed, examples, n_blocks, kernels):
    """Return pixels and bounds of some blocks, and the totals over all of them."""
    events = inputs.PoissonEvents(rates, 2.0, examples, seed, 0.001, kernels)
    record, blocks = OutputRecord(steps=False), []
    record.restart(rates.shape, rates.dtype)
    for _ in range(n_blocks):
        events.stretch(BLOCK_STEPS)
        used = events.bounds[-1, -1]
        blocks.append((events.pixels[:used].copy(), events.bounds.copy()))
        events._add_to(record)
    return blocks, record.total


def assert_same(ours, theirs):
    for (pixels, bounds), (other_pixels, other_bounds) in zip(ours[0], theirs[0], strict=True):
        np.testing.assert_array_equal(bounds, other_bounds)
        np.testing.assert_array_equal(pixels, other_pixels)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**70),
    first=st.integers(0, 2**40),
    # 100 Hz is a mean of 10 in a block, where NumPy's method changes.
    peak=st.sampled_from([0.01, 1.0, 99.999, 100.0, 255.0, 1000.0, 25_500.0]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 30)),
)
def test_the_kernels_draw_what_numpy_draws(seed, first, peak, shape):
    rates = peak * np.random.default_rng(first).choice([0.0, 0.1, 0.5, 1.0], shape)
    examples = first + np.arange(shape[0])
    assert_same(
        drawn(rates, seed, examples, 4, load_kernels(True)), drawn(rates, seed, examples, 4, None)
    )


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32])
@pytest.mark.parametrize("examples", [[0], [0, 1, 17, 9999, 2**31, 2**32 - 1], [5, 2**32]])
def test_streams_begin_as_numpys(seed, examples):
    expected = [drawing.state_of(example_rng(seed, example)) for example in examples]
    assert drawing.first_states(seed, np.array(examples)).tolist() == expected


def test_a_hundred_thousand_counts_and_the_state_are_numpys():
    means = np.tile(np.geomspace(1e-3, 3e3, 1000), 100)
    pixels = np.arange(len(means), dtype=np.int32)
    ours, theirs = example_rng(3, 4), example_rng(3, 4)
    states = np.array([drawing.state_of(ours)], np.uint64)
    counts, bounds = np.empty(len(means), np.int64), np.empty((1, BLOCK_STEPS + 1), np.int64)
    firsts = np.array([0, len(means)])
    ordered = drawing.draw_block(
        states, pixels, means, firsts, counts, bounds, np.empty(1, np.int32)
    )
    steps, spiking = draw_events(pixels, means, theirs)
    np.testing.assert_array_equal(counts, np.bincount(spiking, minlength=len(means)))
    np.testing.assert_array_equal(np.diff(bounds[0]), np.bincount(steps, minlength=BLOCK_STEPS))
    np.testing.assert_array_equal(ordered[: len(steps)], spiking[np.argsort(steps, kind="stable")])
    assert drawing.state_of(theirs) == states[0].tolist()


def test_half_a_random_number_that_is_left_over_is_used():
    for n_spent in (1, 2):
        ours, theirs = example_rng(0, 1), example_rng(0, 1)
        for rng in (ours, theirs):
            rng.integers(BLOCK_STEPS, size=n_spent)
        states = np.array([drawing.state_of(ours)], np.uint64)
        assert states[0, 4] == n_spent % 2
        steps, bound = np.empty(7, np.uint16), np.zeros(BLOCK_STEPS + 1, np.int64)
        drawing._draw_steps(np.uint64(BLOCK_STEPS), states[0], steps, bound)
        np.testing.assert_array_equal(steps, theirs.integers(BLOCK_STEPS, size=7))


def test_steps_that_would_come_too_often_are_drawn_again():
    n_steps, n_events = 65_000, 4_000_000
    refused = 2**32 % n_steps / 2**32 * n_events
    assert refused > 20  # so many are expected: not one has a chance of 1e-9
    ours, theirs = example_rng(0, 2), example_rng(0, 2)
    state = np.array(drawing.state_of(ours), np.uint64)
    steps, bound = np.empty(n_events, np.uint16), np.zeros(n_steps + 1, np.int64)
    drawing._draw_steps(np.uint64(n_steps), state, steps, bound)
    np.testing.assert_array_equal(steps, theirs.integers(n_steps, size=n_events))
    assert drawing.state_of(theirs) == state.tolist()


def test_numpy_draws_where_it_draws_other_numbers(monkeypatch):
    drawing.is_numpys.cache_clear()
    assert drawing.is_numpys()
    monkeypatch.setattr(
        drawing, "draw_events", lambda *lit: draw_events(*lit[:-1], rng_of_tomorrow)
    )
    rng_of_tomorrow = np.random.default_rng(1)
    drawing.is_numpys.cache_clear()
    try:
        assert not drawing.is_numpys()
        rates = np.full((2, 3), 255.0)
        events = inputs.PoissonEvents(rates, 1.0, np.arange(2), 0, 0.001, load_kernels(True))
        assert isinstance(events._draws, inputs._NumPyDraws)
    finally:
        drawing.is_numpys.cache_clear()


def test_part_of_a_block_is_added_up_event_by_event():
    rates, examples = np.full((2, 5), 2000.0), np.arange(2)
    events = inputs.PoissonEvents(rates, 0.5, examples, 0, 0.001, load_kernels(True))
    events.stretch(30)
    record = OutputRecord(steps=False)
    record.restart(rates.shape, rates.dtype)
    events._add_to(record)
    expected = [
        0.5 * np.bincount(events.pixels[bound[0] : bound[30]], minlength=5)
        for bound in events.bounds
    ]
    np.testing.assert_allclose(record.total, expected)
