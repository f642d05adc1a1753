"""A repair is never worse than a plain read of the damaged file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.db.format import page_file
from callisto_telnetd.db.format.forest import survey as survey_of
from callisto_telnetd.db.format.layout import OWN
from callisto_telnetd.db.salvage import plain_read
from callisto_telnetd.db.salvage import repair as repair_module
from callisto_telnetd.db.salvage.plain_read import missing_rows
from callisto_telnetd.db.salvage.repair import Order, repair
from callisto_telnetd.db.salvage.report import TableReport
from callisto_telnetd.db.tables import TABLES
from callisto_telnetd.errors import StoreError
from tests.db.forms import Form
from tests.db.plausible import Plausible
from tests.db.test_db_repair_corpus import AT, rows_of, variable_fault


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A database of many pages, one leaf of its call records in the middle zeroed."""
    file = tmp_path / "callisto.db"
    Plausible(5, 0.2).fill(file)
    with page_file.PageFile(file) as pages:
        tree = next(tree for tree in survey_of(pages).trees if tree.name == "call_record")
        middle = tree.leaves[len(tree.leaves) // 2].number
    with file.open("r+b") as opened:
        opened.seek((middle - 1) * 4096)
        opened.write(bytes(4096))
    return file


def missing(source: Path, *statements: str) -> dict[str, int]:
    """Return what is missing in a new database, made of the undamaged rows and changed by these statements."""
    new = source.with_name("new.db")
    new.unlink(missing_ok=True)
    Plausible(5, 0.2).fill(new)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        reports = {table.name: TableReport(table.name) for table in TABLES}
        for name, report in reports.items():
            report.kept = connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
        return {table.name: len(rows) for table, rows in missing_rows(source, connection, reports, AT).items()}


def test_rows_of_both_ends_are_missed(source: Path) -> None:
    """Rows before a damaged page and behind it are read, and missed where the new database lacks them."""
    assert missing(source) == {}
    assert missing(
        source,
        "DELETE FROM call_record WHERE id IN (1, 2, 999, 1000)",
        "DELETE FROM greeting WHERE occasion = 'standard' AND mailbox = 100",
    ) == {"call_record": 4, "greeting": 1}


def test_what_is_set_apart_is_kept(source: Path) -> None:
    """A row in quarantine is not missed, if this repair has put it there."""
    lost = "DELETE FROM call_record WHERE id < 3"
    apart = "INSERT INTO quarantine (at, origin, reason, content) VALUES ('{}', 'call_record', 'x', '{{\"id\": 1}}')"

    assert missing(source, lost, apart.format(AT)) == {"call_record": 1}
    assert missing(source, lost, apart.format("2020-01-01T00:00:00+01:00")) == {"call_record": 2}


def test_rows_of_another_table_are_none_of_its_own(tmp_path: Path) -> None:
    """Two sound pages that changed places give the rows of each table to the other, and a plain read believes it."""
    live = tmp_path / "callisto.db"
    Plausible(5, 0.2).fill(live)
    rows, content = rows_of(live), bytearray(live.read_bytes())
    with closing(sqlite3.connect(live)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE name IN ('variable', 'state')"))
    one, other = (slice((root - 1) * 4096, root * 4096) for root in roots.values())
    content[one], content[other] = content[other], content[one]
    live.write_bytes(content)
    repair(Order(live, tmp_path / "damaged", "x", AT, variable_fault), lambda *_: None)
    now = rows_of(live)

    assert now["variable"] == rows["variable"]
    assert all(now["state"][key] == row for key, row in rows["state"].items())


@pytest.mark.parametrize(
    ("table", "key"), [("account", "name"), ("greeting", "occasion"), ("state", "key"), ("variable", "name")]
)
def test_a_key_that_is_no_text_is_passed_over(source: Path, table: str, key: str) -> None:
    """Where a damaged key is not UTF-8 no repair fails: rows beside it are missed, and this one no table takes."""
    with closing(sqlite3.connect(source, isolation_level=None)) as connection:
        (last,) = connection.execute(f"SELECT max({key}) FROM {table}").fetchone()
        connection.execute(f"UPDATE {table} SET {key} = CAST(x'ff41' AS TEXT) WHERE {key} = ?", (last,))
        (others,) = connection.execute(f"SELECT count(*) FROM {table} WHERE {key} < ?", (last,)).fetchone()

    assert missing(source, f"DELETE FROM {table}") == {table: others}


@pytest.fixture
def misread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A damaged database whose pages are taken for others than they are: nothing is found on them."""
    live = tmp_path / "callisto.db"
    Plausible(5, 0.2).fill(live, form=Form(8192))
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("DROP INDEX message_mailbox")
    monkeypatch.setattr(page_file, "detect", lambda _descriptor, _size: OWN)
    return live


def test_a_repair_that_would_be_worse_is_refused(misread: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many rows of a plain read would be lost, one line says so, and nothing has changed."""
    monkeypatch.setattr(plain_read, "MOST_MISSING", 5)
    monkeypatch.setattr(repair_module, "MOST_MISSING", 5)
    before, folder = misread.read_bytes(), misread.parent
    with pytest.raises(StoreError) as refused:
        repair(Order(misread, folder / "damaged", "x", AT, variable_fault), lambda *_: None)

    assert str(refused.value).startswith("the repaired database would lack rows that the damaged one still gives (")
    assert "call_record: 526 or more" in str(refused.value)
    assert str(refused.value).endswith("); nothing was changed")
    assert misread.read_bytes() == before
    assert misread.stat().st_nlink == 1
    assert {path.name for path in folder.iterdir()} == {"callisto.db", "damaged"}
    assert not list((folder / "damaged").iterdir())


def test_what_only_a_plain_read_gives_is_taken(misread: Path) -> None:
    """Rows that are not found on the pages, and that SQLite gives, are in the new database."""
    rows = rows_of(misread)
    report = repair(Order(misread, misread.parent / "damaged", "x", AT, variable_fault), lambda *_: None)
    now = rows_of(misread)

    assert all(now[name][key] == row for name, there in rows.items() for key, row in there.items())
    assert sum(table.from_damaged for table in report.tables) == sum(map(len, rows.values()))
