"""``nengonet report``."""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING

import click

from nengonet.cli.scripts import IMAGES_HELP, LABELS_HELP, Script, load_data
from nengonet.cli.shared import FILE, answer, options
from nengonet.exceptions import InputError
from nengonet.tables import counted

if TYPE_CHECKING:
    from nengonet.results.result import Result


def _run(
    file: str,
    output: str | None,
    images: str | None,
    labels: str | None,
    script: str | None,
    node: str | None,
    as_json: bool,
) -> None:
    from nengonet.report import check_page_path
    from nengonet.results.result import load_result

    output = check_page_path(output or pathlib.Path(file).with_suffix(".html"))
    result = load_result(file)
    n_classes = result.steps.shape[2]
    if script is None:
        shown, known = load_data({}, n_classes, images, labels, result.n_images)
        more = {"images": shown, "labels": known}
    else:
        more = _explained(result, Script(script), images, labels, node)
    more["class_names"] = _class_names(images, n_classes)
    result.to_html(output, title=f"Run of {pathlib.Path(file).name}", **more)
    accuracy = None if more["labels"] is None else result.accuracy(more["labels"])
    found = {
        "file": str(output),
        "n_images": result.n_images,
        "accuracy": accuracy and float(accuracy),
        "interval": accuracy and list(accuracy.interval),
        "ties": int(result.tied().sum()),
    }
    hint = "--images and --labels add accuracy and pictures"
    answer(as_json, found, f"{output}: {counted(result.n_images, 'image')}; {accuracy or hint}")


def _explained(
    result: Result, script: Script, images: str | None, labels: str | None, node: str | None
) -> dict:
    """Return the diagnosis of a script's network, and the rates that it predicts."""
    from nengonet.explain.comparison import compare
    from nengonet.explain.diagnosis import diagnose

    if images is None:
        raise InputError("--images: expected the images of the run, got none")
    shown, known = script.data(images, labels, result.n_images, node)
    target, network = script.target, script.target.network
    how = {"presentation_time": result.n_steps * result.dt, "dt": result.dt}
    how["readout"] = result.settings["readout"]
    found = {
        "diagnosis": diagnose(target, shown, labels=known, network=network, **how),
        "comparison": compare(result, target, shown, network=network),
        "labels": known,
    }
    return found | {"images": shown if node is None else next(iter(shown.values()))}


def _class_names(images: str | None, n_classes: int) -> tuple[str, ...] | None:
    """Return the names of a data set's classes, if the network has as many."""
    from nengonet import datasets

    names = ()
    with contextlib.suppress(InputError):
        names = datasets.class_names(images)
    return names if len(names) == n_classes else None


_OPTIONS = {
    "images": ("--images", f"Images of the run, in the same order: {IMAGES_HELP}"),
    "labels": ("--labels", LABELS_HELP),
    "script": ("--network", "SCRIPT.py:OUTPUT of the run; adds the diagnosis and predicted rates."),
    "node": ("--input", "Node in the script that shows the images.  [default: the only input]"),
}
_OUTPUT = "File to write; an existing one is replaced.  [default: RUN.html]"
report = click.Command(
    "report",
    callback=_run,
    params=[
        click.Argument(["file"], metavar="RUN.h5", type=click.Path()),
        click.Option(["-o", "--output", "output"], help=_OUTPUT, **FILE),
        *options("report", "images labels script node as_json", _OPTIONS),
    ],
    help="Write a saved run as one HTML file: accuracy, findings, figures, wrong images. It opens "
    "without the network.\n\nExample: nengonet report run.h5 -o run.html --images mnist",
)
