import nengo
import numpy as np
import pytest
from nengo.dists import Choice

import nengonet as nn
from nengonet.explain.findings import Finding
from nengonet.studies import forum_mnist

IMAGES, LABELS = nn.datasets.load("mnist", split="test")
LAYERS = forum_mnist.mlp_layers(nn.load_weights(nn.pretrained("mnist_dense")))
SPIKING_RELU = nengo.SpikingRectifiedLinear(
    amplitude=1 / 30, initial_state={"voltage": Choice([0])}
)
TANH = nengo.RegularSpiking(nengo.Tanh())


def mlp(neuron_type=None, input_rate=255.0, **settings):
    """Build an MLP of the forum's weights with other settings."""
    neuron_type = neuron_type or nn.IntegrateAndFire(amplitude=1 / 30)
    with nengo.Network(seed=0):
        layer = nn.poisson_input((28, 28), max_rate=input_rate)
        for weights in LAYERS:
            layer = nn.dense(layer, weights, neuron_type, **{"gain": 30.0} | settings)
    return layer


def one_layer(neuron_type, n=4, **settings):
    with nengo.Network(seed=0):
        return nn.dense(nn.constant_input((n,)), np.eye(n), neuron_type, label="l", **settings)


def found(layer, code, images=IMAGES[:50], **settings):
    """Return the findings of a code."""
    findings = nn.diagnose(layer, images, **settings).findings
    return [finding for finding in findings if finding.code == code]


def alarms(layer, images=IMAGES[:50], **settings):
    findings = nn.diagnose(layer, images, **settings).findings
    return [finding.code for finding in findings if finding.severity != "note"]


def test_a_code_is_not_broken_at_its_hyphen():
    for length in range(60, 100):
        finding = Finding("bias-threshold", "warning", ("a",), "x" * length, "evidence", "change")
        assert "[bias-threshold]" in str(finding)


# -- no false alarms ------------------------------------------------------------------------------


@pytest.mark.parametrize("neurons", ["lif", "if", "relu"])
@pytest.mark.parametrize("images", [slice(0, 1000), slice(300, 420)])
def test_the_repaired_networks_are_in_order(neurons, images):
    example = forum_mnist.STUDY.build(neurons=neurons, seed=4)
    assert alarms(example.output, IMAGES[images], labels=LABELS[images]) == []


def test_networks_built_by_hand_are_in_order():
    assert alarms(mlp(), IMAGES[:200]) == []
    rows = nn.diagnose(mlp(), IMAGES[:50]).layers
    assert [row["output_per_activation"] for row in rows] == [None, *[pytest.approx(1)] * 2]
    assert not found(mlp(input_rate=1000.0), "input-range")
    assert alarms(mlp(), dt=0.05, presentation_time=1.0) == []
    with nengo.Network(seed=0):
        layer = nn.constant_input((28, 28))
        for weights in LAYERS:
            layer = nn.dense(layer, weights, nengo.RectifiedLinear(), gain=1.0)
    # rate neurons put out the same in every step
    assert alarms(layer, readout="last_step") == []


def test_a_layer_that_saturates_as_its_ann_does_is_in_order():
    rng = np.random.default_rng(0)
    with nengo.Network(seed=0):
        layer = nn.constant_input((20,))
        settings = {"gain": 1.0, "bias": 0.0, "amplitude": 0.0025}
        layer = nn.dense(layer, 3 * rng.normal(size=(20, 20)), TANH, label="h", **settings)
        layer = nn.dense(layer, 3 * rng.normal(size=(20, 20)), None, label="o")
    diagnosis = nn.diagnose(layer, rng.uniform(size=(100, 20)), readout="mean")
    assert diagnosis.layers[1]["saturated"] > 0.3
    assert "saturation" not in [finding.code for finding in diagnosis.findings]


