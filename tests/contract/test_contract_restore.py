"""A server that starts where a restore was cut off: settings and database are those of one state."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from callisto_telnetd.db.restore import switch as switching
from callisto_telnetd.db.restore.staging import carry_over, stage
from callisto_telnetd.db.restore.switch import making_of, new_of
from tests.conftest import ROOT, Server
from tests.db.restoring import AT, CHANGE, make_backup, make_folder, users_of
from tests.programs import ProductProcess

StartServer = Callable[..., Server]


def test_a_restore_is_finished_before_the_settings_are_read(start: StartServer, tmp_path: Path) -> None:
    """Cut off right after the point of no return, the restore is finished by the next start, settings and all."""
    live = make_folder(tmp_path / "restored")
    backup = make_backup(tmp_path / "unpacked")
    assert backup.settings is not None
    backup.settings.write_text('[appliance]\nhostname = "new"\n')
    stage(live, backup, lambda *_told: None, at=AT)
    carry_over(live, None, {}, change=CHANGE, given={})
    switching._set_aside(live, b"{}")
    making_of(live).rename(new_of(live))

    server = start(data=live.parent)
    server.connect().expect(b"new login: ")

    assert server.command("user").stdout.splitlines()[0].split()[0] == "new"
    server.wait_log("an interrupted restore was finished")
    server.stop()
    assert users_of(live) == ["new"]
    assert not new_of(live).exists()


PASSWORD = "correct horse battery"


def backed_up(server: Server, note: str = "") -> str:
    """Make a protected backup at the command line, and return its name."""
    made = server.command("backup", "create", f"note={note}", "--password-stdin", "--json", text=f"{PASSWORD}\n")
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["file"])


def test_a_restore_shows_its_plan_and_asks(start: StartServer) -> None:
    """The plan stands before the question; no changes nothing; yes brings all back; undo goes back again."""
    server = start()
    assert server.command("demo", "users=3", "messages=5").returncode == 0
    name = backed_up(server, "before the change")
    peer, other = server.log_in(), server.log_in()
    assert peer.run("variables set gWebTimeout 33")[-1].startswith("OK ")

    peer.send("backup restore\r\n").expect(f"Password of {name}: ".encode())  # the newest where none is named
    peer.send(PASSWORD + "\r\n").expect(b"Put ")
    shown = peer.seen.decode(errors="replace")
    assert "Note: before the change" in shown
    assert "Variable gWebTimeout: 33 now, 20 then" in shown
    assert peer.send("n\r\n").answer()[-1].endswith("OK nothing was changed")
    assert peer.run("variables diff")[-1] == "OK 1 variable not at the default"

    peer.send(f"backup restore {name}\r\n").expect(b"Password of ")
    peer.send(PASSWORD + "\r\n").expect(b"Checking the seal")
    assert "Error: interrupted" in peer.send(b"\x03").answer()[-1]  # long work stops before it has asked

    peer.send(f"backup restore {name} yes\r\n").expect(b"Password of ")
    assert peer.send(PASSWORD + "\r\n").answer()[-1].startswith(f"OK {name} is in place, ")
    assert peer.run("variables diff")[-1] == "OK 0 variables not at the default"
    assert any(f"the restore has ended: {name} is in place" in line for line in other.run("whoami"))
    [done] = [line for line in peer.run("backup undo yes") if line.startswith("OK ")]
    assert re.fullmatch(r"OK the state before \d{4}-\d\d-\d\d \d\d:\d\d:\d\d is in place, \d+ rows; .*", done)
    assert peer.run("variables diff")[0] == "gWebTimeout = 33 * (default 20)"
    assert not (server.data / "restore.unpacked").exists()


@pytest.mark.long
def test_a_copy_from_before_a_restore_says_so(start: StartServer) -> None:
    """Where a repair would go back to a time before the restore, that is said in its offer and in the information."""
    server = start()
    name = backed_up(server)
    copy = server.data / "backup" / "database-20200101-000000.db"
    copy.write_bytes((server.data / "callisto.db").read_bytes())
    peer = server.log_in()
    assert not any("before the restore" in line for line in peer.run("information"))
    restored = server.command("backup", "restore", name, "yes", "--password-stdin", text=f"{PASSWORD}\n")
    assert restored.returncode == 0, restored.stderr

    (told,) = (line for line in peer.run("information") if line.startswith("Newest database copy: "))
    assert "; from before the restore of 20" in told
    peer.send("repair backup=NEWEST\r\n").expect(b"[y/N]: ")
    (told,) = (line for line in peer.seen.decode(errors="replace").splitlines() if f"Note: {copy.name} " in line)
    assert " is from before the restore of 20" in told
    assert told.endswith(f": nothing of {name} is in it")
    assert peer.send("n\r\n").answer()[-1].endswith("OK nothing was changed")


@pytest.mark.long
def test_what_cannot_be_restored_is_one_line(start: StartServer, tmp_path: Path) -> None:
    """A wrong password, a changed byte, another product's file, no such file: refused, and nothing was changed."""
    server = start()
    name = backed_up(server)
    path = server.data / "backup" / name
    spoilt = path.with_name("callisto-callisto-20200101-000000.zip")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    spoilt.write_bytes(content)
    other = path.with_name("callisto-callisto-20200101-000001.zip")
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "another product")

    for words, text, said in (
        ((name,), "wrong horse battery", "the password is wrong"),
        ((name,), "", "is protected by a password; give it at the question or with --password-stdin"),
        ((spoilt.name,), PASSWORD, "its seal is broken"),
        ((other.name,), "", "is no backup of Callisto's"),
        (("callisto-callisto-20200101-000002.zip",), "", "there is no backup"),
        (("file:///no/such/callisto-a-20200101-000002.zip",), "", "No such file or directory"),
        ((f"{tmp_path}/readme.zip",), "", "is no name of a backup"),
        (("ftp://a@127.0.0.1/x/callisto-a-20200101-000002.zip",), "", "in clear text"),
        (("sftp://a:b@127.0.0.1/x/callisto-a-20200101-000002.zip",), "", "a target holds no password"),
        ((name, "key=/k"), PASSWORD, "belongs to a URL"),
        ((), "", "name a backup"),
    ):
        given = ("--password-stdin",) if text else ()
        ended = server.command("backup", "restore", *words, "yes", *given, text=f"{text}\n")
        assert ended.returncode in (1, 2), words
        assert said in ended.stderr, (words, ended.stderr)
        assert len(ended.stderr.splitlines()) == 1
    assert server.command("backup", "undo", "yes").stderr.startswith("Error: there is no state from before a restore")
    assert sorted(each.name for each in server.data.iterdir() if each.name.startswith("restore")) == []


