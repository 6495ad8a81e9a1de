"""The ANN of a network matches the network, or is refused with the reason."""

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.ann.convolution import convolve
from nengonet.explain.prediction import keras_activations, predict
from nengonet.layers.transforms import Weights
from nengonet.results.operations import ann_multiply_adds

# Neurons whose mean output is the activation itself, and its name in Keras.
NEURONS = {
    "relu": (nengo.RectifiedLinear(), {"gain": 1.0, "bias": 0.0}),
    "sigmoid": (
        nengo.RegularSpiking(nengo.Sigmoid(), amplitude=1 / 400),
        {"gain": 1.0, "bias": 0.0},
    ),
    "tanh": (nengo.PoissonSpiking(nengo.Tanh(), amplitude=1 / 400), {"gain": 1.0, "bias": 0.0}),
    "linear": (None, {}),
}
RELU = {"neuron_type": nengo.RectifiedLinear(), "gain": 1.0, "bias": 0.0}
SPIKING_RELU = (nn.IntegrateAndFire(amplitude=0.01), {"gain": 100.0, "bias": 0.0})


def weights(rng, *shape, name, activation=None):
    config = {} if activation is None else {"activation": activation}
    return nn.LayerWeights(
        kernel=rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])),
        bias=rng.normal(size=shape[-1]) / 5,
        name=name,
        config=config,
    )


def random_network(rng):
    """Return a network of every kind of layer, with branches and layers that skip others."""
    names = []
    with nengo.Network(seed=0) as net:
        layer = nn.constant_input((6, 6, 2))
        outputs = []
        for k in range(int(rng.integers(2, 6))):
            stated = list(NEURONS)[rng.integers(4)]
            neurons, tuning = NEURONS[stated]
            if stated == "relu" and rng.uniform() < 0.3:
                neurons, tuning = SPIKING_RELU
            file_says = stated if rng.uniform() < 0.5 else None
            label = f"layer {k}"
            if len(layer.shape) == 3 and min(layer.shape[:2]) > 2 and rng.uniform() < 0.6:
                shape = (2, 2, layer.shape[2], 3)
                of_file = weights(rng, *shape, name=label, activation=file_says)
                layer = nn.conv2d(layer, of_file, neurons, padding="same", label=label, **tuning)
                pool = [nn.avg_pool2d, nn.max_pool2d, None][rng.integers(3)]
                if pool is not None:
                    kind = {"kind": "instant"} if pool is nn.max_pool2d else {}
                    layer = pool(layer, label=f"pool {k}", **kind) if neurons is None else layer
            else:
                shape = (layer.size, int(rng.integers(3, 7)))
                of_file = weights(rng, *shape, name=label, activation=file_says)
                layer = nn.dense(layer, of_file, neurons, label=label, **tuning)
            names.append(label)
            if rng.uniform() < 0.3:
                layer = nn.lowpass(layer, 0.005, label=f"lowpass {k}")
            elif rng.uniform() < 0.3:
                layer = nn.flatten(layer)
            for other in outputs[:: int(rng.integers(1, 3))]:
                if rng.uniform() < 0.5:
                    transform = rng.normal(size=(layer.size, other.size)) / other.size
                    target = layer.node if layer.ensemble is None else layer.ensemble.neurons
                    doubles = nengo.LinearFilter([2.0], [0.003, 1.0])
                    nengo.Connection(other.output, target, transform=transform, synapse=doubles)
            outputs.append(layer)
        beside = nn.dense(
            outputs[0],
            weights(rng, outputs[0].size, 4, name="beside"),
            nengo.RectifiedLinear(),
            gain=1.0,
            label="beside",
        )
        constant = nengo.Node(rng.normal(size=3), label="constant")
        last = nn.dense(layer, weights(rng, layer.size, 5, name="last"), None, label="last")
        nengo.Connection(beside.output[1:], last.node[[0, 0, 4]], synapse=None)
        nengo.Connection(constant, last.node[2:], synapse=None)
    return net, last, [*names, "beside", "last"]


@pytest.mark.parametrize("number", range(40))
def test_the_ann_is_the_network_that_was_built(number):
    """If the mean output of neurons is the activation, the prediction equals the ANN."""
    rng = np.random.default_rng([5, number])
    _, last, names = random_network(rng)
    images = rng.uniform(size=(3, 6, 6, 2))
    found = keras_activations(last, images)
    predicted = {each.label: each.mean_outputs for each in predict(last, images)}
    assert sorted(found) == sorted(names)
    assert list(found)[-1] == "last"
    for label, values in found.items():
        np.testing.assert_allclose(values, predicted[label], atol=1e-9, err_msg=label)


