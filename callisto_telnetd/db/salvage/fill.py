"""The rows that a repair has lost are taken out of a backup, and only those.

Rules:

* A row is taken where the repair has lost rows of its table, its key is not here now, its table takes it (the rule of
  ``db/doubtful.py``), and what it refers to is here. What is here stays as it is; a placeholder gives way to its row.
* That is done once for a repair, and no more rows are taken than were shown before the question: a row that somebody
  deletes later does not come back.
* Audit and history are taken where the backup is of this very appliance: all numbers that both sides have say the same.
* Accounts are not taken: a repair has them from memory or from ``accounts.json``. Neither is ``state``.
* All of it is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from callisto_telnetd.db.column_kinds import add_functions
from callisto_telnetd.db.memory import SAID, Change, note_changes, take_triggers
from callisto_telnetd.db.results import translate
from callisto_telnetd.db.salvage.report import LOST_STATE
from callisto_telnetd.db.sieve import invalid_sql
from callisto_telnetd.db.tables import TABLES, Table, table_named
from callisto_telnetd.errors import StoreError

_NEVER = {"account", "state", "quarantine"}
_PLACEHOLDERS = {
    "user": "name = 'recovered ' || number AND phone = ''",
    "mailbox": "pin_hash = '' AND language = 'en' AND quota_s = 1800",
}
"""How a placeholder looks (``db/references.py``)."""


class Wanted(NamedTuple):
    """What a repair has lost."""

    lost: Collection[str]
    """The tables of which it has lost rows."""
    placeholders: Collection[str]
    """Those in which it has made placeholders."""


def look(live: Path, backup: Path, wanted: Wanted) -> dict[str, int]:
    """Return how many rows a backup has that could be taken, by table; changes nothing.

    Args:
        live: The database, which may be in use.
        backup: A database of the newest schema, sound; nobody writes to it.
        wanted: What a repair has lost.

    Raises:
        StoreError: one of the two cannot be read.
    """
    with _translated(), closing(_attached(f"{live.absolute().as_uri()}?mode=ro", backup)) as connection:
        found = {table.name: _count(connection, table, wanted) for table in _tables(connection, wanted)}
        return {name: count for name, count in found.items() if count}


def fill(live: Path, backup: Path, wanted: Wanted, found: Mapping[str, int], change: Change) -> dict[str, int]:
    """Take the rows, in one durable transaction, and note that it is done; return how many, by table.

    Args:
        live: The database, which nobody has open.
        backup: As for :func:`look`.
        wanted: As for :func:`look`.
        found: What :func:`look` has found: no more is taken.
        change: Whose change it is, for the history of variables.

    Raises:
        StoreError: nothing was changed.
    """
    taken: dict[str, int] = {}
    variables: list[tuple[str, str | None, str | None]] = []
    with _translated(), closing(_attached(f"{live.absolute().as_uri()}?mode=rw", backup)) as connection:
        for pragma in ("synchronous=EXTRA", "secure_delete=ON", "cell_size_check=ON", "mmap_size=0"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        triggers = take_triggers(connection)
        for table in _tables(connection, wanted):
            if table.name == "variable":
                rows = connection.execute(f"SELECT name, value FROM backup.variable AS t WHERE {_missing(table)}")
                variables = [(name, None, value) for name, value in rows.fetchall()]
            count = _insert(connection, table) if table.name in wanted.lost else 0
            count += _replace_placeholders(connection, table) if table.name in wanted.placeholders else 0
            if count > found.get(table.name, 0):
                raise StoreError(f"rows of {table.name} were deleted meanwhile; nothing was changed; try again")
            if count:
                taken[table.name] = count
        for sql in triggers:
            connection.execute(sql)
        note_changes(connection, variables, change)
        if fault := connection.execute("PRAGMA foreign_key_check").fetchone():
            raise StoreError(f"a row of {fault[0]} would name a row that is not there; nothing was changed")
        connection.execute("DELETE FROM state WHERE key = ?", (LOST_STATE,))
        connection.execute("COMMIT")
    return taken


def recordings_wanted(live: Path, backup: Path, folder: Path) -> list[Path]:
    """Return the files of a folder of recordings that rows name which would be taken.

    Raises:
        StoreError: a database cannot be read.
    """
    names: set[str] = set()
    with _translated(), closing(_attached(f"{live.absolute().as_uri()}?mode=ro", backup)) as connection:
        for name in ("message", "greeting"):
            if (table := table_named(name)) is not None:
                sql = f"SELECT recording FROM backup.{name} AS t WHERE {_missing(table, parents=('user', 'mailbox'))}"
                names.update(recording for (recording,) in connection.execute(sql))
    return [path for path in sorted(folder.iterdir()) if path.name in names] if folder.is_dir() else []


def _attached(uri: str, backup: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA trusted_schema=OFF").fetchall()
        connection.execute("PRAGMA busy_timeout=5000").fetchall()
        add_functions(connection)
        connection.execute("ATTACH ? AS backup", (f"{backup.absolute().as_uri()}?mode=ro&immutable=1",))
    except BaseException:
        connection.close()
        raise
    return connection


def _tables(connection: sqlite3.Connection, wanted: Wanted) -> Iterator[Table]:
    """Yield the tables whose rows may be taken, parents before children."""
    for table in TABLES:
        if (
            table.name in {*wanted.lost, *wanted.placeholders}
            and table.name not in _NEVER
            and _is_of_here(connection, table)
        ):
            yield table


def _is_of_here(connection: sqlite3.Connection, table: Table) -> bool:
    """Whether the numbers of a table mean the same on both sides; tables whose keys are names, and no numbers, do."""
    if table.name not in SAID:
        return True
    same = " AND ".join(f"t.{column} IS o.{column}" for column in SAID[table.name])
    sql = f"SELECT count(*), total({same}) FROM backup.{table.name} AS t JOIN main.{table.name} AS o ON o.id = t.id"
    both, alike = connection.execute(sql).fetchone()
    return bool(both and both == alike)


def _missing(table: Table, parents: Collection[str] = ()) -> str:
    """Return the test for a row ``t`` of the backup that may be taken; parents of these tables come along with it."""
    key = " AND ".join(f't."{column}" = o."{column}"' for column in table.key)
    tests = [f'NOT EXISTS (SELECT 1 FROM main."{table.name}" AS o WHERE {key})', f"NOT {invalid_sql(table, 't')}"]
    for each in table.references:
        there = [f'EXISTS (SELECT 1 FROM main."{each.table}" AS p WHERE p."{each.key}" = t."{each.column}")']
        if each.table in parents or each.table == table.name:
            there.append(f'EXISTS (SELECT 1 FROM backup."{each.table}" AS p WHERE p."{each.key}" = t."{each.column}")')
        tests.append(f'(t."{each.column}" IS NULL OR {" OR ".join(there)})')
    return " AND ".join(tests)


def _insert(connection: sqlite3.Connection, table: Table) -> int:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    rows = f'SELECT {columns} FROM backup."{table.name}" AS t WHERE {_missing(table)}'
    return connection.execute(f'INSERT INTO main."{table.name}" {rows}').rowcount


def _count(connection: sqlite3.Connection, table: Table, wanted: Wanted) -> int:
    count = 0
    if table.name in wanted.lost:
        sql = f'SELECT count(*) FROM backup."{table.name}" AS t WHERE {_missing(table, wanted.lost)}'
        count = int(connection.execute(sql).fetchone()[0])
    if table.name in wanted.placeholders and table.name in _PLACEHOLDERS:
        count += int(connection.execute(f"SELECT count(*) FROM {_placeholders(table)}").fetchone()[0])
    return count


def _placeholders(table: Table) -> str:
    """Return what the placeholders are selected from that the backup has another row for."""
    same = " AND ".join(f't."{column.name}" IS o."{column.name}"' for column in table.columns)
    key = " AND ".join(f't."{column}" = o."{column}"' for column in table.key)
    there = f'SELECT 1 FROM backup."{table.name}" AS t WHERE {key} AND NOT ({same}) AND NOT {invalid_sql(table, "t")}'
    return f'main."{table.name}" AS o WHERE {_PLACEHOLDERS[table.name]} AND EXISTS ({there})'


def _replace_placeholders(connection: sqlite3.Connection, table: Table) -> int:
    if table.name not in _PLACEHOLDERS:
        return 0
    key = table.key[0]
    numbers = [number for (number,) in connection.execute(f'SELECT o."{key}" FROM {_placeholders(table)}').fetchall()]
    rest = [column.name for column in table.columns if column.name not in table.key]
    values = ", ".join(f'"{name}" = (SELECT "{name}" FROM backup."{table.name}" WHERE "{key}" = :key)' for name in rest)
    sql = f'UPDATE main."{table.name}" SET {values} WHERE "{key}" = :key'
    connection.executemany(sql, ({"key": number} for number in numbers))
    return len(numbers)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error) from None
