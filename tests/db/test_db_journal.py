from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callisto_telnetd.db.journal import Verdict, judge
from callisto_telnetd.errors import StoreError
from tests.db.damages import journal_of as journal_with
from tests.db.filling import connect, make
from tests.db.forms import FORMS
from tests.db.plausible import Plausible

# A writer whose transaction has spilled into the file when it says so; then it waits to be killed.
_WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=PERSIST").fetchall()
connection.execute("PRAGMA secure_delete=ON").fetchall()
connection.execute("PRAGMA synchronous=EXTRA")
connection.execute("PRAGMA cache_size=10")
connection.execute("BEGIN IMMEDIATE")
connection.execute(sys.argv[2])
print("written", flush=True)
time.sleep(60)
"""
UPDATE = "UPDATE message SET heard = 1 - heard, caller = '0' || caller"
DELETE = "DELETE FROM call_record WHERE id % 2 = 0"
INSERT = (
    "INSERT INTO call_record (at, caller, called, user, result, ring_ms, talk_ms)"
    " SELECT at, 'x' || caller, called, user, result, ring_ms, talk_ms FROM call_record"
)


def journal_of(file: Path) -> Path:
    """Return where the journal of a file lies."""
    return file.with_name(file.name + "-journal")


def interrupt(file: Path, statement: str) -> None:
    """Kill a real writer in the middle of a transaction."""
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, file, statement], stdout=subprocess.PIPE)
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        os.kill(writer.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database and the hot journal of an update."""
    folder = tmp_path_factory.mktemp("hot")
    interrupt(make(folder / "callisto.db"), UPDATE)
    return folder


@pytest.fixture
def file(hot: Path, tmp_path: Path) -> Path:
    """A copy of that database, its hot journal beside it."""
    for name in ("callisto.db", "callisto.db-journal"):
        shutil.copyfile(hot / name, tmp_path / name)
    return tmp_path / "callisto.db"


def test_no_journal_is_none(tmp_path: Path) -> None:
    """Where no journal lies there is nothing to roll back."""
    assert judge(tmp_path / "callisto.db").verdict is Verdict.NONE


@pytest.mark.parametrize("content", [b"", bytes(28), bytes(512), bytes(100_000)])
def test_an_ended_journal_is_cold(tmp_path: Path, content: bytes) -> None:
    """An empty journal and one with a zeroed header have no say, whatever lies behind."""
    journal_of(tmp_path / "callisto.db").write_bytes(content)

    assert judge(tmp_path / "callisto.db").verdict is Verdict.COLD


def test_the_journal_that_a_store_leaves_is_cold_and_cheap(tmp_path: Path) -> None:
    """After whole transactions in PERSIST mode the journal is cold, and a look at it costs well under a millisecond."""
    file = make(tmp_path / "callisto.db")
    assert journal_of(file).stat().st_size > 0
    best = min(_timed(file) for _ in range(20))

    assert judge(file).verdict is Verdict.COLD
    assert best < 0.001


def _timed(file: Path) -> float:
    begin = time.perf_counter()
    judge(file)
    return time.perf_counter() - begin


