"""Steps of 0.1 and 1 s, in which a neuron spikes several times."""

import matplotlib.pyplot as plt
import nengo
import numpy as np
import pytest
from nengo.dists import Choice

import nengonet as nn
from nengonet.explain.prediction import predict
from nengonet.layers.inputs import BLOCK_STEPS, block_steps, poisson_block
from nengonet.neurons import model_of
from nengonet.plots import draw_spike_histogram, plot_latency, plot_presentation, time_unit
from nengonet.results.readout import Accuracy
from nengonet.streams import example_rng
from nengonet.testing import assert_counts_match_rates, counts_from_probe

RNG = np.random.default_rng(21)
KERNEL, LAST = RNG.normal(0.1, 0.4, (12, 16)), RNG.normal(0.1, 0.4, (16, 5))
IMAGES = RNG.uniform(size=(6, 3, 4))
ZERO = {"voltage": Choice([0])}
TYPES = {
    "relu": (nengo.SpikingRectifiedLinear(initial_state=ZERO), 9.0),
    "if": (nn.IntegrateAndFire(), 9.0),
    "lif": (nengo.LIF(initial_state=ZERO), 2.0),
}


def built(kind, poisson=False, amplitude=0.1):
    neuron_type, gain = TYPES[kind]
    tuning = {"gain": gain, "bias": 0.0}
    with nengo.Network(seed=0) as network:
        layer = nn.poisson_input((3, 4), 30.0) if poisson else nn.constant_input((3, 4))
        layer = nn.dense(layer, KERNEL, neuron_type, amplitude=amplitude, label="hidden", **tuning)
        layer = nn.dense(layer, LAST, neuron_type, label="output", **tuning)
    return network, layer


def shown(kind, dt, n_steps=12, poisson=False, **settings):
    network, layer = built(kind, poisson)
    settings = {"rasters": ["hidden"], "progress": False} | settings
    return nn.present(network, layer, IMAGES, presentation_time=n_steps * dt, dt=dt, **settings)


