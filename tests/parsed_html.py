"""Parse HTML, for tests of displays and reports."""

from html.parser import HTMLParser

# Text that must never become HTML.
BAD = "<script>alert('1')</script> & \"quotes\""
VOID = {"img", "meta"}


class Parsed(HTMLParser):
    """The elements, texts and attributes of HTML, whose tags must close in order."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag not in VOID
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes += attrs

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def assert_self_contained(self):
        """Assert that nothing is fetched and nothing is run."""
        assert "script" not in self.tags
        for name, value in self.attributes:
            assert not name.startswith("on"), (name, value)
            if name in ("src", "href", "xlink:href"):
                assert value.startswith("data:image/png;base64,"), value
