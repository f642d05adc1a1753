"""NTP's packet and its timestamps (RFC 5905, sections 6 and 7.3), without a socket.

A timestamp counts the seconds since 1900 modulo 2**32: the count begins anew in February 2036. One whose first bit is
set lies between 1968 and 2036, any other between 2036 and 2104 (RFC 4330, section 3). So a server's time is known
whatever the clock here says, and a clock that stands in 1970 or in 2040 can be set.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_FORM = struct.Struct("!BBbb2I4s4Q")
_EPOCH_S = 2_208_988_800
"""From 1900 to 1970."""
_ERA_S = 1 << 32
_FRACTION = 1 << 32
_VERSION = 4
_MODE_CLIENT = 3
PACKET_BYTES: Final = _FORM.size


@dataclass(frozen=True, slots=True)
class Answer:
    """What a packet says."""

    leap: int
    """0 to 3; 3 is a clock that is not synchronised."""
    mode: int
    """4 for a server."""
    stratum: int
    reference: bytes
    """With stratum 0 the reason of a refusal, in four letters."""
    originate: int
    """The timestamp of the request that is answered, as it stood there."""
    received_s: float | None
    """When the request came, by the server's clock, in seconds since 1970; None where it does not say."""
    sent_s: float | None
    """When the answer left."""


def request(stamp: int) -> bytes:
    """Return a client's packet that was sent at that timestamp."""
    return _FORM.pack(_VERSION << 3 | _MODE_CLIENT, 0, 0, 0, 0, 0, bytes(4), 0, 0, 0, stamp)


def parse_answer(packet: bytes) -> Answer | None:
    """Return what a packet says, None where it is too short for one; what follows its head is not looked at."""
    try:
        first, stratum, _, _, _, _, reference, _, originate, received, sent = _FORM.unpack_from(packet)
    except struct.error:
        return None
    return Answer(first >> 6, first & 7, stratum, reference, originate, _kept_time(received), _kept_time(sent))


def timestamp(time_s: float) -> int:
    """Return the timestamp of a time in seconds since 1970, of any era."""
    return (int(time_s * _FRACTION) + _EPOCH_S * _FRACTION) % (_ERA_S * _FRACTION)


def time_of(stamp: int) -> float:
    """Return the time of a timestamp in seconds since 1970, between 1968 and 2104."""
    seconds, fraction = divmod(stamp, _FRACTION)
    era_s = 0 if seconds >= _ERA_S // 2 else _ERA_S
    return seconds + era_s - _EPOCH_S + fraction / _FRACTION


def _kept_time(stamp: int) -> float | None:
    return time_of(stamp) if stamp else None
