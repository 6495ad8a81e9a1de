"""Helpers for the tests of `nengonet.minibatch`, which compare it with Nengo's simulator."""

import contextlib
import warnings

import nengo
import numpy as np
import pytest
from nengo.builder.operator import SimPyFunc

import nengonet as nn
from nengonet.minibatch import MinibatchSimulator
from nengonet.minibatch.acceleration import load_kernels
from nengonet.run.simulators import reset_to_example

HAVE_NUMBA = load_kernels() is not None
NUMBA = [False, pytest.param(True, marks=pytest.mark.skipif(not HAVE_NUMBA, reason="no Numba"))]
BATCH, STEPS, SEED = 3, 40, 5


@contextlib.contextmanager
def quiet():
    """Build without Nengo's warnings about gains without matching rates."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")
        yield


def minibatch(network, batch=BATCH, **settings):
    settings = {"seed": SEED, "progress_bar": False} | settings
    with quiet():
        return MinibatchSimulator(network, batch, **settings)


def reference(network, probes, data=None, **settings):
    """Run the reference for each example; return ``(batch, n_steps, n)`` for each probe."""
    settings = {"seed": SEED, "progress_bar": False, "optimize": False} | settings
    found = {probe: [] for probe in probes}
    with quiet(), nengo.Simulator(network, **settings) as simulator:
        for example in range(BATCH):
            reset_to_example(simulator, SEED, example)
            for step in range(STEPS):
                for node, rows in (data or {}).items():
                    signal = simulator.model.sig[node]["out"]
                    simulator.signals[signal][...] = rows[example, step]
                simulator.step()
            for probe in probes:
                found[probe].append(simulator.data[probe].copy())
    return {probe: np.stack(each) for probe, each in found.items()}


def assert_equal_runs(expected, found):
    """Compare outputs. One different spike, of height 1/dt, is far outside the tolerance."""
    for probe, values in expected.items():
        assert found[probe].shape == values.shape
        scale = max(1.0, np.abs(values).max(initial=0))
        np.testing.assert_allclose(found[probe], values, rtol=0, atol=1e-9 * scale)


def assert_same_as_nengo(network, probes, data=None, **settings):
    """Compare with the reference, with Numba and without; return the reference's data."""
    expected = reference(network, probes, data, optimize=settings.get("optimize", False))
    for numba in (False, True) if HAVE_NUMBA else (False,):
        with minibatch(network, numba=numba, **settings) as simulator:
            simulator.run_steps(STEPS, data=data)
            assert_equal_runs(expected, simulator.data)
    return expected


def random_rows(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (BATCH, STEPS, n))


def neurons(n, neuron_type, gain=1.0, bias=0.0, **settings):
    """Add an ensemble whose gain and bias are given."""
    gain, bias = np.broadcast_to(gain, n), np.broadcast_to(bias, n)
    return nengo.Ensemble(n, 1, gain=gain, bias=bias, neuron_type=neuron_type, **settings)


def passing_network(size=3):
    """Return a network, its input, a Node after it that adds 1, and a probe of the Node."""
    with nengo.Network(seed=1) as network:
        source = nengo.Node(np.arange(size, dtype=float))
        behind = nengo.Node(lambda t, x: x + 1, size_in=size, size_out=size)
        nengo.Connection(source, behind, synapse=None)
        probe = nengo.Probe(behind)
    return network, source, behind, probe


def image_network(kind="process", neuron_type=None):
    """Return a network with two layers of weights after a Poisson input, and the last layer."""
    rng, neuron_type = np.random.default_rng(1), neuron_type or nn.IntegrateAndFire()
    with nengo.Network(seed=0) as network:
        layer = nn.poisson_input((4, 4), max_rate=400.0, kind=kind)
        for shape, label, amplitude in (((16, 12), "hidden", 1 / 150), ((12, 4), "output", None)):
            layer = nn.dense(
                layer,
                rng.normal(0, 0.5, shape),
                neuron_type,
                gain=150.0,
                amplitude=amplitude,
                label=label,
            )
    return network, layer


def model_of(*operators):
    """Return a model that Nengo did not build."""
    model = nengo.builder.Model()
    for operator in operators:
        model.add_op(operator)
    return model


def minibatch_of(model, batch=2, **settings):
    return MinibatchSimulator(None, batch, model=model, seed=0, progress_bar=False, **settings)


def kept_in(seen, y):
    """Return an operator that appends a signal's values at every step, for each example."""
    return SimPyFunc(None, lambda values: seen.append(values), None, y)