# -- each fault -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network, shown, code, severity, words",
    [
        ({"input_rate": 25500.0}, {}, "input-range", "error", "max_rate"),
        (
            {"neuron_type": SPIKING_RELU, "input_rate": 150.0},
            {},
            "rectified-noise",
            "error",
            "synapse",
        ),
        ({}, {"presentation_time": 0.01}, "quantisation", "error", "longer presentation_time"),
        ({"gain": 0.4, "amplitude": 2.5}, {}, "silent-output", "error", "raise the gain"),
        ({"synapse": 0.1}, {}, "synapse-delay", "error", "shorter synapses"),
        ({"synapse": 0.04}, {}, "synapse-delay", "warning", "shorter synapses"),
        ({}, {"readout": "steps_after_first_spike"}, "readout-filter", "error", "spike_count"),
        ({}, {"readout": "last_step"}, "readout-last-step", "error", 'readout="mean"'),
        ({"amplitude": 1.0}, {}, "amplitude", "note", "amplitude=0.03"),
        ({"neuron_type": nengo.LIF(), "gain": 50.0}, {}, "saturation", "error", "lower the gain"),
        (
            {"neuron_type": nengo.LIF(), "gain": 2.0, "amplitude": 1.0},
            {},
            "amplitude",
            "warning",
            "amplitude=0.0",
        ),
        (
            {"neuron_type": nengo.LIF(amplitude=0.01), "gain": 2.0, "bias": 1.0},
            {},
            "bias-threshold",
            "warning",
            "bias=0",
        ),
        (
            {"neuron_type": nengo.LIF(), "gain": None, "max_rates": 100.0, "input_rate": 2e4},
            {},
            "gain-on-neurons",
            "warning",
            "bias=0",
        ),
    ],
)
def test_each_fault_is_found(network, shown, code, severity, words):
    (finding,) = found(mlp(**network), code, IMAGES[:200], **shown)
    assert finding.severity == severity
    assert words in finding.change
    assert any(character.isdigit() for character in finding.evidence)
    if shown:
        assert not found(mlp(), code, readout="mean")


@pytest.mark.parametrize("part", [slice(None), slice(0, 2), [3, 1], 5])
def test_a_filtered_probe_is_found(part):
    example = forum_mnist.STUDY.build(neurons="if")
    assert nn.diagnose(example.output, IMAGES[:50]).findings == ()
    with example.network:
        nengo.Probe(example.output.ensemble.neurons[part], synapse=0.1)
    (finding,) = nn.diagnose(example.output, IMAGES[:50]).findings
    assert finding.code == "readout-filter"
    assert finding.message.startswith("output: its probe filters")  # no address of an object
    assert "synapse=Lowpass(tau=0.1)" in finding.evidence


@pytest.mark.parametrize(
    "image, severities",
    [
        ([0.0, 255.0], ["warning"]),
        ([0.0, 1.0], []),
        ([-1.8, 2.6], []),
        ([-120.0, 135.0], []),
        ([0.0, 1000.0], []),
    ],
)
def test_stored_pixels_are_found_and_centred_ones_are_not(image, severities):
    layer = one_layer(nengo.RectifiedLinear(), 2, gain=1.0)
    pixels = found(layer, "input-range", [image], readout="mean")
    assert [finding.severity for finding in pixels] == severities


def test_hidden_neurons_that_spike_at_random_are_not_pixels():
    rng = np.random.default_rng(0)
    kernel, images = rng.normal(0.3, 0.1, (4, 6)), rng.uniform(0.5, 1, (30, 4))
    poisson = nengo.PoissonSpiking(nengo.RectifiedLinear())
    with nengo.Network(seed=0):
        hidden = nn.dense(nn.constant_input((4,)), kernel, poisson, gain=4000.0, label="hidden")
    assert not found(hidden, "input-range", images)
    with nengo.Network(seed=0) as network:
        pixels = nengo.Ensemble(4, 1, neuron_type=poisson, gain=np.full(4, 4e3), bias=np.zeros(4))
        nengo.Connection(nengo.Node(np.zeros(4)), pixels.neurons, synapse=None)
    assert found(pixels, "input-range", images, network=network)


