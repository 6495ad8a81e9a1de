"""Layer kinds that nengonet does not have, each added with the code of this file alone."""

import nengo
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import nengonet as nn
from nengonet.ann import kinds
from nengonet.explain.prediction import keras_activations, predict
from nengonet.layers.inputs import ImageInput
from nengonet.layers.record import node_layer
from nengonet.layers.weighted import Tuning, weighted_layer
from nengonet.results.operations import ann_multiply_adds, synapses_of


class Local(kinds.Kind):
    """What Keras 2's LocallyConnected1D computes: a kernel of its own for every place."""

    def shape_after(self, layer, shape, before):
        places, size, filters = layer.kernel.shape
        if len(shape) != 2 or size != (shape[0] - places + 1) * shape[1]:
            raise nn.InputError(f"{layer.name}: expected {size} values at a place, got {shape}")
        return places, filters

    def product(self, layer, values):
        size = values.shape[1] - len(layer.kernel) + 1
        windows = sliding_window_view(values, size, axis=1).swapaxes(2, 3)
        return np.einsum("npi,pif->npf", windows.reshape(*windows.shape[:2], -1), layer.kernel)

    def multiply_adds(self, layer, shape):
        return layer.kernel.size


kinds.register("LocallyConnected1D", Local())


def locally_connected(pre, weights, neuron_type, *, label, **tuning):
    places, size, filters = weights.kernel.shape
    matrix = np.zeros((places, filters, pre.size))
    for place in range(places):
        start = place * pre.shape[1]
        matrix[place, :, start : start + size] = weights.kernel[place].T
    matrix = matrix.reshape(-1, pre.size)
    transform = nengo.Dense(matrix.shape, init=matrix)
    return weighted_layer(pre, weights, transform, neuron_type, Tuning(**tuning), label)


class ScaleAndShift:
    """A Node's function."""

    batched = True

    def __init__(self, scale, shift):
        self.scale, self.shift = scale, shift
        self.calls = 0

    def __call__(self, t, x):
        self.calls += 1
        return self.scale * x + self.shift

    def moments(self, mean, variance, dt):
        return self.scale * mean + self.shift, self.scale**2 * variance, 0.0


class Halves(nengo.Process):
    """Spikes of half the area."""

    batched = passes_spikes = True

    def moments(self, mean, variance, dt):
        return mean / 2, variance / 4, 0.0

    def make_step(self, shape_in, shape_out, dt, rng, state):
        return lambda t, x: x / 2


class Neighbours(nengo.Sparse):
    """The sum of an input and the next one."""

    def __init__(self, n):
        super().__init__((n - 1, n), indices=[[k, k] for k in range(n - 1)])

    def sample(self, rng=np.random):
        n = self.size_in
        indices = [[k, k + more] for k in range(n - 1) for more in (0, 1)]
        return nengo.transforms.SparseMatrix(indices, np.ones(2 * n - 2), self.shape).allocate()

    def apply(self, values, power):
        return values[:, 1:] + values[:, :-1]


class Negative(ImageInput):
    """An input that shows the negative of an image."""

    def steady(self, images):
        return 1 - images

    def moments(self, mean, variance, dt):
        return 1 - mean, variance, 0.0

    def make_step(self, shape_in, shape_out, dt, rng, state):
        return lambda t: 1 - self.image


RNG = np.random.default_rng(3)
KERNELS = RNG.normal(0.1, 0.4, (6, 6, 4)), RNG.normal(0, 0.4, (24, 3))
BIAS = RNG.normal(0, 0.2, (6, 4))
IMAGES = RNG.uniform(size=(5, 8, 2))
SETTINGS = {"presentation_time": 0.3, "readout": "mean", "progress": False}


def network(between, neuron_type=None, pixels=nn.constant_input):
    neuron_type = nn.IntegrateAndFire(amplitude=0.01) if neuron_type is None else neuron_type
    weights = nn.LayerWeights(KERNELS[0], BIAS, "local", "LocallyConnected1D")
    with nengo.Network(seed=0) as net:
        layer = pixels((8, 2))
        local = locally_connected(layer, weights, neuron_type, label="local", gain=100.0)
        layer = node_layer(local, between, shape=local.shape, label="between")
        output = nn.dense(layer, KERNELS[1], None, label="output")
    return net, local, output


def local_of_keras(images):
    values = np.stack(
        [images[:, k : k + 3].reshape(len(images), 6) @ KERNELS[0][k] for k in range(6)]
    )
    return np.maximum(np.moveaxis(values, 0, 1) + BIAS, 0)


