from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callisto_telnetd.db.column_kinds import Digest, Kind, Line, Moment, Name, PasswordHash, Text, Whole, Word
from callisto_telnetd.db.tables import TABLES, Column, Table, add_functions, table_named
from tests.db.filling import HASH, digest, make, make_schema, moment, rows_of

KINDS: tuple[Kind, ...] = (
    Whole(-3, 300),
    Line(8, shortest=1),
    Text(12),
    Moment(),
    Digest(),
    PasswordHash(),
    PasswordHash(blank=True),
    Word(("voice", "it's")),
    Name(8),
    Name(8, first="a-z", rest="A-Za-z0-9_.:/-"),
)
VALID = (
    "",
    "voice",
    "it's",
    "gName",
    "a-b.c",
    HASH,
    digest(1),
    moment(0),
    moment(1),
    "x\ty\r\n",
    "Jörg",
    "2024-02-29T00:00:00-05:00",
)


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    """SQLite, with a table that takes anything."""
    with closing(sqlite3.connect(":memory:")) as connection:
        add_functions(connection)
        connection.execute("CREATE TABLE one (v)")
        yield connection


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Return a valid text with one character put in place of another, put in, or taken out."""
    text = draw(st.sampled_from(VALID))
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.text(max_size=2)) + text[at + draw(st.integers(0, 2)) :]


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-10, 310),
    st.floats(),
    st.binary(max_size=20),
    st.text(max_size=14),
    st.text("\0\t\n\x1f\x7f\x85 ~ü\u2028a0", max_size=10),
    mutated(),
)


@settings(max_examples=400)
@given(value=VALUES)
def test_python_and_sql_agree(database: sqlite3.Connection, value: Any) -> None:
    """A value has a fault just where the SQL expression says 0, and that is never NULL."""
    expressions = ", ".join(kind.sql("v") for kind in KINDS)
    # A float that is no number becomes NULL in SQLite.
    ((kept, *fits),) = database.execute(f"SELECT v, {expressions} FROM (SELECT ? AS v)", (value,)).fetchall()

    assert [bool(fit) for fit in fits] == [kind.fault(kept) is None for kind in KINDS]
    assert None not in fits


@settings(max_examples=200)
@given(data=st.binary(max_size=12))
def test_they_agree_on_text_that_is_no_utf8(database: sqlite3.Connection, data: bytes) -> None:
    """Bytes that a damaged page has in place of text are judged alike, whether they are UTF-8 or not."""
    expressions = ", ".join(kind.sql("v") for kind in KINDS)
    (fits,) = database.execute(f"SELECT {expressions} FROM (SELECT CAST(? AS TEXT) AS v)", (data,)).fetchall()

    text = data.decode("utf-8", "surrogateescape")
    assert [bool(fit) for fit in fits] == [kind.fault(text) is None for kind in KINDS]


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T10:15:00.123456+01:00",
        "2026-11-23T10:15:00+00:00",
        "2024-02-29T23:59:59-12:00",
        "1970-01-01T00:00:00+05:30",
    ],
)
def test_a_time_of_the_clock_is_valid(text: str) -> None:
    """What isoformat() writes, with and without a fraction, has no fault."""
    assert Moment().fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "2023-02-29T00:00:00+00:00",
        "2026-11-23T24:00:00+00:00",
        "2026-11-23 10:15:00",
        "2026-11-23T10:15:00",
        "9026-01-01T00:00:00+00:00",
    ],
)
def test_a_time_that_is_none_is_noticed(text: str) -> None:
    """No such day, no such hour, no zone, or a year out of reach: the fault says what it should be."""
    assert Moment().fault(text) == "a time like 2026-11-23T10:15:00+01:00"


def test_a_column_may_be_empty_only_where_it_is_nullable(database: sqlite3.Connection) -> None:
    """NULL has a fault, in Python and in SQL, unless the column takes it."""
    for nullable in (False, True):
        column = Column("v", Whole(0, 1), nullable)
        assert (column.fault(None) is None) is nullable
        assert database.execute(f"SELECT {column.sql()} FROM (SELECT NULL AS v)").fetchone() == (nullable,)


def test_the_tables_are_those_of_the_migrations() -> None:
    """Names, columns, types, nullability, keys and references are what the migrations make."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        make_schema(connection)
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert {table.name for table in TABLES} == names
        for table in TABLES:
            _hold_against(connection, table)


def _hold_against(connection: sqlite3.Connection, table: Table) -> None:
    rows = connection.execute(f"PRAGMA table_info({table.name})").fetchall()
    assert [row[1] for row in rows] == [column.name for column in table.columns]
    for (_, name, declared, not_null, _, _), column in zip(rows, table.columns, strict=True):
        assert declared == ("INTEGER" if isinstance(column.kind, Whole) else "TEXT"), name
        assert column.nullable is not (bool(not_null) or name in table.key), name
    assert tuple(row[1] for row in sorted(rows, key=lambda row: row[5]) if row[5]) == table.key
    (without,) = connection.execute("SELECT wr FROM pragma_table_list WHERE name = ?", (table.name,)).fetchone()
    assert table.rowid is not bool(without)
    references = {(row[3], row[2], row[4]) for row in connection.execute(f"PRAGMA foreign_key_list({table.name})")}
    assert {(each.column, each.table, each.key) for each in table.references} == references


def test_parents_come_first_and_know_their_children() -> None:
    """A table stands behind those that it refers to, and each of those names it as a child."""
    place = {table.name: number for number, table in enumerate(TABLES)}
    for table in TABLES:
        assert table_named(table.name) is table
        for reference in table.references:
            assert place[reference.table] <= place[table.name]
        children = {child.name for child in TABLES if any(each.table == table.name for each in child.references)}
        assert set(table.children) == children
    assert table_named("no_table") is None


def test_plausible_rows_are_valid(tmp_path: Path) -> None:
    """Every row of a filled database is without fault, told by Python and by SQL."""
    file = make(tmp_path / "callisto.db")
    for name, rows in rows_of(file).items():
        table = table_named(name)
        assert table is not None
        assert rows
        assert [table.faults(row) for row in rows if table.faults(row)] == []
        with closing(sqlite3.connect(file)) as connection:
            add_functions(connection)
            valid = " AND ".join(column.sql() for column in table.columns)
            assert connection.execute(f'SELECT count(*) FROM "{name}" WHERE {valid}').fetchone() == (len(rows),)
