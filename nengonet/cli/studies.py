"""``nengonet reproduce``, ``diagnose``, ``budget`` and ``sweep``: a command for each study.

Their options are read from the descriptions in `nengonet.studies`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from nengonet import studies
from nengonet.cli.export import (
    LEFT_OUT,
    answer_script,
    export,
    export_params,
    script_params,
)
from nengonet.cli.lab import lab_params, serve_lab
from nengonet.cli.scripts import is_script, script_command
from nengonet.cli.shared import (
    COUNT,
    EXAMPLE,
    FILE,
    NUMBER,
    PLOT,
    Group,
    answer,
    answer_diagnosis,
    check_plot,
    check_resume,
    draw,
    given,
    options,
    run_sweep,
)
from nengonet.exceptions import InputError
from nengonet.plain import N_SHOWN

if TYPE_CHECKING:
    from nengonet.studies.engine import Study


class StudyGroup(Group):
    """A group with a command for each study, which is imported when its command is used.

    ``usual`` is the example of studies that have none of their own.
    """

    what = "study"

    def __init__(self, name: str, text: str, example: str, make: Callable, usual: str = "") -> None:
        self.make, self.usual, self.scripts = make, usual, name != "reproduce"
        if self.scripts:
            own = f"nengonet {name} SCRIPT.py:OUTPUT --help"
            text += f"\n\nFor your own network, write SCRIPT.py:OUTPUT as the name; see {own}."
        super().__init__(name, help=f"{text}\n\n{EXAMPLE}nengonet {name} {example}")

    def list_commands(self, context: click.Context | None) -> list[str]:
        """Return the names of the studies."""
        return studies.names()

    def wanted(self, known: list[str]) -> str:
        """Return what a name may be."""
        own = ", or SCRIPT.py:OUTPUT for your own network" if self.scripts else ""
        return super().wanted(known) + own

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
        params += options(self.name, "as_json")
        return kind(name, callback=run, params=params, help=text)


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
    """Return options of a command: the study's own in place of ``own``, and common ones."""
    default = study.default(verb)
    n_jobs = f"Number of processes; -1 for one per core.  [default: {default['n_jobs']}]"
    images = (
        f'Number of images, or "all".  [default: {study.n_images_shown(verb)}]',
        {"type": _Images()},
    )
    common = {
        "weights": ("--weights", "Keras file of a network of the same shapes.", FILE),
        "data": (
            "--data",
            "Folder with the data set, or an .npz file with images and labels.",
            FILE,
        ),
        "n_images": ("--images", *images),
        "seed": ("--seed", "Seed of all random numbers.", {"default": 0, "show_default": True}),
        "n_jobs": ("--jobs", n_jobs, NUMBER),
        "scheduler": (
            "--scheduler",
            "Run on the Dask cluster at this address, such as tcp://HOST:8786.",
        ),
        "reproduce save": ("--save", "Save finished runs to this folder.", FILE),
        "sweep save": ("--save", "Save every finished cell to this file.", FILE),
        "retry_failed": (
            "--retry-failed",
            "With --resume: run failed cells again.",
            {"is_flag": True},
        ),
        "quick": ("--quick", _quick_text(study), {"is_flag": True}),
        "reproduce plot": ("--plot", "Draw the run of the first image to this file.", PLOT),
    }
    found = []
    for name in names.split():
        if name == "own":
            found += _own_options(study, verb)
        else:
            (option,) = options(verb, name, common)
            option.help = study.help.get(f"{verb} {name}", study.help.get(name, option.help))
            found.append(option)
    return found


def _quick_text(study: Study) -> str:
    """Return a text on which options the quick version stands for."""
    words = [f"{each.flag} {word}" for each in study.quick_settings() for word in each.words]
    return f"Get a first, rougher answer: {' '.join(words)}."


def _own_options(study: Study, verb: str) -> Iterable[click.Option]:
    for name, variant in study.variants.items():
        if variant.flag and not (verb == "reproduce" and study.runs):
            yield _flag(variant.flag, variant.help, f"variant: {name}")
    for parameter in study.options(verb).values():
        option, name = parameter.option, parameter.name
        for each in option.switches.values():
            yield _flag(each, option.help, name)
        if not option.switches:
            kind = click.Choice(parameter.choices) if parameter.choices else parameter.number
            text = f"{option.help}  [default: {parameter.default_text}]".strip()
            many = {"multiple": parameter.many}
            yield click.Option([parameter.flag, name], type=kind, help=text, **many)


