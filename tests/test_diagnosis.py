import json

import nengo
import numpy as np
import pytest
from nengo.dists import Choice

import nengonet as nn
from nengonet.explain.findings import SEVERITIES
from nengonet.studies import forum_mnist

IMAGES, LABELS = nn.datasets.load("mnist", split="test")


def diagnosed(variant, few=slice(None)):
    example = forum_mnist.STUDY.build(variant=variant)
    labels = LABELS[few]
    return nn.diagnose(example.output, IMAGES[few], labels=labels, readout=example.readout)


@pytest.fixture(scope="module")
def posted():
    return diagnosed("posted")


def codes(diagnosis):
    return [finding.code for finding in diagnosis.findings]


def test_posted_network_is_understood_before_it_runs(posted):
    assert codes(posted)[:3] == ["input-range", "saturation", "readout-filter"]
    assert [finding.severity for finding in posted.findings[:3]] == ["error"] * 3
    assert posted.worst == "error"
    assert {"gain-on-neurons", "bias-threshold", "amplitude"} <= set(codes(posted))
    text = " ".join(str(posted).split())
    for words in ("25,500 Hz", "25.5 spikes in a step", "on or off", "counts the steps"):
        assert words in text
    rows = {row["label"]: row for row in posted.layers}
    assert rows["hidden"]["saturated"] + rows["hidden"]["silent"] > 0.9
    assert rows["input"]["peak_rate"] == pytest.approx(25500)


def test_posted_accuracy_is_predicted(posted):
    """Counted spikes give 0.595, 0.587 and 0.601 with seeds 0, 1 and 2 on these 1000 images."""
    assert posted.predicted_accuracy.value == pytest.approx(0.594, abs=0.03)
    assert posted.ann_accuracy.value == pytest.approx(0.981)


def test_obvious_repair_fails_by_noise():
    """The rate model predicts no loss; noise costs more than ten percentage points."""
    diagnosis = diagnosed("obvious")
    errors = [finding for finding in diagnosis.findings if finding.severity == "error"]
    assert [finding.code for finding in errors] == ["rectified-noise"]
    assert diagnosis.predicted_accuracy.value > 0.96
    example, few = forum_mnist.STUDY.build(variant="obvious"), slice(200)
    result = nn.present(example.network, example.output, IMAGES[few], progress=False)
    measured, predicted = result.accuracy(LABELS[few]).value, diagnosed("obvious", few)
    assert predicted.predicted_accuracy_with_noise.value == pytest.approx(measured, abs=0.06)
    assert measured < predicted.predicted_accuracy.value - 0.05


def test_plain_nengo_is_diagnosed_as_the_builders_are(posted):
    layers = forum_mnist.mlp_layers(nn.load_weights(nn.pretrained("mnist_dense")))
    kernels = [layer.kernel.astype(float).T for layer in layers]
    with nengo.Network(seed=0) as network:
        network.config[nengo.Ensemble].max_rates = Choice([100])
        network.config[nengo.Ensemble].intercepts = Choice([0])
        network.config[nengo.Connection].synapse = None
        inp = nengo.Node(np.ones(784))
        poisson = nengo.Ensemble(784, 1, neuron_type=nengo.PoissonSpiking(nengo.RectifiedLinear()))
        hidden = nengo.Ensemble(128, 1, neuron_type=nengo.LIF())
        out = nengo.Ensemble(10, 1, neuron_type=nengo.LIF())
        nengo.Connection(inp, poisson.neurons)
        nengo.Connection(poisson.neurons, hidden.neurons, transform=kernels[0])
        nengo.Connection(hidden.neurons, out.neurons, transform=kernels[1])
        nengo.Probe(out.neurons, synapse=0.1)
    plain = nn.diagnose(out, 255 * IMAGES.reshape(1000, 784), labels=LABELS, network=network)
    assert plain.predicted_accuracy == posted.predicted_accuracy
    assert {"input-range", "saturation", "readout-filter"} <= set(codes(plain))


def test_json_has_stable_keys(posted):
    report = json.loads(json.dumps(posted.to_json()))
    keys = "predicted_accuracy predicted_accuracy_with_noise ann_accuracy ann_reason"
    assert report.keys() == {*keys.split(), "findings", "layers"}
    for finding in report["findings"]:
        assert finding.keys() == {"code", "severity", "layers", "message", "evidence", "change"}
    order = [SEVERITIES.index(finding["severity"]) for finding in report["findings"]]
    assert order == sorted(order)
