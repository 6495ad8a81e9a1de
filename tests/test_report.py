"""Reports: one file with the run's own numbers, for all kinds of runs and arguments."""

import base64
import html
import io
import os
import re
import tempfile

import matplotlib.pyplot as plt
import nengo
import numpy as np
import pytest
from click.testing import CliRunner
from parsed_html import BAD, Parsed

import nengonet as nn
from nengonet.cli import main
from nengonet.explain.observed import observed_findings
from nengonet.report import drawable, image_card, other_images
from nengonet.results.result import LayerInfo, assemble

N, SHAPE, N_CLASSES = 30, (5, 6), 4
SCRIPT = """
import nengo, numpy as np, nengonet as nn
rng = np.random.default_rng(8)
images = rng.random((30, 5, 6))
labels = np.arange(30) % 4
with nengo.Network(seed=4) as net:
    pixels = nn.poisson_input((5, 6), max_rate=400.0)
    hidden = nn.dense(pixels, rng.normal(size=(30, 12)), nengo.LIF(), gain=2.0, bias=0.5, label="a")
    output = nn.dense(hidden, rng.normal(size=(12, 4)), nengo.LIF(), gain=2.0, bias=0.5, label="z")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A script, its saved run, the run, images and labels."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "own.py").write_text(SCRIPT)
    own = {}
    exec(SCRIPT, own)
    file = folder / "run.h5"
    given = {"presentation_time": 0.03, "rasters": ["a"], "save": file, "progress": False}
    result = nn.present(own["net"], own["output"], own["images"], **given)
    return folder, result, own["images"], own["labels"]


def made(steps, *, counts=None, spikes=None, readout="sum", labels=("in", "out"), amplitude=1.0):
    """Return a result of given arrays: the last layer's steps, the counts of the first layer."""
    steps = np.asarray(steps)
    arrays = {"examples": np.arange(len(steps)), "steps": steps}
    arrays |= {} if counts is None else {f"counts/{labels[0]}": np.asarray(counts)}
    arrays |= {} if spikes is None else {f"spikes/{labels[0]}": np.asarray(spikes)}
    first = 3 if counts is None else np.shape(counts)[1]
    infos = [LayerInfo(labels[0], (first,), amplitude), LayerInfo(labels[1], steps.shape[2:], None)]
    settings = {"dt": 0.001, "n_steps": steps.shape[1], "readout": readout}
    return assemble(infos, settings, arrays)


def one_hot(answers, n_classes, n_steps=10):
    return np.repeat(np.eye(n_classes)[answers][:, np.newaxis], n_steps, axis=1)


@pytest.fixture(scope="module")
def page(run):
    _, result, images, labels = run
    return result.to_html(labels=labels, images=images)


def test_a_report_has_the_numbers_of_the_run(run, page):
    _, result, images, labels = run
    parsed = Parsed(page)
    parsed.assert_self_contained()
    accuracy = result.accuracy(labels)
    low, high = (100 * end for end in accuracy.interval)
    wrong = np.flatnonzero(result.predictions() != labels)
    assert 0 < len(wrong) < N
    assert f"{100 * accuracy.value:.2f} %" in parsed.text
    assert f"95 % interval {low:.2f} to {high:.2f} %, 30 images, {len(wrong)} wrong" in parsed.text
    assert f"Wrong images: {len(wrong)}" in parsed.text
    for k in wrong:
        assert f"image {k} right: {labels[k]} answer: {result.predictions()[k]}" in parsed.text
    assert f"Ties {result.tied().sum()} " in parsed.text
    for label in ("input", "a", "z"):
        assert f"{result.rates(label).mean():,.1f}" in parsed.text
        assert f"{result.spikes[label].mean():,.1f}" in parsed.text
    assert f"{sum(result.spikes_per_image().values()):,.0f}" in parsed.text
    assert f"{result.operations_per_image()['z']:,.0f}" in parsed.text


def test_its_pictures_are_png_and_those_of_the_wrong_images(run, page):
    _, result, images, labels = run
    found = re.findall(r'src="data:image/png;base64,([^"]*)" alt="([^"]*)"', page)
    pictures = {alt: plt.imread(io.BytesIO(base64.b64decode(data))) for data, alt in found}
    wrong = np.flatnonzero(result.predictions() != labels)
    for k in wrong:
        np.testing.assert_allclose(pictures[f"image {k}"][..., 0], images[k], atol=0.012)
    figures = [alt for alt in pictures if not alt.startswith("image ")]
    starts = ("Accuracy over time", "Confusion", "Rates", "Image 0", "Spikes of a")
    assert [alt for alt in starts if not any(each.startswith(alt) for each in figures)] == []
    assert all(pictures[alt].std() > 0.01 for alt in figures)
    assert plt.get_fignums() == []