def mlp(first, second, stated=(None, None)):
    rng = np.random.default_rng(3)
    with nengo.Network(seed=0) as net:
        pixels = nn.constant_input((6,))
        hidden = nn.dense(
            pixels,
            weights(rng, 6, 8, name="hidden", activation=stated[0]),
            first,
            gain=1.0 if first is not None else None,
            bias=0.0,
            label="hidden",
        )
        output = nn.dense(
            hidden,
            weights(rng, 8, 4, name="output", activation=stated[1]),
            second,
            gain=1.0 if second is not None else None,
            bias=0.0,
            label="output",
        )
    return net, hidden, output


IMAGES = np.random.default_rng(1).uniform(size=(20, 6))


def test_the_last_layer_gives_logits():
    expected = None
    for neurons, stated in [
        (None, None),
        (None, "softmax"),
        (nengo.LIF(), None),
        (nengo.LIF(), "softmax"),
        (nengo.RectifiedLinear(), "linear"),
        (nengo.Sigmoid(), None),
    ]:
        _, _, output = mlp(nengo.RectifiedLinear(), neurons, (None, stated))
        found = keras_activations(output, IMAGES)["output"]
        expected = found if expected is None else expected
        np.testing.assert_array_equal(found, expected)
    _, _, output = mlp(nengo.RectifiedLinear(), None, ("relu", "tanh"))
    np.testing.assert_allclose(keras_activations(output, IMAGES)["output"], np.tanh(expected))


def edit_weights(net, hidden, output):
    kernel = hidden.connection.transform.init.copy()
    kernel[0, 0] += 0.01
    hidden.connection.transform = nengo.Dense(kernel.shape, init=kernel)


def negate_weights(net, hidden, output):
    transform = hidden.connection.transform
    hidden.connection.transform = nengo.Dense(transform.shape, init=-transform.init)


def delete_weights(net, hidden, output):
    net.connections.remove(output.connection)
    with net:
        nengo.Connection(hidden.output[:4], output.output, synapse=None)


def other_function(net, hidden, output):
    output.node.output = lambda t, x: x**2


def other_neurons(net, hidden, output):
    hidden.ensemble.neuron_type = nengo.Sigmoid()


def neurons_without_weights(net, hidden, output):
    with net:
        plain = nengo.Ensemble(3, 1, gain=np.ones(3), bias=np.ones(3), label="plain")
        nengo.Connection(hidden.output[:3], plain.neurons, synapse=None)
        nengo.Connection(plain.neurons, output.output[:3], synapse=None)


def recurrent(net, hidden, output):
    with net:
        nengo.Connection(hidden.output, hidden.output, transform=np.eye(8), synapse=0.1)


def decoded(net, hidden, output):
    with net:
        nengo.Connection(hidden.ensemble, output.output[0], synapse=0.1)


@pytest.mark.parametrize(
    "edit, stated, reason",
    [
        (edit_weights, None, "hidden: its weights in the network are not those"),
        (negate_weights, None, "hidden: its weights in the network are not those"),
        (delete_weights, None, "output: its weights in the network are not those"),
        (other_function, None, "output computes a function of its own"),
        (other_neurons, "relu", "hidden: the weights' file states the activation relu, and .*sigm"),
        (None, "tanh", "hidden: the weights' file states the activation tanh, and .*relu"),
        (None, "gelu", "hidden: expected the activation linear, relu, .*got gelu"),
        (neurons_without_weights, None, "plain was built without Keras weights"),
        (recurrent, None, "hidden feeds itself"),
        (decoded, None, "a decoded connection"),
    ],
)
def test_a_network_that_is_not_its_ann_has_none(edit, stated, reason):
    net, hidden, output = mlp(nengo.RectifiedLinear(), None, (stated, None))
    if edit is not None:
        edit(net, hidden, output)
    with pytest.raises(nn.InputError, match=reason):
        keras_activations(output, IMAGES)
    if edit in (None, other_neurons):
        assert ann_multiply_adds(output) == {"hidden": 48, "output": 32}
    else:
        with pytest.raises(nn.InputError, match=reason):
            ann_multiply_adds(output)
    if edit not in (other_function, recurrent, decoded):
        labels = np.arange(20) % 4
        found = nn.diagnose(output, IMAGES, labels=labels, readout="mean")
        assert found.ann_accuracy is None
        assert found.to_json()["ann_accuracy"] is None
        assert "no ANN to compare with: " + found.ann_reason in str(found)
        assert found.to_json()["ann_reason"] == found.ann_reason


