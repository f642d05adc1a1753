"""A disk that can be filled, and strace as the hand that breaks system calls."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from tests.conftest import Server, servers
from tests.hostile.tracing import wait_until


class SmallDisk:
    """A file system of 24 MiB, which can be filled to its last byte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leave no byte free."""
        size = 1 << 20
        with self._filler.open("ab", buffering=0) as stream:
            while size:
                try:
                    if stream.write(bytes(size)) < size:
                        size //= 2
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def empty(self) -> None:
        """Give back what was filled."""
        self._filler.unlink()


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    """A disk of one's own; skipped where none can be mounted."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="callisto-"))
    mounted = folder / "disk"
    mounted.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mounted)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(mounted)
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)
        shutil.rmtree(folder)


Break = Callable[[Server, Path, str], AbstractContextManager[None]]


@contextlib.contextmanager
def broken(server: Server, path: Path, fault: str) -> Iterator[None]:
    """While the block runs, system calls on the file go as ``fault`` says, in the words of strace's ``inject``."""
    call = fault.partition(":")[0]
    words = ["strace", "-f", "-q", "-o", "/dev/null", "-P", str(path), "-e", f"trace={call}", "-e", f"inject={fault}"]
    with subprocess.Popen(
        [*words, "-p", str(server.process.pid)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as strace:
        try:
            wait_until(lambda: is_traced_by(server, strace.pid), "strace is there")
            yield
        finally:
            strace.send_signal(signal.SIGKILL)  # it may hold a thread in its call for long


def is_traced_by(server: Server, pid: int) -> bool:
    """Return whether every thread of the server is traced by that process."""
    tasks = Path(f"/proc/{server.process.pid}/task")
    return all(f"TracerPid:\t{pid}\n" in (task / "status").read_text() for task in tasks.iterdir())


@pytest.fixture(scope="session")
def strace() -> Break:
    """How to break system calls of a server on one file; skipped where strace cannot."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run(
        ["strace", "-q", "-o", "/dev/null", "-e", "inject=none:error=EIO", "true"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip("strace may not trace, or cannot inject")
    return broken


@pytest.fixture(scope="module")
def module_roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with room for large captures, for the tests of a module."""
    with servers(tmp_path_factory.mktemp("roomy")) as start:
        yield start('[trace]\nsize = "1G"\nbudget = "2G"\nfree = "1M"\n')


@pytest.fixture
def roomy(module_roomy: Server) -> Iterator[Server]:
    """The module's server; after each test its captures are ended and deleted, and its peers closed."""
    yield module_roomy
    peer = module_roomy.log_in()
    assert peer.run("trace stop all")[-1].startswith("OK ")
    for file in (module_roomy.data / "trace").iterdir():
        file.unlink()
    module_roomy.close_peers()


def uss(server: Server) -> int:
    """Return the bytes that the server's process has for itself."""
    return int(psutil.Process(server.process.pid).memory_full_info().uss)
