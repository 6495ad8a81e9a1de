"""The objects that functions accept as an output: `nengonet.layers.targets`."""

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.layers.targets import read_output


def network():
    with nengo.Network(seed=1) as net:
        pixels = nn.constant_input((2, 3))
        net.layer = nn.dense(
            pixels, np.ones((6, 4)), nengo.LIF(amplitude=0.5), label="first", **nn.FORUM
        )
        net.plain = nengo.Ensemble(5, 2, neuron_type=nengo.LIF(amplitude=0.5), label="plain")
        net.unnamed = nengo.Ensemble(3, 1, neuron_type=nengo.RectifiedLinear())
        net.array = nengo.networks.EnsembleArray(4, 3, label="array")
        net.other = nengo.networks.EnsembleArray(4, 2, label="other")
        net.node = nengo.Node(lambda t, x: x[:2], size_in=3, size_out=2, label="node")
    return net


def test_whole_objects():
    net = network()
    for output, item, label, size in (
        (net.layer, net.layer.ensemble, "first", 4),
        (net.plain, net.plain, "plain", 5),
        (net.plain.neurons, net.plain, "plain", 5),
        (net.unnamed, net.unnamed, "ensemble 2", 3),
        (net.node, net.node, "node", 2),
        (net.array.output, net.array.output, "output", 3),
        (net.other.output, net.other.output, "other.output", 2),
        ([net.plain], net.plain, "plain", 5),
    ):
        target = read_output(output, net)
        assert (target.item, target.label, target.size) == (item, label, size)
        assert target.network is net
        assert target.items == (item,)
    assert read_output(net.layer).shape == (4,)
    with nengo.Network() as of_image:
        image = nn.constant_input((2, 3))
    assert read_output(image).shape == (2, 3)
    assert read_output(image.output[:], of_image).shape == (2, 3)


def test_slices_and_lists():
    net = network()
    target = read_output([net.plain.neurons[1:3], [net.layer, net.plain.neurons[[4, 0]]]], net)
    assert target.label == "plain[1:3] + first + plain[[4, 0]]"
    assert target.items == (net.plain, net.layer.ensemble)
    assert target.item is None
    values = {net.plain: np.arange(10.0).reshape(2, 5), net.layer.ensemble: np.full((2, 4), -1.0)}
    expected = [[1, 2, -1, -1, -1, -1, 4, 0], [6, 7, -1, -1, -1, -1, 9, 5]]
    np.testing.assert_array_equal(target.take(values), expected)
    assert target.shape == (8,)
    assert target.amplitude == 0.5
    # The reverse order is not the whole.
    assert read_output(net.plain.neurons[::-1], net).item is None
    assert read_output(net.plain.neurons[:], net).item is net.plain


def test_whether_it_spikes():
    net = network()
    assert read_output(net.plain, net).amplitude == 0.5
    assert read_output(net.unnamed, net).amplitude is None
    assert read_output([net.plain, net.unnamed], net).amplitude is None
    net.plain.neuron_type = nengo.LIF(amplitude=0.25)
    assert read_output([net.plain, net.layer], net).amplitude is None  # of two areas


def test_the_network():
    net = network()
    with pytest.raises(nn.InputError, match="expected the network of .*plain.* too; give network="):
        read_output(net.plain)
    assert read_output([net.plain, net.layer]).network is net
    with net:
        assert read_output(net.plain).network is net
    for output in (network().plain, network().layer):
        with pytest.raises(nn.InputError, match="is not part of the network that was given"):
            read_output(output, net)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: net.plain[0], r"some of the dimensions .* give ensemble.neurons\[…\]"),
        (lambda net: [], "got an empty list"),
        (lambda net: [net.plain, "plain"], "a list of these, got 'plain'"),
        (lambda net: net.array, "such as an EnsembleArray's output"),
        (lambda net: net.plain.neurons[5:], "at least one value"),
        (lambda net: None, "output: expected a Layer, an Ensemble"),
        (
            lambda net: nengo.Probe(net.plain, add_to_container=False),
            "give the object that it probes",
        ),
    ],
)
def test_what_is_refused(make, message):
    net = network()
    with pytest.raises(nn.InputError, match=message):
        read_output(make(net), net)


def test_reading_leaves_the_network_alone():
    net = network()
    before = dict(net.__dict__["nengonet_layers"])
    nn.layers.record.layers_of([net.plain, net.node], net)
    assert net.__dict__["nengonet_layers"] == before


def test_labels_of_nested_networks_are_different():
    with nengo.Network() as net:
        for _ in range(2):
            nengo.networks.EnsembleArray(3, 2)
    labels = nn.layers.record.labels_of(net, {})
    assert len(set(labels.values())) == len(labels) == 8
    assert {"0", "0 2", "output", "output 2"} <= set(labels.values())
