"""The command line: a thin shell over the library.

A command is a few lines that call one library function. Tables for people go to standard output,
progress to standard error; ``--json`` prints one JSON object and nothing else.
"""

from __future__ import annotations

import json
import sys

import click
from nengo.exceptions import NengoException

from nengonet.exceptions import InputError
from nengonet.version import __version__

_BAD_INPUT = 2
_INTERRUPTED = 130


class _Commands(click.Group):
    """Turn what callers can mend into one line on standard error, and exit code 2."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except (InputError, NengoException, OSError) as error:
            click.echo(f"nengonet: {' '.join(str(error).split())}", err=True)
            context.exit(_BAD_INPUT)
        except KeyboardInterrupt:
            click.echo(
                "nengonet: interrupted; with --save, what is finished is kept: go on with --resume",
                err=True,
            )
            context.exit(_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nengonet")
def main() -> None:
    """Build spiking networks by hand in plain Nengo from pretrained Keras weights."""


@main.command()
@click.argument("file", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def weights(file: str, as_json: bool) -> None:
    """List the layers of a Keras file: shapes, parameters, ranges.

    Example: nengonet weights weights/mnist_dense.h5
    """
    from nengonet.weights import load_weights

    loaded = load_weights(file)
    click.echo(json.dumps(loaded.summary()) if as_json else str(loaded))


@main.group()
def reproduce() -> None:
    """Run a published example, and print its figure beside the measured one.

    Example: nengonet reproduce forum-mnist
    """


@reproduce.command("forum-mnist")
@click.option("--as-posted", is_flag=True, help="The network as posted, instead of repaired.")
@click.option("--weights", type=click.Path(), help="Keras file of an MLP 784-…-10.")
@click.option("--images", default="1000", show_default=True, help='How many, or "all".')
@click.option("--presentation-time", default=0.35, show_default=True, help="Seconds per image.")
@click.option(
    "--neurons",
    type=click.Choice(["lif", "if", "relu"]),
    help="Of the repaired network.  [default: lif]",
)
@click.option("--input-rate", type=float, help="Hz of a white pixel, repaired.  [default: 255]")
@click.option("--seed", default=0, show_default=True)
@click.option("--save", type=click.Path(), help="HDF5 file for the counts.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in --save.")
@click.option("--plot", type=click.Path(), help="Draw the first image's run to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def forum_mnist(as_posted, images, neurons, input_rate, save, resume, plot, as_json, **options):
    """Classify MNIST with the forum's MLP: Poisson input, LIF neurons, 350 steps, spike counts.

    Example: nengonet reproduce forum-mnist --as-posted --images 100
    """
    from nengonet.plots import check_figure_path, plot_presentation, save_figure
    from nengonet.reproductions import forum_mnist as example

    if as_posted and (neurons or input_rate):
        raise InputError("--as-posted fixes the neurons and the input rate: leave those options")
    if resume and not save:
        raise InputError("--resume: expected --save FILE, the file of the interrupted run")
    if plot:
        check_figure_path(plot)
    stated = {"neurons": neurons, "input_rate": input_rate}
    report = example.reproduce(
        as_posted=as_posted,
        n_images=_image_count(images),
        save=save,
        resume=resume,
        **{name: value for name, value in stated.items() if value is not None},
        **options,
    )
    if plot:
        shown = report.present_again(0)
        save_figure(plot_presentation(report.images[0], shown, label=report.labels[0]), plot)
    click.echo(json.dumps(report.to_json()) if as_json else str(report))


def _image_count(text: str) -> int | str:
    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise InputError(f'--images: expected a whole number or "all", found {text!r}') from None


if __name__ == "__main__":
    sys.exit(main())
