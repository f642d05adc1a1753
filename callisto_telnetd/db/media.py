"""The folder of recordings: files that are named by the SHA-256 of their content, and never changed.

A recording is written under a temporary name, fsynced and renamed, and then the folder is fsynced: under its own name
it is always whole. What a row names is written before the row.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from callisto_telnetd.db.durable import sync
from callisto_telnetd.errors import DiskFullError, FolderError, UsageError, named

_NAME = re.compile(r"[0-9a-f]{64}")
_MAKING = ".making-"
"""How the names begin of files that are not whole yet."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class MediaSize:
    """How many recordings there are, and how large they are together."""

    files: int
    size_bytes: int


class Media:
    """The recordings of an appliance; its functions wait for the disk: call them in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return where the recording of that name stands."""
        return self.folder / name

    @contextmanager
    def filling(self, what: str) -> Iterator[None]:
        """Be the only one who fills the folder while the block runs; what a killed one has left unfinished is removed.

        Raises:
            UsageError: somebody else does.
            FolderError: the folder cannot be used.
        """
        try:
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _fault(self.folder, error) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(f"{what} is being made already; wait until it is done") from None
            for left in self.folder.glob(f"{_MAKING}*"):
                left.unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)  # the lock goes with it, as it does when the process dies

    def sweep(self) -> None:
        """Remove what a killed process has left unfinished, unless somebody is filling the folder just now.

        Raises:
            FolderError: the folder cannot be used.
        """
        with suppress(UsageError), self.filling("a set of recordings"):
            pass

    def write(self, recordings: Iterable[tuple[str, bytes]]) -> int:
        """Write recordings, each a name and its content; return the bytes of those that were not there yet.

        All are written before the first is waited for, so that the disk takes them together.

        Raises:
            DiskFullError: there is no room; those of this call that have their name already are whole.
            FolderError: the folder cannot be written to.
        """
        making: dict[str, Path] = {}
        size = 0
        try:
            for name, content in recordings:
                if name not in making and not self._holds(name, content):
                    making[name] = self.folder / f"{_MAKING}{name}"
                    _write_new(making[name], content)
                    size += len(content)
            for path in making.values():
                sync(path)
            for name, path in making.items():
                path.rename(self.path(name))
            if making:
                sync(self.folder)
        except OSError as error:
            raise _fault(self.folder, error) from None
        finally:
            for path in making.values():
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        return size

    def _holds(self, name: str, content: bytes) -> bool:
        """Say whether the recording is there and whole; one that is damaged is written anew."""
        try:
            with self.path(name).open("rb") as stream:
                return stream.read(len(content) + 1) == content
        except FileNotFoundError:
            return False

    def size(self) -> MediaSize:
        """Count the recordings; other files do not count.

        Raises:
            FolderError: the folder cannot be read.
        """
        files = size = 0
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        files += 1
                        size += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            return MediaSize(files, size)
        except OSError as error:
            raise _fault(self.folder, error) from None
        return MediaSize(files, size)


def _write_new(path: Path, content: bytes) -> None:
    with open(
        path, "wb", opener=lambda name, _: os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    ) as stream:
        stream.write(content)


def _fault(folder: Path, error: OSError) -> DiskFullError | FolderError:
    if error.errno in _NO_ROOM:
        return DiskFullError("the disk is full")
    return FolderError(f"{named(folder)} cannot be used: {error.strerror}")
