"""Everything that Nengo adds to a neuron's current is read, or is refused by name."""

import nengo
import numpy as np
import pytest
from nengo.dists import Choice, Gaussian, Uniform
from nengo.processes import BrownNoise, FilteredNoise, WhiteNoise, WhiteSignal
from test_filters import SYNAPSES

import nengonet as nn
from nengonet.explain.prediction import predict, predict_rates
from nengonet.layers.filters import LowpassPerUnit
from nengonet.layers.graph import Graph
from nengonet.layers.inputs import ImageInput
from nengonet.layers.pools import MaxPool
from nengonet.layers.record import layers_of
from nengonet.layers.weighted import AddBias


def chosen(rng, size):
    """Return a slice or list of indices, and how many items it selects."""
    start = int(rng.integers(0, size))
    ways = [
        slice(None),
        slice(None, None, -1),
        slice(start, None),
        slice(None, None, 2),
        slice(size - 1, None, -2),
        start,
        -1,
        [int(k) for k in rng.integers(-size, size, rng.integers(1, size + 3))],
        [start] * 3,
        np.array([int(k) for k in rng.permutation(size)]),
    ]
    key = ways[rng.integers(len(ways))]
    return key, np.arange(size)[key].size


def weighted(rng, n_in, n_out):
    """Return a transform of any kind that has these sizes."""
    ways = [
        rng.normal(size=(n_out, n_in)),
        nengo.Sparse(
            (n_out, n_in),
            indices=[[0, 0], [n_out - 1, n_in - 1], [0, 0]],
            init=[1.0, -0.5, 0.25],
        ),
    ]
    if n_in == n_out:
        ways += [None, float(rng.normal()), rng.normal(size=n_in)]
    if n_in >= 3 and n_out == 2 * (n_in - 2):
        kernel = rng.normal(size=(3, 1, 2))
        ways += [nengo.Convolution(2, (n_in, 1), (3,), strides=(1,), init=kernel)] * 3
    if n_in >= 2 and n_out == n_in + 1:
        kernel = rng.normal(size=(2, 1, 1))
        ways += [
            nengo.ConvolutionTranspose(1, (n_in, 1), kernel_size=(2,), init=kernel, strides=(1,))
        ]
        ways *= 3
    return ways[rng.integers(len(ways))]


def connect(rng, pre, post):
    n_pre, n_post = pre.size_out, post.size_in
    for _ in range(20):
        (take, n_in), (give, n_out) = chosen(rng, n_pre), chosen(rng, n_post)
        synapse = SYNAPSES[rng.integers(len(SYNAPSES))]
        transform = weighted(rng, n_in, n_out)
        settings = {} if transform is None else {"transform": transform}
        try:
            return nengo.Connection(pre[take], post[give], synapse=synapse, **settings)
        except nengo.exceptions.ValidationError:
            continue
    return nengo.Connection(pre, post, transform=np.ones((n_post, n_pre)), synapse=None)


