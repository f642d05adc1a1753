"""What the present database still says of the appliance's memory, for the one that takes its place.

Rules:

* The file is read over a connection of its own: no other encoding, page size or damage keeps its entries from that.
* Around a damage SQLite reads each table from both ends, as far as it comes. What lies between is taken from the pages
  themselves, as a repair takes it: the time that needs grows with the file alone, not with the damage.
* An entry whose values its table does not take is none, and neither is the second of two that have one number: both
  are told, to be set apart.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import islice, product
from pathlib import Path
from typing import Any

from callisto_telnetd.db.column_kinds import Whole
from callisto_telnetd.db.format.carve import carve
from callisto_telnetd.db.format.forest import survey as survey_of
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.quiet import open_quietly
from callisto_telnetd.db.salvage.survey import survey
from callisto_telnetd.db.schema import ADDED_STATE, LAST_CHANGE_STATE
from callisto_telnetd.db.sieve import invalid_rows
from callisto_telnetd.db.tables import VARIABLES, Column, Table, add_functions

_MOST_ADDED = 100
"""Ranges of those that are remembered, the newest."""
_BATCH = 2000
_NO_DAMAGE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_FULL,
}
_LONGEST_NUMBER = 17
_KEYS = (LAST_CHANGE_STATE, ADDED_STATE)
_ENDS = ("ASC", "DESC")

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is no entry, and why."""

    table: Table
    values: Row
    reason: str


