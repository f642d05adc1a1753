"""All captures: those that run, their folder and its budget.

Rules:
* No capture begins, and none goes on, where little disk is free. The folder has a budget: for what is new the oldest
  captures go, never one that runs; where those that run are too much, the largest ends.
* Files are made, counted and deleted in the writer's thread: a disk that is slow slows no session.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from callisto_telnetd.errors import TraceError, UnknownTraceError, listed, named, quoted
from callisto_telnetd.quantities import format_bytes
from callisto_telnetd.trace.capture import Capture, CaptureRequest, Ending
from callisto_telnetd.trace.capture_file import FILE_NAME, JSON_SUFFIX, TEXT_SUFFIX, CaptureFile
from callisto_telnetd.trace.capture_folder import CaptureFolder, DeletedFile, FoundFile
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.viewers import Viewer
from callisto_telnetd.trace.writer import Writer
from callisto_telnetd.work import Lately, in_thread

MOST_RUNNING = 256
_MOST_NAMED = 5
"""In an error."""
_LOOK_S = 1.0
_LOOK_BYTES = 8 << 20
"""How much may be written until the budget is looked at again, or how long it may take."""
_TRAILER_BYTES = 256
"""What a file may have beyond its bound: its last line. One as large as the budget must not go for that line."""
_SPARED_S = 600.0
"""How long a capture that had to make room for others stays itself: somebody wants to have it."""
_CLOSE_S = 2.0
"""How long the server's end waits for a disk; the contract gives it 3 s in all."""


