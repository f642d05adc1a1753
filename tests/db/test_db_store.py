from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callisto_telnetd.db.check import check_integrity
from callisto_telnetd.db.schema import APPLICATION_ID, migrations
from callisto_telnetd.db.store import Statement, Store, open_store
from callisto_telnetd.errors import DamagedDatabaseError, DiskFullError, NewerSchemaError, StoreError

Look = Callable[..., list[tuple[Any, ...]]]
STATES = "SELECT key, value FROM state ORDER BY key"
SMALL_DISK = 4 << 20


def keep(key: str, value: str = "x") -> Statement:
    """Return a statement that fails where the key is there already."""
    return "INSERT INTO state VALUES (?, ?)", (key, value)


async def test_a_new_database_is_stamped_as_ours(store: Store, look: Look) -> None:
    """The file says whose it is and which version, and is for its owner alone."""
    assert look("PRAGMA application_id") == [(APPLICATION_ID,)]
    assert look("PRAGMA user_version") == [(max(migrations()),)]
    assert await store.schema_version() == max(migrations())
    assert stat.S_IMODE(store.file.stat().st_mode) == 0o600


async def test_the_database_is_careful(store: Store) -> None:
    """Foreign keys hold, a change is on the disk before it is answered, and the journal outlives it."""
    answers = {name: (await store.fetch(f"PRAGMA {name}"))[0][0] for name in ("foreign_keys", "synchronous")}
    answers["journal_mode"] = (await store.fetch("PRAGMA journal_mode"))[0][0]

    assert answers == {"foreign_keys": 1, "synchronous": 3, "journal_mode": "persist"}


async def test_what_was_applied_is_there_after_a_restart(file: Path) -> None:
    """Closing and opening changes nothing."""
    async with open_store(file) as store:
        await store.set_state("clock", "one")
        await store.set_state("clock", "two")
    async with open_store(file) as store:
        assert await store.get_state("clock") == "two"
        assert await store.get_state("other") is None


async def test_what_was_applied_is_on_the_disk_at_once(store: Store, look: Look) -> None:
    """Another process finds the change as soon as it is answered."""
    await store.apply([keep("a"), keep("b")])

    assert look(STATES) == [("a", "x"), ("b", "x")]


async def test_every_statement_answers_its_row_id(store: Store) -> None:
    """The ids of inserted rows come in the order of the statements, to the caller and to ``then``."""
    told: list[list[int]] = []
    insert = ("INSERT INTO user (number, name) VALUES (?, 'x')", (200,))
    ids = await store.apply([insert, (insert[0], (300,))], then=told.append)

    assert ids == [200, 300]
    assert told == [[200, 300]]


@pytest.mark.parametrize(
    "broken",
    [
        keep("a"),
        ("NO SQL AT ALL", ()),
        ("INSERT INTO state VALUES (?, ?)", ("too few",)),
        ("INSERT INTO state VALUES (?, ?)", ("b", None)),
        ("INSERT INTO state VALUES (?, ?)", ("b", 5.5 + 1j)),
        ("INSERT INTO variable_change VALUES (1, 1, '', '', '', '', '', '', '', '', 99)", ()),
    ],
)
async def test_a_transaction_is_whole_or_not_at_all(store: Store, look: Look, broken: Statement) -> None:
    """Where a later statement fails nothing of it is kept, ``then`` is not called, and the next one works."""
    told: list[list[int]] = []
    with pytest.raises(StoreError, match="nothing was changed"):
        await store.apply([keep("a"), broken], then=told.append)

    assert look(STATES) == []
    assert told == []
    await store.apply([keep("b")])
    assert look(STATES) == [("b", "x")]


@pytest.mark.parametrize("value", [1 << 70, "\udcff"])
async def test_a_value_that_sqlite_cannot_take_leaves_no_transaction_open(
    store: Store, look: Look, value: object
) -> None:
    """A programming error raises what it raises, but nothing is kept and the next transaction works."""
    with pytest.raises((StoreError, OverflowError, UnicodeEncodeError)):
        await store.apply([keep("a"), ("INSERT INTO state VALUES ('b', ?)", (value,))])

    await store.apply([keep("c")])
    assert look(STATES) == [("c", "x")]


async def test_a_query_that_fails_is_our_error(store: Store) -> None:
    """A failed reading raises our error, and the next one works."""
    with pytest.raises(StoreError, match=r"^the database failed \(SQLITE_ERROR\); nothing was changed$"):
        await store.fetch("SELECT * FROM nothing")

    assert await store.fetch("SELECT 1") == [(1,)]


async def test_a_cancelled_caller_leaves_the_transaction_whole(store: Store, look: Look) -> None:
    """A caller who goes away in the middle: the change is complete, and memory is told of it."""
    told: list[list[int]] = []
    caller = asyncio.create_task(store.apply([keep("a"), keep("b"), keep("c")], then=told.append))
    while not store._lock.locked():
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await store.apply([keep("d")])

    assert look("SELECT key FROM state") == [("a",), ("b",), ("c",), ("d",)]
    assert len(told) == 1


