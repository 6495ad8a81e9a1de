"""Synaptic operations, compared with a count of weights one by one."""

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.results.operations import ann_multiply_adds, synapses_of


def kernel(rng, *shape):
    """Return weights, a third of which are 0 and reached by no spike."""
    return rng.normal(size=shape) * (rng.uniform(size=shape) > 1 / 3)


def network(rng, *, padding="valid", strides=1, groups=1, pool=None):
    neurons = nengo.SpikingRectifiedLinear(initial_state={"voltage": nengo.dists.Choice([0.0])})
    with nengo.Network(seed=0) as net:
        layer = nn.constant_input((6, 7, 2))
        weights = kernel(rng, 2, 3, 2, 4)
        layer = nn.conv2d(layer, weights, neurons, gain=300.0, amplitude=1 / 300, label="first")
        if pool is not None:
            layer = pool(layer, label="pool")
        weights = kernel(rng, 2, 2, 4 // groups, 6)
        layer = nn.conv2d(
            layer,
            weights,
            neurons,
            gain=300.0,
            padding=padding,
            strides=strides,
            groups=groups,
            amplitude=1 / 300,
            label="second",
        )
        output = nn.dense(layer, kernel(rng, layer.size, 5), None, label="output")
    return net, output


def matrix_of(net, output, label):
    """Return the matrix from a layer's source to its neurons: a column for each unit input."""
    layer = next(each for each in output.upstream() if each.label == label)
    source = layer.pre
    chain = [layer]
    while source.label == "pool":
        chain.append(source)
        source = source.pre
    unit = np.eye(source.size)
    for each in reversed(chain):
        unit = np.stack([apply(each.connection, row) for row in unit])
    return unit


def apply(connection, values):
    """Return the outputs of Nengo's own operators for some values."""
    with nengo.Network() as net:
        node = nengo.Node(values)
        target = nengo.Node(size_in=connection.size_out)
        nengo.Connection(node, target, transform=connection.transform, synapse=None)
        probe = nengo.Probe(target)
    with nengo.Simulator(net, progress_bar=False) as simulator:
        simulator.step()
        return simulator.data[probe][0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same"},
        {"padding": "same", "strides": (2, 1)},
        {"strides": 2, "groups": 2},
        {"pool": nn.avg_pool2d},
    ],
    ids=["valid", "same", "strides", "groups", "pool"],
)
def test_every_weight_that_a_spike_reaches_counts_once(options):
    rng = np.random.default_rng(3)
    net, output = network(rng, **options)
    images = rng.uniform(size=(4, 6, 7, 2))
    result = nn.present(net, output, images, presentation_time=0.02, readout="mean", progress=False)
    # the first layer's input is no spikes
    assert set(result.operations) == {"second", "output"}
    for label, source in (("second", "first"), ("output", "second")):
        reached = (matrix_of(net, output, label) != 0).sum(axis=1)
        expected = [sum(n * reached[k] for k, n in enumerate(row)) for row in result.counts[source]]
        np.testing.assert_array_equal(result.operations[label], expected)
        assert result.operations[label].min() > 0
        assert result.operations_per_image()[label] == np.mean(expected)


def test_spikes_of_a_max_pool_are_what_reaches_the_layer_behind_it():
    rng = np.random.default_rng(4)
    net, output = network(rng, pool=nn.max_pool2d)
    found = {synapses.label: synapses.source for synapses in synapses_of(output)}
    assert found == {"second": "pool", "output": "second"}
    result = nn.present(
        net,
        output,
        rng.uniform(size=(2, 6, 7, 2)),
        presentation_time=0.02,
        readout="mean",
        progress=False,
    )
    reached = synapses_of(output)[0].per_spike
    np.testing.assert_array_equal(result.operations["second"], result.counts["pool"] @ reached)


def test_operations_do_not_depend_on_what_is_kept_and_survive_a_file(tmp_path):
    rng = np.random.default_rng(5)
    net, output = network(rng)
    images = rng.uniform(size=(5, 6, 7, 2))
    settings = {"presentation_time": 0.01, "readout": "mean", "progress": False}
    whole = nn.present(net, output, images, **settings)
    few = nn.present(net, output, images, keep=["output"], save=tmp_path / "run.h5", **settings)
    loaded = nn.load_result(tmp_path / "run.h5")
    for label, expected in whole.operations.items():
        np.testing.assert_array_equal(few.operations[label], expected)
        np.testing.assert_array_equal(loaded.operations[label], expected)


def test_weights_that_the_build_draws_are_left_out():
    with nengo.Network(seed=0) as net:
        pixels = nn.poisson_input((3,), max_rate=1000.0)
        layer = nn.dense(pixels, np.ones((3, 2)), nn.IntegrateAndFire(), label="layer", **nn.FORUM)
        layer.connection.transform = nengo.Dense((2, 3), init=nengo.dists.Uniform(0, 1))
    assert synapses_of(layer) == []
    result = nn.present(net, layer, np.ones((1, 3)), presentation_time=0.01, progress=False)
    assert result.operations == {}


def test_what_does_not_lead_to_the_output_costs_nothing():
    net, output = network(np.random.default_rng(5))
    expected = synapses_of(output)
    first = output.pre.pre
    with net:
        other = nn.dense(
            nn.flatten(first), np.ones((first.size, 2)), nengo.LIF(), label="other", **nn.FORUM
        )
        nengo.Connection(first.output, nengo.Node(size_in=first.size), synapse=None)
    found = synapses_of(output)
    assert [each.label for each in found] == ["second", "output"]
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.per_spike, two.per_spike)
    assert [each.label for each in synapses_of(other)] == ["other"]


