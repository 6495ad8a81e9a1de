"""What the commands share: how they fail, how they print, and options of several of them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator

import click

from nengonet.exceptions import InputError

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

_EXAMPLE = "Example: "
_WORDS = "nengonet.words"


class Group(click.Group):
    """A group whose help shows one example of each command, in the order they were added."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the example of its docstring."""
        with formatter.section("Commands"):
            for name in self.list_commands(context):
                command = self.get_command(context, name)
                formatter.write_dl([(name, command.get_short_help_str(200))])
                formatter.write_text(f"    $ {example_of(command)}")


def example_of(command: click.Command) -> str:
    """Return the line after ``Example:`` in a command's docstring."""
    return command.help.split(_EXAMPLE)[1].splitlines()[0].strip()


class Commands(Group):
    """Turn what callers can mend into one line on standard error, and exit code 2."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Keep the words that were given, for a line to go on with."""
        context.meta[_WORDS] = list(args)
        return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> object:
        """Run the command, and end with one line where it cannot be run."""
        # https://no-color.org: set and not empty. Else click looks for a terminal.
        context.color = False if os.environ.get("NO_COLOR") else None
        try:
            with _lost_interrupts_repeated():
                return super().invoke(context)
        except BrokenPipeError:
            raise  # click ends quietly when nobody reads on
        except KeyboardInterrupt:
            # Whoever presses it again meanwhile gets no traceback for it.
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
            _complain(" ".join(str(error).split()))
            context.exit(BAD_INPUT)


@contextlib.contextmanager
def _lost_interrupts_repeated() -> Iterator[None]:
    """Raise KeyboardInterrupt again where Python drops it, as it does in the end of an object."""
    before = sys.unraisablehook

    def repeat(lost: object) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt) and hasattr(signal, "setitimer"):
            # A little later, when this hook is over.
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


def _stop_processes() -> None:
    if "nengonet.run.parallel" in sys.modules:
        sys.modules["nengonet.run.parallel"].stop_processes()


def _complain(message: str) -> None:
    click.echo(f"{click.style('nengonet:', fg='red', bold=True)} {message}", err=True)


def _how_to_go_on(context: click.Context) -> str:
    """Say what is kept, and with which line to go on: of the command that was called."""
    command, words = context.command, list(context.meta[_WORDS])
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(context, word) or command
    if not any(option.name == "save" for option in command.params):
        return "nothing is kept, as this command has no --save"
    if not any(word.split("=")[0] == "--save" for word in words):
        return "nothing is kept: with --save FILE, what is finished is, and --resume goes on"
    resume = [] if "--resume" in words else ["--resume"]
    line = shlex.join([context.info_name, *words, *resume])
    return f"what is finished is kept; go on with: {line}"


def answer(as_json: bool, report: dict, text: str) -> None:
    """Print a report: one JSON object for programs, text for people."""
    if as_json:
        click.echo(json.dumps(_of_json(report), allow_nan=False))
    else:
        click.echo(_coloured(text))


