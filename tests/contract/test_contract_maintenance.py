"""The database cannot be opened, and the shell is there all the same; from the first byte to the way back."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.conftest import NAME, PASSWORD, StartServer, servers

BOB = "Other-456"
Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an appliance with two accounts and a variable that was set; it is stopped."""
    with servers(tmp_path_factory.mktemp("good")) as start:
        server = start()
        peer = server.log_in()
        assert server.command("user", "add", "bob", "--password-stdin", text=BOB).returncode == 0
        assert peer.run("variables set gWebTimeout 33")[-1] == "OK gWebTimeout = 33 (was 20)"
        assert server.stop() == 0
        return server.data


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of it for the test alone."""
    return Path(shutil.copytree(good, tmp_path / "data", ignore=shutil.ignore_patterns("*.sock")))


def _text(file: Path) -> None:
    file.write_text("These are not the pages of a database.\n" * 200)


def _first_page(file: Path) -> None:
    file.write_bytes(bytes(4096) + file.read_bytes()[4096:])


def _schema(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100:4096] = b"\xff" * 3996
    file.write_bytes(content)


def _accounts(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'account'").fetchone()
    content = bytearray(file.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    file.write_bytes(content)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _lost(file: Path) -> None:
    file.unlink()


def _stamp(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA application_id=1")


@pytest.mark.parametrize(
    "spoil",
    [
        _text,
        _first_page,
        _lost,
        *(pytest.param(each, marks=pytest.mark.long) for each in (_schema, _accounts, _empty, _stamp)),
    ],
)
def test_a_damaged_database_keeps_nobody_from_the_shell(start: StartServer, folder: Path, spoil: Spoil) -> None:
    """Log-in by the account file, a notice that says why and what helps, and each command answers clearly."""
    spoil(folder / "callisto.db")
    before = (folder / "callisto.db").read_bytes() if (folder / "callisto.db").exists() else None
    server = start(data=folder)
    peer = server.log_in("bob", BOB)
    text = peer.seen.decode(errors="replace")
    assert "Maintenance mode: the database cannot be used.\r\ncallisto login: " in text
    [notice] = [line for line in text.split("\r\n") if line.startswith("Notice: maintenance mode: ")]
    assert notice.endswith(
        "variables are at their defaults, and neither they nor accounts can be changed; 'repair' helps"
    )

    assert peer.run("variables list gWebTimeout")[0] == "gWebTimeout = 20"
    for words in ("variables set gWebTimeout 30", "variables history", "user remove admin yes", "audit", "compact"):
        assert [line[:7] for line in peer.run(words)] == ["Error: "], words
    assert any(line.startswith("State: maintenance mode: ") for line in peer.run("information"))
    assert peer.run("trace records=1 before=1h")[-1].startswith("OK trace saved to ")
    assert [line.split()[0] for line in peer.run("user list")[:-1]] == ["admin", "bob"]
    beside = server.command("information", "--json")
    assert json.loads(beside.stdout)["database"]["error"].startswith("maintenance mode: ")
    assert "unexpected error" not in server.log()
    assert server.stop() == 0
    assert ((folder / "callisto.db").read_bytes() if before is not None else None) == before
    assert (folder / "callisto.db").exists() == (before is not None)


def test_a_lost_database_makes_no_new_appliance(start: StartServer, folder: Path) -> None:
    """Where the database is gone no new one is made, and no new account with another password."""
    (folder / "callisto.db").unlink()
    server = start(data=folder, environment={"CALLISTO_ADMIN_PASSWORD": "Another-99"})
    peer = server.log_in(NAME, PASSWORD)
    assert "is lost" in peer.seen.decode(errors="replace")
    assert not (folder / "callisto.db").exists()


@pytest.mark.long
def test_the_command_line_says_why(start: StartServer, folder: Path) -> None:
    """Without a server, information works on a damaged folder, and other commands say what is wrong in one line."""
    _text(folder / "callisto.db")
    server = start(data=folder)
    server.stop()
    shown = server.command("information")
    assert shown.returncode == 0
    assert "State: maintenance mode: " in shown.stdout
    for words in (("variables", "list"), ("user", "list"), ("compact",)):
        done = server.command(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        assert "is not a SQLite database" in done.stderr


def test_the_accounts_of_a_good_start_are_filed(start: StartServer, folder: Path) -> None:
    """The file is its owner's alone and follows each change; one that is missing is made at the next good start."""
    file = folder / "accounts.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.unlink()
    server = start(data=folder)
    names = [each["name"] for each in json.loads(file.read_text())["accounts"]]
    assert names == ["admin", "bob"]
    assert server.log_in().run("user remove bob yes")[-1].startswith("OK ")
    assert [each["name"] for each in json.loads(file.read_text())["accounts"]] == ["admin"]


