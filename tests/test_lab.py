"""The lab: its state without a browser, its server, and its page in a real one."""

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.lab import state as states

RNG = np.random.default_rng(5)
IMAGES, LABELS = RNG.random((40, 3, 4)), RNG.integers(0, 3, 40)
KERNELS = RNG.normal(size=(12, 7)), RNG.normal(size=(7, 3))
KERAS_BIAS = RNG.normal(size=7) / 10
SETTINGS = {"presentation_time": 0.05, "seed": 3}


def built(pixels=None, neurons=None, synapse=None, **tuning):
    """Build a small network; arguments are what the knobs change."""
    pixels = {"max_rate": 200.0} if pixels is None else pixels
    neurons = nengo.LIF() if neurons is None else neurons
    make = nn.constant_input if pixels.get("kind") == "constant" else nn.poisson_input
    pixels = {name: value for name, value in pixels.items() if value != "constant"}
    with nengo.Network(seed=1):
        image = make((3, 4), **pixels)
        tuning = tuning or {"gain": 2.0, "bias": 0.5}
        hidden = nn.dense(
            image, (KERNELS[0], KERAS_BIAS), neurons, synapse=synapse, label="hidden", **tuning
        )
        return nn.dense(
            hidden, KERNELS[1], nengo.LIF(amplitude=0.01), gain=3.0, bias=0.0, label="output"
        )


def lab_of(output=None, **settings):
    return states.of_output(
        built() if output is None else output, IMAGES, LABELS, **SETTINGS | settings
    )


def shown(output, **given):
    return nn.present(output.network, output, IMAGES, progress=False, **SETTINGS | given)


def finished(lab):
    lab.run()
    assert lab.wait(60)
    assert lab.trouble is None
    return lab.done.result


def assert_equal(result, other):
    assert result.counts.keys() == other.counts.keys()
    for label, counts in other.counts.items():
        np.testing.assert_array_equal(result.counts[label], counts)
    np.testing.assert_array_equal(result.steps, other.steps)


TURNS = {
    "gain": ({"hidden.gain": 1.5}, {"gain": 1.5, "bias": 0.5}),
    "bias": ({"hidden.bias": -0.25}, {"gain": 2.0, "bias": -0.25}),
    "max_rates": (
        {"hidden.max_rates": 150.0, "hidden.intercepts": 0.25},
        {"max_rates": 150.0, "intercepts": 0.25},
    ),
    "tau_rc": ({"hidden.tau_rc": 0.05}, {"neurons": nengo.LIF(tau_rc=0.05)}),
    "tau_ref": ({"hidden.tau_ref": 0.004}, {"neurons": nengo.LIF(tau_ref=0.004)}),
    "min_voltage": ({"hidden.min_voltage": -1.0}, {"neurons": nengo.LIF(min_voltage=-1)}),
    "amplitude": ({"hidden.amplitude": 0.5}, {"neurons": nengo.LIF(amplitude=0.5)}),
    "neuron_type": (
        {"hidden.neuron_type": "SpikingRectifiedLinear"},
        {"neurons": nengo.SpikingRectifiedLinear()},
    ),
    "adaptive": (
        {"hidden.neuron_type": "AdaptiveLIF", "hidden.inc_n": 0.02},
        {"neurons": nengo.AdaptiveLIF(inc_n=0.02)},
    ),
    "drawn": (
        {"hidden.neuron_type": "StochasticSpiking"},
        {"neurons": nengo.StochasticSpiking(nengo.RectifiedLinear())},
    ),
    "rate": ({"hidden.neuron_type": "LIFRate"}, {"neurons": nengo.LIFRate()}),
    "synapse": ({"hidden.synapse": 0.02}, {"synapse": 0.02}),
    "max_rate": ({"input.max_rate": 90.0}, {"pixels": {"max_rate": 90.0}}),
    "area": ({"input.amplitude": 0.02}, {"pixels": {"max_rate": 200.0, "amplitude": 0.02}}),
    "ensemble": (
        {"input.kind": "ensemble"},
        {"pixels": {"max_rate": 200.0, "kind": "ensemble"}},
    ),
    "constant": ({"input.kind": "constant"}, {"pixels": {"kind": "constant"}}),
    "scale": (
        {"input.kind": "constant", "input.scale": 0.5},
        {"pixels": {"kind": "constant", "scale": 0.5}},
    ),
}


@pytest.mark.parametrize("turns, changed", TURNS.values(), ids=TURNS)
def test_a_turned_knob_gives_the_network_that_is_built_so(turns, changed):
    lab = lab_of()
    for name, value in turns.items():
        lab.set(name, value)
    tuning = {"gain": 2.0, "bias": 0.5} | changed if "max_rates" not in changed else changed
    other = built(**tuning)
    found = nn.diagnose(other, IMAGES, labels=LABELS, presentation_time=0.05)
    assert lab.predict() == found
    assert_equal(finished(lab), shown(other))


@pytest.mark.parametrize("first", ["process", "ensemble", "constant"])
@pytest.mark.parametrize("then", ["process", "ensemble", "constant"])
def test_any_input_becomes_any_other(first, then):
    own = {} if first == "constant" else {"max_rate": 255.0}
    lab = lab_of(built({"kind": first, **own}))
    lab.set("input.kind", then)
    own = {} if then == "constant" else {"max_rate": 255.0}
    assert_equal(finished(lab), shown(built({"kind": then, **own})))
    lab.back()
    assert lab.now.values["input.kind"] == first
