import json
import pathlib

import numpy as np
import pytest

import nengonet as nn
from nengonet.ann import convolution
from nengonet.ann.convolution import (
    average_pool,
    causal_as_same,
    convolve,
    depthwise_as_grouped,
    dilated,
    global_average_pool,
    max_pool,
    output_shape,
    padding_of,
)

KERAS = np.load(pathlib.Path(__file__).parent / "data" / "keras_layers.npz")
CONFIGS = json.loads(str(KERAS["configs"]))
POOLS = {"MaxPooling2D": max_pool, "AveragePooling2D": average_pool}


def depthwise_conv2d(images, kernel, **settings):
    """Return the output of Keras' DepthwiseConv2D, which has a group for each channel."""
    channels = images.shape[3]
    grouped = depthwise_as_grouped(kernel, channels)
    return convolve(images, grouped, groups=channels, **settings)


def ours(i):
    """Return what the NumPy functions make of the i-th layer that Keras has computed."""
    layer, options, images = CONFIGS[i]["layer"], CONFIGS[i]["options"], KERAS[f"input_{i}"]
    strides_padding = {key: options[key] for key in ("strides", "padding") if key in options}
    if layer == "GlobalAveragePooling2D":
        return global_average_pool(images)
    if layer in POOLS:
        return POOLS[layer](images, options["pool_size"], **strides_padding)
    kernel, bias = KERAS[f"kernel_{i}"], KERAS[f"bias_{i}"] if options["use_bias"] else 0.0
    if layer == "Conv2D":
        return convolve(images, kernel, groups=options["groups"], **strides_padding) + bias
    return depthwise_conv2d(images, kernel, **strides_padding) + bias


def test_every_layer_agrees_with_keras(record_property):
    differences = []
    for i in range(len(CONFIGS)):
        expected, found = KERAS[f"output_{i}"], ours(i)
        assert found.shape == expected.shape, CONFIGS[i]
        assert found.dtype == np.float64
        differences.append(np.abs(found - expected).max() / np.abs(expected).max())
    worst = int(np.argmax(differences))
    report = f"{len(differences)} layers, largest relative difference {differences[worst]:.2g}"
    record_property("keras_layers", report)
    print(report)
    assert len(differences) >= 200
    assert differences[worst] <= 1e-5, (differences[worst], CONFIGS[worst])


def test_the_keras_layers_cover_every_option():
    for layer in ("Conv2D", "DepthwiseConv2D", "MaxPooling2D", "AveragePooling2D"):
        options = [config["options"] for config in CONFIGS if config["layer"] == layer]
        assert {o["padding"] for o in options} == {"valid", "same"}
        assert {o["strides"][0] for o in options if o["strides"]} == {1, 2, 3}
    conv = [config["options"] for config in CONFIGS if config["layer"] == "Conv2D"]
    assert {o["groups"] for o in conv} == {1, 2, 3}
    assert {o["use_bias"] for o in conv} == {True, False}
    assert any(o["strides"][0] != o["strides"][1] for o in conv)


def test_conv2d_by_hand():
    image = np.arange(9.0).reshape(1, 3, 3, 1)
    kernel = np.array([[1.0, 0.0], [0.0, -10.0]]).reshape(2, 2, 1, 1)
    found = convolve(image, kernel)
    # Keras does not flip the kernel.
    np.testing.assert_array_equal(found[0, :, :, 0], [[-40, -49], [-67, -76]])


def test_same_pads_the_bottom_and_the_right_first():
    assert padding_of((4, 4), (2, 3), (1, 1), "same") == ((0, 1), (1, 1))
    # A stride of 2 leaves less to pad: none on top, one row at the bottom.
    assert padding_of((4, 5), 3, 2, "same") == ((0, 1), (1, 1))
    assert output_shape((4, 5), 3, 2, "same") == (2, 3)
    assert padding_of((4, 4), (3, 3), (1, 1), "valid") == ((0, 0), (0, 0))
    assert output_shape((5, 4, 7), (3, 3), (2, 1), "valid") == (2, 2)
    ones = convolve(np.ones((1, 4, 4, 1)), np.ones((3, 3, 1, 1)), strides=2, padding="same")
    np.testing.assert_array_equal(ones[0, :, :, 0], [[9, 6], [6, 4]])


def test_depthwise_channels_are_channel_major():
    images = np.array([1.0, 10.0]).reshape(1, 1, 1, 2)
    kernel = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 1, 2, 3)
    expected = [1, 2, 3, 40, 50, 60]
    np.testing.assert_array_equal(depthwise_conv2d(images, kernel).ravel(), expected)
    grouped = depthwise_as_grouped(kernel, 2)
    assert grouped.shape == (1, 1, 1, 6)
    np.testing.assert_array_equal(convolve(images, grouped, groups=2).ravel(), expected)


