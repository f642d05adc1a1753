"""Audit and history of variables go along into a restored database: nothing goes, no number is given twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.accounts import audit as audit_module
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.clock import Clock
from callisto_telnetd.db import memory
from callisto_telnetd.db.memory import LOST_EVENT, Change, carry_memory, highest_given, preview
from callisto_telnetd.db.restore.plan import look_ahead
from callisto_telnetd.db.salvage.repair import Order, repair
from callisto_telnetd.db.schema import LAST_CHANGE_STATE
from callisto_telnetd.db.store import open_store
from callisto_telnetd.origin import Origin
from callisto_telnetd.record_rate import RecordRate
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import open_log
from callisto_telnetd.variables import ledger
from tests.db.restoring import AT, CHANGE, make_backup, make_database


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The present database, with nothing in its memory."""
    file = tmp_path / "callisto.db"
    make_database(file, "old")
    return file


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The database that takes its place."""
    file = tmp_path / "other.db"
    make_database(file, "new")
    return file


def ask(file: Path, sql: str, parameters: tuple[object, ...] = ()) -> list[Any]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return connection.execute(sql, parameters).fetchall()


def audit(file: Path, events: Mapping[int, str]) -> None:
    """Write entries of the audit, by number."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany(
            "INSERT INTO audit VALUES (?, ?, ?, 'ada', 'telnet', '::1', '')",
            [(number, AT, event) for number, event in events.items()],
        )


def change(file: Path, number: int, value: str, *, batch: int | None = None, undoes: int | None = None) -> None:
    """Write a change of gWebTimeout."""
    row = (number, batch or number, AT, value, undoes)
    ask(file, "INSERT INTO variable_change VALUES (?, ?, ?, 'gWebTimeout', '1', ?, 'ada', '', '', '', ?)", row)


def change_often(file: Path, count: int) -> None:
    """Write so many changes, each of which undoes the one before."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany(
            "INSERT INTO variable_change VALUES (?, ?, ?, 'gWebTimeout', '1', ?, 'ada', '', '', '', ?)",
            [(number, number, AT, f"value {number}", number - 1 or None) for number in range(1, count + 1)],
        )


def carry(other: Path, live: Path, given: Mapping[str, int] | None = None, by: Change = CHANGE) -> None:
    """Put the present memory into the other database, and see that the plan had said as many entries."""
    told = preview(live, other)
    with closing(sqlite3.connect(other.absolute().as_uri(), uri=True, isolation_level=None)) as connection:
        carry_memory(connection, live, by, given or {})
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    if not given:
        assert told["variable_change"].then == ask(other, "SELECT count(*) FROM variable_change")[0][0]


def events(file: Path) -> dict[int, str]:
    """Return the entries of the audit, by number."""
    return dict(ask(file, "SELECT id, event FROM audit ORDER BY id"))


def changes(file: Path) -> list[Any]:
    """Return the history of variables: number, batch, new value, what it undoes."""
    return ask(file, "SELECT id, batch, new, undoes FROM variable_change ORDER BY id")


def test_what_happened_since_the_backup_stays(live: Path, other: Path) -> None:
    """Entries of now keep their numbers, those of both sides are there once, a changed variable has one more."""
    audit(other, {1: "one", 2: "two"})
    audit(live, {1: "one", 2: "two", 3: "since", 4: "and since"})
    change(other, 1, "15")
    ask(other, "DELETE FROM audit WHERE id = 3")
    change(live, 1, "15")
    change(live, 2, "16")
    ask(live, "DELETE FROM audit WHERE id > 4")
    ask(other, "INSERT INTO variable VALUES ('gWebTimeout', '15')")
    ask(live, "INSERT INTO variable VALUES ('gWebTimeout', '16'), ('gSiteName', 'Bern')")
    carry(other, live)

    new = {5: "variable changed", 6: "variable changed"}
    assert events(other) == {1: "one", 2: "two", 3: "since", 4: "and since", **new}
    assert changes(other) == [(1, 1, "15", None), (2, 2, "16", None), (3, 3, None, None), (4, 3, "15", None)]
    assert ask(other, "SELECT name, old, new, who, note FROM variable_change WHERE id > 2 ORDER BY id") == [
        ("gSiteName", "Bern", None, "ada", "restored from backup.zip"),
        ("gWebTimeout", "16", "15", "ada", "restored from backup.zip"),
    ]


def test_a_new_appliance_gets_the_memory_of_the_old_one_once(live: Path, other: Path, tmp_path: Path) -> None:
    """Entries whose numbers are taken here come behind all, in order, with their links; a second restore adds none."""
    audit(live, {1: "new appliance"})
    audit(other, {1: "one", 2: "two", 3: "three"})
    change(live, 1, "40")
    change(other, 1, "15")
    change(other, 2, "16", batch=1)
    change(other, 3, "15", undoes=2)
    for file, most in ((live, 1), (other, 3)):
        ask(file, "DELETE FROM audit WHERE id > ?", (most,))
    again = tmp_path / "again.db"
    again.write_bytes(other.read_bytes())
    carry(other, live)

    assert events(other) == {1: "new appliance", 4: "one", 5: "two", 6: "three"}
    assert changes(other) == [(1, 1, "40", None), (4, 4, "15", None), (5, 4, "16", None), (6, 6, "15", 5)]
    carry(again, other)
    assert events(again) == events(other)
    assert changes(again) == changes(other)


def test_numbers_that_are_free_are_kept(live: Path, other: Path) -> None:
    """Where nothing was ever changed here, the history of the old appliance keeps its numbers."""
    change(other, 7, "15")
    change(other, 8, "16", undoes=7)
    carry(other, live)

    assert changes(other) == [(7, 7, "15", None), (8, 8, "16", 7)]


def test_entries_that_say_the_same_are_not_taken_for_one(live: Path, other: Path) -> None:
    """Two log-ins of one second are two entries here and two there: none is lost, none is doubled."""
    audit(live, {1: "logged in", 2: "logged in"})
    audit(other, {5: "logged in", 6: "logged in", 7: "logged in"})
    carry(other, live)

    assert events(other) == dict.fromkeys((1, 2, 7), "logged in")


def test_a_full_audit_takes_none_from_the_backup(live: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the audit keeps at most is for the entries of here first, then for the newest of the backup."""
    monkeypatch.setattr(memory, "MOST_AUDIT", 5)
    audit(live, dict.fromkeys((1, 2, 3), "here"))
    audit(other, {number: f"there {number}" for number in range(10, 20)})
    carry(other, live)

    assert events(other) == {**dict.fromkeys((1, 2, 3), "here"), 18: "there 18", 19: "there 19"}


