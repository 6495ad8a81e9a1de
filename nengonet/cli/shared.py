"""Code that commands share: errors, printing, and common options."""

from __future__ import annotations

import contextlib
import glob
import json
import math
import os
import pathlib
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NoReturn

import click

from nengonet.exceptions import InputError
from nengonet.tables import counted

if TYPE_CHECKING:
    from nengonet.explain.comparison import Comparison
    from nengonet.explain.diagnosis import Diagnosis

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

EXAMPLE = "Example: "
_WORDS = "nengonet.words"
# The help itself, where a group has no more words: since click 8.2.
_SHOWS_HELP = getattr(click.exceptions, "NoArgsIsHelpError", ())
_NO_CONTEXT = click.Context(click.Command("none"))


class Group(click.Group):
    """A group whose help shows one example of each command, in the order they were added."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return a command by its name, or suggest the closest one."""
        try:
            return super().resolve_command(context, args)
        except click.UsageError:
            from nengonet.checks import did_you_mean

            known = self.list_commands(context)
            hint = did_you_mean(args[0], known) or f"; expected {self.wanted(known)}"
            context.fail(f"unknown {self.what} {args[0]!r}{hint}")

    what = "command"

    def wanted(self, known: list[str]) -> str:
        """Return what a name may be."""
        return f"one of {', '.join(known)}"

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the example of its docstring."""
        with formatter.section("Commands"):
            for name in self.list_commands(context):
                command = self.get_command(context, name)
                formatter.write_dl([(name, command.get_short_help_str(200))])
                formatter.write_text(f"    $ {example_of(command)}")


def example_of(command: click.Command) -> str:
    """Return the line after ``Example:`` in a command's docstring."""
    return command.help.split(EXAMPLE)[1].splitlines()[0].strip()


class Commands(Group):
    """Turn errors that users can fix into one line on standard error, and exit code 2."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Keep the given words, for the line that resumes."""
        context.meta[_WORDS] = list(args)
        with _usage_in_one_line(context):
            return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> object:
        """Run the command; if it cannot be run, end with one line."""
        # https://no-color.org: set and not empty. Otherwise click looks for a terminal.
        context.color = False if os.environ.get("NO_COLOR") else None
        try:
            with _lost_interrupts_repeated(), _usage_in_one_line(context):
                return super().invoke(context)
        except BrokenPipeError:
            raise  # click ends quietly when nobody reads on
        except KeyboardInterrupt:
            # Pressing it again meanwhile gives no traceback.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # After an interrupt within an exec of text, such as those of dataclasses, `python -m`
            # ends by sending itself the signal, without the exit code; unless another one follows.
            exec("")
            _stop_processes()
            _complain(f"interrupted; {_how_to_go_on(context)}")
            context.exit(INTERRUPTED)
        except Exception as error:
            if not _is_callers(error):
                raise
            _complain(_in_the_callers_words(context, " ".join(_said(error).split())))
            context.exit(BAD_INPUT)


@contextlib.contextmanager
def _usage_in_one_line(context: click.Context) -> Iterator[None]:
    """End with one line where words do not make a command; click's own are four."""
    try:
        yield
    except click.UsageError as error:
        if isinstance(error, _SHOWS_HELP):
            raise
        _complain(_of_usage(error))
        context.exit(BAD_INPUT)


