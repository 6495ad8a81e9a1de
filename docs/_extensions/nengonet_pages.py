"""Directives of these pages: what blocks drew, studies, commands."""

from __future__ import annotations

import functools
import pathlib

import click
import examples
from docutils import nodes
from docutils.statemachine import StringList
from matplotlib.figure import Figure
from sphinx.util.docutils import SphinxDirective

from nengonet import studies
from nengonet.cli import main


class _Figure(SphinxDirective):
    required_arguments = 1
    has_content = True

    def place(self, figure: Figure) -> list[nodes.Node]:
        """Return a picture of the figure, with the directive's content below it."""
        name = f"_drawn/{self.arguments[0]}.png"
        file = pathlib.Path(self.env.srcdir) / name
        file.parent.mkdir(exist_ok=True)
        figure.savefig(file, dpi=200)
        words, width = " ".join(self.content), f"{100 * figure.get_figwidth():.0f}px"
        node = nodes.figure("", nodes.image(uri=f"/{name}", alt=words, width=width))
        node += nodes.caption(words, "", *self.parse_inline(words)[0])
        return [node]


class Drawn(_Figure):
    """What the block of Python before it called ``figure``."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        page = pathlib.Path(self.env.doc2path(self.env.docname))
        before = [block for block in _ran(page) if block.last_line < self.lineno]
        if not before or before[-1].figure is None:
            raise self.error("drawn: expected a `figure` in the block of Python before it")
        return self.place(before[-1].figure)


class _Markdown(SphinxDirective):
    """Lines of Markdown, from the descriptions of the studies."""

    def lines(self) -> list[str]:
        """Return the lines."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        node = nodes.container()
        lines = StringList(self.lines(), source=type(self).__name__)
        self.state.nested_parse(lines, self.content_offset, node)
        return node.children


class StudyModules(_Markdown):
    """The reference of every study's module."""

    def lines(self) -> list[str]:
        """Return the lines."""
        modules = [
            f".. automodule:: nengonet.studies.{name.replace('-', '_')}\n   :members:\n"
            for name in studies.names()
        ]
        text = "\n".join([".. currentmodule:: nengonet", "", *modules])
        return ["```{eval-rst}", *text.splitlines(), "```"]


class AllCommands(_Markdown):
    """The help of every command, group by group."""

    def lines(self) -> list[str]:
        """Return the lines."""
        found = []
        for name in main.list_commands(None):
            command = main.get_command(None, name)
            words = [name]
            if isinstance(command, click.Group):
                words = [f"{name} {each}" for each in command.list_commands(None)]
            found += [f"**{name}**", ""]
            for each in words:
                found += [f"```{{command-help}} nengonet {each}", "```", ""]
        return found


@functools.cache
def _ran(page: pathlib.Path) -> list[examples.Ran]:
    return examples.run(page)


class CommandHelp(SphinxDirective):
    """What ``nengonet … --help`` prints."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        shown = {"terminal_width": 90, "max_content_width": 90, **main.context_settings}
        command, context = main, click.Context(main, info_name="nengonet", **shown)
        for word in self.arguments[0].split()[1:]:
            command = command.get_command(context, word)
            context = click.Context(command, parent=context, info_name=word, **shown)
        text = f"$ {self.arguments[0]} --help\n{command.get_help(context)}"
        block = nodes.literal_block(text, text)
        block["language"] = "console"
        return [block]


def setup(app) -> dict:
    """Tell Sphinx of them."""
    app.add_directive("drawn", Drawn)
    app.add_directive("command-help", CommandHelp)
    app.add_directive("all-commands", AllCommands)
    app.add_directive("study-modules", StudyModules)
    return {"version": "1", "parallel_read_safe": True}