def test_few_spikes_are_found():
    """Divide the gain by 1000 and multiply the amplitude by it, for the same mean output."""
    layer = mlp(nn.IntegrateAndFire(amplitude=1 / 0.03), gain=0.03)
    (finding,) = found(layer, "few-spikes", readout="mean")
    assert (finding.severity, finding.layers) == ("error", ("hidden",))
    peak = nn.diagnose(layer, IMAGES[:50], readout="mean").layers[1]["peak_rate"]
    assert f"fires at {peak:.3g} Hz" in finding.evidence
    assert f"spike {0.35 * peak:.2g} times" in finding.message
    assert not found(mlp(), "few-spikes", readout="mean")


def test_a_finding_names_all_layers_and_describes_the_worst():
    (finding,) = found(mlp(), "few-spikes", presentation_time=0.01)
    assert finding.layers == ("input", "hidden")
    assert finding.message.startswith("hidden: ")


def test_one_of_twenty_images_is_not_an_error():
    """A severity depends on the lower end of the share's interval."""
    layer = mlp(SPIKING_RELU)
    plain, noisy = (nn.predict_rates(layer, IMAGES, noise=noise) for noise in (False, True))
    changed = plain.argmax(axis=1) != noisy.argmax(axis=1)
    images = np.concatenate([IMAGES[changed][:20], IMAGES[~changed][:19]])
    for few, severity in ((slice(19, 20), "error"), (slice(19, 39), "note"), (slice(39), "error")):
        (finding,) = found(layer, "rectified-noise", images[few])
        assert finding.severity == severity


def test_a_given_gain_is_not_called_tuned():
    """The gain comes from a builder, plain Nengo or an edit; its saturation is found."""
    lif = {"neuron_type": nengo.LIF(), "input_rate": 2e4}
    assert found(mlp(**lif, gain=None, **nn.FORUM), "gain-on-neurons")
    given = mlp(**lif, gain=2.0332)
    assert not found(given, "gain-on-neurons")
    assert found(given, "saturation")
    with nengo.Network(seed=0) as network:
        layer = nn.poisson_input((28, 28), max_rate=2e4)
        hidden = nn.dense(layer, 100 * LAYERS[0].kernel, nengo.LIF(), label="hidden", **nn.FORUM)
        output = nn.dense(hidden, LAYERS[1], None, label="output")
    (before,) = found(output, "gain-on-neurons")
    assert before.layers == ("hidden",)
    hidden.ensemble.gain = hidden.ensemble.gain * 1.1
    assert not found(output, "gain-on-neurons")
    assert not hidden.tuned
    tuned = {"max_rates": Choice([100]), "intercepts": Choice([0])}
    with nengo.Network(seed=0) as network:
        pixels = nengo.Node(np.zeros(784))
        kernel = 100 * np.random.default_rng(0).normal(size=(10, 784))
        for tuning in (tuned, {"gain": np.full(10, 2.0332), "bias": np.ones(10)}):
            ensemble = nengo.Ensemble(10, 1, neuron_type=nengo.LIF(), label=str(tuning), **tuning)
            nengo.Connection(pixels, ensemble.neurons, transform=kernel, synapse=None)
            plain = found(ensemble, "gain-on-neurons", IMAGES[:50].reshape(50, -1), network=network)
            assert bool(plain) == (tuning is tuned)


@pytest.mark.parametrize(
    "neuron_type, words, change",
    [
        (nengo.LIF(tau_ref=0), "LIF spikes once a step at most and loses", "a shorter dt"),
        (nengo.LIF(tau_ref=0.0005), "LIF spikes once a step at most and loses", "at most 0.0005 s"),
        (nengo.AdaptiveLIF(tau_ref=0), "AdaptiveLIF spikes once a step", "a shorter dt"),
        (nengo.LIF(), None, None),
        (nengo.RegularSpiking(nengo.LIFRate(tau_ref=0)), None, None),
        (nengo.SpikingRectifiedLinear(), None, None),
    ],
    ids=str,
)
def test_what_a_step_of_a_millisecond_costs(neuron_type, words, change):
    coarse = found(one_layer(neuron_type, gain=20.0), "coarse-step", [[0.2, 0.5, 0.8, 1.0]])
    assert bool(coarse) == (words is not None)
    for finding in coarse:
        assert f"l: {words}" in finding.message
        assert change in finding.change


