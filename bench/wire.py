"""The client side of a measurement: plain sockets that answer no Telnet option; every wait has a deadline."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence

HOST = "127.0.0.1"
NAME = b"admin"
PASSWORD = "Bench-Pass-1"
PROMPT = b"callisto# "
SHOW = b"variables show gWebTimeout"
WHOAMI = b"whoami"
DEADLINE_S = 60.0


class MeasurementError(Exception):
    """A server did not do what the measurement needs; no number can be given."""


def connect(port: int, source: str = HOST, receive_bytes: int = 0) -> socket.socket:
    """Return a connection to a server of this machine, from any of its loopback addresses.

    ``receive_bytes`` is the kernel's buffer, 0 for one that grows as it needs.
    """
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(DEADLINE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if source != HOST:
        sock.bind((source, 0))
    sock.connect((HOST, port))
    return sock


def read_until(sock: socket.socket, marker: bytes, deadline_s: float = DEADLINE_S) -> bytes:
    """Return what comes, up to and with ``marker``, which must be the last of it.

    Raises:
        MeasurementError: it did not come in time.
    """
    until = time.monotonic() + deadline_s
    came = b""
    while not came.endswith(marker):
        sock.settimeout(max(0.001, until - time.monotonic()))
        try:
            part = sock.recv(65536)
        except TimeoutError:
            part = b""
        if not part:
            raise MeasurementError(f"{marker!r} did not come; the last of what came: {came[-200:]!r}")
        came += part
    return came


def log_in(port: int, receive_bytes: int = 0) -> socket.socket:
    """Return a session that stands at the main prompt."""
    sock = connect(port, receive_bytes=receive_bytes)
    read_until(sock, b"login: ")
    sock.sendall(NAME + b"\r\n")
    read_until(sock, b"Password: ")
    sock.sendall(PASSWORD.encode() + b"\r\n")
    read_until(sock, PROMPT)
    return sock


def log_in_many(port: int, count: int, at_once: int = 8) -> list[socket.socket]:
    """Return that many sessions at their prompts; ``at_once`` of them log in side by side."""
    sessions: list[socket.socket] = []
    while len(sessions) < count:
        batch = [connect(port) for _ in range(min(at_once, count - len(sessions)))]
        for marker, answer in ((b"login: ", NAME), (b"Password: ", PASSWORD.encode())):
            for sock in batch:
                read_until(sock, marker)
                sock.sendall(answer + b"\r\n")
        for sock in batch:
            read_until(sock, PROMPT)
        sessions += batch
    return sessions


def ask(sock: socket.socket, command: bytes) -> bytes:
    """Return a command's answer, the prompt behind it included."""
    sock.sendall(command + b"\r\n")
    return read_until(sock, PROMPT)


def time_commands(sessions: Sequence[socket.socket], count: int, pause_s: float = 0.0) -> list[float]:
    """Ask ``count`` times, one after another and each session in turn; return the seconds each took."""
    took = []
    for number in range(count):
        sock = sessions[number * 7919 % len(sessions)]
        start = time.perf_counter()
        ask(sock, SHOW)
        took.append(time.perf_counter() - start)
        if pause_s:
            time.sleep(pause_s)
    return took


def drive(sessions: Sequence[socket.socket], command: bytes, seconds: float) -> tuple[int, float]:
    """Let each session ask again as soon as it has its answer; return the answers and the seconds they took."""
    line = command + b"\r\n"
    by_number = {sock.fileno(): sock for sock in sessions}
    answers = waiting = 0
    with select.epoll() as poll:
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        start = time.perf_counter()
        for sock in sessions:
            sock.send(line)
            waiting += 1
        end = start + seconds
        while waiting:
            ready = poll.poll(DEADLINE_S)
            if not ready:
                raise MeasurementError(f"{waiting} sessions have no answer")
            running = time.perf_counter() < end
            for number, _ in ready:
                sock = by_number[number]
                if not sock.recv(65536).endswith(PROMPT):
                    continue
                answers += 1
                if running:
                    sock.send(line)
                else:
                    waiting -= 1
        return answers, time.perf_counter() - start


def close_all(sessions: Sequence[socket.socket]) -> None:
    """Close the sessions."""
    for sock in sessions:
        sock.close()
