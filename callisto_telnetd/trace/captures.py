"""Captures: a filtered, bounded stretch of the trace, saved to a file and shown to a viewer at the same time.

Rules:
* The file is complete. Lines are joined and written once a loop turn; a write that fails ends the capture with its
  reason, and the file then ends with its last whole line.
* The viewer has a bounded queue; what does not fit there is counted, never waited for.
* No capture begins, and none goes on, where less than ``free_bytes`` of disk are left.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from pathlib import Path

from callisto_telnetd.errors import TraceError, named, quoted
from callisto_telnetd.quantities import format_bytes
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.records import LEVELS, Record, format_record
from callisto_telnetd.trace.sanitiser import clean

_VIEWER_BYTES = 32 << 10
_LINE_OVERHEAD = 128
_PAST_AT_ONCE = 50
_MOST_UNWRITTEN = 256
_DISK_LOOK_S = 1.0
_FILE_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[A-Za-z0-9._-]{1,40}\.log")


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """What to capture, and when to stop."""

    who: str
    processes: frozenset[str] = frozenset()
    """Names of the processes; none: all."""
    level: int = LEVELS["debug"]
    """Records below this level are left out."""
    duration_s: float | None = None
    records: int | None = None
    size_bytes: int = 10 << 20
    before_s: float = 0.0
    """How far into the past the capture begins, as far as records are held."""
    note: str = ""

    def takes(self, record: Record) -> bool:
        """Whether the filter lets the record through."""
        return record.level >= self.level and (not self.processes or record.process in self.processes)


class Ending(Enum):
    """Why a capture ended."""

    ASKED = auto()
    BOUND = auto()
    """Its time, its number of records or its size."""
    DISK = auto()
    """Little free disk; the file is whole up to there."""
    FAILED = auto()
    """The file could not be written; it is whole up to its last line."""


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

    def __init__(self, hub: Hub, request: CaptureRequest, file: Path, free_bytes: int) -> None:
        self._hub = hub
        self._request = request
        self.file = file
        self._free_bytes = free_bytes
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._unwritten: list[str] = []
        self._flush_due: asyncio.Handle | None = None
        self._unshown: deque[tuple[Record, str]] = deque()
        self._unshown_size = 0
        self._past: deque[Record] = deque()  # held by the hub as well: what was before is shown whole, and costs little
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._disk_seen_at = 0.0
        self._loop = asyncio.get_running_loop()
        self.records = 0
        self.not_shown = 0
        self._missed = 0
        self.size_bytes = 0
        self.reason = ""
        self.ending = Ending.ASKED
        self._unwritten_size = 0

    @property
    def running(self) -> bool:
        """Whether records are still taken."""
        return self._descriptor >= 0

    def begin(self, header: Sequence[str]) -> None:
        """Write the header, take what is held since ``before_s`` ago, then every record from now on."""
        self._write_lines([f"; {clean(line)}" for line in header])
        if self._request.before_s:
            held = filter(self._request.takes, self._hub.held(self._hub.clock.time() - self._request.before_s))
            for record in islice(held, self._request.records):
                if self._keep(self._line(record)):
                    self._past.append(record)
            self._look_at_bounds()
        if self.running:
            self._hub.attach(self._offer)
            if self._request.duration_s is not None:
                self._timer = self._loop.call_later(
                    self._request.duration_s, self.stop, "its time is over", Ending.BOUND
                )

    def _offer(self, record: Record) -> None:
        if not self.running or not self._request.takes(record):
            return
        line = self._line(record)
        if self._keep(line):
            self._show(record, line)
            self._look_at_bounds()

    def _line(self, record: Record) -> str:
        return format_record(record, self._hub.clock.local)

    def _keep(self, line: str) -> bool:
        """Take a line for the file; a line that would pass the bound of size ends the capture instead."""
        if not self.running:
            return False
        size = len(line.encode("utf-8", "replace")) + 1
        if self.size_bytes + self._unwritten_size + size > self._request.size_bytes:
            self.stop("it has its size", Ending.BOUND)
            return False
        self.records += 1
        self._unwritten.append(line)
        self._unwritten_size += size
        if self._flush_due is None:
            self._flush_due = self._loop.call_soon(self._flush)
        elif len(self._unwritten) >= _MOST_UNWRITTEN:
            self._flush_due.cancel()
            self._flush()
        return True

    def _look_at_bounds(self) -> None:
        if self._request.records is not None and self.records >= self._request.records:
            self.stop("it has its number of records", Ending.BOUND)

    def _show(self, record: Record, line: str) -> None:
        self._unshown.append((record, line))
        self._unshown_size += len(line) + _LINE_OVERHEAD
        while self._unshown_size > _VIEWER_BYTES:
            _, missed = self._unshown.popleft()
            self._unshown_size -= len(missed) + _LINE_OVERHEAD
            self.not_shown += 1
            self._missed += 1
        self._wake.set()

    def _flush(self) -> None:
        self._flush_due = None
        lines = self._take_unwritten()
        if not lines or not self.running:
            return
        if not self._write_lines(lines):
            self.records -= len(lines)
            return
        if self._loop.time() - self._disk_seen_at > _DISK_LOOK_S:
            self._disk_seen_at = self._loop.time()
            self._look_at_disk()

    def _take_unwritten(self) -> list[str]:
        lines, self._unwritten = self._unwritten, []
        self._unwritten_size = 0
        return lines

    def _look_at_disk(self) -> None:
        try:
            if _free_bytes(self.file.parent) < self._free_bytes:
                self.stop("the disk is nearly full", Ending.DISK)
        except OSError as error:
            self.stop(f"its disk cannot be looked at: {error.strerror}", Ending.DISK)

    def _write_lines(self, lines: Sequence[str]) -> bool:
        """Write whole lines; where that fails, end the capture with the last whole line and say False."""
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.size_bytes)
            self._close(f"its file cannot be written: {error.strerror}", Ending.FAILED)
            return False
        self.size_bytes += len(data)
        return True

    def stop(self, reason: str = "stopped", ending: Ending = Ending.ASKED) -> None:
        """Take no more records, write the trailer and close the file; a stopped capture stays stopped."""
        if not self.running:
            return
        lines = self._take_unwritten()
        if self._write_lines([*lines, f"; ended: {reason}; {self.records} records"]):
            self._close(reason, ending)
        else:
            self.records -= len(lines)

    def _close(self, reason: str, ending: Ending) -> None:
        self.reason, self.ending = reason, ending
        os.close(self._descriptor)
        self._descriptor = -1
        self._hub.detach(self._offer)
        for timer in (self._timer, self._flush_due):
            if timer is not None:
                timer.cancel()
        self._wake.set()

    async def follow(self) -> AsyncIterator[tuple[int, list[tuple[Record, str]]]]:
        """Yield what to show as it comes, until the capture has stopped and all is shown.

        Each batch is the number of records before it that are not shown, and records with their lines.
        """
        while self._past:
            past = [self._past.popleft() for _ in range(min(_PAST_AT_ONCE, len(self._past)))]
            yield 0, [(record, self._line(record)) for record in past]
        while True:
            while self._unshown or self._missed:
                batch = list(self._unshown)
                self._unshown.clear()
                self._unshown_size = 0
                missed, self._missed = self._missed, 0
                yield missed, batch
            if not self.running:
                return
            self._wake.clear()
            await self._wake.wait()

    def summary(self) -> Summary:
        """Say what is in the file."""
        return Summary(self.file.name, self.records, self.not_shown, self.size_bytes, self.reason, self.ending)


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """A capture on disk."""

    name: str
    """Begins with the appliance's time at its start."""
    size_bytes: int
    running: bool

    @property
    def started(self) -> str:
        """When it was started, as the appliance's clock then said: ``2026-11-23 10:15:00``."""
        day, time = self.name.split("-")[:2]
        return f"{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:4]}:{time[4:]}"


