"""Captures read back: their lines, the records in them, and other forms of them.

Rules:
* A line that has no end is no line: a server that was killed may have left one, and it is not shown.
* ``parse_line`` is the inverse of the line that a record is written as, as far as the line tells: what reads as a field
  at the end of a text (``retry=3``) is taken for a field. Written again, the line is the same in every case.
* Nothing is read whole: a capture may be larger than the memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from callisto_telnetd.named_file import open_regular
from callisto_telnetd.trace.capture_file import JSON_SUFFIX
from callisto_telnetd.trace.records import LEVEL_NAMES, LEVELS, NO_FIELDS, format_body, format_value
from callisto_telnetd.trace.sanitiser import clean_json, is_hidden

FORMATS = ("text", "jsonl", "csv")
_MAX_LINE_BYTES = 1 << 20
"""A record has at most about 50 KiB; a file that somebody else wrote may have more, and its lines are left out."""
_LINES_AT_ONCE = 200
_LINE = re.compile(rf"(\S+) (\S+)\[([0-9]{{1,10}}|-)\] ({'|'.join(LEVEL_NAMES.values())}) (.*)", re.DOTALL)
_KEY = re.compile(r'[^\s"=]+')
_ESCAPE = re.compile(r"\\(.)")
_MAX_FIELDS = 64
CSV_HEAD = ("at", "process", "pid", "level", "text", "fields")
_FORMULA = frozenset("=+-@＝＋－＠﹦﹢﹣﹫−")  # noqa: RUF001 - spreadsheets take these for the plain ones
_PARTS_CELLS = ";"
"""What parts cells where the comma is the decimal sign: a formula may begin behind it."""
_NEEDS_QUOTES = re.compile(r"[,;\"\t\r\n]|^\s|\s$")


class Entry(NamedTuple):
    """A record as a file has it."""

    stamp: str
    """``2026-11-23T10:15:00.123456+01:00``"""
    process: str
    pid: int | None
    level: int
    text: str
    fields: Mapping[str, str]
    sequence: int | None = None
    """Its number, where the file is JSON Lines."""

    @property
    def epoch_s(self) -> float | None:
        """Seconds since the epoch; None where the stamp is none."""
        try:
            return datetime.fromisoformat(self.stamp).timestamp()
        except (ValueError, OverflowError):
            return None


def parse_line(line: str) -> Entry | None:
    """Return the record of a line of text; None where it holds none, as a header's does."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    stamp, process, pid, level, body = match.groups()
    text, fields = _parse_body(body)
    return Entry(stamp, process, None if pid == "-" else int(pid), LEVELS[level.lower()], text, fields)


def _parse_body(body: str) -> tuple[str, Mapping[str, str]]:
    """Take fields off the end as long as they stand there just as we write them."""
    found: dict[str, str] = {}
    while len(found) < _MAX_FIELDS:
        at = _last_field(body)
        key, _, written = body[at + 1 :].partition("=")
        value = _ESCAPE.sub(r"\1", written[1:-1]) if written.startswith('"') else written
        if at < 0 or key in found or not _KEY.fullmatch(key) or format_value(value) != written:
            break
        found[key] = value
        body = body[:at]
    return body, dict(reversed(found.items())) if found else NO_FIELDS


def _last_field(body: str) -> int:
    """Return where the blank before the last ``key=value`` stands; negative where there can be none."""
    if not body.endswith('"'):
        return body.rfind(" ")
    opening = len(body) - 1
    while (opening := body.rfind('"', 0, opening)) > 0:
        escapes = opening
        while escapes and body[escapes - 1] == "\\":
            escapes -= 1
        if (opening - escapes) % 2 == 0:
            return body.rfind(" ", 0, opening) if body[opening - 1] == "=" else -1
    return -1


def format_line(entry: Entry) -> str:
    """Return the record's line of text."""
    pid = "-" if entry.pid is None else entry.pid
    body = format_body(entry.text, entry.fields)
    return f"{entry.stamp} {entry.process}[{pid}] {LEVEL_NAMES[entry.level]} {body}"


