"""The rows of a table whose values fail their kinds, found at the speed at which SQLite reads a table.

Some thousand rows at a time are looked at as one (:mod:`.joined`); only where that does not prove them valid, each is
looked at by itself. Nothing is asked that a STRICT table of ours promises by itself, storage classes and ``NOT NULL``:
SQLite refuses such rows, and where a damage has made them, ``integrity_check`` tells ("STRICT Tables", section 2).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import cache
from typing import Any

from callisto_telnetd.db.column_kinds import Whole
from callisto_telnetd.db.joined import JOINABLE, all_fit
from callisto_telnetd.db.tables import Column, Table

_MOST_ROWS = 2048
_FEWEST_ROWS = 32
_MOST_BYTES = 2 << 20
"""Of one column's values at a time."""
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1


def invalid_rows(connection: sqlite3.Connection, table: Table) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table that are not valid, in the order of their keys; values as the file has them.

    Rows that are out of their order in a damaged tree may be passed over: ``integrity_check`` tells of them.

    Args:
        connection: has the functions of :func:`.tables.add_functions`.
        table: one that is in the database, in our schema; that its rows are of it, others have looked at or will.

    Raises:
        sqlite3.Error: the table cannot be read.
    """
    if not table.rowid:
        yield from connection.execute(_each_sql(table))
        return
    rows = _MOST_ROWS
    key, first = table.key[0], _LOWEST
    if found := connection.execute(
        f'SELECT "{key}" FROM "{table.name}" NOT INDEXED ORDER BY "{key}" LIMIT 1'
    ).fetchone():
        first = int(found[0])
    while True:
        # Where row ids have no gap, the rows of a range are as many as they can be: there is nothing to count.
        if first + rows <= _HIGHEST and _all_fit(connection, table, (first, first + rows - 1), rows):
            first += rows
            continue
        last, count = _range(connection, table, first, rows)
        if last < first:  # out of order: ranges would lead in a circle, so each row that a scan comes to is looked at
            yield from connection.execute(_each_sql(table))
            return
        fits = _all_fit(connection, table, (first, last), count)
        if fits is None and rows > _FEWEST_ROWS:  # too long to be looked at as one
            rows //= 4
            continue
        if not fits:
            sql = f"{_each_sql(table)} AND {_range_sql(table)}"
            yield from connection.execute(sql, (first, last)).fetchall()
        if last == _HIGHEST:
            return
        first = last + 1


def _range(connection: sqlite3.Connection, table: Table, first: int, rows: int) -> tuple[int, int]:
    """Return the row id that ends so many rows, the highest of all where there are fewer; and how many there are."""
    key, execute = table.key[0], connection.execute
    sql = (
        f'SELECT "{key}" FROM "{table.name}" NOT INDEXED WHERE "{key}" >= ? ORDER BY "{key}" LIMIT 1 OFFSET {rows - 1}'
    )
    if found := execute(sql, (first,)).fetchone():
        return int(found[0]), rows
    sql = f'SELECT count(*) FROM "{table.name}" NOT INDEXED WHERE {_range_sql(table)}'
    return _HIGHEST, int(execute(sql, (first, _HIGHEST)).fetchone()[0])


def _all_fit(connection: sqlite3.Connection, table: Table, ids: tuple[int, int], count: int) -> bool | None:
    """Return whether the ``count`` rows of a range surely fit; None where they are too long to be looked at as one."""
    usual, longest = connection.text_factory, connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
    connection.text_factory = bytes
    try:
        fitting, *joined = connection.execute(_together_sql(table), ids).fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_TOOBIG:
            return None
        raise
    finally:
        connection.text_factory = usual
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
    return bool(fitting == count) and all(
        not there or all_fit(column.kind, text, there)
        for column, there, text in zip(_joinable(table), joined[::2], joined[1::2], strict=True)
    )


@cache
def _together_sql(table: Table) -> str:
    """Return what asks how many rows of a range fit by what is cheap to ask, and for the texts of those."""
    asked, joined = ["count(*)"], _joinable(table)
    for column in joined:
        counted = f'"{column.name}"' if column.nullable else "*"
        asked += [f"count({counted})", f"group_concat(\"{column.name}\", '\n')"]
    tests = " AND ".join([_range_sql(table), *(_test(column) for column in table.columns if column not in joined)])
    return f'SELECT {", ".join(asked)} FROM "{table.name}" NOT INDEXED WHERE {tests}'


def _test(column: Column) -> str:
    """Return what is asked of each value; a range of whole numbers is asked for without a call of a function."""
    kind = column.kind
    if not isinstance(kind, Whole):
        return column.sql()
    # The plus sign keeps SQLite from a search by the valid range of the key.
    test = f'+"{column.name}" BETWEEN {kind.minimum} AND {kind.maximum}'
    return f'("{column.name}" IS NULL OR {test})' if column.nullable else f"({test})"


def _joinable(table: Table) -> list[Column]:
    return [column for column in table.columns if type(column.kind) in JOINABLE]


@cache
def _each_sql(table: Table) -> str:
    """Return what asks for the rows that fail, each looked at by itself."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    return f'SELECT {columns} FROM "{table.name}" NOT INDEXED WHERE {invalid_sql(table)}'


def invalid_sql(table: Table, of: str = "") -> str:
    """Return the test for a row that fails, as an SQL expression; ``of`` is what the query calls the table."""
    return f"NOT ({' AND '.join(column.sql(of) for column in table.columns)})"


def _range_sql(table: Table) -> str:
    return f'"{table.key[0]}" BETWEEN ? AND ?'
