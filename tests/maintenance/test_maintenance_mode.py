from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from callisto_telnetd.assembly import open_parts
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.errors import StoreError
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
async def appliance(folder: DataFolder) -> AsyncIterator[Parts]:
    """Open the appliance of the folder; the log of libraries is left as it was."""
    root, library = logging.getLogger(), logging.getLogger("telnetlib3")
    before = root.handlers[:], root.level, library.level
    try:
        with folder.lock() as lock:
            async with open_parts(Settings(), folder, lock, serving=False) as parts:
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
