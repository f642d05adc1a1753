"""What a process that Callisto runs writes to its stdout or stderr, as an input of the trace.

The supervisor connects it to the reading end of a pipe: ``loop.connect_read_pipe(lambda: ProcessOutput(…), pipe)``.
While the hub is full, or more has come than a turn of the loop works off, the pipe is read no more, and the process
waits when it is full (pipe(7)).
"""

from __future__ import annotations

import asyncio
from typing import Literal, cast

from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.output_lines import OutputLines
from callisto_telnetd.trace.records import NO_FIELDS, make_head
from callisto_telnetd.trace.sanitiser import clean

INPUT_NAME = "processes"
_AT_ONCE = 4096
"""Bytes that are worked off in a turn of the loop; it is handed up to 256 KiB."""


class ProcessOutput(asyncio.Protocol):
    """One stream of one process; a line becomes a record, with ``stream=stderr`` where it came from there."""

    def __init__(self, hub: Hub, process: str, pid: int, stream: Literal["stdout", "stderr"]) -> None:
        self._hub = hub
        self._process = process
        self._pid = pid
        self._fields = {"stream": stream} if stream == "stderr" else NO_FIELDS
        self._lines = OutputLines()
        self._transport: asyncio.ReadTransport | None = None
        self._unread = bytearray()
        self._paused = False
        self._turn: asyncio.Handle | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Is set when the process has closed the stream and all of it is published."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.ReadTransport", transport)
        self._hub.add_input(self)

    def data_received(self, data: bytes) -> None:
        """Take what the process has written."""
        self._unread += data
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        """Publish what is left."""
        self._transport = None
        self._work()

    def pause(self) -> None:
        """Read no more: the process waits."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        self._work()

    def _work(self) -> None:
        """Publish a turn's worth; read on once all is published."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if not self._paused and self._unread:
            self._publish(self._lines.feed(bytes(self._unread[:_AT_ONCE])))
            del self._unread[:_AT_ONCE]
        if self._unread:
            if not self._paused:
                self._turn = asyncio.get_running_loop().call_soon(self._work)
            if self._transport is not None:
                self._transport.pause_reading()
        elif self._transport is None:
            self._end()
        elif not self._paused:
            self._transport.resume_reading()

    def _publish(self, lines: list[tuple[int, str]]) -> None:
        said = [(make_head(self._process, self._pid, level, self._fields), clean(text)) for level, text in lines]
        self._hub.take(said, INPUT_NAME)

    def _end(self) -> None:
        if not self.ended.done():
            self._publish(self._lines.close())
            self._hub.remove_input(self)
            self.ended.set_result(None)
