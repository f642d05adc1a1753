"""A folder of this machine as a target: a second disk, a stick, a mounted share.

A mount whose server is gone holds up whoever touches it, for ever and not to be interrupted. So all system calls on
the folder run in a daemon thread of the wire's own: who waits leaves at the deadline, and neither the pool that other
work needs nor the exit of the process waits for that thread. It alone opens and closes: a write that hangs, and goes on
when the mount is back, goes on in its own file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from callisto_telnetd.errors import (
    NameTakenError,
    NoRoomError,
    NotPermittedError,
    TargetFolderError,
    TransferError,
    TransferInterruptedError,
    quoted,
)
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.daemon import DaemonThread
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.wire import (
    BLOCK_BYTES,
    MAX_ENTRIES,
    Patience,
    RemoteFile,
    Sink,
    Source,
    is_plain,
    tidying_s,
    within,
)

_T = TypeVar("_T")
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_PERMITTED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_PASSING = frozenset({errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.EBUSY})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@asynccontextmanager
async def open_wire(target: Target, _credentials: Credentials, patience: Patience) -> AsyncIterator[FolderWire]:
    """Open the folder; it is held by its descriptor, so another one mounted or renamed over it is not touched.

    Raises:
        TargetFolderError: no such folder.
        NotPermittedError: it may not be opened.
    """
    wire = FolderWire(target.folder, patience)
    try:
        await wire.open()
        yield wire
    except BaseException as error:
        await wire.close(tidying_s(patience, error))
        raise
    await wire.close(patience.tidy_s)


class FolderWire:
    """A folder of this machine, as a :class:`~callisto_telnetd.transports.wire.Wire`."""

    def __init__(self, folder: str, patience: Patience) -> None:
        self._folder = folder
        self._patience = patience
        # The thread's alone: those of the folder, and of the file that is written or read.
        self._descriptor = -1
        self._file = -1
        self._thread = DaemonThread("target-folder", self._release)

    async def open(self) -> None:
        """Open the folder."""
        await self._do("opening", self._open_folder)

    async def close(self, seconds: float) -> None:
        """Let the folder go, and wait for that so long; a call that hangs closes it when it returns."""
        await self._thread.end(seconds)

    async def files(self) -> list[RemoteFile]:
        """Return the regular files with plain names; links are none."""
        return await self._do("listing", self._list)

    async def write(self, name: str, source: Source, size: int) -> None:
        """Make a new file (mode 0600) and sync it; room for all of it is asked for first."""
        await self._do("looking for room", lambda: self._require_room(size))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        async with self._opened("making a file", name, flags):
            while block := await source():
                await self._do("writing", partial(self._write, block))
            # What is read back next should come from the disk: pages that are clean are let go.
            await self._do("syncing", lambda: os.fsync(self._file), self._patience.whole_s)
            await self._do("syncing", lambda: os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED))

    async def read(self, name: str, sink: Sink) -> None:
        """Hand all of a file to ``sink``."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        async with self._opened("opening a file", name, flags):
            while block := await self._do("reading", lambda: os.read(self._file, BLOCK_BYTES)):
                await sink(block)

    async def rename(self, old: str, new: str) -> None:
        """Give a file its name, and sync the folder."""
        await self._do("renaming", lambda: self._rename(old, new))

    async def delete(self, name: str) -> None:
        """Remove a file."""
        await self._do("deleting", lambda: os.unlink(name, dir_fd=self._descriptor))

    @asynccontextmanager
    async def _opened(self, doing: str, name: str, flags: int) -> AsyncIterator[None]:
        """Open a file, and close it again: after what still hangs, and then without a wait."""
        try:
            await self._do(doing, lambda: self._open_file(name, flags))
            yield
        except BaseException:
            self._thread.post(self._release_file)
            raise
        await self._do("closing", self._close_file)

    # What follows runs in the thread.

    def _open_folder(self) -> None:
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _open_file(self, name: str, flags: int) -> None:
        self._file = os.open(name, flags, 0o600, dir_fd=self._descriptor)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise TransferError(f"{self._named}: {quoted(name)} is no regular file")

    def _close_file(self) -> None:
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _release_file(self) -> None:
        with suppress(OSError):
            self._close_file()

    def _release(self) -> None:
        self._release_file()
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)

    def _write(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def _list(self) -> list[RemoteFile]:
        found = []
        with os.scandir(self._descriptor) as entries:
            for count, entry in enumerate(entries):
                if count >= MAX_ENTRIES:
                    raise TargetFolderError(f"{self._named} has more than {MAX_ENTRIES:,} entries: take one for copies")
                with suppress(FileNotFoundError):  # gone since the listing
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and is_plain(entry.name):
                        found.append(RemoteFile(entry.name, status.st_size))
        return found

    def _require_room(self, size: int) -> None:
        status = os.statvfs(self._descriptor)
        if status.f_bavail * status.f_frsize < size:
            free = status.f_bavail * status.f_frsize
            raise NoRoomError(f"{self._named} has room for {free:,} bytes, and the copy has {size:,}")

    def _rename(self, old: str, new: str) -> None:
        try:  # a link never takes a name that is taken; rename(2) does
            os.link(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor, follow_symlinks=False)
        except FileExistsError:
            raise NameTakenError(f"{self._named} has another {quoted(new)} already; it was not touched") from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._rename_unlinked(old, new)
        else:
            os.unlink(old, dir_fd=self._descriptor)
        os.fsync(self._descriptor)

    def _rename_unlinked(self, old: str, new: str) -> None:
        """Rename where there are no links (FAT); nothing else of ours takes the name after the look."""
        try:
            os.lstat(new, dir_fd=self._descriptor)
        except FileNotFoundError:
            os.rename(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        else:
            raise NameTakenError(f"{self._named} has another {quoted(new)} already; it was not touched")

    @property
    def _named(self) -> str:
        return quoted(self._folder)

    async def _do(self, doing: str, call: Callable[[], _T], seconds: float | None = None) -> _T:
        """Run a system call in the thread, for ``step_s`` unless told otherwise."""
        try:
            async with within(seconds or self._patience.step_s, self._named, doing):
                return await self._thread.run(call)
        except OSError as error:
            raise self._translate(error, doing) from error

    def _translate(self, error: OSError, doing: str) -> TransferError:
        reason = f"{self._named}: {error.strerror} ({doing})"
        if error.errno in _NO_ROOM:
            return NoRoomError(f"{reason}; make room there, or take another folder")
        if error.errno in _NOT_PERMITTED:
            return NotPermittedError(f"{reason}; give this service leave to write there")
        if error.errno in _NO_FOLDER:
            return TargetFolderError(f"{reason}; make the folder, or mount it")
        return TransferInterruptedError(reason) if error.errno in _PASSING else TransferError(reason)
