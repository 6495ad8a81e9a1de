"""The convolutional jobs of `benchmarks/peers`: peers get the same networks as nengonet."""

import dataclasses
import importlib.util
import math
import pathlib
import sys

import nengo
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import nengonet as nn
from nengonet import studies
from nengonet.studies import cifar_csnn
from nengonet.studies.shared import ann_accuracy

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks" / "peers"


def module(name):
    spec = importlib.util.spec_from_file_location(f"peers_{name}", FOLDER / f"{name}.py")
    found = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(found)
    return found


common, jobs = module("common"), module("jobs")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return a function that makes a file of random images of a job."""

    monkeypatch.setattr(cifar_csnn, "N_SAMPLE", 16)

    def make(name):
        shape = (32, 32, 3) if name.startswith("csnn") else (28, 28)
        images = np.random.default_rng(7).integers(0, 256, (16, *shape), np.uint8)
        labels, path = np.arange(len(images)) % 10, tmp_path / "images.npz"
        np.savez(path, x_train=images, y_train=labels, x_test=images[:8], y_test=labels[:8])
        return str(path)

    return make


def written(name, path, n_images, n_steps, tmp_path):
    """Return a job as a peer reads it, and its network."""
    case = jobs.build(name, path)
    case = dataclasses.replace(case, presentation_time=n_steps * case.dt)
    shown = jobs.images_of(name, n_images, path)
    jobs.write(tmp_path / "job.npz", name, case, *shown)
    return common.load_job(tmp_path / "job.npz"), case, *shown


def windows(values, layer, size):
    """Return (n, rows, columns, channels, row, column) of the windows of a convolution or pool."""
    found = sliding_window_view(values, size, axis=(1, 2))
    return found[:, :: layer["strides"][0], :: layer["strides"][1]]


def product(values, layer, kernel):
    """Return what a layer makes of the values of one step."""
    if layer["kind"] == "dense":
        return values.reshape(len(values), -1) @ kernel
    if layer["kind"] == "conv":
        return np.tensordot(
            windows(values, layer, kernel.shape[:2]), kernel, ((4, 5, 3), (0, 1, 2))
        )
    found = windows(values, layer, layer["size"])
    return found.mean((4, 5)) if layer["kind"] == "average" else found.max((4, 5))


def simulated(job):
    """Return the outputs of a job (n_images, n_steps, n_classes), from nothing but its arrays.

    Spikes have height 1, voltages the threshold 1.
    """
    layers = list(common.of_unit_spikes(job, refractory=True))
    n_images, states, outputs = len(job.images), {}, []
    for _ in range(job.n_steps):
        values = job.images.astype(np.float64)
        for index, (layer, kernel, bias) in enumerate(layers):
            state = states.setdefault(index, {})
            if layer["kind"] == "max":  # the increase of the largest sum
                state["sums"] = state.get("sums", 0.0) + values
                largest = product(state["sums"], layer, None)
                values, state["sent"] = largest - state.get("sent", 0.0), largest
                continue
            values = product(values, layer, kernel)
            if layer["synapse"] is not None:  # what has come through until the step before
                before = state.get("filtered", np.zeros_like(values))
                share = -math.expm1(-job.dt / layer["synapse"])
                state["filtered"], values = before + share * (values - before), before
            if kernel is not None:
                values = values + bias
            if layer["neurons"] is not None:
                values = spikes(values, layer, state, n_images, job.dt)
        outputs.append(values)
    return np.stack(outputs, axis=1)


def spikes(current, layer, state, n_images, dt):
    """Step neurons that have thresholds of 1, and return spikes of height 1."""
    first = layer["voltage"].astype(np.float64).reshape(layer["shape"])
    voltage = state.setdefault("voltage", np.stack([first] * n_images))
    constants = {key: value for key, value in layer["neurons"].items() if key != "type"}
    if layer["neurons"]["type"] == "LIF":
        neurons = nengo.LIF(**constants | {"amplitude": dt})
        waiting = state.setdefault("waiting", np.zeros_like(voltage))
        found = np.empty_like(voltage)
        neurons.step(dt, current, found, voltage=voltage, refractory_time=waiting)
        return found
    if layer["neurons"]["type"] == "SpikingRectifiedLinear":
        current = np.maximum(current, 0.0)
    voltage += current
    found = np.maximum(np.floor(voltage), 0.0)
    voltage -= found
    return found


@pytest.mark.parametrize(
    ("name", "n_steps"),
    [
        ("csnn-avg", 12),
        ("csnn-max", 12),
        ("csnn-lif", 20),
        ("bengali-posted", 8),
        ("bengali-repaired", 6),
    ],
)
def test_arrays_of_a_job_are_the_network(name, n_steps, data, tmp_path):
    job, case, images, labels = written(name, data(name), 2, n_steps, tmp_path)
    result = case.present(images, keep=(), progress=False)
    expected, found = result.outputs, simulated(job)
    assert found.shape == expected.shape == (2, n_steps, expected.shape[-1])
    assert np.abs(expected).max() > 0
    # Arrays of 32 bits: a spike may come a step earlier or later, and no more.
    scale = np.abs(expected).mean()
    assert np.abs(found.mean(axis=1) - expected.mean(axis=1)).max() < 0.02 * scale
    assert job.n_steps == n_steps
    assert job.ann_accuracy == ann_accuracy(case.layers, images, labels).value
    np.testing.assert_allclose(job.images.reshape(images.shape), images, rtol=1e-6)


def test_repaired_csnn_is_that_of_the_study(data):
    path = data("csnn-max")
    expected = studies.get("cifar-csnn").build("repaired", data=path)
    for ours, theirs in zip(
        jobs.layers_of(jobs.build("csnn-max", path).output),
        jobs.layers_of(expected.output),
        strict=True,
    ):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {"label"}:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def test_spikes_without_a_refractory_time_count_less():
    """A neuron without one fires every step, where tau_ref lets it fire every second one."""
    with nengo.Network(seed=0):
        layer = nn.constant_input((2,))
        tuning = {"gain": 3.0, "bias": 0.0}
        layer = nn.dense(layer, np.eye(2), nengo.LIF(amplitude=0.5), **tuning)
        output = nn.dense(layer, [[2.0], [4.0]], None)
    layers = jobs.layers_of(output)
    job = common.Job("", 0.001, 1, "mean", False, 1.0, layers, np.zeros((1, 2)), np.zeros(1))
    with_it, without = (
        list(common.of_unit_spikes(job, refractory=refractory)) for refractory in (True, False)
    )
    np.testing.assert_allclose(with_it[0][1], 3 * np.eye(2))
    np.testing.assert_allclose(with_it[1][1], [[1000.0], [2000.0]])
    np.testing.assert_allclose(without[1][1], [[500.0], [1000.0]])


@pytest.mark.parametrize(
    ("readout", "expected"), [("mean", 0.5), ("last_step", 0.0), ("all_steps", 0.25)]
)
def test_accuracy_by_readout(readout, expected):
    outputs = np.array([[[3.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 1.0]]])
    assert common.accuracy(outputs, np.array([0, 0]), readout) == expected
