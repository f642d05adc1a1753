"""The operations of backups on a real appliance without listeners: what they return, keep, refuse and leave behind."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from callisto_telnetd.assembly import open_parts
from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.schema import MOST_STATE
from callisto_telnetd.errors import BackupError, BackupPasswordError, StoreError, UsageError
from callisto_telnetd.maintenance import look_up
from callisto_telnetd.maintenance.backup_password import (
    LONGEST_PASSWORD,
    SHORTEST_PASSWORD,
    generate_password,
    require_password,
)
from callisto_telnetd.maintenance.backups import (
    BACKUP_STATE,
    require_no_doubtful,
)
from callisto_telnetd.maintenance.known_backups import Known, LastGood, format_state, parse_state
from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.menus.progress import Pace
from callisto_telnetd.origin import Origin
from callisto_telnetd.settings import Settings

ADA = Origin("ada", "local", "local")
PASSWORD = "correct horse battery"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    """The appliance of a new folder, without listeners; Python's logging gets back what was changed of it."""
    root, library = logging.getLogger(), logging.getLogger("telnetlib3")
    before = root.handlers[:], root.level, library.level
    folder = DataFolder(tmp_path / "data")
    folder.make()
    (folder.backup / ".making-backup.zip").write_bytes(b"of a killed server")
    with folder.lock() as lock:
        async with open_parts(Settings(), folder, lock, serving=False) as parts:
            yield parts
    root.handlers[:], root.level, library.level = before
    logging.captureWarnings(capture=False)


def ignore(_progress: Progress) -> None:
    """Take no notice."""


async def test_a_backup_is_made_listed_verified_and_deleted(parts: Parts) -> None:
    """What one operation does the next one knows; each is in the audit, and the password is nowhere."""
    backups = parts.backups
    steps: list[str] = []
    made = await backups.create(ADA, password=PASSWORD, note="one", told=lambda told: steps.append(told.step))
    (listed,) = await backups.list()

    assert listed.path.name == made["file"]
    assert (listed.protected, listed.known.version, listed.known.note) == (True, parts.identity.version, "one")
    assert listed.size_bytes == made["bytes"]
    assert steps[0] == "Copying the database"
    last = await backups.last_good()
    assert last is not None
    assert (last.file, last.version) == (made["file"], parts.identity.version)

    found = await backups.verify(ADA, made["file"], password=PASSWORD, told=ignore)
    assert (found["host"], found["note"], found["secrets"]) == ("callisto", "one", True)
    assert (await backups.list())[0].known.verified > listed.known.verified
    await backups.delete(ADA, made["file"])
    assert await backups.list() == []
    events = [entry.event for entry in await parts.audit.entries(10)]
    assert [event for event in events if "backup" in event] == ["backup made", "backup verified", "backup deleted"]
    for path in parts.folder.path.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


async def test_what_a_killed_server_left_is_removed_at_the_start(parts: Parts) -> None:
    """The unfinished archive that lay there is gone."""
    assert list(parts.folder.backup.iterdir()) == []


@pytest.mark.parametrize(
    "password", ["", "short", "x" * (LONGEST_PASSWORD + 1), "ä" * 50, "with\nanother line", "\udcff" * 12]
)
def test_a_password_outside_the_rule_is_refused(password: str) -> None:
    """Too short, too long for 7-Zip, not printable: the rule is said, the password never."""
    with pytest.raises(UsageError, match="12 to 99 printable characters") as refused:
        require_password(password)
    assert not password or password not in str(refused.value)


def test_a_generated_password_is_within_the_rule_and_new() -> None:
    """No two are the same."""
    made = {generate_password() for _ in range(50)}
    for each in made:
        require_password(each)
    assert len(made) == 50
    require_password("x" * SHORTEST_PASSWORD)


