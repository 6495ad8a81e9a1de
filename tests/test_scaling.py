import json

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.ann.activations import activations
from nengonet.ann.unweighted import Pool
from nengonet.neurons import gain_bias, model_of


def random_layer(rng, shape, name, kind="", **config):
    kernel = rng.normal(size=shape)
    n_outputs = shape[-1] * (shape[-2] if kind == "DepthwiseConv2D" else 1)
    return nn.LayerWeights(kernel, rng.normal(size=n_outputs), name, kind, config)


def mlp(rng):
    sizes = [64, 20, 12, 5]
    layers = [
        random_layer(rng, shape, f"dense_{k}")
        for k, shape in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
    ]
    return layers, rng.uniform(size=(50, 8, 8))


def cnn(rng):
    layers = [
        random_layer(rng, (3, 3, 2, 6), "conv", padding="same"),
        Pool(),
        random_layer(rng, (2, 2, 3, 4), "grouped", groups=2, strides=[1, 1]),
        Pool("average", 2, 1, "same"),
        random_layer(rng, (2, 2, 4, 2), "depthwise", "DepthwiseConv2D"),
        Pool("global_average"),
        random_layer(rng, (8, 7), "dense"),
    ]
    return layers, rng.uniform(size=(50, 8, 8, 2))


def folded_cnn(rng):
    """Return a CNN whose first layer has a normalisation folded into it."""
    layers, images = cnn(rng)
    norm = {name: rng.uniform(0.5, 2.0, 6) for name in ("gamma", "beta", "moving_variance")}
    norm["moving_mean"] = rng.normal(size=6)
    batch_norm = nn.LayerWeights(name="norm", kind="BatchNormalization", others=norm)
    return [nn.fold_batch_norm(layers[0], batch_norm), *layers[1:]], images


def pretrained(rng):
    return list(nn.load_weights(nn.pretrained("mnist_dense")).values()), (
        nn.datasets.load("mnist", split="test")[0][:300]
    )


@pytest.mark.parametrize("percentile", [99.9, 90, "max", None])
@pytest.mark.parametrize("network", [mlp, cnn, folded_cnn, pretrained])
def test_balanced_layers_compute_the_same(network, percentile):
    layers, images = network(np.random.default_rng(1))
    balanced = nn.balance(layers, images, percentile=percentile)
    before, after = activations(layers, images), activations(balanced.layers, images)
    assert list(before) == list(after)
    scales = {change.name: change.scale for change in balanced.changes}
    # Weights of float32 round once more; those here are float64, but for the pretrained ones.
    tolerance = 1e-5 if network is pretrained else 1e-12
    scale = 1.0
    for name, values in after.items():
        scale = scales.get(name, scale)
        expected = before[name] / scale
        np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance * abs(expected).max())
        if name in scales:
            largest = np.percentile(np.abs(values), balanced.percentile)
            assert largest == pytest.approx(1, abs=tolerance)
    assert name == layers[-1].name
    np.testing.assert_array_equal(before[name].argmax(axis=1), after[name].argmax(axis=1))
    np.testing.assert_allclose(
        after[name] * balanced.output_scale, before[name], atol=tolerance * abs(before[name]).max()
    )


def test_balance_by_hand():
    hidden = nn.LayerWeights([[2.0, 0.0], [0.0, 1.0]], [0.0, 4.0], name="hidden")
    output = nn.LayerWeights([[1.0, 1.0], [0.0, -2.0]], [0.0, 1.0], name="output")
    # hidden 2, 6 and 4, 4; output 2, -9 and 4, -3.
    balanced = nn.balance([hidden, output], [[1.0, 2.0], [2.0, 0.0]], percentile="max")
    first, second = balanced.layers
    np.testing.assert_allclose(first.kernel, hidden.kernel / 6)
    np.testing.assert_allclose(first.bias, [0, 4 / 6])
    np.testing.assert_allclose(second.kernel, output.kernel * 6 / 9)
    np.testing.assert_allclose(second.bias, [0, 1 / 9])
    assert balanced.output_scale == 9
    np.testing.assert_array_equal(hidden.kernel, [[2, 0], [0, 1]])
    report = json.loads(json.dumps(balanced.to_json()))
    assert report["percentile"] == 100
    assert report["layers"][1] == {
        "name": "output",
        "scale": 9.0,
        "kernel_factor": pytest.approx(6 / 9),
        "bias_factor": pytest.approx(1 / 9),
    }
    assert str(balanced) == (
        "activations balanced: their maximum is 1 now\n"
        "layer   was  kernel x  bias x\n"
        "hidden    6    0.1667  0.1667\n"
        "output    9    0.6667  0.1111\n"
        "output x 9 is the output before"
    )


