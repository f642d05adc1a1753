"""Backups made while the appliance is written to, and restored by the very operations that people use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.errors import BackupPasswordError
from callisto_telnetd.maintenance.unpacking import Unpacking
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.origin import SYSTEM
from tests.maintenance.test_maintenance_mode import appliance

PASSWORD = "correct horse battery"
NUMBERS = range(1000, 1010)
TOTAL = 100 * len(NUMBERS)
BACKUPS = 20


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    """An appliance with a few mailboxes whose quotas have a sum."""
    folder = DataFolder(tmp_path / "data")
    folder.make()
    async with appliance(folder) as parts:
        for number in NUMBERS:
            await parts.store.apply(
                [
                    ("INSERT INTO user (number, name) VALUES (?, ?)", (number, f"user {number}")),
                    ("INSERT INTO mailbox (number, quota_s) VALUES (?, 100)", (number,)),
                ]
            )
        yield parts


async def move_about(parts: Parts) -> None:
    """Move an amount from one mailbox to another, fifty times a second, until it is stopped."""
    change = "UPDATE mailbox SET quota_s = quota_s + ? WHERE number = ?"
    due = asyncio.get_running_loop().time()
    for step in count():
        one, other = NUMBERS[step % 10], NUMBERS[step * 7 % 10]
        await parts.store.apply([(change, (-1, one)), (change, (1, other))])
        due += 0.02
        await asyncio.sleep(max(0, due - asyncio.get_running_loop().time()))


async def restore(parts: Parts, name: str, password: str | None) -> None:
    """Restore an archive of the folder."""
    unpacking = Unpacking(parts.folder, parts.workshop, await parts.backups.require(name), password)
    try:
        opened = await unpacking.open(lambda _progress: None)
        run = parts.restores.begin(opened.backup, SYSTEM)
        assert run.task is not None
        await run.task
    finally:
        await unpacking.close()


async def total(parts: Parts) -> int:
    """Return the sum of the quotas."""
    return int((await parts.store.fetch("SELECT sum(quota_s) FROM mailbox"))[0][0])


@pytest.mark.parametrize("backups", [2, pytest.param(BACKUPS, marks=pytest.mark.long)])
async def test_backups_under_writes_restore_to_a_consistent_sum(parts: Parts, backups: int) -> None:
    """However many are made while amounts move, each is restored to the sum that was always there."""
    moving = asyncio.create_task(move_about(parts))
    made = []
    for _ in range(backups):
        done = await parts.backups.create(SYSTEM, password=PASSWORD, note="", told=lambda _progress: None)
        made.append(str(done["file"]))
    moving.cancel()
    await asyncio.wait([moving])
    sums = []
    for name in made:
        await restore(parts, name, PASSWORD)
        sums.append(await total(parts))

    assert sums == [TOTAL] * backups


async def test_a_wrong_password_stops_nothing(parts: Parts) -> None:
    """It is told before anything of the appliance is touched, and nothing unpacked is left."""
    done = await parts.backups.create(SYSTEM, password=PASSWORD, note="", told=lambda _progress: None)
    unpacking = Unpacking(
        parts.folder, parts.workshop, await parts.backups.require(done["file"]), "wrong horse battery"
    )
    with pytest.raises(BackupPasswordError):
        await unpacking.open(lambda _progress: None)
    await unpacking.close()

    assert not (parts.folder.path / "restore.unpacked").exists()
