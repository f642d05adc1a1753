from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from callisto_telnetd.db import snapshot
from callisto_telnetd.db.snapshot import Known, inspect, make_snapshot, newest_good
from callisto_telnetd.db.store import Store, open_store
from callisto_telnetd.errors import DamagedDatabaseError, DiskFullError, StoreError

NOW = datetime(2026, 11, 23, 3, 30, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where copies are kept."""
    place = tmp_path / "backup"
    place.mkdir()
    return place


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A database with three rows, open."""
    async with open_store(tmp_path / "callisto.db") as store:
        for number in (1000, 1001, 1002):
            await store.apply([("INSERT INTO user (number, name) VALUES (?, ?)", (number, "Anna"))])
        yield store


def names(folder: Path) -> list[str]:
    """Return the names of a folder's files."""
    return sorted(path.name for path in folder.iterdir())


def spoil(path: Path) -> None:
    """Damage the pages behind the first."""
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(size - 4096))


async def test_a_copy_holds_what_the_database_holds(store: Store, folder: Path) -> None:
    """A copy beside the open database is whole, the owner's alone, and found again with its age and rows."""
    made = make_snapshot(store.file, folder, NOW)

    assert names(folder) == ["database-20261123-033000.db"]
    assert made.path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(made.path)) as copy:
        assert copy.execute("SELECT number FROM user").fetchall() == [(1000,), (1001,), (1002,)]
    found = newest_good(folder, NOW + DAY)
    assert found is not None
    assert (found.path, found.at, found.age_s) == (made.path, NOW, 86400)
    assert (found.size_bytes, found.schema, found.rows) == (store.file.stat().st_size, 2, 3)


async def test_the_newest_two_are_kept(store: Store, folder: Path) -> None:
    """Older copies go, and nothing else: files of other names stay, whatever they are."""
    others = [
        "callisto-backup.zip",
        "database-20200101-000000.db.txt",
        "database-x.db",
        "mydatabase-20200101-000000.db",
    ]
    for name in others:
        (folder / name).write_text("mine")
    for day in range(4):
        make_snapshot(store.file, folder, NOW + day * DAY)

    assert names(folder) == sorted([*others, "database-20261125-033000.db", "database-20261126-033000.db"])


async def test_a_damaged_copy_makes_no_good_one_go(store: Store, folder: Path) -> None:
    """A damaged copy does not count as one of the two, and is never the newest good one."""
    good = make_snapshot(store.file, folder, NOW)
    spoil(make_snapshot(store.file, folder, NOW + DAY).path)

    newest = newest_good(folder, NOW + 2 * DAY)
    assert newest is not None
    assert newest.path == good.path
    last = make_snapshot(store.file, folder, NOW + 2 * DAY)
    assert names(folder) == [good.path.name, last.path.name]


async def test_the_copy_just_made_stays_whatever_the_clock_says(store: Store, folder: Path) -> None:
    """After the clock was set back, the new copy is kept and is the newest; those from the future come last."""
    for day in range(2):
        make_snapshot(store.file, folder, NOW + day * DAY)
    back = NOW - 300 * DAY
    made = make_snapshot(store.file, folder, back)

    newest = newest_good(folder, back)
    assert newest is not None
    assert newest.path == made.path
    assert names(folder) == [made.path.name, "database-20261124-033000.db"]
    assert make_snapshot(store.file, folder, back).path.name == "database-20260127-033001.db"


def _hostile_link(folder: Path, live: Path) -> None:
    (folder / "database-20261201-000000.db").symlink_to(live)


def _hostile_folder(folder: Path, live: Path) -> None:
    (folder / "database-20261201-000000.db").mkdir()


def _hostile_fifo(folder: Path, live: Path) -> None:
    os.mkfifo(folder / "database-20261201-000000.db")


def _hostile_text(folder: Path, live: Path) -> None:
    (folder / "database-20261201-000000.db").write_text("SQLite format 3")


def _hostile_empty(folder: Path, live: Path) -> None:
    (folder / "database-20261201-000000.db").touch()


def _hostile_date(folder: Path, live: Path) -> None:
    (folder / "database-20269999-999999.db").write_bytes(live.read_bytes())


def _hostile_journal(folder: Path, live: Path) -> None:
    (folder / "database-20261201-000000.db").write_bytes(live.read_bytes())
    (folder / "database-20261201-000000.db-journal").write_bytes(b"x")


def _hostile_sql(statement: str) -> Callable[[Path, Path], None]:
    def make(folder: Path, live: Path) -> None:
        path = folder / "database-20261201-000000.db"
        path.write_bytes(live.read_bytes())
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=OFF")
            connection.execute(statement)

    return make


def _hostile_letter(folder: Path, live: Path) -> None:
    right, wrong = b"INDEX variable_change_name ON variable_change", b"INDEX variable_change_name ON variable_\xffhange"
    content = live.read_bytes()
    assert right in content
    (folder / "database-20261201-000000.db").write_bytes(content.replace(right, wrong))


