"""The kinds of values that a column may hold, each told twice: for Python, and for SQLite's own speed.

Rules:

* ``fault`` and ``sql`` agree about every value that a file can hold; a test asks both.
* The kinds notice what a damaged page leaves behind. They are no finer than that: whatever the product has ever written
  is valid, and a limit is well above what any writer keeps to.
* SQLite keeps text as it finds it, also where it is no UTF-8, and has no function that says so. Text that is not plain
  ASCII is therefore looked at by a function of ours, which :func:`add_functions` gives to a connection.
* A database of UTF-16 is judged like one of UTF-8: what looks at bytes asks an ``x`` how the database writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

_TEXT_FUNCTION = "callisto_text"
_SAMPLE = "CAST('x' AS BLOB)"  # an x in the encoding of the database; SQLite works it out once
_ENCODINGS = {b"x": "utf-8", b"x\0": "utf-16-le", b"\0x": "utf-16-be"}
# What forges a line: C0, DEL and C1 (ECMA-48), the separators of lines and paragraphs; and bytes that are no UTF-8.
_NOT_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_IN_A_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{6})?[+-][01][0-9]:[0-5][0-9](?::[0-5][0-9])?"
)
_DIGIT, _SIXTY = "[0-9]", "[0-5][0-9]"
_MOMENT_START = f"{_DIGIT * 4}-{_DIGIT * 2}-{_DIGIT * 2}T{_DIGIT * 2}:{_SIXTY}:{_SIXTY}"
_MOMENT_FORMS = tuple(
    f"{_MOMENT_START}{fraction}[+-][01][0-9]:{_SIXTY}{second}"
    for second in ("", f":{_SIXTY}")
    for fraction in ("", "." + _DIGIT * 6)
)
FIRST_YEAR, YEAR_AFTER = 1969, 2200  # a system clock without a battery starts at the end of 1969, west of Greenwich
_HASH_LENGTHS = (40, 500)


class Kind(Protocol):
    """What the values of a column are."""

    def fault(self, value: object) -> str | None:
        """Return None where ``value`` is of this kind, else what it should be, as the end of a sentence."""
        ...

    def sql(self, column: str) -> str:
        """Return the same test as an SQL expression: 1 where the value fits, else 0, never NULL.

        Needs :func:`add_functions`.
        """
        ...


class Connection(Protocol):
    """What is needed of a ``sqlite3.Connection``."""

    def create_function(
        self, name: str, narg: int, func: Callable[..., Any] | None, /, *, deterministic: bool = False
    ) -> None:
        """Let SQL call ``func``."""
        ...


def add_functions(connection: Connection) -> None:
    """Give a connection the function that the expressions of :meth:`Kind.sql` call."""
    connection.create_function(_TEXT_FUNCTION, 5, _text_fits, deterministic=True)


def _text_fits(data: bytes, sample: bytes, one_line: int, shortest: int, longest: int) -> bool:
    try:
        text = data.decode(_ENCODINGS[sample])
    except UnicodeDecodeError:
        return False
    return shortest <= len(text) <= longest and not has_forbidden(text, one_line=bool(one_line))


def has_forbidden(text: str, *, one_line: bool) -> bool:
    """Whether there is a character in it that no :class:`Line`, or no :class:`Text`, takes."""
    return (_NOT_IN_A_LINE if one_line else _NOT_IN_A_TEXT).search(text) is not None


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _is_whole_text(column: str) -> str:
    """Return the test for text without NUL, of characters that take no more room than an ASCII one.

    SQLite's length() ends at a NUL.
    """
    return f"typeof({column}) = 'text' AND {_is_short(column)}"


def _is_short(column: str) -> str:
    return f"length({column}) * length({_SAMPLE}) = length(CAST({column} AS BLOB))"


def _text_sql(column: str, *, one_line: bool, shortest: int, longest: int) -> str:
    return (
        f"CASE WHEN typeof({column}) <> 'text' THEN 0"
        f" WHEN {_is_short(column)} AND {column} NOT GLOB '*[^ -~]*'"
        f" THEN length({column}) BETWEEN {shortest} AND {longest}"
        f" ELSE {_TEXT_FUNCTION}(CAST({column} AS BLOB), {_SAMPLE}, {int(one_line)}, {shortest}, {longest}) END"
    )


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``minimum`` to ``maximum``."""

    minimum: int
    maximum: int

    def fault(self, value: object) -> str | None:
        if type(value) is int and self.minimum <= value <= self.maximum:
            return None
        return f"a whole number from {self.minimum} to {self.maximum}"

    def sql(self, column: str) -> str:
        return f"(typeof({column}) = 'integer' AND {column} BETWEEN {self.minimum} AND {self.maximum})"