def _of_usage(error: click.UsageError) -> str:
    """Return what click says of the words of a command, in one line and in the form of ours."""
    text = error.message.rstrip(".")
    if isinstance(error, click.NoSuchOption):
        from nengonet.checks import did_you_mean

        known = [name for option in error.ctx.command.params for name in option.opts]
        text = f"unknown option {error.option_name}{did_you_mean(error.option_name, known)}"
    elif isinstance(error, click.MissingParameter):
        text = f"expected {_typed(error.param)}, got none"
    elif isinstance(error, click.BadParameter) and error.param is not None:
        value = text.partition(" is not ")[0]
        return f"{_typed(error.param)}: expected {_taken(error.param.type)}, got {value}"
    elif isinstance(error, click.BadOptionUsage):
        takes = "a value, got none" if "requires" in text else "no value, got one"
        return f"{error.option_name}: expected {takes}"
    elif extra := re.fullmatch(r"Got unexpected extra arguments? \((.*)\)", text):
        text = f"expected no more words, got {extra[1]!r}"
    if text.endswith("?"):
        return text
    words = error.ctx.command_path.split()[1:] if error.ctx else []
    return f"{text}; see {shlex.join(['nengonet', *words, '--help'])}"


def _typed(param: click.Parameter) -> str:
    return param.opts[0] if isinstance(param, click.Option) else param.make_metavar(_NO_CONTEXT)


def _taken(kind: click.ParamType) -> str:
    """Return the values of a parameter, in words."""
    if isinstance(kind, click.Choice):
        return f"one of {', '.join(map(str, kind.choices))}"
    words = {"integer": "a whole number", "float": "a number"}
    words = words.get(kind.name.removesuffix(" range"), kind.name)
    return f"{words} of at least {kind.min}" if getattr(kind, "min", None) is not None else words


@contextlib.contextmanager
def _lost_interrupts_repeated() -> Iterator[None]:
    """Raise KeyboardInterrupt again where Python drops it, as in an object's finalizer."""
    before = sys.unraisablehook

    def repeat(lost: object) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt) and hasattr(signal, "setitimer"):
            # A little later, after this hook has ended.
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        else:
            before(lost)

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        sys.unraisablehook = before


def _is_callers(error: Exception) -> bool:
    if isinstance(error, (InputError, OSError)):
        return True
    nengo = sys.modules.get("nengo.exceptions")
    return nengo is not None and isinstance(error, nengo.NengoException)


def _said(error: Exception) -> str:
    """Return an error's words; the system's without its number, and the file first."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _stop_processes() -> None:
    if "nengonet.run.parallel" in sys.modules:
        sys.modules["nengonet.run.parallel"].stop_processes()


def _complain(message: str) -> None:
    click.echo(f"{click.style('nengonet:', fg='red', bold=True)} {message}", err=True)


def _called(context: click.Context) -> click.Command:
    """Return the command that the words name."""
    command = context.command
    for word in context.meta[_WORDS]:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(context, word) or command
    return command


def _how_to_go_on(context: click.Context) -> str:
    """Return a text on what is kept, and with which line to resume."""
    words = list(context.meta[_WORDS])
    again = f"start again with: {shlex.join([context.info_name, *words])}"
    try:
        command = _called(context)
    except Exception:
        # Some modules fail if they are imported again after an interrupt within their import.
        return f"nothing is kept, as nothing was begun; {again}"
    if not any(option.name == "save" for option in command.params):
        return "nothing is kept, as this command has no --save"
    named = [k for k, word in enumerate(words) if word.split("=")[0] == "--save"]
    if not named:
        return "nothing is kept; with --save FILE, finished work is kept, and --resume continues"
    file = words[named[-1]].partition("=")[2] or words[named[-1] + 1]
    if not _is_saved(pathlib.Path(file)):
        return f"nothing is kept, as nothing was finished; {again}"
    resume = [] if "--resume" in words else ["--resume"]
    line = shlex.join([context.info_name, *words, *resume])
    return f"what is finished is kept; resume with: {line}"


def _is_saved(path: pathlib.Path) -> bool:
    """Return whether finished work is in a file, the files beside it, or a folder."""
    if path.is_dir():
        return any(path.iterdir())
    names = f"{glob.escape(path.name)}*", f"{glob.escape(path.stem)}-*{glob.escape(path.suffix)}"
    return any(any(path.parent.glob(name)) for name in names)


def _in_the_callers_words(context: click.Context, message: str) -> str:
    """Replace names of Python arguments in a message by those of the command line."""
    flags = {
        getattr(option, "argument", option.name): option.opts[0]
        for option in _called(context).get_params(context)
        if isinstance(option, click.Option)
    }
    message = re.sub(
        r'(?<![\w.(-])(\w+)=(\[[^]]*]|"[^"]*"|[\w.+-]+)',
        lambda found: _option(flags[found[1]], found[2]) if found[1] in flags else found[0],
        message,
    )
    # Within a sentence, a name of one word is a word.
    first, colon, rest = message.partition(": ")
    message = f"{flags.get(first, first)}{colon}{rest}"
    names = [name for name in flags if re.search(r"\W|_", name)]
    # Nor is one in a shape a name of the caller's.
    pattern = rf"(?<![\w(-])({'|'.join(names)})(?![\w-])"
    return re.sub(pattern, lambda found: flags[found[1]], message) if names else message


def _option(flag: str, value: str) -> str:
    """Write an argument with its value, such as ``allow=["reset"]``, as an option."""
    value = re.sub(r"[\[\]\"' ]", "", value)
    return flag if value == "True" else f"{flag} {value}"


def answer(as_json: bool, report: dict, text: str) -> None:
    """Print a report: one JSON object, or human-readable text."""
    if as_json:
        click.echo(json.dumps(_of_json(report), allow_nan=False))
    else:
        click.echo(_coloured(text))


def _of_json(value: object) -> object:
    """Return a value with null in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: _of_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_of_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_SEVERITIES = {"error": "red", "warning": "yellow", "note": "cyan"}
