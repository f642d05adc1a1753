"""FTP with TLS (``ftps``: RFC 4217, explicit), and plain FTP where the owner has allowed it by name."""

from __future__ import annotations

import asyncio
import re
import ssl
from asyncio import StreamReader
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TypeVar

import aioftp

from callisto_telnetd.errors import (
    LoginDeniedError,
    NameTakenError,
    NoRoomError,
    NotPermittedError,
    TargetFolderError,
    TransferError,
    TransferInterruptedError,
    quoted,
)
from callisto_telnetd.transports.certificates import open_context, refusal
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.ftp_client import FtpClient, GarbageError, PassiveRefusedError
from callisto_telnetd.transports.listing import ListingLines
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.wire import (
    BLOCK_BYTES,
    MAX_FILE_BYTES,
    Patience,
    RemoteFile,
    Sink,
    Source,
    is_plain,
    name_within,
    within,
)

_MAX_NAMES_ASKED = 2000
"""Of a server without MLSD, which must be asked for each size: a round trip a name."""
_PASSING_CODES = frozenset({"120", "421", "425", "426", "450", "451"})
_NO_ROOM_CODES = frozenset({"452", "552"})
_REFUSED_CODES = frozenset({"550", "553"})
_TLS_REFUSED_CODE = "522"
"""RFC 4217, section 8: a data connection's; vsftpd says it of a session that does not continue the control's."""
_NO_FILE_CODES = frozenset({"450", "550", "553"})
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_IS_FILE = re.compile(r"(?:^|;)type=file(?:;|$)", re.ASCII | re.IGNORECASE)
_SIZE = re.compile(r"(?:^|;)size=([^;]*)", re.ASCII | re.IGNORECASE)
_LOGIN_CODES = frozenset({"430", "530", "532"})
_T = TypeVar("_T")


@asynccontextmanager
async def open_wire(target: Target, credentials: Credentials, patience: Patience) -> AsyncIterator[FtpWire]:
    """Connect, begin TLS where it is ``ftps``, log in, and go to the folder."""
    context = await open_context(credentials.ca_file) if target.scheme == "ftps" else None
    wire = FtpWire(target, credentials, context, patience)
    try:
        await wire.open()
        yield wire
    except BaseException:
        wire.cut()  # who is refused is not waited for
        raise
    await wire.close()


