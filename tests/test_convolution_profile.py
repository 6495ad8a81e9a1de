"""The counts of `benchmarks/convolution_profile.py` equal those of a run. Nothing is timed."""

import pathlib

import nengo
import numpy as np
import pytest

import nengonet as nn

pytest.importorskip("numba")

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def profile():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER / "peers")
        patch.syspath_prepend(FOLDER)
        import convolution_profile

        yield convolution_profile


@pytest.fixture(scope="module")
def network():
    """Return two convolutions, both kinds of pools, a synapse and an output without neurons."""
    rng = np.random.default_rng(11)

    def weights(*shape):
        return nn.LayerWeights(rng.normal(0.1, 0.4, shape))

    tuning = {"neuron_type": nn.IntegrateAndFire(), "gain": 60.0, "bias": 0.0}
    lif = tuning | {"neuron_type": nengo.LIF()}
    with nengo.Network(seed=5) as net:
        layer = nn.constant_input((9, 9))
        layer = nn.conv2d(layer, weights(2, 2, 1, 6), **tuning, label="first")
        layer = nn.avg_pool2d(layer, label="average")
        layer = nn.conv2d(layer, weights(2, 2, 6, 5), **tuning, synapse=0.004, label="second")
        layer = nn.max_pool2d(layer, 2, strides=1, label="maximum")
        layer = nn.dense(nn.flatten(layer), weights(20, 7), **lif, label="third")
        output = nn.dense(layer, weights(7, 3), None, label="output")
    return net, output, rng.uniform(0.2, 1, (4, 9, 9))


def test_spikes_and_additions_are_those_of_a_run(profile, network):
    net, output, images = network
    stages, _ = profile.profiled(output, images, 35)
    running = {"presentation_time": 0.035, "precision": 32, "readout": "mean"}
    result = nn.present(net, output, images, progress=False, **running)
    counted = {label for label, stage in stages.items() if stage.spikes}
    assert counted == {"first", "second", "maximum", "third"}
    for label in counted:
        assert stages[label].spikes * 4 * 35 == pytest.approx(result.counts[label].sum())
    exponentials = {label for label, stage in stages.items() if stage.exponentials}
    assert exponentials == {"third"}
    assert stages["third"].exponentials == 2 * stages["third"].spikes
    reached = {label for label, stage in stages.items() if stage.additions}
    assert reached == {"second", "third", "output"} == set(result.operations)
    for label in reached:
        assert stages[label].additions * 4 * 35 == pytest.approx(result.operations[label].sum())


def test_every_time_is_that_of_a_layer(profile, network):
    _, output, images = network
    stages, _ = profile.profiled(output, images, 35)
    layers = {layer.label for layer in output.upstream()}
    assert layers <= set(stages) <= layers | {"other"}
    # The constant input is there before the first step.
    assert all(stage.microseconds > 0 for label, stage in stages.items() if label != "input")


def test_updates_are_neurons_and_filters(profile, network):
    _, output, _ = network
    found = {layer.label: profile.n_updates(layer) for layer in output.upstream()}
    first, second = 8 * 8 * 6, 3 * 3 * 5
    assert found["first"] == first
    assert found["second"] == 2 * second
    assert found["third"] == 7
    assert found["average"] == found["maximum"] == found["output"] == 0


@pytest.mark.parametrize(
    ("additions", "products", "least"),
    [(160, 1000, 10 * 2 + 3 * 5 + 28), (1600, 100, 100 * 0.5 + 3 * 5 + 28), (0, 9, 3 * 5 + 28)],
)
def test_the_least_is_that_of_the_cheaper_way(profile, additions, products, least):
    machine = profile.Machine(width=16, addition=2.0, update=5.0, product=0.5, exponential=7.0)
    stage = profile.Stage(additions=additions, products=products, updates=48, exponentials=4)
    assert 1000 * machine.at_least(stage) == pytest.approx(least)