_SEVERITY = re.compile(rf"^(\d+\. )({'|'.join(_SEVERITIES)}):", re.MULTILINE)
_TITLE = re.compile(r"\A\S+$|^  (?:published|ANN|spiking)\b", re.MULTILINE)


def _coloured(text: str) -> str:
    """Colour severities, title and figures to compare; click drops colours without a terminal."""
    text = _TITLE.sub(lambda found: click.style(found[0], bold=True), text)
    return _SEVERITY.sub(
        lambda found: found[1] + click.style(f"{found[2]}:", fg=_SEVERITIES[found[2]], bold=True),
        text,
    )


# Actions of several commands.


def answer_diagnosis(
    name: str, found: Diagnosis, compared: Comparison | None, as_json: bool, plot: str | None
) -> None:
    """Print a diagnosis, and the observed values if a run is compared with it."""
    report, text = {"name": name} | found.to_json(), [str(found)]
    if compared is not None:
        n_images = len(next(iter(compared.observed.values())))
        report["observed"] = compared.to_json()
        text += ["", f"observed in {counted(n_images, 'image')}:", str(compared)]
        draw(plot, "plot_comparison", compared)
    answer(as_json, report, "\n".join(text))


def run_sweep(
    name: str, function: Callable, grid: dict, constants: dict, about: dict, options: dict
) -> NoReturn:
    """Sweep a function according to the options, print the table, and end the process."""
    from nengonet.studies.report import sweep_table
    from nengonet.sweeps.sweep import sweep

    csv, plot, as_json = (options.pop(each) for each in ("csv", "plot", "as_json"))
    options["seeds"] = _seeds_of(options["seeds"])
    found = sweep(function, grid, constants=constants, **given(**options))
    if csv:
        found.to_csv(csv)
    draw(plot, "plot_sweep", found)
    report = {"name": name, "grid": grid, **about, "rows": found.rows, "summary": found.summary()}
    answer(as_json, report, _failures_as_typed(sweep_table(name, found), found.parameters))
    sys.exit(FAILED if found.failed else 0)


