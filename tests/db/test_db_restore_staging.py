"""The new state of a restore: what is taken of a backup, what is refused, and what stays of the present state."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.db.inspection import inspect
from callisto_telnetd.db.own_form import other_form
from callisto_telnetd.db.restore.outlook import Outlook
from callisto_telnetd.db.restore.plan import look_ahead
from callisto_telnetd.db.restore.recordings import remove_unnamed
from callisto_telnetd.db.restore.settings_file import changed_settings
from callisto_telnetd.db.restore.staging import carry_over, stage
from callisto_telnetd.db.restore.switch import SETTINGS_FILE, making_of, switch, undo_of
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.db.schema import LAST_CHANGE_STATE
from callisto_telnetd.errors import (
    CallistoError,
    DamagedDatabaseError,
    DiskFullError,
    ForeignDatabaseError,
    NewerSchemaError,
    RestoreError,
)
from callisto_telnetd.settings import SETTINGS_FILE as SETTINGS_OWN_NAME
from tests.db.restoring import (
    AT,
    CHANGE,
    HASH,
    NEWEST,
    RECORDINGS,
    litter,
    make_backup,
    make_folder,
    state_of,
    users_of,
)

Change = Callable[[Unpacked], Unpacked]


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The database of a data folder in the old state."""
    return make_folder(tmp_path / "data")


@pytest.fixture
def backup(tmp_path: Path) -> Unpacked:
    """A backup of the new state."""
    return make_backup(tmp_path / "unpacked")


def make(live: Path, backup: Unpacked) -> None:
    """Make the new state of a backup."""
    stage(live, backup, lambda *_told: None, at=AT)


def ask(file: Path, sql: str) -> list[Any]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


def saying(*statements: str, **changes: Any) -> Change:
    """Return what changes the backup's database, or what is said of it."""

    def change(backup: Unpacked) -> Unpacked:
        for statement in statements:
            ask(backup.database, statement)
        return replace(backup, **changes)

    return change


def cut_short(backup: Unpacked) -> Unpacked:
    """Cut the database short."""
    backup.database.write_bytes(backup.database.read_bytes()[:-4096])
    return backup


def emptied(backup: Unpacked) -> Unpacked:
    """Empty the database."""
    backup.database.write_bytes(b"")
    return backup


def overwritten(backup: Unpacked) -> Unpacked:
    """Spoil a page of the database."""
    data = bytearray(backup.database.read_bytes())
    data[4096 * 3 : 4096 * 4] = bytes(4096)
    backup.database.write_bytes(data)
    return backup


def with_wal(backup: Unpacked) -> Unpacked:
    """Leave a journal of another program beside the database."""
    backup.database.with_name(backup.database.name + "-wal").write_bytes(b"x")
    return backup


def linked(backup: Unpacked) -> Unpacked:
    """Have a link in the place of the database."""
    link = backup.database.with_name("linked.db")
    link.symlink_to(backup.database)
    return replace(backup, database=link)


def with_recording(name: str, content: bytes | None) -> Change:
    """Return what adds a recording; a link without content."""

    def change(backup: Unpacked) -> Unpacked:
        assert backup.recordings is not None
        path = backup.recordings / name
        if content is None:
            path.symlink_to("/etc/passwd")
        else:
            path.write_bytes(content)
        return backup

    return change


def with_long_settings(backup: Unpacked) -> Unpacked:
    """Make the settings file longer than any."""
    assert backup.settings is not None
    backup.settings.write_bytes(b"#" * ((1 << 20) + 1))
    return backup


