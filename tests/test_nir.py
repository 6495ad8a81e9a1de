"""Networks as NIR graphs, run by `nir_interpreter` and compared with Nengo."""

import nengo
import numpy as np
import pytest
from nir_interpreter import Interpreter

import nengonet as nn

nir = pytest.importorskip("nir")

ZERO = {"voltage": nengo.dists.Choice([0.0])}


def lif(**settings):
    return nengo.LIF(**{"tau_ref": 0.0, "min_voltage": -np.inf, "initial_state": ZERO} | settings)


def integrate(**settings):
    return nn.IntegrateAndFire(initial_state=ZERO, **settings)


def channels_first(values, shape):
    """Return a layer's values in NIR's order."""
    values = np.reshape(values, shape)
    return np.moveaxis(values, -1, 0) if len(shape) == 3 else values


def counts_of(graph, image, n_steps, dt=0.001, **settings):
    """Return the spike counts of every node for a constant image."""
    ((name, node),) = graph.inputs.items()
    shape = tuple(node.input_type["input"])
    image = image if len(shape) == 1 else channels_first(image, (*image.shape[:2], shape[0]))
    inputs = {name: [image.reshape(shape)]}
    found = Interpreter(graph, dt, **settings).run(inputs, n_steps)
    return {name: outputs.sum(axis=0) for name, outputs in found.items()}


def check_counts(output, layers, images, n_steps, dt=0.001, kind="lif", **settings):
    """Compare NIR in Euler steps with Nengo, to the last spike."""
    time = n_steps * dt
    ours = nn.present(output.network, output, images, presentation_time=time, dt=dt)
    graph = nn.to_nir(output, dt=dt, euler=True, **settings.pop("options", {}))
    for number, image in enumerate(images):
        theirs = counts_of(graph, image, n_steps, dt, **settings)
        for layer in layers:
            counts = ours.counts[layer.label][number]
            assert counts.sum() > 10
            node = theirs[f"{layer.label}_{kind}"]
            expected = channels_first(counts, layer.shape).reshape(node.shape)
            np.testing.assert_array_equal(node, expected, err_msg=layer.label)
    return graph


def mlp(rng, neuron_type=None, synapse=None, bias=0.7, keras_bias=1.0):
    neuron_type = neuron_type or lif(amplitude=0.02)
    with nengo.Network(seed=3):
        pixels = nn.constant_input((3, 4), scale=1.5)
        weights = (rng.normal(size=(12, 9)), keras_bias * rng.normal(size=9))
        gain = rng.uniform(1, 3, size=9)
        hidden = nn.dense(pixels, weights, neuron_type, gain=gain, bias=bias, label="hidden")
        weights = (rng.normal(size=(9, 5)), keras_bias * rng.normal(size=5))
        of_output = {"gain": 1.7, "bias": bias, "synapse": synapse, "label": "digits"}
        return hidden, nn.dense(hidden, weights, neuron_type, **of_output)


@pytest.mark.parametrize("dt", [0.001, 0.0004])
def test_an_mlp_has_every_spike(dt):
    rng = np.random.default_rng(7)
    layers = mlp(rng)
    check_counts(layers[-1], layers, rng.uniform(size=(4, 3, 4)), 400, dt)


def test_units_by_hand():
    kernel, second = np.array([[1.0, -2.0]]), np.array([[3.0], [0.5]])
    with nengo.Network():
        pixels = nn.constant_input((1,), scale=4.0)
        of_layer = {"gain": 10.0, "bias": 0.25}
        one = nn.dense(pixels, (kernel, [5, 6]), lif(amplitude=0.5), label="one", **of_layer)
        two = nn.dense(one, second, lif(tau_rc=0.05), label="two", **of_layer)
    graph = nn.to_nir(two, dt=0.002)
    assert list(graph.nodes) == ["input", "one", "one_lif", "two", "two_lif", "output"]
    np.testing.assert_allclose(graph.nodes["one"].weight, [[40.0], [-80.0]])
    np.testing.assert_allclose(graph.nodes["one"].bias, [50.25, 60.25])
    # A spike of the first layer has the height 0.5 / 0.002.
    np.testing.assert_allclose(graph.nodes["two"].weight, [[7500.0, 1250.0]])
    np.testing.assert_allclose(graph.nodes["two"].bias, [0.25])
    np.testing.assert_allclose(graph.nodes["two_lif"].tau, [0.05])
    for name, value in {"r": 1, "v_leak": 0, "v_threshold": 1, "v_reset": 0}.items():
        np.testing.assert_array_equal(getattr(graph.nodes["two_lif"], name), [value])
    euler = nn.to_nir(two, dt=0.002, euler=True).nodes["two_lif"].tau
    np.testing.assert_allclose(1 - 0.002 / euler, np.exp(-0.002 / 0.05))
    assert graph.metadata["dt"] == 0.002
    assert graph.nodes["input"].metadata["feed"].startswith("the image's values")


