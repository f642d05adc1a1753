"""Real servers on loopback, each with a folder that the test can look into, and a relay that cuts connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncssh
import pytest
from pydantic import SecretStr

from callisto_telnetd.errors import CallistoError
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.target import Scheme, Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import Patience
from tests.transports.authorities import Authority, make_authority

with warnings.catch_warnings():  # of asyncore, which this server is made of
    warnings.simplefilter("ignore", DeprecationWarning)
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.filesystems import AbstractedFS
    from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

USER, PASSWORD = "backup", "Carry-it-safely-1"
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Of each worker of the tests its own: ports that are free at both stay free.
SERVER_ADDRESS, RELAY_ADDRESS = f"127.0.{_WORKER + 1}.2", f"127.0.{_WORKER + 1}.1"
"""A relay listens on the same ports as the server behind it: FTP's data connections then go through it too."""
SHORT = Patience(connect_s=5, login_s=10, step_s=10, whole_s=120, tidy_s=2)


@dataclass(frozen=True)
class Site:
    """A server, what it takes to log in, and where its files are."""

    target: Target
    credentials: Credentials
    folder: Path
    passwords: list[str] = field(default_factory=list)
    """What was offered for one, where the server can tell."""
    data_ports: tuple[int, ...] = ()
    """Those that the server takes data connections on."""
    log_ins: list[str] = field(default_factory=list)
    """Who has begun to log in, where the server can tell."""
    log: Path | None = None
    """Where the server, a program of its own, writes each command that it gets."""

    def offered(self) -> int:
        """Return how many passwords the server has been offered."""
        logged = "" if self.log is None or not self.log.exists() else self.log.read_text()
        return len(self.passwords) + len(re.findall(r'"PASS [<(]', logged))  # they write <password> and (hidden)

    def files(self) -> dict[str, bytes]:
        """Return what is in the folder."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}

    def at(self, folder: str) -> Target:
        """Return the same server with another folder."""
        return replace(self.target, folder=folder, in_home=False)

    def with_password(self, password: str) -> Credentials:
        """Return the credentials with another password."""
        return replace(self.credentials, password=SecretStr(password))

    def by_way_of(self, host: str) -> Target:
        """Return the same server at another address."""
        return replace(self.target, host=host)


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


def nothing_told(_step: str, _done: int, _of: int) -> None:
    """Take what is told, and say nothing."""


def family_of(address: str) -> socket.AddressFamily:
    """Return the family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def free_ports(address: str, count: int) -> list[int]:
    """Return ports that are free at that address and at the relay's."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            one = stack.enter_context(socket.socket(family_of(address)))
            one.bind((address, 0))
            port = one.getsockname()[1]
            other = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                other.bind((RELAY_ADDRESS, port))
                found.append(port)
    return found


@asynccontextmanager
async def asyncssh_site(
    root: Path,
    *,
    host_keys: Sequence[asyncssh.SSHKey] = (),
    server: type[asyncssh.SFTPServer] = asyncssh.SFTPServer,
    user_key: asyncssh.SSHKey | None = None,
    address: str = SERVER_ADDRESS,
) -> AsyncIterator[Site]:
    """Run asyncssh's server in this loop; its users see ``root/files`` as /, and log in with a password or the key."""
    folder = root / "files"
    folder.mkdir(exist_ok=True)
    keys = list(host_keys) or [asyncssh.generate_private_key("ssh-ed25519")]
    passwords: list[str] = []
    log_ins: list[str] = []

    class Door(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            log_ins.append(username)
            return True

        def public_key_auth_supported(self) -> bool:
            return user_key is not None

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return user_key is not None and key == user_key.convert_to_public()

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            passwords.append(password)
            return (username, password) == (USER, PASSWORD)

    def files(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        return server(channel, chroot=os.fsencode(folder))

    listener = await asyncssh.listen(address, 0, server_factory=Door, server_host_keys=keys, sftp_factory=files)
    async with listener:
        target = Target("sftp", USER, address, listener.get_port(), "/")
        credentials = Credentials(password=SecretStr(PASSWORD), host_key=key_line(keys[0]))
        yield Site(target, credentials, folder, passwords, log_ins=log_ins)


class Typeless(asyncssh.SFTPServer):
    """Never says what a file is, as many servers on Windows: no type in its modes, nor in its lines."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """List names and sizes."""
        async for entry in super().scandir(path):
            attrs = asyncssh.SFTPAttrs(size=entry.attrs.size, permissions=0o644)
            yield asyncssh.SFTPName(entry.filename, b"a line of its own", attrs)

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Tell the size."""
        return asyncssh.SFTPAttrs(size=os.lstat(self.map_path(path)).st_size, permissions=0o644)


def key_line(key: asyncssh.SSHKey) -> str:
    """Return the public half as it is pinned."""
    return key.export_public_key("openssh").decode().strip()


def server_authority(folder: Path) -> Authority:
    """Return a CA, and a certificate for the address of the servers and the relay's."""
    return make_authority(folder, SERVER_ADDRESS, RELAY_ADDRESS)


@contextmanager
def ftp_site(
    root: Path,
    authority: Authority | None = None,
    *,
    writable: bool = True,
    address: str = SERVER_ADDRESS,
    changes: dict[str, object] | None = None,
    filesystem: type[AbstractedFS] = AbstractedFS,
) -> Iterator[Site]:
    """Run pyftpdlib in a thread; with an authority it wants TLS on both connections."""
    folder = root / "files"
    folder.mkdir(exist_ok=True)
    passwords: list[str] = []

    class Door(DummyAuthorizer):  # type: ignore[misc] # it has no types
        def validate_authentication(self, username: str, password: str, handler: FTPHandler) -> None:
            passwords.append(password)
            super().validate_authentication(username, password, handler)

    door = Door()
    door.add_user(USER, PASSWORD, str(folder), perm="elradfmwMT" if writable else "elr")
    port, *data_ports = free_ports(address, 9)
    kind = FTPHandler if authority is None else TLS_FTPHandler
    own: dict[str, object] = {
        "authorizer": door,
        "abstracted_fs": filesystem,
        "passive_ports": data_ports,
        "auth_failed_timeout": 0,
        **({} if authority is None else tls_settings(authority)),
        **(changes or {}),
    }
    handler = type("Handler", (kind,), own)
    loop = IOLoop()
    server = FTPServer((address, port), handler, ioloop=loop)
    server.max_cons_per_ip = 0
    ending = threading.Event()

    def serve() -> None:
        while not ending.is_set():
            server.serve_forever(timeout=0.02, blocking=False, handle_exit=False)
        server.close_all()
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        scheme: Scheme = "ftp" if authority is None else "ftps"
        ca_file = None if authority is None else authority.ca_file
        credentials = Credentials(password=SecretStr(PASSWORD), ca_file=ca_file)
        yield Site(Target(scheme, USER, address, port, "/"), credentials, folder, passwords, tuple(data_ports))
    finally:
        ending.set()
        thread.join()


def tls_settings(authority: Authority) -> dict[str, object]:
    """Return what makes a handler want TLS."""
    return {
        "certfile": str(authority.server_file),
        "tls_control_required": True,
        "tls_data_required": True,
        "ssl_context": None,
    }


@contextmanager
def folder_site(root: Path) -> Iterator[Site]:
    """Return a folder of this machine as a site."""
    folder = root / "files"
    folder.mkdir(exist_ok=True)
    yield Site(Target("file", "", "", 0, str(folder)), Credentials(), folder)


class Relay:
    """Passes on what comes to ``RELAY_ADDRESS`` on the server's ports, and cuts everything after so many bytes."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.passed = 0
        """Bytes in both directions since the last :meth:`cut_after`."""
        self.cuts = 0
        self._ports = ports
        self._budget: int | None = None
        self._left = 0
        self._times = 0
        self._look: Callable[[], None] | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut_after(self, count: int | None, times: int = 1, look: Callable[[], None] | None = None) -> None:
        """Cut all connections each time that ``count`` bytes have passed, ``times`` times; None never cuts.

        ``look`` is called when that is done.
        """
        self._look = look
        self.passed, self.cuts, self._budget, self._left, self._times = 0, 0, count, count or 0, times

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        """Listen on every port."""
        servers = [await asyncio.start_server(self._serve, RELAY_ADDRESS, port) for port in self._ports]
        try:
            yield self
        finally:
            for server in servers:
                server.close()
            self._cut_all()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        port = writer.get_extra_info("sockname")[1]
        try:
            onward_reader, onward = await asyncio.open_connection(SERVER_ADDRESS, port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, onward}
        await asyncio.gather(self._pass(reader, onward), self._pass(onward_reader, writer))
        self._open -= {writer, onward}
        for each in (writer, onward):
            each.close()
        self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(16384):
                allowed = self._count(data)
                writer.write(allowed)
                await writer.drain()
                if self._is_spent():
                    self._cut_all()
                    if self._look is not None:
                        self._look()
                    return
            if writer.can_write_eof():
                writer.write_eof()

    def _count(self, data: bytes) -> bytes:
        allowed = data if self._budget is None or not self._times else data[: self._left]
        self._left -= len(allowed)
        self.passed += len(allowed)
        return allowed

    def _is_spent(self) -> bool:
        """Whether everything is to be cut now; the next connections have a new budget then."""
        if self._budget is None or not self._times or self._left > 0:
            return False
        self._left = self._budget
        self._times -= 1
        self.cuts += 1
        return True

    def _cut_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted_server(script: Script) -> AsyncIterator[int]:
    """Run a server that does what the script says with each connection, and return its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            await script(reader, writer)
        writer.transport.abort()
        tasks.discard(task)

    server = await asyncio.start_server(serve, SERVER_ADDRESS, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a file system of that size on a folder, as root may."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