class FtpWire:
    """A folder behind FTP, as a :class:`~callisto_telnetd.transports.wire.Wire`."""

    def __init__(
        self, target: Target, credentials: Credentials, context: ssl.SSLContext | None, patience: Patience
    ) -> None:
        self._target = target
        self._place = target.place
        self._credentials = credentials
        self._context = context
        self._patience = patience
        self._client = FtpClient(target.place, patience)
        self._opened = 0.0

    async def open(self) -> None:
        """Connect, log in, and go to the folder."""
        target, patience, context = self._target, self._patience, self._context
        password = "" if self._credentials.password is None else self._credentials.password.get_secret_value()
        if not password.isprintable():
            raise LoginDeniedError("a password for FTP has printable characters only")
        self._opened = asyncio.get_running_loop().time()
        async with within(patience.connect_s + patience.login_s, self._place, "connecting and logging in"):
            async with self._translated("connecting"):
                await self._client.connect(target.host, target.port)
            if context is not None:
                async with self._translated("beginning TLS"):
                    await self._client.protect(context)
            async with self._translated("logging in"):
                await self._client.login(target.user, password)
            async with self._translated("preparing"):
                await self._client.command("TYPE I", "200")
            if target.folder:
                async with self._translated("going to the folder", folder=True):
                    await self._client.command(f"CWD {target.folder}", "2xx")

    async def close(self) -> None:
        """Say good-bye, briefly, and close."""
        try:
            with suppress(Exception):  # nothing that matters can fail here
                async with asyncio.timeout(self._patience.tidy_s):
                    await self._client.command("QUIT", "2xx")
        finally:
            self.cut()

    def cut(self) -> None:
        """Close without a word."""
        self._client.cut()

    async def _renew(self) -> None:
        """Log in anew where the TLS session is too old to be continued by another data connection."""
        if self._context is None or asyncio.get_running_loop().time() - self._opened <= self._patience.session_s:
            return
        await self.close()
        self._client = FtpClient(self._place, self._patience)
        await self.open()

    async def files(self) -> list[RemoteFile]:
        """Return the regular files with plain names: by MLSD (RFC 3659), else by NLST and SIZE."""
        await self._renew()
        async with self._translated("listing"):
            try:
                folders = self._folders()
                return await self._listing("MLSD", lambda line: _parse_facts(line, folders))
            except aioftp.StatusCodeError as error:
                if not _is_unwilling(error.received_codes[-1]):
                    raise
                return await self._ask_sizes(error)

    async def write(self, name: str, source: Source, size: int) -> None:
        """Make a file of what ``source`` gives. FTP knows neither free room nor syncing: the server's word counts."""
        await self._renew()
        async with self._translated("sending"), self._client.transfer(f"STOR {name}") as (_, writer):
            while block := await source():
                writer.write(block)
                async with within(self._patience.step_s, self._place, "sending"):
                    await writer.drain()

    async def read(self, name: str, sink: Sink) -> None:
        """Hand all of a file to ``sink``."""
        await self._renew()
        async with (
            self._translated("reading"),
            self._client.transfer(f"RETR {name}") as (reader, _),
            aclosing(self._pieces(reader)) as pieces,
        ):
            async for piece in pieces:
                await sink(piece)

    async def rename(self, old: str, new: str) -> None:
        """Give a file its name.

        FTP's rename takes a name that is taken on most servers, so it is looked for right before; FTP has no way to do
        both at once.
        """
        async with self._translated("renaming"):
            if await self._size(new) is not None:
                raise NameTakenError(f"{self._place} has another {quoted(new)} already; it was not touched")
            await self._client.rename(old, new)

    async def delete(self, name: str) -> None:
        """Remove a file."""
        async with self._translated("deleting"):
            await self._client.command(f"DELE {name}", "2xx")

    async def _listing(self, command: str, keep: Callable[[str], _T | None]) -> list[_T]:
        """Return what ``keep`` makes of the lines of a listing; what is none of ours is dropped at once.

        Raises:
            TargetFolderError: it goes beyond the bounds.
        """
        found: list[_T] = []
        lines = ListingLines(self._place)
        async with self._client.transfer(command) as (reader, _), aclosing(self._pieces(reader)) as pieces:
            async for piece in pieces:
                found += filter(None, map(keep, lines.feed(piece)))
            found += filter(None, map(keep, lines.end()))
        return found

    async def _ask_sizes(self, refusal: aioftp.StatusCodeError) -> list[RemoteFile]:
        """Return the files by NLST and SIZE, where MLSD was refused; names may have the folder's path (RFC 959)."""
        try:
            lines = await self._listing("NLST", _plain_path)
        except aioftp.StatusCodeError as error:
            if not refusal.received_codes[-1].matches("50x"):
                raise refusal from None
            if error.received_codes[-1] not in ("450", "550"):  # how some say that a folder is empty
                raise
            return []
        folders = self._folders()
        if any("/" in line for line in lines):
            folders |= await self._working_folder()
        names = list(dict.fromkeys(name for line in lines if (name := name_within(line, folders)) is not None))
        if len(names) > _MAX_NAMES_ASKED:
            raise TargetFolderError(f"the folder at {self._place} has more than {_MAX_NAMES_ASKED:,} entries")
        sizes = [(name, await self._size(name)) for name in names]
        return [RemoteFile(name, size) for name, size in sizes if size is not None]

    def _folders(self) -> set[str]:
        """Return what a path of the folder's own may begin with."""
        bare = self._target.folder.strip("/")
        return {bare, f"/{bare}", f"./{bare}"} if bare else {"", "/"}

    async def _working_folder(self) -> set[str]:
        """Return the folder's path as the server has it (PWD: RFC 959, appendix II), nothing where it does not say."""
        try:
            _, answer = await self._client.command("PWD", "257")
        except aioftp.StatusCodeError:
            return set()
        quoted_path = _QUOTED.match(answer[-1].lstrip())
        return {quoted_path[1].replace('""', '"').rstrip("/")} if quoted_path else set()

    async def _size(self, name: str) -> int | None:
        """Return the size of a file (SIZE, RFC 3659), None where there is none of that name."""
        try:
            _, answer = await self._client.command(f"SIZE {name}", "213")
        except aioftp.StatusCodeError as error:
            if error.received_codes[-1] not in _NO_FILE_CODES:
                raise
            return None
        return _parse_size(answer[-1])

    async def _pieces(self, reader: StreamReader) -> AsyncGenerator[bytes, None]:
        """Yield what comes as it comes, so that it is judged at once; whoever takes it closes this.

        Of each ``BLOCK_BYTES`` the server may keep us waiting for ``step_s``: one that drips has no progress.
        """
        loop = asyncio.get_running_loop()
        left_s, left_bytes = self._patience.step_s, BLOCK_BYTES
        while True:
            begun = loop.time()
            async with within(self._patience.step_s, self._place, "reading"), asyncio.timeout(left_s):
                piece = await reader.read(BLOCK_BYTES)
            if not piece:
                return
            left_s, left_bytes = left_s - (loop.time() - begun), left_bytes - len(piece)
            if left_bytes <= 0:
                left_s, left_bytes = self._patience.step_s, BLOCK_BYTES
            yield piece

    @asynccontextmanager
    async def _translated(self, doing: str, *, folder: bool = False) -> AsyncIterator[None]:
        """Raise our errors for aioftp's, TLS's and the system's."""
        place = self._place
        try:
            yield
        except aioftp.StatusCodeError as error:
            raise self._of_answer(error, doing, folder=folder) from None
        except PassiveRefusedError as error:
            raise self._of_answer(error.answer, doing, passive=True) from None
        except GarbageError as error:
            raise TransferError(f"{place} answers what is no FTP: {quoted(str(error))} ({doing})") from None
        except ssl.SSLCertVerificationError as error:
            raise refusal(place, self._target.host, error) from None
        except TimeoutError:
            raise TransferInterruptedError(f"{place} has not answered in time ({doing})") from None
        except ssl.SSLError as error:
            if doing == "beginning TLS" and not isinstance(error, ssl.SSLEOFError):
                raise TransferError(f"{place} speaks no TLS of today ({error.reason})") from None
            if error.reason == "WRONG_VERSION_NUMBER":  # vsftpd's way to say what its settings lack: 500 OOPS
                raise TransferError(f"{place} has left TLS for clear text ({doing}); its log says why") from None
            raise TransferInterruptedError(f"{place}: TLS ended ({error.reason}, {doing})") from None
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or "the connection was lost"
            raise TransferInterruptedError(f"{place}: {reason} ({doing})") from None

    def _of_answer(
        self, error: aioftp.StatusCodeError, doing: str, *, folder: bool = False, passive: bool = False
    ) -> TransferError:
        """Return our error for a server's answer (RFC 959, section 4.2.2)."""
        code, text = str(error.received_codes[-1]), error.info[-1] if error.info else ""
        reason = f"{self._place}: {code} {quoted(text)} ({doing})"
        if code in _PASSING_CODES:
            return TransferInterruptedError(reason)
        kind: type[TransferError] = TransferError
        advice = ""
        if passive:
            advice = "; it opens no data connection, neither by EPSV nor by PASV"
        elif code in _NO_ROOM_CODES:
            kind, advice = NoRoomError, "; make room there"
        elif code == _TLS_REFUSED_CODE:
            advice = "; have the server take data connections of other TLS sessions"
        elif doing == "beginning TLS":
            advice = "; it offers no TLS, and nothing secret is sent without"
        elif folder:
            kind, advice = TargetFolderError, "; make the folder, or name another"
        elif code in _LOGIN_CODES or doing == "logging in":
            kind, advice = LoginDeniedError, "; check user and password, there and here"
        elif code in _REFUSED_CODES:
            kind, advice = NotPermittedError, "; is it there, and may the user do that?"
        return kind(reason + advice)


def _is_unwilling(code: str) -> bool:
    """Whether an answer to MLSD may be meant for that command alone, so that NLST is worth a try."""
    return code.startswith("5") and code not in _LOGIN_CODES | {_TLS_REFUSED_CODE}


def _plain_path(line: str) -> str | None:
    """Return a line of NLST, None for one that does not end in a plain name."""
    return line if is_plain(line.rpartition("/")[2]) else None


def _parse_facts(line: str, folders: Container[str]) -> RemoteFile | None:
    """Return the file of a line of MLSD, ``type=file;size=12; name`` (RFC 3659, section 7), None for anything else."""
    facts, space, path = line.partition(" ")
    name, size = name_within(path, folders), _SIZE.search(facts)
    if not space or size is None or name is None or not _IS_FILE.search(facts):
        return None
    size_bytes = _parse_size(size[1])
    return None if size_bytes is None else RemoteFile(name, size_bytes)


def _parse_size(text: str) -> int | None:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 16 or int(digits) > MAX_FILE_BYTES:
        return None
    return int(digits)
