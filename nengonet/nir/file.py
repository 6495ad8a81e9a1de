"""A graph written to a file, whole or not at all, and shown as a table."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from nengonet.files import output_path, write_whole
from nengonet.nir.parts import needed
from nengonet.tables import aligned

if TYPE_CHECKING:
    import nir


def write(graph: nir.NIRGraph, path: str | os.PathLike) -> None:
    """Write a graph to a file."""
    path, content = output_path(path), io.BytesIO()
    needed().write(content, graph)
    write_whole(path, content.getbuffer())


def summary(graph: nir.NIRGraph) -> dict:
    """Return the nodes, edges and metadata of a graph, ready for `json.dumps`."""
    nodes = []
    for name, node in graph.nodes.items():
        shape = [int(n) for each in node.output_type.values() for n in each]
        nodes.append({"name": name, "kind": type(node).__name__, "shape": shape, **node.metadata})
    return {"nodes": nodes, "edges": [list(edge) for edge in graph.edges], **graph.metadata}


def as_text(found: dict) -> str:
    """Return a summary as a table."""
    rows = [("node", "kind", "shape", "from", "")]
    for node in found["nodes"]:
        pres = ", ".join(pre for pre, post in found["edges"] if post == node["name"])
        shape = " x ".join(map(str, node["shape"]))
        rows.append((node["name"], node["kind"], shape, pres, node.get("feed", "")))
    left_out = f"; left out: {found['left_out']}" if "left_out" in found else ""
    return "\n".join([f"NIR, steps of {found['dt']:g} s{left_out}", *aligned(rows, left=range(5))])
