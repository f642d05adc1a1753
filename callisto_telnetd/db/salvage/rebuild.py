"""A new database from what can be read of a damaged one: row by row where it must be, else at SQLite's own speed.

Rules:

* Every value is held against its column's kind before it stands in place. What fails goes to ``quarantine`` with its
  reason; of two different rows with one key the first is kept in place, the other goes there too.
* Indexes and triggers are made once the rows are in: a trigger would write an audit of what nobody did.
* The new file is nobody's until it is published; its own transactions need no disk (``synchronous=OFF``), only a
  journal in memory that takes back a range of rows at which SQLite stumbles.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from callisto_telnetd.db.doubtful_rows import quarantine
from callisto_telnetd.db.references import keep_user_of_variable, mend_references
from callisto_telnetd.db.results import Connection
from callisto_telnetd.db.salvage.report import TableReport
from callisto_telnetd.db.salvage.survey import Leaf
from callisto_telnetd.db.schema import APPLICATION_ID, migrations, statements
from callisto_telnetd.db.sieve import invalid_rows
from callisto_telnetd.db.tables import TABLES, Table, add_functions

_PRAGMAS = (
    "page_size=4096",
    "secure_delete=ON",
    "journal_mode=MEMORY",
    "synchronous=OFF",
    "foreign_keys=OFF",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "mmap_size=0",
    "cache_size=-2048",
)
_SIDE_BY_SIDE = 2
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT}


class Row(NamedTuple):
    """A row that was found outside SQLite's sight."""

    table: Table
    values: Sequence[object]
    page: int
    damaged: bool


def open_new(file: Path) -> sqlite3.Connection:
    """Return a connection to a new database with the newest schema, without its indexes and triggers."""
    connection = sqlite3.connect(file.absolute().as_uri(), uri=True, isolation_level=None, factory=Connection)
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    add_functions(connection)
    return connection


class Rebuild:
    """One new database in the making."""

    def __init__(self, file: Path, at: str) -> None:
        """Make the file; ``at`` is the moment of the repair, ISO 8601."""
        self._file = file
        self.connection = open_new(file)
        self.reports = {table.name: TableReport(table.name) for table in TABLES}
        self._at = at
        self._later: list[str] = []
        self._make_schema()

    def _make_schema(self) -> None:
        execute = self.connection.execute
        execute("BEGIN")
        for _, script in sorted(migrations().items()):
            for statement in statements(script):
                execute(statement)
        execute(f"PRAGMA application_id={APPLICATION_ID}")
        execute(f"PRAGMA user_version={max(migrations())}")
        later = execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
        ).fetchall()
        for type, name, sql in later:
            execute(f'DROP {type} "{name}"')
            self._later.append(sql)
        execute("COMMIT")

    def attach(self, file: Path, name: str) -> None:
        """Have the rows of another file at hand under that name; nothing is ever written to it."""
        self.connection.execute(f"ATTACH ? AS {name}", (f"{file.absolute().as_uri()}?immutable=1&mode=ro",))

    def detach(self, name: str) -> None:
        """Let go of the other file."""
        self.connection.execute(f"DETACH {name}")

    def copy(self, table: Table, leaves: Sequence[Leaf]) -> list[Leaf]:
        """Copy the rows of these leaves of ``old``; return the leaves that SQLite cannot read to their end."""
        if not leaves:
            return []
        try:
            self._copy_range(table, leaves)
        except sqlite3.DatabaseError as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if error.sqlite_errorcode & 0xFF not in _DAMAGE:
                raise
            if len(leaves) == 1:
                return list(leaves)
            middle = len(leaves) // 2
            return [*self.copy(table, leaves[:middle]), *self.copy(table, leaves[middle:])]
        return []

    def _copy_range(self, table: Table, leaves: Sequence[Leaf]) -> None:
        execute, key = self.connection.execute, table.key[0]
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        execute("BEGIN")
        # STRICT refuses what is not of the column's storage class; such leaves are taken row by row.
        self.reports[table.name].kept += execute(
            f'INSERT INTO main."{table.name}" ({columns}) SELECT {columns} FROM old."{table.name}" NOT INDEXED'
            f' WHERE "{key}" BETWEEN ? AND ?',
            (leaves[0].first, leaves[-1].last),
        ).rowcount
        execute("COMMIT")

    def sift(self) -> None:
        """Move the copied rows that fail their kinds into quarantine; tables are looked at side by side."""
        tables = [table for table in TABLES if table.rowid]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            refused = list(pool.map(self._invalid, sorted(tables, key=lambda table: -self.reports[table.name].kept)))
        self.connection.execute("BEGIN")
        for table, rows in refused:
            for values in rows:
                self.connection.execute(f'DELETE FROM "{table.name}" WHERE "{table.key[0]}" = ?', values[:1])
                self.quarantine(table, values, _faults(table, values))
                self.reports[table.name].kept -= 1
        self.connection.execute("COMMIT")

    def _invalid(self, table: Table) -> tuple[Table, list[tuple[Any, ...]]]:
        with closing(sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            add_functions(connection)
            return table, list(invalid_rows(connection, table))

    def take(self, rows: Iterable[Row]) -> None:
        """Put single rows in place, or into quarantine."""
        self.connection.execute("BEGIN")
        for row in rows:
            if faults := _faults(row.table, row.values):
                self.quarantine(row.table, row.values, f"{faults} (page {row.page})")
            elif self._insert(row.table, row.values):
                report = self.reports[row.table.name]
                report.kept += 1
                report.from_damaged += row.damaged
            elif not self._stands(row.table, row.values):
                self.quarantine(row.table, row.values, f"another row has its key (page {row.page})")
        self.connection.execute("COMMIT")

    def _insert(self, table: Table, values: Sequence[object]) -> bool:
        places = ", ".join("?" * len(values))
        return self.connection.execute(f'INSERT OR IGNORE INTO "{table.name}" VALUES ({places})', values).rowcount > 0

    def _stands(self, table: Table, values: Sequence[object]) -> bool:
        """Whether the very same row is in place already."""
        same = " AND ".join(f'"{column.name}" IS ?' for column in table.columns)
        return self.connection.execute(f'SELECT 1 FROM "{table.name}" WHERE {same}', values).fetchone() is not None

    def quarantine(self, table: Table, values: Sequence[object], reason: str) -> None:
        """Keep a row that its table does not take."""
        self._refuse(table, values, reason)
        self.reports[table.name].quarantined += 1

    def _refuse(self, table: Table, values: Sequence[object], reason: str) -> None:
        quarantine(self.connection, table, values, reason, self._at)

    def mend_references(self) -> None:
        """Make lost parents anew as placeholders, and clear what a change undoes where that is gone."""
        self.connection.execute("BEGIN")
        for name, mended in mend_references(self.connection).items():
            self.reports[name].placeholders += mended.placeholders
            self.reports[name].cleared += mended.cleared
        self.connection.execute("COMMIT")

    def keep_user_of_variable(self) -> None:
        """Make the user anew whom a system variable names, where he is lost."""
        self.reports["user"].placeholders += keep_user_of_variable(self.connection)

    def make_indexes(self) -> None:
        """Make what was left for later: indexes and triggers."""
        self.connection.execute("BEGIN")
        for sql in self._later:
            self.connection.execute(sql)
        self.connection.execute("COMMIT")

    def close(self) -> None:
        """Close the new file."""
        self.connection.close()


def _faults(table: Table, values: Sequence[object]) -> str:
    return "; ".join(f"{name} is not {fault}" for name, fault in table.faults(values).items())
