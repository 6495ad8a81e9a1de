"""Networks as scripts in plain Nengo: they run, and count the spikes that `present` counts."""

import runpy
import warnings

import nengo
import numpy as np
import pytest

import nengonet as nn

RNG = np.random.RandomState(5)
LABELS = np.array([1, 0])


def exact(*shape):
    """Return weights whose sums are exact in any order."""
    return RNG.randint(-8, 9, shape) / 8


def ran(script, folder, name="network"):
    """Return what a script has defined when it has run."""
    script.save(folder / f"{name}.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return runpy.run_path(str(folder / f"{name}.py"))


def check(folder, output, images, *, network=None, readout=None, **given):
    """Compare a script's counts and scores with those of both simulators; return the script."""
    script = nn.as_script(output, images, network=network, readout=readout, **given)
    found = ran(script, folder)
    net = network or (output[0] if isinstance(output, list) else output).network
    for simulator in ("reference", "minibatch"):
        result = nn.present(
            net, output, images, readout=readout or "sum", simulator=simulator, **given
        )
        if "counts" in found:
            np.testing.assert_array_equal(found["counts"], result.scores("spike_count")[:, -1])
            assert found["counts"].any(axis=1).all()
        if "scores" in found:
            expected = result.scores(readout or "sum")[:, -1]
            np.testing.assert_allclose(found["scores"], expected, rtol=1e-12, atol=1e-12)
            assert np.abs(expected).max() > 0
    return script


def small(neuron_type, folder, n_steps=60, **given):
    """Check a network of three layers of some neurons."""
    images = RNG.randint(0, 9, (2, 6)) / 8
    with nengo.Network(seed=3):
        layer = nn.constant_input((6,))
        for label, n in (("first", 7), ("second", 5)):
            layer = nn.dense(layer, exact(layer.size, n), neuron_type, label=label, **given)
    return check(folder, layer, images, presentation_time=n_steps / 1000)


@pytest.mark.parametrize(
    "neuron_type",
    [
        nengo.LIF(initial_state={"voltage": nengo.dists.Choice([0.0])}),
        nengo.LIF(tau_rc=0.05, min_voltage=-np.inf),
        nengo.AdaptiveLIF(tau_n=0.25, inc_n=0.125),
        nengo.SpikingRectifiedLinear(),
        nengo.RegularSpiking(nengo.LIFRate(tau_ref=0.003)),
        nengo.PoissonSpiking(nengo.LIFRate(tau_rc=0.03)),
        nengo.StochasticSpiking(nengo.RectifiedLinear()),
        nengo.Izhikevich(reset_voltage=-60.0),
        nn.IntegrateAndFire(),
        nn.IntegrateAndFire(min_voltage=-0.5, initial_state={"voltage": nengo.dists.Uniform(0, 1)}),
    ],
    ids=str,
)
def test_neuron_types(neuron_type, tmp_path):
    small(neuron_type, tmp_path, gain=96.0, bias=3.0)
