"""Networks with layers that merge several others, compared with Keras and with hand results."""

import keras_networks
import nengo
import numpy as np
import pytest
from keras_networks import NETWORKS, read, series

import nengonet as nn
from nengonet.explain.prediction import keras_activations, predict
from nengonet.results.operations import ann_multiply_adds, synapses_of


def built(build, ending=".keras", **settings):
    """Return a network's last layer, images, and Keras' outputs for them."""
    weights, images, expected = read(build.__name__, ending)
    with nengo.Network(seed=0):
        output = build(weights, **settings)
    return output, images, expected


@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_the_ann_and_the_prediction_are_keras_own_output(build):
    output, images, expected = built(build)
    found = keras_activations(output, images)
    predicted = {each.label: each.mean_outputs for each in predict(output, images)}
    weighted = [each.label for each in output.upstream() if each.weights is not None]
    assert list(found) == weighted
    for label, values in found.items():
        theirs = expected[NETWORKS[build].get(label, label)]
        if label == "classes" and build is keras_networks.residual:
            values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(values.reshape(theirs.shape), theirs, atol=2e-6 * scale)
        np.testing.assert_allclose(predicted[label], found[label], atol=1e-9 * scale)
        assert (theirs < 0.9 * scale).any()
    # What has no weights is what Keras computes there, too.
    for label in set(predicted) & set(expected) - set(weighted):
        theirs = expected[label].reshape(len(images), -1)
        np.testing.assert_allclose(predicted[label], theirs, atol=1e-5, err_msg=label)


@pytest.mark.parametrize("ending", [".keras", ".h5", ".weights.h5"])
def test_every_dialect_tells_the_kernels_over_steps(ending):
    output, images, expected = built(series, ending)
    found = keras_activations(output, images)["classes"]
    np.testing.assert_allclose(found, expected["classes"], atol=1e-5)


SPIKING = {
    "if": {"neuron_type": nn.IntegrateAndFire(amplitude=0.01), "gain": 100.0},
    "lif": {"neuron_type": nengo.LIF(amplitude=0.01), "gain": 3.0, "bias": 1.0},
    "relu": {
        "neuron_type": nengo.SpikingRectifiedLinear(amplitude=0.01),
        "gain": 100.0,
        "synapse": 0.005,
    },
}


@pytest.mark.parametrize("neurons, numba", [("if", True), ("lif", True), ("relu", False)])
@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_the_spikes_are_those_of_the_reference(build, neurons, numba, monkeypatch):
    monkeypatch.setenv("NENGONET_NUMBA", str(int(numba)))
    pools = {} if build is keras_networks.residual else {"pool_kind": "running_max"}
    output, images, _ = built(build, **pools, **SPIKING[neurons])
    run = {"presentation_time": 0.04, "readout": "mean", "progress": False, "seed": 1}
    expected = nn.present(output.network, output, images, simulator="reference", **run)
    assert min(counts.sum() for counts in expected.counts.values()) > 0
    for minibatch, jobs in [(1, 1), (3, 1)] + [(2, 2)] * (neurons == "if"):
        found = nn.present(
            output.network, output, images, minibatch_size=minibatch, n_jobs=jobs, **run
        )
        assert list(found.counts) == list(expected.counts)
        for label, counts in expected.counts.items():
            np.testing.assert_array_equal(found.counts[label], counts, err_msg=label)
        for label, counts in expected.operations.items():
            np.testing.assert_array_equal(found.operations[label], counts, err_msg=label)
        np.testing.assert_allclose(found.outputs, expected.outputs, atol=1e-9)


@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_the_prediction_is_the_run(build):
    """Neurons that integrate their current without loss fire at its mean."""
    pools = {} if build is keras_networks.residual else {"pool_kind": "running_max"}
    output, images, _ = built(build, **pools, **SPIKING["if"])
    run = {"presentation_time": 2.0, "readout": "mean", "progress": False}
    found = nn.present(output.network, output, images, **run)
    for each in predict(output, images):
        mean = found.mean_output(each.label)
        scale = np.abs(each.mean_outputs).max()
        np.testing.assert_allclose(mean, each.mean_outputs, atol=0.05 * scale, err_msg=each.label)


