"""Shared by hostile tests of the trace: programs that send records, and readers of the files that come of them."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tests.conftest import DEADLINE_S, Peer, Server

RECORD = re.compile(rb"[0-9T:.+-]{32} bench\[1\] INFO ([0-9]{7})\b[^\n]*\n", re.ASCII)
PART = re.compile(r"(?P<stem>.+?)(?:\+(?P<part>[0-9]+))?\.(?:log|jsonl)")
TEXT = b"the quick brown fox"
NUMBERED = "match=^[0-9]{7}"
"""The filter that takes these records, and nothing of what the server says itself."""


class Program:
    """A program with access to the socket: what it sends waits where the server takes nothing."""

    def __init__(self, server: Server, timeout_s: float | None = DEADLINE_S) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(timeout_s)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        path = server.data / "run" / "trace.sock"
        wait_until(path.is_socket, f"{path} is there")
        self.socket.connect(str(path))

    def send(self, *datagrams: bytes) -> Self:
        """Send datagrams as they are."""
        for datagram in datagrams:
            self.socket.send(datagram)
        return self

    def say(self, text: str | bytes, tag: str = "bench[1]") -> Self:
        """Send a record of syslog's older form."""
        return self.send(b"<14>" + tag.encode() + b": " + (text if isinstance(text, bytes) else text.encode()))

    def number(self, first: int, last: int) -> Self:
        """Send records numbered from the first to the last."""
        for number in range(first, last + 1):
            self.socket.send(b"<14>bench[1]: %07d %b" % (number, TEXT))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Flood:
    """Programs that send as fast as the server takes it, each in a thread, until the block ends."""

    def __init__(self) -> None:
        self.sent = 0
        self.over = threading.Event()
        self.threads: list[threading.Thread] = []

    def wait_sent(self, count: int) -> None:
        """Wait until so many more have gone."""
        wanted = self.sent + count
        wait_until(lambda: self.sent >= wanted, f"{count} more records taken")


@contextmanager
def flood(server: Server, *datagrams: bytes, pause_every: int = 0) -> Iterator[Flood]:
    """Send the datagrams again and again while the block runs; ``pause_every`` makes a pause of 10 ms after so many."""
    flooding = Flood()

    def run() -> None:
        with suppress(OSError), Program(server) as program:  # the server goes while it is flooded
            while not flooding.over.is_set():
                for datagram in datagrams:
                    program.send(datagram)
                    flooding.sent += 1
                    if pause_every and flooding.sent % pause_every == 0:
                        flooding.over.wait(0.01)

    thread = threading.Thread(target=run)
    flooding.threads.append(thread)
    thread.start()
    try:
        yield flooding
    finally:
        flooding.over.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the server takes nothing any more"


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        select.select([], [], [], 0.02)


def wait_shown(peer: Peer, command: str, wanted: str, deadline_s: float = DEADLINE_S) -> list[str]:
    """Give the command until its answer holds the text, and return that answer."""
    end = time.monotonic() + deadline_s
    while True:
        lines = peer.run(command)
        if any(wanted in line for line in lines):
            return lines
        assert time.monotonic() < end, f"{command} never shows {wanted!r}: {lines}"
        select.select([], [], [], 0.02)


def wait_notice(peer: Peer, file: str) -> str:
    """Wait for the notice on a capture, which may have come already or name its last part, and return it."""
    notice = re.compile(rf"^(?:\S+# )?(Notice: .*{re.escape(_stem(file))}(?:\+[0-9]+)?\..*)\r$", re.MULTILINE)
    end = time.monotonic() + DEADLINE_S
    while (found := notice.search(peer.seen.decode("utf-8", "replace"))) is None:
        assert time.monotonic() < end, f"no notice on {file}"
        peer.run("whoami")
    return found[1]


def start_capture(peer: Peer, words: str = "") -> str:
    """Start a capture without a viewer, and return the name of its file."""
    [*_, done] = peer.run(f"trace start {words}".strip())
    match = re.fullmatch(r"OK trace (\S+) has started(?:, waiting for its trigger)?", done)
    assert match, done
    return match[1]


def taken(peer: Peer, name: str) -> int:
    """Return how many records a running capture has taken."""
    [line] = [line for line in peer.run("trace status") if line.startswith(f"{name} ")]
    return int(line.split()[2])


def wait_taken(peer: Peer, name: str, count: int) -> None:
    """Wait until a running capture has taken so many records."""
    wait_until(lambda: taken(peer, name) >= count, f"{count} records in {name}")


def states(peer: Peer) -> dict[str, str]:
    """Return the trace files and how each is listed."""
    return {line.split()[0]: line.split()[-1] for line in peer.run("trace list")[:-1]}


def parts_of(folder: Path, name: str) -> list[Path]:
    """Return the files of the capture that a file belongs to, in their order."""
    stem = _stem(name)
    parts = [path for path in folder.iterdir() if _stem(path.name) == stem]
    return sorted(parts, key=lambda path: int((PART.fullmatch(path.name) or [])["part"] or 1))  # type: ignore[call-overload]


def _stem(name: str) -> str:
    match = PART.fullmatch(name)
    return match["stem"] if match else name


def numbers_of(data: bytes) -> list[int]:
    """Return the numbers of the whole records in a file."""
    return [int(number) for number in RECORD.findall(data)]


def comments_of(data: bytes) -> list[str]:
    """Return the lines of header and trailer."""
    return [line[2:].decode() for line in data.split(b"\n") if line.startswith(b"; ")]
