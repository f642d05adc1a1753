"""Backups on a schedule, with real archives, a real SFTP server and real folders."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr

from callisto_telnetd import __version__
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.errors import BackupError, BackupScheduleError, FolderError, HostKeyUnknownError, TransferError
from callisto_telnetd.maintenance.backup_schedules import FILE_NAME, BackupSchedule, make_schedule
from callisto_telnetd.maintenance.backups import VERSION_STATE
from callisto_telnetd.menus.answers import Fact
from callisto_telnetd.menus.backup_schedule import show
from callisto_telnetd.menus.context import Context, Parts
from callisto_telnetd.origin import SYSTEM
from tests.maintenance.test_maintenance_mode import appliance
from tests.transports.sites import PASSWORD, Typeless, asyncssh_site

DAILY = "127,02:00"


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder without a database."""
    folder = DataFolder(tmp_path / "data")
    folder.make()
    return folder


@pytest.fixture
async def parts(folder: DataFolder) -> AsyncIterator[Parts]:
    """An appliance."""
    async with appliance(folder) as parts:
        yield parts


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder of this machine that takes backups."""
    target = tmp_path / "target"
    target.mkdir()
    return target


def schedule(target: object, **more: Any) -> BackupSchedule:
    """Return a schedule by the name of nightly."""
    return make_schedule(**{"name": "nightly", "plan": DAILY, "target": str(target), **more})


def move(parts: Parts, hours: int) -> None:
    """Set the appliance's clock."""
    parts.clock.move_to(parts.clock.parse_moment(f"2026-11-{23 + hours // 24} {hours % 24:02}:00:00"))


async def test_a_run_brings_a_backup_to_its_target(parts: Parts, target: Path) -> None:
    """The target has the very archive that is here; the outcome is kept and shown."""
    await parts.backup_runs.add(schedule(target), SYSTEM)
    outcome = await parts.backup_runs.run("nightly", SYSTEM)

    (there,) = target.iterdir()
    assert there.name == outcome.archive
    assert there.read_bytes() == (parts.folder.backup / there.name).read_bytes()
    assert (outcome.failed, parts.backup_runs.outcome("nightly")) == (False, outcome)


async def test_schedules_and_outcomes_survive_the_server(folder: DataFolder, target: Path) -> None:
    """The next server knows them, and has them on its schedule."""
    async with appliance(folder) as parts:
        await parts.backup_runs.add(schedule(target, keep_last=3), SYSTEM)
        outcome = await parts.backup_runs.run("nightly", SYSTEM)
    async with appliance(folder) as parts:
        assert parts.backup_runs.all() == [schedule(target, keep_last=3)]
        assert parts.backup_runs.outcome("nightly") == outcome
        assert parts.schedule.next_of("backup schedule nightly") is not None


async def test_a_failure_stands_until_a_run_succeeds(parts: Parts, target: Path) -> None:
    """It is shown at every prompt, also after the next start; the archive that was made stays here."""
    target.rmdir()
    await parts.backup_runs.add(schedule(target), SYSTEM)
    with pytest.raises(TransferError):
        await parts.backup_runs.run("nightly", SYSTEM)

    (text,) = parts.presence.standing()
    assert text.startswith("backup nightly of ")
    assert "No such file or directory" in text
    assert len(parts.backups.names()) == 1
    target.mkdir()
    await parts.backup_runs.run("nightly", SYSTEM)
    assert parts.presence.standing() == []


async def test_a_run_that_is_cut_off_is_a_failure(folder: DataFolder, target: Path) -> None:
    """The next server tells it, whether or not this one had the time to; the last good one stays known."""
    async with appliance(folder) as parts:
        await parts.backup_runs.add(schedule(target), SYSTEM)
        good = await parts.backup_runs.run("nightly", SYSTEM)
        under_way = asyncio.Event()
        task = asyncio.create_task(parts.backup_runs.run("nightly", SYSTEM, lambda _progress: under_way.set()))
        await under_way.wait()
        left = (folder.path / "backup-schedules.json").read_bytes()
        assert parts.backup_runs.outcome("nightly") == good
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (text,) = parts.presence.standing()
        assert "failed: it was stopped before its end" in text
    (folder.path / "backup-schedules.json").write_bytes(left)
    async with appliance(folder, serving=True) as parts:
        async with asyncio.timeout(20):
            while (outcome := parts.backup_runs.outcome("nightly")) is None or outcome.text.startswith("it was"):
                await asyncio.to_thread(lambda: None)
        assert outcome.text == "the server had stopped before its end"
    async with appliance(folder, serving=True) as parts:  # which has nothing new to tell
        assert parts.backup_runs.outcome("nightly") == outcome
        assert (outcome.failed, outcome.archive) == (True, good.archive)
        assert len(parts.presence.standing()) == 1
        await parts.backup_runs.run("nightly", SYSTEM)
        assert parts.presence.standing() == []