def test_without_labels_and_images_it_says_what_it_lacks(run):
    _, result, _, _ = run
    parsed = Parsed(result.to_html())
    parsed.assert_self_contained()
    assert "unknown: no labels were given" in parsed.text
    assert "Wrong images" not in parsed.text
    assert f"Ties: {result.tied().sum()}" in parsed.text


def test_what_users_write_is_escaped():
    names = (BAD, "</style><b>", "$\\frac$")  # which Matplotlib cannot set as a formula
    result = made(one_hot([0, 1, 1], 3), labels=("<img src=x onerror=alert(1)>" + 300 * "x", BAD))
    page = result.to_html(labels=[0, 0, 2], class_names=names, title="</title>" + BAD)
    Parsed(page).assert_self_contained()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert page.count("</title>") == page.count("</style>") == 1
    assert f"right: {BAD} answer: </style><b>" in Parsed(page).text


@pytest.mark.parametrize("shape", [(7,), (6, 7, 3), (6, 7, 1), (10, 2, 2, 2)])
def test_images_of_any_shape(shape):
    images = np.random.default_rng(0).random((3, *shape))
    page = made(one_hot([0, 1, 1], 3)).to_html(images=images, labels=[0, 1, 0])
    Parsed(page).assert_self_contained()
    assert ('alt="image 2"' in page) == (len(shape) in (2, 3))


def test_standardised_images_are_scaled_to_be_seen():
    images = np.random.default_rng(0).normal(size=(3, 6, 7, 3))
    page = made(one_hot([0, 1, 1], 3)).to_html(images=images, labels=[0, 1, 0])
    data = re.search(r'src="data:image/png;base64,([^"]*)" alt="image 2"', page)[1]
    seen = plt.imread(io.BytesIO(base64.b64decode(data)))[..., :3]
    scaled = (images[2] - images.min()) / (images.max() - images.min())
    np.testing.assert_allclose(seen, scaled, atol=0.005)


def test_a_diagnosis_and_a_comparison_are_what_they_should_be():
    result = made(one_hot([0, 1, 1], 3))
    with pytest.raises(
        nn.InputError, match=r"diagnosis: expected a Diagnosis, as nengonet.diagnose returns"
    ):
        result.to_html(diagnosis="good")
    with pytest.raises(
        nn.InputError, match=r"comparison: expected a Comparison, as nengonet.compare returns"
    ):
        result.to_html(comparison=3)


def test_ties_that_are_right_stand_apart_from_those_that_are_wrong():
    steps = one_hot([0, 1, 2, 1], 3)
    steps[1:] = [1.0, 1.0, 0.0]  # a tie of classes 0 and 1: 0 wins
    text = Parsed(made(steps).to_html(labels=[0, 0, 1, 0])).text
    assert "Ties 3 images" in text
    assert "Wrong images: 1 " in text
    assert "image 2 right: 1 answer: 0 a tie" in text
    right = text.split("Right answers by a tie: ")[1]
    assert right.startswith("2 ")
    assert "image 1 right: 0 answer: 0 a tie image 3 " in right
    assert "image 2" not in right
    assert (
        "Right answers by a tie" not in Parsed(made(one_hot([0, 1], 3)).to_html(labels=[0, 0])).text
    )


def test_only_so_many_wrong_images_are_shown():
    result = made(one_hot([1] * 100, 2))
    parsed = Parsed(result.to_html(labels=[0] * 100))
    assert "Wrong images: 100" in parsed.text
    assert "The first 48 are shown" in parsed.text
    assert "image 47 " in parsed.text
    assert "image 48 " not in parsed.text


def test_other_images_than_the_runs_are_noticed(run):
    folder, result, images, _ = run
    saved = nn.load_result(folder / "run.h5")
    for same in (images, images.reshape(N, -1)):
        assert list(other_images(saved, same)) == []
    for other in (images[::-1], 0.9 * images):
        assert [each.code for each in other_images(saved, other)] == ["other-images"]
    with pytest.raises(nn.InputError, match="images: expected 30, one for each of the run, got 29"):
        result.to_html(images=images[:-1])


def test_images_of_bytes_are_those_of_the_run():
    images = np.random.default_rng(2).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    with nengo.Network(seed=0) as net:
        pixels = nn.poisson_input((3, 3), max_rate=100.0)
        out = nn.dense(pixels, np.ones((9, 2)), nengo.LIF(), gain=1.0, bias=0.0)
    with tempfile.TemporaryDirectory() as folder:
        given = {"presentation_time": 0.01, "progress": False, "save": f"{folder}/run.h5"}
        saved = nn.present(net, out, images, **given)
    assert list(other_images(saved, images)) == list(other_images(saved, images / 255)) == []
    assert len(list(other_images(saved, 255 - images))) == 1


