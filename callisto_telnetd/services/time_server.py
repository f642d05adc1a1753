"""Asking a time server (NTP, RFC 5905) how far the system's clock is off.

Rules:

* Resolver and sockets run in a daemon thread of their own: a resolver that hangs can hold up neither the event loop,
  nor the pool that other work needs, nor the exit of the process. Who waits leaves at the deadline; the thread's late
  answer is dropped.
* An answer counts only if it comes from the address that was asked, holds the very timestamp of our request, and says
  that its server's own clock is right.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from dataclasses import dataclass
from ipaddress import IPv6Address

from callisto_telnetd.errors import ClockError, quoted
from callisto_telnetd.services.ntp import PACKET_BYTES, Answer, parse_answer, request, timestamp
from callisto_telnetd.transports.daemon import in_daemon

_NTP_PORT = 123
_MODE_SERVER = 4
_LEAP_UNSYNCHRONISED = 3
_MAX_STRATUM = 15
_MAX_ADDRESSES = 4
"""Addresses tried of one name: enough for IPv6 without a route beside IPv4, and each still gets time to answer."""
_SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
_Address = tuple[socket.AddressFamily, _SocketAddress]
"""A family, and an address of it."""
_MAX_SERVER_LENGTH = 261
"""A host name of 253 characters, brackets, colon and port."""
_SERVER = re.compile(r"(?:\[(?P<v6>[^\s\[\]]+)\]|(?P<host>[^\s:\[\]/@]+))(?::(?P<port>\d{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a time server answered."""

    server: str
    """As it was asked for."""
    offset_s: float
    """Seconds by which the server's clock is ahead of the *system's*, whatever the appliance's own offset."""
    delay_s: float
    """Seconds that the packets were under way; the offset is wrong by half of it at most."""
    stratum: int
    """1 (has a reference clock) to 15."""


async def measure_offset(server: str, deadline_s: float = 5.0) -> Measurement:
    """Ask ``server`` (``host``, ``host:port``, ``[v6]:port``) for the time.

    Args:
        server: its name or address; port 123 unless given.
        deadline_s: seconds for resolver and answer together.

    Raises:
        ClockError: no such server, no answer in time, or an answer that is not to be trusted; names server and reason.
    """
    host, port = parse_server(server)
    try:
        async with asyncio.timeout(deadline_s):
            return await in_daemon(lambda: _ask(server, host, port, deadline_s), "time-server")
    except TimeoutError as error:
        raise _no_answer(server, deadline_s) from error


def parse_server(text: str) -> tuple[str, int]:
    """Return host and port of ``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address.

    Raises:
        ClockError: it is none of them.
    """
    if _is_ipv6(text):
        return text, _NTP_PORT
    match = _SERVER.fullmatch(text) if len(text) <= _MAX_SERVER_LENGTH else None
    port = int(match["port"] or _NTP_PORT) if match else 0
    if match is None or not 1 <= port <= 65535 or not (match["v6"] is None or _is_ipv6(match["v6"])):
        raise ClockError(f"time server {quoted(text)}: write it as host, host:port or [IPv6]:port, port 1 to 65535")
    return match["v6"] or match["host"], port


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return text.isprintable()  # a scope may hold any character


def _ask(server: str, host: str, port: int, deadline_s: float) -> Measurement:
    """Try the addresses of the server in turn, each with an equal share of the time that is left."""
    ends = time.monotonic() + deadline_s
    addresses = _resolve(server, host, port)
    refusals = []
    for tried, address in enumerate(addresses):
        share_s = (ends - time.monotonic()) / (len(addresses) - tried)
        if share_s <= 0:
            break
        try:
            return _exchange(server, *address, share_s)
        except ClockError as error:
            refusals.append(error)
    # the first one tells: the system has put the addresses that it can reach first (RFC 6724)
    raise refusals[0] if refusals else _no_answer(server, deadline_s)


def _resolve(server: str, host: str, port: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        raise _refused(server, f"its name cannot be resolved ({error.strerror})") from error
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that is empty or longer than 63 characters
        raise _refused(server, "its name cannot be resolved") from error
    addresses: list[_Address] = [(family, address) for family, _, _, _, address in found]
    return list(dict.fromkeys(addresses))[:_MAX_ADDRESSES]


def _exchange(server: str, family: socket.AddressFamily, address: _SocketAddress, timeout_s: float) -> Measurement:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(address)  # what comes from elsewhere is not received
            begun_s = time.time()
            stamp = timestamp(begun_s)
            connection.send(request(stamp))
            packet = connection.recv(PACKET_BYTES)
            ended_s = time.time()
    except TimeoutError:
        raise _no_answer(server, timeout_s) from None
    except OSError as error:
        raise _refused(server, f"it cannot be reached ({error.strerror})") from error
    answer = parse_answer(packet)
    if answer is None:
        raise _refused(server, "its answer is not NTP")
    if flaw := _flaw(answer, stamp):
        raise _refused(server, flaw)
    if answer.received_s is None or answer.sent_s is None:
        raise _refused(server, "its answer holds no time")
    # RFC 5905, section 8
    offset_s = ((answer.received_s - begun_s) + (answer.sent_s - ended_s)) / 2
    delay_s = (ended_s - begun_s) - (answer.sent_s - answer.received_s)
    return Measurement(server, offset_s, delay_s, answer.stratum)


def _flaw(answer: Answer, stamp: int) -> str:
    """Return why an answer is not to be trusted; blank where it is (RFC 5905, sections 7.3, 7.4 and 8)."""
    if answer.originate != stamp:
        return "its answer belongs to no request of ours"
    if answer.mode != _MODE_SERVER:
        return "its answer is no time server's"
    if answer.stratum == 0:
        code = answer.reference
        return f"it refuses to answer ({code.decode()})" if code.isalpha() else "it refuses to answer"
    if answer.stratum > _MAX_STRATUM or answer.leap == _LEAP_UNSYNCHRONISED:
        return "its own clock is not synchronised"
    return ""


def _no_answer(server: str, waited_s: float) -> ClockError:
    return _refused(server, f"no answer within {waited_s:.2g} s")


def _refused(server: str, reason: str) -> ClockError:
    return ClockError(f"time server {quoted(server)}: {reason}")
