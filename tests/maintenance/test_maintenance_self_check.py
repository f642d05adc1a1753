"""The self-check on real databases, sound ones and damaged ones."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.store import Store, open_store
from callisto_telnetd.errors import DamagedDatabaseError
from callisto_telnetd.maintenance.database_lock import DatabaseLock
from callisto_telnetd.maintenance.self_check import CHECK_STATE, Check, Checks, SelfCheck, Step
from callisto_telnetd.maintenance.snapshots import Snapshots
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import open_log
from callisto_telnetd.variables import CATALOGUE, Registry

SATURDAY = 1_795_314_600.0  # 2026-11-22 02:30 UTC, 03:30 in Zurich


@dataclass
class Appliance:
    """What a check works on."""

    store: Store
    presence: Presence
    clock: Clock
    check: SelfCheck


@asynccontextmanager
async def appliance(file: Path, *more: Step) -> AsyncIterator[Appliance]:
    """Open the database of a file, as the server does, on a clock that stands still."""
    clock = Clock(zone="Europe/Zurich", read=lambda: SATURDAY)
    log = open_log(Hub(clock, 100, 1 << 20), "error", "json")
    backup = file.parent / "backup"
    backup.mkdir(exist_ok=True)
    presence = Presence()
    async with open_store(file) as store:
        variables = await Registry.load(CATALOGUE, store, "ucm", clock.now)
        check = SelfCheck(
            store=store,
            variables=variables,
            presence=presence,
            clock=clock,
            log=log,
            repairing=DatabaseLock(),
            snapshots=Snapshots(backup, clock),
            more=more,
        )
        await check.open()
        yield Appliance(store, presence, clock, check)
        await check.close()


async def make(file: Path, *statements: str) -> None:
    """Make a database with forty pages of audit, then change it as nothing of ours would."""
    async with appliance(file) as made:
        row = ("2026-11-22T03:30:00+01:00", "logged in", "ada", "telnet", "192.0.2.7", "x" * 180)
        insert = "INSERT INTO audit (at, event, who, door, source, detail) VALUES (?, ?, ?, ?, ?, ?)"
        await made.store.apply([(insert, row)] * 600)
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def break_page(file: Path) -> None:
    """Overwrite the beginning of the file's last page."""
    with file.open("r+b") as stream:
        stream.seek(-4096, 2)
        stream.write(b"\xff" * 512)


async def test_a_sound_database_is_sound(tmp_path: Path) -> None:
    """Both checks find nothing, keep when that was, and nobody is told."""
    file = tmp_path / "callisto.db"
    await make(file)
    async with appliance(file) as box:
        assert await box.check.run_planned("the plan") == (
            "the database is sound; backup kept: database-20261122-033000.db"
        )
        assert await box.check.run("quick") == []
        known = await box.check.known()
        assert known.last == Check("2026-11-22T03:30:00+01:00", "sound", "quick")
        assert known.full == Check("2026-11-22T03:30:00+01:00", "sound", "full")
        assert box.presence.standing() == []