def test_fine_steps_reach_the_predicted_rates():
    """Without `euler`, time constants give the rates of NIR's own equations."""
    rng = np.random.default_rng(0)
    with nengo.Network():
        pixels = nn.constant_input((6,))
        layer = nn.dense(pixels, rng.normal(size=(6, 20)), lif(tau_rc=0.03), gain=4.0, bias=1.0)
    image, dt, n_steps = rng.uniform(size=6), 2e-5, 25_000
    counts = counts_of(nn.to_nir(layer, dt=dt), image, n_steps, dt)["dense_lif"]
    rates = nn.predict_rates(layer, image[np.newaxis], dt=dt)[0]
    assert (rates > 20).sum() > 5
    # A spike waits for the end of its step: half a step late each, on average.
    expected = n_steps * dt / (1 / np.maximum(rates, 1e-9) + dt / 2)
    assert np.all(np.abs(counts - expected) < 1.2)


def cnn(rng, neuron_type=None, drawn=False):
    neuron_type = neuron_type or lif(amplitude=0.02)
    of_layer = {"neuron_type": neuron_type, "gain": 3.0, "bias": 0.8}
    with nengo.Network(seed=1):
        pixels = nn.constant_input((7, 8, 2))
        one = nn.conv2d(
            pixels, (rng.normal(size=(3, 3, 2, 4)), rng.normal(size=4)), padding="same",
            label="one", **of_layer,
        )  # fmt: skip
        pool = nn.avg_pool2d(one, (2, 3), (2, 2), label="pool")
        two = nn.conv2d(
            pool, 4 * rng.normal(size=(2, 2, 2, 6)), padding="same", strides=2, groups=2,
            label="two", **of_layer,
        )  # fmt: skip
        if drawn:
            of_layer["gain"] = rng.uniform(2, 4, size=12)
        out = nn.dense(two, rng.normal(size=(two.size, 12)), label="out", **of_layer)
    return one, two, out


@pytest.mark.parametrize("pools", ["average", "sum"])
def test_a_cnn_has_every_spike(pools):
    rng = np.random.default_rng(5)
    layers = cnn(rng)
    images = rng.uniform(size=(2, 7, 8, 2))
    graph = check_counts(layers[-1], layers, images, 120, options={"pools": pools})
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert kinds[3] == {"average": "AvgPool2d", "sum": "SumPool2d"}[pools]
    kinds[3] = "AvgPool2d"
    assert kinds == ["Input", *"Conv2d LIF AvgPool2d Conv2d LIF Flatten Affine LIF Output".split()]
    assert graph.nodes["one"].padding == "same"
    # TensorFlow pads an even kernel at the end: here a row and column of zeros begin the kernel.
    assert graph.nodes["two"].weight.shape in [(6, 2, 3, 3), (6, 4, 3, 3)]
    assert not graph.nodes["two"].weight[:, :, 0].any()


def test_integrate_and_fire_neurons_count_where_they_meet_their_threshold():
    """Reset to 0 and by subtraction are the same if a voltage is exactly 1."""
    with nengo.Network():
        pixels = nn.constant_input((3,))
        kernel = np.diag([500.0, 250.0, 125.0])
        one = nn.dense(pixels, kernel, integrate(), gain=1.0, bias=0.0, label="one")
        of_two = {"gain": 1.0, "bias": 62.5, "label": "two", "synapse": None}
        two = nn.dense(one, np.eye(3), integrate(amplitude=0.5), **of_two)
    dt = 2.0**-10
    graph = nn.to_nir(two, dt=dt, allow="reset")
    assert graph.metadata["left_out"] == "reset"
    np.testing.assert_array_equal(graph.nodes["one_if"].r, [1024.0] * 3)
    np.testing.assert_allclose(graph.nodes["one"].weight, kernel * dt)
    np.testing.assert_allclose(graph.nodes["two"].weight, np.eye(3))
    np.testing.assert_allclose(graph.nodes["two"].bias, [62.5 * dt] * 3)
    graph = nn.to_nir(one, dt=dt, allow=["reset"])
    counts = counts_of(graph, np.ones(3) * 1.024, 1000, dt)["one_if"]
    # 500 Hz * 1.024 is half a threshold a step; NIR needs more than the threshold.
    np.testing.assert_array_equal(counts, [333, 200, 111])


def test_spikes_of_a_poisson_input_weigh_their_area():
    rng = np.random.default_rng(2)
    with nengo.Network(seed=0) as net:
        pixels = nn.poisson_input((10,), max_rate=200.0, amplitude=0.03)
        layer = nn.dense(pixels, rng.normal(size=(10, 6)), lif(), gain=3.0, bias=0.6)
        shown, fired = nengo.Probe(pixels.node), nengo.Probe(layer.ensemble.neurons)
    layer.show(rng.uniform(0.5, 1, size=10), seed=4)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(400)
    spikes = sim.data[shown] * 0.001 / 0.03
    assert spikes.sum() > 300
    np.testing.assert_allclose(spikes, np.rint(spikes), atol=1e-9)
    graph = nn.to_nir(layer, euler=True)
    assert "200 Hz" in graph.nodes["input"].metadata["feed"]
    found = Interpreter(graph, 0.001).run({"input": np.rint(spikes)}, 400)["dense_lif"]
    np.testing.assert_array_equal(found, sim.data[fired] * 0.001)
    assert found.sum() > 50


