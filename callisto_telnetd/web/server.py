"""Serving: ports, the application, and the process's life from its first line to SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from callisto_telnetd.errors import ListenError
from callisto_telnetd.listeners.local_client import NoServerError
from callisto_telnetd.web import health, login, pages
from callisto_telnetd.web.appliance import Appliance
from callisto_telnetd.web.framing import MAX_HEAD_BYTES
from callisto_telnetd.web.guard import Guard
from callisto_telnetd.web.hosts import Hosts
from callisto_telnetd.web.places import ConnectionPlaces
from callisto_telnetd.web.protocol import KEEP_ALIVE_S, BoundedProtocol
from callisto_telnetd.web.proxies import NO_PROXIES, Network, Proxies
from callisto_telnetd.web.sessions import WebSessions

_STOP_S = 1
"""For answers that are on their way; the supervisor waits 2 s in all."""
_TICK_S = 0.1
_BACKLOG = 128
_HOST, _PORT = "services.web-server.host, or --host", "services.web-server.port, or --port"
"""Where an administrator names another one: the settings of the server, or this program's own options."""
_SEVERITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def application(control_socket: Path, names: Sequence[str] = (), proxies: Proxies = NO_PROXIES) -> Starlette:
    """Return the application of the appliance behind that socket, under the names, for browsers behind the proxies."""
    app = Starlette(
        routes=[*login.ROUTES, *health.ROUTES, *pages.ROUTES],
        middleware=[Middleware(Guard, Hosts(names), proxies)],
        exception_handlers={HTTPException: pages.show_fault, NoServerError: pages.show_absence},
    )
    app.router.redirect_slashes = False  # the redirection would name whatever host the request names
    app.state.appliance = Appliance(control_socket)
    app.state.sessions = WebSessions()
    return app


def bind(host: str, port: int) -> list[socket.socket]:
    """Take the port on every address of the host.

    Raises:
        ListenError: names host and port, and what to do.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"{host!r} is no address of this machine: {error}") from None
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
    except (OSError, OverflowError) as error:
        for sock in sockets:
            sock.close()
        raise ListenError(_listen_reason(error, f"{host} port {port}")) from None
    return sockets


def _listen_reason(error: OSError | OverflowError, where: str) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EACCES, errno.EPERM):
        return f"{where} needs the capability CAP_NET_BIND_SERVICE; grant it, or name another port: {_PORT}"
    if number == errno.EADDRINUSE:
        return f"{where} is in use by another program; stop it, or name another port: {_PORT}"
    if number == errno.EADDRNOTAVAIL:
        return f"{where} cannot be listened on: this machine does not have that address; name another: {_HOST}"
    return f"{where} cannot be listened on: {getattr(error, 'strerror', None) or error}"


class _Server(uvicorn.Server):
    """Ends with exit code 0 at SIGTERM and SIGINT, and with its parent where that is wanted.

    It ends at once where nothing is on its way, as a repair waits for that. uvicorn alone looks for a signal ten times
    a second, and then waits a tenth of a second for its connections, also where there are none.
    """

    parent: int | None = None
    _asked: asyncio.Event

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal; uvicorn's own way would raise it once more at the end."""
        loop, self._asked = asyncio.get_running_loop(), asyncio.Event()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.should_exit = True
        self._asked.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where it listens, once it does."""
        await super().startup(sockets)
        for sock in sockets or ():
            host, port = sock.getsockname()[:2]
            print(f"web-server: listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)  # noqa: T201

    async def main_loop(self) -> None:
        """Tick until it is to stop."""
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._asked.wait()

    async def on_tick(self, counter: int) -> bool:
        """Look after the parent, ten times a second."""
        if self.parent is not None and os.getppid() != self.parent:
            logging.getLogger("callisto.web").warning("the process that started this one has ended: stopping")
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the ports and the connections that wait for a request; wait only for answers that are on their way."""
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0)  # those that are closed by this take themselves off
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)


class _Lines(logging.Formatter):
    """Each line with its syslog severity before it, as sd-daemon(3) has it."""

    def format(self, record: logging.LogRecord) -> str:
        severity = next((number for level, number in _SEVERITIES if record.levelno >= level), 7)
        return "\n".join(f"<{severity}>{line}" for line in super().format(record).splitlines())


def _open_log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("callisto.web").setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of every request that is none


def serve(
    data: Path,
    host: str,
    port: int,
    *,
    names: Sequence[str] = (),
    proxies: Sequence[Network] = (),
    parent: int | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until ``parent`` is not the parent of this process any more.

    Args:
        data: The data folder of the server that is asked.
        host: Where to listen; also a name of this web server.
        port: 0 takes a free one.
        names: Further names of this web server.
        proxies: Whose word is taken for the address and the scheme of a browser.
        parent: A process that it ends with.

    Raises:
        ListenError: the port cannot be had.
    """
    _open_log()
    sockets = bind(host, port)
    places, believed = ConnectionPlaces(), Proxies(proxies)
    config = uvicorn.Config(
        application(data / "run" / "control.sock", (*names, host), believed),
        loop="asyncio",
        http=partial(BoundedProtocol, places, believed),  # type: ignore[arg-type] # called with uvicorn's keywords, like a class
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # a header that anybody can write names no source
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_S,
    )
    server = _Server(config)
    server.parent = parent
    server.run(sockets)