async def test_a_backup_with_doubtful_rows_is_delivered_and_is_no_good_one(parts: Parts, target: Path) -> None:
    """The run brings it to its target and fails all the same, until a repair has set the rows apart; so does a test."""
    await parts.backup_runs.add(schedule(target), SYSTEM)
    await parts.store.apply([("INSERT INTO user VALUES (7, ?, '')", ("a\nb",))])
    said = r"but a restore sets apart 1 row \(user: 1\) of it, first user 7: name is not one line of 0 to 200 char"
    with pytest.raises(BackupError, match=f"a backup can be made, {said}"):
        await parts.backup_runs.test("nightly")
    with pytest.raises(BackupError, match=rf"\.zip delivered to file://{target}, {said}"):
        await parts.backup_runs.run("nightly", SYSTEM)

    (listed,) = await parts.backups.list()
    assert [path.name for path in target.iterdir()] == [listed.path.name]
    assert listed.known.doubtful == "1"
    assert await parts.backups.last_good() is None
    outcome = parts.backup_runs.outcome("nightly")
    assert outcome is not None
    assert (outcome.failed, outcome.archive) == (True, "")
    assert len(parts.presence.standing()) == 1
    assert await parts.self_check.run("full") == ["user 7: name is not one line of 0 to 200 characters"]
    run = parts.repairs.begin(SYSTEM)
    assert run.task is not None
    assert (await run.task).quarantined == 1
    await parts.backup_runs.test("nightly")
    await parts.backup_runs.run("nightly", SYSTEM)
    assert parts.presence.standing() == []


async def test_the_schedule_runs_it(parts: Parts, target: Path) -> None:
    """When its time has come the appliance's schedule makes it, without anybody."""
    move(parts, 1)
    await parts.backup_runs.add(schedule(target), SYSTEM)
    parts.schedule.view()
    parts.schedule.start()
    move(parts, 3)
    async with asyncio.timeout(20):
        while parts.backup_runs.outcome("nightly") is None:
            await asyncio.to_thread(lambda: None)

    assert len(list(target.iterdir())) == 1


async def test_older_ones_go_and_nobody_elses(parts: Parts, target: Path) -> None:
    """Only names of ours and of this host go at the target; here only what the schedule has made."""
    others = ["callisto-other-20200101-000000.zip", "notes.txt", "callisto-callisto-20200101-000000.zip.part"]
    for name in others:
        (target / name).write_bytes(b"x")
    (target / "callisto-callisto-20200101-000000.zip").write_bytes(b"old")
    (target / f"callisto-callisto-20200101-000000.zip.part-{'0' * 16}").write_bytes(b"half")
    by_hand = await parts.backups.create(SYSTEM, password=None, note="schedule nightly", told=lambda _progress: None)
    await parts.backup_runs.add(schedule(target, keep_last=2), SYSTEM)
    made = []
    for hours in (24, 25, 26):
        move(parts, hours)
        made.append((await parts.backup_runs.run("nightly", SYSTEM)).archive)

    assert sorted(path.name for path in target.iterdir()) == sorted([*others, *made[1:]])
    assert sorted(parts.backups.names()) == sorted([by_hand["file"], *made[1:]])
    outcome = parts.backup_runs.outcome("nightly")
    assert outcome is not None
    assert outcome.text.endswith("; older removed: 1 there, 1 here")


async def test_a_copy_that_went_is_listed_no_more(parts: Parts, target: Path) -> None:
    """What another schedule lets go at a target that both share is not said to be there any longer."""
    await parts.backup_runs.add(schedule(target), SYSTEM)
    await parts.backup_runs.add(schedule(target, name="weekly", keep_last=1), SYSTEM)
    made = []
    for hours, name in ((24, "nightly"), (25, "nightly"), (26, "weekly")):
        move(parts, hours)
        made.append((await parts.backup_runs.run(name, SYSTEM)).archive)
    listed = {each.path.name: each.known.target for each in await parts.backups.list()}

    assert sorted(path.name for path in target.iterdir()) == sorted(made[1:])
    assert listed == {made[0]: "", made[1]: f"file://{target}", made[2]: f"file://{target}"}