async def test_a_caller_who_is_cancelled_in_the_queue_is_served(store: Store, look: Look) -> None:
    """A transaction that waits for another when its caller goes away is made all the same."""
    callers = [asyncio.create_task(store.apply([keep(key)])) for key in "abc"]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await store.fetch("SELECT 1")

    await store.apply([])
    assert look("SELECT key FROM state") == [("a",), ("b",), ("c",)]


async def test_closing_waits_for_what_runs(file: Path, look: Look) -> None:
    """The database is closed after the transactions that were begun, cancelled callers or not."""
    async with open_store(file) as store:
        caller = asyncio.create_task(store.apply([keep(str(number)) for number in range(100)]))
        await asyncio.sleep(0)
        caller.cancel()

    assert look("SELECT count(*) FROM state") == [(100,)]
    await asyncio.gather(caller, return_exceptions=True)


async def test_a_cancelled_reader_disturbs_nobody(store: Store) -> None:
    """A reading that is given up leaves the store as it was."""
    await store.apply([keep(str(number)) for number in range(200)])
    readers = [asyncio.create_task(store.fetch(STATES)) for _ in range(5)]
    await asyncio.sleep(0)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)

    await store.apply([("DELETE FROM state", ())], grows=False)
    assert await store.fetch(STATES) == []


async def test_transactions_side_by_side_come_one_after_the_other(store: Store) -> None:
    """Fifty read-and-write transactions lose no step, and ``then`` follows the order of the commits."""
    await store.set_state("count", "0")
    told: list[int] = []
    step = ("UPDATE state SET value = CAST(value AS INTEGER) + 1 WHERE key = 'count'", ())
    insert = ("INSERT INTO user (name) VALUES ('x')", ())

    await asyncio.gather(*(store.apply([step, insert], then=lambda ids: told.append(ids[1])) for _ in range(50)))

    assert await store.get_state("count") == "50"
    assert told == sorted(told) == list(range(1, 51))


async def test_nobody_sees_half_a_transaction(store: Store) -> None:
    """A reading that falls among transactions finds each either whole or not there."""
    pairs = [store.apply([keep(f"{number}a"), keep(f"{number}b")]) for number in range(20)]
    counts = [store.fetch("SELECT count(*) FROM state") for _ in range(20)]
    applying = asyncio.gather(*pairs)
    outcomes = await asyncio.gather(*counts)
    await applying

    assert all(count % 2 == 0 for ((count,),) in outcomes)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))))
def test_a_state_is_the_last_that_was_set(changes: list[tuple[str, str]]) -> None:
    """After any changes each key has the value that it was given last, any text at all."""

    async def check(file: Path) -> None:
        async with open_store(file) as store:
            for key, value in changes:
                await store.set_state(key, value)
            assert dict(await store.fetch(STATES)) == dict(changes)

    with TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder) / "callisto.db"))


async def test_a_change_of_a_variable_is_audited_by_the_database(store: Store) -> None:
    """The trigger writes the audit in the transaction of the change."""
    insert = (
        "INSERT INTO variable_change (batch, at, name, old, new, who, door, source)"
        " VALUES (1, 'now', 'gWebTimeout', NULL, '30', 'ada', 'telnet', '192.0.2.7')"
    )
    await store.apply([(insert, ())])

    assert await store.fetch("SELECT at, event, who, door, source, detail FROM audit") == [
        ("now", "variable changed", "ada", "telnet", "192.0.2.7", "gWebTimeout = 30 (was default)")
    ]


# Files that are not ours, and files that are damaged


@pytest.mark.parametrize("content", [b"not a database at all", b"\0" * 8192])
async def test_what_is_no_database_is_refused_and_kept(file: Path, content: bytes) -> None:
    """A file that is something else is not opened, and not touched."""
    file.write_bytes(content)

    with pytest.raises(DamagedDatabaseError, match="is not a SQLite database"):
        async with open_store(file):
            pass
    assert file.read_bytes() == content


async def test_a_database_of_another_program_is_refused_and_kept(file: Path, look: Look) -> None:
    """A database of somebody else's stays as it is."""
    look("CREATE TABLE theirs (a)")
    before = file.read_bytes()

    with pytest.raises(DamagedDatabaseError, match="not a database of Callisto's"):
        async with open_store(file):
            pass
    assert file.read_bytes() == before


async def test_a_newer_database_is_refused_and_kept(file: Path, look: Look) -> None:
    """A database that a newer version wrote stays as it is."""
    async with open_store(file):
        pass
    look("PRAGMA user_version = 99")
    before = file.read_bytes()

    with pytest.raises(NewerSchemaError, match="has schema 99"):
        async with open_store(file):
            pass
    assert file.read_bytes() == before


