"""A viewer of the trace: what waits to be shown to one session, bounded.

Rules:
* A viewer delays nobody: what does not fit any more makes the oldest go, counted exactly, and the count is shown.
* Ended by its user, it shows at most a screen's worth of what waits; the rest is counted too.
* One whose peer takes nothing for ``STALLED_S`` is cut off.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple

from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.records import Record
from callisto_telnetd.trace.selection import Block

STALLED_S = 10.0
_MOST_BYTES = 512 << 10
"""Of lines that wait: 0.4 s of 5,000 records a second. Viewers of one filter share the memory."""
_MOST_AFTER_END = 16 << 10
_PAST_AT_ONCE = 64
_LOOKS = 10
"""How often a viewer's peer is looked at until it is cut off."""


class Missed(NamedTuple):
    """So many records are not shown between those before and those behind."""

    records: int


class Viewer:
    """What one viewer is still to be shown."""

    def __init__(
        self,
        hub: Hub,
        past: Sequence[Record] = (),
        *,
        backlog: Callable[[], int] = lambda: 0,
        on_stalled: Callable[[], None] = lambda: None,
        stalled_s: float = STALLED_S,
    ) -> None:
        """Begin with what was before: it is held by the hub as well, and is shown whole.

        Args:
            hub: Formats the records.
            past: Records to begin with.
            backlog: Says how many bytes the peer has not taken yet; where they become fewer, it reads.
            on_stalled: Called once, where the peer has taken nothing for ``stalled_s``; the viewer has ended then.
            stalled_s: Seconds.
        """
        self._hub = hub
        self._past = past
        self._backlog = backlog
        self._waiting: deque[Block] = deque()
        self._waiting_bytes = 0
        self._missed = 0
        self._wake = asyncio.Event()
        self._stalled_s = stalled_s
        self._watching: asyncio.TimerHandle | None = None
        self._showing = False
        """Whether the peer is given something that it has not taken yet."""
        self._progress_at = 0.0
        self._backlog_then = 0
        self.on_stalled = on_stalled
        self.cut_off = False
        self.fault = ""
        """Why it is shown nothing any more; blank where its user or its capture has ended it."""
        self.ended = False
        self.shown = 0
        """Records that were given to the peer."""
        self.not_shown = 0
        """Records that were not, and never will be."""

    def add_past(self, records: Sequence[Record]) -> None:
        """Show these first, whole: they are held by the hub as well."""
        if self.ended:
            return
        self._past = [*self._past, *records]
        self._wake.set()

    def offer(self, block: Block) -> None:
        """Take a block to be shown; the oldest ones go where there is no room."""
        if self.ended:
            return
        self._waiting.append(block)
        self._waiting_bytes += len(block.data)
        self._drop_beyond(max(_MOST_BYTES, len(block.data)))  # a viewer who reads is shown the newest, however large
        self._wake.set()

    def _drop_beyond(self, most_bytes: int) -> None:
        while self._waiting and self._waiting_bytes > most_bytes:
            block = self._waiting.popleft()
            self._waiting_bytes -= len(block.data)
            self._miss(len(block))

    def _drop_past(self) -> None:
        self._miss(len(self._past))
        self._past = ()

    def _miss(self, count: int) -> None:
        self._missed += count
        self.not_shown += count
        self._hub.not_shown += count

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of lines wait to be shown."""
        return self._waiting_bytes

    def fail(self, reason: str) -> None:
        """Take no more, for a reason."""
        self.fault = reason
        self.finish()

    def finish(self) -> None:
        """Take no more; all that waits is still shown."""
        self.ended = True
        self._wake.set()

    def close(self) -> None:
        """Take no more, and show no more than a screen's worth of what waits."""
        self.ended = True
        self._drop_past()
        self._drop_beyond(_MOST_AFTER_END)
        self._wake.set()

    async def follow(self) -> AsyncGenerator[Missed | Block, None]:
        """Yield what to show as it comes, until the viewer has ended."""
        loop = asyncio.get_running_loop()
        self._progress_at = loop.time()
        self._look_later()
        self._hub.viewers.add(self)
        try:
            while (item := self._next()) is not None or not self.ended:
                if item is None:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                self._showing, self._progress_at = True, loop.time()
                yield item
                self._showing = False
        finally:
            self.ended = True
            self._drop_past()
            self._drop_beyond(0)
            self._hub.viewers.discard(self)
            if self._watching is not None:
                self._watching.cancel()

    def _next(self) -> Missed | Block | None:
        if self._past:
            block = Block.of(self._past[:_PAST_AT_ONCE], self._hub.formatter)
            self._past = self._past[_PAST_AT_ONCE:]
        elif self._missed:
            missed, self._missed = self._missed, 0
            return Missed(missed)
        elif self._waiting:
            block = self._waiting.popleft()
            self._waiting_bytes -= len(block.data)
        else:
            return None
        self.shown += len(block)
        return block

    def _look_later(self) -> None:
        self._watching = asyncio.get_running_loop().call_later(self._stalled_s / _LOOKS, self._look_at_peer)

    def _look_at_peer(self) -> None:
        """Cut the viewer off where its peer has taken nothing for too long: neither asked for more nor read."""
        now, backlog = asyncio.get_running_loop().time(), self._backlog()
        if not self._showing or backlog < self._backlog_then:
            self._progress_at = now
        self._backlog_then = backlog
        if now - self._progress_at < self._stalled_s:
            self._look_later()
        else:
            self._hub.hand_on()  # what was said until now is counted too
            self.cut_off = True
            self._hub.cut_off += 1
            self.ended = True
            self._drop_past()
            self._drop_beyond(0)
            self.on_stalled()
