import dataclasses
import itertools
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

import nengonet as nn
from nengonet.explain.budget import Budget, Step
from nengonet.explain.comparison import Comparison
from nengonet.plots import (
    COLOURS,
    check_figure_path,
    label_lines,
    plot_budget,
    plot_comparison,
    plot_confusion,
    plot_latency,
    plot_logits,
    plot_output,
    plot_presentation,
    plot_raster,
    plot_rates,
    plot_sweep,
    plot_weights,
    save_figure,
)
from nengonet.plots.labels import spread
from nengonet.results.readout import accuracy, scores
from nengonet.results.result import LayerInfo, Result
from nengonet.sweeps.result import Sweep

RASTER = np.zeros((1, 6, 3), dtype=int)
RASTER[0, [0, 2, 5], [1, 1, 2]] = 1


def labels_of(axis):
    """Return what is written at the ends of curves."""
    return [text.get_text() for text in axis.texts]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture
def result():
    steps = np.zeros((1, 6, 2), dtype=np.int8)
    steps[0, [1, 3], 1] = 1
    return Result(
        layers=(LayerInfo("input", (3,), 1.0), LayerInfo("output", (2,), 1.0)),
        settings={"dt": 0.001, "n_steps": 6, "readout": "spike_count"},
        examples=np.array([0]),
        counts={"input": RASTER.sum(axis=1)},
        steps=steps,
        rasters={"input": RASTER},
    )


