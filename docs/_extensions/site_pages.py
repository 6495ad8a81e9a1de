"""What the site makes of plain Markdown: navigation from an index's links, terms from headings.

Pages are read on GitHub too, so an index is a list of links and the glossary a page of headings.
Here the links of an index to its own folder become its table of contents, each heading of the
glossary a term, for ``{term}`` on other pages and for the search, and a comment of an index,
``<!-- drawn NAME: words -->``, a figure of the Python before it. Long sentences in what code
prints are wrapped; commands and rows of tables are not.
"""

from __future__ import annotations

import posixpath
import re
import textwrap

_LINK = re.compile(r"\]\(([\w./-]+)\.(?:md|ipynb)\)")
_DRAWN = re.compile(r"^<!-- drawn ([\w-]+): (.*) -->$", re.MULTILINE)
GLOSSARY = "reference/glossary"
WIDTH = 100  # columns of output
# The languages of blocks that hold output: of pages, of commands, of notebooks.
_PRINTED = ("text", "console", "myst-ansi")


def entries(text: str) -> list[str]:
    """Return what an index lists: pages of its own folder, and the indexes below it."""
    found = [posixpath.normpath(link) for link in _LINK.findall(text)]
    own = [link for link in found if "/" not in link or re.fullmatch(r"[\w-]+/index", link)]
    return list(dict.fromkeys(own))


def add_contents(app, docname: str, source: list[str]) -> None:
    """Give an index the table of contents that its links say."""
    if posixpath.basename(docname) == "index":
        lines = "\n".join(entries(source[0]))
        source[0] = _DRAWN.sub(r"```{drawn} \1\n\2\n```", source[0])
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n\n{lines}\n```\n"


def note_terms(app, document) -> None:
    """Make the headings of the glossary terms."""
    if app.env.docname != GLOSSARY:
        return
    domain = app.env.get_domain("std")
    for section in document.findall(lambda node: node.tagname == "section"):
        if section.parent is not document:  # the title
            domain.note_object("term", section[0].astext(), section["ids"][0], location=section)


def wrapped(text: str) -> str:
    """Return a text with its long lines wrapped, except commands and rows with wide gaps."""
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        if len(line) <= WIDTH or line.startswith("$ ") or "  " in line.strip():
            lines.append(line)
        else:
            lines += textwrap.wrap(
                line,
                WIDTH,
                subsequent_indent=indent + "  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def wrap_output(app, document) -> None:
    """Wrap what code prints; show a console's commands as such where no line has a prompt."""
    for block in document.findall(lambda node: node.tagname == "literal_block"):
        if block.get("language") == "console" and not re.search("^[$] ", block.astext(), re.M):
            block["language"] = "sh"
        if block.get("language") in _PRINTED and (text := block.astext()) != wrapped(text):
            new = type(block[0])(wrapped(text))
            block.rawsource, block[:] = new, [new]


def mark_figures(app, document) -> None:
    """Tell the tables of the published examples, which hold figures, from tables of words."""
    if app.env.docname.startswith("reproductions/") and app.env.docname != "reproductions/index":
        for table in document.findall(lambda node: node.tagname == "table"):
            table["classes"].append("figures")


def setup(app) -> dict:
    """Connect to Sphinx."""
    app.connect("source-read", add_contents)
    app.connect("doctree-read", note_terms)
    app.connect("doctree-read", wrap_output)
    app.connect("doctree-read", mark_figures)
    return {"version": "1", "parallel_read_safe": True}
