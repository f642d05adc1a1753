"""The hub between inputs and outputs: everything that is said goes through here, once.

Rules:
* Each record gets a number and is cleaned by the one sanitiser. The last ones, bounded by count and bytes, are always
  held, so that a capture may begin in the past.
* Outputs get blocks, not records: at once after a pause, then at most every 20 ms, sooner where a block is full. Those
  with the same filter get the very same block, so a record is filtered and formatted once, however many look at it.
* An output never waits here: it keeps its own bounded queue. Where the files cannot keep up, the hub is full and its
  inputs pause; what the server itself says never waits.
* Without an output a record costs its making and one append.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.records import NO_FIELDS, LineFormatter, Record, clean_fields, size_of
from callisto_telnetd.trace.sanitiser import clean
from callisto_telnetd.trace.selection import Block, Filter

OWN_PROCESS = "callisto-telnetd"
"""The name of the server itself in the process table and in its records."""
OWN_INPUT = "server"
_PAUSE_S = 0.02
_MOST_IN_BLOCK = 512
_MOST_BLOCK_BYTES = 512 * 1024
"""Of the memory of a block's records, their text about half of it."""
_MOST_NAMES = 1000

Output = Callable[[Block], None]
_new_record = tuple.__new__


class Input(Protocol):
    """Where records come from, as the hub holds it back."""

    def pause(self) -> None:
        """Read no more; whoever sends waits."""

    def resume(self) -> None:
        """Read again."""


class Watcher(Protocol):
    """A viewer, as the hub counts it."""

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of lines wait to be shown."""


class Hub:
    """Holds the last records and hands them on to all outputs."""

    def __init__(self, clock: Clock, held_records: int = 5000, held_bytes: int = 1 << 20) -> None:
        self.clock = clock
        self.formatter = LineFormatter(clock)
        self._held: deque[Record] = deque()
        self._held_size = 0
        self._most_records = held_records
        self._most_bytes = held_bytes
        self._outputs: dict[Filter, list[Output]] = {}
        self._pending: list[Record] = []
        self._pending_size = 0
        self._due: asyncio.Handle | None = None
        self._handed_on_at = 0.0
        self._inputs: list[Input] = []
        self._names: dict[str, None] = {}
        self._pid = os.getpid()
        self.full = False
        """Whether the inputs are held back."""
        self.held_back = 0
        """How often they were."""
        self.published = 0
        """Records since the start; also the sequence number of the newest."""
        self.viewers: set[Watcher] = set()
        """Those who are shown blocks now."""
        self.not_shown = 0
        """Records that viewers were not shown, since the start."""
        self.cut_off = 0
        """Viewers that took nothing any more and were cut off, since the start."""
        self.by_input: Counter[str] = Counter()
        """Records by where they came from."""

    # What comes in

    def publish(
        self,
        level: int,
        text: str,
        fields: Mapping[str, Any] = NO_FIELDS,
        process: str = OWN_PROCESS,
        pid: int | None = None,
    ) -> Record:
        """Make a record of ``text`` and ``fields`` now, hold it and see that it is handed on.

        ``process`` and the keys of ``fields`` are the input's to clean: they hold no blank, bracket or control
        character. Without a process the record is the server's own.
        """
        if process is OWN_PROCESS:
            pid = self._pid
            self.by_input[OWN_INPUT] += 1
        elif process not in self._names:
            self._note_name(process)
        text = clean(text)
        kept = clean_fields(fields) if fields else NO_FIELDS
        size = size_of(text, kept)
        self.published += 1
        record: Record = _new_record(
            Record, (self.published, self.clock.time(), time.monotonic(), process, pid, level, text, kept, size)
        )
        held = self._held
        held.append(record)
        self._held_size += size
        while self._held_size > self._most_bytes or len(held) > self._most_records:
            self._held_size -= held.popleft().size
        if self._outputs:
            self._pending.append(record)
            self._pending_size += size
            if len(self._pending) >= _MOST_IN_BLOCK or self._pending_size >= _MOST_BLOCK_BYTES:
                self.hand_on()
            elif self._due is None:
                self._see_to_handing_on()
        return record

    def _note_name(self, process: str) -> None:
        if len(self._names) >= _MOST_NAMES:
            del self._names[next(iter(self._names))]
        self._names[process] = None

    @property
    def names(self) -> list[str]:
        """The processes besides the server that have said something, in the order of their first record."""
        return list(self._names)

    def add_input(self, source: Input) -> None:
        """Hold the input back where the hub is full."""
        self._inputs.append(source)
        if self.full:
            source.pause()

    def remove_input(self, source: Input) -> None:
        """Hold it back no more."""
        self._inputs.remove(source)

    def hold_back(self, *, full: bool) -> None:
        """Pause the inputs, or let them go on."""
        self.full = full
        self.held_back += full
        for source in list(self._inputs):
            if full:
                source.pause()
            else:
                source.resume()

    # What is held

    def held(self, since: float = 0.0, wanted: Filter | None = None) -> list[Record]:
        """Return the held records from a moment on (seconds of the monotonic clock) that a filter takes."""
        found = [record for record in self._held if record.moment >= since]
        return found if wanted is None else [record for record in found if wanted.takes(record)]

    @property
    def held_count(self) -> int:
        """How many records are held."""
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory they take."""
        return self._held_size

    @property
    def pending_count(self) -> int:
        """How many records are not handed on yet."""
        return len(self._pending)

    # What goes out

    @property
    def outputs(self) -> int:
        """How many are handed blocks."""
        return sum(len(outputs) for outputs in self._outputs.values())

    def attach(self, wanted: Filter, output: Output) -> None:
        """Hand every record from now on that the filter takes to the output too."""
        self.hand_on()  # what was said before belongs to those who were there
        self._outputs.setdefault(wanted, []).append(output)

    def detach(self, wanted: Filter, output: Output) -> None:
        """Hand it no more; an output that is not attached is no error."""
        outputs = [other for other in self._outputs.get(wanted, ()) if other != output]
        if outputs:
            self._outputs[wanted] = outputs
        else:
            self._outputs.pop(wanted, None)

    def _see_to_handing_on(self) -> None:
        loop = asyncio.get_running_loop()
        at = self._handed_on_at + _PAUSE_S
        self._due = loop.call_at(at, self.hand_on) if at > loop.time() else loop.call_soon(self.hand_on)

    def hand_on(self) -> None:
        """Hand on now what is pending; nothing is pending where nobody is attached."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if not self._pending:
            return
        block = Block(self._pending, self.formatter)
        if len(self._outputs) > 1:
            _ = block.lines  # made here, they are in every choice from the block
        self._pending, self._pending_size = [], 0
        self._handed_on_at = asyncio.get_running_loop().time()
        for wanted, outputs in list(self._outputs.items()):
            chosen = block.chosen(wanted)
            if chosen.records:
                for output in outputs:
                    output(chosen)
