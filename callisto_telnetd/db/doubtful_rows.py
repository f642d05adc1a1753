"""Doubtful rows: those with a value that its column does not take, as one flipped bit or another program leaves it.

Rules:

* This is the one rule by which rows are judged: whoever makes, verifies, plans or restores a backup asks here, and so
  does whoever keeps or takes a copy of the database. What one of them lets pass, no other refuses.
* A doubtful row keeps nobody from a restore: it is set apart into ``quarantine`` with its reason, as a repair does it,
  and what refers to it finds a placeholder.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.references import keep_user_of_variable, mend_references
from callisto_telnetd.db.sieve import invalid_rows, invalid_sql
from callisto_telnetd.db.tables import TABLES, Table, add_functions

MOST_FAULTS = 20
"""Faults that are told in words; all rows are counted."""
_LONGEST_CONTENT = 1_900_000
_LONGEST_CUT = 10_000
"""Characters of a value of a row that is too long: each may become twelve, as two escapes, and a table has eleven."""
_LONGEST_REASON = 900


def find_doubtful(connection: sqlite3.Connection) -> Doubtful:
    """Return the doubtful rows of a database that has the schema of one of our versions; nothing is changed.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    tables: dict[str, int] = {}
    faults: list[str] = []
    with _reading_damaged_text(connection):
        for table in _there(connection):
            for values in invalid_rows(connection, table):
                tables[table.name] = tables.get(table.name, 0) + 1
                if len(faults) < MOST_FAULTS:
                    faults += row_faults(table, values)
    return Doubtful(tables, tuple(faults[:MOST_FAULTS]))


def row_faults(table: Table, values: Sequence[object]) -> list[str]:
    """Return what is wrong with a row, a line for each column: ``user 7: name is not one line of …``; one at least."""
    key = "/".join(map(ascii, table.key_of(values)))
    return [f"{table.name} {key}: {reason}" for reason in _reasons(table, values)]


def _reasons(table: Table, values: Sequence[object]) -> list[str]:
    """Return what is wrong with a row that SQLite has found to fail; one reason at least."""
    # Where UTF-16 is damaged, SQLite may make valid characters of it on their way to us.
    return [f"{name} is not {fault}" for name, fault in table.faults(values).items()] or ["a text in it is none"]


def set_apart(connection: sqlite3.Connection, at: str, only: Collection[str] = ()) -> Doubtful:
    """Move the doubtful rows into ``quarantine``, mend what refers to them, and return which they were.

    Args:
        connection: To a database of the newest schema, in no transaction; foreign keys are not watched meanwhile.
        at: The moment, ISO 8601.
        only: The tables that are looked at; none of them means all.

    Raises:
        sqlite3.Error: it cannot be done; whoever calls throws the database away.
    """
    tables: dict[str, int] = {}
    faults: list[str] = []
    connection.execute("PRAGMA foreign_keys=OFF").fetchall()
    connection.execute("BEGIN")
    with _reading_damaged_text(connection):
        for table in _there(connection):
            if only and table.name not in only:
                continue
            rows = list(invalid_rows(connection, table))
            _delete(connection, table, rows)
            for values in rows:
                quarantine(connection, table, values, "; ".join(_reasons(table, values)), at)
                faults += row_faults(table, values) if len(faults) < MOST_FAULTS else ()
            if rows:
                tables[table.name] = len(rows)
    if tables:
        keep_user_of_variable(connection)
        mend_references(connection)
    connection.execute("COMMIT")
    connection.execute("PRAGMA foreign_keys=ON").fetchall()
    return Doubtful(tables, tuple(faults[:MOST_FAULTS]))


def quarantine(connection: sqlite3.Connection, table: Table, values: Sequence[object], reason: str, at: str) -> None:
    """Keep a row that its table does not take, as JSON, with its reason."""
    names = [column.name for column in table.columns]
    row = dict(zip(names, map(_plain, values), strict=True))
    content = json.dumps(row, allow_nan=False)
    if len(content) > _LONGEST_CONTENT:  # cut value by value: what is kept stays JSON, which SQLite reads
        content = json.dumps({name: _cut(value) for name, value in row.items()}, allow_nan=False)
    connection.execute(
        "INSERT INTO quarantine (at, origin, reason, content) VALUES (?, ?, ?, ?)",
        (at, table.name, reason[:_LONGEST_REASON], content),
    )


def _there(connection: sqlite3.Connection) -> list[Table]:
    """Return the tables that the database has: one of an older schema lacks some."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return [table for table in TABLES if table.name in names]


def _delete(connection: sqlite3.Connection, table: Table, rows: Sequence[Sequence[object]]) -> None:
    """Take the invalid rows of a table out of it; a damaged text cannot be named, so it is not asked for by its key."""
    if not rows:
        return
    if table.rowid:
        connection.executemany(f'DELETE FROM "{table.name}" WHERE "{table.key[0]}" = ?', (row[:1] for row in rows))
    else:
        connection.execute(f'DELETE FROM "{table.name}" WHERE {invalid_sql(table)}')


@contextmanager
def _reading_damaged_text(connection: sqlite3.Connection) -> Iterator[None]:
    """Have text that is no UTF-8 read all the same, and our functions at hand."""
    before = connection.text_factory
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    add_functions(connection)
    try:
        yield
    finally:
        connection.text_factory = before


def _plain(value: object) -> object:
    """Return a value as JSON can have it; bytes become hexadecimal digits, and what is no number its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def _cut(value: object) -> object:
    """Return a value as :func:`_plain` gives it, no longer than a row has room for."""
    if isinstance(value, dict):
        return {kind: _cut(digits) for kind, digits in value.items()}
    return value[:_LONGEST_CUT] if isinstance(value, str) else value
