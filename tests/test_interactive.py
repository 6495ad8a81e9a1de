"""The figures of the lab and of notebooks: the content of their sources in all cases."""

import numpy as np
import pytest

pytest.importorskip("bokeh", reason="bokeh is not installed: it comes with the extra lab")

from bokeh.embed import json_item
from bokeh.models import Image, Plot
from bokeh.palettes import Greys256

import nengonet as nn
from nengonet.plots import COLOURS, interactive

BLUE, RED = COLOURS[:2]


def parts(view):
    """Return the parts of a layout, from left to right and from top to bottom."""
    inside = [
        each[0] if isinstance(each, tuple) else each for each in getattr(view, "children", ())
    ]
    return [view, *(found for each in inside for found in parts(each))]


def figures(view):
    return [each for each in parts(view) if isinstance(each, Plot)]


def named(view, start):
    """Return the only figure whose title or name starts with these words."""
    found = [
        each
        for each in figures(view)
        if each.title.text.startswith(start) or str(each.name).startswith(start)
    ]
    assert len(found) == 1, [each.title.text for each in figures(view)]
    return found[0]


def data(drawn, glyph=0):
    return drawn.renderers[glyph].data_source.data


def title(drawn):
    return drawn.title.text.replace("\n", " ")


# -- one image ------------------------------------------------------------------------------------


class OneImage:
    """A result of one image, as far as the view asks."""

    dt = 0.001

    def __init__(self, spikes, scores, prediction, readout):
        self.rasters = {"hidden": np.asarray(spikes)[np.newaxis]}
        self._found, self.settings = (scores, prediction), {"readout": readout}

    def scores(self):
        return np.array([self._found[0]], dtype=float)

    def predictions(self):
        return np.array([self._found[1]])


SCORES = ((0, 1), (1, 1), (1, 3))


def example(spikes, scores=SCORES, label=None, prediction=1, readout="spike_count"):
    result = OneImage(spikes, scores, prediction, readout)
    return interactive.plot_example(result, label, list(map(str, range(np.shape(scores)[1]))))


def test_every_spike_is_at_its_neuron_and_step():
    spikes = np.zeros((3, 4), dtype=int)
    spikes[0, 1], spikes[2, 3], spikes[2, 0] = 1, 2, -1
    raster = named(example(spikes), "raster hidden")
    np.testing.assert_array_equal(data(raster)["spikes"][0], np.abs(spikes.T))
    np.testing.assert_array_equal(data(raster)["image"][0], 1000 * np.abs(spikes.T))
    assert (data(raster)["dw"][0], data(raster)["dh"][0]) == (3, 4)  # ms, neurons
    said = "hidden, 4 neurons: 4 spikes, mean 333.3 Hz black: 2,000 Hz"
    assert title(raster) == said


@pytest.mark.parametrize("shape", [(350, 784), (101, 161), (1, 9001), (9001, 1), (61, 28_800)])
def test_many_spikes_are_an_image_that_holds_all_of_them(shape):
    spikes = np.random.default_rng(shape[0]).poisson(0.8, shape)
    view = example(spikes, np.zeros((shape[0], 2)))
    raster = named(view, "raster hidden")
    counts, rates = data(raster)["spikes"][0], data(raster)["image"][0]
    assert counts.sum() == spikes.sum()
    assert f"{spikes.sum():,} spikes" in title(raster)
    assert counts.size <= 100 * 400
    # From the rates, and what each block covers of the axes, the spikes again.
    a_step = raster.x_range.end / shape[0]
    sizes = data(raster)["dh"][0] / len(counts), data(raster)["dw"][0] / counts.shape[1] / a_step
    covered = [
        np.minimum(size, n - size * np.arange(n_blocks))
        for size, n, n_blocks in zip(sizes, shape[::-1], counts.shape, strict=True)
    ]
    np.testing.assert_allclose(rates * np.outer(*covered) * 0.001, counts)


