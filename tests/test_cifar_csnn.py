"""The CSNN paper's network. Accuracies on 1000 images are in the README."""

import functools
import json
import pathlib
import re
import types

import h5py
import nengo
import numpy as np
import pooch
import pytest
from click.testing import CliRunner
from conftest import needs_whole_data

import nengonet as nn
from nengonet.ann.activations import activations
from nengonet.ann.convolution import max_pool
from nengonet.cli import main
from nengonet.results.readout import accuracy
from nengonet.studies import cifar_csnn
from nengonet.studies.cifar_csnn import (
    KERNELS,
    NEURONS,
    PUBLISHED,
    STUDY,
    build,
    cnn_layers,
    logit_curves,
    measure,
    with_pools,
)
from nengonet.studies.shared import logits_of, scaled_firing_rates

ROOT = pathlib.Path(__file__).parents[1]
NAMES = ("conv2d_102", "conv2d_103", "conv2d_104", "dense_68", "dense_69")
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (16, 32, 32, 3))
LABELS = RNG.integers(0, 10, 16)


def random_arrays():
    for name, shape in zip(NAMES, KERNELS, strict=True):
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        kernel, bias = RNG.normal(0, scale, shape), RNG.normal(0, 0.1, shape[-1])
        yield name, kernel.astype(np.float32), bias.astype(np.float32)


ARRAYS = list(random_arrays())
LAYERS = [nn.LayerWeights(kernel, bias, name=name) for name, kernel, bias in ARRAYS]


@pytest.fixture
def authors_file(tmp_path):
    """Write weights as Keras 2.11 does: without config, with layers that have no weights."""
    names = [*NAMES[:3], "flatten_34", *NAMES[3:]]
    names[1:1], names[3:3] = ["max_pooling2d_68"], ["max_pooling2d_69"]
    arrays = {name: {"kernel:0": kernel, "bias:0": bias} for name, kernel, bias in ARRAYS}
    path = tmp_path / "weights_of_the_author"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array(names, dtype="S")
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.11.0"
        for name in names:
            group = file.create_group(name)
            weights = {f"{name}/{key}": array for key, array in arrays.get(name, {}).items()}
            group.attrs["weight_names"] = np.array(list(weights), dtype="S")
            for key, array in weights.items():
                group.create_dataset(key, data=array)
        file.create_group("top_level_model_weights").attrs["weight_names"] = []
    return path


@pytest.fixture
def random_data(monkeypatch):
    """Replace CIFAR-10 by random images."""

    def load(name, split, n_images, **where):
        assert name == "cifar10"
        chosen = slice(None, None, 1 if split == "test" else -1)
        return IMAGES[chosen][:n_images], LABELS[chosen][:n_images]

    monkeypatch.setattr(nn.datasets, "load", load)


def show(output, images, n_steps, **settings):
    settings = {"readout": "last_step", "progress": False} | settings
    time = {"presentation_time": n_steps / 1000}
    return nn.present(output.network, output, images, **time, **settings)


def call(*arguments):
    arguments = ["reproduce", "cifar-csnn", *map(str, arguments)]
    return CliRunner().invoke(main, arguments)


def test_rate_neurons_come_to_the_anns_logits():
    """Four filters in series miss (t/tau)^3/6 exp(-t/tau) of the end: 1e-13 after 40 tau."""
    ann = logits_of(with_pools(LAYERS, "average"), IMAGES[:2])
    late = show(build(LAYERS, "rate", synapse=0.005), IMAGES[:2], 200).outputs
    np.testing.assert_allclose(late[:, -1], ann, rtol=1e-9)
    assert np.abs(late[:, 20] - ann).max() > 1e-2 * np.abs(ann).max()
    at_once = show(build(LAYERS, "rate"), IMAGES[:2], 2).outputs
    np.testing.assert_allclose(at_once, np.repeat(ann[:, np.newaxis], 2, axis=1), rtol=1e-9)
    assert (
        np.abs(ann - logits_of(with_pools(LAYERS, "max"), IMAGES[:2])).max()
        > 1e-2 * np.abs(ann).max()
    )


