"""Backups over the wire and at the command line: what a person and a script see."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DEADLINE_S, PROMPT, ROOT, Server, StartServer, servers

PASSWORD = "correct horse battery"
MADE = re.compile(r"OK backup (callisto-callisto-\d{8}-\d{6}(?:-\d+)?\.zip) made and verified, [0-9.]+ [KM]?i?B, .+")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a few users, messages and recordings, for the tests of this module."""
    with servers(tmp_path_factory.mktemp("filled")) as start:
        server = start('[services.mail]\ncommand = ["true"]\nenabled = false\n')
        assert server.log_in().run("demo users=5 messages=20 calls=20")[-1].startswith("OK ")
        yield server


def made_by(lines: list[str]) -> str:
    """Return the name of the archive that the last line tells of."""
    match = MADE.fullmatch(lines[-1])
    assert match, lines
    return match[1]


def test_the_shell_asks_for_the_password_twice(filled: Server) -> None:
    """It is not shown; the steps are; the file is protected, and 7-Zip opens it with that password."""
    peer = filled.log_in()
    peer.send("backup create note=before the change\r\n").expect(b"Password for the backup, empty for none: ")
    peer.send(PASSWORD + "\r\n").expect(b"The same again: ")
    lines = peer.send(PASSWORD + "\r\n").answer()
    name = made_by(lines)

    assert "Copying the database …" in lines
    assert "Verifying the backup …" in lines
    assert PASSWORD.encode() not in peer.seen
    assert PASSWORD not in filled.log()
    tested = subprocess.run(
        ["7zz", "t", f"-p{PASSWORD}", str(filled.data / "backup" / name)], capture_output=True, check=False
    )
    assert tested.returncode == 0, tested.stdout
    listed = peer.run("backup list")
    assert any(line.startswith(f"{name}  ") and ", protected, version " in line for line in listed), listed
    assert any(line.endswith("before the change") for line in listed)


def test_two_passwords_that_differ_change_nothing(filled: Server) -> None:
    """The second answer is another: refused, and no file is made."""
    before = sorted((filled.data / "backup").iterdir())
    peer = filled.log_in()
    peer.send("backup create\r\n").expect(b"empty for none: ")
    peer.send(PASSWORD + "\r\n").expect(b"The same again: ")

    assert peer.send(PASSWORD + "!\r\n").answer() == ["Error: the two are not the same; nothing was changed"]
    peer.send("backup create\r\n").expect(b"empty for none: ")
    assert peer.send("short\r\n").answer() == [
        "Error: the password is outside the rule: 12 to 99 printable characters, 99 bytes at most; nothing was changed"
    ]
    assert sorted((filled.data / "backup").iterdir()) == before


def test_no_password_leaves_secrets_out_and_says_so(filled: Server) -> None:
    """An empty answer: a line says what is left out; verify says the same."""
    peer = filled.log_in()
    peer.send("backup create\r\n").expect(b"empty for none: ")
    lines = peer.send("\r\n").answer()
    name = made_by(lines)

    assert lines[0].startswith("No password: accounts, PINs and the settings file are left out")
    verified = peer.run(f"backup verify {name}")
    assert "Accounts and PINs: not in it" in verified
    assert "Left out: callisto.toml" in verified
    assert verified[-1].startswith(f"OK backup {name} is whole, ")


def test_the_command_line_takes_the_password_from_standard_input(filled: Server) -> None:
    """Create, verify, list and delete beside a running server, with --json where it gives facts."""
    made = filled.command("backup", "create", "--password-stdin", "--json", text=PASSWORD + "\n")
    assert made.returncode == 0, made.stderr
    facts = json.loads(made.stdout)
    name = facts["file"]

    assert (facts["protected"], facts["verified"], facts["recordings"] > 0) == (True, True, True)
    verified = json.loads(
        filled.command("backup", "verify", name, "--password-stdin", "--json", text=PASSWORD + "\n").stdout
    )
    assert (verified["host"], verified["secrets"], verified["rows"]) == ("callisto", True, facts["rows"])
    wrong = filled.command("backup", "verify", name, "--password-stdin", text="another password\n")
    assert (wrong.returncode, "the password is wrong" in wrong.stderr) == (1, True)
    listed = json.loads(filled.command("backup", "list", "--json").stdout)
    assert next(each for each in listed if each["file"] == name)["protected"] is True
    assert filled.command("backup", "delete", name).returncode == 2
    assert filled.command("backup", "delete", name, "yes").returncode == 0
    assert not (filled.data / "backup" / name).exists()