def test_diagnosis_and_comparison_are_part_of_it(run):
    folder, result, images, labels = run
    nengo_net = {}
    exec(SCRIPT, nengo_net)
    out = nengo_net["output"]
    diagnosis = nn.diagnose(out, images, labels=labels, presentation_time=0.03)
    parsed = Parsed(
        result.to_html(
            labels=labels,
            diagnosis=diagnosis,
            comparison=nn.compare(result, out, images),
        )
    )
    assert diagnosis.findings
    for each in diagnosis.findings:
        assert " ".join(each.message.split()) in parsed.text
    assert f"{100 * diagnosis.predicted_accuracy.value:.2f} %" in parsed.text
    assert "Observed beside predicted rates" in parsed.text


def codes(result, labels=None):
    return {each.code: each for each in observed_findings(result, labels)}


def test_a_sound_run_has_no_findings():
    rng = np.random.default_rng(5)
    answers = np.arange(60) % 4
    result = made(one_hot(answers, 4), counts=rng.poisson(8, (60, 50)), spikes=np.full(60, 9))
    assert codes(result, answers) == {}


def test_each_finding_is_found_and_named():
    answers = np.arange(40) % 4
    steps = one_hot(answers, 4)
    silent = codes(made(steps, counts=np.zeros((40, 6), int), spikes=np.zeros(40, int)))
    assert silent["no-spikes"].severity == "error"
    assert silent["no-spikes"].layers == ("in",)
    tied = steps.copy()
    tied[:8] = 1.0
    assert codes(made(tied))["ties"].evidence.startswith("8 of 40 images")
    assert "ties" not in codes(made(np.where(np.arange(40)[:, None, None] < 2, 1.0, steps)))
    alike = made(one_hot(np.where(np.arange(40) < 30, 2, answers), 4))
    assert codes(alike, answers)["one-class"].message.startswith("class 2 ")
    # Nothing is wrong where most images are of that class.
    assert "one-class" not in codes(alike, np.where(np.arange(40) < 25, 2, answers))
    late = one_hot(answers, 4, n_steps=20)
    late[:10, -1] += 100 * np.eye(4)[(answers[:10] + 1) % 4]
    changing = codes(made(late))["still-changing"]
    assert "25.0% of the images have another answer after 18 of 20 steps" in changing.evidence


def test_neurons_at_their_ceiling_look_saturated():
    """Two layers behind an input: one at 500 Hz or silent, one with rates of all sizes."""
    rng = np.random.default_rng(1)
    counts = {"in": np.full((30, 9), 20), "full": np.where(rng.random((30, 40)) < 0.6, 50, 0)}
    counts["fine"] = rng.integers(0, 50, (30, 40))
    infos = [LayerInfo(label, each.shape[1:], 1.0) for label, each in counts.items()]
    arrays = {f"counts/{label}": each for label, each in counts.items()}
    arrays |= {"examples": np.arange(30), "steps": one_hot(np.arange(30) % 3, 3, 100)}
    settings = {"dt": 0.001, "n_steps": 100, "readout": "sum"}
    infos.append(LayerInfo("out", (3,), None))
    found = observed_findings(assemble(infos, settings, arrays))
    # Nothing of the input, whose bright pixels have one rate.
    assert [(each.code, each.layers) for each in found] == [("saturation", ("full",))]
    assert "500 Hz" in found[0].evidence


def test_a_forum_post_shows_its_saturation():
    """The network of the forum, as it was posted: half of its hidden neurons fire at 500 Hz."""
    images, labels = nn.datasets.load("mnist", n_images=20)
    with nengo.Network(seed=0):
        pixels = nn.poisson_input((28, 28), max_rate=25_500.0, amplitude=1.0)
        weights, choice = nn.load_weights(nn.pretrained("mnist_dense")), nengo.dists.Choice
        tuning = {"max_rates": choice([100]), "intercepts": choice([0]), "label": "hidden"}
        hidden = nn.dense(pixels, weights["hidden"], nengo.LIF(), **tuning)
    result = nn.present(hidden.network, hidden, images, presentation_time=0.1, progress=False)
    assert codes(result)["saturation"].layers == ("hidden",)


# -- files and the command ------------------------------------------------------------------------