def test_izhikevich_neurons_in_long_steps_are_found():
    layer = one_layer(nengo.Izhikevich(), 2, gain=10.0, bias=0.0)
    time = {"images": [[0.1, 1.0]], "presentation_time": 0.3}
    assert not found(layer, "coarse-step", dt=0.0005, **time)
    (finding,) = found(layer, "coarse-step", dt=0.003, **time)
    assert "without a current" in finding.message
    assert "a dt of at most 0.001 s" in finding.change


def test_few_images_do_not_make_neurons_silent():
    layer = forum_mnist.STUDY.build(neurons="if").output
    assert not found(layer, "silent-neurons", IMAGES[:200])
    hidden = layer.pre
    hidden.ensemble.bias = np.where(np.arange(128) < 60, -1e4, hidden.ensemble.bias)
    assert not found(layer, "silent-neurons", IMAGES[:1])
    assert found(layer, "silent-neurons", IMAGES[:200])


@pytest.mark.parametrize("after, severity", [(nn.IntegrateAndFire(), "note"), (TANH, "warning")])
def test_scale_matters_before_neurons_with_a_bend(after, severity):
    """A wrong scale is a note before ReLUs and a warning before tanh."""
    rng = np.random.default_rng(1)
    with nengo.Network(seed=0):
        layer = nn.constant_input((6,))
        settings = {"gain": 100.0, "amplitude": 0.1, "label": "first"}
        layer = nn.dense(layer, rng.normal(0.5, 1, (6, 8)), nn.IntegrateAndFire(), **settings)
        layer = nn.dense(layer, rng.normal(size=(8, 4)), after, gain=1.0, bias=0.0, label="second")
    (finding,) = found(layer, "amplitude", rng.uniform(size=(50, 6)))
    assert finding.severity == severity


# -- through convolutions and pools ---------------------------------------------------------------


def cnn(neuron_type, gain, **settings):
    """Build convolutions with a max pool and an average pool between them; return some images."""
    rng = np.random.default_rng(3)
    labels = ("conv", "again", "output")
    settings = {label: {"gain": gain, "label": label} | settings.get(label, {}) for label in labels}
    with nengo.Network(seed=0):
        layer = nn.constant_input((8, 8))
        weights = (rng.normal(0.1, 0.4, (3, 3, 1, 3)), np.array([0.5, -0.1, 0.0]))
        layer = nn.conv2d(layer, weights, neuron_type, **settings["conv"])
        layer = nn.max_pool2d(layer, label="largest")
        kernel = rng.normal(0.1, 0.4, (2, 2, 3, 4))
        layer = nn.conv2d(layer, kernel, neuron_type, **settings["again"])
        layer = nn.avg_pool2d(layer, label="mean")
        layer = nn.dense(layer, rng.normal(0.1, 0.5, (4, 3)), neuron_type, **settings["output"])
    return layer, rng.uniform(size=(60, 8, 8))


def test_a_cnn_at_its_anns_scale_is_in_order():
    output, images = cnn(nn.IntegrateAndFire(amplitude=1 / 100), 100.0)
    diagnosis = nn.diagnose(output, images, labels=np.zeros(60, dtype=int))
    rows = {row["label"]: row for row in diagnosis.layers}
    assert list(rows) == ["input", "conv", "largest", "again", "mean", "output"]
    for label in ("conv", "again", "output"):
        assert rows[label]["output_per_activation"] == pytest.approx(1.0)
    assert diagnosis.ann_accuracy.value == diagnosis.predicted_accuracy.value
    assert alarms(output, images) == []
    shown = {"presentation_time": 0.3, "rasters": ["largest"], "progress": False}
    result = nn.present(output.network, output, images, **shown)
    assert result.layer("largest").shape == (3, 3, 3)
    assert result.rasters["largest"].shape == (60, 300, 27)
    compared = {row["label"]: row for row in nn.compare(result, output, images).layers}
    assert list(compared) == ["conv", "largest", "again", "output"]
    assert compared["largest"]["rms_spikes"] < 0.5


