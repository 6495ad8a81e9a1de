"""``nengonet diagnose``."""

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
from nengonet.exceptions import InputError


@click.group(cls=Group)
def diagnose() -> None:
    """Say what a published example will do and why, with no simulation.

    Example: nengonet diagnose forum-mnist --as-posted
    """


@diagnose.command("forum-mnist")
@forum_options
@images_option(1000)
@PRESENTATION_TIME
@click.option(
    "--simulate", type=int, help="Run this many images too, and compare the rates by layer."
)
@plot_option("With --simulate: draw counts against prediction.")
@JSON
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
    from nengonet.explain.comparison import compare
    from nengonet.explain.diagnosis import diagnose as run
    from nengonet.plots import plot_comparison, save_figure
    from nengonet.run.presentation import present
    from nengonet.studies import forum_mnist

    if plot and not simulate:
        raise InputError("--plot: expected --simulate N, the number of images to run")
    example, shown, labels = forum_case(images, options)
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
    answer(as_json, report, "\n".join(text))


@diagnose.command("bengali")
@POSTED
@bengali_options
@images_option(50)
@JSON
def diagnose_bengali(posted, images, as_json, **options):
    """Diagnose the forum's CNN: predicted rates and accuracy, and findings, worst first.

    Example: nengonet diagnose bengali --as-posted
    """
    from nengonet.studies import bengali

    found = bengali.diagnose(
        variant="posted" if posted else "repaired",
        n_images=image_count(images),
        **stated(**options),
    )
    answer(as_json, {"name": bengali.NAME} | found.to_json(), str(found))
