"""How long a client waits: from the connection to the login prompt, and from the start of the server to its port."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from bench.report import Row, percentile
from bench.servers import CALLISTO, Bench
from bench.wire import connect, read_until

_REST_S = 0.003
"""Until the server before has cleared away its connection, which would disturb the next one's."""


def time_to_prompt(port: int) -> float:
    """Return the seconds from connecting to the login prompt, for a client that answers no option."""
    start = time.perf_counter()
    with connect(port) as sock:
        read_until(sock, b"login: ")
        return time.perf_counter() - start


def measure_prompt(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Connect to each server in turn, many times."""
    count = 100 if quick else 1000
    with bench.all() as servers:
        took: dict[str, list[float]] = {server.name: [] for server in servers}
        for _ in range(20):
            for server in servers:
                time_to_prompt(server.port)
        for _ in range(count):
            for server in servers:
                took[server.name].append(time_to_prompt(server.port) * 1e3)
                time.sleep(_REST_S)
    medians = {name: statistics.median(times) for name, times in took.items()}
    yield Row("connect to login prompt, median", "ms", medians, ratio_at_most=1.5)
    late = {name: percentile(times, 99) for name, times in took.items()}
    yield Row("the same, 99 of 100; no option answered", "ms", late, at_most=5)


def measure_start(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Start each server several times on a data folder that exists."""
    took: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for _ in range(3 if quick else 9):
        with bench.all() as servers:
            for server in servers:
                took.setdefault(server.name, []).append(server.ready_s)
                cpu.setdefault(server.name, []).append(server.start_cpu_s)
    yield Row("start to ready, median", "s", {name: statistics.median(t) for name, t in took.items()}, at_most=0.5)
    yield Row("start to ready, longest", "s", {CALLISTO: max(took[CALLISTO])})
    yield Row("processor time of the start, median", "s", {name: statistics.median(t) for name, t in cpu.items()})
