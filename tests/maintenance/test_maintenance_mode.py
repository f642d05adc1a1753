from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from callisto_telnetd.assembly import SCHEDULE_STATE, open_parts
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.publish import making_of, new_of
from callisto_telnetd.db.salvage.aside import set_aside
from callisto_telnetd.errors import StoreError
from callisto_telnetd.maintenance.compact import compact
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.origin import Origin
from callisto_telnetd.settings import Settings

ADA = Origin("ada", "telnet", "192.0.2.7")


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder without a database."""
    folder = DataFolder(tmp_path / "data")
    folder.make()
    return folder


@asynccontextmanager
async def appliance(folder: DataFolder, *, serving: bool = False) -> AsyncIterator[Parts]:
    """Open the appliance of the folder; the log of libraries is left as it was."""
    folder.make()
    root, library = logging.getLogger(), logging.getLogger("telnetlib3")
    before = root.handlers[:], root.level, library.level
    try:
        with folder.lock() as lock:
            async with open_parts(Settings(), folder, lock, serving=serving) as parts:
                yield parts
    finally:
        root.handlers[:], root.level, library.level = before
        logging.captureWarnings(capture=False)


async def spoil(folder: DataFolder) -> bytes:
    """Make an appliance with an account and a variable that was set, spoil its database; return the sound one."""
    async with appliance(folder) as parts:
        await parts.accounts.add("ada", "Secret-123", ADA)
        await parts.variables.assign("gWebTimeout", "33", ADA)
    sound = folder.database.read_bytes()
    folder.database.write_bytes(bytes(4096) + sound[4096:])
    return sound


async def test_the_mode_ends_when_the_database_is_back(folder: DataFolder) -> None:
    """After a hold that mends the file, variables, accounts and notices are as a start would have them."""
    sound = await spoil(folder)
    async with appliance(folder) as parts:
        assert parts.mode.active
        assert parts.variables.text("gWebTimeout") == "20"
        assert [each.name for each in parts.accounts.all()] == ["ada"]
        assert parts.mode.text.startswith("maintenance mode: ")
        await parts.audit.note("logged in", ADA)

        async with parts.store.hold("repaired"):
            folder.database.write_bytes(sound)
        await parts.mode.reload()

        assert (parts.mode.active, parts.mode.text, parts.presence.standing()) == (False, "", [])
        assert parts.variables.text("gWebTimeout") == "33"
        await parts.variables.assign("gWebTimeout", "34", ADA)
        await parts.accounts.add("bob", "Secret-123", ADA)
        await parts.audit.close()
        assert "logged in" in [entry.event for entry in await parts.audit.entries(10)]


async def test_the_mode_ends_by_itself(folder: DataFolder) -> None:
    """Where whoever held the file does not say that it is mended, everything is read anew all the same."""
    sound = await spoil(folder)
    async with appliance(folder) as parts:
        async with parts.store.hold("repaired"):
            folder.database.write_bytes(sound)
        await asyncio.sleep(0)
        await parts.mode.close()

        assert not parts.mode.active
        assert parts.variables.text("gWebTimeout") == "33"


async def test_a_repair_that_fails_leaves_the_mode(folder: DataFolder) -> None:
    """A hold that ends with a damaged file changes nothing in memory, and the mode goes on."""
    await spoil(folder)
    async with appliance(folder) as parts:
        async with parts.store.hold("repaired"):
            pass
        await parts.mode.reload()

        assert parts.mode.active
        assert [each.name for each in parts.accounts.all()] == ["ada"]


async def test_a_database_that_fails_later_takes_nothing_from_memory(folder: DataFolder) -> None:
    """What is in memory is newer than any file: only changes are refused, and everybody is told."""
    async with appliance(folder) as parts:
        await parts.variables.assign("gWebTimeout", "33", ADA)
        parts.store.give_up(StoreError("the disk failed"))

        assert parts.mode.text == (
            "maintenance mode: the disk failed; nothing that it keeps can be changed; 'repair' helps"
        )
        assert parts.presence.standing() == [parts.mode.text]
        assert parts.variables.text("gWebTimeout") == "33"
        with pytest.raises(StoreError, match="the disk failed"):
            await parts.variables.assign("gWebTimeout", "34", ADA)

        async with parts.store.hold("repaired"):
            pass
        await parts.mode.reload()
        assert not parts.mode.active


async def test_a_repair_that_was_killed_past_its_end_keeps_the_damaged_file(folder: DataFolder) -> None:
    """Killed between its two renames, it is finished at the next start, and what was set aside stays."""
    sound = await spoil(folder)
    damaged = folder.database.read_bytes()
    aside = set_aside(folder.database, folder.damaged, "20261123-101500")
    new_of(folder.database).write_bytes(sound)
    async with appliance(folder) as parts:
        assert not parts.mode.active
        assert [each.name for each in parts.accounts.all()] == ["ada"]

    assert aside.database.read_bytes() == damaged
    assert not new_of(folder.database).exists()


async def test_a_repair_that_was_killed_before_its_end_leaves_nothing_aside(folder: DataFolder) -> None:
    """Killed before its new file counts, it leaves no second name of the live one after the next start."""
    await spoil(folder)
    set_aside(folder.database, folder.damaged, "20261123-101500")
    making_of(folder.database).write_bytes(b"unfinished")
    async with appliance(folder) as parts:
        assert parts.mode.active

    assert list(folder.damaged.iterdir()) == []
    assert not making_of(folder.database).exists()
    assert folder.database.stat().st_nlink == 1


async def test_another_database_moves_no_clock_and_forgets_no_run(folder: DataFolder) -> None:
    """After a repair or a restore, clock and schedule stay as they are, and the new database keeps them."""
    async with appliance(folder) as parts:
        parts.clock.move_to(parts.clock.parse_moment("2031-05-01 10:00:00"))
        parts.clock.use_zone("Asia/Tokyo")
        await parts.store.apply([("DELETE FROM state", ())])
        await parts.mode.reload()

    async with appliance(folder) as parts:
        assert (parts.clock.now().year, parts.clock.zone_name) == (2031, "Asia/Tokyo")
        assert '"database check"' in (await parts.store.get_state(SCHEDULE_STATE) or "")


async def test_what_was_put_right_is_told_though_the_mode_reads_first(folder: DataFolder) -> None:
    """Accounts that a damage has taken are restored by the first reading after a hold; a later one forgets nothing."""
    sound = await spoil(folder)
    async with appliance(folder) as parts:
        async with parts.store.hold("repaired"):
            folder.database.write_bytes(sound)
            with closing(sqlite3.connect(folder.database)) as connection, connection:
                connection.execute("DELETE FROM account")
        await parts.mode.reload()
        await parts.mode.reload()

        assert [each.name for each in parts.accounts.all()] == ["ada"]
        assert parts.accounts.mended == ["Accounts restored: ada"]


async def test_a_database_of_another_form_is_told_until_it_is_compacted(folder: DataFolder) -> None:
    """The appliance works with it; a notice names what another program has made of it, and ends with a compact."""
    async with appliance(folder) as parts:
        await parts.accounts.add("ada", "Secret-123", ADA)
    with closing(sqlite3.connect(folder.database, isolation_level=None)) as connection:
        connection.executescript("PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL")
    async with appliance(folder) as parts:
        told = "the database is not of Callisto's own form (pages of 8192 bytes): 'compact' gives it that"
        assert parts.presence.standing() == [told]
        await parts.variables.assign("gWebTimeout", "44", ADA)
        await compact(parts.store, parts.workshop, parts.clock, parts.log, lambda _progress: None)

        assert parts.presence.standing() == []
        assert [account.name for account in parts.accounts.all()] == ["ada"]
        assert await parts.store.fetch("PRAGMA page_size") == [(4096,)]
        assert await parts.store.fetch("SELECT value FROM variable") == [("44",)]
