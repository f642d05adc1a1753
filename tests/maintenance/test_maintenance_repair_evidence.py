"""What a repair keeps is what was found, to the byte: with a server, without one, and whatever lies beside the file."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from callisto_telnetd.assembly import open_parts
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.known_damage import file_damage, identity_of, note_of
from callisto_telnetd.db.salvage.report import RepairReport
from callisto_telnetd.errors import StoreError
from callisto_telnetd.maintenance.compact import compact
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.origin import Origin
from callisto_telnetd.settings import Settings
from tests.db.damages import damage_file, journal_of

ADA = Origin("ada", "telnet", "192.0.2.7")
KEPT = ("callisto.db", "callisto.db-journal")


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder without a database."""
    folder = DataFolder(tmp_path / "data")
    folder.make()
    return folder


@asynccontextmanager
async def appliance(folder: DataFolder, *, untouched: bool = False) -> AsyncIterator[Parts]:
    """Open the appliance of the folder; ``untouched``, as the command line does for a repair."""
    folder.make()
    root, library = logging.getLogger(), logging.getLogger("telnetlib3")
    before = root.handlers[:], root.level, library.level
    try:
        with folder.lock() as lock:
            async with open_parts(Settings(), folder, lock, serving=False, untouched=untouched) as parts:
                yield parts
    finally:
        root.handlers[:], root.level, library.level = before
        logging.captureWarnings(capture=False)


