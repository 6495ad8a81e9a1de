"""The server of the lab, for this machine only or for everyone who has the token."""

from __future__ import annotations

import hmac
import secrets
import webbrowser
from collections.abc import Callable

import panel as pn
from bokeh.server.auth_provider import AuthProvider
from tornado.web import HTTPError, RequestHandler

from nengonet.exceptions import InputError
from nengonet.laboratory.page import page
from nengonet.laboratory.state import Lab


class TokenOnly(AuthProvider):
    """Admit visitors who have the token: first in the page's address, later in a cookie."""

    login_url = "/"  # asked for by Bokeh; who has no token is refused before

    def __init__(self, token: str) -> None:
        self.token = token
        super().__init__()

    @property
    def get_user_async(self) -> Callable:
        """The function that Bokeh calls before every page and every socket."""
        return self._checked

    async def _checked(self, handler: RequestHandler) -> str:
        given = handler.get_query_argument("token", None)
        found = handler.get_cookie("nengonet_lab") if given is None else given
        if not hmac.compare_digest((found or "").encode(), self.token.encode()):
            raise HTTPError(403, "expected the token that nengonet lab has printed")
        if given is not None:
            handler.set_cookie("nengonet_lab", given, httponly=True, samesite="Strict")
        return "lab"


def serve(
    lab: Lab, host: str | None, port: int, tell: Callable[[str], object], show: bool = True
) -> None:
    """Serve a lab until Ctrl-C. Every page starts with its own state.

    Parameters
    ----------
    lab : Lab
    host : str or None
        Address to listen at instead of this machine's own. Visitors then need a token.
    port : int
        Port of the page; 0 for any free port.
    tell : callable
        Function that is called with the page's address.
    show : bool
        Open the page in a browser.
    """
    token, guard = None, {"address": "127.0.0.1"}
    if host is not None:
        token = secrets.token_urlsafe(24)
        # The token's cookie decides who may connect, whatever this machine's name.
        guard = {"address": host, "auth_provider": TokenOnly(token), "websocket_origin": "*"}
    title = f"nengonet lab: {lab.title}"
    try:
        server = pn.io.server.get_server(lambda: page(lab.fresh()), port, title=title, **guard)
    except (OSError, OverflowError) as error:
        expected = f"expected a host and port that are free here, got {guard['address']}:{port}"
        raise InputError(f"{expected} ({error})") from None
    # Without a token, Bokeh admits pages of this machine's own name only.
    where = f"{host or 'localhost'}:{server.port}/"
    url = f"http://{where}" + ("" if token is None else f"?token={token}")
    tell(url)
    server.start()
    if show:
        server.io_loop.add_callback(webbrowser.open, url)
    server.io_loop.start()  # until Ctrl-C, which Panel hears
    lab.ended.set()
    server.stop()