async def test_a_broken_page_is_a_notice_until_it_is_gone(tmp_path: Path) -> None:
    """A fault is told at each log-in until a check finds none; after a restart it is known, and nothing is written."""
    file = tmp_path / "callisto.db"
    await make(file)
    break_page(file)
    async with appliance(file) as box:
        box.check.start()
        assert box.check._task is not None
        await box.check._task
        (notice,) = box.presence.standing()
        assert notice.startswith("the database has ")
        assert notice.endswith(" (quick check of 2026-11-22 03:30:00): choose Repair Database")
        with pytest.raises(DamagedDatabaseError, match="choose Repair Database"):
            await box.check.run_planned("the plan")
        (notice,) = box.presence.standing()
        assert "full check" in notice

        assert (await box.check.known()).last == Check("2026-11-22T03:30:00+01:00", "1 fault", "full")
        await box.check.note("full", [])  # as a repair does that has mended everything
        assert box.presence.standing() == []

    async with appliance(file) as box:
        assert box.store.damage
        with pytest.raises(DamagedDatabaseError, match="not written to until it is repaired"):
            await box.store.set_state("a", "b")


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("INSERT INTO variable VALUES ('gWebTimeout', 'soon')", "gWebTimeout"),
        ("INSERT INTO mailbox (number) VALUES (4711)", "names a missing row of user"),
    ],
)
async def test_the_full_check_finds_more(tmp_path: Path, statement: str, fault: str) -> None:
    """Values of variables that cannot be used, and rows that name none: a quick check does not look for them."""
    file = tmp_path / "callisto.db"
    await make(file, statement)
    async with appliance(file) as box:
        assert await box.check.run("quick") == []
        (found,) = await box.check.run("full")
        assert fault in found
        assert await box.check.run("quick") == []
        assert len(box.presence.standing()) == 1  # what a quick check cannot see it does not clear


async def test_an_index_that_does_not_fit_is_found_by_the_full_check(tmp_path: Path) -> None:
    """A table and its index that differ are a fault."""
    file = tmp_path / "callisto.db"
    index = "UPDATE sqlite_schema SET sql = replace(sql, '(name, id)', '(who, id)') WHERE name = 'variable_change_name'"
    values = "'2026-11-22T03:30:00+01:00', 'gWebTimeout', 'ada', 'telnet', '192.0.2.7'"
    row = f"INSERT INTO variable_change (batch, at, name, who, door, source) VALUES (1, {values})"
    await make(file, row, "PRAGMA writable_schema=ON", index)
    async with appliance(file) as box:
        assert await box.check.run("full")


async def test_a_step_of_others_is_part_of_the_full_check(tmp_path: Path) -> None:
    """What the check of all values finds counts like the rest; a database damaged for it is a fault, too."""

    async def find() -> list[str]:
        return ["user row 1: name is no text"]

    async def fail() -> list[str]:
        raise DamagedDatabaseError("the database is damaged (SQLITE_CORRUPT); nothing was changed")

    async with appliance(tmp_path / "callisto.db", Step("Values", find), Step("More", fail)) as box:
        assert await box.check.run("full") == [
            "user row 1: name is no text",
            "More: the database is damaged (SQLITE_CORRUPT); nothing was changed",
        ]


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ('{"at": "2026-11-21T03:30:00+01:00", "result": "sound"}', "2026-11-21 03:30:00, 1 day ago, sound"),
        ('{"at": "2026-11-20T03:30:00+01:00", "result": "sound"}', "2026-11-20 03:30:00, 2 days ago, sound"),
        (
            '{"at": "2026-11-22T02:10:00+01:00", "result": "2 faults", "kind": "full"}',
            "2026-11-22 02:10:00, 1 h 20 min ago, full, 2 faults",
        ),
        (
            '{"at": "2027-01-01T00:00:00+01:00", "result": "sound", "kind": "quick"}',
            "2027-01-01 00:00:00, quick, sound",
        ),
    ],
)
async def test_what_earlier_versions_kept_is_read(tmp_path: Path, kept: str, told: str) -> None:
    """The form without a kind is read on; the age is left out where the clock has gone back."""
    async with appliance(tmp_path / "callisto.db") as box:
        await box.store.set_state(CHECK_STATE, kept)
        known = await box.check.known()
        assert known.last is not None
        assert known.last.describe(box.clock) == told


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"at": 1}', '{"at": "soon", "result": "sound"}', "[" * 4000])
async def test_a_kept_result_that_is_none_is_none(tmp_path: Path, kept: str) -> None:
    """What is unreadable says nothing, and is replaced by the next check."""
    async with appliance(tmp_path / "callisto.db") as box:
        await box.store.set_state(CHECK_STATE, kept)
        assert await box.check.known() == Checks()
        await box.check.run("quick")
        assert (await box.check.known()).last is not None
