"""Undocumented names of Nengo. The first line of each test states what breaks if one changes."""

import threading

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet import nengo_internals


def test_outermost_network():
    """`Network.context[0]`: layers in a subnetwork would not be found from the whole network."""
    assert nengo_internals.outermost_network() is None
    with nengo.Network() as outer, nengo.Network():
        assert nengo_internals.outermost_network() is outer


def test_state_of():
    """`_paramdict` and the like: a run would change its own fingerprint, and not be resumed."""
    synapse = nengo.Lowpass(0.25)
    synapse.note = "mine"
    state = nengo_internals.state_of(synapse)
    assert state.pop("tau") == 0.25
    assert state.pop("note") == "mine"
    assert not any(name.startswith("_") for name in state)
    before = repr(nengo_internals.state_of(synapse))
    repr(synapse)  # which Nengo keeps
    assert repr(nengo_internals.state_of(synapse)) == before
    with nengo.Network():
        node = nengo.Node([0.5], label="mine")
    state = nengo_internals.state_of(node)
    assert {"output", "size_in", "size_out", "label", "seed"} == state.keys()


def test_state_space():
    """`LinearFilter._get_ss`: filters could not be predicted."""
    synapse, dt = nengo.Alpha(0.01), 0.001
    a, b, c, d = nengo_internals.state_space(synapse, dt)
    state, outputs = np.zeros((2, 1)), []
    for value in np.ones(30):
        outputs.append((c @ state + d * value).item())
        state = a @ state + b * value
    # Nengo puts out at once what the state will be.
    filtered = synapse.filt(np.ones((30, 1)), dt=dt, y0=0)[:, 0]
    np.testing.assert_allclose(filtered[:-1], outputs[1:], rtol=1e-12)


def test_read_clock():
    """`Simulator._probe_step_time`: a minibatch's time would stand still."""
    with nengo.Simulator(nengo.Network(), progress_bar=False) as simulator:
        simulator.signals[simulator.model.step][...] = 7
        simulator.signals[simulator.model.time][...] = 0.007
        nengo_internals.read_clock(simulator)
        assert simulator.n_steps == 7
        assert simulator.time == 0.007


def test_precision_of():
    """`nengo.rc.get` behind `float_dtype`: runs in 32 bits would run in 64."""
    seen, both = {}, threading.Barrier(2)

    def build(bits):
        with nengo_internals.precision_of(bits):
            both.wait()
            with nengo_internals.precision_of(None):
                seen[bits] = nengo.rc.float_dtype, nengo.builder.Model().time.dtype
            both.wait()

    threads = [threading.Thread(target=build, args=(bits,)) for bits in (32, 64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {bits: 2 * (np.dtype(f"f{bits // 8}"),) for bits in (32, 64)}
    with nengo_internals.precision_of(32):
        with pytest.raises(ZeroDivisionError), nengo_internals.precision_of(64):
            _ = 1 / (nengo.rc["precision"]["bits"] != "64")
        assert nengo.rc.int_dtype == np.int32
    assert nengo.rc.get("precision", "bits") == "64"
    with pytest.raises(nn.InputError, match="one of 32, 64, got 16"):
        with nengo_internals.precision_of(16):
            pass
