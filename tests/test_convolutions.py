"""Convolutions of a minibatch, one row of the output at a time."""

import types

import nengo
import numpy as np
import pytest
from minibatches import BATCH, assert_same_as_nengo, minibatch, random_rows

import nengonet as nn
from nengonet.ann.convolution import convolve
from nengonet.minibatch import convolutions

ROW_BY_ROW = {
    "one pixel": {"input_shape": (1, 1, 3), "kernel_size": (1, 1)},
    "valid": {"input_shape": (5, 4, 2), "kernel_size": (3, 2)},
    "valid, strides": {"input_shape": (6, 7, 1), "kernel_size": (2, 3), "strides": (2, 3)},
    "same": {"input_shape": (4, 3, 2), "kernel_size": (3, 2), "padding": "same"},
    "same, strides": {
        "input_shape": (5, 6, 2),
        "kernel_size": (4, 5),
        "strides": (2, 3),
        "padding": "same",
    },
    "channels first": {
        "input_shape": (2, 5, 6),
        "kernel_size": (3, 2),
        "strides": (1, 2),
        "padding": "same",
        "channels_last": False,
    },
    "channels first, one dimension": {
        "input_shape": (3, 8),
        "kernel_size": (3,),
        "channels_last": False,
    },
    "one dimension": {
        "input_shape": (7, 2),
        "kernel_size": (3,),
        "strides": (2,),
        "padding": "same",
    },
}


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("case", ROW_BY_ROW.values(), ids=ROW_BY_ROW)
def test_convolutions_row_by_row(case, optimize, monkeypatch):
    """If the build is optimized, both connections add to one reset signal."""
    calls, rowwise = [], convolutions._rowwise
    monkeypatch.setattr(convolutions, "_ROWWISE_EXAMPLES", BATCH)
    monkeypatch.setattr(
        convolutions, "_rowwise", lambda *given: calls.append(given) or rowwise(*given)
    )
    channels = -1 if case.get("channels_last", True) else 0
    size, n_channels = case["kernel_size"], case["input_shape"][channels]
    kernel = np.random.default_rng(3).normal(0, 0.4, (*size, n_channels, 3))
    with nengo.Network(seed=1) as network:
        transform = nengo.Convolution(3, init=kernel, **{"strides": (1,) * len(size)} | case)
        node = nengo.Node(np.zeros(transform.size_in))
        target = nengo.Node(size_in=transform.size_out)
        through = [
            nengo.Connection(node, target, transform=transform, synapse=synapse)
            for synapse in (None, 0.005)
        ]
        probes = [nengo.Probe(each) for each in (target, *through)]
    rows = random_rows(transform.size_in)
    assert_same_as_nengo(network, probes, {node: rows}, optimize=optimize)
    assert calls


def test_convolutions_over_three_dimensions_are_refused():
    with nengo.Network() as network:
        node = nengo.Node(np.zeros(27))
        conv = nengo.Convolution(1, (3, 3, 3, 1), kernel_size=(2, 2, 2), strides=(1, 1, 1))
        nengo.Connection(node, nengo.Node(size_in=conv.size_out), transform=conv)
        nengo.Probe(network.nodes[1])
    with pytest.raises(nn.InputError, match="ConvInc.*one or two dimensions"):
        minibatch(network)


@pytest.mark.parametrize("lanes", [1, BATCH + 1])
@pytest.mark.parametrize("case", ROW_BY_ROW.values(), ids=ROW_BY_ROW)
def test_convolutions_some_examples_at_a_time(case, lanes, monkeypatch):
    """The reference convolves; results are stored one by one or together."""
    monkeypatch.setattr(convolutions, "_ROWWISE_EXAMPLES", BATCH + 1)
    monkeypatch.setattr(convolutions, "_LANES", lanes)
    strides = (1,) * len(case["kernel_size"])
    init = nengo.dists.Gaussian(0, 0.4)
    transform = nengo.Convolution(2, init=init, **{"strides": strides} | case)
    with nengo.Network(seed=0) as network:
        inputs = nengo.Node(np.zeros(transform.size_in))
        output = nengo.Node(size_in=transform.size_out)
        # Optimized, one reset serves both connections, so that they add to it.
        through = [
            nengo.Connection(inputs, output, transform=transform, synapse=synapse)
            for synapse in (None, 0.005)
        ]
        probes = [nengo.Probe(each) for each in (output, *through)]
    rows = random_rows(transform.size_in)
    assert_same_as_nengo(network, probes, {inputs: rows}, optimize=True)


class Signals(dict):
    """Arrays by name, with a column for every example."""

    operand = dict.__getitem__


@pytest.mark.parametrize("assigns", [False, True])
@pytest.mark.parametrize("make", [convolutions._in_chunks, convolutions._rowwise])
@pytest.mark.parametrize("batch", [3, convolutions._LANES + 1])
def test_convolutions_are_added_to_what_is_there(batch, make, assigns, monkeypatch):
    """Nengo gives every convolution a signal that starts at 0; other operators may not."""
    monkeypatch.setattr(convolutions, "_WINDOW_BYTES", 2 * 8 * 3 * 2 * 2 * 3 * 4)  # two examples
    rng = np.random.default_rng(batch)
    transform = nengo.Convolution(3, (4, 5, 2), kernel_size=(2, 2))
    kernel, x = rng.normal(size=(2, 2, 2, 3)), rng.normal(size=(40, batch))
    signals = Signals(X=x, W=kernel, Y=np.full((transform.size_out, batch), 7.0))
    operator = types.SimpleNamespace(conv=transform, X="X", W="W", Y="Y", is_transpose=False)
    context = types.SimpleNamespace(
        signals=signals,
        batch=batch,
        assigning=[operator] if assigns else [],
        constant=lambda key, make: make(),
    )
    step = make(operator, context)
    before = 7.0
    for _ in range(2):
        step()
        images = x.T.reshape(-1, 4, 5, 2)
        before = convolve(images, kernel).reshape(batch, -1).T + (0 if assigns else before)
        np.testing.assert_allclose(signals["Y"], before, rtol=1e-12, atol=1e-12)
