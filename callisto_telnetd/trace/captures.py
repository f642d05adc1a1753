"""Captures: filtered, bounded stretches of the trace, saved to files and shown to viewers at the same time.

Rules:
* The file is complete: what a viewer is not shown is in it. Viewers come and go; the capture stays until its bound,
  until it is stopped, or until its disk takes no more, and then says why.
* Bounds by size and number are kept to the byte and to the record; they are counted when records are taken.
* A capture that waits for its trigger takes nothing; what is held from before comes first when it fires.
* No capture begins, and none goes on, where little disk is free. The folder has a budget: for what is new the oldest
  captures go, never one that runs.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from pathlib import Path

from callisto_telnetd.errors import TraceError, named, quoted
from callisto_telnetd.quantities import format_bytes
from callisto_telnetd.trace.capture_file import FILE_NAME, JSON_SUFFIX, TEXT_SUFFIX, CaptureFile, part_name
from callisto_telnetd.trace.capture_folder import CaptureFolder, FoundFile
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.patterns import Pattern
from callisto_telnetd.trace.records import Record, format_body
from callisto_telnetd.trace.selection import Block, Filter
from callisto_telnetd.trace.viewers import Viewer
from callisto_telnetd.trace.writer import Writer

MOST_RUNNING = 256
_PAST_AT_ONCE = 256
_LOOK_S = 1.0
_LOOK_BYTES = 8 << 20
"""How much may be written until the budget is looked at again, or how long it may take."""
_CLOSE_S = 2.0
"""How long the server's end waits for a disk; the contract gives it 3 s in all."""


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """What to capture, and when to stop."""

    who: str
    filter: Filter = field(default_factory=Filter)
    duration_s: float | None = None
    """From the trigger on, where there is one."""
    records: int | None = None
    size_bytes: int | None = 10 << 20
    """Of the file, its header included; None where parts rotate."""
    before_s: float = 0.0
    """How far into the past the capture begins, as far as records are held."""
    words: str = ""
    """How the filter and the bounds were asked for, to be shown."""
    note: str = ""
    trigger: Pattern | None = None
    """The capture takes nothing until this is found in a record that the filter takes."""
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
    """Little free disk, or the folder's budget; the file is whole up to there."""
    FAILED = auto()
    """The file could not be written; it is whole up to its last line."""


