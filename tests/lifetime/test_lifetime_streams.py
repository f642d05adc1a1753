"""Output that nobody reads, that has nowhere to go, or that has letters its terminal does not know."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from callisto_telnetd.listeners.local_client import call
from callisto_telnetd.streams import LineWriter
from tests import programs
from tests.conftest import DEADLINE_S, PASSWORD, ROOT, Server, StartServer

LINE = "x" * 99
STOPPED_S = 3.0
PROGRAM = (sys.executable, "-m", "callisto_telnetd")


def read_all(descriptor: int, *, until: bytes) -> bytes:
    """Read until that text has come, and its line."""
    end, data = time.monotonic() + DEADLINE_S, b""
    while until not in data or not data.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"no {until!r} in {data[-500:]!r}"
        data += os.read(descriptor, 65536)
    return data


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_lines_that_find_no_room_are_counted_and_told_when_they_flow_again(pipe: tuple[int, int]) -> None:
    """Nobody waits for a reader who stands still, and what he then reads says how much is missing, and where."""
    reading, writing = pipe
    writer = LineWriter(writing, most_waiting_bytes=200_000)
    begun = time.monotonic()
    for number in range(5000):
        writer.write(f"{number:04} {LINE}\n")
    assert time.monotonic() - begun < STOPPED_S

    *lines, told, rest = read_all(reading, until=b"read them").decode().split("\n")
    writer.write("after all\n")
    writer.end(DEADLINE_S)

    assert [int(line[:4]) for line in lines] == list(range(len(lines)))
    assert told == f"callisto-telnetd: {5000 - len(lines)} lines not written: nobody read them"
    assert rest + os.read(reading, 100).decode() == "after all\n"


def test_lines_for_a_full_disk_are_lost_without_a_word() -> None:
    """A write that fails neither raises nor ends the thread; the lines after it are tried all the same."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer = LineWriter(full.fileno())
        writer.write("one\n")
        writer.wait_written(DEADLINE_S)
        writer.write("two\n")
        writer.end(DEADLINE_S)

        assert writer._lost == 2


def test_a_descriptor_that_somebody_has_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    """Where the system says "try again", the thread waits for room."""
    reading, writing = pipe
    os.set_blocking(writing, False)
    writer = LineWriter(writing, most_waiting_bytes=1 << 20)
    writer.write(f"{LINE}\n" * 5000)

    data = b""
    while len(data) < 5000 * (len(LINE) + 1):
        data += os.read(reading, 65536)
    writer.end(DEADLINE_S)

    assert data == f"{LINE}\n".encode() * 5000


def test_the_end_of_a_writer_waits_for_its_last_line_but_not_for_ever(pipe: tuple[int, int]) -> None:
    """A line without an end is written at the end; a reader who stands still is given up in time."""
    reading, writing = pipe
    writer = LineWriter(writing)
    writer.write("begun")
    writer.end(DEADLINE_S)
    assert os.read(reading, 100) == b"begun"

    stalled = LineWriter(writing)
    stalled.write(f"{LINE}\n" * 5000)
    begun = time.monotonic()
    stalled.end(0.05)
    assert time.monotonic() - begun < STOPPED_S
    while select.select([reading], [], [], 0.1)[0]:  # lets the thread end
        os.read(reading, 1 << 20)


def test_a_server_goes_on_and_stops_while_nobody_reads_its_log(start: StartServer, pipe: tuple[int, int]) -> None:
    """Standard error is a full pipe: sessions go on, the count comes when it is read, and SIGTERM ends the server."""
    reading, writing = pipe
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    server = start(environment={"CALLISTO_LOG__LEVEL": "debug"}, stderr=writing)
    peer = server.log_in()
    long = "help " + "x" * 100
    peer.send(f"{long}\r\n" * 2000)  # more than is held back
    for _ in range(2000):
        peer.expect(b"# ")
    assert server.log_in().run("whoami")[-1].startswith("OK ")

    log = read_all(reading, until=b"log lines not written").decode()
    assert re.search(r"WARNING log lines not written: nobody read standard error count=[1-9]\d*\n", log)

    peer.run(long)  # and full again
    assert server.stop(deadline_s=STOPPED_S) == 0


def test_a_terminal_that_is_stopped_stops_no_server(start: StartServer) -> None:
    """After Ctrl-S on the terminal of its log, the server serves and stops; nothing of the terminal is changed."""
    master, slave = pty.openpty()
    try:
        server = start(environment={"CALLISTO_LOG__LEVEL": "debug"}, stderr=slave)
        os.write(master, b"\x13")
        peer = server.log_in()
        assert [peer.run("whoami")[-1][:3] for _ in range(50)] == ["OK "] * 50
        assert os.get_blocking(slave)
        assert server.stop(deadline_s=STOPPED_S) == 0
    finally:
        os.close(master)
        os.close(slave)


def run(
    data: Path, *words: str, environment: Mapping[str, str] | None = None, shell: str = '"$@"'
) -> subprocess.CompletedProcess[bytes]:
    """Run a command without a server, by a line of the shell."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("CALLISTO_")}
    return subprocess.run(
        ["sh", "-c", shell, "sh", *PROGRAM, *words, "--data", str(data)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        env={**own, **(environment or {})},
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an appliance in it, and no server."""
    folder = tmp_path_factory.mktemp("streams") / "data"
    command = [*PROGRAM, "user", "add", "ada", "--password-stdin", "--data", str(folder)]
    assert programs.run(command, given=f"{PASSWORD}\n").returncode == 0
    return folder