def call(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    result, file = made(one_hot([0, 1, 1], 3)), tmp_path / "run.html"
    file.write_text("before")
    with pytest.raises(nn.InputError, match="labels"):
        result.to_html(file, labels=[0, 1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", raising)
        with pytest.raises(OSError, match="full"):
            result.to_html(file)
    assert file.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["run.html"]
    assert result.to_html(file, labels=[0, 1, 2]) is None
    assert file.read_text(encoding="utf-8") == result.to_html(labels=[0, 1, 2])


def raising(_):
    raise OSError("disk full")


@pytest.mark.parametrize("name", ["run.h5", "run", "none/run.html", "run.html/"])
def test_what_is_no_page_is_refused(run, tmp_path, name):
    (tmp_path / "run.html").mkdir()
    with pytest.raises(nn.InputError, match="expected the name of a page|in a folder that exists"):
        run[1].to_html(tmp_path / name)


def test_the_command_writes_a_page(run, tmp_path):
    folder, result, images, labels = run
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", labels)
    page = tmp_path / "own.html"
    data = ("--images", tmp_path / "x.npy", "--labels", tmp_path / "y.npy")
    done = call(folder / "run.h5", "-o", page, *data)
    assert done.exit_code == 0, done.output
    assert str(result.accuracy(labels)) in done.output
    parsed = Parsed(page.read_text(encoding="utf-8"))
    parsed.assert_self_contained()
    assert f"{100 * result.accuracy(labels).value:.2f} %" in parsed.text
    assert "digests differ" not in parsed.text


def test_the_command_takes_a_network_and_its_arrays(run, tmp_path):
    folder, result, _, labels = run
    network = (
        "--network",
        f"{folder / 'own.py'}:output",
        "--images",
        "images",
        "--labels",
        "labels",
    )
    done = call(folder / "run.h5", "-o", tmp_path / "a.html", *network, "--json")
    assert done.exit_code == 0, done.output
    assert f'"accuracy": {result.accuracy(labels).value}' in done.output
    text = Parsed((tmp_path / "a.html").read_text(encoding="utf-8")).text
    assert "Rates against prediction" in text
    assert "Accuracy of the ANN" in text or "no ANN to compare with" in text


def test_the_page_stands_beside_the_run_by_default(run):
    folder = run[0]
    done = call(folder / "run.h5")
    assert done.exit_code == 0, done.output
    assert "--images and --labels add accuracy" in done.output
    assert (folder / "run.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("none.h5",), "none.h5: no such file"),
        (("{run}", "-o", "{run}"), "expected the name of a page"),
        (("{run}", "--network", "{own}:output"), "--images: expected the images of the run"),
        (("{run}", "--images", "no_such_set"), "or one of mnist"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, arguments, message):
    words = {"run": run[0] / "run.h5", "own": run[0] / "own.py"}
    given = [each.format(**words) for each in arguments]
    if "-o" not in given:
        given += ["-o", tmp_path / "page.html"]
    before = words["run"].read_bytes()
    done = call(*given)
    assert done.exit_code == 2, done.output
    assert re.search(message, done.output)
    assert done.output.count("\n") == 1
    assert words["run"].read_bytes() == before


@pytest.mark.parametrize(
    ("label", "tied", "kind", "words"),
    [
        (1, False, "note", ["image 0", "right: dog", "answer: dog"]),
        (0, False, "error", ["image 0", "right: <b>", "answer: dog"]),
        (1, True, "warning", ["image 0", "right: dog", "answer: dog", "a tie"]),
        (0, True, "warning", ["image 0", "right: <b>", "answer: dog", "a tie"]),
        (None, False, "note", ["image 0", "answer: dog"]),
    ],
)
def test_the_edge_of_an_image_tells_right_wrong_and_tied(label, tied, kind, words):
    labels = None if label is None else np.array([label])
    about = labels, np.array([1]), np.array([tied]), ["<b>", "dog"]
    card = image_card(0, np.zeros((1, 2, 2)), *about)
    assert card.startswith(f'<div class="card {kind}">')
    texts = [html.unescape(each) for each in re.findall("<div>(.*?)</div>", card)]
    assert texts == words
    assert card.count("<img ") == 1
    assert "<img " not in image_card(0, None, *about)


def test_images_are_drawn_whatever_their_range():
    np.testing.assert_array_equal(drawable(np.array([[[0, 255]]], np.uint8)), [[[0, 1]]])
    np.testing.assert_array_equal(drawable([[[-1.0, 1.0], [0.0, 3.0]]]), [[[0, 0.5], [0.25, 1]]])
    assert drawable(np.zeros((2, 5))) is None
    assert drawable(np.zeros((2, 3, 3, 5))) is None
