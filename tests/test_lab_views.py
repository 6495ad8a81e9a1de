"""The figures of the lab: the content of their sources in all cases."""

import numpy as np
import pytest

pytest.importorskip("bokeh", reason="bokeh is not installed: it comes with the extra lab")

from bokeh.embed import json_item
from bokeh.models import Div, Image, Plot
from bokeh.palettes import Greys256

import nengonet as nn
from nengonet.laboratory import drawing, views
from nengonet.plots import COLOURS

BLUE, RED, ORANGE = COLOURS[0], COLOURS[1], COLOURS[4]


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


def grid(predictions, labels=None, shape=(3, 3), **given):
    images = np.linspace(0, 1, len(predictions) * int(np.prod(shape)))
    return views.image_grid(images.reshape(-1, *shape), labels, predictions, **given)


# -- the grid -------------------------------------------------------------------------------------


def test_marks_of_right_wrong_tied_and_no_answers():
    drawn, source = grid([3, 1, 0, np.nan, 2], [3, 2, 1, 0, 2], tied=[0, 0, 1, 0, 1])
    assert source.data["verdict"] == ["right", "wrong", "tie", "no answer", "tie"]
    assert source.data["words"] == ["✓ 3", "× 1\nis 2", "= 0\nis 1", "? none\nis 0", "= 2"]
    assert source.data["colour"] == [BLUE, RED, ORANGE, drawing.GREY, ORANGE]
    assert len({*zip(source.data["colour"], source.data["dash"], strict=True)}) == 4
    assert title(drawn).startswith("5 images: 2 right ✓ (blue), 3 wrong × (red), 2 tied")
    assert json_item(drawn)


@pytest.mark.parametrize(
    ("show", "expected"), [("all", [0, 1, 2, 3, 4, 5]), ("wrong", [1, 2, 4]), ("ties", [2, 3])]
)
def test_which_images_are_shown(show, expected):
    given = {"labels": [0, 1, 2, 3, 4, 5], "tied": [0, 0, 1, 1, 0, 0], "show": show}
    drawn, source = grid([0, 0, 0, 3, 0, 5], **given)
    assert list(source.data["index"]) == expected
    assert f"1 to {len(expected)} of {len(expected)}" in title(drawn)
    later = grid([0, 0, 0, 3, 0, 5], start=1, n=1, **given)
    assert list(later[1].data["index"]) == expected[1:2]
    assert f"2 to 2 of {len(expected)}" in title(later[0])


def test_a_page_of_images_has_rows_that_do_not_overlap():
    _, source = grid(np.zeros(95))
    assert len(source.data["index"]) == 36
    assert len({*zip(source.data["x"], source.data["y"], strict=True)}) == 36
    assert np.diff(np.unique(source.data["y"])).min() > 1.2


def test_nothing_is_wrong():
    drawn, source = grid([1, 1], [1, 1], show="wrong")
    assert len(source.data["index"]) == 0
    assert "0 wrong" in title(drawn)
    assert "Shown: wrong ones, none" in title(drawn)
    assert json_item(drawn)


def test_without_labels_nothing_is_right_or_wrong():
    drawn, source = grid([7])
    assert source.data["words"] == ["7"]
    assert source.data["right"] == ["unknown"]
    assert "right" not in title(drawn)
    assert title(drawn).startswith("1 image ")


def test_class_names():
    names = ["boot", "sandal", "ankle boot"]
    _, source = grid([0, 2], [0, 1], class_names=names)
    assert source.data["words"] == ["✓ boot", "× ankle boot\nis sandal"]
    with pytest.raises(nn.InputError, match="class_names: expected 4, one for each output, got 3"):
        grid([0, 3], [0, 1], class_names=names)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": [1]}, "labels: expected 2, one for each prediction, got 1"),
        ({"tied": [True]}, "tied: expected 2, one for each prediction, got 1"),
        ({"show": "right"}, "show: expected one of all, wrong, ties, got 'right'"),
    ],
)
def test_grids_that_do_not_fit(given, message):
    with pytest.raises(nn.InputError, match=message):
        grid([0, 1], **given)