def test_network_is_the_papers():
    output = build(LAYERS, "lif", synapse=0.015)
    first, pool0, second, pool1, third, hidden, last = output.upstream()[1:]
    assert [layer.shape for layer in (first, pool0, second, pool1, third, hidden, last)] == [
        (30, 30, 32),
        (15, 15, 32),
        (13, 13, 64),
        (6, 6, 64),
        (4, 4, 64),
        (64,),
        (10,),
    ]
    for layer in (pool0, pool1, hidden, last):  # what a neuron layer feeds
        assert layer.connection.synapse == nengo.Lowpass(0.015)
    for layer in (first, second, third):
        assert layer.connection.synapse is None
    for layer, (_, _, bias) in zip((first, second, third, hidden), ARRAYS, strict=False):
        assert np.all(layer.ensemble.gain == 415)
        np.testing.assert_allclose(layer.ensemble.bias[: len(bias)], 415 * bias.astype(float))
        assert layer.ensemble.neuron_type.amplitude == 1 / 415
    assert last.ensemble is None
    assert len(output.network.all_ensembles) == 4


@pytest.mark.parametrize("neurons", NEURONS)
def test_minibatches_are_the_reference(neurons):
    """The minibatch is so large that convolutions are computed row by row."""
    output = build(LAYERS, neurons, synapse=0.01, seed=3)
    batched = show(output, IMAGES, 12, seed=5, minibatch_size=16)
    reference = show(output, IMAGES[:2], 12, seed=5, simulator="reference")
    assert len(reference.counts) == (0 if neurons == "rate" else 4)
    for label, counts in reference.counts.items():
        np.testing.assert_array_equal(batched.counts[label][:2], counts)
        assert counts.any()
    np.testing.assert_allclose(batched.outputs[:2], reference.outputs, rtol=1e-9, atol=1e-12)


def test_repair_keeps_the_max_pools():
    output = build(LAYERS, "repaired", sample=IMAGES[8:])
    result = show(output, IMAGES[:2], 60)
    first, pool = result.layers[1:3]
    counts = result.counts[first.label].reshape(2, *first.shape)
    pooled = result.counts[pool.label].reshape(2, *pool.shape)
    np.testing.assert_array_equal(pooled, max_pool(counts))
    # Constant input: a count is right to half a spike, and so is the largest of four.
    exact = activations(with_pools(LAYERS, "max"), IMAGES[:2])[pool.label]
    found = result.mean_output(pool.label).reshape(exact.shape)
    assert np.abs(found - exact).max() <= 0.5 * pool.amplitude / 0.06 * (1 + 1e-9)


def test_scales_come_from_the_sample_only():
    gains = []
    for sample in (IMAGES[8:], 0.5 * IMAGES[8:]):
        output = build(LAYERS, "repaired", sample=sample)
        gains.append([layer.ensemble.gain[0] for layer in output.upstream() if layer.ensemble])
    found = activations(with_pools(LAYERS, "max"), IMAGES[8:])
    scales = [np.percentile(found[name], 99.9) for name in NAMES[:4]]
    np.testing.assert_allclose(gains[0], 500 / np.array(scales))
    assert np.all(np.array(gains[1]) > gains[0])


def test_authors_file_runs_unchanged(authors_file, random_data):
    assert [layer.name for layer in cnn_layers(nn.load_weights(authors_file))] == list(NAMES)
    options = ["--images", 3, "--neurons", "relu", "--synapse", 5, "--seeds", 2]
    options += ["--jobs", 1, "--json"]
    done = call("--weights", authors_file, *options)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["name"] == "cifar-csnn"
    assert (report["n_images"], report["n_steps"]) == (3, 100)
    assert report["published"] is None  # of the repaired network, which the paper has not
    logits = [
        show(
            build(LAYERS, synapse=0.005, seed=seed), IMAGES[:3], 100, seed=seed, precision=32
        ).steps
        for seed in (0, 1)
    ]
    for cell, (readout, values) in zip(
        report["cells"], measure(logits, LABELS[:3]).items(), strict=True
    ):
        assert (cell["neurons"], cell["synapse"], cell["readout"]) == ("relu", 0.005, readout)
        # Other products, because of the minibatch: logits differ by rounding.
        assert cell["accuracy"] == pytest.approx(values["accuracy"], abs=0.02)
        assert cell["loss"] == pytest.approx(values["loss"], rel=0.01)
        assert cell["n_seeds"] == 2
        figures = (cell["published_accuracy"], cell["published_loss"])
        assert figures == ((0.3973, 1.73) if readout == "all_steps" else (None, None))