async def test_a_database_that_cannot_be_made_is_our_error(tmp_path: Path) -> None:
    """A folder that is not there is said in one line."""
    with pytest.raises(StoreError, match=r"^database '.*callisto\.db' cannot be opened: SQLITE_CANTOPEN$"):
        async with open_store(tmp_path / "none" / "callisto.db"):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_start_that_fails_leaves_no_thread_behind() -> None:
    """Where the file's permissions cannot be set the error is ours, and nothing keeps the process from ending."""
    before = set(threading.enumerate())
    with TemporaryDirectory() as folder:  # that another user may enter
        file = Path(folder) / "callisto.db"
        async with open_store(file):
            pass
        for path, mode in ((file.parent, 0o777), (file, 0o666), (Path(f"{file}-journal"), 0o666)):
            path.chmod(mode)
        os.seteuid(65_534)
        try:
            with pytest.raises(StoreError, match="Operation not permitted"):
                async with open_store(file):
                    pass
        finally:
            os.seteuid(0)

    left = {each for each in set(threading.enumerate()) - before if not each.name.startswith("asyncio_")}
    for thread in left:  # the loop's own pool apart
        thread.join(5)
    assert not [thread for thread in left if thread.is_alive()]


async def test_a_damaged_schema_is_told_at_the_start(file: Path) -> None:
    """Where the first page cannot be understood the start fails with our error, and the file is kept."""
    async with open_store(file):
        pass
    damaged = bytearray(file.read_bytes())
    damaged[100:4096] = b"\xff" * 3996
    file.write_bytes(damaged)

    with pytest.raises(DamagedDatabaseError, match="the database is damaged"):
        async with open_store(file):
            pass
    assert file.read_bytes()[100:4096] == b"\xff" * 3996


async def test_a_damaged_letter_of_the_schema_is_told_at_the_start(file: Path) -> None:
    """SQLite quotes it, and what it says is no text then; the start fails with our error all the same."""
    async with open_store(file):
        pass
    right = b"INDEX variable_change_name ON variable_change"
    assert right in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(right, b"INDEX variable_change_name ON variable_\xffhange"))

    with pytest.raises(DamagedDatabaseError, match="its schema is not readable"):
        async with open_store(file):
            pass


