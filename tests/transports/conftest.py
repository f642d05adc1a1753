"""Every kind of target, as a fixture that a test runs once over each."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.transports.sites import (
    Authority,
    Site,
    asyncssh_site,
    can_run_openssh,
    folder_site,
    ftp_site,
    make_authority,
    openssh_site,
)

KINDS = ("asyncssh", "ftp", "ftps", "folder", pytest.param("openssh", marks=pytest.mark.long))
"""OpenSSH takes a fifth of a second a connection: by default one round trip and a sample of cuts go there."""


@asynccontextmanager
async def open_site(kind: str, root: Path) -> AsyncIterator[Site]:
    """Run the server of one kind; skips the test where it cannot be run."""
    async with AsyncExitStack() as stack:
        if kind == "openssh":
            if not can_run_openssh():
                pytest.skip("Debian's sshd is not here, or not as root")
            manager = openssh_site(root)
            site = await asyncio.to_thread(manager.__enter__)
            stack.push_async_callback(asyncio.to_thread, manager.__exit__, None, None, None)
        elif kind == "asyncssh":
            site = await stack.enter_async_context(asyncssh_site(root))
        elif kind == "folder":
            site = stack.enter_context(folder_site(root))
        else:
            authority = make_authority(root / "tls") if kind == "ftps" else None
            site = stack.enter_context(ftp_site(root, authority))
        yield site


@pytest.fixture(params=KINDS)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """One target of each kind in turn."""
    async with open_site(request.param, tmp_path) as site:
        yield site


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA, and a certificate for the address of the servers."""
    return make_authority(tmp_path / "tls")


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[Site]:
    """A server of plain FTP."""
    with ftp_site(tmp_path) as site:
        yield site


@pytest.fixture
def ftps(tmp_path: Path, authority: Authority) -> Iterator[Site]:
    """A server of FTP with TLS."""
    with ftp_site(tmp_path, authority) as site:
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
