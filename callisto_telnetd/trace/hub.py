"""The hub between those who say something and those who listen.

Rules:
* The last records, bounded by count and bytes, are always held, so that a capture may begin in the past.
* A record is handed on at once and in order; a listener never waits here: it keeps its own bounded queue.
* Without a listener a record costs its making and one append.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.records import Record, clean_fields, size_of
from callisto_telnetd.trace.sanitiser import clean

Listener = Callable[[Record], None]
OWN_PROCESS = "callisto-telnetd"
"""The name of the server itself in the process table and in its records."""


class Hub:
    """Holds the last records and hands each on to all listeners."""

    def __init__(self, clock: Clock, held_records: int = 5000, held_bytes: int = 1 << 20) -> None:
        self.clock = clock
        self._held: deque[Record] = deque()
        self._held_size = 0
        self._most_records = held_records
        self._most_bytes = held_bytes
        self._listeners: list[Listener] = []
        self._pid = os.getpid()
        self.published = 0
        """Records since the start; also the sequence number of the newest."""

    def publish(
        self, level: int, text: str, fields: Mapping[str, Any], process: str = OWN_PROCESS, pid: int | None = None
    ) -> Record:
        """Make a record of ``text`` and ``fields`` now, hold it and hand it on."""
        self.published += 1
        text, kept = clean(text), clean_fields(fields)
        number = self._pid if pid is None else pid
        size = size_of(text, kept)
        record = Record(self.published, self.clock.time(), process, number, level, text, kept, size)
        self._hold(record)
        for listener in self._listeners:
            listener(record)
        return record

    def held(self, since: float) -> list[Record]:
        """Return the held records from ``since`` on (seconds since the epoch, appliance's clock), oldest first."""
        return [record for record in self._held if record.time >= since]

    @property
    def held_count(self) -> int:
        """How many records are held."""
        return len(self._held)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def attach(self, listener: Listener) -> None:
        """Hand every record from now on to ``listener`` too."""
        self._listeners = [*self._listeners, listener]

    def detach(self, listener: Listener) -> None:
        """Hand it no more."""
        self._listeners = [other for other in self._listeners if other != listener]

    def _hold(self, record: Record) -> None:
        self._held.append(record)
        self._held_size += record.size
        while self._held and (len(self._held) > self._most_records or self._held_size > self._most_bytes):
            self._held_size -= self._held.popleft().size
