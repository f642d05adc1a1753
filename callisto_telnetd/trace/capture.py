"""A capture: a filtered, bounded stretch of the trace, saved to a file and shown to viewers at the same time.

Rules:
* The file is complete: what a viewer is not shown is in it. Viewers come and go; the capture stays until its bound,
  until it is stopped, or until its disk takes no more, and then says why.
* Bounds by size and number are kept to the byte and to the record; they are counted when records are taken.
* A capture that waits for its trigger takes nothing; what is held from before comes first when it fires.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from callisto_telnetd.errors import TraceError
from callisto_telnetd.quantities import counted, format_bytes
from callisto_telnetd.trace.capture_file import CaptureFile, part_name
from callisto_telnetd.trace.hub import OWN_PROCESS, Hub
from callisto_telnetd.trace.patterns import Pattern
from callisto_telnetd.trace.records import Record, format_body
from callisto_telnetd.trace.selection import Block, Filter
from callisto_telnetd.trace.viewers import Viewer
from callisto_telnetd.trace.writer import Writer

_PAST_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """What to capture, and when to stop."""

    who: str
    filter: Filter = field(default_factory=Filter)
    duration_s: float | None = None
    """From the trigger on, where there is one."""
    records: int | None = None
    """From the trigger on, where there is one."""
    size_bytes: int | None = 10 << 20
    """Of the file, its header included; None where parts rotate."""
    before_s: float = 0.0
    """How far into the past the capture begins, as far as records are held."""
    words: str = ""
    """How the filter and the bounds were asked for, to be shown."""
    note: str = ""
    trigger: Pattern | None = None
    """The capture takes nothing until this is found in a record that the filter takes; what the server itself says
    counts only where the filter names it."""
    part_bytes: int | None = None
    """Size at which the next part begins; None: there is one."""
    keep: int = 1
    """How many parts are kept."""
    as_json: bool = False
    """Whether the file is JSON Lines."""


class Ending(Enum):
    """Why a capture ended."""

    ASKED = auto()
    BOUND = auto()
    """Its time, its number of records or its size."""
    DISK = auto()
    """Little free disk, or the folder's budget; the file holds all that was taken."""
    FAILED = auto()
    """The file could not be written; it is whole up to its last line, and what was taken since is not in it."""


_End = tuple[str, Ending]
"""A reason in a few words, and its kind."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a capture ended."""

    file: str
    """The last one, where the capture rotated."""
    records: int
    """Those of files that are gone included."""
    not_shown: int
    size_bytes: int
    """Of the files that are there."""
    reason: str
    ending: Ending
    parts: int = 1
    """How many files there are."""

    def __str__(self) -> str:
        counts = f"{counted(self.records, 'record')}, {self.not_shown} not shown, {format_bytes(self.size_bytes)}"
        parts = f" in the last {self.parts} files" if self.parts > 1 else ""
        return f"trace saved to {self.file}, {counts}{parts}"


