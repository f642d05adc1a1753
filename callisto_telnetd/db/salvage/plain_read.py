"""A repair is never worse than a plain read: what SQLite still gives of the damaged file has to be in the new one.

Rules:

* SQLite counts each table of the damaged file. Where it comes to its end and to no more than was kept and set apart,
  that is all: it looks at the heads of pages alone.
* Else it reads the table from both ends, as far as it comes, for rows whose keys nobody has kept. Those whose values
  the table takes are missing. SQLite is more lenient than :mod:`callisto_telnetd.db.format` with a few damaged records,
  so some may be; where many are, it is the repair that has gone wrong.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from callisto_telnetd.db.quiet import open_quietly
from callisto_telnetd.db.salvage.report import TableReport
from callisto_telnetd.db.tables import TABLES, Table

MOST_MISSING = 1000
_BATCH = 2000

Key = tuple[Any, ...]
Row = tuple[Any, ...]


def missing_rows(
    source: Path, new: sqlite3.Connection, reports: Mapping[str, TableReport], at: str
) -> dict[Table, list[Row]]:
    """Return the rows that a plain read gives and the new database lacks, by table; none where nothing is missing.

    Of a table with more than :data:`MOST_MISSING` some more than that.

    Args:
        source: The damaged file, which nobody has open.
        new: The new database, with all that was kept in it.
        reports: What was kept and set apart, by table.
        at: The moment of the repair, which tells what it has set apart itself.
    """
    missing = {}
    with closing(open_quietly(source, closed=True)) as connection:
        there = _tables_of(connection)
        for table in TABLES:
            report = reports[table.name]
            count = _count(connection, table) if table.name in there else 0
            if count is not None and count <= report.kept + report.quarantined:
                continue
            if found := _missing(connection, new, table, at):
                missing[table] = found
    return missing


def _tables_of(connection: sqlite3.Connection) -> set[str]:
    """Return the tables that a plain read can name: none without a schema, or a first page."""
    try:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except sqlite3.DatabaseError:
        return set()


def _count(connection: sqlite3.Connection, table: Table) -> int | None:
    """Return how many rows a plain read counts; None where it does not come to its end."""
    try:
        return int(connection.execute(f'SELECT count(*) FROM "{table.name}" NOT INDEXED').fetchone()[0])
    except sqlite3.DatabaseError:
        return None


def _missing(source: sqlite3.Connection, new: sqlite3.Connection, table: Table, at: str) -> list[Row]:
    """Return the valid rows that are found from both ends, whose keys are neither in the table nor set apart."""
    missing: set[Key] = set()
    for direction in ("ASC", "DESC"):
        for keys in _batches(source, table, direction):
            missing.update(_not_kept(new, table, keys))
            if len(missing) > MOST_MISSING:
                break
    missing -= _set_apart(new, table, at) if missing else set()
    return [row for key in missing if (row := _valid_row(source, table, key)) is not None]


def _batches(connection: sqlite3.Connection, table: Table, direction: str) -> Iterator[list[Key]]:
    """Yield the keys of a table from one of its ends, as far as SQLite gives them.

    One that is no text is left out: no table takes it, and nobody can be asked for it.
    """
    columns = ", ".join(f'"{column}"' for column in table.key)
    order = ", ".join(f'"{column}" {direction}' for column in table.key)
    keys: list[Key] = []
    with contextlib.suppress(sqlite3.DatabaseError):  # what came before it counts
        for key in connection.execute(f'SELECT {columns} FROM "{table.name}" NOT INDEXED ORDER BY {order}'):
            if not _is_text(key):
                continue
            keys.append(key)
            if len(keys) == _BATCH:
                yield keys
                keys = []
    if keys:
        yield keys


def _is_text(key: Key) -> bool:
    """Whether each text of a key is UTF-8: that of a damaged file has lone surrogates for other bytes."""
    try:
        "".join(part for part in key if isinstance(part, str)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_kept(new: sqlite3.Connection, table: Table, keys: Sequence[Key]) -> set[Key]:
    if table.rowid:
        ends = min(keys)[0], max(keys)[0]
        sql = f'SELECT "{table.key[0]}" FROM "{table.name}" NOT INDEXED WHERE "{table.key[0]}" BETWEEN ? AND ?'
        return set(keys).difference(new.execute(sql, ends))
    return {
        key for key in keys if new.execute(f'SELECT 1 FROM "{table.name}" WHERE {_is(table)}', key).fetchone() is None
    }


def _is(table: Table) -> str:
    return " AND ".join(f'"{column}" IS ?' for column in table.key)


def _set_apart(new: sqlite3.Connection, table: Table, at: str) -> set[Key]:
    columns = ", ".join(f"json_extract(content, '$.{column}')" for column in table.key)
    return set(new.execute(f"SELECT {columns} FROM quarantine WHERE origin = ? AND at = ?", (table.name, at)))


def _valid_row(source: sqlite3.Connection, table: Table, key: Key) -> Row | None:
    """Return the row as a plain read gives it; None where its table does not take it, as it takes none of others."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    sql = f'SELECT {columns} FROM "{table.name}" NOT INDEXED WHERE {_is(table)}'
    try:
        row: Row | None = source.execute(sql, key).fetchone()
    except sqlite3.DatabaseError:
        return None
    if row is None or table.faults(row):
        return None
    # The rows of two tables have one form: after their pages have changed places each gives those of the other.
    return row if not table.usual or re.match(table.usual, str(row[0])) else None