def parse_json(line: str) -> Entry | None:
    """Return the record of a line of JSON Lines; None where it holds none."""
    try:
        data = orjson.loads(line)
        fields = data.get("fields", {})
        entry = Entry(
            data["at"],
            data["process"],
            data["pid"],
            LEVELS[data["level"]],
            data["text"],
            fields or NO_FIELDS,
            data.get("sequence"),
        )
        texts = (entry.stamp, entry.process, entry.text, *fields, *fields.values())
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    numbers = (entry.pid, entry.sequence)
    sound = all(isinstance(text, str) for text in texts) and all(isinstance(each, int | None) for each in numbers)
    return entry if sound else None


def format_json(entry: Entry) -> str:
    """Return the record as a line of JSON Lines."""
    return clean_json(orjson.dumps(as_dict(entry)).decode())


def as_dict(entry: Entry) -> dict[str, Any]:
    """Return the record as data, as it is shown live."""
    return {
        **({"sequence": entry.sequence} if entry.sequence is not None else {}),
        "at": entry.stamp,
        "process": entry.process,
        "pid": entry.pid,
        "level": LEVEL_NAMES[entry.level].lower(),
        "text": entry.text,
        **({"fields": dict(entry.fields)} if entry.fields else {}),
    }


def format_csv(entry: Entry) -> str:
    """Return the record as a line of CSV (RFC 4180); what a spreadsheet would take for a formula gets a ``'``."""
    fields = " ".join(f"{key}={format_value(value)}" for key, value in entry.fields.items())
    pid = "" if entry.pid is None else str(entry.pid)
    return csv_line(entry.stamp, entry.process, pid, LEVEL_NAMES[entry.level].lower(), entry.text, fields)


def csv_line(*cells: str) -> str:
    """Return cells as a line of CSV, without its end; :func:`_without_formula` says how they are read again."""
    return ",".join([_quoted_cell(_without_formula(cell)) for cell in cells])


def _without_formula(cell: str) -> str:
    """Put a ``'`` before what a spreadsheet would take for a formula, and before a ``'``, so that it can be taken off.

    A formula may stand behind blanks and what is not seen, and behind what parts cells. Whoever reads the
    cell again takes one ``'`` off its beginning, and one from behind each ``;``.
    """
    return _PARTS_CELLS.join([f"'{part}" if _begins(part) else part for part in cell.split(_PARTS_CELLS)])


def _begins(part: str) -> bool:
    if part[:1] == "'":
        return True
    first = next((letter for letter in part if letter != " " and not is_hidden(letter)), "")
    return first in _FORMULA


def _quoted_cell(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _NEEDS_QUOTES.search(cell) else cell


class CaptureReader:
    """Reads a capture from its beginning; all of it work for a thread."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be opened.
        """
        self._stream: BinaryIO = open_regular(path)
        self._parse = parse_json if path.name.endswith(JSON_SUFFIX) else parse_line
        self.as_json = path.name.endswith(JSON_SUFFIX)
        """Whether the file is JSON Lines."""

    def lines(self) -> list[str]:
        """Return the next lines; none at the end."""
        lines: list[str] = []
        while len(lines) < _LINES_AT_ONCE and (line := self._next_line()) is not None:
            lines.append(line)
        return lines

    def _next_line(self) -> str | None:
        while data := self._stream.readline(_MAX_LINE_BYTES):
            if data.endswith(b"\n"):
                return data[:-1].decode("utf-8", "replace")
            if len(data) < _MAX_LINE_BYTES:
                self._stream.seek(-len(data), os.SEEK_CUR)  # cut off in the middle; more may come where a capture runs
                return None
            while data and not data.endswith(b"\n"):
                data = self._stream.readline(_MAX_LINE_BYTES)
        return None

    def entries(self) -> list[Entry | str]:
        """Return the next records, and as text the lines that hold none; nothing at the end."""
        return [self._parse(line) or line for line in self.lines()]

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            self._stream.close()


def line_of(entry: Entry, form: str) -> str:
    """Return a record in one of :data:`FORMATS`."""
    if form == "csv":
        return format_csv(entry)
    return format_json(entry) if form == "jsonl" else format_line(entry)


def comment_of(line: str) -> str:
    """Return the text of a line of a header or a trailer, whichever form the file has."""
    if line.startswith("; "):
        return line[2:]
    with suppress(ValueError, AttributeError):
        comment = orjson.loads(line).get("comment")
        if isinstance(comment, str):
            return comment
    return line
