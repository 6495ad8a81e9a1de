"""``nengonet reproduce``, ``diagnose``, ``budget`` and ``sweep``: a command for each study.

Their options are read from the descriptions in `nengonet.studies`.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from nengonet import studies
from nengonet.cli.export import LEFT_OUT, export, export_params
from nengonet.cli.scripts import is_script, script_command
from nengonet.cli.shared import (
    EXAMPLE,
    FAILED,
    Group,
    answer,
    check_resume,
    flag,
    given,
    json_option,
    path_option,
    plot_option,
)
from nengonet.exceptions import InputError

if TYPE_CHECKING:
    from nengonet.studies.engine import Study


class StudyGroup(Group):
    """A group with a command for each study, which is imported when its command is asked for.

    One of ``scripts`` has commands for the networks in scripts, too.
    """

    def __init__(
        self,
        name: str,
        text: str,
        example: str,
        make: Callable,
        *,
        scripts: bool = True,
        usual: str = "",
    ) -> None:
        if scripts:
            own = "Or of a network of your own: SCRIPT.py:OUTPUT in place of the name."
            text = f"{text}\n\n{own}"
        super().__init__(name, help=f"{text}\n\n{EXAMPLE}nengonet {name} {example}")
        self.make, self.scripts, self.usual = make, scripts, usual

    def list_commands(self, context: click.Context | None) -> list[str]:
        """Return the names of the studies."""
        return studies.names()

    def get_command(self, context: click.Context | None, name: str) -> click.Command | None:
        """Return a study's command, or that of a script."""
        if self.scripts and is_script(name):
            return script_command(self.name, name)
        if name not in studies.names():
            return None
        study = studies.get(name)
        run, text, params, kind = self.make(study)
        example = f"nengonet {self.name} {name} {study.examples.get(self.name, self.usual)}".strip()
        text = f"{text}\n\n{EXAMPLE}{example}"
        return kind(name, callback=run, params=[*params, json_option()], help=text)


# Options.


class _Images(click.ParamType):
    name = "text"

    def convert(self, value: object, option: object, context: object) -> int | str:
        """Return a number or "all"."""
        try:
            return value if value == "all" else int(value)
        except ValueError:
            raise InputError(f'--images: expected a whole number or "all", got {value!r}') from None


def options_of(study: Study, verb: str, names: str) -> list[click.Option]:
    """Return options of a command: a study's own in place of ``own``, and common ones."""
    default = study.default(verb)
    n_images = default["n_images"] or "all with --data or NENGONET_DATA, else 1000"
    path, text = {"type": click.Path()}, study.help.get
    common = {
        "weights": ("--weights", path, "Keras file of the same network."),
        "data": ("--data", path, "Folder with the data set, or an .npz file of the same kind."),
        "n_images": (
            "--images",
            {"type": _Images()},
            f'How many, or "all".  [default: {n_images}]',
        ),
        "seed": ("--seed", {"default": 0, "show_default": True}, None),
        "simulator": (
            "--simulator",
            {"type": click.Choice(["minibatch", "reference"])},
            "Many images at once, or the unmodified nengo.Simulator.  [default: minibatch]",
        ),
        "n_jobs": (
            "--jobs",
            {"type": int},
            f"Processes; -1 for one per core.  [default: {default['n_jobs']}]",
        ),
        "scheduler": ("--scheduler", {}, "Run on a Dask cluster instead: tcp://HOST:8786."),
        "save": ("--save", path, "Folder for the finished runs."),
        "resume": ("--resume", {"is_flag": True}, "Resume the interrupted run in --save."),
    }
    found = []
    for name in names.split():
        if name == "own":
            found += _own_options(study, verb)
        else:
            long, settings, words = common[name]
            words = text(f"{verb} {name}") or text(name, words)
            found.append(click.Option([long, name], help=words, **settings))
    return found


def _own_options(study: Study, verb: str) -> Iterable[click.Option]:
    for name, variant in study.variants.items():
        if variant.flag and not (verb == "reproduce" and study.runs):
            yield flag(variant.flag, variant.help, f"variant: {name}")
    for parameter in study.options(verb).values():
        option, name = parameter.option, parameter.name
        for each in option.switches.values():
            yield flag(each, option.help, name)
        if not option.switches:
            kind = click.Choice(parameter.choices) if parameter.choices else parameter.number
            text = f"{option.help}  [default: {parameter.default_text}]".strip()
            many = {"multiple": parameter.many}
            yield click.Option([parameter.flag, name], type=kind, help=text, **many)


def arguments_of(study: Study, verb: str, options: dict) -> dict:
    """Turn the options of a command into arguments of the study's functions."""
    options = given(**options)

    def is_on(flag: str) -> bool:
        return bool(flag and options.pop(flag.strip("-").replace("-", "_"), False))

    flags = {each.flag: name for name, each in study.variants.items() if is_on(each.flag)}
    if len(flags) > 1:
        raise InputError(f"{' and '.join(flags)}: expected one of them")
    parameters = study.options(verb)
    for name, parameter in parameters.items():
        option = parameter.option
        for value, long in option.switches.items():
            if is_on(long):
                if option.without in options:
                    other = parameters[option.without].flag
                    raise InputError(f"{long} and {other}: expected one of them")
                options[name] = value
        if name in options and option.values:
            words = options[name] if parameter.many else [options[name]]
            values = [option.values[word] for word in words]
            options[name] = values if parameter.many else values[0]
    return options | ({"variant": name} if (name := next(iter(flags.values()), None)) else {})