@pytest.mark.parametrize("given", [{}, {"audit": 3000, "variable_change": 9}])
def test_a_damaged_database_gives_what_can_be_read(live: Path, other: Path, given: dict[str, int]) -> None:
    """Entries around a damage stay; what is lost keeps its numbers to itself, and the audit says so."""
    audit(live, {number: f"event {number}" for number in range(1, 3001)})
    audit(other, {1: "event 1", 4000: "elsewhere"})
    pages = live.read_bytes()
    last = max(
        at
        for at in range(0, len(pages), 4096)
        if pages[at : at + 1] == b"\x0d" and b"event 29" in pages[at : at + 4096]
    )
    live.write_bytes(pages[:last] + bytes(4096) + pages[last + 4096 :])
    carry(other, live, given)

    found = events(other)
    kept = [number for number, event in found.items() if event == f"event {number}"]
    assert 2000 < len(kept) < 3000
    beyond = 3100 if given else max(kept) + 100_000
    (elsewhere,) = [number for number, event in found.items() if event == "elsewhere"]
    assert elsewhere > beyond or (given and elsewhere == 4000)
    assert ask(other, "PRAGMA integrity_check") == [("ok",)]


def test_a_repair_gives_no_lost_number_again(live: Path, tmp_path: Path) -> None:
    """What was given is known in memory, or far numbers are passed over: for the audit an entry says so."""
    audit(live, {number: f"event {number}" for number in range(1, 3001)})
    change(live, 1, "15")
    ask(live, "DELETE FROM audit WHERE id > 3000")
    pages = live.read_bytes()
    last = max(
        at
        for at in range(0, len(pages), 4096)
        if pages[at : at + 1] == b"\x0d" and b"event 29" in pages[at : at + 4096]
    )
    live.write_bytes(pages[:last] + bytes(4096) + pages[last + 4096 :])
    order = Order(live, tmp_path / "damaged", "20261123-101500", AT, lambda _name, _text: None, given={"audit": 3000})
    assert repair(order, lambda *_told: None).outcome == "rebuilt"

    (number,) = (number for number, event in events(live).items() if event == LOST_EVENT)
    assert number == max(events(live)) == 3101
    assert changes(live) == [(1, 1, "15", None)]


