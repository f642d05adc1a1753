from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.db import store as store_module
from callisto_telnetd.db.store import Statement, Store, open_store
from callisto_telnetd.errors import DamagedDatabaseError, HeldError, NewerSchemaError, StoreError

Look = Callable[..., list[tuple[Any, ...]]]


def keep(key: str) -> Statement:
    """Return a statement that keeps a key."""
    return "INSERT INTO state VALUES (?, 'x')", (key,)


def opened(file: Path) -> bool:
    """Return whether this process has the file open."""
    return any(os.path.realpath(link) == str(file) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())


async def test_who_holds_the_file_has_it_alone(store: Store) -> None:
    """While it is held nobody in this process has the file open; afterwards it is open again, and all is there."""
    await store.apply([keep("a")])
    assert opened(store.file)
    async with store.hold("compacted"):
        assert store.held == "compacted"
        assert not opened(store.file)

    assert store.held == ""
    assert await store.fetch("SELECT key FROM state") == [("a",)]


async def test_a_hold_waits_for_what_runs(store: Store, look: Look) -> None:
    """A transaction that was begun is whole before the file is handed over."""
    writing = asyncio.create_task(store.apply([keep(str(number)) for number in range(100)]))
    while not store._lock.locked():
        await asyncio.sleep(0)
    async with store.hold("repaired"):
        assert look("SELECT count(*) FROM state") == [(100,)]
    await writing


async def test_others_wait_for_a_short_hold(store: Store) -> None:
    """A change and a reading that come meanwhile are answered once the file is back."""
    async with store.hold("compacted"):
        writing = asyncio.create_task(store.apply([keep("a")]))
        reading = asyncio.create_task(store.fetch("SELECT 1"))
        await asyncio.sleep(0)
        assert not writing.done()

    await writing
    assert await reading == [(1,)]
    assert await store.fetch("SELECT key FROM state") == [("a",)]


@pytest.mark.parametrize(("what", "wait_s"), [("repaired", 0.05), ("compacted", 0.0)])
async def test_nobody_waits_for_long(store: Store, monkeypatch: pytest.MonkeyPatch, what: str, wait_s: float) -> None:
    """Whoever has waited long enough, a second hold too, is told what is being done and that nothing was changed."""
    monkeypatch.setattr(store_module, "HELD_WAIT_S", wait_s)
    line = f"^the database is being {what}; nothing was changed; try again later$"
    async with store.hold(what):
        for work in (store.apply([keep("a")]), store.fetch("SELECT 1"), store.hold("x").__aenter__()):
            with pytest.raises(HeldError, match=line):
                await work

    assert await store.fetch("SELECT key FROM state") == []


async def test_the_impatient_are_told_at_once(store: Store) -> None:
    """A change that must not wait is refused within a moment while the file is held."""
    async with store.hold("repaired"):
        began = time.monotonic()
        with pytest.raises(HeldError):
            await store.apply([keep("a")], patient=False)
        assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, StoreError])
async def test_the_file_is_opened_again_whatever_happens(store: Store, error: type[BaseException]) -> None:
    """An error, or a caller who goes away, in the middle of a hold leaves an open store."""
    with pytest.raises(error):
        async with store.hold("repaired"):
            raise error("x")

    await store.apply([keep("a")])


async def test_a_holder_who_is_cancelled_at_any_moment_leaves_the_store_open(store: Store) -> None:
    """Cancelled at its first, second, … step, a hold always ends with a store that works."""
    for steps in range(40):

        async def hold() -> None:
            async with store.hold("compacted"):
                await asyncio.sleep(0)

        holder = asyncio.create_task(hold())
        for _ in range(steps):
            await asyncio.sleep(0)
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)
        await store.apply([("INSERT OR REPLACE INTO state VALUES ('n', ?)", (str(steps),))])
        assert store.held == ""
        assert await store.get_state("n") == str(steps)


