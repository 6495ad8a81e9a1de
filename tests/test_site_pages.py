"""The site's additions to plain pages: the contents of an index."""

import importlib.util
import pathlib
import posixpath
import re

DOCS = pathlib.Path(__file__).parents[1] / "docs"
NOT_PAGES = {"_build", "_inventories", "_drawn", ".ipynb_checkpoints"}


def load():
    path = DOCS / "_extensions" / "site_pages.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


site_pages = load()


def test_an_index_lists_its_folder_and_the_indexes_below():
    text = "[a](a.md) [b](b-c.ipynb#x) [c](c/index.md) [d](c/d.md) [e](../e/index.md) [a](./a.md)"
    assert site_pages.entries(text + " [f](f.md) [g](http://x.org/g.md)") == ["a", "c/index", "f"]


def test_long_sentences_of_output_are_wrapped_and_tables_are_not():
    row = "layer  neurons  " + "0.123  " * 20
    sentence = "  shown by: " + "word " * 30 + "end"
    text = site_pages.wrapped(f"{row}\n{sentence}\nshort")
    first, *middle, last = text.split("\n")
    assert (first, last) == (row, "short")
    assert len(middle) == 2
    assert max(map(len, middle)) <= 100
    assert middle[1].startswith("    word")
    assert " ".join(text.split()) == " ".join(f"{row} {sentence} short".split())
    command = f"$ nengonet sweep {'--set name=1,2 ' * 10}"
    assert site_pages.wrapped(f"{command}\nshort") == f"{command}\nshort"


def reached(docname="index"):
    """Return the pages that the site's navigation has, from an index on."""
    yield docname
    if posixpath.basename(docname) == "index":
        text = (DOCS / f"{docname}.md").read_text(encoding="utf-8")
        for entry in site_pages.entries(text):
            yield from reached(posixpath.join(posixpath.dirname(docname), entry))


def test_every_page_is_listed_by_an_index():
    pages = {
        path.relative_to(DOCS).with_suffix("").as_posix()
        for ending in ("md", "ipynb")
        for path in DOCS.rglob(f"*.{ending}")
        if not NOT_PAGES & set(path.relative_to(DOCS).parts)
    }
    assert len(pages) > 40
    assert pages == set(reached())


def test_an_index_is_plain_markdown():
    """It has neither directives nor roles, as it is read on GitHub."""
    for path in DOCS.rglob("index.md"):
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [line for line in lines if re.search(r":::|```\{|\{[\w:-]+\}`", line)]
        assert not found, f"{path}: {found}"


def test_codes_and_options_of_output_stay_on_one_line():
    text = site_pages.wrapped(
        "word " * 18 + "['input-range', 'bias-threshold'] --images mnist-small"
    )
    assert "'bias-threshold']" in text
    assert {"--images", "mnist-small"} <= set(text.split())
