import importlib
import io
import itertools
import json
import math
import pathlib
import re
import shutil
import zipfile

import h5py
import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.exceptions import InputError
from nengonet.weights import (
    LayerWeights,
    dialects,
    fold_batch_norm,
    load_weights,
)

DATA = pathlib.Path(__file__).parent / "data"
FILES = sorted(p.name for p in DATA.iterdir() if p.suffix in (".h5", ".keras"))
KERAS_FILES = [name for name in FILES if not re.search("bfloat16|int[48]|activations", name)]
WITH_CONFIG = [name for name in KERAS_FILES if "_only" not in name and ".weights." not in name]

DIALECTS = {
    "keras2_mlp.h5": "Keras 2 full model",
    "keras2_mlp_only.h5": "Keras 2 weights only",
    "keras2_mlp.weights.h5": "Keras 3 weights, layers unnamed",
    "keras2_nested.keras": "Keras 2 archive",
    "keras3_mlp.h5": "Keras 3 full model",
    "keras3_mlp.weights.h5": "Keras 3 weights",
    "keras3_nested.keras": "Keras 3 archive",
}

# What the files themselves leave open: see the notes of load_weights.
UNNAMED = {
    "keras2_mlp.weights.h5": {"hidden": "dense", "output": "dense_1"},
    "keras2_nested_only.h5": {"encoder/inner/z": "encoder/z"},
}
NUMBERED = ["encoder/norm", "after_depthwise"]


def expected(name):
    """Return input, output and {layer: {array: values}} as Keras gave them."""
    stem = re.match(r"keras\d_[a-z0-9]+?(?=_only|\.)", name).group()
    layers = {}
    with np.load(DATA / f"{stem}.expected.npz") as file:
        for key in file.files:
            if ":" in key:
                layer, array = key.split(":")
                layers.setdefault(layer, {})[array] = file[key]
        return file["input"], file["output"], layers


# An oracle that shares nothing with the package: the layers of Keras in NumPy.


def relu(x):
    return np.maximum(x, 0)


def dense(x, layer):
    y = x @ layer.kernel
    return y if layer.bias is None else y + layer.bias


