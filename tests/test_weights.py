import json
import pathlib
import re
import shutil
import zipfile

import h5py
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
FILES = sorted(p.name for p in DATA.iterdir() if p.suffix in (".h5", ".keras"))
KERAS_FILES = [name for name in FILES if "bfloat16" not in name]
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


def test_every_model_in_every_dialect_is_there():
    assert len(KERAS_FILES) == 18
    assert {load_weights(DATA / name).dialect for name in KERAS_FILES} == set(DIALECTS.values())


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


@pytest.mark.parametrize("name, dialect", DIALECTS.items())
def test_content_decides_not_the_name(name, dialect, tmp_path):
    shutil.copy(DATA / name, tmp_path / "foo.bin")
    weights = load_weights(str(tmp_path / "foo.bin"))
    assert weights.dialect == dialect
    assert list(weights) == list(load_weights(DATA / name))


@pytest.mark.parametrize("name", WITH_CONFIG)
def test_config_comes_from_the_file(name):
    weights = load_weights(DATA / name)
    if "conv" in name:
        assert [layer.kind for layer in weights.values()] == [
            *("Conv2D", "BatchNormalization", "DepthwiseConv2D", "BatchNormalization"),
            *("Conv2D", "Dense"),
        ]
        config = weights["grouped"].config
        assert (config["groups"], config["strides"], config["padding"]) == (2, [2, 2], "same")
        assert weights["after_grouped"].epsilon == 0.01
        assert weights["a"].config["activation"] == "relu"
    else:
        activations = [layer.config.get("activation") for layer in weights.values()]
        assert set(activations) & {"relu", "tanh"}


def test_kinds_without_config():
    weights = load_weights(DATA / "keras3_conv.weights.h5")
    assert [layer.kind for layer in weights.values()] == [
        *("Conv2D", "BatchNormalization", "DepthwiseConv2D", "BatchNormalization"),
        *("Conv2D", "Dense"),
    ]
    assert all(layer.config == {} for layer in weights.values())
    with pytest.raises(InputError, match="after_depthwise: moving_mean and .*scale=False"):
        fold_batch_norm(weights["depthwise"], weights["after_depthwise"])


def test_bfloat16():
    short = load_weights(DATA / "keras3_bfloat16.weights.h5")["short"]
    assert short.kernel.dtype == np.float32
    np.testing.assert_allclose(short.kernel, np.arange(6).reshape(2, 3) / 7, rtol=2**-8)
    np.testing.assert_array_equal(short.bias, np.ones(3))


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


def test_missing_directory_empty(tmp_path):
    refuse(tmp_path / "none.h5", "no such file")
    refuse(tmp_path, "expected a file, got a folder")
    (tmp_path / "x").write_bytes(b"")
    refuse(tmp_path / "x", "expected HDF5 or a .keras archive, got an empty file")


