"""Where the web server of the package listens: a free port, where one is asked for, and its address for people.

A web server that takes a free port itself would have another one after each restart. So the port is taken here, at its
first start, and kept until the server ends: these sockets are bound and never listen. Whoever binds with SO_REUSEADDR
may listen on the port all the same (socket(7)), and the system gives it to nobody else.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import Any

from callisto_telnetd.errors import ServiceError, quoted
from callisto_telnetd.services.recipe import address_of
from callisto_telnetd.settings import ServiceSettings
from callisto_telnetd.transports.daemon import in_daemon

_TRIES = 10
"""How often a port is tried that is free at one address of the host and taken at another."""
_NAME_S = 10.0
"""How long the name of a host is looked up."""


class WebPlace:
    """The place of one service; all of it does nothing for services that are not the package's web server."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reserved: ReservedPort | None = None
        self._told = False
        self.address = ""
        """``http://127.0.0.1:8080/``; blank before the first start."""
        self.on_listening: Callable[[str], None] = lambda _address: None
        """Is told the address once, when it listens."""

    async def settle(self, settings: ServiceSettings) -> ServiceSettings:
        """Return the settings with the port that is listened on.

        Raises:
            ServiceError: no free port can be had.
        """
        if address_of(self._name, settings) and not settings.port:
            self._reserved = await reserve_port(str(settings.host))
            settings = settings.model_copy(update={"port": self._reserved.port})
        self.address = address_of(self._name, settings)
        return settings

    def tell(self) -> None:
        """Tell once that it listens."""
        if self.address and not self._told:
            self._told = True
            self.on_listening(self.address)

    def close(self) -> None:
        """Give the port back."""
        if self._reserved is not None:
            self._reserved.close()


async def reserve_port(host: str) -> ReservedPort:
    """Take a port of a host; its name is looked up beside the loop.

    Raises:
        ServiceError: the host has no address of this machine, or no port is free.
    """

    def look_up() -> list[tuple[Any, ...]]:
        return list(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))

    try:
        async with asyncio.timeout(_NAME_S):
            found = await in_daemon(look_up, "web-server-name")
        return ReservedPort([(family, address) for family, _, _, _, address in dict.fromkeys(found)])
    except TimeoutError:
        reason: object = f"its name was not found within {_NAME_S:.0f} s"
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
    raise ServiceError(f"no free port can be had at {quoted(host)}: {reason}")


class ReservedPort:
    """A port that is free at every address of a host."""

    def __init__(self, addresses: Sequence[tuple[int, Any]]) -> None:
        """Take one.

        Raises:
            OSError: an address is none of this machine, or no port is free.
        """
        self._sockets: list[socket.socket] = []
        self.port = self._take(addresses)

    def _take(self, addresses: Sequence[tuple[int, Any]]) -> int:
        for left in reversed(range(_TRIES)):
            port = 0
            try:
                for family, address in addresses:
                    sock = socket.socket(family, socket.SOCK_STREAM)
                    self._sockets.append(sock)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    sock.bind((address[0], port, *address[2:]))
                    port = sock.getsockname()[1]
            except OSError as error:
                self.close()
                if error.errno != errno.EADDRINUSE or not left:
                    raise
            else:
                return port
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Give the port back."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
