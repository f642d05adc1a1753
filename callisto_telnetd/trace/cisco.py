r"""What Cisco's devices (IOS, IOS XE, IOS XR, NX-OS, ASA, CUCM) send in place of RFC 3164's stamp, HOST and TAG.

``seq no: host: [*|.]timestamp zone: %FACILITY-SEVERITY-MNEMONIC: text``, and all before the ``%`` may be missing
("System Message Format" in the manuals). The number counts messages, so it names no process. The word behind the ``%``
does: it is the part of the device that speaks, and what its documentation is sorted by.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from callisto_telnetd.trace.stamps import DAY, TIME

_STAMP = rf"[*.]?(?:[0-9]{{4}} )?(?:{DAY} )?(?:[0-9]{{4}} )?{TIME}(?: [AP]M)?(?:\.[0-9]{{1,6}})?(?: [A-Z]{{3,5}})?"
_UPTIME = "[0-9]{1,4}[ywd][0-9]{1,2}[wdh]"
_WHEN = f"(?:{_STAMP}|{_UPTIME})"
_WORD = "([A-Za-z0-9][A-Za-z0-9_./:%-]{0,254})"
_NUMBER = "([0-9]{1,10})"
# A name and a colon are a HOST only behind a number, and a name and a blank only behind a relay's stamp: so a TAG
# means the same whatever follows it.
_MESSAGE = (
    rf"(?:{_NUMBER}?: ?(?:(?![0-9]+:){_WORD} ?: ?(?=(?:{_NUMBER}: )?{_WHEN}))?(?:{_NUMBER}: )?)?"
    rf"(?:({_WHEN})(?: {_WORD}(?= :))? ?: *"
    r"(?:([A-Za-z_][A-Za-z0-9_.-]{0,47})\[([0-9]{1,10})\]: )?)?"  # of IOS XR
    r"(?=%([A-Z][A-Z0-9_]{0,31}(?:-[A-Z0-9_]{1,31}){0,2})-[0-7]-[A-Za-z0-9_]{1,64} ?:)"
)
_ALONE = re.compile(f"(){_MESSAGE}")
_RELAYED = re.compile(f"(?:{_WORD}(?<!:) )?{_MESSAGE}")
_COUNTER = re.compile(f"[0-9]+|{_UPTIME}")
_PARTS = re.compile(rf"(?:([0-9]{{4}}) )?({DAY}) (?:([0-9]{{4}}) )?({TIME})(?:\.[0-9]{{1,6}})?(?: ([A-Z]{{3,5}}))?")


class CiscoHead(NamedTuple):
    """What stands before the text of a message, and where that begins."""

    process: str
    """FACILITY, with SUBFACILITY where there is one: ``SYS``, ``MGBL-CONFIG``; of an IOS XR, the program."""
    pid: str
    """Of the program of an IOS XR; blank elsewhere."""
    host: str
    """Blank where none is told."""
    number: str
    """Of the message, as its device counts; blank where it does not."""
    stamp: str
    """As it was sent: ``*`` (the clock was never set) or ``.`` (it has lost its time server) may stand before it."""
    end: int
    """Where the text begins, with its ``%``."""


def parse_cisco(text: str, at: int, *, relayed: bool = False) -> CiscoHead | None:
    """Return the head of a message that stands at a place in the text; None where there is none.

    Args:
        text: Of the datagram.
        at: Behind its PRI, or behind the stamp that a relay has put before the message.
        relayed: Whether it is the latter; the relay's HOST may stand there.
    """
    match = (_RELAYED if relayed else _ALONE).match(text, at)
    if match is None:
        return None
    relay, count, origin, _, number, stamp, device, program, pid, facility = match.groups("")
    return CiscoHead(program or facility, pid, origin or device or relay, number or count, stamp, match.end())


def is_counter(tag: str) -> bool:
    """Return whether a TAG is a number or an uptime, of which every message has another: it names no process."""
    return tag[0] in "0123456789" and _COUNTER.fullmatch(tag) is not None


def parse_stamp(stamp: str) -> tuple[str, str, str] | None:
    """Return the year, or a blank, the moment as RFC 3164 has it, and the zone or a blank; None for an uptime."""
    match = _PARTS.fullmatch(stamp.lstrip("*."))
    if match is None:
        return None
    before, day, behind, clock, zone = match.groups("")
    return before or behind, f"{day} {clock}", zone
