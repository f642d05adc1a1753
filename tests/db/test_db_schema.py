from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.db.schema import APPLICATION_ID, migrations, require_known, statements
from callisto_telnetd.errors import DamagedDatabaseError, NewerSchemaError, StoreError


def packed(sql: str) -> str:
    """Return SQL without comments and blanks."""
    return re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", sql)).strip()


def test_a_script_is_parted_where_sqlite_says_so() -> None:
    """A trigger with statements of its own is one statement; comments and blank lines are none."""
    script = """
    -- a comment; with a semicolon
    CREATE TABLE a (
        b TEXT -- the text
    ) STRICT;

    CREATE TRIGGER t AFTER INSERT ON a
    BEGIN
        UPDATE a SET b = 'x;';
        DELETE FROM a;
    END;
    -- the end
    """

    first, second = statements(script)
    assert packed(first) == "CREATE TABLE a ( b TEXT ) STRICT;"
    assert packed(second) == "CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET b = 'x;'; DELETE FROM a; END;"


@pytest.mark.parametrize("version", sorted(migrations()))
def test_nothing_of_a_migration_is_lost(version: int) -> None:
    """The statements of a migration, put together, are the whole file: its last one has its semicolon too."""
    script = migrations()[version]

    assert packed(" ".join(statements(script))) == packed(script)


def test_versions_are_numbered_without_a_gap() -> None:
    """Each migration leads from the version before it."""
    assert sorted(migrations()) == list(range(1, len(migrations()) + 1))


def test_every_migration_applies_to_the_one_before() -> None:
    """All migrations, one after the other, make a sound database of STRICT tables."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for _, script in sorted(migrations().items()):
            for statement in statements(script):
                connection.execute(statement)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        strict = connection.execute("SELECT name, strict FROM pragma_table_list WHERE name NOT LIKE 'sqlite_%'")
        assert {loose for loose, is_strict in strict if not is_strict} == set()


def header(version: int = 1, application_id: int = APPLICATION_ID) -> bytes:
    """Return the first hundred bytes of a database."""
    start = bytearray(b"SQLite format 3\0".ljust(100, b"\0"))
    start[60:64] = version.to_bytes(4, "big")
    start[68:72] = application_id.to_bytes(4, "big")
    return bytes(start)


@pytest.mark.parametrize("content", [b"", header(), header(version=len(migrations()))])
def test_a_file_of_ours_may_be_opened(file: Path, content: bytes) -> None:
    """An empty file and one of a known version are fine; so is one that is not there yet."""
    require_known(file)
    file.write_bytes(content)
    require_known(file)

    assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        (b"#!/bin/sh\n", DamagedDatabaseError, "is not a SQLite database, or its first page is damaged"),
        (header()[:99], DamagedDatabaseError, "is not a SQLite database, or its first page is damaged"),
        (b"\0" * 4096, DamagedDatabaseError, "is not a SQLite database, or its first page is damaged"),
        (header(application_id=0), DamagedDatabaseError, "is not a database of Callisto's"),
        (header(application_id=0x46534C20), DamagedDatabaseError, "is not a database of Callisto's"),
        (header(version=99), NewerSchemaError, "has schema 99, this version knows"),
    ],
)
def test_another_file_is_refused(file: Path, content: bytes, error: type[StoreError], reason: str) -> None:
    """What is no database, one of somebody else's or of a newer version is named and left as it is."""
    file.write_bytes(content)

    with pytest.raises(error) as refused:
        require_known(file)
    assert reason in str(refused.value)
    assert str(file) in str(refused.value)
    assert file.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_our_error(file: Path) -> None:
    """What cannot be read says why."""
    file.mkdir()

    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        require_known(file)


def test_a_hot_journal_is_left_to_sqlite(file: Path) -> None:
    """Where a journal waits to be rolled back, the file's own first page is not yet judged."""
    file.write_bytes(b"half a page")
    file.with_name("callisto.db-journal").write_bytes(bytes.fromhex("d9d505f920a163d7"))
    require_known(file)

    file.with_name("callisto.db-journal").write_bytes(b"\0" * 512)
    with pytest.raises(DamagedDatabaseError):
        require_known(file)
