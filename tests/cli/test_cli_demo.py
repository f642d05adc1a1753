"""Demonstration data at the command line: beside a server and without one, stopped, killed, refused."""

from __future__ import annotations

import hashlib
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.db.tables import TABLES
from tests.cli.conftest import Run, run_program
from tests.conftest import DEADLINE_S, ROOT, StartServer
from tests.hostile.conftest import SmallDisk, small_disk
from tests.programs import ProductProcess

__all__ = ["small_disk"]

SMALL = ("--users", "5", "--messages", "20", "--calls", "30")


def ask(data: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query on a closed database."""
    with closing(sqlite3.connect(data / "callisto.db")) as connection:
        return connection.execute(sql).fetchall()


def require_whole(data: Path) -> int:
    """Check that every row fits its table, and that every recording that a row names is there and whole; count them."""
    assert ask(data, "PRAGMA integrity_check") == [("ok",)]
    assert ask(data, "PRAGMA foreign_key_check") == []
    for table in TABLES:
        for row in ask(data, f'SELECT {", ".join(each.name for each in table.columns)} FROM "{table.name}"'):
            assert table.faults(row) == {}
    recordings = {name for (name,) in ask(data, "SELECT recording FROM message UNION SELECT recording FROM greeting")}
    for name in recordings:
        path = data / "media" / name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == name
        assert path.stat().st_mode & 0o777 == 0o600
    return len(recordings)


@contextmanager
def filling(data: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``demo`` as a program of its own; the block begins when the first hundred recordings are there."""
    command = [sys.executable, "-m", "callisto_telnetd", "demo", *words, "--data", str(data)]
    with ProductProcess(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as program:
        try:
            end = time.monotonic() + DEADLINE_S
            while not (data / "media").is_dir() or len(list((data / "media").iterdir())) < 100:
                assert time.monotonic() < end
                assert program.poll() is None
                select.select([], [], [], 0.005)
            yield program
        finally:
            program.kill()


def test_an_empty_appliance_is_filled(run: Run, start: StartServer, tmp_path: Path) -> None:
    """Beside a server and without one, demo makes what was ordered, and System Information shows how much it is."""
    server = start()
    for data in (server.data, tmp_path / "without"):
        filled = run("demo", *SMALL, data=data).require(0)
        assert filled.lines[0] == "Making 5 users, 20 messages and 30 call records; Ctrl-C stops"
        assert filled.lines[-2] == "Internal numbers: 1000 to 1004"
        made = r"OK made 5 users, 20 messages, 30 call records, (\d+) recordings of (.*iB), in \d+\.\d s"
        matched = re.fullmatch(made, filled.lines[-1])
        assert matched is not None
        shown = run("information", data=data).require(0).lines
        assert {"Users: 5", "Mailboxes: 5", "Messages: 20", "Call records: 30"} <= set(shown)
        assert f"Recordings: {matched[1]}, {matched[2]}" in shown
        assert "demonstration data begun" in run("audit", data=data).out
        assert (data / "media").stat().st_mode & 0o777 == 0o700
    server.stop()
    assert require_whole(server.data) == require_whole(tmp_path / "without") > 20


def test_a_demonstration_user_is_a_default_mailbox(run: Run, tmp_path: Path) -> None:
    """The variable gDefaultMailbox takes the number of a user that was made, and no other."""
    numbers = run("demo", *SMALL, "--json", data=tmp_path).require(0).facts["numbers"]

    assert run("variables", "set", "gDefaultMailbox", "4711", data=tmp_path).code == 2
    run("variables", "set", "gDefaultMailbox", str(numbers[2]), data=tmp_path).require(0)


def test_an_appliance_in_use_is_left_alone(run: Run, tmp_path: Path) -> None:
    """Where users are, demo refuses with a line that says so; with yes it takes numbers that are free."""
    first = run("demo", "users=3", "messages=4", "calls=2", data=tmp_path, text="").require(0)
    assert "1000 to 1002" in first.out
    before = ask(tmp_path, "SELECT * FROM user")
    refused = (
        "this appliance is in use: 3 users there already; demonstration data cannot be taken out again; with 'yes'"
    )
    run("demo", *SMALL, data=tmp_path).require(2, err=refused)
    assert ask(tmp_path, "SELECT count(*) FROM message") == [(4,)]

    facts = run("demo", *SMALL, "--json", "yes", data=tmp_path).require(0).facts
    assert facts["numbers"] == [1003, 1004, 1005, 1006, 1007]
    assert (facts["users"], facts["messages"], facts["calls"], facts["stopped"]) == (5, 20, 30, False)
    assert ask(tmp_path, "SELECT * FROM user WHERE number < 1003") == before
    assert facts["recordings"] == 20 + facts["greetings"]
    require_whole(tmp_path)


def test_call_records_alone_are_use_too(run: Run, tmp_path: Path) -> None:
    """An appliance without users but with call records is not empty."""
    run("demo", "--users", "0", "--messages", "0", "--calls", "3", data=tmp_path).require(0)
    run("demo", *SMALL, data=tmp_path).require(2, err="in use: call records there already")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--users", "abc"), "users: 'abc' is not a whole number from 0 to 9000"),
        (("--users", "9001"), "users: '9001' is not a whole number from 0 to 9000"),
        (("--messages", "-1"), "messages: '-1' is not a whole number from 0 to 200000"),
        (("--calls", "2000001"), "calls: '2000001' is not a whole number from 0 to 2000000"),
        (("--seed", ""), "seed: '' is not a whole number from 0 to"),
        (("--users", "0"), "messages: without users nobody has a mailbox"),
        (("--users",), "users: '' is not"),
        (("--user", "3"), "usage: demo [users=N]"),
        (("now",), "usage: demo [users=N]"),
        (("users=1", "users=2"), "users= stands twice"),
    ],
)
def test_misuse_is_one_line_and_changes_nothing(run: Run, tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    """What cannot be taken is told in one line that says what is allowed; no user is made."""
    data = tmp_path / "new"
    assert run("demo", *words, data=data).require(2, err=reason).out == ""
    assert not data.exists()


def test_too_few_free_numbers_are_told(run: Run, tmp_path: Path) -> None:
    """Where the internal numbers do not suffice, demo says how many are free, and changes nothing."""
    run("demo", "--users", "10", "--messages", "0", "--calls", "0", data=tmp_path).require(0)
    reason = "users: 9000 is more than the free internal numbers from 1000 to 9999: 8990"
    run("demo", "--users", "9000", "--messages", "0", "yes", data=tmp_path).require(2, err=reason)


def test_no_room_is_told_with_the_numbers(run: Run, small_disk: SmallDisk) -> None:
    """On a disk that is too small, demo says how much is free and needed, and changes nothing."""
    data = small_disk.path / "data"
    reason = r"Error: the disk has no room for it: 2\d\.\d MiB free, about 19\d\.\d MiB needed; nothing was changed"
    refused = run("demo", data=data).require(1, err="no room")
    assert re.fullmatch(reason, refused.err.strip())
    assert not data.exists()


def test_ctrl_c_keeps_what_is_whole(tmp_path: Path) -> None:
    """SIGINT ends it after the batch that runs: what is there is said, counted and whole."""
    data = tmp_path / "data"
    with filling(data, "--users", "10", "--messages", "20000", "--calls", "0") as program:
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=DEADLINE_S)

    assert (program.returncode, err) == (0, "")
    said = re.search(r"\nOK stopped; whole are 10 users, (\d+) messages, 0 call records, (\d+) recordings of", out)
    assert said is not None
    assert ask(data, "SELECT count(*) FROM message") == [(int(said[1]),)]
    assert int(said[1]) < 20000
    assert require_whole(data) == int(said[2]) == len(list((data / "media").iterdir()))