def test_figure_shows_what_the_result_holds(result):
    figure = plot_presentation(np.eye(3), result, label=1)
    image, raster, counts = figure.axes
    assert image.get_title() == "image of a 1\nanswer 1"
    np.testing.assert_array_equal(
        raster.collections[0].get_offsets(), [[1.0, 1], [3.0, 1], [6.0, 2]]
    )
    assert raster.get_title() == "input: 3 spikes of 3 neurons, mean 167 Hz"
    np.testing.assert_array_equal(counts.lines[1].get_ydata(), [0, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(counts.lines[0].get_ydata(), scores(result.outputs)[0, :, 0])
    assert counts.get_xlabel() == "time (ms)"


def test_a_result_without_rasters_is_refused(result):
    result.rasters.clear()
    with pytest.raises(nn.InputError, match="result: expected rasters, got none"):
        plot_presentation(np.eye(3), result)


def test_paths_are_checked_before_the_run(tmp_path):
    check_figure_path(tmp_path / "figure.png")
    with pytest.raises(nn.InputError, match=r"ends in one of .*\.png"):
        check_figure_path(tmp_path / "figure")
    with pytest.raises(nn.InputError, match="does not exist"):
        check_figure_path(tmp_path / "none" / "figure.png")
    assert plt.get_fignums() == []


def test_comparison_shows_every_layer():
    rates = {"hidden": np.arange(12.0).reshape(3, 4), "output": np.ones((3, 2))}
    rows = ({"label": "hidden", "correlation": 0.5}, {"label": "output", "correlation": None})
    figure = plot_comparison(Comparison(rows, 0, rates, {k: 2 * v for k, v in rates.items()}))
    hidden, output = figure.axes
    np.testing.assert_array_equal(
        hidden.collections[0].get_offsets(), np.c_[np.arange(12), 2 * np.arange(12)]
    )
    assert hidden.get_title() == "hidden\ncorrelation 0.500"
    assert output.get_title() == "output"
    assert hidden.get_xlabel() == "predicted rate (Hz)"


def test_budget_is_a_waterfall():
    steps = tuple(
        Step(name, level, change, (change - 3, change + 3), "")
        for name, level, change in [("ANN", 0.9, 0.0), ("noise", 0.7, -20.0), ("time", 0.75, 5.0)]
    )
    figure = plot_budget(Budget(steps, n_images=10, n_repeats=2))
    (axis,) = figure.axes
    assert not axis.patches  # a bar would have to start at 0
    np.testing.assert_allclose(axis.lines[0].get_xydata(), [[90, 0], [75, 3]])
    arrows = [text for text in axis.texts if text.arrow_patch]
    found = [(*arrow.xyann, *arrow.xy) for arrow in arrows]  # from, to
    np.testing.assert_allclose(found, [(90, 1, 70, 1), (70, 2, 75, 2)])
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "ANN",
        "noise",
        "time",
        "as it is run",
    ]
    words = {text.get_text() for text in axis.texts if not text.arrow_patch}
    assert words == {"-20.0", "+5.0", "90.0 %", "75.0 %"}


def test_logits_of_every_network_and_image():
    outputs = {"one": np.arange(24.0).reshape(2, 4, 3), "other": np.ones((2, 4, 3))}
    times = 0.001 * np.arange(1, 5)
    figure = plot_logits(times, outputs, ["cat", "dog", "frog"], ["first", "second"], [2, 0])
    (left, right), (below, _) = np.reshape(figure.axes, (2, 2))
    for k in range(3):
        np.testing.assert_allclose(left.lines[k].get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(right.lines[k].get_ydata(), outputs["one"][1, :, k])
    # The last class ends highest: right on the left, and a wrong answer on the right.
    assert [line.get_linewidth() for line in left.lines] == [0.9, 0.9, 2.2]
    assert [line.get_color() for line in right.lines] == [COLOURS[0], "0.6", COLOURS[1]]
    assert labels_of(left) == ["frog, right and answer", "cat", "dog"]
    assert labels_of(right) == ["cat, right", "frog, answer", "dog"]
    assert labels_of(below) == ["cat, answer", "frog, right", "dog"]
    assert (left.get_title(), right.get_title()) == ("first", "second")
    assert below.get_ylabel() == "other\nlogit"
    assert below.get_xlabel() == "time (ms)"
    assert not figure.legends
    outputs["one"] = np.stack([np.full((4, 3), np.nan), outputs["one"][1]])
    figure = plot_logits(times, outputs, ["cat", "dog", "frog"], ["first", "second"], [2, 0])
    left, right = figure.axes[:2]
    assert [text.get_text() for text in left.texts] == ["not run"]
    assert (len(left.lines), len(right.lines)) == (0, 3)


def test_output_stands_beside_the_image(result):
    figure = plot_output(np.eye(3)[..., None], result, 0, "one", ["zero", "one"])
    image, counts = figure.axes
    assert image.images[0].get_array().shape == (3, 3)
    assert image.get_title() == "image of a one\nanswer 1"
    np.testing.assert_array_equal(counts.lines[1].get_ydata(), [0, 1, 1, 2, 2, 2])
    assert counts.lines[1].get_drawstyle() == "steps-post"
    assert labels_of(counts) == ["one, right and answer", "zero"]


def test_output_of_another_class_marks_both(result):
    _, counts = plot_output(np.eye(3), result, 0, 0).axes
    assert [line.get_color() for line in counts.lines] == [COLOURS[0], COLOURS[1]]
    assert labels_of(counts) == ["0, right", "1, answer"]
    # A word that is not the name of a class says what it is an image of, and nothing else.
    _, counts = plot_output(np.eye(3), result, 0, "cat").axes
    assert labels_of(counts) == ["1, answer", "0"]
    assert [line.get_color() for line in counts.lines] == ["0.6", COLOURS[0]]


def test_curves_that_end_together_share_a_label(result):
    more = [result.steps] + [np.zeros((1, 6, 2), dtype=np.int8)] * 2
    result = dataclasses.replace(result, steps=np.concatenate(more, axis=2))
    _, counts = plot_output(np.eye(3), result, 0, 3).axes
    assert labels_of(counts) == ["1, answer", "3, right", "0, 2, 4, 5"]
    many = np.concatenate([result.steps] + [0 * result.steps] * 2, axis=2)  # too many to name
    result = dataclasses.replace(result, steps=many)
    _, counts = plot_output(np.eye(3), result, 0, 3).axes
    assert labels_of(counts) == ["1, answer", "3, right"]


def test_many_spikes_are_drawn_as_rates(result):
    rng = np.random.default_rng(1)
    raster = rng.integers(0, 2, size=(1, 110, 130))
    raster[0, :, 7] = 1  # one neuron in every step, one never
    raster[0, :, 8] = 0
    dense = Result(
        layers=(LayerInfo("input", (130,), 1.0), LayerInfo("output", (2,), 1.0)),
        settings={"dt": 0.001, "n_steps": 110, "readout": "spike_count"},
        examples=np.array([0]),
        counts={"input": raster.sum(axis=1)},
        steps=np.zeros((1, 110, 2), dtype=np.int8),
        rasters={"input": raster},
    )
    spikes, rates, bar = plot_raster(dense, "input").axes
    (mesh,) = spikes.collections
    shown = np.reshape(mesh.get_array(), (130, -1))
    assert shown.shape == (130, 22)  # windows of 5 steps
    np.testing.assert_allclose(shown[7], 1000)
    np.testing.assert_allclose(shown[8], 0)
    np.testing.assert_allclose(shown[:, 3], 200 * raster[0, 15:20].sum(axis=0))
    assert bar.get_ylabel() == "rate in 5 steps (Hz)"
    assert f"{raster.sum():,} spikes of 130 neurons" in spikes.get_title()


def test_the_last_window_of_rates_may_be_shorter(result):
    raster = np.ones((1, 52, 200), dtype=int)
    result.rasters["input"] = raster
    result.settings["n_steps"] = 52
    mesh = plot_raster(result, "input").axes[0].collections[0]
    np.testing.assert_allclose(mesh.get_array(), 1000)
    assert mesh.get_coordinates()[0, -2:, 0].tolist() == [51, 52]


def test_labels_at_the_ends_keep_apart():
    curves = {f"net {k}": np.array([0.5, 0.9 + 0.001 * k]) for k in range(6)}
    figure = plot_latency(curves, n_images=100)
    (axis,) = figure.axes
    axis.set_ylim(80, 92)  # after the labels were made
    figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in axis.texts]  # without the lines to them
    assert [box.y0 for box in boxes] == sorted(box.y0 for box in boxes)  # in the order of curves
    for below, above in itertools.pairwise(boxes):
        assert below.y1 <= above.y0 + 1
    assert min(box.x0 for box in boxes) > axis.bbox.x1
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert axis.bbox.y0 < boxes[0].y0 < boxes[-1].y1 < axis.bbox.y1 + 1


def test_lines_with_a_name_are_labelled():
    _, axis = plt.subplots()
    axis.plot([0, 1, 2], [3, 4, 5], c="red", label="up")
    axis.plot([0, 1], [1, 1], "b")
    axis.plot([], [], label="empty")
    axis.plot([0, 1], [0, 9], c="green", label="steep")
    label_lines(axis)
    assert labels_of(axis) == ["up", "steep"]
    assert [label.end for label in axis.texts] == [(2, 5), (1, 9)]
    assert [label.get_color() for label in axis.texts] == ["red", "green"]
    axis.set_xlim(0, 2)
    axis.figure.canvas.draw()
    # The line to a label is dotted where it crosses the axes, and might look like the curve's.
    assert [label.arrow_patch.get_linestyle() for label in axis.texts] == ["-", (0, (1, 3))]


@pytest.mark.parametrize(
    "wanted, sizes, limits, expected",
    [
        ([1.0, 5.0], [2, 2], (), [1, 5]),
        ([3.0, 3.0], [2, 4], (), [1.5, 4.5]),
        ([9.0, 0.0, 8.5], [1, 1, 1], (), [9.25, 0, 8.25]),
        ([9.0, 9.0], [2, 2], (0, 9), [7, 9]),
        ([0.0, 0.0], [2, 2], (0, 9), [0, 2]),
        ([0.0, 0.0], [2, 2], (0, 1), [-1, 1]),
        ([], [], (), []),
    ],
)
def test_spread(wanted, sizes, limits, expected):
    np.testing.assert_allclose(spread(wanted, sizes, *limits), expected)


def test_titles_are_within_the_figure(result):
    figure = plot_output(np.eye(3), result, label=1)
    figure.canvas.draw()
    for axis in figure.axes:
        assert axis.title.get_window_extent().y1 <= figure.bbox.y1


def test_raster_shows_rates_beside_the_spikes(result):
    figure = plot_raster(result, "input", predicted=[0.0, 300.0, 200.0])
    raster, rates = figure.axes
    np.testing.assert_array_equal(
        raster.collections[0].get_offsets(), [[1.0, 1], [3.0, 1], [6.0, 2]]
    )
    # Two spikes and one in 6 ms
    np.testing.assert_allclose([bar.get_width() for bar in rates.patches], [0, 1000 / 3, 500 / 3])
    np.testing.assert_array_equal(rates.lines[0].get_xdata(), [0, 300, 200])
    assert rates.get_xlabel() == "rate (Hz)"


def test_raster_refuses_what_is_not_there(result):
    with pytest.raises(nn.InputError, match="pass rasters=.'output'"):
        plot_raster(result, "output")
    with pytest.raises(nn.InputError, match="expected rates of 3 neurons, got .2,"):
        plot_raster(result, "input", predicted=[1.0, 2.0])
    assert plt.get_fignums() == []


def test_the_anns_accuracy_in_a_latency_figure_is_an_accuracy():
    with pytest.raises(nn.InputError, match=r"ann: expected an Accuracy, .*, got 0\.98"):
        plot_latency({"a": [0.5]}, 0.98)


def test_latency_has_intervals():
    ann = accuracy(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]))
    curves = {"net": np.array([0.0, 0.5, 1.0]), "two": np.array([0.25, 0.75])}
    (axis,) = plot_latency(curves, ann).axes
    band = axis.collections[0].get_paths()[0].vertices
    # Wilson's interval of 0, 2 and 4 of 4: z**2 / (n + z**2) = 0.4899 is the width at the ends
    for step, low, high in [(1, 0, 48.99), (2, 15.00, 85.00), (3, 51.01, 100)]:
        found = band[band[:, 0] == step, 1]
        np.testing.assert_allclose([found.min(), found.max()], [low, high], atol=0.01)
    _, one, two = axis.lines
    np.testing.assert_array_equal(one.get_ydata(), [0, 50, 100])
    np.testing.assert_array_equal(two.get_xydata(), [[1, 25], [2, 75]])
    assert labels_of(axis) == ["ANN", "net", "two"]
    assert axis.texts[2].end == (2, 75)  # it ends before the other
    assert axis.get_xlim() == (1, 3)
    assert two.get_linestyle() != one.get_linestyle()
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("steps of 1 ms", "accuracy (%) on 4 images")


