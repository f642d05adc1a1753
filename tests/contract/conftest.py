"""What the tests of the trace share: a server with every input open, sessions on it, and a program that sends to it."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Self

import pytest

from tests.conftest import DEADLINE_S, PROMPT, Peer, Server, Shells, servers

FILE = re.compile(r"[0-9]{8}-[0-9]{6}-admin(?:-[0-9]+)?\.(?:log|jsonl)")
SAVED = re.compile(
    rf"OK trace saved to ({FILE.pattern}), ([0-9]+) records?, ([0-9]+) not shown, ([0-9]+ B|[0-9]+\.[0-9] [KM]iB)"
)
ROTATED = re.compile(
    r"OK trace saved to ([0-9]{8}-[0-9]{6}-admin(?:-[0-9]+)?)\+([0-9]+)\.log, "
    r"([0-9]+) records?, 0 not shown, [0-9.]+ KiB in the last ([0-9]+) files"
)
"""A capture that rotated has the name of its last file."""
STARTED = re.compile(rf"OK trace ({FILE.pattern}) has started(?:, waiting for its trigger)?")
STAMP = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}[+-][0-9]{2}:[0-9]{2}"
RECORD = re.compile(rf"{STAMP} [!-~]+\[(?:[0-9]+|-)\] (?:DEBUG|INFO|NOTICE|WARNING|ERROR|CRITICAL|ALERT|EMERGENCY) .+")
VIEW = re.compile(rb"Live records follow[^\r]*\r\n")
ZONE, OFFSET = "Africa/Lagos", "+01:00"
"""The zone of the server's clock: an hour from UTC, summer and winter."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Saved:
    """What the last line of a trace says."""

    file: str
    records: int
    not_shown: int
    size: str

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read the line, which has the contract's form and no other."""
        match = SAVED.fullmatch(line)
        assert match, line
        return cls(match[1], int(match[2]), int(match[3]), match[4])


class Sender:
    """A program of its own name that says something to the trace: RFC 3164 without a stamp, as syslog(3) once did."""

    def __init__(self, server: Server, name: str, pid: int = 4711) -> None:
        self.name = name
        self.head = f"{name}[{pid}]"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(DEADLINE_S)
        self._socket.connect(str(server.data / "run" / "trace.sock"))

    def say(self, text: str | bytes, severity: int = 6) -> None:
        """Send one message; it waits where the server holds it back."""
        data = text if isinstance(text, bytes) else text.encode()
        self.send(b"<%d>%s: %s" % (8 + severity, self.head.encode(), data))

    def send(self, data: bytes) -> None:
        """Send a datagram as it is."""
        self._socket.send(data)

    def line(self, text: str, level: str = "INFO") -> str:
        """Return what is behind the time in the record of a message."""
        return f"{self.head} {level} {text}"

    def introduce(self, peer: Peer) -> Self:
        """Say hello, and wait until the server knows the name: it can be asked for from now on."""
        self.say(f"hello of {self.name}.")
        peer.send(f"trace tail before=1h match='hello of {self.name}[.]'\r\n").expect(b".\r\n")
        peer.send("q").expect(PROMPT)
        peer.forget()
        return self

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def begin(peer: Peer, words: str = "") -> None:
    """Begin a trace, or a view of one, and read up to its first record."""
    peer.send(f"{words}\r\n").expect(VIEW)


def started(peer: Peer, words: str = "") -> str:
    """Start a capture without a viewer, and return its file."""
    lines = peer.run(f"trace start {words}")
    match = STARTED.fullmatch(lines[-1])
    assert match, lines
    return match[1]


def said(lines: list[str]) -> list[str]:
    """Return the records among lines, without their times."""
    return [line.partition(" ")[2] for line in lines if RECORD.fullmatch(line)]


def lines_of(server: Server, file: str) -> list[str]:
    """Return the lines of a capture's file; each of them has its end."""
    text = (server.data / "trace" / file).read_text()
    assert text.endswith("\n")
    return text.split("\n")[:-1]


@pytest.fixture(scope="session")
def free_udp_port() -> int:
    """A port that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def server_of_traces(tmp_path_factory: pytest.TempPathFactory, free_udp_port: int) -> Iterator[Server]:
    """The one server of the tests of the trace, an hour ahead of UTC; ask for ``tracing``."""
    settings = f'[trace]\nudp = "127.0.0.1:{free_udp_port}"\nmetrics = "127.0.0.1:0"\n'
    with servers(tmp_path_factory.mktemp("tracing")) as start:
        server = start(settings, listeners=2)
        with closing(server.log_in()) as peer:
            peer.run(f"date zone {ZONE}")
        yield server


@pytest.fixture(scope="session")
def trace_shells(server_of_traces: Server) -> Iterator[Shells]:
    """The sessions on it that wait to be used again."""
    with closing(Shells(server_of_traces)) as shells:
        yield shells


@pytest.fixture
def tracing(server_of_traces: Server, trace_shells: Shells) -> Iterator[Server]:
    """The server with every input open; what a test leaves running is stopped behind it."""
    yield server_of_traces
    server_of_traces.close_peers()
    with trace_shells.lend() as peer:
        peer.run("trace stop all")


@pytest.fixture
def peer(tracing: Server, trace_shells: Shells) -> Iterator[Peer]:
    """A session at its main menu, without echo."""
    with trace_shells.lend() as peer:
        yield peer


@pytest.fixture
def other(tracing: Server, trace_shells: Shells) -> Iterator[Peer]:
    """Another session."""
    with trace_shells.lend() as peer:
        yield peer


@pytest.fixture
def web(tracing: Server, trace_shells: Shells) -> Iterator[Sender]:
    """A program that the server knows, of a name that no other test has."""
    with closing(Sender(tracing, f"web-{next(_numbers)}")) as sender:
        with trace_shells.lend() as peer:
            sender.introduce(peer)
        yield sender


@pytest.fixture
def phone(tracing: Server, trace_shells: Shells) -> Iterator[Sender]:
    """Another one."""
    with closing(Sender(tracing, f"phone-{next(_numbers)}", 12)) as sender:
        with trace_shells.lend() as peer:
            sender.introduce(peer)
        yield sender
