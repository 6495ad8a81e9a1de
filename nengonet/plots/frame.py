"""Code that all figures share: style, colours, checks, time axes and saving."""

from __future__ import annotations

import functools
import io
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from nengonet.checks import as_array, as_pixels
from nengonet.exceptions import InputError
from nengonet.files import output_path, printable, write_whole
from nengonet.plots.labels import label_ends

# Okabe & Ito (2008): distinct for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
# Styles distinguish curves that lie on top of each other.
STYLES = ("-", ":", "-.")
_MOST_NAMED = 12  # number of classes whose names fit at the ends of their curves

_STYLE = {
    "figure.constrained_layout.use": True,
    "figure.figsize": (7.0, 4.2),
    "axes.titlesize": "medium",
    "legend.fontsize": "small",
    "legend.title_fontsize": "small",
}
_Draw = TypeVar("_Draw", bound=Callable[..., object])


def in_style(draw: _Draw) -> _Draw:
    """Decorate a function that makes a figure."""

    @functools.wraps(draw)
    def styled(*args: object, **keywords: object) -> object:
        # Loads the backend before the context: a notebook's makes figures interactive, which the
        # context's end would take back, and no later figure would be shown.
        plt.draw_if_interactive()
        with plt.rc_context(_STYLE):
            return draw(*args, **keywords)

    return styled


def as_image(image: np.ndarray) -> np.ndarray:
    """Return an image as floats, of shape (rows, columns) or with three channels."""
    image = as_pixels(as_array("image", image, "biuf")[np.newaxis], "image")[0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        expected = "(rows, columns) or (rows, columns, 1 or 3 channels)"
        raise InputError(f"image: expected {expected}, got {image.shape}")
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def names_of_classes(class_names: Sequence[str] | None, n_classes: int) -> list[str]:
    """Return a name for each class, by default its number."""
    if class_names is None:
        return [str(k) for k in range(n_classes)]
    if len(class_names) != n_classes:
        raise InputError(
            f"class_names: expected {n_classes}, one for each output, got {len(class_names)}"
        )
    return [plain(name) for name in class_names]


def plain(text: object) -> str:
    """Return a user's text for a figure, without formulas and cut to the available room."""
    text = printable(text)
    return (text if len(text) <= 30 else f"{text[:29]}…").replace("$", r"\$")


def time_unit(duration: float) -> tuple[float, str]:
    """Return the factor from seconds, and the name, of the unit for times up to a duration.

    Parameters
    ----------
    duration : float, in seconds
        The longest time.

    Examples
    --------
    >>> nn.plots.time_unit(0.35)
    (1000.0, 'ms')
    """
    return (1000.0, "ms") if duration < 2 else (1.0, "s")


def step_ends(n_steps: int, dt: float) -> tuple[np.ndarray, str]:
    """Return the end of every step of a presentation, and the label of that axis."""
    factor, unit = time_unit(n_steps * dt)
    return factor * dt * np.arange(1, n_steps + 1), f"time ({unit})"


def draw_curves(
    axis: Axes,
    times: np.ndarray,
    curves: np.ndarray,
    names: Sequence[str],
    answer: int,
    right: int | None = None,
    most_named: int = _MOST_NAMED,
    **style,
) -> None:
    """Draw a curve for each class, (n_steps, n_classes), and write its name at its end.

    The right class is thick and blue, a wrong answer thick, red and dashed; the others are grey,
    and named unless they are many. If the right class is unknown, the answer is blue.
    """
    ends, others = [], {}
    for k, (curve, name) in enumerate(zip(np.transpose(curves), names, strict=True)):
        wrong = k == answer and right not in (None, answer)
        marked = k in (answer, right)
        colour = COLOURS[1] if wrong else COLOURS[0] if marked else "0.6"
        width, order = (2.2, 3 + wrong) if marked else (0.9, 2)
        line = "--" if wrong else "-"
        axis.plot(times, curve, line, c=colour, lw=width, zorder=order, label=name, **style)
        roles = {"right": right, "answer": answer}
        words = " and ".join(role for role, each in roles.items() if k == each)
        if marked:
            ends.append((times[-1], curve[-1], f"{name}, {words}", colour))
        elif len(names) <= most_named:
            others.setdefault(curve[-1], []).append(name)
    # Curves that end at the same point share a label.
    ends += [(times[-1], end, ", ".join(each), "0.45") for end, each in others.items()]
    axis.set_xlim(0, times[-1])
    label_ends(axis, ends, "x-small")


def check_figure_path(path: str | os.PathLike) -> None:
    """Raise `InputError` now if a figure cannot be saved under that name later.

    Parameters
    ----------
    path : path_like
        Path of the figure to save.

    Examples
    --------
    >>> nn.plots.check_figure_path("figure.png")
    """
    endings = [f".{name}" for name in sorted(FigureCanvasBase.get_supported_filetypes())]
    output_path(path, "figure", endings)


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Save a figure in the format of the path's extension, whole or not at all, and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path_like
        The extension chooses the format.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, rasters=["layer"], presentation_time=0.1)
    >>> nn.plots.save_figure(nn.plots.plot_raster(result, "layer"), "raster.png")
    """
    check_figure_path(path)
    path, content = pathlib.Path(path), io.BytesIO()
    figure.savefig(content, format=path.suffix[1:].lower(), dpi=150)
    write_whole(path, content.getbuffer())
    plt.close(figure)


def as_png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG, and close it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    plt.close(figure)
    return content.getvalue()


def image_as_png(image: np.ndarray) -> bytes:
    """Return an image as the bytes of a PNG with the same pixels."""
    content = io.BytesIO()
    plt.imsave(content, as_image(image), format="png", cmap="gray", vmin=0, vmax=1)
    return content.getvalue()