def test_an_account_file_of_a_stranger_opens_nothing(start: StartServer, folder: Path) -> None:
    """A file that others may write to is not read: only the local socket is left, and the server says so in its log."""
    _text(folder / "callisto.db")
    (folder / "accounts.json").chmod(0o666)
    server = start(data=folder)
    peer = server.connect()
    peer.expect(b" login: ")
    peer.send(f"{NAME}\r\n").expect(b"Password: ")
    peer.send(f"{PASSWORD}\r\n").expect(b"Login incorrect")
    server.wait_log("account file not used")
    assert server.command("information").returncode == 0


def test_compacting_beside_sessions(start: StartServer, folder: Path) -> None:
    """``compact`` says the sizes, the other session goes on, and the database has all its rows."""
    with closing(sqlite3.connect(folder / "callisto.db")) as connection:
        connection.execute(
            "CREATE TABLE ballast AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            " WHERE i < 2000) SELECT i, hex(randomblob(300)) AS x FROM n"
        )
        connection.execute("DROP TABLE ballast")
        connection.commit()
    server = start(data=folder)
    peer, other = server.log_in(), server.log_in("bob", BOB)
    peer.send("compact\r\n")
    assert "gWebTimeout = 33" in other.run("variables list gWebTimeout")[0]
    assert other.run("variables set gWebTimeout 34")[-1] == "OK gWebTimeout = 34 (was 33)"
    answer = peer.answer()
    assert answer[-1].startswith("OK database compacted, 1.")
    assert answer[-1].endswith(" KiB after")
    assert peer.run("repair yes")[-1].startswith("OK database is sound")
    facts = json.loads(server.command("compact", "--json").stdout)
    assert facts["before_bytes"] == facts["after_bytes"] == (folder / "callisto.db").stat().st_size
    assert any(line.startswith("Last compact: ") for line in peer.run("information"))
    assert stat.S_IMODE((folder / "callisto.db").stat().st_mode) == 0o600


def test_a_damaged_database_is_not_compacted(start: StartServer, folder: Path) -> None:
    """A page that is damaged is found before anything is written; the file stays as it is and the session goes on."""
    server = start(data=folder)
    peer = server.log_in()
    file = folder / "callisto.db"
    with closing(sqlite3.connect(file)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'call_record'").fetchone()
    with file.open("r+b") as stream:
        stream.seek((root - 1) * 4096)
        stream.write(os.urandom(4096))
    before = file.read_bytes()
    error, notice = peer.run("compact")[-2:]
    assert error.startswith("Error: the database is damaged")
    assert notice.startswith("Notice: the database is damaged")
    assert "Repair Database" in notice
    assert file.read_bytes() == before
    assert peer.run("variables show gWebTimeout")[-1].startswith("OK ")


def test_a_session_that_drops_leaves_an_open_database(start: StartServer, folder: Path) -> None:
    """Whoever goes away in the middle of compacting, or presses Ctrl-C, leaves a database that takes changes."""
    server = start(data=folder)
    other = server.log_in()
    for leave in ("close", "interrupt", "kill"):
        peer = server.log_in()
        peer.send("compact\r\n").expect(b"Checking")
        if leave == "close":
            peer.close()
        elif leave == "interrupt":
            peer.send(b"\x03").answer()
        else:
            for worker in psutil.Process(server.process.pid).children():
                worker.kill()
            assert peer.answer()[-1][:3] in {"OK ", "Err"}
        assert other.run("variables set gWebTimeout 50")[-1].startswith("OK ")
        assert other.run("variables reset gWebTimeout")[-1].startswith("OK ")
        assert {path.name for path in folder.iterdir() if path.name.startswith("callisto.db")} <= {
            "callisto.db",
            "callisto.db-journal",
        }


@pytest.mark.parametrize("name", ["callisto.db", "callisto.db-journal"])
def test_a_pipe_in_the_place_of_a_file_makes_nobody_wait(start: StartServer, folder: Path, name: str) -> None:
    """The server starts in maintenance mode, and a repair says in one line what is wrong."""
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    server = start(data=folder)
    peer = server.log_in()
    assert f"{name}' cannot be read: it is no file" in peer.seen.decode(errors="replace")
    answer = peer.run("repair yes")[-1]
    assert answer.startswith("Error: "), answer
    assert "it is no file" in answer or "is no file; nothing was changed" in answer
    assert peer.run("trace records=1 before=1h")[-1].startswith("OK ")


def test_too_little_room_for_a_repair_is_said_with_the_numbers(start: StartServer, folder: Path) -> None:
    """A damaged file that is larger than the disk: one line, nothing stops, nothing is changed."""
    with (folder / "callisto.db").open("wb") as stream:
        stream.truncate(1 << 43)
    server = start(data=folder)
    answer = server.log_in().run("repair yes")
    assert answer[-1].startswith("Error: no room for a repair: "), answer
    assert answer[-1].endswith("16.0 TiB needed; nothing was changed"), answer
    assert not (folder / "damaged").exists()