def test_a_pool_is_not_a_bright_pixel():
    output, images = cnn(nn.IntegrateAndFire(amplitude=1 / 3000), 3000.0)
    rates = {row["label"]: row["peak_rate"] for row in nn.diagnose(output, images).layers}
    assert rates["largest"] > 1000
    assert not found(output, "input-range", images)


def test_amplitude_is_seen_across_pools():
    """Pools lie between the layer at fault and the layer that it feeds."""
    other = {"conv": {"gain": 500.0}, "again": {"gain": 20.0}}
    output, images = cnn(nn.IntegrateAndFire(amplitude=1 / 100), 100.0, **other)
    (finding,) = found(output, "amplitude", images)
    assert finding.layers == ("conv",)
    assert "amplitude=0.002" in finding.change


def test_the_bias_of_a_filter_is_its_neurons_bias():
    """LIF's bias is distinguished from the Keras bias, which every position has."""
    output, images = cnn(nengo.LIF(amplitude=0.01), 2.0)
    assert not found(output, "bias-threshold", images)
    output, images = cnn(nengo.LIF(amplitude=0.01), 2.0, conv={"bias": 1.5})
    (finding,) = found(output, "bias-threshold", images)
    assert finding.layers == ("conv",)
    assert finding.evidence == "bias 1.5"


# -- loops ----------------------------------------------------------------------------------------


def loop(weight, synapse=0.01, n=12, gain=2.0, inputs=1.5, label="loop"):
    """Return neurons that feed each other equally, and images with slightly different inputs."""
    with nengo.Network(seed=0):
        layer = nn.constant_input((n,), label="inputs")
        layer = nn.dense(layer, np.eye(n), nengo.LIF(), gain=gain, bias=0.0, label=label)
        transform = weight * (np.ones((n, n)) - np.eye(n))
        nengo.Connection(layer.output, layer.output, transform=transform, synapse=synapse)
    images = inputs * np.random.default_rng(1).uniform(0.8, 1.0, (30, n))
    return layer, images


LOOP_CODES = (
    "not-settled",
    "unstable-fixed-point",
    "several-fixed-points",
    "coarse-spikes",
    "slow-settling",
)


def loop_codes(layer, images, **settings):
    findings = nn.diagnose(layer, images, **settings).findings
    return {each.code: each for each in findings if each.code in LOOP_CODES}


@pytest.mark.parametrize("presentation_time", [0.35, 2.0])
def test_a_loop_that_rests_soon_is_in_order(presentation_time):
    layer, images = loop(-0.001)
    assert loop_codes(layer, images, presentation_time=presentation_time) == {}


def test_a_loop_with_a_slow_synapse_takes_long_to_settle():
    layer, images = loop(-0.001, synapse=0.1)
    soon, late = (loop_codes(layer, images, presentation_time=time) for time in (0.1, 2.0))
    assert list(soon) == ["slow-settling"]
    assert soon["slow-settling"].severity == "error"
    assert soon["slow-settling"].layers == ("loop",)
    assert "to settle, in a presentation of 100 ms" in soon["slow-settling"].message
    assert late == {}


def test_a_loop_with_several_winners_says_so():
    layer, images = loop(-0.05, synapse=0.02, inputs=2.5)
    found = loop_codes(layer, images, presentation_time=2.0)
    assert list(found) == ["several-fixed-points"]
    assert "of 20 images" in found["several-fixed-points"].evidence


def test_a_loop_of_short_and_strong_currents_is_coarse():
    layer, images = loop(-0.004, synapse=0.002, inputs=2.5)
    found = loop_codes(layer, images, presentation_time=2.0)
    assert found["coarse-spikes"].severity == "warning"
    assert "longer synapses" in found["coarse-spikes"].change


def test_a_loop_that_swings_is_unstable():
    with nengo.Network(seed=0):
        inputs = nn.constant_input((1,), label="inputs")
        layer = nn.dense(inputs, np.ones((1, 1)), nengo.RectifiedLinear(), gain=1.0, label="swing")
        nengo.Connection(layer.output, layer.output, transform=-3.0, synapse=0)
    found = loop_codes(layer, np.ones((40, 1)))
    assert list(found) == ["unstable-fixed-point"]
    finding = found["unstable-fixed-point"]
    assert (finding.severity, finding.layers) == ("error", ("swing",))
    assert "by up to 3" in finding.evidence


