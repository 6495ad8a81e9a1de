"""Pieces of HTML: tags, tables, cards, pictures, pages. All content is escaped, except `Html`.

Pages and displays need neither a script nor the internet. Displays take the colours of the
notebook around them, light or dark.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Collection, Iterable, Mapping, Sequence

# Colours of Okabe & Ito (2008), as in `nengonet.plots`. A severity's colour has its word beside it.
STYLE = """
.nengonet { font: 14px/1.45 system-ui, sans-serif; }
.nengonet h1 { font-size: 1.6em; margin: 0 0 .2em; }
.nengonet h2 { font-size: 1.2em; margin: 1.6em 0 .5em; border-bottom: 1px solid #8886; }
.nengonet .title { font-weight: 600; margin: 0 0 .4em; }
.nengonet .quiet { opacity: .75; margin: .3em 0; max-width: 60em; }
.nengonet .card { border: 1px solid #8886; border-radius: 6px; padding: .7em 1em; margin: .5em 0; }
.nengonet .big { font-size: 2.2em; font-weight: 600; line-height: 1.2; }
.nengonet .row { display: flex; flex-wrap: wrap; gap: .8em; align-items: stretch; }
.nengonet .row > .card { margin: 0; }
.nengonet .even > .card { flex: 1 1 165px; max-width: 270px; }
.nengonet .tiles { display: grid; grid-template-columns: repeat(auto-fill, 148px); gap: .6em; }
.nengonet .tiles > .card { margin: 0; overflow-wrap: anywhere; }
.nengonet .wide { overflow-x: auto; }
.nengonet table { border-collapse: collapse; margin: .3em 0; font-variant-numeric: tabular-nums; }
.nengonet th, .nengonet td { text-align: right; padding: .2em .7em; border: 0; }
.nengonet th { border-bottom: 1px solid #888; font-weight: 600; vertical-align: bottom; }
.nengonet .left { text-align: left; }
.nengonet dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; }
.nengonet dt { opacity: .75; } .nengonet dd { margin: 0; overflow-wrap: anywhere; }
.nengonet dl { margin: .3em 0; } .nengonet .note { border-left: 5px solid #0072B2; }
.nengonet .error { border-left: 5px solid #D55E00; }
.nengonet .warning { border-left: 5px solid #E69F00; }
.nengonet img { max-width: 100%; height: auto; background: white; }
.nengonet .pixels { image-rendering: pixelated; width: 84px; height: 84px; object-fit: contain; }
.nengonet figure { margin: .4em .6em .8em 0; max-width: 100%; }
.nengonet figcaption { font-size: .9em; }
.nengonet svg text { fill: currentColor; }
"""
# Whatever the content, a browser fetches nothing and runs nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_PAGE = (
    "body { margin: 0 auto; max-width: 1240px; padding: 24px; background: white; color: #1a1a1a; }"
)
_VOID = {"img", "meta", "line", "path", "rect"}


class Html(str):
    """Text that is HTML, and goes into other HTML unchanged."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return self


def escaped(content: object) -> Html:
    """Return HTML unchanged and anything else as escaped text; None gives an empty text."""
    if isinstance(content, Html):
        return content
    return Html("" if content is None else html.escape(str(content)))


def join(*content: object) -> Html:
    """Return pieces one after the other."""
    return Html("".join(map(escaped, content)))


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """Return an element; ``class_`` is the attribute class, ``_`` stands for ``-``."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    end = "" if name in _VOID else f"{join(*content)}</{name}>"
    return Html(f"<{name}{words}{'/' if name in _VOID else ''}>{end}")


def table(cells: Sequence[Sequence[object]], left: Collection[int] = (0,)) -> Html:
    """Return a table; the first row is its head, and ``left`` names the left-aligned columns."""

    def row(kind: str, values: Sequence[object]) -> Html:
        sides = ("left" if k in left else None for k in range(len(values)))
        made = (tag(kind, each, class_=side) for each, side in zip(values, sides, strict=True))
        return tag("tr", *made)

    head, *rows = cells
    body = tag("tbody", *(row("td", each) for each in rows))
    return tag("div", tag("table", tag("thead", row("th", head)), body), class_="wide")


def facts(values: Mapping[str, object]) -> Html:
    """Return names beside values; values of None are left out."""
    pairs = ((tag("dt", k), tag("dd", v)) for k, v in values.items() if v is not None)
    return tag("dl", *(each for pair in pairs for each in pair))


def card(title: object, *content: object, kind: str = "") -> Html:
    """Return a frame with a title; ``kind`` may be a severity: error, warning or note."""
    return tag("div", tag("div", title, class_="title"), *content, class_=f"card {kind}".strip())


def finding_cards(findings: Iterable) -> Html:
    """Return a card for each `nengonet.explain.findings.Finding`."""
    return join(
        *(
            card(
                f"{each.severity}: {each.message}",
                facts({"shown by": each.evidence, "change": each.change, "code": each.code}),
                kind=each.severity,
            )
            for each in findings
        )
    )


def picture(png: bytes, alt: str, **attributes: object) -> Html:
    """Return a picture that is stored in the page itself."""
    data = base64.b64encode(png).decode()
    return tag("img", src=f"data:image/png;base64,{data}", alt=alt, **attributes)


def display(*content: object) -> Html:
    """Return content for a notebook to show, with its style."""
    return tag("div", tag("style", Html(STYLE)), *content, class_="nengonet")


def page(title: str, *content: object) -> Html:
    """Return a complete document."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width"),
        tag("title", title),
        tag("style", Html(_PAGE + STYLE)),
    )
    body = tag("body", *content, class_="nengonet")
    return join(Html("<!DOCTYPE html>\n"), tag("html", head, body, lang="en"), Html("\n"))
