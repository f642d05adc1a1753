"""The numbers that were given are known while the database is damaged, also where its last entries are lost."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.maintenance.given_numbers import given_numbers
from callisto_telnetd.menus.context import Parts
from tests.maintenance.test_maintenance_repair_evidence import ADA, appliance


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    """An appliance whose audit has entries of all who write it: log-ins, accounts, and changes of variables."""
    async with appliance(DataFolder(tmp_path / "data")) as parts:
        await parts.audit.note("logged in", ADA)
        for number in range(10, 20):
            await parts.variables.assign("gWebTimeout", str(number), ADA)
        yield parts


async def given(parts: Parts) -> dict[str, int]:
    """Return the numbers that were given."""
    return await given_numbers(parts.store, parts.audit, parts.variables)


def change(parts: Parts, *statements: str) -> None:
    """Change the file behind everybody's back."""
    with closing(sqlite3.connect(parts.store.file, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_numbers_of_lost_entries_are_known(parts: Parts) -> None:
    """Entries that the trigger of a change, and the transaction of an account, have written are counted in memory."""
    truth = await given(parts)
    assert truth == {"audit": await parts.audit.last_number(), "variable_change": 10}
    assert truth["audit"] > 10
    await parts.store.note_damage("a page is lost")
    change(parts, "DELETE FROM audit WHERE id > 2", "DELETE FROM variable_change WHERE id > 2")
    assert await given(parts) == truth
    await parts.store.note_sound()
    await parts.accounts.add("ada", "Secret-123", ADA)
    last = await parts.audit.last_number()
    await parts.store.note_damage("a page is lost")
    change(parts, "DELETE FROM audit WHERE id > 2")

    assert (await given(parts))["audit"] == max(last, truth["audit"])


@pytest.mark.parametrize(("number", "is_believed"), [(50_000, True), (1 << 40, False)])
async def test_a_damaged_database_is_asked_too(parts: Parts, number: int, is_believed: bool) -> None:
    """What a damaged database has beyond memory counts, but for a number that nobody can have given."""
    truth = await given(parts)
    await parts.store.note_damage("a page is lost")
    change(
        parts,
        f"INSERT INTO audit SELECT {number}, at, event, who, door, source, detail FROM audit WHERE id = 1",
        f"UPDATE variable_change SET id = {number} WHERE id = 5",
    )

    assert await given(parts) == (dict.fromkeys(truth, number) if is_believed else truth)


async def test_what_nobody_knows_is_missing(tmp_path: Path, parts: Parts) -> None:
    """Where nothing was written since the start, a damaged database is not believed to have its last entries."""
    parts.store.last_audited = 0
    parts.variables.take_defaults()
    await parts.store.note_damage("a page is lost")

    assert await given(parts) == {}
