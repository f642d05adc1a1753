"""Recordings that restores bring and leave behind: those that no state names go, and no other."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.db.media import Media
from callisto_telnetd.db.restore import switch as switching
from callisto_telnetd.db.restore.recordings import list_of, remove_unnamed
from callisto_telnetd.db.restore.staging import carry_over, stage
from callisto_telnetd.db.restore.switch import SETTINGS_FILE, settle_restore, switch, switch_back, undo_of
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.errors import StoreError, UnfinishedError
from tests.db.restoring import (
    AT,
    CHANGE,
    LATER,
    RECORDINGS,
    litter,
    make_backup,
    make_folder,
    make_later_backup,
    state_of,
)

OTHER = "0" * 64


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The database of a data folder in the old state, with a recording that no row names and no restore has brought."""
    live = make_folder(tmp_path / "data")
    live.with_name("media").joinpath(OTHER).touch()
    return live


@pytest.fixture
def backup(tmp_path: Path) -> Unpacked:
    """A backup of the new state."""
    return make_backup(tmp_path / "unpacked")


def restore(live: Path, backup: Unpacked) -> None:
    """Restore a backup to its end."""
    stage(live, backup, lambda *_told: None, at=AT)
    carry_over(live, None, {}, change=CHANGE, given={})
    switch(live, b"{}")
    remove_unnamed(live)


def recordings(live: Path) -> set[str]:
    """Return the names of the recordings, without the one that is nobody's."""
    names = {path.name for path in live.with_name("media").iterdir()}
    assert OTHER in names
    return names - {OTHER}


def spoil(file: Path) -> None:
    """Make a database unreadable."""
    file.write_bytes(bytes(4096) + file.read_bytes()[4096:])


def same(left: Iterable[str], right: Iterable[str]) -> bool:
    """Whether two collections of names are the same set."""
    return set(left) == set(right)


def test_a_restore_that_fails_after_its_recordings_leaves_none(live: Path, backup: Unpacked) -> None:
    """Recordings that came before the failure go; one that was there before and is nobody's stays."""
    assert backup.settings is not None
    backup.settings.write_bytes(b"#" * ((1 << 20) + 1))  # which is found out after the recordings
    with pytest.raises(StoreError, match=SETTINGS_FILE):
        stage(live, backup, lambda *_told: None, at=AT)
    assert same(recordings(live), RECORDINGS)
    assert list_of(live).stat().st_mode & 0o777 == 0o600

    remove_unnamed(live)

    assert recordings(live) == set()
    assert litter(live.parent) == {OTHER}
    assert state_of(live.parent) == "old"


def test_recordings_stay_as_long_as_a_state_names_them(live: Path, backup: Unpacked, tmp_path: Path) -> None:
    """Those of the undo's state stay for it, and go with it when a later restore takes its place."""
    restore(live, backup)
    assert same(recordings(live), RECORDINGS)
    restore(live, make_later_backup(tmp_path / "later"))
    assert same(recordings(live), {**RECORDINGS, **LATER})
    restore(live, make_later_backup(tmp_path / "again"))

    assert same(recordings(live), LATER)
    assert not list_of(live).exists()


def test_recordings_of_a_copy_of_the_database_stay(live: Path, backup: Unpacked, tmp_path: Path) -> None:
    """What a repair may go back to keeps its recordings, until it is gone; a file that is no good copy keeps none."""
    restore(live, backup)
    copy = live.parent / "backup" / "database-20261123-101500.db"
    copy.write_bytes(live.read_bytes())
    copy.with_name("database-20261123-101501.db").write_bytes(b"no database")
    restore(live, make_later_backup(tmp_path / "later"))
    restore(live, make_later_backup(tmp_path / "again"))
    assert same(recordings(live), {**RECORDINGS, **LATER})
    assert list_of(live).exists()
    copy.unlink()
    remove_unnamed(live)

    assert same(recordings(live), LATER)
    assert not list_of(live).exists()


def test_a_recording_that_no_row_of_the_backup_names_goes(live: Path, backup: Unpacked) -> None:
    """What somebody has put into an archive besides does not stay."""
    assert backup.recordings is not None
    for name, content in LATER.items():
        (backup.recordings / name).write_bytes(content)
    restore(live, backup)

    assert same(recordings(live), RECORDINGS)


def test_a_recording_of_a_row_that_was_set_apart_stays(live: Path, backup: Unpacked) -> None:
    """Rows that a repair has set apart name recordings as well: somebody may put them back by hand."""
    name = min(LATER)
    with closing(sqlite3.connect(backup.database)) as connection, connection:
        content = json.dumps({"id": 1, "recording": name})
        connection.execute(
            "INSERT INTO quarantine VALUES (1, '2026-11-23T10:15:00+01:00', 'message', 'x', ?)", (content,)
        )
    assert backup.recordings is not None
    (backup.recordings / name).write_bytes(LATER[name])
    restore(live, backup)

    assert same(recordings(live), {*RECORDINGS, name})


@pytest.mark.parametrize("which", ["live", "undo"])
def test_where_a_state_cannot_be_read_all_stay(live: Path, backup: Unpacked, tmp_path: Path, which: str) -> None:
    """Nobody knows what a damaged state names: recordings and their list stay, which is said."""
    restore(live, backup)
    stage(live, make_later_backup(tmp_path / "later"), lambda *_told: None, at=AT)
    spoil(live if which == "live" else undo_of(live) / live.name)

    with pytest.raises(StoreError, match=r"recordings of a restore .* are still there: "):
        remove_unnamed(live)
    assert same(recordings(live), {**RECORDINGS, **LATER})
    assert list_of(live).exists()


@pytest.mark.parametrize("back", [False, True])
def test_recordings_stay_while_a_new_state_waits(
    live: Path, backup: Unpacked, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    """A switch that could not be finished has two states, and which one it is to be is not seen in the database."""
    stage(live, backup, lambda *_told: None, at=AT)
    carry_over(live, None, {}, change=CHANGE, given={})
    if back:
        switch(live, b"{}")

    def refuse(_live: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(switching, "_roll_forward", refuse)
        with pytest.raises(UnfinishedError):
            switch_back(live) if back else switch(live, b"{}")
    with pytest.raises(StoreError, match="a restore is not finished"):
        remove_unnamed(live)
    settle_restore(live)
    remove_unnamed(live)

    assert state_of(live.parent) == ("old" if back else "new")
    assert same(recordings(live), () if back else RECORDINGS)


def test_recordings_stay_while_somebody_adds_some(live: Path, backup: Unpacked) -> None:
    """Whoever fills the folder is about to add rows that may name them."""
    restore(live, backup)
    list_of(live).write_text(f"{OTHER}\n")
    with (
        Media(live.with_name("media")).filling("demonstration data"),
        pytest.raises(StoreError, match="is being made already"),
    ):
        remove_unnamed(live)

    assert live.with_name("media").joinpath(OTHER).exists()


def test_a_list_that_was_cut_off_names_whole_names_alone(live: Path) -> None:
    """Lines that are no name of a recording are no name of any other file."""
    list_of(live).write_text(f"../callisto.toml\n{OTHER[:63]}\n{OTHER}x\n{OTHER}")
    remove_unnamed(live)

    assert state_of(live.parent) == "old"
    assert recordings(live) == set()
    assert not list_of(live).exists()
