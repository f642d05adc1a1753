"""The hub between inputs and outputs: everything that is said goes through here, once.

Rules:
* Each record gets a number, is cleaned by the one sanitiser, and loses what looks like a password. The last
  ones, bounded by count and bytes, are always held, so that a capture may begin in the past.
* Outputs get blocks, not records: at once after a pause, then at most every 20 ms, sooner where a block is full. Those
  with the same filter get the very same block, so a record is filtered and formatted once, however many look at it.
* What an input has read in one go, at most 64 messages, has one time; its order is that of the numbers.
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
from callisto_telnetd.errors import TraceError
from callisto_telnetd.secret_text import may_hold_secrets, without_secrets
from callisto_telnetd.trace.names import Names
from callisto_telnetd.trace.records import NO_FIELDS, Head, LineFormatter, Record, Said, make_head
from callisto_telnetd.trace.sanitiser import clean
from callisto_telnetd.trace.selection import Block, Filter, Stretch

OWN_PROCESS = "callisto-telnetd"
"""The name of the server itself in the process table and in its records."""
OWN_INPUT = "server"
_PAUSE_S = 0.02
_MOST_IN_BLOCK = 512
_MOST_BLOCK_BYTES = 512 * 1024
"""Of the memory of a block's records, their text about half of it."""
_MOST_HEADS = 1000

Output = Callable[[Block], None]
Failed = Callable[[str], None]
"""Is told why an output gets nothing any more."""


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
        self._held: deque[Stretch] = deque()
        self._held_count = self._held_size = 0
        self._most_records = held_records
        self._most_bytes = held_bytes
        self._outputs: dict[Filter, list[tuple[Output, Failed]]] = {}
        self._pending: list[Stretch] = []
        self._pending_count = self._pending_size = 0
        self._due: asyncio.Handle | None = None
        self._handed_on_at = 0.0
        self._inputs: list[Input] = []
        self._names = Names()
        self._heads: dict[tuple[str, int | None, int], Head] = {}
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
        *,
        source: str = OWN_INPUT,
    ) -> Record:
        """Take one message, clean it, and return its record; without a process it is the server's own."""
        number = self._pid if process is OWN_PROCESS else pid
        head = make_head(process, number, level, fields) if fields else self._plain_head(process, number, level)
        text = without_secrets(clean(text))
        self._names.hear(process)
        sequence, now, moment = self.published + 1, self.clock.time(), time.monotonic()
        self._add(Stretch((sequence,), now, moment, ((head, text),), head.size + len(text)), source)
        return Record(sequence, now, moment, head, text)

    def take(self, said: list[Said], source: str) -> None:
        """Make records of messages, hold them and see that they are handed on.

        Args:
            said: What an input has read in one go, clean; the records have one time. Secrets are taken out of it.
            source: The input's name, to be counted by.
        """
        if not said:
            return
        size, head_size, last = 0, 0, None
        if may_hold_secrets("\n".join([text for _, text in said])):
            said = [(head, without_secrets(text)) for head, text in said]
        for head, text in said:
            if head is not last:
                last, head_size = head, head.size
                self._names.hear(head.process)
            size += head_size + len(text)
        sequences = range(self.published + 1, self.published + len(said) + 1)
        self._add(Stretch(sequences, self.clock.time(), time.monotonic(), said, size), source)

    def _plain_head(self, process: str, pid: int | None, level: int) -> Head:
        """Return the head of records without fields, which are alike again and again."""
        key = process, pid, level
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            head = self._heads[key] = make_head(*key)
        return head

    def _add(self, stretch: Stretch, source: str) -> None:
        count = len(stretch.said)
        self.by_input[source] += count
        self.published += count
        self._hold(stretch)
        if self._outputs:
            self._pending.append(stretch)
            self._pending_count += count
            self._pending_size += stretch.size
            if self._pending_count >= _MOST_IN_BLOCK or self._pending_size >= _MOST_BLOCK_BYTES:
                self.hand_on()
            elif self._due is None:
                self._see_to_handing_on()

    def _hold(self, stretch: Stretch) -> None:
        held = self._held
        held.append(stretch)
        self._held_count += len(stretch.said)
        self._held_size += stretch.size
        while self._held_count > self._most_records or self._held_size > self._most_bytes:
            oldest = held.popleft()
            self._held_count -= len(oldest.said)
            self._held_size -= oldest.size
            if not held and len(oldest) > 1:  # more in one turn than may be held at all: its last ones
                self._hold(oldest.part(slice((len(oldest) + 1) // 2, None)))
                return

    @property
    def names(self) -> list[str]:
        """The processes that have said something; where they are many, those heard often and the newest."""
        return self._names.all()

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
            elif not self.full:  # what one of them says at once may fill the hub again
                source.resume()

    # What is held

    def held(self, since: float = 0.0, wanted: Filter | None = None) -> list[Record]:
        """Return the held records from a moment on (seconds of the monotonic clock) that a filter takes."""
        found = (stretch for stretch in self._held if stretch.moment >= since)
        if wanted is not None:
            found = (stretch.chosen(wanted) for stretch in found)
        return [record for stretch in found for record in stretch.records()]

    @property
    def held_count(self) -> int:
        """How many records are held."""
        return self._held_count

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory they take."""
        return self._held_size

    @property
    def pending_count(self) -> int:
        """How many records are not handed on yet."""
        return self._pending_count

    # What goes out

    @property
    def outputs(self) -> int:
        """How many are handed blocks."""
        return sum(len(outputs) for outputs in self._outputs.values())

    def attach(self, wanted: Filter, output: Output, failed: Failed = lambda _reason: None) -> None:
        """Hand every record from now on that the filter takes to the output too, until the filter takes too long."""
        self.hand_on()  # what was said before belongs to those who were there
        self._outputs.setdefault(wanted, []).append((output, failed))

    def detach(self, wanted: Filter, output: Output) -> None:
        """Hand it no more; an output that is not attached is no error."""
        outputs = [other for other in self._outputs.get(wanted, ()) if other[0] != output]
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
        pending, self._pending, self._pending_count, self._pending_size = self._pending, [], 0, 0
        block = Block(pending, self.formatter)
        if len(self._outputs) > 1:
            _ = block.lines  # made here, they are in every choice from the block
        self._handed_on_at = asyncio.get_running_loop().time()
        for wanted, outputs in list(self._outputs.items()):
            try:
                chosen = block.chosen(wanted)
            except TraceError as error:
                self._outputs.pop(wanted, None)
                for _, failed in outputs:
                    failed(str(error))
                continue
            if len(chosen):
                for output, _ in outputs:
                    output(chosen)
