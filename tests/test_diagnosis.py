import dataclasses
import json

import nengo
import numpy as np
import pytest
from nengo.dists import Choice

import nengonet as nn
from nengonet.explain.findings import SEVERITIES
from nengonet.run.presentation import present
from nengonet.studies import forum_mnist

IMAGES, LABELS = nn.datasets.load("mnist", split="test")
LAYERS = forum_mnist.mlp_layers(nn.load_weights(nn.pretrained("mnist_dense")))


def diagnosed(variant="repaired", images=IMAGES, labels=LABELS, **settings):
    example = forum_mnist.STUDY.build(variant=variant, **settings)
    return nn.diagnose(example.output, images, labels=labels, readout=example.readout)


def codes(diagnosis, *severities):
    return [
        finding.code
        for finding in diagnosis.findings
        if not severities or finding.severity in severities
    ]


def network_of(
    neuron_type=None, *, images=IMAGES[:200], readout="spike_count", input_rate=255.0, **settings
):
    """Diagnose an MLP of the forum's weights with other settings."""
    neuron_type = neuron_type or nn.IntegrateAndFire(amplitude=1 / 30)
    run = {name: settings.pop(name) for name in ("presentation_time",) if name in settings}
    with nengo.Network(seed=0):
        layer = nn.poisson_input((28, 28), max_rate=input_rate)
        for weights in LAYERS:
            layer = nn.dense(layer, weights, neuron_type, **{"gain": 30.0} | settings)
    return nn.diagnose(layer, images, readout=readout, **run)


def test_posted_network_is_understood_before_it_runs():
    diagnosis = diagnosed("posted")
    assert codes(diagnosis)[:3] == ["input-range", "saturation", "readout-filter"]
    assert codes(diagnosis, "error")[:3] == codes(diagnosis)[:3]
    assert {"gain-on-neurons", "bias-threshold", "amplitude"} <= set(codes(diagnosis))
    text = " ".join(str(diagnosis).split())
    for words in ("25,500 Hz", "25.5 spikes in a step", "on or off", "counts steps"):
        assert words in text
    rows = {row["label"]: row for row in diagnosis.layers}
    assert rows["hidden"]["saturated"] + rows["hidden"]["silent"] > 0.9
    assert rows["input"]["peak_rate"] == pytest.approx(25500)


def test_posted_accuracy_is_predicted():
    """0.595, 0.587 and 0.601 with seeds 0, 1 and 2, spikes counted, on the same 1000 images."""
    diagnosis = diagnosed("posted")
    assert diagnosis.predicted_accuracy.value == pytest.approx(0.594, abs=0.03)
    assert diagnosis.ann_accuracy.value == pytest.approx(0.981)


def test_obvious_repair_fails_by_noise():
    """A rate model sees nothing wrong; the noise costs more than ten percentage points."""
    diagnosis = diagnosed("obvious")
    assert codes(diagnosis, "error") == ["rectified-noise"]
    assert diagnosis.predicted_accuracy.value > 0.96
    example = forum_mnist.STUDY.build(variant="obvious")
    result = present(example.network, example.output, IMAGES[:200], progress=False)
    measured = result.accuracy(LABELS[:200]).value
    predicted = diagnosed("obvious", IMAGES[:200], LABELS[:200])
    assert predicted.predicted_accuracy_with_noise.value == pytest.approx(measured, abs=0.06)
    assert measured < predicted.predicted_accuracy.value - 0.05


@pytest.mark.parametrize("neurons", ["lif", "if", "relu"])
@pytest.mark.parametrize("images", [slice(0, 1000), slice(300, 420)])
def test_no_false_alarm_on_the_repaired_networks(neurons, images):
    diagnosis = diagnosed(neurons=neurons, images=IMAGES[images], labels=LABELS[images], seed=4)
    assert diagnosis.worst in ("note", None)
    assert codes(diagnosis, "error", "warning") == []


def test_no_false_alarm_on_a_network_built_by_hand():
    assert codes(network_of(), "error", "warning") == []


def test_no_false_alarm_at_1_khz_nor_at_long_steps():
    assert "input-range" not in codes(network_of(input_rate=1000.0))
    with nengo.Network(seed=0):
        layer = nn.poisson_input((28, 28))
        for weights in LAYERS:
            layer = nn.dense(layer, weights, nn.IntegrateAndFire(amplitude=1 / 30), gain=30.0)
    found = nn.diagnose(layer, IMAGES[:100], dt=0.05, presentation_time=1.0)
    assert codes(found, "error", "warning") == []


