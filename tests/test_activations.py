import dataclasses
import pathlib

import numpy as np
import pytest

import nengonet as nn
from nengonet.ann.activations import activations, full_scale, multiply_adds
from nengonet.ann.unweighted import Pool

DATA = pathlib.Path(__file__).parent / "data"


def test_activations_by_hand():
    hidden = nn.LayerWeights(
        kernel=[[1.0, -2.0], [0.5, 1.0]], bias=[0.1, 0.0], name="hidden", kind="Dense"
    )
    output = nn.LayerWeights(kernel=[[2.0, -1.0, 0.0], [1.0, 1.0, 1.0]], name="output")
    found = activations([hidden, output], [[0.4, 0.2], [0.0, 1.0]])
    assert list(found) == ["hidden", "output"]
    np.testing.assert_allclose(found["hidden"], [[0.6, 0.0], [0.6, 1.0]])
    np.testing.assert_allclose(found["output"], [[1.2, -0.6, 0.0], [2.2, 0.4, 1.0]])


def test_images_are_flattened_by_row_column_channel():
    image = np.arange(24.0).reshape(1, 2, 4, 3)
    kernel = np.zeros((24, 1))
    kernel[1 * 12 + 2 * 3 + 1] = 1  # row 1, column 2, channel 1
    layer = nn.LayerWeights(kernel=kernel, name="pick")
    assert activations([layer], image)["pick"][0, 0] == image[0, 1, 2, 1]


@pytest.mark.parametrize(
    "stated, expected",
    [
        ("tanh", [np.tanh(0.5), np.tanh(-2.0)]),
        ("sigmoid", [1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(2.0))]),
        ("linear", [0.5, -2.0]),
        ("relu", [0.5, 0.0]),
        (None, [0.5, 0.0]),
    ],
)
def test_a_layer_has_the_activation_that_its_file_states(stated, expected):
    config = {} if stated is None else {"activation": stated}
    layer = nn.LayerWeights(kernel=[[0.5, -2.0]], name="hidden", config=config)
    last = nn.LayerWeights(kernel=np.eye(2), name="last", config={"activation": "softmax"})
    found = activations([layer, last], [[1.0]])
    np.testing.assert_allclose(found["hidden"][0], expected)
    np.testing.assert_allclose(found["last"][0], expected)


def test_an_activation_that_is_not_computed_is_refused():
    layer = nn.LayerWeights(kernel=np.ones((2, 2)), name="hidden", config={"activation": "gelu"})
    with pytest.raises(nn.InputError, match="hidden: expected the activation linear.*got gelu"):
        activations([layer, nn.LayerWeights(kernel=np.ones((2, 2)))], np.ones((1, 2)))


def test_full_scale_is_a_percentile_above_zero():
    values = np.r_[np.linspace(0, 1, 1001), 50.0]
    assert full_scale(values, percentile=99) == pytest.approx(0.991, abs=0.002)
    assert full_scale(values) == pytest.approx(1.0, abs=1e-5)
    assert full_scale(np.array([-1.0] * 5000 + [0.25])) == 0.25
    with pytest.raises(nn.InputError, match="expected activations above 0"):
        full_scale(np.array([-1.0, -2.0]))


def test_full_scale_takes_any_shape():
    values = np.linspace(0, 1, 1000).reshape(10, 5, 4, 5)
    assert full_scale(values) == full_scale(values.ravel())
    assert full_scale(list(values)) == full_scale(values)


def keras_cnn(file):
    """Return the layers of the CNN in tests/data, its normalisations folded."""
    weights = nn.load_weights(DATA / file)
    folded = [
        nn.fold_batch_norm(weights["grouped"], weights["after_grouped"]),
        nn.fold_batch_norm(weights["depthwise"], weights["after_depthwise"]),
    ]
    # In the model, the ReLU of these two is a layer of its own.
    relu = [
        dataclasses.replace(layer, config=layer.config | {"activation": "relu"}) for layer in folded
    ]
    return [*relu, weights["a"], weights["classes"]]


@pytest.mark.parametrize("file", ["keras2_conv.h5", "keras3_conv.h5"])
def test_a_cnn_gives_keras_own_output(file):
    expected = np.load(DATA / file.replace(".h5", ".expected.npz"))
    found = activations(keras_cnn(file), expected["input"])
    # Strides, padding and groups come from the file.
    shapes = {name: values.shape[1:] for name, values in found.items()}
    assert shapes == {
        "grouped": (4, 3, 6),
        "depthwise": (2, 1, 12),
        "a": (2, 1, 3),
        "classes": (4,),
    }
    difference = np.abs(found["classes"] - expected["output"]).max()
    assert difference <= 1e-5 * np.abs(expected["output"]).max()


