"""A bare telnetlib3 server with the fence that callisto-telnetd has, and nothing else: fixed answers, no hashing."""

from __future__ import annotations

import asyncio
import collections
from typing import Any, cast

from telnetlib3.server_base import BaseServer
from telnetlib3.stream_reader import TelnetReader
from telnetlib3.stream_writer import TelnetWriter
from telnetlib3.telopt import DO, ECHO, IAC, NAWS, SGA, TTYPE, WILL

from bench.bare import announce, read_answers

_READ_BYTES = 4096
_MAX_SUBNEGOTIATION = 64


class _Writer(TelnetWriter):
    """Passes NAWS and TERMINAL-TYPE on, bounded, and drops every other sub-negotiation."""

    slc_simulated = False

    def __init__(self, transport: asyncio.Transport, protocol: Any, **keywords: Any) -> None:
        super().__init__(transport, protocol, **keywords)
        self.compression = False

    def handle_subnegotiation(self, buf: collections.deque[bytes]) -> None:
        if len(buf) <= _MAX_SUBNEGOTIATION and buf[0] in {NAWS, TTYPE}:
            super().handle_subnegotiation(buf)


class _Lines:
    """Puts lines together from bytes: CR LF, CR NUL, CR and LF each end one."""

    def __init__(self, reader: TelnetReader) -> None:
        self._reader = reader
        self._ready: collections.deque[bytes] = collections.deque()
        self._part = b""
        self._after_cr = False

    async def next(self) -> bytes | None:
        """Return the next line, None at the end of the input."""
        while not self._ready:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                return None
            if self._after_cr and data[:1] in {b"\n", b"\0"}:
                data = data[1:]
            self._after_cr = data.endswith(b"\r")
            *lines, self._part = (
                (self._part + data).replace(b"\r\n", b"\n").replace(b"\r\0", b"\n").replace(b"\r", b"\n").split(b"\n")
            )
            self._ready.extend(lines)
        return self._ready.popleft()


class _Server(BaseServer):
    """One connection."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        super().__init__(encoding=False, writer_factory=_Writer)
        self._answers = answers
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        cast("TelnetReader", self.reader).set_transport(transport)
        self._waiter_connected.set_result(None)

    def begin_negotiation(self) -> None:
        """Send the offers with the shell's start."""

    def check_negotiation(self, final: bool = False) -> bool:
        return True

    def begin_shell(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled():
            writer = cast("_Writer", self.writer)
            for command, option in ((WILL, ECHO), (WILL, SGA), (DO, NAWS), (DO, TTYPE)):
                writer.pending_option[command + option] = True
            writer.send_iac(b"".join((IAC + WILL + ECHO, IAC + WILL + SGA, IAC + DO + NAWS, IAC + DO + TTYPE)))
            self._task = asyncio.get_running_loop().create_task(self._serve(cast("TelnetReader", self.reader), writer))

    async def _serve(self, reader: TelnetReader, writer: _Writer) -> None:
        lines = _Lines(reader)
        try:
            for question in (b"callisto login: ", b"Password: "):
                writer.write(question)
                await lines.next()
            writer.write(b"\r\ncallisto# ")
            while (line := await lines.next()) is not None:
                writer.write(self._answers[line])
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def connection_lost(self, exc: Exception | None) -> None:
        asyncio.streams.FlowControlMixin.connection_lost(self, exc)
        super().connection_lost(exc)
        if self._task is not None:
            self._task.cancel()


async def _main() -> None:
    answers = read_answers()
    loop = asyncio.get_running_loop()
    await announce(await loop.create_server(lambda: _Server(answers), "127.0.0.1", 0, backlog=256))


if __name__ == "__main__":
    asyncio.run(_main())
