"""Connections that end badly, in crowds, half-open, or in the middle of a command."""

from __future__ import annotations

import select
import signal
import socket
import struct
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import AYT, IAC, LOGOUT, PASSWORD, PROMPT, Peer, Server, StartServer

SCRIPT = (
    b"admin\r\n",
    PASSWORD.encode() + b"\r\n",
    b"help\r\n",
    b"information\r\n\x03",
    b"trace\r\n",
    b"q\r\nlogout\r\n",
)
IP = IAC + b"\xf4"


def reset(connection: socket.socket) -> None:
    """Cut the connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def descriptors(server: Server) -> int:
    """Return how many descriptors the server has open."""
    return psutil.Process(server.process.pid).num_fds()


def wait_alone(server: Server, admin: Peer, most_descriptors: int) -> None:
    """Wait until the administrator is the only one connected and the descriptors have come back."""
    end = time.monotonic() + 10
    while "Connected: 1" not in (lines := admin.run("information")) or descriptors(server) > most_descriptors:
        assert time.monotonic() < end, ([line for line in lines if "onnected" in line], descriptors(server))
        select.select([], [], [], 0.05)
    assert " ERROR " not in server.log()


@pytest.mark.long
def test_five_hundred_resets_leave_nothing(start: StartServer) -> None:
    """Connect and reset, 500 times in a row and 100 at once: no place and no descriptor is lost."""
    server = start()
    admin = server.log_in()
    before = descriptors(server)
    for _ in range(500):
        reset(socket.create_connection(("127.0.0.1", server.port)))
    wait_alone(server, admin, before)  # a stopped server accepts no more than its backlog
    server.process.send_signal(signal.SIGSTOP)
    waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    for number, connection in enumerate(waiting):
        if number % 2:
            connection.send(b"admin\r\n" + IAC + b"\xfd" + LOGOUT)
        reset(connection)
    server.process.send_signal(signal.SIGCONT)

    wait_alone(server, admin, before)


@pytest.mark.long
def test_a_reset_at_every_point_of_a_session_leaves_nothing(start: StartServer) -> None:
    """Wherever a session is cut off, with an interrupt on its way or not, its place and descriptor come back."""
    server = start()
    admin = server.log_in()
    before = descriptors(server)
    for point in range(len(SCRIPT) + 1):
        for last in (b"", b"\x03", IP, IAC + AYT):
            peer = server.connect(source="127.0.5.1")
            peer.expect(b" login: ")
            for step in SCRIPT[:point]:
                peer.send(step)
                if step.startswith(PASSWORD.encode()):
                    peer.expect(PROMPT)
            if last:
                peer.send(last)
            reset(peer.socket)

    wait_alone(server, admin, before)


def test_a_login_that_drips_is_closed_in_time(start: StartServer) -> None:
    """A byte now and then does not stretch the time for the log-in."""
    peer = start("[limits]\nlogin_s = 1\n").connect()
    peer.expect(b" login: ")
    began = time.monotonic()
    while not select.select([peer.socket], [], [], 0.1)[0] and time.monotonic() < began + 5:
        peer.send(b"x")

    assert b"not logged in within 1 s" in peer.expect_closed()
    assert 0.5 < time.monotonic() - began < 3


@pytest.mark.long
def test_a_crowd_cannot_lock_the_administrator_out(start: StartServer) -> None:
    """With every place taken others are told why and closed; the place kept for 127.0.0.1 lets the administrator in."""
    server = start(environment={"CALLISTO_LIMITS__SESSIONS": "100", "CALLISTO_LIMITS__PENDING": "8"})
    taken = [server.connect(source=f"127.0.6.{number}") for number in range(1, 8)]
    for peer in taken:
        peer.expect(b" login: ")
    for number in range(1, 60):
        assert server.connect(source=f"127.0.7.{number}").expect_closed().startswith(b"Refused: 8 others are about")

    assert server.log_in().run("whoami") == ["OK admin from 127.0.0.1 (telnet)"]


def guess(server: Server, source: str, budget: int = 14) -> int:
    """Guess side by side from one address until refused; return how many passwords were judged."""
    peers = [server.connect(source=source) for _ in range(budget)]
    for peer in peers:
        peer.send(b"admin\r\nwrong-1\r\nadmin\r\nwrong-2\r\nadmin\r\nwrong-3\r\n")
    return sum(peer.expect_closed().count(b"Login incorrect") for peer in peers)


@pytest.mark.long
def test_guessing_side_by_side_gains_nothing(start: StartServer) -> None:
    """Each address gets at most ten tries, however many connections it opens, and 127.0.0.1 still gets in."""
    server = start()
    tries = [guess(server, f"127.0.8.{number}") for number in (1, 2, 3)]

    assert all(4 <= count <= 10 for count in tries)
    assert server.connect(source="127.0.8.1").expect_closed().startswith(b"Too many failures. Try again in ")
    assert server.log_in().run("whoami") == ["OK admin from 127.0.0.1 (telnet)"]


@pytest.mark.parametrize("stop", [b"\x03", IP])
def test_a_change_under_an_interrupt_is_done_or_not(start: StartServer, stop: bytes) -> None:
    """A change that is interrupted at once has either answered OK and is made, or has not and is not."""
    server = start()
    peer, observer = server.log_in(), server.log_in()
    value, pauses = 20, (0.0, 0.0005, 0.002, 0.01)
    for wanted in range(30, 70):
        peer.send(b"variables set gWebTimeout %d\r\n" % wanted)
        select.select([], [], [], pauses[wanted % len(pauses)])
        peer.send(stop + b"whoami\r\n")
        answer = peer.expect(b"OK admin from 127.0.0.1 (telnet)\r\n").decode()
        if f"OK gWebTimeout = {wanted}" in answer:
            value = wanted
        shown = next(line for line in observer.run("variables show gWebTimeout") if line.startswith("Now: "))

        assert shown.startswith(f"Now: {value} "), (wanted, answer)

    assert value >= 30


def test_escapes_come_out_escaped_everywhere(start: StartServer, tmp_path: Path) -> None:
    """No control character of a name, a line or a note reaches a log, a trace file, a list of sessions or the audit."""
    server = start(environment={"CALLISTO_LOG__LEVEL": "debug"})
    nasty = "\x1b]0;owned\x07\x9b31m\u202e\u2028x\x1b[2J"
    guesser = server.connect(source="127.0.9.1")
    guesser.send(f"{nasty}\r\n{nasty}\r\n").expect(b"Login incorrect")
    admin = server.log_in()
    admin.run(f"trace records=1 before=100s note={nasty}")
    admin.run(f"variables set gWebTimeout {nasty}")
    shown = "\n".join(line for word in ("sessions", "audit", "history", "trace list") for line in admin.run(word))
    files = "".join(file.read_text() for file in (server.data / "trace").iterdir())

    for text in (shown, files, server.log(), admin.seen.decode("utf-8", "replace")):
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e", "\u2028"}


def test_a_stalled_viewer_of_the_trace_delays_nobody(start: StartServer) -> None:
    """Somebody who watches the trace and reads nothing slows neither commands nor another's trace."""
    server = start()
    stalled = server.connect(receive_buffer=4096).log_in()
    stalled.send(b"trace\r\n").expect(b"ends the trace.")
    admin = server.log_in()
    slowest = 0.0
    for _ in range(40):
        asked = time.monotonic()
        admin.send(b"whoami\r\n" * 100).sync()
        slowest = max(slowest, time.monotonic() - asked)

    assert slowest < 2
    assert server.log_in().run("trace records=3 before=100s")[-1].startswith("OK trace saved to ")


@pytest.mark.long
def test_stalled_sessions_do_not_delay_the_stop(start: StartServer) -> None:
    """SIGTERM while 50 sessions take nothing and send much: exit 0 within three seconds."""
    server = start()
    for number in range(50):
        peer = server.connect(source=f"127.0.10.{number + 1}", receive_buffer=4096)
        if number < 10:
            peer.log_in().send(b"help\r\n" * 3000 if number % 2 else b"trace\r\n")
        else:
            peer.send(b"\r\n" * 3000)
    began = time.monotonic()

    assert server.stop() == 0
    assert time.monotonic() - began < 3
    assert " ERROR " not in server.log()


def test_tls_hello_on_the_clear_port_is_only_bytes(start: StartServer) -> None:
    """A TLS client on the clear-text port reads a prompt it cannot understand, and nothing breaks."""
    server = start()
    peer = server.connect(source="127.0.11.1")
    peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2).expect(b" login: ")
    peer.close()

    assert server.log_in().run("whoami") == ["OK admin from 127.0.0.1 (telnet)"]
    assert " ERROR " not in server.log()
