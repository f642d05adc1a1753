"""How long a repair takes, what memory, and how long the web server is away, beside SQLite's own ways."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterator

from bench.large_database import (
    MEBIBYTES,
    LargeDatabase,
    Work,
    await_port,
    damage,
    free_port,
    pages_to_damage,
    recover,
    recover_tool,
    watched_port,
    work,
)
from bench.report import Row
from bench.servers import CALLISTO, Bench

VACUUM_INTO, RECOVER, RESTART = "VACUUM INTO", ".recover", "services restart"
_ON_FILES, _OF_SERVICES = (VACUUM_INTO, RECOVER), (RESTART,)
_SWAP_S = 2.0
_MIB = 1 << 20


def measure_repair(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Repair a sound database, then damaged ones; each time SQLite's tool has its turn on the same file."""
    rounds = 1 if quick else 5
    database = LargeDatabase(bench.folder / "repair")
    yield from _sound(database, rounds)
    with recover_tool() as tool:
        yield from _damaged(database, rounds, tool)


def _sound(database: LargeDatabase, rounds: int) -> Iterator[Row]:
    """Measure; the port is watched in rounds of their own: to ask every 5 ms takes the watched server's processor."""
    port = free_port()
    works: list[Work] = []
    vacuums, silences, restarts = [], [], []
    with database.server(port) as server:
        await_port(port)
        for _ in range(rounds):
            vacuums.append(database.sql("VACUUM INTO '{new}'"))
            works.append(work(server, b"repair yes", b"OK database is sound"))
            await_port(port)
        for _ in range(rounds):
            with watched_port(port) as silent:
                work(server, b"repair yes", b"OK database is sound")
            silences.append(sum(silent))
            await_port(port)
            with watched_port(port) as silent:
                work(server, b"services restart web-server", b"OK ")
            restarts.append(sum(silent))
            await_port(port)
    median = statistics.median
    name = f"repair of {MEBIBYTES} MiB, no page bad"
    yield Row(name, "s", {CALLISTO: _seconds(works), VACUUM_INTO: median(vacuums)}, ratio_at_most=3, others=_ON_FILES)
    yield from _memory(name, works)
    silence = {CALLISTO: median(silences), RESTART: median(restarts)}
    yield Row(f"{name}: web server away", "s", silence, at_most=_SWAP_S, others=_OF_SERVICES)


def _damaged(database: LargeDatabase, rounds: int, tool: str) -> Iterator[Row]:
    pages = pages_to_damage(database.sound)
    damaged = database.sound.with_name("damaged.db")
    shutil.copyfile(database.sound, damaged)
    damage(damaged, pages)
    works: list[Work] = []
    recovers = []
    for _ in range(rounds):
        recovers.append(recover(tool, damaged, database.bench.folder))
        with database.server() as server:
            damage(database.live, pages)
            works.append(work(server, b"repair yes", b"OK database repaired"))
    name = f"repair of {MEBIBYTES} MiB, {len(pages)} pages bad"
    values = {CALLISTO: _seconds(works), RECOVER: statistics.median(recovers)}
    yield Row(name, "s", values, ratio_at_most=2, against=RECOVER, others=_ON_FILES)
    yield from _memory(name, works)


def _seconds(works: list[Work]) -> float:
    return statistics.median(each.seconds for each in works)


def _memory(name: str, works: list[Work]) -> Iterator[Row]:
    """Yield the most memory that any of the rounds took."""
    worker, server = (max(each.worker_bytes for each in works), max(each.server_bytes for each in works))
    yield Row(
        f"{name}: worker and growth of the server",
        "MiB",
        {CALLISTO: (worker + server) / _MIB},
        at_most=64,
        others=_ON_FILES,
    )
    yield Row(f"{name}: growth of the server alone", "MiB", {CALLISTO: server / _MIB}, others=_ON_FILES)
