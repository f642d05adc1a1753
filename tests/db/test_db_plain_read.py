"""A repair is never worse than a plain read of the damaged file."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.db.format import page_file
from callisto_telnetd.db.format.forest import survey as survey_of
from callisto_telnetd.db.format.layout import OWN
from callisto_telnetd.db.salvage.plain_read import missing_rows
from callisto_telnetd.db.salvage.repair import Order, repair
from callisto_telnetd.db.salvage.report import TableReport
from callisto_telnetd.db.tables import TABLES
from callisto_telnetd.errors import StoreError
from tests.db.forms import Form
from tests.db.plausible import Plausible
from tests.db.test_db_repair_corpus import AT, variable_fault


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
        return missing_rows(source, connection, reports, AT)


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


def test_a_repair_that_would_be_worse_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages taken for others than they are would empty the tables: one line says so, and nothing has changed."""
    live = tmp_path / "callisto.db"
    Plausible(5, 0.2).fill(live, form=Form(8192))
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute("DROP INDEX message_mailbox")
    before = live.read_bytes()
    shutil.copyfile(live, tmp_path / "copy.db")
    monkeypatch.setattr(page_file, "detect", lambda _descriptor, _size: OWN)
    with pytest.raises(
        StoreError, match=r"^the repaired database would lack rows .*audit: \d+.*; nothing was changed$"
    ):
        repair(Order(live, tmp_path / "damaged", "x", AT, variable_fault), lambda *_: None)

    assert live.read_bytes() == before
    assert live.stat().st_nlink == 1
    assert {path.name for path in tmp_path.iterdir()} == {"callisto.db", "copy.db", "damaged"}
    assert not list((tmp_path / "damaged").iterdir())
