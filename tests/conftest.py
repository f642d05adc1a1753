"""What all end-to-end tests share: the real server as a process of its own, and a raw peer that sees every byte.

* ``start`` starts servers, each in a data folder of its own; ``server`` is one that cheap tests share.
* A :class:`Peer` is a blocking socket with deadlines: Telnet commands are bytes like all others. It agrees to nothing,
  unless the test sends an answer; :meth:`Peer.sync` returns what the server had sent up to a sure moment.
* Failed log-ins belong on a server of one's own: the penalty falls on 127.0.0.1, where all the other tests come from.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest
from hypothesis import settings

from tests import programs
from tests.programs import ProductProcess, run

ROOT = programs.ROOT
NAME, PASSWORD = "admin", "Secret-123"
DEADLINE_S = 15.0
"""How long a peer waits for what must come; a test that waits so long has failed."""

IAC, DONT, DO, WONT, WILL, SB, SE = (bytes([code]) for code in (255, 254, 253, 252, 251, 250, 240))
NOP, DM, BRK, IP, AO, AYT, EC, EL, GA = (bytes([code]) for code in range(241, 250))
BINARY, ECHO, SGA, STATUS, TIMING_MARK, LOGOUT, TTYPE, NAWS = (bytes([code]) for code in (0, 1, 3, 5, 6, 18, 24, 31))
OFFERS = IAC + WILL + ECHO + IAC + WILL + SGA + IAC + DO + NAWS + IAC + DO + TTYPE
PROMPT = re.compile(rb"(?:^|(?<=\n))callisto(?:\([a-z/]+\))?# $")
MARK = IAC + WILL + TIMING_MARK

# A busy machine is no fault: no deadlines.
settings.register_profile("usual", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))

WIDE_LIMITS = {
    "CALLISTO_LIMITS__SESSIONS": "2000",
    "CALLISTO_LIMITS__SESSIONS_PER_SOURCE": "1000",
    "CALLISTO_LIMITS__PENDING": "1000",
}


class Peer:
    """One TCP connection to the server, read and written raw, with a deadline on every wait."""

    def __init__(self, connection: socket.socket, deadline_s: float = DEADLINE_S) -> None:
        self.socket = connection
        self.deadline_s = deadline_s
        self.seen = b""
        """Everything that was received, from the first byte on."""
        self._taken = 0
        self._closed = False

    def send(self, data: bytes | str) -> Self:
        """Send the bytes, or the text as UTF-8, as they are."""
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())
        return self

    def send_singly(self, data: bytes) -> Self:
        """Send the bytes one a segment, as a slow typist does."""
        for code in data:
            self.socket.sendall(bytes([code]))
        return self

    def type(self, *pieces: bytes) -> Self:
        """Type a line by hand: each piece is sent when the server has taken the one before, and none is joined."""
        for piece in pieces[:-1]:
            self.send(piece).sync()
        return self.send(pieces[-1])

    def finish_input(self) -> Self:
        """Half-close: tell the server that no more comes, and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    @property
    def unread(self) -> bytes:
        """What was received and not yet expected."""
        return self.seen[self._taken :]

    def expect(self, pattern: bytes | re.Pattern[bytes], deadline_s: float | None = None) -> bytes:
        """Wait for the bytes or the match, and return everything up to its end that was not expected before."""
        end = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        while (found := self._find(pattern)) is None:
            if not self._receive(end):
                raise AssertionError(f"wanted {pattern!r}, then closed or late; got {self.unread!r}")
        before = self.unread[:found]
        self._taken += found
        return before

    def _find(self, pattern: bytes | re.Pattern[bytes]) -> int | None:
        if isinstance(pattern, bytes):
            at = self.unread.find(pattern)
            return at + len(pattern) if at >= 0 else None
        match = pattern.search(self.unread)
        return match.end() if match else None

    def _receive(self, end: float) -> bool:
        """Receive more; return whether anything came."""
        left = end - time.monotonic()
        if self._closed or left <= 0:
            return False
        if not (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()):
            ready, _, _ = select.select([self.socket], [], [], left)
            if not ready:
                return False
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self._closed = not data
        self.seen += data
        return bool(data)

    def text_to_close(self, deadline_s: float | None = None) -> str:
        """Wait until the server closes, and return the text up to then, without the offers."""
        return self.expect_closed(deadline_s).replace(OFFERS, b"").decode()

    def expect_closed(self, deadline_s: float | None = None) -> bytes:
        """Wait until the server closes, and return everything up to then that was not expected before."""
        end = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        while self._receive(end):
            pass
        assert self._closed, f"not closed in time; got {self.unread!r}"
        rest, self._taken = self.unread, len(self.seen)
        return rest

    def sync(self) -> bytes:
        """Return what the server sent before it came to a timing mark (RFC 860) sent now: no more is on its way."""
        self.send(IAC + DO + TIMING_MARK)
        return self.expect(MARK).removesuffix(MARK)

    def run(self, line: str, deadline_s: float | None = None) -> list[str]:
        """Type a line, and return the lines of the answer, up to the next prompt of a menu."""
        self.send(line + "\r\n")
        return self.answer(deadline_s)

    def answer(self, deadline_s: float | None = None) -> list[str]:
        """Return the lines up to the next prompt of a menu."""
        text = self.expect(PROMPT, deadline_s).decode()
        return [each for each in text.split("\r\n")[:-1] if each]

    def at(self, prompt: bytes) -> bool:
        """Return whether that prompt is the last thing that was received."""
        return self.seen.endswith(b"\n" + prompt)

    def log_in(self, name: str = NAME, password: str = PASSWORD) -> Self:
        """Log in, and read up to the first prompt of the main menu."""
        self.expect(b" login: ")
        self.send(name + "\r\n").expect(b"Password: ")
        self.send(password + "\r\n").expect(PROMPT)
        return self

    def forget(self) -> None:
        """Forget what was seen up to now."""
        self.seen, self._taken = b"", 0

    def close(self) -> None:
        """Close without a word."""
        self.socket.close()


