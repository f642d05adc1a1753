"""The folder of captures: what lies there, how each ended, and its budget.

Rules:
* The files of a capture that runs are never deleted, by the budget or by hand.
* Only names of our own form count; everything else in the folder is left alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from callisto_telnetd.errors import TraceError, UnknownTraceError, named, quoted
from callisto_telnetd.trace.capture_file import FILE_NAME, JSON_SUFFIX, comment_line

_TAIL_BYTES = 1024
_ENDS = {"ended: ": "ended", "continued in ": "continued"}
_BY = re.compile(rb'^(?:; |\{"comment":")by ([!-~]{1,64}) from ', re.MULTILINE)
_HEAD_BYTES = 4096
_MOST_AT_ONCE = 1000
"""Files that one look deletes: what captures wait to write comes between two of them."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a capture on disk."""

    name: str
    """Begins with the appliance's time at the capture's start."""
    size_bytes: int
    changed_at: float
    """When it was written last: seconds since the epoch on the system's clock, for the order alone."""

    @property
    def stem(self) -> str:
        """What all parts of one capture have in common."""
        match = FILE_NAME.fullmatch(self.name)
        return match["stem"] if match else self.name

    @property
    def started(self) -> str:
        """When the capture was started, as the appliance's clock then said: ``2026-11-23 10:15:00``."""
        day, time = self.name.split("-")[:2]
        return f"{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:4]}:{time[4:]}"


@dataclass(frozen=True, slots=True)
class DeletedFile:
    """A file that has gone for the budget."""

    name: str
    who: str
    """By whom it was made, as its header tells; blank where it does not."""
    for_number: bool = False
    """Whether it has gone because there were too many files, not because they were too large."""


class Room(NamedTuple):
    """What a look at the budget has found, and done."""

    size_bytes: int
    """Of the files that are left and count."""
    files: int
    """How many those are."""
    deleted: list[DeletedFile]
    unfinished: bool = False
    """Whether more is to go at the next look, which is due at once."""


class CaptureFolder:
    """``DIR/trace``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> list[FoundFile]:
        """Return the files, oldest first.

        Raises:
            TraceError: the folder cannot be read.
        """
        found = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if FILE_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        found.append(FoundFile(entry.name, status.st_size, status.st_mtime))
        except FileNotFoundError:
            if self.path.is_dir():
                return self.files()  # a file went while it was looked at
            raise TraceError(f"{named(self.path)} cannot be read: it is gone") from None
        except OSError as error:
            raise TraceError(f"{named(self.path)} cannot be read: {error.strerror}") from None
        return sorted(found, key=lambda file: (file.stem, len(file.name), file.name))

    def find(self, name: str) -> Path:
        """Return the path of the file of that name.

        Raises:
            UnknownTraceError: there is none.
        """
        path = self.path / name
        if not FILE_NAME.fullmatch(name) or not path.is_file() or path.is_symlink():
            raise UnknownTraceError(f"no trace file named {quoted(name)}; see 'trace list'")
        return path

    def state_of(self, name: str) -> str:
        """Return how a file that nobody writes any more ends: ``ended``, ``continued`` or ``interrupted``."""
        try:
            with (self.path / name).open("rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(0, stream.tell() - _TAIL_BYTES))
                tail = stream.read(_TAIL_BYTES)
        except OSError:
            return "unreadable"
        last = tail.rpartition(b"\n")[0].rpartition(b"\n")[2] if tail.endswith(b"\n") else b""
        for beginning, state in _ENDS.items():
            mark = comment_line(beginning, as_json=name.endswith(JSON_SUFFIX)).rstrip(b'\n"}')
            if last.startswith(mark):
                return state
        return "interrupted"

    def delete(self, name: str) -> None:
        """Delete a file.

        Raises:
            TraceError: there is none, or it cannot be deleted.
        """
        path = self.find(name)
        try:
            path.unlink()
        except OSError as error:
            raise TraceError(f"{name} cannot be deleted: {error.strerror}") from None

    def make_room(
        self, budget_bytes: int, most_files: int, running: Collection[str], spared: Collection[str] = ()
    ) -> Room:
        """Delete the files written longest ago until the folder is within its budget.

        Args:
            budget_bytes: What all files may have together.
            most_files: How many there may be.
            running: Stems of the captures that run; theirs stay.
            spared: Stems of captures whose files stay too, and do not count.

        Raises:
            TraceError: the folder cannot be read.
        """
        files = [file for file in self.files() if file.stem not in spared]
        size_bytes, count = sum(file.size_bytes for file in files), len(files)
        deleted: list[DeletedFile] = []
        for file in sorted(files, key=lambda file: file.changed_at):
            if size_bytes <= budget_bytes and count <= most_files:
                break
            if len(deleted) == _MOST_AT_ONCE:
                return Room(size_bytes, count, deleted, unfinished=True)
            if file.stem not in running:
                who = self._maker_of(file.name)
                try:
                    (self.path / file.name).unlink()
                except OSError:
                    continue
                deleted.append(DeletedFile(file.name, who, for_number=size_bytes <= budget_bytes))
                size_bytes, count = size_bytes - file.size_bytes, count - 1
        return Room(size_bytes, count, deleted)

    def _maker_of(self, name: str) -> str:
        try:
            with (self.path / name).open("rb") as stream:
                match = _BY.search(stream.read(_HEAD_BYTES))
        except OSError:
            return ""
        return match[1].decode("ascii") if match else ""
