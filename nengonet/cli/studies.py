"""``nengonet reproduce``, ``diagnose``, ``budget`` and ``sweep``: a command for each study.

Their options are read from the descriptions in `nengonet.studies`.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from nengonet import studies
from nengonet.cli.shared import (
    EXAMPLE,
    FAILED,
    JSON,
    Group,
    answer,
    check_resume,
    given,
    plot_option,
)
from nengonet.exceptions import InputError

if TYPE_CHECKING:
    from nengonet.studies.engine import Study
    from nengonet.studies.options import Parameter


class StudyGroup(Group):
    """A group with a command for each study, which is imported when its command is asked for."""

    def __init__(self, name: str, text: str, make: Callable[[Study], click.Command]) -> None:
        super().__init__(name, help=text)
        self.make = make

    def list_commands(self, context: click.Context | None) -> list[str]:
        """Return the names of the studies."""
        return [*studies.names(), *self.commands]

    def get_command(self, context: click.Context | None, name: str) -> click.Command | None:
        """Return a study's command."""
        if name in studies.names():
            return self.make(studies.get(name))
        return super().get_command(context, name)


def _command(
    study: Study,
    verb: str,
    text: str,
    run: Callable,
    params: list[click.Option],
    kind: type[click.Command] = click.Command,
) -> click.Command:
    example = f"nengonet {verb} {study.name} {study.examples.get(verb, '')}".strip()
    params = [*params, click.Option(["--json", "as_json"], **JSON)]
    return kind(study.name, callback=run, params=params, help=f"{text}\n\n{EXAMPLE}{example}")


# Options.


class _Images(click.ParamType):
    name = "images"

    def convert(self, value: object, option: object, context: object) -> int | str:
        """Return a number or "all"."""
        try:
            return value if value == "all" else int(value)
        except ValueError:
            raise InputError(f'--images: expected a whole number or "all", got {value!r}') from None


def common_options(study: Study, verb: str, names: str) -> list[click.Option]:
    """Return options that mean the same for all studies."""
    images = study.default(verb, "n_images")
    shown = "all with --data or NENGONET_DATA, else 1000" if images is None else images
    jobs = study.default(verb, "n_jobs")
    made = {
        "weights": (["--weights"], {"type": click.Path()}, "Keras file of the same network."),
        "data": (
            ["--data"],
            {"type": click.Path()},
            "Folder with the data set, or an .npz file of the same kind.",
        ),
        "n_images": (
            ["--images", "n_images"],
            {"type": _Images(), "metavar": "TEXT"},
            f'How many, or "all".  [default: {shown}]',
        ),
        "seed": (["--seed"], {"default": 0, "show_default": True}, None),
        "simulator": (
            ["--simulator"],
            {"type": click.Choice(["minibatch", "reference"])},
            "Many images at once, or the unmodified nengo.Simulator.  [default: minibatch]",
        ),
        "n_jobs": (
            ["--jobs", "n_jobs"],
            {"type": int},
            f"Processes; -1 for one per core.  [default: {jobs}]",
        ),
        "scheduler": (["--scheduler"], {}, "Run on a Dask cluster instead: tcp://HOST:8786."),
        "save": (["--save"], {"type": click.Path()}, "Folder for the finished runs."),
        "resume": (["--resume"], {"is_flag": True}, "Resume the interrupted run in --save."),
    }
    return [
        click.Option(made[name][0], help=study.help.get(name, made[name][2]), **made[name][1])
        for name in names.split()
    ]


def study_options(study: Study, verb: str) -> list[click.Option]:
    """Return a study's own options of a command: flags of variants, and parameters."""
    found = [
        _switch(variant.flag, variant.help, f"variant: {name}")
        for name, variant in study.variants.items()
        if variant.flag and not (verb == "reproduce" and study.runs)
    ]
    for parameter in study.options(verb).values():
        found += _options_of(parameter)
    return found


