"""The README is what people run first: its commands and its example must work as they stand."""

import pathlib
import re
import shlex

import click
import pytest

from nengonet.cli import main
from nengonet.cli.shared import example_of

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
# In code blocks after a prompt or in a chain of commands, and in the running text.
COMMANDS = sorted(
    set(re.findall(r"(?:^\$ |&& )(nengonet .*)$", README, flags=re.MULTILINE))
    | set(re.findall(r"`(nengonet [^`]*)`", README))
)


def test_the_lists_are_not_empty():
    assert len(COMMANDS) >= 3
    assert [kind for kind, _ in BLOCKS].count("python") >= 1


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_readme_exists(line):
    """Each word is parsed as the command line would, without running the command."""
    words = shlex.split(line)[1:]
    command, context = main, click.Context(main, info_name="nengonet")
    while isinstance(command, click.Group):
        name, words = words[0], words[1:]
        found = command.get_command(context, name)
        assert found is not None, f"{line}: no command {name}"
        command = found
    command.make_context(command.name, words, parent=context)


def leaves(command, path=()):
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, (*path, name))
    else:
        yield " ".join(path), command


@pytest.mark.parametrize("path, command", list(leaves(main)))
def test_every_command_is_in_the_readme(path, command):
    assert any(f"nengonet {path}" in line for line in COMMANDS)
    assert example_of(command).startswith(f"nengonet {path}")


@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "python"])
def test_every_example_of_the_readme_runs(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_set_up_is_two_commands_that_ci_runs():
    lines = re.findall(r"^python -m pip install.*$", README, flags=re.MULTILINE)
    assert len(lines) == 2
    assert "<!-- test command -->\n```console\n" + lines[1] in README
