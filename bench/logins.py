"""Log-ins: how long one takes, and what others notice while 50 are checked at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from bench.report import Row, percentile
from bench.servers import CALLISTO, Bench, Server
from bench.watch import Watcher
from bench.wire import NAME, PASSWORD, PROMPT, SHOW, close_all, connect, log_in, read_until

_AT_ONCE = 50


def measure_logins(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Log in alone several times, then 50 at once from as many addresses."""
    with bench.callisto() as server:
        alone = [_alone(server) for _ in range(5 if quick else 15)]
        waits: list[float] = []
        spans = []
        for _ in range(1 if quick else 5):
            took, span = _together(server)
            waits += took
            spans.append(span)
    yield Row("one log-in: password to first prompt", "s", {CALLISTO: statistics.median(alone)}, at_most=0.3)
    yield Row("others' commands while 50 log in, median", "ms", {CALLISTO: statistics.median(waits) * 1e3})
    yield Row("the same, 99 of 100", "ms", {CALLISTO: percentile(waits, 99) * 1e3}, at_most=50)
    yield Row("50 log-ins at once, until the last prompt", "s", {CALLISTO: statistics.median(spans)})


def _alone(server: Server) -> float:
    with connect(server.port) as sock:
        read_until(sock, b"login: ")
        sock.sendall(NAME + b"\r\n")
        read_until(sock, b"Password: ")
        start = time.perf_counter()
        sock.sendall(PASSWORD.encode() + b"\r\n")
        read_until(sock, PROMPT)
        return time.perf_counter() - start


def _together(server: Server) -> tuple[list[float], float]:
    """Return the seconds that others' commands took, and those until all were logged in."""
    with log_in(server.port) as other:
        peers = [connect(server.port, f"127.0.1.{number + 1}") for number in range(_AT_ONCE)]
        for sock in peers:
            read_until(sock, b"login: ")
            sock.sendall(NAME + b"\r\n")
        for sock in peers:
            read_until(sock, b"Password: ")
        watcher = Watcher(other, SHOW)
        start = time.perf_counter()
        for sock in peers:
            sock.sendall(PASSWORD.encode() + b"\r\n")
        came = {sock.fileno(): b"" for sock in peers}

        def read(number: int, data: bytes) -> bool:
            came[number] += data
            return came[number].endswith(PROMPT)

        watcher.run(peers, read)
        span = time.perf_counter() - start
        close_all(peers)
        return watcher.took, span
