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
        except BrokenPipeError:
            raise  # click ends quietly when nobody reads on
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


_FORUM_OPTIONS = [
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
    click.option("--input-rate", type=float, help="Hz of a white pixel, repaired.  [default: 255]"),
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
    click.option("--seed", default=0, show_default=True),
]
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_PRESENTATION_TIME = click.option(
    "--presentation-time", default=0.35, show_default=True, help="Seconds per image."
)


def _images(default: int | str):
    return click.option(
        "--images", default=str(default), show_default=True, help='How many, or "all".'
    )


def _forum_options(command):
    for option in reversed(_FORUM_OPTIONS):
        command = option(command)
    return command


def _forum_network(posted: bool, obvious: bool, constant_input: bool | None, **chosen) -> dict:
    """Turn the options into arguments of `forum_mnist.build`."""
    if posted and obvious:
        raise InputError("--as-posted and --obvious: expected one of them")
    if constant_input and chosen["input_rate"] is not None:
        raise InputError("--constant-input and --input-rate: expected one of them")
    chosen = _stated(input_kind="constant" if constant_input else None, **chosen)
    if (posted or obvious) and chosen:
        raise InputError(
            f"--{'as-posted' if posted else 'obvious'} fixes the neurons, the input and the "
            "rates: leave those options"
        )
    return _stated(variant="posted" if posted else "obvious" if obvious else None) | chosen


_NETWORK_OPTIONS = (
    "posted",
    "obvious",
    "constant_input",
    "neurons",
    "input_rate",
    "full_scale_rate",
)


def _forum_options_of(options: dict) -> dict:
    """Take the options of the network out of a command's, and turn them into arguments."""
    return _forum_network(**{name: options.pop(name) for name in _NETWORK_OPTIONS})


def _forum_case(images: str, options: dict) -> tuple:
    """Build the network that the options ask for, and load its images and labels."""
    from nengonet import datasets
    from nengonet.reproductions import forum_mnist

    example = forum_mnist.build(**options)
    return example, *datasets.load("mnist", n_images=_image_count(images))


def _stated(**options: object) -> dict:
    """Leave out the options that keep the library's default."""
    return {name: value for name, value in options.items() if value is not None}


@reproduce.command("forum-mnist")
@_forum_options
@_images(1000)
@_PRESENTATION_TIME
@click.option(
    "--simulator",
    type=click.Choice(["minibatch", "reference"]),
    help="The twin, or the unmodified nengo.Simulator.  [default: minibatch]",
)
@click.option("--jobs", "n_jobs", type=int, help="Processes; -1 for one per core.  [default: 1]")
@click.option("--save", type=click.Path(), help="HDF5 file for the counts.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in --save.")
@click.option("--plot", type=click.Path(), help="Draw the first image's run to this file.")
@_JSON
def reproduce_forum_mnist(
    images,
    simulator,
    n_jobs,
    save,
    resume,
    plot,
    as_json,
    **options,
):
    """Classify MNIST with the forum's MLP: Poisson input, LIF neurons, 350 steps, spike counts.

    Example: nengonet reproduce forum-mnist --as-posted --images 100
    """
    from nengonet.plots import check_figure_path, plot_presentation, save_figure
    from nengonet.reproductions import forum_mnist

    if resume and not save:
        raise InputError("--resume: expected --save FILE, the file of the interrupted run")
    if plot:
        check_figure_path(plot)
    report = forum_mnist.reproduce(
        n_images=_image_count(images),
        save=save,
        resume=resume,
        **_stated(simulator=simulator, n_jobs=n_jobs),
        **_forum_options_of(options),
        **options,
    )
    if plot:
        shown = report.present_again(0)
        save_figure(plot_presentation(report.images[0], shown, label=report.labels[0]), plot)
    click.echo(json.dumps(report.to_json()) if as_json else str(report))


@reproduce.command("cifar-csnn")
@click.option("--weights", type=click.Path(), help="Keras file of the paper's CNN.")
@click.option("--data", "data_dir", type=click.Path(), help="Folder with CIFAR-10.")
@_images(1000)
@click.option(
    "--neurons",
    multiple=True,
    type=click.Choice(["rate", "relu", "lif", "adaptive-lif"]),
    help="Only these cells; may be repeated.  [default: all]",
)
@click.option(
    "--synapse",
    "synapses",
    multiple=True,
    type=click.Choice(["none", "5", "10", "15", "20"]),
    help="Only these cells, in ms; may be repeated.  [default: all]",
)
@click.option("--seed", default=0, show_default=True)
@click.option("--jobs", "n_jobs", type=int, help="Processes; -1 for one per core.  [default: -1]")
@click.option("--plot", type=click.Path(), help="Draw the logits of two images to this file.")
@_JSON
def reproduce_cifar_csnn(images, synapses, n_jobs, plot, as_json, **options):
    """Classify CIFAR-10 with the CSNN paper's CNN: its tables, other readouts, and a repair.

    Example: nengonet reproduce cifar-csnn --images 100 --neurons relu
    """
    from nengonet.plots import check_figure_path, plot_logits, save_figure
    from nengonet.reproductions import cifar_csnn

    if plot:
        check_figure_path(plot)
    synapses = [None if synapse == "none" else int(synapse) / 1000 for synapse in synapses]
    report = cifar_csnn.reproduce(
        n_images=_image_count(images), synapses=synapses, **_stated(n_jobs=n_jobs), **options
    )
    if plot:
        curves = cifar_csnn.logit_curves(
            options["weights"],
            neurons=options["neurons"],
            data_dir=options["data_dir"],
            seed=options["seed"],
            **_stated(synapse=next(filter(None, synapses), None)),
        )
        save_figure(plot_logits(*curves), plot)
    click.echo(json.dumps(report.to_json()) if as_json else str(report))


