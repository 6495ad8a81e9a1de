"""Code that the views share: colours, figures in one style, texts, images for Bokeh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bokeh import models
from bokeh.layouts import column, gridplot, row
from bokeh.models import LayoutDOM
from bokeh.plotting import figure
from matplotlib import colormaps
from matplotlib.colors import to_hex

from nengonet.plots.frame import COLOURS

BLUE, RED, GREEN, PINK, ORANGE = COLOURS
GREY, INK = "#8A8A8A", "#222222"
DIVERGING = [to_hex(colormaps["PuOr"](k)) for k in range(256)]  # as nengonet.plots has weights


def new_figure(title: str, x: str = "", y: str = "", **settings: object) -> figure:
    """Return a figure in the lab's style, with the available width and the given height."""
    style = {"height": 210, "sizing_mode": "stretch_width", "min_border_left": 70}
    style["min_border_right"] = 24
    style |= {"tools": "pan,wheel_zoom,box_zoom,reset,save", "x_axis_label": x, "y_axis_label": y}
    drawn = figure(title=title, **(style | settings))
    drawn.title.update(text_font_size="13px", text_color=INK)
    drawn.axis.axis_label_text_font_size = "13px"
    drawn.axis.axis_label_text_font_style = "normal"
    drawn.axis.major_label_text_font_size = "12px"
    for axis in drawn.axis:
        axis.formatter.use_scientific = False
    drawn.grid.grid_line_alpha = 0.4
    drawn.toolbar.logo = None
    return drawn


def stacked(figures: Sequence[figure]) -> LayoutDOM:
    """Stack figures, with one toolbar for all."""
    # The grid itself has no width in a page of Panel. Its toolbar works for a column, too.
    toolbar = gridplot([[each] for each in figures], toolbar_options={"logo": None}).toolbar
    below = column(*figures, sizing_mode="stretch_width")
    return row(below, toolbar, sizing_mode="stretch_width", min_width=400)


def beside(*parts: LayoutDOM) -> LayoutDOM:
    """Put parts side by side, or below each other where there is no room."""
    return row(*parts, sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})


def hover(drawn: figure, glyph: object, **tips: str) -> None:
    """Add tooltips for whatever is under the pointer."""
    tooltips = [(words.replace("_", " "), value) for words, value in tips.items()]
    drawn.add_tools(models.HoverTool(renderers=[glyph], tooltips=tooltips))


def number(value: float) -> str:
    """Return a number as text, with a few digits and without powers of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def plural(n: int, thing: str) -> str:
    """Return a number of things as text."""
    return f"{n:,} {thing}{'s' * (n != 1)}"


def as_rgba(images: np.ndarray) -> np.ndarray:
    """Return images as (n, rows, columns) of colours, from the bottom up as Bokeh draws them."""
    images = np.asarray(images)
    images = images / 255 if images.dtype == np.uint8 else images.astype(np.float64)
    images = np.nan_to_num(images, posinf=0.0, neginf=0.0)
    low, high = images.min(initial=0), images.max(initial=0)
    if low < 0 or high > 1:
        images = (images - low) / (high - low)
    images = images[:, np.newaxis] if images.ndim == 2 else images
    images = images[..., np.newaxis] if images.ndim == 3 else images
    images = images if images.shape[3] == 3 else images.mean(axis=3, keepdims=True)
    colours = np.full((*images.shape[:3], 4), 255, dtype=np.uint8)
    colours[..., :3] = np.round(255 * images)
    return np.ascontiguousarray(colours[:, ::-1]).view(np.uint32)[..., 0]


def share(flags: np.ndarray) -> str:
    """Return a share as text, with 0 and 100 % only where they are exact."""
    part = float(np.mean(flags)) if np.size(flags) else 0.0
    if 0 < part < 0.0005 or 0.9995 < part < 1:
        return "under 0.1%" if part < 0.5 else "over 99.9%"
    return f"{part:.1%}" if 0 < part < 0.01 or 0.99 < part < 1 else f"{part:.0%}"
