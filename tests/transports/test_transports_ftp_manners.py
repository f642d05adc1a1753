"""Servers of FTP with manners of their own: how they end, what they refuse, and how they write names."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from asyncio import StreamReader, StreamWriter
from pathlib import Path

import pytest

from callisto_telnetd.errors import NotListedError, TransferError, TransferInterruptedError
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import RemoteFile, name_within
from tests.transports.authorities import Authority
from tests.transports.scripts import LOGGED_IN, Script, listing
from tests.transports.sites import SERVER_ADDRESS, SHORT, USER, nothing_told, scripted_server

PASV = b"227 Entering Passive Mode (192,0,2,9,PORT)\r\n"
ONE = {"MLSD": b"type=file;size=3; a.zip\r\n"}


class WaitsForTcp:
    """A server of FTPS that never answers the end of TLS, and gives a transfer up where TCP does not end with it."""

    def __init__(self, authority: Authority, patience_s: float) -> None:
        self.kept = b""
        self.manners: list[str] = []
        self._patience_s = patience_s
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(authority.server_file)

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one connection."""
        with socket.create_server((SERVER_ADDRESS, 0)) as door:
            answers = {**LOGGED_IN, "EPSV": f"229 here (|||{door.getsockname()[1]}|)\r\n".encode()}
            answers |= {"SIZE": b"550 none\r\n", "RNFR": b"350 go on\r\n"}
            writer.write(b"220 ready\r\n")
            while line := await reader.readline():
                verb = line.decode().split()[0]
                if verb in ("STOR", "RETR", "MLSD"):
                    writer.write(b"150 go on\r\n")
                    writer.write(await asyncio.to_thread(self._transfer, verb, door))
                elif verb == "AUTH":
                    writer.write(b"234 begin\r\n")
                    await writer.start_tls(self._context)
                else:
                    writer.write(answers.get(verb, b"200 fine\r\n"))
        self.manners.append("control ended" if reader.at_eof() else "")

    def _transfer(self, verb: str, door: socket.socket) -> bytes:
        accepted, _ = door.accept()
        accepted.settimeout(self._patience_s)
        with self._context.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False) as data:
            if verb != "STOR":
                data.sendall(self.kept if verb == "RETR" else b"")
                data.unwrap().close()  # waits for the client's end of TLS
                return b"226 done\r\n"
            received = b""
            while block := data.recv(65536):  # to the end of TLS; the end of TCP alone raises
                received += block
            try:
                left = socket.socket.recv(data, 1)  # below TLS
            except TimeoutError:
                return b"550 The semaphore timeout period has expired.\r\n"
            assert left == b""
            self.kept = received
            return b"226 done\r\n"


async def test_an_upload_ends_without_the_servers_manners(authority: Authority, local: Path) -> None:
    """Behind the end of TLS comes the end of TCP at once, as IIS waits for it; nobody waits for an answer to it."""
    server = WaitsForTcp(authority, 2.0)
    begun = time.monotonic()
    async with scripted_server(server) as port:
        target = Target("ftps", USER, SERVER_ADDRESS, port, "/")
        async with open_transport(target, Credentials(ca_file=authority.ca_file), SHORT) as transport:
            with pytest.raises(NotListedError, match=r"takes files, but does not list them: a\.zip is there unseen"):
                await transport.upload(local, "a.zip", nothing_told)  # it lists nothing, ever

    assert server.kept == local.read_bytes()
    assert time.monotonic() - begun < 2.0


@pytest.mark.parametrize(
    "epsv",
    [
        *(b"500 what?", b"502 no", b"522 Extended passive mode is not supported", b"550 permission denied"),
        *(b"425 Can't open", b"451 not now", b"530 not for you", b"200 fine", b"229 here (|||1|)"),
        b"227 Entering Passive Mode (192,0,2,9,PORT)",
    ],
)
async def test_what_epsv_does_not_give_pasv_does(epsv: bytes) -> None:
    """However EPSV is refused, and where its port is closed, PASV is asked, and from then on PASV alone."""
    script = Script({**LOGGED_IN, "EPSV": epsv + b"\r\n", "PASV": PASV}, ONE)
    async with scripted_server(script) as port:
        target = Target("ftp", USER, SERVER_ADDRESS, port, "/")
        async with open_transport(target, Credentials(), SHORT) as transport:
            for _ in range(2):
                assert await transport.list() == [RemoteFile("a.zip", 3)]

    if not epsv.startswith(b"227"):
        assert [line for line in script.commands if line in ("EPSV", "PASV")] == ["EPSV", "PASV", "PASV"]


