"""The branching Keras networks, built by hand from the files of data/make_keras_networks.py."""

import pathlib

import nengo
import numpy as np

import nengonet as nn

DATA = pathlib.Path(__file__).parent / "data" / "networks"
# Neurons whose mean output is the activation.
RELU = {"neuron_type": nengo.RectifiedLinear(), "gain": 1.0, "bias": 0.0}


def read(name, ending=".keras"):
    """Return weights, images, and Keras' outputs for them by layer."""
    with np.load(DATA / f"{name}.expected.npz") as file:
        expected = dict(file)
    return nn.load_weights(DATA / f"{name}{ending}"), expected.pop("images"), expected


def folded(weights, name):
    """Return a convolution with the BatchNormalization after it."""
    return nn.fold_batch_norm(weights[name], weights[f"{name}_norm"])


def residual(weights, **neurons):
    """Return the residual CNN's last layer."""
    given = RELU | neurons

    def linear(pre, name):
        return nn.conv2d(pre, folded(weights, name), None, label=name)

    stem = nn.conv2d(nn.constant_input((8, 8, 2)), folded(weights, "stem"), **given, label="stem")
    first = nn.conv2d(stem, folded(weights, "conv_1"), **given, label="conv_1")
    block = nn.activation([linear(first, "conv_2"), stem], **given, label="block_1")
    third = nn.conv2d(block, folded(weights, "conv_3"), **given, label="conv_3")
    total = nn.add([linear(third, "conv_4"), linear(block, "projection")], label="add_2")
    last = nn.activation(total, **given, label="block_2")
    return nn.dense(nn.global_avg_pool2d(last, label="mean"), weights["classes"], None)


def inception(weights, pool_kind="instant", **neurons):
    """Return the last layer of the network of different kernels."""
    given = RELU | neurons
    pixels = nn.constant_input((7, 6, 3))
    one = nn.conv2d(pixels, weights["one"], **given)
    zeros = nn.zero_padding2d(pixels, ((1, 1), (0, 2)), label="zeros")
    three = nn.conv2d(zeros, weights["three"], **given)
    pool = nn.max_pool2d(one, (1, 3), 1, "same", kind=pool_kind, label="pool")
    joined = nn.concatenate([one, three, nn.conv2d(pool, weights["after_pool"], **given)])
    dilated = nn.conv2d(joined, weights["dilated"], **given)
    return nn.dense(nn.global_max_pool2d(dilated, kind=pool_kind), weights["classes"], None)


def series(weights, pool_kind="instant", **neurons):
    """Return the last layer of the network over steps."""
    given, told = RELU | neurons, weights["causal"].config
    # A file of weights alone has neither strides nor padding.
    config = [{"padding": "causal", "dilation_rate": 2}, {"padding": "causal", "strides": 2}]
    config += [{"padding": "same", "groups": 3}]
    causal, strided, grouped = ({} if told else each for each in config)
    layer = nn.conv1d(nn.constant_input((20, 3)), weights["causal"], **given, **causal)
    layer = nn.max_pool1d(layer, 2, kind=pool_kind, label="largest")
    layer = nn.conv1d(layer, weights["strided"], **given, **strided)
    layer = nn.zero_padding1d(layer, (2, 1), label="zeros")
    layer = nn.conv1d(layer, folded(weights, "grouped"), **given, **grouped)
    layer = nn.avg_pool1d(layer, 3, 1, label="mean")
    layer = nn.conv1d(layer, weights["depthwise"], **given)
    return nn.dense(nn.global_max_pool1d(layer, kind=pool_kind), weights["classes"], None)


def shared(weights, pool_kind="instant", **neurons):
    """Return the last layer of the network that uses layers twice."""
    given = RELU | neurons
    pixels = nn.constant_input((6, 6, 2))
    small = nn.avg_pool2d(pixels, 2, 1, label="small")
    twice = [
        nn.conv2d(pre, weights["twice"], **given, label=label)
        for pre, label in [(small, "twice"), (pixels, "twice_2")]
    ]
    ways = nn.global_avg_pool2d(twice[1]), nn.global_max_pool2d(twice[0], kind=pool_kind)
    again = nn.dense(nn.concatenate(ways), weights["again"], **given)
    return nn.dense(
        nn.dense(again, weights["again"], **given, label="again_2"), weights["classes"], None
    )


# Networks, and the Keras layers that have the same values, where the names differ.
NETWORKS = {
    residual: {"stem": "stem_relu", "conv_1": "relu_1", "conv_3": "relu_2"}
    | {name: f"{name}_norm" for name in ("conv_2", "conv_4", "projection")},
    inception: {},
    series: {"grouped": "grouped_relu"},
    shared: {},
}
