"""The forum's CNN. Without the data set, digits of the same size replace the characters."""

import json
import re
import types

import h5py
import matplotlib.pyplot as plt
import nengo
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import needs_whole_data
from nengo.dists import Uniform
from scipy.special import softmax

import nengonet as nn
from nengonet.ann.activations import activations
from nengonet.cli import main
from nengonet.plots import plot_rate_and_spikes
from nengonet.plots.frame import COLOURS
from nengonet.results.readout import accuracy
from nengonet.studies import bengali
from nengonet.studies.shared import logits_of, settled

LAYERS = bengali.cnn_layers(nn.load_weights(nn.pretrained("bengali_cnn")))
DIGITS, _ = nn.datasets.load("mnist", split="test", n_images=24)
TEN_STEPS = {"presentation_time": 0.01, "readout": "last_step", "progress": False}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A data set of digits, labelled by the ANN: its accuracy is 1."""
    file = tmp_path_factory.mktemp("data") / "digits.npz"
    labels = logits_of(LAYERS, DIGITS).argmax(axis=1)
    x, y = DIGITS[:20], labels[:20]
    np.savez(file, x_test=x, y_test=y, x_train=DIGITS[20:], y_train=labels[20:])
    return file


@pytest.fixture(scope="module")
def report(digits):
    return bengali.STUDY.reproduce(data=digits, n_sweep=2, n_images=12, n_jobs=1, progress=False)


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_rate_network_is_the_ann():
    output = bengali.posted(LAYERS, neurons="rate")
    result = nn.present(output.network, output, DIGITS[:3], **TEN_STEPS)
    logits = logits_of(LAYERS, DIGITS[:3])
    assert np.ptp(logits) > 5
    for step in range(10):
        np.testing.assert_allclose(result.steps[:, step], logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["posted", "fast, filtered", "repaired"])
def test_twin_gives_the_reference_counts_in_every_layer(variant):
    if variant == "repaired":
        output = bengali.repaired(LAYERS, DIGITS[10:])
    else:
        more = {} if variant == "posted" else {"scale": 1000.0, "synapse": 0.005}
        output = bengali.posted(LAYERS, **more)
    twin, reference = (
        nn.present(output.network, output, DIGITS[:3], simulator=simulator, **TEN_STEPS)
        for simulator in ("minibatch", "reference")
    )
    assert len(twin.counts) == 6
    for label, counts in reference.counts.items():
        np.testing.assert_array_equal(twin.counts[label], counts)
    np.testing.assert_allclose(twin.steps, reference.steps, rtol=1e-9, atol=1e-9)
    assert (reference.counts["conv0"].sum() > 1000) == (variant != "posted")


def test_posted_network_is_what_nengo_makes_of_the_post():
    """Build the same network in plain Nengo, and read it with Nengo's probes."""
    with nengo.Network(seed=5) as network:
        network.config[nengo.Connection].synapse = None
        node = nengo.Node(DIGITS[0].ravel())
        before, shape, probes = node, (28, 28, 1), []
        for layer in LAYERS:
            if layer.kernel.ndim == 4:
                transform = nengo.Convolution(
                    layer.kernel.shape[3], shape, kernel_size=(2, 2), init=layer.kernel
                )
                shape = transform.output_shape.shape
            else:
                transform = nengo.Dense(layer.kernel.T.shape, init=layer.kernel.T)
            n = transform.size_out
            if layer is LAYERS[-1]:
                after = nengo.Node(size_in=n)
            else:
                after = nengo.Ensemble(
                    n,
                    1,
                    neuron_type=nengo.SpikingRectifiedLinear(
                        initial_state={"voltage": Uniform(0, 1)}
                    ),
                    gain=np.ones(n),
                    bias=np.zeros(n),
                ).neurons
            nengo.Connection(before, after, transform=transform)
            probes.append(nengo.Probe(after))
            before = after
    with nengo.Simulator(network, progress_bar=False, optimize=False) as simulator:
        simulator.run_steps(10)
        *spikes, outputs = (simulator.data[probe] for probe in probes)
    output = bengali.posted(LAYERS, seed=5)
    result = nn.present(output.network, output, DIGITS[:1], **TEN_STEPS)
    for layer, found in zip(LAYERS[:-1], spikes, strict=True):
        counts = np.rint(found.sum(axis=0) / 1000)
        np.testing.assert_array_equal(result.counts[layer.name][0], counts)
    np.testing.assert_allclose(result.steps[0], outputs, rtol=1e-9, atol=1e-9)
    assert sum(found.sum() for found in spikes) > 0


