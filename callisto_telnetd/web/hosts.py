"""The names by which this web server is asked for: a page of another name is none of ours, wherever its name leads.

Whoever owns a name can have it lead to any address, to this machine's too, after a browser has loaded his page (DNS
rebinding): to the browser both are one site. So ``Host`` names this machine: ``localhost``, its own name, an address
of its own, or what the owner has named.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

_FRESH_S = 5.0
"""How old the list of this machine's addresses may be."""


def machine_addresses() -> frozenset[str]:
    """Return the addresses of this machine's interfaces."""
    import psutil  # noqa: PLC0415 - for the few that ask by an address which is not this machine's loopback

    families = {socket.AF_INET, socket.AF_INET6}
    return frozenset(
        str(ip_address(each.address.partition("%")[0]))
        for interface in psutil.net_if_addrs().values()
        for each in interface
        if each.family in families
    )


class Hosts:
    """Which hosts are this web server."""

    def __init__(
        self,
        names: Collection[str] = (),
        addresses: Callable[[], frozenset[str]] = machine_addresses,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know the names, and where this machine's addresses are asked for.

        Args:
            names: Names and addresses without a port, beside those that the machine has by itself.
            addresses: Returns the addresses of this machine.
            now: The monotonic clock.
        """
        self._names = {_plain(name) for name in (*names, "localhost", socket.gethostname())}
        self._read = addresses
        self._now = now
        self._addresses: frozenset[str] = frozenset()
        self._read_at: float | None = None

    def have(self, host: str) -> bool:
        """Whether a well-formed ``Host``, with or without port, is one of them."""
        name = _plain(host[: host.index("]") + 1] if host.startswith("[") else host.partition(":")[0])
        address = _address(name)
        if address is None:
            return name in self._names
        if address.is_unspecified:  # where it listens, perhaps, and nobody's address
            return False
        return address.is_loopback or name in self._names or name in self._own_addresses()

    def _own_addresses(self) -> frozenset[str]:
        now = self._now()
        if self._read_at is None or now - self._read_at >= _FRESH_S:
            self._addresses, self._read_at = self._read(), now
        return self._addresses


def _plain(name: str) -> str:
    """Return the name in the one form that is compared: an address as the system writes it, a name in small letters."""
    name = name.strip("[]").removesuffix(".").lower()
    address = _address(name)
    return str(address) if address is not None else name


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
