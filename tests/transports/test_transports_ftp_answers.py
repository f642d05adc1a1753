from __future__ import annotations

import asyncio
import os
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from dataclasses import replace
from pathlib import Path

import pytest

from callisto_telnetd.errors import (
    TargetFolderError,
    TransferError,
    TransferInterruptedError,
)
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.delivery import deliver
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import MAX_ENTRIES, RemoteFile
from tests.transports.authorities import Authority
from tests.transports.scripts import ELSEWHERE, LOGGED_IN, Script, listing
from tests.transports.sites import (
    SERVER_ADDRESS,
    SHORT,
    USER,
    no_pause,
    nothing_told,
    refused,
    scripted_server,
)


async def test_a_busy_server_is_asked_again(tmp_path: Path, local: Path) -> None:
    """421 may pass: five tries."""
    tries: list[int] = []

    async def busy(_reader: StreamReader, writer: StreamWriter) -> None:
        tries.append(1)
        writer.write(b"421 Too many connections\r\n")
        await writer.drain()

    async with scripted_server(busy) as port:
        target = Target("ftp", USER, SERVER_ADDRESS, port, "/")
        with pytest.raises(TransferInterruptedError, match=r"421 'Too many connections'.* after 5 tries"):
            await deliver(target, Credentials(), local, "a.zip", nothing_told, patience=SHORT, pause=no_pause)

    assert len(tries) == 5


async def test_data_connections_go_to_the_servers_own_address() -> None:
    """Whatever address PASV names, the data connection goes where the control connection went."""
    script = Script({**LOGGED_IN, **ELSEWHERE}, {"MLSD": b"type=file;size=3; a.zip\r\n"})

    assert await listing(script) == [RemoteFile("a.zip", 3)]
    assert script.data_connections == 1


async def test_names_from_the_server_are_cleaned() -> None:
    """Of a listing only files with plain names and sizes are kept, whatever the order and the case of the facts."""
    lines = [
        b"Size=5;TYPE=file;Modify=20261123101500; good name.zip",
        b"type=file;size=5; ../up",
        b"type=file;size=5; a/b",
        b"type=file;size=5; \x1b[2J",
        b"type=file;size=5; \xff\xfe",
        b"type=file;size=-5; negative",
        b"type=file;size=99999999999999999999; huge",
        b"type=file; sizeless",
        b"type=dir;size=5; folder",
        b"type=cdir;size=5; .",
        b"garbage",
        b"",
    ]

    assert await listing(Script({**LOGGED_IN, **ELSEWHERE}, {"MLSD": b"\r\n".join(lines)})) == [
        RemoteFile("good name.zip", 5)
    ]


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b""])
async def test_the_last_line_of_a_listing_counts(end: bytes) -> None:
    """Some servers end their lines by LF alone, and the last one not at all."""
    data = b"type=file;size=3; a.zip" + (end or b"\n") + b"type=file;size=4; b.zip" + end

    assert await listing(Script({**LOGGED_IN, **ELSEWHERE}, {"MLSD": data})) == [
        RemoteFile("a.zip", 3),
        RemoteFile("b.zip", 4),
    ]
    names = {"SIZE a.zip": b"213 3\r\n", "SIZE b.zip": b"213 4\r\n", "MLSD": b"502 what?\r\n"}
    data = b"a.zip" + (end or b"\n") + b"b.zip" + end
    assert len(await listing(Script({**LOGGED_IN, **ELSEWHERE, **names}, {"NLST": data}))) == 2


async def test_a_listing_without_an_end_has_one() -> None:
    """More entries than anybody's copies, or a name that does not end, are refused when the bound is reached."""
    most = b"type=file;size=1; a\r\n" * MAX_ENTRIES
    assert len(await listing(Script({**LOGGED_IN, **ELSEWHERE}, {"MLSD": most}))) == MAX_ENTRIES
    many = b"type=file;size=1; a\r\n" * (MAX_ENTRIES + 1)
    for data in (many, b"type=file;size=1; " + b"a" * 100_000):
        with pytest.raises(TargetFolderError, match="entries"):
            await listing(Script({**LOGGED_IN, **ELSEWHERE}, {"MLSD": data}))


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [(b"12", TransferInterruptedError, "has sent 2 of the 3 bytes"), (b"1234", TransferError, "has grown")],
)
async def test_a_size_that_is_a_lie_is_told(
    content: bytes, error: type[TransferError], reason: str, tmp_path: Path
) -> None:
    """A file that is shorter or longer than it was listed is not kept here."""
    data = {"MLSD": b"type=file;size=3; a.zip\r\n", "RETR": content}
    async with (
        scripted_server(Script({**LOGGED_IN, **ELSEWHERE}, data)) as port,
        open_transport(Target("ftp", USER, SERVER_ADDRESS, port, "/"), Credentials(), SHORT) as transport,
    ):
        with pytest.raises(error, match=reason):
            await transport.download("a.zip", tmp_path / "back", 1000, nothing_told)
        assert await transport.list() == [RemoteFile("a.zip", 3)], "the connection is still of use"

    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("is_announced", [True, False])
