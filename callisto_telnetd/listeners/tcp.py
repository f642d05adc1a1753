"""The TCP ports: opening them with errors that say what to do, and owning the sessions that run on them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from callisto_telnetd.accounts.gatekeeper import Place
from callisto_telnetd.accounts.sources import source_of
from callisto_telnetd.errors import ListenError, PortInUseError, named, quoted
from callisto_telnetd.listeners.telnet import TelnetProtocol
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.named_file import in_time, open_regular
from callisto_telnetd.ownership import require_own_file
from callisto_telnetd.secret_text import BOM
from callisto_telnetd.terminal.flusher import Flusher
from callisto_telnetd.terminal.session import Session, SessionLimits

_BACKLOG = 256
_GOODBYE_S = 2.0


def open_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the TLS context of a server with that certificate chain and key.

    Raises:
        OwnershipError: somebody else may replace a file; names it, and the command that mends that.
        ListenError: a file cannot be read, is not PEM, or the two do not belong together.
    """
    try:
        return in_time(key, lambda: _open_tls(certificate, key))
    except TimeoutError as error:
        raise ListenError(
            f"telnet.tls: certificate {named(certificate)} and key {named(key)} cannot be read: {error.strerror}"
        ) from None


def _open_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    for name, file in (("certificate", certificate), ("key", key)):
        require_own_file(file, f"telnet.tls.{name}")
        try:
            open_regular(file).close()
        except OSError as error:
            raise ListenError(f"telnet.tls.{name}: {named(file)} cannot be read: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else _tls_reason(error)
        )
        for file in (certificate, key):
            if file.read_bytes().startswith(BOM):
                reason = f"{named(file)} begins with a byte order mark (BOM); save it without"
        raise ListenError(
            f"telnet.tls: certificate {named(certificate)} and key {named(key)} cannot be used: {reason}"
        ) from None
    return context


def _no_password() -> str:
    msg = "the key is protected by a password"
    raise ValueError(msg)


def _tls_reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason.replace("_", " ").lower()
    # Without a reason of OpenSSL's own the text is the module's: "[SSL] PEM lib (_ssl.c:3905)".
    return "not PEM, or damaged" if isinstance(error, ssl.SSLError) else str(error)


def bind(host: str, port: int, setting: str) -> list[socket.socket]:
    """Take a port on every address of ``host``; nobody is let in before a listener serves it.

    Args:
        host: Address or name.
        port: 0 takes a free one.
        setting: What the owner changes to have another port.

    Raises:
        PortInUseError, ListenError: one line that names the address and what to do.
    """
    taken: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            taken.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
    except OSError as error:
        for sock in taken:
            sock.close()
        if isinstance(error, socket.gaierror):
            raise ListenError(f"{quoted(host)} is no address to listen on: {error.strerror}") from None
        refused = PortInUseError if error.errno == errno.EADDRINUSE else ListenError
        raise refused(_listen_reason(error, host, port, setting)) from None
    return taken


async def stop_serving(servers: Sequence[asyncio.Server]) -> None:
    """Take no more connections; what was taken in this very turn of the loop is made, for its owner to close.

    A server that is closed at once would fail on it, and leave it open with nobody at its end.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
    await asyncio.sleep(0)
    for server in servers:
        server.close()


class TelnetListener:
    """One port, with or without TLS, and its connections."""

    def __init__(
        self, parts: Parts, limits: SessionLimits, *, always_echo: bool, context: ssl.SSLContext | None = None
    ) -> None:
        self._parts = parts
        self._limits = limits
        self.context = context
        self._flusher = Flusher()
        self._servers: list[asyncio.Server] = []
        self.gatekeeper = parts.gatekeeper
        self.always_echo = always_echo
        self.login_s = limits.login_s
        self.protocols: set[TelnetProtocol] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.name = "telnets" if context else "telnet"
        self.closed = False
        """Whether no session begins any more; a connection may come out of the queue even then."""

    async def open(self, sockets: Sequence[socket.socket]) -> list[str]:
        """Let peers in through the sockets of :func:`bind`, and return their addresses with ports.

        Raises:
            ListenError: the port was taken by another program meanwhile.
        """
        loop = asyncio.get_running_loop()
        addresses = []
        for sock in sockets:
            # Urgent data (RFC 854's Synch) comes in its place among the rest, as RFC 1123, section 3.2.4, wants it, and
            # its DM is a command like any other. Connections inherit the option, so that not even the first byte is
            # lost. TLS knows no urgent data; a stray byte of it would break its records, and stays out.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, self.context is None)
            host, port = sock.getsockname()[:2]
            try:
                server = await loop.create_server(
                    lambda: TelnetProtocol(self),
                    sock=sock,
                    backlog=_BACKLOG,
                    start_serving=False,
                )
                self._servers.append(server)  # before it serves: one that is cancelled meanwhile is closed
                await server.start_serving()
            except OSError as error:
                raise ListenError(_listen_reason(error, host, port, "the port's setting")) from None
            addresses.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        return addresses

    def open_session(self, wire: TelnetProtocol, place: Place, address: str) -> Session:
        """Return the session that runs on a connection."""
        return Session(
            self._parts,
            wire,
            place=place,
            source=address,
            door=self.name,
            limits=self._limits,
            login_deadline=wire.connected_at + self._limits.login_s,
            flusher=self._flusher,
        )

    def refuse(self, address: str, reason: str) -> None:
        """Take note of a connection that was refused."""
        parts = self._parts
        parts.strangers.tell(
            parts.log.debug, "connection refused", of=source_of(address), source=address, reason=reason
        )

    async def close(self) -> None:
        """Take no more connections, tell the sessions, and wait for them a short while."""
        self.closed = True
        await stop_serving(self._servers)
        for protocol in list(self.protocols):
            protocol.end_session("the server stops")
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=_GOODBYE_S)
        for protocol in list(self.protocols):
            protocol.abort()
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=_GOODBYE_S)


def _listen_reason(error: OSError, host: str, port: int, setting: str) -> str:
    where = f"{host} port {port}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} needs the capability CAP_NET_BIND_SERVICE; grant it, or name another port with {setting}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; stop it, or name another port with {setting}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where} cannot be listened on: this machine does not have that address"
    return f"{where} cannot be listened on: {error.strerror or error}"
