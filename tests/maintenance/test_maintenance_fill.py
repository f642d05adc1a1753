"""What a repair has lost is taken out of a backup: offered with its age, asked for, and only what was lost."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.known_damage import file_damage, identity_of
from callisto_telnetd.db.salvage.report import LOST_STATE
from callisto_telnetd.errors import DamagedDatabaseError
from callisto_telnetd.maintenance.fill import Source
from callisto_telnetd.maintenance.fill_job import fill_job, look_job
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.origin import Origin
from callisto_telnetd.terminal.command_door import CommandDoor, Frame, Request, run_command
from tests.db.forms import Form
from tests.db.plausible import Plausible
from tests.maintenance.test_maintenance_mode import appliance

ADA = Origin("ada", "local", "local")
PASSWORD = "correct horse battery"
AT = "2026-11-23T10:15:00+01:00"
FILLED = (
    "Error: what the last repair has lost is filled up, or another database has taken the place of the repaired one;"
    " nothing was changed"
)
RECORDING = b"a voice message"
HASH = hashlib.sha256(RECORDING).hexdigest()


async def run(
    parts: Parts, *words: str, secrets: Sequence[str] = (PASSWORD,), answer: str = "", leaves_at: str = ""
) -> tuple[int, list[str]]:
    """Run a command line, answer its question, and return its exit code and what it prints.

    Where a line is named to leave at, the caller is gone then: the code is -1.
    """
    printed: list[str] = []

    def show(frame: Frame) -> None:
        printed.append(frame.text)
        if frame.text == leaves_at:
            running.cancel()

    async def ask(question: str, _secret: bool) -> str:
        assert answer, question
        return answer

    async def drain() -> None:
        pass

    request = Request(list(words), secrets=tuple(secrets), terminal=bool(answer))
    running = asyncio.create_task(run_command(parts, ADA, CommandDoor(request, show, ask, drain)))
    await asyncio.wait([running])
    return (-1 if running.cancelled() else running.result()), printed


async def populate(parts: Parts) -> None:
    """Give the appliance users with mailboxes, a message and a thousand calls, and a variable that was changed."""
    (parts.folder.media / HASH).write_bytes(RECORDING)
    numbers = range(100, 400)
    await parts.store.apply(
        [("INSERT INTO user VALUES (?, ?, '')", (number, f"user {number} {'x' * 100}")) for number in numbers]
        + [("INSERT INTO mailbox VALUES (?, '', 'de', 600)", (number,)) for number in numbers]
        + [
            ("INSERT INTO message VALUES (?, ?, 'voice', ?, '', 1, 0, ?, '')", (number, number, AT, HASH))
            for number in numbers
        ]
        + [
            ("INSERT INTO call_record VALUES (?, ?, 'a caller', 'the called', NULL, 'busy', 1, 1)", (number, AT))
            for number in range(1, 1001)
        ]
    )
    await parts.variables.assign("gWebTimeout", "33", ADA)


def wipe_leaves_with(file: Path, *texts: bytes) -> None:
    """Zero each leaf of a table that holds one of the texts."""
    data = bytearray(file.read_bytes())
    for at in range(4096, len(data), 4096):
        if data[at] == 0x0D and any(text in data[at : at + 4096] for text in texts):
            data[at : at + 4096] = bytes(4096)
    file.write_bytes(data)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder without a database."""
    folder = DataFolder(tmp_path / "data")
    folder.make()
    return folder


async def test_the_lost_rows_come_back_and_no_others(folder: DataFolder) -> None:
    """A repair names the newest archive; the fill takes what is lost, and leaves what has changed since."""
    async with appliance(folder) as parts:
        await populate(parts)
        code, printed = await run(parts, "backup", "create")
        assert code == 0, printed
        name = printed[-1].split()[2]
        tables = ("user", "message", "call_record")
        before = {table: await parts.store.fetch(f"SELECT * FROM {table}") for table in tables}
        await parts.store.apply(
            [
                ("UPDATE user SET name = 'renamed since' WHERE number = 399", ()),
                ("UPDATE mailbox SET language = 'fr' WHERE number = 399", ()),
            ]
        )
    (folder.media / HASH).unlink()
    wipe_leaves_with(folder.database, b"user 150 ", b"user 120 ")
    async with appliance(folder) as parts:
        code, printed = await run(parts, "repair", "yes")
        assert code == 0, printed
        (offered,) = (line for line in printed if line.startswith(f"Newest good backup: {name}, "))
        assert offered.endswith(f" ago; 'backup restore {name}' puts all of it in place instead")
        assert f"'repair fill {name}' takes the lost rows out of it, and only those" in printed
        lost = await parts.store.fetch("SELECT number FROM user WHERE name GLOB 'recovered *'")
        assert len(lost) > 20

        code, printed = await run(parts, "repair", "fill", name, "yes")
        assert code == 0, printed
        assert printed[-1] == f"OK {len(lost)} rows taken out of {name} (user: {len(lost)})"
        now = {table: await parts.store.fetch(f"SELECT * FROM {table}") for table in before}
        assert now["user"] == [row if row[0] != 399 else (399, "renamed since", "") for row in before["user"]]
        assert (now["message"], now["call_record"]) == (before["message"], before["call_record"])
        assert (await parts.store.fetch("SELECT language FROM mailbox WHERE number = 399")) == [("fr",)]
        assert [entry.event for entry in await parts.audit.entries(5)][-1] == "lost rows taken"
        assert await parts.self_check.run("full") == []

        await parts.store.apply([("DELETE FROM call_record WHERE id < 21", ())])
        code, printed = await run(parts, "repair", "fill", "yes")
        assert (code, printed) == (2, [FILLED])