def test_a_poisson_ensemble_is_an_input():
    with nengo.Network(seed=0):
        pixels = nn.poisson_input((10,), kind="ensemble", amplitude=0.01, max_rate=100.0)
        layer = nn.dense(pixels, np.ones((10, 2)), lif(), gain=2.0, bias=0.0)
    graph = nn.to_nir(layer)
    assert list(graph.nodes) == ["input", "dense", "dense_lif", "output"]
    assert graph.nodes["input"].metadata["feed"] == "the spikes of input"
    np.testing.assert_allclose(graph.nodes["dense"].weight, np.full((2, 10), 20.0))


@pytest.mark.parametrize("bias", [0.0, 0.4], ids=["CubaLIF", "LI"])
def test_a_low_pass_filter_has_its_time_constant(bias):
    """Nengo's filters on connections output what arrived before the step."""
    rng = np.random.default_rng(11)
    layers = mlp(rng, synapse=0.007, bias=bias, keras_bias=bias)
    images = rng.uniform(size=(3, 3, 4))
    graph = check_counts(layers[-1], layers, images, 300, late_filters=True)
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    assert ("CubaLIF" in kinds, "LI" in kinds) == (not bias, bool(bias))


def test_an_alpha_synapse_is_two_filters():
    layers = mlp(np.random.default_rng(1), synapse=nengo.Alpha(0.004))
    graph = nn.to_nir(layers[-1])
    for name in ("digits_synapse", "digits_synapse1"):
        np.testing.assert_allclose(graph.nodes[name].tau, [0.004] * 5)
    assert ("digits_synapse", "digits_synapse1") in graph.edges


def test_integrators_behind_a_filter_have_their_biases_unfiltered():
    rng = np.random.default_rng(3)
    with nengo.Network():
        pixels = nn.constant_input((2, 4, 3))
        weights = rng.normal(size=(2, 2, 3, 4)), [1.0, 2.0, 3.0, 4.0]
        of_layer = {"gain": 50.0, "bias": 0.0, "synapse": 0.01, "label": "conv"}
        layer = nn.conv2d(pixels, weights, integrate(), **of_layer)
    graph = nn.to_nir(layer, allow="reset")
    np.testing.assert_allclose(graph.nodes["conv_bias"].bias, 0.05 * np.arange(1, 5))
    assert not graph.nodes["conv_bias"].weight.any()
    assert not graph.nodes["conv"].bias.any()
    assert sorted(pre for pre, post in graph.edges if post == "conv_if") == [
        "conv_bias",
        "conv_synapse",
    ]


def test_a_bias_goes_to_what_has_no_filter():
    with nengo.Network() as net:
        source = nengo.Node(np.zeros(2), label="source")
        ens = nengo.Ensemble(3, 1, gain=np.ones(3), bias=[1.0, 2.0, 3.0], neuron_type=lif())
        ens.label = "ens"
        for synapse, weight in ((0.01, 1.0), (None, 2.0)):
            matrix = np.full((3, 2), weight)
            nengo.Connection(source, ens.neurons, transform=matrix, synapse=synapse)
    graph = nn.to_nir(ens, network=net)
    assert not graph.nodes["ens"].bias.any()
    np.testing.assert_array_equal(graph.nodes["ens_from_source"].bias, [1.0, 2.0, 3.0])
    assert "ens_bias" not in graph.nodes


def plain(rng, synapse=0.005, inhibit=-0.6):
    """Return a plain Nengo network with lateral inhibition, a sum, a slice, a plain connection."""
    with nengo.Network(seed=0) as net:
        source = nengo.Node(np.zeros(4), label="source")
        settings = {"dimensions": 1, "neuron_type": lif(amplitude=0.02), "label": "ring"}
        gain, bias = np.linspace(2, 3, 5), np.linspace(0.5, 1.5, 5)
        ring = nengo.Ensemble(5, gain=gain, bias=bias, **settings)
        connect = {"synapse": None, "solver": nengo.solvers.NoSolver()}
        nengo.Connection(source, ring.neurons, transform=rng.normal(size=(5, 4)), **connect)
        nengo.Connection(
            ring.neurons, ring.neurons, transform=inhibit * (1 - np.eye(5)), synapse=synapse
        )
        both = nengo.Node(size_in=5, label="both")
        nengo.Connection(ring.neurons, both, synapse=None)
        nengo.Connection(ring.neurons[1:3], both[[4, 0]], synapse=None)
        nengo.Connection(source, both[:4], synapse=None)
        gain, bias = np.full(5, 1.2), np.full(5, 0.9)
        last = nengo.Ensemble(5, gain=gain, bias=bias, **(settings | {"label": "last"}))
        nengo.Connection(both, last.neurons, synapse=None)
    return net, source, ring, last