def test_order_of_a_plain_file_does_not_matter(tmp_path):
    with h5py.File(tmp_path / "plain", "w") as file:
        for key, (_, kernel, bias) in zip("edcba", ARRAYS, strict=True):
            file[f"{key}/kernel"], file[f"{key}/bias"] = kernel, bias
    layers = cnn_layers(nn.load_weights(tmp_path / "plain"))
    assert [layer.name for layer in layers] == list("edcba")
    np.testing.assert_allclose(
        logits_of(with_pools(layers, "max"), IMAGES[:2]),
        logits_of(with_pools(LAYERS, "max"), IMAGES[:2]),
    )


def test_report_for_people_and_figure(random_data, tmp_path):
    figure = tmp_path / "logits.png"
    options = ["--images", 2, "--neurons", "lif", "--jobs", 1, "--seeds", 1, "--plot", figure]
    done = call("--synapse", 20, "--synapse", 5, *options)
    assert done.exit_code == 0, done.output
    for words in (
        "accuracy / cross-entropy: mean over all steps, as the paper measures (100 steps)",
        "lif, paper  0.3821 / 1.750  0.3573 / 1.820",
        "published_accuracy 0.7103, published_loss 0.84",
        "last step (100 steps)",
        "logits averaged over time (100 steps)",
        "at rest: rates in place of spikes, no filters, average pools",
        "on or off    415",
        "- lif, from 5 ms to 20 ms: ",
        "spikes of neurons per image in 100 steps",
    ):
        assert words in done.stdout
    assert re.search("network +repaired: max pools kept\n +readout +mean\n", done.stdout)
    assert "against" not in done.stdout  # no other neurons ran
    assert figure.stat().st_size > 10_000


def test_budget_begins_with_the_pools(monkeypatch):
    layers = cnn_layers(nn.load_weights(nn.pretrained(cifar_csnn.WEIGHTS)))
    answers = [
        logits_of(with_pools(layers, kind), IMAGES).argmax(axis=1) for kind in ("max", "average")
    ]
    monkeypatch.setattr(nn.datasets, "load", lambda *_, **__: (IMAGES, answers[0]))
    budget = STUDY.budget(variant="published", presentation_time=0.002, n_jobs=1)
    trained, pooled = (step.accuracy for step in budget.steps[:2])
    assert trained == 1
    assert pooled == np.mean(answers[0] == answers[1]) < 1


def test_a_panel_for_each_cell_and_image(random_data):
    chosen = {"neurons": ["rate", "relu"], "synapses": [None, 0.01]}
    report = STUDY.reproduce(**chosen, n_images=1, n_jobs=1, progress=False)
    curves = types.SimpleNamespace(**logit_curves(report))
    layers = cnn_layers(nn.load_weights(nn.pretrained(cifar_csnn.WEIGHTS)))
    shown = np.stack([IMAGES[-1], IMAGES[0]])  # the first for training, the first for testing
    ann = logits_of(with_pools(layers, "average"), shown)
    rate, relu = curves.outputs["rate"], curves.outputs["relu"]
    np.testing.assert_allclose(rate[[0, 2], -1], ann, rtol=1e-6)
    assert rate.shape == relu.shape == (4, len(curves.times), 10)
    assert np.isnan(relu[[0, 2]]).all()
    assert np.isfinite([rate[[1, 3]], relu[[1, 3]]]).all()
    assert [title.split("\n")[1] for title in curves.titles] == 2 * ["no synapse", "10 ms"]
    assert list(curves.labels) == [LABELS[-1], LABELS[-1], LABELS[0], LABELS[0]]
    assert curves.times[-1] == pytest.approx(0.1)
    assert curves.times[0] == pytest.approx(0.001)