@pytest.mark.parametrize("given", [b"", b"\n", b"a long p\xe4ssword\n"])
def test_a_password_that_is_none_makes_no_open_backup(tmp_path: Path, given: bytes) -> None:
    """An empty file, an empty line or what is no text is refused where --password-stdin is said."""
    words = ["backup", "create", "--password-stdin", "--data", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-m", "callisto_telnetd", *words], cwd=ROOT, input=given, capture_output=True, check=False
    )

    assert ended.returncode == 2
    assert ended.stderr.count(b"\n") == 1
    assert b"password" in ended.stderr
    assert b"nothing was changed" in ended.stderr
    assert list(tmp_path.glob("backup/*")) == []


def test_a_password_for_what_none_protects_is_refused(filled: Server) -> None:
    """Whoever gives one expects a protected file: another may have been put in its place."""
    name = json.loads(filled.command("backup", "create", "--json").stdout)["file"]
    ended = filled.command("backup", "verify", name, "--password-stdin", text=PASSWORD + "\n")

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Error: no password protects {name}, but one was given")
    assert filled.command("backup", "verify", name).returncode == 0


def test_a_backup_goes_by_any_path_and_name(filled: Server, tmp_path: Path) -> None:
    """Renamed and elsewhere, named from where the caller stands; without one the newest; errors say the name alone."""
    peer = filled.log_in()
    made = filled.command("backup", "create", "--password-stdin", "--json", text=f"{PASSWORD}\n")
    name = json.loads(made.stdout)["file"]
    (tmp_path / "old box").mkdir()
    elsewhere = tmp_path / "old box" / "before.backup"
    elsewhere.write_bytes((filled.data / "backup" / name).read_bytes())
    relative = os.path.relpath(elsewhere, ROOT)
    for words in (("verify",), ("plan", relative)):
        ended = filled.command("backup", *words, "--password-stdin", text=f"{PASSWORD}\n")
        assert ended.returncode == 0, ended
        shown = "before.backup" if len(words) > 1 else name
        assert f"OK backup {shown} " in ended.stdout
    peer.send(f"backup plan '{elsewhere}'\r\n").expect(b"Password of before.backup: ")
    wrong = peer.send("another password\r\n").answer()[-1]
    assert wrong == "Error: 'before.backup': the password is wrong; nothing was changed"
    peer.send(f"backup verify '{elsewhere}'\r\n").expect(b"Password of before.backup: ")
    assert peer.send(PASSWORD + "\r\n").answer()[-1].startswith("OK backup before.backup is whole, ")
    assert peer.run(f"backup delete '{elsewhere}' yes")[-1].startswith("Error: there is no backup ")


def test_settings_that_a_restore_would_refuse_are_told(filled: Server) -> None:
    """A backup of settings with which no server would start says so when it is made, and not only on the way back."""
    settings = filled.data / "callisto.toml"
    before = settings.read_text()
    settings.write_text(f"{before}[appliance]\nedition = 'none'\n")
    try:
        peer = filled.log_in()
        peer.send("backup create\r\n").expect(b"empty for none: ")
        peer.send(PASSWORD + "\r\n").expect(b"The same again: ")
        made = peer.send(PASSWORD + "\r\n").answer()
    finally:
        settings.write_text(before)

    (note,) = (line for line in made if line.startswith("Note: "))
    assert note.startswith("Note: a restore leaves these settings out, with 'keep-settings': appliance.edition: ")
    name = made_by(made)
    plan = filled.command("backup", "plan", name, "--password-stdin", text=f"{PASSWORD}\n")
    assert "no server would start with callisto.toml of the backup: appliance.edition: " in plan.stderr


