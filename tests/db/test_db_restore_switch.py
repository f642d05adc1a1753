"""The switch of a restore as the next start finds it: what is finished, what is removed, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from callisto_telnetd.db.restore import switch as switching
from callisto_telnetd.db.restore.staging import carry_over, stage
from callisto_telnetd.db.restore.switch import (
    Settled,
    begin,
    leave_without_settings,
    making_of,
    new_of,
    settle_restore,
    switch,
    switch_back,
    undo_of,
)
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.db.store import open_store
from callisto_telnetd.errors import StoreError, UnfinishedError
from tests.db.restoring import AT, CHANGE, litter, make_backup, make_folder, state_of, users_of
from tests.db.sweeps import points, require_strace

ROOT = Path(__file__).resolve().parents[2]
LISTED = "restore.recordings"
"""What is told of in test_db_restore_recordings.py."""
SETTLE = """
import sys
from pathlib import Path
from callisto_telnetd.db.restore.switch import settle_restore
from callisto_telnetd.errors import StoreError
try:
    settle_restore(Path(sys.argv[1]))
except StoreError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
CALLS = "fsync,rename,unlink,unlinkat,rmdir"


def left_over(folder: Path) -> set[str]:
    """Return the names in a data folder that no settled appliance has."""
    return litter(folder) - {LISTED}


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """A backup of the new state."""
    return make_backup(tmp_path_factory.mktemp("backup") / "unpacked")


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The database of a data folder in the old state."""
    return make_folder(tmp_path / "data")


def made(live: Path, backup: Unpacked) -> Path:
    """Make the new state beside the old one."""
    stage(live, backup, lambda *_told: None, at=AT)
    carry_over(live, None, {}, change=CHANGE, given={})
    return live


def cut(live: Path, backup: Unpacked, *, restored_before: bool = True) -> Path:
    """Leave a folder as a restore does that is killed right after the point of no return."""
    if restored_before:
        (undo_of(live)).mkdir()
        (undo_of(live) / "callisto.db").write_bytes(b"of an earlier restore")
    made(live, backup)
    switching._set_aside(live, b"{}")
    making_of(live).rename(new_of(live))
    return live


def test_a_switch_keeps_what_gave_way(live: Path, backup: Unpacked) -> None:
    """The old database is kept as the very file it was, the old settings as a copy."""
    inode = live.stat().st_ino
    switch(made(live, backup), b"{}")

    assert state_of(live.parent) == "new"
    assert (undo_of(live) / "callisto.db").stat().st_ino == inode
    assert (undo_of(live) / "callisto.toml").stat().st_nlink == 1
    assert settle_restore(live) == Settled()
    assert (undo_of(live) / "callisto.db").exists()


def test_a_hot_journal_gives_way_with_its_database(live: Path, backup: Unpacked) -> None:
    """A journal that SQLite would roll back lies beside no other database, and comes back with its own."""
    journal = live.with_name("callisto.db-journal")
    journal.write_bytes(b"\xd9\xd5\x05\xf9 hot")
    switch(made(live, backup), b"{}")
    assert not journal.exists()

    switch_back(live)
    assert journal.read_bytes().endswith(b" hot")
    assert not undo_of(live).exists()
    assert left_over(live.parent) == set()


def test_a_copy_is_kept_where_there_are_no_links(live: Path, backup: Unpacked, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without hard links the old database is copied, and comes back all the same."""

    def refuse(_file: Path, _kept: Path) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    switch(made(live, backup), b"{}")
    assert users_of(undo_of(live) / "callisto.db") == ["old"]

    switch_back(live)
    assert state_of(live.parent) == "old"
    assert left_over(live.parent) == set()


def test_there_is_nothing_to_go_back_to(live: Path) -> None:
    """Without a restore there is no way back, and nothing has changed."""
    with pytest.raises(StoreError, match="there is no state to go back to; nothing was changed"):
        switch_back(live)
    assert state_of(live.parent) == "old"


async def test_whoever_opens_the_database_finishes_the_restore(live: Path, backup: Unpacked) -> None:
    """A restore that was cut off after the point of no return is finished before SQLite sees the file."""
    cut(live, backup)
    async with open_store(live) as store:
        assert await store.fetch("SELECT name FROM user") == [("new",)]
    assert state_of(live.parent) == "new"
    assert users_of(undo_of(live) / "callisto.db") == ["old"]
    assert left_over(live.parent) == set()


async def test_whoever_opens_the_database_removes_what_was_not_finished(live: Path, backup: Unpacked) -> None:
    """A restore that was cut off before that leaves the old state, the undo of an earlier one with it."""
    cut(live, backup)
    new_of(live).rename(making_of(live))
    async with open_store(live) as store:
        assert await store.fetch("SELECT name FROM user") == [("old",)]
    assert (undo_of(live) / "callisto.db").read_bytes() == b"of an earlier restore"
    assert left_over(live.parent) == set()


def _link(new: Path) -> None:
    new.symlink_to(new.parent.parent)


def _file(new: Path) -> None:
    new.write_bytes(b"x")


