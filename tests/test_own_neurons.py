"""A neuron type from outside the package: one class and one model, registered once."""

import nengo
import numpy as np
import pytest
from nengo.dists import Choice

import nengonet as nn
from nengonet.minibatch import MinibatchSimulator
from nengonet.minibatch.acceleration import load_kernels
from nengonet.neurons import NeuronModel, model_of, register
from nengonet.neurons.model import Kernel
from nengonet.testing import assert_counts_match_rates

KERNELS = np.array([[0.5, 0.2], [0.3, 0.9], [-0.1, 0.4]]), np.array([[1.0, -0.3], [0.1, 0.8]])
IMAGES = np.array([[0.5, 0.7, 1.0], [1.0, 0.0, 0.2], [0.1, 0.9, 0.3]])


class Quarter(nengo.neurons.NeuronType):
    """Integrates a quarter of its current; spikes once a step at most."""

    state = {"voltage": Choice([0.0])}
    spiking, negative = True, False
    shapes = set()

    def gain_bias(self, max_rates, intercepts):
        gain = 4 * np.asarray(max_rates) / (1 - np.asarray(intercepts))
        return gain, -gain * np.asarray(intercepts)

    def max_rates_intercepts(self, gain, bias):
        return (gain + bias) / 4, -bias / gain

    def step(self, dt, J, output, voltage):
        self.shapes.add(J.shape)
        voltage += dt * J / 4
        spiked = voltage >= 1
        output[...] = spiked / dt
        voltage[spiked] -= 1


class QuarterModel(NeuronModel):
    activation, threshold, elementwise = "relu", 0.0, True
    step_effect = "spikes once a step at most"

    def curve(self, current, dt, presentation_time):
        return np.maximum(current, 0) / 4

    def ceiling(self, dt):
        return 1 / dt


register(Quarter, QuarterModel)


def usual(current, eventful, states, i, constants):
    voltage = states[0][i]
    for k in range(current.shape[0]):
        voltage[k] += quarter(constants[0] * current[k])
        eventful[k] = np.uint8(1) if voltage[k] >= 1 else np.uint8(0)


def quarter(number):
    return number / 4


def event(current, states, i, k, constants):
    states[0][i, k] -= 1
    return 1, True


def most(states, i, k):
    return 1


KERNEL = Kernel(usual, event, most, lambda neurons, dt, dtype: (dtype.type(dt),), ("voltage",))


@pytest.fixture
def output():
    Quarter.shapes.clear()
    with nengo.Network(seed=0):
        layer = nn.constant_input((3,))
        for label, kernel in zip("ab", (KERNELS[0], KERNELS[1] / 100), strict=True):
            layer = nn.dense(layer, kernel, Quarter(), gain=400.0, bias=0.0, label=label)
    return layer


HIDDEN = 100 * np.maximum(IMAGES @ KERNELS[0], 0)
WANTED = np.maximum(HIDDEN @ KERNELS[1], 0)
LABELS = WANTED.argmax(axis=1)


def test_it_is_predicted_diagnosed_and_broken_down(output):
    np.testing.assert_allclose(nn.predict_rates(output, IMAGES), WANTED)
    diagnosis = nn.diagnose(output, IMAGES, labels=LABELS, dt=0.02)
    assert "Quarter spikes once a step at most" in str(diagnosis)
    assert nn.diagnose(output, IMAGES, labels=LABELS).predicted_accuracy.value == 1
    settings = {"presentation_time": 0.5, "n_repeats": 2, "progress": False}
    budget = nn.error_budget(output, IMAGES, LABELS, **settings)
    assert [step.accuracy for step in budget.steps] == [1.0] * len(budget.steps)
    facts = nn.explain_neuron(Quarter(), 1.0)
    assert (facts.gain, facts.rate) == (400, 100)
    assert model_of(Quarter()).ceiling(0.01) == 100


@pytest.mark.parametrize("kernel", [None, KERNEL], ids=["NumPy", "Numba"])
def test_all_examples_are_stepped_together(output, kernel, monkeypatch):
    if kernel is not None and load_kernels() is None:
        pytest.skip("no Numba")
    monkeypatch.setattr(QuarterModel, "kernel", kernel)
    settings = {"presentation_time": 0.5, "progress": False, "rasters": ["a", "b"]}
    found = nn.present(output.network, output, IMAGES, **settings)
    assert Quarter.shapes == (set() if kernel else {(2, 3)})
    expected = nn.present(output.network, output, IMAGES, simulator="reference", **settings)
    for label, raster in expected.rasters.items():
        np.testing.assert_array_equal(found.rasters[label], raster)
    assert_counts_match_rates(found.counts["a"], HIDDEN, 0.5, "regular")
    compared = nn.compare(found, output, IMAGES)
    assert all(row["rms_spikes"] < 2 for row in compared.layers)
    with MinibatchSimulator(output.network, 3, progress_bar=False) as simulator:
        assert simulator.runs_in_stretches
        with output.network:
            nengo.Probe(output.output)
    with MinibatchSimulator(output.network, 3, seed=1, progress_bar=False) as simulator:
        simulator.reset_to_examples(IMAGES)
        simulator.run_steps(500)
        spikes = simulator.data[output.network.probes[0]].sum(axis=1) * 0.001
    np.testing.assert_array_equal(spikes, expected.counts["b"])


def test_kernels_on_disk_are_told_apart_by_their_code():
    kernels = pytest.importorskip("nengonet.minibatch.kernels")
    stretches = pytest.importorskip("nengonet.minibatch.stretch_kernels")

    def two(states, i, k):
        return 2

    names = {
        each.py_func.__qualname__
        for family in (
            KERNEL,
            KERNEL._replace(most=two),
            KERNEL._replace(keeps_current=True),
            KERNEL._replace(counts_spikes=True),
        )
        for each in (kernels.step_of(family), stretches.stretch_of(family))
    }
    assert len(names) == 8
