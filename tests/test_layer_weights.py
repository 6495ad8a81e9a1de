"""The records of layers: the mapping, one layer, folding."""

import json
import pathlib
import re

import numpy as np
import pytest

from nengonet.exceptions import InputError
from nengonet.weights import (
    LayerWeights,
    Weights,
    as_layer_weights,
    fold_batch_norm,
    load_weights,
    pretrained,
)

DATA = pathlib.Path(__file__).parent / "data"


# The mapping


def test_unknown_layer():
    path = DATA / "keras2_mlp.h5"
    weights = load_weights(path)
    message = (
        f"{path}: expected one of the layers hidden, output, got 'hiden'; did you mean 'hidden'?"
    )
    for kind in (InputError, KeyError):
        with pytest.raises(kind, match=re.escape(message)) as info:
            weights["hiden"]
        assert str(info.value) == message
    assert "hiden" not in weights
    assert weights.get("hiden") is None
    with pytest.raises(TypeError):
        weights["hidden"] = 1


def test_table_and_summary():
    weights = load_weights(DATA / "keras3_conv.h5")
    title, head, *rows = str(weights).splitlines()
    assert title.endswith("keras3_conv.h5: Keras 3 full model, 11 layers, 394 parameters")
    assert head.split() == "layer kind kernel bias parameters min max mean abs".split()
    assert [row.split()[0] for row in rows] == [layer.name for layer in weights.layers]
    assert re.search(r"InputLayer .* input 7 x 6 x 4$", rows[0])
    assert re.search(r"Conv2D +3 x 3 x 2 x 6 +yes +114 .*strides 2 x 2, .*groups 2", rows[1])
    assert "gamma 6, beta 6, moving_mean 6, moving_variance 6, epsilon 0.01" in rows[2]
    assert re.fullmatch("re_lu +ReLU[ -]+", rows[3])
    summary = json.loads(json.dumps(weights.summary()))
    assert summary["parameters"] == sum(row["parameters"] for row in summary["layers"]) == 394
    assert summary["layers"][1]["max"] == float(weights["grouped"].kernel.max())


def test_no_layer_hides_another():
    layers = [LayerWeights([[1.0]], name="a"), LayerWeights([[2.0]], name="a")]
    with pytest.raises(InputError, match="layers: expected different names, got 'a' twice"):
        Weights(layers)


# One layer


def test_layer_acts_as_its_kernel():
    layer = LayerWeights([[1, 2, 3], [4, 5, 6]])
    assert (layer.kind, layer.shape, layer.bias) == ("Dense", (2, 3), None)
    np.testing.assert_array_equal(np.transpose(layer), [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(layer.T, np.transpose(layer))
    assert np.asarray(layer, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        layer.kernel[0, 0] = 1
    given = np.ones((2, 3))
    kept, copy = LayerWeights(given), np.array(layer)
    given[0, 0] = copy[0, 0] = 7
    assert layer.kernel[0, 0] == kept.kernel[0, 0] == 1


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"kernel": [["a"]]}, "weights: kernel: expected an array of numbers"),
        ({"kernel": [[1], [1, 2]]}, "weights: kernel: expected an array of numbers"),
        ({"kernel": [[True]]}, "expected an array of numbers, got booleans"),
        ({"kernel": [[1, np.nan]]}, "NaN or infinite"),
        (
            {"kernel": np.ones(3)},
            r"\(Dense\), 3 \(Conv1D\) or 4 \(Conv2D\), got shape \(3,\)",
        ),
        ({"kernel": np.ones((0, 3))}, r"kernel: expected .* none of length 0, got shape \(0, 3\)"),
        ({"kernel": np.ones((2, 3)), "kind": "Conv2D"}, "expected 4 dimensions for Conv2D"),
        ({"kind": "Dense"}, "expected a kernel"),
        (
            {"kernel": np.ones((2, 3)), "bias": np.ones(2), "name": "hidden"},
            r"hidden: bias: expected shape \(3,\) for a Dense kernel of shape \(2, 3\)",
        ),
        ({"kernel": np.ones((3, 3, 2, 4)), "bias": np.ones(8)}, r"expected shape \(4,\)"),
        (
            {"kernel": np.ones((3, 3, 2, 4)), "bias": np.ones(4), "kind": "DepthwiseConv2D"},
            r"expected shape \(8,\)",
        ),
        (
            {"kind": "BatchNormalization", "others": {"gamma": [1], "beta": [1, 2]}},
            "one value per channel",
        ),
        (
            {"others": [np.ones(3)], "name": "n"},
            r"^n: others: expected a dict, got shape \(1, 3\)$",
        ),
        ({"config": "relu"}, r"^weights: config: expected a dict, got 'relu'$"),
    ],
)
def test_bad_layers(arguments, match):
    with pytest.raises(InputError, match=match):
        LayerWeights(**arguments)