def test_blocks_are_where_the_spikes_are():
    spikes = np.zeros((200, 6000), dtype=int)
    spikes[100:, 3000:] = 1
    view = named(example(spikes), "raster hidden")
    image = data(view)["image"][0]
    half = np.array(image.shape) // 2
    assert (image[half[0] :, half[1] :] == 1000).all()  # Hz: one in each step
    assert image.sum() == image[half[0] :, half[1] :].sum()
    assert "black: 1,000 Hz in a block of 60 neurons x 1 step" in title(view)
    mapper = view.renderers[0].glyph.color_mapper
    assert (mapper.low, mapper.high, mapper.palette[0]) == (0, 1000, Greys256[-1])


def test_no_spikes_at_all_and_a_single_neuron():
    raster = named(example(np.zeros((3, 1), dtype=int)), "raster hidden")
    assert data(raster)["spikes"][0].tolist() == [[0, 0, 0]]
    assert title(raster) == "hidden, 1 neuron: no spikes"
    assert raster.renderers[0].glyph.color_mapper.high > 0


def test_rasters_and_scores_share_their_time():
    view = example(np.ones((3, 2), dtype=int))
    raster, output = named(view, "raster hidden"), named(view, "scores")
    assert raster.x_range is output.x_range
    assert (output.x_range.start, output.x_range.end) == (0, 3)
    assert output.xaxis[0].axis_label == "time (ms)"


def curve(view, name):
    shown = data(named(view, "scores"))
    k = [each.split(" (")[0] for each in shown["class"]].index(name)
    return {key: each[k] for key, each in shown.items()}


def legend_of(view):
    return [each.label.value for each in named(view, "scores").legend.items]