def test_a_copy_that_is_put_in_place_goes_on_with_the_memory(live: Path, other: Path, tmp_path: Path) -> None:
    """A repair by a copy of the database keeps what happened since, and writes whose change of variables it is."""
    audit(live, {1: "one", 2: "since"})
    audit(other, {1: "one"})
    ask(live, "INSERT INTO variable VALUES ('gWebTimeout', '16')")
    copy = tmp_path / "database-20261123-101500.db"
    other.rename(copy)
    what = (tmp_path / "damaged", "20261123-101500", AT, lambda _name, _text: None)
    repair(Order(live, *what, backup=copy, who="bob"), lambda *_told: None)

    assert events(live) == {1: "one", 2: "since", 3: "variable changed"}
    assert ask(live, "SELECT name, old, new, who, note FROM variable_change") == [
        ("gWebTimeout", "16", None, "bob", f"restored from {copy.name}")
    ]


def test_the_key_of_the_last_number_has_one_name() -> None:
    """Whoever writes changes looks where a repair or a restore keeps the highest number."""
    assert ledger.LAST_CHANGE_STATE == LAST_CHANGE_STATE


def pages_with(file: Path, text: bytes) -> list[int]:
    """Return where the leaves of tables begin that have a text."""
    content = file.read_bytes()
    places = range(0, len(content), 4096)
    return [at for at in places if content[at : at + 1] == b"\x0d" and text in content[at : at + 4096]]


def overwrite(file: Path, at: int, data: bytes) -> None:
    """Damage a file."""
    with file.open("r+b") as stream:
        stream.seek(at)
        stream.write(data)


def test_a_lost_first_page_takes_no_entry(live: Path, other: Path, tmp_path: Path) -> None:
    """A file that SQLite opens no more gives all its entries to the copy that takes its place, and to a restore."""
    written = {number: f"event {number}" for number in range(1, 501)}
    audit(live, written)
    change_often(live, 100)
    ask(live, "DELETE FROM audit WHERE id > 500")
    overwrite(live, 0, bytes(4096))
    again = tmp_path / "again.db"
    again.write_bytes(other.read_bytes())
    carry(again, live)
    what = (tmp_path / "damaged", "20261123-101500", AT, lambda _name, _text: None)
    repair(Order(live, *what, backup=other), lambda *_told: None)

    for file in (live, again):
        found = events(file)
        assert {number: found[number] for number in written} == written
        assert [number for number, *_ in changes(file)] == list(range(1, 101))


def test_another_encoding_takes_no_entry(live: Path, other: Path, tmp_path: Path) -> None:
    """A present database in UTF-16, which SQLite attaches to no other, gives all its entries and its variables."""
    audit(live, {1: "one", 2: "two"})
    ask(live, "INSERT INTO variable VALUES ('gWebTimeout', '16')")
    wide = tmp_path / "wide.db"
    with closing(sqlite3.connect(live)) as source, closing(sqlite3.connect(wide)) as target:
        target.execute("PRAGMA encoding = 'UTF-16le'")
        target.executescript("\n".join(source.iterdump()))
    carry(other, wide)

    assert events(other) == {1: "one", 2: "two", 3: "variable changed"}
    assert ask(other, "SELECT name, old, new FROM variable_change") == [("gWebTimeout", "16", None)]


def test_a_batch_whose_first_change_is_gone_is_known_by_the_next(live: Path, other: Path) -> None:
    """A backup that lacks the first change of a batch is taken over by an appliance that gave its number itself."""
    change(live, 1, "40")
    for number in (2, 3):
        change(other, number, str(number), batch=1)
    ask(
        live,
        "INSERT INTO variable_change SELECT 2, 2, at, name, old, new, who, door, source, note, 1 FROM variable_change",
    )
    carry(other, live)

    assert changes(other) == [(1, 1, "40", None), (2, 2, "40", 1), (4, 4, "2", None), (5, 4, "3", None)]


