"""Rows that their tables do not take: told alike by all who look at a backup, set apart by a restore."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.db.backup.unpacking import unpack
from callisto_telnetd.db.backup.verification import verify
from callisto_telnetd.db.backup.writer import Order, prove
from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.doubtful_rows import find_doubtful
from callisto_telnetd.db.inspection import inspect
from callisto_telnetd.db.restore.plan import look_ahead
from callisto_telnetd.db.restore.staging import carry_over, stage
from callisto_telnetd.db.restore.switch import making_of
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.db.salvage.repair import Order as RepairOrder
from callisto_telnetd.db.salvage.repair import repair
from callisto_telnetd.db.snapshot import make_snapshot, newest_good
from callisto_telnetd.errors import DamagedDatabaseError
from tests.db.archives import ignore, make_appliance, make_archive
from tests.db.forms import Form
from tests.db.plausible import Plausible
from tests.db.restoring import CHANGE, make_folder

AT = "2026-11-23T10:15:00+01:00"
NOW = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
_MESSAGE = "(SELECT min(id) FROM message)"
SPOILED = {
    "a flipped bit in a text": (
        "call_record",
        "UPDATE call_record SET called = CAST(x'2b3431b0' AS TEXT) WHERE id = 1",
    ),
    "a line end in a name": (
        "user",
        "UPDATE user SET name = 'a' || char(10) || 'b' WHERE number = (SELECT min(number) FROM mailbox)",
    ),
    "a number out of its range": (
        "mailbox",
        "UPDATE mailbox SET quota_s = -5 WHERE number = (SELECT min(mailbox) FROM message)",
    ),
    "a time that is none": ("message", f"UPDATE message SET at = 'yesterday' WHERE id = {_MESSAGE}"),
    "a recording that is no hash": ("message", f"UPDATE message SET recording = 'none' WHERE id = {_MESSAGE}"),
    "a state that is no UTF-8": ("state", "INSERT INTO state VALUES ('aside', CAST(x'ff' AS TEXT))"),
    "a name that is no UTF-8": ("state", "INSERT INTO state VALUES (CAST(x'ff' AS TEXT), 'x')"),
}


@pytest.fixture(params=SPOILED, ids=[name.replace(" ", "-") for name in SPOILED])
def spoiled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Order, str]:
    """An appliance that SQLite finds sound, with one row that its table does not take; and that table."""
    order = make_appliance(tmp_path / "spoiled")
    table, statement = SPOILED[request.param]
    with closing(sqlite3.connect(order.live, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount == 1
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return order, table


def ask(file: Path, sql: str) -> list[Any]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchall()


def unpacked(order: Order, folder: Path) -> tuple[Unpacked, Doubtful]:
    """Make an archive, take it apart, and return its parts with what was said of its rows when it was made."""
    made = make_archive(order)
    folder.mkdir()
    parts = unpack(made.path, None, folder, order.media, ignore)
    backup = Unpacked(
        name=made.path.name,
        database=folder / "callisto.db",
        settings=None,
        recordings=folder / "recordings",
        schema=parts.manifest.schema,
        version="1.0.0",
        edition="ucm",
        secrets=False,
    )
    return backup, made.doubtful


def test_all_who_look_at_a_backup_say_the_same(spoiled: tuple[Order, str], tmp_path: Path) -> None:
    """Making, proving, verifying, planning and restoring tell the same rows; the restore has all others in place."""
    order, table = spoiled
    backup, told = unpacked(order, tmp_path / "unpacked")
    assert (told.tables, len(told.faults)) == ({table: 1}, 1)
    assert told.faults[0].startswith(f"{table} ")

    assert prove(order) == told
    archive = next(path for path in order.folder.iterdir() if path.suffix == ".zip")
    assert verify(archive, None, order.folder, lambda _name, _text: None, ignore).doubtful == told
    live = make_folder(tmp_path / "data")
    outlook = look_ahead(live, backup)
    assert outlook.doubtful == told
    assert stage(live, backup, ignore, at=AT) == told

    made = making_of(live) / "callisto.db"
    assert not any(inspect(made, lambda _name, _text: None, ignore, closed=True).values())
    ((origin, reason, content),) = ask(made, "SELECT origin, reason, content FROM quarantine WHERE at = '" + AT + "'")
    assert (origin, reason) == (table, told.faults[0].partition(": ")[2])
    assert json.loads(content)
    carry_over(live, None, {}, change=CHANGE, given={})
    for each in outlook.tables:
        if each.table != "state":  # which is the appliance's own
            assert each.then == ask(made, f'SELECT count(*) FROM "{each.table}"')[0][0], each.table
    assert set(backup.database.parent.iterdir()) == {backup.database, backup.recordings}


def test_no_copy_is_kept_of_them_and_one_that_is_there_can_be_taken(spoiled: tuple[Order, str], tmp_path: Path) -> None:
    """No new copy of the database with such a row is kept; an older one is told with it, and a repair sets it apart."""
    order, table = spoiled
    with pytest.raises(DamagedDatabaseError, match=f"the copy of the database is not sound: {table} "):
        make_snapshot(order.live, order.folder, NOW)
    assert newest_good(order.folder, NOW) is None
    copy = order.folder / "database-20261123-101500.db"
    copy.write_bytes(order.live.read_bytes())
    found = newest_good(order.folder, NOW)
    assert found is not None
    assert (found.path, found.doubtful) == (copy, 1)

    live = make_folder(tmp_path / "data")
    what = RepairOrder(live, tmp_path / "damaged", "20261123-101500", AT, lambda _name, _text: None, backup=found.path)
    assert repair(what, ignore).quarantined == 1
    assert not any(inspect(live, lambda _name, _text: None, ignore, closed=True).values())
    assert ask(live, f"SELECT origin FROM quarantine WHERE at = '{AT}'") == [(table,)]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_rows_are_judged_alike_in_each_encoding(tmp_path: Path, encoding: str) -> None:
    """A database of UTF-16 is as sound as one of UTF-8; a text that is none, or has a NUL, is told in each."""
    file = tmp_path / "callisto.db"
    Plausible(5, 0.05).fill(file, form=Form(encoding=encoding))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("UPDATE user SET name = 'Zoë \N{SLIGHTLY SMILING FACE}' WHERE number = 100")
        assert find_doubtful(connection) == Doubtful()
        broken = "x'ff'" if encoding == "UTF-8" else "x'00d8'" if encoding == "UTF-16le" else "x'd800'"
        connection.execute(f"UPDATE user SET name = CAST({broken} AS TEXT) WHERE number = 101")
        connection.execute("UPDATE user SET name = 'a' || char(0) WHERE number = 102")
        connection.execute("UPDATE mailbox SET pin_hash = pin_hash || 'ü' WHERE number = 102")
        found = find_doubtful(connection)
    assert found.tables == {"user": 2, "mailbox": 1}
    assert len(found.faults) == 3
