"""Tables for the reproductions' pages, from the files that their commands wrote.

Nobody types the figures of a reproduction: ``results/make.py`` runs the commands, what they printed
is rendered here, with the command, the day, the versions and the machine, and ``results/pages.py``
puts it into the pages.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterable

FOLDER = pathlib.Path(__file__).parents[1] / "results"
# Lists that a cell holds for programs; a table shows what stands beside them.
# An option in a sentence: on a page, its dashes would become one.
_OPTION = re.compile(r"(?<![\w`-])--[a-z][\w-]*")
_PLAIN = (str, int, float, bool, type(None))


def load(name: str) -> dict | None:
    """Return the record of a run, or None where nobody has made it yet."""
    file = FOLDER / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def render(name: str) -> list[str]:
    """Return the run and its figures as lines of Markdown."""
    record = load(name)
    if record is None:
        return _missing(name)
    report = record["report"]
    lines = ["```console", f"$ {record['command']}", "```", ""]
    rows = [
        ("published", _cell("published", report.get("published"))),
        ("ANN", _cell("accuracy", report.get("ann_accuracy"))),
        ("spiking network", _with_interval(report)),
        ("images", _cell("n_images", report.get("n_images"))),
        ("steps", _cell("n_steps", report.get("n_steps"))),
        ("ties", _cell("ties", report.get("ties"))),
    ]
    for key, title in (
        ("spikes_per_image", "spikes per image"),
        ("operations_per_image", "synaptic operations per image"),
        ("multiply_adds", "multiply-adds of the ANN per image"),
    ):
        if report.get(key):
            rows.append((title, f"{sum(report[key].values()):,.0f}"))
    lines += table(["", ""], [row for row in rows if row[1] != "-"])
    lines += [""] + [f"- {_text(note)}" for note in report.get("notes", ())]
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    machine = record["machine"]
    # A record that was put together from several runs has no time of its own.
    parts = f"in parts: {_text(record.get('made', ''))}"
    took = f"in {record['seconds']:,.0f} s" if record["seconds"] else parts
    lines += [
        "",
        f"*Measured on {record['date']} {took}, on {machine['cores']} cores "
        f"({machine['processor']}), with {versions}.*",
    ]
    if record.get("provisional"):
        lines += ["", "*Provisional: fewer images than the study has.*"]
    return lines


def render_cells(
    name: str, columns: Iterable[str] = (), where: dict[str, str] | None = None
) -> list[str]:
    """Return the rows of a report's table as lines of Markdown.

    Parameters
    ----------
    name : str
    columns : iterable of str
        Only these; by default all that hold a number or a word in some row.
    where : dict of str
        Only rows with these values, compared as they are shown.
    """
    record = load(name)
    if record is None:
        return _missing(name)
    cells = [
        cell
        for cell in record["report"]["cells"]
        if all(
            _cell(key, cell.get(key)).replace("\\", "") == value
            for key, value in (where or {}).items()
        )
    ]
    if where and not cells:
        raise ValueError(f"{name}: expected rows with {where}, found none")
    keys = list(columns) or [
        key
        for key in dict.fromkeys(key for cell in cells for key in cell)
        if (key == "interval" or all(isinstance(cell.get(key), _PLAIN) for cell in cells))
        and any(cell.get(key) is not None for cell in cells)
    ]
    return table(
        list(map(_title, keys)), [[_cell(key, cell.get(key)) for key in keys] for cell in cells]
    )


def render_notes(name: str) -> list[str]:
    """Return what a run says of its own figures, as lines of Markdown.

    Parameters
    ----------
    name : str
    """
    record = load(name)
    return (
        _missing(name)
        if record is None
        else [f"- {_text(note)}" for note in record["report"]["notes"]]
    )


def table(titles: list[str], rows: list) -> list[str]:
    """Return a Markdown table."""
    return [
        f"| {' | '.join(titles)} |",
        f"|{'---|' * len(titles)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _title(key: str) -> str:
    """Return the title of a column."""
    return "95 % interval" if key == "interval" else key.removeprefix("n_").replace("_", " ")


def _missing(name: str) -> list[str]:
    return [f"*Not measured yet: `python docs/results/make.py {name}` runs it.*"]


def _with_interval(report: dict) -> str:
    value = _cell("accuracy", report.get("accuracy"))
    if not report.get("interval"):
        return value
    return f"{value} (95 % interval {_cell('interval', report['interval'])})"


def _cell(key: str, value: object) -> str:
    if value is None:
        return "none" if key == "synapse" else "-"
    if isinstance(value, (list, tuple)):
        return " to ".join(_cell(key, each) for each in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _text(str(value))
    if isinstance(value, int):
        return f"{value:,}"
    if key in ("accuracy", "ann_accuracy", "interval"):
        return f"{value:.4f}"
    return f"{value:.4g}"


def _text(words: str) -> str:
    """Return words that Markdown leaves as they are, code excepted."""
    words = _OPTION.sub(r"`\g<0>`", words)
    parts = words.split("`")  # every other one is code
    for sign in "\\*_<>|[]":
        parts[::2] = [part.replace(sign, f"\\{sign}") for part in parts[::2]]
    return "`".join(parts)
