"""``nengonet bench``."""

from __future__ import annotations

import click

from nengonet import studies
from nengonet.cli.shared import answer, given, json_option
from nengonet.cli.studies import arguments_of, common_options, study_options


class _Bench(click.Command):
    """A command with the options of the forum's network."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        """Return the options."""
        study = studies.get("forum-mnist")
        options = [
            *common_options(study, "diagnose", "weights"),
            *study_options(study, "diagnose"),
            *common_options(study, "diagnose", "n_images seed"),
        ]
        return [*options, *super().get_params(context)]


@click.command(cls=_Bench)
@click.option("--reference", default=100, show_default=True, help="Images for nengo.Simulator.")
@click.option("--jobs", "n_jobs", default=-1, show_default=True, help="Processes.")
@click.option("--minibatch-size", type=int, help="Examples at once.  [default: as for present]")
@json_option
def bench(reference, n_jobs, minibatch_size, as_json, **options):
    """Time the forum's MLP on nengo.Simulator and on the minibatch simulator; compare their counts.

    Example: nengonet bench --images 1000
    """
    from nengonet.run.bench import bench as run

    study = studies.get("forum-mnist")
    arguments = arguments_of(study, "diagnose", options)
    opened = study.open(**arguments)
    plain = opened.case.output
    if opened.case.settings.get("input_kind") == "process":
        del arguments["n_images"]
        plain = study.build(**arguments, input_kind="ensemble").output
    found = run(
        opened.case.output,
        opened.images,
        plain=plain,
        presentation_time=opened.case.presentation_time,
        n_reference=reference,
        n_jobs=n_jobs,
        **given(minibatch_size=minibatch_size),
    )
    answer(as_json, found.to_json(), str(found))
