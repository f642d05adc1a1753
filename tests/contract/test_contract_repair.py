"""Repair Database over the wire: on a sound and on a damaged appliance, beside sessions that go on working."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from callisto_telnetd.db.format.forest import survey as survey_of
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.salvage.survey import Leaf, survey
from tests.conftest import Server, servers
from tests.db.plausible import Plausible

StartServer = Callable[..., Server]
PAGE = 4096


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with rows of every kind, and the account of the tests."""
    folder = tmp_path_factory.mktemp("filled")
    file = folder / "callisto.db"
    Plausible(3).fill(file)
    with servers(folder) as start:
        server = start()
        server.stop()
        with closing(sqlite3.connect(server.data / "callisto.db")) as made:
            account = made.execute("SELECT * FROM account").fetchall()
    with closing(sqlite3.connect(file)) as target:
        target.execute("DELETE FROM account")
        target.executemany("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?)", account)
        target.commit()
    return file


def spoil(file: Path, *pages: int) -> bytes:
    """Zero pages of a file, also under a server that has it open; return what it is then."""
    with file.open("r+b") as stream:
        for page in pages:
            stream.seek((page - 1) * PAGE)
            stream.write(bytes(PAGE))
    return file.read_bytes()


@pytest.fixture
def damaged(start: StartServer, filled: Path, tmp_path: Path) -> Server:
    """A running appliance; two pages of messages and call records are damaged while it runs."""
    data = tmp_path / "damaged"
    data.mkdir(mode=0o700)
    shutil.copyfile(filled, data / "callisto.db")
    server = start(data=data)
    spoil(data / "callisto.db", *(leaf.page for leaf in leaves_of(filled)))
    return server


def leaves_of(file: Path) -> list[Leaf]:
    """Return a leaf of messages and one of call records."""
    with PageFile(file) as pages:
        found = survey(pages, lambda _done, _of: None, survey_of(pages))
    return [found.leaves[name][3] for name in ("message", "call_record")]


def test_a_sound_database_is_said_to_be_sound(start: StartServer) -> None:
    """Each step has its line, and the last one says sound; nothing is set aside."""
    server = start()
    answer = server.log_in().run("repair yes")

    assert answer[0] == "Checking: Pages, rows and indexes …"
    assert "Starting services …" in answer
    assert answer[-1].startswith("OK database is sound, ")
    assert not (server.data / "damaged").exists()


def test_a_damaged_appliance_is_repaired_beside_a_session(damaged: Server, filled: Path) -> None:
    """The steps, the report and the place of the old file are shown; another session works and is told of it."""
    message, call = leaves_of(filled)
    other, mine = damaged.log_in(), damaged.log_in()
    found = {name: (damaged.data / name).read_bytes() for name in ("callisto.db", "callisto.db-journal")}
    answer = mine.run("repair yes")

    assert answer[-1].startswith("OK database repaired, ")
    assert " lost" in answer[-1]
    assert any(line.startswith("message: ") and f"lost: {message.rows}" in line for line in answer)
    assert not any(line.startswith("quarantine:") for line in answer)
    aside = Path(next(line for line in answer if "is kept: " in line).split(": ")[1])
    assert {name: (aside / name).read_bytes() for name in found} == found  # nothing was written since
    report = json.loads((aside / "report.json").read_text())
    assert report["bad_pages"] == sorted((message.page, call.page))
    seen = other.run("whoami")
    assert sum("a repair of the database was begun by admin" in line for line in seen) == 1
    assert sum("has ended: database repaired" in line for line in seen) == 1
    assert other.run("variables set gWebTimeout 31")[-1].startswith("OK gWebTimeout = 31")
    assert mine.run("repair yes")[-1].startswith("OK database is sound")


@pytest.mark.long
def test_a_repair_goes_on_when_its_session_is_gone(damaged: Server) -> None:
    """Who leaves in the middle stops nothing: the database is repaired, and the log says so."""
    peer = damaged.log_in()
    peer.send("repair yes\r\n").expect(b"Checking")
    peer.close()

    damaged.wait_log("repair ended")
    again = damaged.log_in()
    assert "Notice: the repair of the database has ended: database repaired, " in again.seen.decode(errors="replace")
    assert again.run("repair yes")[-1].startswith("OK database is sound")


def test_a_second_repair_is_refused(damaged: Server) -> None:
    """One at a time: whoever comes second is told so, and the first goes on."""
    first, second = damaged.log_in(), damaged.log_in()
    first.send("repair yes\r\n").expect(b"Checking")

    assert second.run("repair yes")[0].startswith("Error: admin repairs the database, ")
    assert first.answer()[-1].startswith("OK database repaired")


@pytest.mark.long
def test_ctrl_c_does_not_stop_it_half_way(damaged: Server) -> None:
    """An interrupt while the repair runs changes nothing: its end is shown."""
    peer = damaged.log_in()
    peer.send("repair yes\r\n").expect(b"Checking")
    peer.send(b"\x03")

    assert peer.answer()[-1].startswith("OK database repaired")


