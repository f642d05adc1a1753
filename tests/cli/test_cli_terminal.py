"""The command line at a terminal and in a pipe: questions, Ctrl-C, readers that go away."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.cli.conftest import Run
from tests.conftest import DEADLINE_S, PASSWORD, ROOT, Server
from tests.programs import ProductProcess, TerminalProcess


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("CALLISTO_")}


@contextmanager
def _at_terminal(data: Path, *words: str) -> Iterator[Any]:
    """Run the command line at a terminal of its own."""
    child = TerminalProcess(
        sys.executable,
        ["-m", "callisto_telnetd", *words, "--data", str(data)],
        cwd=str(ROOT),
        env=_environment(),
        encoding="utf-8",
        timeout=DEADLINE_S,
    )
    try:
        yield child
    finally:
        child.close(force=True)


def _end(child: Any) -> tuple[int, str]:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, child.before


def _wait_until_it_reads(child: Any) -> None:
    """Wait until the program that has asked sleeps; a signal just before it reads is lost to Python's own input()."""
    end = time.monotonic() + DEADLINE_S
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < end
        select.select([], [], [], 0.01)


@pytest.mark.parametrize(("answer", "last"), [("y", "OK database is sound"), ("", "OK nothing was changed")])
def test_a_confirmation_is_asked_at_a_terminal(appliance: Path, answer: str, last: str) -> None:
    """At a terminal repair asks; y begins it, an empty answer changes nothing; both exit 0."""
    with _at_terminal(appliance, "repair") as child:
        child.expect_exact("[y/N]: ")
        child.sendline(answer)
        status, shown = _end(child)

    assert status == 0
    assert last in shown


def test_a_terminal_without_a_size_is_served(own_server: Server) -> None:
    """A program that drives the command line, expect for one, gives its terminal no size."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "callisto_telnetd", "sessions", "--data", str(own_server.data)],
        cwd=str(ROOT),
        env=_environment(),
        encoding="utf-8",
        timeout=DEADLINE_S,
        dimensions=(0, 0),
    )
    status, shown = _end(child)

    assert (status, shown.strip()) == (0, "OK 0 sessions")


def test_ctrl_c_at_a_question_ends_the_command(appliance: Path) -> None:
    """Ctrl-C at a question exits 1 at once with one line and no traceback."""
    with _at_terminal(appliance, "repair") as child:
        child.expect_exact("[y/N]: ")
        _wait_until_it_reads(child)
        child.sendintr()
        status, shown = _end(child)

    assert status == 1
    assert "Error: interrupted" in shown
    assert "Traceback" not in shown


def test_the_end_of_input_at_a_question_changes_nothing(appliance: Path) -> None:
    """Ctrl-D at a question is no answer: one line, exit 2."""
    with _at_terminal(appliance, "repair") as child:
        child.expect_exact("[y/N]: ")
        child.sendeof()
        status, shown = _end(child)

    assert status == 2
    assert "no answer; nothing was changed" in shown


def test_a_password_is_asked_twice_and_not_shown(appliance: Path, run: Run) -> None:
    """User add at a terminal asks for the password twice without showing it; two that differ change nothing."""
    with _at_terminal(appliance, "user", "add", "dora") as child:
        child.expect_exact("New password for dora: ")
        child.sendline(PASSWORD)
        child.expect_exact("The same again: ")
        child.sendline("Something-else-1")
        status, shown = _end(child)
    assert (status, PASSWORD in shown) == (2, False)
    assert "the two are not the same" in shown

    with _at_terminal(appliance, "user", "add", "dora") as child:
        child.expect_exact("New password for dora: ")
        child.sendline(PASSWORD)
        child.expect_exact("The same again: ")
        child.sendline(PASSWORD)
        status, shown = _end(child)
    assert (status, PASSWORD in shown) == (0, False)
    assert "OK account dora added" in shown
    run("user", "add", "other", "--password-stdin", data=appliance, text=PASSWORD)
    run("user", "remove", "dora", "yes", data=appliance).require(0)
    run("user", "remove", "other", "yes", data=appliance)  # the only one, where no server has made admin


def _program(data: Path, *words: str) -> subprocess.Popen[str]:
    return ProductProcess(
        [sys.executable, "-m", "callisto_telnetd", *words, "--data", str(data)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=_environment(),
    )


def _wait_for_output(program: subprocess.Popen[str], run: Run, data: Path) -> None:
    """Cause records until the program shows the first of them."""
    end = time.monotonic() + DEADLINE_S
    assert program.stdout is not None
    while not select.select([program.stdout], [], [], 0.02)[0]:
        assert time.monotonic() < end
        assert program.poll() is None
        run("sessions", data=data)


def test_a_tail_ends_with_ctrl_c(run: Run, own_server: Server) -> None:
    """SIGINT ends trace tail with its count and exit 0; each record before is one line of JSON."""
    with _program(own_server.data, "trace", "tail", "--json") as program:
        _wait_for_output(program, run, own_server.data)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=DEADLINE_S)

    assert (program.returncode, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert records
    assert all(record["text"] or record["process"] for record in records)


def test_a_stopped_server_ends_a_tail(run: Run, start: Any) -> None:
    """When the server stops, a tail beside it ends with an error and exit 1, and the server exits 0 in time."""
    server = start(environment={"CALLISTO_LOG__LEVEL": "debug"})
    with _program(server.data, "trace", "tail") as program:
        _wait_for_output(program, run, server.data)
        assert server.stop(deadline_s=3.0) == 0
        _, err = program.communicate(timeout=DEADLINE_S)

    assert program.returncode == 1
    assert len(err.splitlines()) == 1
    assert err.startswith("Error: ")


def test_a_reader_that_goes_away_is_no_error(appliance: Path, run: Run) -> None:
    """In ``… | head -1`` the first line comes, and nothing is said on stderr when the pipe closes."""
    run("variables", "list", data=appliance)
    piped = subprocess.run(
        ["sh", "-c", '"$0" -m callisto_telnetd variables list --data "$1" | head -1', sys.executable, str(appliance)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=ROOT,
        env=_environment(),
    )

    assert piped.stdout.startswith("gBridgeTransfer = ")
    assert piped.stderr == ""


def test_a_full_standard_output_is_told(run: Run, appliance: Path) -> None:
    """Output that cannot be written, as on a full disk, ends the command with one line and exit 1."""
    run("variables", "list", data=appliance)
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "callisto_telnetd", "variables", "list", "--data", str(appliance)],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            cwd=ROOT,
            env=_environment(),
        )

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[0].endswith("standard output cannot be written: No space left on device")
    assert len(ended.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_ends_a_tail(run: Run, own_server: Server) -> None:
    """A tail whose reader has gone ends silently with the next records, and nobody is left looking on at the server."""
    with _program(own_server.data, "trace", "tail") as program:
        _wait_for_output(program, run, own_server.data)
        assert program.stdout is not None
        program.stdout.close()
        end = time.monotonic() + DEADLINE_S
        while program.poll() is None and time.monotonic() < end:
            run("sessions", data=own_server.data)
        assert program.poll() == 1
        assert program.stderr is not None
        assert program.stderr.read() == ""

    while run("information", "--json", data=own_server.data).facts["trace"]["viewers"]["count"]:
        assert time.monotonic() < end
    assert "unexpected error" not in own_server.log()