SPIKING_RELU = nengo.SpikingRectifiedLinear(
    amplitude=1 / 30, initial_state={"voltage": Choice([0])}
)


@pytest.mark.parametrize(
    "settings, code, severity, words",
    [
        ({"input_rate": 25500.0}, "input-range", "error", "max_rate"),
        ({"neuron_type": SPIKING_RELU, "input_rate": 150.0}, "rectified-noise", "error", "synapse"),
        ({"presentation_time": 0.01}, "quantisation", "error", "longer presentation_time"),
        ({"gain": 0.4, "amplitude": 2.5}, "silent-output", "error", "raise the gain"),
        ({"synapse": 0.1}, "synapse-delay", "error", "shorter synapses"),
        ({"synapse": 0.04}, "synapse-delay", "warning", "shorter synapses"),
        ({"readout": "steps_after_first_spike"}, "readout-filter", "error", "spike_count"),
        ({"amplitude": 1.0}, "amplitude", "note", "amplitude=0.03"),
        ({"neuron_type": nengo.LIF(), "gain": 50.0}, "saturation", "error", "lower gain"),
        (
            {"neuron_type": nengo.LIF(), "gain": 2.0, "amplitude": 1.0},
            "amplitude",
            "warning",
            "amplitude=0.0",
        ),
        (
            {"neuron_type": nengo.LIF(amplitude=0.01), "gain": 2.0, "bias": 1.0},
            "bias-threshold",
            "warning",
            "bias=0",
        ),
        (
            {"neuron_type": nengo.LIF(), "gain": None, "input_rate": 2e4},
            "gain-on-neurons",
            "warning",
            "bias=0",
        ),
    ],
)
def test_each_fault_is_found(settings, code, severity, words):
    found = {finding.code: finding for finding in network_of(**settings).findings}
    assert code in found
    assert found[code].severity == severity
    assert words in found[code].change
    assert any(character.isdigit() for character in found[code].evidence)


def test_a_filtered_probe_of_the_users_is_found():
    example = forum_mnist.STUDY.build(neurons="if")
    assert codes(nn.diagnose(example.output, IMAGES[:50])) == []
    with example.network:
        nengo.Probe(example.output.ensemble.neurons, synapse=0.1)
    found = nn.diagnose(example.output, IMAGES[:50]).findings
    assert [finding.code for finding in found] == ["readout-filter"]
    assert "synapse=Lowpass(tau=0.1)" in found[0].evidence


def test_plain_nengo_is_diagnosed_as_the_builders_are():
    kernels = [layer.kernel.astype(float) for layer in LAYERS]
    with nengo.Network(seed=0) as network:
        network.config[nengo.Ensemble].max_rates = Choice([100])
        network.config[nengo.Ensemble].intercepts = Choice([0])
        inp = nengo.Node(np.ones(784))
        poisson = nengo.Ensemble(784, 1, neuron_type=nengo.PoissonSpiking(nengo.RectifiedLinear()))
        hidden = nengo.Ensemble(128, 1, neuron_type=nengo.LIF())
        out = nengo.Ensemble(10, 1, neuron_type=nengo.LIF())
        nengo.Connection(inp, poisson.neurons, synapse=None)
        nengo.Connection(poisson.neurons, hidden.neurons, transform=kernels[0].T, synapse=None)
        nengo.Connection(hidden.neurons, out.neurons, transform=kernels[1].T, synapse=None)
        nengo.Probe(out.neurons, synapse=0.1)
    plain = nn.diagnose(out, 255 * IMAGES.reshape(1000, 784), labels=LABELS, network=network)
    ours = diagnosed("posted")
    assert plain.predicted_accuracy == ours.predicted_accuracy
    assert {"input-range", "saturation", "readout-filter"} <= set(codes(plain))


def test_json_has_stable_keys():
    report = json.loads(json.dumps(diagnosed("posted").to_json()))
    assert report.keys() == {
        "predicted_accuracy",
        "predicted_accuracy_with_noise",
        "ann_accuracy",
        "ann_reason",
        "findings",
        "layers",
    }
    for finding in report["findings"]:
        assert finding.keys() == {"code", "severity", "layers", "message", "evidence", "change"}
        assert finding["severity"] in SEVERITIES
    order = [SEVERITIES.index(finding["severity"]) for finding in report["findings"]]
    assert order == sorted(order)


