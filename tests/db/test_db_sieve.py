from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callisto_telnetd.db.format.forest import survey
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.schema import migrations, statements
from callisto_telnetd.db.sieve import invalid_rows
from callisto_telnetd.db.tables import TABLES, Table, add_functions, table_named
from tests.db.filling import make, rows_of
from tests.db.plausible import Plausible

ROWS = 5000
NONSENSE: tuple[Any, ...] = (None, -1, 2**62, 1.5, 5.0, b"answered", b"", "", "a\nb", "a\0b", "\x7f", "x" * 5000)


@contextmanager
def empty() -> Iterator[sqlite3.Connection]:
    """Give SQLite with our tables and nothing in them; references are not looked at."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        add_functions(connection)
        for _, script in sorted(migrations().items()):
            for statement in statements(script):
                connection.execute(statement)
        yield connection


@pytest.fixture
def bare() -> Iterator[sqlite3.Connection]:
    """SQLite with our tables and nothing in them."""
    with empty() as connection:
        yield connection


def put(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> bool:
    """Change something where SQLite takes it: what a STRICT table refuses is never there."""
    try:
        connection.execute(sql, values)
    except sqlite3.IntegrityError:
        return False
    return True


@pytest.fixture(scope="module")
def plausible(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """Return valid rows of every table."""
    file = tmp_path_factory.mktemp("sieve") / "callisto.db"
    make(file, users=8, messages=20)
    return rows_of(file)


def call_records(connection: sqlite3.Connection, ids: range) -> Table:
    """Put valid call records in, and return their table."""
    table = table_named("call_record")
    assert table is not None
    connection.executemany(
        "INSERT INTO call_record VALUES (?, '2026-11-23T10:15:00+01:00', '+41611234567', '117', ?, 'busy', 10, 20)",
        ((id, 117 if id % 2 else None) for id in ids),
    )
    assert list(invalid_rows(connection, table)) == []
    return table


@pytest.mark.parametrize("ids", [range(1, ROWS), range(1, 2**52, 2**40 - 1)], ids=["dense", "sparse"])
@settings(max_examples=25)
@given(place=st.integers(0, 2**52), column=st.integers(1, 7), value=st.sampled_from(NONSENSE))
def test_one_bad_value_among_thousands_is_found(ids: range, place: int, column: int, value: Any) -> None:
    """Whatever stands wherever in a large table, just the row with the fault is yielded, with its values."""
    with empty() as connection:
        table, id = call_records(connection, ids), ids[place % len(ids)]
        put(connection, f'UPDATE call_record SET "{table.columns[column].name}" = ? WHERE id = ?', (value, id))
        (row,) = connection.execute("SELECT * FROM call_record WHERE id = ?", (id,)).fetchall()

        assert list(invalid_rows(connection, table)) == ([row] if table.faults(row) else [])


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_what_is_valid_is_no_fault_and_what_is_not_is_one(
    bare: sqlite3.Connection, table: Table, plausible: dict[str, list[tuple[Any, ...]]]
) -> None:
    """Of every table, just the rows that have a fault for Python are yielded, whatever they hold."""
    rows = [list(row) for row in plausible[table.name][:3]]
    for place, column in enumerate(table.columns):
        if (column.name,) != table.key:
            rows += [[*rows[0][:place], value, *rows[0][place + 1 :]] for value in NONSENSE]
    place = next(place for place, column in enumerate(table.columns) if column.name == table.key[0])
    for number, row in enumerate(rows, 1):
        if table.rowid or len(table.key) == 1:
            row[place] = number if table.rowid else f"{row[place]}{number}"
    if table.rowid:
        rows.append([*rows[0][:place], -5, *rows[0][place + 1 :]])
    for row in rows:
        put(bare, f'INSERT INTO "{table.name}" VALUES ({", ".join("?" * len(table.columns))})', row)
    stored = bare.execute(f'SELECT * FROM "{table.name}"').fetchall()

    found = list(invalid_rows(bare, table))
    assert found == [row for row in stored if table.faults(row)]
    assert found


def test_long_texts_are_looked_at_in_small_parts(bare: sqlite3.Connection) -> None:
    """Rows of which few fill the memory that may be taken are judged like all others."""
    table = table_named("quarantine")
    assert table is not None
    row = "INSERT INTO quarantine VALUES (?, '2026-11-23T10:15:00+01:00', 'x', 'y', ?)"
    bare.executemany(row, ((number, "z" * 60_000) for number in range(1, 130)))
    bare.execute(row, (130, "z" * 1_999_999 + "\0"))
    bare.execute(row, (131, "z" * 2_000_001))

    assert [values[0] for values in invalid_rows(bare, table)] == [130, 131]


@pytest.mark.parametrize("part", [2, 3, 4])
def test_rows_out_of_order_lead_in_no_circle(tmp_path: Path, part: int) -> None:
    """The root of another table in the place of a leaf leads back to lower row ids: the search ends all the same."""
    file, audit = tmp_path / "callisto.db", table_named("audit")
    assert audit is not None
    Plausible(4).fill(file)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE audit SET at = 'yesterday' WHERE id = (SELECT min(id) FROM audit)")
        connection.commit()
    with PageFile(file) as pages:
        trees = {tree.name: tree for tree in survey(pages).trees}
    leaves, content = trees["audit"].leaves, bytearray(file.read_bytes())
    numbers = trees["call_record"].root, leaves[len(leaves) * part // 5].number
    one, other = (slice((number - 1) * 4096, number * 4096) for number in numbers)
    content[one], content[other] = content[other], content[one]
    file.write_bytes(content)
    with closing(sqlite3.connect(file)) as connection:
        add_functions(connection)
        found = list(islice(invalid_rows(connection, audit), 20))

    assert found[0][1] == "yesterday"
