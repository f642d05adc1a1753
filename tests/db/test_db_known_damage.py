"""A damage that is known: nothing of ours writes to the file, for as long as it is that file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.known_damage import file_damage, identity_of, known_damage, note_of
from callisto_telnetd.db.schema import APPLICATION_ID, migrations, statements
from callisto_telnetd.db.store import Store, open_store
from callisto_telnetd.errors import DamagedDatabaseError
from callisto_telnetd.origin import SYSTEM
from callisto_telnetd.record_rate import RecordRate
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import open_log


async def events(store: Store) -> list[str]:
    """Return the events of the audit."""
    return [event for (event,) in await store.fetch("SELECT event FROM audit ORDER BY id")]


async def test_nothing_is_written_while_a_damage_is_known(file: Path) -> None:
    """Changes are refused in one line, the audit waits in memory, all is read; found sound, it is written again."""
    async with open_store(file) as store:
        audit = Audit(store, Clock(), open_log(Hub(Clock()), "error"), RecordRate())
        await audit.note("logged in", SYSTEM)
        before = file.read_bytes(), file.with_name("callisto.db-journal").read_bytes()
        await store.note_damage("page 7: cells that overlap")
        await audit.note("logged out", SYSTEM)
        with pytest.raises(DamagedDatabaseError) as refused:
            await store.set_state("a", "b")

        assert str(refused.value) == (
            "the database is damaged (page 7: cells that overlap) and not written to until it is repaired;"
            " nothing was changed; 'repair' helps"
        )
        assert audit.waiting == 1
        assert await events(store) == ["logged in"]
        assert (file.read_bytes(), file.with_name("callisto.db-journal").read_bytes()) == before

        await store.note_sound()
        await audit.close()
        assert await events(store) == ["logged in", "logged out"]
        assert audit.waiting == 0


async def test_a_damage_is_known_after_a_restart(file: Path) -> None:
    """The note beside the file outlasts the server, and is taken back where the file is found sound."""
    async with open_store(file) as store:
        await store.note_damage("row 5 missing from index")
    async with open_store(file) as store:
        assert store.damage == "row 5 missing from index"
        assert not store.usable
        await store.note_sound()
        assert store.usable
    async with open_store(file) as store:
        assert not store.damage

    assert not note_of(file).exists()


@pytest.mark.parametrize("change", ["another file", "written to by somebody else"])
async def test_the_note_is_about_the_file_as_it_was(file: Path, change: str) -> None:
    """What somebody has put in the place of the damaged file, or has changed in it, is another file."""
    async with open_store(file) as store:
        await store.note_damage("a fault")
    assert known_damage(file) == "a fault"
    if change == "another file":
        copy = file.with_name("copy.db")
        shutil.copyfile(file, copy)
        copy.rename(file)
    else:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("INSERT INTO user (name) VALUES ('x')")
            connection.commit()
        os.utime(file)

    assert known_damage(file) == ""
    async with open_store(file) as store:
        assert store.usable


async def test_a_hold_that_changes_nothing_leaves_the_damage_known(file: Path) -> None:
    """A repair that was refused leaves the file as it is, and it is still not written to; another file is."""
    async with open_store(file) as store:
        await store.note_damage("a fault")
        async with store.hold("repaired"):
            pass
        assert store.damage == "a fault"
        async with store.hold("repaired"):
            copy = file.with_name("copy.db")
            shutil.copyfile(file, copy)
            copy.rename(file)
        assert store.usable
        await store.set_state("a", "b")


async def test_what_a_check_has_found_in_the_old_file_is_not_noted_of_the_new(file: Path) -> None:
    """A check that ends while a repair has the file speaks of the file before that."""
    async with open_store(file) as store:
        async with store.hold("repaired"):
            await store.note_damage("a fault of the old file")
            copy = file.with_name("copy.db")
            shutil.copyfile(file, copy)
            copy.rename(file)

        assert store.usable
    assert not note_of(file).exists()


async def test_a_damaged_file_is_not_brought_up_to_date(file: Path) -> None:
    """A newer version changes nothing of it before it has been repaired."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in statements(migrations()[1]):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("PRAGMA user_version=1")
    file_damage(file, "a fault", identity_of(file))
    before = file.read_bytes()
    with pytest.raises(DamagedDatabaseError, match=r"damaged \(a fault\) and not brought up to date before a repair"):
        async with open_store(file):
            pass

    assert file.read_bytes() == before
    file_damage(file, "", [])
    async with open_store(file) as store:
        assert await store.schema_version() == max(migrations())
