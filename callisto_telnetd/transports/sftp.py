"""SFTP (draft-ietf-secsh-filexfer-02, version 3) through asyncssh.

Rules:

* Requests are sent one by one, and several are on their way: asyncssh's own parallel reader leaves tasks behind whose
  errors nobody takes, and each would be an error in the log.
* A packet of more than 256 KiB is refused: servers have no reason for it, and a listing of 4 MiB, which asyncssh would
  take, becomes some hundred MiB of objects.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TypeVar, cast

import asyncssh
from asyncssh.packet import PacketDecodeError, SSHPacket
from asyncssh.sftp import SFTPClientHandler

from callisto_telnetd.errors import (
    NameTakenError,
    NoRoomError,
    TargetFolderError,
    TransferError,
    quoted,
)
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.ssh import open_ssh, translated
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.wire import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    Patience,
    RemoteFile,
    Sink,
    Source,
    is_plain,
    within,
)

_SFTP_VERSION = 3
_REQUEST_BYTES = 32 * 1024
"""Of one read or write: what every server takes (draft-ietf-secsh-filexfer-02, section 3)."""
_MAX_PACKET_BYTES = 256 * 1024
_OWNER_ONLY = asyncssh.SFTPAttrs(permissions=0o600)
_WINDOW = 32
"""Requests on their way at once: 1 MiB, which fills 20 MB/s at a round trip of 50 ms."""
_T = TypeVar("_T")


@asynccontextmanager
async def open_wire(target: Target, credentials: Credentials, patience: Patience) -> AsyncIterator[SftpWire]:
    """Connect, judge the host key, log in, and start SFTP."""
    async with open_ssh(target, credentials, patience) as connection:
        async with within(patience.step_s, target.place, "starting SFTP"), translated(target.place, "starting SFTP"):
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            channel = _Channel(asyncio.get_running_loop(), "strict", reader, writer, _SFTP_VERSION)
            await channel.start()
        receiving = asyncio.create_task(channel.recv_packets())
        try:
            yield SftpWire(asyncssh.SFTPClient(channel, None, "strict"), target, patience)
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])


class SftpWire:
    """A folder behind SFTP, as a :class:`~callisto_telnetd.transports.wire.Wire`."""

    def __init__(self, client: asyncssh.SFTPClient, target: Target, patience: Patience) -> None:
        self._client = client
        self._place = target.place
        self._folder = (target.folder or ".").encode()
        self._patience = patience

    async def files(self) -> list[RemoteFile]:
        """Return the regular files with plain names."""
        found, count = [], 0
        async with translated(self._place, "listing", folder=True):
            entries = cast("AsyncGenerator[asyncssh.SFTPName, None]", self._client.scandir(self._folder))
            try:
                while True:
                    async with self._step("listing"):
                        entry = await anext(entries)
                    count += 1
                    if count > MAX_ENTRIES:
                        raise TargetFolderError(
                            f"the folder at {self._place} has more than {MAX_ENTRIES:,} entries: take one for copies"
                        )
                    if (file := _plain_file(entry)) is not None:
                        found.append(file)
            except StopAsyncIteration:
                return found
            finally:
                with suppress(asyncssh.Error, OSError, TransferError):
                    async with self._step("listing"):
                        await entries.aclose()

    async def write(self, name: str, source: Source, size: int) -> None:
        """Make a new file, and have the server sync it where it can (``fsync@openssh.com``).

        Where the server tells how much room it has (``statvfs@openssh.com``), that is looked at first: version 3 has
        no code for a full disk.
        """
        await self._require_room(size)
        pending: deque[asyncio.Task[int]] = deque()
        async with translated(self._place, "sending"):
            async with self._step("making a file"):
                file = await self._client.open(self._path(name), "xb", _OWNER_ONLY, encoding=None, block_size=0)
            try:
                offset = 0
                while block := await source():
                    for start in range(0, len(block), _REQUEST_BYTES):
                        if len(pending) >= _WINDOW:
                            await self._take(pending, "sending")
                        piece = block[start : start + _REQUEST_BYTES]
                        pending.append(asyncio.create_task(file.write(piece, offset)))
                        offset += len(piece)
                while pending:
                    await self._take(pending, "sending")
                async with within(self._patience.settle_s, self._place, "syncing"):
                    with suppress(asyncssh.SFTPOpUnsupported):  # then the server's word is all there is
                        await file.fsync()
                await self._close(file)
            except asyncssh.SFTPFailure:
                await self._require_room(_REQUEST_BYTES)
                raise
            finally:
                await self._drop(pending)
                await self._let_go(file)

    async def read(self, name: str, sink: Sink) -> None:
        """Hand all of a file to ``sink``; several reads are on their way at once."""
        pending: deque[asyncio.Task[bytes]] = deque()
        async with translated(self._place, "reading"):
            async with self._step("opening a file"):
                file = await self._client.open(self._path(name), "rb", block_size=0, encoding=None)
            try:
                offset, ended = 0, False
                while not ended:
                    while len(pending) < _WINDOW:
                        pending.append(asyncio.create_task(self._read_at(file, offset)))
                        offset += _REQUEST_BYTES
                    block = await self._take(pending, "reading")
                    if block:
                        await sink(block)
                    ended = len(block) < _REQUEST_BYTES
            finally:
                await self._drop(pending)
                await self._let_go(file)

    async def rename(self, old: str, new: str) -> None:
        """Give a file its name: SFTP's own rename, which refuses a name that is taken (the POSIX one does not)."""
        taken = f"{self._place} has another {quoted(new)} already; it was not touched"
        async with translated(self._place, "renaming"), self._step("renaming"):
            if await self._client.lexists(self._path(new)):  # some servers rename over it all the same
                raise NameTakenError(taken)
            try:
                await self._client.rename(self._path(old), self._path(new))
            except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists):
                if await self._client.lexists(self._path(new)):
                    raise NameTakenError(taken) from None
                raise

    async def delete(self, name: str) -> None:
        """Remove a file."""
        async with translated(self._place, "deleting"), self._step("deleting"):
            await self._client.remove(self._path(name))

    async def _read_at(self, file: asyncssh.SFTPClientFile, offset: int) -> bytes:
        """Return what stands at an offset: less than a request only at the end of the file."""
        block = b""
        while len(block) < _REQUEST_BYTES:
            wanted = _REQUEST_BYTES - len(block)
            more = cast("bytes", await file.read(wanted, offset + len(block)))
            if len(more) > wanted:
                raise TransferError(f"{self._place} answers with more than it was asked for")
            if not more:
                break
            block += more
        return block

    async def _require_room(self, size: int) -> None:
        async with self._step("looking for room"):
            try:
                room = await self._client.statvfs(self._folder)
            except (asyncssh.SFTPError, PacketDecodeError):
                return  # it does not tell; whether there is room is seen then
        free = room.bavail * room.frsize
        if free < size:
            raise NoRoomError(f"{self._place} has room for {free:,} bytes, and {size:,} are wanted; make room there")

    def _path(self, name: str) -> bytes:
        return self._folder + b"/" + name.encode()

    async def _take(self, pending: deque[asyncio.Task[_T]], doing: str) -> _T:
        task = pending.popleft()
        try:
            async with self._step(doing):
                return await task
        finally:
            task.cancel()

    async def _drop(self, pending: deque[asyncio.Task[bytes]] | deque[asyncio.Task[int]]) -> None:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _close(self, file: asyncssh.SFTPClientFile) -> None:
        """Close a file that was written: a server may say only here that it could not keep it."""
        async with within(self._patience.settle_s, self._place, "closing a file"):
            await file.close()

    async def _let_go(self, file: asyncssh.SFTPClientFile) -> None:
        """Close a file that nothing depends on any more; closing twice does nothing."""
        with suppress(asyncssh.Error, OSError, TimeoutError):
            async with asyncio.timeout(self._patience.tidy_s):
                await file.close()

    def _step(self, doing: str) -> AbstractAsyncContextManager[None]:
        return within(self._patience.step_s, self._place, doing)


class _Channel(SFTPClientHandler):
    """asyncssh's side of an SFTP session, with a smaller bound on packets."""

    async def recv_packet(self) -> SSHPacket:
        """Receive one packet."""
        if self._reader is None:
            raise EOFError
        length = int.from_bytes(await self._reader.readexactly(4), "big")
        if length > _MAX_PACKET_BYTES:
            raise asyncssh.SFTPBadMessage("a packet is longer than 256 KiB")
        return SSHPacket(await self._reader.readexactly(length))


def _plain_file(entry: asyncssh.SFTPName) -> RemoteFile | None:
    """Return what a listing has as a file, None for anything else and for names that are not plain UTF-8."""
    try:
        name = entry.filename.decode() if isinstance(entry.filename, bytes) else entry.filename
    except UnicodeDecodeError:
        return None
    size = entry.attrs.size
    if entry.attrs.type != asyncssh.FILEXFER_TYPE_REGULAR or size is None or size > MAX_FILE_BYTES:
        return None
    return RemoteFile(name, size) if is_plain(name) else None
