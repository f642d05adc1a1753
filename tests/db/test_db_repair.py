"""The repair of a closed file: what it refuses, and what becomes of rows that are not as they should be."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.db.repair import Order, repair
from callisto_telnetd.db.report import RepairReport
from callisto_telnetd.errors import DiskFullError, ForeignDatabaseError, NewerSchemaError, StoreError
from tests.db.plausible import Plausible
from tests.db.test_db_repair_corpus import AT


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A small sound database."""
    file = tmp_path / "callisto.db"
    Plausible(5, 0.08).fill(file)
    return file


def mend(live: Path) -> RepairReport:
    """Repair; a system variable named gBad takes nothing."""
    order = Order(live, live.parent / "damaged", "x", AT, lambda name, _text: "it takes nothing" * (name == "gBad"))
    return repair(order, lambda _step, _done, _of: None)


def change(live: Path, *statements: str) -> None:
    """Change the database behind everybody's back."""
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        for pragma in ("foreign_keys=OFF", "writable_schema=ON", "ignore_check_constraints=ON"):
            connection.execute(f"PRAGMA {pragma}")
        for statement in statements:
            connection.execute(statement)


def table(report: RepairReport, name: str) -> dict[str, object]:
    """Return what the report says of a table."""
    return next(each for each in report.as_data()["tables"] if each["table"] == name)


def require_unchanged(live: Path, before: bytes) -> None:
    """Check that nothing has changed and nothing is left."""
    assert live.read_bytes() == before
    assert live.stat().st_nlink == 1
    assert not list((live.parent / "damaged").glob("*"))
    assert not list(live.parent.glob("callisto.db.*"))


def test_a_sound_database_is_left_alone(live: Path) -> None:
    """Nothing is set aside and nothing is changed."""
    before = live.read_bytes()

    assert mend(live).outcome == "sound"
    require_unchanged(live, before)


@pytest.mark.parametrize(
    ("statements", "error"),
    [
        (("CREATE TABLE later (id)", "PRAGMA user_version=3"), NewerSchemaError),
        (("PRAGMA user_version=3", "UPDATE sqlite_schema SET sql = 'what is this'"), NewerSchemaError),
    ],
)
def test_a_newer_database_is_refused(live: Path, statements: tuple[str, ...], error: type[StoreError]) -> None:
    """What a newer version has written is not touched."""
    change(live, *statements)
    before = live.read_bytes()
    with pytest.raises(error):
        mend(live)

    require_unchanged(live, before)


@pytest.mark.parametrize("content", ["database", "text"])
def test_what_belongs_to_another_program_is_refused(tmp_path: Path, content: str) -> None:
    """A database without a table of ours, and a file that is no database, are not touched."""
    live = tmp_path / "callisto.db"
    if content == "database":
        with closing(sqlite3.connect(live)) as connection:
            connection.execute("CREATE TABLE theirs (id)")
            connection.commit()
    else:
        live.write_bytes(b"not a database at all " * 1000)
    before = live.read_bytes()
    with pytest.raises(ForeignDatabaseError):
        mend(live)

    require_unchanged(live, before)


def test_no_room_is_refused_with_the_numbers(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for the copies nothing begins."""
    disk = os.statvfs(live.parent)
    full = os.statvfs_result((disk.f_bsize, disk.f_frsize, disk.f_blocks, 9, 9, *tuple(disk)[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    before = live.read_bytes()
    with pytest.raises(DiskFullError, match=r"36\.0 KiB free, .* needed; nothing was changed"):
        mend(live)

    require_unchanged(live, before)


def test_values_that_fail_go_to_quarantine(live: Path) -> None:
    """A value outside its kind, and a variable that takes no such text, are set apart with row and reason."""
    change(
        live,
        "UPDATE message SET kind = 'telegram' WHERE id = (SELECT min(id) FROM message)",
        "INSERT INTO variable VALUES ('gBad', 'x')",
    )
    report = mend(live)

    assert table(report, "message")["quarantined"] == 1
    assert table(report, "variable")["quarantined"] == 1
    with closing(sqlite3.connect(live)) as connection:
        rows = dict(connection.execute("SELECT origin, reason FROM quarantine").fetchall())
        content = connection.execute("SELECT content FROM quarantine WHERE origin = 'message'").fetchone()[0]
        assert connection.execute("SELECT 1 FROM variable WHERE name = 'gBad'").fetchone() is None
    assert "kind is not one of voice, fax" in rows["message"]
    assert rows["variable"] == "it takes nothing"
    assert json.loads(content)["kind"] == "telegram"


def test_lost_parents_are_made_anew(live: Path) -> None:
    """Messages of a mailbox that is gone stay; the mailbox and its user are placeholders, and counted."""
    change(live, "DELETE FROM mailbox WHERE number = 101", "DELETE FROM user WHERE number = 101")
    report = mend(live)

    assert table(report, "mailbox")["placeholders"] == 1
    assert table(report, "user")["placeholders"] == 1
    with closing(sqlite3.connect(live)) as connection:
        assert connection.execute("SELECT name FROM user WHERE number = 101").fetchone() == ("recovered 101",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_an_undone_change_that_is_gone_is_cleared(live: Path) -> None:
    """What a change says to undo and nobody knows any more is taken off, and counted."""
    change(live, "UPDATE variable_change SET undoes = 99999 WHERE id = 7")

    assert table(mend(live), "variable_change")["cleared"] == 1


def test_the_report_lies_beside_the_damaged_file(live: Path) -> None:
    """report.json says what was done, and the new database remembers it in short."""
    change(live, "UPDATE variable_change SET undoes = 99999 WHERE id = 7")
    report = mend(live)
    kept = json.loads((Path(report.aside) / "report.json").read_text())

    assert RepairReport.from_data(kept) == report
    with closing(sqlite3.connect(live)) as connection:
        state = connection.execute("SELECT value FROM state WHERE key = 'last_repair'").fetchone()[0]
    assert json.loads(state)["aside"] == report.aside