class Capture:
    """One running capture; made by :meth:`Captures.start`."""

    def __init__(self, hub: Hub, writer: Writer, request: CaptureRequest, file: CaptureFile) -> None:
        self._hub = hub
        self._writer = writer
        self.request = request
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._viewers: list[Viewer] = []
        self._taken_bytes = file.size_bytes
        self.taken = 0
        """Records that were taken; those on file may be fewer where the disk took no more."""
        self.not_shown = 0
        """Records that viewers who have gone were not shown."""
        self.waiting = request.trigger is not None
        """Whether the trigger has not fired yet."""
        self._before_trigger = False
        self._taken_before = 0
        """Records from before the trigger: they do not count for the bound."""
        self.running = True
        self.reason = ""
        self.ending = Ending.ASKED
        self.ends_at: float | None = None
        """On the loop's clock, where it has a bound of time."""
        self.closed: asyncio.Future[Summary] = self._loop.create_future()
        """Is set when the file is closed."""
        self.on_trigger: Callable[[], None] = lambda: None

    @property
    def stem(self) -> str:
        """The name without part and suffix."""
        return self._file.stem

    @property
    def name(self) -> str:
        """The name of the first part, by which the capture is known."""
        return part_name(self._file.stem, self._file.suffix, 1)

    @property
    def size_bytes(self) -> int:
        """How large it is, with what waits to be written."""
        return self._taken_bytes

    @property
    def kept_bytes(self) -> int:
        """About how much of that its files have: where they rotate, the parts that are kept."""
        request = self.request
        return min(self._taken_bytes, request.part_bytes * request.keep) if request.part_bytes else self._taken_bytes

    @property
    def parts(self) -> int:
        """How many files it has."""
        return self._file.parts

    @property
    def written(self) -> int:
        """Records on file."""
        return self._file.records

    @property
    def viewers(self) -> int:
        """How many look on."""
        return len(self._viewers)

    # Its life

    def begin(self, viewer: Viewer | None = None) -> None:
        """Take what is held since ``before_s`` ago, then every record from now on."""
        if viewer is not None:
            self.show_to(viewer)
        if not self.waiting:
            self._start_time()
            if self.request.before_s:
                try:
                    past = self._hub.held(time.monotonic() - self.request.before_s, self.request.filter)
                except TraceError as error:
                    self._fail(str(error))
                    return
                self._take_past(past)
        if self.running:
            self._hub.attach(self.request.filter, self._take, self._fail)

    def _fail(self, reason: str) -> None:
        self.stop(reason, Ending.FAILED)

    def _start_time(self) -> None:
        if self.request.duration_s is not None:
            self.ends_at = self._loop.time() + self.request.duration_s
            self._timer = self._loop.call_at(self.ends_at, self._end_of_time)

    def _end_of_time(self) -> None:
        self._hub.hand_on()
        self.stop("its time is over", Ending.BOUND)

    def _take_past(self, past: Sequence[Record]) -> None:
        for begin in range(0, len(past), _PAST_AT_ONCE):
            kept, end = self._keep(Block.of(past[begin : begin + _PAST_AT_ONCE], self._hub.formatter))
            for viewer in self._viewers:
                viewer.add_past(kept.records)
            if end is not None:
                self.stop(*end)
                return

    def _take(self, block: Block) -> None:
        if self.waiting:
            try:
                block = self._after_trigger(block)
            except TraceError as error:
                self._fail(str(error))
                return
        if not self.running or not len(block):
            return
        kept, end = self._keep(block)
        if len(kept):
            for viewer in self._viewers:
                viewer.offer(kept)
        if end is not None:
            self.stop(*end)

    def _after_trigger(self, block: Block) -> Block:
        """Return the block from the record on that fires the trigger; what is held from before it is taken first."""
        trigger, before_s = self.request.trigger, self.request.before_s
        own_too = OWN_PROCESS in self.request.filter.processes
        for place, record in enumerate(block.records):
            if record.process == OWN_PROCESS and not own_too:
                continue  # the server tells what administrators type, triggers among it
            if trigger is None or trigger.found(format_body(record.text, record.fields)):
                self.waiting = False
                self.on_trigger()
                self._start_time()
                past = self._hub.held(record.moment - before_s if before_s else 0.0, self.request.filter)
                self._before_trigger = True
                self._take_past([each for each in past if each.sequence < record.sequence])
                self._before_trigger, self._taken_before = False, self.taken
                return block.after(place)
        return block.first(0)

    def _keep(self, block: Block) -> tuple[Block, _End | None]:
        """Put a block on file as far as the bounds let it; return what was put, and why the capture is to end."""
        request = self.request
        end: _End | None = None
        if request.records is not None and not self._before_trigger:
            left = request.records - (self.taken - self._taken_before)
            if len(block) >= left:
                block, end = block.first(left), ("it has its number of records", Ending.BOUND)
        data = block.json_data if request.as_json else block.data
        if request.size_bytes is not None and self._taken_bytes + len(data) > request.size_bytes:
            room = max(request.size_bytes - self._taken_bytes, 0)
            data = data[: data.rfind(b"\n", 0, room) + 1]
            block, end = block.first(data.count(b"\n")), ("it has its size", Ending.BOUND)
        if data and not self._writer.put(self._file, data, self._look_at_file):
            return block.first(0), ("its disk does not keep up", Ending.FAILED)
        self._taken_bytes += len(data)
        self.taken += len(block)
        return block, end

    def look_at_disk(self) -> None:
        """Have the writer look whether the capture may go on, although nothing is said."""
        if self.running:
            self._writer.put(self._file, b"", self._look_at_file)

    def _look_at_file(self) -> None:
        if self._file.fault:
            self.stop(self._file.fault, Ending.DISK if self._file.low_on_disk else Ending.FAILED)

    def stop(self, reason: str = "stopped", ending: Ending = Ending.ASKED) -> None:
        """Take no more records and close the file with its trailer; a stopped capture stays stopped."""
        if self.running and ending is Ending.ASKED:
            self._hub.hand_on()  # what was said until now belongs to it, and may be what ends it
        if not self.running:
            return
        self.running = False
        self.reason, self.ending = reason, ending
        self._hub.detach(self.request.filter, self._take)
        if self._timer is not None:
            self._timer.cancel()
        self._writer.close_file(self._file, reason, self._note_closed)
        for viewer in self._viewers:
            viewer.finish()

    def _note_closed(self) -> None:
        if self.closed.done():
            return
        file = self._file
        if file.fault and self.ending in (Ending.ASKED, Ending.BOUND):  # the last of it was not taken
            self.reason, self.ending = file.fault, Ending.DISK
        if file.fault and (file.records < self.taken or not file.low_on_disk):
            self.ending = Ending.FAILED
        self.closed.set_result(
            Summary(
                file=file.name,
                records=file.records,
                not_shown=self.not_shown,
                size_bytes=file.kept_bytes,
                reason=file.fault or self.reason,
                ending=self.ending,
                parts=file.parts,
            )
        )

    # Those who look on

    def show_to(self, viewer: Viewer, before_s: float = 0.0) -> None:
        """Show the viewer everything that is taken from now on, and what is held since ``before_s`` ago."""
        self._hub.hand_on()
        if before_s:
            viewer.add_past(self._hub.held(time.monotonic() - before_s, self.request.filter))
        self._viewers.append(viewer)

    def hide_from(self, viewer: Viewer) -> None:
        """Show the viewer nothing any more; what it was not shown counts for the capture."""
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            self.not_shown += viewer.not_shown
