"""What of the trace somebody wants, and the stretches of it that he gets.

Rules:
* A block is a stretch of records in their order. Its lines, its bytes for a file and its bytes for a screen are made
  once, when the first asks, whoever else gets the same block.
* A record stands for at most about 50 KiB of text, and the hub bounds a block: see there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from callisto_telnetd.trace.patterns import Pattern
from callisto_telnetd.trace.records import LEVELS, LineFormatter, Record, format_body


class Said(Protocol):
    """A record, live or read back from a file, as a filter looks at it."""

    @property
    def process(self) -> str: ...

    @property
    def level(self) -> int: ...

    @property
    def text(self) -> str: ...

    @property
    def fields(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are wanted; two of the same words are equal, and then share their blocks."""

    processes: frozenset[str] = frozenset()
    """Names of the processes; none: all."""
    level: int = LEVELS["debug"]
    """Records below this level are left out."""
    pattern: Pattern | None = None
    """Is looked for in the text and the fields, as they are shown."""

    @property
    def open(self) -> bool:
        """Whether it lets everything through."""
        return not self.processes and self.pattern is None and self.level <= LEVELS["debug"]

    def takes(self, record: Said) -> bool:
        """Whether the filter lets the record through."""
        return (
            record.level >= self.level
            and (not self.processes or record.process in self.processes)
            and (self.pattern is None or self.pattern.found(format_body(record.text, record.fields)))
        )


class Block:
    """A stretch of records, formatted once for all who are given it."""

    __slots__ = ("_data", "_formatter", "_json", "_lines", "encoded", "records")

    def __init__(self, records: Sequence[Record], formatter: LineFormatter, lines: list[str] | None = None) -> None:
        self.records = records
        self._formatter = formatter
        self._lines = lines
        self._data: bytes | None = None
        self._json: list[bytes] | None = None
        self.encoded: bytes | None = None
        """What a door makes of the lines, kept here for the next viewer."""

    def __len__(self) -> int:
        return len(self.records)

    @property
    def lines(self) -> list[str]:
        """A line for each record."""
        if self._lines is None:
            self._lines = self._formatter.lines(self.records)
        return self._lines

    @property
    def data(self) -> bytes:
        """The lines as a file has them: UTF-8, each ended by LF."""
        if self._data is None:
            self._data = ("\n".join(self.lines) + "\n").encode() if self.records else b""
        return self._data

    @property
    def json(self) -> list[bytes]:
        """The records as JSON, a line each without its end."""
        if self._json is None:
            self._json = [orjson.dumps(self._formatter.as_dict(record)) for record in self.records]
        return self._json

    def first(self, count: int) -> Block:
        """Return the first records as a block."""
        return self if count >= len(self.records) else self._part(slice(0, count))

    def after(self, count: int) -> Block:
        """Return what follows the first records as a block."""
        return self._part(slice(count, None))

    def _part(self, part: slice) -> Block:
        return Block(self.records[part], self._formatter, None if self._lines is None else self._lines[part])

    def chosen(self, wanted: Filter) -> Block:
        """Return the records that the filter lets through; the block itself where these are all."""
        if wanted.open:
            return self
        takes = wanted.takes
        places = [place for place, record in enumerate(self.records) if takes(record)]
        if len(places) == len(self.records):
            return self
        lines = None if self._lines is None else [self._lines[place] for place in places]
        return Block([self.records[place] for place in places], self._formatter, lines)
