"""Restores of a running appliance: what is taken, what stays, what comes back, and who is told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from contextvars import Context
from dataclasses import replace
from pathlib import Path

import pytest

from callisto_telnetd.assembly import SCHEDULE_STATE
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.restore.recordings import list_of
from callisto_telnetd.db.restore.switch import unpacked_of
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.errors import (
    CallistoError,
    DamagedDatabaseError,
    DiskFullError,
    HeldError,
    RestoreError,
    StoreError,
    UsageError,
)
from callisto_telnetd.maintenance.restores import Restored, RestoreRun, Restores
from callisto_telnetd.maintenance.workshop import Workshop
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.origin import Origin
from callisto_telnetd.variables.exchange import Difference
from tests.db.restoring import RECORDINGS, litter, make_backup, make_folder, state_of
from tests.maintenance.test_maintenance_mode import appliance

ADA = Origin("ada", "telnet", "192.0.2.7")


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder in the old state."""
    return DataFolder(make_folder(tmp_path / "data").parent)


@pytest.fixture
def backup(tmp_path: Path) -> Unpacked:
    """A backup of the new state, where a variable differs."""
    backup = make_backup(tmp_path / "unpacked")
    change(backup, "INSERT INTO variable VALUES ('gWebTimeout', '33')")
    return backup


@pytest.fixture
async def parts(folder: DataFolder) -> AsyncIterator[Parts]:
    """The appliance of the folder."""
    async with appliance(folder) as parts:
        yield parts