def test_balance_keeps_what_it_does_not_scale():
    layers, images = cnn(np.random.default_rng(2))
    layers[2] = nn.LayerWeights(
        layers[2].kernel.astype(np.float32), name="grouped", config=layers[2].config
    )
    balanced = nn.balance(layers, images).layers
    assert [layer.name for layer in balanced] == [layer.name for layer in layers]
    assert all(new is old for new, old in zip(balanced, layers, strict=True) if old.kind == "max")
    assert balanced[2].kernel.dtype == np.float32
    assert balanced[2].bias is None
    assert balanced[2].config == layers[2].config
    assert balanced[4].kind == "DepthwiseConv2D"


def test_balance_takes_the_percentile():
    layer = nn.LayerWeights([[1.0]], name="a")
    images = np.linspace(0, 1, 1001)[:, None]
    images[-1] = 1000.0
    first = nn.balance([layer, layer], images).changes[0]
    assert first.scale == pytest.approx(0.999)
    assert nn.balance([layer, layer], images, percentile=None).changes[0].scale == 1000
    assert "99.9 % percentile" in str(nn.balance([layer, layer], images))


@pytest.mark.parametrize(
    "layers, percentile, message",
    [
        ([Pool()], 99.9, "layers: expected at least one layer with weights, got none"),
        ([], 99.9, "layers: expected at least one layer with weights, got none"),
        (
            [nn.LayerWeights([[-1.0]], name="dead"), nn.LayerWeights([[1.0]])],
            99.9,
            "dead: expected activations above 0 .* the largest is 0",
        ),
        ([nn.LayerWeights([[1.0]])], 0, "percentile: expected a number .*, above 0 .* got 0"),
        ([nn.LayerWeights([[1.0]])], 100.1, "percentile: expected .* at most 100, got 100.1"),
        ([nn.LayerWeights([[1.0]])], "all", "percentile: expected .* or 'max', .*got 'all'"),
    ],
)
def test_balance_refuses(layers, percentile, message):
    with pytest.raises(nn.InputError, match=message):
        nn.balance(layers, np.ones((3, 1)), percentile=percentile)


def test_scaled_relu_neurons_fire_faster_with_the_same_output():
    drive = np.linspace(-2, 2, 41)[:, None]
    gain, bias, amplitude = nn.scale_firing_rates(100.0, -20.0, 0.01, 4)
    assert (gain, bias, amplitude) == (400, -80, 0.0025)
    neurons = nengo.SpikingRectifiedLinear()
    before = model_of(neurons).rates(100.0 * drive + -20.0)
    after = model_of(neurons).rates(gain * drive + bias)
    np.testing.assert_allclose(after, 4 * before)
    np.testing.assert_allclose(after * amplitude, before * 0.01)


def test_scaled_lif_neurons_do_not_keep_their_output():
    neurons = nengo.LIF()
    gain, bias = gain_bias(neurons, 1, max_rates=100, intercepts=0)
    faster = nn.scale_firing_rates(gain, bias, 0.01, 2.0)
    silent = model_of(neurons).rates(bias).item()
    driven = model_of(neurons).rates(faster[1]).item()
    assert silent == 0
    assert driven == pytest.approx(1 / (0.002 + 0.02 * np.log(2)))
    much = model_of(neurons).rates(1000 * faster[0] + faster[1]).item() * faster[2]
    assert much == pytest.approx(0.01 / (2 * 0.002), rel=0.01)


def test_scale_firing_rates_takes_one_number_for_each_neuron():
    gain, bias, amplitude = nn.scale_firing_rates([1.0, 2.0], 0.5, 1.0, [2.0, 4.0])
    np.testing.assert_array_equal(gain, [2, 8])
    np.testing.assert_array_equal(bias, [1, 2])
    np.testing.assert_array_equal(amplitude, [0.5, 0.25])
    assert isinstance(nn.scale_firing_rates([1.0, 2.0], 0.5, 1.0, 2)[2], float)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((1, 0, 1, 0), "scale: expected values above 0, got 0"),
        ((1, 0, -1, 2), "amplitude: expected values above 0, got -1"),
        (([1, 0], 0, 1, 2), "gain: expected values above 0, got 0"),
        ((1, np.nan, 1, 2), "bias: expected finite values, got nan"),
        ((1, "x", 1, 2), "bias: expected an array of numbers, got 'x'"),
        (([1, 1], [0, 0, 0], 1, 2), r"each, got gain \(2,\), bias \(3,\), amplitude \(\)"),
    ],
)
def test_scale_firing_rates_refuses(arguments, message):
    with pytest.raises(nn.InputError, match=message):
        nn.scale_firing_rates(*arguments)
