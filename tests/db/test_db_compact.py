from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.db import compact as compact_module
from callisto_telnetd.db.compact import compact
from callisto_telnetd.db.inspection import inspect
from callisto_telnetd.db.known_damage import file_damage, identity_of, note_of
from callisto_telnetd.db.own_form import other_form
from callisto_telnetd.db.schema import APPLICATION_ID, migrations
from callisto_telnetd.db.store import open_store
from callisto_telnetd.errors import DamagedDatabaseError, DiskFullError, ForeignDatabaseError, StoreError
from tests.conftest import StartServer
from tests.db.forms import FORMS
from tests.db.plausible import Plausible
from tests.db.sweeps import points, require_strace, rows_of, run_traced, settled

COMPACT = """
import sys
from callisto_telnetd.db.compact import compact
from callisto_telnetd.errors import CallistoError
try:
    compact({"file": sys.argv[1]}, lambda *_: None)
except CallistoError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def nothing(_step: str, _done: int, _of: int) -> None:
    """Be told of progress."""


async def make(file: Path, rows: int) -> None:
    """Make a database with rows in three tables, and about as many free pages as others."""
    async with open_store(file) as store:
        await store.apply([("INSERT INTO user (number, name) VALUES (?, 'x')", (number,)) for number in range(1, 201)])
        await store.apply([("INSERT INTO state VALUES (?, ?)", (f"key_{n:05}", "v" * 300)) for n in range(rows)])
        call = (
            "INSERT INTO call_record (at, caller, called, user, result, ring_ms, talk_ms)"
            " VALUES ('2026-11-23T10:15:00+01:00', 'a', 'b', ?, 'answered', 1, 2)"
        )
        await store.apply([(call, (number % 200 + 1,)) for number in range(rows)])
        await store.apply([("DELETE FROM state WHERE key < ?", (f"key_{rows // 2:05}",))])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with free pages."""
    file = tmp_path_factory.mktemp("made") / "callisto.db"
    asyncio.run(make(file, 600))
    return file


def test_a_folder_whose_name_is_no_text(made: Path, tmp_path: Path) -> None:
    """A name of bytes that are no UTF-8 is a folder like any other."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xe9"))
    folder.mkdir()
    file = folder / "callisto.db"
    shutil.copyfile(made, file)
    sizes = compact({"file": str(file)}, nothing)

    assert sizes["after_bytes"] == file.stat().st_size < sizes["before_bytes"]


@pytest.fixture
def file(made: Path, tmp_path: Path) -> Path:
    """A copy of it in a folder of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    return fresh(made, folder)


def fresh(made: Path, folder: Path) -> Path:
    """Put a copy of the database into the folder, alone."""
    for path in folder.glob("callisto.db*"):
        path.unlink()
    return Path(shutil.copy(made, folder / "callisto.db"))


