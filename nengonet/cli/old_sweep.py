"""``nengonet sweep``."""

from __future__ import annotations

import pathlib
import sys

import click
from click.shell_completion import CompletionItem

from nengonet.cli.old_shared import (
    FAILED,
    JSON,
    Group,
    answer,
    check_resume,
    image_count,
    plot_option,
    stated,
)
from nengonet.exceptions import InputError

# As in nengonet.studies.parameters, which a completion need not import.
_EXAMPLES = {
    "fashion-mnist": "--set dt=0.01,0.1,1 --set initial-voltage=image,network --seeds 3",
}


class _SweepCommand(click.Command):
    """A command whose help lists the parameters of its reproduction."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from nengonet.studies.old import cell_of, parameters_of

        with formatter.section("Parameters for --set (times in seconds, rates in Hz)"):
            for parameter in parameters_of(cell_of(self.name)).values():
                formatter.write_text(str(parameter))
        super().format_options(context, formatter)


class _Setting(click.ParamType):
    name = "NAME=VALUES"

    def shell_complete(
        self, context: click.Context, option: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from nengonet.studies.old import cell_of, parameters_of

        names = parameters_of(cell_of(context.info_name))
        return [
            CompletionItem(f"{name}=", help=parameter.expected)
            for name, parameter in names.items()
            if name.startswith(incomplete)
        ]


@click.group(cls=Group)
def sweep() -> None:
    """Run a published example for many values of its parameters, and many seeds.

    Example: nengonet sweep forum-mnist --set input-rate=255,1000 --seeds 5
    """


def _add(name: str) -> None:
    @sweep.command(name, cls=_SweepCommand)
    @click.option(
        "--set",
        "settings",
        multiple=True,
        type=_Setting(),
        help="Values of a parameter: a,b,c or START:STOP:STEP; may be repeated, for all "
        "combinations.",
    )
    @click.option("--seeds", default="1", show_default=True, help="How many, or several: 3,7,11.")
    @click.option("--images", help='How many, or "all".  [default: as the reproduction]')
    @click.option("--weights", type=click.Path(), help="Keras file of the same network.")
    @click.option("--data", type=click.Path(), help="Folder with the data set.")
    @click.option("--jobs", default=1, show_default=True, help="Processes; -1 for one per core.")
    @click.option("--scheduler", help="Run on a Dask cluster instead: tcp://HOST:8786.")
    @click.option("--save", type=click.Path(), help="File for every finished cell.")
    @click.option("--resume", is_flag=True, help="Go on with the sweep in --save.")
    @click.option("--retry-failed", is_flag=True, help="With --resume: failed cells again.")
    @click.option("--csv", type=click.Path(), help="Write one row for each cell to this file.")
    @plot_option("Draw accuracy by parameter to this file.")
    @JSON
    def command(
        settings,
        seeds,
        images,
        weights,
        data,
        jobs,
        scheduler,
        save,
        resume,
        retry_failed,
        csv,
        plot,
        as_json,
    ):
        from nengonet.plots import plot_sweep, save_figure
        from nengonet.studies.old import cell_of, grid_of
        from nengonet.studies.report import sweep_table
        from nengonet.sweeps.sweep import sweep as run

        check_resume(resume, save)
        grid = grid_of(name, settings)
        if not grid:
            raise InputError(
                f"--set: expected one parameter or more, such as {_EXAMPLES[name]}; "
                f"nengonet sweep {name} --help lists them"
            )
        paths = {"weights": weights and pathlib.Path(weights), "data": data and pathlib.Path(data)}
        constants = stated(**paths, n_images=image_count(images))
        found = run(
            cell_of(name),
            grid,
            seeds=_seeds(seeds),
            constants=constants,
            n_jobs=jobs,
            scheduler=scheduler,
            save=save,
            resume=resume,
            retry_failed=retry_failed,
        )
        if csv:
            found.to_csv(csv)
        if plot:
            save_figure(plot_sweep(found), plot)
        report = {
            "name": name,
            "grid": grid,
            "constants": constants | stated(weights=weights, data=data),
            "rows": found.rows,
            "summary": found.summary(),
        }
        answer(as_json, report, sweep_table(name, found))
        sys.exit(FAILED if found.failed else 0)

    command.help = (
        f"Sweep parameters of {name}.\n\nExample: nengonet sweep {name} {_EXAMPLES[name]}"
    )


def _seeds(text: str) -> int | list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--seeds: expected how many, or several seeds as 3,7,11; found {text!r}"
        ) from None
    return seeds if "," in text else seeds[0]


for _name in _EXAMPLES:
    _add(_name)