@pytest.mark.parametrize(
    "locale",
    [
        pytest.param({"PYTHONIOENCODING": "latin-1"}, id="Latin-1"),
        pytest.param({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, id="C"),
    ],
)
def test_a_backup_is_made_in_every_locale(data: Path, locale: dict[str, str]) -> None:
    """What a locale has no letters for goes into a pipe as UTF-8, and ends no command."""
    before = set((data / "backup").glob("*.zip"))
    given = 'echo Choose-your-0wn-one | "$@"'
    made = run(data, "backup", "create", "--password-stdin", environment=locale, shell=given)

    assert (made.returncode, made.stderr) == (0, b"")
    assert "…" in made.stdout.decode()
    assert made.stdout.decode().splitlines()[-1].startswith("OK backup ")
    assert len(set((data / "backup").glob("*.zip")) - before) == 1


def test_a_terminal_is_shown_what_it_has_no_letter_for(data: Path) -> None:
    """On a terminal that is not UTF-8 its own letters are shown, and others escaped."""
    programs.run([*PROGRAM, "variables", "set", "gWebTimeout", "31", "note=Zürich…", "--data", str(data)])
    master, slave = pty.openpty()
    try:
        subprocess.run(
            [*PROGRAM, "variables", "history", "gWebTimeout", "--data", str(data)],
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            check=False,
            timeout=DEADLINE_S,
            env={**os.environ, "PYTHONIOENCODING": "latin-1"},
            cwd=ROOT,
        )
        shown = read_all(master, until=b"OK ").decode("latin-1")
    finally:
        os.close(master)
        os.close(slave)
    assert "Zürich\\u2026" in shown


def test_a_descriptor_that_is_closed_at_the_start_becomes_no_other_file(data: Path) -> None:
    """What is written goes nowhere, never into the database, whose number it would have been."""
    done = run(data, "variables", "set", "gWebTimeout", "12", shell='"$@" <&- >&- 2>&-')

    assert (done.returncode, done.stderr) == (0, b"")
    listed = programs.run([*PROGRAM, "variables", "list", "gWebTimeout", "--data", str(data)])
    assert listed.stdout.startswith("gWebTimeout = 12 ")


def test_an_error_line_that_nobody_reads_changes_no_exit_code() -> None:
    """Where the reader of standard error has gone, the exit code says all."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        ended = subprocess.run(
            [*PROGRAM, "serve", "--nosuch"], stdin=subprocess.DEVNULL, stderr=gone, check=False, cwd=ROOT
        )
    assert ended.returncode == 2


@pytest.mark.parametrize("beside", [True, False], ids=["beside a server", "without one"])
def test_ctrl_c_ends_a_command_whose_reader_stands_still(
    beside: bool, server: Server, data: Path, pipe: tuple[int, int]
) -> None:
    """A command that waits at a full pipe is ended by an interrupt, with one line that says so."""
    writing = pipe[1]
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, bytes(4096)):
            pass
    os.set_blocking(writing, True)
    data = server.data if beside else data
    with programs.ProductProcess(
        [*PROGRAM, "variables", "list", "--data", str(data)],
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as program:
        try:
            end = time.monotonic() + DEADLINE_S
            while "pipe_write" not in Path(f"/proc/{program.pid}/wchan").read_text():
                assert time.monotonic() < end
                select.select([], [], [], 0.01)
            program.send_signal(signal.SIGINT)
            _, said = program.communicate(timeout=DEADLINE_S)
        finally:
            program.kill()
    assert (program.returncode, said) == (1, b"Error: interrupted\n")


def test_an_interrupt_tears_no_frame() -> None:
    """Half a frame that came before the interrupt is still the first half of it afterwards."""
    ours, theirs = socket.socketpair()
    shown: list[str] = []
    said: list[str] = []

    def serve() -> None:
        stream = theirs.makefile("rb")
        stream.readline()
        theirs.sendall(b'{"out": "on')
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert stream.readline() == b'{"stop": true}\n'
        theirs.sendall(b'e"}\n{"err": "Error: interrupted"}\n{"exit": 1}\n')

    server = threading.Thread(target=serve)
    server.start()
    with ours, theirs:
        code = call(ours, {"words": ["tail"]}, shown.append, said.append, lambda _question, _secret: "")
        server.join(DEADLINE_S)
    assert (code, shown, said) == (1, ["one"], ["Error: interrupted"])


def test_bytes_that_are_no_text_are_named(server: Server) -> None:
    """Beside a server a word that no locale can read is refused with its own line."""
    said = run(server.data, "variables", "set", "gWebTimeout", "30", shell='"$@" "note=Z$(printf "\\374")rich"')

    assert (said.returncode, said.stdout) == (2, b"")
    assert b"is no text in the encoding of this locale; nothing was changed" in said.stderr


FAULTY_SERVER = """
import sys
from callisto_telnetd import appliance, cli
async def serve(*_): raise ValueError("x" * 200_000 + "unforeseen")
appliance.serve = serve
sys.argv[1:] = ["serve", "--data", sys.argv[1]]
cli.main()
"""
FAULTY_WEB_SERVER = """
import sys
from callisto_telnetd.web import __main__, server
def serve(*_, **__): raise ValueError("x" * 200_000 + "unforeseen")
server.serve = serve
sys.argv[1:] = ["--data", sys.argv[1]]
sys.exit(__main__.main())
"""


@pytest.mark.parametrize("program", [FAULTY_SERVER, FAULTY_WEB_SERVER], ids=["server", "web-server"])
def test_an_unforeseen_error_is_told_before_the_program_ends(program: str, tmp_path: Path) -> None:
    """Its traceback stands on standard error to its last line, and the exit code is 1."""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "data")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback (most recent call last):\n")
    assert ended.stderr.endswith("unforeseen\n")
