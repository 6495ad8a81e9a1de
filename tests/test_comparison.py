import dataclasses
import json

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.studies import forum_mnist

IMAGES = nn.datasets.load("mnist", split="test")[0][500:560]


@pytest.fixture(scope="module")
def run():
    example = forum_mnist.STUDY.build(neurons="if", seed=3)
    return example.output, nn.present(example.network, example.output, IMAGES, progress=False)


def test_observed_rates_follow_the_predicted_ones(run):
    output, result = run
    comparison = nn.compare(result, output, IMAGES)
    assert [row["label"] for row in comparison.layers] == ["input", "hidden", "output"]
    for row in comparison.layers:
        assert row["correlation"] > 0.99
        assert row["slope"] == pytest.approx(1, abs=0.03)
        assert row["rms_spikes"] == pytest.approx(row["rms_rate"] * 0.35)
    assert comparison.ties == result.tied().sum()
    assert "furthest off" in str(comparison)
    json.dumps(comparison.to_json())


def test_a_wrong_network_does_not_follow_its_prediction(run):
    """The run is compared with the prediction of a network whose hidden gain is doubled."""
    other = forum_mnist.STUDY.build(neurons="if", seed=3).output
    other.pre.ensemble.gain = 2 * other.pre.ensemble.gain
    rows = {row["label"]: row for row in nn.compare(run[1], other, IMAGES).layers}
    assert rows["hidden"]["slope"] == pytest.approx(0.5, abs=0.02)
    assert rows["input"]["slope"] == pytest.approx(1, abs=0.03)


def test_the_furthest_neuron_is_named(run):
    output, result = run
    counts = {label: counts.copy() for label, counts in result.counts.items()}
    counts["hidden"][:, 77] += 100
    row = nn.compare(dataclasses.replace(result, counts=counts), output, IMAGES).layers[1]
    neuron, predicted, observed = row["worst"][0]
    assert neuron == 77
    assert observed - predicted == pytest.approx(100 / 0.35, rel=0.05)


def test_other_images_are_refused(run):
    output, result = run
    with pytest.raises(nn.InputError, match=r"expected counts of shape \(5, .*, got \("):
        nn.compare(result, output, IMAGES[:5])


def test_an_output_that_lacks_a_layer_of_the_run_is_refused(run):
    output, result = run
    with pytest.raises(nn.InputError, match="output: expected the .*output of the run, got input"):
        nn.compare(result, output.pre, IMAGES)


def test_spikes_below_0_are_spikes():
    with nengo.Network(seed=0) as network:
        pixels, kernel = nn.constant_input((4,)), np.diag([1.0, -1.0, 0.5, -2.0])
        settings = {"gain": 1.0, "bias": 0.0, "label": "hidden"}
        hidden = nn.dense(pixels, kernel, nengo.RegularSpiking(nengo.Tanh()), **settings)
        output = nn.dense(hidden, np.ones((4, 2)), None, label="output")
    images = np.array([[0.2, 0.5, 0.8, 1.0], [0.0, 0.1, 0.6, 0.9]])
    time = {"presentation_time": 1.0, "readout": "mean"}
    result = nn.present(network, output, images, **time, progress=False)
    row = nn.diagnose(output, images, **time).layers[1]
    assert row["spikes"] == pytest.approx(result.spikes_per_image()["hidden"], abs=2)
    assert row["mean_rate"] == pytest.approx(row["spikes"] / 4)
    assert row["peak_rate"] == pytest.approx(400 * np.tanh(2.0), rel=0.01)
    assert row["saturated"] == 2 / 8
    compared = nn.compare(result, output, images).layers[0]
    assert compared["rms_rate"] < 1
    assert compared["saturated"] == 2 / 8
    assert compared["slope"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("weight, stable", [(-0.002, 1.0), (-0.05, 0.0)])
def test_a_loop_is_compared_with_its_fixed_point(weight, stable):
    """Neurons that inhibit each other rest at equal rates, where a run may not stay."""
    with nengo.Network(seed=0) as network:
        inputs = nn.constant_input((8,))
        layer = nn.dense(inputs, np.eye(8), nengo.LIF(), gain=3.0, label="layer")
        inhibition = weight * (np.ones((8, 8)) - np.eye(8))
        nengo.Connection(layer.output, layer.output, transform=inhibition, synapse=0.02)
        last = nn.dense(layer, np.full((8, 2), 0.002), nengo.LIF(), gain=1.0, label="last")
    images = np.full((2, 8), 0.8)
    result = nn.present(network, last, images, presentation_time=1.0, progress=False)
    compared = nn.compare(result, last, images)
    first, after = compared.layers
    assert first["loop"]["stable"] == stable
    assert first["loop"]["converged"] == 1
    assert after["loop"] is None
    assert (first["rms_rate"] < 4) == (stable == 1)
    assert np.ptp(compared.predicted["layer"]) < 1e-3
    line = "layer: its loop has a fixed point for 100% of the images, which is stable for "
    assert f"{line}{stable:.0%}" in str(compared)
    assert (", within " in str(compared)) == (stable == 1)
    json.dumps(compared.to_json())
