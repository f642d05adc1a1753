"""SFTP (draft-ietf-secsh-filexfer-02, version 3) through asyncssh.

Rules:

* Requests are sent one by one, and several are on their way: asyncssh's own parallel reader leaves tasks behind whose
  errors nobody takes, and each would be an error in the log.
* A type of file in a listing is what its mode says, else the line as ``ls -l`` has it, else what the server says when
  asked for the one; where nothing tells, it is a file (draft-ietf-secsh-filexfer-02, section 5, promises no type).
* A packet of more than 256 KiB is refused: servers have no reason for it, and a listing of 4 MiB, which asyncssh would
  take, becomes some hundred MiB of objects.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TypeVar, cast

import asyncssh
from asyncssh.constants import (
    FILEXFER_TYPE_DIRECTORY,
    FILEXFER_TYPE_REGULAR,
    FILEXFER_TYPE_SPECIAL,
    FILEXFER_TYPE_SYMLINK,
    FILEXFER_TYPE_UNKNOWN,
    FXP_NAME,
)
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
from callisto_telnetd.transports.listing import too_much
from callisto_telnetd.transports.ssh import open_ssh, translated
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.wire import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    MAX_LISTING_BYTES,
    Patience,
    RemoteFile,
    Sink,
    Source,
    name_within,
    within,
)

_SFTP_VERSION = 3
_REQUEST_BYTES = 32 * 1024
"""Of one read or write: what every server takes (draft-ietf-secsh-filexfer-02, section 3)."""
_MAX_PACKET_BYTES = 256 * 1024
_NAMES = bytes([FXP_NAME])
_MAX_NAMES_A_PACKET = 2048
"""OpenSSH sends 100. Each becomes objects of most of a KiB before anybody can count them."""
_EMPTY_COUNTS_AS = 100
"""Of names, an answer of a listing that has none."""
_OWNER_ONLY = asyncssh.SFTPAttrs(permissions=0o600)
_WINDOW = 32
"""Requests on their way at once: 1 MiB, which fills 20 MB/s at a round trip of 50 ms."""
_MAX_NAMES_ASKED = 2000
"""Of a server whose listings tell no types or sizes: a round trip a name."""
_LISTED = re.compile(rb"([-dlbcps])[-rwxsStT]{9}")
"""The head of a line of ``ls -l``."""
_KINDS = dict.fromkeys((b"b", b"c", b"p", b"s"), FILEXFER_TYPE_SPECIAL) | {
    b"-": FILEXFER_TYPE_REGULAR,
    b"d": FILEXFER_TYPE_DIRECTORY,
    b"l": FILEXFER_TYPE_SYMLINK,
}
_MAY_BE_FILES = (FILEXFER_TYPE_REGULAR, FILEXFER_TYPE_UNKNOWN)
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
            yield SftpWire(channel, target, patience)
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])


class SftpWire:
    """A folder behind SFTP, as a :class:`~callisto_telnetd.transports.wire.Wire`."""

    def __init__(self, channel: _Channel, target: Target, patience: Patience) -> None:
        self._channel = channel
        self._client = asyncssh.SFTPClient(channel, None, "strict")
        self._place = target.place
        self._folder = (target.folder or ".").encode()
        self._patience = patience

    async def files(self) -> list[RemoteFile]:
        """Return the regular files with plain names."""
        found: list[RemoteFile] = []
        unsure: list[tuple[str, int | None]] = []
        async with translated(self._place, "listing", folder=True):
            async with self._step("listing"):
                handle = await self._channel.opendir(self._folder)
            seconds = self._patience.brief_s
            try:
                await self._list(handle, found, unsure)
                seconds = self._patience.tidy_s
            finally:
                with suppress(asyncssh.Error, OSError, TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._channel.close(handle)
            return found + await self._look_at(unsure)

    async def _list(self, handle: bytes, found: list[RemoteFile], unsure: list[tuple[str, int | None]]) -> None:
        """Gather the files of a folder that is open, and apart the entries that do not say what they are, or how large.

        Raises:
            TargetFolderError: the listing goes beyond the bounds.
        """
        count, before, at_end = 0, self._channel.received_bytes, False
        while not at_end:
            try:
                async with self._step("listing"):
                    entries, at_end = await self._channel.readdir(handle)
            except asyncssh.SFTPEOFError:
                return
            count += len(entries) or _EMPTY_COUNTS_AS  # or it could go on for ever
            if count > MAX_ENTRIES or self._channel.received_bytes - before > MAX_LISTING_BYTES:
                raise too_much(self._place)
            for entry in entries:
                if (name := self._name_of(entry)) is None:
                    continue
                kind, size = _kind_of(entry), entry.attrs.size
                if kind == FILEXFER_TYPE_UNKNOWN or size is None:
                    unsure.append((name, size))
                elif kind == FILEXFER_TYPE_REGULAR and size <= MAX_FILE_BYTES:
                    found.append(RemoteFile(name, size))

    async def _look_at(self, unsure: list[tuple[str, int | None]]) -> list[RemoteFile]:
        """Return the files among entries of a listing that did not say what they are, or how large."""
        if len(unsure) > _MAX_NAMES_ASKED:
            raise TargetFolderError(f"the folder at {self._place} has more than {_MAX_NAMES_ASKED:,} entries")
        found, tells = [], True
        for name, listed in unsure:
            kind, size = FILEXFER_TYPE_UNKNOWN, listed
            if tells or size is None:
                try:
                    async with self._step("listing"):
                        known = await self._client.lstat(self._path(name))
                except asyncssh.SFTPNoSuchFile:  # gone since the listing
                    continue
                except asyncssh.SFTPError:
                    tells = False
                else:
                    kind, size = known.type, size if known.size is None else known.size
                    tells = kind != FILEXFER_TYPE_UNKNOWN
            if kind in _MAY_BE_FILES and size is not None and size <= MAX_FILE_BYTES:
                found.append(RemoteFile(name, size))
        return found

    def _name_of(self, entry: asyncssh.SFTPName) -> str | None:
        """Return the plain name of an entry, None for one that is not plain UTF-8."""
        try:
            path = entry.filename.decode() if isinstance(entry.filename, bytes) else entry.filename
        except UnicodeDecodeError:
            return None
        return name_within(path, {self._folder.decode().rstrip("/")})

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
                await self._let_go(file, self._patience.brief_s)

    async def read(self, name: str, sink: Sink) -> None:
        """Hand all of a file to ``sink``; several reads are on their way at once."""
        pending: deque[asyncio.Task[bytes]] = deque()
        async with translated(self._place, "reading"):
            async with self._step("opening a file"):
                file = await self._client.open(self._path(name), "rb", block_size=0, encoding=None)
            seconds = self._patience.brief_s
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
                seconds = self._patience.tidy_s
            finally:
                await self._drop(pending)
                await self._let_go(file, seconds)

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

    async def _let_go(self, file: asyncssh.SFTPClientFile, seconds: float) -> None:
        """Close a file that nothing depends on any more; closing twice does nothing."""
        with suppress(asyncssh.Error, OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                await file.close()

    def _step(self, doing: str) -> AbstractAsyncContextManager[None]:
        return within(self._patience.step_s, self._place, doing)


class _Channel(SFTPClientHandler):
    """asyncssh's side of an SFTP session, with smaller bounds on packets, and a count of what they hold."""

    received_bytes = 0

    async def recv_packet(self) -> SSHPacket:
        """Receive one packet."""
        if self._reader is None:
            raise EOFError
        length = int.from_bytes(await self._reader.readexactly(4), "big")
        if length > _MAX_PACKET_BYTES:
            raise asyncssh.SFTPBadMessage("a packet is longer than 256 KiB")
        packet = await self._reader.readexactly(length)
        if packet[:1] == _NAMES and int.from_bytes(packet[5:9], "big") > _MAX_NAMES_A_PACKET:
            raise asyncssh.SFTPBadMessage(f"a packet has more than {_MAX_NAMES_A_PACKET:,} names")
        self.received_bytes += length
        return SSHPacket(packet)


def _kind_of(entry: asyncssh.SFTPName) -> int:
    """Return what an entry says that it is."""
    if entry.attrs.type != FILEXFER_TYPE_UNKNOWN:
        return entry.attrs.type
    line = entry.longname if isinstance(entry.longname, bytes) else entry.longname.encode()
    letter = _LISTED.match(line)
    return _KINDS[letter[1]] if letter else FILEXFER_TYPE_UNKNOWN
