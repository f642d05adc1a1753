"""The check of the database: what SQLite says of the file, told truthfully.

``integrity_check`` does not see broken foreign keys, so ``foreign_key_check`` follows (SQLite, "Pragma statements").
"""

from __future__ import annotations

from dataclasses import dataclass

from callisto_telnetd.db.store import Store

_MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class TableCount:
    """How many rows a table holds."""

    table: str
    rows: int


async def check_integrity(store: Store) -> list[str]:
    """Return the faults of pages, indexes and rows, at most twenty; none where the file is sound."""
    rows = await store.fetch(f"PRAGMA integrity_check({_MOST_FAULTS})")
    return [str(row[0]) for row in rows if row[0] != "ok"]


async def check_quickly(store: Store) -> list[str]:
    """Return the faults of pages and rows, at most twenty; indexes are not held against their tables (SQLite)."""
    rows = await store.fetch(f"PRAGMA quick_check({_MOST_FAULTS})")
    return [str(row[0]) for row in rows if row[0] != "ok"]


async def check_foreign_keys(store: Store) -> list[str]:
    """Return the rows that name a row that is not there, at most twenty."""
    # As a table: a damaged file may have millions of such rows, and the pragma itself gives them all at once.
    rows = await store.fetch('SELECT "table", rowid, parent FROM pragma_foreign_key_check LIMIT ?', (_MOST_FAULTS,))
    return [f"{table} row {row} names a missing row of {parent}" for table, row, parent in rows]


async def count_rows(store: Store) -> list[TableCount]:
    """Return each table of the schema with its number of rows."""
    names = await store.fetch(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    )
    return [
        TableCount(str(name), int((await store.fetch(f'SELECT count(*) FROM "{name}"'))[0][0])) for (name,) in names
    ]