def _failures_as_typed(text: str, parameters: Iterable[str]) -> str:
    """Name parameters in the lines about failed cells as ``--set`` does, and options by flags."""
    typed = {name: name.replace("_", "-") for name in parameters} | {"n_images": "--images"}
    names = re.compile(rf"\b({'|'.join(map(re.escape, typed))})\b")
    return "\n".join(
        names.sub(lambda found: typed[found[0]], line) if line.startswith("failed: ") else line
        for line in text.split("\n")
    )


def _seeds_of(text: str) -> int | list[int]:
    """Return the number of seeds, or the seeds."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--seeds: expected a number of seeds, or several seeds such as 3,7,11, got {text!r}"
        ) from None
    return seeds if "," in text else seeds[0]


def draw(path: str | None, function: str, found: object) -> None:
    """Save the figure of a function of `nengonet.plots`, if a path is given."""
    if path:
        from nengonet import plots

        plots.save_figure(getattr(plots, function)(found), path)


# Options.


def _checked_figure(context: click.Context, _: object, path: str | None) -> str | None:
    # Shell completion parses too, and should not wait for Matplotlib.
    if path and not context.resilient_parsing:
        from nengonet.plots import check_figure_path

        check_figure_path(path)
    return path


NUMBER, FILE = {"type": int}, {"type": click.Path()}
COUNT = {"type": click.IntRange(1), "metavar": "N"}
PLOT = FILE | {"callback": _checked_figure}
# By name: flag, help, and further arguments of click.
_OPTIONS = {
    "simulator": (
        "--simulator",
        "Run many images at once, or use the unmodified nengo.Simulator.  [default: minibatch]",
        {"type": click.Choice(["minibatch", "reference"])},
    ),
    "simulate": (
        "--simulate",
        "Also run the first N images, and compare the rates of each layer.",
        COUNT,
    ),
    "n_jobs": ("--jobs", "Number of processes; -1 for one per core.  [default: 1]", NUMBER),
    "resume": ("--resume", "Resume the interrupted run that --save names.", {"is_flag": True}),
    "settings": (
        "--set",
        "Values of a parameter: A,B,C or START:STOP:STEP; repeat it to run all combinations.",
        {"multiple": True, "metavar": "NAME=VALUES"},
    ),
    "seeds": (
        "--seeds",
        "Number of seeds, or a list of them such as 3,7,11.",
        {"default": "1", "show_default": True},
    ),
    "csv": ("--csv", "Write a row for each cell to this CSV file.", FILE),
    "diagnose plot": (
        "--plot",
        "With --simulate: draw the counts against the prediction to this file.",
        PLOT,
    ),
    "budget plot": ("--plot", "Draw the budget to this file.", PLOT),
    "sweep plot": ("--plot", "Draw accuracy by parameter to this file.", PLOT),
    "as_json": ("--json", "Print one JSON object.", {"is_flag": True}),
}


def options(verb: str, names: str, own: Mapping[str, tuple] | None = None) -> list[click.Option]:
    """Return options of a command: its ``own``, by name, and the common ones."""
    known, found = _OPTIONS | (own or {}), []
    for name in names.split():
        long, text, *settings = known[f"{verb} {name}" if f"{verb} {name}" in known else name]
        found.append(click.Option([long, name], help=text, **dict(*settings)))
    return found


def check_resume(options: dict) -> None:
    """Refuse ``--resume`` without ``--save``."""
    if options["resume"] and not options["save"]:
        raise InputError(
            "--resume: expected --save FILE too, the file of the interrupted run, got none"
        )
    if options.get("retry_failed") and not options["resume"]:
        raise InputError("--retry-failed: expected --resume too, to keep the other cells, got none")


def check_plot(plot: str | None, simulate: int | None) -> None:
    """Refuse a diagnosis' ``--plot`` without a run to compare."""
    if plot and not simulate:
        raise InputError("--plot: expected --simulate N too, the number of images to run, got none")


def given(**options: object) -> dict:
    """Leave out the options that keep the library's default."""
    return {name: value for name, value in options.items() if value not in (None, ())}
