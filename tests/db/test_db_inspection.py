from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.db.inspection import PAGES, REFERENCES, VALUES, inspect
from callisto_telnetd.db.tables import TABLES, Reference, Table
from tests.db.filling import connect, make

MISSING = 987_654


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A sound database with rows in every table."""
    file = tmp_path / "callisto.db"
    make(file, users=8, messages=20)
    return file


def faults(file: Path) -> dict[str, list[str]]:
    """Return the steps that find something."""
    found = inspect(file, lambda _name, _text: None, lambda _step, _done, _of: None, closed=False)
    return {step: lines for step, lines in found.items() if lines}


def change(file: Path, *statements: str) -> None:
    """Change what no appliance would."""
    with closing(connect(file)) as connection:
        for pragma in ("foreign_keys=OFF", "ignore_check_constraints=ON", "writable_schema=ON"):
            connection.execute(f"PRAGMA {pragma}")
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("table", "reference"),
    [(table, reference) for table in TABLES for reference in table.references],
    ids=lambda each: each.name if isinstance(each, Table) else each.column,
)
def test_a_row_that_names_a_missing_one_is_found(database: Path, table: Table, reference: Reference) -> None:
    """Of each reference of the schema; a sound database has none."""
    assert faults(database) == {}
    column, key = reference.column, table.key[0]
    last = f'(SELECT max("{key}") FROM "{table.name}")'
    change(database, f'UPDATE OR REPLACE "{table.name}" SET "{column}" = {MISSING} WHERE "{key}" = {last}')

    found = faults(database)
    assert list(found) == [REFERENCES]
    assert all(
        line.startswith((f"{table.name} row ", *(f"{child} row " for child in table.children)))
        for line in found[REFERENCES]
    )
    assert f"{table.name} row" in " ".join(found[REFERENCES])


def test_a_value_of_another_storage_class_is_a_fault_of_the_rows(database: Path) -> None:
    """A damage may leave text in the place of a number: SQLite's own check tells, as the tables are STRICT."""
    sql = "SELECT sql FROM sqlite_schema WHERE name = 'call_record'"
    with closing(connect(database)) as connection:
        strict = str(connection.execute(sql).fetchone()[0])
    loose = strict.removesuffix("STRICT").replace("ring_ms INTEGER", "ring_ms TEXT")
    with closing(connect(database)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'call_record'", (loose,))
    change(database, "UPDATE call_record SET ring_ms = 'long' WHERE id = 3")
    with closing(connect(database)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'call_record'", (strict,))

    found = faults(database)
    assert "ring_ms" in " ".join(found[PAGES])
    assert set(found) <= {PAGES, VALUES}


def test_a_fault_that_quotes_damaged_text_can_be_written(database: Path) -> None:
    """The name of an index that is no UTF-8 any more is told with escapes, which log, audit and screen take."""
    change(
        database,
        "UPDATE sqlite_schema SET name = 'message?mailbox', sql = replace(sql, 'message_mailbox', 'message?mailbox'),"
        " rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'call_record_user')"
        " WHERE name = 'message_mailbox'",
    )
    database.write_bytes(database.read_bytes().replace(b"message?mailbox", b"message\xffmailbox"))
    lines = [line for step in faults(database).values() for line in step]

    assert r"row 1 missing from index message\udcffmailbox" in lines
    assert "\n".join(lines).isascii()
