"""Tables that a server holds in memory as a whole: a database with more of their rows is neither made nor taken."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from callisto_telnetd.db.quiet import open_quietly
from callisto_telnetd.quantities import MOST_ACCOUNTS, MOST_STORED_VARIABLES, counted

_MOST = {"account": MOST_ACCOUNTS, "variable": MOST_STORED_VARIABLES}


def excess(rows: Mapping[str, int]) -> str:
    """Return which table has too many rows, by their numbers; blank where none has."""
    for table, most in _MOST.items():
        if rows.get(table, 0) > most:
            return f"{table} has {counted(rows[table], 'row', grouped=True)}, at most {most:,} are taken"
    return ""


def excess_in(file: Path) -> str:
    """Return which table of a sound database that nobody has open has too many rows; blank where none has.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    with closing(open_quietly(file, closed=True)) as connection:
        return excess({table: _count(connection, table) for table in _MOST})


def _count(connection: sqlite3.Connection, table: str) -> int:
    there = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)).fetchone()
    return int(connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]) if there else 0