def test_bad_rows_of_the_present_audit_are_set_apart(live: Path, other: Path) -> None:
    """A text that became a blob, a text that is none and a number that two entries have: no restore fails for them."""
    audit(live, {1: "first", 2: "twicetwice", 3: "third", 4: "fourth"})
    (leaf,) = pages_with(live, b"twicetwice")
    page = live.read_bytes()[leaf : leaf + 4096]
    third, fourth = page.index(b"third"), page.index(b"fourth")
    overwrite(live, leaf + fourth, b"\xff")
    # A record begins with its size, its row id, its header's size, and the serial types of id, at and event.
    begin = page.rindex(bytes([3, 8, 0]), 0, third)
    assert page[begin + 4] == len("third") * 2 + 13
    overwrite(live, leaf + begin, b"\x02")
    begin = page.rindex(bytes([1, 8, 0]), 0, page.index(b"first"))
    overwrite(live, leaf + begin + 4, bytes([len("first") * 2 + 12]))
    carry(other, live)

    assert events(other) == {2: "twicetwice"}
    apart = ask(other, "SELECT origin, content ->> 'id', reason FROM quarantine ORDER BY 2, reason")
    assert [(origin, id, reason.split(" ")[0]) for origin, id, reason in apart] == [
        ("audit", 1, "event"),
        ("audit", 2, "another"),
        ("audit", 4, "event"),
    ]


def test_a_lost_interior_page_takes_no_entry(live: Path, other: Path, tmp_path: Path) -> None:
    """The leaves below a damaged page are read, the newest as well as the oldest; the plan tells of the damage."""
    written = {number: f"event {number}" for number in range(1, 3001)}
    audit(live, written)
    (root,) = ask(live, "SELECT rootpage FROM sqlite_schema WHERE name = 'audit'")[0]
    overwrite(live, (root - 1) * 4096, bytes(4096))
    backup = make_backup(tmp_path / "unpacked")
    told = "audit here is damaged: entries of it that can be read stay (3000)"
    assert [note for note in look_ahead(live, backup).notes if note.startswith("audit")] == [told]
    carry(other, live)

    found = events(other)
    assert {number: found.get(number) for number in written} == written


def test_an_entry_that_undoes_a_lost_one_undoes_none(live: Path, other: Path) -> None:
    """What a damage has taken leaves no reference behind."""
    change_often(live, 1000)
    (leaf,) = pages_with(live, b"gWebTimeout1value 300")
    overwrite(live, leaf, bytes(4096))
    carry(other, live)

    rows = changes(other)
    assert 900 < len(rows) < 1000
    assert len([number for number, _, _, undoes in rows if number > 1 and undoes is None]) == 1


async def test_what_a_restore_adds_goes_before_what_happened_here(
    live: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a full audit the entries of two backups make room, the older first; the appliance's own stay."""
    monkeypatch.setattr(audit_module, "_MOST_ROWS", 6)
    monkeypatch.setattr(audit_module, "_TRIM_EVERY", 1)
    audit(live, {1: "here", 2: "here too"})
    audit(other, {1: "there 1", 2: "there 2"})
    second = tmp_path / "second.db"
    make_database(second, "new")
    audit(second, {1: "elsewhere 1", 2: "elsewhere 2"})
    carry(other, live)
    carry(second, other)
    kept = {1: "here", 2: "here too", 3: "there 1", 4: "there 2", 5: "elsewhere 1", 6: "elsewhere 2"}
    assert events(second) == kept

    clock = Clock()
    async with open_store(second) as store:
        notes = Audit(store, clock, open_log(Hub(clock, 100, 1 << 20), "error"), RecordRate())
        for number in range(3):
            await notes.note(f"new {number}", Origin("ada", "telnet", "::1"))
        await notes.close()
    assert events(second) == {1: "here", 2: "here too", 6: "elsewhere 2", 7: "new 0", 8: "new 1", 9: "new 2"}


def test_numbers_known_in_memory_are_not_given_again(live: Path, other: Path, tmp_path: Path) -> None:
    """Entries that are gone although the table reads whole keep their numbers, in a restore and in a repair."""
    audit(live, {1: "one"})
    audit(other, {2: "two"})
    given = {"audit": 9, "variable_change": 9}
    again = tmp_path / "again.db"
    again.write_bytes(other.read_bytes())
    carry(other, live, given)
    assert events(other) == {1: "one", 10: "two"}
    change(live, 1, "15")
    with closing(sqlite3.connect(live)) as connection:
        assert highest_given(connection, given, lost=()) == given