def test_pools_between_layers():
    conv = nn.LayerWeights(kernel=np.array([1.0, -1.0]).reshape(1, 1, 1, 2), name="conv")
    dense = nn.LayerWeights(kernel=np.diag([1.0, 10.0]), name="dense")
    image = np.arange(16.0).reshape(1, 4, 4) - 10
    layers = [conv, Pool(), Pool("average", (1, 2), name="mean"), Pool("global_average"), dense]
    found = activations(layers, image)
    assert list(found) == ["conv", "pool", "mean", "pool_2", "dense"]
    np.testing.assert_array_equal(found["conv"][0, :, :, 0], np.maximum(image[0], 0))
    np.testing.assert_array_equal(found["conv"][0, :, :, 1], np.maximum(-image[0], 0))
    np.testing.assert_array_equal(found["pool"][0, :, :, 0], [[0, 0], [3, 5]])
    np.testing.assert_array_equal(found["pool"][0, :, :, 1], [[10, 8], [2, 0]])
    np.testing.assert_array_equal(found["mean"][0, :, 0], [[0, 9], [4, 1]])
    np.testing.assert_array_equal(found["pool_2"], [[2, 5]])
    np.testing.assert_array_equal(found["dense"], [[2, 50]])


def test_the_last_weight_layer_is_linear_even_before_a_pool():
    conv = nn.LayerWeights(kernel=-np.ones((1, 1, 1, 1)), name="conv")
    found = activations([conv, Pool("global_average")], np.ones((1, 2, 2)))
    assert found["conv"].min() == -1
    assert found["pool"] == -1


def test_multiply_adds_by_hand():
    conv = nn.LayerWeights(
        kernel=np.ones((3, 3, 1, 5)), bias=np.ones(5), name="conv", config={"padding": "same"}
    )
    strided = nn.LayerWeights(
        kernel=np.ones((2, 2, 5, 2)),
        name="depthwise",
        kind="DepthwiseConv2D",
        config={"strides": [3, 3]},
    )
    dense = nn.LayerWeights(kernel=np.ones((10, 3)), name="dense")
    found = multiply_adds([conv, Pool(), strided, Pool("global_average"), dense], (10, 10))
    # 10 x 10 positions of 45 products; 5 x 5 pooled pixels leave 2 x 2 positions of 40.
    assert found == {"conv": 4500, "pool": 0, "depthwise": 160, "pool_2": 0, "dense": 30}
    assert multiply_adds([nn.LayerWeights(kernel=np.ones((784, 128)))], (28, 28)) == {
        "weights": 100352
    }


def conv_with(**config):
    return nn.LayerWeights(kernel=np.ones((2, 2, 3, 1)), name="conv", config=config)


@pytest.mark.parametrize(
    "layers, message",
    [
        (
            [conv_with(dilation_rate=[2, 2, 2])],
            r"conv: dilation_rate: expected one whole number or two, got \[2, 2, 2\]",
        ),
        ([conv_with(data_format="channels_first")], "conv: data_format: expected channels_last"),
        ([conv_with(), Pool(size=5)], "pool: size: expected at most the image's 3 x 3"),
        ([conv_with(padding="causal")], "conv: padding: expected 'valid' or 'same'"),
        ([Pool("global_average", name="mean"), Pool()], r"layer before it, mean, has shape \(3,\)"),
        (
            [conv_with(), nn.LayerWeights(kernel=np.ones((8, 1)), name="dense")],
            r"dense: kernel has 8 inputs, but the layer before it, conv, has 9 neurons "
            r"\(shape \(3, 3, 1\)\); flatten order is \(row, column, channel\)",
        ),
        (
            [nn.LayerWeights(kernel=np.ones((2, 2, 2, 1)), name="conv")],
            "conv: kernel has 2 input channels, but the layer before it, the images, has 3",
        ),
        (
            [nn.LayerWeights(name="norm", kind="BatchNormalization", others={"beta": [1.0]})],
            "norm: expected a Dense, .* got BatchNormalization; fold it into the layer before",
        ),
        (["hidden"], r"layers: expected LayerWeights and Pool, got 'hidden'; .* give .*values\(\)"),
        (3, "layers: expected LayerWeights and Pool, got 3"),
    ],
)
def test_layers_that_cannot_be_computed_are_refused(layers, message):
    with pytest.raises(nn.InputError, match=message):
        activations(layers, np.ones((1, 4, 4, 3)))


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"kind": "min"},
            "p: kind: expected 'max', .*, 'global_max', got 'min'",
        ),
        ({"size": 0}, "p: size: expected a whole number of at least 1, got 0"),
        ({"size": (1, 2, 3)}, "p: size: expected one whole number or two"),
        ({"strides": (1, 0)}, "p: strides: expected a whole number of at least 1, got 0"),
        ({"padding": "SAVE"}, "p: padding: expected 'valid' or 'same', got 'SAVE'"),
    ],
)
def test_impossible_pools_are_refused(options, message):
    with pytest.raises(nn.InputError, match=message):
        Pool(**options, name="p")