async def test_one_at_a_time_works_on_the_database(parts: Parts) -> None:
    """While somebody checks or repairs it, every operation that needs it is refused at once."""
    made = await parts.backups.create(ADA, password=None, note="", told=ignore)
    async with parts.repairing.held("bob", "repairs the database"):
        for refused in (
            parts.backups.create(ADA, password=None, note="", told=ignore),
            parts.backups.verify(ADA, made["file"], password=None, told=ignore),
            parts.backups.delete(ADA, made["file"]),
        ):
            with pytest.raises(
                UsageError, match=r"^bob repairs the database, \d s so far; nothing was changed; try again later"
            ):
                await refused
        assert len(await parts.backups.list()) == 1


async def test_a_caller_who_goes_away_leaves_nothing(parts: Parts) -> None:
    """A cancelled operation ends the worker; no file is left, and the next one works."""
    begun = asyncio.Event()
    work = asyncio.create_task(
        parts.backups.create(ADA, password=PASSWORD, note="", told=lambda _progress: begun.set())
    )
    await begun.wait()
    work.cancel()
    await asyncio.wait((work,))

    assert work.cancelled()
    assert list(parts.folder.backup.iterdir()) == []
    assert not parts.repairing.locked()
    await parts.backups.create(ADA, password=None, note="", told=ignore)


async def test_a_wrong_password_and_a_damaged_file_are_said(parts: Parts) -> None:
    """Each by its own error; what is known of the archive stays."""
    made = await parts.backups.create(ADA, password=PASSWORD, note="", told=ignore)
    path = parts.folder.backup / made["file"]
    with pytest.raises(BackupPasswordError, match="the password is wrong"):
        await parts.backups.verify(ADA, path.name, password="another password", told=ignore)
    whole = bytearray(path.read_bytes())
    whole[-200] ^= 1
    path.write_bytes(whole)
    with pytest.raises(BackupError, match="its seal is broken"):
        await parts.backups.verify(ADA, path.name, password=PASSWORD, told=ignore)


async def test_a_database_that_cannot_be_used_is_not_backed_up(parts: Parts) -> None:
    """The reason is the database's own; the archives are still listed."""
    parts.store.give_up(StoreError("it is damaged"))
    with pytest.raises(BackupError, match="only a sound database can be backed up: it is damaged"):
        await parts.backups.create(ADA, password=None, note="", told=ignore)
    assert await parts.backups.list() == []


@pytest.mark.parametrize(
    "state",
    [
        "",
        "[]",
        "{",
        '{"known":{},"last":{"file":"x"}}',
        '{"known":{"x":{"made":7}},"last":null}',
        '{"known":{},"last":{"file":"a","at":"yesterday","version":"1"}}',
        '{"known":7,"last":null}',
        '{"known":{},"last":7}',
    ],
)
async def test_a_state_that_is_nonsense_counts_as_none(parts: Parts, state: str) -> None:
    """Whatever stands there, the operations work and write it anew."""
    await parts.store.set_state(BACKUP_STATE, state)

    assert await parts.backups.last_good() is None
    made = await parts.backups.create(ADA, password=None, note="", told=ignore)
    assert list(orjson.loads(await parts.store.get_state(BACKUP_STATE) or "")["known"]) == [made["file"]]


async def test_a_file_of_our_name_that_is_none_is_listed_as_that(parts: Parts) -> None:
    """Its name is of the pattern; what it is inside is said, and it can be deleted."""
    name = "callisto-other-20260101-000000.zip"
    (parts.folder.backup / name).write_bytes(b"nonsense")
    (listed,) = await parts.backups.list()

    assert listed.protected is None
    await parts.backups.delete(ADA, name)
    assert await parts.backups.list() == []


