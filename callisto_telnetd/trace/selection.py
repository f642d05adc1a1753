"""What of the trace somebody wants, and the stretches of it that he gets.

Rules:
* What came in together is one stretch, and a block is some stretches in their order. A block's lines, its bytes for a
  file and its bytes for a screen are made once, when the first asks, whoever else gets the same block.
* A record stands for at most about 50 KiB of text, and the hub bounds a block: see there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from callisto_telnetd.trace.patterns import Pattern
from callisto_telnetd.trace.records import LEVELS, LineFormatter, Record, Said, format_body


class Spoken(Protocol):
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

    def takes(self, record: Spoken) -> bool:
        """Whether the filter lets the record through."""
        return self.passes(record.process, record.level, record.text, record.fields)

    def passes(self, process: str, level: int, text: str, fields: Mapping[str, str]) -> bool:
        """Whether the filter lets a record of these through."""
        return (
            level >= self.level
            and (not self.processes or process in self.processes)
            and (self.pattern is None or self.pattern.found(format_body(text, fields)))
        )


class Stretch:
    """Records that came in together, and so have one time; only what is looked at becomes a :class:`Record`."""

    __slots__ = ("moment", "said", "sequences", "size", "time")

    def __init__(self, sequences: Sequence[int], time: float, moment: float, said: Sequence[Said], size: int) -> None:
        self.sequences = sequences
        self.time = time
        """Of all of them, on the appliance's clock."""
        self.moment = moment
        """Of all of them, on the monotonic clock."""
        self.said = said
        self.size = size
        """About how many bytes of memory they hold."""

    def __len__(self) -> int:
        return len(self.said)

    def records(self) -> list[Record]:
        """Return the records."""
        return [
            Record(number, self.time, self.moment, *said)
            for number, said in zip(self.sequences, self.said, strict=True)
        ]

    def part(self, part: slice) -> Stretch:
        """Return some of them that stand together."""
        said = self.said[part]
        size = sum(head.size + len(text) for head, text in said)
        return Stretch(self.sequences[part], self.time, self.moment, said, size)

    def places(self, wanted: Filter) -> list[int]:
        """Return where those stand that a filter lets through."""
        passes = wanted.passes
        return [
            place for place, (head, text) in enumerate(self.said) if passes(head.process, head.level, text, head.fields)
        ]

    def at(self, places: Sequence[int]) -> Stretch:
        """Return those that stand there."""
        said = [self.said[place] for place in places]
        size = sum(head.size + len(text) for head, text in said)
        return Stretch([self.sequences[place] for place in places], self.time, self.moment, said, size)

    def chosen(self, wanted: Filter) -> Stretch:
        """Return those that a filter lets through."""
        places = self.places(wanted)
        return self if len(places) == len(self.said) else self.at(places)


class Block:
    """Some stretches, formatted once for all who are given the block."""

    __slots__ = ("_count", "_data", "_formatter", "_json", "_json_data", "_lines", "encoded", "stretches")

    def __init__(self, stretches: Sequence[Stretch], formatter: LineFormatter, lines: list[str] | None = None) -> None:
        self.stretches = stretches
        self._count = sum([len(stretch.said) for stretch in stretches])
        self._formatter = formatter
        self._lines = lines
        self._data: bytes | None = None
        self._json: list[bytes] | None = None
        self._json_data: bytes | None = None
        self.encoded: bytes | None = None
        """What a door makes of the lines, kept here for the next viewer."""

    @classmethod
    def of(cls, records: Sequence[Record], formatter: LineFormatter) -> Block:
        """Return a block of single records."""
        return cls(
            [
                Stretch((each.sequence,), each.time, each.moment, ((each.head, each.text),), each.size)
                for each in records
            ],
            formatter,
        )

    def __len__(self) -> int:
        return self._count

    @property
    def records(self) -> list[Record]:
        """The records, made anew each time."""
        return [record for stretch in self.stretches for record in stretch.records()]

    @property
    def lines(self) -> list[str]:
        """A line for each record."""
        if self._lines is None:
            lines: list[str] = []
            for stretch in self.stretches:
                stamp, last, begin, end = self._formatter.stamp(stretch.time), None, "", ""
                for head, text in stretch.said:
                    if head is not last:
                        last, begin, end = head, stamp + head.prefix, head.suffix
                    lines.append(f"{begin}{text}{end}")
            self._lines = lines
        return self._lines

    @property
    def data(self) -> bytes:
        """The lines as a file has them: UTF-8, each ended by LF."""
        if self._data is None:
            self._data = ("\n".join(self.lines) + "\n").encode() if self._count else b""
        return self._data

    @property
    def json(self) -> list[bytes]:
        """The records as JSON, a line each without its end."""
        if self._json is None:
            self._json = [orjson.dumps(self._formatter.as_dict(record)) for record in self.records]
        return self._json

    @property
    def json_data(self) -> bytes:
        """The records as a file of JSON Lines has them."""
        if self._json_data is None:
            self._json_data = b"".join([line + b"\n" for line in self.json])
        return self._json_data

    def first(self, count: int) -> Block:
        """Return the first records as a block."""
        return self if count >= self._count else self._part(0, count)

    def after(self, count: int) -> Block:
        """Return what follows the first records as a block."""
        return self._part(count, self._count)

    def _part(self, begin: int, end: int) -> Block:
        parts, at = [], 0
        for stretch in self.stretches:
            first, last = max(begin - at, 0), min(end - at, len(stretch))
            if first < last:
                parts.append(stretch.part(slice(first, last)))
            at += len(stretch)
        return Block(parts, self._formatter, None if self._lines is None else self._lines[begin:end])

    def chosen(self, wanted: Filter) -> Block:
        """Return the records that the filter lets through; the block itself where these are all."""
        if wanted.open:
            return self
        parts: list[Stretch] = []
        lines: list[str] | None = None if self._lines is None else []
        at = 0
        for stretch in self.stretches:
            places = stretch.places(wanted)
            if places:
                parts.append(stretch if len(places) == len(stretch) else stretch.at(places))
                if lines is not None and self._lines is not None:
                    lines += [self._lines[at + place] for place in places]
            at += len(stretch)
        chosen = Block(parts, self._formatter, lines)
        return self if len(chosen) == self._count else chosen
