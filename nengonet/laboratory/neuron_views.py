"""The lab's figures of one neuron and one layer; parameters as in `nengonet.laboratory.views`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from bokeh import models
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, LayoutDOM, Range1d
from bokeh.plotting import figure

from nengonet.exceptions import InputError
from nengonet.explain.findings import SATURATED
from nengonet.laboratory import drawing
from nengonet.laboratory.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    RED,
    hover,
    new_figure,
    number,
    plural,
)
from nengonet.plots.frame import step_ends

_MOST_POINTS = 4000  # of a scatter
_MOST_TILES = 64  # of the weights of one neuron


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
    """Draw one neuron: its weights, its tuning curve, and its response to one image.

    Parameters
    ----------
    weights : array_like
        (n_inputs,) for a neuron of a dense layer; (height, width, channels) or (length, channels)
        for a filter of a convolution.
    shape : (rows, columns) or (rows, columns, channels) or None
        Shape of the layer before a dense layer, for weights drawn as images.
    tuning : pair of (n_points,) array_like
        Currents in increasing order, and the rate in Hz for each constant current.
    currents : (n_images,) array_like
        Mean current of the neuron in each of the images.
    traces : dict of (n_steps,) array_like
        Any of ``current``, ``voltage`` and ``spikes`` at each step, for the chosen image.
    rates : pair of float, in Hz
        Observed and predicted for this image; NaN where unknown.
    dt, name
    """
    observed, predicted = map(float, rates)
    said = f"observed {observed:,.1f} Hz (red)" if np.isfinite(observed) else "not observed"
    known = np.isfinite(predicted)
    said += f",\npredicted {predicted:,.1f} Hz (blue)" if known else ",\nno prediction"
    current = traces.get("current", ())
    mean = float(np.mean(current)) if np.size(current) else np.nan
    curve = new_figure(f"{name}: {said}", "current J", "rate (Hz)")
    points = ColumnDataSource({"current": tuning[0], "rate": tuning[1]})
    line = curve.line("current", "rate", source=points, line_color=BLUE, line_width=2)
    hover(curve, line, current="@current{0.000}", rate="@rate{0,0.0} Hz")
    marks = (predicted, BLUE, "diamond", 20), (observed, RED, "circle", 9)
    for rate, colour, marker, size in marks:
        if np.isfinite(rate + mean):
            style = {"fill_color": "white" if rate is predicted else colour, "line_color": colour}
            curve.scatter([mean], [rate], size=size, marker=marker, line_width=2, **style)
    below = drawing.stacked([curve, _histogram(currents, curve)])
    drawn = [_weights_figure(weights, shape, name)] if np.size(weights) else []
    left = column(*drawn, below, sizing_mode="stretch_width", min_width=400)
    right = drawing.stacked(_trace_figures(traces, dt, name))
    return drawing.beside(left, right)


def _histogram(currents: np.ndarray, above: figure) -> figure:
    """Draw the number of images at each current, on the x axis of the tuning curve."""
    currents = np.asarray(currents, dtype=np.float64).ravel()
    currents = currents[np.isfinite(currents)]
    title = f"its mean current in each of {plural(currents.size, 'image')}"
    drawn = new_figure(title, "current J", "images", height=180, x_range=above.x_range)
    counts, edges = np.histogram(currents, bins=40 if len(set(currents)) > 1 else 1)
    source = ColumnDataSource({"left": edges[:-1], "right": edges[1:], "count": counts})
    style = {"fill_color": GREEN, "line_color": "white", "source": source}
    bars = drawn.quad(left="left", right="right", bottom=0, top="count", **style)
    hover(drawn, bars, current="@left{0.000} to @right{0.000}", images="@count")
    return drawn


def _weights_figure(weights: np.ndarray, shape: Sequence[int] | None, name: str) -> figure:
    """Draw weights as an image, or as a tile for each channel. Colours are centred at 0."""
    weights = np.asarray(weights, dtype=np.float64)
    if shape is not None and weights.ndim == 1:
        if np.prod(shape) != weights.size:
            raise InputError(f"shape: expected that of {weights.size} inputs, got {tuple(shape)}")
        weights = weights.reshape(shape)
        weights = weights[..., 0] if weights.shape[2:] == (1,) else weights
    elif weights.ndim == 2:  # over steps
        weights = weights.T
    title, places = f"weights of {name}", np.indices(weights.shape)
    square = weights.ndim == 3 or (weights.ndim == 2 and shape is not None)
    words = ["input"] if weights.ndim == 1 else ["channel", "step of the kernel"]
    words = ["row", "column", "channel"][: weights.ndim] if square else words
    if weights.ndim == 3:
        n_channels, n_drawn = weights.shape[2], min(weights.shape[2], _MOST_TILES)
        part = f"{n_drawn} of " if n_drawn < n_channels else ""
        title += f", {part}{plural(n_channels, 'channel')}"
        weights, *places = (_tiled(each[..., :_MOST_TILES]) for each in (weights, *places))
    weights, *places = map(np.atleast_2d, (weights, *places))
    rows, columns = weights.shape
    data = {"image": [weights]} | {word: [each] for word, each in zip(words, places, strict=True)}
    size = {"x_range": Range1d(-0.5, columns - 0.5), "y_range": Range1d(rows - 0.5, -0.5)}
    size |= {"frame_height": 220, "height": None} if rows > 1 else {"height": 150}
    if square:
        size["frame_width"] = max(60, min(220 * columns // rows, 260))
        size |= {"sizing_mode": None, "toolbar_location": None}
    y, x = ("", *words)[-2:] if len(words) < 3 else ("", "")
    drawn = new_figure(f"{title}\npurple excites, orange inhibits", x, y, **size)
    drawn.grid.visible, drawn.axis.visible = False, len(words) < 3
    most = float(np.max(np.abs(weights), initial=0.0, where=np.isfinite(weights))) or 1.0
    colours = {"palette": drawing.DIVERGING, "nan_color": "white"}
    colours = models.LinearColorMapper(low=-most, high=most, **colours)
    place = {"x": -0.5, "y": -0.5, "dw": columns, "dh": rows, "color_mapper": colours}
    glyph = drawn.image("image", source=ColumnDataSource(data), **place)
    tips = {word.replace(" ", "_"): f"@{{{word}}}" for word in words}
    hover(drawn, glyph, **tips, weight="@image{0.0000}")
    drawn.add_layout(models.ColorBar(color_mapper=colours, title="weight", width=12), "right")
    return drawn


def _tiled(tiles: np.ndarray) -> np.ndarray:
    """Return (rows, columns, n) as one image of n tiles, with gaps of NaN between them."""
    rows, columns, n = tiles.shape
    across = min(n, int(np.ceil(np.sqrt(1.5 * n * rows / columns))))
    tiles = np.moveaxis(np.asarray(tiles, dtype=np.float64), 2, 0)
    tiles = np.pad(tiles, ((0, -n % across), (0, 1), (0, 1)), constant_values=np.nan)
    lines = tiles.reshape(-1, across, rows + 1, columns + 1)
    return np.vstack([np.hstack(line) for line in lines])[:-1, :-1]


def _trace_figures(traces: Mapping[str, np.ndarray], dt: float, name: str) -> list[figure]:
    """Draw current, voltage and spikes on a shared time axis."""
    shown: list[figure] = []
    for what, colour in {"current": PINK, "voltage": ORANGE, "spikes": "black"}.items():
        values = np.asarray(traces.get(what, ()), dtype=np.float64)
        if not values.size:
            continue
        times, time = step_ends(len(values), dt)
        said = f"mean {number(values.mean())}, {number(values.min())} to {number(values.max())}"
        said = plural(int(np.abs(values).sum()), "spike") if what == "spikes" else said
        axis = shown[0].x_range if shown else Range1d(0, times[-1])
        word = "current J" if what == "current" else what
        drawn = new_figure(f"{what} of {name}: {said}", time, word, x_range=axis)
        shown.append(drawn)
        source = ColumnDataSource({"time": times, "value": values})
        style = {"source": source, "line_color": colour, "line_width": 1.5}
        if what == "spikes":
            drawn.height, drawn.yaxis.ticker.min_interval = 160, 1
            drawn.y_range = Range1d(min(0, values.min()), max(1, values.max()))
            glyph = drawn.segment(x0="time", x1="time", y0=0, y1="value", **style)
        else:
            glyph = drawn.step("time", "value", mode="before", **style)
        hover(drawn, glyph, **{time: "@time{0.[0]}", what: "@value{0.[000]}"})
    for drawn in shown[:-1]:
        drawn.xaxis.axis_label = None
    return shown


def layer_view(
    observed: np.ndarray,
    predicted: np.ndarray | None = None,
    *,
    name: str = "layer",
    ceiling: float = np.inf,
) -> tuple[LayoutDOM, ColumnDataSource]:
    """Draw a layer's observed rates against the predicted ones, and both distributions.

    Both are (n_images, n_neurons), in Hz, and NaN where unknown. ``ceiling`` is the largest rate
    that the neurons can have, in Hz. The source has the ``image`` and ``neuron`` of each point, and
    ``source.selected.indices`` is the clicked point.
    """
    observed = np.asarray(observed, dtype=np.float64)
    predicted = np.full(observed.shape, np.nan) if predicted is None else np.asarray(predicted)
    if predicted.shape != observed.shape or observed.ndim != 2:
        expected = "(n_images, n_neurons) of both"
        raise InputError(f"rates: expected {expected}, got {observed.shape}, {predicted.shape}")
    shares = f"{drawing.share(observed == 0)} silent"
    if np.isfinite(ceiling):
        most = SATURATED * ceiling
        shares += f",\n{drawing.share(np.abs(observed) > most)} saturated (over {most:,.0f} Hz)"
    chosen = np.arange(observed.size)
    if observed.size > _MOST_POINTS:
        chosen = np.random.default_rng(0).choice(observed.size, _MOST_POINTS, replace=False)
    rates = {"observed": observed.ravel()[chosen], "predicted": predicted.ravel()[chosen]}
    known = np.isfinite(rates["observed"] + rates["predicted"])
    source = {word: each[known] for word, each in rates.items()}
    source["image"], source["neuron"] = np.divmod(chosen[known], observed.shape[1])
    source = ColumnDataSource(source)
    words = f"{np.sum(known):,} of {observed.size:,} rates are drawn"
    title = f"{name}: {shares}\n{words if known.any() else 'no prediction'}"
    drawn = np.concatenate([source.data[word] for word in rates])
    ends = [drawn.min(initial=0.0), drawn.max(initial=1.0)]
    scatter = new_figure(title, "predicted rate (Hz)", "observed rate (Hz)", height=400)
    scatter.line(ends, ends, line_color="black", line_dash="dashed")
    style = {"size": 6, "fill_color": BLUE, "fill_alpha": 0.3, "line_color": None, "name": "rates"}
    style |= {"nonselection_fill_alpha": 0.3, "selection_fill_color": RED}
    glyph = scatter.scatter("predicted", "observed", source=source, **style)
    tips = {word: f"@{word}{{0,0.0}} Hz" for word in rates}
    hover(scatter, glyph, neuron="@neuron", image="@image", **tips)
    scatter.add_tools(models.TapTool(renderers=[glyph]))
    return drawing.beside(scatter, _spread(observed, predicted)), source


def _spread(observed: np.ndarray, predicted: np.ndarray) -> figure:
    """Draw the distributions of observed and predicted rates of half a spike or more."""
    found = {"observed": np.abs(observed), "predicted": np.abs(predicted)}
    # Observed rates are multiples of one spike's rate, so bins hold equally many whole counts.
    spiking = observed[np.isfinite(observed) & (observed != 0)]
    one = np.abs(spiking).min() if spiking.size else 1.0
    found = {word: each[np.isfinite(each)] for word, each in found.items()}
    most = max(each.max(initial=one) for each in found.values())
    width = int(np.ceil(most / one / 40))
    edges = one * (0.5 + width * np.arange(int(np.ceil(most / one / width)) + 1))
    title = "how often each rate occurs\n(those of no spike are left out)"
    title += "\nred: observed, blue line: predicted"
    drawn = new_figure(title, "rate (Hz)", "share of all rates (%)", height=400)
    for (word, rates), colour in zip(found.items(), (RED, BLUE), strict=True):
        shares = 100 * np.histogram(rates, edges)[0] / max(observed.size, 1)
        source = ColumnDataSource({"left": edges[:-1], "right": edges[1:], "share": shares})
        style = {"fill_color": colour, "fill_alpha": 0.45 if word == "observed" else 0}
        style |= {"line_color": colour if word == "predicted" else "white", "source": source}
        bars = drawn.quad(left="left", right="right", bottom=0, top="share", **style)
        hover(drawn, bars, rate="@left{0.0} to @right{0.0} Hz", **{word: "@share{0.00} %"})
    return drawn
