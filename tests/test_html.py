"""Pieces of HTML: a user's text never becomes HTML, and the output is well formed."""

import pytest
from parsed_html import BAD, Parsed

from nengonet import html

PIECES = {
    "tag": lambda: html.tag("p", BAD, title=BAD),
    "join": lambda: html.join(BAD, html.tag("b", BAD)),
    "table": lambda: html.table([["a", BAD], [BAD, 3]]),
    "facts": lambda: html.facts({BAD: BAD, "none": None}),
    "card": lambda: html.card(BAD, BAD, kind=BAD),
    "picture": lambda: html.picture(b"png", BAD),
    "display": lambda: html.display(BAD),
    "page": lambda: html.page(BAD, BAD),
}


@pytest.mark.parametrize("name", PIECES)
def test_what_is_not_html_is_escaped(name):
    made = PIECES[name]()
    parsed = Parsed(made)
    parsed.assert_self_contained()
    assert "<script" not in made
    assert BAD in [*parsed.texts, *(value for _, value in parsed.attributes)] + [parsed.text]


def test_html_is_not_escaped_twice():
    inner = html.tag("b", "a < b")
    assert inner == "<b>a &lt; b</b>"
    assert html.tag("p", inner, " & more", class_="left") == (
        '<p class="left"><b>a &lt; b</b> &amp; more</p>'
    )
    assert Parsed(html.page("title", inner)).text == "a < b"


def test_a_table_has_a_cell_for_each_value():
    parsed = Parsed(html.table([["layer", "spikes"], ["hidden", 12], ["output", 3]], left=(0,)))
    assert parsed.tags.count("th") == 2
    assert parsed.tags.count("td") == 4
    assert parsed.text == "layer spikes hidden 12 output 3"
    assert parsed.attributes.count(("class", "left")) == 3


def test_a_page_forbids_what_it_does_not_need():
    policies = [
        value for name, value in Parsed(html.page("t", "x")).attributes if name == "content"
    ]
    assert any(value.startswith("default-src 'none'") for value in policies)