def test_measured_by_hand():
    """With two images, two steps and log-odds as logits, losses are logarithms of shares."""
    logits = np.log([[[1, 3], [3, 1]], [[1, 1], [7, 1]]])
    found = measure(logits, [0, 0])
    assert found["all_steps"]["accuracy"] == 0.75
    assert found["all_steps"]["loss"] == pytest.approx(-np.log([1 / 4, 3 / 4, 1 / 2, 7 / 8]).mean())
    assert found["last_step"]["accuracy"] == 1
    assert found["last_step"]["loss"] == pytest.approx(-np.log([3 / 4, 7 / 8]).mean())
    assert found["time_average"]["accuracy"] == 1
    sqrt7 = np.sqrt(7)
    assert found["time_average"]["loss"] == pytest.approx(
        -np.log([1 / 2, sqrt7 / (1 + sqrt7)]).mean()
    )
    # Images of 0.5 and 1: the variance of their mean, 1/32, is that of 6 images' answers.
    assert found["all_steps"]["interval"] == pytest.approx(wilson(4.5, 6), abs=1e-4)
    assert found["last_step"]["interval"] == pytest.approx(wilson(2, 2), abs=1e-4)


def wilson(right, n):
    """Return the roots p of (right / n - p)^2 = z^2 p (1 - p) / n."""
    z2 = 1.96**2
    return sorted(np.roots([1 + z2 / n, -2 * right / n - z2 / n, (right / n) ** 2]))


def test_intervals_are_over_images_and_seeds():
    """Two seeds are right on different shares of 400 images: 0.5 and 0.8."""
    right = np.arange(400) % 10 < np.array([[5], [8]])
    logits = np.where(right[..., np.newaxis, np.newaxis], [1.0, 0.0], [0.0, 1.0])
    found = measure(logits, np.zeros(400, dtype=int))["last_step"]
    of_images = right.mean(axis=0).var() / 400
    n = 0.65 * 0.35 / (of_images + np.var([0.5, 0.8], ddof=1) / 2)
    assert found["accuracy"] == pytest.approx(0.65)
    assert found["interval"] == pytest.approx(wilson(0.65 * n, n), abs=1e-4)
    (alone,) = {tuple(measure(logits[:1], np.zeros(400, dtype=int))["last_step"]["interval"])}
    assert alone == pytest.approx(nn.readout.wilson_interval(200, 400), abs=1e-4)


def test_claims_are_answered_by_the_shares_of_right_answers():
    right = {
        ("lif", 0.005): np.full((2, 400, 1), 0.5),
        ("lif", 0.02): np.full((2, 400, 1), 0.475),
        ("adaptive-lif", 0.02): np.full((2, 400, 1), 0.5),
        ("relu", 0.02): np.tile([[0.0], [0.95]], (2, 200, 1)),
        ("rate", 0.005): np.full((1, 400, 1), 0.5),
        ("rate", 0.02): np.full((1, 400, 1), 0.1),
    }
    report = types.SimpleNamespace(further=right)
    rate, lif, against_relu, adaptive = cifar_csnn.on_claims(report)
    assert rate.startswith(
        "rate, from 5 ms to 20 ms: -40.0 points of accuracy (95 % interval -40.5"
    )
    assert rate.endswith("the paper's -20.7 is above the interval")
    assert "-2.5 points" in lif
    assert lif.endswith("(95 % interval -3.0 to -2.0); the paper's -2.5 is within the interval")
    assert "20 ms level, +0.00" in against_relu
    assert against_relu.endswith("paper +16.94)")
    assert "20 ms ahead, +2.50 (+2.01 to +2.99; paper +0.17)" in adaptive
    right["adaptive-lif", 0.02] = np.full((2, 400, 1), 0.25)
    assert "20 ms behind, -22.50" in list(cifar_csnn.on_claims(report))[-1]
    right["rate", 0.02] = np.full((1, 400, 1), 0.5)
    assert next(cifar_csnn.on_claims(report)).endswith("-20.7 is below the interval")


