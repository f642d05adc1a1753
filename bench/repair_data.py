"""A database of any size, made quickly, for the measures of repair and compact; ``python -m bench.repair_data PATH``.

The rows are those of the demonstration, and call records that repeat them with other numbers; there are no recordings.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from callisto_telnetd.db.schema import APPLICATION_ID, migrations, statements
from callisto_telnetd.maintenance.demo_pieces import Order
from callisto_telnetd.maintenance.demo_rows import batches

_USERS, _MESSAGES, _CALLS = 1000, 2000, 20_000
_NOW = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
_CALL_BYTES = 98
"""What a call record takes of the file, its index counted."""
_MESSAGES_PER_MIB = 700
_STEP = 50_000
_COLUMNS = {
    "user": "number, name, phone",
    "mailbox": "number, pin_hash, language, quota_s",
    "greeting": "mailbox, occasion, at, length_ms, recording",
    "message": "mailbox, kind, at, caller, length_ms, heard, recording, transcript",
    "call_record": "at, caller, called, user, result, ring_ms, talk_ms",
}
Row = tuple[object, ...]


def make_database(path: Path, mebibytes: int = 200, seed: int = 1) -> int:
    """Write a database of about that size, and return its number of user-data rows; the same seed gives the same rows.

    Two fifths of it are messages with transcripts, the rest call records.
    """
    path.unlink(missing_ok=True)
    rows = _base(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in (
            "page_size=4096",
            "journal_mode=OFF",
            "synchronous=OFF",
            "foreign_keys=OFF",
            "cache_size=-65536",
        ):
            connection.execute(f"PRAGMA {pragma}")
        for _, script in sorted(migrations().items()):
            for statement in statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={max(migrations())}")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO variable VALUES ('gWebTimeout', '30')")
        count = 0
        for table in ("user", "mailbox", "greeting"):
            count += _insert(connection, table, rows[table])
        chance = random.Random(seed)
        for part in _parts(rows["message"], mebibytes * _MESSAGES_PER_MIB, chance):
            count += _insert(connection, "message", part)
        wanted = mebibytes << 20
        while (left := wanted - _size(connection)) > 0:
            calls = min(_STEP, left // _CALL_BYTES + 1)
            for part in _parts(rows["call_record"], calls, chance):
                count += _insert(connection, "call_record", part)
        connection.execute("COMMIT")
    path.chmod(0o600)
    return count


def _base(seed: int) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {table: [] for table in _COLUMNS}
    for batch in batches(Order(_USERS, _MESSAGES, _CALLS, seed), range(1000, 1000 + _USERS), _NOW):
        for table, some in batch.rows.items():
            rows[table] += some
    return rows


def _parts(rows: list[Row], count: int, chance: random.Random) -> Iterator[list[Row]]:
    """Yield that many rows taken at random."""
    for begin in range(0, count, _STEP):
        yield chance.choices(rows, k=min(_STEP, count - begin))


def _insert(connection: sqlite3.Connection, table: str, rows: list[Row]) -> int:
    columns = _COLUMNS[table]
    values = ", ".join("?" * (columns.count(",") + 1))
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({values})", rows)
    return len(rows)


def _size(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_count").fetchone()[0]) * 4096


if __name__ == "__main__":
    begun = time.perf_counter()
    made = make_database(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
    print(f"{made} rows, {Path(sys.argv[1]).stat().st_size} bytes, {time.perf_counter() - begun:.1f} s")
