"""A small file beside the database, for its owner alone: read with distrust, written whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from callisto_telnetd.db.durable import sync
from callisto_telnetd.errors import FolderError, named
from callisto_telnetd.ownership import fault_of
from callisto_telnetd.secret_text import BOM


class PrivateFile:
    """One such file; both directions block for the time of a small file.

    Threads that write at once take turns: each writes its content whole, and the last one's stays.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._writing = threading.Lock()

    def read(self) -> bytes | None:
        """Return what is in the file, None where there is none.

        Raises:
            FolderError: it cannot be read, is too large, or others may write to it.
        """
        try:
            return self._bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FolderError(f"{named(self.path)} cannot be read: {error.strerror}") from None

    def write(self, content: bytes) -> None:
        """Replace the file, durably.

        Raises:
            FolderError: it could not be written; it is as it was.
        """
        making = self.path.with_name(self.path.name + ".making")
        with self._writing:
            self._replace(making, content)

    def _replace(self, making: Path, content: bytes) -> None:
        try:
            making.unlink(missing_ok=True)
            descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(descriptor)
            making.rename(self.path)
            sync(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                making.unlink(missing_ok=True)
            raise FolderError(f"{named(self.path)} cannot be written: {error.strerror}") from None

    def _bytes(self) -> bytes:
        # Not blocking: in the place of the file might be a pipe.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            owners = (self.path.parent.stat().st_uid,)  # root works in the folder of a server's user, too
            if not stat.S_ISREG(status.st_mode) or fault_of(status, owners):
                raise FolderError(f"{named(self.path)} is no file that its owner alone may write to")
            content = stream.read(self._most_bytes + 1)
        if len(content) > self._most_bytes:
            raise FolderError(f"{named(self.path)} is larger than {self._most_bytes >> 10} KiB")
        return content.removeprefix(BOM)
