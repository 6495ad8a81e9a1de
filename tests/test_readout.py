import subprocess
import sys

import nengo
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import nengonet as nn
from nengonet.results.readout import (
    READOUTS,
    accuracy,
    as_small,
    classes,
    cross_entropy,
    scores,
    share_interval,
    spike_counts,
    wilson_interval,
)

DT = 0.001
# Two classes over four steps, by hand: class 0 spikes at step 1, class 1 twice at step 2 and
# once at step 4.
SPIKES = np.array([[[1, 0], [0, 2], [0, 0], [0, 1]]], dtype=float)


def final(name, outputs=SPIKES / DT, **settings):
    return scores(outputs, name, dt=DT, **settings)[0, -1]


@pytest.mark.parametrize(
    "statement",
    [
        "import nengonet as nn; nn.readout.accuracy",
        "from nengonet import readout; readout.accuracy",
        "from nengonet.readout import accuracy",
    ],
)
def test_the_public_name_is_found_before_anything_else_is_imported(statement):
    subprocess.run([sys.executable, "-c", statement], check=True)


def test_readouts_by_hand():
    np.testing.assert_array_equal(final("spike_count"), [1, 3])
    np.testing.assert_allclose(final("sum"), [1, 3])
    np.testing.assert_allclose(final("mean"), [250, 750])
    np.testing.assert_allclose(final("last_step"), [0, 1000])
    np.testing.assert_array_equal(final("first_spike"), [0, -1])
    np.testing.assert_array_equal(final("steps_after_first_spike"), [3, 2])
    decay = np.exp(-DT / 0.002)
    first, second = decay**2 * (1 - decay) / DT, 2 * decay * (1 - decay) / DT
    np.testing.assert_allclose(final("filtered", tau=0.002), [first, second])


def test_scores_over_time_are_those_of_shorter_presentations():
    outputs = np.random.default_rng(0).poisson(0.3, size=(5, 40, 3)) / DT
    for name in READOUTS:
        whole = scores(outputs, name, dt=DT)
        for n_steps in (1, 17, 40):
            np.testing.assert_allclose(
                whole[:, n_steps - 1], scores(outputs[:, :n_steps], name, dt=DT)[:, -1]
            )


@pytest.mark.parametrize("amplitude", [1.0, 0.01, 7.0])
def test_spikes_are_counted_by_area(amplitude):
    outputs = SPIKES * amplitude / DT
    np.testing.assert_array_equal(spike_counts(outputs, DT, amplitude), SPIKES)
    np.testing.assert_array_equal(final("spike_count", outputs, amplitude=amplitude), [1, 3])


@pytest.mark.parametrize("count", [2**14 - 1, 2**14, 2**15 - 1, 2**15])
def test_two_small_counts_can_be_added(count):
    small = as_small(np.array([count, 0]))
    assert small.dtype == (np.int16 if count < 2**14 else np.int64)
    assert list(small + small) == [2 * count, 0]


def test_filtered_and_posted_readouts_are_nengos_probe():
    with nengo.Network(seed=1) as network:
        ensemble = nengo.Ensemble(
            5, 1, neuron_type=nengo.LIF(), gain=np.ones(5), bias=np.linspace(0.5, 6, 5)
        )
        raw = nengo.Probe(ensemble.neurons, synapse=None)
        filtered = nengo.Probe(ensemble.neurons, synapse=0.1)
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run(0.3)
        outputs, expected = simulator.data[raw], simulator.data[filtered]
    np.testing.assert_allclose(scores(outputs, "filtered"), expected, atol=1e-9)
    np.testing.assert_array_equal(
        scores(outputs, "steps_after_first_spike")[-1], (expected > 0).sum(axis=0)
    )


def test_silent_classes_come_last_in_first_spike():
    outputs = np.zeros((1, 4, 3))
    outputs[0, 2, 1] = 1 / DT
    np.testing.assert_array_equal(final("first_spike", outputs), [-np.inf, -2, -np.inf])