@pytest.mark.parametrize(
    ("epsv", "pasv", "error", "says"),
    [
        (b"522 no", b"500 what?", TransferError, "522 'no' (listing); it opens no data connection, neither by"),
        (b"550 denied", b"550 no", TransferError, "550 'denied' (listing); it opens no data connection, neither by"),
        (b"500 what?", b"502 no", TransferError, "502 'no' (listing); it opens no data connection, neither by EPSV"),
        (b"425 no port", b"500 what?", TransferInterruptedError, "425 'no port' (listing)"),
        (b"500 what?", b"425 no port", TransferInterruptedError, "425 'no port' (listing)"),
        (b"421 closing", b"200 fine", TransferInterruptedError, "421 'closing' (listing)"),
        (b"229 here (|||1|)", b"500 what?", TransferInterruptedError, "cannot be connected to: Connection refused"),
    ],
)
async def test_a_server_without_data_connections_is_one_clear_line(
    epsv: bytes, pasv: bytes, error: type[TransferError], says: str
) -> None:
    """What the server said first counts, no advice about TLS comes with it, and what may pass may be tried again."""
    script = Script({**LOGGED_IN, "EPSV": epsv + b"\r\n", "PASV": pasv + b"\r\n"})
    with pytest.raises(TransferError) as raised:
        await listing(script)

    assert type(raised.value) is error
    assert says in str(raised.value)
    assert "TLS" not in str(raised.value)


@pytest.mark.parametrize("mlsd", [b"500 what?", b"502 no", b"550 no such command", b"501 no", b"504 no"])
@pytest.mark.parametrize(
    ("folder", "pwd"), [("/backups", "/backups"), ("backups", "/home/ada/backups"), ("/", "/"), ("", "/home/ada")]
)
async def test_names_with_the_folders_path_are_names(mlsd: bytes, folder: str, pwd: str) -> None:
    """RFC 959 lets NLST give paths: those of the very folder are its files, all others are none of them."""
    path = pwd.rstrip("/")
    lines = [
        "a.zip",
        "./b.zip",
        f"{path}/c.zip",
        "a.zip",
        "/elsewhere/d.zip",
        f"{path}/sub/e.zip",
        "../f.zip",
        f"{path}/..",
    ]
    answers = {**LOGGED_IN, "EPSV": b"500 what?\r\n", "PASV": PASV, "SIZE": b"213 7\r\n", "MLSD": mlsd + b"\r\n"}
    answers["PWD"] = f'257 "{pwd}" is here\r\n'.encode()
    script = Script(answers, {"NLST": "\r\n".join(lines).encode()})

    assert await listing(script, folder) == [RemoteFile(name, 7) for name in ("a.zip", "b.zip", "c.zip")]


async def test_names_of_mlsd_may_have_the_folders_path() -> None:
    """A server that writes the path before each name, which RFC 3659 forbids, is understood."""
    lines = [b"type=file;size=1; /backups/a.zip", b"type=file;size=2; ./b.zip", b"type=file;size=3; /other/c.zip"]
    script = Script({**LOGGED_IN, "EPSV": b"500 what?\r\n", "PASV": PASV}, {"MLSD": b"\r\n".join(lines)})

    assert await listing(script, "/backups") == [RemoteFile("a.zip", 1), RemoteFile("b.zip", 2)]


async def test_a_folder_that_may_not_be_listed_is_not_an_empty_one() -> None:
    """Where MLSD is refused as a folder without permission is, and NLST too, that is the error."""
    refused = {"MLSD": b"550 permission denied\r\n", "NLST": b"550 permission denied\r\n"}
    with pytest.raises(TransferError, match="550 'permission denied'"):
        await listing(Script({**LOGGED_IN, "EPSV": b"500 what?\r\n", "PASV": PASV, **refused}))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("a.zip", "a.zip"), ("./a.zip", "a.zip"), ("/b/a.zip", "a.zip"), ("b/a.zip", None), ("/a.zip", None)),
        *(("", None), (".", None), ("..", None), ("/b/..", None), ("/b/", None), ("../a.zip", None)),
        *(("/b//a.zip", None), ("/b/c\\a.zip", None), ("/b/\x1b[2J", None), ("//a.zip", None)),
    ],
)
def test_the_name_that_a_listing_means(path: str, name: str | None) -> None:
    """A path counts where it is the folder's own; what is no plain name is none."""
    assert name_within(path, {"/b"}) == name
