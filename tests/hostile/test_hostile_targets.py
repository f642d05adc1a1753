"""Targets that an enemy has taken over, or stands before: what they answer costs little memory, and is refused at once.

The servers speak just enough to be logged in to, send what is hostile, and then never say a word again.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import tracemalloc
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import repeat
from pathlib import Path

import asyncssh
import pytest
from pydantic import SecretStr

from callisto_telnetd.db.backup.folder import archives
from callisto_telnetd.db.backup.manifest import DATABASE
from callisto_telnetd.errors import BackupError, TargetFolderError, TransferError
from callisto_telnetd.maintenance.fetching import fetch
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.transport import Transport, open_transport
from callisto_telnetd.transports.wire import Patience
from callisto_telnetd.work import end
from tests.db.archives import Forger
from tests.hostile.at_once import END_S, await_at_once
from tests.transports.authorities import Authority
from tests.transports.scripts import LOGGED_IN
from tests.transports.sites import (
    PASSWORD,
    SERVER_ADDRESS,
    SHORT,
    USER,
    key_line,
    nothing_told,
    scripted_server,
    server_authority,
)

MOST_BYTES = 16 << 20
LONG_LINE = b"type=file;size=1; \xf0\x9f\x98\x80" + b"a" * (256 << 10) + b"\r\n"
WORDY_LINE = b"type=file;size=1;" + b"x=y;" * 900 + b" a\r\n"
ENDLESS = 512
"""Far beyond every bound: 128 MiB of lines of 256 KiB."""
LISTINGS: dict[str, Callable[[], Iterator[bytes]]] = {
    "lines of 256 KiB with an emoji in each": lambda: repeat(LONG_LINE, ENDLESS),
    "a line without an end": lambda: repeat(b"a" * (64 << 10), ENDLESS),
    "one line that is too long, and silence": lambda: iter([b"type=file;size=1; " + b"a" * 5000]),
    "wordy lines": lambda: repeat(WORDY_LINE, 100_000),
    "lines that are none of ours": lambda: repeat(b"\xff" * 100 + b"\n", 100_000),
    "empty lines": lambda: repeat(b"\n" * 1000, 1000),
    "files without an end": lambda: (b"type=file;size=1; \xf0\x9f\x98\x80%07d\n" % number for number in range(100_000)),
}


class Growth:
    """How much memory is taken at most while a block runs."""

    bytes = 0


@asynccontextmanager
async def measured() -> AsyncIterator[Growth]:
    """Measure the most that Python's objects take in a block."""
    growth = Growth()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield growth
    finally:
        growth.bytes = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()