class Server:
    """``callisto-telnetd serve`` in a process of its own."""

    def __init__(
        self,
        data: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        stderr: int | None = None,
    ) -> None:
        self.data = data
        self._log = data.parent / f"{data.name}.log"
        own = {key: value for key, value in os.environ.items() if not key.startswith("CALLISTO_")}
        self.environment = {
            **own,
            "CALLISTO_ADMIN_PASSWORD": PASSWORD,
            "CALLISTO_SERVICES__WEB_SERVER__ENABLED": "false",  # port 80 is one, and tests run side by side
            **WIDE_LIMITS,
            **(environment or {}),
        }
        command = [sys.executable, "-m", "callisto_telnetd", "serve", "--data", str(data), "--port", "0", *arguments]
        with self._log.open("ab") as log:
            self.process = ProductProcess(  # closed by stop() and kill()
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr or log,
                env=self.environment,
                cwd=ROOT,
            )
        self.ready_lines: list[str] = []
        self.peers: list[Peer] = []
        self._rest = b""

    @property
    def port(self) -> int:
        """The port of the clear-text listener."""
        return self.port_of("telnet")

    def port_of(self, door: str) -> int:
        """Return the port of the listener of that name."""
        line = next(line for line in self.ready_lines if f": {door} listening on " in line)
        return int(line.rpartition(":")[2])

    def wait_ready(self, listeners: int = 1) -> Self:
        """Wait for that many ready lines on stdout."""
        end = time.monotonic() + DEADLINE_S
        stdout = self.process.stdout
        assert stdout is not None
        while len(self.ready_lines) < listeners:
            ready, _, _ = select.select([stdout], [], [], max(0.0, end - time.monotonic()))
            data = os.read(stdout.fileno(), 4096) if ready else b""
            assert data, f"the server is not ready: {self.log()}"
            *lines, self._rest = (self._rest + data).split(b"\n")
            self.ready_lines += [line.decode() for line in lines]
        return self

    def connect(
        self, *, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None, receive_buffer: int | None = None
    ) -> Peer:
        """Connect from an address of this machine, such as 127.0.0.2; the peer is closed with the server."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(DEADLINE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", self.port_of("telnets" if tls else "telnet")))
        if tls:
            connection = tls.wrap_socket(connection)
        peer = Peer(connection)
        self.peers.append(peer)
        return peer

    def log_in(self, name: str = NAME, password: str = PASSWORD, *, source: str = "127.0.0.1") -> Peer:
        """Connect and log in; the peer stands at the prompt of the main menu."""
        return self.connect(source=source).log_in(name, password)

    def command(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command line on the same data folder, beside the server, with ``text`` as its standard input."""
        command = [sys.executable, "-m", "callisto_telnetd", *words, "--data", str(self.data)]
        return run(command, given=text or "", environment=self.environment, deadline_s=DEADLINE_S)

    def log(self) -> str:
        """Return what the server has written to stderr."""
        return self._log.read_text()

    def wait_log(self, text: str) -> str:
        """Wait until the log holds the text, and return the log."""
        end = time.monotonic() + DEADLINE_S
        while text not in (log := self.log()):
            assert time.monotonic() < end, f"the log has no {text!r}: {log}"
            select.select([], [], [], 0.01)
        return log

    def keep_open(self, peer: Peer) -> None:
        """Leave the peer out of :meth:`close_peers`: somebody else closes it."""
        if peer in self.peers:
            self.peers.remove(peer)

    def close_peers(self) -> None:
        """Close every peer that was connected."""
        while self.peers:
            self.peers.pop().close()

    def stop(self, number: signal.Signals = signal.SIGTERM, deadline_s: float = DEADLINE_S) -> int:
        """Stop the server by a signal and return its exit code; peers stay open to read what they are told."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(deadline_s)
        finally:
            if self.process.poll() is not None and self.process.stdout is not None:
                self.process.stdout.close()

    def kill(self) -> None:
        """End the server at once, whatever it does."""
        self.stop(signal.SIGKILL)


StartServer = Callable[..., Server]

SIGNALS_OF = ("grep", "-e", "^SigBlk", "-e", "^SigIgn", "/proc/self/status")
"""A command that tells which signals it was started with blocked, and which ignored."""
NO_SIGNALS = {"SigBlk": 0, "SigIgn": 0}
_INTERNAL_SIGNALS = 0b11 << 31
"""32 and 33 are glibc's own: no program can set them, and its posix_spawn leaves the former ignored."""


