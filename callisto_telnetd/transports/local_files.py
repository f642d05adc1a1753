"""Files of ours on their way to a target and from there: read and written in threads, counted and hashed as they go."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from callisto_telnetd.errors import NoRoomError, TransferError, named
from callisto_telnetd.named_file import open_regular
from callisto_telnetd.transports.wire import BLOCK_BYTES
from callisto_telnetd.work import in_thread

Head = tuple[int, Callable[[bytes], None]]
"""How many bytes of a file decide whether the rest is wanted, and who judges them."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A file that was moved whole."""

    size: int
    sha256: str


class Incoming:
    """A file of ours that comes in: its head is judged before anything is written, all of it is hashed."""

    def __init__(self, local: Path, descriptor: int, head: Head | None) -> None:
        self._local = local
        self._descriptor = descriptor
        self._head = head
        self._held = b""
        self._digest = hashlib.sha256()

    async def take(self, block: bytes) -> None:
        """Take the next block."""
        if self._head is not None:
            self._held += block
            if len(self._held) < self._head[0]:
                return
            block = self._judged()
        self._digest.update(block)
        try:
            await in_thread(lambda: _write(self._descriptor, block))
        except OSError as error:
            raise NoRoomError(f"{named(self._local)} cannot be written: {error.strerror}") from error

    async def end(self) -> str:
        """Return the hash of all that has come."""
        if self._head is not None:
            await self.take(self._judged())
        return self._digest.hexdigest()

    def _judged(self) -> bytes:
        (count, judge), self._head = self._head or (0, _take_any), None
        judge(self._held[:count])
        held, self._held = self._held, b""
        return held


def _take_any(_head: bytes) -> None:
    """Judge nothing."""


class Outgoing:
    """A file of ours on its way out: read in a thread, hashed and counted as it goes."""

    def __init__(self, local: Path, descriptor: int, size: int) -> None:
        self.size = size
        self._local = local
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._done = 0

    async def next(self, told: Callable[[int], None]) -> bytes:
        """Return the next block, an empty one at the end."""
        try:
            block = await in_thread(self._read)
        except OSError as error:
            raise TransferError(f"{named(self._local)} cannot be read: {error.strerror}") from error
        self._done += len(block)
        told(self._done)
        return block

    def moved(self) -> Moved:
        """Return size and hash of what was given.

        Raises:
            TransferError: the file was changed meanwhile.
        """
        if self._done != self.size:
            raise TransferError(f"{named(self._local)} was changed while it was sent; nothing was kept of it there")
        return Moved(self._done, self._digest.hexdigest())

    def _read(self) -> bytes:
        block = os.read(self._descriptor, min(BLOCK_BYTES, self.size - self._done))
        self._digest.update(block)
        return block


class reading:  # noqa: N801 - a context manager that is read as a verb
    """Opens a regular file of ours for :class:`Outgoing`."""

    def __init__(self, local: Path) -> None:
        self._local = local

    def __enter__(self) -> Outgoing:
        try:
            self._file = open_regular(self._local)
        except OSError as error:
            raise TransferError(f"{named(self._local)} cannot be read: {error.strerror}") from error
        return Outgoing(self._local, self._file.fileno(), os.fstat(self._file.fileno()).st_size)

    def __exit__(self, *_exception: object) -> None:
        self._file.close()


def create(local: Path) -> int:
    """Return the descriptor of a new file, for the owner alone.

    Raises:
        TransferError: it cannot be made.
    """
    try:
        return os.open(local, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TransferError(f"{named(local)} cannot be made: {error.strerror}") from error


def _write(descriptor: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
