"""A record of the trace: what it holds, its levels, and its one line of text.

``2026-11-23T10:15:00.123456+01:00 web-server[4711] INFO text key=value``
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from callisto_telnetd.clock import Clock
from callisto_telnetd.errors import UsageError, listed, quoted
from callisto_telnetd.secret_text import fields_without_secrets, without_secrets
from callisto_telnetd.trace.sanitiser import MAX_TEXT, clean

LEVELS = {
    "debug": 10,
    "info": 20,
    "notice": 25,
    "warning": 30,
    "error": 40,
    "critical": 50,
    "alert": 60,
    "emergency": 70,
}
"""Syslog's severities (RFC 5424 6.2.1) from the least to the most serious; those that Python's ``logging`` has too have
its numbers."""
LEVEL_NAMES = {number: name.upper() for name, number in LEVELS.items()}
NO_FIELDS: Mapping[str, str] = MappingProxyType({})
"""The fields of a record that has none, shared by all of them."""
_MAX_VALUE = 1024
_MAX_FIELDS = 40
_QUOTED = frozenset(' "=')
_LONG_VALUES = {"exception": MAX_TEXT}
_RECORD_BYTES = 220
"""Of a record without text and fields: its tuple, its place, the head of its text."""
_FIELD_BYTES = 50


class Head:
    """Everything of a record but its text, its time and its number; a sender's records of a second often share one."""

    __slots__ = ("_prefix", "_suffix", "fields", "level", "pid", "process", "size")

    def __init__(self, process: str, pid: int | None, level: int, fields: Mapping[str, str], size: int) -> None:
        self.process = process
        self.pid = pid
        """None where nobody told."""
        self.level = level
        self.fields = fields
        self.size = size
        """About how many bytes of memory a record of it holds besides its text."""
        self._prefix: str | None = None
        self._suffix: str | None = None

    @property
    def prefix(self) -> str:
        """What stands in a line between the stamp and the text: `` web-server[4711] INFO ``."""
        if self._prefix is None:
            pid = "-" if self.pid is None else self.pid
            self._prefix = f" {self.process}[{pid}] {LEVEL_NAMES[self.level]} "
        return self._prefix

    @property
    def suffix(self) -> str:
        """What stands behind the text: blank, or `` key=value key=value``."""
        if self._suffix is None:
            self._suffix = format_fields(self.fields)
        return self._suffix


Said = tuple[Head, str]
"""What an input hands to the hub: the head of a record, and its clean text."""


def make_head(process: str, pid: int | None, level: int, fields: Mapping[str, Any] = NO_FIELDS) -> Head:
    """Return the head of records; the values of the fields are cleaned, and nothing in it is secret.

    The process and the keys of the fields are the caller's to clean: they hold no blank and no control character.
    """
    if "=" in process or "@" in process:
        process = without_secrets(process)
    if not fields:
        return Head(process, pid, level, NO_FIELDS, _RECORD_BYTES)
    kept = clean_fields(fields)
    size = _RECORD_BYTES + _FIELD_BYTES * len(kept) + 2 * len("".join(kept.values()))
    return Head(process, pid, level, kept, size)


class Record(NamedTuple):
    """What one process said at one moment; its text and fields have been cleaned."""

    sequence: int
    """Its number since the server started; the first is 1."""
    time: float
    """Seconds since the epoch on the appliance's clock, which may be set."""
    moment: float
    """Seconds on the monotonic clock, which may not."""
    head: Head
    text: str

    @property
    def process(self) -> str:
        """Who said it."""
        return self.head.process

    @property
    def pid(self) -> int | None:
        """Its number at the system; None where nobody told."""
        return self.head.pid

    @property
    def level(self) -> int:
        """One of the numbers of :data:`LEVELS`."""
        return self.head.level

    @property
    def level_name(self) -> str:
        """``DEBUG`` to ``EMERGENCY``: one of the names of :data:`LEVELS` in capitals."""
        return LEVEL_NAMES[self.head.level]

    @property
    def fields(self) -> Mapping[str, str]:
        """Names and values beside the text."""
        return self.head.fields

    @property
    def size(self) -> int:
        """About how many bytes of memory it holds."""
        return self.head.size + len(self.text)


def clean_fields(fields: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the fields as clean, bounded text without secrets; the keys are the caller's own and clean already."""
    few = fields.items() if len(fields) <= _MAX_FIELDS else islice(fields.items(), _MAX_FIELDS)
    kept = {key: str(value) for key, value in few}
    together = "".join(kept.values())
    if not (len(together) <= _MAX_VALUE and together.isascii() and together.isprintable()):  # most are plain and short
        kept = {key: clean(value, _LONG_VALUES.get(key, _MAX_VALUE)) for key, value in kept.items()}
    kept = fields_without_secrets(kept)
    if len(fields) > _MAX_FIELDS:
        kept["more"] = str(len(fields) - _MAX_FIELDS)
    return MappingProxyType(kept)  # a head, and so its fields, may be shared by many records


def format_body(text: str, fields: Mapping[str, str]) -> str:
    """Return what stands behind the level: the text, then the fields."""
    return text + format_fields(fields) if fields else text


def format_fields(fields: Mapping[str, str]) -> str:
    """Return the fields as they stand behind a text: `` key=value key=value``."""
    return "".join([f" {key}={format_value(value)}" for key, value in fields.items()])


def format_value(value: str) -> str:
    """Return a field's value as it stands in a line, in quotes where it has to."""
    if value and _QUOTED.isdisjoint(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class LineFormatter:
    """Formats records, with the appliance's local time; what is the same for a whole second is made once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._zone: tzinfo | None = None
        self._second: int | None = None
        self._date = ""
        self._offset = ""

    def stamp(self, time: float) -> str:
        """Return a time of the appliance's clock as ``2026-11-23T10:15:00.123456+01:00``."""
        second, microseconds = divmod(int(time * 1e6), 1_000_000)
        if second != self._second or self._clock.zone is not self._zone:
            self._turn(second)
        return f"{self._date}{microseconds:06}{self._offset}"

    def line(self, record: Record) -> str:
        """Return the record's line, without its end."""
        return f"{self.stamp(record.time)}{record.head.prefix}{record.text}{record.head.suffix}"

    def as_dict(self, record: Record) -> dict[str, Any]:
        """Return the record as data for JSON Lines."""
        return {
            "sequence": record.sequence,
            "at": self.stamp(record.time),
            "process": record.process,
            "pid": record.pid,
            "level": record.level_name.lower(),
            "text": record.text,
            **({"fields": dict(record.fields)} if record.fields else {}),
        }

    def _turn(self, second: int) -> None:
        """Make what a line of this second begins with."""
        text = self._clock.local(second).isoformat()
        self._date, self._offset = f"{text[:19]}.", text[19:]
        self._second, self._zone = second, self._clock.zone


def parse_level(text: str) -> int:
    """Return the number of a level's name.

    Raises:
        UsageError: no such level.
    """
    level = LEVELS.get(text.lower())
    if level is None:
        raise UsageError(f"level: {quoted(text)} is not {listed(list(LEVELS))}")
    return level
