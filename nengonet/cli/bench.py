"""``nengonet bench``."""

from __future__ import annotations

import click

from nengonet.cli.shared import (
    JSON,
    PRESENTATION_TIME,
    answer,
    forum_case,
    forum_options,
    images_option,
    stated,
)


@click.command()
@forum_options
@images_option(1000)
@PRESENTATION_TIME
@click.option("--reference", default=100, show_default=True, help="Images for nengo.Simulator.")
@click.option("--jobs", "n_jobs", default=-1, show_default=True, help="Processes of the twin.")
@click.option("--minibatch-size", type=int, help="Examples at once.  [default: as for present]")
@JSON
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
    from nengonet.run.bench import bench as run

    example, shown, _ = forum_case(images, options)
    found = run(
        example.output,
        shown,
        plain=example.in_plain_nengo(),
        presentation_time=presentation_time,
        n_reference=reference,
        n_jobs=n_jobs,
        **stated(minibatch_size=minibatch_size),
    )
    answer(as_json, found.to_json(), str(found))