@pytest.fixture(scope="module")
def run():
    example = forum_mnist.STUDY.build(neurons="if", seed=3)
    images = IMAGES[500:560]
    return example, images, present(example.network, example.output, images, progress=False)


def test_observed_rates_follow_the_predicted_ones(run):
    example, images, result = run
    comparison = nn.compare(result, example.output, images)
    assert [row["label"] for row in comparison.layers] == ["input", "hidden", "output"]
    for row in comparison.layers:
        assert row["correlation"] > 0.99
        assert row["slope"] == pytest.approx(1, abs=0.03)
        assert row["rms_spikes"] == pytest.approx(row["rms_rate"] * 0.35)
    assert comparison.ties == result.tied().sum()
    assert "furthest off" in str(comparison)
    json.dumps(comparison.to_json())


def test_a_wrong_network_does_not_follow_its_prediction(run):
    """Compared with the prediction of a network whose hidden gain is doubled."""
    example, images, result = run
    other = forum_mnist.STUDY.build(neurons="if", seed=3)
    layer = list(other.output.chain())[1]
    layer.ensemble.gain = 2 * layer.ensemble.gain
    rows = {row["label"]: row for row in nn.compare(result, other.output, images).layers}
    assert rows["hidden"]["slope"] == pytest.approx(0.5, abs=0.02)
    assert rows["input"]["slope"] == pytest.approx(1, abs=0.03)


def test_the_furthest_neuron_is_named(run):
    example, images, result = run
    counts = {label: counts.copy() for label, counts in result.counts.items()}
    counts["hidden"][:, 77] += 100
    broken = dataclasses.replace(result, counts=counts)
    row = nn.compare(broken, example.output, images).layers[1]
    assert row["worst"][0][0] == 77
    assert row["worst"][0][2] - row["worst"][0][1] == pytest.approx(100 / 0.35, rel=0.05)


def test_other_images_are_refused(run):
    example, images, result = run
    with pytest.raises(nn.InputError, match=r"expected counts of shape \(5, .*, got \("):
        nn.compare(result, example.output, images[:5])


def diagnosed_cnn(neuron_type, gain, **settings):
    """Diagnose convolutions with a max pool and an average pool between them."""
    rng = np.random.default_rng(3)
    labels = ("conv", "again", "output")
    settings = {label: {"gain": gain} | settings.get(label, {}) for label in labels}
    with nengo.Network(seed=0):
        layer = nn.constant_input((8, 8))
        bias = np.array([0.5, -0.1, 0.0])
        kernel = rng.normal(0.1, 0.4, (3, 3, 1, 3))
        layer = nn.conv2d(layer, (kernel, bias), neuron_type, label="conv", **settings["conv"])
        layer = nn.max_pool2d(layer, label="largest")
        kernel = rng.normal(0.1, 0.4, (2, 2, 3, 4))
        layer = nn.conv2d(layer, kernel, neuron_type, label="again", **settings["again"])
        layer = nn.avg_pool2d(layer, label="mean")
        kernel = rng.normal(0.1, 0.5, (4, 3))
        layer = nn.dense(layer, kernel, neuron_type, label="output", **settings["output"])
    images = rng.uniform(size=(60, 8, 8))
    return nn.diagnose(layer, images, labels=np.zeros(60, dtype=int)), layer, images


def test_a_cnn_at_its_anns_scale_is_in_order():
    diagnosis, output, images = diagnosed_cnn(nn.IntegrateAndFire(amplitude=1 / 100), 100.0)
    rows = {row["label"]: row for row in diagnosis.layers}
    assert list(rows) == ["input", "conv", "largest", "again", "mean", "output"]
    for label in ("conv", "again", "output"):
        assert rows[label]["output_per_activation"] == pytest.approx(1.0)
    assert diagnosis.ann_accuracy.value == diagnosis.predicted_accuracy.value
    assert codes(diagnosis, "error", "warning") == []
    result = present(
        output.network, output, images, presentation_time=0.3, rasters=["largest"], progress=False
    )
    assert result.layer("largest").shape == (3, 3, 3)
    assert result.rasters["largest"].shape == (60, 300, 27)
    compared = {row["label"]: row for row in nn.compare(result, output, images).layers}
    assert list(compared) == ["conv", "largest", "again", "output"]
    assert compared["largest"]["rms_spikes"] < 0.5


