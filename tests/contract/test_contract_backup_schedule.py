"""Backups on a schedule, over the wire and at the command line: what a person and a script see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Server, StartServer


def test_the_shell_makes_and_runs_a_schedule(start: StartServer, tmp_path: Path) -> None:
    """Passwords are asked for and not shown; the list, the test and a run say what they should."""
    target = tmp_path / "target"
    target.mkdir()
    server = start()
    peer = server.log_in()
    for line, said in (
        ("nightly 02:00 plan=daily target=/x password", "'02:00' is not understood behind the name 'nightly'"),
        ("nightly target=/x password", "plan= is missing, as in plan=daily 02:00"),
        ("nightly plan=daily 02:00 password", "target= is missing, as in target="),
        ("plan=daily 02:00 target=/x password", "the name is missing, as in 'add nightly plan="),
        ("nightly plan=daily at two target=/x password", "plan: no days, or no time of day; allowed: days and"),
    ):  # one line, and no password is asked for
        assert peer.run(f"backup schedule add {line}")[-1].startswith(f"Error: {said}")
    peer.send(f"backup schedule add nightly plan=mon-fri 2:00 target={target} password keep-last=2\r\n")
    peer.expect(b"Password for the backups: ")
    peer.send("correct horse battery\r\n").expect(b"The same again: ")
    added = peer.send("correct horse battery\r\n").answer()

    assert added[-1].startswith("OK backup schedule nightly added, next run 20")
    assert b"horse" not in peer.seen
    taken = peer.run(f"backup schedule add nightly plan=daily 03:00 target={target} password")
    assert taken == ["Error: there is a backup schedule nightly already: remove it first; nothing was changed"]
    assert peer.run("backup schedule list")[0].startswith("nightly: Monday, Tuesday, Wednesday, Thursday and Friday at")
    assert peer.run("backup schedule test nightly")[-1].startswith("OK nightly: a file was sent, read back, listed")
    assert list(target.iterdir()) == []
    done = peer.run("backup schedule run nightly")[-1]
    (archive,) = target.iterdir()
    assert done == f"OK {archive.name} delivered to file://{target}"
    assert f"verified {archive.name[-19:-15]}" in peer.run("backup list")[0]
    assert f", also at file://{target}" in peer.run("backup list")[0]
    shown = peer.run("backup schedule show nightly")
    assert "Kept: the last 2" in shown
    assert any(line.startswith("Last run: ") and archive.name in line for line in shown)
    listed = peer.run("schedule list")
    assert any(line.startswith("backup nightly: ") for line in listed)
    assert any(line.startswith("  Last run: ") and line.endswith(f", {done.removeprefix('OK ')}") for line in listed)
    assert peer.run("backup schedule remove nightly yes")[-1] == "OK backup schedule nightly removed"


def test_a_failure_is_a_notice_and_runs_the_owners_command(start: StartServer, tmp_path: Path) -> None:
    """It stands at each log-in, System Information has it, and the command knows what failed."""
    told = tmp_path / "told"
    script = tmp_path / "tell"
    script.write_text(f'#!/bin/sh\necho "$BACKUP_SCHEDULE: $BACKUP_REASON" > {told}\n')
    script.chmod(0o755)
    server = start(f'[backup]\non_failure = ["{script}"]\n')
    assert server.command(*f"backup schedule add nightly plan=127,02:00 target={tmp_path}/none".split()).returncode == 0
    ended = server.command("backup", "schedule", "run", "nightly")

    assert ended.returncode == 1
    assert "No such file or directory" in ended.stderr
    assert told.read_text().startswith("nightly: ")
    assert b"backup nightly of " in server.log_in().seen


def test_the_command_line_takes_both_passwords(start: StartServer, tmp_path: Path) -> None:
    """The target's first, then the archive's; neither is shown by any command."""
    server = start()
    target = "sftp://ada@127.0.0.1:9/x"
    words = ["backup", "schedule", "add", "far", "--plan", "127,02:00", "--target", target, "--keep-weekly", "4"]
    added = server.command(
        *words, "--target-password-stdin", "--password-stdin", text="Target-123\ncorrect horse battery\n"
    )
    assert added.returncode == 0, added.stderr
    kept = json.loads((server.data / "backup-schedules.json").read_text())["schedules"][0]
    assert (kept["target_password"], kept["password"]) == ("Target-123", "correct horse battery")
    for command in ("list", "show far"):
        shown = server.command("backup", "schedule", *command.split(), "--json")
        assert "Target-123" not in shown.stdout + server.log()
        assert "horse" not in shown.stdout + server.log()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("add", "the name is missing, as in "),
        ("add a", "plan= is missing, as in plan=daily 02:00"),
        ("add a plan=0,02:00 target=/x", "plan: a schedule needs at least one day"),
        ("add a plan=never target=/x", "plan: no days, or no time of day; allowed: days and a time, such as 127,02:00"),
        ("add a plan=127,25:05 target=/x", "plan: no restart plan: 127,25:05; allowed: days and a time"),
        ("add a plan=127,02:00 target=gopher://x/y", "a target begins with sftp://"),
        ("add a plan=127,02:00 target=ftp://a@b/c", "in clear text"),
        ("add a plan=127,02:00 target=/x keep-last=many", "keep-last: 'many' is not a whole number"),
        ("add A! plan=127,02:00 target=/x", "name: a schedule's name is"),
        ("show nosuch", "no backup schedule 'nosuch': there is none yet"),
        ("run nosuch", "no backup schedule 'nosuch'"),
        ("test nosuch", "no backup schedule 'nosuch'"),
        ("remove nosuch yes", "no backup schedule 'nosuch'"),
    ],
)
def test_bad_input_is_one_line(server: Server, words: str, said: str) -> None:
    """What is wrong, and what is allowed; exit code 2, and nothing was changed."""
    ended = server.command("backup", "schedule", *words.split())

    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (server.data / "backup-schedules.json").exists()