@pytest.mark.parametrize(
    "make",
    [
        _hostile_link,
        _hostile_folder,
        _hostile_fifo,
        _hostile_text,
        _hostile_empty,
        _hostile_date,
        _hostile_journal,
        _hostile_sql("PRAGMA application_id=7"),
        _hostile_sql("PRAGMA user_version=99"),
        _hostile_sql("PRAGMA user_version=1"),
        _hostile_sql("PRAGMA user_version=-1"),
        _hostile_sql("CREATE TRIGGER evil AFTER INSERT ON user BEGIN DELETE FROM account; END"),
        _hostile_sql("CREATE VIEW evil AS SELECT load_extension('/tmp/evil.so')"),
        _hostile_sql("CREATE INDEX evil ON user (abs(number))"),
        _hostile_sql("DROP TABLE quarantine"),
        _hostile_letter,
    ],
)
async def test_a_hostile_file_is_no_copy(
    store: Store, folder: Path, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    """What somebody else put there under our name is passed over, and the good copy behind it found."""
    good = make_snapshot(store.file, folder, NOW)
    make(folder, good.path)

    found = newest_good(folder, NOW + 30 * DAY)
    assert found is not None
    assert found.path == good.path


def test_no_folder_is_no_copy(tmp_path: Path) -> None:
    """Where nothing was ever kept, there is no copy and no error."""
    assert newest_good(tmp_path / "none", NOW) is None


async def test_what_was_verified_is_not_read_again(store: Store, folder: Path) -> None:
    """A file with the name, size and time that were seen is not read again; one that was written to is."""
    known: Known = {}
    path = make_snapshot(store.file, folder, NOW, known).path
    times = path.stat()
    spoil(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert newest_good(folder, NOW, known) is not None
    os.utime(path)
    assert newest_good(folder, NOW, known) is None


async def test_a_damaged_database_is_not_kept(store: Store, folder: Path, tmp_path: Path) -> None:
    """A copy that is not sound is removed, says why, and takes the place of no good one."""
    make_snapshot(store.file, folder, NOW)
    bad = tmp_path / "bad.db"
    bad.write_bytes(store.file.read_bytes())
    spoil(bad)
    with pytest.raises(DamagedDatabaseError, match="is not sound"):
        make_snapshot(bad, folder, NOW + DAY)

    assert names(folder) == ["database-20261123-033000.db"]


async def test_references_are_followed(store: Store, folder: Path) -> None:
    """A mailbox whose user is not there makes a copy unsound: the check is a full one."""
    with closing(sqlite3.connect(store.file, isolation_level=None)) as connection:
        connection.execute("INSERT INTO mailbox (number) VALUES (4711)")

    with pytest.raises(DamagedDatabaseError, match="a row names a row that is not there"):
        make_snapshot(store.file, folder, NOW)


async def test_no_room_is_told_with_the_numbers(store: Store, folder: Path) -> None:
    """A database larger than the room is refused before anything is written."""
    size = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    sparse = folder.parent / "sparse.db"
    with sparse.open("wb") as stream:
        stream.truncate(min(size + (1 << 30), 1 << 43))

    with pytest.raises(DiskFullError, match=r"no room for a copy of the database: .* free, .* needed"):
        make_snapshot(sparse, folder, NOW)
    assert names(folder) == []


def test_a_missing_database_is_told(tmp_path: Path, folder: Path) -> None:
    """A database that is not there is an error of ours, and leaves nothing."""
    with pytest.raises(StoreError, match="No such file"):
        make_snapshot(tmp_path / "none.db", folder, NOW)
    assert names(folder) == []


@pytest.mark.parametrize(("step", "times", "size"), [(700, 0, 4_000_000), (4, 3, 400_000)])
async def test_writers_go_on_beside_it(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, step: int, times: int, size: int
) -> None:
    """While copies of many steps, or of one after all, are made, changes are kept; every copy is of one moment."""
    monkeypatch.setattr(snapshot, "_STEP_PAGES", step)
    monkeypatch.setattr(snapshot, "_MOST_TIMES", times)
    fillers = [f"filler{place}" for place in range(size // 200_000 + 1)]
    await store.apply([("INSERT INTO state VALUES (?, ?)", (name, "x" * 200_000)) for name in fillers])
    done = threading.Event()

    def copy() -> list[int]:
        try:
            return [make_snapshot(store.file, folder, NOW + day * DAY).rows for day in range(2)]
        finally:
            done.set()

    copying = asyncio.create_task(asyncio.to_thread(copy))
    number = 2000
    while not done.is_set():
        number += 1
        await store.apply(
            [
                ("INSERT INTO user (number, name) VALUES (?, 'Zoë')", (number,)),
                ("INSERT INTO mailbox (number) VALUES (?)", (number,)),
            ]
        )
    assert all(rows % 2 == 0 for rows in await copying)
    assert number > 2001


def test_a_file_that_is_not_there_is_no_database(tmp_path: Path) -> None:
    """A look at nothing is a verdict, and makes no file."""
    assert inspect(tmp_path / "none.db").fault
    assert list(tmp_path.iterdir()) == []