_End = tuple[str, Ending]
"""A reason in a few words, and its kind."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a capture ended."""

    file: str
    records: int
    not_shown: int
    size_bytes: int
    reason: str
    ending: Ending

    def __str__(self) -> str:
        counts = f"{self.records} records, {self.not_shown} not shown, {format_bytes(self.size_bytes)}"
        return f"trace saved to {self.file}, {counts}"


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
                self._take_past(self._hub.held(time.monotonic() - self.request.before_s, self.request.filter))
        if self.running:
            self._hub.attach(self.request.filter, self._take)

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
            block = self._after_trigger(block)
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
        for place, record in enumerate(block.records):
            if trigger is None or trigger.found(format_body(record.text, record.fields)):
                self.waiting = False
                self.on_trigger()
                self._start_time()
                past = self._hub.held(record.moment - before_s if before_s else 0.0, self.request.filter)
                self._take_past([each for each in past if each.sequence < record.sequence])
                return block.after(place)
        return block.first(0)

    def _keep(self, block: Block) -> tuple[Block, _End | None]:
        """Put a block on file as far as the bounds let it; return what was put, and why the capture is to end."""
        request = self.request
        end: _End | None = None
        if request.records is not None and len(block) >= request.records - self.taken:
            block, end = block.first(request.records - self.taken), ("it has its number of records", Ending.BOUND)
        data = b"".join(line + b"\n" for line in block.json) if request.as_json else block.data
        if request.size_bytes is not None and self._taken_bytes + len(data) > request.size_bytes:
            room = max(request.size_bytes - self._taken_bytes, 0)
            data = data[: data.rfind(b"\n", 0, room) + 1]
            block, end = block.first(data.count(b"\n")), ("it has its size", Ending.BOUND)
        if data and not self._writer.put(self._file, data, self._look_at_file):
            return block.first(0), ("its disk does not keep up", Ending.FAILED)
        self._taken_bytes += len(data)
        self.taken += len(block)
        return block, end

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
        self.closed.set_result(
            Summary(self.name, file.records, self.not_shown, file.size_bytes, file.fault or self.reason, self.ending)
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


class Captures:
    """All captures: those that run, and the folder."""

    def __init__(self, hub: Hub, folder: Path, *, free_bytes: int, budget_bytes: int) -> None:
        """Begin with none.

        Args:
            hub: Where the records come from.
            folder: Where the files go.
            free_bytes: Of disk, below which no capture starts and those that run stop.
            budget_bytes: What all files may have together.
        """
        self._hub = hub
        self.folder = CaptureFolder(folder)
        self._free_bytes = free_bytes
        self.budget_bytes = budget_bytes
        self.writer = Writer(lambda full: hub.hold_back(full=full), self._note_written)
        self._running: dict[str, Capture] = {}
        self._watching: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()
        self._grown_bytes = 0
        self._ended_records = 0
        self.on_deleted: Callable[[list[str]], None] = lambda _names: None
        """Is told the names of the files that the budget has taken."""
        self.started = 0
        """Captures since the server's start."""
        self.deleted = 0
        """Files that the budget has taken since."""

    @property
    def running(self) -> list[Capture]:
        """The captures that run, oldest first."""
        return list(self._running.values())

    @property
    def written(self) -> int:
        """Records on file since the server's start; one that two captures took counts twice."""
        return self._ended_records + sum(capture.written for capture in self.running)  # a copy: any thread may

    async def start(self, request: CaptureRequest, header: Sequence[str], viewer: Viewer | None = None) -> Capture:
        """Begin a capture in a file named by the appliance's time and the user.

        Raises:
            TraceError: the disk is nearly full, the file cannot be made, too many captures run, or the budget of all
                captures is smaller than what this one may take.
        """
        if len(self._running) >= MOST_RUNNING:
            raise TraceError(f"{MOST_RUNNING} traces run already; stop one first")
        most = request.size_bytes or (request.part_bytes or 0) * request.keep
        if most > self.budget_bytes:
            budget = format_bytes(self.budget_bytes)
            raise TraceError(f"{format_bytes(most)} is more than all trace files may have together, {budget}")
        opening = asyncio.ensure_future(self.writer.call(partial(self._open, request, header)))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._close_unused)
            raise
        self.started += 1
        capture = Capture(self._hub, self.writer, request, file)
        self._running[capture.stem] = capture
        capture.closed.add_done_callback(lambda _: self._forget(capture))
        capture.begin(viewer)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch_budget())
        return capture

    def _open(self, request: CaptureRequest, header: Sequence[str]) -> CaptureFile:
        """Make the file; work of the writer's thread."""
        path = self.folder.path
        try:
            disk = os.statvfs(path)
            free = disk.f_bavail * disk.f_frsize
            if free < self._free_bytes:
                needed = format_bytes(self._free_bytes)
                raise TraceError(f"the disk is nearly full: {format_bytes(free)} free, a trace needs {needed}")
            file = CaptureFile(
                path,
                self._new_stem(request.who),
                JSON_SUFFIX if request.as_json else TEXT_SUFFIX,
                free_bytes=self._free_bytes,
                part_bytes=request.part_bytes,
                keep=request.keep,
            )
            file.open(header)
        except OSError as error:
            raise TraceError(f"no trace file can be made in {named(path)}: {error.strerror}") from None
        return file

    def _new_stem(self, who: str) -> str:
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", who)[:32]
        first = stem = f"{self._hub.clock.now():%Y%m%d-%H%M%S}-{safe}"
        taken = {file.stem for file in self.folder.files()}
        count = 1
        while stem in taken:
            count += 1
            stem = f"{first}-{count}"
        return stem

    def _close_unused(self, opening: asyncio.Future[CaptureFile]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self.writer.close_file(opening.result(), "interrupted before it began", lambda: None)

    def _forget(self, capture: Capture) -> None:
        self._running.pop(capture.stem, None)
        self._ended_records += capture.written

    # The budget

    def _note_written(self, count_bytes: int) -> None:
        self._grown_bytes += count_bytes
        if self._grown_bytes >= _LOOK_BYTES:
            self._grown.set()

    async def _watch_budget(self) -> None:
        """While captures run, keep the folder within its budget."""
        while self._running:
            try:
                await self._keep_budget()
            except TraceError as error:
                for capture in self.running:
                    capture.stop(str(error), Ending.FAILED)
            self._grown.clear()
            self._grown_bytes = 0
            with suppress(TimeoutError):
                await asyncio.wait_for(self._grown.wait(), _LOOK_S)

    async def _keep_budget(self) -> None:
        stems = frozenset(self._running)
        size, deleted = await self.writer.call(partial(self.folder.make_room, self.budget_bytes, stems))
        if deleted:
            self.deleted += len(deleted)
            self.on_deleted(deleted)
        if size > self.budget_bytes and self._running:
            largest = max(self.running, key=lambda capture: capture.size_bytes)
            largest.stop(f"the budget of all trace files, {format_bytes(self.budget_bytes)}, is used up", Ending.DISK)

    # By name

    def capture(self, name: str) -> Capture:
        """Return the running capture that the file of that name belongs to.

        Raises:
            TraceError: none does.
        """
        match = FILE_NAME.fullmatch(name)
        capture = self._running.get(match["stem"]) if match else None
        if capture is None or not capture.running:
            raise TraceError(f"no running trace named {quoted(name)}; see 'trace status'")
        return capture

    def runs(self, file: FoundFile) -> bool:
        """Whether the file belongs to a capture that runs."""
        return file.stem in self._running

    async def delete(self, name: str) -> None:
        """Delete the file of that name.

        Raises:
            TraceError: there is none, its capture runs, or it cannot be deleted.
        """
        self.folder.find(name)
        match = FILE_NAME.fullmatch(name)
        if match and match["stem"] in self._running:
            raise TraceError(f"{name} is running; stop it first")
        await self.writer.call(partial(self.folder.delete, name))

    async def close(self) -> None:
        """Stop all that run, their files whole; a disk that stands still is waited for no longer than 2 s."""
        for capture in self.running:
            capture.stop("the server stops")
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.writer.flush()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        self.writer.stop()