def test_pools_by_hand():
    image = np.array([[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0], [-7.0, -8.0, -9.0]])
    images = image.reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(max_pool(images).ravel(), [-1])
    np.testing.assert_array_equal(max_pool(images, strides=1).ravel(), [-1, -2, -4, -5])
    # Neither the largest nor the mean ever takes padding for a pixel.
    same_max = max_pool(images, padding="same")
    np.testing.assert_array_equal(same_max.ravel(), [-1, -3, -7, -9])
    same_mean = average_pool(images, 2, padding="same")
    np.testing.assert_array_equal(same_mean.ravel(), [-3, -4.5, -7.5, -9])
    np.testing.assert_array_equal(global_average_pool(images), [[-5]])


@pytest.mark.parametrize("groups", [1, 2])
def test_chunks_change_nothing(monkeypatch, groups):
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(7, 6, 5, 4)), rng.normal(size=(3, 2, 4 // groups, 6))
    whole = convolve(images, kernel, groups=groups, padding="same")
    for n_bytes in (1, 3 * 8 * 6 * 5 * 3 * 2 * 4):
        monkeypatch.setattr(convolution, "_CHUNK_BYTES", n_bytes)
        np.testing.assert_allclose(
            convolve(images, kernel, groups=groups, padding="same"), whole, rtol=0, atol=1e-12
        )
    assert convolve(images[:0], kernel, groups=groups, padding="same").shape == (0, 6, 5, 6)


def test_arguments_are_left_alone():
    images = np.array([[-1, 2], [3, 4]], dtype=np.int8).reshape(1, 2, 2, 1)
    before = images.copy()
    assert max_pool(images).item() == 4
    assert average_pool(images).item() == 2
    np.testing.assert_array_equal(images, before)


IMAGES = np.zeros((1, 4, 5, 6))


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: convolve(IMAGES, np.ones((5, 5, 6, 2))),
            r"size: expected at most the image's 4 x 5 for padding 'valid', got 5 x 5; use",
        ),
        (
            lambda: convolve(IMAGES, np.ones((2, 2, 3, 2))),
            r"kernel: expected 6 input channels, as the images have, got 3 x 1 groups",
        ),
        (
            lambda: convolve(IMAGES, np.ones((2, 2, 3, 3)), groups=2),
            r"groups: expected a divisor of the 3 filters, got 2",
        ),
        (
            lambda: convolve(IMAGES, np.ones((2, 2, 6, 2)), groups=0),
            r"groups: expected a whole number of at least 1, got 0",
        ),
        (
            lambda: convolve(IMAGES, np.ones((2, 2, 6, 2)), padding="causal"),
            r"padding: expected 'valid' or 'same', got 'causal'",
        ),
        (
            lambda: convolve(IMAGES, np.ones((2, 2, 6, 2)), strides=(1, 0)),
            r"strides: expected a whole number of at least 1, got 0",
        ),
        (
            lambda: convolve(IMAGES, np.ones((2, 2, 6, 2)), strides=(1, 1, 1)),
            r"strides: expected one whole number or two, got \(1, 1, 1\)",
        ),
        (
            lambda: convolve(IMAGES, np.ones((6, 2))),
            r"kernel: expected 4 dimensions .* got shape \(6, 2\)",
        ),
        (
            lambda: depthwise_conv2d(IMAGES, np.ones((2, 2, 1, 6))),
            r"kernel: expected 6 input channels, as the images have, got 1 .* depthwise",
        ),
        (
            lambda: max_pool(IMAGES[0, 0]),
            r"images: expected shape \(n_images, rows, columns, channels\) .* got \(5, 6\)",
        ),
        (
            lambda: average_pool(IMAGES, (2, 1.5)),
            r"size: expected a whole number of at least 1, got 1.5",
        ),
        (lambda: output_shape((4,), (2, 2), 1, "same"), r"shape_in: expected \(rows, columns\)"),
    ],
)
def test_impossible_arguments_are_refused(call, message):
    with pytest.raises(nn.InputError, match=message):
        call()


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("rate", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("n_steps", [1, 5, 8])
def test_causal_and_dilated_kernels_become_plain_ones(n_steps, size, rate, stride):
    """By hand, a step sees the steps ``rate`` apart that end at itself."""
    rng = np.random.default_rng(n_steps)
    series, kernel = rng.normal(size=(2, n_steps, 3)), rng.normal(size=(size, 3, 4))
    plain = causal_as_same(dilated(kernel, rate), n_steps, stride)
    found = convolve(series, plain, strides=stride, padding="same")
    expected = np.zeros((2, -(-n_steps // stride), 4))
    for step in range(expected.shape[1]):
        for k in range(size):
            seen = step * stride - (size - 1 - k) * rate
            if seen >= 0:
                expected[:, step] += series[:, seen] @ kernel[k]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("groups, strides", [(1, 1), (2, 2), (4, 3)])
def test_a_convolution_over_steps_is_one_over_a_column(padding, groups, strides):
    rng = np.random.default_rng(groups)
    series, kernel = rng.normal(size=(3, 9, 4)), rng.normal(size=(3, 4 // groups, 8))
    found = convolve(series, kernel, strides=strides, padding=padding, groups=groups)
    options = {"strides": (strides, 1), "padding": padding, "groups": groups}
    expected = convolve(series[:, :, np.newaxis], kernel[:, np.newaxis], **options)
    np.testing.assert_array_equal(found, expected[:, :, 0])