def test_kill_9_leaves_no_row_without_its_recording(run: Run, tmp_path: Path) -> None:
    """Killed in the middle, each row names a recording that is whole; the next run clears up and goes on beside it."""
    data = tmp_path / "data"
    with filling(data, "--users", "10", "--messages", "20000", "--calls", "0") as program:
        program.kill()
        program.wait(DEADLINE_S)
    require_whole(data)

    run("demo", *SMALL, data=data).require(2, err="10 users there already")
    run("demo", *SMALL, "yes", data=data).require(0)
    require_whole(data)
    assert all(re.fullmatch("[0-9a-f]{64}", path.name) for path in (data / "media").iterdir())


def test_sessions_go_on_beside_it(start: StartServer) -> None:
    """While an administrator fills the appliance, another's commands are answered; a second filling is refused."""
    server = start()
    filler, other = server.log_in(), server.log_in()
    filler.send("demo users=20 messages=800 calls=2000\r\n").expect(b"Making 20 users")
    assert other.run("demo users=1 messages=1 yes")[-1].startswith("Error: demonstration data is being made already")
    assert other.run("variables set gWebTimeout 30")[-1] == "OK gWebTimeout = 30 (was 20)"
    assert not filler.unread.endswith(b"# ")
    assert filler.answer()[-1].startswith("OK made 20 users, 800 messages, 2000 call records, ")


def test_enter_stops_it_in_a_session(start: StartServer) -> None:
    """In a session, Enter stops it; what is whole is said, and the session goes on."""
    peer = start().log_in()
    peer.send("demo users=5 messages=50000 calls=0\r\n").expect(b"Enter, q or Ctrl-C stops\r\n")
    peer.send("\r\n")

    assert peer.answer()[-1].startswith("OK stopped; whole are ")
    assert peer.run("whoami") == ["OK admin from 127.0.0.1 (telnet)"]


@pytest.mark.long
def test_two_hundred_users_are_made_within_a_minute(tmp_path: Path) -> None:
    """The defaults, 200 users and 5,000 messages, take well under a minute, and all of it is whole."""
    begun = time.monotonic()
    run_program("demo", "--users", "200", "--messages", "5000", data=tmp_path).require(0)

    assert time.monotonic() - begun < 30
    assert ask(tmp_path, "SELECT (SELECT count(*) FROM user), (SELECT count(*) FROM message)") == [(200, 5000)]
    assert require_whole(tmp_path) > 5000
