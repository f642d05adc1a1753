"""Many who change variables at once, and callers who go away in the middle: memory, disk and history stay one."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from callisto_telnetd.origin import Origin
from callisto_telnetd.variables import Database, Registry
from tests.variables.conftest import undo


def disk(connection: sqlite3.Connection, name: str) -> str | None:
    """Return the text that is stored for a variable."""
    row = connection.execute("SELECT value FROM variable WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


async def test_every_change_records_the_value_it_really_replaced(registry: Registry, ada: Origin) -> None:
    """However many set one variable at once, each change's old is the new of the one before."""
    changes = await asyncio.gather(*(registry.assign("gWebTimeout", str(100 + n), ada) for n in range(50)))
    history = await registry.history("gWebTimeout", limit=100)

    assert sorted(history, key=lambda change: change.id) == history
    assert {change.id for change in changes if change} == {change.id for change in history}
    assert [change.old for change in history] == [None, *(change.new for change in history[:-1])]
    assert registry.text("gWebTimeout") == history[-1].new


async def test_a_caller_who_goes_while_it_is_written_leaves_a_whole_change(
    registry: Registry, connection: sqlite3.Connection, begun: asyncio.Event, may_commit: asyncio.Event, ada: Origin
) -> None:
    """A cancelled change that had begun is on disk, in memory and in the history; nobody in between saw half of it."""
    may_commit.clear()
    first = asyncio.create_task(registry.assign("gWebTimeout", "30", ada))
    await begun.wait()
    second = asyncio.create_task(registry.assign("gWebTimeout", "40", ada))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert registry.text("gWebTimeout") == "20"  # not durable, not in effect

    may_commit.set()
    change = await second
    assert change is not None
    assert (change.old, change.new) == ("30", "40")
    assert [(each.old, each.new) for each in await registry.history()] == [(None, "30"), ("30", "40")]
    assert disk(connection, "gWebTimeout") == registry.text("gWebTimeout") == "40"


async def test_memory_follows_although_nobody_waits(
    registry: Registry, connection: sqlite3.Connection, begun: asyncio.Event, may_commit: asyncio.Event, ada: Origin
) -> None:
    """Closing waits for the change whose caller has gone; then disk and memory have it, and observers were told."""
    heard: list[str | None] = []
    registry.observe(lambda change: heard.append(change.new))
    may_commit.clear()
    caller = asyncio.create_task(registry.assign("gWebTimeout", "30", ada))
    await begun.wait()
    caller.cancel()
    may_commit.set()
    await registry.close()

    assert caller.cancelled()
    assert disk(connection, "gWebTimeout") == registry.text("gWebTimeout") == "30"
    assert heard == ["30"]


async def test_a_caller_who_goes_while_waiting_changes_nothing(
    registry: Registry, connection: sqlite3.Connection, begun: asyncio.Event, may_commit: asyncio.Event, ada: Origin
) -> None:
    """A change that had not begun never does, and the next in line is not held up."""
    may_commit.clear()
    first = asyncio.create_task(registry.assign("gWebTimeout", "30", ada))
    await begun.wait()
    waiting = asyncio.create_task(registry.assign("gWebTimeout", "40", ada))
    third = asyncio.create_task(registry.assign("gRecordVolume", "5", ada))
    for _ in range(3):
        await asyncio.sleep(0)  # let both come to the lock
    waiting.cancel()
    may_commit.set()
    await asyncio.gather(first, third)

    assert waiting.cancelled()
    assert disk(connection, "gWebTimeout") == registry.text("gWebTimeout") == "30"
    assert len(await registry.history()) == 2


async def test_a_failed_transaction_leaves_everything_as_it_was(
    registry: Registry, connection: sqlite3.Connection, ada: Origin
) -> None:
    """An error of the database changes neither disk nor memory, and the next change goes through."""
    await registry.assign("gWebTimeout", "30", ada)
    connection.execute(
        "CREATE TRIGGER broken BEFORE INSERT ON variable_change WHEN new.name = 'gRecordVolume' "
        "BEGIN SELECT raise(ABORT, 'broken'); END"
    )
    found = registry.differences("gWebTimeout = 40\ngRecordVolume = 5\n")

    with pytest.raises(sqlite3.IntegrityError):
        await registry.apply_import(found, ada)
    assert disk(connection, "gWebTimeout") == registry.text("gWebTimeout") == "30"
    assert disk(connection, "gRecordVolume") is None
    assert len(await registry.history()) == 1

    connection.execute("DROP TRIGGER broken")
    assert len(await registry.apply_import(found, ada)) == 2


async def test_two_undos_at_once_take_two_changes(registry: Registry, ada: Origin) -> None:
    """Undo chooses its change with the lock in hand, so that two never take the same one."""
    await registry.assign("gWebTimeout", "30", ada)
    await registry.assign("gRecordVolume", "5", ada)
    undone = await asyncio.gather(undo(registry, None, ada), undo(registry, None, ada))

    assert sorted(change.undoes or 0 for changes in undone for change in changes) == [1, 2]
    assert registry.differing() == ()


async def test_reloading_waits_for_the_change_that_is_written(
    registry: Registry, database: Database, begun: asyncio.Event, may_commit: asyncio.Event, ada: Origin
) -> None:
    """A change that is under way and a reload do not mix, and one that waited meanwhile sees the new state."""
    may_commit.clear()
    first = asyncio.create_task(registry.assign("gWebTimeout", "30", ada))
    await begun.wait()
    reload = asyncio.create_task(registry.reload())
    second = asyncio.create_task(registry.assign("gWebTimeout", "40", ada))
    may_commit.set()
    await asyncio.gather(first, reload)
    change = await second

    assert change is not None
    assert change.old == "30"
    assert registry.text("gWebTimeout") == "40"
    assert registry.last_change("gWebTimeout") == change
