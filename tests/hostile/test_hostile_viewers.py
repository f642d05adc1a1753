"""Viewers that read nothing, floods that must not hold a viewer, and what is left when they have gone."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import orjson
import psutil
import pytest

from tests.conftest import BRK, IAC, IP, ROOT, Server, StartServer
from tests.hostile.conftest import uss
from tests.hostile.test_hostile_floods import reset, wait_connected
from tests.hostile.tracing import (
    NUMBERED,
    Program,
    flood,
    numbers_of,
    start_capture,
    states,
    wait_shown,
    wait_taken,
)
from tests.programs import ProductProcess

SAID = b"<14>web-server[4711]: " + b"x" * 200
MOST_ON_ITS_WAY = 8 << 20
"""What the system may hold of one connection's output (tcp(7), tcp_wmem and tcp_rmem), and a screen's worth."""
CUT_OFF = re.compile(r"trace viewer cut off file=(\S+) shown=(\d+) not_shown=(\d+) ")


@pytest.mark.parametrize("words", ["trace", pytest.param("trace tail", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "key", [b"\r\n", b"q", b"\x03", IAC + IP, IAC + BRK], ids=["Enter", "q", "Ctrl-C", "IAC IP", "IAC BRK"]
)
def test_a_key_stops_a_view_under_a_flood(roomy: Server, key: bytes, words: str) -> None:
    """While records come as fast as the server takes them, each key ends the view: little comes after it."""
    peer = roomy.log_in()
    with flood(roomy, SAID) as flooding:
        peer.send(words + "\r\n").expect(b"xxxx\r\n")
        flooding.wait_sent(5000)
        seen = len(peer.seen)
        peer.send(key)
        *_, done = peer.answer()

    assert done.startswith("OK ")
    assert len(peer.seen) - seen < MOST_ON_ITS_WAY
    assert peer.run("whoami") == ["OK admin from 127.0.0.1 (telnet)"]


@pytest.mark.parametrize(
    "text", [b"x" * 8190, b'"' * 8190, "😀".encode() * 8190, b"\x1b" * 8190], ids=["x", '"', "wide", "ESC"]
)
def test_a_viewer_who_reads_is_shown_large_records(roomy: Server, text: bytes) -> None:
    """Records of the largest size in a row are shown to whoever reads: not all of them are missed for their size."""
    peer = roomy.log_in()
    peer.send("trace tail\r\n").sync()
    with flood(roomy, b"<14>web-server[1]: " + text) as flooding:
        for _ in range(3):
            flooding.wait_sent(500)
            peer.expect(b"web-server[1] INFO ")
    peer.send(b"q").expect(b" records shown, ")


@pytest.mark.long
def test_a_viewer_who_reads_nothing_is_cut_off_and_its_capture_goes_on(start: StartServer) -> None:
    """After 10 s it is closed, its place is free, the count of the log is exact, and its file has every record."""
    server = start(environment={"CALLISTO_LIMITS__SESSIONS": "4"})
    admin, reader = server.log_in(), server.log_in()
    stalled = server.connect(receive_buffer=4096, source="127.0.0.2").log_in()
    stalled.send(f"trace {NUMBERED}\r\n").expect(b"ends the trace.\r\n")
    [name] = [line.split()[0] for line in admin.run("trace status") if line[0].isdigit()]
    assert server.connect(source="127.0.0.2").expect_closed().startswith(b"Refused: all 4 sessions are taken")
    before = psutil.Process(server.process.pid).num_fds()
    count = 100_000
    reader.send(f"trace tail {NUMBERED}\r\n").sync()
    with Program(server) as program:
        program.number(1, count)
        reader.expect(b"%07d" % count)
        log = server.wait_log("trace viewer cut off")
        program.number(count + 1, count + 5000)
    reader.send(b"q").expect(b"OK ")
    [(file, shown, not_shown)] = CUT_OFF.findall(log)
    assert file == name
    assert int(shown) + int(not_shown) == count
    wait_connected(admin, 2)
    wait_taken(admin, name, count + 5000)
    assert server.log_in(source="127.0.0.2").run("whoami")[-1].startswith("OK ")
    assert admin.run(f"trace stop {name}")[-1].startswith(
        f"OK trace saved to {name}, {count + 5000} records, {not_shown} not"
    )

    assert numbers_of((server.data / "trace" / name).read_bytes()) == list(range(1, count + 5001))
    assert psutil.Process(server.process.pid).num_fds() <= before
    assert " ERROR " not in server.log()


@pytest.mark.long
def test_a_command_line_that_reads_nothing_is_cut_off_and_its_capture_goes_on(start: StartServer) -> None:
    """It is the same behind the local socket: the capture is not what was cut off."""
    server = start()
    admin = server.log_in()
    with socket.socket(socket.AF_UNIX) as caller, Program(server) as program:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect(str(server.data / "run" / "control.sock"))
        caller.sendall(orjson.dumps({"words": ["trace", NUMBERED]}) + b"\n")
        wait_shown(admin, "trace status", NUMBERED)
        [name] = [line.split()[0] for line in admin.run("trace status") if line[0].isdigit()]
        program.number(1, 50_000)
        server.wait_log("trace viewer cut off")
        program.number(50_001, 51_000)
        wait_taken(admin, name, 51_000)

    assert admin.run(f"trace stop {name}")[-1].startswith(f"OK trace saved to {name}, 51000 records, ")


@pytest.mark.long
def test_a_hundred_viewers_who_read_nothing_delay_nobody(start: StartServer) -> None:
    """They share what waits, are all cut off, and leave nothing; meanwhile another session works and one reads all."""
    server = start('[trace]\nsize = "1G"\nbudget = "4G"\nfree = "1M"\n')
    admin = server.log_in()
    descriptors = psutil.Process(server.process.pid).num_fds()
    with flood(server, SAID) as flooding:
        flooding.wait_sent(20_000)
    before = uss(server)
    for number in range(100):
        peer = server.connect(receive_buffer=4096, source=f"127.1.0.{number + 1}").log_in()
        peer.send(b"trace\r\n").expect(b"ends the trace.")
    with flood(server, SAID) as flooding:
        while server.log().count("trace viewer cut off") < 100:
            assert admin.run("whoami", 60) == ["OK admin from 127.0.0.1 (telnet)"]
    wait_connected(admin, 1)

    assert admin.run("trace stop all", 60)[-1] == "OK 100 traces stopped"
    assert uss(server) - before < 48 << 20
    assert psutil.Process(server.process.pid).num_fds() <= descriptors
    assert set(states(admin).values()) == {"ended"}
    assert " ERROR " not in server.log()


def tail(server: Server, *words: str) -> subprocess.Popen[bytes]:
    """Start ``trace tail`` at the command line, into a pipe that nobody reads yet."""
    command = [sys.executable, "-m", "callisto_telnetd", "trace", "tail", *words, "--data", str(server.data)]
    return ProductProcess(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=server.environment,
    )


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "json"])
def test_a_command_line_takes_the_largest_records(start: StartServer, words: tuple[str, ...]) -> None:
    """What grows most on its way, quotes and wide characters in texts and values, comes out whole."""
    server = start()
    values = b" ".join(b'p%d="%s"' % (number, b'\\"' * 500) for number in range(25))
    with Program(server) as program:
        for text in (b'"' * 8190, "😀".encode() * 8190, b"\\" * 8190):
            program.send(*[b"<14>1 - - q 1 - - " + text] * 20)
        program.send(*[b"<14>1 - - q 1 - [a@1 " + values + b"] x"] * 30)
        program.say("the end")
    wait_shown(server.log_in(), "trace tail bench before=1h records=1", "Error")
    with tail(server, "before=1h", *words) as command:
        assert command.stdout is not None
        for line in command.stdout:
            if b"the end" in line:
                break
        command.send_signal(signal.SIGINT)
        _, error = command.communicate(timeout=15)

    assert error == b""
    assert command.returncode == 0


@pytest.mark.long
def test_a_command_line_whose_pipe_is_closed_leaves_nothing(start: StartServer) -> None:
    """Twenty command lines that are killed, or whose reader goes, leave no viewer, no descriptor and no error."""
    server = start()
    admin = server.log_in()
    before = psutil.Process(server.process.pid).num_fds()
    with flood(server, SAID, pause_every=20):
        for number in range(6):
            with tail(server) as command:
                assert command.stdout is not None
                command.stdout.readline()
                if number % 2:
                    command.kill()
                else:
                    command.stdout.close()
                command.wait(15)
    wait_shown(admin, "information", "Viewers: 0")

    assert psutil.Process(server.process.pid).num_fds() <= before
    assert " ERROR " not in server.log()


@pytest.mark.long
def test_a_command_line_that_stops_reading_is_cut_off(start: StartServer) -> None:
    """Whoever pipes ``trace tail`` into what never reads is cut off after 10 s, and leaves nothing."""
    server = start()
    admin = server.log_in()
    before = psutil.Process(server.process.pid).num_fds()
    with tail(server) as command, flood(server, SAID):
        server.wait_log("trace viewer cut off")
        wait_shown(admin, "information", "Viewers: 0")
        command.kill()
        command.communicate()

    assert psutil.Process(server.process.pid).num_fds() <= before
    assert " ERROR " not in server.log()


@pytest.mark.long
@pytest.mark.parametrize("rounds", [15, pytest.param(50, marks=pytest.mark.long)])
def test_many_rounds_leave_nothing(start: StartServer, rounds: int) -> None:
    """Start and stop, attach and leave, connect, trace and go: no descriptor, viewer or memory is left."""
    server = start(environment={"CALLISTO_TRACE__HELD_RECORDS": "50"})
    admin = server.log_in()
    name = start_capture(admin)

    def round_() -> None:
        admin.run(f"trace stop {start_capture(admin, NUMBERED)}")
        admin.send(f"trace attach {name}\r\n").expect(b"the trace goes on.\r\n")
        admin.send(b"q").answer()
        peer = server.log_in(source="127.0.0.3")
        peer.send(b"trace\r\n").expect(b"ends the trace.")
        reset(peer.socket)

    for _ in range(5):
        round_()
    wait_connected(admin, 1)
    descriptors, memory = psutil.Process(server.process.pid).num_fds(), uss(server)
    for _ in range(rounds):
        round_()
    wait_connected(admin, 1)

    assert psutil.Process(server.process.pid).num_fds() <= descriptors
    assert uss(server) - memory < 2 << 20
    assert admin.run("trace status")[-1] == "OK 1 running trace"
    assert any(line.startswith("Viewers: 0") for line in admin.run("information"))