def test_a_loop_that_grows_without_end_settles_nowhere():
    with nengo.Network(seed=0):
        inputs = nn.constant_input((1,), label="inputs")
        layer = nn.dense(inputs, np.ones((1, 1)), nengo.RectifiedLinear(), gain=1.0, label="grows")
        nengo.Connection(layer.output, layer.output, transform=1.5, synapse=0.01)
    images = np.concatenate([np.zeros((99, 1)), np.ones((1, 1))])
    found = loop_codes(layer, images)
    assert list(found) == ["not-settled"]
    assert found["not-settled"].severity == "note"  # 1 of 100
    assert loop_codes(layer, np.ones((9, 1)))["not-settled"].severity == "error"


def test_ensembles_behind_encoders_are_tuned_for_them():
    """Biases above 1 and silent neurons are normal behind encoders."""
    with nengo.Network(seed=0) as network:
        node = nengo.Node([0.0], label="x")
        a, b = (nengo.Ensemble(60, 1, label=name) for name in "ab")
        nengo.Connection(node, a)
        nengo.Connection(a, b)
    values = np.random.default_rng(0).uniform(-1, 1, (100, 1))
    found = nn.diagnose(b, values, network=network, presentation_time=1.0, readout="sum").findings
    assert [each for each in found if each.severity != "note"] == []
    assert "silent-neurons" not in [each.code for each in found]


# -- branches -------------------------------------------------------------------------------------


def residual(amplitude):
    """Return a residual block behind a layer of this amplitude."""
    rng = np.random.default_rng(2)
    spiking = {"neuron_type": nn.IntegrateAndFire(amplitude=0.01), "gain": 100.0}
    with nengo.Network(seed=0):
        pixels = nn.constant_input((12,))
        first = nn.dense(pixels, rng.normal(0.1, 0.4, (12, 9)), **spiking, label="first")
        first.ensemble.neuron_type = nn.IntegrateAndFire(amplitude=amplitude)
        branch = nn.dense(first, rng.normal(0.1, 0.4, (9, 9)), **spiking, label="branch")
        way = nn.dense(branch, rng.normal(0.1, 0.4, (9, 9)), None, label="way")
        block = nn.activation([way, nn.lowpass(first, 0.0)], **spiking, label="block")
        return nn.dense(block, rng.normal(0, 0.4, (9, 4)), None, label="classes")


def test_branches_on_one_scale_are_in_order():
    images = np.random.default_rng(1).uniform(size=(50, 12))
    assert not found(residual(0.01), "branch-scales", images, readout="mean")
    assert not found(residual(0.01), "amplitude", images, readout="mean")


def test_branches_on_different_scales_are_found():
    images = np.random.default_rng(1).uniform(size=(50, 12))
    output = residual(0.01)
    (before,) = (each for each in output.upstream() if each.label == "branch")
    before.ensemble.neuron_type = nn.IntegrateAndFire(amplitude=0.05)
    (finding,) = found(output, "branch-scales", images, readout="mean")
    assert (finding.layers, finding.severity) == (("block",), "warning")
    assert "way outputs 5, first outputs 1" in finding.evidence
    assert "nengonet.balance" in finding.change
    # A scale that all have changes no sum, and it is the layer's own that is told.
    for layer in output.upstream():
        if layer.ensemble is not None:
            layer.ensemble.neuron_type = nn.IntegrateAndFire(amplitude=0.1)
            layer.ensemble.gain = np.full(9, 100.0 if layer.label == "first" else 10.0)
    assert not found(output, "branch-scales", images, readout="mean")
    told = found(output, "amplitude", images, readout="mean")
    assert [each.layers for each in told] == [("first",), ("way",)]
    assert told[0].change == "use amplitude=0.01"
    assert (
        told[1].change == "change the amplitudes of the layers before it, or the scale of the input"
    )