def test_ties_are_reported_and_the_lowest_class_wins():
    found, tied = classes(np.array([[3.0, 1, 3], [0, 0, 0], [1, 2, 1], [-np.inf, -2, -np.inf]]))
    np.testing.assert_array_equal(found, [0, 0, 1, 1])
    np.testing.assert_array_equal(tied, [True, True, False, False])


def test_readouts_of_layers_without_spikes():
    with pytest.raises(nn.InputError, match="expected one for a last layer without spikes"):
        scores(SPIKES, "spike_count", amplitude=None)
    with pytest.raises(nn.InputError, match="readout: expected one of spike_count, .* 'median'"):
        scores(SPIKES, "median")
    np.testing.assert_allclose(final("mean", SPIKES, amplitude=None), [0.25, 0.75])


def test_cross_entropy_by_hand():
    logits = np.log([[[1, 3], [1, 1]], [[7, 1], [1, 1]]])
    expected = -np.log([[3 / 4, 1 / 2], [1 / 8, 1 / 2]])
    np.testing.assert_allclose(cross_entropy(logits, [[1, 1], [1, 0]]), expected)
    np.testing.assert_allclose(cross_entropy(logits, 1), expected)
    np.testing.assert_allclose(cross_entropy([1e6, 0.0], 1), 1e6)  # no overflow
    for labels in ([1], [1, 0, 1], [[[1]]]):
        with pytest.raises(nn.InputError, match=r"labels: expected shape \(2, 2\), one for each"):
            cross_entropy(logits, labels)