def test_recurrence_sums_and_slices_have_every_spike():
    net, source, ring, last = plain(np.random.default_rng(8))
    source.output = image = np.array([1.0, 0.3, 0.8, 0.6])
    with net:
        probes = [nengo.Probe(each.neurons) for each in (ring, last)]
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(500)
    source.output = np.zeros(4)
    graph = nn.to_nir(last, network=net, euler=True)
    assert ("ring_lif", "ring_from_ring") in graph.edges
    # In the loop, the edge back is the step by which Nengo's filter is late.
    found = Interpreter(graph, 0.001).run({"source": [image]}, 500)
    for name, probe in zip(("ring_lif", "last_lif"), probes, strict=True):
        counts = found[name].sum(axis=0)
        assert counts.sum() > 100
        np.testing.assert_array_equal(counts, np.rint(sim.data[probe].sum(axis=0) / 20))


def test_an_image_that_a_matrix_adds_to_stands_in_one_row():
    """A convolution and a matrix feed a layer, which keeps the order of channels."""
    rng = np.random.default_rng(4)
    with nengo.Network(seed=0):
        pixels = nn.constant_input((4, 5, 3))
        neurons, tuning = lif(amplitude=0.02), {"gain": 2.0, "bias": 0.9}
        one = nn.conv2d(pixels, rng.normal(size=(1, 1, 3, 2)), neurons, label="one", **tuning)
        nengo.Connection(
            one.ensemble.neurons[:7],
            one.ensemble.neurons[5:9],
            transform=rng.normal(size=(4, 7)),
            synapse=0,
        )
        two = nn.dense(one, rng.normal(size=(40, 6)), neurons, label="two", **tuning)
    images = rng.uniform(size=(2, 4, 5, 3))
    graph = check_counts(two, [one, two], images, 150)
    assert graph.nodes["one_lif"].tau.shape == (40,)
    assert {("one", "one_flatten"), ("one_flatten", "one_lif")} <= set(graph.edges)


def test_gains_and_biases_of_every_neuron_of_a_filter():
    rng = np.random.default_rng(9)
    with nengo.Network():
        pixels = nn.constant_input((3, 4, 2))
        tuning = {"gain": rng.uniform(2, 5, size=36), "bias": rng.uniform(0.5, 1.5, size=36)}
        kernel = rng.normal(size=(1, 1, 2, 3))
        layer = nn.conv2d(pixels, kernel, lif(), label="conv", **tuning)
        integrators = nn.conv2d(pixels, kernel, integrate(), label="if", **tuning)
    graph = check_counts(layer, [layer], rng.uniform(size=(2, 3, 4, 2)), 200)
    assert type(graph.nodes["conv_gain"]).__name__ == "Scale"
    expected = channels_first(tuning["bias"], (3, 4, 3))
    np.testing.assert_array_equal(graph.nodes["conv_lif"].v_leak, expected)
    with pytest.raises(nn.InputError, match="if: cannot export these biases; expected one for"):
        nn.to_nir(integrators, allow="reset")


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("size", [(2, 3), (3, 3), (4, 2)])
def test_convolutions_of_plain_nengo(channels_last, padding, strides, size):
    rng = np.random.default_rng(6)
    shape = (6, 7, 4) if channels_last else (4, 6, 7)
    settings = {"strides": strides, "padding": padding, "channels_last": channels_last}
    kernel = rng.normal(size=(*size, 2, 6))
    convolution = nengo.Convolution(6, shape, kernel_size=size, init=kernel, groups=2, **settings)
    image = rng.normal(size=168)
    with nengo.Network(seed=0) as net:
        source = nengo.Node(image, label="source")
        out = nengo.Node(size_in=convolution.size_out, label="out")
        nengo.Connection(source, out, transform=convolution, synapse=None)
        probe = nengo.Probe(out)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(2)
    graph = nn.to_nir(out, network=net)
    fed = image.reshape(shape)
    fed = np.moveaxis(fed, -1, 0) if channels_last else fed
    found = Interpreter(graph, 0.001).run({"source": [fed]}, 1)["output"][0]
    expected = sim.data[probe][-1].reshape(convolution.output_shape.shape)
    expected = np.moveaxis(expected, -1, 0) if channels_last else expected
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2])
def test_convolutions_over_one_dimension(padding, strides):
    rng = np.random.default_rng(6)
    settings = {"strides": (strides,), "padding": padding, "kernel_size": (4,)}
    convolution = nengo.Convolution(3, (11, 2), init=rng.normal(size=(4, 2, 3)), **settings)
    with nengo.Network(seed=0) as net:
        source = nengo.Node(size_in=22, label="source")
        source = nengo.Node(np.zeros(22), label="signal")
        out = nengo.Node(size_in=convolution.size_out, label="out")
        nengo.Connection(source, out, transform=convolution, synapse=None)
    signal = rng.normal(size=(1, 22))
    graph = nn.to_nir(out, network=net)
    assert type(graph.nodes["out"]).__name__ == "Conv1d"
    found = Interpreter(graph, 0.001).run({"signal": [signal.reshape(11, 2).T]}, 1)["output"][0]
    expected = nn.predict_rates(out, signal, network=net)[0]
    np.testing.assert_allclose(found.T.ravel(), expected, atol=1e-12)