async def test_a_data_connection_may_end_without_the_end_of_tls(is_announced: bool, authority: Authority) -> None:
    """Where a server closes without TLS's own end, its answer on the control connection says whether it was all."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.server_file)

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        waiting: asyncio.Queue[StreamWriter] = asyncio.Queue()
        door = await asyncio.start_server(lambda _reader, data: waiting.put_nowait(data), SERVER_ADDRESS, 0)
        port = door.sockets[0].getsockname()[1]
        answers = {**LOGGED_IN, "EPSV": f"229 here (|||{port}|)\r\n".encode()}
        writer.write(b"220 ready\r\n")
        try:
            while line := await reader.readline():
                verb = line.decode().split()[0]
                if verb == "MLSD":
                    writer.write(b"150 here it comes\r\n")
                    data = await waiting.get()
                    clear = data.get_extra_info("socket")
                    await data.start_tls(context)
                    data.write(b"type=file;size=3; a.zip\r\n")
                    await data.drain()
                    clear.shutdown(socket.SHUT_WR)
                    writer.write(b"226 done\r\n" if is_announced else b"426 aborted\r\n")
                elif verb == "AUTH":
                    writer.write(b"234 begin\r\n")
                    await writer.start_tls(context)
                else:
                    writer.write(answers.get(verb, b"200 fine\r\n"))
        finally:
            door.close()

    async with scripted_server(serve) as port:
        target = Target("ftps", USER, SERVER_ADDRESS, port, "/")
        async with open_transport(target, Credentials(ca_file=authority.ca_file), SHORT) as transport:
            if is_announced:
                assert await transport.list() == [RemoteFile("a.zip", 3)]
            else:
                with pytest.raises(TransferInterruptedError, match="426"):
                    await transport.list()


async def test_a_server_without_mlsd_is_asked_for_names_and_sizes() -> None:
    """Old servers list names only; what has no size is no file."""
    sizes = {"SIZE a.zip": b"213 7\r\n", "SIZE folder": b"550 not a plain file\r\n"}
    answers = {**LOGGED_IN, **ELSEWHERE, **sizes, "MLSD": b"500 what?\r\n"}
    script = Script(answers, {"NLST": b"a.zip\r\nfolder\r\n../up\r\n"})

    assert await listing(script) == [RemoteFile("a.zip", 7)]
    assert script.commands[-1] == "QUIT"


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no FTP"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no FTP"),
        (b"\xff\xfd\x18\xff\xfd\x20\r\n", "no FTP"),
        (b"220", "connection was lost"),
        (b"", "connection was lost"),
        (b"220" + b"x" * 100_000, "no FTP"),
        (b"220-" + b"x" * 5000 + b"\r\n", "no FTP"),
        (b"220-a\r\n" * 100, "no FTP"),
        (b"220-a\r\n", "connection was lost"),
        (b"2200 a\r\n", "no FTP"),
        ("２２０ a\r\n".encode(), "no FTP"),
        (b"554 \x1b[2J\x07\r\n", r"554 '\\x1b\[2J\\x07'"),
    ],
)
async def test_what_is_no_ftp_is_one_clear_line(greeting: bytes, reason: str) -> None:
    """Another protocol, endless lines and answers, and control characters end in one printable line."""

    async def greet(_reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(greeting)
        writer.write_eof()
        await asyncio.sleep(5)

    async with scripted_server(greet) as port:
        error = await refused(Target("ftp", USER, SERVER_ADDRESS, port, "/"), Credentials())

    with pytest.raises(TransferError, match=reason):
        raise error


async def test_interim_answers_without_an_end_have_one() -> None:
    """A server that says "wait" and nothing else, as fast as it can, is left long before the deadline."""

    async def stall(_reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(b"120 wait\r\n" * 10_000)
        await asyncio.sleep(60)

    async with scripted_server(stall) as port:
        error = await refused(Target("ftp", USER, SERVER_ADDRESS, port, "/"), Credentials())

    assert "no FTP: 'more than 1,000 answers that say to wait'" in str(error)


async def test_a_server_may_take_its_time_to_keep_a_copy(local: Path) -> None:
    """The answer to a whole copy may take longer than a step: a slow disk at the server is no silence."""
    begun = asyncio.Event()

    class SlowDisk(Script):
        async def settled(self) -> None:
            begun.set()
            self._data["MLSD"] = b"type=file;size=299779; a.zip\r\n"
            await asyncio.sleep(0.8)

    script = SlowDisk({**LOGGED_IN, **ELSEWHERE, "SIZE": b"550 none\r\n", "RNFR": b"350 go on\r\n"}, {"MLSD": b""})
    async with scripted_server(script) as port:
        target = Target("ftp", USER, SERVER_ADDRESS, port, "/")
        async with open_transport(target, Credentials(), replace(SHORT, step_s=0.5)) as transport:
            await transport.upload(local, "a.zip", nothing_told)

    assert begun.is_set()


async def test_clear_text_behind_the_beginning_of_tls_is_refused(authority: Authority) -> None:
    """Answers that somebody on the way has put in before TLS begins are not taken for the server's."""
    commands: list[bytes] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.server_file)

    async def inject(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await reader.readline()
        writer.write(b"234 begin\r\n200 fine\r\n200 fine\r\n230 in, without a password\r\n")
        await writer.drain()
        await writer.start_tls(context)
        while line := await reader.readline():
            commands.append(line)

    async with scripted_server(inject) as port:
        target = Target("ftps", USER, SERVER_ADDRESS, port, "/")
        error = await refused(target, Credentials(ca_file=authority.ca_file))

    assert "clear text behind the answer to AUTH TLS" in str(error)
    assert [line for line in commands if not line.startswith(b"QUIT")] == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            b"522 SSL connection failed: session reuse required",
            r"522 .*; have the server take data connections of other",
        ),
        (b"425 Unable to build data connection", r"425 'Unable"),
        (b"552 Quota exceeded", r"552 'Quota exceeded' \(sending\); make room there"),
    ],
)
async def test_a_data_connection_that_is_refused_after_its_beginning_is_told(
    answer: bytes, reason: str, local: Path
) -> None:
    """Where a server closes the data connection and says why, its answer is the error, not the connection's end."""
    data_connections: asyncio.Queue[StreamWriter] = asyncio.Queue()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        door = await asyncio.start_server(lambda _reader, data: data_connections.put_nowait(data), SERVER_ADDRESS, 0)
        port = door.sockets[0].getsockname()[1]
        answers = {**LOGGED_IN, "EPSV": f"229 here (|||{port}|)\r\n".encode()}
        writer.write(b"220 ready\r\n")
        try:
            while line := await reader.readline():
                verb = line.decode().split()[0]
                if verb == "MLSD":
                    writer.write(b"150 here it comes\r\n226 done\r\n")
                    (await data_connections.get()).close()
                elif verb == "STOR":
                    writer.write(b"150 go on\r\n")
                    data = await data_connections.get()
                    data.transport.abort()
                    writer.write(answer + b"\r\n")
                else:
                    writer.write(answers.get(verb, b"200 fine\r\n"))
        finally:
            door.close()

    async with scripted_server(serve) as port:
        target = Target("ftp", USER, SERVER_ADDRESS, port, "/")
        with pytest.raises(TransferError, match=reason):
            async with open_transport(target, Credentials(), SHORT) as transport:
                await transport.upload(local, "a.zip", nothing_told)


