from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.db.publish import is_complete, making_of, new_of, publish, settle
from callisto_telnetd.db.schema import APPLICATION_ID
from callisto_telnetd.errors import StoreError, UnfinishedError
from tests.db.forms import PAGE_SIZES, Form
from tests.db.plausible import make_schema
from tests.db.sweeps import points, require_strace, run_traced, settled

PUBLISH = """
import sys
from pathlib import Path
from callisto_telnetd.db.publish import making_of, publish
from callisto_telnetd.errors import StoreError
live = Path(sys.argv[1])
try:
    publish(making_of(live), live)
except StoreError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of its own for the database."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def fill(folder: Path) -> Path:
    """Put an old database with a journal, and a new one that is complete, into the folder; return the live path."""
    live = folder / "callisto.db"
    for path in folder.iterdir():
        path.unlink()
    for path, content in ((live, "old"), (making_of(live), "new")):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE which (name)")
            connection.execute("INSERT INTO which VALUES (?)", (content,))
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        path.chmod(0o644)
    live.with_name("callisto.db-journal").write_bytes(b"a journal of the old one")
    return live


def content_of(file: Path) -> str:
    """Return which of the two the file is."""
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as connection:
        return str(connection.execute("SELECT name FROM which").fetchone()[0])


def names_of(folder: Path) -> set[str]:
    """Return the names in the folder."""
    return {path.name for path in folder.iterdir()}


def test_a_new_database_takes_the_place(folder: Path) -> None:
    """The new one is there under the old one's name, for its owner alone; nothing else is left, the journal neither."""
    live = fill(folder)
    publish(making_of(live), live)

    assert content_of(live) == "new"
    assert stat.S_IMODE(live.stat().st_mode) == 0o600
    assert names_of(folder) == {"callisto.db"}


def test_the_order_of_the_calls_is_one_that_lasts(folder: Path) -> None:
    """File synced, renamed, folder synced, journal removed, folder synced, renamed, folder synced: in that order."""
    require_strace()
    live = fill(folder)
    code, calls = run_traced(folder, PUBLISH, [str(live)])
    assert code == 0
    opened: dict[str, str] = {}
    order = []
    for call in calls:
        if match := re.search(r'openat\(\S+, "[^"]*?([^/"]*)", .* = (\d+)$', call):
            opened[match[2]] = match[1]
        elif match := re.search(r"fsync\((\d+)\) ", call):
            order.append(f"sync {opened[match[1]]}")
        elif match := re.search(r'(rename|unlink)\("[^"]*/([^/"]*)"', call):
            order.append(f"{match[1]} {match[2]}")

    assert [each for each in order if not each.startswith("unlink") or each.endswith("-journal")] == [
        "sync callisto.db.making",
        "rename callisto.db.making",
        "sync data",
        "unlink callisto.db-journal",
        "sync data",
        "rename callisto.db.new",
        "sync data",
    ]


@pytest.mark.parametrize(
    "fault", ["signal=SIGKILL", *(pytest.param(each, marks=pytest.mark.long) for each in ("error=ENOSPC", "error=EIO"))]
)
def test_whatever_call_fails_there_is_one_database(folder: Path, fault: str) -> None:
    """Killed, or out of luck, at each system call in turn: the database is the old or the new one, without litter."""
    require_strace()
    code, calls = run_traced(folder, PUBLISH, [str(fill(folder))])
    assert code == 0
    seen = []
    places = [place for place in points(calls) if place.split(":")[0] in {"fsync", "rename", "unlink", "chmod"}]
    assert len(places) == 8
    for place in places:
        live = fill(folder)
        code, _ = run_traced(folder, PUBLISH, [str(live)], place.format(fault))
        assert code != 0 or "unlink" in place
        before = names_of(folder)
        which = content_of(settled(folder))
        seen.append(which)
        assert which == ("new" if not before & {"callisto.db.making"} else "old")
        if which == "old":
            assert live.with_name("callisto.db-journal").exists(), "the journal belongs to the old one"
        else:
            assert stat.S_IMODE(live.stat().st_mode) == 0o600

    assert seen == sorted(seen, reverse=True), "old ones first, then new ones"
    assert set(seen) == {"old", "new"}