def test_a_pool_is_no_bright_pixel():
    diagnosis, *_ = diagnosed_cnn(nn.IntegrateAndFire(amplitude=1 / 3000), 3000.0)
    rows = {row["label"]: row for row in diagnosis.layers}
    assert rows["largest"]["peak_rate"] > 1000
    assert "input-range" not in codes(diagnosis)


def test_amplitude_is_seen_across_pools():
    """Pools stand between the layer at fault and the one that it feeds."""
    diagnosis, *_ = diagnosed_cnn(
        nn.IntegrateAndFire(amplitude=1 / 100), 100.0, conv={"gain": 500.0}, again={"gain": 20.0}
    )
    found = [finding for finding in diagnosis.findings if finding.code == "amplitude"]
    assert [finding.layers for finding in found] == [("conv",)]
    assert "amplitude=0.002" in found[0].change


def test_the_bias_of_a_filter_is_its_neurons_bias():
    """LIF's own bias is told from the Keras bias, which every position has."""
    diagnosis, *_ = diagnosed_cnn(nengo.LIF(amplitude=0.01), 2.0)
    assert "bias-threshold" not in codes(diagnosis)
    own = {"gain": 2.0, "bias": 1.5}
    diagnosis, *_ = diagnosed_cnn(nengo.LIF(amplitude=0.01), 2.0, conv=own)
    bad = [finding for finding in diagnosis.findings if finding.code == "bias-threshold"]
    assert [finding.layers for finding in bad] == [("conv",)]
    assert bad[0].evidence == "bias 1.5"


def test_stored_pixels_are_found_and_centred_ones_are_not():
    with nengo.Network():
        pixels = nn.constant_input((2,))
        layer = nn.dense(pixels, np.eye(2), nengo.RectifiedLinear(), gain=1.0)
    for image, severities in (
        ([0.0, 255.0], ["warning"]),
        ([0.0, 1.0], []),
        ([-1.8, 2.6], []),
        ([-120.0, 135.0], []),
        ([0.0, 1000.0], []),
    ):
        found = nn.diagnose(layer, [image], readout="mean").findings
        assert [each.severity for each in found if each.code == "input-range"] == severities


def test_few_spikes_are_found():
    """The gain divided by 1000 and the amplitude multiplied by it: the same mean output."""
    few = {"gain": 0.03, "readout": "mean", "neuron_type": nn.IntegrateAndFire(amplitude=1 / 0.03)}
    found = network_of(**few, images=IMAGES[:50])
    (finding,) = [finding for finding in found.findings if finding.code == "few-spikes"]
    assert (finding.severity, finding.layers) == ("error", ("hidden",))
    row = next(row for row in found.layers if row["label"] == "hidden")
    assert f"fires at {row['peak_rate']:.3g} Hz" in finding.evidence
    assert f"spike {0.35 * row['peak_rate']:.2g} times" in finding.message
    enough = network_of(images=IMAGES[:50], readout="mean")
    assert "few-spikes" not in codes(enough)


def test_readout_of_the_last_step_is_found():
    found = network_of(images=IMAGES[:50], readout="last_step")
    (finding,) = [finding for finding in found.findings if finding.code == "readout-last-step"]
    assert finding.severity == "error"
    assert "readout-last-step" not in codes(network_of(images=IMAGES[:50], readout="mean"))
    with nengo.Network(seed=0):
        layer = nn.constant_input((28, 28))
        for weights in LAYERS:
            layer = nn.dense(layer, weights, nengo.RectifiedLinear(), gain=1.0)
    # rate neurons put out the same in every step
    assert codes(nn.diagnose(layer, IMAGES[:50], readout="last_step"), "error", "warning") == []


def test_rows_and_comparison_take_spikes_below_0_as_spikes():
    with nengo.Network(seed=0) as network:
        pixels = nn.constant_input((4,))
        hidden = nn.dense(
            pixels,
            np.diag([1.0, -1.0, 0.5, -2.0]),
            nengo.RegularSpiking(nengo.Tanh()),
            gain=1.0,
            bias=0.0,
            label="hidden",
        )
        output = nn.dense(hidden, np.ones((4, 2)), None, label="output")
    images = np.array([[0.2, 0.5, 0.8, 1.0], [0.0, 0.1, 0.6, 0.9]])
    result = nn.present(
        network, output, images, presentation_time=1.0, readout="mean", progress=False
    )
    row = nn.diagnose(output, images, presentation_time=1.0, readout="mean").layers[1]
    assert row["spikes"] == pytest.approx(result.spikes_per_image()["hidden"], abs=2)
    assert row["mean_rate"] == pytest.approx(row["spikes"] / 4)
    assert row["peak_rate"] == pytest.approx(400 * np.tanh(2.0), rel=0.01)
    assert row["saturated"] == 2 / 8
    compared = nn.compare(result, output, images).layers[0]
    assert compared["rms_rate"] < 1
    assert compared["saturated"] == 2 / 8
    assert compared["slope"] == pytest.approx(1, abs=0.01)


