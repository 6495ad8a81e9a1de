"""Fill the pages of the reproductions from the records beside this file, and draw their figures.

    python docs/results/pages.py            # pages and figures
    python docs/results/pages.py --check    # whether the pages are those of the records

The pages are plain Markdown, for GitHub as well as for the site. A comment says what stands below
it, up to the next ``<!-- end -->``:

``<!-- grid NAME -->``
    Published and measured, a row for each network: what the figure shows.
``<!-- result RECORD -->``
    A run: its command, its figures, what it says of them, what it was measured with.
``<!-- cells RECORD; where: name=value, …; columns: name … -->``
    Rows of a run's table: `results.render_cells`.
``<!-- notes RECORD -->``
    What a run says of its figures.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
import types
from collections.abc import Iterator
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from nengonet import studies
from nengonet.plots import COLOURS, plot_amplitude
from nengonet.results.readout import share_interval
from nengonet.studies.amplitude import N_IMAGES

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "_extensions"))

import results  # noqa: E402

PAGES = FOLDER.parent / "reproductions"
_BLOCK = re.compile(
    r"^<!-- (?P<kind>grid|result|cells|notes) (?P<words>[^>]*) -->\n.*?^<!-- end -->$",
    re.DOTALL | re.MULTILINE,
)


class Row(NamedTuple):
    """One network: published and measured accuracy in [0, 1], with its 95 % interval."""

    name: str
    published: float | None
    measured: float
    interval: tuple[float, float]
    n_images: int
    #: Runs from different initial voltages, of which the accuracy is the mean.
    n_seeds: int = 1


def _report(name: str) -> dict:
    return results.load(name)["report"]


def _run(name: str, report: dict) -> Row:
    """Return the run that a report is of."""
    keys = ("published", "accuracy", "interval", "n_images")
    return Row(name, *(report[key] for key in keys))


def _ann(report: dict, name: str = "the ANN of these weights") -> Row:
    value, n_images = report["ann_accuracy"], report["n_images"]
    low, high = share_interval([value], n_images)
    return Row(name, None, value, (float(low), float(high)), n_images)


def _forum_mnist() -> Iterator[Row]:
    posted, repaired = _report("forum-mnist-posted"), _report("forum-mnist")
    yield _run("as posted", posted)
    for cell in posted["cells"]:
        if cell["readout"] == "spike count":
            interval, n_images = cell["interval"], cell["n_images"]
            yield Row("as posted, spikes counted", None, cell["accuracy"], interval, n_images)
    yield _run("repaired", repaired)
    yield _ann(repaired)


def _amplitude() -> Iterator[Row]:
    report = _report("amplitude")
    words = {"fixed": "weights fixed", "rate": "rate neurons", "compensated": "compensated"}
    for cell in report["cells"]:
        shown = [("fixed", 0.01), ("fixed", 0.1), *((kind, 0.5) for kind in words)]
        if (cell["kind"], cell["amplitude"]) in shown:
            network, amplitude = cell["network"], cell["amplitude"]
            name = f"{network.upper()}, amplitude {amplitude:g}, {words[cell['kind']]}"
            # What is published is of the tutorial's CNN, at the amplitude it was trained at.
            own = network == "cnn" and (cell["kind"], amplitude) == ("fixed", 0.01)
            interval = (cell["low"], cell["high"])
            figures = (report["published"] if own else None, cell["mean"], interval)
            yield Row(name, *figures, N_IMAGES[network], cell["n"])


def _bengali() -> Iterator[Row]:
    report = _report("bengali")
    for cell in report["cells"]:
        if cell["n_images"] == report["n_images"]:
            name = f"{cell['neurons']} neurons" if cell["neurons"] != "repaired" else "repaired"
            figures = (cell["published"], cell["accuracy"], cell["interval"], cell["n_images"])
            yield Row(f"{name}, {cell['n_steps']} steps", *figures)
    yield _ann(report)


def _fashion_mnist() -> Iterator[Row]:
    for cell in _report("fashion-mnist")["cells"]:
        if cell.get("published_accuracy") is not None:
            name = f"{cell['network']}, dt {cell['dt']:g} s"
            figures = (cell["accuracy"], cell["interval"], cell["n_images"])
            yield Row(name, cell["published_accuracy"], *figures)
    yield _ann(_report("fashion-mnist"), "the plain network's ANN")


def _cifar_csnn() -> Iterator[Row]:
    report = _report("cifar-csnn")
    words = {
        "rate": "rate ReLU",
        "relu": "spiking ReLU",
        "lif": "LIF",
        "adaptive-lif": "adaptive LIF",
    }
    for cell in report["cells"]:
        if cell.get("published_accuracy") is not None:
            name = f"{words[cell['neurons']]}, synapse {1000 * cell['synapse']:g} ms"
            figures = (cell["published_accuracy"], cell["accuracy"], cell["interval"])
            yield Row(name, *figures, report["n_images"], cell["n_seeds"])
    yield _run("repaired, max pools kept", report)
    published = report["settings"]["ANN"]["max pools"]["published_accuracy"]
    yield _ann(report, "the ANN, max pools")._replace(published=published)


GRIDS = {
    "forum-mnist": _forum_mnist,
    "amplitude": _amplitude,
    "bengali": _bengali,
    "fashion-mnist": _fashion_mnist,
    "cifar-csnn": _cifar_csnn,
}


def grid(name: str) -> list[str]:
    """Return the table of published and measured figures."""
    rows = list(GRIDS[name]())
    seeds = any(row.n_seeds > 1 for row in rows)
    titles = ["network", "published", "measured", "95 % interval", "images"]
    lines = []
    for row in rows:
        published = "–" if row.published is None else f"{row.published:.4g}"
        cells = [row.name, published, f"{row.measured:.4f}"]
        cells += [" to ".join(f"{end:.4f}" for end in row.interval), f"{row.n_images:,}"]
        lines.append(cells + [str(row.n_seeds)] * seeds)
    return results.table(titles + ["seeds"] * seeds, lines)


def draw(name: str) -> Figure:
    """Draw what was measured beside what was published."""
    if name == "amplitude":
        figure = plot_amplitude(_report(name)["cells"])
    else:
        figure = _dots(list(GRIDS[name]()))
    command = results.load(name)["command"]
    figure.suptitle(f"{studies.get(name).title}: {command}", fontsize="medium")
    return figure


def _dots(rows: list[Row]) -> Figure:
    size = (8.0, 0.3 * len(rows) + 1.5)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    for place, row in enumerate(rows):
        interval = [100 * end for end in row.interval]
        axis.plot(interval, [place] * 2, c=COLOURS[0], lw=2.0, solid_capstyle="butt")
        axis.plot(100 * row.measured, place, "o", c=COLOURS[0], ms=6)
        if row.published is not None:
            axis.plot(100 * row.published, place, "D", c=COLOURS[1], ms=7, mfc="none", mew=1.5)
    words = {"xycoords": "axes fraction", "xytext": (0, 5), "textcoords": "offset points"}
    axis.annotate("● measured, with 95 % interval", (0, 1), color=COLOURS[0], **words)
    axis.annotate("◇ published", (1, 1), color=COLOURS[1], ha="right", **words)
    axis.set_yticks(range(len(rows)), [row.name for row in rows])
    axis.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, 100))
    n_images = sorted({row.n_images for row in rows})
    axis.set_xlabel(f"accuracy (%) on {' or '.join(f'{n:,}' for n in n_images)} test images")
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def filled(text: str) -> str:
    """Return a page with what its comments ask for."""
    return _BLOCK.sub(_block, text)


def _block(match: re.Match) -> str:
    kind, words = match["kind"], match["words"]
    name, *options = (each.strip() for each in words.split(";"))
    given = types.SimpleNamespace(where="", columns="")
    for option in options:
        key, _, value = option.partition(":")
        if key not in ("where", "columns"):
            raise ValueError(f"{words}: expected where: or columns:, got {option}")
        setattr(given, key, value.strip())
    where = dict(each.strip().split("=") for each in given.where.split(",") if each.strip())
    lines = {
        "grid": lambda: grid(name),
        "result": lambda: results.render(name),
        "notes": lambda: results.render_notes(name),
        "cells": lambda: results.render_cells(name, given.columns.split(), where),
    }[kind]()
    return "\n".join([f"<!-- {kind} {words} -->", "", *lines, "", "<!-- end -->"])


def main() -> int:
    """Write or check all pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    old = []
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            old.append(page.name)
            if not check:
                page.write_text(filled(text), encoding="utf-8")
    if check:
        print(f"not those of the records: {', '.join(old)}" if old else "the pages hold")
        return min(len(old), 1)
    for name in GRIDS:
        figure = draw(name)
        (PAGES / "figures").mkdir(exist_ok=True)
        figure.savefig(PAGES / "figures" / f"{name}.png", dpi=100)
        plt.close(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
