"""Many values of a column at once: whether all of them surely fit, from one text that has them joined by line ends.

SQLite joins the values of some thousand rows (``group_concat``) in a fraction of the time that its expressions take to
look at each, and Python looks at the whole in a few strokes of about 1 ns a byte.

Rules:

* ``True`` is a proof: each value is text that its kind takes (:meth:`Kind.fault`). ``False`` says nothing: each value
  is then to be looked at by itself.
* What is usual gets ``True``: else the way to it would cost time for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from callisto_telnetd.db.column_kinds import FIRST_YEAR, YEAR_AFTER, Digest, Kind, Line, Moment, Text, has_forbidden

_PRINTABLE = bytes(range(0x20, 0x7F))
_OF_A_TEXT = _PRINTABLE + b"\t\r\n" + bytes(range(0x80, 0x100))
_OF_A_DIGEST = b"0123456789abcdef"
_DIGEST_BYTES = 64
_DIGITS = b"0123456789"
_DIGIT_TO_0 = bytes.maketrans(b"123456789+", b"000000000-")
_TENS = bytes.maketrans(_DIGITS, bytes(range(0, 0xA0, 0x10)))
_ONES = bytes.maketrans(_DIGITS, bytes(range(10)))
_FORMS = {
    len(form): form.encode()
    for second in ("", ":00")
    for fraction in ("", ".000000")
    for form in (f"0000-00-00T00:00:00{fraction}-00:00{second}\n",)
}
# Places in a time, the offset's from the end of its line: what is not from 0 to 5 there, or not the sign of a date.
_SIXTIES = (14, 17)
_MINUTE, _MINUTE_WITH_SECONDS = -3, -6


def _two_digits(*numbers: int) -> bytes:
    """Return numbers as bytes of two decimal digits each."""
    return bytes(number // 10 << 4 | number % 10 for number in numbers)


_CENTURIES = _two_digits(*range(FIRST_YEAR // 100 + 1, YEAR_AFTER // 100))  # the years of the first are not whole
_HOURS, _MONTHS, _SHORT_DAYS = _two_digits(*range(24)), _two_digits(*range(1, 13)), _two_digits(*range(1, 29))
# The days that not every month has, told by two bits that no month uses; 29 February is looked at by itself.
_OFTEN, _SELDOM, _NEVER = 0x20, 0x40, 0x80
_DAY_CLASS = bytes(
    0 if day in _SHORT_DAYS else {0x29: _OFTEN, 0x30: _OFTEN, 0x31: _SELDOM}.get(day, _NEVER) for day in range(256)
)
_DAYS_OF_MONTHS = bytes(
    [
        *_MONTHS,
        *(month | _OFTEN for month in _MONTHS if month != 2),
        *(month | _SELDOM for month in _two_digits(1, 3, 5, 7, 8, 10, 12)),
    ]
)


def all_fit(kind: Kind, joined: bytes, count: int) -> bool:
    """Return whether all values surely fit their kind.

    Args:
        kind: one of :data:`JOINABLE`.
        joined: the values as SQLite has them, a line end between them.
        count: how many they are, one at least.
    """
    return JOINABLE[type(kind)](kind, joined, count)


def _all_lines(kind: Kind, joined: bytes, count: int) -> bool:
    if not isinstance(kind, Line):
        raise TypeError
    if joined.count(b"\n") != count - 1 or not _are_short(joined, kind.longest):
        return False
    if kind.shortest and (kind.shortest > 1 or b"\n\n" in joined or joined[:1] in b"\n" or joined[-1:] == b"\n"):
        return False
    if len(joined.translate(None, _PRINTABLE)) == count - 1:
        return True
    try:
        return not has_forbidden(joined.decode().replace("\n", ""), one_line=True)
    except UnicodeDecodeError:
        return False


def _are_short(joined: bytes, longest: int) -> bool:
    """Return whether no line has more bytes than that; hops from one line end to the last that should follow."""
    at, end = 0, len(joined)
    while end - at > longest:
        following = joined.rfind(b"\n", at, at + longest + 1)
        if following < 0:
            return False
        at = following + 1
    return True


def _all_texts(kind: Kind, joined: bytes, _count: int) -> bool:
    if not isinstance(kind, Text):
        raise TypeError
    if joined.translate(None, _OF_A_TEXT) or (len(joined) > kind.longest and not _are_short(joined, kind.longest)):
        return False
    if joined.isascii():
        return True
    try:
        joined.decode()
    except UnicodeDecodeError:
        return False
    return True


def _all_digests(_kind: Kind, joined: bytes, count: int) -> bool:
    line = _DIGEST_BYTES + 1
    if len(joined) != count * line - 1:
        return False
    return joined[_DIGEST_BYTES::line].count(b"\n") == count - 1 == len(joined.translate(None, _OF_A_DIGEST))


def _all_moments(_kind: Kind, joined: bytes, count: int) -> bool:
    joined += b"\n"
    if joined.count(b"\n") != count:
        return False
    length = joined.index(b"\n") + 1
    if len(joined) == count * length and _are_moments(joined, length, count):
        return True
    by_length: dict[int, list[bytes]] = {}  # those of a whole second are shorter
    for line in joined.splitlines(keepends=True):
        by_length.setdefault(len(line), []).append(line)
    return len(by_length) > 1 and all(
        _are_moments(b"".join(lines), length, len(lines)) for length, lines in by_length.items()
    )


def _are_moments(lines: bytes, length: int, count: int) -> bool:
    """Return the same for times that are written in one form; ``length`` has the line end."""
    form = _FORMS.get(length, b"")
    if lines.translate(_DIGIT_TO_0) != form * count:
        return False
    minute = _MINUTE if form.count(b":") == 3 else _MINUTE_WITH_SECONDS
    hour = length + minute - 3
    sixties = (*_SIXTIES, length + minute, *((length - 3,) if minute == _MINUTE_WITH_SECONDS else ()))
    columns: Sequence[bytes] = [lines[place::length] for place in range(length)]
    months, days = _pairs(columns, 5), _pairs(columns, 8)
    return (
        columns[4].count(b"-") == columns[7].count(b"-") == count
        and not columns[hour].translate(None, b"01")
        and not any(columns[place].translate(None, b"012345") for place in sixties)
        and not _pairs(columns, 0).translate(None, _CENTURIES)
        and not _pairs(columns, 11).translate(None, _HOURS)
        and not months.translate(None, _MONTHS)
        and not _both(months, days.translate(_DAY_CLASS)).translate(None, _DAYS_OF_MONTHS)
    )


def _pairs(columns: Sequence[bytes], place: int) -> bytes:
    """Return two columns of digits as one of numbers, two decimal digits a byte."""
    return _both(columns[place].translate(_TENS), columns[place + 1].translate(_ONES))


def _both(one: bytes, other: bytes) -> bytes:
    """Return the bits of both, byte by byte."""
    return (int.from_bytes(one, "little") | int.from_bytes(other, "little")).to_bytes(len(one), "little")


JOINABLE: dict[type, Callable[[Kind, bytes, int], bool]] = {
    Line: _all_lines,
    Text: _all_texts,
    Digest: _all_digests,
    Moment: _all_moments,
}
"""The kinds of which many values can be looked at as one."""
