"""Where a log-in comes from, as what counts as one: the same at every door."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

_LOOPBACK = ("127.0.0.1", "::1")
_BY_WEB = {address: f"{address} (web)" for address in _LOOPBACK}
_OF_THIS_MACHINE = frozenset({*_LOOPBACK, *_BY_WEB.values()})


def source_of(address: str, door: str = "") -> str:
    """Return what counts as one source: the address, or the /64 network of an IPv6 address; else the text itself.

    At the door ``web`` this machine is a source apart: a proxy brings strangers from there, and what they do must not
    shut the administrator at the box out of the shell.
    """
    try:
        parsed = ip_address(address.split("%", maxsplit=1)[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        elif not parsed.is_loopback:
            return str(ip_network((parsed, 64), strict=False))
    source = str(parsed)
    return _BY_WEB.get(source, source) if door == "web" else source


def source_address(address: str) -> str:
    """Return the address without zone, an IPv4 address in IPv6 form as IPv4.

    Raises:
        ValueError: it is no address.
    """
    parsed = ip_address(address.split("%", maxsplit=1)[0])
    return str(parsed.ipv4_mapped) if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped else str(parsed)


def is_loopback(source: str) -> bool:
    """Whether the source is this machine: 127.0.0.1 or ::1, by whichever door."""
    return source in _OF_THIS_MACHINE
