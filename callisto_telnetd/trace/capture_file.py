"""A capture's file while it is written, and its parts where it rotates; all of it work of the writer's thread.

Rules:
* Only whole lines are written; a write that fails is taken back to the last whole line, and ends the capture.
* The next part is open before the last one is closed. A part ends with the name of the next, and begins with the
  capture's header, so each can be read alone.
* A file whose last line is no trailer was cut off: by a crash, a kill or a disk that took nothing any more.
"""

from __future__ import annotations

import errno
import os
import re
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import orjson

from callisto_telnetd.quantities import counted
from callisto_telnetd.secret_text import without_secrets
from callisto_telnetd.trace.sanitiser import clean

FILE_NAME = re.compile(
    r"(?P<stem>[0-9]{8}-[0-9]{6}-[A-Za-z0-9._-]{1,40}?)(?:\+(?P<part>[0-9]{1,12}))?\.(?:log|jsonl)", re.ASCII
)
"""``20261123-101500-admin.log``, ``20261123-101500-admin+2.log`` for its second part, ``.jsonl`` for JSON Lines."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
TEXT_SUFFIX, JSON_SUFFIX = ".log", ".jsonl"


def part_name(stem: str, suffix: str, part: int) -> str:
    """Return the name of a capture's part; the first has no number."""
    return f"{stem}{suffix}" if part == 1 else f"{stem}+{part}{suffix}"


def comment_line(text: str, *, as_json: bool) -> bytes:
    """Return a line of a header or a trailer; ``; `` begins one in text, for ``# `` would look like a prompt."""
    text = clean(without_secrets(text))
    return (orjson.dumps({"comment": text}) if as_json else f"; {text}".encode()) + b"\n"


class CaptureFile:
    """One capture on disk."""

    def __init__(
        self, folder: Path, stem: str, suffix: str, *, free_bytes: int, part_bytes: int | None = None, keep: int = 1
    ) -> None:
        """Prepare the file; :meth:`open` makes it.

        Args:
            folder: The folder of captures.
            stem: Its name without part and suffix.
            suffix: ``.log`` or ``.jsonl``.
            free_bytes: Of disk, below which no more is written.
            part_bytes: Size at which the next part begins; None: there is one part.
            keep: How many parts are kept.
        """
        self.stem = stem
        self.suffix = suffix
        self.part = 0
        self.records = 0
        """Written whole, parts that are gone included."""
        self.size_bytes = 0
        """Of all parts together, those that are gone included."""
        self.fault = ""
        """Why no more is written; blank where it is."""
        self.low_on_disk = False
        """Whether the fault is a disk that has no more room."""
        self._folder = folder
        self._free_bytes = free_bytes
        self._part_bytes = part_bytes
        self._keep = keep
        self._header: Sequence[str] = ()
        self._descriptor = -1
        self._part_size = 0
        self._part_records = 0
        self._earlier: deque[int] = deque(maxlen=keep - 1)
        """Sizes of the parts before this one that are kept."""

    @property
    def parts(self) -> int:
        """How many parts there are on disk."""
        return len(self._earlier) + 1

    @property
    def kept_bytes(self) -> int:
        """Of all parts that are on disk."""
        return sum(self._earlier) + self._part_size

    @property
    def name(self) -> str:
        """The name of the part that is written now."""
        return part_name(self.stem, self.suffix, max(self.part, 1))

    def open(self, header: Sequence[str]) -> None:
        """Make the file with its header.

        Raises:
            FileExistsError: there is one of that name.
            OSError: it cannot be made.
        """
        self._header = header
        self._descriptor, self._part_size = self._make_part(1)
        self.part = 1

    def _make_part(self, part: int) -> tuple[int, int]:
        """Return the descriptor of a new part and how many bytes its header has."""
        path = self._folder / part_name(self.stem, self.suffix, part)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND, 0o600)
        header = b"".join(self._comment(line) for line in (*self._header, *([f"part {part}"] if part > 1 else ())))
        try:
            _write(descriptor, header)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()
            raise
        self.size_bytes += len(header)
        return descriptor, len(header)

    def _comment(self, text: str) -> bytes:
        return comment_line(text, as_json=self.suffix == JSON_SUFFIX)

    def write(self, data: bytes) -> None:
        """Write whole lines of records; after a fault, nothing."""
        while data and not self.fault:
            room = len(data) if self._part_bytes is None else max(self._part_bytes - self._part_size, 0)
            cut = len(data) if room >= len(data) else data.rfind(b"\n", 0, room) + 1
            if cut:
                self._append(data[:cut])
                data = data[cut:]
            elif self._part_records:
                self._rotate()
            else:  # a line larger than a part
                cut = data.index(b"\n") + 1
                self._append(data[:cut])
                data = data[cut:]
        if not self.fault:
            self._look_at_disk()

    def _append(self, data: bytes) -> None:
        try:
            _write(self._descriptor, data)
        except OSError as error:
            self._fail("its file cannot be written", error)
            self._take_back(data)
            return
        records = data.count(b"\n")
        self.records += records
        self._part_records += records
        self._part_size += len(data)
        self.size_bytes += len(data)

    def _fail(self, what: str, error: OSError) -> None:
        """Write no more; a full disk is told as what it is, whichever call has met it."""
        self.low_on_disk = error.errno in _FULL  # first: whoever sees the fault looks at this too
        self.fault = "the disk is full" if self.low_on_disk else f"{what}: {error.strerror}"

    def _take_back(self, data: bytes) -> None:
        """Cut off what was written of the last line where a disk took only some of the data."""
        with suppress(OSError):
            written = os.fstat(self._descriptor).st_size - self._part_size
            whole = data.rfind(b"\n", 0, max(written, 0)) + 1
            os.ftruncate(self._descriptor, self._part_size + whole)
            self.records += data.count(b"\n", 0, whole)
            self._part_size += whole
            self.size_bytes += whole

    def _rotate(self) -> None:
        """Go on in the next part."""
        try:
            descriptor, size = self._make_part(self.part + 1)
        except OSError as error:
            self._fail("its next part cannot be made", error)
            return
        self._end_part(f"continued in {part_name(self.stem, self.suffix, self.part + 1)}")
        with suppress(OSError):  # close(2): the descriptor is gone in any case
            os.close(self._descriptor)
        self._earlier.append(self._part_size)
        self._descriptor, self._part_size, self._part_records = descriptor, size, 0
        self.part += 1
        with suppress(OSError):
            (self._folder / part_name(self.stem, self.suffix, self.part - self._keep)).unlink()

    def _end_part(self, text: str) -> None:
        trailer = self._comment(text)
        try:
            _write(self._descriptor, trailer)
        except OSError:
            with suppress(OSError):  # without its trailer it is listed as interrupted, which is what it is
                os.ftruncate(self._descriptor, self._part_size)
        else:
            self.size_bytes += len(trailer)
            self._part_size += len(trailer)

    def _look_at_disk(self) -> None:
        """Find out that little is free, or that somebody has removed the file: writing alone would not tell."""
        if self._descriptor < 0:
            return
        try:
            disk = os.fstatvfs(self._descriptor)
            if disk.f_bavail * disk.f_frsize < self._free_bytes:
                self.low_on_disk, self.fault = True, "the disk is nearly full"
            elif not os.fstat(self._descriptor).st_nlink:
                self.fault = "its file was removed"
        except OSError as error:
            self._fail("its disk cannot be looked at", error)

    def close(self, reason: str) -> None:
        """Write the trailer and close the file; closing again does nothing."""
        if self._descriptor >= 0:
            self._end_part(f"ended: {self.fault or reason}; {counted(self.records, 'record')}")
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
