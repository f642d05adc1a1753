"""A hub on clocks that go only when they are told to, captures in a folder of the test's own, and real small disks."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.capture import Capture
from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.selection import Block


class FakeTime:
    """The system's time, as the test has it."""

    def __init__(self) -> None:
        self.now = 1795425300.123456
        """2026-11-23 10:15:00.123456 in Zurich."""

    def __call__(self) -> float:
        return self.now


class FakeMoment:
    """The monotonic clock, of the hub and of the loop, as the test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def go_on(self, seconds: float) -> None:
        """Let so much time pass, and the loop do what is due then."""
        self.now += seconds
        await turns()


async def turns(count: int = 4) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


def say(hub: Hub, *texts: str, process: str = "web-server", level: int = 20) -> None:
    """Publish records of a process."""
    for text in texts:
        hub.publish(level, text, {}, process, 4711)


def texts_of(blocks: Iterable[Block]) -> list[str]:
    """Return what the records of blocks say."""
    return [record.text for block in blocks for record in block.records]


def said(file: Path) -> list[str]:
    """Return what the records of a file say; its comments are left out."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("; ")]
    return [line.partition("] ")[2].partition(" ")[2] for line in lines]


async def stopped(capture: Capture, folder: Path) -> Path:
    """Stop a capture and return its file, which is closed then."""
    capture.stop()
    await capture.closed
    return folder / capture.name


def open_files(folder: Path) -> list[str]:
    """Return the files below a folder that this process has open; a folder may be read for Tab meanwhile."""
    names: list[Path] = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            names.append(link.readlink())
        except OSError:
            continue  # the descriptor that lists them
    return [str(name) for name in names if name.is_relative_to(folder) and not name.is_dir()]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes: a write fails in its middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(disk: Path) -> Path:
    """Fill a small disk to its last byte, and return the file that does."""
    file = disk / "filler"
    size = 1 << 16
    with file.open("wb", buffering=0) as stream:
        while size:
            try:
                if stream.write(bytes(size)) < size:
                    size //= 2
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
    return file


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="callisto-"))
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
        shutil.rmtree(folder)


@pytest.fixture
def time_now() -> FakeTime:
    """The system's time, which stands still until a test moves it."""
    return FakeTime()


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> FakeMoment:
    """The monotonic clock, which stands still until a test moves it; the loop's timers go by it, too."""
    moment = FakeMoment()
    monkeypatch.setattr(time, "monotonic", moment)
    return moment


@pytest.fixture
def clock(time_now: FakeTime) -> Clock:
    """The appliance's clock, in Zurich."""
    return Clock(zone="Europe/Zurich", read=time_now)


@pytest.fixture
def hub(clock: Clock) -> Hub:
    """A hub with the usual bounds."""
    return Hub(clock)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of captures."""
    folder = tmp_path / "trace"
    folder.mkdir()
    return folder


@pytest.fixture
async def captures(hub: Hub, folder: Path) -> AsyncIterator[Captures]:
    """Captures that begin however full the disk is; what runs is stopped after the test."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=1 << 30)
    yield captures
    await captures.close()
