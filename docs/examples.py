"""Run the Python blocks of the documentation, and compare what they print with what is shown.

    python docs/examples.py            # compare
    python docs/examples.py --write    # put what they print into the pages

A block of Python may be followed by a block of text, which shows what it prints, and by a line
``:::{drawn} NAME``, which shows what it called ``figure``.
The blocks of a page run one after another, as one script.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import pathlib
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

FOLDER = pathlib.Path(__file__).parent
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<shown>.*?)```\n)?", re.DOTALL)
_NUMBER = re.compile(r"(\d[\d,]*\.?\d*(?:e[+-]?\d+)?)")


def pages() -> list[pathlib.Path]:
    """Return the pages that have Python blocks."""
    found = sorted(FOLDER.rglob("*.md"))
    return [page for page in found if BLOCK.search(page.read_text(encoding="utf-8"))]


class Ran(NamedTuple):
    """A block: where it ends, what it printed, what the page shows (or None), what it drew."""

    last_line: int
    printed: str
    shown: str | None
    figure: Figure | None


def run(page: pathlib.Path) -> list[Ran]:
    """Run a page's blocks."""
    text, namespace, found = page.read_text(encoding="utf-8"), {"__name__": "__page__"}, []
    with in_empty_folder(), warnings.catch_warnings():
        # Of max_rates that a stated gain does not need, and of a cache that others use too.
        warnings.filterwarnings("ignore", module=r"nengo\.")
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            # The lines before it keep their numbers, for a traceback.
            code = compile("\n" * line + block["code"], str(page), "exec")
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            last = text.count("\n", 0, block.end())
            found.append(
                Ran(last, printed.getvalue(), block["shown"], namespace.pop("figure", None))
            )
    plt.close("all")  # they can still be saved
    return found


@contextlib.contextmanager
def in_empty_folder() -> Iterator[None]:
    """Work in a folder that is gone afterwards."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def agree(printed: str, shown: str) -> bool:
    """Tell whether two texts are the same, but for the last digits of a number.

    Other versions of NumPy add up in another order, so that one spike in a thousand may move.
    """
    parts, others = _NUMBER.split(printed), _NUMBER.split(shown)
    return len(parts) == len(others) and all(
        _near(a, b) if position % 2 else a.split() == b.split()
        for position, (a, b) in enumerate(zip(parts, others, strict=True))
    )


def _near(a: str, b: str) -> bool:
    a, b = (float(each.replace(",", "")) for each in (a, b))
    return math.isclose(a, b, rel_tol=0.02, abs_tol=0.011)


def write(page: pathlib.Path) -> None:
    """Put what the blocks print into the page."""
    printed = iter(run(page))

    def renewed(block: re.Match) -> str:
        text = next(printed).printed
        shown = f"\n```text\n{text}```\n" if text else ""
        return f"```python\n{block['code']}```\n{shown}"

    page.write_text(BLOCK.sub(renewed, page.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> int:
    """Run the pages that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=pathlib.Path)
    parser.add_argument("--write", action="store_true", help="put what they print into the pages")
    arguments = parser.parse_args()
    wrong = 0
    for page in [each.resolve() for each in arguments.pages] or pages():
        print(os.path.relpath(page), file=sys.stderr)
        if arguments.write:
            write(page)
            continue
        for block in run(page):
            if not agree(block.printed, block.shown or ""):
                wrong += 1
                print(f"prints:\n{block.printed}\nshows:\n{block.shown}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