def test_scores_are_steps_that_begin_at_0():
    one = curve(example(np.ones((3, 2), dtype=int)), "1")
    np.testing.assert_allclose(one["x"], [0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(one["y"], [0, 0, 1, 1, 1, 1, 3])
    assert one["end"] == "3"


def test_scores_that_have_no_value_before_the_first_step():
    scores = np.array([[-np.inf, 2.0], [1.0, 2.0]])
    view = example(np.ones((2, 2), dtype=int), scores, readout="first_spike")
    np.testing.assert_allclose(curve(view, "0")["y"], [np.nan, np.nan, np.nan, np.nan, 1.0])
    assert "first spike" in title(named(view, "scores"))


@pytest.mark.parametrize(
    ("label", "prediction", "colours", "legend"),
    [
        (1, 0, {"0": RED, "1": BLUE}, ["1 (right): 3", "0 (answer): 1"]),
        (1, 1, {"0": interactive.GREY, "1": BLUE}, ["1 (answer): 3", "0: 1"]),
        (None, 0, {"0": BLUE, "1": interactive.GREY}, ["1: 3", "0 (answer): 1"]),
        (0, 0, {"0": BLUE, "1": interactive.GREY}, ["1: 3", "0 (answer): 1"]),
    ],
)
def test_the_legend_has_classes_from_the_highest_score_on(label, prediction, colours, legend):
    view = example(np.ones((3, 2), dtype=int), label=label, prediction=prediction)
    for name, colour in colours.items():
        assert curve(view, name)["colour"] == colour
    assert legend_of(view) == legend


def test_of_many_classes_the_legend_has_the_highest_and_the_right_one():
    scores = np.arange(50.0)[np.newaxis]
    found = legend_of(example(np.ones((1, 2), dtype=int), scores, label=3, prediction=49))
    assert len(found) == 13
    assert (found[0], *found[11:]) == ("49 (answer): 49", "38: 38", "3 (right): 3")


# -- one neuron -----------------------------------------------------------------------------------

TUNING = (np.linspace(-1, 3, 9), np.maximum(np.linspace(-1, 3, 9), 0) * 100)
TRACES = {"current": [0.5, 1.5], "voltage": [0.1, 0.9], "spikes": [0, 2]}


def neuron(weights=(1.0, -2.0, 3.0), currents=(0.0, 1.0, 1.0), **given):
    given = {"traces": TRACES, "rates": (120.0, 100.0)} | given
    return interactive.plot_neuron(weights, TUNING, currents, dt=0.001, name="n[3]", **given)


def weights_of(view):
    drawn = named(view, "weights of")
    return drawn, next(each for each in drawn.renderers if isinstance(each.glyph, Image))


def test_weights_of_a_dense_layer_are_an_image_around_0():
    drawn, glyph = weights_of(neuron(np.arange(6.0).reshape(2, 3) - 1))
    shown = glyph.data_source.data
    np.testing.assert_array_equal(shown["weight"][0], [[-1, 0, 1], [2, 3, 4]])
    np.testing.assert_array_equal(shown["row"][0], [[0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(shown["column"][0], [[0, 1, 2], [0, 1, 2]])
    assert (glyph.glyph.color_mapper.low, glyph.glyph.color_mapper.high) == (-4, 4)
    assert drawn.y_range.start > drawn.y_range.end  # the first row on top
    assert title(drawn) == "weights of n[3] purple excites, orange inhibits"


def test_tiles_hold_every_weight_once_with_its_place():
    kernel = np.random.default_rng(1).normal(size=(2, 3, 7))
    drawn, glyph = weights_of(neuron(kernel))
    shown = {word: each[0] for word, each in glyph.data_source.data.items()}
    there = np.isfinite(shown["weight"])
    places = [shown[word][there].astype(int) for word in ("row", "column", "channel")]
    assert there.sum() == kernel.size
    assert len(set(zip(*places, strict=True))) == kernel.size
    np.testing.assert_array_equal(shown["weight"][there], kernel[tuple(places)])
    np.testing.assert_array_equal(shown["weight"][:2, :3], kernel[..., 0])
    np.testing.assert_array_equal(shown["weight"][:2, 4:7], kernel[..., 1])
    assert "7 channels" in title(drawn)


def test_a_convolution_over_many_channels_says_how_many_are_drawn():
    drawn, glyph = weights_of(neuron(np.ones((1, 1, 100))))
    assert np.isfinite(glyph.data_source.data["weight"][0]).sum() == 64
    assert "64 of 100 channels" in title(drawn)


@pytest.mark.parametrize(
    ("shape", "drawn_shape"),
    [((5,), (1, 5)), ((1, 4, 2), (3, 4)), ((2, 3, 1), (2, 3)), ((2, 2), (2, 2))],
)
def test_weights_of_other_shapes(shape, drawn_shape):
    for weights in (np.ones(shape), np.zeros(shape)):
        _, glyph = weights_of(neuron(weights))
        assert glyph.data_source.data["weight"][0].shape == drawn_shape
        assert glyph.glyph.color_mapper.high == -glyph.glyph.color_mapper.low > 0


def test_a_neuron_without_weights():
    assert not [each for each in figures(neuron(())) if "weights" in each.title.text]


def test_rates_are_told_and_stand_on_the_curve():
    view = neuron()
    curve_ = named(view, "n[3]: observed")
    assert title(curve_) == "n[3]: observed 120.0 Hz (red), predicted 100.0 Hz (blue)"
    points = [data(curve_, k) for k in (1, 2)]
    assert [(float(each["x"][0]), float(each["y"][0])) for each in points] == [(1, 100), (1, 120)]
    histogram = named(view, "its mean current in each of 3 images")
    assert histogram.x_range is curve_.x_range
    assert data(histogram)["top"].sum() == 3


@pytest.mark.parametrize(
    ("rates", "words"),
    [((np.nan, 5.0), "not observed, predicted"), ((5.0, np.nan), "observed 5.0 Hz (red), no pred")],
)
def test_unknown_rates(rates, words):
    curve_ = named(neuron(rates=rates), "n[3]")
    assert words in title(curve_)
    assert len(curve_.renderers) == 2


@pytest.mark.parametrize("currents", [[], [2.0], [2.0, 2.0], [np.nan, 1.0, 3.0]])
def test_histograms_of_few_currents(currents):
    histogram = named(neuron(currents=currents), "its mean current")
    assert data(histogram)["top"].sum() == np.isfinite(currents).sum()


def test_traces_share_their_time_and_tell_their_range():
    view = neuron()
    shown = [named(view, f"{word} of n[3]") for word in TRACES]
    assert len({id(each.x_range) for each in shown}) == 1
    assert title(shown[0]) == "current of n[3]: mean 1, 0.5 to 1.5"
    assert title(shown[2]) == "spikes of n[3]: 2 spikes"
    np.testing.assert_allclose(data(shown[1])["x"], [1, 2])
    np.testing.assert_allclose(data(shown[1])["y"], [0.1, 0.9])
    silent = named(neuron(traces={"spikes": [0, 0, 0]}), "spikes of")
    assert title(silent).endswith("0 spikes")


def test_whole_layouts_can_be_sent_to_a_browser():
    for view in (example(np.ones((3, 2), dtype=int)), neuron(np.ones((2, 2, 3)), traces={})):
        assert json_item(view)


# -- one layer ------------------------------------------------------------------------------------


def scatter_of(observed, predicted, **given):
    rates = np.asarray(observed, float), np.asarray(predicted, float)
    drawn = interactive.plot_layer(*rates, name="hidden", **given)
    return drawn, drawn.renderers[1].data_source


def test_every_rate_is_a_point():
    observed, predicted = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3) * 2
    drawn, source = scatter_of(observed, predicted, ceiling=5.0)
    where = source.data["image"], source.data["neuron"]
    np.testing.assert_array_equal(source.data["observed"], observed[where])
    np.testing.assert_array_equal(source.data["predicted"], predicted[where])
    assert len(set(zip(*where, strict=True))) == 6
    # One of six each; 4.5 is even.
    assert "16.7% silent, 16.7% saturated (over 4 Hz)" in title(drawn)
    assert list(data(drawn)["x"]) == list(data(drawn)["y"]) == [0.0, 10.0]  # the diagonal


def test_a_huge_layer_is_drawn_in_part_but_counted_whole():
    rng = np.random.default_rng(3)
    observed = rng.poisson(1.0, (500, 640)) * 10.0
    drawn, source = scatter_of(observed, observed + 1)
    assert len(source.data["observed"]) == 4000
    assert "4,000 of 320,000 rates are drawn" in title(drawn)
    assert f"{np.mean(observed == 0):.1%} silent" in title(drawn)
    # Neurons and images of all parts of the layer.
    assert len(set(source.data["neuron"])) > 600
    assert len(set(source.data["image"])) > 490
    np.testing.assert_array_equal(
        source.data["observed"], observed[source.data["image"], source.data["neuron"]]
    )


def test_a_layer_without_predictions():
    drawn, source = scatter_of([[0.0, 0.0, 5.0, 0.0]], np.full((1, 4), np.nan))
    assert len(source.data["image"]) == 0
    assert "75.0% silent" in title(drawn)
    assert "no prediction" in title(drawn)


def test_rates_of_two_shapes_are_refused():
    message = r"one shape, \(n_images, n_neurons\), got \(2, 3\) and \(3, 2\)"
    with pytest.raises(nn.InputError, match=message):
        interactive.plot_layer(np.ones((2, 3)), np.ones((3, 2)))


def test_a_silent_layer_and_one_neuron():
    drawn, source = scatter_of(np.zeros((1, 1)), np.zeros((1, 1)))
    assert "100% silent" in title(drawn)
    assert len(source.data["image"]) == 1


def test_shares_are_0_or_100_only_where_they_are():
    few = np.arange(10_000) < 1
    assert [interactive.share(each) for each in (few, ~few)] == ["under 0.1%", "over 99.9%"]
    assert interactive.share(few & ~few) == "0%"
    assert interactive.share(np.arange(1000) < 4) == "0.4%"