@pytest.mark.long
def test_a_generated_password_is_shown_once(filled: Server) -> None:
    """The line that shows it opens the archive; neither log nor audit has it."""
    peer = filled.log_in()
    lines = peer.run("backup create generated")
    name = made_by(lines)
    shown = next(line for line in lines if line.startswith("The password is "))
    password = shown.split()[3]
    peer.send(f"backup verify {name}\r\n").expect(b": ")

    assert peer.send(password + "\r\n").answer()[-1].startswith(f"OK backup {name} is whole")
    assert password not in filled.log()
    assert not any(password in line for line in peer.run("audit"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("backup", "verify", "nothing.zip"), 2, "there is no backup 'nothing.zip'"),
        (("backup", "verify", "/nowhere/callisto.db"), 2, "there is no file '/nowhere/callisto.db'"),
        (("backup", "verify", "/dev/null"), 1, "'/dev/null' is no file"),
        (("backup", "delete", "callisto.db", "yes"), 2, "there is no backup 'callisto.db'"),
        (("backup", "create", "nonsense"), 2, "usage: backup create"),
        (("backup", "verify", "a", "b"), 2, "usage: backup verify [FILE]"),
        (("backup", "restore", "yes"), 2, "name the backup where 'yes' stands for the question"),
        (("backup", "create", "--password-stdin"), 2, "the password is outside the rule"),
    ],
)
def test_bad_input_is_one_line(filled: Server, words: tuple[str, ...], code: int, said: str) -> None:
    """No such file, a name that climbs, a word too many, a password too short: nothing changed, exit code not 0."""
    ended = filled.command(*words, text="short\n")

    assert ended.returncode == code
    assert len([line for line in ended.stderr.splitlines() if said in line]) == 1, ended


def test_another_products_file_is_refused(filled: Server) -> None:
    """A file of our name that holds something else is said to be none."""
    path = filled.data / "backup" / "callisto-other-20200101-000000.zip"
    path.write_bytes(b"PK\5\6" + bytes(18))
    try:
        ended = filled.command("backup", "verify", path.name)
        listed = filled.command("backup", "list").stdout
    finally:
        path.unlink()

    assert (ended.returncode, "is no backup of Callisto's, or is cut off" in ended.stderr) == (1, True)
    assert f"{path.name}  " in listed
    assert "not a backup inside" in listed


def test_information_tells_of_the_last_good_backup(start: StartServer) -> None:
    """Never at first; then its age and name; where it was deleted, that too."""
    server = start()
    peer = server.log_in()
    assert "Last good backup: never" in peer.run("information")
    name = made_by(peer.run("backup create generated"))
    assert any(re.fullmatch(rf"Last good backup: \d+ s ago, {name}", line) for line in peer.run("information"))
    peer.run(f"backup delete {name} yes")
    assert any(line.endswith(f"{name}, which is no longer here") for line in peer.run("information"))


def test_ctrl_c_stops_it_and_leaves_nothing(filled: Server) -> None:
    """Whether it came in time or not: no unfinished file, and the next command works."""
    peer = filled.log_in()
    peer.send("backup create generated\r\n").expect("Copying the database …".encode())
    peer.send(b"\x03").expect(PROMPT)

    assert peer.run("backup list")[-1].startswith("OK ")
    assert not [path for path in (filled.data / "backup").iterdir() if path.name.startswith(".")]


@pytest.mark.long
def test_it_works_on_the_folder_without_a_server(tmp_path: Path, start: StartServer) -> None:
    """The command line makes and verifies an archive where no server runs."""
    server = start()
    server.stop()
    made = server.command("backup", "create", "--note", "without a server")

    assert (made.returncode, made.stdout.splitlines()[0][:12]) == (0, "No password:"), made.stderr
    name = made_by(made.stdout.splitlines())
    assert "Note: without a server" in server.command("backup", "verify", name).stdout


@pytest.mark.long
def test_a_server_killed_in_the_middle_leaves_no_litter(start: StartServer) -> None:
    """Kill -9 while a backup is made: at the next start there is a whole archive or none, and nothing else."""
    server = start()
    server.log_in().run("demo users=20 messages=600 calls=100", DEADLINE_S * 4)
    for step in ("Copying", "Writing", "Verifying"):
        peer = server.log_in()
        peer.send("backup create generated\r\n").expect(step.encode())
        server.kill()
        server = start(data=server.data)
        left = list((server.data / "backup").iterdir())
        assert not [path for path in left if path.name.startswith(".")], (step, left)
        assert server.log_in().run("backup create generated")[-1].startswith("OK ")


@pytest.mark.long
def test_the_worker_is_told_the_password_in_no_argument(filled: Server) -> None:
    """What anybody on the machine may read of a process holds no password: all of /proc is looked at meanwhile."""
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "callisto_telnetd",
            "backup",
            "create",
            "--password-stdin",
            "--data",
            str(filled.data),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as command:
        assert command.stdin is not None
        command.stdin.write(PASSWORD + "\n")
        command.stdin.close()
        seen = set()
        while command.poll() is None:
            for each in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(each.read_bytes())
                except OSError:
                    continue
    assert any(b"maintenance.worker" in line for line in seen)
    assert not any(PASSWORD.encode() in line for line in seen)