@dataclass(frozen=True, slots=True)
class Line:
    """Text of one line, without control characters; lengths in characters."""

    longest: int
    shortest: int = 0

    def fault(self, value: object) -> str | None:
        if (
            isinstance(value, str)
            and self.shortest <= len(value) <= self.longest
            and _NOT_IN_A_LINE.search(value) is None
        ):
            return None
        return f"one line of {self.shortest} to {self.longest} characters"

    def sql(self, column: str) -> str:
        return _text_sql(column, one_line=True, shortest=self.shortest, longest=self.longest)


@dataclass(frozen=True, slots=True)
class Text:
    """Text of any number of lines; tab, CR and LF are its only control characters of ASCII."""

    longest: int

    def fault(self, value: object) -> str | None:
        if isinstance(value, str) and len(value) <= self.longest and _NOT_IN_A_TEXT.search(value) is None:
            return None
        return f"text of at most {self.longest} characters"

    def sql(self, column: str) -> str:
        return _text_sql(column, one_line=False, shortest=0, longest=self.longest)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time as the clock's ``isoformat()`` writes it: ``2026-11-23T10:15:00[.123456]+01:00``."""

    def fault(self, value: object) -> str | None:
        match = _MOMENT.fullmatch(value) if isinstance(value, str) else None
        if match is not None:
            year, month, day, hour = map(int, match.groups())
            try:
                date(year, month, day)
            except ValueError:
                year = 0
            if FIRST_YEAR <= year < YEAR_AFTER and hour < 24:
                return None
        return "a time like 2026-11-23T10:15:00+01:00"

    def sql(self, column: str) -> str:
        form = " OR ".join(f"{column} GLOB '{form}'" for form in _MOMENT_FORMS)
        day = f"substr({column}, 1, 10)"  # date() makes March of a 30 February
        return (
            f"CASE WHEN {_is_whole_text(column)} AND ({form}) THEN {column} >= '{FIRST_YEAR}' AND"
            f" {column} < '{YEAR_AFTER}' AND substr({column}, 12, 2) < '24' AND date({day}) IS {day} ELSE 0 END"
        )


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of a content, which names its file: 64 digits of 0-9 and a-f."""

    def fault(self, value: object) -> str | None:
        if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
            return None
        return "a SHA-256 of 64 hexadecimal digits"

    def sql(self, column: str) -> str:
        return f"({_is_whole_text(column)} AND length({column}) = 64 AND {column} NOT GLOB '*[^0-9a-f]*')"


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A hash as argon2 writes it; empty too, where ``blank``."""

    blank: bool = False

    def fault(self, value: object) -> str | None:
        if isinstance(value, str):
            shortest, longest = _HASH_LENGTHS
            if (self.blank and not value) or (
                shortest <= len(value) <= longest and re.fullmatch(r"\$argon2[!-~]*", value)
            ):
                return None
        return "a password hash ($argon2…)"

    def sql(self, column: str) -> str:
        shortest, longest = _HASH_LENGTHS
        blank = f" OR {column} = ''" if self.blank else ""
        return (
            f"({_is_whole_text(column)} AND (length({column}) BETWEEN {shortest} AND {longest}"
            f" AND {column} GLOB '$argon2*' AND {column} NOT GLOB '*[^!-~]*'{blank}))"
        )


@dataclass(frozen=True, slots=True)
class Word:
    """One of a set of words."""

    words: tuple[str, ...]

    def fault(self, value: object) -> str | None:
        return None if isinstance(value, str) and value in self.words else f"one of {', '.join(self.words)}"

    def sql(self, column: str) -> str:
        # IS is never NULL, and the plus sign keeps SQLite from making text of a number first. An IN would build a table
        # of the words and look each value up in it, which takes five times as long.
        return f"({' OR '.join(f'+{column} IS {_literal(word)}' for word in self.words)})"


@dataclass(frozen=True, slots=True)
class Name:
    """A name of ASCII characters: one of the class ``first``, then any of the class ``rest``."""

    longest: int
    first: str = "A-Za-z"
    rest: str = "A-Za-z0-9_"

    def fault(self, value: object) -> str | None:
        form = f"[{self.first}][{self.rest}]*"
        if isinstance(value, str) and len(value) <= self.longest and re.fullmatch(form, value):
            return None
        return f"a name of at most {self.longest} letters, digits and signs"

    def sql(self, column: str) -> str:
        return (
            f"({_is_whole_text(column)} AND length({column}) <= {self.longest}"
            f" AND {column} GLOB '[{self.first}]*' AND {column} NOT GLOB '*[^{self.rest}]*')"
        )