def _strange_name(new: Path) -> None:
    new.mkdir(mode=0o700)
    (new / "accounts.json").write_bytes(b"{}")


def _linked_database(new: Path) -> None:
    new.mkdir(mode=0o700)
    (new / "callisto.db").symlink_to(new.parent / "callisto.toml")


def _foreign_database(new: Path) -> None:
    new.mkdir(mode=0o700)
    (new / "callisto.db").write_bytes(b"SQLite format 3\0" + bytes(5000))


def _cut_database(new: Path) -> None:
    new.mkdir(mode=0o700)
    (new / "callisto.db").write_bytes((new.parent / "callisto.db").read_bytes()[:-1])


def _folder_inside(new: Path) -> None:
    (new / "callisto.toml").mkdir(parents=True)


def _writable_by_all(new: Path) -> None:
    new.mkdir()
    new.chmod(0o777)


def _other_owner(new: Path) -> None:
    new.mkdir(mode=0o700)
    if os.geteuid():
        pytest.skip("only root gives files away")
    os.chown(new, 65534, 65534)


@pytest.mark.parametrize(
    "leave",
    [
        _link,
        _file,
        _strange_name,
        _linked_database,
        _foreign_database,
        _cut_database,
        _folder_inside,
        _writable_by_all,
        _other_owner,
    ],
)
def test_what_is_no_new_state_is_set_apart(live: Path, leave: Callable[[Path], None]) -> None:
    """Under the name of a new state, whatever no restore leaves gets another name; nothing of it is used or lost."""
    leave(new_of(live))
    before = live.read_bytes()

    settled = settle_restore(live)

    assert settled == Settled(refused=live.with_name("restore.refused"))
    assert os.path.lexists(live.with_name("restore.refused"))
    assert live.read_bytes() == before
    assert state_of(live.parent) == "old"
    leave(new_of(live))
    assert settle_restore(live).refused == live.with_name("restore.refused-2")


def test_links_in_the_place_of_unfinished_work_are_not_followed(live: Path, tmp_path: Path) -> None:
    """Under the names of unfinished work a link is removed, and what it leads to stays."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    making_of(live).symlink_to(precious)
    undo_of(live).with_name("undo.making").symlink_to(precious)
    settle_restore(live)

    assert (precious / "file").exists()
    assert left_over(live.parent) == set()


def test_what_cannot_be_put_in_place_counts_all_the_same(live: Path, backup: Unpacked) -> None:
    """Where a step after the point of no return fails, the error says that the new state counts; the next try works."""
    made(live, backup)
    live.with_name("callisto.db-wal").mkdir()  # cannot be unlinked
    with pytest.raises(UnfinishedError, match=r"restore\.new' is not in its place yet: "):
        switch(live, b"{}")
    with pytest.raises(StoreError, match=r"an interrupted restore of .* cannot be finished"):
        settle_restore(live)

    live.with_name("callisto.db-wal").rmdir()
    assert settle_restore(live) == Settled(finished=True)
    assert state_of(live.parent) == "new"


def test_settings_can_be_taken_away(live: Path, backup: Unpacked) -> None:
    """A new state without settings takes the file away, and going back brings it back."""
    made(live, backup)
    (making_of(live) / "callisto.toml").unlink()
    leave_without_settings(making_of(live))
    switch(live, b"{}")
    assert not live.with_name("callisto.toml").exists()

    switch_back(live)
    assert state_of(live.parent) == "old"


def test_a_new_state_is_begun_empty(live: Path) -> None:
    """What an earlier try has left is not taken over."""
    making_of(live).mkdir()
    (making_of(live) / "callisto.toml").touch()

    assert list(begin(live).iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("how", ["signal=SIGKILL", "error=EIO"])
def test_a_start_is_stopped_at_every_call(tmp_path: Path, backup: Unpacked, how: str) -> None:
    """The next start's own work, stopped at any of its calls, is finished by the start after it."""
    require_strace()
    log = tmp_path / "strace.log"

    def run(live: Path, *inject: str) -> list[str]:
        words = ["strace", "-f", "-q", "-o", str(log), "-e", f"trace={CALLS}", *inject]
        subprocess.run([*words, sys.executable, "-B", "-c", SETTLE, str(live)], cwd=ROOT, check=False, timeout=60)
        return [line for line in log.read_text(errors="replace").splitlines() if "(" in line]

    calls = run(cut(make_folder(tmp_path / "whole"), backup))
    assert len(points(calls)) > 8
    for place, point in enumerate(points(calls)):
        live = cut(make_folder(tmp_path / str(place)), backup)
        run(live, "-e", f"inject={point.format(how)}")
        settle_restore(live)
        assert state_of(live.parent) == "new", point
        assert users_of(undo_of(live) / "callisto.db") == ["old"], point
        assert left_over(live.parent) == set(), point


def test_orders_are_json(backup: Unpacked) -> None:
    """What the worker is told goes as JSON."""
    assert Unpacked.from_data(json.loads(json.dumps(backup.as_data()))) == backup