def test_the_budget_of_a_residual_network_runs_from_keras_to_its_spikes():
    weights, images, expected = read("residual")
    with nengo.Network(seed=0):
        last = keras_networks.residual(weights, **SPIKING["if"]).pre
        output = nn.dense(last, weights["classes"], **SPIKING["if"], label="spikes")
    rng = np.random.default_rng(7)
    images = rng.uniform(size=(30, 8, 8, 2))
    labels = keras_activations(output, images)["spikes"].argmax(axis=1)
    budget = nn.error_budget(
        output, images, labels, presentation_time=0.05, n_repeats=2, progress=False
    )
    assert [step.accuracy for step in budget.steps[:3]] == [1.0, 1.0, 1.0]
    result = nn.present(output.network, output, images, presentation_time=0.05, progress=False)
    assert budget.steps[-1].accuracy == result.accuracy(labels).value
    found = nn.diagnose(output, images, labels=labels, presentation_time=0.05)
    assert found.ann_accuracy.value == found.predicted_accuracy.value == 1.0
    rows = {row["label"]: row["output_per_activation"] for row in found.layers}
    assert rows["block_1"] == rows["projection"] == pytest.approx(1)


def test_a_file_lists_its_layers_without_weights_by_name():
    for name, kinds in {
        "residual": {"add_1": "Add", "block_1": "ReLU", "mean": "GlobalAveragePooling2D"},
        "inception": {
            "zeros": "ZeroPadding2D",
            "joined": "Concatenate",
            "largest": "GlobalMaxPooling2D",
        },
        "series": {"zeros": "ZeroPadding1D", "largest_of_all": "GlobalMaxPooling1D"},
    }.items():
        weights, *_ = read(name)
        found = {layer.name: layer.kind for layer in weights.layers}
        assert kinds.items() <= found.items()
        assert all(label in str(weights) for label in kinds)


def test_shared_weights_are_counted_where_they_are_used():
    output, *_ = built(keras_networks.shared)
    assert ann_multiply_adds(output) == {
        "twice": 5 * 5 * 3 * 3 * 2 * 3,
        "twice_2": 6 * 6 * 3 * 3 * 2 * 3,
        "again": 36,
        "again_2": 36,
        "classes": 24,
    }


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_layers_side_by_side(axis):
    rng = np.random.default_rng(axis % 7)
    shapes = [[3, 4, 2] for _ in range(3)]
    for shape, length in zip(shapes, (1, 2, 5), strict=True):
        shape[axis] = length
    images = [rng.uniform(size=(2, *shape)) for shape in shapes]
    with nengo.Network() as net:
        inputs = [nn.constant_input(tuple(shape)) for shape in shapes]
        joined = nn.concatenate(inputs, axis)
        output = nn.dense(joined, np.eye(joined.size), None)
    expected = np.concatenate(images, axis + 1 if axis >= 0 else axis)
    assert (joined.label, joined.shape, joined.pres) == (
        "concatenate",
        expected.shape[1:],
        tuple(inputs),
    )
    assert joined.amplitude is None
    shown = {each.node: image for each, image in zip(inputs, images, strict=True)}
    found = predict(output, shown, network=net)[-1].mean_outputs
    np.testing.assert_array_equal(found, expected.reshape(2, -1))