async def fill(folder: DataFolder) -> None:
    """Make an appliance with an account, a variable that was set, and some pages of audit."""
    async with appliance(folder) as parts:
        await parts.accounts.add("ada", "Secret-123", ADA)
        await parts.variables.assign("gWebTimeout", "33", ADA)
        for number in range(200):
            await parts.audit.note("logged in", ADA, f"session {number} " + "x" * 150)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of database and journal."""
    there = [folder / name for name in KEPT if (folder / name).exists()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in there}


def break_page(file: Path) -> None:
    """Zero the last page: one of the audit."""
    with file.open("r+b") as stream:
        stream.seek(-4096, 2)
        stream.write(bytes(4096))


async def repaired(parts: Parts) -> RepairReport:
    """Repair, and return the report."""
    run = parts.repairs.begin(ADA)
    assert run.task is not None
    return await run.task


async def events(parts: Parts) -> list[str]:
    """Return the newest events of the audit."""
    return [entry.event for entry in await parts.audit.entries(3)]


async def test_without_a_server_nothing_opens_the_file_before(folder: DataFolder) -> None:
    """Database and journal are set aside as they were found; accounts and variables are there afterwards."""
    await fill(folder)
    break_page(folder.database)
    found = digests(folder.path)
    assert len(found) == 2
    async with appliance(folder, untouched=True) as parts:
        report = await repaired(parts)

        assert report.outcome == "rebuilt"
        assert digests(Path(report.aside)) == found
        assert (await events(parts))[1:] == ["repair begun", "repair ended"]
        assert parts.variables.text("gWebTimeout") == "33"
        assert [account.name for account in parts.accounts.all()] == ["ada"]


@pytest.mark.parametrize("untouched", [True, False], ids=["without a server", "with one"])
async def test_a_sound_database_is_left_as_it_is(folder: DataFolder, untouched: bool) -> None:
    """Nothing is set aside, what was thought to be a damage is forgotten, and accounts are those of the database."""
    await fill(folder)
    folder.database.with_name("accounts.json").unlink()
    file_damage(folder.database, "a fault that is none", identity_of(folder.database))
    async with appliance(folder, untouched=untouched) as parts:
        report = await repaired(parts)

        assert report.outcome == "sound"
        assert (parts.store.damage, parts.store.fault, parts.store.held) == ("", None, "")
        assert not note_of(folder.database).exists()
        assert [account.name for account in parts.accounts.all()] == ["ada"]
        assert not folder.damaged.exists() or list(folder.damaged.iterdir()) == []
        await parts.variables.assign("gWebTimeout", "44", ADA)


async def test_a_journal_that_was_put_back_is_kept_and_told(folder: DataFolder) -> None:
    """The journal of the last commit is played back on a copy; both files are kept as they were, the report says so."""
    await fill(folder)
    before = folder.database.read_bytes()
    with closing(sqlite3.connect(folder.database)) as connection:
        connection.execute("UPDATE variable SET value = '44' WHERE name = 'gWebTimeout'")
        connection.commit()
    after = folder.database.read_bytes()
    pages = {
        at // 4096 + 1: before[at : at + 4096]
        for at in range(0, len(before), 4096)
        if before[at : at + 4096] != after[at : at + 4096]
    }
    (folder.path / "callisto.db-journal").write_bytes(journal_of(sorted(pages.items()), len(before) // 4096))
    found = digests(folder.path)
    async with appliance(folder, untouched=True) as parts:
        report = await repaired(parts)

        assert (report.outcome, report.journal) == ("journal", "rolled back")
        assert digests(Path(report.aside)) == found
        assert parts.variables.text("gWebTimeout") == "33"


async def test_a_journal_that_a_start_has_played_back_is_told(folder: DataFolder) -> None:
    """Where the file was opened before, the report says that a journal was rolled back then."""
    await fill(folder)
    content = folder.database.read_bytes()
    (folder.path / "callisto.db-journal").write_bytes(journal_of([(1, content[:4096])], len(content) // 4096))
    async with appliance(folder) as parts:
        report = await repaired(parts)

    assert report.outcome == "sound"
    assert report.notes == [
        "A journal was rolled back when the database was opened: a transaction was cut short, 1 pages go back"
    ]


async def test_a_server_writes_nothing_once_a_reading_has_failed(folder: DataFolder) -> None:
    """Changes are refused, the audit waits, a restart knows; what is set aside is what the reading has met."""
    await fill(folder)
    async with appliance(folder) as parts:
        break_page(folder.database)
        found = digests(folder.path)
        with pytest.raises(StoreError, match="is damaged"):
            await parts.audit.entries(100_000)
        await parts.audit.note("logged out", ADA)
        with pytest.raises(
            StoreError, match=r"not written to until it is repaired; nothing was changed; 'repair' helps$"
        ):
            await parts.variables.assign("gWebTimeout", "44", ADA)
        assert any("choose Repair Database" in notice for notice in parts.presence.standing())
        assert digests(folder.path) == found

    assert digests(folder.path) == found
    async with appliance(folder) as parts:
        await parts.audit.note("logged in", ADA)
        assert digests(folder.path) == found
        report = await repaired(parts)

        assert digests(Path(report.aside)) == found
        assert parts.presence.standing() == []
        assert await events(parts) == ["logged in", "repair begun", "repair ended"]
        await parts.variables.assign("gWebTimeout", "44", ADA)
    assert not note_of(folder.database).exists()


@pytest.mark.parametrize("work", ["compact", "backup"])
async def test_a_server_writes_nothing_once_a_worker_has_met_a_damage(folder: DataFolder, work: str) -> None:
    """What a compact or a backup finds damaged is left as it was found, as after a reading of the server's own."""
    await fill(folder)
    async with appliance(folder) as parts:
        break_page(folder.database)
        found = digests(folder.path)
        if work == "compact":
            working: Awaitable[object] = compact(parts.store, parts.workshop, parts.clock, parts.log, lambda _: None)
        else:
            working = parts.backups.create(ADA, password=None, note="", told=lambda _: None)
        with pytest.raises(StoreError, match=r"is damaged|is not sound"):
            await working
        await parts.audit.note("logged out", ADA)

        assert parts.store.damage
        assert digests(folder.path) == found


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
async def test_forty_damages_are_kept_to_the_byte(folder: DataFolder, seed: int) -> None:
    """Whatever happened to the file, with a server and without one what is kept is what was found."""
    await fill(folder)
    damage_file(folder.database, seed)
    found = digests(folder.path)
    async with appliance(folder, untouched=seed % 2 == 0) as parts:
        report = await repaired(parts)

    if report.outcome != "sound":
        assert digests(Path(report.aside)) == found