@pytest.mark.long
def test_settings_that_no_server_starts_with_are_refused(start: StartServer, tmp_path: Path) -> None:
    """A certificate that is not here and a foreign address are told in a line each; keep-settings restores the rest.

    The server was started with a flag that stands above one of the file's settings: that one is no fault.
    """
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "callisto.toml").write_text("[limits]\nidle_s = 800\n")
    first = start(data=elsewhere)
    tls = "[telnet.tls]\ncertificate = '/no/such.pem'\nkey = '/no/such.key'\n"
    (elsewhere / "callisto.toml").write_text("[telnet]\nhost = '192.0.2.7'\nport = 1\n" + tls)
    assert first.command("variables", "set", "gWebTimeout", "44").returncode == 0
    name = backed_up(first)
    second = start(arguments=("--host", "127.0.0.1"))
    (second.data / "callisto.toml").write_text("[limits]\nidle_s = 700\n")
    (first.data / "backup" / name).rename(second.data / "backup" / name)
    words = ("backup", "restore", name, "yes", "--password-stdin")

    refused = second.command(*words, text=f"{PASSWORD}\n")
    assert refused.returncode == 1
    reason = "telnet.tls.certificate: '/no/such.pem' cannot be read: No such file or directory"
    assert refused.stderr == (
        f"Error: no server would start with callisto.toml of the backup: {reason}; 'keep-settings' leaves the settings"
        " here as they are; nothing was changed\n"
    )
    assert "192.0.2.7" not in refused.stdout
    assert second.command("variables", "diff").stdout == "OK 0 variables not at the default\n"

    done = second.command(*words[:3], "--keep-settings", *words[3:], text=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert "Settings file: stays" in done.stdout
    assert second.command("variables", "diff").stdout.startswith("gWebTimeout = 44")
    assert "idle_s = 700" in (second.data / "callisto.toml").read_text()
    second.stop()  # a command without a server knows no flag of it
    told = second.command("backup", "plan", name, "--password-stdin", text=f"{PASSWORD}\n")
    assert told.stdout.count("no server would start with callisto.toml of the backup: ") == 3  # of both ports
    assert "192.0.2.7 port 1 cannot be listened on: this machine does not have that address" in told.stdout


@pytest.mark.long
def test_an_interrupt_without_a_server_leaves_a_begun_restore_alone(start: StartServer) -> None:
    """Ctrl-C at the command line ends what only looks, with exit code 1; a restore that was begun ends as it would."""
    server = start()
    name = backed_up(server)
    server.stop()
    for sign, code, end in (
        ("Checking the seal", 1, "Error: interrupted"),
        ("Looking at the backup", 0, f"OK {name} is"),
    ):
        words = ["backup", "restore", name, "yes", "--password-stdin", "--data", str(server.data)]
        with ProductProcess(
            [sys.executable, "-m", "callisto_telnetd", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=server.environment,
            cwd=ROOT,
            text=True,
        ) as command:
            assert command.stdin is not None
            assert command.stdout is not None
            command.stdin.write(f"{PASSWORD}\n")
            command.stdin.close()
            next(line for line in command.stdout if line.startswith(sign))
            command.send_signal(signal.SIGINT)
            said = command.stdout.read()
        assert (command.returncode, said.splitlines()[-1][: len(end)]) == (code, end), said


@pytest.mark.long
def test_settings_that_the_owner_keeps_elsewhere_stay(start: StartServer, tmp_path: Path) -> None:
    """Where --config names the settings, a restore leaves them and callisto.toml alone, and the plan says so."""
    config = tmp_path / "own.toml"
    config.write_text("[telnet]\nport = 0\n")
    server = start(arguments=("--config", str(config)))
    name = backed_up(server)
    done = server.command("backup", "restore", name, "yes", "--password-stdin", text=f"{PASSWORD}\n")

    assert done.returncode == 0, done.stderr
    shown = done.stdout.partition("Looking at the backup")[0]
    assert f"Note: the settings here are '{config}', and stay: the backup's are not used" in shown
    assert not (server.data / "callisto.toml").exists()


@pytest.mark.long
def test_a_backup_is_restored_on_another_appliance(start: StartServer, tmp_path: Path) -> None:
    """Fetched from a folder onto an empty appliance, it brings the same log-ins, variables and recordings."""
    first = start()
    assert first.command("demo", "users=3", "messages=5").returncode == 0
    assert first.command("variables", "set", "gWebTimeout", "44").returncode == 0
    name = backed_up(first)
    away = tmp_path / "away"
    away.mkdir()
    (first.data / "backup" / name).rename(away / name)
    second = start()
    words = ("backup", "restore", f"{away}/{name}", "yes", "--password-stdin")
    assert "is wrong" in second.command(*words, text="wrong horse battery\n").stderr
    again = second.command(*words, text=f"{PASSWORD}\n")  # it is here now, and may be another of that name
    assert again.stderr == f"Error: {name} is here already; name it without its URL; nothing was fetched\n"
    done = second.command(*words[:2], name, *words[3:], text=f"{PASSWORD}\n")

    assert done.returncode == 0, done.stderr
    assert second.log_in().run("variables diff")[0] == "gWebTimeout = 44 * (default 20)"
    recordings = [sorted(each.name for each in (server.data / "media").iterdir()) for server in (first, second)]
    assert recordings[0] == recordings[1]
    assert recordings[0]
