"""The schedule end to end: a real server, whose clock is set over a run; what a jump does is told before it is made."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import DEADLINE_S, Peer, Server, StartServer
from tests.programs import run

DAILY = '[database]\ncheck = "daily 02:00"\n'
PASSED = "database check of {} 02:00 would be passed over: it runs once, at once"


def settled(peer: Peer) -> list[str]:
    """Return the schedule once no job runs any more."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        lines = peer.run("schedule list")
        if not any(line.endswith(" running") for line in lines):
            return lines
    raise AssertionError("a job runs without end")


def at_ten(server: Server) -> Peer:
    """Put the clock to ten o'clock of the first of May 2031, in Zurich: that day has had its run then."""
    peer = server.log_in()
    peer.run("date zone Europe/Zurich")
    assert peer.run("date 2031-05-01 10:00:00")[-1].startswith("OK 2031-05-01 10:00:00")
    server.wait_log('planned="2031-05-01 02:00')
    settled(peer)
    return peer


def test_a_jump_over_a_run_makes_it_run_once(start: StartServer) -> None:
    """``date`` says beforehand that the run would be passed over, and it runs at once; back again, it runs no more."""
    server = start(DAILY)
    peer = at_ten(server)
    assert peer.run("date 2031-05-02 10:00:00")[0] == PASSED.format("2031-05-02")
    server.wait_log('planned="2031-05-02 02:00"')
    lines = settled(peer)
    assert lines[0] == "database check: every day at 02:00 (set by [database] check)"
    assert lines[1] == "  Next run: 2031-05-03 02:00:00"
    assert re.fullmatch(
        r"  Last run: 2031-05-02 10:00:0\d \(late: it was planned for 2031-05-02 02:00:00\), the database is sound;"
        r" backup kept: database-20310502-10000\d\.db",
        lines[2],
    )
    assert "  database check of 2031-05-02 02:00 was passed over: it runs once, at once" in lines
    assert lines[-1] == "OK 3 jobs"
    assert any(
        re.match(r"Last check: 2031-05-02 10:00:0\d, \d s ago, full, sound", each) for each in peer.run("information")
    )

    runs = server.wait_log("scheduled run ended").count("scheduled run begins")
    again = "database check of 2031-05-02 02:00 comes again: it does not run a second time"
    assert peer.run("date 2031-05-02 01:59:59")[0] == again
    server.wait_log('after="2031-05-02 01:59:59"')
    assert peer.run("date 2031-05-02 02:00:30")[-1].startswith("OK ")
    assert "  Next run: 2031-05-03 02:00:00" in peer.run("schedule")
    assert server.log().count("scheduled run begins") == runs


def test_a_run_comes_at_its_time(start: StartServer) -> None:
    """Two seconds before the time nothing runs, and then it does, with nobody to wake it."""
    server = start(DAILY)
    at_ten(server).run("date 2031-05-02 01:59:58")
    server.wait_log('after="2031-05-02 01:59:58"')
    assert 'planned="2031-05-02' not in server.log()
    server.wait_log('scheduled run begins job="database check" planned="2031-05-02 02:00"')


@pytest.mark.long
def test_a_run_that_was_missed_is_made_good_at_the_start(start: StartServer) -> None:
    """What came due while the server was off runs once at its start; without a server, the command line tells it."""
    server = start(DAILY)
    at_ten(server)
    assert server.stop() == 0
    preview = server.command("date", "2031-05-04", "10:00:00")
    many = "database check of 2031-05-02 02:00, of 2031-05-04 02:00 and 1 between would be passed over"
    assert preview.stdout.splitlines()[0] == f"{many}: it runs once for all, when the server starts"
    listed = json.loads(server.command("schedule", "list", "--json").stdout)
    assert listed["jobs"][0]["next_run_at"].startswith("2031-05-04T10:00:0")

    again = start(data=server.data)
    again.wait_log('planned="2031-05-04 02:00, with 2 more"')
    assert again.log().count("scheduled run begins") == 2