def test_one_of_twenty_images_is_not_an_error():
    """Severities count what is sure: the lower end of the share's interval."""
    with nengo.Network(seed=0):
        layer = nn.poisson_input((28, 28), max_rate=255.0)
        for weights in LAYERS:
            layer = nn.dense(layer, weights, SPIKING_RELU, gain=30.0)
    plain, noisy = (nn.predict_rates(layer, IMAGES, noise=noise) for noise in (False, True))
    changed = plain.argmax(axis=1) != noisy.argmax(axis=1)
    images = np.concatenate([IMAGES[changed][:20], IMAGES[~changed][:19]])
    levels = {}
    for n in (1, 20, 39):
        found = nn.diagnose(layer, images if n == 39 else images[19 : 19 + n]).findings
        (levels[n],) = (each.severity for each in found if each.code == "rectified-noise")
    assert levels == {1: "error", 20: "note", 39: "error"}


def test_a_stated_gain_is_not_called_tuned():
    """Whether a builder, plain Nengo or an edit stated it; its saturation is found all the same."""
    lif = {"neuron_type": nengo.LIF(), "input_rate": 2e4}
    assert "gain-on-neurons" in codes(network_of(**lif, gain=None))
    stated = codes(network_of(**lif, gain=2.0332))
    assert "gain-on-neurons" not in stated
    assert "saturation" in stated
    with nengo.Network(seed=0) as network:
        layer = nn.poisson_input((28, 28), max_rate=2e4)
        hidden = nn.dense(layer, 100 * LAYERS[0].kernel, nengo.LIF(), label="hidden")
        output = nn.dense(hidden, LAYERS[1], None, label="output")
    (before,) = (
        each for each in nn.diagnose(output, IMAGES[:50]).findings if each.code == "gain-on-neurons"
    )
    assert before.layers == ("hidden",)
    hidden.ensemble.gain = hidden.ensemble.gain * 1.1
    assert "gain-on-neurons" not in codes(nn.diagnose(output, IMAGES[:50]))
    assert not hidden.tuned
    with nengo.Network(seed=0) as network:
        pixels = nengo.Node(np.zeros(784))
        plain = {
            name: nengo.Ensemble(10, 1, neuron_type=nengo.LIF(), label=name, **tuning)
            for name, tuning in (
                ("tuned", {"max_rates": Choice([100]), "intercepts": Choice([0])}),
                ("stated", {"gain": np.full(10, 2.0332), "bias": np.ones(10)}),
            )
        }
        kernel = 100 * np.random.default_rng(0).normal(size=(10, 784))
        for ensemble in plain.values():
            nengo.Connection(pixels, ensemble.neurons, transform=kernel, synapse=None)
    for name, ensemble in plain.items():
        found = codes(nn.diagnose(ensemble, IMAGES[:50].reshape(50, -1), network=network))
        assert ("gain-on-neurons" in found) == (name == "tuned")


@pytest.mark.parametrize("part", [slice(0, 2), [3, 1], 5])
def test_a_filtered_probe_of_some_neurons_is_found(part):
    example = forum_mnist.STUDY.build(neurons="if")
    with example.network:
        nengo.Probe(example.output.ensemble.neurons[part], synapse=0.01)
    assert "readout-filter" in codes(nn.diagnose(example.output, IMAGES[:50]))


def test_a_layer_that_saturates_as_its_ann_does_is_in_order():
    rng = np.random.default_rng(0)
    with nengo.Network(seed=0):
        layer = nn.constant_input((20,))
        for label, neurons in (("h", nengo.RegularSpiking(nengo.Tanh())), ("o", None)):
            kernel = 3 * rng.normal(size=(20, 20))
            settings = {} if neurons is None else {"gain": 1.0, "bias": 0.0, "amplitude": 0.0025}
            layer = nn.dense(layer, kernel, neurons, label=label, **settings)
    found = nn.diagnose(layer, rng.uniform(size=(100, 20)), readout="mean")
    assert found.layers[1]["saturated"] > 0.3
    assert "saturation" not in codes(found)