def too_large(backup: Unpacked) -> Unpacked:
    """Make a recording larger than the disk; a hole takes no room here."""
    assert backup.recordings is not None
    with (backup.recordings / ("0" * 64)).open("wb") as stream:
        stream.truncate(1 << 42)
    return backup


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (overwritten, DamagedDatabaseError, "the database in backup 'backup.zip' is not sound: "),
        (cut_short, DamagedDatabaseError, "the database in backup 'backup.zip' is not sound: "),
        (emptied, DamagedDatabaseError, "is damaged: it is empty or cut short"),
        (with_wal, DamagedDatabaseError, "a journal lies beside it"),
        (linked, RestoreError, "is no file"),
        (
            saying("PRAGMA user_version=7", schema=7, version="9.9.0"),
            NewerSchemaError,
            f"was made by callisto-telnetd 9.9.0 and has schema 7, this version knows {NEWEST}: use a newer callisto",
        ),
        (saying("PRAGMA application_id=1"), ForeignDatabaseError, "is another program's"),
        (
            saying("CREATE TRIGGER evil AFTER INSERT ON audit BEGIN DELETE FROM account; END"),
            DamagedDatabaseError,
            "its schema is not Callisto's",
        ),
        (saying("INSERT INTO mailbox (number) VALUES (7)"), DamagedDatabaseError, "names a missing row of user"),
        (saying(schema=1), DamagedDatabaseError, f"has schema {NEWEST}, its manifest says 1"),
        (with_recording("0" * 64, b"x"), DamagedDatabaseError, "its content is not its name"),
        (with_recording("1" * 64, None), RestoreError, "is no recording"),
        (with_recording("passwd", b"x"), RestoreError, "'passwd' in the backup is no recording"),
        (with_long_settings, RestoreError, "callisto.toml in the backup is no file of at most 1 MiB"),
        (too_large, DiskFullError, "no room for a restore: "),
    ],
)
def test_what_cannot_be_restored_is_refused(
    live: Path, backup: Unpacked, change: Change, kind: type[CallistoError], text: str
) -> None:
    """One line says what is wrong with a backup; the present state is as it was, and nothing is left of the work."""
    with pytest.raises(kind) as raised:
        make(live, change(backup))
    remove_unnamed(live)

    assert text in str(raised.value)
    assert str(raised.value).endswith("; nothing was changed")
    assert "\n" not in str(raised.value)
    assert state_of(live.parent) == "old"
    assert litter(live.parent) == set()


def test_no_room_is_said_with_numbers(live: Path, backup: Unpacked) -> None:
    """What is free and what is needed stand in the line and in the outlook."""
    with pytest.raises(DiskFullError, match=r": \d[\d.]* [KMGT]iB free, 4\.0 TiB needed; nothing was changed$"):
        make(live, too_large(backup))

    outlook = look_ahead(live, backup)
    assert outlook.needed_bytes > 1 << 42 > outlook.free_bytes


@pytest.mark.parametrize("schema", range(1, NEWEST))
def test_an_older_schema_is_brought_up_to_date(live: Path, tmp_path: Path, schema: int) -> None:
    """A database of every older schema has this version's afterwards, and its rows."""
    backup = make_backup(tmp_path / "older", schema=schema)
    make(live, backup)

    made = making_of(live) / "callisto.db"
    assert ask(made, "PRAGMA user_version") == [(NEWEST,)]
    found = inspect(made, lambda _name, _text: None, lambda *_told: None, closed=True)
    assert not any(found.values())
    assert users_of(made) == ["new"]


def test_a_backup_of_another_form_gets_callistos_own(live: Path, backup: Unpacked) -> None:
    """What is called verified can be restored, also where another program has given the database other pages."""
    with closing(sqlite3.connect(backup.database, isolation_level=None)) as connection:
        connection.executescript("PRAGMA page_size=8192; PRAGMA auto_vacuum=2; VACUUM")
    assert other_form(backup.database) == "pages of 8192 bytes, auto-vacuum"
    make(live, backup)

    assert other_form(making_of(live) / "callisto.db") == ""
    assert users_of(making_of(live) / "callisto.db") == ["new"]


def test_what_stays_is_put_into_the_new_database(live: Path, backup: Unpacked) -> None:
    """The appliance's own memory stays, the backup's clock and diary do not come, and accounts are those given."""
    ask(backup.database, "INSERT INTO state VALUES ('clock', 'of the backup'), ('last_check', 'of the backup')")
    make(live, backup)
    carry_over(
        live,
        [("ada", HASH, "2026-11-23T10:15:00+01:00", None, None, None)],
        {"last_check": "of memory"},
        change=CHANGE,
        given={},
    )

    made = making_of(live) / "callisto.db"
    state = dict(ask(made, "SELECT key, value FROM state"))
    assert state == {"schedule": "old", "only.old": "x", "only.new": "x", "last_check": "of memory"}
    assert ask(made, "SELECT name FROM account") == [("ada",)]