def ask(file: Path, sql: str) -> Any:
    """Return the first value of a query."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return connection.execute(sql).fetchone()[0]


def test_free_pages_go_and_all_else_stays(file: Path) -> None:
    """The file becomes smaller; rows, stamps, page size and permissions are as they should be."""
    before, size = rows_of(file), file.stat().st_size
    told: list[str] = []
    done = compact({"file": str(file)}, lambda step, _done, _of: told.append(step))

    assert done == {"before_bytes": size, "after_bytes": file.stat().st_size}
    assert done["after_bytes"] < size
    assert rows_of(file) == before
    assert (ask(file, "PRAGMA application_id"), ask(file, "PRAGMA user_version")) == (APPLICATION_ID, max(migrations()))
    assert ask(file, "PRAGMA page_size") == 4096
    assert ask(file, "PRAGMA freelist_count") == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["callisto.db"]
    assert list(dict.fromkeys(told)) == ["Checking", "Copying", "Checking the new file", "Replacing"]


@pytest.mark.parametrize("name", FORMS)
def test_the_new_file_is_of_callistos_own_form(tmp_path: Path, name: str) -> None:
    """Whatever another program has made of the database, compact gives it pages of 4,096 bytes, UTF-8, and all rows."""
    file = tmp_path / "callisto.db"
    Plausible(5, 0.1).fill(file, form=FORMS[name])
    before = rows_of(file)
    shutil.copyfile(file, tmp_path / "copy.db")
    compact({"file": str(file)}, nothing)

    assert other_form(file) == ""
    assert rows_of(file) == before
    assert not any(inspect(file, lambda _name, _text: None, nothing, closed=True).values())
    assert bool(other_form(tmp_path / "copy.db")) == (name not in {"4096", "not-wiped", "format-1"})


def test_a_damaged_page_is_no_work_for_compact(file: Path) -> None:
    """A damaged database is left as it is, and the error names what helps."""
    root = ask(file, "SELECT rootpage FROM sqlite_schema WHERE name = 'call_record'")
    content = bytearray(file.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = os.urandom(4096)
    file.write_bytes(content)

    with pytest.raises(DamagedDatabaseError):
        compact({"file": str(file)}, nothing)
    assert file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == ["callisto.db"]


def test_a_known_damage_and_a_poor_index_are_no_work_for_compact(file: Path) -> None:
    """Where a damage is noted, or an index has fewer entries than its table rows, the file stays as it is."""
    file_damage(file, "row 56 missing from index call_record_user", identity_of(file))
    before = file.read_bytes()
    with pytest.raises(DamagedDatabaseError, match=r"is damaged: row 56 missing from .*nothing was changed; 'repair'"):
        compact({"file": str(file)}, nothing)
    assert file.read_bytes() == before

    note_of(file).unlink()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        sql = "SELECT sql FROM sqlite_schema WHERE name = 'call_record_user'"
        ((made,),) = connection.execute(sql).fetchall()
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = ? WHERE name = 'call_record_user'", (made + " WHERE id > 9",)
        )
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:  # as a partial index, emptied of some rows
        connection.execute("REINDEX call_record_user")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'call_record_user'", (made,))
    assert ask(file, "PRAGMA quick_check") == "ok"
    before = file.read_bytes()
    with pytest.raises(DamagedDatabaseError, match=r"index call_record_user has 591 entries for 600 rows; nothing was"):
        compact({"file": str(file)}, nothing)
    assert file.read_bytes() == before


def test_a_broken_reference_is_no_work_for_compact(file: Path) -> None:
    """A row that names a missing one is a damage too."""
    ask(file, "DELETE FROM user WHERE number = 7 RETURNING 1")
    before = file.read_bytes()

    with pytest.raises(DamagedDatabaseError, match=r"a row of call_record names a missing row of user.*'repair' helps"):
        compact({"file": str(file)}, nothing)
    assert file.read_bytes() == before


def test_a_foreign_database_is_left_alone(file: Path) -> None:
    """Another program's database is not compacted."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA application_id = 1")
    before = file.read_bytes()

    with pytest.raises(ForeignDatabaseError):
        compact({"file": str(file)}, nothing)
    assert file.read_bytes() == before


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes; only root can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("a disk of its own needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_too_little_room_is_said_with_the_numbers(made: Path, tiny_disk: Path) -> None:
    """Where a second file does not fit nothing is begun, and the error says how much is needed and free."""
    file = fresh(made, tiny_disk)
    (tiny_disk / "filler").write_bytes(bytes(1 << 20))
    before = file.read_bytes()

    with pytest.raises(
        DiskFullError, match=r"^too little room to compact: 1\.\d MiB needed, \S+ KiB free; nothing was"
    ):
        compact({"file": str(file)}, nothing)
    assert file.read_bytes() == before


def test_a_disk_that_fills_up_in_the_middle_changes_nothing(
    made: Path, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the room goes while the file is written, the new one is removed and the old one is as it was."""
    monkeypatch.setattr(compact_module, "_require_room", lambda *_: None)
    file = fresh(made, tiny_disk)
    disk = os.statvfs(tiny_disk)
    (tiny_disk / "filler").write_bytes(bytes(disk.f_bavail * disk.f_frsize - 100_000))
    before = file.read_bytes()

    with pytest.raises(StoreError, match="nothing was changed"):
        compact({"file": str(file)}, nothing)
    assert file.read_bytes() == before
    assert {path.name for path in tiny_disk.iterdir()} == {"callisto.db", "filler"}


def sweep(made: Path, folder: Path, fault: str, every: int) -> list[str]:
    """Meet every n-th call of a compact with the fault; return which database was there afterwards."""
    require_strace()
    before = rows_of(made)
    _, calls = run_traced(folder, COMPACT, [str(fresh(made, folder))])
    small = (folder / "callisto.db").stat().st_size
    places = points(calls)
    assert len(places) > 100
    seen = []
    for place in places[every // 2 :: every]:
        code, _ = run_traced(folder, COMPACT, [str(fresh(made, folder))], place.format(fault))
        live = settled(folder)
        assert rows_of(live) == before, place
        seen.append("new" if live.stat().st_size == small else "old")
        if "KILL" in fault:
            assert code != 0, place
    return seen


@pytest.mark.parametrize("fault", ["signal=SIGKILL", pytest.param("error=ENOSPC", marks=pytest.mark.long)])
def test_a_compact_that_is_met_by_a_fault_leaves_one_whole_database(made: Path, tmp_path: Path, fault: str) -> None:
    """Killed, or out of room, at a few of its system calls: the old database or the new one, with every row."""
    folder = tmp_path / "data"
    folder.mkdir()

    assert set(sweep(made, folder, fault, every=150)) <= {"old", "new"}


@pytest.mark.long
@pytest.mark.parametrize("fault", ["signal=SIGKILL", "error=ENOSPC"])
def test_a_compact_is_met_at_every_tenth_call(made: Path, tmp_path: Path, fault: str) -> None:
    """The same at every tenth system call: old ones first, then new ones."""
    folder = tmp_path / "data"
    folder.mkdir()
    seen = sweep(made, folder, fault, every=10)

    assert set(seen) >= {"old"}
    if "KILL" in fault:
        assert seen == sorted(seen, reverse=True)


@pytest.mark.long
def test_a_server_starts_by_itself_after_each_kind_of_crash(made: Path, tmp_path: Path, start: StartServer) -> None:
    """Killed around the swap, the next start needs no hand: the server is ready, and the database is sound."""
    require_strace()
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    _, calls = run_traced(folder, COMPACT, [str(fresh(made, folder))])
    for place in [place for place in points(calls) if place.split(":")[0] in {"rename", "unlink", "fsync"}]:
        run_traced(folder, COMPACT, [str(fresh(made, folder))], place.format("signal=SIGKILL"))
        server = start(data=folder)
        assert server.log_in().run("repair yes")[-1].startswith("OK database is sound")
        assert server.stop() == 0
        (folder / "accounts.json").unlink()