@pytest.mark.parametrize("dt", [0.1, 0.5])
@pytest.mark.parametrize("poisson", [False, True], ids=["constant", "poisson"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("numba", ["0", "1"])
def test_counts_are_those_of_nengo(kind, poisson, dt, numba, monkeypatch):
    monkeypatch.setenv("NENGONET_NUMBA", numba)
    twin = shown(kind, dt, poisson=poisson)
    reference = shown(kind, dt, poisson=poisson, simulator="reference")
    np.testing.assert_array_equal(twin.steps, reference.steps)
    np.testing.assert_array_equal(twin.rasters["hidden"], reference.rasters["hidden"])
    most = reference.rasters["hidden"].max()
    assert most == 1 if kind == "lif" else most > 1


@pytest.mark.parametrize("poisson", [False, True], ids=["constant", "poisson"])
@pytest.mark.parametrize("kind", ["relu", "if"])
def test_counts_are_those_of_nengo_in_steps_of_a_second(kind, poisson):
    # 250 steps: more than one block of Poisson input, which has 2 steps here
    twin = shown(kind, 1.0, n_steps=250, poisson=poisson)
    reference = shown(kind, 1.0, n_steps=250, poisson=poisson, simulator="reference")
    np.testing.assert_array_equal(twin.steps, reference.steps)
    assert twin.rasters["hidden"].max() > 5


def test_worked_by_hand_in_steps_of_a_second():
    """From voltage 0, 2.5 and 0.4 Hz give 2, 3, 2, 3 and 0, 0, 1, 0 spikes a step."""
    with nengo.Network() as network:
        layer = nn.dense(
            nn.constant_input((1,)), np.array([[2.5, 0.4]]), TYPES["relu"][0], gain=1.0
        )
    result = nn.present(
        network, layer, [[1.0]], presentation_time=4.0, dt=1.0, rasters=["dense"], progress=False
    )
    assert result.rasters["dense"][0].tolist() == [[2, 0], [3, 0], [2, 1], [3, 0]]
    assert result.counts["dense"].tolist() == [[10, 1]]
    assert result.rates("dense").tolist() == [[2.5, 0.25]]
    assert result.mean_output("dense").tolist() == [[2.5, 0.25]]
    assert result.spikes_per_image() == {"dense": 11.0}
    assert result.scores("spike_count")[0, :, 0].tolist() == [2, 5, 7, 10]
    assert result.scores("mean")[0, :, 0].tolist() == [2, 2.5, 7 / 3, 2.5]
    assert result.scores("last_step")[0, :, 0].tolist() == [2, 3, 2, 3]
    assert result.scores("sum")[0, :, 0].tolist() == [2, 5, 7, 10]


@pytest.mark.parametrize("dt", [0.001, 0.1, 1.0])
def test_assertions_hold_for_regular_spikes(dt):
    network, _ = built("relu")
    ensemble = network.ensembles[0]
    with network:
        probe = nengo.Probe(ensemble.neurons)
    expected = nn.predict_rates(ensemble, IMAGES[:1], network=network, dt=dt)[0]
    network.nodes[0].output.show(IMAGES[0], example=0, seed=0)
    with nengo.Simulator(network, dt=dt, progress_bar=False) as simulator:
        simulator.run_steps(40)
        data = simulator.data[probe]
    raster = counts_from_probe(data, dt, amplitude=0.1, per_step=True)
    assert_counts_match_rates(raster, expected, 40 * dt, dt=dt)
    if dt == 1.0:
        assert raster.max() > 3
        with pytest.raises(AssertionError, match="do not match"):
            assert_counts_match_rates(raster > 0, expected, 40 * dt, dt=dt)
        with pytest.raises(nn.InputError, match="expected whole numbers of spikes"):
            counts_from_probe(data, dt, amplitude=0.17)


@pytest.mark.parametrize("dt", [0.01, 0.1, 1.0])
def test_predictions_are_right_at_any_step(dt):
    result = shown("relu", dt, n_steps=50)
    _, layer = built("relu")
    compared = nn.compare(result, layer, IMAGES, noise=False)
    hidden = compared.layers[0]
    # |count - rate * T| < 1 under a constant current
    assert np.abs(compared.predicted["hidden"] - compared.observed["hidden"]).max() < 1 / (50 * dt)
    assert hidden["silent"] < 1


@pytest.mark.parametrize("dt", [0.1, 1.0])
def test_predicted_variance_of_several_spikes_a_step(dt):
    """A count of ``n`` or ``n + 1`` a step varies by ``share * (1 - share)``."""
    result = shown("relu", dt, n_steps=400)
    _, layer = built("relu")
    predicted = predict(layer, IMAGES, dt=dt)[1]
    observed = (result.rasters["hidden"] * 0.1 / dt).var(axis=1)
    # a share is known to 1/400, and so its variance times (0.1 / dt)**2
    np.testing.assert_allclose(observed, predicted.variance, atol=0.004 * (0.1 / dt) ** 2)
    assert predicted.variance.max() > 0


def test_lif_spikes_once_a_step_at_most():
    """If it spikes in every step, it is predicted at 10 Hz, as simulated, not at 200."""
    dt = 0.1
    assert model_of(nengo.LIF()).ceiling(dt) == 10.0
    assert model_of(nengo.AdaptiveLIF()).ceiling(dt) == 10.0
    assert model_of(nengo.SpikingRectifiedLinear()).ceiling(dt) == np.inf
    with nengo.Network() as network:
        layer = nn.dense(
            nn.constant_input((1,)), np.array([[100.0, 0.5]]), TYPES["lif"][0], gain=1.0, bias=0.0
        )
    result = nn.present(network, layer, [[1.0]], presentation_time=3.0, dt=dt, progress=False)
    assert result.rates("dense").tolist() == [[10.0, 0.0]]
    predicted = nn.predict_rates(layer, np.ones((1, 1)), dt=dt)
    assert predicted.tolist() == [[10.0, 0.0]]
    assert nn.predict_rates(layer, np.ones((1, 1)))[0, 0] > 400


def codes(kind, dt, **settings):
    _, layer = built(kind)
    found = nn.diagnose(layer, IMAGES, dt=dt, presentation_time=20 * dt, **settings)
    return {finding.code: finding for finding in found.findings}


def test_a_coarse_step_is_found():
    finding = codes("lif", 0.1)["coarse-step"]
    assert finding.severity == "error"
    assert "spikes once a step at most" in finding.message
    assert "no neuron can exceed 10 Hz" in finding.evidence
    assert "a dt of at most 0.002 s" in finding.change
    for kind, dt in (("relu", 0.1), ("if", 1.0), ("lif", 0.001), ("lif", 0.002)):
        assert "coarse-step" not in codes(kind, dt)


@pytest.mark.parametrize("kind", ["relu", "if"])
def test_many_spikes_in_a_long_step_are_no_fault(kind):
    found = codes(kind, 1.0)
    assert not {"input-range", "saturation", "coarse-step"} & set(found)


@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
def test_a_step_too_long_for_a_leak_is_refused(simulator):
    with pytest.raises(nn.InputError, match=r"dt: expected at most 0\.6 s for hidden.* got 1 s"):
        shown("lif", 1.0, simulator=simulator)


def test_blocks_of_poisson_input_do_not_outlast_a_tenth_of_a_second():
    assert [block_steps(dt) for dt in (1e-4, 1e-3, 2e-3, 0.01, 0.1, 1.0)] == [
        BLOCK_STEPS,
        BLOCK_STEPS,
        50,
        10,
        2,
        2,
    ]
    block = poisson_block(np.array([0.0, 2000.0]), 1.0, example_rng(0, 0))
    assert block.shape == (2, 2)
    assert block[:, 0].tolist() == [0, 0]
    # 2000 spikes in each step: 6 standard deviations are 268 (a false alarm in 1e8)
    assert np.abs(block[:, 1] - 2000).max() < 268


@pytest.mark.parametrize("dt", [0.05, 1.0])
def test_poisson_counts_have_mean_and_variance_of_rate_times_step(dt):
    """784 pixels of 40 Hz, 50 steps, six standard errors each: one false alarm in 1e8."""
    with nengo.Network() as network:
        layer = nn.poisson_input((28, 28), 40.0)
    result = nn.present(
        network,
        layer,
        np.ones((1, 28, 28)),
        presentation_time=50 * dt,
        dt=dt,
        rasters=["input"],
        progress=False,
    )
    counts, mean = result.rasters["input"][0], 40.0 * dt
    n = counts.size
    assert abs(counts.mean() - mean) < 6 * np.sqrt(mean / n)
    assert abs(counts.var() - mean) < 6 * np.sqrt((mean + 2 * mean**2) / n)
    # and steps of one block are independent: the sum over pixels varies as much
    sums = counts.sum(axis=1)
    assert abs(sums - 784 * mean).max() < 6 * np.sqrt(784 * mean)


def test_raster_of_several_spikes_a_step():
    result = shown("relu", 1.0)
    figure = plot_presentation(IMAGES[0], result)
    raster = next(axis for axis in figure.axes if axis.get_title().startswith("hidden"))
    spikes = result.rasters["hidden"][0]
    total, most = spikes.sum(), spikes.max()
    assert f"{total:,} spikes of 16 neurons, up to {most} in a step, mean" in raster.get_title()
    marks = raster.collections[0]
    assert len(marks.get_offsets()) == (spikes > 0).sum()
    np.testing.assert_allclose(marks.get_linewidths(), 0.8 * np.minimum(spikes[spikes > 0], 8))
    assert np.ptp(marks.get_linewidths()) > 0
    assert figure.axes[-1].get_xlabel() == "time (s)"
    plt.close(figure)


def test_figures_name_short_and_long_steps():
    assert time_unit(0.35) == (1000.0, "ms")
    assert time_unit(10.0) == (1.0, "s")
    ann = Accuracy(0.9, (0.8, 0.95), 10)
    for dt, name in ((0.001, "steps of 1 ms"), (0.1, "steps of 100 ms"), (5.0, "steps of 5 s")):
        figure = plot_latency({"a": np.linspace(0, 1, 10)}, ann, dt=dt)
        assert figure.axes[0].get_xlabel() == name
        plt.close(figure)


def test_histogram_counts_steps_by_their_spikes():
    _, axis = plt.subplots()
    draw_spike_histogram(axis, np.array([[0, 0, 3], [1, 0, 3]]))
    bars = [(round(bar.get_x() + bar.get_width() / 2), bar.get_height()) for bar in axis.patches]
    assert bars == [(0, 3), (1, 1), (2, 0), (3, 2)]
    plt.close()


def test_budget_in_long_steps():
    """Every stage counts several spikes a step, and the last ones agree with the ANN."""
    _, layer = built("if", poisson=True)
    logits = np.maximum(IMAGES.reshape(6, 12) @ KERNEL, 0) @ LAST
    budget = nn.error_budget(
        layer,
        IMAGES,
        logits.argmax(axis=1),
        dt=1.0,
        presentation_time=1000.0,
        n_repeats=2,
        progress=False,
    )
    assert [step.accuracy for step in budget.steps] == [1.0] * len(budget.steps)