async def test_deleted_rows_come_back_at_most_after_a_warning(folder: DataFolder) -> None:
    """Where a backup has more than was lost, 'yes' is no answer; a newer backup, or another database, is refused."""
    async with appliance(folder) as parts:
        await populate(parts)
        name = (await run(parts, "backup", "create"))[1][-1].split()[2]
        await parts.store.apply([("DELETE FROM call_record WHERE id > 990", ())])
    wipe_leaves_with(folder.database, b"the called")
    async with appliance(folder) as parts:
        assert (await run(parts, "repair", "yes"))[0] == 0
        text = await parts.store.get_state(LOST_STATE) or ""
        made = datetime.fromisoformat(json.loads(text)["at"])
        earlier = json.dumps({**json.loads(text), "at": (made - timedelta(days=1)).isoformat()})
        await parts.store.set_state(LOST_STATE, earlier)
        code, printed = await run(parts, "repair", "fill", name, "yes")
        after = f"Error: {name} is from after the repair, and has nothing of what was lost; nothing was changed"
        assert (code, printed[-1]) == (2, after)
        code, printed = await run(parts, "repair", "fill", "yes")
        assert (code, printed) == (2, ["Error: there is no good backup from before the repair; nothing was changed"])
        await parts.store.set_state(LOST_STATE, text)

        more = f"{name} has more rows than the repair can have lost (call_record: 1000 instead of 990)"
        code, printed = await run(parts, "repair", "fill", name, "yes")
        refused = f"Error: {more}: deleted ones would come back; nothing was changed; without 'yes' it asks"
        assert (code, printed[-1]) == (2, refused)
        assert await parts.store.fetch("SELECT count(*) FROM call_record") == [(0,)]
        code, printed = await run(parts, "repair", "fill", name, answer="y")
        assert f"Warning: {more}: rows that were deleted since it was made come back as well" in printed
        assert (code, printed[-1]) == (0, f"OK 1000 rows taken out of {name} (call_record: 1000)")

        await parts.store.set_state(LOST_STATE, text)  # as if nothing were filled: now another database comes
        assert (await run(parts, "backup", "restore", name, "yes"))[0] == 0
        assert await run(parts, "repair", "fill", "yes") == (2, [FILLED])


async def test_a_database_that_is_known_to_be_damaged_is_neither_filled_nor_compacted(folder: DataFolder) -> None:
    """Both are refused with the damage and what helps; the file stays as it was found, to the byte."""
    async with appliance(folder) as parts:
        await populate(parts)
        name = (await run(parts, "backup", "create"))[1][-1].split()[2]
    wipe_leaves_with(folder.database, b"the called")
    async with appliance(folder) as parts:
        assert (await run(parts, "repair", "yes"))[0] == 0
        await parts.audit.close()
        await parts.store.note_damage("row 56 missing from index", tell=False)
        before = folder.database.read_bytes()
        damage = "it is damaged (row 56 missing from index); nothing was changed; 'repair' helps"
        code, printed = await run(parts, "repair", "fill", name, "yes")
        assert (code, printed[-1]) == (1, f"Error: only a sound database can be filled up: {damage}")
        code, printed = await run(parts, "compact")
        assert (code, printed[-1]) == (1, f"Error: only a sound database can be compacted: {damage}")
        assert folder.database.read_bytes() == before
        file_damage(folder.database, "row 56 missing from index", identity_of(folder.database))
        worker = {"live": str(folder.database), "backup": ""}
        with pytest.raises(DamagedDatabaseError, match="row 56 missing from index"):
            fill_job(worker, lambda *_: None)
        await parts.store.note_sound()
        assert (await run(parts, "repair", "fill", name, "yes"))[0] == 0


