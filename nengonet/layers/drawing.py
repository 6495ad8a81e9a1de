"""A network up to a layer as a drawing: a box for each layer, an arrow for each connection."""

from __future__ import annotations

import nengo
import numpy as np
from nengo.synapses import Synapse

from nengonet import html
from nengonet.checks import shortened
from nengonet.html import Html, tag
from nengonet.layers.graph import Graph, Item, has_weights, owner
from nengonet.layers.record import Layer, layers_of

_WIDTH, _HEIGHT, _GAP, _SIDE = 300, 44, 30, 46
_WORDS = 175  # room for the words beside an arrow
_MOST = 40  # boxes of a drawing: an EnsembleArray may have hundreds
_LINE = {"stroke": "currentColor", "fill": "none", "stroke_width": 1.2}
_HEAD = tag(
    "defs",
    tag(
        "marker",
        tag("path", d="M0,0 L8,4 L0,8 z", fill="currentColor"),
        id="nengonet-arrow",
        viewBox="0 0 8 8",
        refX=8,
        refY=4,
        markerWidth=7,
        markerHeight=7,
        orient="auto",
    ),
)


def draw_layer(layer: Layer) -> Html:
    """Draw a layer below everything that feeds it, as SVG, each layer and connection labelled."""
    graph = Graph(layer.network)
    items, left_out = graph.upstream(owner(layer.output))[0], 0
    if len(items) > _MOST:
        items, left_out = items[-_MOST:], len(items) - _MOST
    known = {owner(each.output): each for each in layers_of(items, layer.network)}
    places = _places(graph, items)
    edges = [
        (owner(connection.pre_obj), item, connection.synapse)
        for item in items
        for connection in graph.into(item)
        if owner(connection.pre_obj) in places
    ]
    boxes = [_box(known[item], *places[item]) for item in items]
    right, below = (max(place[k] for place in places.values()) for k in (0, 1))
    back = any(places[pre][1] >= places[post][1] for pre, post, _ in edges)
    margin = _WORDS + _SIDE if back else 4
    size = margin + right + _WIDTH + _SIDE + _WORDS, below + _HEIGHT + 2
    drawn = tag(
        "svg",
        *(_HEAD, *(_edge(places[pre], places[post], how) for pre, post, how in edges), *boxes),
        viewBox=f"{-margin} -1 {size[0]} {size[1]}",
        width=size[0],
        style="max-width: 100%; height: auto",
        role="img",
        aria_label=f"layers up to {layer.label}",
    )
    words = "Tinted layers spike." + (f" {left_out} more come before." if left_out else "")
    return html.join(drawn, tag("p", words, class_="quiet"))


def _places(graph: Graph, items: list[Item]) -> dict[Item, tuple[int, int]]:
    """Return left and top of each box: below everything that feeds it, loops excepted."""
    rows: dict[Item, int] = {}
    for item in items:
        feeding = (owner(each.pre_obj) for each in graph.into(item))
        rows[item] = 1 + max((rows[pre] for pre in feeding if pre in rows), default=-1)
    beside = {item: list(rows.values())[:k].count(rows[item]) for k, item in enumerate(items)}
    return {
        item: (beside[item] * (_WIDTH + _SIDE), row * (_HEIGHT + _GAP))
        for item, row in rows.items()
    }


def _box(layer: Layer, left: int, top: int) -> Html:
    """Draw a layer: its label, shape, kind and number of parameters."""
    shape = " × ".join(map(str, layer.shape))
    what, n = _kind(layer), _n_parameters(layer)
    what += f" · {n:,} parameters" if n else ""
    frame = {"x": left, "y": top, "width": _WIDTH, "height": _HEIGHT, "rx": 5}
    fill = {"fill": "#0072B2", "fill_opacity": 0.12 if layer.spiking else 0}
    size = {"x": left + _WIDTH - 10, "y": top + 18, "text_anchor": "end", "font_size": 12}
    return tag(
        "g",
        tag("title", f"{layer.label}: {what}"),
        tag("rect", **frame, **_LINE | fill),
        tag("text", shortened(layer.label)[:26], x=left + 10, y=top + 18, font_weight=600),
        tag("text", shape, **size),
        tag("text", shortened(what)[:48], x=left + 10, y=top + 36, font_size=12),
    )


def _kind(layer: Layer) -> str:
    """Return in a word what computes a layer's output."""
    if layer.ensemble is not None:
        return type(layer.neuron_type).__name__
    output = layer.node.output
    if isinstance(output, np.ndarray):
        return "constant output"
    if output is None:
        kinds = {type(each.transform) for each in layer.connections} - {
            nengo.transforms.NoTransform
        }
        return " and ".join(sorted(kind.__name__ for kind in kinds)) or "passes on what comes in"
    return getattr(output, "__name__", None) or type(output).__name__


def _n_parameters(layer: Layer) -> int:
    """Count the values of a layer's weights, or of the connections into it."""
    if layer.weights is not None:
        return layer.weights.n_parameters
    n = 0
    for connection in filter(has_weights, layer.connections):
        init = getattr(connection.transform, "init", None)
        values = init if isinstance(init, np.ndarray) else getattr(init, "data", None)
        n += values.size if isinstance(values, np.ndarray) else 0
    return n


def _edge(pre: tuple[int, int], post: tuple[int, int], synapse: Synapse | None) -> Html:
    """Draw a connection: down to the next row, around others on the right, back on the left."""
    middle, start, end = _WIDTH // 2, (pre[0], pre[1] + _HEIGHT), post
    if post[1] - pre[1] == _HEIGHT + _GAP:
        path = f"M{start[0] + middle},{start[1]} L{end[0] + middle},{end[1]}"
        at, anchor = ((pre[0] + post[0]) // 2 + middle + 8, (start[1] + end[1]) // 2 + 4), "start"
    else:
        back = post[1] <= pre[1]
        edge, bend = (0, -_SIDE) if back else (_WIDTH, _SIDE)
        heights = pre[1] + _HEIGHT // 2, post[1] + _HEIGHT // 2 + (6 if back else -6)
        x = min(pre[0], post[0]) + bend if back else max(pre[0], post[0]) + _WIDTH + bend
        path = f"M{pre[0] + edge},{heights[0]} C{x},{heights[0]} {x},{heights[1]} "
        path += f"{post[0] + edge},{heights[1]}"
        at, anchor = (x, sum(heights) // 2), "end" if back else "start"
    text = tag(
        "text",
        f"synapse {shortened(str(synapse))[:30]}",
        x=at[0],
        y=at[1],
        font_size=11,
        text_anchor=anchor,
    )
    return html.join(tag("path", d=path, marker_end="url(#nengonet-arrow)", **_LINE), text)