def test_scales_of_the_network_change_no_ann():
    expected = keras_activations(mlp(nengo.RectifiedLinear(), None)[2], IMAGES)
    net, hidden, output = mlp(nengo.RectifiedLinear(), None)
    hidden.connection.transform = nengo.Dense((8, 6), init=3 * hidden.connection.transform.init)
    hidden.ensemble.gain = np.full(8, 20.0)
    hidden.ensemble.neuron_type = nengo.LIF(amplitude=0.1)
    for label, values in keras_activations(output, IMAGES).items():
        np.testing.assert_array_equal(values, expected[label])


def test_a_budget_without_an_ann_says_why():
    net, hidden, output = mlp(nengo.RectifiedLinear(), nn.IntegrateAndFire())
    edit_weights(net, hidden, output)
    settings = {"presentation_time": 0.02, "n_repeats": 2, "progress": False}
    budget = nn.error_budget(output, IMAGES, np.arange(20) % 4, **settings)
    assert "hidden: its weights in the network are not those" in budget.ann_reason
    assert f"no ANN to begin with: {budget.ann_reason}" in str(budget)


def test_plain_objects_find_the_layers_that_were_built():
    net, hidden, output = mlp(nengo.RectifiedLinear(), None)
    expected = keras_activations(output, IMAGES)
    found = keras_activations(output.node, IMAGES, net)
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["output"], expected["output"])


def test_multiply_adds_hold_every_connection():
    net, hidden, output = mlp(nengo.RectifiedLinear(), None)
    with net:
        nengo.Connection(hidden.pre.output, output.output, transform=np.ones((4, 6)), synapse=None)
    assert ann_multiply_adds(output) == {"hidden": 48, "output": 32 + 24}


def test_several_layers_before_stand_for_their_sum():
    rng = np.random.default_rng(8)
    kernel = weights(rng, 3, 3, 2, 4, name="conv")
    with nengo.Network(seed=0) as net:
        pixels = nn.constant_input((6, 6, 2))
        two = [
            nn.conv2d(pixels, weights(rng, 1, 1, 2, 2, name=name), **RELU, label=name)
            for name in ("left", "right")
        ]
        both = nn.conv2d(two, kernel, **RELU)
        output = nn.dense(both, weights(rng, 64, 3, name="last"), None)
    images = rng.uniform(size=(5, 6, 6, 2))
    found = keras_activations(output, images)
    summed = sum(found[name].reshape(5, 6, 6, 2) for name in ("left", "right"))
    drive = convolve(summed, kernel.kernel) + kernel.bias
    np.testing.assert_allclose(found["conv"], np.maximum(drive, 0).reshape(5, -1))
    np.testing.assert_allclose(predict(output, images)[-1].mean_outputs, found["last"])
    assert ann_multiply_adds(output)["conv"] == 2 * 4 * 4 * 3 * 3 * 2 * 4
    # A shortcut through the same weights on another scale is a connection of its own.
    with net:
        way = nengo.Connection(
            two[0].output, both.output, transform=both.connection.transform, synapse=None
        )
    doubled = keras_activations(output, images)["conv"]
    more = convolve(found["left"].reshape(5, 6, 6, 2), kernel.kernel)
    np.testing.assert_allclose(doubled, np.maximum(drive + more, 0).reshape(5, -1))
    net.connections.remove(way)
    with net:
        transform = nengo.Dense((64, 72), init=3 * Weights(both.connection).matrix().toarray())
        nengo.Connection(two[0].output, both.output, transform=transform, synapse=None)
    tripled = keras_activations(output, images)["conv"]
    np.testing.assert_allclose(tripled, np.maximum(drive + 3 * more, 0).reshape(5, -1))


@pytest.mark.parametrize("activation", [False, True])
def test_weights_are_none_that_a_layer_has_not(activation):
    """A connection without a transform has no weights, and neither has a multiple of it."""
    with nengo.Network() as net:
        pixels = nn.constant_input((4,))
        first = nn.dense(pixels, weights(np.random.default_rng(0), 4, 4, name="first"), **RELU)
        if activation:
            layer = nn.activation(first, **RELU, label="layer")
        else:
            layer = nn.dense(first, 2 * np.eye(4), **RELU, label="layer")
        output = nn.dense(layer, np.ones((4, 2)), None)
    images = np.random.default_rng(1).uniform(size=(3, 4))
    assert "layer" in keras_activations(output, images)
    (connection,) = layer.connections
    net.connections.remove(connection)
    with net:
        other = {"transform": 3 * np.eye(4)} if activation else {}
        nengo.Connection(first.output, layer.output, synapse=None, **other)
    with pytest.raises(nn.InputError, match="layer: its weights in the network are not those"):
        keras_activations(output, images)
