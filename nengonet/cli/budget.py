"""``nengonet budget``."""

from __future__ import annotations

import click

from nengonet.cli.shared import (
    JSON,
    POSTED,
    PRESENTATION_TIME,
    Group,
    answer,
    bengali_options,
    forum_case,
    forum_options,
    image_count,
    images_option,
    plot_option,
    stated,
)


@click.group(cls=Group)
def budget() -> None:
    """Account for every percentage point between an ANN and its spiking network.

    Example: nengonet budget forum-mnist --as-posted
    """


@budget.command("forum-mnist")
@forum_options
@images_option(200)
@PRESENTATION_TIME
@plot_option("Draw the budget to this file.")
@JSON
def budget_forum_mnist(images, presentation_time, plot, as_json, **options):
    """Run the forum's MLP with one effect after the other added.

    Example: nengonet budget forum-mnist --as-posted --images 100
    """
    from nengonet.explain.budget import error_budget
    from nengonet.plots import plot_budget, save_figure
    from nengonet.studies import forum_mnist

    example, shown, labels = forum_case(images, options)
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
    answer(as_json, report, str(found))


@budget.command("bengali")
@POSTED
@bengali_options
@images_option(200)
@plot_option("Draw the budget to this file.")
@JSON
def budget_bengali(posted, images, plot, as_json, **options):
    """Run the forum's CNN with one effect after the other added.

    Example: nengonet budget bengali --as-posted
    """
    from nengonet.plots import plot_budget, save_figure
    from nengonet.studies import bengali

    found = bengali.budget(
        variant="posted" if posted else "repaired",
        n_images=image_count(images),
        **stated(**options),
    )
    if plot:
        save_figure(plot_budget(found), plot)
    answer(as_json, {"name": bengali.NAME} | found.to_json(), str(found))
