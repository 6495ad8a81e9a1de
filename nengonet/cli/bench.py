"""``nengonet bench``."""

from __future__ import annotations

import click

from nengonet import studies
from nengonet.cli.shared import answer, given, json_option
from nengonet.cli.studies import arguments_of, options_of


class _Bench(click.Command):
    """A command with the options of the forum's network."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        """Return the options."""
        options = options_of(studies.get("forum-mnist"), "diagnose", "weights own n_images seed")
        # States that every image draws anew are no part of the network that is timed.
        options = [option for option in options if option.name != "initial_voltage"]
        return [*options, *super().get_params(context)]


def _run(n_reference, n_jobs, minibatch_size, as_json, **options):
    from nengonet.run import bench

    study = studies.get("forum-mnist")
    arguments = arguments_of(study, "diagnose", options)
    case, images, _ = study.open("diagnose", **arguments)
    plain = case.output
    if case.settings.get("input_kind") == "process":
        arguments.pop("n_images", None)
        plain = study.build(**arguments, input_kind="ensemble").output
    found = bench.bench(
        case.output,
        images,
        plain=plain,
        presentation_time=case.presentation_time,
        n_reference=n_reference,
        n_jobs=n_jobs,
        **given(minibatch_size=minibatch_size),
    )
    answer(as_json, found, bench.as_text(found))


def _count(name: str, text: str, **settings: object) -> click.Option:
    return click.Option(name.split(), type=int, help=text, **settings)


bench = _Bench(
    "bench",
    callback=_run,
    params=[
        _count(
            "--reference n_reference", "Images for nengo.Simulator.", default=100, show_default=True
        ),
        _count("--jobs n_jobs", "Processes.", default=-1, show_default=True),
        _count("--minibatch-size", "Examples at once.  [default: as for present]"),
        json_option(),
    ],
    help="Time the forum's MLP on nengo.Simulator and on the minibatch simulator, and compare "
    "their spike counts.\n\nExample: nengonet bench --images 1000",
)