def test_a_call_that_fails_early_is_told_and_changes_nothing(folder: Path) -> None:
    """Where the new file cannot be synced, the error says that nothing was changed."""
    live = folder / "callisto.db"

    with pytest.raises(StoreError, match=r"cannot be put in place: No such file or directory; nothing was changed$"):
        publish(making_of(live), live)


def test_a_call_that_fails_late_is_told_as_unfinished(folder: Path) -> None:
    """Past the point of no return the error says so, and settling finishes the work."""
    live = fill(folder)
    journal = live.with_name("callisto.db-journal")
    journal.unlink()
    journal.mkdir()
    with pytest.raises(UnfinishedError):
        publish(making_of(live), live)
    assert content_of(live) == "old"
    assert new_of(live).exists()
    with pytest.raises(StoreError, match="cannot be finished"):
        settle(live)

    journal.rmdir()
    settle(live)
    assert content_of(live) == "new"


def test_unfinished_work_is_removed(folder: Path) -> None:
    """A start finds the remains of work that was killed: they go, and the database stays as it is."""
    live = fill(folder)
    before = live.read_bytes()
    making_of(live).with_name("callisto.db.making-journal").write_bytes(b"x")
    making_of(live).with_name("callisto.db.making.2").write_bytes(b"x")
    settle(live)

    assert names_of(folder) == {"callisto.db", "callisto.db-journal"}
    assert live.read_bytes() == before


def test_settling_a_settled_folder_changes_nothing(folder: Path) -> None:
    """With nothing to finish nothing happens, in an empty folder neither."""
    settle(folder / "callisto.db")

    assert names_of(folder) == set()


def _garbage(new: Path) -> None:
    new.write_bytes(b"garbage" * 1000)


def _nothing(new: Path) -> None:
    new.write_bytes(b"")


def _cut_short(new: Path) -> None:
    new.write_bytes(new.read_bytes()[:-4096])


def _a_stranger(new: Path) -> None:
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA application_id=7")


def _a_link(new: Path) -> None:
    other = new.with_name("elsewhere")
    new.rename(other)
    new.symlink_to(other)


def _a_folder(new: Path) -> None:
    new.unlink()
    new.mkdir()


@pytest.mark.parametrize("spoil", [_garbage, _nothing, _cut_short, _a_stranger, _a_link, _a_folder])
def test_what_is_no_new_database_takes_no_place(folder: Path, spoil: Callable[[Path], None]) -> None:
    """Whatever else has the name of a new database is set apart whole; the good one and its journal stay."""
    live = fill(folder)
    making_of(live).rename(new_of(live))
    spoil(new_of(live))
    before = live.read_bytes()
    refused = settle(live)

    assert refused is not None
    assert refused.name == "callisto.db.refused"
    assert os.path.lexists(refused)
    assert live.read_bytes() == before
    assert live.with_name("callisto.db-journal").exists()
    assert settle(live) is None
    new_of(live).touch()
    again = settle(live)
    assert again is not None
    assert again.name == "callisto.db.refused-2"


def test_a_folder_under_the_name_of_unfinished_work_is_set_apart(folder: Path) -> None:
    """It keeps nobody from the database."""
    live = fill(folder)
    making_of(live).unlink()
    making_of(live).mkdir()
    (making_of(live) / "file").touch()

    assert settle(live) == live.with_name("callisto.db.refused")
    assert settle(live) is None
    assert (live.with_name("callisto.db.refused") / "file").exists()


@pytest.mark.parametrize("page_bytes", PAGE_SIZES)
def test_a_database_of_any_page_size_can_be_complete(tmp_path: Path, page_bytes: int) -> None:
    """The largest size has no room in its two bytes of the header; a page less is not the whole database."""
    file = tmp_path / "callisto.db.new"
    make_schema(file, Form(page_bytes)).close()
    assert is_complete(file)
    os.truncate(file, file.stat().st_size - page_bytes)
    assert not is_complete(file)