def test_wrong_shape_for_the_layer_it_is_given_to():
    hidden = LayerWeights(np.ones((784, 128)), name="hidden")
    hidden.check_inputs((28, 28, 1))
    hidden.check_inputs(784)
    message = (
        "hidden: kernel has 784 inputs, but the layer before it has 768 neurons "
        "(shape (16, 16, 3)); flatten order is (row, column, channel)"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        hidden.check_inputs((16, 16, 3))
    with pytest.raises(InputError, match=r"before it, pixels, has 10 neurons \(shape \(10,\)\)$"):
        hidden.check_inputs(10, pre_label="pixels")
    conv = LayerWeights(np.ones((3, 3, 2, 6)), name="conv", config={"groups": 2})
    conv.check_inputs((5, 5, 4))
    conv.check_inputs((5, 5, 2), groups=1)
    with pytest.raises(InputError, match=r"2 input channels x 2 groups, but .* has 3 channels"):
        conv.check_inputs((5, 5, 3))
    with pytest.raises(InputError, match=r"takes \(rows, columns, channels\)"):
        conv.check_inputs(75)
    with pytest.raises(InputError, match="6 filters do not divide into 4 groups"):
        conv.check_inputs((5, 5, 8), groups=4)


def test_as_layer_weights():
    layer = LayerWeights([[1.0]])
    assert as_layer_weights(layer, "x") is layer
    assert as_layer_weights(np.ones((2, 3)), "x").name == "x"
    pair = as_layer_weights((np.ones((2, 3)), [1, 2, 3]), "x")
    np.testing.assert_array_equal(pair.bias, [1, 2, 3])
    assert as_layer_weights((np.ones((2, 3)), None), "x").bias is None
    for bad, match in [
        (None, "x: expected a kernel"),
        ((1, 2, 3), r"x: expected \(kernel, bias\)"),
        ([[np.inf]], "x: kernel: expected finite values, got inf"),
    ]:
        with pytest.raises(InputError, match=match):
            as_layer_weights(bad, "x")


def test_fold_by_hand():
    layer = LayerWeights([[2.0, 4.0]])
    norm = LayerWeights(
        kind="BatchNormalization",
        config={"epsilon": 0.0},
        others={"gamma": [3, 1], "beta": [5, 6], "moving_mean": [1, 2], "moving_variance": [4, 1]},
    )
    folded = fold_batch_norm(layer, norm)
    np.testing.assert_array_equal(folded.kernel, [[3.0, 4.0]])
    np.testing.assert_array_equal(folded.bias, [3.5, 4.0])


def test_fold_refuses():
    kernel = np.ones((2, 3))
    others = {"moving_mean": np.zeros(3), "moving_variance": np.ones(3)}
    norm = LayerWeights(name="norm", kind="BatchNormalization", others=others)
    dense = LayerWeights(kernel, name="dense")
    active = LayerWeights(kernel, name="dense", config={"activation": "relu"})
    other_axis = LayerWeights(kind="BatchNormalization", others=others, config={"axis": 2})
    negative = others | {"moving_variance": -np.ones(3)}
    for layer, batch, match in [
        (active, norm, "dense and norm: expected a linear layer, got the activation 'relu'"),
        (LayerWeights(kernel.T, name="dense"), norm, "expected 2 channels, one per output, got 3"),
        (
            norm,
            norm,
            "norm: expected Dense, Conv1D, .*, DepthwiseConv2D to fold",
        ),
        (kernel, norm, r"layer: expected LayerWeights, got shape \(2, 3\)"),
        (dense, 4, "batch_norm: expected LayerWeights, got 4"),
        (dense, dense, "dense: expected a BatchNormalization"),
        (dense, other_axis, "the last axis"),
        (dense, LayerWeights(kind="BatchNormalization", others=negative), "above 0, got -0.999"),
    ]:
        with pytest.raises(InputError, match=match):
            fold_batch_norm(layer, batch)


def test_pretrained():
    weights = load_weights(pretrained("mnist_dense"))
    assert isinstance(weights, Weights)
    assert weights["hidden"].shape == (784, 128)
    with pytest.raises(InputError, match="name: expected one of .*mnist_dense, got 'nets'"):
        pretrained("nets")


def test_arrays_as_a_keras_layer_returns_them():
    kernel, bias = np.ones((2, 3)), np.zeros(3)
    for given in ([kernel, bias], (kernel, bias)):
        layer = as_layer_weights(given)
        assert (layer.kind, layer.bias.shape) == ("Dense", (3,))
    for given in ([kernel], (kernel,), kernel):
        assert as_layer_weights(given).bias is None
    # Numbers in lists are an array.
    assert as_layer_weights([[1.0, 2.0], [3.0, 4.0]]).shape == (2, 2)
    for n in (0, 3):
        with pytest.raises(InputError, match=rf"expected .kernel, bias., got a tuple of {n}"):
            as_layer_weights((kernel,) * n)


@pytest.mark.parametrize(
    "kernel, shape, message",
    [
        ((4, 2, 3, 3), (8, 8, 2), r"Keras has it: give kernel.transpose\(2, 3, 1, 0\)$"),
        ((3, 3, 2, 4), (2, 8, 8), r"channels last: .* numpy.moveaxis\(images, 1, -1\)$"),
        ((3, 3, 5, 4), (8, 8, 2), r"has 2 channels \(shape \(8, 8, 2\)\)$"),
        ((3, 3, 5, 4), (8, 8, 3), r"has 3 channels \(shape \(8, 8, 3\)\)$"),
    ],
)
def test_axes_in_pytorchs_order_are_recognised(kernel, shape, message):
    layer = LayerWeights(np.ones(kernel), name="conv")
    with pytest.raises(InputError, match=message):
        layer.check_inputs(shape)