async def test_a_target_that_fails_does_not_fill_this_disk(parts: Parts, target: Path) -> None:
    """Night after night no more stay here than the schedule says, and the last one that arrived."""
    await parts.backup_runs.add(schedule(target, keep_last=2), SYSTEM)
    arrived = (await parts.backup_runs.run("nightly", SYSTEM)).archive
    (target / arrived).unlink()
    target.rmdir()
    for hours in (24, 25, 26, 27):
        move(parts, hours)
        with pytest.raises(TransferError):
            await parts.backup_runs.run("nightly", SYSTEM)

    assert len(parts.backups.names()) == 3
    assert arrived in parts.backups.names()


async def test_a_target_is_proved_whatever_was_left_here(parts: Parts, target: Path) -> None:
    """Two at a time, and where a killed server has left its small file; nothing stays, here or there."""
    (parts.folder.backup / ".making-trial-00000000.txt").touch()
    parts.backup_runs.open()
    await parts.backup_runs.add(schedule(target), SYSTEM)
    await asyncio.gather(*(parts.backup_runs.test("nightly") for _ in range(3)))

    assert (list(target.iterdir()), list(parts.folder.backup.iterdir())) == ([], [])


async def test_no_room_for_the_small_file_is_said(parts: Parts, target: Path) -> None:
    """One line; nothing was sent."""
    await parts.backup_runs.add(schedule(target), SYSTEM)
    parts.folder.backup.rmdir()

    with pytest.raises(FolderError, match="cannot be written: No such file or directory; nothing was sent"):
        await parts.backup_runs.test("nightly")
    assert list(target.iterdir()) == []


async def test_a_host_key_is_accepted_once(parts: Parts, tmp_path: Path) -> None:
    """The first test shows it and sends nothing; once it is accepted, tests and runs go through."""
    (tmp_path / "sftp").mkdir()
    async with asyncssh_site(tmp_path / "sftp") as site:
        await parts.backup_runs.add(schedule(site.target, target_password=SecretStr(PASSWORD)), SYSTEM)
        with pytest.raises(HostKeyUnknownError) as raised:
            await parts.backup_runs.test("nightly")
        assert (site.passwords, site.files()) == ([], {})

        await parts.backup_runs.accept("nightly", raised.value.key_line, SYSTEM)
        await parts.backup_runs.test("nightly")
        assert site.files() == {}
        archive = (await parts.backup_runs.run("nightly", SYSTEM)).archive
        assert list(site.files()) == [archive]
        context = cast("Context", SimpleNamespace(parts=parts))
        (shown,) = [each async for each in show(context, ["nightly"]) if isinstance(each, Fact)]
        assert f"Host key: {raised.value.key_line} ({raised.value.fingerprint})" in shown.lines
        assert shown.data["host_key_fingerprint"] == raised.value.fingerprint


async def test_older_ones_go_where_listings_tell_no_types(parts: Parts, tmp_path: Path) -> None:
    """At an SFTP server that never says what a file is, a schedule keeps what it should, there as here."""
    (tmp_path / "sftp").mkdir()
    async with asyncssh_site(tmp_path / "sftp", server=Typeless) as site:
        await parts.backup_runs.add(schedule(site.target, target_password=SecretStr(PASSWORD), keep_last=1), SYSTEM)
        await parts.backup_runs.accept("nightly", str(site.credentials.host_key), SYSTEM)
        outcomes = []
        for hours in (24, 25):
            move(parts, hours)
            outcomes.append(await parts.backup_runs.run("nightly", SYSTEM))

        assert list(site.files()) == [outcomes[1].archive]
        assert outcomes[1].text.endswith("older removed: 1 there, 1 here")