def _flag(long: str, text: str, argument: str) -> click.Option:
    """Return a flag; messages know it by this argument in Python."""
    option = click.Option([long], is_flag=True, help=text)
    option.argument = argument
    return option


def arguments_of(study: Study, verb: str, options: dict) -> dict:
    """Turn the options of a command into arguments of the study's functions."""
    options = given(**options)

    def is_on(flag: str) -> bool:
        return bool(flag and options.pop(flag.strip("-").replace("-", "_"), False))

    flags = {each.flag: name for name, each in study.variants.items() if is_on(each.flag)}
    if len(flags) > 1:
        raise InputError(f"{' and '.join(flags)}: expected one of them, got all")
    parameters = study.options(verb)
    for name, parameter in parameters.items():
        option = parameter.option
        for value, long in option.switches.items():
            if is_on(long):
                if option.without in options:
                    other = parameters[option.without].flag
                    raise InputError(f"{long} and {other}: expected one of them, got both")
                options[name] = value
        if name in options and option.values:
            words = options[name] if parameter.many else [options[name]]
            values = [option.values[word] for word in words]
            options[name] = values if parameter.many else values[0]
    return options | ({"variant": name} if (name := next(iter(flags.values()), None)) else {})


# Commands: the function, the help text, the options, and the class of the command.


def _reproduce(study: Study) -> tuple:
    def run(plot, as_json, **options):
        check_resume(options)
        report = study.reproduce(**arguments_of(study, "reproduce", options))
        report.measure()
        if plot:
            from nengonet.plots import save_figure

            save_figure(report.figure(), plot)
        answer(as_json, report.to_json(), str(report))

    quick = "quick " if study.quick else ""
    names = f"weights data own n_images seed {quick}simulator n_jobs save resume plot"
    return run, study.summary, options_of(study, "reproduce", names), click.Command


def _diagnose(study: Study) -> tuple:
    def run(simulate, plot, as_json, **options):
        from nengonet.explain.comparison import compare

        check_plot(plot, simulate)
        arguments = {"variant": next(iter(study.variants))}
        arguments |= arguments_of(study, "diagnose", options)
        case, images, labels = study.open("diagnose", progress=True, **arguments)
        found, compared = case.diagnose(images, labels), None
        if simulate:
            few = images[:simulate]
            compared = compare(case.present(few, keep=None), case.output, few)
        answer_diagnosis(study.name, found, compared, as_json, plot)

    text = f"Diagnose {study.title}: predicted rates and accuracy, and findings, worst first."
    names = "weights data own n_images seed simulate plot"
    return run, text, options_of(study, "diagnose", names), click.Command


def _budget(study: Study) -> tuple:
    def run(plot, as_json, **options):
        arguments = arguments_of(study, "budget", options)
        case, found = study.budgeted(progress=True, **arguments)
        draw(plot, "plot_budget", found)
        report = {"name": study.name, "settings": case.describe()} | found.to_json()
        answer(as_json, report, str(found))

    text = f"Run {study.title}, adding one effect after another, and say what each costs."
    names = "weights data own n_images seed n_jobs plot"
    return run, text, options_of(study, "budget", names), click.Command


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


def _sweep(study: Study) -> tuple:
    def run(settings, weights, data, n_images, **options):
        from nengonet.checks import positive_integer
        from nengonet.studies.options import grid_of
        from nengonet.weights import weights_path

        check_resume(options)
        grid = grid_of(study.name, study.parameters, settings)
        if not grid:
            raise InputError(
                f"--set: expected at least one parameter, such as {study.examples['sweep']}, "
                f"got none; "
                f"nengonet sweep {study.name} --help lists them"
            )
        if n_images not in (None, "all"):
            positive_integer("n_images", n_images)
        own = weights and pathlib.Path(weights_path(weights))
        paths = {"weights": own, "data": data and pathlib.Path(data)}
        constants = given(**paths, n_images=n_images)
        about = {"constants": constants | given(weights=weights, data=data)}
        run_sweep(study.name, study.measure, grid, constants, about, options)

    names = (
        "settings seeds n_images weights data n_jobs scheduler save resume retry_failed csv plot"
    )
    params = options_of(study, "sweep", names)
    params[0].type = _Setting()
    return run, f"Sweep parameters of {study.name}.", params, _SweepCommand