def _options_of(parameter: Parameter) -> list[click.Option]:
    option = parameter.option
    if option.switches:
        flags = option.switches.values()
        return [_switch(flag, option.help, parameter.name) for flag in flags]
    kind = click.Choice(list(map(str, parameter.choices))) if parameter.choices else None
    help_text = f"{option.help}  [default: {parameter.default_text}]".strip()
    return [
        click.Option(
            [parameter.flag, parameter.name],
            type=kind or parameter.number,
            multiple=parameter.many,
            help=help_text,
        )
    ]


def _switch(flag: str, text: str, argument: str) -> click.Option:
    option = click.Option([flag], is_flag=True, help=text)
    option.argument = argument  # what messages call it in Python
    return option


def _word(flag: str) -> str:
    return flag.strip("-").replace("-", "_")


def arguments_of(study: Study, verb: str, options: dict) -> dict:
    """Turn the options of a command into arguments of the study's functions."""
    options = given(**options)
    flags = {v.flag: name for name, v in study.variants.items() if options.pop(_word(v.flag), None)}
    if len(flags) > 1:
        raise InputError(f"{' and '.join(flags)}: expected one of them")
    chosen = dict(zip(["variant"], flags.values(), strict=False))
    for parameter in study.options(verb).values():
        option = parameter.option
        for value, flag in option.switches.items():
            if options.pop(_word(flag), False):
                chosen[parameter.name] = value
                if option.without in chosen or option.without in options:
                    other = study.options(verb)[option.without].flag
                    raise InputError(f"{flag} and {other}: expected one of them")
        if parameter.name in options:
            value = options.pop(parameter.name)
            words = option.values or {str(each): each for each in parameter.choices}
            if parameter.many:
                value = [words.get(each, each) for each in value]
            chosen[parameter.name] = value if parameter.many else words.get(value, value)
    return options | chosen


# Commands.


def _reproduce(study: Study) -> click.Command:
    def run(plot, as_json, **options):
        check_resume(options)
        report = study.reproduce(**arguments_of(study, "reproduce", options))
        if plot:
            from nengonet.plots import save_figure

            save_figure(report.figure(), plot)
        answer(as_json, report.to_json(), str(report))

    common = "n_images seed simulator n_jobs save resume"
    plot = study.help.get("plot", "Draw the first image's run to this file.")
    params = [
        *common_options(study, "reproduce", "weights data"),
        *study_options(study, "reproduce"),
        *common_options(study, "reproduce", common),
        plot_option(plot),
    ]
    return _command(study, "reproduce", study.summary, run, params)


def _diagnose(study: Study) -> click.Command:
    def run(simulate, plot, as_json, **options):
        from nengonet.explain.comparison import compare
        from nengonet.plots import plot_comparison, save_figure

        if plot and not simulate:
            raise InputError("--plot: expected --simulate N, the number of images to run")
        arguments = arguments_of(study, "diagnose", options)
        opened = study.open("diagnose", progress=True, **arguments)
        found = opened.diagnose()
        report, text = {"name": study.name} | found.to_json(), [str(found)]
        if simulate:
            few = opened.images[:simulate]
            compared = compare(opened.case.present(few, keep=None), opened.case.output, few)
            report["observed"] = compared.to_json()
            text += ["", f"observed in {len(few)} images:", str(compared)]
            if plot:
                save_figure(plot_comparison(compared), plot)
        answer(as_json, report, "\n".join(text))

    text = f"Diagnose {study.title}: predicted rates and accuracy, and findings, worst first."
    simulate = "Run this many images too, and compare the rates by layer."
    params = [
        *common_options(study, "diagnose", "weights data"),
        *study_options(study, "diagnose"),
        *common_options(study, "diagnose", "n_images seed"),
        click.Option(["--simulate"], type=int, help=simulate),
        plot_option("With --simulate: draw counts against prediction."),
    ]
    return _command(study, "diagnose", text, run, params)


def _budget(study: Study) -> click.Command:
    def run(plot, as_json, **options):
        opened = study.open("budget", progress=True, **arguments_of(study, "budget", options))
        found = opened.budget()
        if plot:
            from nengonet.plots import plot_budget, save_figure

            save_figure(plot_budget(found), plot)
        settings = {"name": study.name, "settings": opened.case.describe()}
        answer(as_json, settings | found.to_json(), str(found))

    text = f"Run {study.title} with one effect after the other added."
    params = [
        *common_options(study, "budget", "weights data"),
        *study_options(study, "budget"),
        *common_options(study, "budget", "n_images seed"),
        plot_option("Draw the budget to this file."),
    ]
    return _command(study, "budget", text, run, params)