async def test_a_server_that_leaves_tls_is_one_clear_line(authority: Authority) -> None:
    """What a server's settings lack, vsftpd says in clear text in the midst of TLS: that does not pass by waiting."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.server_file)

    async def give_up(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await reader.readline()
        writer.write(b"234 begin\r\n")
        clear = writer.transport
        await writer.start_tls(context)
        while not (await reader.readline()).startswith(b"USER"):
            writer.write(b"200 fine\r\n")
        os.write(clear.get_extra_info("socket").fileno(), b"500 OOPS: cannot change directory\r\n")
        await reader.read()

    async with scripted_server(give_up) as port:
        target = Target("ftps", USER, SERVER_ADDRESS, port, "/")
        error = await refused(target, Credentials(ca_file=authority.ca_file))

    assert "has left TLS for clear text" in str(error)
    assert not isinstance(error, TransferInterruptedError)


async def test_data_connections_continue_the_control_connections_tls_session(authority: Authority) -> None:
    """TLS on a data connection begins after the answer to the command, and resumes the session."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.server_file)
    resumed: list[bool] = []

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        waiting: asyncio.Queue[StreamWriter] = asyncio.Queue()
        door = await asyncio.start_server(lambda _reader, data: waiting.put_nowait(data), SERVER_ADDRESS, 0)
        port = door.sockets[0].getsockname()[1]
        answers = {**LOGGED_IN, "EPSV": f"229 here (|||{port}|)\r\n".encode()}
        writer.write(b"220 ready\r\n")
        try:
            while line := await reader.readline():
                verb = line.decode().split()[0]
                if verb == "MLSD":
                    data = await waiting.get()
                    writer.write(b"150 here it comes\r\n")
                    await data.start_tls(context)
                    resumed.append(data.get_extra_info("ssl_object").session_reused)
                    data.write(b"type=file;size=3; a.zip\r\n")
                    data.close()
                    writer.write(b"226 done\r\n")
                elif verb == "AUTH":
                    writer.write(b"234 begin\r\n")
                    await writer.start_tls(context)
                else:
                    writer.write(answers.get(verb, b"200 fine\r\n"))
        finally:
            door.close()

    async with scripted_server(serve) as port:
        target = Target("ftps", USER, SERVER_ADDRESS, port, "/")
        async with open_transport(target, Credentials(ca_file=authority.ca_file), SHORT) as transport:
            assert await transport.list() == [RemoteFile("a.zip", 3)]

    assert resumed == [True]
