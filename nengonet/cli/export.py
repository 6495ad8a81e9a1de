"""What ``nengonet export`` does for a study's network and for one in a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nengonet.cli.shared import answer, given, options

if TYPE_CHECKING:
    from nengonet.layers.targets import Output

LEFT_OUT = "--allow tau_ref,min_voltage,initial_state,reset,rectified"
_OPTIONS = {
    "step": ("--step", "Seconds of the tool's step.  [default: Nengo's]", {"type": float}),
    "allow": (
        "--allow",
        "What to leave out knowingly, with commas: tau_ref, min_voltage, initial_state, reset, "
        "rectified, noise.",
    ),
    "euler": ("--euler", "Time constants for tools with Euler's steps.", {"is_flag": True}),
    "pools": ("--pools", "Kind of average pools.", {"type": click.Choice(["average", "sum"])}),
}


def export_params() -> list[click.Parameter]:
    """Return the file, and what is said of the tool that will read it."""
    file = click.Argument(["file"], type=click.Path())
    return [file, *options("export", " ".join(_OPTIONS), _OPTIONS)]


def export(name: str, output: Output, options: dict, **where: object) -> None:
    """Write an output's network as the command's options say, and print its nodes."""
    from nengonet.nir.export import to_nir
    from nengonet.nir.file import as_text, summary, write

    allow = {} if options["allow"] is None else {"allow": options["allow"].split(",")}
    how = given(euler=options["euler"], pools=options["pools"], dt=options["step"])
    graph, file = to_nir(output, **where | how | allow), options["file"]
    write(graph, file)
    found = {"name": name, "file": file} | summary(graph)
    answer(options["as_json"], found, f"{file}: {as_text(found)}")
