"""The lab's figures of images, neurons and layers: Bokeh figures of plain arrays.

These parameters have the same meaning in all functions:

``image``, ``images``
    (rows, columns), (rows, columns, channels) or (n_inputs,) array_like, for each image. Values
    in [0, 1] are drawn from black to white. Other values are drawn from their smallest to their
    largest. Three channels are red, green and blue; any other number of channels is drawn as
    their mean.
``label``, ``labels``, ``prediction``, ``predictions``
    Right class and answer, as numbers from 0. NaN or a number below 0 means no answer.
``class_names``
    A name for each class, by default its number.
``tied``
    Whether several classes had the highest score, for one image or for each.
``dt``
    Length of a step, in seconds.
``name``
    Name of the drawn object in the title.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from bokeh import models
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, LayoutDOM, Range1d
from bokeh.palettes import Greys256
from bokeh.plotting import figure

from nengonet.checks import check_among
from nengonet.exceptions import InputError
from nengonet.laboratory import drawing
from nengonet.laboratory.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    RED,
    hover,
    new_figure,
    number,
    plural,
)
from nengonet.laboratory.neuron_views import layer_view, neuron_view
from nengonet.plots.frame import names_of_classes, step_ends

__all__ = ["example_view", "image_grid", "layer_view", "neuron_view"]

# For each verdict: colour, width and dashes of the frame, and the sign beside the answer.
_FRAMES = {
    "right": (BLUE, 1.5, "solid", "✓"),
    "wrong": (RED, 4.0, "solid", "×"),
    "tie": (ORANGE, 4.0, "dashed", "="),
    "no answer": (GREY, 4.0, "dotted", "?"),
    "": (GREY, 1.5, "solid", ""),
}
_SHOWN = {"all": "all", "wrong": "wrong ones", "ties": "ties"}
_COLUMNS, _PITCH = 9, 1.45  # of a grid; rows in widths of an image, for two lines of text
_MOST_MARKS = 4000  # spikes of a raster that are drawn one by one
_MOST_BLOCKS = (60, 120)  # of neurons and of steps, in a raster that is drawn as an image
_MOST_NAMED = 12  # classes whose curves all have names
_FROM_ZERO = ("spike_count", "sum", "filtered", "steps_after_first_spike")


def _name(number: float, names: Sequence[str]) -> str:
    return names[int(number)] if number >= 0 else "none"


def image_grid(
    images: np.ndarray,
    labels: Sequence[int] | None,
    predictions: Sequence[float],
    class_names: Sequence[str] | None = None,
    *,
    tied: Sequence[bool] | None = None,
    show: str = "all",
    start: int = 0,
    n: int = 36,
) -> tuple[figure, ColumnDataSource]:
    """Draw ``n`` images from ``start`` on; ``show`` is all images, the wrong ones or the ties.

    The source has a row for each drawn image: ``index`` is its number among all images, and
    ``source.selected.indices`` is the clicked row.
    """
    check_among("show", show, _SHOWN)
    answers = np.asarray(predictions, dtype=np.float64).ravel()
    right = np.full(len(answers), np.nan) if labels is None else np.asarray(labels).ravel()
    ties = np.zeros(len(answers), bool) if tied is None else np.asarray(tied, bool)
    for given, each in (("images", images), ("labels", right), ("tied", ties)):
        if len(each) != len(answers):
            expected = f"{len(answers)}, one for each prediction"
            raise InputError(f"{given}: expected {expected}, got {len(each)}")
    wrong = (answers != right) & (labels is not None)
    among = np.flatnonzero({"all": ties | True, "wrong": wrong, "ties": ties}[show])
    largest = max(np.max(each, initial=0, where=each >= 0) for each in (answers, right))
    names = names_of_classes(class_names, max(int(largest) + 1, len(class_names or ())))
    drawn = among[start : start + n]
    y, x = np.divmod(np.arange(len(drawn)), _COLUMNS)
    data = _answers(answers[drawn], right[drawn], ties[drawn], names)
    data |= {"index": drawn, "x": x, "y": -_PITCH * y, "below": -_PITCH * y - 0.5}
    data["image"] = list(drawing.as_rgba(np.asarray(images)[drawn])) if len(drawn) else []
    title = plural(len(answers), "image")
    if labels is not None:
        title += f": {np.sum(~wrong):,} right ✓ (blue), {np.sum(wrong):,} wrong × (red)"
    title += f", {np.sum(ties):,} tied = (orange)" if tied is not None else ""
    part = f"{start + 1} to {start + len(drawn)} of {len(among):,}" if len(drawn) else "none"
    title += f"\nShown: {_SHOWN[show]}, {part}. Click on an image to look inside."
    source = ColumnDataSource(data)
    return _grid_figure(title, source, max(1, -(-len(drawn) // _COLUMNS))), source


def _answers(answers: np.ndarray, right: np.ndarray, ties: np.ndarray, names: list[str]) -> dict:
    """Return the verdicts, frames and texts of answers."""
    verdicts = np.where(answers == right, "right", np.where(right >= 0, "wrong", "")).astype("<U9")
    verdicts[ties] = "tie"
    verdicts[~(answers >= 0)] = "no answer"
    frames = [_FRAMES[each] for each in verdicts]
    given = [_name(each, names) for each in answers]
    true = [_name(each, names) if each >= 0 else "unknown" for each in right]
    words = [f"{frame[3]} {answer}".strip() for frame, answer in zip(frames, given, strict=True)]
    for k in np.flatnonzero((right >= 0) & (answers != right)):
        words[k] += f"\nis {true[k]}"
    data = {"answer": given, "right": true, "verdict": verdicts.tolist(), "words": words}
    frame = {each: [f[k] for f in frames] for k, each in enumerate(("colour", "width", "dash"))}
    return data | frame


def _grid_figure(title: str, source: ColumnDataSource, rows: int) -> figure:
    """Draw the images of a source in rows, with frames and with texts below."""
    ranges = {"x_range": Range1d(-0.55, _COLUMNS - 0.45)}
    ranges["y_range"] = Range1d(0.5 - rows * _PITCH, 0.55)
    style = {"sizing_mode": "scale_width", "aspect_ratio": _COLUMNS / (rows * _PITCH + 0.5)}
    style |= {"height": None, "max_width": 1000, "min_border_left": 4, "min_border_right": 4}
    style["tools"] = "pan,wheel_zoom,reset,save"
    grid = new_figure(title, **ranges, **style)
    grid.axis.visible = grid.grid.visible = False
    grid.outline_line_color = None
    grid.image_rgba("image", "x", "y", 0.86, 0.86, anchor="center", source=source)
    lines = {"line_color": "colour", "line_width": "width", "line_dash": "dash", "fill_alpha": 0}
    lines |= {"selection_line_color": "black", "selection_line_width": 6, "name": "images"}
    lines |= {"nonselection_line_alpha": 1, "nonselection_fill_alpha": 0}
    frames = grid.rect("x", "y", 0.9, 0.9, source=source, **lines)
    text = {"text_font_size": "11px", "text_color": INK, "text_align": "center"}
    text |= {"text_baseline": "top", "text_line_height": 1.1, "nonselection_text_alpha": 1}
    grid.text("x", "below", "words", source=source, **text)
    hover(grid, frames, image="@index", answer="@answer", right_class="@right", verdict="@verdict")
    grid.add_tools(models.TapTool(renderers=[frames]))
    return grid


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
    """Draw a network's response to one image: the image, the spikes, and the scores over time.

    ``rasters`` has the spikes of each step, (n_steps, n_neurons) of int, by layer, from the input
    on. Each becomes a figure named ``raster LAYER``, in which y is the neuron. ``scores`` are
    (n_steps, n_classes), from `nengonet.Result.scores` with the ``readout``. There are ten
    parameters because each is a separate fact about an example.
    """
    scores = np.asarray(scores, dtype=np.float64)
    names = names_of_classes(class_names, scores.shape[1])
    right = np.nan if label is None else label
    known = _answers(np.array([prediction]), np.array([right]), np.array([tied]), names)
    words = known["words"][0].replace("\nis ", "\nright class: ") + (", a tie" if tied else "")
    said = f"<b>{escape(name)}</b><br>answer: {escape(words)}".replace("\n", "<br>")
    said = models.Div(text=said, width=214, styles={"font-size": "14px"})
    picture = column(said, _picture(image, known["colour"][0]))
    shown = [_raster_figure(layer, each, dt) for layer, each in rasters.items()]
    shown.append(_score_figure(scores, dt, names, prediction, right, readout))
    for each in shown:
        each.x_range = shown[-1].x_range
        each.xaxis.axis_label = None if each is not shown[-1] else each.xaxis.axis_label
    return drawing.beside(picture, drawing.stacked(shown))


def _picture(image: np.ndarray, colour: str) -> figure:
    """Draw one image in a frame. A vector is drawn as a strip."""
    pixels = drawing.as_rgba(np.asarray(image)[np.newaxis])[0]
    rows, columns = pixels.shape
    size = {"width": 214, "height": 24 + (30 if rows == 1 else min(190 * rows // columns, 400))}
    size |= {"sizing_mode": "fixed", "toolbar_location": None, "min_border_left": 12}
    size |= {"min_border_right": 12, "min_border_top": 12, "min_border_bottom": 12}
    drawn = new_figure("", x_range=Range1d(0, columns), y_range=Range1d(0, rows), **size)
    drawn.axis.visible = drawn.grid.visible = False
    drawn.image_rgba([pixels], 0, 0, columns, rows)
    drawn.outline_line_color, drawn.outline_line_width = colour, 4
    return drawn


def _raster_figure(layer: str, spikes: np.ndarray, dt: float) -> figure:
    """Draw a mark for each spike, or, for many spikes, the rates of blocks."""
    spikes = np.abs(np.asarray(spikes, dtype=np.int64))
    n_steps, n_neurons = spikes.shape
    times, time = step_ends(n_steps, dt)
    total, mean = int(spikes.sum()), number(spikes.mean() / dt)
    said = f"{plural(total, 'spike')} of {plural(n_neurons, 'neuron')}, mean {mean} Hz"
    said = said if total else f"no spikes of {plural(n_neurons, 'neuron')}"
    drawn = new_figure(f"{layer}: {said}", time, "neuron", name=f"raster {layer}", height=160)
    drawn.y_range = Range1d(-0.5, n_neurons - 0.5)
    steps, neurons = np.nonzero(spikes)
    if len(steps) > _MOST_MARKS:
        drawn.title.text += _draw_blocks(drawn, spikes.T, dt, times[0])
        return drawn
    counts = spikes[steps, neurons]
    marks = {"time": times[steps], "neuron": neurons, "count": counts, "low": neurons - 0.5}
    marks |= {"high": neurons + 0.5, "width": np.minimum(0.5 + counts, 8.0)}  # wider for several
    ends = {"x0": "time", "x1": "time", "y0": "low", "y1": "high", "line_width": "width"}
    glyph = drawn.segment(**ends, source=ColumnDataSource(marks), line_color="black")
    hover(drawn, glyph, neuron="@neuron", **{time: "@time{0.[0]}"}, spikes="@count")
    return drawn


def _draw_blocks(drawn: figure, spikes: np.ndarray, dt: float, step: float) -> str:
    """Draw rates as an image, and describe it in words. Spikes are (n_neurons, n_steps)."""
    tall, wide = (-(-n // most) for n, most in zip(spikes.shape, _MOST_BLOCKS, strict=True))
    rows, columns = np.arange(0, spikes.shape[0], tall), np.arange(0, spikes.shape[1], wide)
    counts = np.add.reduceat(np.add.reduceat(spikes, rows, axis=0), columns, axis=1)
    # The last block of a row or column may be smaller.
    ends = zip((rows, columns), spikes.shape, strict=True)
    sizes = np.outer(*(np.diff(np.append(starts, end)) for starts, end in ends))
    rates = counts / (sizes * dt)
    data = {"image": [rates], "spikes": [counts], "dw": [step * wide * len(columns)]}
    source = ColumnDataSource(data | {"dh": [tall * len(rows)]})
    colours = models.LinearColorMapper(palette=Greys256[::-1], low=0, high=float(rates.max()))
    glyph = drawn.image("image", 0, -0.5, "dw", "dh", source=source, color_mapper=colours)
    hover(drawn, glyph, neuron="$y{0}", rate="@image{0,0.0} Hz", spikes_of_the_block="@spikes")
    blocks = f"{plural(tall, 'neuron')} x {plural(wide, 'step')}"
    return f"\nrates of {blocks} each: white 0, black {number(rates.max())} Hz"


def _score_figure(scores, dt, names, prediction, right, readout) -> figure:
    """Draw the score of each class as steps, and name the curves at their ends."""
    times, time = step_ends(len(scores), dt)
    before = np.full((1, len(names)), 0.0 if readout in _FROM_ZERO else np.nan)
    values = np.concatenate([before, np.where(np.isfinite(scores), scores, np.nan)])
    flags, colours = {}, {}
    if right >= 0:
        flags[int(right)], colours[int(right)] = " (right)", BLUE
    if prediction >= 0:
        flags[int(prediction)] = " (answer)"
        colours.setdefault(int(prediction), RED if right >= 0 else BLUE)
    order = sorted(range(len(names)), key=lambda k: (k in flags, k == prediction))  # last: on top
    edges = np.repeat(np.append(0.0, times), 2)[1:]
    data = {"x": [edges] * len(order), "y": [np.repeat(values[:, k], 2)[:-1] for k in order]}
    data |= {"class": [names[k] for k in order], "last": values[-1, order]}
    data |= {"colour": [colours.get(k, GREY) for k in order]}
    data |= {"width": [3.0 if k in flags else 1.2 for k in order]}
    words = readout.replace("_", " ")
    drawn = new_figure(f"output: {words} of each class", time, words, height=240)
    style = {"line_color": "colour", "line_width": "width", "source": ColumnDataSource(data)}
    glyph = drawn.multi_line("x", "y", **style)
    hover(drawn, glyph, **{"class": "@class", words: "$y{0.[00]}", "at_the_end": "@last"})
    low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
    room = 0.05 * ((high - low) or 1.0)
    drawn.x_range, drawn.y_range = Range1d(0, times[-1]), Range1d(low - room, high + room)
    drawn.add_layout(_end_names(values[-1], names, flags, 1.6 * room), "right")
    return drawn


def _end_names(last: np.ndarray, names: Sequence[str], flags: dict, apart: float) -> LayoutDOM:
    """Return an axis that names curves at their ends. Curves close together share one name."""
    ranked = sorted(np.flatnonzero(np.isfinite(last)), key=lambda k: (k not in flags, -last[k]))
    words: dict[float, str] = {}
    for k in ranked[:_MOST_NAMED]:
        at = next((each for each in words if abs(each - last[k]) < apart), float(last[k]))
        word = names[k] + flags.get(k, "")
        words[at] = f"{words[at]}, {word}" if at in words else word
    words = {at: text if len(text) <= 24 else text[:23] + "…" for at, text in words.items()}
    style = {"major_label_text_font_size": "12px", "axis_line_color": None}
    ticker = models.FixedTicker(ticks=list(words))
    return models.LinearAxis(ticker=ticker, major_label_overrides=words, **style)