async def test_a_file_that_comes_back_damaged_is_a_fault_and_no_error(store: Store) -> None:
    """What cannot be opened after a hold is told to all callers at once; a later hold that mends it ends that."""
    told: list[str] = []
    store.on_return.append(lambda: told.append("back"))
    store.on_fault.append(lambda fault: told.append(str(fault)))
    whole = b""
    async with store.hold("repaired"):
        whole = store.file.read_bytes()
        store.file.write_bytes(b"no database" * 1000)
    assert isinstance(store.fault, DamagedDatabaseError)
    assert told == [str(store.fault)]
    assert not store.usable
    for _ in range(2):
        with pytest.raises(DamagedDatabaseError, match="is not a SQLite database"):
            await store.fetch("SELECT 1")
        with pytest.raises(DamagedDatabaseError):
            await store.apply([keep("a")])

    async with store.hold("repaired"):
        store.file.write_bytes(whole)
    assert store.fault is None
    assert told[1:] == ["back"]
    await store.apply([keep("a")])


async def test_a_file_that_is_gone_after_a_hold_is_not_made_anew(store: Store) -> None:
    """A database that vanished is a fault: an empty one in its place would be another appliance."""
    async with store.hold("repaired"):
        store.file.unlink()

    assert "is lost" in str(store.fault)
    assert not store.file.exists()


@pytest.mark.parametrize(
    ("content", "reason"), [(b"text" * 2000, "is not a SQLite database"), (b"", "is lost"), (None, "is lost")]
)
async def test_a_tolerant_opening_gives_a_store_with_a_fault(file: Path, content: bytes | None, reason: str) -> None:
    """Where the appliance is known to have had a database, one that cannot be opened is a fault, left as it is."""
    if content is not None:
        file.write_bytes(content)
    async with open_store(file, make=False, tolerant=True) as store:
        assert reason in str(store.fault)
        with pytest.raises(StoreError, match=reason):
            await store.fetch("SELECT 1")

    assert (file.read_bytes() if file.exists() else None) == content


async def test_a_newer_database_is_refused_by_the_tolerant_too(file: Path, look: Look) -> None:
    """A database that a newer version wrote is no fault to be mended here."""
    async with open_store(file):
        pass
    look("PRAGMA user_version = 99")

    with pytest.raises(NewerSchemaError):
        async with open_store(file, tolerant=True):
            pass


async def test_a_version_that_cannot_be_is_a_damage(file: Path, look: Look) -> None:
    """A version that no callisto-telnetd will ever write is a flipped bit."""
    async with open_store(file):
        pass
    look("PRAGMA user_version = 33554434")

    async with open_store(file, tolerant=True) as store:
        assert "its first page is damaged" in str(store.fault)


async def test_a_stray_write_ahead_log_is_not_replayed(file: Path) -> None:
    """SQLite would put another program's -wal into the database on opening: it is refused, and both are kept."""
    async with open_store(file):
        pass
    before = file.read_bytes()
    log = file.with_name("callisto.db-wal")
    log.write_bytes(b"x" * 5000)

    async with open_store(file, tolerant=True) as store:
        assert "another program's" in str(store.fault)
    assert (file.read_bytes(), log.read_bytes()) == (before, b"x" * 5000)


async def test_a_hold_that_outlives_the_store_opens_nothing(file: Path) -> None:
    """Work that was left alone ends after the store is closed: the file stays closed, and no thread is left."""
    before = set(threading.enumerate())
    async with AsyncExitStack() as outlived:
        async with open_store(file) as store:
            await outlived.enter_async_context(store.hold("compacted"))
        await outlived.aclose()

        assert not opened(file)
        left = {each for each in set(threading.enumerate()) - before if not each.name.startswith("asyncio_")}
        for thread in left:  # the loop's own pool apart; one that has let go of the file may still be ending
            thread.join(5.0)
        assert not [thread for thread in left if thread.is_alive()]
        with pytest.raises(StoreError, match="closed"):
            await store.fetch("SELECT 1")
