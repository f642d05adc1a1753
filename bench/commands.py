"""How many commands a second 100 sessions get answered."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.report import Row
from bench.servers import Bench
from bench.wire import SHOW, close_all, drive, log_in_many

_SESSIONS = 100


def measure_commands(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Let 100 sessions ask in lockstep, one server after the other, several times."""
    seconds = 0.5 if quick else 2.0
    with bench.all() as servers:
        sessions = {server.name: log_in_many(server.port, _SESSIONS) for server in servers}
        rates: dict[str, list[float]] = {server.name: [] for server in servers}
        costs: dict[str, list[float]] = {server.name: [] for server in servers}
        for turn in range(3 if quick else 8):
            for server in servers:
                cpu = server.cpu_s()
                answers, took = drive(sessions[server.name], SHOW, seconds)
                if turn:  # the first warms up
                    rates[server.name].append(answers / took)
                    costs[server.name].append((server.cpu_s() - cpu) / answers * 1e6)
        for opened in sessions.values():
            close_all(opened)
    yield Row("commands a second, 100 sessions", "/s", _medians(rates), ratio_at_least=0.5)
    yield Row("the server's processor time of one command", "µs", _medians(costs))


def _medians(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(numbers) for name, numbers in values.items()}
