"""Sizes and durations as people read and type them, and numbers that several rooms keep to."""

from __future__ import annotations

from itertools import pairwise

MOST_ACCOUNTS = 1000
"""Of an appliance: held in memory, and in the account file."""
MOST_STORED_VARIABLES = 1000
"""Values of variables in a database, held in memory."""
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEPS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LONGEST_NUMBER = 15
_VOWELS = tuple("aeiou")
_HISSING = ("s", "x", "z", "ch", "sh")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def counted(count: int, noun: str, *, grouped: bool = False) -> str:
    """Return ``1 session``, ``2 sessions``: a count with its noun; ``grouped`` gives ``1,234 sessions``."""
    number = f"{count:,}" if grouped else str(count)
    return f"{number} {noun if count == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    """Return the plural of a regular noun: days, entries, processes, matches, indexes."""
    if noun.endswith("y") and noun[-2:-1] not in _VOWELS:
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(_HISSING) else f"{noun}s"


def parse_bytes(text: str) -> int | None:
    """Return the bytes of ``10M``, ``64k``, ``1G`` or a plain number, in steps of 1024; None for anything else."""
    number, step = (text[:-1], _STEPS.get(text[-1:].lower())) if not text[-1:].isdigit() else (text, 1)
    if step is None or not (number.isascii() and number.isdigit()) or len(number) > _LONGEST_NUMBER:
        return None
    return int(number) * step


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
