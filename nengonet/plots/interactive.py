"""Figures to zoom into and to point at, for the lab and for notebooks: an image, a neuron, a layer.

They are figures of Bokeh, which the extra ``lab`` brings; ``bokeh.plotting.show`` shows one.
``dt`` is the length of a step in seconds, ``name`` the name of the drawn object in the title.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from bokeh import models
from bokeh.layouts import column, gridplot, row
from bokeh.models import ColumnDataSource, GlyphRenderer, LayoutDOM, LinearColorMapper, Range1d
from bokeh.palettes import Greys256
from bokeh.plotting import figure
from matplotlib import colormaps
from matplotlib.colors import to_hex

from nengonet.exceptions import InputError
from nengonet.explain.findings import SATURATED
from nengonet.plots.frame import COLOURS, step_ends
from nengonet.results.result import Result

BLUE, RED, GREEN, PINK, ORANGE = COLOURS
GREY = "#8A8A8A"
DIVERGING = [to_hex(colormaps["PuOr"](k)) for k in range(256)]  # as nengonet.plots has weights
_MOST_POINTS = 4000  # of a scatter
_MOST_BLOCKS = (100, 400)  # of neurons and of steps, in a raster
_MOST_NAMED = 12  # classes in a legend
_MOST_TILES = 64  # of the weights of one neuron
_FROM_ZERO = ("spike_count", "sum", "filtered", "steps_after_first_spike")


def new_figure(title: str, x: str = "", y: str = "", **given: object) -> figure:
    """Return a figure in the lab's style, with the available width and the given height."""
    style = {"height": 210, "sizing_mode": "stretch_width", "min_border_left": 70}
    style |= {"min_border_right": 24, "tools": "pan,wheel_zoom,box_zoom,reset,save"}
    drawn = figure(title=title, x_axis_label=x, y_axis_label=y, **(style | given))
    drawn.axis.axis_label_text_font_style, drawn.grid.grid_line_alpha = "normal", 0.4
    for axis in drawn.axis:
        axis.formatter.use_scientific = False
    drawn.toolbar.logo = None
    return drawn


def add(drawn: figure, kind: str, data: Mapping, tips: Mapping, **style) -> GlyphRenderer:
    """Draw data, with tooltips for what is under the pointer; a style may name a column."""
    glyph = getattr(drawn, kind)(source=ColumnDataSource(dict(data)), **style)
    drawn.add_tools(models.HoverTool(renderers=[glyph], tooltips=[*tips.items()]))
    return glyph


def stacked(figures: Sequence[figure]) -> LayoutDOM:
    """Stack figures on the x axis of the last one, with one toolbar for all."""
    for each in figures[:-1]:
        each.x_range, each.xaxis.axis_label = figures[-1].x_range, None
    # The grid itself has no width in a page of Panel. Its toolbar works for a column, too.
    toolbar = gridplot([[each] for each in figures], toolbar_options={"logo": None}).toolbar
    below = column(*figures, sizing_mode="stretch_width")
    return row(below, toolbar, sizing_mode="stretch_width", min_width=440)