@pytest.mark.parametrize(
    "neuron_type, words, change",
    [
        (nengo.LIF(tau_ref=0), "LIF spikes once a step at most and loses", "a shorter dt"),
        (nengo.LIF(tau_ref=0.0005), "LIF spikes once a step at most and loses", "up to 0.0005 s"),
        (nengo.AdaptiveLIF(tau_ref=0), "AdaptiveLIF spikes once a step", "a shorter dt"),
        (nengo.LIF(), None, None),
        (nengo.RegularSpiking(nengo.LIFRate(tau_ref=0)), None, None),
        (nengo.SpikingRectifiedLinear(), None, None),
    ],
    ids=str,
)
def test_what_a_step_of_a_millisecond_costs(neuron_type, words, change):
    with nengo.Network(seed=0):
        layer = nn.dense(nn.constant_input((4,)), np.eye(4), neuron_type, gain=20.0, label="l")
    found = nn.diagnose(layer, [[0.2, 0.5, 0.8, 1.0]]).findings
    coarse = [each for each in found if each.code == "coarse-step"]
    assert bool(coarse) == (words is not None)
    if coarse:
        assert f"l: {words}" in coarse[0].message
        assert change in coarse[0].change


def test_izhikevich_neurons_in_long_steps_are_found():
    with nengo.Network(seed=0):
        layer = nn.dense(
            nn.constant_input((2,)), np.eye(2), nengo.Izhikevich(), gain=10.0, bias=0.0, label="l"
        )
    for dt, expected in ((0.003, True), (0.0005, False)):
        found = nn.diagnose(layer, [[0.1, 1.0]], dt=dt, presentation_time=0.3)
        assert ("coarse-step" in codes(found)) == expected
    (finding,) = (
        each
        for each in nn.diagnose(layer, [[0.1, 1.0]], dt=0.003).findings
        if each.code == "coarse-step"
    )
    assert "without a current" in finding.message
    assert "dt up to 0.001 s" in finding.change


def test_hidden_neurons_that_spike_at_random_are_not_pixels():
    rng = np.random.default_rng(0)
    kernel = rng.normal(0.3, 0.1, (4, 6))
    poisson = nengo.PoissonSpiking(nengo.RectifiedLinear())
    with nengo.Network(seed=0):
        hidden = nn.dense(nn.constant_input((4,)), kernel, poisson, gain=4000.0, label="hidden")
    assert "input-range" not in codes(nn.diagnose(hidden, rng.uniform(0.5, 1, (30, 4))))
    with nengo.Network(seed=0) as network:
        pixels = nengo.Ensemble(4, 1, neuron_type=poisson, gain=np.full(4, 4e3), bias=np.zeros(4))
        nengo.Connection(nengo.Node(np.zeros(4)), pixels.neurons, synapse=None)
    found = nn.diagnose(pixels, rng.uniform(0.5, 1, (30, 4)), network=network)
    assert "input-range" in codes(found)


def test_few_images_do_not_make_neurons_silent():
    layer = forum_mnist.STUDY.build(neurons="if").output
    few, many = (codes(nn.diagnose(layer, IMAGES[:n])) for n in (1, 200))
    assert "silent-neurons" not in few
    assert "silent-neurons" not in many
    hidden = next(each for each in layer.chain() if each.label == "hidden")
    hidden.ensemble.bias = np.where(np.arange(128) < 60, -1e4, hidden.ensemble.bias)
    few, many = (codes(nn.diagnose(layer, IMAGES[:n])) for n in (1, 200))
    assert "silent-neurons" not in few
    assert "silent-neurons" in many


def test_scale_matters_before_neurons_with_a_bend():
    """Another output for an activation of 1 is a note before ReLUs, a warning before tanh."""
    rng = np.random.default_rng(1)
    for after, severity in (
        (nn.IntegrateAndFire(), "note"),
        (nengo.RegularSpiking(nengo.Tanh()), "warning"),
    ):
        with nengo.Network(seed=0):
            layer = nn.constant_input((6,))
            first = {"gain": 100.0, "amplitude": 0.1, "label": "first"}
            layer = nn.dense(layer, rng.normal(0.5, 1, (6, 8)), nn.IntegrateAndFire(), **first)
            layer = nn.dense(
                layer, rng.normal(size=(8, 4)), after, gain=1.0, bias=0.0, label="second"
            )
        found = nn.diagnose(layer, rng.uniform(size=(50, 6))).findings
        assert [each.severity for each in found if each.code == "amplitude"] == [severity]
