"""The reference: a page for every public name, tables, and links to what docstrings name."""

from __future__ import annotations

import inspect
import pathlib
import re

import public_names
import results
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.ext import intersphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

FOLDER = "reference/names"
# What docstrings call by its last name: their own project's, then those of others.
_PREFIXES = ("nengo.", "nengo.neurons.", "nengo.dists.", "nengo.synapses.", "numpy.", "keras.")


class PublicNames(SphinxDirective):
    """A table of the public names that folders define, or of those in its content."""

    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return a table, and the pages as a hidden table of contents."""
        folders = (self.arguments or [""])[0].split()
        found = public_names.of_block(folders, " ".join(self.content).split())
        if not found:
            raise self.error("public-names: expected folders of nengonet, or names")
        rows = [
            [f"[`{_called(name, each)}`](names/{name}.rst)", public_names.summary(each)]
            for name, each in found.items()
        ]
        lines = [
            *results.table(["", ""], rows),
            "",
            "```{toctree}",
            ":hidden:",
            "",
            *(f"names/{name}" for name in found),
            "```",
        ]
        node = nodes.container()
        self.state.nested_parse(StringList(lines, source="public-names"), 0, node)
        for table in node.findall(nodes.table):
            table["classes"].append("names")
        return node.children


def write_pages(app) -> None:
    """Write a page for each name, and remove those of names that are gone."""
    folder = pathlib.Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    pages = {f"{name}.rst": _page(name, each) for name, each in public_names.names().items()}
    for file in folder.glob("*.rst"):
        if file.name not in pages:
            file.unlink()
    for name, text in pages.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def _called(name: str, each: object) -> str:
    """Return what a caller writes after ``nn.``; of a class that functions return, its name."""
    own = name.removeprefix("nengonet.")
    return name.rpartition(".")[2] if inspect.isclass(each) else own


def _page(name: str, each: object) -> str:
    title = _called(name, each)
    kind, members = ("class", "   :members:\n") if inspect.isclass(each) else ("function", "")
    return (
        f"{title}\n{'=' * len(title)}\n\n"
        f".. currentmodule:: nengonet\n\n.. auto{kind}:: {name}\n{members}"
    )


def resolve(app, env, node, contnode) -> nodes.Node | None:
    """Link a name that a docstring shortens: ``Diagnosis``, ``NeuronType``, ``ndarray``."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    objects = env.get_domain("py").objects
    shortened = re.fullmatch(r"[A-Z]\w*(\.\w+)?", target)
    for name, found in objects.items():
        if name == f"nengonet.{target}" or (shortened and name.endswith(f".{target}")):
            return make_refnode(
                app.builder, node.get("refdoc"), found.docname, found.node_id, contnode, name
            )
    for prefix in _PREFIXES if re.fullmatch(r"[A-Za-z]\w+", target) else ():
        node["reftarget"] = prefix + target
        if link := intersphinx.resolve_reference_detect_inventory(env, node, contnode):
            return link
    node["reftarget"] = target
    return None


def look_up_whole_names(app, document: nodes.document) -> None:
    """Let a type such as ``optional`` be no attribute of that name, of whatever class."""
    for node in document.findall(pending_xref):
        if node.get("refdomain") == "py":
            node.attributes.pop("refspecific", None)
            if node.get("reftype") == "class":  # of a field of types
                node["py:class"] = None


def _whole(docstring: GoogleDocstring) -> list[str]:
    """Return the lines of a property: a colon in its sentence follows no type."""
    return docstring._consume_to_end()


def name_attributes(app, document: nodes.document) -> None:
    """Call the attributes of a class what Python calls them."""
    for field in document.findall(nodes.field_name):
        if field.astext() == "Variables":
            field[:] = [nodes.Text("Attributes")]


def mend_source_links(app, pagename: str, templatename, context: dict, doctree) -> None:
    """Let the sources' links back lead to names that are not their module's own."""
    if not pagename.startswith("_modules/") or "body" not in context:
        return
    places = {}
    for name, found in app.env.get_domain("py").objects.items():
        places.setdefault((found.docname, name.rpartition(".")[2]), []).append(found.node_id)

    def mended(link: re.Match) -> str:
        docname = pagename_of(link["page"])
        last = link["name"].rpartition(".")[2]
        among = places.get((docname, last), [])
        ends = [each for each in among if each.endswith(link["name"].removeprefix("nengonet"))]
        return f'href="{link["page"]}#{(ends or among or [""])[0]}"'

    def pagename_of(link: str) -> str:
        start = re.sub(r"^(\.\./)+", "", link)
        return start.removesuffix(".html")

    context["body"] = re.sub(
        r'href="(?P<page>[^"#]+)#(?P<name>nengonet[\w.]*)"', mended, context["body"]
    )


def setup(app) -> dict:
    """Connect to Sphinx."""
    GoogleDocstring._parse_attribute_docstring = _whole
    app.add_directive("public-names", PublicNames)
    app.connect("builder-inited", write_pages)
    app.connect("doctree-read", look_up_whole_names)
    app.connect("doctree-read", name_attributes)
    app.connect("missing-reference", resolve)
    app.connect("html-page-context", mend_source_links)
    return {"version": "1", "parallel_read_safe": True}