@dataclass(slots=True)
class Present:
    """What could be read; the entries themselves are in ``temp.our_TABLE``."""

    damaged: set[str] = field(default_factory=set)
    """The tables of which entries may be missing."""
    variables: dict[str, str] | None = None
    """The stored texts of variables by name, without those that no variable can have; None where nobody knows."""
    state: dict[str, str] = field(default_factory=dict)
    """What is kept of the memory in ``state``, by key."""
    refused: list[Refused] = field(default_factory=list)

    @property
    def last_change(self) -> int:
        """The highest number of a change as ``state`` has it; 0 for none."""
        value = self.state.get(LAST_CHANGE_STATE, "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < _LONGEST_NUMBER else 0

    def added_with(self, first: int, last: int) -> str:
        """Return what is to be kept under :data:`ADDED_STATE` once the entries of a range are added, too."""
        known: object = None
        with suppress(ValueError, RecursionError):  # a damage has made it something else
            known = json.loads(self.state.get(ADDED_STATE, ""))
        return json.dumps([*(known if isinstance(known, list) else ()), [first, last]][-_MOST_ADDED:])


def read_present(connection: sqlite3.Connection, live: Path, tables: Sequence[Table], *, closed: bool) -> Present:
    """Read the entries of tables into ``temp.our_TABLE``, each of them valid, and what else is to be known of them.

    Args:
        connection: Gets the tables; it is in no transaction.
        live: The present database; one that is lost gives nothing.
        tables: Tables with row ids.
        closed: Whether nobody has the present database open.

    Raises:
        sqlite3.Error: it cannot be read now, for another reason than a damage.
        StoreError: the disk does not let it be read.
    """
    present = Present()
    connection.execute("BEGIN")
    takers = [_Taker(connection, table) for table in tables]
    if live.exists():
        _read_plainly(live, takers, present, closed=closed)
        if present.damaged:
            _take_from_pages(live, takers, present)
    else:
        present.damaged.update(table.name for table in tables)
    for taker in takers:
        present.refused += taker.end()
    connection.execute("COMMIT")
    return present


def _read_plainly(live: Path, takers: Sequence[_Taker], present: Present, *, closed: bool) -> None:
    """Take what SQLite reads."""
    try:
        with closing(open_quietly(live, closed=closed)) as source:
            for taker in takers:
                if not taker.take_from(source):
                    present.damaged.add(taker.table.name)
            present.state.update(_rows(source, "SELECT key, value FROM state WHERE key IN (?, ?)", _KEYS) or ())
            texts = _rows(source, "SELECT name, value FROM variable")
            if texts is not None:
                present.variables = {name: text for name, text in texts if not VARIABLES.faults((name, text))}
    except sqlite3.DatabaseError as error:
        _require_damage(error)
        present.damaged.update(taker.table.name for taker in takers)


def _take_from_pages(live: Path, takers: Sequence[_Taker], present: Present) -> None:
    """Take what the leaves of a damaged file hold; rows that were deleted stay so."""
    wanted = {taker.table.name: taker for taker in takers if taker.table.name in present.damaged}
    with PageFile(live) as pages:
        forest = survey_of(pages)
        mapped = survey(pages, lambda _done, _of: None, forest)
        leaves = {leaf.page for name in wanted for leaf in mapped.leaves[name]}
        found: dict[str, list[Row]] = {name: [] for name in wanted}
        for row in carve(pages, leaves | set(mapped.carved), forest):
            name = row.table.name
            if name == "state" and row.values[0] in _KEYS and not row.table.faults(row.values):
                present.state.setdefault(str(row.values[0]), str(row.values[1]))
            if name in wanted:
                found[name].append(row.values)
                if len(found[name]) == _BATCH:
                    wanted[name].take(found[name])
                    found[name] = []
        for name, rows in found.items():
            wanted[name].take(rows)


class _Taker:
    """Takes the rows of a table into ``temp.our_TABLE``, the first of each number."""

    def __init__(self, connection: sqlite3.Connection, table: Table) -> None:
        self.table = table
        self._connection = connection
        self._own = replace(table, name=f"our_{table.name}")
        self._refused: dict[Row, str] = {}
        self._columns = ", ".join(f'"{column.name}"' for column in table.columns)
        others = ", ".join(f'"{column.name}"' for column in table.columns[1:])
        connection.execute(f"CREATE TEMP TABLE {self._own.name} (id INTEGER PRIMARY KEY, {others})")
        self._insert = f"INSERT OR IGNORE INTO temp.{self._own.name} VALUES ({', '.join('?' * len(table.columns))})"
        self._types = set(product(*map(_types_of, table.columns)))

    def take_from(self, source: sqlite3.Connection) -> bool:
        """Take what SQLite reads, from the other end too where it comes to a damage; say whether that is all."""
        key = self.table.key[0]
        for end in _ENDS:
            sql = f'SELECT {self._columns} FROM "{self.table.name}" NOT INDEXED ORDER BY "{key}" {end}'
            try:
                rows = source.execute(sql)
                while batch := _next(rows):
                    self.take(batch[0])
                    if batch[1] is not None:
                        raise batch[1]
            except sqlite3.DatabaseError as error:
                _require_damage(error)
                continue
            return end == _ENDS[0]
        return False

    def take(self, rows: Sequence[Row]) -> None:
        """Take rows; what cannot be an entry is noted, once."""
        if {tuple(map(type, row)) for row in rows} <= self._types:
            with suppress(UnicodeEncodeError):  # a text that is none
                if self._connection.executemany(self._insert, rows).rowcount == len(rows):
                    return
        for row in rows:
            self._take_one(row)

    def end(self) -> Iterator[Refused]:
        """Take out the entries whose values fail their kinds, and return all that was refused."""
        connection, before = self._connection, self._connection.text_factory
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        add_functions(connection)
        try:
            for row in list(invalid_rows(connection, self._own)):
                connection.execute(f"DELETE FROM temp.{self._own.name} WHERE id = ?", row[:1])
                self._refused[row] = self._faults(row)
        finally:
            connection.text_factory = before
        return (Refused(self.table, row, reason) for row, reason in self._refused.items())

    def _take_one(self, row: Row) -> None:
        if row in self._refused:
            return
        if reason := self._faults(row):
            self._refused[row] = reason
        elif not self._connection.execute(self._insert, row).rowcount and not self._stands(row):
            self._refused[row] = "another row has its key"

    def _stands(self, row: Row) -> bool:
        sql = f"SELECT {self._columns} FROM temp.{self._own.name} WHERE id = ?"
        return bool(self._connection.execute(sql, row[:1]).fetchone() == row)

    def _faults(self, row: Row) -> str:
        return "; ".join(f"{name} is not {fault}" for name, fault in self.table.faults(row).items())


def _types_of(column: Column) -> set[type]:
    return {int if isinstance(column.kind, Whole) else str, *((type(None),) if column.nullable else ())}


def _next(rows: Iterable[Row]) -> tuple[list[Row], sqlite3.DatabaseError | None] | None:
    """Return the next rows, and the error that has ended them too early; None at the end."""
    taken: list[Row] = []
    try:
        taken.extend(islice(rows, _BATCH))  # what came before an error counts
    except sqlite3.DatabaseError as error:
        return taken, error
    return (taken, None) if taken else None


def _rows(source: sqlite3.Connection, sql: str, parameters: Sequence[object] = ()) -> list[Row] | None:
    """Return the rows of a query; None where a damage keeps SQLite from them."""
    try:
        return source.execute(sql, parameters).fetchall()
    except sqlite3.DatabaseError as error:
        _require_damage(error)
        return None


def _require_damage(error: sqlite3.DatabaseError) -> None:
    """Raise what says nothing of the present file: that it is locked, or that there is no memory."""
    code = getattr(error, "sqlite_errorcode", None)  # what Python's module finds by itself has none
    if code is None or code & 0xFF in _NO_DAMAGE:
        raise error
