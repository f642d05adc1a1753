"""The commands of the trace that a measurement gives, and what it takes from their answers."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.servers import Bench, Server
from bench.trace_records import await_record
from bench.trace_sender import send_all
from bench.wire import DEADLINE_S, PROMPT, MeasurementError, ask, log_in, read_until

TRACE_SETTINGS = {"CALLISTO_TRACE__BUDGET": "8G"}
"""Room for the captures of 100 sessions at once."""
_STARTED = re.compile(rb"^OK trace (\S+\.log) has started", re.MULTILINE)
_SAVED = re.compile(rb"^OK trace saved to (\S+\.log), ([0-9,]+) records?, ([0-9,]+) not shown", re.MULTILINE)
_LIVE = b"Live records follow"
_WARM_UP = 10_000


@dataclass(frozen=True)
class Saved:
    """What a capture's last line says."""

    file: str
    records: int
    not_shown: int


@contextmanager
def tracing_server(bench: Bench) -> Iterator[tuple[Server, socket.socket]]:
    """Run callisto-telnetd with a session for commands; it knows the sender, and holds as many records as it may.

    What is held of the trace has a bound and belongs to no capture: it is filled before anything is measured.
    """
    with bench.callisto(TRACE_SETTINGS) as server, log_in(server.port) as session:
        with started_capture(bench, session, "", keep=False) as file:
            send_all(bench.trace_socket, _WARM_UP)
            await_record(file, _WARM_UP)
        yield server, session


@contextmanager
def started_capture(bench: Bench, session: socket.socket, words: str, *, keep: bool) -> Iterator[Path]:
    """Let a capture without a viewer run, and give its file; without ``keep`` the file is deleted at the end."""
    answer = ask(session, f"trace start {words}".rstrip().encode())
    started = _STARTED.search(answer)
    if started is None:
        raise MeasurementError(f"no capture has started: {answer!r}")
    name = started[1].decode()
    try:
        yield bench.captures / name
    finally:
        answer = ask(session, f"trace stop {name}".encode())
        if not keep:
            ask(session, f"trace delete {name} yes".encode())
    parse_saved(answer)


def parse_saved(answer: bytes) -> Saved:
    """Return what the last line of a capture says.

    Raises:
        MeasurementError: the answer has no such line.
    """
    saved = _SAVED.search(answer.replace(b"\r", b""))
    if saved is None:
        raise MeasurementError(f"the capture was not saved: {answer[-300:]!r}")
    return Saved(saved[1].decode(), *(int(number.replace(b",", b"")) for number in saved.groups()[1:]))


def follow_live(session: socket.socket, command: str) -> None:
    """Give a command that shows live records, and return where they begin.

    Raises:
        MeasurementError: they do not begin.
    """
    session.settimeout(DEADLINE_S)
    session.sendall(command.encode() + b"\r\n")
    until, came = time.monotonic() + DEADLINE_S, b""
    while _LIVE not in came or not came.endswith(b"\n"):
        part = session.recv(65536)
        came += part
        if not part or came.endswith(PROMPT) or time.monotonic() > until:
            raise MeasurementError(f"{command!r} shows no live records: {came[-300:]!r}")


def end_live(session: socket.socket) -> bytes:
    """End the live records with Enter, and return what still came up to the prompt."""
    session.settimeout(DEADLINE_S)
    session.sendall(b"\r\n")
    return read_until(session, PROMPT)
