"""Sessions that are shown live records, and another one that asks all the while, in one loop.

The loop has to take 100 MB a second from 100 viewers on less than one core: it counts line ends in one buffer, and
keeps the bytes of a few viewers only, for :func:`bench.trace_records.count_records`.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence

from bench.trace_sender import Sender
from bench.wire import PROMPT, SHOW, MeasurementError

_BUFFER_BYTES = 1 << 20
_PAUSE_S = 0.005
_TICK_S = 0.25
_QUIET_S = 1.0


class Viewer:
    """What one session was shown."""

    def __init__(self, session: socket.socket, *, keep: bool) -> None:
        self.session = session
        self.lines = 0
        self.bytes = 0
        self.kept: bytearray | None = bytearray() if keep else None

    def take(self, buffer: bytearray, size: int) -> None:
        """Count what the session has received."""
        self.lines += buffer.count(b"\n", 0, size)
        self.bytes += size
        if self.kept is not None:
            self.kept += memoryview(buffer)[:size]


class Audience:
    """Viewers that read as fast as they can, and a session that gives a command every few milliseconds."""

    def __init__(self, viewers: Sequence[Viewer], other: socket.socket) -> None:
        self.took: list[float] = []
        """The seconds that each of the other session's commands took."""
        self.last_at = 0.0
        """When the last bytes came (monotonic)."""
        self._viewers = {viewer.session.fileno(): viewer for viewer in viewers}
        self._other = other

    def watch(self, sender: Sender, finished: Callable[[], bool], deadline_s: float) -> None:
        """Let the sender go, and read until it is done and either ``finished`` says true or nothing has come for 1 s.

        ``finished`` is asked four times a second.

        Raises:
            MeasurementError: the deadline is over, or the server has closed a connection.
        """
        buffer = bytearray(_BUFFER_BYTES)
        own, line = self._other.fileno(), SHOW + b"\r\n"
        asked, next_at, tick_at = 0.0, 0.0, 0.0
        until = time.monotonic() + deadline_s
        with select.epoll() as poll:
            for number in (own, *self._viewers):
                poll.register(number, select.EPOLLIN)
            for viewer in self._viewers.values():
                viewer.session.setblocking(False)
            sender.go()
            self.last_at = time.monotonic()
            while True:
                now = time.monotonic()
                if now >= tick_at:
                    tick_at = now + _TICK_S
                    if finished() and not sender.running and not asked:
                        return
                    if now > until:
                        raise MeasurementError("the server is not done with its viewers in time")
                if not asked and now >= next_at:
                    asked = now
                    self._other.send(line)
                for number, _ in poll.poll(max(0.0, (tick_at if asked else min(tick_at, next_at)) - now)):
                    if number == own:
                        if self._other.recv(65536).endswith(PROMPT):
                            next_at = time.monotonic()
                            self.took.append(next_at - asked)
                            asked, next_at = 0.0, next_at + _PAUSE_S
                        continue
                    viewer = self._viewers[number]
                    size = viewer.session.recv_into(buffer)
                    if not size:
                        raise MeasurementError("the server closed the connection of a viewer that reads")
                    viewer.take(buffer, size)
                    self.last_at = time.monotonic()

    def quiet(self) -> bool:
        """Whether nothing has come for a second."""
        return time.monotonic() - self.last_at > _QUIET_S
