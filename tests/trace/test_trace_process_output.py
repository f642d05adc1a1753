from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Literal

import pytest

from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.process_output import ProcessOutput
from tests.trace.conftest import turns

DEADLINE_S = 10.0


class Pipe(asyncio.ReadTransport):
    """The reading end of a pipe that a test feeds by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def pause_reading(self) -> None:
        """Read no more."""
        self.reading = False

    def resume_reading(self) -> None:
        """Read again."""
        self.reading = True


@asynccontextmanager
async def running(
    hub: Hub, script: str, *, streams: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")
) -> AsyncIterator[tuple[subprocess.Popen[bytes], list[ProcessOutput]]]:
    """Run a real shell script whose output goes to the hub, as the supervisor connects it."""
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    loop = asyncio.get_running_loop()
    outputs, transports = [], []
    for stream in streams:
        pipe = process.stdout if stream == "stdout" else process.stderr
        transport, output = await loop.connect_read_pipe(
            lambda stream=stream: ProcessOutput(hub, "web-server", process.pid, stream),  # type: ignore[misc]
            pipe,
        )
        transports.append(transport)
        outputs.append(output)
    try:
        yield process, outputs
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        for transport in transports:
            transport.close()
        await turns()
        for unread in (process.stdout, process.stderr):
            if unread is not None:
                unread.close()


async def ended(*outputs: ProcessOutput) -> None:
    """Wait until the streams are closed and published."""
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(asyncio.shield(output.ended) for output in outputs))


async def test_what_a_process_writes_becomes_records(hub: Hub) -> None:
    """Each line of stdout and stderr is a record with the process's name, number and level; stderr's say so."""
    script = "echo started; echo '<3>call lost' >&2; printf '<7>no end'; printf 'half' >&2"
    async with running(hub, script) as (process, outputs):
        await ended(*outputs)

        held = {(each.level, each.text, each.fields.get("stream", "stdout")) for each in hub.held()}
        assert held == {
            (20, "started", "stdout"),
            (10, "no end", "stdout"),
            (40, "call lost", "stderr"),
            (20, "half", "stderr"),
        }
        assert {(each.process, each.pid) for each in hub.held()} == {("web-server", process.pid)}
        assert hub.by_input["processes"] == 4
    assert hub._inputs == []


async def test_output_is_clean_and_bounded(hub: Hub) -> None:
    """What a process writes drives no terminal, forges no line and is no longer than any text."""
    script = r"printf '\033[2J\r\b\377x\n'; head -c 100000 /dev/zero | tr '\0' y; echo; echo next"
    async with running(hub, script, streams=("stdout",)) as (_, outputs):
        await ended(*outputs)

    first, long, last = (each.text for each in hub.held())
    assert first == "\\x1b[2J\\x0d\\x08\\xffx"
    assert long.endswith(" bytes more)")
    assert len(long) <= 8192
    assert last == "next"


async def test_a_process_that_writes_nothing_ends(hub: Hub) -> None:
    """The end of an empty stream is an end, without a record."""
    async with running(hub, "exec true") as (_, outputs):
        await ended(*outputs)

    assert hub.published == 0


async def test_a_flood_of_short_lines_gives_others_their_turns(hub: Hub) -> None:
    """However much is written at once, a turn of the loop works off 4 KiB; all lines come, in order."""
    others: list[int] = []

    def other() -> None:
        others.append(hub.published)
        asyncio.get_running_loop().call_soon(other)

    hub = Hub(hub.clock, held_records=100_000, held_bytes=1 << 30)
    async with running(hub, "seq 1 30000", streams=("stdout",)) as (_, outputs):
        other()
        await ended(*outputs)

    steps = [after - before for before, after in pairwise(others)]
    assert max(steps) <= 2 * 2049
    assert len([step for step in steps if step]) > 30
    assert [each.text for each in hub.held()] == [str(number) for number in range(1, 30_001)]


async def test_a_full_hub_makes_the_process_wait(hub: Hub) -> None:
    """While the hub is full the pipe is not read: the process blocks in its write, and nothing is lost then."""
    hub = Hub(hub.clock, held_records=100_000, held_bytes=1 << 30)
    hub.hold_back(full=True)
    async with running(hub, "seq 1 50000; echo done >&2", streams=("stdout",)) as (process, outputs):
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        for _ in range(50):
            await turns(10)
            assert hub.published == 0
            assert process.stderr.read() is None
        hub.hold_back(full=False)
        for _ in range(3):
            await turns(3)
            hub.hold_back(full=True)
            before = hub.published
            await turns(10)
            assert hub.published == before < 50_000
            hub.hold_back(full=False)
        await ended(*outputs)

    assert [each.text for each in hub.held()] == [str(number) for number in range(1, 50_001)]


async def test_a_process_that_ends_while_the_hub_is_full_is_heard_to_its_end(hub: Hub) -> None:
    """What was read and not published yet waits for the hub, though the process has gone."""
    async with running(hub, "seq 1 1000; printf last", streams=("stdout",)) as (process, [output]):
        hub.hold_back(full=True)
        output.data_received(b"read already\n")
        process.wait(DEADLINE_S)
        output.connection_lost(None)
        await turns(5)
        assert not output.ended.done()
        assert hub.published == 0
        hub.hold_back(full=False)
        await ended(output)

    assert hub.held()[0].text == "read already"


async def test_the_pipe_is_not_read_while_there_is_work_left(hub: Hub) -> None:
    """More than a turn's worth stops the reading until all of it is published: a flood fills no memory."""
    pipe, output = Pipe(), ProcessOutput(hub, "web-server", 1, "stdout")
    output.connection_made(pipe)
    output.data_received(b"x" * 99 + b"\n")
    assert pipe.reading
    output.data_received((b"x" * 99 + b"\n") * 100)
    assert not pipe.reading
    assert hub.published == 1 + 40
    await turns(3)

    assert pipe.reading
    assert hub.published == 101
    hub.hold_back(full=True)
    assert not pipe.reading
    hub.hold_back(full=False)
    assert pipe.reading
    output.connection_lost(None)
    await output.ended


@pytest.mark.parametrize("data", [b"one\ntwo\nthree", b"\n\n", b"<3>a\n<4>b\n"])
async def test_lines_do_not_depend_on_how_the_pipe_is_read(hub: Hub, data: bytes) -> None:
    """Byte by byte or at once, the same records come."""
    found = []
    for step in (1, 2, 100):
        fresh = Hub(hub.clock)
        output = ProcessOutput(fresh, "web-server", 1, "stdout")
        output.connection_made(Pipe())
        for at in range(0, len(data), step):
            output.data_received(data[at : at + step])
        output.connection_lost(None)
        await output.ended
        found.append([(each.level, each.text) for each in fresh.held()])

    assert found[0] == found[1] == found[2]