def test_delays_are_read_from_the_curves():
    curve = np.repeat([[[0.1, 0.39, 0.4]]], [30, 10, 60], axis=-1)
    right = {("lif", 0.005): curve, ("lif", 0.02): np.full((1, 1, 100), 0.4)}
    right["rate", None] = curve
    report = types.SimpleNamespace(further=right)
    assert list(cifar_csnn.on_delays(report)) == [
        "lif: within 2 points of the last step's accuracy from step 31/1 on, at 5 ms/20 ms"
    ]


def test_at_rest_is_the_network_without_time():
    """ReLU gives the ANN, and a factor on all activations acts as the scale of the rates."""
    (relu,) = cifar_csnn.at_rest(LAYERS, IMAGES[:3], lambda drive: np.maximum(drive, 0))
    np.testing.assert_allclose(relu, logits_of(with_pools(LAYERS, "average"), IMAGES[:3]))
    first, *others, last = LAYERS
    larger = [
        nn.LayerWeights(3 * first.kernel, 3 * first.bias, name="first"),
        *(nn.LayerWeights(each.kernel, 3 * each.bias, name=each.name) for each in others),
        nn.LayerWeights(last.kernel / 3, last.bias, name="last"),
    ]
    at_rest, lif = cifar_csnn.at_rest, cifar_csnn.lif_curve
    few, many = (functools.partial(lif, scale=scale) for scale in (100.0, 300.0))
    expected = at_rest(LAYERS, IMAGES[:3], many)
    np.testing.assert_allclose(at_rest(larger, IMAGES[:3], few), expected, rtol=1e-5, atol=1e-6)
    several = at_rest(LAYERS, IMAGES[:3], few, many, lambda drive: np.maximum(drive, 0))
    assert several.shape == (3, 3, 10)
    np.testing.assert_array_equal(several[1:], [*expected, relu])
    assert np.any(several[0] != several[1])


def test_curves_at_rest_are_those_of_the_neurons():
    """LIF's rate is 1 / (tau_ref + tau_rc ln(J / (J - 1))), also counted over a second."""
    drive = np.array([-1.0, 1 / 500, 0.01, 0.2, 3.0])
    current = 415 * drive[2:]
    rates = 1 / (0.002 + 0.02 * np.log(current / (current - 1)))
    np.testing.assert_allclose(cifar_csnn.lif_curve(drive), [0, 0, *(rates / 415)])
    tenfold = cifar_csnn.lif_curve(np.array([0.01, 0.1]))
    assert tenfold[1] / tenfold[0] == pytest.approx(3, abs=0.1)  # the documentation says so
    np.testing.assert_allclose(cifar_csnn.on_or_off(drive), [0, *4 * [500 / 415]])
    with nengo.Network(seed=0):
        layer = nn.dense(
            nn.constant_input((5,)),
            nn.LayerWeights(np.eye(5), None, name="neurons"),
            NEURONS["lif"],
            **scaled_firing_rates(415.0),
        )
    (counts,) = show(layer, np.abs(drive[np.newaxis]) / 3, 1000).counts.values()
    expected = cifar_csnn.lif_curve(np.abs(drive) / 3) * 415
    assert np.abs(counts[0] - expected).max() <= 1 + 1e-6


def test_published_figures_are_the_papers():
    rows = """39.32/1.83 31.35/2.03 24.06/2.26 18.60/2.43
        39.73/1.73 31.29/2.01 24.92/2.19 18.79/2.41
        38.21/1.75 37.19/1.76 36.75/1.79 35.73/1.82
        38.06/1.75 37.55/1.76 36.94/1.78 35.90/1.82"""
    for neurons, row in zip(NEURONS, rows.splitlines(), strict=True):
        for synapse, figures in zip(cifar_csnn.SYNAPSES, row.split(), strict=True):
            share, loss = map(float, figures.split("/"))
            assert PUBLISHED[neurons, synapse] == (pytest.approx(share / 100), loss)
    assert PUBLISHED["rate", None] == (None, None)
    assert len(PUBLISHED) == 17
    assert cifar_csnn.PUBLISHED_ANN == (0.7103, 0.84)