def test_a_preview_changes_nothing(start: StartServer) -> None:
    """``date preview`` tells what a date or a zone would do, and leaves the clock as it is."""
    peer = at_ten(start(DAILY))
    effect, last = peer.run("date preview 2031-05-02 10:00:00")
    assert effect == PASSED.format("2031-05-02")
    assert last.endswith(" to 2031-05-02 10:00:00: 1 effect on scheduled jobs; nothing was changed")
    assert peer.run("date preview zone Asia/Tokyo")[-1].endswith("no effect on scheduled jobs; nothing was changed")
    assert peer.run("date preview zone Pacific/Kiritimati")[-1].startswith("OK ")
    assert peer.run("date preview tomorrow")[-1].startswith("Error: ")
    assert peer.run("date")[0].startswith("Time: 2031-05-01 10:00:")


def test_the_menu_asks_before_a_run_is_passed_over(start: StartServer) -> None:
    """The number 5 shows the effects and asks; what comes into the schedule meanwhile is asked for, too."""
    server = start(DAILY)
    peer = at_ten(server)
    peer.send("5\r\n").expect(re.compile(rb"\]: $"))
    asked = peer.send("2031-05-02 10:00:00\r\n").expect(b"[y/N]: ").decode()
    assert PASSED.format("2031-05-02") in asked
    assert peer.send("\r\n").answer() == ["OK nothing was changed"]
    assert peer.run("date")[0].startswith("Time: 2031-05-01 10:00:")
    peer.send("5\r\n").expect(re.compile(rb"\]: $"))
    peer.send("2031-05-02 10:00:00\r\n").expect(b"[y/N]: ")
    target = f"file://{server.data.parent}"
    server.command("backup", "schedule", "add", "nightly", "--plan", "127,03:00", "--target", target)
    asked = peer.send("yes\r\n").expect(b"[y/N]: ").decode()
    assert "backup nightly of 2031-05-02 03:00 would be passed over" in asked
    assert peer.send("yes\r\n").answer()[-1].startswith("OK 2031-05-02 10:00:00 (was ")


def test_a_zone_is_told_before_it_is_set(start: StartServer) -> None:
    """A zone in which the day's run is past already passes it over: that is said, and it runs at once."""
    server = start(DAILY)
    peer = at_ten(server)
    peer.run("date 2031-05-01 23:00:00")
    assert peer.run("date zone Asia/Tokyo")[0] == PASSED.format("2031-05-02")
    server.wait_log('planned="2031-05-02 02:00"')


def test_a_damaged_database_is_told_at_each_log_in(start: StartServer) -> None:
    """The quick check after the start finds it; who is on is told at the next prompt, who comes at the log-in."""
    server = start()
    server.log_in()
    assert server.stop() == 0
    database = server.data / "callisto.db"
    with database.open("r+b") as stream:
        stream.seek(-4096, 2)
        stream.write(b"\xff" * 512)
    again = start(data=server.data)
    again.wait_log("database checked")
    notice = rb"Notice: the database has 1 fault \(quick check of [^)]*\): choose Repair Database\r\n"

    for _ in range(2):
        seen = again.log_in().seen.partition(b"Password: ")[2]
        assert re.search(notice, seen), seen
        assert not re.search(rb"login|username|password:", seen, re.IGNORECASE)
    assert any(re.match(r"Last check: .*, quick, 1 fault", line) for line in again.log_in().run("information"))


def test_a_plan_that_is_none_is_one_line(tmp_path: Path) -> None:
    """A bad plan of the check ends the start with exit code 2 and what is allowed."""
    (tmp_path / "callisto.toml").write_text('[database]\ncheck = "128,02:00"\n')
    command = [sys.executable, "-m", "callisto_telnetd", "serve", "--data", str(tmp_path), "--port", "0"]
    refused = run(command)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "database.check: '128,02:00' is not allowed; allowed: " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "callisto.toml"]


@pytest.mark.long
def test_a_run_is_not_repeated_after_a_repair_of_an_unusable_database(start: StartServer) -> None:
    """A start without the database knows neither clock nor runs: nothing runs until a repair brings both back."""
    first = start(DAILY)
    settled(at_ten(first))
    first.stop()
    with (first.data / "callisto.db").open("r+b") as stream:
        stream.write(bytes(4096))
    server = start(data=first.data)
    peer = server.log_in()
    runs = server.wait_log("the schedule waits for the database").count("scheduled run begins")
    assert any(line.startswith("OK database repaired, ") for line in peer.run("repair yes"))
    server.wait_log("repair ended")

    lines = settled(peer)
    assert "  Next run: 2031-05-02 02:00:00" in lines
    assert any(line.startswith("  Last run: 2031-05-01 10:00:0") for line in lines)
    assert server.log().count("scheduled run begins") == runs