def windows(x, kernel, stride, padding):
    """Return (images, rows, columns, channels, kernel rows, kernel columns)."""
    pads = []
    for size, width in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        total = max((-(-size // stride) - 1) * stride + width - size, 0) if padding == "same" else 0
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    views = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return views[:, ::stride, ::stride]


def conv2d(x, layer, stride=1, padding="valid", groups=1):
    views = windows(x, layer.kernel, stride, padding)
    parts = [
        np.einsum("nijcrs,rscf->nijf", view, kernel)
        for view, kernel in zip(
            np.split(views, groups, axis=3), np.split(layer.kernel, groups, axis=3), strict=True
        )
    ]
    y = np.concatenate(parts, axis=-1)
    return y if layer.bias is None else y + layer.bias


def depthwise(x, layer):
    y = np.einsum("nijcrs,rscm->nijcm", windows(x, layer.kernel, 1, "valid"), layer.kernel)
    y = y.reshape(*y.shape[:3], -1)
    return y if layer.bias is None else y + layer.bias


def batch_norm(x, layer, epsilon):
    y = (x - layer.moving_mean) / np.sqrt(layer.moving_variance + epsilon)
    y = y if layer.gamma is None else y * layer.gamma
    return y if layer.beta is None else y + layer.beta


def run(model, x, w):
    if model == "mlp":
        x = relu(dense(x.reshape(len(x), -1), w["hidden"]))
        return dense(x, w["output"])
    if model == "deep":
        for layer in w.values():
            x = np.tanh(dense(x, layer))
        return x
    if model == "conv":
        x = conv2d(x, w["grouped"], stride=2, padding="same", groups=2)
        x = relu(batch_norm(x, w["after_grouped"], 0.01))
        x = relu(batch_norm(depthwise(x, w["depthwise"]), w["after_depthwise"], 1e-3))
        x = relu(conv2d(x, w["a"], padding="same"))
        return dense(x.reshape(len(x), -1), w["classes"])
    y = dense(relu(dense(x, w["zeta"])), w["encoder/squeeze"])
    y = dense(batch_norm(y, w["encoder/norm"], 1e-3), w["encoder/inner/z"])
    return dense(relu(dense(y, w["encoder/expand"])) + dense(x, w["bypass"]), w["alpha"])


def test_content_decides_not_the_name(tmp_path):
    assert len(KERAS_FILES) == 18
    found = {}
    for name in KERAS_FILES:
        weights = load_weights(str(shutil.copy(DATA / name, tmp_path / "foo.bin")))
        assert list(weights) == list(load_weights(DATA / name))
        found[name] = weights.dialect
    assert DIALECTS.items() <= found.items()
    assert set(found.values()) == set(DIALECTS.values())


@pytest.mark.parametrize("name", KERAS_FILES)
def test_arrays_and_order_are_those_of_keras(name):
    weights = load_weights(DATA / name)
    _, _, layers = expected(name)
    renamed = UNNAMED.get(name, {})
    assert list(weights) == [renamed.get(layer, layer) for layer in layers]
    for layer, arrays in layers.items():
        read = weights[renamed.get(layer, layer)]
        if layer not in NUMBERED or ".weights." not in name:
            assert list(read.arrays) == list(arrays)
        for values, wanted in zip(read.arrays.values(), arrays.values(), strict=True):
            np.testing.assert_array_equal(values, wanted, strict=True)


@pytest.mark.parametrize("name", [name for name in KERAS_FILES if name not in UNNAMED])
def test_output_is_that_of_keras(name):
    x, y, _ = expected(name)
    weights = dict(load_weights(DATA / name))
    if ".weights." in name:  # what the user states, as the file does not
        for layer, given in [("after_depthwise", "beta"), ("encoder/norm", "gamma")]:
            if layer in weights:
                names = (given, "moving_mean", "moving_variance")
                arrays = dict(zip(names, weights[layer].others.values(), strict=True))
                weights[layer] = LayerWeights(kind="BatchNormalization", others=arrays)
    model = name.split("_")[1].split(".")[0]
    np.testing.assert_allclose(run(model, x, weights), y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in WITH_CONFIG if "conv" in name])
def test_folded_output_is_that_of_keras(name):
    x, y, _ = expected(name)
    w = load_weights(DATA / name)
    grouped = fold_batch_norm(w["grouped"], w["after_grouped"])
    spread = fold_batch_norm(w["depthwise"], w["after_depthwise"])
    assert grouped.kernel.dtype == grouped.bias.dtype == np.float32
    x = relu(conv2d(x, grouped, stride=2, padding="same", groups=2))
    x = relu(conv2d(relu(depthwise(x, spread)), w["a"], padding="same"))
    y_folded = dense(x.reshape(len(x), -1), w["classes"])
    np.testing.assert_allclose(y_folded, y, rtol=1e-5, atol=1e-5 * np.abs(y).max())


@pytest.mark.parametrize("name", [name for name in WITH_CONFIG if "nested" in name])
def test_fold_into_dense_without_beta(name):
    w = load_weights(DATA / name)
    x = np.random.default_rng(0).normal(size=(4, 5))
    layer, norm = w["encoder/squeeze"], w["encoder/norm"]
    assert norm.beta is None
    np.testing.assert_allclose(
        dense(x, fold_batch_norm(layer, norm)), batch_norm(dense(x, layer), norm, 1e-3), rtol=1e-5
    )


CONV = "Conv2D BatchNormalization DepthwiseConv2D BatchNormalization Conv2D Dense".split()


@pytest.mark.parametrize("name", WITH_CONFIG)
def test_config_comes_from_the_file(name):
    weights = load_weights(DATA / name)
    if "conv" in name:
        assert [layer.kind for layer in weights.values()] == CONV
        config = weights["grouped"].config
        assert (config["groups"], config["strides"], config["padding"]) == (2, [2, 2], "same")
        assert weights["after_grouped"].epsilon == 0.01
        assert weights["a"].config["activation"] == "relu"
    else:
        activations = [layer.config.get("activation") for layer in weights.values()]
        assert set(activations) & {"relu", "tanh"}


def test_kinds_without_config():
    weights = load_weights(DATA / "keras3_conv.weights.h5")
    assert [layer.kind for layer in weights.values()] == CONV
    assert all(layer.config == {} for layer in weights.values())
    with pytest.raises(InputError, match="after_depthwise: expected moving_mean and .*scale=False"):
        fold_batch_norm(weights["depthwise"], weights["after_depthwise"])


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
@pytest.mark.parametrize("name, steps", [("bfloat16", 2**8), ("int8", 2 * 127)])
def test_other_types(name, steps, ending):
    weights = load_weights(DATA / f"keras3_{name}{ending}")
    assert list(weights) == ["hidden", "output"]
    assert weights["output"].bias is None
    for layer, shape in zip(weights.values(), [(4, 5), (5, 3)], strict=True):
        right = np.sin(np.arange(math.prod(shape))).reshape(shape)
        assert layer.kernel.dtype == np.float32
        # half a step of the largest weight of a unit, and a little for Keras' own rounding
        assert (np.abs(layer.kernel - right) <= 1.01 * np.abs(right).max(axis=0) / steps).all()
    np.testing.assert_allclose(weights["hidden"].bias, np.sin(np.arange(5)), rtol=2**-8)


@pytest.mark.parametrize("ending", [".h5", ".weights.h5"])
def test_other_quantisations_are_refused(ending):
    refuse(DATA / f"keras3_int4{ending}", "hidden: expected floats, or .* int8 .*quantize")


# What stands between the layers


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_activations_and_what_follows(ending):
    weights = load_weights(DATA / f"keras3_activations{ending}")
    assert {layer.name: (layer.activation, layer.followed_by) for layer in weights.values()} == {
        "first": ("linear", ("first_norm",)),
        "first_norm": ("relu(max_value=6.0)", ("largest",)),
        "second": ("relu", ("late_norm",)),
        "late_norm": ("linear", ("average",)),
        "leaky": ("leaky_relu(negative_slope=0.2)", ("branching", "sum")),
        "branching": ("linear", ("tanh", "sum")),
        "logits": ("softmax", ()),
    }
    folded = fold_batch_norm(weights["first"], weights["first_norm"])
    assert (folded.activation, folded.followed_by) == ("relu(max_value=6.0)", ("largest",))
    with pytest.raises(InputError, match="expected a linear layer, got the activation 'relu'"):
        fold_batch_norm(weights["second"], weights["late_norm"])
    with pytest.raises(InputError, match="one after the other, got first_norm after first"):
        fold_batch_norm(weights["first"], weights["late_norm"])


@pytest.mark.parametrize("name", [name for name in WITH_CONFIG if re.search("conv|nested", name)])
def test_what_follows_across_models_and_flattening(name):
    weights = load_weights(DATA / name)
    if "conv" in name:
        assert weights["a"].followed_by == ("classes",)
        assert weights["after_depthwise"].activation == "relu"
    else:
        assert weights["zeta"].followed_by == ("encoder/squeeze",)
        assert weights["encoder/norm"].followed_by == ("encoder/inner/z",)
        assert weights["encoder/inner/z"].followed_by == ("encoder/expand",)
        assert weights["encoder/expand"].followed_by == ("both",)


def test_table_rebuilds_a_network():
    rows = str(load_weights(DATA / "keras3_activations.keras")).splitlines()[2:]
    notes = {row.split()[0]: (row.split()[1], re.split(" {2,}", row)[-1]) for row in rows}
    assert list(notes)[3:7] == ["relu6", "largest", "second", "early"]
    assert notes["relu6"] == ("ReLU", "max_value 6.0")
    assert notes["largest"] == ("MaxPooling2D", "pool_size 2 x 2, padding valid")
    assert notes["average"] == (
        "AveragePooling2D",
        "pool_size 2 x 1, strides 1 x 1, padding same",
    )
    assert notes["early"] == ("Activation", "activation relu")
    assert notes["flat"][0] == "Flatten"


def keras2(path, layers, arrays, *, model="Sequential", version="2.4.0", **attributes):
    """Write a full model as Keras 2 does: ``layers`` are (class, config[, inputs])."""
    configs = []
    for kind, config, *inputs in layers:
        configs.append({"class_name": kind, "config": config})
        if model != "Sequential":
            nodes = [[[name, 0, 0, {}] for name in inputs]] if inputs else []
            configs[-1] |= {"name": config["name"], "inbound_nodes": nodes}
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        for name, value in ({"keras_version": version} | attributes).items():
            if value is not None:
                group.attrs[name] = file.attrs[name] = np.bytes_(value.encode())
        config = configs if version[0] == "1" and model == "Sequential" else {"layers": configs}
        if layers:
            content = json.dumps({"class_name": model, "config": config})
            file.attrs["model_config"] = np.bytes_(content)
        group.attrs["layer_names"] = [np.bytes_(name.encode()) for name in arrays]
        for name, own in arrays.items():
            below = group.create_group(name)
            below.attrs["weight_names"] = [np.bytes_(key) for key in own]
            for key, array in own.items():
                below[key] = array
    return path


def dense_arrays(names, size=2):
    return {
        name: {f"{name}/kernel:0": np.full((size, size), i + 1.0)} for i, name in enumerate(names)
    }


@pytest.mark.parametrize(
    "between, activation, followed",
    [
        ([], "linear", ("b",)),
        ([("Activation", {"name": "x", "activation": "tanh"})], "tanh", ("b",)),
        (
            [("ReLU", {"name": "x", "negative_slope": {"type": "ndarray", "value": 0.0}})],
            "relu",
            ("b",),
        ),
        ([("ThresholdedReLU", {"name": "x", "theta": 1.0})], "thresholded_relu(theta=1.0)", ("b",)),
        ([("ELU", {"name": "x", "alpha": 1.0}), ("Dropout", {"name": "y"})], "elu", ("b",)),
        ([("Dropout", {"name": "y"}), ("Softmax", {"name": "x"})], "softmax", ("b",)),
        ([("MaxPooling2D", {"name": "y"}), ("ReLU", {"name": "x"})], "linear", ("y",)),
        (
            [("ReLU", {"name": "x"}), ("Activation", {"name": "y", "activation": "tanh"})],
            "relu then tanh",
            ("b",),
        ),
        ([("TFOpLambda", {"name": "x", "function": "nn.relu"})], "relu", ("b",)),
        ([("TFOpLambda", {"name": "x", "function": "math.add"})], "linear", ("x",)),
        ([("Lambda", {"name": "x"})], "linear", ("x",)),
    ],
)
def test_activation_layers_of_keras_2(between, activation, followed, tmp_path):
    layers = [("Dense", {"name": "a"}), *between, ("Dense", {"name": "b", "activation": "relu"})]
    arrays = dense_arrays("ab")
    in_line = load_weights(keras2(tmp_path / "x", layers, arrays))
    graph = [
        layers[0],
        *((*layer, before[1]["name"]) for before, layer in itertools.pairwise(layers)),
    ]
    in_graph = load_weights(keras2(tmp_path / "y", graph, arrays, model="Functional"))
    for weights in (in_line, in_graph):
        assert (weights["a"].activation, weights["a"].followed_by) == (activation, followed)
        assert (weights["b"].activation, weights["b"].followed_by) == ("relu", ())
        assert [layer.name for layer in weights.layers] == [layer[1]["name"] for layer in layers]


def test_what_an_output_and_a_layer_share_is_a_branch(tmp_path):
    layers = [("Dense", {"name": "a"}), ("ReLU", {"name": "x"}, "a"), ("Dense", {"name": "b"}, "x")]
    path = keras2(tmp_path / "x", layers, dense_arrays("ab"), model="Model")
    assert load_weights(path)["a"].activation == "relu"
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["output_layers"] = [["a", 0, 0], ["b", 0, 0]]
        file.attrs["model_config"] = json.dumps(config)
    layer = load_weights(path)["a"]
    assert (layer.activation, layer.followed_by) == ("linear", ("x", "(output)"))


@pytest.mark.parametrize(
    "name",
    [name for name in FILES if "_only" in name or ".weights." in name and "int4" not in name],
)
def test_activations_are_not_guessed(name):
    layers = load_weights(DATA / name).layers
    assert {(layer.activation, layer.followed_by) for layer in layers} == {(None, None)}


def test_activation_of_a_layer_of_ones_own():
    assert LayerWeights([[1.0]]).activation is None
    assert LayerWeights([[1.0]], config={"activation": "tanh"}).activation == "tanh"
    assert LayerWeights([[1.0]], config={"strides": [2, 2]}).activation is None


def test_config_and_arrays_that_contradict_each_other(tmp_path):
    for config, match in [
        ({"units": 3}, "the config says 3 outputs, but .* shape .2, 2"),
        ({}, None),
    ]:
        path = keras2(tmp_path / "x", [("Dense", {"name": "a"} | config)], dense_arrays("a"))
        if match:
            refuse(path, match)
        else:
            assert load_weights(path)["a"].shape == (2, 2)
    layers = [("Dense", {"name": "a"}), ("Dense", {"name": "lost"})]
    refuse(keras2(tmp_path / "x", layers, dense_arrays("a")), "lost: Dense: expected a kernel")


def test_arrays_that_the_config_does_not_place(tmp_path):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/elsewhere/vars/0"] = np.ones((2, 3))
    model = {"config": {"layers": [{"class_name": "Dense", "config": {"name": "d"}}]}}
    archive = {"model.weights.h5": content.getvalue(), "config.json": json.dumps(model)}
    (layer,) = load_weights(zipped(tmp_path / "x", **archive)).layers
    assert (layer.name, layer.kind, layer.activation) == ("elsewhere", "unknown", None)


def test_two_groups_of_one_name(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        file.create_group("vars")
        for i, key in enumerate(["first", "second"]):
            file.create_group(f"{key}/vars").attrs["name"] = "dense"
            file[f"{key}/vars/0"] = np.full((2, 2), i) + 0.5
    weights = load_weights(tmp_path / "x")
    assert {name: layer.kernel[0, 0] for name, layer in weights.items()} == {
        "dense": 0.5,
        "second": 1.5,
    }


def test_archive_and_its_arrays_have_one_limit(tmp_path):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((5000, 1000))  # 40 MB, twice
    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", content.getvalue())
    refuse(tmp_path / "x", "arrays take more than 64 MB")


# Kinds without a config


@pytest.mark.parametrize(
    "name, arrays, kind",
    [
        ("conv2d_transpose", {"kernel": (3, 3, 8, 8), "bias": (8,)}, "Conv2DTranspose"),
        ("conv2d_transpose_12", {"kernel": (3, 3, 8, 8)}, "Conv2DTranspose"),
        ("up/conv2d_transpose_1", {"kernel": (3, 3, 8, 8)}, "Conv2DTranspose"),
        ("deconv_3", {"kernel": (3, 3, 8, 8), "bias": (8,)}, "Conv2DTranspose"),
        ("up", {"kernel": (3, 3, 4, 8), "bias": (4,)}, "Conv2DTranspose"),
        ("up", {"kernel": (3, 3, 4, 1), "bias": (4,)}, "Conv2DTranspose"),
        ("conv2d_1", {"kernel": (3, 3, 8, 8), "bias": (8,)}, "Conv2D"),
        ("first", {"kernel": (3, 3, 8, 4), "bias": (4,)}, "Conv2D"),
        ("dense_7", {"kernel": (3, 3, 8, 4), "bias": (4,)}, "Conv2D"),
        ("conv2d_7", {"kernel": (3, 4), "bias": (4,)}, "Dense"),
        ("depthwise_conv2d", {"depthwise_kernel": (3, 3, 8, 1), "bias": (8,)}, "DepthwiseConv2D"),
        (
            "separable_conv2d",
            {"depthwise_kernel": (3, 3, 8, 1), "pointwise_kernel": (1, 1, 8, 4), "bias": (4,)},
            "unknown",
        ),
        ("layer_normalization", {"gamma": (4,), "beta": (4,)}, "unknown"),
        ("line", {"kernel": (3, 4, 5)}, "unknown"),
        ("conv1d", {"kernel": (3, 4, 5), "bias": (5,)}, "Conv1D"),
        ("lstm", {"kernel": (3, 8), "recurrent_kernel": (2, 8), "bias": (8,)}, "unknown"),
    ],
)
def test_kinds_of_keras_2_weights_only(name, arrays, kind, tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        file.attrs["layer_names"] = [np.bytes_(name)]
        group = file.create_group(name)
        group.attrs["weight_names"] = [np.bytes_(f"{name}/{key}:0") for key in arrays]
        for key, shape in arrays.items():
            group[f"{name}/{key}:0"] = np.ones(shape, "f4")
    layer = load_weights(tmp_path / "x")[name]
    assert (layer.kind, layer.n_parameters) == (kind, sum(map(math.prod, arrays.values())))


@pytest.mark.parametrize(
    "place, name, shapes, kind",
    [
        ("layers/conv2d_transpose", "up", [(3, 3, 4, 4), (4,)], "Conv2DTranspose"),
        ("layers/conv2d_transpose_2", None, [(3, 3, 4, 4)], "Conv2DTranspose"),
        ("up", "conv2d_transpose_5", [(3, 3, 4, 4), (4,)], "Conv2DTranspose"),
        ("table", "embedding_1", [(9, 4)], "Embedding"),
        ("first", "conv2d_5", [(3, 3, 4, 4), (4,)], "Conv2D"),
        ("first", None, [(3, 3, 4, 4), (4,)], "Conv2D"),
        ("layers/my_layer", None, [(3, 4), (4,)], "unknown"),
        ("layers/dense", None, [(3, 4), (4,), (4,)], "unknown"),
        ("layers/batch_normalization", None, [(4,)] * 3, "BatchNormalization"),
        ("layers/batch_normalization", None, [(4,), (3, 4), (4,)], "unknown"),
    ],
)
def test_kinds_of_keras_3_weights_only(place, name, shapes, kind, tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        file.create_group("vars")
        group = file.create_group(f"{place}/vars")
        if name:
            group.attrs["name"] = name
        for i, shape in enumerate(shapes):
            group[str(i)] = np.ones(shape, "f4")
    (layer,) = load_weights(tmp_path / "x").values()
    assert (layer.name, layer.kind) == (name or place.removeprefix("layers/"), kind)


def test_arrays_are_in_the_order_of_their_numbers(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        for number in range(12):
            file[f"layers/my_layer/vars/{number}"] = np.full(2, number, "f4")
    (layer,) = load_weights(tmp_path / "x").values()
    assert [array[0] for array in layer.others.values()] == list(range(12))


# Keras 0 and 1


def keras1_layers(order):
    """Return configs, old arrays, and kernels as Keras 2 has them."""
    rng = np.random.default_rng(3)
    kernel, dense = rng.normal(size=(3, 2, 4, 5)), rng.normal(size=(6, 7))
    common = {"dim_ordering": order, "border_mode": "same", "subsample": [2, 1], "bias": True}
    layers = [
        ("Convolution2D", common | {"name": "c", "nb_filter": 5, "nb_row": 3, "nb_col": 2}),
        ("Activation", {"name": "relu", "activation": "relu"}),
        ("BatchNormalization", {"name": "n", "mode": 0, "axis": 1, "epsilon": 1e-5}),
        ("Flatten", {"name": "f"}),
        ("Dense", {"name": "d", "output_dim": 7, "activation": "softmax"}),
    ]
    norm = {key: np.full(5, i + 1.0) for i, key in enumerate(["gamma", "beta"])}
    norm |= {"running_mean": np.zeros(5), "running_std": np.full(5, 4.0)}
    arrays = {
        "c": {"c_W": kernel.transpose(3, 2, 0, 1) if order == "th" else kernel, "c_b": np.ones(5)},
        "n": {f"n_{key}": array for key, array in norm.items()},
        "d": {"d_W:0": dense, "d_b_1:0": np.ones(7)},
    }
    return layers, arrays, kernel, dense


@pytest.mark.parametrize("order", ["th", "tf"])
@pytest.mark.parametrize("version", ["1.2.2", None])
@pytest.mark.parametrize("backend", [None, "theano", "tensorflow"])
def test_keras_1_full_model(order, version, backend, tmp_path):
    layers, arrays, kernel, dense = keras1_layers(order)
    path = keras2(
        tmp_path / "x", layers, arrays, version="1", keras_version=version, backend=backend
    )
    weights = load_weights(path)
    ending = "" if backend else ", backend not given"
    assert weights.dialect == f"Keras 1 full model{ending}"
    c, n, d = weights.values()
    right = kernel[::-1, ::-1] if backend == "theano" else kernel
    np.testing.assert_array_equal(c.kernel, right)
    np.testing.assert_array_equal(d.kernel, dense)
    np.testing.assert_array_equal(n.moving_variance, np.full(5, 4.0))
    np.testing.assert_array_equal(n.gamma, np.ones(5))
    assert [layer.kind for layer in (c, n, d)] == ["Conv2D", "BatchNormalization", "Dense"]
    assert (c.activation, n.activation, d.activation) == ("relu", "linear", "softmax")
    assert (c.config["strides"], c.config["padding"]) == ([2, 1], "same")
    assert c.config["data_format"] == {"th": "channels_first", "tf": "channels_last"}[order]
    assert c.config["kernel_size"] == [3, 2]
    assert n.epsilon == 1e-5


@pytest.mark.parametrize("order", ["th", "tf"])
def test_keras_1_weights_only(order, tmp_path):
    _, arrays, kernel, dense = keras1_layers(order)
    with h5py.File(keras2(tmp_path / "x", [], arrays, version="1.1.0"), "a") as file:
        for key, value in file["model_weights"].attrs.items():
            file.attrs[key] = value
        for key in list(file["model_weights"]):
            file.move(f"model_weights/{key}", key)
        del file["model_weights"]
    weights = load_weights(tmp_path / "x")
    assert weights.dialect == "Keras 1 weights only, backend not given"
    np.testing.assert_array_equal(weights["c"].kernel, kernel)
    np.testing.assert_array_equal(weights["d"].kernel, dense)
    assert [layer.kind for layer in weights.values()] == ["Conv2D", "BatchNormalization", "Dense"]


def test_keras_0_weights(tmp_path):
    _, arrays, kernel, dense = keras1_layers("th")
    with h5py.File(tmp_path / "x", "w") as file:
        file.attrs["nb_layers"] = 11
        for i in range(11):
            group = file.create_group(f"layer_{i}")
            own = {0: arrays["c"], 10: arrays["d"]}.get(i, {})
            group.attrs["nb_params"] = len(own)
            for n, array in enumerate(own.values()):
                group[f"param_{n}"] = array
    weights = load_weights(tmp_path / "x")
    assert weights.dialect == "Keras 0 weights, layers unnamed, backend not given"
    assert list(weights) == ["layer_0", "layer_10"]
    np.testing.assert_array_equal(weights["layer_0"].kernel, kernel)
    np.testing.assert_array_equal(weights["layer_10"].kernel, dense)


def test_a_name_in_the_old_style_does_not_make_keras_1(tmp_path):
    arrays = {"a": {"a/kernel:0": np.ones((2, 2))}, "b": {"b_W": np.ones((2, 2))}}
    path = keras2(tmp_path / "x", [], arrays, keras_version=None)
    assert load_weights(path).dialect == "Keras 2 full model"


def test_keras_1_kernel_of_unknown_order_is_not_guessed(tmp_path):
    arrays = {"c": {"c_W": np.ones((3, 2, 4, 3)), "c_b": np.ones(3)}}
    layer = load_weights(keras2(tmp_path / "x", [], arrays, version="1.0.8"))["c"]
    assert (layer.kind, list(layer.arrays)) == ("unknown", ["c_W", "c_b"])


@pytest.mark.parametrize("order", ["th", "tf"])
def test_keras_1_other_layers(order, tmp_path):
    rng = np.random.default_rng(5)
    up, line = rng.normal(size=(3, 2, 4, 5)), rng.normal(size=(3, 4, 5))
    old = up.transpose(2, 3, 0, 1) if order == "th" else up.transpose(0, 1, 3, 2)
    layers = [
        ("Deconvolution2D", {"name": "up", "dim_ordering": order}),
        ("Convolution1D", {"name": "line"}),
        ("BatchNormalization", {"name": "n", "mode": 2}),
    ]
    arrays = {
        "up": {"up_W": old},
        "line": {"line_W": line[:, np.newaxis], "line_b": np.ones(5)},
        "n": {"n_gamma": np.ones(5), "n_running_mean": np.ones(5)},
    }
    weights = load_weights(keras2(tmp_path / "x", layers, arrays, version="1.2.0"))
    np.testing.assert_array_equal(weights["line"].kernel, line)
    assert [layer.kind for layer in weights.values()] == [
        *("Conv2DTranspose", "Conv1D", "BatchNormalization of mode 2")
    ]
    np.testing.assert_array_equal(weights["up"].kernel, up)


def test_theano_kernels_of_keras_2_are_turned_over(tmp_path):
    kernel = np.arange(24.0).reshape(3, 2, 2, 2)
    arrays = {"c": {"c/kernel:0": kernel}, **dense_arrays("d")}
    layers = [("Conv2D", {"name": "c", "filters": 2}), ("Dense", {"name": "d"})]
    weights = load_weights(keras2(tmp_path / "x", layers, arrays, backend="theano"))
    np.testing.assert_array_equal(weights["c"].kernel, kernel[::-1, ::-1])
    np.testing.assert_array_equal(weights["d"].kernel, np.ones((2, 2)))


# Archives of Keras 2.12 and 2.13, and of Windows


@pytest.mark.parametrize("separator", ["/", "\\"])
@pytest.mark.parametrize("step", [1, 2])
def test_old_archives(step, separator, tmp_path):
    """A layer with weights counts twice among its class in Keras 2.12 and 2.13."""
    names = [f"d{i}" for i in range(4)]
    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": []}}
    configs = []
    for name in names:
        configs.append({"class_name": "Dense", "config": {"name": name}})
        configs.append({"class_name": "Dropout", "config": {"name": f"drop_{name}"}})
    up = {"class_name": "Conv2DTranspose", "config": {"name": "up"}}
    inner["config"]["layers"] = [*configs[4:], up]
    model = {"class_name": "Sequential", "config": {"layers": [*configs[:4], inner]}}
    word, content = "_layer_checkpoint_dependencies", io.BytesIO()
    places = [f"dense{f'_{i * step}' if i else ''}" for i in range(2)]
    places += [separator.join(["sequential", word, place]) for place in places]
    places += [separator.join(["sequential", word, "conv2d_transpose"])]
    with h5py.File(content, "w") as file:
        file.create_group("vars")
        for i, place in enumerate(places):
            kernel = np.full((2, 2) if i < 4 else (3, 3, 2, 2), i + 1.0)
            file[f"{word}{separator}{place}/vars/0"] = kernel
    archive = {
        "model.weights.h5": content.getvalue(),
        "config.json": json.dumps(model),
        "metadata.json": json.dumps({"keras_version": "2.12.0"}),
    }
    weights = load_weights(zipped(tmp_path / "x", **archive))
    assert weights.dialect == "Keras 2 archive"
    assert {name: layer.kernel.flat[0] for name, layer in weights.items()} == {
        **{"d0": 1, "d1": 2, "inner/d2": 3, "inner/d3": 4, "inner/up": 5}
    }
    assert [layer.kind for layer in weights.values()] == ["Dense"] * 4 + ["Conv2DTranspose"]


def test_long_attributes_in_chunks(tmp_path):
    shutil.copy(DATA / "keras2_deep_only.h5", tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:7], names[7:]
    assert list(load_weights(tmp_path / "x.h5")) == list(load_weights(DATA / "keras2_deep_only.h5"))


def test_rewritten_file_falls_back_to_numbers(tmp_path):
    with (
        h5py.File(DATA / "keras3_deep.weights.h5") as old,
        h5py.File(tmp_path / "x", "w") as new,
    ):
        for key in sorted(old["layers"]):  # dense_10 before dense_2
            old.copy(old["layers"][key], new.require_group("layers"), key)
    names = ["dense", *(f"dense_{i}" for i in range(1, 11))]
    assert list(load_weights(tmp_path / "x")) == names


# Plain HDF5


def test_plain_hdf5(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"inpToHidden": rng.normal(size=(5, 4)), "hiddenToOut": rng.normal(size=(4, 3))}
    with h5py.File(tmp_path / "x", "w") as file:
        for key, array in arrays.items():
            file[key] = array
        file["hiddenToOut_bias"] = np.arange(3)
        file["conv/kernel"], file["conv/bias"] = np.ones((3, 3, 1, 2)), np.ones(2, "f4")
        file["old/W"], file["old/b"] = np.ones((3, 2), "f2"), np.zeros(2)
        file["threshold"] = np.ones(7)
        file["comment"] = "trained in 2019"
    weights = load_weights(tmp_path / "x")
    assert weights.dialect == "plain HDF5"
    assert list(weights) == ["inpToHidden", "hiddenToOut", "conv", "old", "threshold"]
    for key, array in arrays.items():
        np.testing.assert_array_equal(weights[key].kernel, array)
    assert weights["inpToHidden"].bias is None
    np.testing.assert_array_equal(weights["hiddenToOut"].bias, [0, 1, 2])
    assert [layer.kind for layer in weights.values()] == ["Dense", "Dense", "Conv2D", "Dense"] + [
        "unknown"
    ]
    assert weights["old"].kernel.dtype == np.float32


# A dialect of one's own: everything that a new one needs


NPZ = """
from nengonet.files import Archive
from nengonet.weights import LayerWeights

def matches(content):
    return isinstance(content, Archive) and "order.npy" in content.names

def read(content):
    names = ["hidden", "output"][: content.array("order")[0]]
    parts = [[content.array(f"{name}.{part}") for part in ("kernel", "bias")] for name in names]
    return [LayerWeights(*each, name) for each, name in zip(parts, names)], "NumPy arrays"
"""


@pytest.mark.parametrize("way", ["found in the folder", "registered"])
def test_a_dialect_from_outside(way, tmp_path, monkeypatch):
    (tmp_path / "zipped_arrays.py").write_text(NPZ)
    if way == "registered":
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(dialects, "_registered", [])
        nn.weights.register_dialect(importlib.import_module("zipped_arrays"))
    else:
        monkeypatch.setattr(dialects, "__path__", [*dialects.__path__, str(tmp_path)])
    arrays = {"hidden.kernel": np.ones((4, 3)), "hidden.bias": np.arange(3), "order": [1]}
    np.savez(tmp_path / "own.npz", **arrays)
    weights = nn.load_weights(tmp_path / "own.npz")
    assert weights.dialect == "NumPy arrays"
    assert list(weights) == ["hidden"]
    np.testing.assert_array_equal(weights["hidden"].bias, [0, 1, 2])
    assert load_weights(DATA / "keras3_nested.keras").dialect == "Keras 3 archive"
    asked = [each.__name__.rpartition(".")[2] for each in dialects.known_dialects()]
    assert asked.index("zipped_arrays") < asked.index("plain") == len(asked) - 1
    arrays.pop("hidden.bias")
    np.savez(tmp_path / "own.npz", **arrays)  # its readers are guarded as all others are
    refuse(tmp_path / "own.npz", "damaged or truncated file .KeyError: .*hidden.bias")


def test_flags_beside_weights(tmp_path):
    arrays = {"d": {"d/kernel:0": np.ones((2, 2)), "d/trained:0": np.array([True])}}
    layer = load_weights(keras2(tmp_path / "x", [], arrays))["d"]
    assert (layer.kind, list(layer.arrays)) == ("Dense", ["kernel"])


# Bad files


def plain(path, **arrays):
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return path


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def refuse(path, match):
    with pytest.raises(InputError, match=match) as info:
        load_weights(path)
    message = str(info.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    "head, match",
    [
        (b"", "expected HDF5 or a .keras archive, got an empty file"),
        (b"<!DOCTYPE html>", "look like HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"\x93NUMPY\x01\x00", "a NumPy .npy file"),
        (b"some words", r"got something else \(first bytes b'some wor'\)"),
    ],
)
def test_not_hdf5(head, match, tmp_path):
    (tmp_path / "x.h5").write_bytes(head)
    refuse(tmp_path / "x.h5", match)


@pytest.mark.parametrize("name", FILES)
def test_truncated(name, tmp_path):
    content = (DATA / name).read_bytes()
    for length in (9, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "x").write_bytes(content[:length])
        refuse(tmp_path / "x", "truncated|damaged")


def test_no_weights(tmp_path):
    refuse(plain(tmp_path / "a"), "expected weights .*without any; it holds: no arrays")
    refuse(
        plain(tmp_path / "b", labels=np.arange(3.0)),
        r"expected weights .*without any; .*labels \(3,\)",
    )
    with h5py.File(tmp_path / "c", "w") as file:
        file.create_group("model_weights").attrs["layer_names"] = []
        file["optimizer_weights/kernel"] = np.ones((2, 2))
    refuse(tmp_path / "c", r"a file without any \(Keras 2 full model\)")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad, tmp_path):
    kernel = np.ones((3, 4))
    kernel[1, 2] = kernel[2, 0] = bad
    refuse(
        plain(tmp_path / "x", hidden=kernel),
        rf"hidden: kernel: expected finite values, got {bad} at \[1, 2\]; remove or replace",
    )


def test_archives(tmp_path):
    refuse(zipped(tmp_path / "a", **{"notes.txt": "x"}), "without model.weights.h5.*notes.txt")
    content = {"model.weights.h5": b"not HDF5", "config.json": "{}"}
    refuse(zipped(tmp_path / "b", **content), "damaged or truncated file")
    content = {"model.weights.h5": b"", "config.json": "{"}
    refuse(zipped(tmp_path / "c", **content), "damaged or truncated file")
    (tmp_path / "d").write_bytes((DATA / "keras3_deep.keras").read_bytes()[:5000])
    refuse(tmp_path / "d", "damaged or truncated file")


def test_listed_layer_is_missing(tmp_path):
    shutil.copy(DATA / "keras2_mlp_only.h5", tmp_path / "x")
    with h5py.File(tmp_path / "x", "a") as file:
        del file["hidden"]
    refuse(tmp_path / "x", "lists a layer 'hidden', but does not hold it")


def test_links_and_many_names_of_one_array(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        file["a/kernel"] = np.arange(6.0).reshape(2, 3)
        file["b"], file["c/kernel"] = h5py.SoftLink("/a"), file["a/kernel"]
        for i in range(500):
            file[f"again{i}"] = file["a/kernel"]
    weights = load_weights(tmp_path / "x")
    assert len(weights) == 503
    assert {"a", "b", "c", "again499"} <= set(weights)
    assert len({id(layer.kernel) for layer in weights.values()}) == 1  # read once
    assert not weights["a"].kernel.flags.writeable


def test_other_programs_files_are_named(tmp_path):
    with h5py.File(tmp_path / "matlab", "w", userblock_size=512) as file:
        file["layers/vars"] = np.ones((3, 4))
    with open(tmp_path / "matlab", "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    with h5py.File(tmp_path / "anndata", "w") as file:
        file.attrs["encoding-type"] = "anndata"
        file["X"], file["layers/raw"] = np.ones((3, 4)), np.ones((3, 4))
    with h5py.File(tmp_path / "old", "w") as file:
        file["X"], file["obs/i"], file["var/i"] = np.ones((3, 4)), np.ones(3), np.ones(4)
    for name, match in [("matlab", "MATLAB"), ("anndata", "AnnData"), ("old", "AnnData")]:
        refuse(tmp_path / name, f"expected weights, got an? {match} file")
        with pytest.raises(InputError) as info:
            load_weights(tmp_path / name)
        assert "keras" not in str(info.value).lower()


def test_names_cannot_steer_a_terminal(tmp_path):
    evil, safe = "\x1b[2J\u202e", r"\x1b[2J\u202e"
    weights = load_weights(plain(tmp_path / "x", **{f"{evil}hidden": np.ones((2, 2))}))
    assert list(weights) == [f"{safe}hidden"]
    assert all(line.isprintable() for line in str(weights).splitlines())
    assert repr(weights).isprintable()
    refuse(plain(tmp_path / "y", **{evil: np.full((2, 2), np.nan)}), re.escape(safe))
    refuse(plain(tmp_path / "z", **{evil: np.ones(2)}), re.escape(safe))
    refuse(zipped(tmp_path / "zip", **{evil: "x"}), re.escape(safe))
    layers = [(f"Dense{evil}", {"name": f"a{evil}", "activation": evil, "padding": evil})]
    arrays = {f"a{evil}": {"kernel": np.ones((2, 2))}}
    weights = load_weights(keras2(tmp_path / "k", layers, arrays, version=f"2{evil}"))
    assert all(line.isprintable() for line in str(weights).splitlines())
    assert weights[f"a{safe}"].activation == safe


def test_a_graph_of_nir_needs_no_package():
    """Its kernels have channels last; tests/test_nir_files.py has the rest."""
    weights = load_weights(DATA / "cnn.nir")
    assert weights.dialect.startswith("NIR 1.")
    # Gain 2; a spike of amplitude 0.01 is 10 high in steps of 1 ms.
    np.testing.assert_allclose(weights["output"].kernel, 20 * np.arange(48.0).reshape(12, 4))
    assert weights["conv"].shape == (2, 2, 2, 3)
    assert weights["conv"].config["padding"] == "same"
    assert weights.layers[2].config["tau"] == 0.02
    assert [layer.kind for layer in weights.layers][3:5] == ["AveragePooling2D", "Flatten"]


def test_kernels_over_steps_in_plain_files(tmp_path):
    """An array of three dimensions may be images: with a bias it is a kernel."""
    kernel, images = np.ones((3, 2, 4)), np.ones((5, 8, 8))
    with h5py.File(tmp_path / "x", "w") as file:
        file["line"], file["line_bias"] = kernel, np.ones(4)
        file["grouped/kernel"], file["grouped/bias"] = kernel, np.ones(4)
        file["images"] = images
    weights = load_weights(tmp_path / "x")
    assert [(each.name, each.kind) for each in weights.layers] == [
        ("line", "Conv1D"),
        ("grouped", "Conv1D"),
        ("images", "unknown"),
    ]
    assert weights["line"].bias.shape == (4,)
    with h5py.File(tmp_path / "y", "w") as file:
        file["images"] = images
    with pytest.raises(
        InputError, match="an array of 2 or 4 dimensions, or of 3 with a bias.*; it"
    ):
        load_weights(tmp_path / "y")


def test_a_saved_run_is_told_from_weights(tmp_path):
    with nengo.Network(seed=0) as net:
        layer = nn.dense(nn.constant_input((3,)), np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    run = nn.present(net, layer, [[0.2, 0.5, 0.9]], presentation_time=0.01, progress=False)
    run.save(tmp_path / "run.h5")
    refuse(tmp_path / "run.h5", "expected weights, got a run that .*read it with nengonet.load_res")


def test_what_cannot_hold_weights_says_how_to_save_them(tmp_path):
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    refuse(tmp_path / "saved", r"got a folder; save the Keras model with model.save\(")
    np.savez(tmp_path / "own.npz", hidden=np.eye(2))
    refuse(tmp_path / "own.npz", r"it holds: hidden.npy\); builders accept arrays")


def test_a_bundled_file_is_shown_by_its_name(tmp_path):
    weights = load_weights("mnist_dense")
    assert str(weights).startswith("mnist_dense.h5: Keras 2 full model")
    assert repr(weights).startswith("<Weights mnist_dense.h5 (")
    with pytest.raises(nn.InputError, match="^mnist_dense.h5: expected one of the layers"):
        weights["hiden"]
    assert weights.path.is_file()
    shutil.copy(weights.path, tmp_path / "own.h5")
    assert str(load_weights(tmp_path / "own.h5")).startswith(f"{tmp_path / 'own.h5'}: ")