@pytest.mark.parametrize(
    "statement", [UPDATE, DELETE, INSERT, "UPDATE user SET name = 'somebody else'", "DELETE FROM greeting"]
)
def test_the_journal_of_a_killed_writer_is_ours(tmp_path: Path, statement: str) -> None:
    """A transaction that a kill cut short is to be rolled back, and SQLite then finds the file sound."""
    file = make(tmp_path / "callisto.db")
    interrupt(file, statement)

    judged = judge(file)
    if judged.verdict is Verdict.COLD:  # a small transaction had not yet come to the disk
        assert journal_of(file).read_bytes()[:8] == bytes(8)
    else:
        assert judged.verdict is Verdict.OURS, judged.reason
        assert judged.must_be_rolled_back
    with closing(connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_it_is_ours_where_page_1_is_wiped(file: Path) -> None:
    """Without the file's first page the other pages tell that the journal is its own."""
    with file.open("r+b") as stream:
        stream.write(bytes(4096))

    assert judge(file).verdict is Verdict.OURS


def test_the_journal_of_another_appliance_is_foreign(file: Path, tmp_path: Path) -> None:
    """The hot journal of a database that was made in the same way, with other rows, is not rolled back."""
    other = make(tmp_path / "other.db", users=40, messages=900, deleted=True)
    judged = judge(other)
    shutil.copyfile(journal_of(file), journal_of(other))

    assert judged.verdict is Verdict.COLD
    assert judge(other).verdict in (Verdict.FOREIGN, Verdict.STALE)
    assert not judge(other).is_harmless


@pytest.mark.parametrize("wiped", [False, True])
def test_the_twin_of_an_appliance_is_told_by_its_rows(file: Path, tmp_path: Path, wiped: bool) -> None:
    """Where counters and page counts agree by chance, or page 1 is gone, the rows of other pages tell a stranger."""
    twin = make(tmp_path / "twin.db")
    with closing(connect(twin)) as connection:
        connection.execute(
            "UPDATE message SET caller = 'c' || hex(randomblob(6)), recording = lower(hex(randomblob(32)))"
        )
        connection.execute("UPDATE message SET at = '2025-01-01T00:00:00+00:00', transcript = hex(randomblob(20))")
    page_1 = bytes(4096) if wiped else file.read_bytes()[:4096]
    twin.write_bytes(page_1 + twin.read_bytes()[4096:])
    shutil.copyfile(journal_of(file), journal_of(twin))

    assert judge(twin).verdict is Verdict.FOREIGN


def test_a_journal_of_last_week_is_stale(file: Path) -> None:
    """A journal whose file has changed since, or is older than it, is not rolled back."""
    journal = journal_of(file).read_bytes()
    with closing(connect(file)) as connection:  # rolls it back
        for n in range(3):
            connection.execute("INSERT INTO state VALUES (?, 'x')", (f"later{n}",))
    journal_of(file).write_bytes(journal)
    judged = judge(file)

    assert judged.verdict in (Verdict.STALE, Verdict.FOREIGN)


def test_a_journal_that_lost_a_byte_is_damaged(file: Path) -> None:
    """A wrong checksum, a short file or a nonsense header: SQLite would stop in the middle, so it never begins."""
    journal = journal_of(file)
    whole = bytearray(journal.read_bytes())
    sector = int.from_bytes(whole[20:24], "big")
    flipped = bytearray(whole)
    flipped[sector + 4 + 96] ^= 0x40
    short, headless = whole[: sector + 2000], b"x" + whole[1:]
    for content in (flipped, short, headless, whole[:20], b"\xd9" * 600):
        journal.write_bytes(content)
        judged = judge(file)
        assert judged.verdict is Verdict.DAMAGED
        assert judged.reason


def test_a_journal_of_an_empty_file_takes_no_rows_away(tmp_path: Path) -> None:
    """A hot journal that would cut the file to nothing is foreign to one with rows, and its own to one without."""
    file = make(tmp_path / "callisto.db")
    header = bytes.fromhex("d9d505f920a163d7") + b"".join(n.to_bytes(4, "big") for n in (0, 7, 0, 512, 4096))
    journal_of(file).write_bytes(header.ljust(512, b"\0"))
    assert judge(file).verdict is Verdict.FOREIGN

    file.write_bytes(b"")
    assert judge(file).verdict is Verdict.OURS


def test_a_journal_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A folder in place of a journal is told as our error."""
    journal_of(tmp_path / "callisto.db").mkdir()

    with pytest.raises(StoreError, match="cannot be read"):
        judge(tmp_path / "callisto.db")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 2000), piece=st.binary(min_size=1, max_size=40), whole=st.booleans())
def test_any_journal_is_judged(hot: Path, tmp_path: Path, at: int, piece: bytes, whole: bool) -> None:
    """Whatever bytes the journal has, there is a verdict with a reason, and no exception."""
    content = bytearray((hot / "callisto.db-journal").read_bytes())
    content[at : at + len(piece)] = piece
    shutil.copyfile(hot / "callisto.db", tmp_path / "callisto.db")
    journal_of(tmp_path / "callisto.db").write_bytes(content if whole else piece)

    assert judge(tmp_path / "callisto.db").reason


@pytest.mark.parametrize("name", ["512", "8192", "65536", "reserved", "auto-vacuum", "utf-16le"])
def test_a_journal_of_a_file_of_any_form_is_its_own(tmp_path: Path, name: str) -> None:
    """A crash in a transaction leaves a journal with the file's page size: it is rolled back, and another's is not."""
    form, file = FORMS[name], tmp_path / "callisto.db"
    Plausible(5, 0.1).fill(file, form=form)
    before = file.read_bytes()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("UPDATE call_record SET caller = '0' || caller WHERE id < 99")
    after, size = file.read_bytes(), form.page_bytes
    images = [
        (at // size + 1, before[at : at + size])
        for at in range(0, len(before), size)
        if before[at : at + size] != after[at : at + size]
    ]
    journal_of(file).write_bytes(journal_with(images, len(before) // size, size))
    assert judge(file).verdict is Verdict.OURS
    strangers = [(number, bytes(reversed(image)) if number > 1 else image) for number, image in images]
    journal_of(file).write_bytes(journal_with(strangers, len(before) // size, size))

    assert judge(file).verdict is Verdict.FOREIGN
