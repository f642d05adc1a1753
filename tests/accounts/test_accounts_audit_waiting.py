from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing

import pytest

from callisto_telnetd.accounts import audit as audit_module
from callisto_telnetd.accounts.accounts import Accounts
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import HeldError, StoreError
from callisto_telnetd.origin import Origin
from callisto_telnetd.trace.hub import Hub


async def events(audit: Audit) -> list[str]:
    """Return the events of the audit, once what waited is written."""
    await audit.close()
    return [entry.event for entry in await audit.entries(2000)]


async def test_nobody_waits_for_a_file_that_is_held(audit: Audit, store: Store, ada: Origin) -> None:
    """Entries made while the file is held are answered at once, and stand in their order when it is back."""
    await audit.note("before", ada)
    async with store.hold("repaired"):
        began = time.monotonic()
        for number in range(300):
            await audit.note(f"event {number}", ada)
        assert time.monotonic() - began < 0.5
        assert audit.waiting == 300
    await audit.note("after", ada)

    assert await events(audit) == ["before", *(f"event {number}" for number in range(300)), "after"]


async def test_entries_that_come_while_others_are_written_keep_their_order(
    audit: Audit, store: Store, ada: Origin
) -> None:
    """Notes made one after the other across the end of a hold are in the audit in that order."""
    async with store.hold("compacted"):
        for number in range(150):
            await audit.note(f"event {number}", ada)
    for number in range(150, 200):
        await audit.note(f"event {number}", ada)
        await asyncio.sleep(0)

    assert await events(audit) == [f"event {number}" for number in range(200)]


async def test_what_does_not_fit_is_counted(
    audit: Audit, store: Store, ada: Origin, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More entries than may wait are dropped, the newest first, and the log says how many."""
    monkeypatch.setattr(audit_module, "MOST_WAITING", 10)
    async with store.hold("repaired"):
        for number in range(15):
            await audit.note(f"event {number}", ada)

    assert await events(audit) == [f"event {number}" for number in range(10)]
    [told] = [record for record in hub.held(0) if record.text.startswith("entries missing in the audit")]
    assert told.fields["count"] in {"5", 5}


async def test_one_entry_at_fault_takes_no_other_along(audit: Audit, store: Store, ada: Origin, hub: Hub) -> None:
    """Of entries that waited, one whose statements fail is said in the log; the others are kept."""
    async with store.hold("repaired"):
        await audit.note("one", ada)
        await audit.note("two", ada, also=(("INSERT INTO nothing VALUES (1)", ()),))
        await audit.note("three", ada)

    assert await events(audit) == ["one", "three"]
    [told] = [record for record in hub.held(0) if record.text == "not kept in the audit"]
    assert told.fields["event_kind"] == "two"


async def test_entries_wait_while_the_database_is_unusable(audit: Audit, store: Store, ada: Origin) -> None:
    """With a fault entries wait too, and are written once a hold has mended it."""
    store.give_up(StoreError("the database is damaged"))
    await audit.note("one", ada)
    assert audit.waiting == 1
    async with store.hold("repaired"):
        pass

    assert await events(audit) == ["one"]


async def test_what_never_came_back_is_said_at_the_end(audit: Audit, store: Store, ada: Origin, hub: Hub) -> None:
    """A server that ends with entries waiting says in its log how many are missing."""
    store.give_up(StoreError("the database is damaged"))
    await audit.note("one", ada)
    await audit.close()

    assert hub.held(0)[-1].text == "entries missing in the audit: the database did not come back"


async def test_a_log_in_waits_for_no_held_file(accounts: Accounts, store: Store, ada: Origin) -> None:
    """A log-in is noted at once; the access is in the database when the file is back."""
    await accounts.add("ada", "Secret-123", ada)
    known = accounts.require("ada")
    async with store.hold("compacted"):
        began = time.monotonic()
        await accounts.note_access(known, ada, "Secret-123")
        assert time.monotonic() - began < 0.5
    await accounts._audit.close()

    assert await store.fetch("SELECT last_access_source FROM account") == [("192.0.2.7",)]


async def test_a_check_that_reads_the_file_takes_no_entry_away(audit: Audit, store: Store, ada: Origin) -> None:
    """While another process reads the file a change is refused in a clear line, and entries wait for its end."""
    await store.fetch("PRAGMA busy_timeout=20")
    with closing(sqlite3.connect(store.file, isolation_level=None)) as check:
        check.execute("BEGIN")
        check.execute("SELECT count(*) FROM audit").fetchall()
        with pytest.raises(HeldError, match=r"^the database is being checked; nothing was changed; try again later$"):
            await store.set_state("key", "value")
        await audit.note("event 1", ada)
        await audit.note("event 2", ada)
        assert audit.waiting == 2
    while audit.waiting:
        await asyncio.sleep(0)

    assert await events(audit) == ["event 1", "event 2"]


async def test_the_entry_that_finds_a_damage_waits_too(audit: Audit, store: Store, ada: Origin, hub: Hub) -> None:
    """An entry whose own writing finds the database damaged is kept until a repair has mended that, as the next is."""
    (root,) = (await store.fetch("SELECT rootpage FROM sqlite_schema WHERE name = 'audit'"))[0]
    async with store.hold("compacted"):  # so that nothing of the page is in SQLite's memory
        content = store.file.read_bytes()
        spoilt = bytearray(content)
        spoilt[(root - 1) * 4096 : root * 4096] = bytes(4096)
        store.file.write_bytes(spoilt)
    await audit.note("login failed", ada)
    await audit.note("logged in", ada)
    assert not store.usable
    assert audit.waiting == 2
    async with store.hold("repaired"):
        store.file.write_bytes(content)
    await store.note_sound()

    assert await events(audit) == ["login failed", "logged in"]
    assert not [record for record in hub.held(0) if record.text == "not kept in the audit"]
