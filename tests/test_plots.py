import matplotlib.pyplot as plt
import numpy as np
import pytest

import nengonet as nn
from nengonet.budget import Budget, Step
from nengonet.diagnosis import Comparison
from nengonet.plots import (
    check_figure_path,
    plot_budget,
    plot_comparison,
    plot_logits,
    plot_presentation,
    save_figure,
)
from nengonet.readout import scores
from nengonet.results import LayerInfo, Result

RASTER = np.zeros((1, 6, 3), dtype=int)
RASTER[0, [0, 2, 5], [1, 1, 2]] = 1


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
    plt.close(figure)


def test_a_result_without_rasters_is_refused(result):
    result.rasters.clear()
    with pytest.raises(nn.InputError, match="expected a result with rasters"):
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
    plt.close(figure)


def test_budget_is_a_waterfall():
    steps = tuple(
        Step(name, level, change, (change - 3, change + 3), "")
        for name, level, change in [("ANN", 0.9, 0.0), ("noise", 0.7, -20.0), ("time", 0.75, 5.0)]
    )
    figure = plot_budget(Budget(steps, n_images=10, n_repeats=2))
    (axis,) = figure.axes
    bars = [(bar.get_x(), bar.get_width()) for bar in axis.patches]
    np.testing.assert_allclose(bars, [(0, 90), (0, 75), (90, -20), (70, 5)])
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "ANN",
        "noise",
        "time",
        "as it is run",
    ]
    assert {text.get_text() for text in axis.texts} == {"-20.0", "+5.0", "90.0 %", "75.0 %"}
    plt.close(figure)


def test_logits_of_every_network_and_image():
    outputs = {"one": np.arange(24.0).reshape(2, 4, 3), "other": np.ones((2, 4, 3))}
    times = 0.001 * np.arange(1, 5)
    figure = plot_logits(times, outputs, ["cat", "dog", "frog"], ["first", "second"], [2, 0])
    (left, right), (below, _) = np.reshape(figure.axes, (2, 2))
    for k in range(3):
        np.testing.assert_allclose(left.lines[k].get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(right.lines[k].get_ydata(), outputs["one"][1, :, k])
    assert [line.get_linewidth() for line in left.lines] == [1.2, 1.2, 2.6]
    assert [line.get_linewidth() for line in right.lines] == [2.6, 1.2, 1.2]
    assert (left.get_title(), right.get_title()) == ("first", "second")
    assert below.get_ylabel() == "other\nlogit"
    assert below.get_xlabel() == "time (ms)"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["cat", "dog", "frog"]
    plt.close(figure)


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_figures_are_saved_and_closed(tmp_path, result, ending):
    save_figure(plot_presentation(np.eye(3), result), tmp_path / f"figure.{ending}")
    assert (tmp_path / f"figure.{ending}").stat().st_size > 1000
    assert plt.get_fignums() == []