def change(backup: Unpacked, *statements: str) -> None:
    """Change the database of a backup."""
    with closing(sqlite3.connect(backup.database, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


async def finish(run: RestoreRun) -> Restored:
    """Wait for the end of a restore."""
    assert run.task is not None
    return await run.task


async def user(parts: Parts) -> str:
    """Return the name of the one user."""
    ((name,),) = await parts.store.fetch("SELECT name FROM user")
    return str(name)


def left_over(parts: Parts) -> set[str]:
    """Return the names that restores make and that are to be gone, and recordings that the state does not name."""
    state, media = state_of(parts.folder.path), {path.name for path in parts.folder.media.iterdir()}
    unnamed = media - set(RECORDINGS if state == "new" else ())
    return unnamed | {name for name in litter(parts.folder.path) if "making" in name or "restore" in name}


def accounts(parts: Parts) -> list[str]:
    """Return the names of the accounts."""
    return [each.name for each in parts.accounts.all()]


async def test_a_restore_brings_everything_back(parts: Parts, backup: Unpacked) -> None:
    """Variables, users, recordings, accounts and settings are the backup's; nothing of the work is left."""
    plan = await parts.restores.plan(backup, ADA)
    assert (plan.fits, plan.reasons) == (True, ())
    assert plan.variables == (Difference("gWebTimeout", "20", "33"),)
    assert (plan.accounts_now, plan.accounts_then) == (("old",), ("new",))
    assert plan.outlook is not None
    assert (plan.outlook.settings, plan.outlook.recordings) == (("appliance.serial",), len(RECORDINGS))

    done = await finish(parts.restores.begin(backup, ADA))

    assert done.name == "backup.zip"
    assert done.notes == ("callisto.toml counts from the next start of the server",)
    assert parts.variables.text("gWebTimeout") == "33"
    assert accounts(parts) == ["new"]
    assert parts.accounts.mended == []
    assert "old" not in parts.folder.account_file.read_text()
    for name, content in RECORDINGS.items():
        assert (parts.folder.media / name).read_bytes() == content
    assert state_of(parts.folder.path) == "new"
    assert left_over(parts) == set()
    await parts.audit.close()
    assert "restore ended" in [entry.event for entry in await parts.audit.entries(3)]


async def test_no_entry_goes_and_no_number_is_given_twice(parts: Parts, backup: Unpacked) -> None:
    """Over a restore, its undo and the way forward again the audit only grows; a change has its number for good."""
    change(
        backup, "INSERT INTO audit VALUES (900, '2026-11-20T10:15:00+01:00', 'long ago', 'ada', 'local', 'local', '')"
    )
    first = await parts.variables.assign("gWebTimeout", "44", ADA)
    assert first is not None
    seen: dict[int, object] = {entry.number: entry for entry in await parts.audit.entries(100)}
    plan = await parts.restores.plan(backup, ADA)
    assert plan.outlook is not None
    kept = {each.table: each for each in plan.outlook.tables if each.added is not None}
    assert (kept["audit"].now, kept["audit"].added) == (len(seen), 2)  # 'long ago', and the variable that changes
    assert (kept["variable_change"].now, kept["variable_change"].added) == (1, 1)

    for forward in (True, False, True, False):
        await finish(parts.restores.begin(backup, ADA) if forward else parts.restores.begin_undo(ADA))
        await parts.audit.note("settled", ADA)
        now = {entry.number: entry for entry in await parts.audit.entries(100)}
        assert seen.items() <= now.items()
        assert len({entry for entry in now.values() if entry.event == "long ago"}) == 1
        seen = dict(now)
    history = await parts.variables.history()
    assert [(each.id, each.old, each.new, each.who, each.note) for each in history] == [
        (1, None, "44", "ada", ""),
        (2, "44", "33", "ada", "restored from backup.zip"),
        (3, "33", "44", "ada", f"back to {history[2].note.removeprefix('back to ')}"),
        (4, "44", "33", "ada", "restored from backup.zip"),
        (5, "33", "44", "ada", f"back to {history[4].note.removeprefix('back to ')}"),
    ]
    assert history[2].note.startswith("back to the state before 20")
    later = await parts.variables.assign("gWebTimeout", "50", ADA)
    assert later is not None
    assert later.id == 6


async def test_without_secrets_the_accounts_stay(parts: Parts, backup: Unpacked) -> None:
    """A backup without secrets leaves the administrators as they are, and so does its undo.

    Settings that were not there before the restore go with its undo.
    """
    settings = parts.folder.path / "callisto.toml"
    settings.unlink()
    change(backup, "DELETE FROM account")
    backup = replace(backup, secrets=False)
    plan = await parts.restores.plan(backup, ADA)
    assert plan.accounts_then == ("old",)
    assert any("no mailbox has a PIN" in note for note in plan.notes)

    await finish(parts.restores.begin(backup, ADA))

    assert settings.exists()
    assert accounts(parts) == ["old"]
    assert await parts.store.fetch("SELECT name FROM account") == [("old",)]
    assert parts.accounts.mended == []
    assert await user(parts) == "new"

    await parts.accounts.add("bob", "Secret-123", ADA)
    await finish(parts.restores.begin_undo(ADA))
    assert accounts(parts) == ["bob", "old"]
    assert await user(parts) == "old"
    assert not settings.exists()


async def test_a_value_that_is_not_taken_here_is_told(parts: Parts, backup: Unpacked) -> None:
    """A variable's value that this version does not take stands at its default, as the plan says beforehand."""
    change(backup, "UPDATE variable SET value = 'abc'")
    plan = await parts.restores.plan(backup, ADA)
    assert plan.variables == ()
    assert plan.notes[-1].startswith("not used, its default is: gWebTimeout: 'abc' is not a whole number")

    await finish(parts.restores.begin(backup, ADA))
    assert parts.variables.text("gWebTimeout") == "20"
    assert list(parts.variables.faults) == ["gWebTimeout"]


async def test_what_the_appliance_remembers_of_itself_stays(folder: DataFolder, backup: Unpacked) -> None:
    """Clock and schedule do not move, not at the next start either; other rows of its own stay, missing ones come."""
    change(backup, """INSERT INTO state VALUES ('clock', '{"zone":"Europe/Paris","offset_s":9.0}')""")
    change(backup, "INSERT INTO state VALUES ('backup.nightly', 'new')")
    async with appliance(folder) as parts:
        parts.clock.move_to(parts.clock.parse_moment("2031-05-01 10:00:00"))
        parts.clock.use_zone("Asia/Tokyo")
        await parts.store.set_state("backup.nightly", "old")
        around = replace(parts.repairs._around, reload=reload_nothing)
        await finish(Restores(around, "ucm", lambda _file: ()).begin(backup, ADA))  # as if killed after the switch
        assert await parts.store.get_state("backup.nightly") == "old"
        assert [await parts.store.get_state(f"only.{each}") for each in ("old", "new")] == ["x", "x"]

    async with appliance(folder) as parts:
        assert (parts.clock.now().year, parts.clock.zone_name) == (2031, "Asia/Tokyo")
        assert await parts.store.get_state(SCHEDULE_STATE) == "old"


async def reload_nothing() -> None:
    """Read nothing anew."""


async def test_an_undo_returns_and_is_undone(parts: Parts, backup: Unpacked) -> None:
    """Undo brings back database, accounts and settings; what was done since is kept for its own undo."""
    with pytest.raises(RestoreError, match="there is no state from before a restore to go back to"):
        await finish(parts.restores.begin_undo(ADA))
    await finish(parts.restores.begin(backup, ADA))
    past = await parts.restores.past()
    assert past is not None
    assert past.restored == "backup.zip"
    await parts.variables.assign("gWebTimeout", "44", ADA)

    await finish(parts.restores.begin_undo(ADA))
    assert (parts.variables.text("gWebTimeout"), accounts(parts)) == ("20", ["old"])
    assert state_of(parts.folder.path) == "old"

    await finish(parts.restores.begin_undo(ADA))
    assert (parts.variables.text("gWebTimeout"), accounts(parts)) == ("44", ["new"])
    assert state_of(parts.folder.path) == "new"


async def test_what_cannot_be_read_after_the_switch_goes_back(parts: Parts, backup: Unpacked) -> None:
    """The state from before is back, accounts and settings with it; nobody was told of a change that went with it."""
    spoilt: list[bool] = []
    refused: list[str] = []
    waiting: list[asyncio.Task[object]] = []

    async def reload() -> None:
        if not spoilt:
            statement = ("UPDATE user SET phone = '1'", ())
            with pytest.raises(HeldError) as error:
                await asyncio.create_task(parts.store.apply([statement], patient=False), context=Context())
            refused.append(str(error.value))
            assign = parts.variables.assign("gWebTimeout", "44", ADA)
            waiting.append(asyncio.create_task(assign, context=Context()))  # somebody else's
        await parts.mode.reload()
        if not spoilt:
            spoilt.append(True)
            await parts.audit.note("meanwhile", ADA)
            parts.store.give_up(StoreError("the disk failed"))

    restores = Restores(replace(parts.repairs._around, reload=reload), "ucm", lambda _file: ())
    with pytest.raises(RestoreError, match="the disk failed; the state from before is back"):
        await finish(restores.begin(backup, ADA))

    assert refused == ["the database is being restored; nothing was changed; try again later"]
    assert await waiting[0] is not None
    assert await parts.store.fetch("SELECT value FROM variable WHERE name = 'gWebTimeout'") == [("44",)]
    assert parts.variables.text("gWebTimeout") == "44"
    assert (parts.store.fault, parts.mode.active) == (None, False)
    assert (await user(parts), accounts(parts)) == ("old", ["old"])
    assert state_of(parts.folder.path) == "old"
    assert left_over(parts) == set()
    assert not (parts.folder.backup / "undo").exists()
    assert parts.folder.database.stat().st_nlink == 1
    assert "new" not in parts.folder.account_file.read_text()
    await parts.audit.close()
    kept = [entry.event for entry in await parts.audit.entries(10)]
    kept.remove("variable changed")
    assert kept[-3:] == ["restore begun", "meanwhile", "restore ended"]  # the state that went has taken no entry along


@pytest.mark.parametrize(
    ("dying", "state"),
    [
        ("restore stage:die_half_way", "old"),
        ("restore switch:die_before", "old"),
        ("restore switch:die_after", "new"),
    ],
)
async def test_a_worker_that_dies_leaves_one_state(
    parts: Parts, backup: Unpacked, monkeypatch: pytest.MonkeyPatch, dying: str, state: str
) -> None:
    """A worker that is killed before the switch has changed nothing; after it, the restore is carried to its end."""
    monkeypatch.setenv("DYING", dying)
    workshop = Workshop(parts.workshop._lock, parts.log, "tests.maintenance.dying_worker")
    restores = Restores(replace(parts.repairs._around, workshop=workshop), "ucm", lambda _file: ())
    if state == "old":
        with pytest.raises(StoreError, match="ended without a result"):
            await finish(restores.begin(backup, ADA))
    else:
        await finish(restores.begin(backup, ADA))

    assert (await user(parts), accounts(parts)) == (state, [state])
    assert state_of(parts.folder.path) == state
    assert left_over(parts) == set()


async def test_a_damaged_appliance_is_restored(folder: DataFolder, backup: Unpacked) -> None:
    """In maintenance mode a restore is the way out: the damaged file is kept for an undo, which says what it is."""
    good = folder.database.read_bytes()
    folder.database.write_bytes(bytes(4096) + good[4096:])
    async with appliance(folder) as parts:
        assert parts.mode.active
        plan = await parts.restores.plan(backup, ADA)
        assert plan.outlook is not None
        assert {each.now for each in plan.outlook.tables} == {None}

        await finish(parts.restores.begin(backup, ADA))
        assert not parts.mode.active
        assert (await user(parts), accounts(parts)) == ("new", ["new"])
        with pytest.raises(DamagedDatabaseError, match="nothing was changed"):
            await finish(parts.restores.begin_undo(ADA))
        assert await user(parts) == "new"


async def test_a_lost_database_is_restored(folder: DataFolder, backup: Unpacked) -> None:
    """Where the database is gone a restore brings one; there is nothing to undo then, which is said."""
    async with appliance(folder):
        pass  # an appliance that is known to have had a database
    folder.database.unlink()
    async with appliance(folder) as parts:
        assert parts.mode.active
        await finish(parts.restores.begin(backup, ADA))
        assert await user(parts) == "new"
        with pytest.raises(RestoreError, match="is no file; nothing was changed"):
            await finish(parts.restores.begin_undo(ADA))


async def test_sessions_work_on_and_are_told(parts: Parts, backup: Unpacked) -> None:
    """Sessions read, change and are told while a restore runs; the accounts' own sessions end where those changed."""
    told: list[str] = []
    ended: list[str] = []
    parts.presence.enter(Origin("old", "telnet", "::1"), parts.clock.now(), told.append, ended.append)
    counts = {"kept": 0}

    async def work() -> None:
        while True:
            await parts.variables.assign("gCocProxyMemory", str(128 + counts["kept"] % 2), ADA)
            counts["kept"] += 1

    working = asyncio.create_task(work())
    run = parts.restores.begin(backup, ADA)
    steps = [progress.step async for progress in run.follow()]
    await finish(run)
    assert not working.done()  # nobody waited for longer than a held database may take
    working.cancel()
    await asyncio.wait([working])

    assert counts["kept"] > 5
    assert steps[0] == "Looking at the backup"
    assert steps[-1] == "Starting services"
    assert told[0] == "a restore was begun by ada"
    assert told[-1] == "the restore has ended: backup.zip is in place"
    assert ended == ["the accounts were restored from a backup"]


async def test_a_start_removes_what_was_left(folder: DataFolder) -> None:
    """Parts of archives and unfinished recordings that a killed process has left are gone after the next start."""
    unpacked = unpacked_of(folder.database) / "1"
    unpacked.mkdir(parents=True)
    (unpacked / "database.db").touch()
    (folder.media / f".making-{'0' * 64}").touch()
    (folder.media / ("0" * 64)).touch()
    list_of(folder.database).write_text(f"{'0' * 64}\n")
    async with appliance(folder):
        assert not unpacked.parent.exists()
        assert list(folder.media.iterdir()) == []
        assert not list_of(folder.database).exists()


async def test_one_at_a_time(parts: Parts, backup: Unpacked) -> None:
    """A second restore is refused while one runs, and a repair as well."""
    run = parts.restores.begin(backup, ADA)
    with pytest.raises(UsageError, match="a restore is running already"):
        parts.restores.begin_undo(ADA)
    await asyncio.sleep(0)
    with pytest.raises(UsageError, match="nothing was changed; try again later"):
        parts.repairs.begin(ADA)
    await finish(run)


async def test_a_restore_that_is_cut_off_leaves_the_old_state(parts: Parts, backup: Unpacked) -> None:
    """The server's end in the middle of the new state's making changes nothing."""
    begun = asyncio.Event()

    run = parts.restores.begin(backup, ADA)

    async def watch() -> None:
        async for progress in run.follow():
            if progress.step.startswith("Checking"):
                begun.set()

    watching = asyncio.create_task(watch())
    await begun.wait()
    await parts.restores.close()
    await watching

    assert (await user(parts), accounts(parts)) == ("old", ["old"])
    assert state_of(parts.folder.path) == "old"
    assert left_over(parts) == set()


def _spoil(backup: Unpacked) -> Unpacked:
    data = bytearray(backup.database.read_bytes())
    data[4096 * 3 : 4096 * 4] = bytes(4096)
    backup.database.write_bytes(data)
    return backup


def _other_edition(backup: Unpacked) -> Unpacked:
    return replace(backup, edition="one")


def _wrong_settings(backup: Unpacked) -> Unpacked:
    assert backup.settings is not None
    backup.settings.write_text("[telnet]\necho = 'x'\n")
    return backup


def _no_settings(backup: Unpacked) -> Unpacked:
    assert backup.settings is not None
    backup.settings.write_bytes(b"\xff")
    return backup


def _nested_settings(backup: Unpacked) -> Unpacked:
    assert backup.settings is not None
    backup.settings.write_text(f"a = {'[' * 9000}{']' * 9000}")
    return backup


def _long_settings(backup: Unpacked) -> Unpacked:
    assert backup.settings is not None
    with backup.settings.open("wb") as stream:
        stream.truncate(1 << 40)  # whoever reads it has no memory left
    return backup


def _other_edition_by_settings(backup: Unpacked) -> Unpacked:
    assert backup.settings is not None
    backup.settings.write_text("[appliance]\nedition = 'one'\n")
    return backup


def _no_room(backup: Unpacked) -> Unpacked:
    assert backup.recordings is not None
    with (backup.recordings / ("0" * 64)).open("wb") as stream:
        stream.truncate(1 << 42)  # a hole: it takes no room here
    return backup


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (_spoil, DamagedDatabaseError, "the database in backup 'backup.zip' is not sound: "),
        (_other_edition, RestoreError, "is of edition one, this appliance is of edition ucm; nothing was changed"),
        (_wrong_settings, RestoreError, "no server would start with callisto.toml of the backup: telnet.echo: "),
        (_no_settings, RestoreError, "no server would start with callisto.toml of the backup: not TOML: "),
        (_nested_settings, RestoreError, "of the backup: not TOML: maximum recursion depth exceeded"),
        (_long_settings, RestoreError, "callisto.toml in the backup is no file of at most 1 MiB; nothing was changed"),
        (_other_edition_by_settings, RestoreError, "of the backup: appliance.edition is one, here it is ucm; 'keep-"),
        (_no_room, DiskFullError, "no room for a restore: "),
    ],
)
async def test_what_cannot_be_restored_stops_nothing(
    parts: Parts, backup: Unpacked, make: object, kind: type[CallistoError], text: str
) -> None:
    """What is wrong with a backup is said in one line, before any service stops, and nothing has changed."""
    assert callable(make)
    backup = make(backup)
    paused: list[str] = []

    @asynccontextmanager
    async def pause(reason: str) -> AsyncIterator[None]:
        paused.append(reason)
        yield

    restores = Restores(replace(parts.repairs._around, pause=pause), "ucm", parts.restores._planning._settings_faults)
    with pytest.raises(kind) as raised:
        await finish(restores.begin(backup, ADA))

    assert text in str(raised.value)
    assert "\n" not in str(raised.value)
    assert paused == []
    assert await user(parts) == "old"
    assert state_of(parts.folder.path) == "old"
    assert left_over(parts) == set()
