"""``nengonet lab``, for a study and for a network in a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nengonet.cli.shared import NUMBER, answer, options

if TYPE_CHECKING:
    from nengonet.laboratory.state import Lab

_OPTIONS = {
    "host": ("--host", "Serve the page at this address, to other machines too; it needs a token."),
    "port": ("--port", "Port of the page.  [default: any free port]", NUMBER),
    "no_browser": ("--no-browser", "Print the address and open no browser.", {"is_flag": True}),
}


def lab_params() -> list[click.Option]:
    """Return the parameters for the page's address."""
    return options("lab", " ".join(_OPTIONS), _OPTIONS)


def serve_lab(
    name: str, lab: Lab, host: str | None, port: int | None, no_browser: bool, as_json: bool
) -> None:
    """Serve a lab until Ctrl-C, and print its address."""
    from nengonet.laboratory.server import serve

    def tell(url: str) -> None:
        answer(as_json, {"name": name, "url": url}, f"the lab of {name}: {url}\nCtrl-C ends it")

    serve(lab, host, port or 0, tell, not no_browser)