@pytest.mark.parametrize(
    "head, match",
    [
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
    refuse(plain(tmp_path / "a"), "no weights inside .*no arrays")
    refuse(plain(tmp_path / "b", labels=np.arange(3.0)), r"no weights inside .*labels \(3,\)")
    with h5py.File(tmp_path / "c", "w") as file:
        file.create_group("model_weights").attrs["layer_names"] = []
        file["optimizer_weights/kernel"] = np.ones((2, 2))
    refuse(tmp_path / "c", r"no weights inside \(Keras 2 full model\)")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad, tmp_path):
    kernel = np.ones((3, 4))
    kernel[1, 2] = kernel[2, 0] = bad
    refuse(
        plain(tmp_path / "x", hidden=kernel),
        r"hidden: kernel: 2 of 12 values are NaN or infinite, the first at \[1, 2\]",
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


def test_nothing_outside_the_file_is_read(tmp_path):
    plain(tmp_path / "other", hidden=np.ones((2, 2)))
    with h5py.File(tmp_path / "x", "w") as file:
        file["hidden"] = h5py.ExternalLink("other", "/hidden")
    refuse(tmp_path / "x", "a link into another file is not followed")


def test_walking_in_circles(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        file["a"] = file["/"]
    refuse(tmp_path / "x", "met twice")


@pytest.mark.parametrize("name", FILES)
def test_damaged_bytes_give_one_error_or_finite_arrays(name, tmp_path):
    rng = np.random.default_rng(17)
    content = np.fromfile(DATA / name, dtype=np.uint8)
    path = tmp_path / "x"
    outcomes = set()
    for trial in range(40):
        damaged = content.copy()
        at = rng.integers(min((400, 4000, content.size)[trial % 3], content.size), size=3)
        damaged[at] = rng.choice([0, 255, rng.integers(256)], size=3)
        damaged.tofile(path)
        try:
            weights = load_weights(path)
        except InputError as error:
            one_line = "\n" not in str(error)
            outcomes.add("error" if one_line else "lines")
        else:
            arrays = [a for layer in weights.values() for a in layer.arrays.values()]
            assert arrays
            assert all(np.isfinite(array).all() for array in arrays)
            assert str(weights)
            outcomes.add("arrays")
    assert "error" in outcomes <= {"error", "arrays"}


# The mapping


def test_unknown_layer():
    path = DATA / "keras2_mlp.h5"
    weights = load_weights(path)
    message = f"{path}: no layer 'hiden' (did you mean 'hidden'?); the file has: hidden, output"
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


# One layer


def test_layer_acts_as_its_kernel():
    layer = LayerWeights([[1, 2, 3], [4, 5, 6]])
    assert (layer.kind, layer.shape, layer.bias) == ("Dense", (2, 3), None)
    np.testing.assert_array_equal(np.transpose(layer), [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(layer.T, np.transpose(layer))
    assert np.asarray(layer, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        layer.kernel[0, 0] = 1
    copy = np.array(layer)
    copy[0, 0] = 7
    assert layer.kernel[0, 0] == 1


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"kernel": [["a"]]}, "weights: kernel: expected an array of numbers"),
        ({"kernel": [[1], [1, 2]]}, "weights: kernel: expected an array of numbers"),
        ({"kernel": [[True]]}, r"got type bool"),
        ({"kernel": [[1, np.nan]]}, "NaN or infinite"),
        ({"kernel": np.ones(3)}, r"2 dimensions \(Dense\) or 4 \(Conv2D\) \(got shape \(3,\)\)"),
        ({"kernel": np.ones((0, 3))}, "kernel is empty"),
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
        ([[np.inf]], "x: kernel: 1 of 1 values"),
    ]:
        with pytest.raises(InputError, match=match):
            as_layer_weights(bad, "x")


def test_fold_refuses():
    kernel = np.ones((2, 3))
    others = {"moving_mean": np.zeros(3), "moving_variance": np.ones(3)}
    norm = LayerWeights(name="norm", kind="BatchNormalization", others=others)
    dense = LayerWeights(kernel, name="dense")
    active = LayerWeights(kernel, name="dense", config={"activation": "relu"})
    other_axis = LayerWeights(kind="BatchNormalization", others=others, config={"axis": 2})
    negative = others | {"moving_variance": -np.ones(3)}
    for layer, batch, match in [
        (active, norm, "activation 'relu' of dense stands between dense and norm"),
        (LayerWeights(kernel.T, name="dense"), norm, "3 channels, but dense has 2 outputs"),
        (norm, norm, "norm: expected Dense, Conv2D or DepthwiseConv2D"),
        (dense, dense, "dense: expected a BatchNormalization"),
        (dense, other_axis, "the last axis"),
        (dense, LayerWeights(kind="BatchNormalization", others=negative), "above 0, found -0.999"),
    ]:
        with pytest.raises(InputError, match=match):
            fold_batch_norm(layer, batch)


def test_pretrained():
    weights = load_weights(pretrained("mnist_dense"))
    assert isinstance(weights, Weights)
    assert weights["hidden"].shape == (784, 128)
    with pytest.raises(InputError, match="no pretrained weights 'nets'; there are: .*mnist_dense"):
        pretrained("nets")