async def test_what_cannot_be_done_changes_nothing(parts: Parts, target: Path) -> None:
    """A name that is taken, one that is not known, a run beside another: one clear line each."""
    runs = parts.backup_runs
    await runs.add(schedule(target), SYSTEM)
    with pytest.raises(BackupScheduleError, match="there is a backup schedule nightly already"):
        await runs.add(schedule(target, keep_last=9), SYSTEM)
    for call in (runs.test("nosuch"), runs.run("nosuch", SYSTEM), runs.remove("nosuch", SYSTEM)):
        with pytest.raises(BackupScheduleError, match="no backup schedule 'nosuch': nightly"):
            await call
    first = asyncio.ensure_future(runs.run("nightly", SYSTEM))
    await asyncio.sleep(0)
    with pytest.raises(BackupScheduleError, match="runs already"):
        await runs.run("nightly", SYSTEM)
    with pytest.raises(BackupScheduleError, match="runs just now"):
        await runs.remove("nightly", SYSTEM)
    await first
    await runs.remove("nightly", SYSTEM)

    assert runs.all() == []
    assert len(list(target.iterdir())) == 1
    with pytest.raises(LookupError):
        parts.schedule.next_of("backup schedule nightly")


async def test_a_file_that_is_none_is_told_and_left(folder: DataFolder, target: Path) -> None:
    """The server starts; nothing runs, nothing is written over it, and a notice says so."""
    file = folder.path / "backup-schedules.json"
    file.write_bytes(b"{")
    async with appliance(folder) as parts:
        assert parts.presence.standing()[0].startswith("no backup runs on a schedule: ")
        with pytest.raises(BackupScheduleError, match="mend or remove it first"):
            await parts.backup_runs.add(schedule(target), SYSTEM)

    assert file.read_bytes() == b"{"


async def test_a_schedule_that_cannot_be_kept_is_none(parts: Parts, target: Path) -> None:
    """Where the file cannot be written, the schedule is not there either."""
    (parts.folder.path / "backup-schedules.json.making").mkdir()
    with pytest.raises(FolderError):
        await parts.backup_runs.add(schedule(target), SYSTEM)

    assert parts.backup_runs.all() == []


async def test_an_update_asks_for_a_backup_until_there_is_one(folder: DataFolder) -> None:
    """The first start asks for none; a later version's does, at each start, until it has made one."""
    async with appliance(folder) as parts:
        assert parts.presence.standing() == []
        await parts.store.set_state(VERSION_STATE, "0.9.0")
    for _ in range(2):
        async with appliance(folder) as parts:
            (text,) = parts.presence.standing()
            assert text.startswith(f"version {__version__} has no backup yet, and those of 0.9.0 may not fit it")
    async with appliance(folder) as parts:
        await parts.backups.create(SYSTEM, password=None, note="", told=lambda _progress: None)
        assert parts.presence.standing() == []
    async with appliance(folder) as parts:
        assert parts.presence.standing() == []


@pytest.mark.parametrize("step", range(6))
async def test_a_change_goes_on_where_its_caller_is_gone(parts: Parts, target: Path, step: int) -> None:
    """Whenever the connection is lost, what is on the disk, in memory and on the schedule is the same."""
    runs = parts.backup_runs

    async def cut_off(change: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(change)
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        await runs.close()
        stored = json.loads((parts.folder.path / FILE_NAME).read_bytes()) if runs.all() else {"schedules": []}
        names = [each.name for each in runs.all()]
        assert [each["name"] for each in stored["schedules"]] == names
        assert [job.name for job in parts.schedule.view() if job.name.startswith("backup ")] == [
            f"backup {name}" for name in names
        ]

    await runs.add(schedule(target), SYSTEM)
    await cut_off(runs.add(schedule(target, name="second"), SYSTEM))
    await cut_off(runs.accept("nightly", "ssh-ed25519 AAAA", SYSTEM))
    await cut_off(runs.remove("nightly", SYSTEM))


async def test_a_run_by_hand_is_the_last_run(parts: Parts, target: Path) -> None:
    """The appliance's schedule tells of it, failed or not, and still runs it at its time."""
    await parts.backup_runs.add(schedule(target), SYSTEM)
    outcome = await parts.backup_runs.run("nightly", SYSTEM)
    (job,) = (job for job in parts.schedule.view() if job.name == "backup nightly")
    assert job.last is not None
    assert (job.last.begun, job.last.failed, job.last.text) == (outcome.at, False, outcome.text)
    planned = job.next_at

    shutil.rmtree(target)
    with pytest.raises(TransferError):
        await parts.backup_runs.run("nightly", SYSTEM)
    (job,) = (job for job in parts.schedule.view() if job.name == "backup nightly")
    assert job.last is not None
    assert job.last.failed
    assert "No such file or directory" in job.last.text
    assert job.next_at == planned
