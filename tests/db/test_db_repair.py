"""The repair of a closed file: what it refuses, and what becomes of rows that are not as they should be."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.db.format.forest import survey as survey_of
from callisto_telnetd.db.format.layout import OWN
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.salvage.repair import Order, repair
from callisto_telnetd.db.salvage.report import RepairReport
from callisto_telnetd.db.salvage.room import needed_bytes
from callisto_telnetd.db.salvage.survey import Leaf, survey
from callisto_telnetd.errors import DiskFullError, ForeignDatabaseError, NewerSchemaError, StoreError
from tests.db.damages import journal_of
from tests.db.forms import FORMS
from tests.db.plausible import Plausible
from tests.db.test_db_repair_corpus import AT, rows_of

RESERVE = 4 << 20
LOCK_PAGE = (1 << 30) // 65536 + 1


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


@pytest.mark.parametrize(
    "damage",
    ["ring_ms = 9e999", "caller = CAST(zeroblob(400000) AS TEXT)", "caller = zeroblob(1000000)"],
    ids=["no number", "a long text", "long bytes"],
)
def test_what_is_set_apart_can_be_read_whatever_it_is(live: Path, damage: str) -> None:
    """A row of a value that is no number, or of one that is far too long, is set apart as JSON, and ends no repair."""
    with PageFile(live) as pages:
        tree = next(tree for tree in survey_of(pages).trees if tree.name == "call_record")
        page = tree.leaves[len(tree.leaves) // 2].number
    change(
        live,
        "UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'call_record'",
        "INSERT INTO quarantine VALUES (1, '2026-11-20T10:15:00+01:00', 'call_record', 'cut', '{\"id\": 7, \"cal')",
    )
    change(
        live,
        f"UPDATE call_record SET {damage} WHERE id = 2",
        "UPDATE sqlite_schema SET sql = sql || ' STRICT' WHERE name = 'call_record'",
    )
    with live.open("r+b") as opened:
        opened.seek((page - 1) * 4096)
        opened.write(bytes(4096))
    report = mend(live)

    assert table(report, "call_record")["quarantined"] == 1
    with closing(sqlite3.connect(live)) as connection:
        rows = connection.execute("SELECT content FROM quarantine WHERE at = ?", (AT,)).fetchall()
    assert json.loads(rows[0][0])["id"] == 2


def next_number(live: Path, name: str) -> int:
    """Return the number that the entry has which is made next, or which the repair has made to pass numbers over."""
    with closing(sqlite3.connect(live)) as connection:
        if name == "audit":
            number, event = connection.execute("SELECT id, event FROM audit ORDER BY id DESC LIMIT 1").fetchone()
            return int(number) + int(event != "audit entries lost")
        kept = connection.execute("SELECT value FROM state WHERE key = 'last_change'").fetchone() or (0,)
        (last,) = connection.execute("SELECT max(id) FROM variable_change").fetchone()
        return 1 + max(int(kept[0]), int(last))


@pytest.mark.parametrize("name", ["audit", "variable_change"])
@pytest.mark.parametrize(
    ("damage", "passed_over"),
    [("at = 'yesterday'", 0), ("id = id | 1 << 53", 99_999)],
    ids=["a value", "its number"],
)
def test_the_number_of_an_entry_that_is_set_apart_is_not_given_again(
    live: Path, name: str, damage: str, passed_over: int
) -> None:
    """The newest entry goes to quarantine; the next one gets the number behind it, far behind where that is unknown."""
    before = next_number(live, name)
    change(live, f"UPDATE {name} SET {damage} WHERE id = {before - 1}")
    report = mend(live)

    assert table(report, name)["quarantined"] == 1
    assert next_number(live, name) == before + passed_over


def test_no_change_gets_a_number_that_the_lost_state_has_kept(live: Path) -> None:
    """Where a row of the state is set apart, it may be the one that has kept the highest number of a change."""
    before = next_number(live, "variable_change")
    change(live, f"INSERT INTO state VALUES ('last_change ?', '{before + 7}')")
    mend(live)

    assert next_number(live, "variable_change") == before + 100_000
    assert "audit entries lost" not in {row[2] for row in rows_of(live)["audit"].values()}


def test_the_report_lies_beside_the_damaged_file(live: Path) -> None:
    """report.json says what was done, and the new database remembers it in short."""
    change(live, "UPDATE variable_change SET undoes = 99999 WHERE id = 7")
    report = mend(live)
    kept = json.loads((Path(report.aside) / "report.json").read_text())

    assert RepairReport.from_data(kept) == report
    with closing(sqlite3.connect(live)) as connection:
        state = connection.execute("SELECT value FROM state WHERE key = 'last_repair'").fetchone()[0]
    assert json.loads(state)["aside"] == report.aside


@pytest.mark.parametrize(("value", "made"), [("98765", 1), ("0", 0)])
def test_the_user_of_the_default_mailbox_is_made_anew(live: Path, value: str, made: int) -> None:
    """The default mailbox must be that of a user: a lost one is made anew and counted; 0 names nobody."""
    change(live, f"INSERT OR REPLACE INTO variable VALUES ('gDefaultMailbox', '{value}')", "DROP INDEX message_mailbox")
    report = mend(live)
    with closing(sqlite3.connect(live)) as connection:
        rows = connection.execute("SELECT name FROM user WHERE number = ?", (value,)).fetchall()

    assert rows == [(f"recovered {value}",)] * made
    assert table(report, "user")["placeholders"] == made


def wipe(live: Path, *numbers: int) -> None:
    """Zero pages."""
    with live.open("r+b") as file:
        for number in numbers:
            file.seek((number - 1) * 4096)
            file.write(bytes(4096))


def leaves_of(live: Path, name: str) -> list[Leaf]:
    """Return the leaves of a table, in order."""
    with PageFile(live) as pages:
        return survey(pages, lambda _done, _of: None, survey_of(pages)).leaves[name]


def test_a_lost_first_page_has_cost_no_row(live: Path) -> None:
    """The schema alone stood there: where every other page is accounted for, nothing is lost, and it says so."""
    wipe(live, 1)
    report = mend(live)

    assert report.outcome == "recovered"
    assert {each.table: each.lost_text for each in report.tables} == {each.table: "0" for each in report.tables}
    assert report.lost_text == "0"


def test_a_damaged_letter_of_the_schema_has_cost_no_row(live: Path) -> None:
    """SQLite quotes it, and what it says is no text then."""
    right = b"INDEX variable_change_name ON variable_change"
    assert right in live.read_bytes()
    live.write_bytes(live.read_bytes().replace(right, b"INDEX variable_change_name ON variable_\xffhange"))
    report = mend(live)

    assert report.outcome == "recovered"
    assert report.lost_text == "0"


def test_a_lost_first_page_and_another_one_are_not_played_down(live: Path) -> None:
    """With one more page gone nobody says that nothing is lost."""
    wipe(live, 1, leaves_of(live, "audit")[1].page)
    report = mend(live)

    assert table(report, "audit")["lost_exact"] is False
    assert not report.lost_text.isdigit()


def test_a_lost_leaf_says_how_many_rows_at_most(live: Path) -> None:
    """No index names the rows of the audit: its leaf's range of row ids is what can be lost, and no more."""
    leaf = next(leaf for leaf in leaves_of(live, "audit")[:-1] if leaf.last - leaf.first < 2 * leaf.rows)
    wipe(live, leaf.page)
    report = mend(live)
    audit = next(each for each in report.tables if each.table == "audit")

    assert not audit.lost_exact
    assert audit.lost_most is not None
    assert leaf.rows <= audit.lost_most <= 2 * leaf.rows
    assert audit.lost_text == f"at most {audit.lost_most}" == report.lost_text


