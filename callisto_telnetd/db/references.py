"""References whose parent is lost are mended: a parent is made anew as a placeholder, or the reference is cleared."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import NamedTuple

from callisto_telnetd.db.tables import TABLES

_DEFAULT_MAILBOX = "gDefaultMailbox"
"""The system variable whose value names a user."""


class Mended(NamedTuple):
    """What was done to a table."""

    placeholders: int = 0
    """Rows made anew because others refer to them."""
    cleared: int = 0
    """References taken off because nothing stands behind them."""


def mend_references(connection: sqlite3.Connection, only: Collection[str] = ()) -> Mapping[str, Mended]:
    """Make lost parents anew as placeholders, and clear what a change undoes where that is gone; by table.

    Args:
        connection: In a transaction.
        only: The tables whose references are looked at; none of them means all.

    Raises:
        sqlite3.Error: it cannot be done.
    """
    mended = {table.name: Mended() for table in TABLES}
    for table in reversed([table for table in TABLES if not only or table.name in only]):
        for reference in table.references:
            missing = (
                f'"{reference.column}" IS NOT NULL AND "{reference.column}" NOT IN'
                f' (SELECT "{reference.key}" FROM "{reference.table}")'
            )
            if reference.table == table.name:
                sql = f'UPDATE "{table.name}" SET "{reference.column}" = NULL WHERE {missing}'
                before = mended[table.name]
                mended[table.name] = before._replace(cleared=before.cleared + connection.execute(sql).rowcount)
                continue
            sql = (
                f'INSERT INTO "{reference.table}" ("{reference.key}"{_placeholder_columns(reference.table)})'
                f' SELECT DISTINCT "{reference.column}"{_placeholder_values(reference.table, reference.column)}'
                f' FROM "{table.name}" WHERE {missing}'
            )
            before = mended[reference.table]
            made = before.placeholders + connection.execute(sql).rowcount
            mended[reference.table] = before._replace(placeholders=made)
    return mended


def keep_user_of_variable(connection: sqlite3.Connection) -> int:
    """Make the user anew whom a system variable names, where he is lost; return how many were made."""
    return connection.execute(
        "INSERT INTO user (number, name) SELECT CAST(value AS INTEGER), 'recovered ' || value FROM variable"
        " WHERE name = ? AND value NOT GLOB '*[^0-9]*' AND length(value) BETWEEN 1 AND 9"
        " AND CAST(value AS INTEGER) > 0 AND CAST(value AS INTEGER) NOT IN (SELECT number FROM user)",
        (_DEFAULT_MAILBOX,),
    ).rowcount


def _placeholder_columns(table: str) -> str:
    return ", name" if table == "user" else ""


def _placeholder_values(table: str, column: str) -> str:
    return f""", 'recovered ' || "{column}\"""" if table == "user" else ""
