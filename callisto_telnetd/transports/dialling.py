"""TCP connections to a target's server: name, addresses, socket, all within one deadline."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from callisto_telnetd.errors import TransferInterruptedError
from callisto_telnetd.transports.daemon import in_daemon
from callisto_telnetd.transports.wire import within

_MAX_ADDRESSES = 4
"""Tried of one name: enough for IPv6 without a route beside IPv4, and each still gets time to answer."""

_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # FTP's control connection is silent while a copy is on its way; routers on the way forget those that are.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 60),
)
"""Set where the system has them."""


async def dial(host: str, port: int, seconds: float, place: str) -> socket.socket:
    """Return a connected socket, which does not block; the first address that answers counts.

    Raises:
        TransferInterruptedError: the name is unknown just now, or nobody answers there in time.
    """
    async with within(seconds, place, "connecting"):
        try:
            found = await in_daemon(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), "target-name")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "no such name"
            raise TransferInterruptedError(f"{place}: its name cannot be resolved ({reason})") from None
        refusal = "no address"
        for family, kind, protocol, _, address in found[:_MAX_ADDRESSES]:
            try:
                async with asyncio.timeout(seconds / min(len(found), _MAX_ADDRESSES)):
                    return await _connect(family, kind, protocol, address)
            except TimeoutError:
                refusal = "no answer"
            except OSError as error:
                # asyncio's own text of a failed connect repeats the address, and names no reason
                refusal = os.strerror(error.errno) if error.errno else "refused"
    raise TransferInterruptedError(f"{place} cannot be connected to: {refusal}")


async def _connect(family: int, kind: int, protocol: int, address: object) -> socket.socket:
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        with suppress(OSError):
            for level, option, value in _OPTIONS:
                connection.setsockopt(level, option, value)
        await asyncio.get_running_loop().sock_connect(connection, address)  # type: ignore[arg-type] # as resolved
    except BaseException:
        connection.close()
        raise
    return connection