class _SweepCommand(click.Command):
    """A command whose help lists the parameters of its study."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Parameters for --set (times in seconds, rates in Hz)"):
            for parameter in studies.get(self.name).parameters.values():
                formatter.write_text(str(parameter))
        super().format_options(context, formatter)


class _Setting(click.ParamType):
    name = "NAME=VALUES"

    def shell_complete(
        self, context: click.Context, option: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [
            CompletionItem(f"{parameter.dashed}=", help=parameter.expected)
            for parameter in studies.get(context.info_name).parameters.values()
            if parameter.dashed.startswith(incomplete)
        ]


def _seeds(text: str) -> int | list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--seeds: expected how many, or several seeds as 3,7,11, got {text!r}"
        ) from None
    return seeds if "," in text else seeds[0]


def _sweep(study: Study) -> click.Command:
    def run(settings, seeds, weights, data, n_images, csv, plot, as_json, **options):
        from nengonet.studies.options import grid_of
        from nengonet.studies.report import sweep_table
        from nengonet.sweeps.sweep import sweep

        check_resume(options)
        grid = grid_of(study.name, study.parameters, settings)
        if not grid:
            raise InputError(
                f"--set: expected one parameter or more, such as {study.examples['sweep']}; "
                f"nengonet sweep {study.name} --help lists them"
            )
        paths = {"weights": weights and pathlib.Path(weights), "data": data and pathlib.Path(data)}
        constants = given(**paths, n_images=n_images)
        found = sweep(
            study.measure, grid, seeds=_seeds(seeds), constants=constants, **given(**options)
        )
        if csv:
            found.to_csv(csv)
        if plot:
            from nengonet.plots import plot_sweep, save_figure

            save_figure(plot_sweep(found), plot)
        report = {
            "name": study.name,
            "grid": grid,
            "constants": constants | given(weights=weights, data=data),
            "rows": found.rows,
            "summary": found.summary(),
        }
        answer(as_json, report, sweep_table(study.name, found))
        sys.exit(FAILED if found.failed else 0)

    settings = (
        "Values of a parameter: a,b,c or START:STOP:STEP; may be repeated, for all combinations."
    )
    seeds = {"default": "1", "show_default": True, "help": "How many, or several: 3,7,11."}
    failed = {"is_flag": True, "help": "With --resume: failed cells again."}
    csv = {"type": click.Path(), "help": "Write one row for each cell to this file."}
    params = [
        click.Option(["--set", "settings"], multiple=True, type=_Setting(), help=settings),
        click.Option(["--seeds"], **seeds),
        *common_options(study, "sweep", "n_images weights data n_jobs scheduler"),
        click.Option(["--save"], type=click.Path(), help="File for every finished cell."),
        *common_options(study, "sweep", "resume"),
        click.Option(["--retry-failed"], **failed),
        click.Option(["--csv"], **csv),
        plot_option("Draw accuracy by parameter to this file."),
    ]
    text = f"Sweep parameters of {study.name}."
    return _command(study, "sweep", text, run, params, _SweepCommand)


GROUPS = (
    StudyGroup(
        "reproduce",
        "Run a published example; its figure stands beside the one of the same network.\n\n"
        "Example: nengonet reproduce forum-mnist",
        _reproduce,
    ),
    StudyGroup(
        "diagnose",
        "Say what a published example will do and why, with no simulation.\n\n"
        "Example: nengonet diagnose forum-mnist --as-posted",
        _diagnose,
    ),
    StudyGroup(
        "budget",
        "Account for every percentage point between an ANN and its spiking network.\n\n"
        "Example: nengonet budget forum-mnist --as-posted",
        _budget,
    ),
    StudyGroup(
        "sweep",
        "Run a published example for many values of its parameters, and many seeds.\n\n"
        "Example: nengonet sweep forum-mnist --set input-rate=255,1000 --seeds 5",
        _sweep,
    ),
)