def signals_in(lines: Sequence[str]) -> dict[str, int]:
    """Return the masks in what ``SIGNALS_OF`` has printed."""
    return {line[:6]: int(line[-16:], 16) & ~_INTERNAL_SIGNALS for line in lines}


@pytest.fixture
def held_signals() -> Iterator[None]:
    """Signals that the server was started with ignored, as nohup and careless parents do, and blocked."""
    ignored, blocked = (
        (signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGRTMIN),
        {signal.SIGTERM, signal.SIGUSR2},
    )
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def fresh_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each program begin as a fresh interpreter: for tests of the start itself."""
    monkeypatch.setattr(programs, "PRELOADED", {})


@pytest.fixture(scope="session", autouse=True)
def forked_workers() -> Iterator[None]:
    """Have asyncio fork its programs too, where that is as good: workers of appliances in the tests' own process."""
    programs.forker()  # before a test holds signals: it would inherit them
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "asyncio.unix_events.subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": ProductProcess})
        )
        yield


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[StartServer]:
    """Give a function that starts servers under a folder; all of them are ended with the block."""
    started: list[Server] = []

    def start(
        settings: str = "",
        *,
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        listeners: int = 1,
        stderr: int | None = None,
    ) -> Server:
        """Start a server with settings as TOML text; ``data`` of an earlier one restarts the same appliance.

        Its standard error goes into a file, ``log()``, or to the descriptor ``stderr``.
        """
        place = data or folder / f"data-{len(started)}"
        place.mkdir(mode=0o700, exist_ok=True)
        if settings:
            (place / "callisto.toml").write_text(settings)
        server = Server(place, arguments, environment, stderr)
        started.append(server)
        return server.wait_ready(listeners)

    try:
        yield start
    finally:
        for server in started:
            server.close_peers()
            server.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers of one's own: ``start(settings, data=…, environment=…, arguments=…, listeners=…)``."""
    with servers(tmp_path) as start:
        yield start


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The one server of all cheap tests; ask for ``server``, which closes the peers after each test."""
    with servers(tmp_path_factory.mktemp("shared")) as start:
        yield start(environment={"CALLISTO_LOG__LEVEL": "debug"})


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module that change what the appliance keeps."""
    with servers(tmp_path_factory.mktemp("module")) as start:
        yield start(environment={"CALLISTO_LOG__LEVEL": "debug"})


@pytest.fixture
def appliance(module_server: Server) -> Iterator[Server]:
    """The module's own server, whose variables and files may be changed; the peers are closed after each test."""
    yield module_server
    module_server.close_peers()


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """The shared server: log in as often as needed, fail to log in never, and leave variables as they were."""
    yield shared_server
    shared_server.close_peers()


class Shells:
    """Peers at the main menu of one server that wait to be used again: a log-in is what takes most of a short test."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._waiting: list[Peer] = []

    @contextlib.contextmanager
    def lend(self) -> Iterator[Peer]:
        """Lend a peer, and keep it where it comes back as it went: alive, at the main menu, without echo."""
        peer = self._waiting.pop() if self._waiting else self._server.log_in()
        self._server.keep_open(peer)
        peer.run("")  # takes the notices that have come meanwhile
        peer.forget()
        yield peer
        if self._is_as_it_was(peer):
            peer.forget()
            self._waiting.append(peer)
        else:
            peer.close()

    @staticmethod
    def _is_as_it_was(peer: Peer) -> bool:
        try:
            if peer.unread or peer.send(IAC + DONT + ECHO).sync() not in {b"", IAC + WONT + ECHO}:
                return False
            if peer.run("whoami", 1.0) != [f"OK {NAME} from 127.0.0.1 (telnet)"]:
                return False
        except (AssertionError, OSError):
            return False
        return peer.at(b"callisto# ")

    def close(self) -> None:
        """Close those that wait."""
        for peer in self._waiting:
            peer.close()


@pytest.fixture(scope="session")
def shells(shared_server: Server) -> Iterator[Shells]:
    """The peers that wait at the main menu of the shared server."""
    with contextlib.closing(Shells(shared_server)) as shells:
        yield shells


@pytest.fixture
def shell(shells: Shells) -> Iterator[Peer]:
    """A peer at the main menu of the shared server, without echo; leave it like that, or it is not used again."""
    with shells.lend() as peer:
        yield peer
