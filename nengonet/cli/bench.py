"""``nengonet bench``."""

from __future__ import annotations

import click

from nengonet import studies
from nengonet.cli.shared import NUMBER, answer, given, options
from nengonet.cli.studies import arguments_of, options_of


class _Bench(click.Command):
    """A command with the options of the forum's network."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        """Return the options."""
        found = options_of(studies.get("forum-mnist"), "diagnose", "weights own n_images seed")
        # States that every image draws anew do not belong to the network that is timed.
        found = [option for option in found if option.name != "initial_voltage"]
        return [*found, *super().get_params(context)]


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


_NUMBER = NUMBER | {"show_default": True}
_OPTIONS = {
    "n_reference": (
        "--reference",
        "Number of images for nengo.Simulator.",
        _NUMBER | {"default": 100},
    ),
    "n_jobs": ("--jobs", "Number of processes; -1 for one per core.", _NUMBER | {"default": -1}),
    "minibatch_size": (
        "--minibatch-size",
        "Number of images at once.  [default: as in present]",
        NUMBER,
    ),
}
bench = _Bench(
    "bench",
    callback=_run,
    params=options("bench", "n_reference n_jobs minibatch_size as_json", _OPTIONS),
    help="Time the forum's MLP on nengo.Simulator and on MinibatchSimulator, and compare the "
    "spike counts.\n\nExample: nengonet bench --images 1000",
)
