"""What the lab shows of images, neurons and layers: Bokeh figures of plain arrays.

`image_grid` and the functions named ``…_view`` return a figure, or a layout of figures, as wide as
what holds it. One word means the same in all of them:

``image``, ``images``
    (rows, columns), (rows, columns, channels) or (n_inputs,) array_like; one for each image. Values
    in [0, 1] are drawn from black to white, others from their least to their largest; three
    channels are red, green and blue, any other number of them is drawn as their mean.
``label``, ``labels``, ``prediction``, ``predictions``
    Right class and answer, numbers from 0; an answer that is NaN or below 0 is none.
``class_names``
    A name for each class, by default its number.
``tied``
    Whether several classes had the highest score; of one image, or of each.
``dt``
    Step, in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LayoutDOM,
    LinearAxis,
    LinearColorMapper,
    Range1d,
    TapTool,
)
from bokeh.palettes import Greys256
from bokeh.plotting import figure
from matplotlib import colormaps
from matplotlib.colors import to_hex

from nengonet.checks import check_among
from nengonet.exceptions import InputError
from nengonet.explain.findings import SATURATED
from nengonet.plots.frame import COLOURS, names_of_classes, step_ends

_BLUE, _RED, _GREEN, _PINK, _ORANGE = COLOURS
_GREY, _INK = "#8A8A8A", "#222222"
_DIVERGING = [to_hex(colormaps["PuOr"](k)) for k in range(256)]  # as nengonet.plots has weights
# By verdict: colour, width and dashes of the frame, and the sign beside the answer.
_FRAMES = {
    "right": (_BLUE, 1.5, "solid", "✓"),
    "wrong": (_RED, 4.0, "solid", "×"),
    "tie": (_ORANGE, 4.0, "dashed", "="),
    "no answer": (_GREY, 4.0, "dotted", "?"),
    "": (_GREY, 1.5, "solid", ""),
}
_SHOWN = {"all": "all", "wrong": "wrong ones", "ties": "ties"}
_PITCH = 1.5  # of the rows of a grid, in widths of an image: two lines of text under each
_MOST_MARKS = 4000  # spikes of a raster that are drawn one by one
_MOST_BLOCKS = (120, 400)  # of neurons and of steps, in a raster that is drawn as an image
_MOST_POINTS = 4000  # of a scatter
_MOST_TILES = 64  # of the weights of one neuron
_MOST_NAMED = 12  # classes whose curves all have names
_FROM_ZERO = ("spike_count", "sum", "filtered", "steps_after_first_spike")


def _figure(title: str, x: str = "", y: str = "", **settings: object) -> figure:
    """Return a figure in the lab's style: as wide as it may, of a height that is stated."""
    style = {"height": 230, "sizing_mode": "stretch_width", "tools": "pan,wheel_zoom,box_zoom"}
    style |= {"min_border_left": 70, "min_border_right": 24}
    made = figure(title=title, x_axis_label=x, y_axis_label=y, **(style | settings))
    made.add_tools("reset", "save")
    made.title.update(text_font_size="14px", text_color=_INK)
    made.axis.axis_label_text_font_size = "13px"
    made.axis.axis_label_text_font_style = "normal"
    made.axis.major_label_text_font_size = "12px"
    made.grid.grid_line_alpha = 0.4
    made.toolbar.logo = None
    return made


def _hover(drawn: figure, glyph: object, **tips: str) -> None:
    tooltips = [(words.replace("_", " "), value) for words, value in tips.items()]
    drawn.add_tools(HoverTool(renderers=[glyph], tooltips=tooltips))


def _name(number: object, names: Sequence[str]) -> str:
    return names[int(number)] if np.isfinite(number) and number >= 0 else "none"


def _share(flags: np.ndarray) -> str:
    """Write a share that is not nothing, or all, unless it is."""
    share = float(np.mean(flags)) if np.size(flags) else 0.0
    return f"{100 * share:.1f} %" if 0 < share < 0.01 or 0.99 < share < 1 else f"{share:.0%}"


def _plural(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'s' * (n != 1)}"


