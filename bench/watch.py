"""Another session that works on while some peers keep the server busy: what it notices of them."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence

from bench.wire import DEADLINE_S, PROMPT, MeasurementError

_PAUSE_S = 0.002


class Watcher:
    """Asks again and again on a session of its own, in one loop with the peers' input and output."""

    def __init__(self, session: socket.socket, command: bytes) -> None:
        self.took: list[float] = []
        """The seconds that each of its commands took."""
        self._session = session
        self._line = command + b"\r\n"

    def run(
        self, peers: Sequence[socket.socket], read: Callable[[int, bytes], bool], send: memoryview | None = None
    ) -> None:
        """Read from the peers until ``read(number, data)`` has been true for each; ``send`` goes to the first of them.

        Raises:
            MeasurementError: it took too long, or a peer was closed.
        """
        until = time.perf_counter() + 2 * DEADLINE_S
        open_peers = {sock.fileno(): sock for sock in peers}
        own = self._session.fileno()
        asked, next_at = 0.0, time.perf_counter()
        with select.epoll() as poll:
            poll.register(own, select.EPOLLIN)
            for number, sock in open_peers.items():
                sock.setblocking(False)
                wanted = select.EPOLLIN | (select.EPOLLOUT if send and sock is peers[0] else 0)
                poll.register(number, wanted)
            while open_peers or asked:
                now = time.perf_counter()
                if now > until:
                    raise MeasurementError("the answers did not come in time")
                if not asked and now >= next_at:
                    asked = now
                    self._session.send(self._line)
                for number, event in poll.poll(DEADLINE_S if asked else max(0.0, next_at - now)):
                    if number == own:
                        if self._session.recv(65536).endswith(PROMPT):
                            next_at = time.perf_counter()
                            self.took.append(next_at - asked)
                            asked, next_at = 0.0, next_at + _PAUSE_S
                        continue
                    sock = open_peers[number]
                    if event & select.EPOLLOUT and send is not None:
                        send = send[sock.send(send) :]
                        if not send:
                            poll.modify(number, select.EPOLLIN)
                    if event & select.EPOLLIN:
                        data = sock.recv(1 << 18)
                        if not data:
                            raise MeasurementError("the server closed a connection")
                        if read(number, data):
                            poll.unregister(number)
                            del open_peers[number]