def test_a_locally_connected_layer_is_a_layer_like_any_other():
    function = ScaleAndShift(2.0, 0.5)
    net, local, output = network(function)
    hidden = local_of_keras(IMAGES).reshape(5, 24)
    found = keras_activations(output, IMAGES)
    np.testing.assert_allclose(found["local"], hidden)
    np.testing.assert_allclose(found["output"], (2 * hidden + 0.5) @ KERNELS[1])
    np.testing.assert_allclose(nn.predict_rates(local, IMAGES), 100 * hidden)
    predicted = predict(output, IMAGES)
    assert [each.label for each in predicted] == ["input", "local", "between", "output"]
    np.testing.assert_allclose(predicted[2].variance, 4 * predicted[1].variance)
    np.testing.assert_allclose(predicted[3].mean_outputs, found["output"])
    assert ann_multiply_adds(output) == {"local": 6 * 3 * 2 * 4, "output": 24 * 3}
    labels = found["output"].argmax(axis=1)
    report = nn.diagnose(output, IMAGES, labels=labels, readout="mean")
    assert report.ann_accuracy.value == 1.0


def test_a_minibatch_is_stepped_at_once_and_as_the_reference_steps_it():
    function = ScaleAndShift(2.0, 0.5)
    net, _, output = network(function)
    function.calls = 0
    found = nn.present(net, output, IMAGES, **SETTINGS, minibatch_size=5)
    assert function.calls == 300
    expected = nn.present(net, output, IMAGES, **SETTINGS, simulator="reference")
    np.testing.assert_array_equal(found.counts["local"], expected.counts["local"])
    np.testing.assert_allclose(found.outputs, expected.outputs, rtol=1e-12)
    rates = nn.predict_rates(output.pre.pre, IMAGES)
    assert np.abs(found.counts["local"] - 0.3 * rates).max() <= 0.5


def test_spikes_that_a_process_passes_on_count_where_they_arrive():
    net, local, output = network(Halves(default_size_in=24, default_size_out=24))
    between = output.pre
    assert between.amplitude == 0.01
    (synapses,) = [each for each in synapses_of(output) if each.source == "between"]
    np.testing.assert_array_equal(synapses.per_spike, (KERNELS[1] != 0).sum(axis=1))
    found, expected = (
        nn.present(net, output, IMAGES, **SETTINGS, simulator=simulator)
        for simulator in ("minibatch", "reference")
    )
    np.testing.assert_allclose(found.outputs, expected.outputs, rtol=1e-12)
    np.testing.assert_allclose(
        predict(output, IMAGES)[-1].mean_outputs, found.mean_output("output"), atol=0.1
    )


def test_an_input_and_a_transform_of_their_own():
    net, local, _ = network(None, pixels=lambda shape: negative_layer(shape))
    with net:
        sums = node_layer(local, None, shape=(23,), transform=Neighbours(24), label="sums")
        output = nn.dense(sums, np.ones((23, 2)), None, label="sum")
    hidden = local_of_keras(1 - IMAGES).reshape(5, 24)
    np.testing.assert_allclose(nn.predict_rates(local, IMAGES), 100 * hidden)
    np.testing.assert_allclose(nn.predict_rates(sums, IMAGES), hidden[:, 1:] + hidden[:, :-1])
    (synapses,) = synapses_of(output)
    np.testing.assert_array_equal(synapses.per_spike, [1, *[2] * 22, 1])
    found, expected = (
        nn.present(net, output, IMAGES, **SETTINGS, simulator=simulator)
        for simulator in ("minibatch", "reference")
    )
    np.testing.assert_array_equal(found.counts["local"], expected.counts["local"])
    np.testing.assert_allclose(found.outputs, expected.outputs, rtol=1e-12)
    assert np.abs(found.counts["local"] - 30 * hidden).max() <= 0.5


def negative_layer(shape):
    return nn.Layer(label="input", shape=shape, node=nengo.Node(Negative(shape), label="input"))


class Squares(ScaleAndShift):
    """What its class says of itself is not true of it."""

    def __call__(self, t, x):
        return x**2


def test_what_a_subclass_steps_otherwise_is_unknown_and_stepped_one_by_one():
    net, _, output = network(Squares(2.0, 0.5))
    with pytest.raises(nn.InputError, match="cannot predict a Node with a function of its own"):
        predict(output, IMAGES)
    with pytest.raises(nn.InputError, match="computes a function of its own"):
        keras_activations(output, IMAGES)
    found, expected = (
        nn.present(net, output, IMAGES, **SETTINGS, simulator=simulator)
        for simulator in ("minibatch", "reference")
    )
    np.testing.assert_allclose(found.outputs, expected.outputs, rtol=1e-12)


def test_weights_of_an_unknown_kind_are_refused_by_name():
    weights = nn.LayerWeights(np.ones((2, 2, 2, 1, 1)), name="volume", kind="Conv3D")
    with pytest.raises(nn.InputError, match="volume: expected a Dense, .* Pool, got Conv3D"):
        nn.ann.activations.activations([weights], np.ones((1, 4, 4)))