def random_network(rng):
    """Return a feed-forward network with every kind of input to neurons, and its ensembles."""
    with nengo.Network(seed=0) as network:
        size = int(rng.integers(2, 6))
        image = nn.constant_input((size,), scale=2.0).node
        if rng.uniform() < 0.5:
            image = nengo.Node(np.zeros(size), label="image")
        sources = [image, nengo.Node(rng.normal(size=int(rng.integers(1, 5))), label="constant")]
        with nengo.Network(label="inside"):
            sources.append(nengo.Node(size_in=3, label="fed by nothing"))
            sources.append(nengo.Node(rng.normal(size=2), label="constant inside"))
        ensembles = []
        for k in range(int(rng.integers(2, 6))):
            if rng.uniform() < 0.3:
                n = int(rng.integers(2, 5))
                add_bias = AddBias(rng.normal(size=n))
                outputs = [None, add_bias, LowpassPerUnit(rng.uniform(0, 0.01, n))]
                target = nengo.Node(outputs[rng.integers(3)], size_in=n, label=f"node {k}")
                sources.append(target)
            else:
                n = int(rng.integers(2, 6))
                tunings = [
                    {"gain": rng.normal(size=n), "bias": rng.normal(size=n)},
                    {"max_rates": rng.uniform(50, 90, n), "intercepts": rng.uniform(-0.9, 0.9, n)},
                    {"max_rates": Choice([80]), "intercepts": Choice([-0.3])},
                ]
                neuron_type = [nengo.RectifiedLinear(amplitude=0.01), nengo.Tanh(), nengo.LIFRate()]
                ensemble = nengo.Ensemble(
                    n,
                    1,
                    neuron_type=neuron_type[rng.integers(3)],
                    label=f"ensemble {k}",
                    **tunings[rng.integers(3)],
                )
                noise = [None, WhiteNoise(Uniform(0.3, 0.3), scale=False)]
                noise.append(FilteredNoise(0.003, Uniform(0.2, 0.2), scale=False))
                ensemble.noise = noise[rng.integers(3)]
                target = ensemble.neurons
                ensembles.append(ensemble)
            # More than one from the same source, too.
            for pre in rng.choice(len(sources) - (target is sources[-1]), rng.integers(1, 4)):
                connect(rng, sources[pre], target)
            if target is not sources[-1]:
                sources.append(target)
    return network, image, ensembles


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(30))
def test_nothing_that_feeds_a_neuron_is_left_out(number):
    rng = np.random.default_rng([12, number])
    network, image, ensembles = random_network(rng)
    if not ensembles:
        pytest.skip("only Nodes were drawn")
    values = rng.uniform(size=image.size_out)
    with network:
        probes = [nengo.Probe(each.neurons, "input", synapse=None) for each in ensembles]
    shown = {image: values[np.newaxis]}
    expected = {each: predict(each, shown, network=network)[-1] for each in ensembles}
    if isinstance(image.output, ImageInput):
        image.output.show(values, example=0, seed=0)
    else:
        image.output = values
    with nengo.Simulator(network, progress_bar=False, seed=0) as simulator:
        simulator.run_steps(1500, progress_bar=False)
    for ensemble, probe in zip(ensembles, probes, strict=True):
        found = simulator.data[probe][-1]
        scale = 1 + np.abs(found)
        assert np.max(np.abs(expected[ensemble].current[0] - found) / scale) < 1e-9, ensemble


def new_type(net, layers, rng):
    layers["hidden"].ensemble.neuron_type = nengo.RegularSpiking(nengo.Tanh(), amplitude=0.05)


def new_amplitude(net, layers, rng):
    layers["conv"].ensemble.neuron_type = nn.IntegrateAndFire(amplitude=0.25)


def no_spikes(net, layers, rng):
    layers["conv"].ensemble.neuron_type = nengo.RectifiedLinear(amplitude=0.3)


def new_tuning(net, layers, rng):
    ensemble = layers["hidden"].ensemble
    ensemble.gain = rng.normal(size=ensemble.n_neurons) * 50
    ensemble.bias = rng.normal(size=ensemble.n_neurons) * 20


def new_weights(net, layers, rng):
    shape = layers["hidden"].connection.transform.shape
    layers["hidden"].connection.transform = nengo.Dense(shape, init=rng.normal(size=shape))
    layers["hidden"].connection.synapse = 0.002


def rewired(net, layers, rng):
    net.connections.remove(layers["hidden"].connection)
    with net:
        nengo.Connection(layers["conv"].output[::-3], layers["hidden"].output[:12], synapse=None)


def second_input(net, layers, rng):
    with net:
        constant = nengo.Node(rng.uniform(size=3))
        nengo.Connection(constant, layers["hidden"].output[[0, 1, 1]], synapse=0.001)
        between = nengo.Ensemble(
            2, 1, neuron_type=nengo.LIF(), gain=[2, 3], bias=[1, 1.5], label="between"
        )
        nengo.Connection(constant[:2], between.neurons, synapse=None)
        nengo.Connection(between.neurons, layers["output"].output[:2], synapse=0.01)


def new_bias(net, layers, rng):
    layers["output"].node.output = AddBias(rng.normal(size=4))


