"""Places for log-ins that are being checked: few, so that pages and the shell have their share of the server.

Rules:
* Four at once, of which one is kept for this machine; two at once from any other source.
* The others wait, two seconds at most: this machine first, then sources that somebody has logged in from, then all
  others, each in the order of their coming. Whoever finds no room in the queue, or waits longer, is told to try again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from callisto_telnetd.errors import LoginRefusedError
from callisto_telnetd.web.places import is_loopback

WAIT_S = 2.0
_MOST = 4
_MOST_PER_SOURCE = 2
_MOST_WAITING = 32
_MOST_WAITING_PER_SOURCE = 4
_MOST_KNOWN = 1024
_BUSY = "Other log-ins are being checked. Try again in a few seconds."


class BusyError(LoginRefusedError):
    """Too many log-ins are being checked already."""


@dataclass(eq=False, slots=True)
class _Waiter:
    source: str
    standing: int
    free: asyncio.Future[None]


class LoginPlaces:
    """The places, and who waits for one."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []
        """In the order in which they are served."""
        self._known: OrderedDict[str, None] = OrderedDict()

    def remember(self, source: str) -> None:
        """Take note that somebody has logged in from there; the last 1,024 sources are remembered."""
        self._known[source] = None
        self._known.move_to_end(source)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    @asynccontextmanager
    async def hold(self, source: str) -> AsyncIterator[None]:
        """Hold a place of the source while the block runs.

        Raises:
            BusyError: none became free in time.
        """
        await self._take(source)
        try:
            yield
        finally:
            self._give_back(source)

    async def _take(self, source: str) -> None:
        waiter = _Waiter(source, self._standing_of(source), asyncio.get_running_loop().create_future())
        self._queue(waiter)
        self._look()
        try:
            async with asyncio.timeout(WAIT_S):
                await waiter.free
        except (TimeoutError, asyncio.CancelledError) as error:
            with suppress(ValueError):
                self._waiting.remove(waiter)
            if waiter.free.done() and not waiter.free.cancelled() and waiter.free.exception() is None:
                self._give_back(source)  # it became free in this very moment
            if isinstance(error, TimeoutError):
                raise BusyError(_BUSY) from None
            raise

    def _standing_of(self, source: str) -> int:
        return 0 if is_loopback(source) else 1 if source in self._known else 2

    def _queue(self, waiter: _Waiter) -> None:
        """Queue up behind those who stand as well; where there is no room, the last of those who stand worse goes.

        Raises:
            BusyError: there is no room.
        """
        own = sum(each.source == waiter.source for each in self._waiting)
        if waiter.standing and own >= _MOST_WAITING_PER_SOURCE:
            raise BusyError(_BUSY)
        if len(self._waiting) >= _MOST_WAITING:
            if self._waiting[-1].standing <= waiter.standing:
                raise BusyError(_BUSY)
            last = self._waiting.pop()
            if not last.free.done():
                last.free.set_exception(BusyError(_BUSY))
        self._waiting.append(waiter)
        self._waiting.sort(key=lambda each: each.standing)

    def _look(self) -> None:
        for waiter in list(self._waiting):
            own = is_loopback(waiter.source)
            most, of_source = (_MOST, _MOST) if own else (_MOST - 1, _MOST_PER_SOURCE)
            if self._held.total() < most and self._held[waiter.source] < of_source:
                self._waiting.remove(waiter)
                if not waiter.free.done():
                    self._held[waiter.source] += 1
                    waiter.free.set_result(None)

    def _give_back(self, source: str) -> None:
        self._held[source] -= 1
        if not self._held[source]:
            del self._held[source]
        self._look()
