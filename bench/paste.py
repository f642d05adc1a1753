"""A paste of 1 MiB of short lines: the line editor alone, and the whole way until all answers have come."""

from __future__ import annotations

import asyncio
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from bench.report import Row, percentile
from bench.servers import CALLISTO, STREAMS, Bench, Server
from bench.watch import Watcher
from bench.wire import SHOW, WHOAMI, ask, log_in
from callisto_telnetd.terminal.editor import LineEditor

_SIZE = 1 << 20
_CHUNK = 4096


def measure_editor(_bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Feed the line editor and asyncio's ``StreamReader`` in one process, in turn."""
    turns = 3 if quick else 9
    for name, line in (("whoami", WHOAMI + b"\r\n"), ("empty lines", b"\r\n")):
        pasted = line * (_SIZE // len(line))
        for label, echo in (("", False), (", echoed", True)):
            values = _in_turn(turns, partial(_edit, pasted, echo=echo), partial(_fed, pasted))
            yield Row(f"line editor alone, 1 MiB, {name}{label}", "ms", values, ratio_at_most=5, against=STREAMS)
        values = _in_turn(turns, partial(_edit, pasted, echo=False), partial(_socket, pasted))
        yield Row(f"the same, readline on a socket, {name}", "ms", values, ratio_at_most=5, against=STREAMS)


def _in_turn(turns: int, ours: Callable[[], float], theirs: Callable[[], float]) -> dict[str, float]:
    took = [(ours(), theirs()) for _ in range(turns)]
    return {name: statistics.median(pair[at] for pair in took) * 1e3 for at, name in enumerate((CALLISTO, STREAMS))}


def _chunks(pasted: bytes) -> list[bytes]:
    return [pasted[at : at + _CHUNK] for at in range(0, len(pasted), _CHUNK)]


def _edit(pasted: bytes, *, echo: bool) -> float:
    """Return the seconds of the editor, used as the console uses it."""
    editor, lines, chunks = LineEditor(), 0, _chunks(pasted)
    editor.echo = echo
    start = time.perf_counter()
    for chunk in chunks:
        editor.feed(chunk)
        while editor.next_event() is not None:
            editor.take_output()
            lines += 1
        editor.take_output()
    took = time.perf_counter() - start
    assert lines == pasted.count(b"\n")
    return took


async def _count_lines(reader: asyncio.StreamReader) -> int:
    lines = 0
    while await reader.readline():
        lines += 1
    return lines


def _fed(pasted: bytes) -> float:
    return asyncio.run(_read_fed(pasted))


def _socket(pasted: bytes) -> float:
    return asyncio.run(_read_socket(pasted))


async def _read_fed(pasted: bytes) -> float:
    reader, chunks = asyncio.StreamReader(), _chunks(pasted)
    start = time.perf_counter()
    task = asyncio.create_task(_count_lines(reader))
    for chunk in chunks:
        reader.feed_data(chunk)
        await asyncio.sleep(0)
    reader.feed_eof()
    assert await task == pasted.count(b"\n")
    return time.perf_counter() - start


async def _read_socket(pasted: bytes) -> float:
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)

    def send() -> None:
        with far:
            far.sendall(pasted)

    thread = threading.Thread(target=send)
    start = time.perf_counter()
    thread.start()
    assert await _count_lines(reader) == pasted.count(b"\n")
    took = time.perf_counter() - start
    writer.close()
    thread.join()
    return took


def measure_paste(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Paste into a session of each server while another session works on."""
    size = _SIZE // 4 if quick else _SIZE
    with bench.all() as servers:
        for name, command in (("whoami", WHOAMI), ("empty lines", b"")):
            took: dict[str, list[float]] = {server.name: [] for server in servers}
            late: dict[str, list[float]] = {server.name: [] for server in servers}
            for _ in range(1 if quick else 5):
                for server in servers:
                    seconds, waits = _paste(server, command, size)
                    took[server.name].append(seconds)
                    late[server.name].append(percentile(waits, 99) * 1e3)
            label = f"paste of {size >> 10:,} KiB, {name}"
            yield Row(label, "s", {n: statistics.median(v) for n, v in took.items()}, ratio_at_most=5)
            meanwhile = {n: statistics.median(v) for n, v in late.items()}
            yield Row(f"{label}: others' commands, 99 of 100", "ms", meanwhile, at_most=50)


def _paste(server: Server, command: bytes, size: int) -> tuple[float, list[float]]:
    """Return the seconds until all answers have come, and those of the other session's commands."""
    with log_in(server.port) as sock, log_in(server.port) as other:
        pasted = (command + b"\r\n") * (size // (len(command) + 2))
        left = len(ask(sock, command)) * pasted.count(b"\n")

        def read(_number: int, data: bytes) -> bool:
            nonlocal left
            left -= len(data)
            return left <= 0

        watcher = Watcher(other, SHOW)
        start = time.perf_counter()
        watcher.run([sock], read, memoryview(pasted))
        return time.perf_counter() - start, watcher.took