def channels(pixels):
    """Return red, green, blue and alpha, from top to bottom."""
    return np.ascontiguousarray(pixels)[::-1].view(np.uint8).reshape(*pixels.shape, 4)


@pytest.mark.parametrize("dtype", [float, np.uint8, bool])
def test_grey_images_have_their_first_row_on_top(dtype):
    image = np.array([[1, 1], [0, 0]]) * (255 if dtype is np.uint8 else 1)
    seen = channels(drawing.as_rgba(image[np.newaxis].astype(dtype))[0])
    np.testing.assert_array_equal(seen[..., :3], [[[255] * 3] * 2, [[0] * 3] * 2])
    assert (seen[..., 3] == 255).all()


def test_bytes_are_grey_levels_up_to_255():
    seen = channels(drawing.as_rgba(np.array([[[0, 100]]], dtype=np.uint8))[0])
    assert seen[0, :, 0].tolist() == [0, 100]


def test_colours_of_images():
    image = np.zeros((1, 1, 2, 3))
    image[0, 0, 0, 0] = image[0, 0, 1, 2] = 1.0
    seen = channels(drawing.as_rgba(image)[0])
    np.testing.assert_array_equal(seen[0, :, :3], [[255, 0, 0], [0, 0, 255]])


def test_images_of_other_ranges_channels_and_shapes():
    seen = channels(drawing.as_rgba(np.array([[[-2.0, 0.0, 2.0]]]))[0])
    np.testing.assert_array_equal(seen[0, :, 0], [0, 128, 255])
    seen = channels(drawing.as_rgba(np.full((1, 1, 1, 5), [0.0, 0.5, 1.0, 0.0, 1.0]))[0])
    np.testing.assert_array_equal(seen[0, 0], [128, 128, 128, 255])
    assert drawing.as_rgba(np.zeros((2, 7))).shape == (2, 1, 7)
    assert channels(drawing.as_rgba(np.array([[np.nan, 1.0]]))[0])[0, :, 0].tolist() == [0, 255]


# -- one image ------------------------------------------------------------------------------------


def example(spikes, scores=((0, 1), (1, 1), (1, 3)), image=None, **given):
    image = np.eye(2) if image is None else image
    return views.example_view(image, {"hidden": np.asarray(spikes)}, scores, 0.001, **given)


def test_every_spike_is_a_mark():
    spikes = np.zeros((3, 4), dtype=int)
    spikes[0, 1], spikes[2, 3], spikes[2, 0] = 1, 2, -1
    raster = named(example(spikes), "raster hidden")
    marks = data(raster)
    rows = sorted(zip(marks["time"], marks["neuron"], marks["count"], strict=True))
    np.testing.assert_allclose(rows, [(1, 1, 1), (3, 0, 1), (3, 3, 2)])
    assert marks["width"][list(marks["count"]).index(2)] > min(marks["width"])
    assert title(raster) == "hidden: 4 spikes of 4 neurons, mean 333.3 Hz"


@pytest.mark.parametrize("shape", [(350, 784), (101, 161), (1, 9001), (9001, 1), (61, 28_800)])
def test_many_spikes_are_an_image_that_holds_all_of_them(shape):
    spikes = np.random.default_rng(shape[0]).poisson(0.8, shape)
    view = example(spikes, np.zeros((shape[0], 2)))
    raster = named(view, "raster hidden")
    counts, rates = data(raster)["spikes"][0], data(raster)["image"][0]
    assert counts.sum() == spikes.sum()
    assert f"{spikes.sum():,} spikes" in title(raster)
    assert counts.size <= 60 * 120
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
    assert "white 0, black 1,000 Hz" in title(view)
    mapper = view.renderers[0].glyph.color_mapper
    assert (mapper.low, mapper.high, mapper.palette[0]) == (0, 1000, Greys256[-1])


def test_no_spikes_at_all_and_a_single_neuron():
    raster = named(example(np.zeros((3, 1), dtype=int)), "raster hidden")
    assert len(data(raster)["time"]) == 0
    assert title(raster) == "hidden: no spikes of 1 neuron"


