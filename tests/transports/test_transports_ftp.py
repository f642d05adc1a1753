from __future__ import annotations

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from dataclasses import replace
from pathlib import Path

import pytest

from callisto_telnetd.errors import (
    CallistoError,
    CertificateError,
    LoginDeniedError,
    NameTakenError,
    NotPermittedError,
    TargetFolderError,
    TransferError,
    TransferInterruptedError,
)
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.delivery import deliver
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import MAX_ENTRIES, RemoteFile
from tests.transports.sites import (
    PASSWORD,
    SERVER_ADDRESS,
    SHORT,
    USER,
    Authority,
    Site,
    ftp_site,
    make_authority,
    nothing_told,
    scripted_server,
    small_disk,
)


async def no_pause(_seconds: float) -> None:
    """Try again at once."""
    await asyncio.sleep(0)


async def refused(target: Target, credentials: Credentials) -> CallistoError:
    """Return the error of opening that target."""
    with pytest.raises(CallistoError) as raised:
        async with open_transport(target, credentials, SHORT):
            pass
    assert str(raised.value).isprintable()
    assert PASSWORD not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("names", "days", "reason"),
    [
        ((), -1, "expired"),
        (("nas.example.org",), 1, "mismatch"),
        (("127.0.0.9",), 1, "mismatch"),
    ],
)
async def test_a_certificate_that_is_not_right_is_one_clear_line(
    names: tuple[str, ...], days: int, reason: str, tmp_path: Path
) -> None:
    """Expired, or of another machine: nobody logs in."""
    with ftp_site(tmp_path, make_authority(tmp_path / "tls", *names, days=days)) as site:
        error = await refused(site.target, site.credentials)

        assert isinstance(error, CertificateError)
        assert reason in str(error)
        assert site.passwords == []


async def test_a_certificate_of_nobody_known_is_refused(ftps: Site, tmp_path: Path) -> None:
    """Without the CA's file the system's CAs count, with another CA's file that one: neither knows this server."""
    other = make_authority(tmp_path / "other")
    for ca_file in (None, other.ca_file):
        error = await refused(ftps.target, replace(ftps.credentials, ca_file=ca_file))
        assert isinstance(error, CertificateError)

    assert ftps.passwords == []


async def test_a_ca_file_that_is_none_is_told(ftps: Site, tmp_path: Path) -> None:
    """A CA file that is missing or holds no certificate is told before anybody is connected to."""
    (tmp_path / "empty.pem").write_text("nothing")
    for name, reason in (("absent.pem", "cannot be read"), ("empty.pem", "no certificates")):
        error = await refused(ftps.target, replace(ftps.credentials, ca_file=tmp_path / name))
        assert isinstance(error, CertificateError)
        assert reason in str(error)


async def test_without_tls_at_the_server_nothing_secret_is_sent(ftp: Site) -> None:
    """``ftps`` never falls back to clear text."""
    error = await refused(replace(ftp.target, scheme="ftps"), ftp.credentials)

    assert "offers no TLS" in str(error)
    assert not isinstance(error, TransferInterruptedError)
    assert ftp.passwords == []


async def test_a_server_that_wants_tls_is_not_spoken_to_in_clear_text(ftps: Site) -> None:
    """Where plain FTP is refused, that is told, and no password was sent."""
    error = await refused(replace(ftps.target, scheme="ftp"), ftps.credentials)

    assert isinstance(error, LoginDeniedError | TransferError)
    assert ftps.passwords == []


async def test_a_wrong_password_is_offered_once(ftps: Site, local: Path) -> None:
    """A refused log-in is one clear line, and is not tried again."""
    with pytest.raises(LoginDeniedError, match="530"):
        await deliver(
            ftps.target, ftps.with_password("Wrong-1"), local, "a.zip", nothing_told, patience=SHORT, pause=no_pause
        )

    assert ftps.passwords == ["Wrong-1"]


async def test_a_password_cannot_smuggle_a_command(ftp: Site) -> None:
    """A password with a line's end is refused before anybody is connected to."""
    error = await refused(ftp.target, ftp.with_password("a\r\nDELE b"))

    assert isinstance(error, LoginDeniedError)
    assert ftp.passwords == []


async def test_a_folder_that_may_only_be_read_is_one_clear_line(tmp_path: Path, local: Path) -> None:
    """No permission is told at once."""
    with ftp_site(tmp_path, rights="elr") as site:
        with pytest.raises(NotPermittedError, match="may the user do that"):
            await deliver(site.target, site.credentials, local, "a.zip", nothing_told, patience=SHORT, pause=no_pause)

        assert site.files() == {}


