"""Real databases for the tests of the readers: the schema of the migrations, filled by SQLite with plausible rows."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from callisto_telnetd.db.schema import APPLICATION_ID, migrations, statements
from callisto_telnetd.db.tables import CALL_RESULTS, GREETING_OCCASIONS, TABLES, Table

PRAGMAS = ("page_size=4096", "foreign_keys=ON", "secure_delete=ON", "journal_mode=PERSIST", "synchronous=OFF")
HASH = "$argon2id$v=19$m=47104,t=2,p=1$" + "c29tZXNhbHQ" * 2 + "$" + "RdescudvJCsgt3ub" * 3


def connect(file: Path) -> sqlite3.Connection:
    """Open a database as the store does."""
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def make_schema(connection: sqlite3.Connection) -> None:
    """Run all migrations, and stamp the file."""
    connection.execute("BEGIN")
    for _, script in sorted(migrations().items()):
        for statement in statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={max(migrations())}")
    connection.execute("COMMIT")


def moment(number: int) -> str:
    """Return a time as the clock writes it, one of many."""
    fraction = f".{number % 1_000_000:06d}" if number % 3 else ""
    return f"2026-{number % 12 + 1:02d}-{number % 28 + 1:02d}T{number % 24:02d}:{number % 60:02d}:07{fraction}+01:00"


def digest(number: int) -> str:
    """Return the name of a recording."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def fill(connection: sqlite3.Connection, users: int = 60, messages: int = 600, seed: int = 1) -> None:
    """Fill every table; a part of the messages has transcripts that overflow their page."""
    chance = random.Random(seed)
    many = connection.executemany
    connection.execute("BEGIN")
    accounts = [
        (f"admin{n}", HASH, moment(n), *((moment(n), "::1", "telnet") if n % 2 else (None,) * 3)) for n in range(30)
    ]
    many("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?)", accounts)
    many("INSERT INTO variable VALUES (?, ?)", [(f"gVariable{n}", "wert ü " * (n % 9)) for n in range(40)])
    many(
        "INSERT INTO state VALUES (?, ?)", [("clock", '{"zone": ""}'), ("last_check", "sound"), ("plan", "x\n" * 3000)]
    )
    many(
        "INSERT INTO variable_change VALUES (NULL, ?, ?, ?, ?, ?, 'admin', 'telnet', '192.0.2.7', ?, ?)",
        [
            (
                n + 1,
                moment(n),
                f"gVariable{n % 40}",
                None if n % 5 else str(n),
                str(n * 7),
                "a note" * (n % 3),
                n or None,
            )
            for n in range(users * 5)
        ],
    )
    many("INSERT INTO user VALUES (?, ?, ?)", [(100 + n, f"Jörg Müller {n}", f"+4930{n:07d}") for n in range(users)])
    many("INSERT INTO mailbox VALUES (?, ?, 'de', 1800)", [(100 + n, HASH if n % 2 else "") for n in range(users)])
    many(
        "INSERT INTO message VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                100 + n % users,
                "fax" if n % 10 == 0 else "voice",
                moment(n),
                f"+49301234{n:04d}",
                chance.randrange(200_000),
                n % 2,
                digest(n),
                "Grüße aus Köln. " * (chance.randrange(1500) if n % 40 == 0 else n % 8),
            )
            for n in range(messages)
        ],
    )
    many(
        "INSERT INTO greeting VALUES (?, ?, ?, ?, ?)",
        [(100 + n, o, moment(n), n * 1000, digest(n)) for n in range(users) for o in GREETING_OCCASIONS],
    )
    many(
        "INSERT INTO call_record VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                moment(n),
                f"+49{n}",
                str(100 + n % users),
                None if n % 4 == 0 else 100 + n % users,
                CALL_RESULTS[n % len(CALL_RESULTS)],
                n % 30_000,
                chance.randrange(10**6),
            )
            for n in range(messages * 2)
        ],
    )
    many(
        "INSERT INTO quarantine VALUES (NULL, ?, 'user row 4', 'a reason', ?)", [(moment(1), "[1]"), (moment(2), "{}")]
    )
    connection.execute("COMMIT")


def make(file: Path, users: int = 60, messages: int = 600, *, deleted: bool = False, vacuumed: bool = False) -> Path:
    """Make a filled database, with a third of its messages and calls deleted where asked for."""
    with closing(connect(file)) as connection:
        make_schema(connection)
        fill(connection, users, messages)
        if deleted:
            connection.execute("DELETE FROM message WHERE id % 3 = 1")
            connection.execute(f"DELETE FROM call_record WHERE id BETWEEN {messages // 2} AND {messages}")
            connection.execute("DELETE FROM variable_change WHERE id % 7 = 0 AND id > 1000000")
        if vacuumed:
            connection.execute("VACUUM")
    return file


def rows_of(file: Path, tables: Iterable[Table] = TABLES) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of the tables as SQLite gives them, in the order of their keys."""
    with closing(connect(file)) as connection:
        return {
            table.name: connection.execute(f'SELECT * FROM "{table.name}" ORDER BY {", ".join(table.key)}').fetchall()
            for table in tables
        }
