"""Every kind of target, as a fixture that a test runs once over each."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.transports.authorities import Authority, make_authority
from tests.transports.servers import FTP_SERVERS, FtpServer, can_run_openssh, openssh_site, proftpd_sftp_site
from tests.transports.sites import (
    RELAY_ADDRESS,
    SERVER_ADDRESS,
    Site,
    asyncssh_site,
    folder_site,
    server_authority,
)

FTP_PROGRAMS = ("vsftpd-ftp", "vsftpd-ftps", "proftpd-ftp", "proftpd-ftps")
KINDS = (
    "asyncssh",
    "ftp",
    "ftps",
    "folder",
    *(pytest.param(kind, marks=pytest.mark.long) for kind in ("openssh", "proftpd-sftp", *FTP_PROGRAMS)),
)
"""Programs of their own take a fifth of a second to begin: by default one round trip and a sample of cuts go there."""


@asynccontextmanager
async def open_site(kind: str, root: Path, address: str = SERVER_ADDRESS) -> AsyncIterator[Site]:
    """Run the server of one kind; skips the test where it cannot be run."""
    async with AsyncExitStack() as stack:
        if kind == "openssh":
            if not can_run_openssh():
                pytest.skip("Debian's sshd is not here, or not as root")
            manager = openssh_site(root, address=address)
            site = await asyncio.to_thread(manager.__enter__)
            stack.push_async_callback(asyncio.to_thread, manager.__exit__, None, None, None)
        elif kind == "asyncssh":
            site = await stack.enter_async_context(asyncssh_site(root, address=address))
        elif kind == "folder":
            site = stack.enter_context(folder_site(root))
        elif kind == "proftpd-sftp":
            site = stack.enter_context(proftpd_sftp_site(root, address=address))
        else:
            program, _, scheme = kind.rpartition("-")
            authority = make_authority(root / "tls", address, RELAY_ADDRESS) if scheme == "ftps" else None
            site = stack.enter_context(FTP_SERVERS[program or "pyftpdlib"](root, authority, address=address))
        yield site


@pytest.fixture(params=KINDS)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """One target of each kind in turn."""
    async with open_site(request.param, tmp_path) as site:
        yield site


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA, and a certificate for the address of the servers."""
    return server_authority(tmp_path / "tls")


@pytest.fixture(params=["pyftpdlib", "vsftpd", pytest.param("proftpd", marks=pytest.mark.long)])
def ftp_server(request: pytest.FixtureRequest) -> FtpServer:
    """The programs that serve FTP, in turn; ProFTPD thinks for 0.4 s before it greets."""
    return FTP_SERVERS[request.param]


@pytest.fixture
def ftp(tmp_path: Path, ftp_server: FtpServer) -> Iterator[Site]:
    """A server of plain FTP."""
    with ftp_server(tmp_path) as site:
        yield site


@pytest.fixture
def ftps(tmp_path: Path, authority: Authority, ftp_server: FtpServer) -> Iterator[Site]:
    """A server of FTP with TLS."""
    with ftp_server(tmp_path, authority) as site:
        yield site


@pytest.fixture
async def sftp(tmp_path: Path) -> AsyncIterator[Site]:
    """A server of asyncssh."""
    async with asyncssh_site(tmp_path) as site:
        yield site


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A file of 300 kB that is no multiple of any block."""
    path = tmp_path / "callisto-lab-20261123-101500.zip"
    path.write_bytes(bytes(range(256)) * 1171 + b"end")
    return path


@pytest.fixture(autouse=True)
def no_forgotten_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test leaves a task behind whose error nobody has taken: each would be an error in the server's log."""
    gc.freeze()  # what is there already need not be looked at again
    yield
    gc.collect()
    gc.unfreeze()
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    assert [each.getMessage() for each in records if each.name == "asyncio" and each.levelno >= logging.ERROR] == []