def test_multiply_adds_of_the_ann():
    _, output = network(np.random.default_rng(6))
    # positions x kernel: 5 x 5 of 48 weights, 4 x 4 of 96, and a matrix of 96 x 5
    assert ann_multiply_adds(output) == {"first": 1200, "second": 1536, "output": 480}


def events_of(net, layers, images, n_steps):
    """Return the spikes of each neuron, of either sign, from a probe of every step."""
    with net:
        probes = [nengo.Probe(layer.output, synapse=None) for layer in layers]
    found = []
    with nengo.Simulator(net, progress_bar=False, seed=0, optimize=False) as simulator:
        for image in images:
            layers[-1].show(image)
            simulator.reset(seed=0)
            simulator.run_steps(n_steps, progress_bar=False)
            found.append(
                [
                    np.rint(np.abs(simulator.data[probe]) * 0.001 / layer.amplitude).sum(axis=0)
                    for probe, layer in zip(probes, layers, strict=True)
                ]
            )
    return [np.stack(each) for each in zip(*found, strict=True)]


@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
@pytest.mark.parametrize("base", [nengo.Tanh(), nengo.RectifiedLinear()], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_spikes_of_both_signs_from_several_layers(simulator, base, seed):
    """The spikes have both signs, from parallel layers and repeated indices."""
    rng = np.random.default_rng([seed, 7])
    neurons = nengo.RegularSpiking(base, amplitude=0.02)
    tuning = {"gain": 1.0 if isinstance(base, nengo.Tanh) else 300.0, "bias": 0.0}
    with nengo.Network(seed=0) as net:
        pixels = nn.constant_input((4,))
        first = nn.dense(pixels, kernel(rng, 4, 5), neurons, label="first", **tuning)
        second = nn.dense(first, 3 * kernel(rng, 5, 6), neurons, label="second", **tuning)
        beside = nn.dense(pixels, kernel(rng, 4, 3), neurons, label="beside", **tuning)
        third = nn.dense(second, kernel(rng, 6, 2), neurons, label="third", **tuning)
        # From the same layer twice, from another one, and through a Node that passes it on.
        nengo.Connection(first.output[[0, 0, 3]], third.output[[1, 0, 1]], synapse=None)
        nengo.Connection(first.output[1], third.output[0], synapse=0.01)
        relay = nengo.Node(size_in=3)
        nengo.Connection(beside.output, relay, synapse=None)
        nengo.Connection(relay[[2, 1]], third.output, synapse=None)
    images = rng.uniform(size=(3, 4))
    result = nn.present(
        net, third, images, presentation_time=0.2, simulator=simulator, progress=False
    )
    assert [info.label for info in result.layers] == ["input", "first", "second", "beside", "third"]
    layers = [first, second, beside, third]
    sent = dict(zip(layers, events_of(net, layers, images, 200), strict=True))
    for layer in layers:
        np.testing.assert_array_equal(result.spikes[layer.label], sent[layer].sum(axis=1))
    if isinstance(base, nengo.Tanh):
        both = np.abs(result.counts["second"]) < sent[second]
        assert both.any()
    second_reached = (second.weights.kernel != 0).sum(axis=1)
    np.testing.assert_array_equal(result.operations["second"], sent[first] @ second_reached)
    third_reached = (third.weights.kernel != 0).sum(axis=1)
    expected = sent[second] @ third_reached + sent[first] @ [2, 1, 0, 1, 0]
    expected = expected + sent[beside] @ [0, 1, 1]
    np.testing.assert_array_equal(result.operations["third"], expected)


def test_operations_follow_edits():
    rng = np.random.default_rng(8)
    net, output = network(rng)
    images = rng.uniform(size=(2, 6, 7, 2))
    settings = {"presentation_time": 0.02, "readout": "mean", "progress": False}
    first, second = (each for each in output.upstream() if each.label in ("first", "second"))
    second.connection.transform = nengo.Dense(
        (second.size, first.size), init=np.eye(second.size, first.size)
    )
    result = nn.present(net, output, images, **settings)
    expected = result.counts["first"][:, : second.size].sum(axis=1)
    np.testing.assert_array_equal(result.operations["second"], expected)
    net.connections.remove(second.connection)
    assert second.connection is None
    with net:
        nengo.Connection(first.output[0], second.output[:3], transform=np.ones((3, 1)))
    result = nn.present(net, output, images, **settings)
    np.testing.assert_array_equal(result.operations["second"], 3 * result.counts["first"][:, 0])
    first.ensemble.neuron_type = nengo.RectifiedLinear()
    result = nn.present(net, output, images, **settings)
    assert "second" not in result.operations
    assert "first" not in result.spikes


@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
@pytest.mark.parametrize("poisson", [False, True])
def test_a_first_voltage_below_0_sends_spikes_that_count(simulator, poisson):
    first = {"voltage": nengo.dists.Choice([-3.5])}
    with nengo.Network(seed=0) as net:
        pixels = nn.poisson_input((3,), 1000.0) if poisson else nn.constant_input((3,))
        layer = nn.dense(
            pixels,
            np.diag([1.0, 0.5, 0.0]),
            nengo.SpikingRectifiedLinear(initial_state=first),
            gain=40.0,
            label="layer",
        )
        output = nn.dense(layer, np.ones((3, 2)), None, label="output")
    images = np.ones((2, 3))
    settings = {"presentation_time": 0.25, "readout": "mean", "simulator": simulator}
    result = nn.present(net, output, images, progress=False, rasters=["layer"], **settings)
    sent = np.abs(result.rasters["layer"].astype(int)).sum(axis=(1, 2))
    assert result.rasters["layer"].min() == -4
    np.testing.assert_array_equal(result.spikes["layer"], sent)
    np.testing.assert_array_equal(result.operations["output"], 2 * sent)
    assert np.all(sent > result.counts["layer"].sum(axis=1))
