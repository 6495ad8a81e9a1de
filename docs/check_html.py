"""Check the pages that Sphinx built: links lead where they should, figures are those of the files.

python docs/check_html.py docs/_build/html
"""

from __future__ import annotations

import html
import json
import pathlib
import re
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

RESULTS = pathlib.Path(__file__).parent / "results"


class _Page(HTMLParser):
    """Links, anchors and text of a page."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        """Collect what leads somewhere, and what can be led to."""
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.links += [found[name] for name in ("href", "src") if found.get(name)]


def _pages(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the pages; what the theme has in _static are templates."""
    return [path for path in folder.rglob("*.html") if "_static" not in path.parts]


def broken_links(folder: pathlib.Path) -> list[str]:
    """Return the local links of all pages that lead nowhere."""
    pages = {path.resolve(): _Page(path) for path in _pages(folder)}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                broken.append(f"{path.name}: {link}: no such file")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{path.name}: {link}: no such place in {target.name}")
    return broken


def missing_figures(folder: pathlib.Path) -> list[str]:
    """Return the accuracies of the result files that stand on no page of the reproductions."""
    pages = folder.glob("reproductions/*.html")
    text = html.unescape(" ".join(path.read_text(encoding="utf-8") for path in pages))
    shown = set(re.findall(r"\d\.\d{4}", text))
    missing = []
    for file in sorted(RESULTS.glob("*.json")):
        report = json.loads(file.read_text(encoding="utf-8"))["report"]
        values = [report["accuracy"], report["ann_accuracy"]]
        values += [cell["accuracy"] for cell in report["cells"] if "accuracy" in cell]
        missing += [f"{file.name}: {value:.4f}" for value in values if f"{value:.4f}" not in shown]
    return missing


def wrong_types(folder: pathlib.Path) -> list[str]:
    """Return types that lead to an attribute, as ``n_images`` would, or that are sentences."""
    found = []
    for path in sorted(folder.glob("reference/names/*.html")):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'title="(nengonet[\w.]*[A-Z]\w*\.[a-z]\w*)"[^>]*><em>', text):
            found.append(f"{path.name}: a type leads to {name}")
        if re.search(r">Type<span", text):
            found.append(f"{path.name}: half a sentence is taken for the type of a property")
    return found


def main() -> int:
    """Check the folder that the command line names."""
    folder = pathlib.Path(sys.argv[1])
    if not (folder / "index.html").exists():
        sys.exit(f"{folder}: expected the pages that `python -m sphinx docs {folder}` builds")
    wrong = broken_links(folder) + missing_figures(folder) + wrong_types(folder)
    print("\n".join(wrong) or f"{len(_pages(folder))} pages: links and figures hold")
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
