"""How long a compact takes beside SQLite's ``VACUUM`` of the same database."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.large_database import MEBIBYTES, LargeDatabase, work
from bench.report import Row
from bench.servers import CALLISTO, Bench

VACUUM, VACUUM_INTO = "VACUUM", "VACUUM INTO"
_OTHERS = (VACUUM, VACUUM_INTO)


def measure_compact(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Compact the database of a server that runs; each time SQLite has its turn on a copy."""
    database = LargeDatabase(bench.folder / "compact")
    works, vacuums, copies = [], [], []
    for _ in range(1 if quick else 5):
        vacuums.append(database.sql("VACUUM"))
        copies.append(database.sql("VACUUM INTO '{new}'"))
        with database.server() as server:
            works.append(work(server, b"compact", b"OK "))
    median, most = statistics.median, max(each.worker_bytes + each.server_bytes for each in works)
    name = f"compact of {MEBIBYTES} MiB"
    values = {CALLISTO: median(each.seconds for each in works), VACUUM: median(vacuums), VACUUM_INTO: median(copies)}
    yield Row(name, "s", values, ratio_at_most=1.2, others=_OTHERS)
    yield Row(f"{name}: worker and growth of the server", "MiB", {CALLISTO: most / (1 << 20)}, others=_OTHERS)