def test_posted_network_is_nearly_silent():
    output = bengali.posted(LAYERS)
    result = nn.present(output.network, output, DIGITS, **TEN_STEPS)
    neurons = sum(layer.size for layer in output.upstream() if layer.spiking)
    assert neurons == 46713
    # the ANN has every third unit active; here a neuron in fifty spikes once at most
    assert sum(result.spikes_per_image().values()) < 0.05 * neurons


def test_causes_are_named_before_a_run(digits):
    found = bengali.STUDY.diagnose(data=digits, variant="posted", n_images=10)
    errors = [finding.code for finding in found.findings if finding.severity == "error"]
    assert errors == ["few-spikes", "readout-last-step", "rectified-noise"]
    assert found.predicted_accuracy.value == 1
    few = found.findings[0]
    assert few.layers == tuple(layer.name for layer in LAYERS[:-1])
    found = bengali.STUDY.diagnose(data=digits, n_images=10)
    assert found.worst in (None, "note")
    assert found.ann_accuracy.value == found.predicted_accuracy_with_noise.value == 1


def test_cells_hold_the_published_figures_and_the_sweep(report):
    main = [cell for cell in report.cells if cell["n_images"] == 12]
    assert [(cell["neurons"], cell["n_steps"], cell["published"]) for cell in main] == [
        ("rate", 10, 0.85),
        ("rate", 30, None),
        ("spiking", 10, 0.01),
        ("spiking", 30, None),
        ("repaired", 10, None),
        ("repaired", 30, None),
    ]
    accuracies = {(cell["neurons"], cell["n_steps"]): cell["accuracy"] for cell in main}
    assert accuracies["rate", 10] == accuracies["rate", 30] == report.ann_accuracy.value == 1
    assert accuracies["spiking", 10] < 0.5 < accuracies["repaired", 30]
    assert accuracies["repaired", 10] == report.accuracy.value
    sweep = [cell for cell in report.cells if cell["n_images"] == 2]
    settings = {(c["scale"], c["synapse"], c["n_steps"], c["readout"]) for c in sweep}
    assert len(sweep) == len(settings) == 4 * 3 * 2 * 2
    (posted,) = (cell for cell in sweep if cell["published"] is not None)
    assert [posted[name] for name in ("scale", "synapse", "readout")] == [1.0, None, "last_step"]


def test_report_counts_spikes_operations_and_multiply_adds(report):
    found = json.loads(json.dumps(report.to_json()))
    assert found["multiply_adds"] == {
        "conv0": 14580,
        "conv1": 135200,
        "conv2": 500000,
        "conv3": 1843200,
        "dense0": 5898240,
        "dense1": 131072,
        "dense": 25600,
    }
    spikes, operations = found["spikes_per_image"], found["operations_per_image"]
    assert list(operations) == [layer.name for layer in LAYERS[1:]]
    # a spike reaches a row of a matrix, and four positions of 2x2 kernels, less at the edges
    assert operations["dense1"] == 512 * spikes["dense0"]
    assert operations["dense"] == 50 * spikes["dense1"]
    assert 0.9 < operations["conv1"] / (4 * 10 * spikes["conv0"]) <= 1
    assert len(found["curves"]["repaired"]) == 30
    text = str(report)
    for words in ("synaptic operations", "multiply-adds", "0.85", "12 images", "first 2 images"):
        assert words in text