# Commands: what runs, what the help says, options, and the class of the command.


def _reproduce(study: Study) -> tuple:
    def run(plot, as_json, **options):
        check_resume(options)
        report = study.reproduce(**arguments_of(study, "reproduce", options))
        if plot:
            from nengonet.plots import save_figure

            save_figure(report.figure(), plot)
        answer(as_json, report.to_json(), str(report))

    names = "weights data own n_images seed simulator n_jobs save resume"
    plot = plot_option(study.help.get("plot", "Draw the first image's run to this file."))
    return run, study.summary, [*options_of(study, "reproduce", names), plot], click.Command


def _diagnose(study: Study) -> tuple:
    def run(simulate, plot, as_json, **options):
        from nengonet.explain.comparison import compare
        from nengonet.plots import plot_comparison, save_figure

        if plot and not simulate:
            raise InputError("--plot: expected --simulate N, the number of images to run")
        arguments = {"variant": next(iter(study.variants))}
        arguments |= arguments_of(study, "diagnose", options)
        case, images, labels = study.open("diagnose", progress=True, **arguments)
        found = case.diagnose(images, labels)
        report, text = {"name": study.name} | found.to_json(), [str(found)]
        if simulate:
            few = images[:simulate]
            compared = compare(case.present(few, keep=None), case.output, few)
            report["observed"] = compared.to_json()
            text += ["", f"observed in {len(few)} images:", str(compared)]
            if plot:
                save_figure(plot_comparison(compared), plot)
        answer(as_json, report, "\n".join(text))

    simulate = "Run this many images too, and compare the rates by layer."
    params = [
        *options_of(study, "diagnose", "weights data own n_images seed"),
        click.Option(["--simulate"], type=int, help=simulate),
        plot_option("With --simulate: draw counts against prediction."),
    ]
    text = f"Diagnose {study.title}: predicted rates and accuracy, and findings, worst first."
    return run, text, params, click.Command


def _budget(study: Study) -> tuple:
    def run(plot, as_json, **options):
        arguments = arguments_of(study, "budget", options)
        case, found = study.budgeted(progress=True, **arguments)
        if plot:
            from nengonet.plots import plot_budget, save_figure

            save_figure(plot_budget(found), plot)
        report = {"name": study.name, "settings": case.describe()} | found.to_json()
        answer(as_json, report, str(found))

    params = options_of(study, "budget", "weights data own n_images seed")
    params.append(plot_option("Draw the budget to this file."))
    text = f"Run {study.title} with one effect after the other added."
    return run, text, params, click.Command


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


def seeds_of(text: str) -> int | list[int]:
    """Return how many seeds, or the seeds."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--seeds: expected how many, or several seeds as 3,7,11, got {text!r}"
        ) from None
    return seeds if "," in text else seeds[0]


def _sweep(study: Study) -> tuple:
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
            study.measure, grid, seeds=seeds_of(seeds), constants=constants, **given(**options)
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

    text = "Values of a parameter: a,b,c or START:STOP:STEP; may be repeated, for all combinations."
    settings = click.Option(["--set", "settings"], multiple=True, type=_Setting(), help=text)
    text = "How many, or several: 3,7,11."
    params = [
        settings,
        click.Option(["--seeds"], default="1", show_default=True, help=text),
        *options_of(study, "sweep", "n_images weights data n_jobs scheduler"),
        path_option("--save", "File for every finished cell."),
        *options_of(study, "sweep", "resume"),
        flag("--retry-failed", "With --resume: failed cells again."),
        path_option("--csv", "Write one row for each cell to this file."),
        plot_option("Draw accuracy by parameter to this file."),
    ]
    return run, f"Sweep parameters of {study.name}.", params, _SweepCommand


def _export(study: Study) -> tuple:
    def run(as_json, **options):
        own = {param.name: options.pop(param.name) for param in export_params()}
        arguments = {"variant": next(iter(study.variants))}
        case = study.build(**arguments | arguments_of(study, "diagnose", options))
        export(study.name, case.output, as_json, own, dt=case.dt)

    params = [*options_of(study, "diagnose", "weights data own seed"), *export_params()]
    return run, f"Write {study.title} as a graph of NIR, for other tools.", params, click.Command


GROUPS = (
    StudyGroup(
        "reproduce",
        "Run a published example; its figure stands beside the one of the same network.",
        "forum-mnist",
        _reproduce,
        scripts=False,
    ),
    StudyGroup(
        "diagnose",
        "Say what a published example will do and why, with no simulation.",
        "forum-mnist --as-posted",
        _diagnose,
    ),
    StudyGroup(
        "budget",
        "Account for every percentage point between an ANN and its spiking network.",
        "forum-mnist --as-posted",
        _budget,
    ),
    StudyGroup(
        "sweep",
        "Run a published example for many values of its parameters, and many seeds.",
        "forum-mnist --set input-rate=255,1000 --seeds 5",
        _sweep,
    ),
    StudyGroup(
        "export",
        "Write a network as a graph of NIR, for other tools and chips.",
        "forum-mnist network.nir --allow tau_ref,min_voltage",
        _export,
        usual=f"network.nir {LEFT_OUT}",
    ),
)