def _export(study: Study) -> tuple:
    def run(**options):
        names = ("as_json", *(each.name for each in export_params()))
        own = {name: options.pop(name) for name in names}
        arguments = {"variant": next(iter(study.variants))}
        case = study.build(**arguments | arguments_of(study, "diagnose", options))
        export(study.name, case.output, own, dt=case.dt)

    params = [*options_of(study, "diagnose", "weights data own seed"), *export_params()]
    return run, f"Write {study.title} as an NIR graph, for other tools.", params, click.Command


def _lab(study: Study) -> tuple:
    def run(**options):
        from nengonet.laboratory import check_panel

        check_panel()
        from nengonet.laboratory.state import of_study

        own = {name: options.pop(name) for name in ("as_json", *(x.name for x in lab_params()))}
        arguments = {"variant": next(iter(study.variants))}
        arguments |= arguments_of(study, "diagnose", options)
        serve_lab(study.name, of_study(study.name, **arguments, progress=True), **own)

    params = [*options_of(study, "diagnose", "weights data own n_images seed"), *lab_params()]
    text = f"Open a page with knobs for {study.title}, with its prediction and its run."
    return run, text, params, click.Command


class LabGroup(StudyGroup):
    """A group that opens the forum's network if no study is named."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put the forum's study before options that stand alone."""
        helps = context.help_option_names
        alone = not args or (args[0].startswith("-") and args[0] not in helps)
        return super().parse_args(context, ["forum-mnist", *args] if alone else args)


def _script(study: Study) -> tuple:
    def run(n_images, standalone, file, as_json, **options):
        shown, n_images = (study.data.name, None), N_SHOWN if n_images is None else n_images
        if options["data"] is not None:
            shown = study.data.load("test", n_images, options["data"])
        arguments = {"variant": next(iter(study.variants))}
        case = study.build(**arguments | arguments_of(study, "diagnose", options))
        made = case.script(*shown, n_images=n_images, standalone=standalone)
        answer_script(study.name, made, file, as_json)

    text = f"Number of images that the script shows.  [default: {N_SHOWN}]"
    n_images = click.Option(["--images", "n_images"], **COUNT, help=text)
    params = [*options_of(study, "diagnose", "weights data own seed"), n_images, *script_params()]
    return run, f"Write {study.title} as a plain Nengo script.", params, click.Command


GROUPS = (
    StudyGroup(
        "reproduce",
        "Run a published example, and print its figures beside the published ones.",
        "forum-mnist",
        _reproduce,
    ),
    StudyGroup(
        "diagnose",
        "Predict, without a simulation, what a published example or your network will do, and why.",
        "forum-mnist --as-posted",
        _diagnose,
    ),
    StudyGroup(
        "budget",
        "Say how many percentage points of accuracy each effect costs a published example or "
        "your network.",
        "forum-mnist --as-posted",
        _budget,
    ),
    StudyGroup(
        "sweep",
        "Run a published example, your network or your function for many parameter values and "
        "seeds.",
        "forum-mnist --set input-rate=255,1000 --seeds 5",
        _sweep,
    ),
    StudyGroup(
        "export",
        "Write a network as an NIR graph, for other tools and chips.",
        "forum-mnist network.nir --allow tau_ref,min_voltage",
        _export,
        f"network.nir {LEFT_OUT}",
    ),
    LabGroup(
        "lab",
        "Open a page with a knob for every number of a network, its prediction and its run. "
        "Without a name: the forum's network.",
        "forum-mnist --as-posted",
        _lab,
    ),
    StudyGroup(
        "script",
        "Write a network as a plain Nengo script that shows images and counts the same spikes.",
        "forum-mnist --images 10",
        _script,
    ),
)
