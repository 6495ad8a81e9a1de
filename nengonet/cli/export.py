"""``nengonet export`` and ``script``, for a study's network and for one in a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nengonet.cli.shared import answer, given, options

if TYPE_CHECKING:
    from nengonet.layers.targets import Output
    from nengonet.plain.script import Script

LEFT_OUT = "--allow tau_ref,min_voltage,initial_state,reset,rectified"
_OPTIONS = {
    "step": (
        "--step",
        "Length of the tool's step, in seconds.  [default: that of the Nengo network]",
        {"type": float},
    ),
    "allow": (
        "--allow",
        "Features that the file may leave out, separated by commas: tau_ref, min_voltage, "
        "initial_state, reset, rectified, noise.",
    ),
    "euler": (
        "--euler",
        "Adjust time constants for tools that use Euler's method.",
        {"is_flag": True},
    ),
    "pools": (
        "--pools",
        "Write average pools as AvgPool2d or as SumPool2d.  [default: average]",
        {"type": click.Choice(["average", "sum"])},
    ),
}


def export_params() -> list[click.Parameter]:
    """Return the parameters for the file and for the tool that will read it."""
    file = click.Argument(["file"], type=click.Path())
    params = options("export", " ".join(_OPTIONS), _OPTIONS)
    params[0].argument = "dt"  # what messages call it
    return [file, *params]


def export(name: str, output: Output, options: dict, **where: object) -> None:
    """Write an output's network according to the command's options, and print its nodes."""
    from nengonet.nir.export import to_nir
    from nengonet.nir.file import as_text, summary, write

    allow = {} if options["allow"] is None else {"allow": options["allow"].split(",")}
    how = given(euler=options["euler"], pools=options["pools"], dt=options["step"])
    graph, file = to_nir(output, **where | how | allow), options["file"]
    write(graph, file)
    found = {"name": name, "file": file} | summary(graph)
    answer(options["as_json"], found, f"{file}: {as_text(found)}")


def script_params() -> list[click.Parameter]:
    """Return the parameters for a script's imports and its file."""
    help_ = "Write a script that runs without nengonet; a file beside it has weights and images."
    standalone = click.Option(["--standalone"], is_flag=True, help=help_)
    file = click.Option(
        ["-o", "--output", "file"], type=click.Path(), help="Write the script to this file."
    )
    return [standalone, file]


def answer_script(name: str, script: Script, file: str | None, as_json: bool) -> None:
    """Print a script, or write it to a file, and print where its arrays are."""
    written = [] if file is None else list(map(str, script.save(file)))
    report = {"name": name, "files": written, "arrays": list(script.arrays)}
    if as_json:
        answer(True, report | {"script": str(script)}, "")
    elif written:
        click.echo(f"wrote {' and '.join(written)}")
    else:
        click.echo(str(script), nl=False)
        if script.arrays:
            arrays = ", ".join(script.arrays)
            click.echo(f"-o FILE.py writes the arrays that it reads: {arrays}", err=True)
