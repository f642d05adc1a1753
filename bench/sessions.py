"""What an idle session holds in memory, and how the server does with 2,000 of them."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Iterator

from bench.connecting import time_to_prompt
from bench.report import Row, percentile
from bench.servers import Bench, Server
from bench.wire import SHOW, WHOAMI, close_all, drive, log_in_many, time_commands

_FIRST = 20
_MORE = 500
_HELD = 2000
_SETTLE_S = 1.0


def measure_sessions(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Fill one server after the other with idle sessions."""
    held = 600 if quick else _HELD
    memory: dict[str, float] = {}
    late: dict[str, float] = {}
    burst: dict[str, float] = {}
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    with bench.all() as servers:
        for server in servers:
            first[server.name] = _prompt_ms(server)
            sessions = log_in_many(server.port, _FIRST)
            drive(sessions, WHOAMI, 2.0)  # fills what is held of the trace: it has a bound and belongs to no session
            memory[server.name] = _growth(server, sessions) / 1024
            sessions += log_in_many(server.port, held - len(sessions))
            last[server.name] = _prompt_ms(server)
            late[server.name] = percentile([s * 1e3 for s in time_commands(sessions, held, 0.001)], 99)
            _, burst[server.name] = drive(sessions, SHOW, 0.0)
            close_all(sessions)
    yield Row("memory of an idle logged-in session (USS)", "KiB", memory, ratio_at_most=1.5)
    yield Row("login prompt with no session open", "ms", first)
    yield Row(f"login prompt with {held:,} sessions open", "ms", last, at_most=5)
    yield Row(f"a command with {held:,} sessions open, 99 of 100", "ms", late, at_most=50)
    yield Row(f"{held:,} sessions ask at the same moment, all answered", "ms", {n: s * 1e3 for n, s in burst.items()})


def _growth(server: Server, sessions: list[socket.socket]) -> float:
    time.sleep(_SETTLE_S)
    before = server.memory()
    sessions += log_in_many(server.port, _MORE)
    time.sleep(_SETTLE_S)
    return (server.memory() - before) / _MORE


def _prompt_ms(server: Server) -> float:
    for _ in range(5):
        time_to_prompt(server.port)
    return statistics.median(time_to_prompt(server.port) for _ in range(51)) * 1e3