def test_rasters_and_scores_share_their_time():
    view = example(np.ones((3, 2), dtype=int))
    raster, output = named(view, "raster hidden"), named(view, "output")
    assert raster.x_range is output.x_range
    assert (output.x_range.start, output.x_range.end) == (0, 3)
    assert output.xaxis[0].axis_label == "time (ms)"


def curve(view, name):
    shown = data(named(view, "output"))
    k = shown["class"].index(name)
    return {key: each[k] for key, each in shown.items()}


def test_scores_are_steps_that_begin_at_0():
    one = curve(example(np.ones((3, 2), dtype=int)), "1")
    np.testing.assert_allclose(one["x"], [0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(one["y"], [0, 0, 1, 1, 1, 1, 3])
    assert one["last"] == 3


def test_scores_that_have_no_value_before_the_first_step():
    scores = np.array([[-np.inf, 2.0], [1.0, 2.0]])
    view = example(np.ones((2, 2), dtype=int), scores, readout="first_spike")
    np.testing.assert_allclose(curve(view, "0")["y"], [np.nan, np.nan, np.nan, np.nan, 1.0])
    assert "first spike" in title(named(view, "output"))


@pytest.mark.parametrize(
    ("label", "prediction", "colours", "words"),
    [
        (1, 0, {"0": RED, "1": BLUE}, {"0 (answer)", "1 (right)"}),
        (1, 1, {"0": drawing.GREY, "1": BLUE}, {"0", "1 (answer)"}),
        (None, 0, {"0": BLUE, "1": drawing.GREY}, {"0 (answer)", "1"}),
        (0, np.nan, {"0": BLUE, "1": drawing.GREY}, {"0 (right)", "1"}),
    ],
)
def test_curves_are_named_where_they_end(label, prediction, colours, words):
    view = example(np.ones((3, 2), dtype=int), label=label, prediction=prediction)
    for name, colour in colours.items():
        assert curve(view, name)["colour"] == colour
    axis = named(view, "output").right[0]
    assert set(axis.major_label_overrides.values()) == words
    assert sorted(axis.ticker.ticks) == [1, 3]


def test_curves_that_end_close_together_share_a_name():
    scores = np.array([[0.0, 0.0, 99.0, 100.0, 50.0]])
    view = example(np.ones((1, 2), dtype=int), scores, label=2, prediction=3)
    found = named(view, "output").right[0].major_label_overrides
    assert set(found.values()) == {"3 (answer), 2 (right)", "4", "0, 1"}


def texts(view):
    return " ".join(each.text for each in parts(view) if isinstance(each, Div))


def test_the_answer_is_said_beside_the_image():
    given = {"class_names": ["cat", "<b>dog"], "label": 0, "name": "image 17"}
    said = texts(example(np.ones((3, 2), dtype=int), prediction=1, tied=True, **given))
    assert "image 17" in said
    assert "= &lt;b&gt;dog" in said  # nobody's names are markup
    assert "right class: cat" in said
    assert "a tie" in said
    said = texts(example(np.ones((3, 2), dtype=int), **given))
    assert "? none" in said


@pytest.mark.parametrize("shape", [(5,), (4, 6), (4, 6, 1), (4, 6, 3), (8, 200)])
def test_images_of_all_shapes(shape):
    view = example(np.ones((3, 2), dtype=int), image=np.zeros(shape))
    picture = figures(view)[0]
    rows, columns = data(picture)["image"][0].shape
    assert rows * columns == np.prod(shape[:2])
    assert (picture.x_range.end, picture.y_range.end) == (columns, rows)


# -- one neuron -----------------------------------------------------------------------------------

TUNING = (np.linspace(-1, 3, 9), np.maximum(np.linspace(-1, 3, 9), 0) * 100)
TRACES = {"current": [0.5, 1.5], "voltage": [0.1, 0.9], "spikes": [0, 2]}


def neuron(weights=(1.0, -2.0, 3.0), shape=None, currents=(0.0, 1.0, 1.0), **given):
    given = {"traces": TRACES, "rates": (120.0, 100.0)} | given
    return views.neuron_view(weights, shape, TUNING, currents, dt=0.001, name="n[3]", **given)


def weights_of(view):
    drawn = named(view, "weights of")
    return drawn, next(each for each in drawn.renderers if isinstance(each.glyph, Image))


def test_weights_of_a_dense_layer_are_an_image_around_0():
    drawn, glyph = weights_of(neuron(np.arange(6.0) - 1, (2, 3)))
    shown = glyph.data_source.data
    np.testing.assert_array_equal(shown["image"][0], [[-1, 0, 1], [2, 3, 4]])
    np.testing.assert_array_equal(shown["row"][0], [[0, 0, 0], [1, 1, 1]])
    assert (glyph.glyph.color_mapper.low, glyph.glyph.color_mapper.high) == (-4, 4)
    assert drawn.y_range.start > drawn.y_range.end  # the first row on top
    assert (drawn.xaxis[0].axis_label, drawn.yaxis[0].axis_label) == ("column", "row")


def test_tiles_hold_every_weight_once_with_its_place():
    kernel = np.random.default_rng(1).normal(size=(2, 3, 7))
    drawn, glyph = weights_of(neuron(kernel))
    shown = {word: each[0] for word, each in glyph.data_source.data.items()}
    there = np.isfinite(shown["image"])
    places = [shown[word][there].astype(int) for word in ("row", "column", "channel")]
    assert there.sum() == kernel.size
    assert len(set(zip(*places, strict=True))) == kernel.size
    np.testing.assert_array_equal(shown["image"][there], kernel[tuple(places)])
    np.testing.assert_array_equal(shown["image"][:2, :3], kernel[..., 0])
    np.testing.assert_array_equal(shown["image"][:2, 4:7], kernel[..., 1])
    assert "7 channels" in title(drawn)


def test_a_convolution_over_many_channels_says_how_many_are_drawn():
    drawn, glyph = weights_of(neuron(np.ones((1, 1, 100))))
    assert np.isfinite(glyph.data_source.data["image"][0]).sum() == 64
    assert "64 of 100 channels" in title(drawn)


@pytest.mark.parametrize(
    ("weights", "shape", "drawn_shape", "labels"),
    [
        (np.ones(5), None, (1, 5), ("input", "")),
        (np.ones(5), (5,), (1, 5), ("input", "")),
        (np.ones((4, 2)), None, (2, 4), ("step of the kernel", "channel")),
        (np.ones(6), (2, 3, 1), (2, 3), ("column", "row")),
        (np.zeros(4), (2, 2), (2, 2), ("column", "row")),
    ],
)
def test_weights_of_other_shapes(weights, shape, drawn_shape, labels):
    drawn, glyph = weights_of(neuron(weights, shape))
    assert glyph.data_source.data["image"][0].shape == drawn_shape
    assert (drawn.xaxis[0].axis_label, drawn.yaxis[0].axis_label or "") == labels
    assert glyph.glyph.color_mapper.high == -glyph.glyph.color_mapper.low > 0


def test_a_neuron_without_weights_and_a_shape_that_does_not_fit():
    assert not [each for each in figures(neuron(())) if "weights" in each.title.text]
    with pytest.raises(nn.InputError, match=r"shape: expected that of 3 inputs, got \(2, 2\)"):
        neuron(shape=(2, 2))


def test_rates_are_told_and_stand_on_the_curve():
    view = neuron()
    curve_ = named(view, "n[3]: observed")
    assert title(curve_) == "n[3]: observed 120.0 Hz (red), predicted 100.0 Hz (blue)"
    points = [data(curve_, k) for k in (1, 2)]
    assert [(float(each["x"][0]), float(each["y"][0])) for each in points] == [(1, 100), (1, 120)]
    histogram = named(view, "its mean current in each of 3 images")
    assert histogram.x_range is curve_.x_range
    assert data(histogram)["count"].sum() == 3


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
    assert data(histogram)["count"].sum() == np.isfinite(currents).sum()


def test_traces_share_their_time_and_tell_their_range():
    view = neuron()
    shown = [named(view, f"{word} of n[3]") for word in TRACES]
    assert len({id(each.x_range) for each in shown}) == 1
    assert title(shown[0]) == "current of n[3]: mean 1, 0.5 to 1.5"
    assert title(shown[2]) == "spikes of n[3]: 2 spikes"
    np.testing.assert_allclose(data(shown[1])["time"], [1, 2])
    np.testing.assert_allclose(data(shown[1])["value"], [0.1, 0.9])
    assert shown[2].y_range.end == 2
    silent = named(neuron(traces={"spikes": [0, 0, 0]}), "spikes of")
    assert title(silent).endswith("0 spikes")


def test_whole_layouts_can_be_sent_to_a_browser():
    for view in (example(np.ones((3, 2), dtype=int)), neuron(np.ones((2, 2, 3)), traces={})):
        assert json_item(view)


# -- one layer ------------------------------------------------------------------------------------


def scatter_of(*rates, **given):
    view, source = views.layer_view(*rates, name="hidden", **given)
    return named(view, "hidden"), source, named(view, "how often")


def test_every_rate_is_a_point():
    observed, predicted = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3) * 2
    drawn, source, _ = scatter_of(observed, predicted, ceiling=5.0)
    where = source.data["image"], source.data["neuron"]
    np.testing.assert_array_equal(source.data["observed"], observed[where])
    np.testing.assert_array_equal(source.data["predicted"], predicted[where])
    assert len(set(zip(*where, strict=True))) == 6
    assert "17% silent, 17% saturated (over 4 Hz)" in title(drawn)  # one of six each; 4.5 is even
    assert list(data(drawn)["x"]) == list(data(drawn)["y"]) == [0.0, 10.0]  # the diagonal


def test_a_huge_layer_is_drawn_in_part_but_counted_whole():
    rng = np.random.default_rng(3)
    observed = rng.poisson(1.0, (500, 640)) * 10.0
    drawn, source, bars = scatter_of(observed, observed + 1)
    assert len(source.data["observed"]) == 4000
    assert "4,000 of 320,000 rates are drawn" in title(drawn)
    assert f"{np.mean(observed == 0):.0%} silent" in title(drawn)
    # Neurons and images of all parts of the layer.
    assert len(set(source.data["neuron"])) > 600
    assert len(set(source.data["image"])) > 490
    np.testing.assert_array_equal(
        source.data["observed"], observed[source.data["image"], source.data["neuron"]]
    )
    np.testing.assert_allclose(data(bars)["share"].sum(), 100 * np.mean(observed > 0))


def test_bins_hold_equally_many_counts():
    observed = np.arange(1, 201).reshape(10, 20) * 4.0
    _, _, bars = scatter_of(observed, observed * np.nan)
    shares = data(bars)["share"]
    np.testing.assert_allclose(shares[:-1], shares[0])
    np.testing.assert_allclose(shares.sum(), 100)


@pytest.mark.parametrize("predicted", [None, np.full((1, 4), np.nan)])
def test_a_layer_without_predictions(predicted):
    drawn, source, bars = scatter_of([[0.0, 0.0, 5.0, 0.0]], predicted)
    assert len(source.data["image"]) == 0
    assert "75% silent" in title(drawn)
    assert "no prediction" in title(drawn)
    assert data(bars)["share"].sum() == 25


def test_a_silent_layer_and_one_neuron():
    drawn, source, bars = scatter_of(np.zeros((1, 1)), np.zeros((1, 1)))
    assert "100% silent" in title(drawn)
    assert len(source.data["image"]) == 1
    assert data(bars)["share"].sum() == 0


def test_shares_are_0_or_100_only_where_they_are():
    few = np.arange(10_000) < 1
    assert [drawing.share(each) for each in (few, ~few)] == ["under 0.1%", "over 99.9%"]
    assert drawing.share(few & ~few) == "0%"
    assert drawing.share(np.arange(1000) < 4) == "0.4%"


def test_rates_that_do_not_fit_each_other():
    with pytest.raises(nn.InputError, match=r"got \(2, 2\), \(1, 2\)"):
        views.layer_view(np.zeros((2, 2)), np.zeros((1, 2)))
