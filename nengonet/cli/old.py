"""``nengonet reproduce``."""

from __future__ import annotations

import click

from nengonet.cli.old_shared import (
    JSON,
    RESUME,
    SAVE_RUNS,
    SEED,
    Group,
    answer,
    check_resume,
    image_count,
    images_option,
    plot_option,
    stated,
)


@click.group(cls=Group)
def reproduce() -> None:
    """Run a published example; its figure stands beside the one of the same network.

    Example: nengonet reproduce forum-mnist
    """


@reproduce.command("cifar-csnn")
@click.option("--weights", type=click.Path(), help="Keras file of the paper's CNN.")
@click.option("--data", "data_dir", type=click.Path(), help="Folder with CIFAR-10.")
@images_option(1000)
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
@SEED
@click.option(
    "--seeds",
    "n_seeds",
    type=int,
    help="How many first voltages each spiking cell is run with.  [default: 1]",
)
@click.option("--jobs", "n_jobs", type=int, help="Processes; -1 for one per core.  [default: -1]")
@SAVE_RUNS
@RESUME
@plot_option("Draw the logits of two images in these cells to this file.")
@JSON
def reproduce_cifar_csnn(images, synapses, n_seeds, n_jobs, plot, as_json, **options):
    """Classify CIFAR-10 with the CSNN paper's CNN: its tables, other readouts, and a repair.

    Example: nengonet reproduce cifar-csnn --images 100 --neurons relu
    """
    from nengonet.plots import plot_logits, save_figure
    from nengonet.studies import cifar_csnn

    check_resume(options["resume"], options["save"])
    synapses = [None if synapse == "none" else int(synapse) / 1000 for synapse in synapses]
    report = cifar_csnn.reproduce(
        n_images=image_count(images),
        synapses=synapses,
        **stated(n_seeds=n_seeds, n_jobs=n_jobs),
        **options,
    )
    if plot:
        curves = cifar_csnn.logit_curves(
            options["weights"],
            neurons=options["neurons"],
            synapses=synapses,
            data_dir=options["data_dir"],
            seed=options["seed"],
        )
        save_figure(plot_logits(*curves), plot)
    answer(as_json, report.to_json(), str(report))


@reproduce.command("fashion-mnist")
@click.option(
    "--weights",
    type=click.Path(),
    help="Keras file of an MLP 784-…-10, at the four dt.  [default: four of our own]",
)
@click.option("--data", "data_dir", type=click.Path(), help="Folder with Fashion-MNIST.")
@click.option(
    "--images",
    help='How many, or "all".  [default: all with --data or NENGONET_DATA, else 1000]',
)
@click.option(
    "--initial-voltage",
    type=click.Choice(["image", "network", "zero"]),
    help="Drawn for each neuron and image, as KerasSpiking does; for each neuron, as Nengo does; "
    "or 0.  [default: image]",
)
@SEED
@click.option(
    "--seeds",
    "n_seeds",
    type=int,
    help="Over which initial voltages are compared; 0 for no comparison.  [default: 5]",
)
@click.option("--jobs", "n_jobs", type=int, help="Processes; -1 for one per core.  [default: 1]")
@plot_option("Draw four images in every network to this file.")
@JSON
def reproduce_fashion_mnist(images, n_seeds, n_jobs, initial_voltage, plot, as_json, **options):
    """Classify Fashion-MNIST with KerasSpiking's MLPs: 10 steps of 0.001 to 1 s.

    Example: nengonet reproduce fashion-mnist --images 200 --seeds 2
    """
    from nengonet.plots import plot_spikes_and_probabilities, save_figure
    from nengonet.studies import fashion_mnist

    options |= stated(initial_voltage=initial_voltage)
    report = fashion_mnist.reproduce(
        **options,
        **stated(n_images=image_count(images), n_seeds=n_seeds, n_jobs=n_jobs),
    )
    if plot:
        save_figure(plot_spikes_and_probabilities(*fashion_mnist.example_runs(**options)), plot)
    answer(as_json, report.to_json(), str(report))