def test_the_last_leaf_says_nothing_of_what_came_behind_it(live: Path) -> None:
    """Behind the last sound row there may have been any number."""
    wipe(live, leaves_of(live, "audit")[-1].page)
    report = mend(live)

    assert next(each for each in report.tables if each.table == "audit").lost_text == "unknown"
    assert report.lost_text == "an unknown number"


def test_the_room_that_is_asked_for_counts_every_copy(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal to be rolled back, and a file system without links, take a copy more; a backup is copied once."""
    data = bytearray(live.read_bytes())
    assert needed_bytes(live) == 2 * len(data) + RESERVE
    live.with_name("callisto.db-journal").write_bytes(bytes.fromhex("d9d505f920a163d7"))
    assert needed_bytes(live) == 3 * len(data) + RESERVE
    backup = tmp_path / "copy.db"
    backup.write_bytes(bytes(5000))
    assert needed_bytes(live, backup) == 5000 + RESERVE

    def refuse(_source: object, _target: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert needed_bytes(live) == 4 * len(data) + RESERVE
    assert needed_bytes(live, backup) == len(data) + 5000 + RESERVE
    assert needed_bytes(live.with_name("none.db")) == RESERVE
    assert {path.name for path in tmp_path.iterdir()} == {"callisto.db", "callisto.db-journal", "copy.db"}


def test_a_repair_takes_no_more_room_than_it_asks_for(live: Path) -> None:
    """The files that are there at each step together stay below what was asked for."""
    change(live, "DROP INDEX message_mailbox")
    asked, most = needed_bytes(live), 0

    def look(_step: str, _done: int, _of: int) -> None:
        nonlocal most
        most = max(most, sum(path.stat().st_size for path in live.parent.glob("callisto.db.making*")))

    repair(Order(live, live.parent / "damaged", "x", AT, lambda _name, _text: None), look)

    assert live.stat().st_size < most <= asked - RESERVE + (256 << 10)


def test_a_log_of_another_program_is_set_aside(live: Path) -> None:
    """SQLite would replay a write-ahead log that lies beside the database: it goes aside, and every row stays."""
    rows = leaves_of(live, "message")
    log = live.with_name("callisto.db-wal")
    log.write_bytes(b"frames" * 1000)
    report = mend(live)

    assert not log.exists()
    assert (Path(report.aside) / log.name).read_bytes() == b"frames" * 1000
    assert table(report, "message")["kept"] == sum(leaf.rows for leaf in rows)
    assert report.lost_text == "0"
    assert report.notes == ["callisto.db-wal is another program's: set aside, not applied"]


def log_changes(live: Path) -> tuple[bytes, bytes]:
    """Leave a write-ahead log with a change beside the database, as a program does that is killed; return both."""
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("UPDATE variable SET value = '59' WHERE name = 'gWebTimeout'")
        kept = live.read_bytes(), live.with_name("callisto.db-wal").read_bytes()
    live.write_bytes(kept[0])
    live.with_name("callisto.db-wal").write_bytes(kept[1])
    return kept


def web_timeout(live: Path) -> str:
    """Return the value of the variable that was changed."""
    with closing(sqlite3.connect(live)) as connection:
        return str(connection.execute("SELECT value FROM variable WHERE name = 'gWebTimeout'").fetchone()[0])


def test_a_log_of_the_file_itself_is_played_back(live: Path) -> None:
    """Where the file's header says that there may be a log, what another program has committed there is not lost."""
    kept = log_changes(live)
    report = mend(live)
    aside = Path(report.aside)

    assert report.outcome == "journal"
    assert report.notes == ["callisto.db-wal was played back"]
    assert web_timeout(live) == "59"
    assert ((aside / "callisto.db").read_bytes(), (aside / "callisto.db-wal").read_bytes()) == kept
    assert {path.name for path in live.parent.iterdir()} == {"callisto.db", "damaged"}
    assert mend(live).outcome == "sound"


def test_a_log_that_spoils_the_file_is_not_played_back(live: Path) -> None:
    """A log that leaves a file that is not whole is set aside: every row stays as the file has it."""
    log_changes(live)
    before = live.read_bytes()
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:  # a log that zeroes a root page
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'message'")
        log = live.with_name("callisto.db-wal").read_bytes()
    live.write_bytes(before)
    live.with_name("callisto.db-wal").write_bytes(log)
    report = mend(live)

    assert report.notes == ["callisto.db-wal is another program's: set aside, not applied"]
    assert web_timeout(live) == "30"
    assert report.lost_text == "0"


@pytest.mark.parametrize("name", ["8192", "65536", "utf-16le", "auto-vacuum", "write-ahead"])
def test_a_sound_database_of_another_form_is_left_alone(tmp_path: Path, name: str) -> None:
    """Nothing is wrong with it, so it is left; with a journal beside it the result is of Callisto's own form."""
    live = tmp_path / "callisto.db"
    Plausible(5, 0.08).fill(live, form=FORMS[name])
    before = live.read_bytes()
    assert mend(live).outcome == "sound"
    require_unchanged(live, before)
    live.with_name("callisto.db-journal").write_bytes(journal_of([(1, bytes(4096))], 9))
    report = mend(live)

    assert report.outcome == "journal"
    assert report.journal.startswith("set aside, not rolled back: ")
    assert report.lost_text == "0"
    with PageFile(live) as pages:
        assert pages.layout == OWN


def test_a_database_that_is_gone_becomes_an_empty_one(live: Path) -> None:
    """Without a file there is nothing to be kept, and an appliance that can be used again."""
    live.unlink()
    report = mend(live)

    assert report.kept == 0
    assert report.lost_text == "an unknown number"
    assert mend(live).outcome == "sound"


def test_rows_of_pages_that_changed_places_are_marked(live: Path) -> None:
    """Two sound leaves in one another's place: every row is kept, and counted as taken from damaged pages."""
    one, _, other = leaves_of(live, "audit")[:3]
    data = bytearray(live.read_bytes())
    first, second = (slice((leaf.page - 1) * 4096, leaf.page * 4096) for leaf in (one, other))
    data[first], data[second] = data[second], data[first]
    live.write_bytes(data)
    report = mend(live)

    assert set(report.bad_pages) == {one.page, other.page}
    assert table(report, "audit")["from_damaged"] == one.rows + other.rows


@pytest.mark.long
def test_a_file_of_more_than_a_gibibyte(tmp_path: Path) -> None:
    """Rows before and behind the lock page are kept; the page itself is none, and holes take no room."""
    live, form = tmp_path / "callisto.db", FORMS["65536"]
    Plausible(5, 0.3).fill(live, form=form)
    before = rows_of(live)
    header = bytearray(live.read_bytes()[:100])
    header[28:32] = (LOCK_PAGE - 3).to_bytes(4, "big")  # so many pages it has now, most of them nobody's
    with live.open("r+b") as file:
        file.write(header)
        file.truncate((LOCK_PAGE - 3) * form.page_bytes)
    calls = [(10_000 + n, "2026-11-23T10:15:00+01:00", "+41", "x" * 190, None, "busy", 1, 2) for n in range(3000)]
    with closing(sqlite3.connect(live)) as connection:
        connection.executemany("INSERT INTO call_record VALUES (?, ?, ?, ?, ?, ?, ?, ?)", calls)
        connection.commit()
        (count,) = connection.execute("PRAGMA page_count").fetchone()
    assert count > LOCK_PAGE + 3
    report = mend(live)
    now = rows_of(live)

    assert report.outcome == "rebuilt"
    assert report.lost_text == "0"
    assert now["call_record"] == before["call_record"] | {(row[0],): row for row in calls}
    assert now["message"] == before["message"]
    assert (Path(report.aside) / "callisto.db").stat().st_blocks * 512 < 64 << 20