def test_sums_and_what_they_put_out():
    with nengo.Network() as net:
        pixels = nn.poisson_input((2, 3), 100.0)
        neurons = {"neuron_type": nn.IntegrateAndFire(amplitude=0.02), "gain": 50.0}
        one = nn.dense(pixels, np.eye(6), **neurons, label="one")
        two = nn.dense(pixels, np.eye(6)[:, ::-1], **neurons, label="two")
        three = nn.dense(pixels, np.eye(6), nengo.LIF(amplitude=0.5), label="three", **nn.FORUM)
        same, mixed, smooth = (
            nn.add([one, two]),
            nn.add([one, three]),
            nn.add([one, two], synapse=0.1),
        )
        padded = nn.zero_padding1d(one, (2, 1))
        output = nn.dense([same, one], np.ones((6, 2)), None)
    assert [each.label for each in (same, mixed, smooth)] == ["add", "add_1", "add_2"]
    assert [each.amplitude for each in (same, mixed, smooth, padded)] == [0.02, None, None, 0.02]
    assert (same.shape, padded.shape, same.connection.synapse) == ((6,), (9, 1), None)
    assert smooth.connection.synapse == nengo.Lowpass(0.1)
    # A spike of the first layer reaches the output on two ways.
    assert {(each.source, each.label): each.per_spike.tolist() for each in synapses_of(output)} == {
        ("input", "one"): [1] * 6,
        ("input", "two"): [1] * 6,
        ("one", "dense"): [4] * 6,
        ("two", "dense"): [2] * 6,
    }
    images = np.linspace(0.1, 1, 12).reshape(2, 2, 3)
    found = predict(same, images, network=net)[-1]
    pixels = images.reshape(2, -1)
    np.testing.assert_allclose(found.mean_outputs, pixels + pixels[:, ::-1])


@pytest.mark.parametrize(
    "padding, expected",
    [
        (1, ((1, 1), (1, 1))),
        ((2, 0), ((2, 2), (0, 0))),
        (((0, 1), (2, 3)), ((0, 1), (2, 3))),
    ],
)
def test_zeros_around_images(padding, expected):
    images = np.random.default_rng(0).uniform(0.1, 1, (2, 3, 4))
    with nengo.Network():
        layer = nn.zero_padding2d(nn.constant_input((3, 4)), padding)
    found = predict(layer, images)[-1].mean_outputs.reshape(2, *layer.shape)
    np.testing.assert_array_equal(found[..., 0], np.pad(images, ((0, 0), *expected)))


REFUSED = [
    (lambda a, b, c: nn.add([a, b]), r"one shape, whose sum .* got a \(2, 3\), b \(2, 4\)"),
    (lambda a, b, c: nn.add([]), "pre: expected a Layer, or a list of them, got an empty list"),
    (lambda a, b, c: nn.add([a, a.node]), "pre: expected a Layer, such as .* got <Node"),
    (
        lambda a, b, c: nn.concatenate([a, b], 0),
        r"concatenate: expected one shape of a and b, but for axis 0, got \(2, 3\), \(2, 4\)",
    ),
    (lambda a, b, c: nn.concatenate([a, c]), r"but for axis -1, got \(2, 3\), \(5,\)"),
    (
        lambda a, b, c: nn.concatenate([a, b], 2),
        r"axis: expected one of the 2 axes of shape \(2, 3\), got 2",
    ),
    (lambda a, b, c: nn.concatenate([a, b], "rows"), "axis: expected a whole number, got 'rows'"),
    (lambda a, b, c: nn.add([a, a], label="a"), "a: expected a label that no layer has"),
    (
        lambda a, b, c: nn.zero_padding2d(c),
        r"zero_padding2d: zero padding takes \(rows, columns, channels\), but the layer before it, "
        r"c, has shape \(5,\)",
    ),
    (
        lambda a, b, c: nn.zero_padding2d(a, -1),
        "zero_padding2d: padding: expected a whole number of at least 0, got -1",
    ),
    (
        lambda a, b, c: nn.zero_padding2d(a, (1, 2, 3)),
        r"a whole number or \(\(top, bottom\), \(left, right\)\), got \(1, 2, 3\)",
    ),
    (
        lambda a, b, c: nn.zero_padding1d(c, (1, 2, 3)),
        r"zero_padding1d: padding: expected a whole number or \(before, after\), got",
    ),
    (
        lambda a, b, c: nn.activation([a, b], nengo.LIF(), **nn.FORUM),
        "pre: expected layers of one shape",
    ),
    (
        lambda a, b, c: nn.activation(a, None),
        "activation: neuron_type: expected a Nengo neuron type, got None; nengonet.add",
    ),
]


@pytest.mark.parametrize("add, message", REFUSED)
def test_what_does_not_fit_is_refused_by_name(add, message):
    with nengo.Network():
        layers = [
            nn.constant_input(shape, label=label)
            for shape, label in [((2, 3), "a"), ((2, 4), "b"), ((5,), "c")]
        ]
        with pytest.raises(nn.InputError, match=message):
            add(*layers)
