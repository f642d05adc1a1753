"""How long an escape sequence is; no I/O.

- CSI, SS3, ESC with intermediates (ECMA-35), ESC and a character, ESC before a key (Alt), and control strings (OSC,
  DCS, SOS, PM, APC): each is measured whole, so that none of it is taken for text.
- A control string goes to its ST or BEL. A line end, or a Ctrl-C, ends it too: nothing keeps a line from ending.
"""

from __future__ import annotations

import re

LONGEST_KEY_BYTES = 16
"""The longest keys of any terminal have about ten; of a sequence that is not whole, no more are kept."""

_ESC, _BS, _DEL, _BACKSLASH = 0x1B, 0x08, 0x7F, 0x5C
_CONTROL_SEQUENCE = re.compile(rb"\x1b(?:\[\[?+|O)[ -?]*+")
"""ECMA-48 5.4: parameters and intermediates of CSI and SS3 without the final byte; ``[[`` are Linux's function keys."""
_DESIGNATION = re.compile(rb"\x1b[ -/]++")
"""ECMA-35 13.2.1: ESC and intermediates without the final byte, such as ESC ( B."""
_STRING_STOP = re.compile(rb"[\x07\x18\x1a\r\n\x03\x1b]")
_STRING_ENDS = frozenset(b"\x07\x18\x1a")
"""BEL, and CAN and SUB, which cancel a string; they are part of it."""


def escape_size(waiting: bytearray, at: int) -> int:
    """Return how many bytes the escape sequence at ``at`` takes; 0 where its rest has not come.

    Of one that is not whole, what cannot make a key is removed here and now: an endless one takes no memory.
    """
    second = waiting[at + 1] if at + 1 < len(waiting) else None
    if second is None:
        return 0
    if second in _OPENINGS:
        return _OPENINGS[second](waiting, at)
    if second >= 0x80:
        return _character(waiting, at)
    return 2 if second >= 0x30 or second == _BS else 1  # any other control character acts by itself


def _to_final(waiting: bytearray, at: int, pattern: re.Pattern[bytes], least: int) -> int:
    match = pattern.match(waiting, at)
    end = match.end() if match else at + 1
    if end == len(waiting):
        del waiting[at + LONGEST_KEY_BYTES :]
        return 0
    return end - at + (least <= waiting[end] < _DEL)


def _control_sequence(waiting: bytearray, at: int) -> int:
    return _to_final(waiting, at, _CONTROL_SEQUENCE, 0x40)


def _designation(waiting: bytearray, at: int) -> int:
    return _to_final(waiting, at, _DESIGNATION, 0x30)


def _control_string(waiting: bytearray, at: int) -> int:
    stop = _STRING_STOP.search(waiting, at + 2)
    if stop is None:
        del waiting[at + 2 :]
        return 0
    end = stop.start()
    if waiting[end] != _ESC:
        return end - at + (waiting[end] in _STRING_ENDS)
    if end + 1 == len(waiting):
        del waiting[at + 2 : end]
        return 0
    return end - at + (2 if waiting[end + 1] == _BACKSLASH else 0)  # any other ESC begins the next sequence


def _character(waiting: bytearray, at: int) -> int:
    """Measure ESC and a character of UTF-8 (RFC 3629, section 4)."""
    lead = waiting[at + 1]
    bound = at + 2 + (lead >= 0xC2) + (lead >= 0xE0) + (lead >= 0xF0)
    end = at + 2
    while end < bound:
        if end == len(waiting):
            return 0
        if waiting[end] & 0xC0 != 0x80:
            break
        end += 1
    return end - at


def _alt(waiting: bytearray, at: int) -> int:
    """An ESC before a key is Alt; before anything else it is dropped alone."""
    if at + 2 == len(waiting):
        return 0
    if waiting[at + 2] not in b"[O":
        return 1
    size = _control_sequence(waiting, at + 1)
    return size and size + 1


_OPENINGS = {
    **dict.fromkeys(b"[O", _control_sequence),
    **dict.fromkeys(b"]PX^_", _control_string),
    **dict.fromkeys(range(0x20, 0x30), _designation),
    _ESC: _alt,
}