def test_rates_are_shares_of_all(result):
    result.counts["input"] = np.array([[0, 0, 2], [1, 2, 70]])
    figure = plot_rates(result)
    (axis,) = figure.axes
    heights, edges, _ = axis.patches[0].get_data()
    # Bins of three counts, from 0.5: 1, 2 and 2 in the first, 70 in the last
    np.testing.assert_allclose(edges, (0.5 + 3 * np.arange(25)) / 0.006)
    np.testing.assert_allclose(heights[[0, 23]], [100 * 3 / 6, 100 / 6])
    assert np.count_nonzero(heights) == 2
    assert axis.get_title().startswith("input: 33% silent\nmean 2.08e+03 Hz")
    result.counts.clear()
    with pytest.raises(nn.InputError, match="name it in keep"):
        plot_rates(result)


def sweep_of(rows, parameters=("rate", "kind")):
    rows = [dict(row, error=None, seconds=0.0) for row in rows]
    return Sweep(parameters=parameters, values=("accuracy",), rows=rows)


ROWS = [
    {"rate": rate, "kind": kind, "seed": seed, "accuracy": level + spread * (2 * seed - 1)}
    for rate, kind, level, spread in [
        (20.0, "a", 0.7, 0.01),
        (10.0, "a", 0.5, 0.02),
        (10.0, "b", 0.6, 0.0),
        (20.0, "b", 0.8, 0.0),
    ]
    for seed in (0, 1)
]


