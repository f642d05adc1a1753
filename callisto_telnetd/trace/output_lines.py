"""What a process writes to its stdout and stderr, cut into lines.

Rules:
* A line ends at LF, or where the output ends; a CR before that is no part of it. Empty lines are dropped.
* ``<N>`` before a line, N being a severity from 0 to 7, gives its level, as sd-daemon(3) has it; without it, info.
* However long a line is, at most ``MAX_LINE_BYTES`` of it are held. A longer one is given once, when it ends.
* A byte that is no UTF-8 is shown as its code. Lines are not cleaned: the hub does that.
"""

from __future__ import annotations

from callisto_telnetd.quantities import counted
from callisto_telnetd.trace.records import LEVELS
from callisto_telnetd.trace.sanitiser import decode
from callisto_telnetd.trace.syslog import SEVERITY_LEVELS

MAX_LINE_BYTES = 8192
"""A longer line is cut. It is no more than the hub keeps of a text."""
_CUT_BYTES = MAX_LINE_BYTES - 32
"""Of a line that is cut: what is said behind it must not be cut by the hub."""
_INFO = LEVELS["info"]
_PREFIXES = {b"<%d>" % severity: level for severity, level in enumerate(SEVERITY_LEVELS)}


class OutputLines:
    """Cuts a process's output into lines; the same ones however the bytes come."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._length = 0
        """Of the line that has not ended; as much of it as can matter is held."""
        self._returned = False
        """Whether its last byte is a CR."""

    def feed(self, data: bytes) -> list[tuple[int, str]]:
        """Return level and text of each line that ends in ``data``."""
        first, *others = data.split(b"\n")
        self._hold(first)
        if not others:
            return []
        last = others.pop()
        lines = [self._end(), *(_parse_line(line, len(line), line.endswith(b"\r")) for line in others)]
        self._hold(last)
        return [line for line in lines if line is not None]

    def close(self) -> list[tuple[int, str]]:
        """Return what is left without a line end."""
        line = self._end()
        return [] if line is None else [line]

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._held += piece[: MAX_LINE_BYTES - len(self._held)]
            self._length += len(piece)
            self._returned = piece.endswith(b"\r")

    def _end(self) -> tuple[int, str] | None:
        line = _parse_line(bytes(self._held), self._length, self._returned)
        self._held.clear()
        self._length, self._returned = 0, False
        return line


def _parse_line(line: bytes, length: int, returned: bool) -> tuple[int, str] | None:
    """Return level and text of a line of ``length`` bytes whose beginning is ``line``; None where it is empty."""
    length -= returned
    if length > MAX_LINE_BYTES:
        end = _CUT_BYTES
        while end > _CUT_BYTES - 3 and line[end] & 0xC0 == 0x80:  # not within a character of UTF-8
            end -= 1
        rest = f" …({counted(length - end, 'byte')} more)"
    else:
        end, rest = length, ""
    level = _PREFIXES.get(line[:3])
    text = decode(line[0 if level is None else 3 : end])
    return (_INFO if level is None else level, text + rest) if text else None