def spikes_of_another_pool_input(net, layers, rng):
    net.connections.remove(layers["pool"].connection)
    with net:
        small = nengo.Ensemble(
            36,
            1,
            neuron_type=nn.IntegrateAndFire(amplitude=0.5),
            gain=np.full(36, 20.0),
            bias=np.linspace(0, 90, 36),
            label="small",
        )
        nengo.Connection(small.neurons, layers["pool"].node, synapse=None)


EDITS = [
    new_type,
    new_amplitude,
    no_spikes,
    new_tuning,
    new_weights,
    rewired,
    second_input,
    new_bias,
    spikes_of_another_pool_input,
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("edits", [[], *([edit] for edit in EDITS), EDITS[3:8], EDITS[:4]])
@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
def test_everything_follows_edits(edits, simulator):
    rng = np.random.default_rng(len(edits))
    spiking = nn.IntegrateAndFire(amplitude=0.01)
    with nengo.Network(seed=0) as net:
        layer = nn.constant_input((4, 4))
        layer = nn.conv2d(
            layer, rng.normal(size=(2, 2, 1, 4)), spiking, gain=200.0, bias=30.0, label="conv"
        )
        layer = nn.max_pool2d(layer, (2, 2), strides=1, label="pool")
        layer = nn.dense(layer, rng.normal(size=(16, 12)), spiking, gain=100.0, label="hidden")
        layer = nn.dense(layer, rng.normal(size=(12, 4)), None, label="output")
    layers = {each.label: each for each in layer.upstream()}
    for edit in edits:
        edit(net, layers, rng)
    image = rng.uniform(size=(1, 16))
    result = nn.present(
        net,
        layer,
        image,
        presentation_time=0.6,
        readout="mean",
        simulator=simulator,
        progress=False,
    )
    known = {each.label: each for each in layers_of(layer, net)}
    with net:
        probes = {label: nengo.Probe(each.output) for label, each in known.items()}
        inputs = {
            label: nengo.Probe(each.output, "input", synapse=None)
            for label, each in known.items()
            if each.ensemble is not None
        }
    layer.show(image[0])
    with nengo.Simulator(net, progress_bar=False, seed=0, optimize=False) as reference:
        reference.run_steps(600, progress_bar=False)
    for info in result.layers:
        data = reference.data[probes[info.label]]
        ensemble = known[info.label].ensemble
        neuron_type = None if ensemble is None else ensemble.neuron_type
        if neuron_type is not None and neuron_type.spiking:
            counts = data * 0.001 / neuron_type.amplitude
            np.testing.assert_allclose(result.counts[info.label][0], counts.sum(axis=0), atol=1e-6)
            assert result.spikes[info.label] == np.rint(np.abs(counts).sum())
        np.testing.assert_allclose(result.mean_output(info.label)[0], data.mean(axis=0), atol=1e-9)
    predicted = {each.label: each for each in predict(layer, {layers["input"].node: image})}
    assert {"hidden", "output"} <= predicted.keys()
    for label, probe in inputs.items():
        if label in predicted:
            found = reference.data[probe].mean(axis=0)
            assert np.max(np.abs(predicted[label].current[0] - found)) < 0.06 * np.abs(found).max()


def test_edits_that_make_no_network_are_refused():
    rng = np.random.default_rng(0)
    with nengo.Network(seed=0):
        pixels = nn.constant_input((4,))
        hidden = nn.dense(pixels, rng.normal(size=(4, 5)), nengo.LIF(), label="hidden", **nn.FORUM)
        output = nn.dense(hidden, rng.normal(size=(5, 3)), None, label="output")
    hidden.ensemble.bias = None
    with pytest.raises(
        nn.InputError, match="'hidden'.*Nengo cannot build the network: gain or bias set"
    ):
        predict(output, [[0.1, 0.2, 0.3, 0.4]])


class OwnSynapse(nengo.Lowpass):
    """A filter that differs from its base."""

    def make_step(self, shape_in, shape_out, dt, rng, state):
        return lambda t, x: x**2


class OwnBias(AddBias):
    """A Node function that differs from its base."""

    def __call__(self, t, x):
        return x**2


class OwnWeights(nengo.Dense):
    """A transform that differs from its base."""

    def sample(self, rng=np.random):
        return 2 * super().sample(rng)


@pytest.mark.parametrize("what", ["synapse", "node", "transform", "noise", "drawn noise", "brown"])
def test_what_steps_in_a_way_of_its_own_is_never_taken_for_its_base(what):
    with nengo.Network() as net:
        pixels = nn.constant_input((2,))
        between = nengo.Node(OwnBias(np.ones(2)) if what == "node" else None, size_in=2)
        ensemble = nengo.Ensemble(2, 1, neuron_type=nengo.LIF(), gain=[1, 1], bias=[0, 0])
        nengo.Connection(pixels.node, between, synapse=None)
        nengo.Connection(
            between,
            ensemble.neurons,
            transform=OwnWeights((2, 2), init=np.eye(2)) if what == "transform" else np.eye(2),
            synapse=OwnSynapse(0.01) if what == "synapse" else None,
        )
        if what.endswith("noise"):
            drawn = nengo.dists.UniformHypersphere()
            ensemble.noise = WhiteSignal(1, 5) if what == "noise" else WhiteNoise(drawn)
        if what == "brown":
            ensemble.noise = BrownNoise()
    with pytest.raises(nn.InputError, match="cannot predict"):
        predict(ensemble, [[0.5, 1.0]], network=net)


def test_noise_counts_in_the_currents_deviation():
    with nengo.Network() as net:
        pixels = nn.poisson_input((2,), 100.0)
        ensemble = nengo.Ensemble(2, 1, neuron_type=nengo.LIF(), gain=[2, -3], bias=[1, 0])
        ensemble.noise = WhiteNoise(Gaussian(0.1, 0.2))
        nengo.Connection(pixels.node[[0, 0]], ensemble.neurons[[1, 1]], synapse=None)
    (found,) = predict(ensemble, [[0.5, 1.0]], network=net)[-1:]
    height = np.sqrt(1000)
    np.testing.assert_allclose(found.current, [[1 + 0.1 * height, -3 * 2 * 0.5 + 0.1 * height]])
    # The same spikes twice: four times their variance.
    variance = [0.2**2 * 1000, 9 * 4 * (0.5 / 100 / 0.001) + 0.2**2 * 1000]
    np.testing.assert_allclose(found.deviation, np.sqrt([variance]))


def test_slices_are_predicted_as_slices():
    with nengo.Network() as net:
        pixels = nn.constant_input((3,))
        layer = nn.dense(pixels, np.diag([1.0, 2.0, 3.0]), nengo.RectifiedLinear(), gain=1.0)
        nengo.Probe(layer.output[:2], synapse=0.01)
    image = [[0.1, 0.2, 0.3]]
    np.testing.assert_allclose(predict_rates(layer.output[::-2], image, network=net), [[0.9, 0.1]])
    both = predict([layer.output[1:], layer.output[0]], image, network=net)
    np.testing.assert_allclose(both[-1].rates, [[0.4, 0.9, 0.1]])
    assert [each.label for each in both] == ["input", "dense", "dense[1:] + dense[0:1]"]
    layer.ensemble.neuron_type = nengo.LIF()
    assert "readout-filter" in [each.code for each in nn.diagnose(layer, image).findings]


def test_other_image_inputs_are_refused_by_name():
    with nengo.Network() as net:
        pixels, mask = nn.constant_input((3,)), nn.constant_input((3,), label="mask")
        layer = nn.dense(pixels, np.eye(3), nengo.LIF(), label="layer", **nn.FORUM)
        nengo.Connection(mask.node, layer.output, synapse=None)
    two_inputs = "expected a network with one input.*'input'.*'mask'"
    for simulator in ("minibatch", "reference"):
        with pytest.raises(nn.InputError, match=two_inputs):
            nn.present(net, layer, np.ones((1, 3)), simulator=simulator, progress=False)
    with pytest.raises(nn.InputError, match=two_inputs):
        predict_rates(layer, np.ones((1, 3)))


def test_a_result_is_not_compared_with_an_edited_network():
    with nengo.Network() as net:
        pixels = nn.constant_input((3,))
        layer = nn.dense(pixels, np.eye(3), nengo.LIF(), label="layer", **nn.FORUM)
    result = nn.present(net, layer, np.ones((1, 3)), progress=False)
    assert nn.compare(result, layer, np.ones((1, 3))).layers
    layer.ensemble.neuron_type = nengo.LIF(amplitude=0.5)
    with pytest.raises(nn.InputError, match="layer: expected the network of the run, .* 1, got"):
        nn.compare(result, layer, np.ones((1, 3)))


def test_ensemble_arrays_are_read_through_their_nodes():
    """Decoded input and output feed nothing here; neuron input and output do."""
    rng = np.random.default_rng(4)
    spiking = nengo.SpikingRectifiedLinear(initial_state={"voltage": Choice([0.5])}, amplitude=0.1)
    with nengo.Network(seed=0) as net:
        image = nn.constant_input((4,))
        array = nengo.networks.EnsembleArray(
            3, 2, neuron_type=spiking, gain=Choice([50.0]), bias=Choice([5.0])
        )
        array.add_neuron_input()
        array.add_neuron_output()
        into, out = rng.uniform(size=(6, 4)), rng.uniform(size=(2, 6))
        nengo.Connection(image.node, array.neuron_input, transform=into, synapse=None)
        hidden = nn.Layer(label="hidden", shape=(6,), node=array.neuron_output)
        output = nn.dense(hidden, out.T, None, label="output")
    images = rng.uniform(size=(3, 4))
    rates = 50 * images @ into.T + 5
    np.testing.assert_allclose(
        predict_rates(array.ea_ensembles[1], images, network=net), rates[:, 3:]
    )
    predicted = predict(output, images)
    assert predicted[-2].label == "hidden"
    assert (predicted[-2].spiking, predicted[-2].amplitude) == (True, 0.1)
    np.testing.assert_allclose(predicted[-1].mean_outputs, 0.1 * rates @ out.T)
    result = nn.present(net, output, images, presentation_time=0.5, readout="mean", progress=False)
    np.testing.assert_array_equal(result.counts["hidden"], np.rint(rates * 0.5 + 1e-9))
    np.testing.assert_array_equal(
        result.operations["output"], 2 * result.counts["hidden"].sum(axis=1)
    )
    assert "no ANN" in str(nn.diagnose(output, images, readout="mean"))


def test_what_feeds_a_layer_is_what_the_network_says():
    with nengo.Network() as net:
        pixels = nn.constant_input((4,))
        left, right = (
            nn.dense(pixels, np.eye(4), nengo.LIF(), label=label, **nn.FORUM)
            for label in ("left", "right")
        )
        output = nn.dense([left, right], np.eye(4), None, label="output")
        assert (pixels.pres, pixels.pre) == ((), None)
        assert (left.pres, left.pre) == ((pixels,), pixels)
        assert output.pres == (left, right)
        assert output.upstream() == [pixels, left, right, output]
        with pytest.raises(nn.InputError, match="output: .* one layer .*, got left, right; use pr"):
            _ = output.pre
        net.connections.remove(output.connections[1])
        assert (output.pre, output.upstream()) == (left, [pixels, left, output])
        # Others' objects, and one that only passes on.
        ensemble = nengo.Ensemble(4, 1, label="plain")
        relay = nengo.Node(size_in=4, label="relay")
        for pre, post in [(right.output, relay), (relay, output.output)]:
            nengo.Connection(pre, post, synapse=None)
        nengo.Connection(ensemble.neurons, output.output, synapse=None)
        assert output.pres[0] is left
        assert [(each.shape, each.output) for each in output.pres[1:]] == [
            ((4,), relay),
            ((4,), ensemble.neurons),
        ]
        # Asking for a Node that only passes values on does not make it a layer of the network.
        labels = ["input", "left", "right", "plain", "output"]
        assert [each.label for each in output.upstream()] == labels
        assert output.pres[2].output == output.upstream()[3].output


def test_labels_differ_on_all_ways_to_a_layer():
    with nengo.Network():
        pixels = nn.constant_input((4,))
        ways = []
        for label in ("left", "right"):
            hidden = nn.dense(pixels, np.eye(4), nengo.LIF(), label="hidden", **nn.FORUM)
            ways.append(nn.dense(hidden, np.eye(4), nengo.LIF(), label=label, **nn.FORUM))
        with pytest.raises(nn.InputError, match="hidden: expected different labels .* twice; pass"):
            nn.dense(ways, np.eye(4), None, label="output")
        with pytest.raises(nn.InputError, match="expected a label that no layer has"):
            nn.dense([ways[0], pixels], np.eye(4), None, label="hidden")
        pair = nn.dense(pixels, np.ones((4, 2)), None, label="pair")
        with pytest.raises(nn.InputError, match=r"of one shape, .* input \(4,\), pair \(2,\)"):
            nn.dense([pixels, pair], np.eye(4), None, label="output")
        with pytest.raises(nn.InputError, match="pre: expected a Layer, or a list .* empty list"):
            nn.dense([], np.eye(4), None, label="output")


def test_layers_beside_the_chain_keep_their_labels():
    with nengo.Network() as net:
        pixels = nn.constant_input((4,))
        output = nn.dense(pixels, np.eye(4), None, label="output")
        beside = nn.lowpass(pixels, 0.01, label="beside")
        nengo.Connection(beside.output, output.node, synapse=None)
    assert layers_of(output, net) == [pixels, beside, output]


@pytest.mark.parametrize(
    "amplitudes, synapse, area",
    [((0.1, 0.1), None, 0.1), ((0.1, 0.2), None, None), ((0.1, 0.1), 0.01, None)],
)
def test_what_is_passed_on_is_spikes_of_one_area_or_none(amplitudes, synapse, area):
    with nengo.Network() as net:
        pixels = nn.constant_input((2,))
        relay = nengo.Node(size_in=2)
        for k, amplitude in enumerate(amplitudes):
            layer = nn.dense(
                pixels, np.eye(2), nengo.LIF(), amplitude=amplitude, label=f"{k}", **nn.FORUM
            )
            nengo.Connection(layer.output, relay, synapse=synapse if k else None)
    assert Graph(net).spike_area(relay) == area


def test_spikes_below_0_are_possible_where_any_come_in():
    with nengo.Network() as net:
        pixels = nn.constant_input((2,))
        signed, plain = (
            nn.dense(pixels, np.eye(2), nengo.RegularSpiking(base), gain=1.0, label=str(base))
            for base in (nengo.Tanh(), nengo.RectifiedLinear())
        )
        relays = [nengo.Node(size_in=2) for _ in range(3)]
        for layers, relay in zip(([plain], [signed], [plain, signed]), relays, strict=True):
            for layer in layers:
                nengo.Connection(layer.output, relay, synapse=None)
    graph = Graph(net)
    assert [graph.may_be_negative(relay) for relay in relays] == [False, True, True]


def test_the_build_gives_a_max_pool_the_spikes_that_come_in_now():
    with nengo.Network() as net:
        layer = nn.dense(
            nn.constant_input((4,)), np.eye(4), nn.IntegrateAndFire(amplitude=0.01), gain=50.0
        )
        square = nn.Layer(label="square", shape=(2, 2), ensemble=layer.ensemble)
        pools = [nn.max_pool2d(square, 1, label="first")]
        pools.append(nn.max_pool2d(pools[0], 2, label="second"))
    for neuron_type, area in [
        (nn.IntegrateAndFire(amplitude=0.01), 0.01),
        (nengo.LIF(amplitude=0.3), 0.3),
        (nengo.LIFRate(amplitude=0.3), None),
    ]:
        layer.ensemble.neuron_type = neuron_type
        with nengo.Simulator(net, progress_bar=False) as simulator:
            built = [each.process for each in simulator.model.operators if hasattr(each, "process")]
        areas = [each.amplitude for each in built if isinstance(each, MaxPool)]
        assert areas == [area, area] == [pool.amplitude for pool in pools]