def _as_rgba(images: np.ndarray) -> np.ndarray:
    """Return images as (n, rows, columns) of colours, from the bottom up as Bokeh draws them."""
    images = np.asarray(images)
    images = images / 255 if images.dtype == np.uint8 else images.astype(np.float64)
    images = np.nan_to_num(images, posinf=0.0, neginf=0.0)
    images = images[:, np.newaxis] if images.ndim == 2 else images
    low, high = images.min(initial=0), images.max(initial=0)
    if low < 0 or high > 1:
        images = (images - low) / (high - low)
    images = images[..., np.newaxis] if images.ndim == 3 else images
    if images.shape[3] != 3:
        images = images.mean(axis=3, keepdims=True)
    colours = np.full((*images.shape[:3], 4), 255, dtype=np.uint8)
    colours[..., :3] = np.round(255 * images)
    return np.ascontiguousarray(colours[:, ::-1]).view(np.uint32)[..., 0]


# -- images ---------------------------------------------------------------------------------------


def image_grid(
    images: np.ndarray,
    labels: Sequence[int] | None,
    predictions: Sequence[float],
    class_names: Sequence[str] | None = None,
    *,
    tied: Sequence[bool] | None = None,
    show: str = "all",
    start: int = 0,
    n: int = 48,
) -> tuple[figure, ColumnDataSource]:
    """Draw images with the answers of a run; one of them can be chosen with a click.

    Parameters
    ----------
    images, labels, predictions, class_names, tied
    show : {"all", "wrong", "ties"}
        Which of the images.
    start, n : int
        The first of these, and how many are drawn.

    Returns
    -------
    grid : bokeh.plotting.figure
    source : ColumnDataSource
        A row for each image that is drawn; ``index`` is its number among all, and
        ``source.selected.indices`` holds the row that was clicked.
    """
    check_among("show", show, _SHOWN)
    answers = np.asarray(predictions, dtype=np.float64).ravel()
    right = np.full(len(answers), np.nan) if labels is None else np.asarray(labels).ravel()
    ties = np.zeros(len(answers), bool) if tied is None else np.asarray(tied, bool)
    for name, given in (("images", images), ("labels", right), ("tied", ties)):
        if len(given) != len(answers):
            expected = f"{len(answers)}, one for each prediction"
            raise InputError(f"{name}: expected {expected}, got {len(given)}")
    wrong = (answers != right) & (labels is not None)
    among = np.flatnonzero({"all": ties | True, "wrong": wrong, "ties": ties}[show])
    drawn = among[start : start + n]
    largest = max(np.max(each, initial=0, where=each >= 0) for each in (answers, right))
    names = names_of_classes(class_names, len(class_names or range(int(largest) + 1)))
    columns = 12 if max(map(len, names)) <= 4 else 8
    data = _answers(answers[drawn], right[drawn], ties[drawn], names)
    data |= {"index": drawn, "x": np.arange(len(drawn)) % columns}
    data |= {"y": np.arange(len(drawn)) // columns * -_PITCH, "image": []}
    data["bottom"] = data["y"] - 0.5
    if len(drawn):
        data["image"] = list(_as_rgba(np.asarray(images)[drawn]))
    source = ColumnDataSource(data)
    title = _plural(len(answers), "image")
    if labels is not None:
        title += f": {np.sum(~wrong):,} right ✓ (blue), {np.sum(wrong):,} wrong × (red)"
    title += f", {np.sum(ties):,} ties = (orange)" if tied is not None else ""
    part = f"{start + 1} to {start + len(drawn)} of {len(among):,}" if len(drawn) else "none"
    title += f".\nShown: {_SHOWN[show]}, {part}. Click on one to look inside."
    return _grid_figure(title, source, columns), source


def _answers(answers: np.ndarray, right: np.ndarray, ties: np.ndarray, names: list[str]) -> dict:
    """Return words, verdicts and frames of answers."""
    known = np.isfinite(right)
    verdicts = np.where(known, np.where(answers == right, "right", "wrong"), "").astype("<U9")
    verdicts[ties] = "tie"
    verdicts[~(answers >= 0)] = "no answer"
    frames = [_FRAMES[each] for each in verdicts]
    given = [_name(each, names) for each in answers]
    true = [_name(each, names) if np.isfinite(each) else "unknown" for each in right]
    below = [f"{frame[3]} {answer}".strip() for frame, answer in zip(frames, given, strict=True)]
    for k in np.flatnonzero(known & (answers != right)):
        below[k] += f"\nis {true[k]}"
    data = {"answer": given, "right": true, "verdict": verdicts.tolist(), "below": below}
    for k, name in enumerate(("colour", "width", "dash")):
        data[name] = [frame[k] for frame in frames]
    return data


def _grid_figure(title: str, source: ColumnDataSource, columns: int) -> figure:
    """Draw the images of a source in rows, with frames and with words under them."""
    rows = max(1, -(-len(source.data["x"]) // columns))
    grid = _figure(
        title,
        height=None,
        tools="pan,wheel_zoom",
        sizing_mode="scale_width",
        aspect_ratio=columns / (rows * _PITCH + 0.6),
        match_aspect=True,
        min_border_left=4,
        min_border_right=4,
        x_range=Range1d(-0.55, columns - 0.45),
        y_range=Range1d(0.95 - rows * _PITCH, 0.55),
    )
    grid.axis.visible = grid.grid.visible = False
    grid.outline_line_color = None
    grid.image_rgba("image", "x", "y", 0.86, 0.86, anchor="center", source=source)
    lines = {"line_color": "colour", "line_width": "width", "line_dash": "dash"}
    lines |= {"nonselection_line_alpha": 1, "nonselection_fill_alpha": 0}
    lines |= {"selection_line_color": "black", "selection_line_width": 6}
    frames = grid.rect("x", "y", 0.9, 0.9, source=source, name="images", fill_alpha=0, **lines)
    style = {"text_font_size": "12px", "text_color": _INK, "text_align": "center"}
    style |= {"text_baseline": "top", "text_line_height": 1.1, "nonselection_text_alpha": 1}
    grid.text("x", "bottom", "below", source=source, **style)
    _hover(grid, frames, image="@index", answer="@answer", right_class="@right", verdict="@verdict")
    grid.add_tools(TapTool(renderers=[frames]))
    return grid


# -- one image ------------------------------------------------------------------------------------


def example_view(
    image: np.ndarray,
    rasters: Mapping[str, np.ndarray],
    scores: np.ndarray,
    dt: float,
    *,
    label: int | None = None,
    prediction: float = np.nan,
    class_names: Sequence[str] | None = None,
    tied: bool = False,
    readout: str = "spike_count",
    name: str = "image",
) -> LayoutDOM:
    """Draw what a network did with one image: the image, its spikes, the scores over time.

    Ten arguments, as each is another thing that is known of an example.

    Parameters
    ----------
    image, dt, label, prediction, class_names, tied
    rasters : dict of (n_steps, n_neurons) array_like of int
        Spikes of each step, by layer, from the input on. Each is a figure in the layout with the
        name ``raster LAYER``; y is the neuron in it.
    scores : (n_steps, n_classes) array_like
        From `nengonet.Result.scores`.
    readout : str
        What the scores are.
    name : str
        What the image is called in the title.
    """
    scores = np.asarray(scores, dtype=np.float64)
    names = names_of_classes(class_names, scores.shape[1])
    right = np.nan if label is None else label
    verdict = _answers(np.array([prediction]), np.array([right]), np.array([tied]), names)
    words = f"{name}\nanswer: {verdict['below'][0]}"
    words = words.replace("\nis ", "\nright class: ") + (", a tie" if tied else "")
    output = _score_figure(scores, dt, names, prediction, right, readout)
    shown = [_raster_figure(layer, each, dt) for layer, each in rasters.items()]
    for each in shown:
        each.x_range = output.x_range
    picture = _picture(image, words, verdict["colour"][0])
    return row(
        picture, column(*shown, output, sizing_mode="stretch_width"), sizing_mode="stretch_width"
    )


def _picture(image: np.ndarray, title: str, colour: str) -> figure:
    """Draw one image in a frame; a vector as a strip."""
    pixels = _as_rgba(np.asarray(image)[np.newaxis])[0]
    rows, columns = pixels.shape
    strip = np.ndim(image) == 1
    size = {"width": 250, "height": 150 if strip else 310, "sizing_mode": "fixed"}
    size |= {"match_aspect": not strip, "min_border_left": 10, "min_border_right": 10}
    ranges = {"x_range": Range1d(0, columns), "y_range": Range1d(0, rows)}
    drawn = _figure(title, "input" if strip else "", **size, **ranges)
    drawn.yaxis.visible, drawn.xaxis.visible, drawn.grid.visible = False, strip, False
    drawn.image_rgba([pixels], 0, 0, columns, rows)
    drawn.outline_line_color, drawn.outline_line_width = colour, 4
    return drawn


def _raster_figure(layer: str, spikes: np.ndarray, dt: float) -> figure:
    """Draw a mark for each spike; where there are many, the rates of blocks of neurons and steps.

    A source of marks has ``time``, ``neuron`` and ``count``; one of blocks has the ``spikes`` of
    each beside the ``image`` of their rates.
    """
    spikes = np.abs(np.asarray(spikes, dtype=np.int64))
    n_steps, n_neurons = spikes.shape
    times, time = step_ends(n_steps, dt)
    total, title = int(spikes.sum()), f"{layer}: no spikes of {_plural(n_neurons, 'neuron')}"
    if total:
        mean = f"mean {total / n_neurons / (n_steps * dt):,.3g} Hz"
        title = f"{layer}: {_plural(total, 'spike')} of {_plural(n_neurons, 'neuron')}, {mean}"
    drawn = _figure(title, time, "neuron", height=200, min_border_right=120)
    drawn.name = f"raster {layer}"
    drawn.y_range = Range1d(-0.5, n_neurons - 0.5)
    steps, neurons = np.nonzero(spikes)
    if len(steps) > _MOST_MARKS:
        drawn.title.text += "\n" + _draw_blocks(drawn, spikes, dt, times)
        return drawn
    marks = {"time": times[steps], "neuron": neurons, "count": spikes[steps, neurons]}
    marks |= {"low": neurons - 0.5, "high": neurons + 0.5}
    marks["width"] = np.minimum(0.5 + marks["count"], 8.0)  # several spikes in a step: wider
    ends = {"x0": "time", "x1": "time", "y0": "low", "y1": "high", "line_width": "width"}
    glyph = drawn.segment(**ends, source=ColumnDataSource(marks), line_color="black")
    _hover(drawn, glyph, neuron="@neuron", time=f"@time{{0.[0]}} {time[6:-1]}", spikes="@count")
    return drawn


def _draw_blocks(drawn: figure, spikes: np.ndarray, dt: float, times: np.ndarray) -> str:
    """Draw rates as an image, and say in words what is in it."""
    tall, wide = (-(-n // most) for n, most in zip(spikes.T.shape, _MOST_BLOCKS, strict=True))
    starts = [np.arange(0, n, size) for n, size in zip(spikes.T.shape, (tall, wide), strict=True)]
    counts = np.add.reduceat(np.add.reduceat(spikes.T, starts[0], axis=0), starts[1], axis=1)
    sizes = (
        np.diff(np.append(each, n)) for each, n in zip(starts, spikes.T.shape, strict=True)
    )  # the last block may be smaller
    rates = counts / (np.outer(*sizes) * dt)
    data = {"image": [rates], "spikes": [counts], "dw": [times[0] * wide * counts.shape[1]]}
    source = ColumnDataSource(data | {"dh": [tall * counts.shape[0]]})
    colours = LinearColorMapper(palette=Greys256[::-1], low=0, high=float(rates.max()))
    glyph = drawn.image("image", 0, -0.5, "dw", "dh", source=source, color_mapper=colours)
    _hover(drawn, glyph, neuron="$y{0}", rate="@image{0,0.0} Hz", spikes_of_the_block="@spikes")
    blocks = f"{_plural(tall, 'neuron')} x {_plural(wide, 'step')}"
    return f"drawn as rates of {blocks} each: white 0, black {rates.max():,.0f} Hz"


def _score_figure(
    scores: np.ndarray,
    dt: float,
    names: Sequence[str],
    prediction: float,
    right: float,
    readout: str,
) -> figure:
    """Draw the score of each class as steps, and name the curves where they end."""
    times, time = step_ends(len(scores), dt)
    before = np.full((1, len(names)), 0.0 if readout in _FROM_ZERO else np.nan)
    values = np.concatenate([before, np.where(np.isfinite(scores), scores, np.nan)])
    edges = np.repeat(np.append(0.0, times), 2)[1:]
    colours = {int(right): _BLUE} if np.isfinite(right) else {}
    if prediction >= 0:
        colours[int(prediction)] = _BLUE if right in (prediction, np.nan) else _RED
    order = sorted(range(len(names)), key=lambda k: (k in colours, k == prediction))
    data = {"x": [edges] * len(order), "y": [np.repeat(values[:, k], 2)[:-1] for k in order]}
    data |= {"class": [names[k] for k in order], "last": values[-1, order]}
    data |= {"colour": [colours.get(k, _GREY) for k in order]}
    data |= {"width": [3.0 if k in colours else 1.2 for k in order]}
    words = readout.replace("_", " ")
    drawn = _figure(f"output: {words} of each class", time, words, height=270, min_border_right=120)
    drawn.x_range = Range1d(0, times[-1])
    style = {"line_color": "colour", "line_width": "width", "source": ColumnDataSource(data)}
    glyph = drawn.multi_line("x", "y", **style)
    _hover(drawn, glyph, **{"class": "@class", words: "$y{0.[00]}", "at_the_end": "@last"})
    low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
    room = 0.05 * ((high - low) or 1.0)
    drawn.y_range = Range1d(low - room, high + room)
    flags = {int(right): " (right)"} if np.isfinite(right) else {}
    if prediction >= 0:
        flags[int(prediction)] = " (answer)"
    drawn.add_layout(_end_names(values[-1], names, flags, 2 * room), "right")
    return drawn


def _end_names(last: np.ndarray, names: Sequence[str], flags: dict, apart: float) -> LinearAxis:
    """Return an axis that names curves at their ends; those too close together in one name."""
    ranked = sorted(np.flatnonzero(np.isfinite(last)), key=lambda k: (k not in flags, -last[k]))
    ticks: dict[float, list[int]] = {}
    for k in ranked[:_MOST_NAMED]:
        near = [at for at in ticks if abs(at - last[k]) < apart]
        ticks.setdefault(near[0] if near else float(last[k]), []).append(k)
    words = {}
    for at, classes in ticks.items():
        text = ", ".join(names[k] + flags.get(k, "") for k in classes)
        words[at] = text if len(text) <= 20 else text[:19] + "…"
    return LinearAxis(
        ticker=FixedTicker(ticks=list(words)),
        major_label_overrides=words,
        major_label_text_font_size="12px",
        axis_line_color=None,
        minor_tick_line_color=None,
    )


# -- one neuron -----------------------------------------------------------------------------------


def neuron_view(
    weights: np.ndarray,
    shape: Sequence[int] | None,
    tuning: tuple[np.ndarray, np.ndarray],
    currents: np.ndarray,
    traces: Mapping[str, np.ndarray],
    dt: float,
    rates: tuple[float, float],
    *,
    name: str = "neuron",
) -> LayoutDOM:
    """Draw one neuron: its weights, its tuning curve, and what it did with one image.

    Parameters
    ----------
    weights : array_like
        (n_inputs,) of a neuron of a dense layer; (height, width, channels) or (length, channels) of
        a filter of a convolution.
    shape : (rows, columns) or (rows, columns, channels) or None
        Of the layer before a dense layer, for weights that make images.
    tuning : pair of (n_points,) array_like
        Currents, rising, and the rate in Hz for each, both without noise.
    currents : (n_images,) array_like
        Mean current of the neuron in each of today's images.
    traces : dict of (n_steps,) array_like
        ``current``, ``voltage`` and ``spikes`` of each step, for the image that is looked at; any
        of them may be missing.
    dt
    rates : pair of float, in Hz
        Observed and predicted for this image; NaN where unknown.
    name : str
        Of the neuron, such as ``hidden[17]``.
    """
    observed, predicted = map(float, rates)
    said = f"observed {observed:,.1f} Hz, " if np.isfinite(observed) else "not observed, "
    said += f"predicted {predicted:,.1f} Hz" if np.isfinite(predicted) else "no prediction"
    if np.isfinite(observed - predicted):
        said += f" ({observed - predicted:+,.1f} Hz)"
    mean = float(np.mean(traces["current"])) if np.size(traces.get("current", ())) else np.nan
    curve = _tuning_figure(f"{name}: {said}", tuning, mean, observed, predicted)
    histogram = _current_figure(currents, curve)
    left = column(_weights_figure(weights, shape, name), curve, histogram)
    left.sizing_mode = "stretch_width"
    right = column(*_trace_figures(traces, dt, name), sizing_mode="stretch_width")
    return row(left, right, sizing_mode="stretch_width")


def _weights_figure(weights: np.ndarray, shape: Sequence[int] | None, name: str) -> figure:
    """Draw weights as an image, or a tile for each channel; 0 is the middle of the colours."""
    weights = np.asarray(weights, dtype=np.float64)
    if shape is not None and weights.ndim == 1:
        if np.prod(shape) != weights.size:
            raise InputError(f"shape: expected that of {weights.size} inputs, got {tuple(shape)}")
        weights = weights.reshape(shape)
    title, x, y, framed = f"weights of {name}", "column", "row", True
    if weights.ndim == 1:
        weights, x, y, framed = weights[np.newaxis], "input", "", False
    elif weights.ndim == 2 and shape is None:
        weights, x, y, framed = weights.T, "step of the kernel", "channel", False
    elif weights.ndim == 3:
        n_channels = weights.shape[2]
        weights = _tiled(np.moveaxis(weights[..., :_MOST_TILES], 2, 0))
        title += f": {_plural(n_channels, 'input channel')}, row by row"
        title += f", the first {_MOST_TILES} drawn" if n_channels > _MOST_TILES else ""
    most = float(np.max(np.abs(weights), initial=0.0, where=np.isfinite(weights))) or 1.0
    rows, columns = weights.shape
    ranges = {"x_range": Range1d(-0.5, columns - 0.5), "y_range": Range1d(rows - 0.5, -0.5)}
    drawn = _figure(title, x, y, height=300, match_aspect=framed, **ranges)
    colours = LinearColorMapper(palette=_DIVERGING, low=-most, high=most, nan_color="white")
    place = {"x": -0.5, "y": -0.5, "dw": columns, "dh": rows, "color_mapper": colours}
    glyph = drawn.image([weights], **place)
    drawn.grid.visible = False
    _hover(drawn, glyph, **{x: "$x{0}", y or "row": "$y{0}", "weight": "@image{0.0000}"})
    drawn.add_layout(ColorBar(color_mapper=colours, title="weight", width=12), "right")
    return drawn


def _tiled(tiles: np.ndarray) -> np.ndarray:
    """Return (n, rows, columns) as one image, with gaps of NaN between them."""
    n, rows, columns = tiles.shape
    across = int(np.ceil(np.sqrt(n * max(rows, 1) / max(columns, 1) * 1.5)))
    across = min(across, n)
    gaps = ((0, -n % across), (0, 1), (0, 1))
    tiles = np.pad(tiles, gaps, constant_values=np.nan).reshape(-1, across, rows + 1, columns + 1)
    picture = tiles.swapaxes(1, 2).reshape(tiles.shape[0] * (rows + 1), across * (columns + 1))
    return picture[:-1, :-1]


def _tuning_figure(
    title: str, tuning: tuple, mean: float, observed: float, predicted: float
) -> figure:
    """Draw rate against current, and where this image is."""
    drawn = _figure(title, "current J", "rate (Hz)")
    curve = ColumnDataSource({"current": tuning[0], "rate": tuning[1]})
    line = drawn.line("current", "rate", source=curve, line_color=_BLUE, line_width=2.5)
    _hover(drawn, line, current="@current{0.000}", rate="@rate{0,0.0} Hz")
    for rate, colour, marker, word in (
        (predicted, _BLUE, "diamond", "predicted"),
        (observed, _RED, "circle", "observed"),
    ):
        if np.isfinite(rate + mean):
            source = ColumnDataSource({"current": [mean], "rate": [rate], "what": [word]})
            style = {"size": 11, "fill_color": colour, "line_color": "white", "marker": marker}
            point = drawn.scatter("current", "rate", source=source, **style)
            _hover(drawn, point, rate=f"{word} @rate{{0,0.0}} Hz", mean_current="@current{0.000}")
    return drawn


def _current_figure(currents: np.ndarray, above: figure) -> figure:
    """Draw the currents of today's images as a histogram, on the x axis of the tuning curve."""
    currents = np.asarray(currents, dtype=np.float64).ravel()
    currents = currents[np.isfinite(currents)]
    words = f"mean current in each of {_plural(currents.size, 'image')}"
    drawn = _figure(words, "current J", "images", height=170, x_range=above.x_range)
    counts, edges = np.histogram(currents, bins=40 if len(set(currents)) > 1 else 1)
    source = ColumnDataSource({"left": edges[:-1], "right": edges[1:], "count": counts})
    style = {"fill_color": _GREEN, "line_color": "white", "source": source}
    bars = drawn.quad(left="left", right="right", bottom=0, top="count", **style)
    _hover(drawn, bars, current="@left{0.000} to @right{0.000}", images="@count")
    return drawn


def _trace_figures(traces: Mapping[str, np.ndarray], dt: float, name: str) -> list[figure]:
    """Draw current, voltage and spikes on one axis of time."""
    shown, shared = [], {}
    colours = {"current": _PINK, "voltage": _ORANGE, "spikes": "black"}
    for what, colour in colours.items():
        if what not in traces:
            continue
        values = np.asarray(traces[what], dtype=np.float64)
        times, time = step_ends(len(values), dt)
        title = f"{what} of {name}: "
        if what == "spikes":
            title += (
                f"{_plural(int(np.abs(values).sum()), 'spike')} in {times[-1]:,.4g} {time[6:-1]}"
            )
        else:
            title += f"mean {values.mean():,.3g}, {values.min():,.3g} to {values.max():,.3g}"
        drawn = _figure(title, time, f"{what} J" if what == "current" else what, **shared)
        shared = {"x_range": drawn.x_range}
        if not shown:
            drawn.x_range = Range1d(0, times[-1])
            shared = {"x_range": drawn.x_range}
        source = ColumnDataSource({"time": times, "value": values})
        style = {"source": source, "line_color": colour, "line_width": 1.5}
        if what == "spikes":
            glyph = drawn.segment(x0="time", x1="time", y0=0, y1="value", **style)
            drawn.y_range.start = 0
        else:
            glyph = drawn.step("time", "value", mode="before", **style)
        _hover(drawn, glyph, time=f"@time{{0.[0]}} {time[6:-1]}", **{what: "@value{0.[000]}"})
        shown.append(drawn)
    return shown


# -- one layer ------------------------------------------------------------------------------------


def layer_view(
    observed: np.ndarray,
    predicted: np.ndarray | None = None,
    *,
    name: str = "layer",
    ceiling: float = np.inf,
) -> tuple[LayoutDOM, ColumnDataSource]:
    """Draw the rates of a layer in a run against the predicted ones, and how they are spread.

    Parameters
    ----------
    observed : (n_images, n_neurons) array_like, in Hz
    predicted : (n_images, n_neurons) array_like, in Hz, optional
        NaN where there is no prediction.
    name : str
        Of the layer.
    ceiling : float, in Hz
        The largest rate that the neurons can have; 90 % of it counts as saturated.

    Returns
    -------
    view : LayoutDOM
    source : ColumnDataSource
        A row for each point of the scatter, with ``image`` and ``neuron``;
        ``source.selected.indices`` holds the row that was clicked.
    """
    observed = np.asarray(observed, dtype=np.float64)
    predicted = np.full(observed.shape, np.nan) if predicted is None else np.asarray(predicted)
    if predicted.shape != observed.shape or observed.ndim != 2:
        expected = "(n_images, n_neurons) of both"
        raise InputError(f"rates: expected {expected}, got {observed.shape}, {predicted.shape}")
    shares = f"{_share(observed == 0)} silent"
    if np.isfinite(ceiling):
        high = np.abs(observed) > SATURATED * ceiling
        shares += f", {_share(high)} saturated (above {SATURATED:.0%} of {ceiling:,.0f} Hz)"
    images, neurons = np.nonzero(np.isfinite(observed) & np.isfinite(predicted))
    n_points, chosen = len(images), slice(None)
    if n_points > _MOST_POINTS:
        chosen = np.linspace(0, n_points - 1, _MOST_POINTS).astype(int)
    images, neurons = images[chosen], neurons[chosen]
    points = {"image": images, "neuron": neurons}
    points |= {"observed": observed[images, neurons], "predicted": predicted[images, neurons]}
    source = ColumnDataSource(points)
    words = f"{len(images):,} of {n_points:,} points drawn" if len(images) < n_points else ""
    words = words or (_plural(n_points, "point") if n_points else "no prediction")
    title = f"{name}: {shares}\n{words}: a neuron in an image each"
    scatter = _figure(title, "predicted rate (Hz)", "observed rate (Hz)", height=460)
    top = 1.05 * max(
        1.0, *(np.max(points[each], initial=1.0) for each in ("observed", "predicted"))
    )
    low = 1.05 * min(
        0.0, *(np.min(points[each], initial=0.0) for each in ("observed", "predicted"))
    )
    scatter.x_range, scatter.y_range = Range1d(low, top), Range1d(low, top)
    scatter.line([low, top], [low, top], line_color="black", line_dash="dashed")
    alpha = float(np.clip(1000 / max(len(images), 1), 0.2, 0.8))
    style = {"size": 6, "fill_color": _BLUE, "fill_alpha": alpha, "line_color": None}
    style |= {"nonselection_fill_alpha": alpha, "selection_fill_color": _RED, "name": "rates"}
    glyph = scatter.scatter("predicted", "observed", source=source, **style)
    tips = {each: f"@{each}{{0,0.0}} Hz" for each in ("observed", "predicted")}
    _hover(scatter, glyph, neuron="@neuron", image="@image", **tips)
    scatter.add_tools(TapTool(renderers=[glyph]))
    both = row(scatter, _rate_figure(observed, predicted), sizing_mode="stretch_width")
    return both, source


def _rate_figure(observed: np.ndarray, predicted: np.ndarray) -> figure:
    """Draw how many rates, observed and predicted, are how high."""
    known = [each[np.isfinite(each)] for each in (observed, predicted)]
    edges = np.histogram_bin_edges(np.concatenate(known), bins=40)
    drawn = _figure("how often a rate occurs", "rate (Hz)", "share of all rates (%)", height=460)
    for rates, colour, word in zip(known, (_RED, _BLUE), ("observed", "predicted"), strict=True):
        shares = 100 * np.histogram(rates, edges)[0] / max(rates.size, 1)
        source = ColumnDataSource({"left": edges[:-1], "right": edges[1:], "share": shares})
        style = {"fill_color": colour, "fill_alpha": 0.3, "line_color": colour, "source": source}
        bars = drawn.quad(left="left", right="right", bottom=0, top="share", **style)
        _hover(drawn, bars, rate="@left{0.0} to @right{0.0} Hz", **{word: "@share{0.00} %"})
    return drawn