async def test_a_full_disk_at_the_server_is_one_clear_line(tmp_path: Path, local: Path) -> None:
    """Whatever a server says then, its words are in the error, the name is free and no part is left."""
    with small_disk(tmp_path / "files", 64 * 1024), ftp_site(tmp_path) as site:
        with pytest.raises(TransferError, match="426") as raised:
            await deliver(site.target, site.credentials, local, "a.zip", nothing_told, patience=SHORT, pause=no_pause)

        assert str(raised.value).isprintable()
        assert site.files() == {}


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


class Script:
    """A server of FTP that answers each command from a table, and opens data connections of its own."""

    def __init__(self, answers: dict[str, bytes], data: dict[str, bytes] | None = None) -> None:
        self.commands: list[str] = []
        self.data_connections = 0
        self._answers = answers
        self._data = data or {}

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Greet, and answer until the client leaves."""
        waiting: asyncio.Queue[StreamWriter] = asyncio.Queue()

        def took(_reader: StreamReader, data: StreamWriter) -> None:
            self.data_connections += 1
            waiting.put_nowait(data)

        door = await asyncio.start_server(took, SERVER_ADDRESS, 0)
        port = door.sockets[0].getsockname()[1]
        writer.write(b"220 ready\r\n")
        try:
            while line := await reader.readline():
                self.commands.append(line.decode().strip())
                verb = self.commands[-1].split()[0]
                if verb in self._data:
                    writer.write(b"150 here it comes\r\n")
                    data = await waiting.get()
                    data.write(self._data[verb])
                    data.close()
                    writer.write(b"226 done\r\n")
                    continue
                if verb == "MLSD":
                    (await waiting.get()).close()
                answer = self._answers.get(self.commands[-1]) or self._answers.get(verb, b"200 fine\r\n")
                writer.write(answer.replace(b"PORT", f"{port >> 8},{port & 255}".encode()))
        finally:
            door.close()


LOGGED_IN = {"USER": b"331 go on\r\n", "PASS": b"230 in\r\n", "CWD": b"250 there\r\n", "QUIT": b"221 bye\r\n"}
ELSEWHERE = {"EPSV": b"500 what?\r\n", "PASV": b"227 Entering (192,0,2,9,PORT)\r\n"}


async def listing(script: Script) -> list[RemoteFile]:
    """Return what a scripted server lists."""
    async with scripted_server(script) as port:
        target = Target("ftp", USER, SERVER_ADDRESS, port, "/")
        async with open_transport(target, Credentials(), SHORT) as transport:
            return await transport.list()


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


async def test_a_listing_without_an_end_has_one() -> None:
    """More entries than anybody's copies, or a name that does not end, are refused when the bound is reached."""
    many = b"type=file;size=1; a\r\n" * (MAX_ENTRIES + 1)
    for data in (many, b"type=file;size=1; " + b"a" * 100_000):
        with pytest.raises(TargetFolderError, match="entries"):
            await listing(Script({**LOGGED_IN, **ELSEWHERE}, {"MLSD": data}))


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


async def test_a_name_that_is_taken_is_looked_for_before_the_renaming(ftp: Site) -> None:
    """FTP renames over a name that is taken, so it never comes to that."""
    (ftp.folder / "a.zip").write_bytes(b"mine")
    (ftp.folder / "b").write_bytes(b"other")
    async with open_transport(ftp.target, ftp.credentials, SHORT) as transport:
        with pytest.raises(NameTakenError):
            await transport._wire.rename("b", "a.zip")  # type: ignore[attr-defined]
        await transport._wire.rename("b", "b.zip")  # type: ignore[attr-defined]

    assert ftp.files() == {"a.zip": b"mine", "b.zip": b"other"}


async def test_a_folder_below_the_home_is_found(ftp: Site, local: Path) -> None:
    """``/~/folder`` is relative to where the user lands, ``/~`` is that place."""
    (ftp.folder / "below").mkdir()
    for folder, path in (("below", ftp.folder / "below"), ("", ftp.folder)):
        target = replace(ftp.target, folder=folder, in_home=True)
        async with open_transport(target, ftp.credentials, SHORT) as transport:
            await transport.upload(local, "home.zip", nothing_told)

        assert (path / "home.zip").exists()