def test_sweep_draws_means_and_intervals_over_the_seeds():
    figure = plot_sweep(sweep_of(ROWS), units={"rate": "Hz"})
    (axis,) = figure.axes
    lines = {bars.get_label(): bars.lines for bars in axis.containers}
    assert list(lines) == ["kind a", "kind b"]
    np.testing.assert_allclose(lines["kind a"][0].get_xydata(), [[10, 0.5], [20, 0.7]])
    np.testing.assert_allclose(lines["kind b"][0].get_ydata(), [0.6, 0.8])
    # Student's t of two seeds 0.02 to either side: 12.706 standard errors of 0.02
    low, high = lines["kind a"][2][0].get_segments()[0]
    np.testing.assert_allclose([low[1], high[1]], 0.5 + 0.02 * 12.7062047 * np.r_[-1, 1])
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("rate (Hz)", "accuracy")
    assert axis.get_title() == "mean over 2 seeds, with 95 % interval"
    assert labels_of(axis) == ["kind a", "kind b"]
    assert [label.end for label in axis.texts] == [(20, 0.7), (20, 0.8)]


def test_sweep_draws_both_ends_of_an_interval_that_is_not_symmetric():
    rows = [{"rate": 10.0, "seed": seed, "accuracy": 0.9 + seed / 20} for seed in (0, 1)]
    rows = [dict(row, error=None, seconds=0.0) for row in rows]
    n_images = [{"accuracy": 20}] * 2
    sweep = Sweep(parameters=("rate",), values=("accuracy",), rows=rows, n_images=n_images)
    (summary,) = sweep.summary()
    assert summary["high"] - summary["mean"] < 0.5 * (summary["mean"] - summary["low"])
    figure = plot_sweep(sweep)
    low, high = figure.axes[0].containers[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose([low[1], high[1]], [summary["low"], summary["high"]])


def test_sweep_sets_other_parameters_side_by_side():
    figure = plot_sweep(sweep_of(ROWS), "accuracy", "kind", lines=())
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b"]
    np.testing.assert_allclose(axis.containers[0][0].get_xydata(), [[0, 0.6], [1, 0.7]])


def test_sweep_names_the_unit_of_numbers_in_its_legend():
    figure = plot_sweep(sweep_of(ROWS), x="kind", units={"rate": "Hz", "kind": "m"})
    (axis,) = figure.axes
    assert {bars.get_label() for bars in axis.containers} == {"rate 10 Hz", "rate 20 Hz"}
    figure = plot_sweep(sweep_of(ROWS), x="rate", units={"kind": "m"})
    assert {bars.get_label() for bars in figure.axes[0].containers} == {"kind a", "kind b"}


def test_sweep_of_one_seed_has_no_interval():
    figure = plot_sweep(sweep_of([row for row in ROWS if row["seed"] == 0]), lines="kind")
    (axis,) = figure.axes
    np.testing.assert_allclose(axis.containers[0][0].get_ydata(), [0.48, 0.69])
    assert axis.get_title() == "one seed"


def test_sweep_refuses_what_is_no_number():
    with pytest.raises(nn.InputError, match="value: expected one of accuracy, got 'loss'"):
        plot_sweep(sweep_of(ROWS), "loss", "rate")
    with pytest.raises(nn.InputError, match="by: unknown parameter 'synapse'"):
        plot_sweep(sweep_of(ROWS), "accuracy", "synapse")
    rows = [dict(row, accuracy=[0.5, 0.6]) for row in ROWS]
    with pytest.raises(nn.InputError, match="expected a number in each cell, got lists"):
        plot_sweep(sweep_of(rows), "accuracy", "rate")
    assert plt.get_fignums() == []


def test_confusion_shows_shares_of_the_right_class():
    steps = np.zeros((4, 1, 3), dtype=np.int8)
    steps[[0, 1, 2, 3], 0, [0, 1, 1, 1]] = 1
    answers = Result(
        layers=(LayerInfo("output", (3,), 1.0),),
        settings={"dt": 0.001, "n_steps": 1, "readout": "spike_count"},
        examples=np.arange(4),
        steps=steps,
    )
    figure = plot_confusion(answers, np.array([0, 0, 0, 1]), ["x", "y", "z"])
    axis = figure.axes[0]
    shares = axis.images[0].get_array()
    np.testing.assert_allclose(shares, [[100 / 3, 200 / 3, 0], [0, 100, 0], [0, 0, 0]])
    assert {text.get_text() for text in axis.texts} == {"33", "67", "100"}
    assert axis.get_ylabel() == "right class"
    assert axis.get_title() == "accuracy 50.0 % on 4 images"


def picture(figure):
    return np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)