def test_units_of_what_is_summed():
    """Spikes of two areas, a constant input, and a source that is added twice."""
    with nengo.Network() as net:
        pixels = nn.constant_input((3,), scale=2.0, label="pixels")
        one = nn.dense(pixels, np.eye(3), lif(amplitude=0.5), gain=2.0, bias=0.0, label="one")
        two = nn.dense(pixels, np.eye(3), lif(), gain=2.0, bias=0.0, label="two")
        both = nengo.Node(size_in=3, label="both")
        for source in (one.ensemble.neurons, two.ensemble.neurons, pixels.node, pixels.node):
            nengo.Connection(source, both, synapse=None)
        fixed = nengo.Node([1.0, 2.0, 3.0], label="fixed")
        nengo.Connection(fixed, one.ensemble.neurons, transform=0.25, synapse=None)
    graph = nn.to_nir(both, network=net, dt=0.01)
    assert "fixed" not in graph.nodes
    np.testing.assert_allclose(graph.nodes["one"].bias, [0.5, 1.0, 1.5])
    found = Interpreter(graph, 0.01).run({"pixels": [np.array([1.0, 2.0, 9.0])]}, 20)
    expected = 50 * found["one_lif"] + 100 * found["two_lif"] + 4 * np.array([1.0, 2.0, 9.0])
    np.testing.assert_allclose(found["output"], expected)
    assert found["one_lif"].sum() > 5


def test_a_source_that_is_added_twice():
    with nengo.Network() as net:
        pixels = nn.constant_input((3,))
        twice = nengo.Node(size_in=3, label="twice")
        for _ in range(2):
            nengo.Connection(pixels.node, twice, synapse=None)
    graph = nn.to_nir(twice, network=net)
    found = Interpreter(graph, 0.001).run({"input": [np.arange(3.0)]}, 1)["output"][0]
    np.testing.assert_array_equal(found, 2 * np.arange(3))


