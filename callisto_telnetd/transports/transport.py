"""Files to and from a target, whichever way leads there.

An upload travels under a temporary name, ``NAME.part-`` and 16 digits, is read back whole, compared by size and
SHA-256, and only then given its name: the final name is never partial, wherever the connection is cut. Reading back
doubles the traffic; nothing less proves what the server has kept, and a checksum command, where a server has one, says
what it has received. A name that is taken is never written over. Parts that earlier tries of the same name have left
are removed; those of other names are left to whoever knows whose they are (:func:`wire.parted_name`).
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from callisto_telnetd.errors import (
    LoginDeniedError,
    NameTakenError,
    NotListedError,
    TargetFolderError,
    TransferError,
    TransferInterruptedError,
    UsageError,
    quoted,
)
from callisto_telnetd.secret_text import composed
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.local_files import Head, Incoming, Moved, Outgoing, create, reading
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.wire import (
    Patience,
    RemoteFile,
    Tell,
    Wire,
    is_own_name,
    is_plain,
    part_name,
    parted_name,
    tidying_s,
    within,
)
from callisto_telnetd.work import in_thread

SENDING, CHECKING, FETCHING = "Sending", "Reading back", "Fetching"
"""The steps that are told of."""

_WIRES = {"sftp": "sftp", "ftps": "ftp", "ftp": "ftp", "file": "folder"}
"""Which module knows the way; imported when it is first gone, for asyncssh and aioftp take a third of a second."""

_OpenWire = Callable[[Target, Credentials, Patience], AbstractAsyncContextManager[Wire]]


class Transport(Protocol):
    """A target that is open: what callers may ask of it. One operation at a time."""

    async def list(self) -> list[RemoteFile]:
        """Return the regular files there that have plain names, in the order of their names."""
        ...

    async def upload(self, local: Path, name: str, told: Tell) -> Moved:
        """Put a file there under a new name, checked; see the head of this module."""
        ...

    async def download(self, name: str, local: Path, most_bytes: int, told: Tell, head: Head | None = None) -> Moved:
        """Get a file into a new one here (mode 0600), which is removed where that fails."""
        ...

    async def delete(self, name: str) -> None:
        """Remove a file there."""
        ...


def open_transport(
    target: Target, credentials: Credentials, patience: Patience | None = None
) -> AbstractAsyncContextManager[Transport]:
    """Return a context manager that connects, logs in and finds the folder, and closes at its end.

    Raises:
        HostKeyUnknownError: SFTP without a pinned host key; has the fingerprint, and the line to pin.
        HostKeyChangedError: SFTP, and the server shows another key.
        CertificateError: FTPS, and the certificate is not to be trusted.
        LoginDeniedError: user, password or key are not taken.
        TargetFolderError: no such folder.
        TransferInterruptedError: no connection, or no answer in time.
        TransferError: anything else that is wrong with the server, or with the files of the credentials.
    """
    return _open(target, credentials, patience or Patience())


@asynccontextmanager
async def _open(target: Target, credentials: Credentials, patience: Patience) -> AsyncIterator[Transport]:
    module = await asyncio.to_thread(importlib.import_module, f"{__package__}.{_WIRES[target.scheme]}")
    open_wire: _OpenWire = module.open_wire
    async with AsyncExitStack() as stack:
        wire = await _entered(stack, lambda each: open_wire(target, each, patience), credentials)
        yield WiredTransport(wire, target, patience)


async def _entered(
    stack: AsyncExitStack, opened: Callable[[Credentials], AbstractAsyncContextManager[Wire]], credentials: Credentials
) -> Wire:
    """Log in with the password composed; where that is refused, and it was typed in another spelling, with that one."""
    password = credentials.password
    if password is not None and (wanted := composed(password.get_secret_value())) != password.get_secret_value():
        with suppress(LoginDeniedError):
            return await stack.enter_async_context(opened(replace(credentials, password=SecretStr(wanted))))
    return await stack.enter_async_context(opened(credentials))


class WiredTransport:
    """The one :class:`Transport` there is, over any :class:`Wire`."""

    def __init__(self, wire: Wire, target: Target, patience: Patience) -> None:
        self._wire = wire
        self._place = target.place
        self._patience = patience

    async def list(self) -> list[RemoteFile]:
        """Return the regular files there that have plain names, in the order of their names.

        Raises:
            TargetFolderError: no such folder, or too much in it.
            TransferError: the server does not say.
        """
        async with self._whole("listing"):
            return sorted(await self._wire.files(), key=lambda file: file.name)

    async def upload(self, local: Path, name: str, told: Tell) -> Moved:
        """Put a file there under a new name; it is there whole, or it is not.

        A name that is taken by the very same content counts as done: a connection that was lost after the renaming
        leaves just that.

        Raises:
            NameTakenError: there is another file of that name; it was not touched.
            NotListedError: it is there whole, but nobody could find it again.
            NoRoomError, NotPermittedError, TransferError: refused.
            TransferInterruptedError: it may work another time.
        """
        if not is_own_name(name):
            raise UsageError(
                f"{quoted(name)} cannot be sent: a name has letters, digits, . _ - and at most 200 of them"
            )
        with ExitStack() as opened:
            source = await in_thread(opened.enter_context, reading(local))
            async with self._whole("upload"):
                present = await self._wire.files()
                if any(file.name == name for file in present):
                    return await self._compare(source, name, told)
                for file in present:
                    if parted_name(file.name) == name:
                        await self._wire.delete(file.name)
                moved = await self._put(source, name, told)
                if all(file.name != name for file in await self._wire.files()):
                    raise NotListedError(f"{self._place} takes files, but does not list them: {name} is there unseen")
                return moved

    async def download(self, name: str, local: Path, most_bytes: int, told: Tell, head: Head | None = None) -> Moved:
        """Get a file into a new one here (mode 0600), synced; where that fails, the new file is removed.

        Args:
            name: as :meth:`list` gives it.
            local: must not exist.
            most_bytes: what is larger, or becomes so on its way, is refused.
            told: is told of the bytes that are here.
            head: how many of its first bytes decide whether the rest is wanted, and who judges them: what that raises
                ends the download, with nothing written.

        Raises:
            TransferError: no such file, too large, refused, or this disk cannot take it.
            TransferInterruptedError: it may work another time.
        """
        async with self._whole("download"):
            size = await self._size_of(name)
            if size > most_bytes:
                raise TransferError(f"{quoted(name)} has {size:,} bytes, and there is room for {most_bytes:,} here")
            descriptor = create(local)
            try:
                moved = await self._fetch(name, Incoming(local, descriptor, head), size, told)
                await in_thread(lambda: os.fsync(descriptor))
            except BaseException:
                local.unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)
            return moved

    async def delete(self, name: str) -> None:
        """Remove a file there.

        Raises:
            TransferError: there is none of that name, or it may not be removed.
        """
        if not is_plain(name):
            raise UsageError(f"{quoted(name)} is not the name of a file at a target")
        async with self._whole("deletion"):
            await self._wire.delete(name)

    async def _put(self, source: Outgoing, name: str, told: Tell) -> Moved:
        part = part_name(name, secrets.token_hex(8))
        try:
            told(SENDING, 0, source.size)
            await self._wire.write(
                part, lambda: source.next(lambda done: told(SENDING, done, source.size)), source.size
            )
            moved = source.moved()
            found = await self._read_back(part, moved.size, told)
            if found != moved:
                kept = f"{found.size:,} bytes that are not the {moved.size:,} that were sent"
                raise TransferInterruptedError(f"{self._place} has kept {kept}")  # noqa: TRY301 - it is tidied up after
            await self._wire.rename(part, name)
        except BaseException as error:
            with suppress(TransferError, TimeoutError):  # the reason counts; a part that stays is removed next time
                async with asyncio.timeout(tidying_s(self._patience, error)):
                    await self._wire.delete(part)
            raise
        return moved

    async def _compare(self, source: Outgoing, name: str, told: Tell) -> Moved:
        while await source.next(lambda _done: None):
            pass
        moved = source.moved()
        if await self._read_back(name, moved.size, told) != moved:
            raise NameTakenError(f"{self._place} has another {quoted(name)} already; it was not touched")
        return moved

    async def _read_back(self, name: str, size: int, told: Tell) -> Moved:
        """Return what the server has under a name; of what is longer than ``size``, only that it is."""
        digest, done = hashlib.sha256(), 0

        async def take(block: bytes) -> None:
            nonlocal done
            done += len(block)
            if done > size:
                raise _TooLongError(f"{self._place} sends more than there should be")
            digest.update(block)
            told(CHECKING, done, size)

        told(CHECKING, 0, size)
        try:
            await self._wire.read(name, take)
        except _TooLongError:
            return Moved(done, "")
        return Moved(done, digest.hexdigest())

    async def _size_of(self, name: str) -> int:
        for file in await self._wire.files():
            if file.name == name:
                return file.size
        raise TargetFolderError(f"{self._place} has no file {quoted(name)} in that folder")

    async def _fetch(self, name: str, landing: Incoming, size: int, told: Tell) -> Moved:
        done = 0

        async def take(block: bytes) -> None:
            nonlocal done
            done += len(block)
            if done > size:
                raise _TooLongError(f"{quoted(name)} has grown while it was fetched")
            await landing.take(block)
            told(FETCHING, done, size)

        told(FETCHING, 0, size)
        await self._wire.read(name, take)
        if done != size:
            raise TransferInterruptedError(f"{self._place} has sent {done:,} of the {size:,} bytes of {quoted(name)}")
        return Moved(done, await landing.end())

    def _whole(self, doing: str) -> AbstractAsyncContextManager[None]:
        return within(self._patience.whole_s, self._place, doing)


class _TooLongError(TransferError):
    """More came than there should be."""