def test_dense_weights_are_images_of_their_inputs():
    kernel = np.arange(6 * 3.0).reshape(6, 3) - 7
    figure = plot_weights(kernel, (2, 3))
    found = picture(figure)
    for neuron in range(3):
        np.testing.assert_array_equal(
            found[:2, 4 * neuron : 4 * neuron + 3], kernel[:, neuron].reshape(2, 3)
        )
    # The largest weight sets both ends of the scale.
    assert figure.axes[0].images[0].get_clim() == (-10, 10)
    figure = plot_weights(kernel)
    np.testing.assert_array_equal(picture(figure), kernel.T)


def test_convolutions_are_a_grid_of_filters_and_channels():
    kernel = np.arange(2 * 2 * 3 * 5.0).reshape(2, 2, 3, 5)
    figure = plot_weights(kernel, n_max=4)
    found = picture(figure)
    assert found.shape == (3 * 3, 4 * 3)
    np.testing.assert_array_equal(found[3:5, 6:8], kernel[:, :, 1, 2])
    assert np.isnan(found[2]).all()
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("filter", "input channel")
    # The figure is wide, whichever there are more of.
    figure = plot_weights(kernel.swapaxes(2, 3))
    np.testing.assert_array_equal(picture(figure)[6:8, 3:5], kernel[:, :, 2, 1])
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("input channel", "filter")