class Captures:
    """The folder of captures and those that run."""

    def __init__(self, hub: Hub, folder: Path, free_bytes: int) -> None:
        self._hub = hub
        self._folder = folder
        self._free_bytes = free_bytes
        self._running: dict[str, Capture] = {}

    def start(self, request: CaptureRequest, header: Sequence[str]) -> Capture:
        """Begin a capture in a file named by the appliance's time and the user.

        Raises:
            TraceError: the disk is nearly full, or the file cannot be made.
        """
        try:
            free = _free_bytes(self._folder)
            if free < self._free_bytes:
                needed = format_bytes(self._free_bytes)
                raise TraceError(f"the disk is nearly full: {format_bytes(free)} free, a trace needs {needed}")
            capture = Capture(self._hub, request, self._new_file(request.who), self._free_bytes)
        except OSError as error:
            raise TraceError(f"no trace file can be made in {named(self._folder)}: {error.strerror}") from None
        self._running = {name: other for name, other in self._running.items() if other.running}
        self._running[capture.file.name] = capture
        capture.begin(header)
        return capture

    def _new_file(self, who: str) -> Path:
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", who)[:32]
        stem = f"{self._hub.clock.now():%Y%m%d-%H%M%S}-{safe}"
        file, count = self._folder / f"{stem}.log", 1
        while file.exists():
            count += 1
            file = self._folder / f"{stem}-{count}.log"
        return file

    def files(self) -> list[CaptureFile]:
        """Return the captures on disk, oldest first.

        Raises:
            TraceError: the folder cannot be read.
        """
        try:
            with os.scandir(self._folder) as entries:
                found = [(entry.name, entry.stat()) for entry in entries if _FILE_NAME.fullmatch(entry.name)]
        except OSError as error:
            raise TraceError(f"{named(self._folder)} cannot be read: {error.strerror}") from None
        return [
            CaptureFile(name, status.st_size, name in self._running and self._running[name].running)
            for name, status in sorted(found)
        ]

    def find(self, name: str) -> Path:
        """Return the path of the capture of that name.

        Raises:
            TraceError: there is none.
        """
        path = self._folder / name
        if not _FILE_NAME.fullmatch(name) or not path.is_file() or path.is_symlink():
            raise TraceError(f"no trace file named {quoted(name)}; see 'trace list'")
        return path

    def delete(self, name: str) -> None:
        """Delete the capture of that name.

        Raises:
            TraceError: there is none, it is running, or it cannot be deleted.
        """
        path = self.find(name)
        if name in self._running and self._running[name].running:
            raise TraceError(f"{name} is running; stop it first")
        try:
            path.unlink()
        except OSError as error:
            raise TraceError(f"{name} cannot be deleted: {error.strerror}") from None

    def close(self) -> None:
        """Stop all that run, their files whole."""
        for capture in self._running.values():
            capture.stop("the server stops")


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