class HostileFtp:
    """A server of FTP that lets everybody in, sends the pieces over the next data connection, and is silent then."""

    def __init__(
        self, pieces: Callable[[], Iterator[bytes]], listing: bytes | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        self.sent_at = 0.0
        """When the last piece that was taken was sent."""
        self._pieces = pieces
        self._listing = listing
        self._context = context

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Greet, and answer until the hostile data begin."""
        waiting: asyncio.Queue[StreamWriter] = asyncio.Queue()
        opened: list[StreamWriter] = []

        def took(_reader: StreamReader, data: StreamWriter) -> None:
            opened.append(data)
            waiting.put_nowait(data)

        door = await asyncio.start_server(took, SERVER_ADDRESS, 0)
        answers = {**LOGGED_IN, "EPSV": b"229 (|||%d|)\r\n" % door.sockets[0].getsockname()[1]}
        writer.write(b"220 ready\r\n")
        try:
            while line := await reader.readline():
                verb = line.decode().split()[0]
                if verb in ("MLSD", "NLST", "RETR"):
                    writer.write(b"150 here it comes\r\n")
                    data = await waiting.get()
                    if self._context is not None:
                        await data.start_tls(self._context)
                    if verb == "RETR" or self._listing is None:
                        await self._send(data)
                        await reader.read()
                        return
                    data.write(self._listing)
                    data.close()
                    writer.write(b"226 done\r\n")
                elif verb == "STOR":
                    writer.write(b"150 go on\r\n")
                    await reader.read()
                    return
                elif verb == "AUTH":
                    writer.write(b"234 begin\r\n")
                    await writer.start_tls(self._context or ssl.create_default_context())
                else:
                    writer.write(answers.get(verb, b"200 fine\r\n"))
        finally:
            door.close()
            for data in opened:
                data.transport.abort()

    async def _send(self, data: StreamWriter) -> None:
        with suppress(OSError):
            for piece in self._pieces():
                data.write(piece)
                await data.drain()
                self.sent_at = time.monotonic()


@asynccontextmanager
async def hostile_ftp(server: HostileFtp, authority: Authority | None = None) -> AsyncIterator[Transport]:
    """Run the server, and log in to it."""
    async with scripted_server(server) as port:
        target = Target("ftp" if authority is None else "ftps", USER, SERVER_ADDRESS, port, "/")
        credentials = Credentials(ca_file=None if authority is None else authority.ca_file)
        async with open_transport(target, credentials, SHORT) as transport:
            yield transport


@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_listing_of_ftp_costs_little_and_is_refused_at_once(listing: str) -> None:
    """Whatever stands in a listing, the server keeps no more than it can use, and waits for no further answer."""

    async def attempt() -> float:
        server = HostileFtp(LISTINGS[listing])

        with pytest.raises(TargetFolderError, match="entries, or endless names"):
            async with hostile_ftp(server) as transport:
                await transport.list()
        return time.monotonic() - server.sent_at

    await await_at_once(attempt)  # without the measure of memory, which makes all of it slower
    async with measured() as growth:
        await attempt()
    assert growth.bytes < MOST_BYTES


async def test_a_listing_of_ftps_has_the_same_bounds(tmp_path: Path) -> None:
    """What comes through TLS is held to them too."""

    async def attempt() -> float:
        authority = server_authority(tmp_path)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(authority.server_file)
        server = HostileFtp(LISTINGS["lines of 256 KiB with an emoji in each"], context=context)

        with pytest.raises(TargetFolderError, match="endless names"):
            async with hostile_ftp(server, authority) as transport:
                await transport.list()
        return time.monotonic() - server.sent_at

    await await_at_once(attempt)  # without the measure of memory, which makes all of it slower
    async with measured() as growth:
        await attempt()
    assert growth.bytes < MOST_BYTES


async def test_more_than_was_announced_is_refused_at_once(tmp_path: Path) -> None:
    """The byte too many ends a download, whether or not another one ever comes; nothing of it stays."""

    async def attempt() -> float:
        server = HostileFtp(lambda: iter([b"1234"]), b"type=file;size=3; a.zip\r\n")

        with pytest.raises(TransferError, match="has grown while it was fetched"):
            async with hostile_ftp(server) as transport:
                await transport.download("a.zip", tmp_path / "back", 1000, nothing_told)

        took = time.monotonic() - server.sent_at
        assert list(tmp_path.iterdir()) == []
        return took

    await await_at_once(attempt)


def number(value: int) -> bytes:
    """Return a number as SSH packs it."""
    return value.to_bytes(4, "big")


def text(value: bytes) -> bytes:
    """Return a text as SSH packs it."""
    return number(len(value)) + value


SIZE = 1
EXTENDED = 0x80000000
ATTRS = number(SIZE) + (7).to_bytes(8, "big")
UNSURE = number(EXTENDED) + number(1) + text(b"x" * 200_000) + text(b"")
"""Attributes that tell neither kind nor size, and bring a lot along."""


def name(filename: bytes, longname: bytes = b"-rw------- 1", attrs: bytes = ATTRS) -> bytes:
    """Return an entry of a listing (draft-ietf-secsh-filexfer-02, section 7)."""
    return text(filename) + text(longname) + attrs


NAMES: dict[str, Callable[[], Iterator[list[bytes]]]] = {
    "long lines beside the names": lambda: repeat([name(b"a", b"-rw------- 1" + b"y" * 200_000)], ENDLESS),
    "attributes that are long and say nothing": lambda: repeat([name(b"a", b"?", UNSURE)], ENDLESS),
    "many names in a packet": lambda: repeat([name(b"", b"", number(0))] * 20_000, ENDLESS),
    "files without an end": lambda: repeat([name(b"\xf0\x9f\x98\x80" + b"a" * 240)] * 100, 1000),
    "answers without a name": lambda: repeat([], 100_000),
}


class HostileSftp(asyncssh.SSHServerSession[bytes]):
    """Answers each request for more of a listing by the next entries, and no other request."""

    def __init__(self, entries: Iterator[list[bytes]]) -> None:
        self.sent_at = 0.0
        self._entries = entries
        self._held = b""

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Keep the channel."""
        self._channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        """Begin, whatever is asked for."""
        return True

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Answer what has come whole."""
        self._held += data
        while len(self._held) >= 4 and len(self._held) >= 4 + (length := int.from_bytes(self._held[:4], "big")):
            packet, self._held = self._held[4 : 4 + length], self._held[4 + length :]
            kind, request = packet[0], packet[1:5]
            if kind == 1:  # INIT
                self._channel.write(text(b"\x02" + number(3)))
            elif kind == 11:  # OPENDIR
                self._channel.write(text(b"\x66" + request + text(b"handle")))
            elif kind == 12:  # READDIR
                names = next(self._entries)
                self._channel.write(text(b"\x68" + request + number(len(names)) + b"".join(names)))
                self.sent_at = time.monotonic()


@asynccontextmanager
async def hostile_sftp(session: HostileSftp, patience: Patience = SHORT) -> AsyncIterator[Transport]:
    """Run a server with one such session, and log in to it."""

    class Door(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._connection = conn

        def begin_auth(self, username: str) -> bool:
            return username != USER

        def session_requested(self) -> tuple[asyncssh.SSHServerChannel[bytes], HostileSftp]:
            return self._connection.create_server_channel(encoding=None), session

    key = asyncssh.generate_private_key("ssh-ed25519")
    async with await asyncssh.listen(SERVER_ADDRESS, 0, server_factory=Door, server_host_keys=[key]) as listener:
        target = Target("sftp", USER, SERVER_ADDRESS, listener.get_port(), "/")
        credentials = Credentials(password=SecretStr(PASSWORD), host_key=key_line(key))
        async with open_transport(target, credentials, patience) as transport:
            yield transport


@pytest.mark.parametrize("entries", NAMES)
async def test_a_listing_of_sftp_costs_little_and_is_refused_at_once(entries: str) -> None:
    """Lines, attributes and numbers of names have the bounds of a listing, too."""

    async def attempt() -> float:
        session = HostileSftp(NAMES[entries]())

        with pytest.raises(TransferError, match=r"entries, or endless names|more than 2,048 names"):
            async with hostile_sftp(session) as transport:
                await transport.list()
        return time.monotonic() - session.sent_at

    await await_at_once(attempt)  # without the measure of memory, which makes all of it slower
    async with measured() as growth:
        await attempt()
    assert growth.bytes < MOST_BYTES


@pytest.mark.parametrize("piece", [b"220-" + b"x" * 4000 + b"\r\n", b"x" * 65536, b"120 wait\r\n" * 1000])
async def test_an_answer_of_ftp_without_an_end_costs_little(piece: bytes) -> None:
    """Lines, and answers of many lines or of many answers, have their bounds before anybody has logged in."""

    async def attempt() -> float:

        async def greet(_reader: StreamReader, writer: StreamWriter) -> None:
            with suppress(OSError):
                for _ in range(ENDLESS):
                    writer.write(piece)
                    await writer.drain()

        async with scripted_server(greet) as port:
            begun = time.monotonic()
            with pytest.raises(TransferError, match="no FTP"):
                async with open_transport(Target("ftp", USER, SERVER_ADDRESS, port, "/"), Credentials(), SHORT):
                    pass
            return time.monotonic() - begun

    await await_at_once(attempt)  # without the measure of memory, which makes all of it slower
    async with measured() as growth:
        await attempt()
    assert growth.bytes < MOST_BYTES


@pytest.mark.parametrize(
    "piece",
    [b"banner\r\n" * 1000, b"x" * 65536, b"SSH-2.0-" + b"x" * 300 + b"\r\n", b"SSH-2.0-x\r\n" + b"\xff" * 65536],
)
async def test_a_banner_of_ssh_without_an_end_costs_little(piece: bytes) -> None:
    """Lines before the version, the version itself and packets have their bounds."""

    async def attempt() -> float:

        async def greet(_reader: StreamReader, writer: StreamWriter) -> None:
            with suppress(OSError):
                for _ in range(ENDLESS):
                    writer.write(piece)
                    await writer.drain()

        async with scripted_server(greet) as port:
            begun = time.monotonic()
            with pytest.raises(TransferError):
                async with open_transport(Target("sftp", USER, SERVER_ADDRESS, port, "/"), Credentials(), SHORT):
                    pass
            return time.monotonic() - begun

    await await_at_once(attempt)  # without the measure of memory, which makes all of it slower
    async with measured() as growth:
        await attempt()
    assert growth.bytes < MOST_BYTES


async def test_a_pipe_at_a_folder_is_no_file_to_read(tmp_path: Path) -> None:
    """What has taken a file's place since the listing is read only where it is a regular file."""
    os.mkfifo(tmp_path / "a.zip")

    async with open_transport(Target("file", "", "", 0, str(tmp_path)), Credentials(), SHORT) as transport:
        assert await transport.list() == []
        with pytest.raises(TransferError, match="no regular file"):
            await transport._wire.read("a.zip", lambda block: asyncio.sleep(0))  # type: ignore[attr-defined]


RUBBISH = {
    "five bytes": b"12345",
    "nothing": b"",
    "a page": b"<html>" * 100,
    "another ZIP file": b"PK\3\4" + bytes(26) + b"mimetype.json" + bytes(1000),
    "an archive without its end": Forger().add_manifest(b"a database").add(DATABASE, b"a database").end()[:-200],
}


@pytest.mark.parametrize("rubbish", RUBBISH)
async def test_rubbish_from_a_target_takes_no_name_here(rubbish: str, tmp_path: Path) -> None:
    """What is no backup is refused, is not listed, and does not keep the right one from being fetched."""
    there, here, name = tmp_path / "there", tmp_path / "here", "callisto-a-20261123-101500.zip"
    there.mkdir()
    here.mkdir()
    target = Target("file", "", "", 0, str(there))
    (there / name).write_bytes(RUBBISH[rubbish])

    with pytest.raises(BackupError, match=f"'{name}' at file://.* is no backup of Callisto's.* nothing of it was kept"):
        await fetch(here, target, Credentials(), name, lambda _progress: None)

    assert list(here.iterdir()) == []
    assert archives(here) == []
    Forger().add_manifest(b"a database").add(DATABASE, b"a database").write(there / name)
    await fetch(here, target, Credentials(), name, lambda _progress: None)
    assert [each.path.name for each in archives(here)] == [name]


async def test_rubbish_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    """A target that announces a gigabyte is not listened to once its beginning is none of a backup."""

    async def attempt() -> float:
        server = HostileFtp(lambda: iter([bytes(64)]), b"type=file;size=1073741824; a.zip\r\n")

        async with scripted_server(server) as port:
            target = Target("ftp", USER, SERVER_ADDRESS, port, "/")
            with pytest.raises(BackupError, match="is no backup"):
                await fetch(tmp_path, target, Credentials(), "a.zip", lambda _progress: None)

        took = time.monotonic() - server.sent_at
        assert list(tmp_path.iterdir()) == []
        return took

    await await_at_once(attempt)


class SilentSftp(HostileSftp):
    """Lists nothing, takes a new file, and never says what became of it."""

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Answer until the file is there."""
        packet = data[4:]
        kind, request = packet[0], packet[1:5]
        if kind in (12, 17):  # READDIR, STAT: the end of what there is, nothing known
            self._channel.write(text(b"\x65" + request + number(1 if kind == 12 else 2) + text(b"") + text(b"")))
        elif kind in (3, 4):  # OPEN, CLOSE
            answer = b"\x66" + request + text(b"file") if kind == 3 else b"\x65" + request + number(0) + text(b"") * 2
            self._channel.write(text(answer))
        elif kind == 200:  # EXTENDED: statvfs
            self._channel.write(text(b"\x65" + request + number(8) + text(b"") + text(b"")))
        else:
            super().data_received(data, datatype)


@asynccontextmanager
async def silent_target(scheme: str) -> AsyncIterator[Transport]:
    """Log in, with the patience that a server has, to a target that takes a file and never answers again."""
    if scheme == "ftp":
        async with (
            scripted_server(HostileFtp(lambda: iter([]), b"")) as port,
            open_transport(Target("ftp", USER, SERVER_ADDRESS, port, "/"), Credentials()) as transport,
        ):
            yield transport
    else:
        async with hostile_sftp(SilentSftp(repeat([])), Patience()) as transport:
            yield transport


@pytest.mark.parametrize("scheme", ["ftp", "sftp"])
async def test_whoever_ends_an_upload_waits_for_no_answer(scheme: str, tmp_path: Path) -> None:
    """A server that ends has three seconds: what a silent target still owes is not waited for."""
    (tmp_path / "a.zip").write_bytes(bytes(1000))

    async def attempt() -> float:
        sent = asyncio.Event()

        def told(_step: str, done: int, _of: int) -> None:
            if done:
                sent.set()

        async def send() -> None:
            async with silent_target(scheme) as transport:
                await transport.upload(tmp_path / "a.zip", "a.zip", told)

        sending = asyncio.create_task(send())
        await sent.wait()
        begun = time.monotonic()
        await end(sending)
        return time.monotonic() - begun

    await await_at_once(attempt, END_S)