def test_bad_input_is_named(tmp_path):
    with h5py.File(tmp_path / "other", "w") as file:
        file["first"] = np.ones((3, 3, 3, 16))
    with pytest.raises(nn.InputError, match=r"\(3, 3, 3, 32\), .*, got first Conv2D \(3, 3, 3"):
        STUDY.reproduce(tmp_path / "other")
    with pytest.raises(nn.InputError, match="neurons: expected one of rate, relu, .* 'hh'"):
        STUDY.reproduce(neurons=["hh"])
    with pytest.raises(nn.InputError, match="synapses: expected one of None, 0.005, .* 0.5"):
        STUDY.reproduce(synapses=[0.5])
    with pytest.raises(nn.InputError, match="only that of rate neurons has no filter"):
        STUDY.reproduce(neurons=["lif"], synapses=[None])
    with pytest.raises(nn.InputError, match="n_seeds: expected"):
        STUDY.reproduce(n_seeds=0)


def test_without_the_data_set(tmp_path, monkeypatch):
    def no_network(*arguments, **settings):
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", no_network)
    monkeypatch.setattr(pooch, "os_cache", lambda project: pathlib.Path(tmp_path, project))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("NENGONET_DATA", raising=False)
    done = call("--data", tmp_path)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "put this into a folder that NENGONET_DATA names: " in done.stderr
    assert "cifar10_test1000.npz" in done.stderr


@pytest.fixture(scope="module", params=["cifar_csnn", "cifar_csnn_paper"])
def trained(request):
    return cnn_layers(nn.load_weights(nn.pretrained(request.param)))


@needs_whole_data
def test_ann_is_good_enough(trained):
    images, labels = nn.datasets.load("cifar10", split="test", n_images=1000)
    found = {
        kind: accuracy(logits_of(with_pools(trained, kind), images).argmax(axis=1), labels).value
        for kind in ("max", "average")
    }
    assert found["max"] >= 0.68
    assert found["average"] < found["max"] - 0.1  # what replacing the pools costs


@needs_whole_data
def test_repair_follows_the_ann(trained):
    """On 1000 images, 96 % of its answers are the ANN's.

    If each of 100 answers differs with a chance of 0.05, more than 18 do so with one of 5e-7.
    """
    images, _ = nn.datasets.load("cifar10", split="test", n_images=100)
    sample, _ = nn.datasets.load("cifar10", split="train", n_images=100)
    result = show(
        build(trained, "repaired", sample=sample), images, 100, readout="mean", minibatch_size=50
    )
    same = result.predictions() == logits_of(with_pools(trained, "max"), images).argmax(axis=1)
    assert same.sum() >= 100 - 18


RECORDS = {
    name: json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("cifar-csnn", "cifar-csnn-augmented")
}


def recorded(name, neurons, **where):
    """The row of a record, as the documentation shows it."""
    (row,) = (
        cell
        for cell in RECORDS[name]["report"]["cells"]
        if cell["neurons"] == neurons and where.items() <= cell.items()
    )
    return row


@pytest.mark.parametrize("name", RECORDS)
def test_the_page_says_what_was_measured(name):
    """The page says that LIF loses far less than spiking ReLU."""
    falls = {
        neurons: np.subtract(
            *(
                recorded(name, neurons, synapse=each, readout="all_steps")["accuracy"]
                for each in (0.005, 0.02)
            )
        )
        for neurons in ("relu", "lif")
    }
    assert falls["lif"] < falls["relu"] / 2


def test_the_page_says_what_decides():
    """The medians are alike; on-or-off neurons and LIF are both better with the same weights."""
    first, second = (RECORDS[name]["report"]["settings"] for name in RECORDS)
    asked = [each["activations, average pools"].values() for each in (first, second)]
    for one, other in zip(*asked, strict=True):
        assert 2 / 3 < one["median_rate"] / other["median_rate"] < 3 / 2
    for neurons in ("on or off", "lif"):
        one, other = (
            recorded(name, neurons, readout="at_rest", scale=cifar_csnn.SCALE) for name in RECORDS
        )
        assert one["interval"][0] > other["accuracy"]
        assert one["accuracy"] > other["interval"][1]