@pytest.mark.parametrize("pools", ["average", "sum"])
def test_outputs_that_do_not_spike_have_the_values_of_nengo(pools):
    """Pooled or filtered spikes, and pooled values; spikes themselves stay the number 1."""
    with nengo.Network():
        pixels = nn.constant_input((4, 2, 1), scale=3.0, label="pixels")
        spiking = nn.activation(pixels, lif(amplitude=0.5), gain=1.0, bias=0.0, label="spiking")
        outputs = [nn.avg_pool2d(pixels, label="pooled"), nn.avg_pool2d(spiking, label="of_spikes")]
        outputs += [nn.lowpass(spiking, 0.01, label="filtered"), spiking]
    image = np.arange(8.0).reshape(1, 4, 2, 1) / 8
    result = nn.present(
        pixels.network, outputs, image, presentation_time=0.05, readout="sum", progress=False
    )
    graph = nn.to_nir([*outputs, outputs[0].output[1:]], pools=pools, euler=True)
    found = Interpreter(graph, 0.001).run({"pixels": [np.moveaxis(image[0], -1, 0)]}, 50)
    steps = np.split(result.outputs[0], [2, 4, 12], axis=1)
    assert steps[3].any()
    steps[3] = steps[3] / 500  # of spikes
    names = ["pooled", "of_spikes", "filtered", "spiking"]
    for name, expected in zip(names, steps, strict=True):
        shown = found[f"{name}_output"].reshape(50, -1)
        np.testing.assert_allclose(shown, expected, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(found["pooled_output_1"], steps[0][:, 1:])


def test_a_pool_of_what_is_added_twice():
    with nengo.Network():
        pixels = nn.constant_input((2, 2, 3))
        pool = nn.avg_pool2d([pixels, pixels])
        twice = nn.avg_pool2d(nn.add([pixels, pixels]))
    image = np.arange(12.0).reshape(2, 2, 3)
    for layer in (pool, twice):
        found = counts_of(nn.to_nir(layer), image, 1)["output"]
        np.testing.assert_allclose(found.ravel(), 2 * image.mean(axis=(0, 1)))


def test_filters_of_every_unit():
    with nengo.Network():
        pixels = nn.constant_input((2, 2, 3))
        filtered = nn.lowpass(pixels, np.arange(1, 13) * 0.001)
        out = nn.conv2d(filtered, np.ones((2, 2, 3, 1)), None, label="sum")
        some = nn.lowpass(pixels, [0.0] * 6 + [0.1] * 6)
        none = nn.lowpass(pixels, 0.0)
    graph = nn.to_nir(out, euler=True)
    found = Interpreter(graph, 0.001).run({"input": [np.ones((3, 2, 2))]}, 30)["output"]
    gone = np.exp(-np.outer(np.arange(1, 31) * 0.001, 1 / (np.arange(1, 13) * 0.001)))
    np.testing.assert_allclose(found[:, 0, 0, 0], (1 - gone).sum(axis=1))
    assert graph.nodes["lowpass"].tau[2, 0, 1] == pytest.approx(0.001 / -np.expm1(-1 / 6))
    with pytest.raises(nn.InputError, match="filters of which some have tau=0"):
        nn.to_nir(some)
    assert list(nn.to_nir(none).nodes) == ["input", "output"]


def test_a_global_pool_and_a_network_of_two_outputs():
    rng = np.random.default_rng(0)
    with nengo.Network() as net:
        pixels = nn.constant_input((4, 6, 3))
        pool = nn.global_avg_pool2d(pixels, label="mean")
        first = nn.dense(pool, rng.normal(size=(3, 2)), None, label="first")
        second = nn.dense(pool, rng.normal(size=(3, 4)), None, label="second")
    graph = nn.to_nir(net)
    assert list(graph.outputs) == ["first_output", "second_output"]
    image = rng.uniform(size=(4, 6, 3))
    found = Interpreter(graph, 0.001).run({"input": [np.moveaxis(image, -1, 0)]}, 1)
    for layer in (first, second):
        expected = image.mean(axis=(0, 1)) @ layer.weights.kernel
        np.testing.assert_allclose(found[f"{layer.label}_output"][0], expected)
    same = nn.to_nir([first.node[1:], pool])
    found = Interpreter(same, 0.001).run({"input": [np.moveaxis(image, -1, 0)]}, 1)
    np.testing.assert_allclose(
        found["first_output"][0], (image.mean(axis=(0, 1)) @ first.weights.kernel)[1:]
    )
    assert tuple(same.nodes["mean_output"].input_type["input"]) == (3, 1, 1)


def test_encoders_decoders_and_drawn_weights_are_matrices():
    with nengo.Network(seed=5) as net:
        source = nengo.Node([0.0, 0.0], label="source")
        ensemble = nengo.Ensemble(
            60, 2, radius=1.3, neuron_type=lif(amplitude=0.5), noise=None, label="nef"
        )
        nengo.Connection(source, ensemble, synapse=None)
        out = nengo.Node(size_in=1, label="product")
        nengo.Connection(ensemble, out, function=lambda x: x[0] * x[1], synapse=0.02)
        drawn = nengo.Node(size_in=3, label="drawn")
        weights = nengo.Dense((3, 1), init=nengo.dists.Gaussian(0, 1))
        nengo.Connection(out, drawn, transform=weights, synapse=None)
        fired, probe = nengo.Probe(ensemble.neurons), nengo.Probe(drawn)
    graph = nn.to_nir(drawn, network=net, euler=True)
    value = np.array([0.8, -0.6])
    source.output = value
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(300)
    found = Interpreter(graph, 0.001, late_filters=True).run({"source": [value]}, 300)
    np.testing.assert_array_equal(found["nef_lif"].sum(0), np.rint(sim.data[fired].sum(0) / 500))
    np.testing.assert_allclose(found["output"], sim.data[probe], atol=1e-9)
    assert found["nef_lif"].sum() > 500


@pytest.mark.parametrize("n_neurons", [12, 20])
def test_a_convolution_in_front_of_encoders_is_a_part_of_their_matrix(n_neurons):
    rng = np.random.default_rng(2)
    with nengo.Network(seed=5) as net:
        source = nengo.Node(rng.uniform(size=40), label="source")
        ensemble = nengo.Ensemble(n_neurons, 12, neuron_type=lif(), label="nef")
        of_kernel = {"kernel_size": (2, 2), "init": rng.normal(size=(2, 2, 2, 1))}
        convolution = nengo.Convolution(1, (4, 5, 2), **of_kernel)
        nengo.Connection(source, ensemble, transform=convolution, synapse=None)
        fired = nengo.Probe(ensemble.neurons)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(200)
    graph = nn.to_nir(ensemble, network=net, euler=True)
    found = Interpreter(graph, 0.001).run({"source": [source.output]}, 200)["nef_lif"]
    np.testing.assert_array_equal(found, np.rint(sim.data[fired] * 0.001))
    assert found.sum() > 100


def test_a_convolution_of_drawn_weights():
    with nengo.Network(seed=5) as net:
        source = nengo.Node(np.linspace(-1, 1, 40), label="source")
        out = nengo.Node(size_in=24, label="out")
        convolution = nengo.Convolution(2, (4, 5, 2), kernel_size=(2, 2))
        nengo.Connection(source, out, transform=convolution, synapse=None)
        probe = nengo.Probe(out)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(1)
    graph = nn.to_nir(out, network=net)
    fed = np.moveaxis(source.output.reshape(4, 5, 2), -1, 0)
    found = Interpreter(graph, 0.001).run({"source": [fed]}, 1)["output"][0]
    np.testing.assert_allclose(np.moveaxis(found, 0, -1).ravel(), sim.data[probe][0])


def test_a_transposed_convolution_is_a_matrix():
    rng = np.random.default_rng(6)
    kernel, strides = rng.normal(size=(2, 3, 2, 3)), (2, 2)
    of_kernel = {"kernel_size": (2, 3), "strides": strides, "init": kernel}
    transform = nengo.ConvolutionTranspose(3, (3, 4, 2), **of_kernel)
    with nengo.Network() as net:
        source = nengo.Node(np.zeros(24), label="source")
        out = nengo.Node(size_in=transform.size_out, label="out")
        nengo.Connection(source, out, transform=transform, synapse=None)
    graph, value = nn.to_nir(out, network=net), rng.normal(size=(1, 24))
    found = Interpreter(graph, 0.001).run({"source": value}, 1)["output"]
    np.testing.assert_allclose(found, nn.predict_rates(out, value, network=net), atol=1e-12)


def test_constants_are_inputs_where_there_is_no_other_input():
    with nengo.Network() as net:
        one, two = nengo.Node([1.0, 2.0], label="one"), nengo.Node([3.0, 4.0], label="two")
        out = nengo.Node(size_in=2, label="out")
        nengo.Connection(one, out, synapse=None)
        nengo.Connection(two, out, transform=0.5, synapse=None)
    graph = nn.to_nir(out, network=net)
    found = Interpreter(graph, 0.001).run({"one": [one.output], "two": [two.output]}, 1)
    np.testing.assert_array_equal(found["output"], [[2.5, 4.0]])


def test_a_pool_over_one_dimension_is_a_convolution():
    rng = np.random.default_rng(0)
    with nengo.Network():
        signal = nn.constant_input((9, 3))
        pool = nn.avg_pool1d(signal, 2, 3)
        out = nn.conv1d(pool, rng.normal(size=(2, 3, 4)), None, label="conv")
    graph = nn.to_nir(out)
    assert [type(node).__name__ for node in graph.nodes.values()][1:3] == ["Conv1d", "Conv1d"]
    value = rng.normal(size=(1, 9, 3))
    found = Interpreter(graph, 0.001).run({"input": [value[0].T]}, 1)["output"][0]
    np.testing.assert_allclose(found.T.ravel(), nn.predict_rates(out, value)[0])


@pytest.mark.parametrize("pads", [((1, 2), (0, 3)), ((2, 0), (1, 1))])
def test_images_side_by_side_and_zeros_around_stay_images(pads):
    """A residual network: its padding and concatenation become convolutions of 0 and 1."""
    rng = np.random.default_rng(3)
    neurons, tuning = lif(amplitude=0.02), {"gain": 3.0, "bias": 0.8}
    with nengo.Network(seed=0):
        pixels = nn.constant_input((5, 6, 2))
        padded = nn.zero_padding2d(pixels, pads, label="padded")
        kernel = rng.normal(size=(2, 3, 2, 3))
        one = nn.conv2d(padded, kernel, neurons, label="one", **tuning)
        two = nn.conv2d(one, rng.normal(size=(1, 1, 3, 3)), neurons, label="two", **tuning)
        both = nn.concatenate([two, one], label="both")
        kernel = rng.normal(size=(2, 2, 6, 4)) / 2
        three = nn.conv2d(both, kernel, neurons, label="three", **tuning)
        pool = nn.avg_pool2d(three)
        kernel = rng.normal(size=(pool.size, 5))
        four = nn.dense(pool, kernel, neurons, label="four", **tuning)
    layers = [one, two, three, four]
    graph = check_counts(four, layers, rng.uniform(size=(2, 5, 6, 2)), 100)
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert kinds.count("Affine") == 1
    assert {("two_lif", "both"), ("one_lif", "both_from_one")} <= set(graph.edges)


def test_steps_side_by_side_and_zeros_before_them():
    rng = np.random.default_rng(3)
    with nengo.Network():
        signal = nn.constant_input((7, 2))
        padded = nn.zero_padding1d(signal, (2, 1))
        one = nn.conv1d(padded, rng.normal(size=(4, 2, 3)), None, label="one")
        both = nn.concatenate([one, signal], label="both")
        out = nn.conv1d(both, rng.normal(size=(3, 5, 2)), None, label="out")
    value = rng.normal(size=(1, 7, 2))
    graph = nn.to_nir(out)
    assert "Affine" not in [type(node).__name__ for node in graph.nodes.values()]
    found = Interpreter(graph, 0.001).run({"input": [value[0].T]}, 1)["output"][0]
    np.testing.assert_allclose(found.T.ravel(), nn.predict_rates(out, value)[0])


# --- what NIR cannot express


DROPPED = {
    "tau_ref": (nengo.LIF(tau_ref=0.002, min_voltage=-np.inf, initial_state=ZERO), "refractory"),
    "min_voltage": (nengo.LIF(tau_ref=0, min_voltage=-1, initial_state=ZERO), "lowest voltage"),
    "initial_state": (nengo.LIF(tau_ref=0, min_voltage=-np.inf), "initial voltage"),
    "reset": (integrate(), "spike once a step at most"),
}


@pytest.mark.parametrize("word", DROPPED)
def test_what_is_left_out_is_named_and_may_be_allowed(word):
    neuron_type, text = DROPPED[word]
    with nengo.Network():
        pixels = nn.constant_input((3,))
        layer = nn.dense(pixels, np.ones((3, 2)), neuron_type, gain=1.0, bias=0.0, label="hid")
    with pytest.raises(nn.InputError, match=rf'hid: .*{text}.*allow=\["{word}"\]$'):
        nn.to_nir(layer)
    graph = nn.to_nir(layer, allow=word)
    assert graph.metadata["left_out"] == word
    assert "left_out" not in nn.to_nir(mlp(np.random.default_rng(0))[-1]).metadata


def test_all_that_is_left_out_is_named_at_once():
    with nengo.Network():
        pixels = nn.constant_input((3,))
        hidden = nn.dense(pixels, np.ones((3, 2)), nengo.LIF(), gain=1.0, bias=0.0, label="hidden")
        output = nn.dense(
            hidden, np.ones((2, 2)), nengo.SpikingRectifiedLinear(), gain=1.0, bias=0.0, label="out"
        )
        output.ensemble.noise = nengo.processes.WhiteNoise()
    words = ["reset", "rectified", "initial_state", "noise", "tau_ref", "min_voltage"]
    with pytest.raises(nn.InputError) as found:
        nn.to_nir(output, allow=["tau_ref"])
    text = str(found.value)
    assert "hidden, out: NIR has no initial voltage" in text
    assert "refractory" not in text
    assert all(f'"{word}"' in text for word in words)
    assert nn.to_nir(output, allow=words).metadata["left_out"] == ", ".join(words)
    with pytest.raises(nn.InputError, match="allow: .*tau_ref.*'tau_reff'"):
        nn.to_nir(output, allow="tau_reff")


def refused(add, **settings):
    with nengo.Network() as net:
        pixels = nn.constant_input((4, 4, 2))
        hidden = nn.conv2d(pixels, np.ones((1, 1, 2, 2)), lif(), gain=1.0, bias=0.0, label="hidden")
        output = add(hidden)
    return nn.to_nir(output, network=net, **settings)


def behind(hidden, size_in=32, **settings):
    node = nengo.Node(size_in=size_in, label="behind")
    nengo.Connection(hidden.ensemble.neurons, node, **{"synapse": None} | settings)
    return node


def of_type(neuron_type):
    ones = np.ones((32, 2))
    return lambda hidden: nn.dense(hidden, ones, neuron_type, gain=1.0, bias=0.0, label="odd")


def with_function(hidden):
    node = nengo.Node(lambda t, x: x**2, size_in=32, label="square")
    nengo.Connection(hidden.ensemble.neurons, node, synapse=None)
    return node


def on_a_connection(hidden):
    source, node = nengo.Node([0.0], label="source"), nengo.Node(size_in=1, label="squared")
    nengo.Connection(source, node, function=np.square, synapse=None)
    return node


def learned(hidden):
    node = nengo.Node(size_in=2)
    rule = nengo.PES()
    nengo.Connection(hidden.ensemble, node, function=lambda x: [x, x], learning_rule_type=rule)
    return node


REFUSED = {
    "adaptive neurons": (of_type(nengo.AdaptiveLIF()), "odd: cannot export AdaptiveLIF neurons"),
    "rate neurons": (of_type(nengo.RectifiedLinear()), "odd: cannot export RectifiedLinear"),
    "a step of one's own": (of_type(type("Own", (nengo.LIF,), {"step": id})()), "export Own"),
    "random neurons": (
        of_type(nengo.PoissonSpiking(nengo.RectifiedLinear())),
        "odd: cannot export PoissonSpiking",
    ),
    "a max pool": (lambda hidden: nn.max_pool2d(hidden), "a max pool; NIR has none, so build avg"),
    "a function": (with_function, "square.*a function of its own"),
    "a function on a connection": (on_a_connection, "squared.*: expected weights, got a function"),
    "a learning rule": (learned, "cannot export a connection with a learning rule"),
    "a long filter": (
        lambda hidden: behind(hidden, synapse=nengo.synapses.Triangle(0.01)),
        "cannot export the synapse Triangle",
    ),
    "a filter of two poles": (
        lambda hidden: behind(hidden, synapse=nengo.LinearFilter([1], [0.1, 0.2, 1])),
        "cannot export the synapse LinearFilter",
    ),
}


@pytest.mark.parametrize("add, message", REFUSED.values(), ids=REFUSED)
def test_refusals_by_name(add, message):
    with pytest.raises(nn.InputError, match=message):
        refused(add)


def test_other_refusals():
    with nengo.Network() as net:
        nengo.Node([1.0])
    with pytest.raises(nn.InputError, match="expected an object that feeds no other"):
        nn.to_nir(net)
    layer = mlp(np.random.default_rng(0))[-1]
    with pytest.raises(nn.InputError, match="pools: expected one of average, sum, got 'max'"):
        nn.to_nir(layer, pools="max")
    with pytest.raises(nn.InputError, match="dt: expected a time in seconds, above 0, got 0"):
        nn.to_nir(layer, dt=0)
    with nengo.Network() as net:
        a, b = nengo.Node(size_in=1, label="a"), nengo.Node(size_in=1, label="b")
        nengo.Connection(a, b, synapse=0.1)
        nengo.Connection(b, a, synapse=0.1)
    with pytest.raises(nn.InputError, match="expected a network with an input, got none"):
        nn.to_nir(b, network=net)
    with net:
        nengo.Connection(nengo.Node([1.0]), a)
    with pytest.raises(nn.InputError, match="a loop of Nodes alone"):
        nn.to_nir(b, network=net)


def test_a_matrix_too_large_is_refused():
    with nengo.Network() as net:
        source = nengo.Node(np.zeros(20_000), label="source")
        out = nengo.Node(size_in=20_000, label="out")
        nengo.Connection(source[::-1], out, synapse=None)
    with pytest.raises(nn.InputError, match="out: cannot export a matrix of 20000 x 20000 weights"):
        nn.to_nir(out, network=net)
