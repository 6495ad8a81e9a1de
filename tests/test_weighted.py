import pathlib

import nengo
import numpy as np
import pytest
from test_convolution import depthwise_conv2d

import nengonet as nn
from nengonet.ann.convolution import convolve
from nengonet.run.presentation import present

DATA = pathlib.Path(__file__).parent / "data"

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
        layer = nn.dense(pixels, KERNEL, nengo.LIF(), label="hidden", **nn.FORUM)
    assert network.ensembles == [layer.ensemble]
    assert network.connections == [layer.connection]
    assert layer.connection.pre is pixels.node
    assert layer.connection.post == layer.ensemble.neurons
    assert layer.connection.synapse is None
    assert isinstance(layer.connection.solver, nengo.solvers.NoSolver)
    np.testing.assert_array_equal(layer.connection.transform.init, KERNEL.T)
    assert (layer.label, layer.ensemble.label, layer.shape) == ("hidden", "hidden", (3,))
    assert [each.label for each in layer.upstream()] == ["input", "hidden"]


def test_the_posts_tuning_is_one_word():
    with nengo.Network():
        layer = nn.dense(nn.constant_input((2,)), KERNEL, nengo.LIF(), **nn.FORUM)
    np.testing.assert_allclose(layer.neurons.ensemble.gain, 2.033245, atol=1e-6)
    np.testing.assert_allclose(layer.ensemble.bias, 1.0)


@pytest.mark.parametrize("given", [{}, {"amplitude": 0.01}, {"intercepts": 0.0}, {"bias": 1.0}])
def test_no_tuning_is_assumed(given):
    """No default suits the weights of every network."""
    with nengo.Network() as network:
        pixels = nn.constant_input((5, 4, 2))
        for add in (
            lambda: nn.dense(pixels, np.ones((40, 3)), nengo.LIF(), label="own", **given),
            lambda: nn.conv2d(pixels, CONV, nn.IntegrateAndFire(), label="own", **given),
            lambda: nn.activation(pixels, nengo.LIF(), label="own", **given),
        ):
            with pytest.raises(nn.InputError) as error:
                add()
            assert str(error.value) == (
                "own: expected gain or max_rates, got neither; give **tuned['own'] from "
                "nengonet.tune, which suits the weights, or **nengonet.FORUM for the forum's "
                "max_rates=100, intercepts=0"
            )
        assert not network.ensembles
        nn.dense(pixels, np.ones((40, 3)), None)  # no neurons, nothing to tune
        alone = nn.dense(pixels, np.ones((40, 3)), nengo.LIF(), max_rates=100.0)
    np.testing.assert_allclose(alone.ensemble.bias, 1.0)  # the intercepts are 0


def test_neurons_are_there_or_an_error():
    with nengo.Network():
        pixels = nn.constant_input((2,))
        layer = nn.dense(pixels, KERNEL, nengo.LIF(), **nn.FORUM)
        nodes = pixels, nn.dense(layer, np.eye(3), None, label="last")
    assert layer.neurons == layer.ensemble.neurons
    for each in nodes:
        with pytest.raises(
            nn.InputError, match=f"{each.label}: expected a layer with neurons, got a "
        ):
            each.neurons  # noqa: B018


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
    np.testing.assert_allclose(result.mean_output("hidden")[0], expected)
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
    """Without a synapse they do; a synapse delays them by a step in each layer."""
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
            nn.constant_input((2,)),
            nn.LayerWeights(kernel=KERNEL, name="hidden"),
            nengo.LIF(),
            **nn.FORUM,
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
        (np.ones((3, 2)), {}, r"expected \(inputs, units\), as Keras has it: give kernel.T"),
        (KERNEL * np.nan, {}, "NaN"),
        (np.ones((3, 3, 1, 2)), {}, "expected the weights of a Dense layer, got Conv2D"),
        (KERNEL, {"gain": -1.0}, "gain: expected finite values above 0"),
        (KERNEL, {"amplitude": 0.1, "neuron_type": nengo.Tanh()}, "Tanh has no amplitude"),
        (
            KERNEL,
            {"neuron_type": "LIF"},
            "expected a neuron type such as nengo.LIF\\(\\), got 'LIF'",
        ),
        (KERNEL, {"neuron_type": nengo.Direct()}, "got Direct, which has no neurons"),
    ],
)
def test_bad_input_is_named(weights, settings, message):
    settings = {"neuron_type": nengo.LIF()} | settings
    with nengo.Network(), pytest.raises(nn.InputError, match=message):
        nn.dense(nn.constant_input((2,)), weights, **settings)


