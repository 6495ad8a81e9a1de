"""``nengonet weights``."""

from __future__ import annotations

import click

from nengonet.cli.shared import answer, options


def _run(file: str, as_json: bool) -> None:
    from nengonet.weights import load_weights

    loaded = load_weights(file)
    answer(as_json, loaded.summary(), str(loaded))


weights = click.Command(
    "weights",
    callback=_run,
    params=[click.Argument(["file"], type=click.Path()), *options("weights", "as_json")],
    help="List the layers of a Keras file, or of a bundled file by its name: shapes, numbers of "
    "parameters, ranges.\n\nExample: nengonet weights mnist_dense",
)
