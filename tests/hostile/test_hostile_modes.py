"""Every file of the data folder is its owner's alone, whatever the umask that the server was started with."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import make_appliance
from tests.conftest import DEADLINE_S, StartServer
from tests.hostile.tracing import wait_until

KINDS = {
    "accounts.json",
    "backup-schedules.json",
    "backup/callisto-",
    "backup/database-",
    "backup/undo/callisto.db",
    "backup/undo/callisto.toml",
    "backup/undo/undo.json",
    "callisto.db",
    "callisto.db-journal",
    "callisto.toml",
    "damaged/",
    "media/",
    "run/control.sock",
    "run/lock",
    "run/services.json",
    "run/trace.sock",
    "trace/",
}
"""The beginnings of the names of all that a server makes; each must be there."""


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Have another umask, which the programs that are started inherit."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def walk(data: Path) -> dict[str, os.stat_result]:
    """Return what is in a folder, the folder itself as ``.``."""
    return {str(path.relative_to(data)): path.lstat() for path in (data, *data.rglob("*"))}


def wrong(data: Path) -> dict[str, str]:
    """Return the modes of what another user might read or write, or own."""
    found = {}
    for name, status in walk(data).items():
        expected = 0o700 if stat.S_ISDIR(status.st_mode) else 0o666 if name == "run/trace.sock" else 0o600
        if stat.S_IMODE(status.st_mode) != expected or status.st_uid != os.geteuid():
            found[name] = f"{stat.S_IMODE(status.st_mode):04o} of {status.st_uid}"
    return found


@pytest.mark.parametrize(
    "mask",
    [0o000, pytest.param(0o022, marks=pytest.mark.long), pytest.param(0o077, marks=pytest.mark.long)],
    ids=lambda mask: f"{mask:03o}",
)
def test_every_file_has_its_mode_whatever_the_umask(start: StartServer, tmp_path: Path, mask: int) -> None:
    """A server makes every kind of file it knows; nobody else may look into one, while it runs and afterwards."""
    target, password = tmp_path / "target", "correct horse battery\n"
    target.mkdir()
    with umask(mask):
        data = make_appliance(tmp_path / "data")
        spoil(data / "callisto.db")
        with open(data / "callisto.toml", "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
            stream.write('[database]\ncheck = "sun 03:30"\n[services.sleeper]\ncommand = ["sleep", "1000"]\n')
        server = start(data=data)
        peer = server.log_in()
        for line in (
            "repair yes",
            "trace start note=mode",
            "demo users=2 messages=4 calls=2 seed=1 yes",
            f"backup schedule add n plan=daily 02:00 target={target}",
            "backup schedule run n",
            "trace stop",
            "compact",
            "trace start",
        ):
            assert peer.run(line, 2 * DEADLINE_S)[-1].startswith("OK "), line
        assert peer.run("date 2026-11-29 03:29:59")[-1].startswith("OK ")
        wait_until(lambda: any((data / "backup").glob("database-*.db")), "the check has made a copy")
        made = server.command("backup", "create", "--password-stdin", "--json", text=password)
        words = ("backup", "restore", json.loads(made.stdout)["file"], "--password-stdin", "yes")
        assert server.command(*words, text=password).returncode == 0
        assert wrong(data) == {}
        names = walk(data)
        server.stop()

    assert {kind for kind in KINDS if not any(name.startswith(kind) and name != kind for name in (*names, ""))} & {
        kind for kind in KINDS if kind not in names
    } == set()
    assert wrong(data) == {}
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {0o600}


def spoil(database: Path) -> None:
    """Put a row into the database that its table does not take."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO audit VALUES (1, 'at noon', 'logged in', 'ada', 'local', 'local', '')")
        connection.commit()