def _of_json(value: object) -> object:
    """Return a value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _of_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_of_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_SEVERITIES = {"error": "red", "warning": "yellow", "note": "cyan"}
_SEVERITY = re.compile(rf"^(\d+\. )({'|'.join(_SEVERITIES)}):", re.MULTILINE)
_TITLE = re.compile(r"\A\S+$|^  (?:published|ANN|spiking)\b", re.MULTILINE)


def _coloured(text: str) -> str:
    """Mark severities, the title and the figures to compare; click drops it beside terminals."""
    text = _TITLE.sub(lambda found: click.style(found[0], bold=True), text)
    return _SEVERITY.sub(
        lambda found: found[1] + click.style(f"{found[2]}:", fg=_SEVERITIES[found[2]], bold=True),
        text,
    )


# Options.

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
SEED = click.option("--seed", default=0, show_default=True)
POSTED = click.option("--as-posted", "posted", is_flag=True, help="The spiking network as posted.")
PRESENTATION_TIME = click.option(
    "--presentation-time", default=0.35, show_default=True, help="Seconds per image."
)
SAVE_RUNS = click.option("--save", type=click.Path(), help="Folder for the finished runs.")
RESUME = click.option("--resume", is_flag=True, help="Go on with the interrupted run in --save.")


def plot_option(text: str) -> Callable:
    """Return the option ``--plot``, whose file is checked before anything runs."""
    return click.option("--plot", type=click.Path(), callback=_checked_figure, help=text)


def _checked_figure(
    context: click.Context, option: click.Parameter, path: str | None
) -> str | None:
    # A completion parses too, and should not wait for Matplotlib.
    if path and not context.resilient_parsing:
        from nengonet.plots import check_figure_path

        check_figure_path(path)
    return path


def images_option(default: int | str) -> Callable:
    """Return the option ``--images``."""
    return click.option(
        "--images", default=str(default), show_default=True, help='How many, or "all".'
    )


def image_count(text: str | None) -> int | str | None:
    """Return the value of ``--images``: a number, "all", or None where it was not given."""
    if text is None or text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise InputError(f'--images: expected a whole number or "all", found {text!r}') from None


def check_resume(resume: bool, save: str | None) -> None:
    """Refuse ``--resume`` without ``--save``."""
    if resume and not save:
        raise InputError("--resume: expected --save FILE, the file of the interrupted run")


def options(given: list[Callable]) -> Callable:
    """Return a decorator that adds options to a command, in this order."""

    def decorate(command: Callable) -> Callable:
        for option in reversed(given):
            command = option(command)
        return command

    return decorate


def stated(**given: object) -> dict:
    """Leave out the options that keep the library's default."""
    return {name: value for name, value in given.items() if value is not None}


forum_options = options(
    [
        click.option("--as-posted", "posted", is_flag=True, help="The network as posted."),
        click.option(
            "--obvious", is_flag=True, help="The first repair to come to mind: amplitude 0.01."
        ),
        click.option("--weights", type=click.Path(), help="Keras file of an MLP 784-…-10."),
        click.option(
            "--neurons",
            type=click.Choice(["lif", "if", "relu"]),
            help="Of the repaired network.  [default: lif]",
        ),
        click.option(
            "--input-rate", type=float, help="Hz of a white pixel, repaired.  [default: 255]"
        ),
        click.option(
            "--constant-input",
            is_flag=True,
            default=None,
            help="The repaired network sees the pixels themselves instead of Poisson spikes.",
        ),
        click.option(
            "--full-scale-rate",
            type=float,
            help="Hz of a layer's largest activations, repaired.  [default: 250]",
        ),
        SEED,
    ]
)


def _forum_network(posted: bool, obvious: bool, constant_input: bool | None, **chosen) -> dict:
    """Turn the options into arguments of `forum_mnist.build`."""
    if posted and obvious:
        raise InputError("--as-posted and --obvious: expected one of them")
    if constant_input and chosen["input_rate"] is not None:
        raise InputError("--constant-input and --input-rate: expected one of them")
    chosen = stated(input_kind="constant" if constant_input else None, **chosen)
    if (posted or obvious) and chosen:
        raise InputError(
            f"--{'as-posted' if posted else 'obvious'} fixes the neurons, the input and the "
            "rates: leave those options"
        )
    return stated(variant="posted" if posted else "obvious" if obvious else None) | chosen


_NETWORK_OPTIONS = (
    "posted",
    "obvious",
    "constant_input",
    "neurons",
    "input_rate",
    "full_scale_rate",
)


def forum_options_of(given: dict) -> dict:
    """Take the options of the network out of a command's, and turn them into arguments."""
    return _forum_network(**{name: given.pop(name) for name in _NETWORK_OPTIONS})


def forum_case(images: str, given: dict) -> tuple:
    """Build the network that a command's options ask for, and load its images and labels."""
    from nengonet import datasets
    from nengonet.studies import forum_mnist

    example = forum_mnist.build(**forum_options_of(given), **given)
    return example, *datasets.load("mnist", n_images=image_count(images))


bengali_options = options(
    [
        click.option("--weights", type=click.Path(), help="Keras file of the same CNN."),
        click.option(
            "--data",
            type=click.Path(),
            help="Folder with bengali50.npz, or an .npz file of your own.  "
            "[default: the folder NENGONET_DATA]",
        ),
        click.option(
            "--steps", "n_steps", type=int, help="Of 1 ms, an image.  [default: 10, as posted]"
        ),
        SEED,
    ]
)
