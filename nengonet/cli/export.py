"""What ``nengonet export`` does for a study's network and for one in a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nengonet.cli.shared import answer, given

if TYPE_CHECKING:
    from nengonet.layers.targets import Output

LEFT_OUT = "--allow tau_ref,min_voltage,initial_state,reset,rectified"


def export_params() -> list[click.Parameter]:
    """Return the file, and what is said of the tool that will read it."""
    allow = "What to leave out knowingly, with commas: tau_ref, min_voltage, initial_state, reset, "
    return [
        click.Argument(["file"], type=click.Path()),
        click.Option(
            ["--step", "step"], type=float, help="Seconds of the tool's step.  [default: Nengo's]"
        ),
        click.Option(["--allow"], help=f"{allow}rectified, noise."),
        click.Option(
            ["--euler"],
            is_flag=True,
            help="Time constants for tools with Euler's steps.",
        ),
        click.Option(
            ["--pools"], type=click.Choice(["average", "sum"]), help="Kind of average pools."
        ),
    ]


def export(name: str, output: Output, as_json: bool, options: dict, **where: object) -> None:
    """Write an output's network, and print its nodes."""
    from nengonet.nir.export import to_nir
    from nengonet.nir.file import as_text, summary, write

    allow = {} if options["allow"] is None else {"allow": options["allow"].split(",")}
    how = given(euler=options["euler"], pools=options["pools"], dt=options["step"])
    graph = to_nir(output, **where | how | allow)
    write(graph, options["file"])
    found = {"name": name, "file": options["file"]} | summary(graph)
    answer(as_json, found, f"{options['file']}: {as_text(found)}")
