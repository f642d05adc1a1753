"""The names by which this web server is asked for: a page of another name is none of ours, wherever its name leads.

Whoever owns a name can have it lead to any address, to this machine's too, after a browser has loaded his page (DNS
rebinding): to the browser both are one site. So ``Host`` is ``localhost``, the machine's own name, what the owner has
named, or an address: no name is looked up for that, and a router or a container may have given it to this machine.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address


class Hosts:
    """Which hosts are this web server."""

    def __init__(self, names: Collection[str] = ()) -> None:
        """Know the names, without a port, beside those that the machine has by itself."""
        self._names = {_plain(name) for name in (*names, "localhost", socket.gethostname())}

    def have(self, host: str) -> bool:
        """Whether a well-formed ``Host``, with or without port, is one of them."""
        name = _plain(host[: host.index("]") + 1] if host.startswith("[") else host.partition(":")[0])
        address = _address(name)
        return name in self._names if address is None else not address.is_unspecified  # that is nobody's


def _plain(name: str) -> str:
    """Return the name in the one form that is compared: in small letters, without a last dot or brackets."""
    return name.strip("[]").removesuffix(".").lower()


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
