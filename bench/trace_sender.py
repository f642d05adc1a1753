"""``python -m bench.trace_sender PATH COUNT [RATE]``: send numbered syslog datagrams of 200 bytes to a Unix socket.

A process of its own, so that its work counts neither as the server's nor as the client's. It makes its messages, says
``ready``, waits for a line and sends: each ``send()`` blocks while the receiver's queue is full. Without a rate it
sends as fast as the receiver takes, else evenly, every 10 ms as many as are due. It ends with what it did, as JSON.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.servers import ROOT
from bench.wire import DEADLINE_S, MeasurementError

PROCESS = "bench"
TAG = f"{PROCESS}[4711]"
_BYTES = 200
_HEAD_BYTES = len("<14>Nov 23 10:15:00 ")
_AT_ONCE = 256
"""Messages of one stamp: far less than a second of them."""
_BEAT_S = 0.01
_FULL = {errno.ENOBUFS, errno.EAGAIN}


def make_messages(count: int) -> list[bytes]:
    """Return the messages 1 to ``count`` without their heads, with which each has 200 bytes."""
    size = _BYTES - _HEAD_BYTES
    return [f"{TAG}: {number:07} ".ljust(size, "x").encode() for number in range(1, count + 1)]


def make_head() -> bytes:
    """Return priority and time as ``syslog(3)`` puts them in front: the time is the moment of sending."""
    return time.strftime("<14>%b %e %H:%M:%S ").encode()


@dataclass(frozen=True)
class Sent:
    """What a sender did; its times are of the system's monotonic clock, which all processes share."""

    began: float
    ended: float
    refused: int
    """Messages that the kernel did not take at the first attempt; they were sent again."""


class Sender:
    """A sender process, ready to go."""

    def __init__(self, path: Path, count: int, rate: int = 0) -> None:
        words = ["-m", "bench.trace_sender", str(path), str(count), str(rate)]
        self._process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if self._line(DEADLINE_S) != b"ready\n":
            raise MeasurementError(f"the sender to {path.name} did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def go(self) -> None:
        """Let it send."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()

    @property
    def running(self) -> bool:
        """Whether it still sends."""
        return self._process.poll() is None

    def result(self, deadline_s: float = 2 * DEADLINE_S) -> Sent:
        """Wait until it has sent all.

        Raises:
            MeasurementError: it failed, or it is still not done.
        """
        try:
            return Sent(**json.loads(self._line(deadline_s)))
        except ValueError:
            raise MeasurementError("the sender has failed, or the receiver takes nothing") from None

    def _line(self, deadline_s: float) -> bytes:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], deadline_s)
        return self._process.stdout.readline() if ready else b""


def send_all(path: Path, count: int, rate: int = 0) -> Sent:
    """Send ``count`` messages and return when all have been taken."""
    with Sender(path, count, rate) as sender:
        sender.go()
        return sender.result()


def _send(sock: socket.socket, messages: Sequence[bytes]) -> int:
    refused, send = 0, sock.send
    for begin in range(0, len(messages), _AT_ONCE):
        head = make_head()
        for message in messages[begin : begin + _AT_ONCE]:
            try:
                send(head + message)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                refused += 1
                _send_again(sock, head + message)
    return refused


def _send_again(sock: socket.socket, message: bytes) -> None:
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        time.sleep(0.001)
        with suppress(OSError):
            sock.send(message)
            return
    raise MeasurementError("the kernel takes no more")


def _send_evenly(sock: socket.socket, messages: Sequence[bytes], rate: int) -> int:
    began, at, refused = time.monotonic(), 0, 0
    while at < len(messages):
        due = int((time.monotonic() - began + _BEAT_S) * rate)
        refused += _send(sock, messages[at:due])
        at = max(at, due)
        time.sleep(max(0.0, began + at / rate - time.monotonic()))
    return refused


def _main() -> None:
    path, count, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    messages = make_messages(count)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(path)
        print("ready", flush=True)
        if not sys.stdin.readline():
            return
        began = time.monotonic()
        refused = _send_evenly(sock, messages, rate) if rate else _send(sock, messages)
        ended = time.monotonic()
    print(json.dumps({"began": began, "ended": ended, "refused": refused}), flush=True)


if __name__ == "__main__":
    _main()
