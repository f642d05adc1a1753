"""A record of the trace: what it holds, its levels, and its one line of text.

``2026-11-23T10:15:00.123456+01:00 web-server[4711] INFO text key=value``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from callisto_telnetd.errors import UsageError, listed, quoted
from callisto_telnetd.trace.sanitiser import MAX_TEXT, clean

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""Level names from the least to the most serious, with the numbers of Python's ``logging``."""
_NAMES = {number: name.upper() for name, number in LEVELS.items()}
_MAX_VALUE = 1024
_LONG_VALUES = {"exception": MAX_TEXT}
_RECORD_BYTES = 380
"""Of a record without text and fields: its tuple, its numbers, the heads of its text and its dictionary."""
_FIELD_BYTES = 50


class Record(NamedTuple):
    """What one process said at one moment; its text and fields have been cleaned."""

    sequence: int
    time: float
    """Seconds since the epoch on the appliance's clock."""
    process: str
    pid: int
    level: int
    text: str
    fields: Mapping[str, str]
    size: int
    """About how many bytes of memory it holds."""

    @property
    def level_name(self) -> str:
        """``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``."""
        return _NAMES[self.level]


def size_of(text: str, fields: Mapping[str, str]) -> int:
    """Return about how many bytes of memory a record of this text and these fields holds."""
    return _RECORD_BYTES + len(text) + _FIELD_BYTES * len(fields) + len("".join(fields.values()))


def clean_fields(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields as clean, bounded text."""
    return {
        key: clean(value if isinstance(value, str) else str(value), _LONG_VALUES.get(key, _MAX_VALUE))
        for key, value in fields.items()
    }


def format_record(record: Record, local: Callable[[float], datetime]) -> str:
    """Return the record's line; ``local`` gives the appliance's local time of a moment."""
    parts = [
        local(record.time).isoformat(timespec="microseconds"),
        f"{record.process}[{record.pid}]",
        record.level_name,
        record.text,
    ]
    parts += [f"{key}={_format_value(value)}" for key, value in record.fields.items()]
    return " ".join(parts)


def _format_value(value: str) -> str:
    if value and not any(mark in value for mark in ' "='):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def record_as_dict(record: Record, local: Callable[[float], datetime]) -> dict[str, Any]:
    """Return the record as data for JSON Lines."""
    return {
        "time": local(record.time).isoformat(timespec="microseconds"),
        "process": record.process,
        "pid": record.pid,
        "level": record.level_name.lower(),
        "text": record.text,
        **({"fields": dict(record.fields)} if record.fields else {}),
    }


def parse_level(text: str) -> int:
    """Return the number of a level's name.

    Raises:
        UsageError: no such level.
    """
    level = LEVELS.get(text.lower())
    if level is None:
        raise UsageError(f"level: {quoted(text)} is not {listed(list(LEVELS))}")
    return level
