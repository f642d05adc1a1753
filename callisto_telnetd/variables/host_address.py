"""Addresses of servers: a host name or an IP address, with or without a port."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

_LONGEST_TEXT = 300  # the longest name (253), a port, brackets
_LONGEST_NAME = 253  # RFC 1035, section 2.3.4, written without the last dot
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123, section 2.1
_SCOPE = re.compile(r"[A-Za-z0-9_.-]{1,15}")  # an interface's name, as long as Linux takes one
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class HostAddress:
    """Where a server is; ``port`` None is the protocol's own."""

    host: str
    """A name in lower case, or an IP address without brackets."""
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that ``text`` means: ``NAME``, ``NAME:PORT``, ``2001:db8::1``, ``[::1]:123``.

        Raises:
            ValueError: it means none.
        """
        if len(text) > _LONGEST_TEXT:
            raise ValueError("too long for a host")
        if text.startswith("["):
            host, bracket, tail = text[1:].partition("]")
            if not bracket or (tail and not tail.startswith(":")):
                raise ValueError("no address in brackets")
            return cls(_parse_ipv6(host), _parse_port(tail[1:]) if tail else None)
        if text.count(":") > 1:
            return cls(_parse_ipv6(text))
        host, colon, port = text.partition(":")
        return cls(_parse_name(host), _parse_port(port) if colon else None)

    def format(self) -> str:
        """Return the text that :meth:`parse` takes."""
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _parse_ipv6(text: str) -> str:
    address, percent, scope = text.partition("%")
    if percent and not _SCOPE.fullmatch(scope):
        raise ValueError("no name of a network interface")
    return f"{IPv6Address(address)}{percent}{scope}"


def _parse_name(text: str) -> str:
    name = text.lower()
    labels = name.removesuffix(".").split(".")
    if labels[-1].isdecimal():  # RFC 3696, section 2: a name's last part is never all digits
        return str(IPv4Address(name))
    if len(name) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("no host name")
    return name


def _parse_port(text: str) -> int:
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise ValueError("no port")
    return int(text)
