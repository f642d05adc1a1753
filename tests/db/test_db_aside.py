"""Files set aside: linked or copied whole, taken back, and found again after a crash."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from callisto_telnetd.db.salvage.aside import remove_unfinished, set_aside
from callisto_telnetd.errors import DiskFullError, StoreError


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A database with its journal."""
    file = tmp_path / "callisto.db"
    file.write_bytes(b"pages")
    file.with_name("callisto.db-journal").write_bytes(b"journal")
    return file


def test_the_files_are_there_under_a_second_name(live: Path) -> None:
    """Database and journal are linked into a folder of the moment; a second one of that second gets another name."""
    damaged = live.parent / "damaged"
    one, other = set_aside(live, damaged, "20261123-101500"), set_aside(live, damaged, "20261123-101500")

    assert one.database.read_bytes() == b"pages"
    assert one.journal is not None
    assert one.journal.read_bytes() == b"journal"
    assert one.database.samefile(live)
    assert [each.folder.name for each in (one, other)] == ["20261123-101500", "20261123-101500-2"]


def test_where_no_link_can_be_had_a_copy_is_made(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links costs a copy, for the owner alone."""

    def refuse(_source: object, _target: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    aside = set_aside(live, live.parent / "damaged", "x")

    assert aside.database.read_bytes() == b"pages"
    assert not aside.database.samefile(live)
    assert aside.database.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_nothing_behind(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room nothing is set aside, and the error says so."""

    def refuse(_source: object, _target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(DiskFullError, match="nothing was changed"):
        set_aside(live, live.parent / "damaged", "x")

    assert not list((live.parent / "damaged").iterdir())


def test_what_is_no_file_is_not_set_aside(live: Path) -> None:
    """A pipe in the place of the journal makes nobody wait: it is refused in one line."""
    journal = live.with_name("callisto.db-journal")
    journal.unlink()
    os.mkfifo(journal)
    with pytest.raises(StoreError, match=r"callisto\.db-journal is no file; nothing was changed"):
        set_aside(live, live.parent / "damaged", "x")

    assert not list((live.parent / "damaged").iterdir())


def test_what_is_withdrawn_is_gone(live: Path) -> None:
    """A repair that has changed nothing leaves no second name of the live file."""
    set_aside(live, live.parent / "damaged", "x").withdraw()

    assert live.stat().st_nlink == 1
    assert live.read_bytes() == b"pages"


def test_after_a_crash_only_names_of_the_live_file_go(live: Path) -> None:
    """The next start removes the folder whose file is still the live one, and keeps what an earlier repair left."""
    damaged = live.parent / "damaged"
    kept = set_aside(live, damaged, "earlier")
    live.unlink()
    live.write_bytes(b"new pages")
    set_aside(live, damaged, "unfinished")
    remove_unfinished(live, damaged)

    assert [folder.name for folder in damaged.iterdir()] == ["earlier"]
    assert kept.database.read_bytes() == b"pages"
    assert live.stat().st_nlink == 1
