import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.presentation import present

# A 2x3 kernel with a bias, small enough to work by hand.
KERNEL = np.array([[1.0, -2.0, 0.5], [0.5, 1.0, -1.0]])
BIAS = np.array([0.1, 0.0, 0.3])
IMAGE = np.array([0.4, 0.8])
DRIVE = np.array([0.4 + 0.4, -0.8 + 0.8, 0.2 - 0.8])


def run(build, image=IMAGE, time=1.0, **settings):
    """Build a layer on a constant input of two pixels, and show one image."""
    with nengo.Network(seed=0) as network:
        layer = build(nn.constant_input((2,)))
    result = present(
        network, layer, image[None], presentation_time=time, progress=False, **settings
    )
    return layer, result


def test_a_layer_is_one_ensemble_and_one_connection():
    with nengo.Network() as network:
        pixels = nn.constant_input((2,))
        layer = nn.dense(pixels, KERNEL, nengo.LIF(), label="hidden")
    assert network.ensembles == [layer.ensemble]
    assert network.connections == [layer.connection]
    assert layer.connection.pre is pixels.node
    assert layer.connection.post == layer.ensemble.neurons
    assert layer.connection.synapse is None
    assert isinstance(layer.connection.solver, nengo.solvers.NoSolver)
    np.testing.assert_array_equal(layer.connection.transform.init, KERNEL.T)
    assert (layer.label, layer.ensemble.label, layer.shape) == ("hidden", "hidden", (3,))
    assert [each.label for each in layer.chain()] == ["input", "hidden"]


def test_default_tuning_is_the_posts():
    with nengo.Network():
        layer = nn.dense(nn.constant_input((2,)), KERNEL, nengo.LIF())
    np.testing.assert_allclose(layer.ensemble.gain, 2.033245, atol=1e-6)
    np.testing.assert_allclose(layer.ensemble.bias, 1.0)


def test_current_is_gain_times_drive_plus_bias():
    """Rate neurons show the current itself; the Keras bias is a drive, multiplied by the gain."""
    gain, bias = np.array([100.0, 50.0, 20.0]), np.array([1.0, 2.0, 40.0])
    _, result = run(
        lambda pre: nn.dense(
            pre,
            (KERNEL, BIAS),
            nengo.RectifiedLinear(),
            gain=gain,
            bias=bias,
            amplitude=0.5,
            label="hidden",
        ),
        readout="mean",
        time=0.01,
    )
    expected = 0.5 * np.maximum(gain * (DRIVE + BIAS) + bias, 0)
    np.testing.assert_allclose(result.mean_outputs["hidden"][0], expected)
    assert "hidden" not in result.counts


@pytest.mark.parametrize(
    "neuron_type, bound", [(nn.IntegrateAndFire(), 0.5), (nengo.SpikingRectifiedLinear(), 1.0)]
)
@pytest.mark.parametrize("amplitude", [1.0, 0.02])
def test_regular_spiking_follows_the_rate(neuron_type, bound, amplitude):
    image, time = np.array([0.37, 0.91]), 1.234
    _, result = run(
        lambda pre: nn.dense(
            pre, (KERNEL, BIAS), neuron_type, gain=180.0, amplitude=amplitude, label="hidden"
        ),
        image=image,
        time=time,
    )
    rates = 180 * np.maximum(image @ KERNEL + BIAS, 0)
    assert np.max(np.abs(result.counts["hidden"][0] - rates * time)) <= bound
    times = 0.001 * np.arange(1, 1235)[:, None]
    assert np.max(np.abs(result.scores()[0] - rates * times)) <= bound


def test_a_last_layer_without_neurons_sums_its_drive():
    for weights, expected in [((KERNEL, BIAS), DRIVE + BIAS), (KERNEL, DRIVE)]:
        layer, result = run(
            lambda pre, weights=weights: nn.dense(pre, weights, None, label="logits"),
            readout="sum",
            time=0.5,
        )
        assert layer.ensemble is None
        np.testing.assert_allclose(result.scores()[0, -1], 0.5 * expected, atol=1e-12)


def test_spikes_pass_every_layer_within_one_step():
    """With synapse None; a synapse delays them by a step a layer."""
    first = {}
    for synapse in (None, nengo.Lowpass(0)):
        with nengo.Network(seed=0) as network:
            layer = nn.constant_input((1,))
            for number in range(3):
                layer = nn.dense(
                    layer,
                    [[1.0]],
                    nn.IntegrateAndFire(),
                    gain=1000.0 if number == 0 else 1.0,
                    synapse=synapse,
                    label=f"layer {number}",
                )
        result = present(network, layer, np.ones((1, 1)), presentation_time=0.02, progress=False)
        first[synapse] = int(np.argmax(result.scores()[0, :, 0] > 0))
    assert first[None] == 0
    assert first[nengo.Lowpass(0)] == 3


def test_weights_of_a_file_name_the_layer():
    with nengo.Network():
        layer = nn.dense(
            nn.constant_input((2,)), nn.LayerWeights(kernel=KERNEL, name="hidden"), nengo.LIF()
        )
    assert layer.label == "hidden"


@pytest.mark.parametrize(
    "weights, settings, message",
    [
        (
            np.ones((784, 3)),
            {"label": "hidden"},
            r"hidden: kernel has 784 inputs, but the layer before it, input, has 2 neurons",
        ),
        (KERNEL * np.nan, {}, "NaN"),
        (np.ones((3, 3, 1, 2)), {}, "expected the weights of a Dense layer, found Conv2D"),
        (KERNEL, {"gain": -1.0}, "gain: expected finite values above 0"),
        (KERNEL, {"amplitude": 0.1, "neuron_type": nengo.Tanh()}, "Tanh has no amplitude"),
        (KERNEL, {"neuron_type": "LIF"}, "expected a Nengo neuron type such as nengo.LIF"),
        (KERNEL, {"neuron_type": nengo.Direct()}, "Direct has no neurons"),
    ],
)
def test_bad_input_is_named(weights, settings, message):
    settings = {"neuron_type": nengo.LIF()} | settings
    with nengo.Network(), pytest.raises(nn.InputError, match=message):
        nn.dense(nn.constant_input((2,)), weights, **settings)


def test_flatten_order_is_named_after_an_image():
    with nengo.Network(), pytest.raises(nn.InputError, match=r"\(row, column, channel\)"):
        nn.dense(nn.constant_input((16, 16, 3)), np.ones((784, 3)), nengo.LIF())
