"""The trace without a terminal: beside a server, and on the folder alone, where only the files can be had."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from tests.cli.conftest import Run, make_appliance, run_program, tree_of
from tests.conftest import DEADLINE_S, ROOT, Server
from tests.programs import ProductProcess, TerminalProcess

TEXT = """\
; Callisto 1.0.0, edition ucm, host callisto
; filter: none
2026-01-02T03:04:05.000006+01:00 web[7] INFO plain key=value
2026-01-02T03:04:05.100006+01:00 web[7] WARNING full to 100 %
2026-01-02T03:04:05.200006+01:00 phone[-] ERROR callisto#
2026-01-02T03:04:05.300006+01:00 phone[-] DEBUG word:
2026-01-02T03:04:05.400006+01:00 web[7] INFO ends with blanks   \n\
; ended: stopped by admin; 5 records
"""
NAME = "20260102-030405-admin.log"


@pytest.fixture
def file(appliance: Path) -> Iterator[Path]:
    """A capture's file, in the folder beside a running server and in one that no server runs on."""
    path = appliance / "trace" / NAME
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(TEXT)
    yield path
    path.unlink(missing_ok=True)


@contextmanager
def _program(server: Server, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside the server; it is ended with the block, at the latest."""
    with ProductProcess(
        [sys.executable, "-m", "callisto_telnetd", "trace", *words, "--data", str(server.data)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=ROOT,
        env=server.environment,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def _say(server: Server, *texts: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(server.data / "run" / "trace.sock"))
        for text in texts:
            sender.send(f"<12>web[7]: {text}".encode())


def _line(program: subprocess.Popen[bytes]) -> str:
    """Return the next line of its standard output."""
    assert program.stdout is not None
    assert select.select([program.stdout], [], [], DEADLINE_S)[0]
    return program.stdout.readline().decode().rstrip("\n")


# The files, with and without a server


def test_a_file_is_listed_shown_and_deleted(run: Run, appliance: Path, file: Path) -> None:
    """The list has its name, size, start and state, show its very lines; it goes after a yes, and then is not there."""
    [listed] = [
        each for each in run("trace", "list", "--json", data=appliance).require(0).facts if each["file"] == NAME
    ]
    assert listed == {
        "file": NAME,
        "size_bytes": len(TEXT),
        "at": "2026-01-02T03:04:05+00:00",
        "state": "ended",
    }
    assert f"{NAME} " in run("trace", "list", data=appliance).require(0).out
    assert run("trace", "show", NAME, data=appliance).require(0, err=f"OK 8 lines of {NAME}").out == TEXT

    run("trace", "delete", NAME, data=appliance).require(2, err="'yes' as the last word")
    assert file.exists()
    assert run("trace", "delete", NAME, "yes", data=appliance).require(0).lines == [f"OK {NAME} deleted"]
    assert not file.exists()
    run("trace", "show", NAME, data=appliance).require(2, err=f"no trace file named '{NAME}'; see 'trace list'")
    run("trace", "show", "../nosuch.log", data=appliance).require(2, err="no trace file '")


def test_a_copied_file_is_read_where_no_appliance_is(run: Run, tmp_path: Path) -> None:
    """A path under any name is shown and exported without an appliance, and nothing is made for it."""
    copied, nowhere = tmp_path / "from site.txt", tmp_path / "none"
    copied.write_text(TEXT)
    before = tree_of(tmp_path)

    assert run("trace", "show", str(copied), data=nowhere).require(0, err="OK 8 lines of ").out == TEXT
    exported = run("trace", "export", str(copied), "format=csv", data=nowhere).require(0, err="OK ")
    assert exported.lines[0] == "at,process,pid,level,text,fields"
    assert tree_of(tmp_path) == before
    assert run("trace", "show", str(copied), data=make_appliance(nowhere)).out == TEXT


def test_records_are_shown_as_data(run: Run, appliance: Path, file: Path) -> None:
    """With --json each record is an object, and what is no record is a comment."""
    shown = [json.loads(line) for line in run("trace", "show", NAME, "--json", data=appliance).require(0).lines]

    assert shown[:2] == [{"comment": "Callisto 1.0.0, edition ucm, host callisto"}, {"comment": "filter: none"}]
    assert shown[2] == {
        "at": "2026-01-02T03:04:05.000006+01:00",
        "process": "web",
        "pid": 7,
        "level": "info",
        "text": "plain",
        "fields": {"key": "value"},
    }
    assert shown[4]["pid"] is None
    assert shown[-1] == {"comment": "ended: stopped by admin; 5 records"}
    assert len(shown) == 8


@pytest.mark.parametrize("words", [("format=text",), ("--format", "text"), ("--format=text",)])
def test_an_export_has_the_exact_bytes(run: Run, appliance: Path, file: Path, words: tuple[str, ...]) -> None:
    """No line is changed behind a command line, where no script waits for a prompt; what was done is on stderr."""
    records = "".join(line for line in TEXT.splitlines(keepends=True) if not line.startswith(";"))

    exported = run("trace", "export", NAME, *words, data=appliance).require(0, err=f"OK 5 records of {NAME} as text")
    assert exported.out == records
    redirected = run_program("trace", "export", NAME, *words, data=appliance).require(0, err="OK 5 records")
    assert redirected.out == records


def test_an_export_in_other_forms(run: Run, appliance: Path, file: Path) -> None:
    """JSON Lines and CSV, with filters; the options may be written in either way and anywhere."""
    as_json = run("trace", "export", NAME, data=appliance).require(0, err="as jsonl")
    assert [json.loads(line)["text"] for line in as_json.lines] == [
        "plain",
        "full to 100 %",
        "callisto#",
        "word:",
        "ends with blanks   ",
    ]
    assert run("trace", "export", NAME, "--json", data=appliance).require(0).out == as_json.out
    for words in (("format=csv",), ("--format", "csv")):
        exported = run("trace", "export", *words, NAME, "level=warning", data=appliance).require(0, err="2 records")
        assert exported.out == (
            "at,process,pid,level,text,fields\n"
            "2026-01-02T03:04:05.100006+01:00,web,7,warning,full to 100 %,\n"
            "2026-01-02T03:04:05.200006+01:00,phone,,error,callisto#,\n"
        )


def test_a_file_is_played(run: Run, appliance: Path, file: Path) -> None:
    """Play shows the records in order and just as they are, at the speed asked for, with filters."""
    played = run("trace", "play", NAME, "speed=1000", "web", data=appliance).require(0)

    assert [line.split(" ", 1)[1] for line in played.lines[:-1]] == [
        "web[7] INFO plain key=value",
        "web[7] WARNING full to 100 %",
        "web[7] INFO ends with blanks   ",
    ]
    assert played.lines[-1] == f"OK 3 records of {NAME} shown"
    as_json = run("trace", "play", NAME, "--speed", "1000", "--json", data=appliance).require(0).lines
    assert [json.loads(line)["level"] for line in as_json] == ["info", "warning", "error", "debug", "info"]


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("export", NAME, "--format", "xml"), 2, "format: 'xml' is not text, jsonl or csv"),
        (("export", NAME, "--format"), 2, "format: '' is not text, jsonl or csv"),
        (
            ("export", NAME, "--colour"),
            2,
            "'--colour' is no option of trace export; allowed: format=, level= or match=",
        ),
        (("export", NAME, "match=("), 2, "match: '(' is no regular expression"),
        (("play", NAME, "speed=fast"), 2, "speed: 'fast' is not a number from 0.1 to 1000"),
        (("show", "20200101-000000-admin.log"), 2, "no trace file named '20200101-000000-admin.log'"),
        (("delete", "nosuch.log", "yes"), 2, "no trace file named 'nosuch.log'"),
        (("list", "all"), 2, "usage: trace list"),
        (("colour=red",), 2, "'colour=red' is no option of trace"),
    ],
)
def test_misuse_is_one_line(
    run: Run, appliance: Path, file: Path, words: tuple[str, ...], code: int, reason: str
) -> None:
    """What cannot be taken is one line on stderr that says what is allowed; stdout is empty and nothing has changed."""
    before = tree_of(appliance / "trace")
    if words == ("colour=red",) and not (appliance / "run" / "control.sock").exists():
        code, reason = 1, "no server runs on this data folder"

    assert run("trace", *words, data=appliance).require(code, err=reason).out == ""
    assert tree_of(appliance / "trace") == before


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("for=1s",),
        ("start",),
        ("status",),
        ("processes",),
        ("attach", NAME),
        ("stop", NAME),
        ("stop", "all"),
        ("tail",),
    ],
    ids=" ".join,
)
def test_nothing_is_traced_without_a_server(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    """A command alone has nothing to trace: it says so at once, exits 1, and makes no file."""
    endless = words in {(), ("tail",)}
    outcome = (run_program if endless else run)("trace", *words, data=make_appliance(tmp_path / "data"))

    outcome.require(1, err="Error: no server runs on this data folder: there is nothing to trace")
    assert outcome.out == ""
    assert list((tmp_path / "data" / "trace").iterdir()) == []


# Beside a server


def test_a_trace_is_saved(run: Run, own_server: Server) -> None:
    """A capture at the command line prints the table, the records and the last line, and saves the file."""
    _say(own_server, "one", "two % ")
    with _program(own_server, "tail", "before=1h", "match=two %") as tail:
        _line(tail)  # both are held now
    lines = run("trace", "web", "before=1h", "match=^(one|two)", "records=2", data=own_server.data).require(0).lines
    name = lines[-1].split()[4].rstrip(",")

    assert lines[0].split()[0] == "PROCESS"
    assert lines[1].split()[0] == "callisto-telnetd"
    assert lines[2].startswith("Live records follow")
    assert [line.split(" ", 1)[1] for line in lines[3:5]] == ["web[7] WARNING one", "web[7] WARNING two % "]
    assert re.fullmatch(r"OK trace saved to [0-9]{8}-[0-9]{6}-\S+\.log, 2 records, 0 not shown, [0-9]+ B", lines[-1])
    assert lines[3] in (own_server.data / "trace" / name).read_text()


def test_a_trace_of_json_is_json_lines(run: Run, own_server: Server) -> None:
    """With --json each line of stdout is a record or a comment, and the file is JSON Lines too."""
    _say(own_server, "json one", "json two \x1b")
    with _program(own_server, "tail", "before=1h", "match=json two", "--json") as tail:
        assert json.loads(_line(tail))["text"] == r"json two \x1b"
    before = set((own_server.data / "trace").iterdir())
    lines = run("trace", "before=1h", "match=^json", "records=2", "--json", data=own_server.data).require(0).lines
    [file] = set((own_server.data / "trace").iterdir()) - before
    *records, end = [json.loads(line) for line in lines]

    assert end["comment"].startswith(f"trace saved to {file.name}, 2 records, 0 not shown, ")
    assert (end["file"], end["records"], end["not_shown"]) == (file.name, 2, 0)
    assert [each["text"] for each in records] == ["json one", r"json two \x1b"]
    assert [(each["process"], each["pid"], each["level"]) for each in records] == [("web", 7, "warning")] * 2
    assert file.suffix == ".jsonl"
    assert [line for line in file.read_text().splitlines() if "comment" not in json.loads(line)] == lines[:-1]


def test_a_capture_is_started_and_stopped_by_scripts(run: Run, own_server: Server) -> None:
    """Start gives the file's name as data, status what runs, stop ends it; the capture outlives each command."""
    started = (
        run("trace", "start", "match=scripted", "note=by a script", "--json", data=own_server.data).require(0).facts
    )
    assert started["state"] == "running"
    [status] = run("trace", "status", "--json", data=own_server.data).require(0).facts
    assert status | {"file": started["file"], "records": 0, "note": "by a script"} == status
    assert status["filter"] == "match=scripted"
    with _program(own_server, "attach", started["file"], "--json") as view:
        while not run("information", "--json", data=own_server.data).facts["trace"]["viewers"]["count"]:
            assert view.poll() is None
        _say(own_server, "scripted")
        assert json.loads(_line(view))["text"] == "scripted"
        view.send_signal(signal.SIGINT)
        assert view.wait(DEADLINE_S) == 0
    assert [each["records"] for each in run("trace", "status", "--json", data=own_server.data).facts] == [1]

    stopped = run("trace", "stop", started["file"], data=own_server.data).require(0).lines
    assert stopped[-1].startswith(f"OK trace saved to {started['file']}, 1 record, 0 not shown, ")
    assert run("trace", "status", "--json", data=own_server.data).require(0).facts == []
    run("trace", "stop", started["file"], data=own_server.data).require(2, err="no running trace named")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_trace_ends_with_its_program(run: Run, own_server: Server, number: signal.Signals) -> None:
    """Ctrl-C ends a trace as ever; a program that is killed leaves its file whole, and nothing that runs on."""
    with _program(own_server, "match=signalled") as program:
        while not _line(program).startswith("Live records follow"):
            pass
        _say(own_server, "signalled")
        assert _line(program).endswith("web[7] WARNING signalled")
        [status] = run("trace", "status", "--json", data=own_server.data).facts
        program.send_signal(number)
        out, err = program.communicate(timeout=DEADLINE_S)

    if number is signal.SIGINT:
        assert (program.returncode, err) == (0, b"")
        assert out.decode().startswith(f"OK trace saved to {status['file']}, 1 record, 0 not shown, ")
    while run("trace", "list", "--json", data=own_server.data).facts[-1]["state"] == "running":
        pass
    assert run("trace", "status", "--json", data=own_server.data).facts == []
    lines = (own_server.data / "trace" / status["file"]).read_text().splitlines()
    assert lines[-1].startswith("; ended: ")
    assert lines[-2].endswith("web[7] WARNING signalled")


def test_processes_are_printed_once_into_a_pipe(run: Run, own_server: Server) -> None:
    """The table is plain lines where nobody looks on, and data with --json."""
    plain = run_program("trace", "processes", data=own_server.data).require(0)
    assert [line.split()[0] for line in plain.lines] == ["PROCESS", "callisto-telnetd", "OK"]
    assert "\x1b" not in plain.out

    [row] = run("trace", "processes", "--json", data=own_server.data).require(0).facts
    assert (row["name"], row["pid"], row["state"]) == ("callisto-telnetd", own_server.process.pid, "running")
    assert row["memory_bytes"] > 1 << 20
    assert row["uptime_s"] > 0


def test_processes_redraw_themselves_at_a_terminal(own_server: Server) -> None:
    """At a terminal the table comes again each second in its own place, until Ctrl-C."""
    child = TerminalProcess(
        sys.executable,
        ["-m", "callisto_telnetd", "trace", "processes", "--data", str(own_server.data)],
        cwd=str(ROOT),
        env={key: value for key, value in os.environ.items() if not key.startswith("CALLISTO_")},
        encoding="utf-8",
        timeout=DEADLINE_S,
        dimensions=(24, 70),
    )
    try:
        child.expect_exact("ends the table.")
        child.expect_exact("\x1b[3A\x1b[J")
        child.expect(r"callisto-telnetd +\d+")
        child.expect_exact("ends the table.")
        child.sendintr()
        child.expect_exact("OK 1 process")
        child.expect(pexpect.EOF)
    finally:
        child.close()
    assert child.exitstatus == 0


def test_the_figures_are_data(run: Run, own_server: Server) -> None:
    """Information --json has the figures of the trace as numbers."""
    trace = run("information", "--json", data=own_server.data).require(0).facts["trace"]

    assert {each["name"]: each["records"] for each in trace["by_input"]}["server"] > 0
    assert trace["held"]["records"] > 0
    assert trace["viewers"] == {"count": 0, "waiting_bytes": 0}
    assert trace["files"]["budget_bytes"] == 256 << 20
    [socket] = trace["inputs"]
    assert socket | {"name": "trace.sock", "open": True, "error": None, "dropped": 0, "faults": 0} == socket


# Settings


@pytest.mark.parametrize(
    ("settings", "environment", "reason"),
    [
        ("colour = 1", {}, "'trace.colour' is no setting; allowed: held_records, held_bytes, size, free, "),
        ('udp = "localhost:514"', {}, "trace.udp: 'localhost:514' is not allowed; allowed: address and port that take"),
        ('udp = "127.0.0.1"', {}, "such as 127.0.0.1:514"),
        ('udp = "127.0.0.1:70000"', {}, "trace.udp: '127.0.0.1:70000' is not allowed"),
        ('udp = "300.0.0.1:514"', {}, "trace.udp: '300.0.0.1:514' is not allowed"),
        ("udp = 514", {}, "trace.udp: '514' is not allowed"),
        ('metrics = "127.0.0.1:99999"', {}, "trace.metrics: '127.0.0.1:99999' is not allowed"),
        ('metrics = "[::1]"', {}, "such as 127.0.0.1:9464"),
        ("budget = 1024", {}, "trace.budget: '1024' is not allowed; allowed: size of all trace files, 1M to 1024G"),
        ("files = 10", {}, "trace.files: '10' is not allowed; allowed: number of all trace files, 1000 to 1000000"),
        ("", {"CALLISTO_TRACE__UDP": "nowhere"}, "environment: trace.udp: 'nowhere' is not allowed"),
        ("", {"CALLISTO_TRACE__COLOUR": "red"}, "environment: 'trace.colour' is no setting"),
    ],
)
def test_a_bad_setting_is_named(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    settings: str,
    environment: dict[str, str],
    reason: str,
) -> None:
    """A wrong key or value of the trace's settings ends the start with exit 2 and one line; nothing is made."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "callisto.toml").write_text(f"[trace]\n{settings}\n")
    before = tree_of(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert run("serve", "--port", "0", data=tmp_path / "data").require(2, err=reason).out == ""
    assert tree_of(tmp_path) == before


def test_a_folder_that_is_gone_is_said(run: Run, own_server: Server) -> None:
    """Where somebody has removed the folder of captures, each command says so in one line, and the shell goes on."""
    folder, aside = own_server.data / "trace", own_server.data / "aside"
    folder.rename(aside)
    try:
        run("trace", "list", data=own_server.data).require(1, err=f"'{folder}' cannot be read: it is gone")
        run("trace", "start", data=own_server.data).require(1, err=f"no trace file can be made in '{folder}': ")
        run("trace", "show", NAME, data=own_server.data).require(2, err="no trace file named")
        assert "it is gone" in run("information", data=own_server.data).require(0).out
        assert own_server.log_in().run("whoami")[-1].startswith("OK admin")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    run("trace", "list", data=own_server.data).require(0)