def _bengali_options(command):
    options = [
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
        click.option("--seed", default=0, show_default=True),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@reproduce.command("bengali")
@_bengali_options
@_images("all")
@click.option(
    "--sweep-images", "n_sweep", type=int, help="For the sweep; 0 for none.  [default: 200]"
)
@click.option("--jobs", "n_jobs", type=int, help="Processes; -1 for one per core.  [default: -1]")
@click.option("--plot", type=click.Path(), help="Draw accuracy by steps to this file.")
@_JSON
def reproduce_bengali(images, n_sweep, n_jobs, plot, as_json, **options):
    """Classify Bengali characters with the forum's CNN: rate, spiking and repaired neurons.

    Example: nengonet reproduce bengali --images 300
    """
    from nengonet.plots import check_figure_path, plot_latency, save_figure
    from nengonet.reproductions import bengali

    if plot:
        check_figure_path(plot)
    options = _stated(n_sweep=n_sweep, n_jobs=n_jobs, **options)
    report = bengali.reproduce(n_images=_image_count(images), **options)
    if plot:
        save_figure(plot_latency(report.curves, report.ann_accuracy), plot)
    click.echo(json.dumps(report.to_json()) if as_json else str(report))


@reproduce.command("amplitude")
@click.option(
    "--network",
    "networks",
    multiple=True,
    type=click.Choice(["mlp", "cnn"]),
    help="Only this one; the MLP takes a minute.  [default: both]",
)
@click.option("--weights", type=click.Path(), help="Keras file of the tutorial's CNN, or an MLP.")
@click.option("--images", help='How many, or "all".  [default: 1000 for the MLP, 200 for the CNN]')
@click.option("--seeds", "n_seeds", type=int, help="[default: 10 for the MLP, 5 for the CNN]")
@click.option(
    "--poisson-input", "poisson", is_flag=True, help="Poisson spikes, not constant pixels."
)
@click.option("--jobs", "n_jobs", type=int, help="Processes; -1 for one per core.  [default: -1]")
@click.option("--save", type=click.Path(), help="Keep finished cells in FILE-mlp, FILE-cnn, ….")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in --save.")
@click.option("--plot", type=click.Path(), help="Draw accuracy against amplitude to this file.")
@_JSON
def reproduce_amplitude(images, resume, save, plot, as_json, **options):
    """Sweep the amplitude of LIF neurons: one seed, the mean of several, and why accuracy falls.

    Example: nengonet reproduce amplitude --network mlp
    """
    from nengonet.plots import check_figure_path, plot_amplitude, save_figure
    from nengonet.reproductions import amplitude

    if resume and not save:
        raise InputError("--resume: expected --save FILE, the file of the interrupted run")
    if plot:
        check_figure_path(plot)
    report = amplitude.reproduce(
        n_images=None if images is None else _image_count(images),
        save=save,
        resume=resume,
        **_stated(**options),
    )
    if plot:
        save_figure(plot_amplitude(report.cells), plot)
    click.echo(json.dumps(report.to_json()) if as_json else str(report))


@main.group()
def diagnose() -> None:
    """Say what a published example will do and why, with no simulation.

    Example: nengonet diagnose forum-mnist --as-posted
    """


@diagnose.command("forum-mnist")
@_forum_options
@_images(1000)
@_PRESENTATION_TIME
@click.option(
    "--simulate", type=int, help="Run this many images too, and compare the rates by layer."
)
@click.option("--plot", type=click.Path(), help="With --simulate: draw counts against prediction.")
@_JSON
def diagnose_forum_mnist(
    images,
    presentation_time,
    simulate,
    plot,
    as_json,
    **options,
):
    """Diagnose the forum's MLP: predicted rates and accuracy, and findings, worst first.

    Example: nengonet diagnose forum-mnist --as-posted
    """
    from nengonet.diagnosis import compare
    from nengonet.diagnosis import diagnose as run
    from nengonet.plots import check_figure_path, plot_comparison, save_figure
    from nengonet.presentation import present
    from nengonet.reproductions import forum_mnist

    if plot:
        check_figure_path(plot)
        if not simulate:
            raise InputError("--plot: expected --simulate N, the number of images to run")
    example, shown, labels = _forum_case(images, _forum_options_of(options) | options)
    settings = {"presentation_time": presentation_time, "readout": example.readout}
    found = run(example.output, shown, labels=labels, **settings)
    report, text = {"name": forum_mnist.NAME} | found.to_json(), [str(found)]
    if simulate:
        few = shown[:simulate]
        result = present(example.network, example.output, few, **settings)
        compared = compare(result, example.output, few)
        report["observed"] = compared.to_json()
        text += ["", f"observed in {len(few)} images:", str(compared)]
        if plot:
            save_figure(plot_comparison(compared), plot)
    click.echo(json.dumps(report) if as_json else "\n".join(text))


@diagnose.command("bengali")
@click.option("--as-posted", "posted", is_flag=True, help="The spiking network as posted.")
@_bengali_options
@_images(50)
@_JSON
def diagnose_bengali(posted, images, as_json, **options):
    """Diagnose the forum's CNN: predicted rates and accuracy, and findings, worst first.

    Example: nengonet diagnose bengali --as-posted
    """
    from nengonet.reproductions import bengali

    found = bengali.diagnose(
        variant="posted" if posted else "repaired",
        n_images=_image_count(images),
        **_stated(**options),
    )
    click.echo(json.dumps({"name": bengali.NAME} | found.to_json()) if as_json else str(found))


@main.group()
def budget() -> None:
    """Account for every percentage point between an ANN and its spiking network.

    Example: nengonet budget forum-mnist --as-posted
    """


@budget.command("forum-mnist")
@_forum_options
@_images(200)
@_PRESENTATION_TIME
@click.option("--plot", type=click.Path(), help="Draw the budget to this file.")
@_JSON
def budget_forum_mnist(images, presentation_time, plot, as_json, **options):
    """Run the forum's MLP with one effect after the other added.

    Example: nengonet budget forum-mnist --as-posted --images 100
    """
    from nengonet.budget import error_budget
    from nengonet.plots import check_figure_path, plot_budget, save_figure
    from nengonet.reproductions import forum_mnist

    if plot:
        check_figure_path(plot)
    example, shown, labels = _forum_case(images, _forum_options_of(options) | options)
    found = error_budget(
        example.output,
        shown,
        labels,
        presentation_time=presentation_time,
        readout=example.readout,
    )
    if plot:
        save_figure(plot_budget(found), plot)
    report = {"name": forum_mnist.NAME, "settings": example.settings} | found.to_json()
    click.echo(json.dumps(report) if as_json else str(found))


@budget.command("bengali")
@click.option("--as-posted", "posted", is_flag=True, help="The spiking network as posted.")
@_bengali_options
@_images(200)
@click.option("--plot", type=click.Path(), help="Draw the budget to this file.")
@_JSON
def budget_bengali(posted, images, plot, as_json, **options):
    """Run the forum's CNN with one effect after the other added.

    Example: nengonet budget bengali --as-posted
    """
    from nengonet.plots import check_figure_path, plot_budget, save_figure
    from nengonet.reproductions import bengali

    if plot:
        check_figure_path(plot)
    found = bengali.budget(
        variant="posted" if posted else "repaired",
        n_images=_image_count(images),
        **_stated(**options),
    )
    if plot:
        save_figure(plot_budget(found), plot)
    click.echo(json.dumps({"name": bengali.NAME} | found.to_json()) if as_json else str(found))


@main.command()
@_forum_options
@_images(1000)
@_PRESENTATION_TIME
@click.option("--reference", default=100, show_default=True, help="Images for nengo.Simulator.")
@click.option("--jobs", "n_jobs", default=-1, show_default=True, help="Processes of the twin.")
@click.option("--minibatch-size", type=int, help="Examples at once.  [default: as for present]")
@_JSON
def bench(
    images,
    presentation_time,
    reference,
    n_jobs,
    minibatch_size,
    as_json,
    **options,
):
    """Time the forum's MLP on nengo.Simulator and on the twin, and compare their spike counts.

    Example: nengonet bench --images 1000
    """
    from nengonet.bench import bench as run

    example, shown, _ = _forum_case(images, _forum_options_of(options) | options)
    found = run(
        example.output,
        shown,
        plain=example.in_plain_nengo(),
        presentation_time=presentation_time,
        n_reference=reference,
        n_jobs=n_jobs,
        **_stated(minibatch_size=minibatch_size),
    )
    click.echo(json.dumps(found.to_json()) if as_json else str(found))


def _image_count(text: str) -> int | str:
    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise InputError(f'--images: expected a whole number or "all", found {text!r}') from None


if __name__ == "__main__":
    sys.exit(main())
