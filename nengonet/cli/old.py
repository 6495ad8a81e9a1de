"""``nengonet reproduce``."""

from __future__ import annotations

import click

from nengonet.cli.old_shared import (
    JSON,
    SEED,
    Group,
    answer,
    image_count,
    plot_option,
    stated,
)


@click.group(cls=Group)
def reproduce() -> None:
    """Run a published example; its figure stands beside the one of the same network.

    Example: nengonet reproduce forum-mnist
    """


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
