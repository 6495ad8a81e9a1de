"""``nengonet weights``."""

from __future__ import annotations

import click

from nengonet.cli.shared import answer, json_option


@click.command()
@click.argument("file", type=click.Path())
@json_option
def weights(file: str, as_json: bool) -> None:
    """List the layers of a Keras file: shapes, parameters, ranges.

    Example: nengonet weights weights/mnist_dense.h5
    """
    from nengonet.weights import load_weights

    loaded = load_weights(file)
    answer(as_json, loaded.summary(), str(loaded))