def test_interval_is_wilsons():
    # Wilson (1927) for 8 of 10: (0.4901625, 0.9433178), as statsmodels' proportion_confint gives
    found = accuracy(np.arange(10), np.r_[np.arange(8), 0, 0])
    assert found.value == 0.8
    assert float(found) == 0.8
    np.testing.assert_allclose(found.interval, (0.4901625, 0.9433178), atol=1e-6)
    assert str(found) == "0.8000 (95 % interval 0.4902 to 0.9433, 10 images)"
    tied = accuracy([0, 1], [0, 1], tied=[True, False])
    assert tied.ties == 1
    assert str(tied).endswith("2 images, 1 tie)")


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_intervals_are_scipys(n):
    for right in {0, 1, n // 3, n}:
        exact = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
        assert wilson_interval(right, n) == tuple(exact)


@pytest.mark.parametrize("n_classes", ["3", [3], 2.5, 0, True])
def test_the_number_of_classes_is_a_number(n_classes):
    with pytest.raises(nn.InputError, match="^n_classes: expected a whole number of at least 1"):
        accuracy([0, 1], [0, 1], n_classes=n_classes)


@pytest.mark.parametrize("tied", ["x", [1, "a"], {}, [0.5, 1], [True], [[True, False]]])
def test_ties_are_truths_one_for_each_image(tied):
    with pytest.raises(nn.InputError, match="^tied: expected"):
        accuracy([0, 1], [0, 1], tied)


@pytest.mark.parametrize("labels", [[0, 1], [[0, 1, 2]], []])
def test_labels_must_fit(labels):
    with pytest.raises(nn.InputError, match="(labels|predictions): expected"):
        accuracy(np.arange(len(labels) and 3), labels)


def test_labels_are_numbers():
    with pytest.raises(nn.InputError, match="labels: expected class numbers, got the word '7'"):
        accuracy([7, 2], ["7", "2"])


def test_labels_in_a_column_and_whole_floats_are_taken():
    for labels in ([[7], [1]], [7.0, 1.0], np.array([7, 1], ">i2"), np.array([[7], [1]], np.uint8)):
        assert accuracy([7, 2], labels).value == 0.5
    assert cross_entropy([[0.0, 0.0]], [[1]]).shape == (1,)
    with pytest.raises(nn.InputError, match="as there are 2 outputs, got 2; they begin at 1"):
        cross_entropy([[0.0, 0.0], [0.0, 0.0]], [1, 2])


@pytest.mark.parametrize("tau", [0.0, 1e-9, 0.003])
def test_the_filter_is_a_probes_even_where_it_filters_nothing(tau):
    with nengo.Network() as network:
        node = nengo.Node(lambda t: [t, t**2])
        plain = nengo.Probe(node, synapse=None)
        filtered = nengo.Probe(node, synapse=max(tau, 0.0) if tau != 1e-9 else 0.0)
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run_steps(20, progress_bar=False)
    found = scores(simulator.data[plain], "filtered", tau=tau)
    np.testing.assert_allclose(found, simulator.data[filtered], atol=1e-12)


def test_an_interval_over_seeds_by_hand():
    # Two seeds, 0.8 and 0.9, of 100 images. Wilson's interval of 0.85 is 0.7672 to 0.9069; t of
    # one degree of freedom is 12.706, the standard error 0.05: the low end is clipped at 0.2094.
    low, high = share_interval([0.8, 0.9], 100)
    of_seeds = 12.7062047 * 0.05
    of_images = wilson_interval(85, 100)
    assert low == pytest.approx(0.85 - np.hypot(0.85 - of_images[0], of_seeds))
    assert high == 1
    # Ten seeds: t of nine is 2.262.
    shares = 0.85 + 0.01 * np.arange(-4.5, 5)
    low, high = share_interval(shares, 100)
    of_seeds = 2.26215716 * shares.std(ddof=1) / np.sqrt(10)
    assert low == pytest.approx(0.85 - np.hypot(0.85 - of_images[0], of_seeds))
    assert high == pytest.approx(0.85 + np.hypot(of_images[1] - 0.85, of_seeds))


def test_seeds_that_agree_leave_the_sampling_of_images():
    for right, n in ((81, 100), (0, 30), (30, 30), (1, 2)):
        for n_seeds in (1, 2, 7):
            found = share_interval([right / n] * n_seeds, n)
            np.testing.assert_allclose(found, wilson_interval(right, n), atol=1e-12)
    assert np.diff(share_interval([0.81, 0.81], 100))[0] > 0.15


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=6),
    st.sampled_from([50, 200, 10_000]),
)
def test_an_interval_holds_its_mean_within_0_and_1(right, n_images):
    shares = np.array(right) / 50
    low, high = share_interval(shares, n_images)
    assert 0 <= low <= shares.mean() + 1e-12
    assert shares.mean() - 1e-12 <= high <= 1
    assert high - low > 0
    narrow = np.diff(share_interval(shares, 100 * n_images))[0]
    assert narrow <= high - low


@pytest.mark.parametrize("n_seeds", [2, 3, 10])
@pytest.mark.parametrize("n_images", [100, 1000])
@pytest.mark.parametrize("p", [0.6, 0.97])
@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_intervals_over_seeds_cover_as_often_as_they_say(n_seeds, n_images, p, spread):
    """All seeds see the same images, drawn anew in each of 4,000 experiments.

    A network is right on an image with the chance ``p``; each seed moves its accuracy by a normal
    number with the deviation ``spread``. Nominal are 95 %; asked for are 93.5 to 99.5 %: the
    standard error of 4,000 is 0.35 %, accuracies are coarse, and the sum is on the safe side.
    """
    rng = np.random.default_rng([n_seeds, n_images, int(100 * p), int(100 * spread)])
    n_right = rng.binomial(n_images, p, size=4000)
    moved = rng.normal(0, spread, size=(n_seeds, 4000))
    shares = np.clip(np.rint(n_right + n_images * moved) / n_images, 0, 1)
    low, high = share_interval(shares, n_images)
    covered = np.mean((low <= p) & (p <= high))
    assert 0.935 < covered < 0.995
