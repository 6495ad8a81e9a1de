"""Layers of the ANN without weights, in NumPy: pools over steps, zeros, branches."""

import dataclasses

import keras_networks
import numpy as np
import pytest

import nengonet as nn
from nengonet.ann.activations import activations, multiply_adds
from nengonet.ann.unweighted import Merge, Padding, Pool

SERIES = np.random.default_rng(0).normal(size=(3, 11, 2))


@pytest.mark.parametrize(
    "size, strides, padding", [(2, None, "valid"), (3, 2, "same"), (4, 1, "same")]
)
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pools_over_steps_are_those_over_one_column(kind, size, strides, padding):
    line = Pool(kind, size, strides, padding, dimensions=1)
    strides = size if strides is None else strides
    square = Pool(kind, (size, 1), (strides, 1), padding)
    expected = square.values(SERIES[:, :, np.newaxis])[:, :, 0]
    np.testing.assert_array_equal(line.values(SERIES), expected)
    assert line.shape_after((11, 2), "x") == expected.shape[1:]
    # By hand: the windows of one channel.
    if padding == "valid":
        windows = [SERIES[0, k : k + size, 1] for k in range(0, 11 - size + 1, strides)]
        by_hand = {"max": np.max, "average": np.mean}[kind]
        np.testing.assert_allclose(expected[0, :, 1], [by_hand(each) for each in windows])


@pytest.mark.parametrize("dimensions", [1, 2])
def test_pools_over_all(dimensions):
    images = np.random.default_rng(1).normal(size=(2, *(4, 3)[:dimensions], 5))
    for kind, expected in [("global_max", np.max), ("global_average", np.mean)]:
        pool = Pool(kind, dimensions=dimensions)
        over = tuple(range(1, dimensions + 1))
        np.testing.assert_allclose(pool.values(images), expected(images, axis=over))
        assert pool.shape_after(images.shape[1:], "x") == (5,)


def test_zeros_around():
    assert Padding(2, dimensions=1).widths() == [(2, 2)]
    assert Padding((0, 3), dimensions=1).widths() == [(0, 3)]
    assert Padding((1, 2)).widths() == [(1, 1), (2, 2)]
    padding = Padding(((0, 1), (2, 0)))
    assert padding.shape_after((3, 4), "x") == (4, 6, 1)
    found = padding.values(np.ones((1, 3, 4, 2)))
    np.testing.assert_array_equal(
        found, np.pad(np.ones((1, 3, 4, 2)), [(0, 0), (0, 1), (2, 0), (0, 0)])
    )


def residual(weights):
    """Return the layers of the residual CNN, in order."""

    def folded(name):
        return keras_networks.folded(weights, name)

    return [
        folded("stem"),
        folded("conv_1"),
        folded("conv_2"),
        Merge("add", ("conv_2", "stem"), "relu", name="block_1"),
        folded("conv_3"),
        folded("conv_4"),
        Merge(of="block_1", name="again"),
        folded("projection"),
        Merge("add", ("conv_4", "projection"), "relu", name="block_2"),
        Pool("global_average", name="mean"),
        weights["classes"],
    ]


def test_branches_are_those_of_keras():
    weights, images, expected = keras_networks.read("residual")
    layers = residual(weights)
    found = activations(layers, images)
    assert list(found) == [layer.name for layer in layers]
    for name in ("block_1", "block_2", "mean"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    counts = multiply_adds(layers, (8, 8, 2))
    assert (counts["block_1"], counts["again"], counts["projection"]) == (0, 0, 4 * 4 * 4 * 6)


def test_branches_side_by_side_are_those_of_keras():
    weights, images, expected = keras_networks.read("inception")
    layers = [
        weights["one"],
        Pool("max", (1, 3), 1, "same", name="pool"),
        weights["after_pool"],
        Merge(of="images", name="pixels"),
        Padding(((1, 1), (0, 2)), name="zeros"),
        weights["three"],
        Merge("concatenate", ("one", "three", "after_pool"), name="joined"),
        weights["dilated"],
        Pool("global_max", name="largest"),
        weights["classes"],
    ]
    found = activations(layers, images)
    for name in ("joined", "dilated", "largest", "classes"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)


def test_balanced_branches_meet_on_one_scale_and_compute_the_same():
    weights, images, _ = keras_networks.read("residual")
    layers = residual(weights)
    before, balanced = activations(layers, images), nn.balance(layers, images, percentile="max")
    after = activations(balanced.layers, images)
    scales = {change.name: change.scale for change in balanced.changes}
    # What an addition joins, and what it is added to, has one scale: of block and shortcut.
    assert scales["stem"] == scales["conv_2"]
    assert scales["conv_4"] == scales["projection"] != scales["stem"]
    assert scales["stem"] == max(before[name].max() for name in ("stem", "block_1"))
    for name in ("stem", "conv_1", "conv_2", "conv_3", "conv_4", "projection", "classes"):
        np.testing.assert_allclose(scales[name] * after[name], before[name], atol=1e-4)
    for name, like in [("block_1", "stem"), ("block_2", "conv_4")]:
        np.testing.assert_allclose(scales[like] * after[name], before[name], atol=1e-4)
    assert max(after["block_1"].max(), after["stem"].max()) == pytest.approx(1)
    assert after["conv_1"].max() == pytest.approx(1)
    assert "conv_2" in str(balanced)
    # A shortcut from the images leaves no choice.
    shortcut = [
        nn.LayerWeights(np.eye(4) * 3, name="three"),
        Merge("add", ("three", "images"), name="sum"),
        nn.LayerWeights(np.ones((4, 2)), name="last"),
    ]
    changes = nn.balance(shortcut, np.full((2, 4), 0.5)).changes
    assert [(each.name, each.scale, each.kernel_factor) for each in changes] == [
        ("three", 1.0, 1.0),
        ("last", 8.0, 0.125),
    ]


DENSE = nn.LayerWeights(np.eye(4), name="dense")


@pytest.mark.parametrize(
    "layers, message",
    [
        (
            [DENSE, Merge(of="other")],
            r"merge: of: expected layers before it \(images, dense\), got 'o",
        ),
        ([Merge(of="merge"), DENSE], r"expected layers before it \(images\), got 'merge'"),
        (
            [dataclasses.replace(DENSE, kernel=np.ones((4, 3))), Merge("add", ("dense", "images"))],
            r"merge: expected one shape of dense and the images, got \(3,\), \(4,\)",
        ),
    ],
)
def test_branches_from_nowhere_are_refused(layers, message):
    with pytest.raises(nn.InputError, match=message):
        activations(layers, np.ones((1, 4)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Merge("maximum", "a"), "merge: kind: expected one of add, concatenate, got 'maxi"),
        (lambda: Merge(of=()), r"merge: of: expected names of layers, got \(\)"),
        (lambda: Merge(of=(3,)), r"merge: of: expected names of layers, got \(3,\)"),
        (
            lambda: Merge(of="a", activation="tanh"),
            "merge: activation: expected one of linear, relu",
        ),
        (lambda: Pool(dimensions=3), "pool: dimensions: expected 1 or 2, got 3"),
        (
            lambda: Pool(size=(2, 2), dimensions=1),
            r"pool: size: expected one whole number, got \(2,",
        ),
        (lambda: Padding("same"), "zero_padding: padding: expected"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(nn.InputError, match=message):
        make()
