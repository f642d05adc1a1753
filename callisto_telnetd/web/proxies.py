"""Proxies that are believed: who asks for a page, and whether over TLS, where one of them passes it on.

Rules:
* A header that anybody can write names no source. ``X-Forwarded-For`` and ``X-Forwarded-Proto`` count where the
  connection comes from an address that the owner has named, and nowhere else.
* Each proxy adds the address that it was asked from at the end. So the last one that is no proxy's is the browser's;
  what stands before it, the browser may have written itself.
* A loopback address there is the loopback of the proxy's machine, not of ours, unless the proxy is at
  our loopback itself: the proxy's own address counts for it.
* What cannot be understood there is refused: a page for the wrong source would be worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

Network = IPv4Network | IPv6Network


class ForwardedError(Exception):
    """A proxy that is believed says what cannot be understood; the text is for the client."""


class Proxies:
    """The proxies that are believed."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)

    def have(self, address: str) -> bool:
        """Whether the address is a proxy's."""
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def settle(self, scope: Scope) -> None:
        """Put the browser's address and scheme into the scope of a request that one of them passes on.

        Raises:
            ForwardedError: its headers cannot be understood.
        """
        client = scope.get("client")
        if client is None or not self.have(client[0]):
            return
        headers = Headers(scope=scope)
        forwarded = ",".join(headers.getlist("x-forwarded-for"))
        if forwarded.strip():
            scope["client"] = (self._browser(client[0], forwarded.split(",")), 0)
        protocols = headers.getlist("x-forwarded-proto")
        if protocols:
            scheme = protocols[0].strip().lower()
            if len(protocols) > 1 or scheme not in {"http", "https"}:
                raise ForwardedError("X-Forwarded-Proto of the proxy is not once, and http or https")
            scope["scheme"] = scheme

    def _browser(self, proxy: str, addresses: list[str]) -> str:
        """Return the browser's address; ``proxy`` is the one that the connection comes from."""
        said_by = address = _parse(proxy)
        for text in reversed(addresses):
            address = _parse(text.strip())
            if address is None:
                raise ForwardedError("X-Forwarded-For of the proxy is no list of addresses")
            if address.is_loopback and said_by is not None and not said_by.is_loopback:
                address = said_by
                if self.have(text.strip()):
                    continue  # another proxy on the same machine
                break
            if not self.have(str(address)):
                break
            said_by = address
        return str(address)


NO_PROXIES = Proxies()


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