def test_flatten_order_is_named_after_an_image():
    with nengo.Network(), pytest.raises(nn.InputError, match=r"\(row, column, channel\)"):
        nn.dense(nn.constant_input((16, 16, 3)), np.ones((784, 3)), nengo.LIF())


def random_windows(rng):
    """Return the shape of an image, and size, strides and padding of windows that fit it."""
    shape = tuple(int(n) for n in rng.integers(1, 9, 2)) + (int(rng.choice([1, 2, 4])),)
    size, strides = (tuple(int(n) for n in rng.integers(1, 5, 2)) for _ in range(2))
    padding = str(rng.choice(["valid", "same"]))
    if padding == "valid":
        size = tuple(min(pair) for pair in zip(size, shape, strict=False))
    return shape, size, strides, padding


def random_convolution(rng, shape, size):
    """Return Keras weights, their groups and what they compute from images."""
    channels, bias = shape[2], bool(rng.integers(2))
    if rng.integers(3) == 0:
        kernel = rng.normal(size=(*size, channels, int(rng.integers(1, 3))))
        kind, groups, function = "DepthwiseConv2D", None, depthwise_conv2d
        filters = kernel.shape[2] * kernel.shape[3]
    else:
        kind, function = "Conv2D", convolve
        groups = int(rng.choice([n for n in (1, 2, 4) if channels % n == 0]))
        filters = groups * int(rng.integers(1, 4))
        kernel = rng.normal(size=(*size, channels // groups, filters))
    weights = nn.LayerWeights(kernel, rng.normal(size=filters) if bias else None, "conv", kind)
    return weights, groups, function


def test_rate_convolutions_are_keras_convolutions():
    """200 random ones: neurons with gains and biases of their own, and the drive alone."""
    rng = np.random.default_rng(8)
    expected, layers, kinds = [], [], set()
    with nengo.Network(seed=0) as network:
        for k in range(200):
            shape, size, strides, padding = random_windows(rng)
            weights, groups, function = random_convolution(rng, shape, size)
            image = rng.uniform(size=shape)
            # (rows, columns) is one channel
            pixels = nn.constant_input(shape[:2] if shape[2] == 1 else shape, label=f"input {k}")
            pixels.show(image)
            windows = {"strides": strides, "padding": padding, "groups": groups}
            drive = nn.conv2d(pixels, weights, None, **windows, label=f"drive {k}")
            gain, bias = rng.uniform(0.5, 2, drive.size), rng.normal(size=drive.size)
            relu = nn.conv2d(
                pixels,
                weights,
                nengo.RectifiedLinear(amplitude=0.3),
                gain=gain,
                bias=bias,
                **windows,
                label=f"relu {k}",
            )
            groups = {} if groups is None else {"groups": groups}
            values = function(
                image[np.newaxis], weights.kernel, strides=strides, padding=padding, **groups
            )
            if weights.bias is not None:
                values = values + weights.bias
            current = gain * values.ravel() + bias
            expected += [values, 0.3 * np.maximum(current, 0).reshape(values.shape)]
            layers += [drive, relu]
            kinds.add((weights.kind, padding, weights.bias is None, groups.get("groups")))
    assert len(kinds) == 16
    with nengo.Simulator(network, seed=0, progress_bar=False, optimize=False) as simulator:
        simulator.run_steps(2)
        for layer, values in zip(layers, expected, strict=True):
            assert layer.shape == values.shape[1:]
            found = simulator.signals[simulator.model.sig[layer.output]["out"]]
            np.testing.assert_allclose(found, values.ravel(), rtol=1e-9, atol=1e-12)


CONV = np.random.default_rng(4).normal(0.1, 0.5, (3, 2, 2, 4))


def test_a_convolution_is_one_ensemble_and_one_connection():
    with nengo.Network() as network:
        pixels = nn.constant_input((6, 5, 2))
        layer = nn.conv2d(
            pixels,
            CONV,
            nengo.LIF(),
            strides=2,
            padding="same",
            synapse=0.01,
            label="conv",
            **nn.FORUM,
        )
    assert network.ensembles == [layer.ensemble]
    assert network.connections == [layer.connection]
    assert layer.connection.post == layer.ensemble.neurons
    assert layer.connection.synapse == nengo.Lowpass(0.01)
    assert isinstance(layer.connection.solver, nengo.solvers.NoSolver)
    assert isinstance(layer.connection.transform, nengo.Convolution)
    np.testing.assert_array_equal(layer.connection.transform.init, CONV)
    assert (layer.label, layer.shape, layer.size) == ("conv", (3, 3, 4), 36)
    assert layer.amplitude == 1.0


def test_the_file_gives_the_geometry_and_arguments_win():
    config = {"strides": [2, 1], "padding": "same", "groups": 2, "dilation_rate": [1, 1]}
    weights = nn.LayerWeights(CONV[:, :, :1], name="conv", config=config)
    with nengo.Network():
        pixels = nn.constant_input((6, 5, 2))
        filed = nn.conv2d(pixels, weights, None)
        given = nn.conv2d(pixels, weights, None, strides=(1, 2), padding="valid")
        plain = nn.conv2d(pixels, CONV, None)
        with pytest.raises(nn.InputError, match="conv_2: kernel has 1 input channels, but"):
            nn.conv2d(pixels, weights, None, groups=1)
    assert filed.label == "conv"
    assert [layer.shape for layer in (filed, given, plain)] == [(3, 5, 4), (4, 2, 4), (4, 4, 4)]
    assert [layer.connection.transform.groups for layer in (filed, given, plain)] == [2, 2, 1]
    assert given.weights.config == config | {"strides": (1, 2), "padding": "valid"}


def test_regular_convolutions_follow_the_rate():
    image, time = np.random.default_rng(1).uniform(size=(6, 5, 2)), 0.7
    bias = np.array([0.1, -0.2, 0.0, 0.3])
    with nengo.Network(seed=0) as network:
        layer = nn.conv2d(
            nn.constant_input(image.shape),
            (CONV, bias),
            nn.IntegrateAndFire(amplitude=0.1),
            gain=150.0,
            label="conv",
        )
    result = present(network, layer, image[None], presentation_time=time, progress=False)
    rates = 150 * np.maximum(convolve(image[None], CONV) + bias, 0)
    assert rates.max() > 100
    assert np.max(np.abs(result.counts["conv"] - rates.reshape(1, -1) * time)) <= 0.5


@pytest.mark.parametrize("file", ["keras2_conv.h5", "keras3_conv.h5"])
def test_a_network_by_hand_is_the_keras_model(file):
    """Its output on Keras' own input, built layer by layer as in make_keras_files.py."""
    expected = np.load(DATA / file.replace(".h5", ".expected.npz"))
    weights = nn.load_weights(DATA / file)
    grouped, depthwise = (
        nn.fold_batch_norm(weights[name], weights[f"after_{name}"])
        for name in ("grouped", "depthwise")
    )
    relu = {"neuron_type": nengo.RectifiedLinear(), "gain": 1.0}
    with nengo.Network(seed=0) as network:
        layer = nn.constant_input(expected["input"].shape[1:])
        layer = nn.conv2d(layer, grouped, **relu)
        layer = nn.conv2d(layer, depthwise, **relu)
        layer = nn.conv2d(layer, weights["a"], **relu)
        layer = nn.dense(nn.flatten(layer), weights["classes"], None)
        probe = nengo.Probe(layer.node, synapse=None)
    with nn.MinibatchSimulator(network, 3, seed=0, progress_bar=False) as simulator:
        simulator.reset_to_examples(expected["input"])
        simulator.run_steps(1)
        found = simulator.data[probe][:, 0]
    np.testing.assert_allclose(found, expected["output"], rtol=1e-5, atol=1e-5)


def test_flatten_is_the_same_layer():
    with nengo.Network() as network:
        pixels = nn.constant_input((2, 3, 2))
        flat = nn.flatten(pixels)
        output = nn.dense(flat, np.ones((12, 1)), None, label="sum")
    assert network.nodes == [pixels.node, output.node]
    assert (flat.shape, flat.node, flat.label) == ((12,), pixels.node, "input")
    assert [layer.label for layer in output.upstream()] == ["input", "sum"]
    assert output.connection.pre is pixels.node


@pytest.mark.parametrize(
    "weights, settings, message",
    [
        (np.ones((3, 3)), {}, "conv: expected the weights of a Conv2D or DepthwiseConv2D.*Dense"),
        (np.ones((3, 3, 1, 4)), {}, "conv: kernel has 1 input channels, but.*input, has 2"),
        (np.ones((7, 3, 2, 4)), {}, "conv: size: expected at most the image's 6 x 5.*7 x 3"),
        (np.ones((3, 3, 1, 3)), {"groups": 2}, "conv: 3 filters do not divide into 2 groups"),
        (CONV, {"strides": 0}, "conv: strides: expected a whole number of at least 1"),
        (CONV, {"padding": "causal"}, "conv: padding: expected 'valid' or 'same'"),
        (CONV, {"gain": np.ones(4)}, "gain: expected one number, 64 numbers"),
        (
            nn.LayerWeights(CONV, kind="DepthwiseConv2D"),
            {"groups": 2},
            "conv: groups: expected none for a DepthwiseConv2D",
        ),
        (
            nn.LayerWeights(CONV, config={"dilation_rate": [2, 0]}),
            {},
            "conv: dilation_rate: expected a whole number of at least 1, got 0",
        ),
        (
            nn.LayerWeights(CONV, config={"data_format": "channels_first"}),
            {},
            "conv: data_format: expected channels_last",
        ),
    ],
)
def test_bad_convolutions_are_named(weights, settings, message):
    with nengo.Network():
        pixels = nn.constant_input((6, 5, 2))
        with pytest.raises(nn.InputError, match=message):
            nn.conv2d(pixels, weights, nengo.LIF(), label="conv", **settings)


def test_a_flat_layer_has_no_rows_and_columns():
    with nengo.Network(), pytest.raises(nn.InputError, match=r"takes \(rows, columns, channels\)"):
        nn.conv2d(nn.constant_input((60,)), CONV, None)


@pytest.mark.parametrize("build", [nn.dense, nn.conv2d])
def test_the_layer_before_must_be_a_layer(build):
    kernel = np.ones((2, 2)) if build is nn.dense else np.ones((1, 1, 1, 1))
    with nengo.Network(), pytest.raises(nn.InputError, match="pre: expected a Layer"):
        build(nengo.Node(np.ones(2)), kernel, nengo.LIF())


def drawn_tunings(network_seed, **settings):
    """Return the gains of four layers whose tuning is drawn: two kinds, one in a subnetwork."""
    tuning = {"max_rates": nengo.dists.Uniform(100, 200), "intercepts": nengo.dists.Uniform(-1, 0)}
    tuning |= settings
    with nengo.Network(seed=network_seed):
        pixels = nn.constant_input((4, 4))
        a = nn.dense(pixels, np.ones((16, 16)), nengo.LIF(), label="a", **tuning)
        b = nn.dense(a, np.ones((16, 16)), nengo.LIF(), label="b", **tuning)
        with nengo.Network():
            c = nn.conv2d(pixels, np.ones((1, 1, 1, 1)), nengo.LIF(), label="c", **tuning)
        d = nn.dense(b, np.ones((16, 16)), nengo.LIF(), label="d", **tuning)
    return [layer.ensemble.gain for layer in (a, b, c, d)]


def test_layers_draw_tunings_of_their_own_repeatably():
    seeds = [None, 0, 1, 2, 3]
    drawn = [gains for seed in seeds for gains in drawn_tunings(seed)]
    again = [gains for seed in seeds for gains in drawn_tunings(seed)]
    np.testing.assert_array_equal(drawn, again)
    # A network without a seed is one with the seed 0; all others differ.
    np.testing.assert_array_equal(drawn[:4], drawn[4:8])
    assert len(np.unique(drawn[4:], axis=0)) == len(drawn[4:])
    assert len(np.unique(drawn[4:])) == np.size(drawn[4:])


def test_a_stated_seed_of_a_tuning_is_the_same_anywhere():
    first, second, *_ = drawn_tunings(1, seed=7)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, drawn_tunings(2, seed=7)[0])


def test_default_labels_are_numbered_as_in_keras():
    with nengo.Network():
        first = nn.constant_input((8, 8, 1))
        pooled = nn.avg_pool2d(nn.avg_pool2d(first, 2), 2)
        hidden = nn.dense(pooled, np.ones((4, 3)), None)
        output = nn.dense(nn.lowpass(nn.lowpass(hidden, 0.01), 0.02), np.ones((3, 2)), None)
    labels = [layer.label for layer in output.upstream()]
    assert labels == [
        *("input", "avg_pool2d", "avg_pool2d_1", "dense", "lowpass", "lowpass_1", "dense_1")
    ]
    images = np.random.default_rng(0).random((2, 8, 8, 1))
    result = nn.present(
        output.network, output, images, readout="mean", presentation_time=0.01, progress=False
    )
    assert list(result.means) == labels
    with output.network:
        assert nn.poisson_input((2,)).label == "input_1"


def test_a_label_that_clashes_is_refused_when_the_layer_is_added():
    with nengo.Network():
        pixels = nn.constant_input((4,))
        hidden = nn.dense(pixels, np.eye(4), nengo.LIF(), label="hidden", **nn.FORUM)
        nn.dense(pixels, np.eye(4), nengo.LIF(), label="hidden", **nn.FORUM)  # of another chain
        for add in (
            lambda: nn.dense(hidden, np.eye(4), None, label="hidden"),
            lambda: nn.lowpass(hidden, 0.1, label="input"),
        ):
            with pytest.raises(nn.InputError, match="got one of these: .*label="):
                add()
        with pytest.raises(nn.InputError, match="label: expected a name, got 3"):
            nn.dense(hidden, np.eye(4), None, label=3)


@pytest.mark.parametrize(
    "build",
    [
        lambda pre: nn.dense(pre, np.eye(4), None),
        lambda pre: nn.conv2d(pre, np.ones((1, 1, 1, 1)), None),
        lambda pre: nn.flatten(pre),
        lambda pre: nn.lowpass(pre, 0.1),
        lambda pre: nn.avg_pool2d(pre),
        lambda pre: nn.max_pool2d(pre),
        lambda pre: nn.global_avg_pool2d(pre),
    ],
)
def test_every_builder_says_that_a_layer_was_expected(build):
    with nengo.Network():
        ensemble = nengo.Ensemble(4, 1)
        for pre in (ensemble, ensemble.neurons, nengo.Node(np.zeros(4)), None, (2, 2, 1)):
            with pytest.raises(nn.InputError, match="pre: expected a Layer.*, got "):
                build(pre)


def test_builders_need_a_network():
    with pytest.raises(nn.InputError, match=r"input: expected a call inside `with nengo.Network"):
        nn.constant_input((2,))


LINE = np.random.default_rng(5).normal(size=(3, 2, 4))


@pytest.mark.parametrize(
    "settings, n_steps",
    [
        ({}, 7),
        ({"padding": "same", "strides": 2}, 5),
        ({"padding": "causal", "dilation_rate": 3}, 9),
        ({"padding": "causal", "strides": 4, "groups": 2}, 3),
    ],
)
def test_a_convolution_over_steps(settings, n_steps):
    kernel = LINE[:, : 2 // settings.get("groups", 1)]
    with nengo.Network():
        pixels = nn.constant_input((9, 2))
        layer = nn.conv1d(pixels, (kernel, np.arange(4.0)), None, **settings)
        neurons = nn.conv1d(pixels, kernel, nn.IntegrateAndFire(), gain=2.0, **settings)
    assert (layer.label, neurons.label) == ("conv1d", "conv1d_1")
    assert layer.shape == neurons.shape == (n_steps, 4)
    assert isinstance(neurons.connection.transform, nengo.Convolution)
    assert neurons.weights.kind == "Conv1D"
    images = np.random.default_rng(1).normal(size=(2, 9, 2))
    drive = nn.predict_rates(layer, images).reshape(2, n_steps, 4) - np.arange(4.0)
    # The last step by hand: it is seen as 'valid' sees the end of the series.
    size, rate = len(kernel), settings.get("dilation_rate", 1)
    if settings.get("padding") != "same":
        last = (n_steps - 1) * settings.get("strides", 1)
        last += size - 1 if not settings else 0
        seen = images[:, [last - (size - 1 - k) * rate for k in range(size)]]
        if settings.get("groups") == 2:
            parts = [seen[..., i : i + 1] for i in (0, 1)]
            by_hand = [
                np.einsum("nkc,kcf->nf", p, kernel[..., 2 * i : 2 * i + 2])
                for i, p in enumerate(parts)
            ]
            expected = np.concatenate(by_hand, axis=1)
        else:
            expected = np.einsum("nkc,kcf->nf", seen, kernel)
        np.testing.assert_allclose(drive[:, -1], expected)
    rates = nn.predict_rates(neurons, images).reshape(2, n_steps, 4)
    np.testing.assert_allclose(rates, np.maximum(2 * drive, 0), atol=1e-12)


def test_dilation_in_two_dimensions_is_that_of_the_file_or_the_argument():
    rng = np.random.default_rng(2)
    kernel, images = rng.normal(size=(2, 2, 1, 3)), rng.normal(size=(2, 6, 5))
    of_file = nn.LayerWeights(kernel, config={"dilation_rate": [2, 3]})
    with nengo.Network():
        pixels = nn.constant_input((6, 5))
        layers = [
            nn.conv2d(pixels, of_file, None),
            nn.conv2d(pixels, kernel, None, dilation_rate=(2, 3)),
            nn.conv2d(pixels, of_file, None, dilation_rate=1),
        ]
    assert [layer.shape for layer in layers] == [(4, 2, 3), (4, 2, 3), (5, 4, 3)]
    first, second = (nn.predict_rates(layer, images) for layer in layers[:2])
    np.testing.assert_array_equal(first, second)
    expected = sum(
        images[:, i : i + 4, j : j + 2, None] * kernel[i // 2, j // 3, 0]
        for i in (0, 2)
        for j in (0, 3)
    )
    np.testing.assert_allclose(first.reshape(expected.shape), expected)


def test_where_a_file_tells_no_kind_the_builder_does():
    untold = nn.LayerWeights(LINE, np.zeros(4), "line", "unknown")
    with nengo.Network():
        assert nn.conv1d(nn.constant_input((9, 2)), untold, None).weights.kind == "Conv1D"


@pytest.mark.parametrize(
    "weights, settings, message",
    [
        (np.ones((3, 3)), {}, "line: expected the weights of a Conv1D or DepthwiseConv1D.*Dense"),
        (
            np.ones((3, 1, 4)),
            {},
            r"line: kernel has 1 input channels, .* 2 channels \(shape",
        ),
        (np.ones((10, 2, 4)), {}, "line: size: expected at most the image's 9 for .*, got 10"),
        (LINE, {"strides": (1, 2)}, r"line: strides: expected one whole number, got \(1, 2\)"),
        (LINE, {"padding": "reflect"}, "line: padding: expected 'valid' or 'same', got 'reflect'"),
        (
            nn.LayerWeights(LINE, kind="DepthwiseConv1D"),
            {"groups": 2},
            "line: groups: expected none",
        ),
    ],
)
def test_bad_convolutions_over_steps_are_named(weights, settings, message):
    with nengo.Network():
        pixels = nn.constant_input((9, 2))
        with pytest.raises(nn.InputError, match=message):
            nn.conv1d(pixels, weights, None, label="line", **settings)


def test_neurons_on_a_sum_have_the_tuning_of_any_layer():
    with nengo.Network(seed=1):
        pixels = nn.constant_input((2, 3))
        layer = nn.activation([pixels, pixels], nengo.LIF(), max_rates=200.0, amplitude=0.1)
        given = nn.activation(pixels, nengo.LIF(), gain=2.0, bias=np.arange(6.0), synapse=0.01)
    assert (layer.label, layer.shape, layer.amplitude, layer.tuned) == (
        "activation",
        (2, 3),
        0.1,
        True,
    )
    plain = {type(each.transform) for each in layer.connections}
    assert (len(layer.connections), plain) == (2, {nengo.transforms.NoTransform})
    assert given.connection.synapse == nengo.Lowpass(0.01)
    np.testing.assert_array_equal(given.ensemble.bias, np.arange(6.0))
    images = np.linspace(0, 1, 6).reshape(1, 2, 3)
    gain, bias = nn.gain_bias(nengo.LIF(), 6, max_rates=200.0, intercepts=0.0)
    expected = nengo.LIF(amplitude=0.1).rates(2 * images.ravel(), gain[:1], bias[:1])
    np.testing.assert_allclose(nn.predict_rates(layer, images)[0], expected[:, 0] / 0.1, rtol=0.02)
