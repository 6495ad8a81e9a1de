"""Labels beside the ends of curves, instead of a legend."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation

_WIDTH = 26  # characters in a line of a label
_PAD = 9.0  # points between the axes and a label
_FAR = 0.9  # of the axes' width: where a curve ends that its label is not far from
# From the middle of a label's left side.
_TO_ITS_END = {
    "arrowstyle": "-",
    "lw": 0.6,
    "relpos": (0.0, 0.5),
    "patchA": None,
    "shrinkA": 1.0,
    "shrinkB": 0.0,
}


def label_ends(
    axis: Axes, ends: Iterable[tuple[float, float, str, str]], fontsize: str | float = "small"
) -> None:
    """Write a label, (x, y, words, colour), at the right of the axes for each curve's end.

    They do not overlap. Their places are found when the figure is drawn, so limits and scales may
    still change.
    """
    group: list[_EndLabel] = []
    for x, y, words, colour in ends:
        lines = textwrap.wrap(words, _WIDTH) or [""]
        label = _EndLabel(
            "\n".join(lines),
            (x, y),
            xytext=(1.0, 0.5),
            textcoords="axes fraction",
            color=colour,
            fontsize=fontsize,
            va="center",
            annotation_clip=False,
            linespacing=1.1,
            arrowprops=_TO_ITS_END | {"color": colour},
        )
        label.end, label.group = (x, y), group
        group.append(label)
        axis.add_artist(label)
        # By default, an added artist is cut off at the axes.
        label.set_clip_on(False)


def label_lines(axis: Axes, fontsize: str | float = "small") -> None:
    """Write the name of each line at its end, in its colour, in place of a legend.

    Limits and scales of the axes may be changed afterwards: where the names stand, so that none is
    over another, is found when the figure is drawn.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        Lines that were given a ``label`` are named.
    fontsize : str or float
        As for `matplotlib.text.Text`.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, axis = plt.subplots(layout="constrained")
    >>> lines = axis.plot([0, 1], [0, 1], label="linear") + axis.plot([0, 1], [0, 0], label="zero")
    >>> nn.plots.label_lines(axis)
    >>> [text.get_text() for text in axis.texts]
    ['linear', 'zero']
    """
    ends = [
        (*line.get_xydata()[-1], line.get_label(), line.get_color())
        for line in axis.lines
        if not line.get_label().startswith("_") and len(line.get_xydata())
    ]
    label_ends(axis, ends, fontsize)


class _EndLabel(Annotation):
    """A label that makes room for the others of its axes."""

    end: tuple[float, float]
    group: list[_EndLabel]

    def update_positions(self, renderer) -> None:
        """Place the label; matplotlib calls this before it draws or measures one."""
        axes, size = self.axes, renderer.points_to_pixels(self.get_fontsize())
        heights = [1.2 * size * (each.get_text().count("\n") + 1) for each in self.group]
        bottom, height = axes.bbox.y0, axes.bbox.height
        ends = [each._height_of_end() for each in self.group]
        middles = spread(ends, heights, bottom, bottom + height)
        middle = middles[self.group.index(self)]
        pad = renderer.points_to_pixels(_PAD) / axes.bbox.width
        self.xy = (self.end[0], np.clip(self.end[1], *sorted(axes.get_ylim())))
        self.set_position((1.0 + pad, (middle - bottom) / height))
        # Across the axes, a line must not look like more of the curve.
        inside = self.axes.transAxes.inverted().transform(self.axes.transData.transform(self.xy))
        self.arrow_patch.set_linestyle("-" if inside[0] > _FAR else (0, (1, 3)))
        super().update_positions(renderer)

    def _height_of_end(self) -> float:
        low, high = sorted(self.axes.get_ylim())
        return self.axes.transData.transform((self.end[0], np.clip(self.end[1], low, high)))[1]


def spread(
    wanted: Iterable[float], sizes: Iterable[float], low: float = -np.inf, high: float = np.inf
) -> np.ndarray:
    """Return the places closest to those wanted (least squares) at which nothing overlaps.

    All of them are between ``low`` and ``high``, if there is enough room.
    """
    wanted, sizes = np.asarray(wanted, dtype=float), np.asarray(sizes, dtype=float)
    order = np.argsort(wanted, kind="stable")
    # After subtracting the room of those below, the places only need to increase.
    gaps = (sizes[order][1:] + sizes[order][:-1]) / 2
    below = np.concatenate([[0.0], np.cumsum(gaps)])[: len(order)]
    blocks: list[tuple[float, int]] = []  # their mean, and how many are in it
    for value in wanted[order] - below:
        mean, n = value, 1
        while blocks and blocks[-1][0] > mean:
            before, m = blocks.pop()
            mean, n = (before * m + mean * n) / (m + n), m + n
        blocks.append((mean, n))
    rising = np.repeat([mean for mean, _ in blocks], [n for _, n in blocks])
    if len(order) and high - below[-1] >= low:
        rising = np.clip(rising, low, high - below[-1])
    places = np.empty(len(order))
    places[order] = rising + below
    return places