def number(value: float) -> str:
    """Return a number as text, with a few digits and without powers of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def plural(n: int, thing: str) -> str:
    """Return a number of things as text."""
    return f"{n:,} {thing}{'s' * (n != 1)}"


def share(flags: np.ndarray) -> str:
    """Return a share as text, with 0 and 100 % only where they are exact."""
    part = float(np.mean(flags)) if np.size(flags) else 0.0
    text = f"{part:.1%}" if 0 < part < 1 else f"{part:.0%}"
    return {"0.0%": "under 0.1%", "100.0%": "over 99.9%"}.get(text, text)


def plot_example(result: Result, label: int | None, names: Sequence[str]) -> LayoutDOM:
    """Draw a network's response to one image: the spikes, and the scores over time.

    Parameters
    ----------
    result : Result
        A result of this image alone, with the rasters to draw. Every raster becomes a figure named
        ``raster LAYER``, in which y is the neuron.
    label : int or None
        The right class, if known.
    names : sequence of str
        A name for each class.

    Returns
    -------
    figures : bokeh.models.LayoutDOM
    """
    shown = [_raster(layer, each[0], result.dt) for layer, each in result.rasters.items()]
    return stacked([*shown, _scores(result, label, names)])


def _raster(layer: str, spikes: np.ndarray, dt: float) -> figure:
    """Draw the rates of neurons by step, or of blocks of both: (n_steps, n_neurons) of int."""
    (n_steps, n_neurons), spikes = spikes.shape, np.abs(np.asarray(spikes, np.int64))
    times, time = step_ends(n_steps, dt)
    said = "no spikes"
    if spikes.any():
        said = f"{plural(int(spikes.sum()), 'spike')}, mean {number(spikes.mean() / dt)} Hz"
    tall, wide = (-(-n // most) for n, most in zip(spikes.T.shape, _MOST_BLOCKS, strict=True))
    blocks = np.arange(0, n_neurons, tall), np.arange(0, n_steps, wide)
    counts = np.add.reduceat(np.add.reduceat(spikes.T, blocks[0], axis=0), blocks[1], axis=1)
    ends = zip(blocks, spikes.T.shape, strict=True)
    # The last block of a row or column may be smaller.
    sizes = np.outer(*(np.diff(np.append(starts, end)) for starts, end in ends))
    rates = counts / (sizes * dt)
    said += f"\nblack: {number(rates.max())} Hz" if spikes.any() else ""
    if tall * wide > 1:
        said += f" in a block of {plural(tall, 'neuron')} x {plural(wide, 'step')}"
    drawn = new_figure(f"{layer}, {plural(n_neurons, 'neuron')}: {said}", time, "neuron")
    drawn.update(name=f"raster {layer}", height=170, y_range=Range1d(-0.5, n_neurons - 0.5))
    data = {"image": [rates], "spikes": [counts], "dw": [times[0] * wide * len(blocks[1])]}
    most = float(rates.max()) or 1.0
    colours = LinearColorMapper(palette=Greys256[::-1], low=0, high=most)
    place = {"x": 0, "y": -0.5, "dw": "dw", "dh": "dh", "color_mapper": colours}
    tips = {"neuron": "$y{0}", time: "$x{0.[0]}", "rate": "@image{0,0.0} Hz", "spikes": "@spikes"}
    add(drawn, "image", data | {"dh": [tall * len(blocks[0])]}, tips, image="image", **place)
    return drawn


def _scores(result: Result, label: int | None, names: Sequence[str]) -> figure:
    """Draw the score of each class as steps. The legend has the highest scores at the end."""
    scores, answer = np.asarray(result.scores()[0], np.float64), result.predictions()[0]
    readout = result.settings["readout"]
    times, time = step_ends(len(scores), result.dt)
    before = np.full((1, len(names)), 0.0 if readout in _FROM_ZERO else np.nan)
    values = np.concatenate([before, np.where(np.isfinite(scores), scores, np.nan)])
    order = np.argsort(scores[-1])  # the highest is drawn last, on top
    edges = np.repeat(np.append(0.0, times), 2)[1:]
    wrong = label not in (None, answer)
    colours = {label: BLUE} | {answer: RED if wrong else BLUE}
    roles = {label: " (right)"} | {answer: " (answer)"}
    data = {"x": [edges] * len(order), "y": [np.repeat(values[:, k], 2)[:-1] for k in order]}
    data["colour"] = [colours.get(k, GREY) for k in order]
    data["width"] = [3.0 if k in roles else 1.2 for k in order]
    data["class"] = [names[k] + roles.get(k, "") for k in order]
    data["end"] = [number(each) for each in scores[-1, order]]
    unit = readout.replace("_", " ")
    drawn = new_figure(f"output, {unit} of each class", time, unit, height=300, name="scores")
    drawn.x_range = Range1d(0, times[-1])
    tips = {"class": "@class", unit: "$y{0.[00]}", "at the end": "@end"}
    style = {"line_color": "colour", "line_width": "width", "xs": "x", "ys": "y"}
    glyph = add(drawn, "multi_line", data, tips, **style)
    named = [k for k in range(len(order)) if k >= len(order) - _MOST_NAMED or order[k] in roles]
    words = {k: f"{data['class'][k]}: {data['end'][k]}" for k in reversed(named)}
    items = [models.LegendItem(label=each, index=k, renderers=[glyph]) for k, each in words.items()]
    legend = models.Legend(items=items, label_text_font_size="11px", spacing=0, padding=2)
    drawn.add_layout(legend, "right")
    return drawn


def plot_neuron(
    weights: np.ndarray,
    tuning: tuple[np.ndarray, np.ndarray],
    currents: np.ndarray,
    traces: Mapping[str, np.ndarray],
    dt: float,
    rates: tuple[float, float],
    *,
    name: str = "neuron",
) -> LayoutDOM:
    """Draw one neuron: its weights, its tuning curve, and its response to one image.

    Parameters
    ----------
    weights : array_like
        (n_inputs,), or the shape of the layer before, for a neuron of a dense layer; (height,
        width, channels) for a filter of a convolution.
    tuning : pair of (n_points,) array_like
        Currents in increasing order, and the rate in Hz for each constant current.
    currents : (n_images,) array_like
        Mean current of the neuron in each of the images.
    traces : dict of (n_steps,) array_like
        Any of ``current``, ``voltage`` and ``spikes`` at each step, for the chosen image.
    rates : pair of float, in Hz
        Observed and predicted for this image; NaN where unknown.
    dt, name

    Returns
    -------
    figures : bokeh.models.LayoutDOM
    """
    observed, predicted = map(float, rates)
    said = f"observed {observed:,.1f} Hz (red)" if np.isfinite(observed) else "not observed"
    known = np.isfinite(predicted)
    said += f",\npredicted {predicted:,.1f} Hz (blue)" if known else ",\nno prediction"
    current = traces.get("current", ())
    mean = float(np.mean(current)) if np.size(current) else np.nan
    curve = new_figure(f"{name}: {said}", "current J", "rate (Hz)")
    points, tips = {"x": tuning[0], "y": tuning[1]}, {"J": "@x{0.000}", "rate": "@y{0,0.0} Hz"}
    add(curve, "line", points, tips, x="x", y="y", line_color=BLUE, line_width=2)
    marks = (predicted, BLUE, "white", "diamond", 20), (observed, RED, RED, "circle", 9)
    for rate, colour, fill, marker, size in marks:
        if np.isfinite(rate + mean):
            style = {"marker": marker, "size": size, "line_width": 2, "fill_color": fill}
            curve.scatter([mean], [rate], line_color=colour, **style)
    currents = np.ravel(currents)[np.isfinite(np.ravel(currents))]
    title = f"its mean current in each of {plural(currents.size, 'image')}"
    below = new_figure(title, "current J", "images", height=180)
    counts, edges = np.histogram(currents, bins=40 if len(set(currents)) > 1 else 1)
    data = {"left": edges[:-1], "right": edges[1:], "top": counts}
    tips = {"J": "@left{0.000} to @right{0.000}", "images": "@top"}
    style = {"fill_color": GREEN, "line_color": "white", "bottom": 0}
    add(below, "quad", data, tips, **style, **{each: each for each in data})
    below.x_range = curve.x_range
    left = [_weights(weights, name.partition(", image")[0])] if np.size(weights) else []
    left = column(*left, stacked([curve, below]), sizing_mode="stretch_width", min_width=440)
    right = stacked(_traces(traces, dt, name))
    return row(left, right, sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})


def _weights(weights: np.ndarray, name: str) -> figure:
    """Draw weights as an image, or as a tile for each channel. Colours are centred at 0."""
    weights = np.asarray(weights, np.float64)
    shape = (1, *weights.shape)[-3:] if weights.ndim != 2 else weights.shape
    weights = weights.reshape(*shape, *[1] * (3 - len(shape)))
    n_channels, n_drawn = weights.shape[2], min(weights.shape[2], _MOST_TILES)
    part = f"{n_drawn} of " if n_drawn < n_channels else ""
    said = f", {part}{plural(n_channels, 'channel')}" if n_channels > 1 else ""
    parts = {"weight": weights} | dict(zip(_AXES, np.indices(weights.shape), strict=True))
    data = {word: [_tiled(each[..., :n_drawn])] for word, each in parts.items()}
    rows, columns = data["weight"][0].shape
    size = {"frame_height": 220, "frame_width": max(60, min(220 * columns // rows, 400))}
    size |= {"height": None, "sizing_mode": None, "toolbar_location": None}
    ranges = {"x_range": Range1d(-0.5, columns - 0.5), "y_range": Range1d(rows - 0.5, -0.5)}
    title = f"weights of {name}{said}\npurple excites, orange inhibits"
    drawn = new_figure(title, **size, **ranges)
    drawn.grid.visible = drawn.axis.visible = False
    most = float(np.abs(weights[np.isfinite(weights)]).max(initial=0.0)) or 1.0
    colours = LinearColorMapper(palette=DIVERGING, nan_color="white", low=-most, high=most)
    place = {"x": -0.5, "y": -0.5, "dw": columns, "dh": rows, "color_mapper": colours}
    tips = {word: f"@{word}" for word in _AXES} | {"weight": "@weight{0.0000}"}
    add(drawn, "image", data, tips, image="weight", **place)
    drawn.add_layout(models.ColorBar(color_mapper=colours, title="weight", width=12), "right")
    return drawn


_AXES = ("row", "column", "channel")


def _tiled(tiles: np.ndarray) -> np.ndarray:
    """Return (rows, columns, n) as one image of n tiles, with gaps of NaN between them."""
    rows, columns, n = tiles.shape
    across = min(n, int(np.ceil(np.sqrt(1.5 * n * rows / columns))))
    tiles = np.moveaxis(np.asarray(tiles, dtype=np.float64), 2, 0)
    tiles = np.pad(tiles, ((0, -n % across), (0, 1), (0, 1)), constant_values=np.nan)
    lines = tiles.reshape(-1, across, rows + 1, columns + 1)
    return np.vstack([np.hstack(line) for line in lines])[:-1, :-1]


def _traces(traces: Mapping[str, np.ndarray], dt: float, name: str) -> list[figure]:
    """Draw current, voltage and spikes on a shared time axis."""
    shown: list[figure] = []
    for what, colour in {"current": PINK, "voltage": ORANGE, "spikes": "black"}.items():
        values = np.asarray(traces.get(what, ()), dtype=np.float64)
        if not values.size:
            continue
        times, time = step_ends(len(values), dt)
        said = f"mean {number(values.mean())}, {number(values.min())} to {number(values.max())}"
        said = plural(int(np.abs(values).sum()), "spike") if what == "spikes" else said
        drawn = new_figure(f"{what} of {name}: {said}", time, what.replace("current", "current J"))
        drawn.x_range = Range1d(0, times[-1])
        data, tips = {"x": times, "y": values}, {time: "@x{0.[0]}", what: "@y{0.[000]}"}
        add(drawn, "step", data, tips, x="x", y="y", mode="before", line_color=colour)
        shown.append(drawn)
    return shown


def plot_layer(
    observed: np.ndarray, predicted: np.ndarray, name: str = "layer", ceiling: float = np.inf
) -> figure:
    """Draw a layer's observed rates against the predicted ones.

    Parameters
    ----------
    observed, predicted : (n_images, n_neurons) ndarray, in Hz
        Rates, NaN where unknown. Of many, 4,000 drawn at random are shown; the title counts all.
    ceiling : float, in Hz
        The largest rate that the neurons can have.
    name

    Returns
    -------
    figure : bokeh.plotting.figure

    Raises
    ------
    InputError
        The two have different shapes.
    """
    if np.ndim(observed) != 2 or np.shape(observed) != np.shape(predicted):
        expected = "observed and predicted: expected rates of one shape, (n_images, n_neurons)"
        raise InputError(f"{expected}, got {np.shape(observed)} and {np.shape(predicted)}")
    title = f"{name}: {share(observed == 0)} silent"
    if np.isfinite(ceiling):
        most = SATURATED * ceiling
        title += f", {share(np.abs(observed) > most)} saturated (over {most:,.0f} Hz)"
    chosen = np.arange(observed.size)
    if observed.size > _MOST_POINTS:
        chosen = np.random.default_rng(0).choice(observed.size, _MOST_POINTS, replace=False)
    rates = {"predicted": predicted.ravel()[chosen], "observed": observed.ravel()[chosen]}
    known = np.isfinite(sum(rates.values()))
    data = {word: each[known] for word, each in rates.items()}
    ends = np.concatenate([*data.values()])
    ends = [ends.min(initial=0.0), ends.max(initial=1.0)]
    data["image"], data["neuron"] = np.divmod(chosen[known], observed.shape[1])
    words = f"{np.sum(known):,} of {observed.size:,} rates are drawn"
    title += f"\n{words if known.any() else 'no prediction'}"
    drawn = new_figure(title, "predicted rate (Hz)", "observed rate (Hz)", height=440)
    drawn.line(ends, ends, line_color="black", line_dash="dashed")
    style = {"size": 6, "fill_color": BLUE, "fill_alpha": 0.3, "line_color": None}
    tips = {"neuron": "@neuron", "image": "@image"}
    tips |= {word: f"@{word}{{0,0.0}} Hz" for word in rates}
    add(drawn, "scatter", data, tips, x="predicted", y="observed", **style)
    return drawn
