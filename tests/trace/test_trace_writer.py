from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from callisto_telnetd.trace import writer as writer_module
from callisto_telnetd.trace.capture_file import CaptureFile
from callisto_telnetd.trace.writer import Writer
from tests.trace.conftest import open_files, said


def nothing() -> None:
    """Do nothing when a piece of work is done."""


class Events:
    """What a writer says of itself, in its order."""

    def __init__(self) -> None:
        self.seen: list[bool | int] = []

    def note(self, event: bool | int) -> None:
        """Note whether it is full, or how many bytes were written."""
        self.seen.append(event)

    @property
    def fullness(self) -> list[bool]:
        """What it said of being full."""
        return [event for event in self.seen if isinstance(event, bool)]

    @property
    def written(self) -> int:
        """How many bytes it said were written."""
        return sum(event for event in self.seen if not isinstance(event, bool))


@pytest.fixture
def events() -> Events:
    """What the writer says of itself."""
    return Events()


@pytest.fixture
async def writer(events: Events) -> AsyncIterator[Writer]:
    """A writer of its own."""
    writer = Writer(events.note, events.note)
    yield writer
    await writer.flush()
    writer.stop()


@pytest.fixture
def file(folder: Path) -> Iterator[CaptureFile]:
    """An open capture file with a header of one line."""
    file = CaptureFile(folder, "20261123-101500-ada", ".log", free_bytes=0)
    file.open(["header"])
    yield file
    file.close("the test is over")


@contextmanager
def held_up(writer: Writer) -> Iterator[None]:
    """Let the writer's thread stand still, as one whose disk takes nothing, until the block is left."""
    gate = threading.Event()
    standing = asyncio.ensure_future(writer.call(gate.wait))
    try:
        yield
    finally:
        gate.set()
        del standing


async def test_what_is_put_is_written_in_its_order(writer: Writer, file: CaptureFile, folder: Path) -> None:
    """However it is collected while the thread works, the file has all of it in order, then its trailer."""
    for number in range(500):
        assert writer.put(file, f"x] INFO {number}\n".encode(), nothing)
        if number % 50 == 0:
            await asyncio.sleep(0)
    writer.close_file(file, "enough", nothing)
    await writer.flush()

    assert said(folder / file.name) == [str(number) for number in range(500)]
    assert (folder / file.name).read_text().endswith("; ended: enough; 500 records\n")


async def test_files_take_turns_in_one_thread(writer: Writer, folder: Path) -> None:
    """All work, of whichever file, is done by the one thread of the writer, and not by the loop's."""
    threads: set[str] = set()

    class Watched(CaptureFile):
        def write(self, data: bytes) -> None:
            threads.add(threading.current_thread().name)
            super().write(data)

    files = [Watched(folder, f"20261123-101500-{who}", ".log", free_bytes=0) for who in "abc"]
    for file in files:
        await writer.call(lambda file=file: file.open(["header"]))  # type: ignore[misc]
    for number in range(30):
        writer.put(files[number % 3], b"x] INFO line\n", nothing)
        await asyncio.sleep(0)
    for file in files:
        writer.close_file(file, "enough", nothing)
    await writer.flush()

    assert [file.records for file in files] == [10, 10, 10]
    assert len(threads) == 1
    assert threads.pop().startswith("trace-writer")


async def test_each_piece_of_work_is_told_when_it_is_done(writer: Writer, file: CaptureFile) -> None:
    """Who puts is called in the loop, in order, when his data is written, not before."""
    done: list[tuple[int, int]] = []
    with held_up(writer):
        for number in range(3):
            writer.put(file, b"line\n", lambda number=number: done.append((number, file.records)))  # type: ignore[misc]
        await asyncio.sleep(0)
        assert done == []
    await writer.flush()

    assert [number for number, _ in done] == [0, 1, 2]
    assert all(records > number for number, records in done)