def test_no_published_figure_stands_beside_the_repaired_network(report):
    assert report.published is None
    assert report.to_json()["published"] is None
    assert re.search(r"^  published +none for this network$", str(report), re.MULTILINE)
    # and no sentence says what these figures do not
    assert "rate neurons give the ANN's answer for 100.0% of the images in step 1" in str(report)


@pytest.mark.parametrize("helped", [True, False])
def test_the_note_on_many_spikes_is_chosen_by_the_figures(helped, monkeypatch):
    def cell(synapse, readout):
        value = 0.9 if (synapse is not None) == helped else 0.3
        return {
            "scale": 1000.0,
            "n_steps": 30,
            "synapse": synapse,
            "readout": readout,
            "accuracy": value,
            "interval": [value - 0.05, value + 0.05],
        }

    sweep = [cell(s, r) for s in bengali.SYNAPSES for r in bengali.READOUTS]
    monkeypatch.setattr(bengali, "_sweep_rows", lambda report: sweep)
    ann = accuracy(np.arange(200) // 188, np.zeros(200))
    (note,) = bengali.on_sweep(types.SimpleNamespace(ann_accuracy=ann))
    assert ("is not enough" in note) == helped
    assert ("rectifies the noise" in note) == helped


def test_figure_of_one_image_shows_rate_beside_spiking(report):
    image, label, found_rates, found_outputs = bengali.example_runs(report, index=2)
    figure = plot_rate_and_spikes(image, label, found_rates, found_outputs)
    rows = np.array(figure.axes[:9]).reshape(3, 3)
    names = [row[0].get_ylabel() for row in rows]
    assert names == ["rate", "spiking", "repaired"]
    for name, (_, maps, curves) in zip(names, rows, strict=True):
        rates, outputs = found_rates[name], found_outputs[name]
        title = f"mean {rates.mean():,.2f} Hz, max {rates.max():,.4g} Hz"
        assert maps.get_title() == f"first layer: {title}"
        drawn = maps.images[0].get_array()
        assert drawn.shape == (27, 5 * 28)
        np.testing.assert_array_equal(drawn[:, 28:55], rates[..., 1])
        assert outputs.shape == (10, 50)
        assert f"answer at the end: {outputs[-1].argmax()}" in curves.get_title()
        right = softmax(outputs, axis=1)[:, label]
        # One curve a class, in order; the right one is thick and blue.
        line = curves.get_lines()[label]
        np.testing.assert_allclose(line.get_ydata(), right)
        assert line.get_color() == COLOURS[0]
        assert line.get_linewidth() > 2
    # the rate network's answer is the ANN's; its rates are the activations
    found = np.maximum(activations(LAYERS, DIGITS[2:3])["conv0"], 0)
    np.testing.assert_allclose(found_rates["rate"], found[0], rtol=1e-5, atol=1e-6)
    # a spike in 10 ms is 100 Hz
    np.testing.assert_allclose(found_rates["spiking"] / 100, np.rint(found_rates["spiking"] / 100))
    plt.close(figure)


def test_budget_ends_with_the_network_as_it_is_run(digits, report):
    posted, repaired = (
        bengali.STUDY.budget(data=digits, variant=variant, n_images=12, n_jobs=1, progress=False)
        for variant in ("posted", "repaired")
    )
    assert [step.name for step in posted.steps][-3:] == [
        "finite presentation time",
        "readout of the last step",
        "few spikes",
    ]
    cells = {(cell["neurons"], cell["n_steps"]): cell for cell in report.cells[:4]}
    assert posted.steps[-1].accuracy == cells["spiking", 10]["accuracy"]
    assert repaired.steps[-1].accuracy == report.accuracy.value
    assert posted.steps[0].accuracy == repaired.steps[1].accuracy == 1


def test_command_line(digits, tmp_path):
    options = ["--data", digits, "--images", 3, "--steps", 5]
    done = call(
        *["reproduce", "bengali", *options, "--sweep-images", 0, "--jobs", 1],
        *["--plot", tmp_path / "curve.png", "--json"],
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["name"], found["n_images"], found["n_steps"]) == ("bengali", 3, 5)
    assert {cell["n_images"] for cell in found["cells"]} == {3}
    assert (tmp_path / "curve.png").stat().st_size > 1000
    done = call("diagnose", "bengali", "--as-posted", *options)
    assert "few-spikes" in done.stdout
    done = call("diagnose", "bengali", *options, "--json")
    assert json.loads(done.stdout)["ann_accuracy"] == 1


def test_without_the_data_set_the_command_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("NENGONET_DATA", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    done = call("reproduce", "bengali")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    for words in ("bengali50.npz", "NENGONET_DATA", "CMATERdb 3.1.2"):
        assert words in done.stderr


def test_weights_of_the_same_shapes_fit_whatever_their_names(tmp_path):
    file = tmp_path / "theirs.h5"
    with h5py.File(file, "w") as handle:
        for name, layer in zip("gfedcba", LAYERS, strict=True):
            handle[name] = layer.kernel
    theirs = bengali.cnn_layers(nn.load_weights(file))
    np.testing.assert_array_equal(logits_of(theirs, DIGITS[:2]), logits_of(LAYERS, DIGITS[:2]))


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(nn.InputError, match=r"forum post's layers.*\(23040, 256\).*got hidden"):
        bengali.STUDY.reproduce(nn.pretrained("mnist_dense"))
    with pytest.raises(nn.InputError, match="neurons: expected one of spiking, rate, repaired, go"):
        bengali.STUDY.build(neurons="lif")
    for function in (bengali.STUDY.diagnose, bengali.STUDY.budget):
        with pytest.raises(nn.InputError, match="variant: expected one of repaired, posted, got"):
            function(variant="obvious")
    file = tmp_path / "other.npz"
    np.savez(file, x=np.zeros((2, 32, 32)), y=np.zeros(2, int))
    with pytest.raises(nn.InputError, match=r"28 x 28 pixels.*got images of shape \(32, 32\)"):
        bengali.DATA.load(data=file)
    np.savez(file, x=np.zeros((2, 28, 28)), y=np.array([0, 50]))
    with pytest.raises(nn.InputError, match="labels 0 to 49, got .* labels up to 50"):
        bengali.DATA.load(data=file)


def test_settled():
    assert settled([0.2, 0.89, 0.85, 0.88, 0.9], 0.89) == 4
    assert settled([0.9, 0.9], 0.9) == 1
    assert settled([0.9, 0.5], 0.9) is None


@needs_whole_data
def test_ann_classifies_the_test_images():
    images, labels = bengali.DATA.load(n_images="all")
    assert len(images) == 3000
    assert (logits_of(LAYERS, images).argmax(axis=1) == labels).mean() >= 0.82


@needs_whole_data
def test_posted_network_guesses_and_the_repaired_one_does_not():
    """Use other images and another seed than the README."""
    images, labels = (part[2000:2200] for part in bengali.DATA.load(n_images="all"))
    sample = bengali.training_sample()
    ann = logits_of(LAYERS, images).argmax(axis=1)
    running = {"keep": ["dense"], "minibatch_size": 50, "precision": 32, "progress": False}
    output = bengali.posted(LAYERS, seed=3)
    settings = {"presentation_time": 0.01, "readout": "last_step", **running}
    found = nn.present(output.network, output, images, **settings)
    # chance is 2 %; six standard deviations on 200 images are 6 %
    assert found.accuracy(labels).value < 0.08
    output = bengali.repaired(LAYERS, sample, seed=3)
    settings = {"presentation_time": 0.015, "readout": "mean", **running}
    found = nn.present(output.network, output, images, **settings)
    assert found.accuracy(labels).value >= (ann == labels).mean() - 0.01
    assert (found.predictions(n_steps=10) == ann).mean() > 0.93