def test_progress_is_told_with_rate_and_rest() -> None:
    """A line at the beginning of a step, then one a second: how far, how fast, how long it still takes."""
    now = 100.0
    pace = Pace(lambda: now)
    assert pace.line(Progress("Writing", 0, 200 << 20)) == "Writing …"
    now += 0.5
    assert pace.line(Progress("Writing", 25 << 20, 200 << 20)) is None
    now += 0.5
    assert pace.line(Progress("Writing", 50 << 20, 200 << 20)) == "Writing: 25 % done, 50.0 MiB/s, 4 s left"
    now += 0.1
    assert pace.line(Progress("Writing", 60 << 20, 200 << 20)) is None
    assert pace.line(Progress("Verifying", 0, 0)) == "Verifying …"


async def test_what_is_known_of_many_archives_has_its_bound(parts: Parts) -> None:
    """However much there is to know, the newest of it is kept; what is kept is read, and no fault of the database."""
    known = {f"callisto-{'h' * 60}-{number}.zip": Known(note='"' * 100, target="ü" * 300) for number in range(1000)}
    text = format_state(known, LastGood("x.zip", "2026-11-23T10:15:00+01:00", "1.0.0"))
    await parts.store.set_state(BACKUP_STATE, text)

    kept, last = parse_state(text)
    assert list(kept) == list(known)[: len(kept)]
    assert MOST_STATE - 1000 < len(text) <= MOST_STATE
    assert last is not None
    assert await parts.self_check.run("full") == []
    with pytest.raises(StoreError, match="has 200001 characters, at most 200000; nothing was changed"):
        await parts.store.set_state(BACKUP_STATE, "x" * (MOST_STATE + 1))
    assert await parts.store.get_state(BACKUP_STATE) == text


def test_doubtful_rows_are_told_also_where_nothing_says_why() -> None:
    """The refusal names how many there are, and the first fault only where there is one."""
    with pytest.raises(BackupError, match=r"^a\.zip was made, but a restore sets apart 1 row \(user: 1\) of it; 'x'$"):
        require_no_doubtful(Doubtful({"user": 1}), "a.zip was made", "'x'")


async def test_what_is_known_stays_where_the_folder_cannot_be_read(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of the archives is not forgotten for a passing error, nor for one file that cannot be read."""
    made = await parts.backups.create(ADA, password=None, note="", told=ignore, schedule="nightly")
    bad = parts.folder.backup / "renamed.zip"
    (parts.folder.backup / made["file"]).rename(bad)
    await parts.backups.note_delivery("renamed.zip", "there")
    state, read = await parts.store.get_state(BACKUP_STATE), os.open

    def fail(path: Any, *_more: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as disk:
        disk.setattr(os, "scandir", fail)
        disk.setattr(os, "listdir", fail)
        await parts.backups.note_delivery("other.zip", "somewhere")
    assert await parts.store.get_state(BACKUP_STATE) == state
    with monkeypatch.context() as disk:
        disk.setattr(os, "open", lambda path, *more: fail(path) if Path(path) == bad else read(path, *more))
        await parts.backups.note_delivery("other.zip", "somewhere")
    assert await parts.store.get_state(BACKUP_STATE) == state


async def test_a_path_whose_disk_does_not_answer_stops_nobody_else(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who has named it gets one line at the deadline; meanwhile the appliance answers others."""
    resolve, released = Path.resolve, threading.Event()

    def hang(self: Path, strict: bool = False) -> Path:
        released.wait(30)
        return resolve(self, strict)

    place = str(tmp_path / "hung.zip")
    with monkeypatch.context() as disk:
        disk.setattr(Path, "resolve", hang)
        disk.setattr(look_up, "_DEADLINE_S", 0.5)
        looks: list[Coroutine[Any, Any, object]] = [parts.backups.require(place), parts.backups.is_protected(place)]
        looks.append(parts.backups.verify(ADA, place, password=None, told=ignore))
        tasks = [asyncio.create_task(look) for look in looks]
        assert await parts.backups.list() == []
        assert not any(task.done() for task in tasks)
        for task in tasks:
            with pytest.raises(BackupError, match=r"cannot be looked at: its disk does not answer within 0\.5 s"):
                await task
        released.set()
