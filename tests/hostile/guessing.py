"""A crowd that guesses passwords, a program of its own: ``python -m tests.hostile.guessing PORT SOCKETS SOURCES WAY``.

``WAY`` is ``read`` (each waits for its answer) or ``cut`` (each resets its connection once it has sent a password). It
goes on until its standard input ends; then it says how many passwords it has sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import ROOT

_RESET = struct.pack("ii", 1, 0)
_READ_S, _PAUSE_S = 70.0, 0.05


def address_of(number: int) -> str:
    """Return the address of a guesser."""
    return f"127.1.{number // 200}.{1 + number % 200}"


class _Crowd:
    def __init__(self, port: int, way: str) -> None:
        self._port = port
        self._cuts = way == "cut"
        self.sent = 0

    async def guess(self, source: str) -> None:
        while True:
            with contextlib.suppress(OSError, EOFError):
                await self._guess_once(source)
            await asyncio.sleep(_PAUSE_S)

    async def _guess_once(self, source: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(source, 0))
        try:
            async with asyncio.timeout(_READ_S):
                while True:
                    await reader.readuntil(b"login: ")
                    writer.write(b"admin\r\n")
                    await reader.readuntil(b"Password: ")
                    writer.write(b"Wrong-123\r\n")
                    self.sent += 1
                    if self._cuts:
                        await asyncio.sleep(_PAUSE_S)
                        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                        return
        finally:
            writer.transport.abort()


async def _run(port: int, sockets: int, sources: int, way: str) -> None:
    crowd = _Crowd(port, way)
    guessing = [asyncio.create_task(crowd.guess(address_of(number % sources))) for number in range(sockets)]
    print("begun", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in guessing:
        task.cancel()
    await asyncio.gather(*guessing, return_exceptions=True)
    print(crowd.sent, flush=True)


@contextmanager
def guessing(port: int, sockets: int, sources: int, way: str = "read") -> Iterator[None]:
    """Have a crowd guess while the block runs."""
    words = [sys.executable, "-m", "tests.hostile.guessing", str(port), str(sockets), str(sources), way]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as crowd:
        try:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == b"begun\n"
            yield
            sent = int(crowd.communicate()[0])
            assert sent > 0
        finally:
            crowd.kill()


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