class Captures:
    """All captures: those that run, and the folder."""

    def __init__(self, hub: Hub, folder: Path, *, free_bytes: int, budget_bytes: int, most_files: int = 10_000) -> None:
        """Begin with none.

        Args:
            hub: Where the records come from.
            folder: Where the files go.
            free_bytes: Of disk, below which no capture starts and those that run stop.
            budget_bytes: What all files may have together.
            most_files: How many there may be; running captures alone must not need more.
        """
        self._hub = hub
        self.folder = CaptureFolder(folder)
        self._free_bytes = free_bytes
        self.budget_bytes = budget_bytes
        self.most_files = most_files
        self.writer = Writer(lambda full: hub.hold_back(full=full), self._note_written)
        self._running: dict[str, Capture] = {}
        self._open_stems: set[str] = set()
        """Of all whose files are open, from their making on; the writer's thread adds to them."""
        self._spared = ""
        """Stem of the capture that the budget itself has ended last."""
        self._spared_until = 0.0
        """When its files are like all others again; until then they stay, and do not count."""
        self.recent_names: Lately[Sequence[str]] = Lately(self._names, ())
        """The names of all files, for Tab; the newest may be missing for a moment."""
        self._opening: set[asyncio.Future[CaptureFile]] = set()
        """Files that are being made."""
        self._watching: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()
        self._grown_bytes = 0
        self._ended_records = self._most_written = 0
        self.on_deleted: Callable[[list[DeletedFile]], None] = lambda _files: None
        """Is told which files the budget has taken."""
        self.started = 0
        """Captures since the server's start."""
        self.failed = 0
        """Captures that their disk, their folder or its budget has ended since."""
        self.deleted = 0
        """Files that the budget has taken since."""

    @property
    def running(self) -> list[Capture]:
        """The captures that run, oldest first."""
        return list(self._running.values())

    @property
    def written(self) -> int:
        """Records on file since the server's start; one that two captures took counts twice."""
        # Any thread may ask, also while one ends: the figure is a counter, and never becomes smaller.
        self._most_written = max(
            self._most_written, self._ended_records + sum(capture.written for capture in self.running)
        )
        return self._most_written

    def _names(self) -> Sequence[str]:
        try:
            return [file.name for file in self.folder.files()]
        except TraceError:
            return ()

    async def start(self, request: CaptureRequest, header: Sequence[str], viewer: Viewer | None = None) -> Capture:
        """Begin a capture in a file named by the appliance's time and the user.

        Raises:
            TraceError: the disk is nearly full, the file cannot be made, too many captures run, or the budget of all
                captures is smaller than what this one may take.
        """
        if len(self._running) + len(self._opening) >= MOST_RUNNING:
            raise TraceError(f"{MOST_RUNNING} traces run already; stop one first")
        most = request.size_bytes or (request.part_bytes or 0) * request.keep
        if most > self.budget_bytes:
            budget = format_bytes(self.budget_bytes)
            raise TraceError(f"{format_bytes(most)} is more than all trace files may have together, {budget}")
        opening = asyncio.ensure_future(self.writer.call(partial(self._open, request, header)))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
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
        self.recent_names.read_again()
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
            self._open_stems.add(file.stem)  # before the budget is looked at again, behind this
        except OSError as error:
            raise TraceError(f"no trace file can be made in {named(path)}: {error.strerror}") from None
        return file

    def _new_stem(self, who: str) -> str:
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", who)[:32]
        first = stem = f"{self._hub.clock.now():%Y%m%d-%H%M%S}-{safe}"
        taken = {file.stem for file in self.folder.files()} | self._open_stems
        count = 1
        while stem in taken:
            count += 1
            stem = f"{first}-{count}"
        return stem

    def _close_unused(self, opening: asyncio.Future[CaptureFile]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            file = opening.result()
            self.writer.close_file(file, "interrupted before it began", lambda: self._open_stems.discard(file.stem))

    def _forget(self, capture: Capture) -> None:
        self._ended_records += capture.written
        self._running.pop(capture.stem, None)
        self._open_stems.discard(capture.stem)
        self.failed += capture.ending in (Ending.DISK, Ending.FAILED)

    # The budget

    def _note_written(self, count_bytes: int) -> None:
        self._grown_bytes += count_bytes
        if self._grown_bytes >= _LOOK_BYTES:
            self._grown.set()

    async def _watch_budget(self) -> None:
        """While captures run, and once more behind the last, keep the folder within its budget."""
        while True:
            try:
                while await self._keep_budget():
                    pass
            except TraceError as error:  # without its folder none can go on; any other trouble may pass
                is_there = await self.writer.call(self.folder.path.is_dir)
                for capture in () if is_there else self.running:
                    capture.stop(str(error), Ending.FAILED)
            for capture in self.running:
                capture.look_at_disk()
            if not self._running:
                return
            self._grown.clear()
            self._grown_bytes = 0
            with suppress(TimeoutError):
                await asyncio.wait_for(self._grown.wait(), _LOOK_S)

    async def _keep_budget(self) -> bool:
        """Look at the folder once; return whether more is to go than one look takes."""
        now = asyncio.get_running_loop().time()
        spared = {self._spared} if now < self._spared_until else frozenset[str]()
        most = self.budget_bytes + _TRAILER_BYTES
        room = await self.writer.call(lambda: self.folder.make_room(most, self.most_files, self._open_stems, spared))
        if room.deleted:
            self.deleted += len(room.deleted)
            self.on_deleted(room.deleted)
        if room.unfinished or not self._running:
            return room.unfinished
        ending, reason = None, ""
        if room.size_bytes > most:
            ending = max(self.running, key=lambda capture: capture.kept_bytes)
            reason = f"the budget of all trace files, {format_bytes(self.budget_bytes)}, is used up"
        elif room.files > self.most_files:
            ending = max(self.running, key=lambda capture: capture.parts)
            reason = f"there are as many trace files as there may be, {self.most_files:,}"
        if ending is not None:
            self._spared, self._spared_until = ending.stem, now + _SPARED_S
            ending.stop(reason, Ending.DISK)
        return False

    # By name

    def capture(self, name: str) -> Capture:
        """Return the running capture that the file of that name belongs to.

        Raises:
            TraceError: none does.
        """
        match = FILE_NAME.fullmatch(name)
        capture = self._running.get(match["stem"]) if match else None
        if capture is None or not capture.running:
            raise UnknownTraceError(f"no running trace named {quoted(name)}; see 'trace status'")
        return capture

    def only_capture(self) -> Capture:
        """Return the capture that runs, where one does and no other.

        Raises:
            TraceError: none does, or several do; they are named.
        """
        running = [capture for capture in self.running if capture.running]
        if len(running) == 1:
            return running[0]
        if not running:
            raise TraceError("no trace runs; 'trace start' begins one")
        names = listed(
            [*(capture.name for capture in running[:_MOST_NAMED]), *["others"] * (len(running) > _MOST_NAMED)], "and"
        )
        raise TraceError(f"{len(running)} traces run, {names}: name one")

    def runs(self, file: FoundFile) -> bool:
        """Whether the file belongs to a capture that runs."""
        return file.stem in self._open_stems

    async def delete(self, name: str) -> None:
        """Delete the file of that name.

        Raises:
            TraceError: there is none, its capture runs, or it cannot be deleted.
        """
        await in_thread(self.folder.find, name)
        match = FILE_NAME.fullmatch(name)
        if match and match["stem"] in self._open_stems:
            raise TraceError(f"{name} is running; stop it first")
        await self.writer.call(partial(self.folder.delete, name))
        self.recent_names.read_again()

    async def close(self) -> None:
        """Stop all that run, their files whole; a disk that stands still is waited for no longer than 2 s."""
        for capture in self.running:
            capture.stop("the server stops")
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                if self._opening:
                    await asyncio.wait(self._opening)
                await self.writer.flush()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self.recent_names.close()
        self.writer.stop()