def test_kernels_over_steps_are_images_of_one_row():
    kernel = np.random.default_rng(0).normal(size=(5, 2, 3))
    np.testing.assert_array_equal(
        picture(plot_weights(kernel)), picture(plot_weights(kernel[np.newaxis]))
    )


def test_weights_of_another_shape_are_refused():
    with pytest.raises(nn.InputError, match="expected .rows, columns. of 6 inputs, got .3, 3."):
        plot_weights(np.ones((6, 2)), (3, 3))
    with pytest.raises(nn.InputError, match="expected no shape for a convolution"):
        plot_weights(np.ones((2, 2, 1, 1)), (2, 2))
    with pytest.raises(nn.InputError, match="n_max: expected a whole number of at least 1"):
        plot_weights(np.ones((6, 2)), n_max=0)


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_figures_are_saved_and_closed(tmp_path, result, ending):
    save_figure(plot_presentation(np.eye(3), result), tmp_path / f"figure.{ending}")
    assert (tmp_path / f"figure.{ending}").stat().st_size > 1000
    assert plt.get_fignums() == []


def test_a_backend_that_makes_figures_interactive_stays_so():
    """As a notebook's does: it is loaded by the first figure, and shows all later ones."""
    code = """
import os, sys, types
from matplotlib.backends import backend_agg
import matplotlib
backend = types.ModuleType("like_a_notebook")
backend.FigureCanvas = backend_agg.FigureCanvas
def loaded(name):  # what the backend does when it is loaded
    matplotlib.interactive(True)
    raise AttributeError(name)
backend.__getattr__ = loaded
sys.modules["like_a_notebook"] = backend
import numpy, nengonet.plots
nengonet.plots.plot_weights(numpy.eye(2))
print(matplotlib.is_interactive())
"""
    settings = {**os.environ, "MPLBACKEND": "module://like_a_notebook"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=settings, capture_output=True, text=True
    )
    assert ran.stdout == "True\n", ran.stderr