async def test_messages_come_with_their_mailboxes_and_recordings(folder: DataFolder) -> None:
    """Rows of several tables are taken with their recordings, though the caller leaves; nothing without a repair."""
    async with appliance(folder) as parts:
        await populate(parts)
        code, printed = await run(parts, "repair", "fill", "yes")
        assert (code, printed) == (2, ["Error: the last repair has lost no rows; nothing was changed"])
        name = (await run(parts, "backup", "create"))[1][-1].split()[2]
        before = await parts.store.fetch("SELECT * FROM message")
    (folder.media / HASH).unlink()
    wipe_leaves_with(folder.database, HASH.encode(), b"user 1", b"user 2")
    async with appliance(folder) as parts:
        assert (await run(parts, "repair", "yes"))[0] == 0
        assert len(await parts.store.fetch("SELECT * FROM message")) < 10
        code, printed = await run(parts, "repair", "fill", name, "yes", leaves_at="Taking lost rows …")
        assert code == -1, printed
        await parts.fill.close()  # it goes on without him
        assert await parts.store.fetch("SELECT * FROM message") == before
        assert (folder.media / HASH).read_bytes() == RECORDING
        assert await parts.self_check.run("full") == []


async def test_a_copy_of_the_database_fills_as_well(folder: DataFolder) -> None:
    """The newest copy is offered where it is newer than every archive; history and variable come back by themselves."""
    async with appliance(folder) as parts:
        await populate(parts)
        copy = await parts.snapshots.keep(parts.store)
        calls = await parts.store.fetch("SELECT * FROM call_record")
    wipe_leaves_with(folder.database, b"the called")
    async with appliance(folder) as parts:
        code, printed = await run(parts, "repair", "yes")
        assert code == 0, printed
        (offered,) = (line for line in printed if line.startswith("Newest good backup: "))
        assert offered.startswith(f"Newest good backup: {copy.path.name}, ")
        assert offered.endswith("; 'repair backup=NEWEST' puts it in place instead")
        lost, source = await parts.fill.lost(), Source(copy.path.name, copy.path, None, copy.at, own=False)
        (failed,) = await asyncio.gather(
            parts.fill.begin(source, lost, {}, ADA, lambda _: None), return_exceptions=True
        )
        why = "rows of call_record were deleted meanwhile; nothing was changed; try again"
        assert str(failed) == why
        assert await parts.store.fetch("SELECT count(*) FROM call_record") == [(0,)]
        told: list[str] = []  # of a caller who was gone, at his next log-in
        parts.presence.leave(parts.presence.enter(ADA, parts.clock.now(), told.append, told.append))
        assert f"lost rows were not taken: {why}" in told
        code, printed = await run(parts, "repair", "fill", "yes")
        assert code == 0, printed
        assert printed[-1].startswith(f"OK 1000 rows taken out of {copy.path.name} (")
        assert await parts.store.fetch("SELECT * FROM call_record") == calls


@pytest.mark.parametrize(("here", "there"), [("UTF-8", "UTF-16le"), ("UTF-16be", "UTF-8")])
def test_the_encodings_of_backup_and_database_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str, there: str
) -> None:
    """Rows are taken out of a database of UTF-16, and into one; nothing is left over beside it."""
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))  # which a job sets for its worker
    live, backup = tmp_path / "data" / "callisto.db", tmp_path / "backup.db"
    (tmp_path / "data" / "media").mkdir(parents=True)
    Plausible(5, 0.05).fill(live, form=Form(encoding=here))
    Plausible(5, 0.05).fill(backup, form=Form(encoding=there))
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        before = connection.execute("SELECT * FROM call_record").fetchall()
        gone = connection.execute("DELETE FROM call_record WHERE id % 7 = 0").rowcount
    wanted = {"wanted": {"lost": ["call_record"], "placeholders": []}}
    order = {"live": str(live), "backup": str(backup), "recordings": "", "own": False, **wanted}
    found = look_job(order, lambda *_: None)
    change = {"at": AT, "who": "ada", "door": "local", "source": "local", "note": ""}

    assert found == {"call_record": gone}
    assert fill_job({**order, "found": found, "change": change}, lambda *_: None) == found
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        assert connection.execute("SELECT * FROM call_record").fetchall() == before
    assert not (tmp_path / "data" / "restore.unpacked").exists()