def test_secrets_that_a_backup_must_not_have_are_dropped(live: Path, backup: Unpacked) -> None:
    """A backup that says it has no secrets brings none: no account, no PIN, no password for another machine."""
    ask(backup.database, f"UPDATE mailbox SET pin_hash = '{HASH}'")
    ask(backup.database, "INSERT INTO state VALUES ('secret/target', 'x')")
    make(live, replace(backup, secrets=False))

    made = making_of(live) / "callisto.db"
    assert ask(made, "SELECT name FROM account") == []
    assert ask(made, "SELECT pin_hash FROM mailbox") == [("",)]
    assert ask(made, "SELECT key FROM state WHERE key LIKE 'secret%'") == []


def test_a_database_that_cannot_be_read_keeps_nothing_back(live: Path, backup: Unpacked) -> None:
    """Where the present database is lost, the backup's takes its place without what that remembered."""
    live.write_bytes(b"no database")
    make(live, backup)
    carry_over(live, None, {}, change=CHANGE, given={})

    state = dict(ask(making_of(live) / "callisto.db", "SELECT key, value FROM state"))
    assert state == {"only.new": "x", LAST_CHANGE_STATE: "100000"}  # numbers of changes that nobody knows any more


def test_a_damaged_recording_is_replaced(live: Path, backup: Unpacked) -> None:
    """A recording that is there, of the right size and with another content, is written anew; others are left."""
    name, content = next(iter(RECORDINGS.items()))
    present = live.with_name("media") / name
    present.write_bytes(bytes(len(content)))
    make(live, backup)

    assert present.read_bytes() == content
    assert litter(live.parent) == {"restore.making", "restore.recordings"}


def test_settings_that_are_a_link_stay(live: Path, backup: Unpacked, tmp_path: Path) -> None:
    """Where callisto.toml is a link to some other place, neither it nor that place is touched, and the plan says so."""
    settings, other = live.with_name("callisto.toml"), tmp_path / "elsewhere.toml"
    settings.rename(other)
    settings.symlink_to(other)
    assert "callisto.toml is a link to some other place, and stays as it is" in look_ahead(live, backup).notes
    make(live, backup)
    switch(live, b"{}")

    assert settings.is_symlink()
    assert "old" in other.read_text()
    assert not (undo_of(live) / "callisto.toml").exists()


def test_an_outlook_goes_through_json(live: Path, backup: Unpacked) -> None:
    """What the worker tells of a plan is read back as it was, and so is its order."""
    outlook = look_ahead(live, backup)

    assert Outlook.from_data(outlook.as_data()) == outlook
    assert Unpacked.from_data(backup.as_data()) == backup
    assert {each.table: (each.now, each.then) for each in outlook.tables}["user"] == (1, 1)
    assert outlook.recordings == len(RECORDINGS)


def test_settings_differ_by_their_keys(tmp_path: Path) -> None:
    """Keys that came, went or changed are named, their values are not: they may be secrets."""
    now, then = tmp_path / "now.toml", tmp_path / "then.toml"
    now.write_text("[a]\nb = 1\nc = 2\n[services.x.environment]\nPASSWORD = 'one'\n")
    then.write_text("[a]\nb = 1\nd = 3\n[services.x.environment]\nPASSWORD = 'two'\n")

    assert changed_settings(now, then) == ("a.c", "a.d", "services.x.environment.PASSWORD")
    assert changed_settings(tmp_path / "none", then) == ("a.b", "a.d", "services.x.environment.PASSWORD")
    assert changed_settings(now, None) == ("a.b", "a.c", "services.x.environment.PASSWORD")
    then.write_bytes(b"\xff")
    assert changed_settings(now, then) == ("a.b", "a.c", "services.x.environment.PASSWORD")


def test_the_settings_have_one_name() -> None:
    """The switch names the file that the settings are read from."""
    assert SETTINGS_FILE == SETTINGS_OWN_NAME
