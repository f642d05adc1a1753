"""Every command without a terminal, beside a running server (``beside``) and on the folder itself (``without``)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run, make_appliance, run_program
from tests.conftest import PASSWORD, Server


def test_a_variable_is_set_shown_and_reset(run: Run, appliance: Path) -> None:
    """set, show, list, diff and reset tell what they did, and the next command sees it."""
    run("variables", "reset", "gWebTimeout", data=appliance).require(0)

    assert run("variables", "set", "gWebTimeout", "30", data=appliance).require(0).lines == [
        "OK gWebTimeout = 30 (was 20)"
    ]
    assert "gWebTimeout = 30 *" in run("variables", "list", data=appliance).require(0).lines
    assert "gWebTimeout = 30 * (default 20)" in run("variables", "diff", data=appliance).require(0).lines
    assert "Now: 30 minutes" in run("variables", "show", "gWebTimeout", data=appliance).require(0).lines
    assert run("variables", "reset", "gWebTimeout", data=appliance).lines == ["OK gWebTimeout = 20 (was 30)"]


def test_options_are_taken_as_people_write_them(run: Run, appliance: Path) -> None:
    """``--note TEXT`` and ``--note=TEXT`` are ``note=TEXT``; a value below zero is a value, and no option."""
    for words in (("--note", "why"), ("--note=why",), ("note=why",)):
        run("variables", "set", "gStripCallerID", str(len(words) + 3), *words, data=appliance).require(0)
        run("variables", "reset", "gStripCallerID", *words, data=appliance).require(0)
        change = run("variables", "history", "gStripCallerID", "--json", data=appliance).facts[-1]
        assert (change["note"], change["new"]) == ("why", 0)
    run("variables", "set", "gWebTimeout", "-1", data=appliance).require(2, err="'-1' is not a whole number of minutes")


def test_history_and_undo(run: Run, appliance: Path) -> None:
    """A change stands in the history with who, door and note; undo puts back what it replaced."""
    run("variables", "reset", "gRecordVolume", data=appliance)
    run("variables", "set", "gRecordVolume", "410", "note=louder please", data=appliance).require(0)

    last = run("variables", "history", "gRecordVolume", "--json", data=appliance).require(0).facts[-1]
    undone = run("variables", "undo", str(last["number"]), data=appliance).require(0)

    assert (last["new"], last["note"], last["door"]) == (410, "louder please", "local")
    assert undone.lines == [f"OK gRecordVolume = 400 (was 410), undoes change {last['number']}"]
    run("variables", "undo", "999999", data=appliance).require(2, err="Error: ")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("set", "gWebTimeout", "abc"), 2, "Error: gWebTimeout: 'abc' is not a whole number of minutes from 0 to 1440"),
        (("set", "gWebTimeuot", "3"), 2, "did you mean gWebTimeout?"),
        (("set", "gWebTimeout"), 2, "usage: set NAME VALUE"),
        (("show",), 2, "usage: show NAME"),
        (("fly",), 2, "no command 'fly' in the variables menu"),
        (("import",), 2, "usage: variables import FILE|-"),
        (("import", "/nonexistent/file"), 2, "'/nonexistent/file' cannot be read: No such file or directory"),
        (("import", "-", "yes", "no"), 2, "usage: import"),
        (("import", "/dev/zero", "yes"), 2, "'/dev/zero' cannot be read: it is no regular file"),
    ],
)
def test_misuse_is_one_line_and_exit_2(
    run: Run, appliance: Path, words: tuple[str, ...], code: int, reason: str
) -> None:
    """What cannot be taken is told in one line on stderr that says what is allowed; nothing goes to stdout."""
    assert run("variables", *words, data=appliance).require(code, err=reason).out == ""


def test_an_export_comes_back(run: Run, appliance: Path, tmp_path: Path) -> None:
    """Export writes what import takes; import shows a diff, asks unless yes is there, and takes all or nothing."""
    run("variables", "reset", "gWebTimeout", data=appliance)
    exported = run("variables", "export", data=appliance).require(0, err="OK 17 variables exported").out
    changed = "".join(
        line.replace("= 20", "= 45") if line.startswith("gWebTimeout") else line
        for line in exported.splitlines(keepends=True)
    )
    file = tmp_path / "variables.txt"
    file.write_text(changed)

    refused = run("variables", "import", str(file), data=appliance).require(2, err="'yes' as the last word")
    assert refused.lines == ["gWebTimeout = 45 (now 20)"]
    assert run("variables", "show", "gWebTimeout", "--json", data=appliance).facts["value"] == 20

    taken = run("variables", "import", str(file), "yes", data=appliance).require(0)
    assert taken.lines[0] == "gWebTimeout = 45 (now 20)"
    assert re.fullmatch("OK 1 variables? imported", taken.lines[1])
    assert run("variables", "import", str(file), "yes", data=appliance).lines == ["OK nothing to change"]

    mixed = changed.replace("= 45", "= 46").replace("gBridgeTransfer = 0", "gBridgeTransfer = 7")
    run("variables", "import", "-", "yes", data=appliance, text=mixed).require(2, err="gBridgeTransfer: '7'")
    assert run("variables", "show", "gWebTimeout", "--json", data=appliance).facts["value"] == 45

    run("variables", "import", "-", "yes", data=appliance, text="gWebTimeout = 20\n").require(0)


@pytest.mark.parametrize("text", [b"gWebTimeout = \xff\n", b"# \n" * 40_000, b"nothing\n"])
def test_an_import_that_is_none_changes_nothing(run: Run, appliance: Path, text: bytes) -> None:
    """Text that is not UTF-8, too long, or not NAME = VALUE is refused with one line."""
    assert run("variables", "import", "-", "yes", data=appliance, text=text).require(2, err=" ").out == ""


def test_accounts(run: Run, appliance: Path) -> None:
    """An account is added and changed with --password-stdin, listed and removed; the password is printed nowhere."""
    first = [] if run("user", "list", "--json", data=appliance).facts else ["keeper"]
    for name in [*first, "bob"]:
        added = run("user", "add", name, "--password-stdin", data=appliance, text=PASSWORD + "\n").require(0)
        assert added.lines == [f"OK account {name} added"]

    marked = "\ufeffOther-456\r\n"  # as an editor on Windows writes a file; the mark is no part of the password
    changed = run("user", "passwd", "bob", "--password-stdin", data=appliance, text=marked).require(0)
    assert changed.lines[0].startswith("OK password of bob changed, 0 other session")
    assert "bob" in [each["name"] for each in run("user", "list", "--json", data=appliance).facts]

    run("user", "add", "bob", "--password-stdin", data=appliance, text=PASSWORD).require(2, err="exists already")
    run("user", "add", "bo b", "--password-stdin", data=appliance, text=PASSWORD).require(2, err="allowed: a letter")
    weak = run("user", "add", "eve", "--password-stdin", data=appliance, text="weakling\n").require(2, err="8 to 128")
    assert "weakling" not in weak.err
    run("user", "add", "eve", "--password-stdin", data=appliance, text="").require(2, err="8 to 128")
    run("user", "add", "eve", data=appliance).require(2, err="--password-stdin")
    run("user", "passwd", "eve", "--password-stdin", data=appliance, text=PASSWORD).require(
        2, err="no account named 'eve'"
    )
    run("user", "remove", "bob", data=appliance).require(2, err="'yes' as the last word")
    removed = run("user", "remove", "bob", "yes", data=appliance).require(0)
    assert removed.lines[0].startswith("OK account bob removed, 0 other session")

    left = [each["name"] for each in run("user", "list", "--json", data=appliance).require(0).facts]
    assert "bob" not in left
    for name in left[1:]:
        run("user", "remove", name, "yes", data=appliance).require(0)
    run("user", "remove", left[0], "yes", data=appliance).require(2, err="is the only account")
    assert PASSWORD not in run("audit", "1000", data=appliance).require(0).out


def test_an_account_made_at_the_command_line_logs_in(run: Run, own_server: Server) -> None:
    """A new account logs in at once; a changed password and a removal end its sessions with the reason."""
    data = own_server.data
    run("user", "add", "carol", "--password-stdin", data=data, text="Carol-1234\n").require(0)
    peer = own_server.log_in("carol", "Carol-1234")

    changed = run("user", "passwd", "carol", "--password-stdin", data=data, text="Carol-5678\n").require(0)
    assert re.fullmatch("OK password of carol changed, 1 other sessions? ended", changed.lines[0])
    assert b"Closed: the password of this account was changed." in peer.expect_closed()

    peer = own_server.log_in("carol", "Carol-5678")
    run("user", "remove", "carol", "yes", data=data).require(0)
    assert b"Closed: this account was removed." in peer.expect_closed()


def test_the_database_is_checked_after_a_yes(run: Run, appliance: Path) -> None:
    """Repair refuses without yes where nobody can be asked; with it, each step is told and the last line says sound."""
    assert run("repair", data=appliance).require(2, err="'yes' as the last word").out == ""

    lines = run("repair", "yes", data=appliance).require(0).lines

    assert any(line.endswith("Pages, rows and indexes …") for line in lines), lines
    assert lines[-1].startswith("OK database is sound")
    assert run("information", "--json", data=appliance).facts["database"]["last_check"]["sound"] is True


def test_the_clock_is_set_and_kept(run: Run, appliance: Path) -> None:
    """Date shows the clock, sets it and its zone, and refuses what is no date with what is allowed."""
    try:
        run("date", "zone", "Europe/Zurich", data=appliance).require(0)
        assert (
            run("date", "2030-01-02 03:04:05", data=appliance).require(0).lines[-1].startswith("OK 2030-01-02 03:04:05")
        )
        clock = run("date", "--json", data=appliance).require(0).facts
        assert clock["at"].startswith("2030-01-02T03:0")
        assert clock["zone"] == "Europe/Zurich"
        run("date", "2030-13-02 03:04:05", data=appliance).require(2, err="Error: ")
    finally:
        run("date", "zone", "UTC", data=appliance)


@pytest.mark.parametrize(
    "words",
    [
        ("variables", "list"),
        ("variables", "diff"),
        ("variables", "show", "gWebServerRestart"),
        ("variables", "export"),
        ("variables", "history"),
        ("user", "list"),
        ("trace", "list"),
        ("information",),
        ("repair", "yes"),
        ("date",),
        ("sessions",),
        ("audit",),
    ],
)
def test_facts_come_as_one_json_document(run: Run, appliance: Path, words: tuple[str, ...]) -> None:
    """With --json standard output is one line of JSON, whether there is something to tell or not."""
    outcome = run(*words, "--json", data=appliance).require(0)

    assert isinstance(outcome.facts, dict | list)
    assert len(outcome.lines) == 1


def test_a_mistake_is_json_too(run: Run, appliance: Path) -> None:
    """With --json an error is one document on standard output, wherever it is found; facts stand before it."""
    for words, code in (
        (("variables", "show", "gNothing"), 2),
        (("variables", "lst"), 2),
        (("help", "lst"), 2),
        (("variables", "import", "/none"), 2),
        (("nosuch",), 2),
        (("trace", "show", "/none.log"), 2),
        (("trace", "stop", "nosuch.log"), 1 if appliance.name == "data" else 2),
    ):
        failed = run(*words, "--json", data=appliance).require(code).facts
        assert (list(failed), failed["exit"]) == (["error", "exit"], code)
        assert not failed["error"].startswith("Error")
    *planned, failed = (
        run("variables", "import", "-", "--json", data=appliance, text="gWebTimeout = 9\n").require(2).facts
    )
    assert [each["name"] for each in planned] == ["gWebTimeout"]
    assert failed["exit"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ("variables", "show", "gNothing"),
        ("variables", "undo", "999999"),
        ("user", "passwd", "nobody", "--password-stdin"),
        ("user", "remove", "nobody", "yes"),
        ("services", "restart", "nosuch"),
        ("services", "log", "nosuch"),
        ("sessions", "end", "999"),
        ("backup", "verify", "nosuch.zip"),
        ("backup", "delete", "nosuch.zip", "yes"),
        ("backup", "plan", "nosuch.zip"),
        ("backup", "restore", "nosuch.zip", "yes"),
        ("backup", "schedule", "run", "nosuch"),
        ("trace", "show", "nosuch.log"),
        ("trace", "delete", "nosuch.log", "yes"),
        ("trace", "show", "/nonexistent/nosuch.log"),
        ("variables", "import", "/nonexistent/file"),
        ("date", "zone", "Nowhere/Land"),
        ("nosuch",),
        ("help", "nosuch"),
    ],
    ids=" ".join,
)
def test_the_name_of_what_is_not_there_is_misuse(run: Run, appliance: Path, words: tuple[str, ...]) -> None:
    """Whatever kind of thing it is that does not exist, the exit code is 2, and the line begins with Error."""
    outcome = run(*words, data=appliance, text=PASSWORD).require(2, err="Error: ")

    assert outcome.out == ""
    assert outcome.err.startswith("Error: ")


def test_everybody_sees_who_is_on(run: Run, own_server: Server) -> None:
    """Sessions at the command line lists the Telnet sessions with account, source and door."""
    own_server.log_in()

    facts = run("sessions", "--json", data=own_server.data).require(0).facts

    assert ("admin", "127.0.0.1", "telnet") in [(each["who"], each["source"], each["door"]) for each in facts]
    assert re.fullmatch(f"OK {len(facts)} sessions?", run("sessions", data=own_server.data).lines[-1])


def test_a_change_is_seen_by_the_sessions_at_once(run: Run, own_server: Server) -> None:
    """What the command line sets, a Telnet session shows with its next command, and the other way round."""
    peer = own_server.log_in()
    run("variables", "set", "gTimeServer", "ntp.example.org", data=own_server.data).require(0)

    assert "gTimeServer = ntp.example.org *" in peer.run("variables list gTimeServer")
    assert peer.run("variables reset gTimeServer")[-1].startswith("OK gTimeServer")
    assert (
        run("variables", "show", "gTimeServer", "--json", data=own_server.data).facts["last_change"]["door"] == "telnet"
    )


def test_the_audit_tells_the_door_of_a_change(run: Run, appliance: Path) -> None:
    """A change at the command line stands in the audit with the system's user and the local door."""
    run("variables", "set", "gStripCallerID", "3", data=appliance).require(0)
    run("variables", "reset", "gStripCallerID", data=appliance).require(0)

    entries = run("audit", "5", "--json", data=appliance).require(0).facts

    assert "gStripCallerID = 3 (was default)" in [each["detail"] for each in entries]
    assert {each["door"] for each in entries if "gStripCallerID" in each["detail"]} == {"local"}


def test_what_needs_a_session_is_refused(run: Run, appliance: Path) -> None:
    """A question that only a menu asks is refused without a terminal, in one line."""
    run("variables", "3", data=appliance).require(2, err="nobody to ask without a terminal")


def test_the_folder_comes_from_the_environment(tmp_path: Path) -> None:
    """$CALLISTO_DATA names the data folder, --data stands above it; folder and database are the owner's alone."""
    environment = {"CALLISTO_DATA": str(tmp_path / "named")}
    run_program("demo", "--users", "1", "--messages", "0", "--calls", "0", environment=environment).require(0)
    run_program("variables", "set", "gWebTimeout", "31", environment=environment).require(0)
    make_appliance(tmp_path / "d")

    assert (tmp_path / "named").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "named" / "callisto.db").stat().st_mode & 0o777 == 0o600
    other = run_program("variables", "list", data=tmp_path / "d", environment=environment)
    assert "gWebTimeout = 20" in other.require(0).lines
