"""Sizes and durations as people read them; nothing here is read back."""

from __future__ import annotations

from itertools import pairwise

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def counted(count: int, noun: str) -> str:
    """Return ``1 session``, ``2 sessions``: a count with its noun."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def format_bytes(count: int) -> str:
    """Return a size of 0 bytes or more as ``512 B`` or ``12.3 KiB``, in steps of 1024."""
    if count < 1024:
        return f"{count} B"
    size, unit = count / 1024, _UNITS[0]
    for larger in _UNITS[1:]:
        if size < 1023.95:  # what is above would be rounded to 1024.0
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}"


def format_duration(seconds: float) -> str:
    """Return a duration in its largest unit and the one below, cut off: ``3 d 4 h``, ``5 min 3 s``, ``2 h``, ``0 s``.

    A negative duration, as a clock that was set back makes one, is ``0 s``.
    """
    rest = max(0, int(seconds))
    for (span, unit), (lower_span, lower_unit) in pairwise(_SPANS):
        if rest >= span:
            lower = rest % span // lower_span
            return f"{rest // span} {unit} {lower} {lower_unit}" if lower else f"{rest // span} {unit}"
    return f"{rest} s"