async def test_a_damage_that_is_met_later_is_our_error(file: Path, look: Look) -> None:
    """A reading that meets a damaged page says so; other tables are read, and nothing is written any more."""
    async with open_store(file) as store:
        await store.apply([keep(f"key {number:04}", "v" * 100) for number in range(500)])
    ((root,),) = look("SELECT rootpage FROM sqlite_schema WHERE name = 'state'")
    damaged = bytearray(file.read_bytes())
    damaged[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    file.write_bytes(damaged)

    async with open_store(file) as store:
        with pytest.raises(DamagedDatabaseError, match="the database is damaged"):
            await store.fetch(STATES)
        with pytest.raises(DamagedDatabaseError, match="nothing was changed"):
            await store.set_state("a", "b")
        with pytest.raises(DamagedDatabaseError, match=r"\(SQLITE_CORRUPT\) and not written to until it is repaired"):
            await store.apply([("INSERT INTO user (name) VALUES ('x')", ())])
        assert await store.fetch("SELECT count(*) FROM user") == [(0,)]

    assert file.read_bytes() == damaged


# The disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four megabytes; only root can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "none", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("a disk of its own needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill the disk up to ``leave`` bytes with a file, which is returned."""
    filler = folder / "filler"
    filler.write_bytes(b"")
    with filler.open("ab", buffering=0) as stream:
        disk = os.statvfs(folder)
        stream.truncate(0)
        left = disk.f_bavail * disk.f_frsize - leave
        while left > 0 and (written := stream.write(b"\0" * min(left, 65536))):
            left -= written
    return filler


async def test_a_nearly_full_disk_takes_no_change_but_deletions(small_disk: Path) -> None:
    """Below a megabyte of free disk a change is refused in words; reading and deleting go on, and so it does later."""
    async with open_store(small_disk / "callisto.db") as store:
        await store.apply([keep("a"), keep("b")])
        filler = fill(small_disk, leave=256 << 10)

        with pytest.raises(DiskFullError, match=r"^the disk is full: \d+ KiB free, a change needs 1024 KiB; nothing"):
            await store.apply([keep("c")])
        assert await store.fetch("SELECT key FROM state") == [("a",), ("b",)]
        await store.apply([("DELETE FROM state WHERE key = 'a'", ())], grows=False)
        assert await store.fetch("SELECT key FROM state") == [("b",)]

        filler.unlink()
        await store.apply([keep("c")])
        assert await store.fetch("SELECT key FROM state") == [("b",), ("c",)]


async def test_a_deletion_finds_room_on_a_disk_without_any(small_disk: Path) -> None:
    """Where not a byte is free a row can be deleted: the journal's room is kept from the changes before."""
    async with open_store(small_disk / "callisto.db") as store:
        await store.apply([keep("a"), keep("b")])
        fill(small_disk)

        await store.apply([("DELETE FROM state WHERE key = 'a'", ())], grows=False)
        assert await store.fetch("SELECT key FROM state") == [("b",)]


async def test_a_disk_that_fills_in_the_middle_of_a_change_loses_nothing(small_disk: Path) -> None:
    """A transaction larger than the disk is undone whole, and the store goes on working."""
    async with open_store(small_disk / "callisto.db") as store:
        await store.apply([keep("a")])
        with pytest.raises(DiskFullError, match=r"^the disk is full; nothing was changed$"):
            await store.apply([keep(f"big {number}", "x" * 100_000) for number in range(60)])

        assert await store.fetch("SELECT key FROM state") == [("a",)]
        await store.apply([keep("b")])
        assert await check_integrity(store) == []


async def test_no_database_is_made_on_a_full_disk(small_disk: Path) -> None:
    """A first start without room fails with our error; once there is room the next start works."""
    filler = fill(small_disk)
    with pytest.raises(StoreError, match="nothing was changed"):
        async with open_store(small_disk / "callisto.db"):
            pass
    filler.unlink()

    async with open_store(small_disk / "callisto.db") as store:
        assert await store.schema_version() == max(migrations())


# The end of the process


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tempfile import TemporaryDirectory
from callisto_telnetd.db.store import open_store

async def main(file):
    async with open_store(Path(file)) as store:
        await store.apply([("UPDATE state SET value = 'new'", ())])
        # As a transaction that is larger than the cache does: pages reach the file before the commit.
        await store._connection.execute("PRAGMA cache_size = 2")
        await store._connection.execute("PRAGMA cache_spill = 1")
        await store._connection.execute("BEGIN IMMEDIATE")
        await store._connection.execute("UPDATE state SET value = 'half'")
        await store._connection.execute("DELETE FROM account")
        {act}
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1]))
"""


def run_and_kill(file: Path, act: str = "") -> None:
    """Run the child that kills itself in the middle of a transaction."""
    child = subprocess.run([sys.executable, "-c", KILLED.replace("{act}", act), str(file)], check=False)
    assert child.returncode == -signal.SIGKILL


async def fill_state(file: Path) -> None:
    """Make a database of many pages."""
    async with open_store(file) as store:
        await store.apply([keep(f"key {number:04}", "old" + "x" * 400) for number in range(400)])


async def test_a_killed_server_leaves_no_half_transaction(file: Path) -> None:
    """After SIGKILL in mid-transaction the hot journal puts back what was there; what was answered before stays."""
    await fill_state(file)
    run_and_kill(file)
    journal = file.with_name("callisto.db-journal")
    assert journal.read_bytes()[:8] == bytes.fromhex("d9d505f920a163d7"), "the child left no hot journal"
    assert b"half" in file.read_bytes(), "the child left nothing half done"

    async with open_store(file) as store:
        assert await store.fetch("SELECT DISTINCT value FROM state") == [("new",)]
        assert await check_integrity(store) == []


NEWER = """
        for sql in ("ROLLBACK", "PRAGMA user_version = 99", "BEGIN IMMEDIATE", "UPDATE state SET value = 'half'"):
            await store._connection.execute(sql)
"""


async def test_a_newer_database_with_a_hot_journal_is_refused(file: Path, look: Look) -> None:
    """A crash of a newer version does not open its database to an older one."""
    await fill_state(file)
    run_and_kill(file, NEWER.strip())

    with pytest.raises(NewerSchemaError, match="has schema 99"):
        async with open_store(file):
            pass
    assert look("SELECT DISTINCT value FROM state") == [("new",)]


async def test_a_foreign_database_with_a_hot_journal_is_refused(file: Path, look: Look) -> None:
    """A crash of another program does not make its database ours."""
    script = f"""
import os, signal, sqlite3
connection = sqlite3.connect({str(file)!r}, isolation_level=None)
connection.execute("CREATE TABLE theirs (a)")
connection.execute("INSERT INTO theirs WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)"
    " SELECT printf('%0500d', i) FROM n")
connection.execute("PRAGMA cache_size = 2")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE theirs SET a = 'half'")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    assert file.with_name("callisto.db-journal").read_bytes()[:2] == b"\xd9\xd5", "the child left no hot journal"

    with pytest.raises(DamagedDatabaseError, match="not a database of Callisto's"):
        async with open_store(file):
            pass
    assert look("SELECT name FROM sqlite_schema WHERE type = 'table'") == [("theirs",)]