async def test_the_inputs_pause_while_much_waits(
    writer: Writer, file: CaptureFile, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past its bound the writer is full, once; when half of it is written it no longer is."""
    monkeypatch.setattr(writer_module, "_FULL_BYTES", 1000)
    with held_up(writer):
        for _ in range(10):
            writer.put(file, b"x" * 99 + b"\n", nothing)
        assert (writer.waiting_bytes, events.fullness) == (1000, [])
        writer.put(file, b"\n", nothing)
        writer.put(file, b"\n", nothing)
        assert events.fullness == [True]
    await writer.flush()

    assert events.fullness == [True, False]
    assert (writer.waiting_bytes, events.written) == (0, 1002)


async def test_it_is_full_until_half_is_written(
    writer: Writer, file: CaptureFile, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more waits than half of the bound when a batch is done, the inputs stay paused until the next."""
    monkeypatch.setattr(writer_module, "_FULL_BYTES", 1000)
    with held_up(writer):
        for size in (100, 600, 400):
            writer.put(file, b"x" * (size - 1) + b"\n", nothing)
    await writer.flush()

    assert events.seen == [True, 100, 1000, False]


async def test_past_the_most_a_file_that_has_much_waiting_takes_nothing(
    writer: Writer, file: CaptureFile, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the most waits, a file may have a quarter of it waiting, to the byte; what was refused is not in it."""
    monkeypatch.setattr(writer_module, "_MOST_BYTES", 1000)
    other = CaptureFile(folder, "20261123-101500-bob", ".log", free_bytes=0)
    other.open([])
    with held_up(writer):
        assert writer.put(file, b"x" * 899 + b"\n", nothing)
        assert not writer.put(file, b"y" * 100 + b"\n", nothing)
        assert writer.put(other, b"z" * 199 + b"\n", nothing)
        assert not writer.put(other, b"y" * 50 + b"\n", nothing)
        assert writer.put(other, b"z" * 49 + b"\n", nothing)
        assert not writer.put(other, b"\n", nothing)
        assert not writer.put(file, b"\n", nothing)
    await writer.flush()
    for each in (file, other):
        assert writer.put(each, b"\n", nothing)
    writer.close_file(other, "enough", nothing)
    await writer.flush()

    assert (folder / file.name).read_bytes() == b"; header\n" + b"x" * 899 + b"\n\n"
    assert (folder / other.name).read_bytes().startswith(b"z" * 199 + b"\n" + b"z" * 49 + b"\n\n; ended")
    assert (writer.waiting_bytes, len(writer._of_file)) == (0, 0)


async def test_up_to_the_most_anything_is_taken(
    writer: Writer, file: CaptureFile, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file alone may have all of it waiting, to the byte."""
    monkeypatch.setattr(writer_module, "_MOST_BYTES", 1000)
    with held_up(writer):
        assert writer.put(file, b"x" * 599 + b"\n", nothing)
        assert not writer.put(file, b"y" * 400 + b"\n", nothing)
        assert writer.put(file, b"z" * 399 + b"\n", nothing)
        assert not writer.put(file, b"\n", nothing)
    await writer.flush()

    assert (folder / file.name).read_bytes() == b"; header\n" + b"x" * 599 + b"\n" + b"z" * 399 + b"\n"
    assert writer.put(file, b"\n", nothing)


def test_a_disk_that_stands_still_keeps_nobody_from_leaving(folder: Path) -> None:
    """The process ends although the writer's thread is in the middle of its work."""
    script = """
import asyncio, threading
from callisto_telnetd.trace.writer import Writer

async def main():
    writer = Writer(print, print)
    asyncio.ensure_future(writer.call(threading.Event().wait))
    await asyncio.sleep(0)
    writer.stop()
    print("left")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=10)

    assert (done.returncode, done.stdout) == (0, "left\n")


async def test_flush_waits_for_what_is_put_meanwhile(writer: Writer, file: CaptureFile) -> None:
    """What a callback of the last batch puts is waited for, too; with nothing to do it waits for nothing."""
    left = list(range(5))

    def again() -> None:
        if left:
            left.pop()
            writer.put(file, b"again\n", again)

    writer.put(file, b"first\n", again)
    await writer.flush()
    await writer.flush()

    assert file.records == 6


async def test_other_work_comes_behind_what_is_done_now(writer: Writer, file: CaptureFile) -> None:
    """Work on the folder has its answer and its error from the same thread, in turn."""
    writer.put(file, b"line\n", nothing)
    assert await writer.call(lambda: file.records) == 1
    with pytest.raises(FileNotFoundError):
        await writer.call(lambda: Path("/nowhere/at/all").stat())
    assert writer.put(file, b"line\n", nothing)
    await writer.flush()

    assert file.records == 2


async def test_a_stopped_writer_leaves_nothing_behind(events: Events, folder: Path) -> None:
    """Its thread ends, and the files it closed are closed."""
    writer = Writer(events.note, events.note)
    file = CaptureFile(folder, "20261123-101500-ada", ".log", free_bytes=0)
    await writer.call(lambda: file.open([]))
    thread = await writer.call(threading.current_thread)
    writer.close_file(file, "enough", nothing)
    await writer.flush()
    writer.stop()
    thread.join(10)

    assert not thread.is_alive()
    assert open_files(folder) == []