def test_the_command_line_reports_as_json(damaged: Server, filled: Path) -> None:
    """--json gives the report and a table each, beside a running server."""
    ended = damaged.command("repair", "yes", "--json")
    facts = json.loads(ended.stdout)
    tables = {fact["table"]["table"]: fact["table"] for fact in facts if "table" in fact}

    assert ended.returncode == 0
    assert facts[0]["report"]["outcome"] == "rebuilt"
    assert tables["message"]["lost"] == leaves_of(filled)[0].rows
    assert tables["user"] == {
        "table": "user",
        "kept": 150,
        "from_damaged": 0,
        "lost": 0,
        "lost_exact": True,
        "lost_most": None,
        "quarantined": 0,
        "placeholders": 0,
        "cleared": 0,
    }


@pytest.mark.long
def test_a_server_killed_in_the_middle_starts_again(damaged: Server, start: StartServer) -> None:
    """Kill -9 while the repair runs: the next start has the old database or the new one, and a repair ends well."""
    peer = damaged.log_in()
    peer.send("repair yes\r\n").expect(b"Stopping services")
    damaged.kill()
    again = start(data=damaged.data)

    assert again.log_in().run("repair yes")[-1].startswith("OK database")
    assert not list(damaged.data.glob("callisto.db.making*"))


@pytest.mark.long
def test_a_wiped_first_page_is_no_end(damaged: Server, start: StartServer) -> None:
    """With page 1 gone the server starts in maintenance mode, and a repair brings the rows back."""
    damaged.stop()
    spoil(damaged.data / "callisto.db", 1)
    again = start(data=damaged.data)
    ended = again.command("repair", "yes")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("OK database repaired, ")
    assert again.log_in().run("variables set gWebTimeout 29")[-1].startswith("OK gWebTimeout = 29")


@pytest.mark.long
@pytest.mark.parametrize("step", ["Stopping services", "Looking at every page", "Copying rows", "Making indexes"])
def test_a_worker_that_is_killed_changes_nothing(damaged: Server, step: str) -> None:
    """As the kernel does when memory is short: one clear line, no second name of the database, and a repair works."""
    peer, other = damaged.log_in(), damaged.log_in()
    peer.send("repair yes\r\n").expect(step.encode())
    while not (workers := psutil.Process(damaged.process.pid).children()):
        assert damaged.process.poll() is None
    workers[0].kill()
    answer = peer.answer()

    assert answer[-1] == "Error: the worker for this job ended without a result (exit code -9); the log says more"
    assert (damaged.data / "callisto.db").stat().st_nlink == 1
    assert not list((damaged.data / "damaged").glob("*"))
    assert {path.name for path in damaged.data.glob("callisto.db*")} <= {"callisto.db", "callisto.db-journal"}
    assert any(line.startswith("OK gWebTimeout = 31") for line in other.run("variables set gWebTimeout 31"))
    assert other.run("repair yes")[-1].startswith("OK database repaired")
    assert len(list((damaged.data / "damaged").iterdir())) == 1


def test_what_was_set_apart_can_be_looked_at(start: StartServer, filled: Path, tmp_path: Path) -> None:
    """The report names the command that shows it; what stands in such a row drives no terminal; --json has it all."""
    data = tmp_path / "damaged"
    data.mkdir(mode=0o700)
    shutil.copyfile(filled, data / "callisto.db")
    with closing(sqlite3.connect(data / "callisto.db")) as connection:
        connection.execute("UPDATE message SET kind = 'telegram', caller = char(27) || '[2J' WHERE id % 500 = 1")
        connection.commit()
    server = start(data=data)
    peer = server.log_in()
    assert peer.run("repair quarantine") == ["OK 0 of 0 rows that repairs have set apart"]
    answer = peer.run("repair yes")
    apart = int(answer[-1].split(", ")[-1].removesuffix(" quarantined"))
    assert apart > 0
    assert "Rows that their tables do not take are set apart; 'repair quarantine' shows them" in answer

    shown = peer.run("repair quarantine 1")
    assert len(shown) == 3
    assert "message: kind is not " in shown[0]
    assert '"kind": "telegram"' in shown[1]
    assert b"\x1b" not in peer.seen
    assert shown[-1] == f"OK 1 of {apart} rows that repairs have set apart"
    facts = json.loads(server.command("repair", "quarantine", "--json").stdout)
    assert {json.loads(fact["content"])["kind"] for fact in facts if fact["table"] == "message"} == {"telegram"}
    assert peer.run("repair quarantine 0")[-1].startswith("Error: count: ")
    [last] = [line for line in peer.run("information") if line.startswith("Last repair: ")]
    assert f" {apart} set apart; the old file is in {data / 'damaged'}/" in last
