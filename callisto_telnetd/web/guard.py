"""What every request and every answer goes through, and where unexpected errors become answers.

Rules:
* ``Host`` is there, is a host, and is this web server (``hosts.py``); HTTP/1.0, as monitors speak it, may be without
  one (RFC 9112, section 3.2).
* Where a proxy is believed (``proxies.py``), a request is its browser's from here on.
* A request that may change something comes from a page of this server: browsers say so in ``Sec-Fetch-Site`` and in
  ``Origin``, which is then the ``Host``. Each of them that is there must say so, once; one without either is refused.
* Every answer forbids scripts, frames, foreign hosts and guesses of its type; caches keep the style sheet alone.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callisto_telnetd.web.hosts import Hosts
from callisto_telnetd.web.proxies import ForwardedError, Proxies

LOG = logging.getLogger("callisto.web")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": with it browsers send "Origin: null" for a form, and it could not be told from a foreign one.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def is_host(text: str) -> bool:
    """Whether the text is a host with or without port, as ``Host`` has it."""
    return _HOST.fullmatch(text) is not None


def is_own(headers: Headers) -> bool:
    """Whether a request that may change something comes from a page of this server."""
    sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
    if not (sites or origins) or len(sites) > 1 or len(origins) > 1:
        return False
    own_origins = all(_is_own_origin(each, headers.get("host", "")) for each in origins)
    return own_origins and all(each in {"same-origin", "none"} for each in sites)


def _is_own_origin(text: str, host: str) -> bool:
    try:
        origin = urlsplit(text)
    except ValueError:
        return False
    port = {"http": ":80", "https": ":443"}.get(origin.scheme)  # what a proxy may write, and no browser does
    return port is not None and bool(origin.netloc) and origin.netloc == host.removesuffix(port)


def refusal_of(method: str, headers: Headers, version: str = "1.1") -> str:
    """Return why a request of that version of HTTP is refused before any page sees it; empty where it is not."""
    hosts = headers.getlist("host")
    if not (len(hosts) == 1 and is_host(hosts[0])) and (hosts or version != "1.0"):
        return "400 the Host of the request is missing or no host"
    if method not in SAFE_METHODS and not is_own(headers):
        return "403 the request does not come from a page of this server (Origin is not its Host)"
    return ""


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, hosts: Hosts, proxies: Proxies) -> None:
        self._app = app
        self._hosts = hosts
        self._proxies = proxies

    def _refusal_of(self, scope: Scope) -> str:
        """Put the browser's address into the scope, and return why its request is refused; empty where it is not."""
        try:
            self._proxies.settle(scope)
        except ForwardedError as error:
            return f"400 {error}"
        headers = Headers(scope=scope)
        refusal = refusal_of(scope["method"], headers, scope["http_version"])
        host = headers.get("host")
        if not refusal and host is not None and not self._hosts.have(host):
            return "421 the Host of the request is no name of this web server; services.web-server.names has its names"
        return refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if refusal := self._refusal_of(scope):
                response = PlainTextResponse(f"Error: {refusal[4:]}\n", int(refusal[:3]))
                await response(scope, receive, send_guarded)
                return
            await self._app(scope, receive, send_guarded)
        except ClientDisconnect:
            return  # nobody is left to be told
        except asyncio.CancelledError:
            if not started:  # uvicorn's own answer would lack the headers
                await PlainTextResponse("Error: the web server stops\n", 503)(scope, receive, send_guarded)
            raise
        except Exception:
            incident = secrets.token_hex(4)
            LOG.exception("unexpected error, incident %s", incident)
            if started:
                raise
            text = f"Error: internal error, incident {incident}; the log of the web server tells more\n"
            await PlainTextResponse(text, 500)(scope, receive, send_guarded)
