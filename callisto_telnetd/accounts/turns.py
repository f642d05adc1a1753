"""Turns at the hash threads: who is checked next, and how many guesses there are in all.

Rules:
* Three passwords are checked at once, two of them at most for strangers and sources that have failed: their checks run
  behind everything else, and nobody known waits for one. This machine comes first, then sources that have logged in
  before, then strangers, then sources that have failed; among equals, whoever came first.
* Of a source that has failed one password is checked at a time, of any other two: tries side by side gain nothing.
* All sources that have failed have two guesses a second together, after twenty at once. The first failure of a source
  counts too, but does not wait. Who would have to wait longer than a second is told how long, and goes.
* A source that has failed once or twice is told so once: its guess is booked, and paid for when it comes back.
* A turn that was given counts, whatever becomes of the connection that it was given to.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from callisto_telnetd.accounts.penalties import Penalties, TooManyFailuresError
from callisto_telnetd.accounts.standing import Standing, Standings

_CHECKS_AT_ONCE = 3
_OF_A_KIND = 2
_PER_SOURCE = 2
_GUESSES_PER_S = 2.0
_BURST = 20.0
_DEEPEST = -60.0
"""How far first failures may overdraw: no flood of new sources makes the others wait longer than half a minute."""
_MOST_WAIT_S = 1.0
_FEW_FAILURES = 2
"""Whoever mistypes so often has his next guess booked where he is refused."""
_MOST_BOOKED = 4096
_LATEST_S = 31.0
"""How far ahead guesses are booked."""


class Bucket:
    """Guesses that are left for all sources together; it fills by two a second."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left = _BURST
        self._at = now()

    def wait_s(self, ahead: int) -> float:
        """Return after how many seconds there is a guess left, with that many others waiting before."""
        self._fill()
        return max(0.0, (1 + ahead - self._left) / _GUESSES_PER_S)

    def take(self) -> None:
        """Take a guess, also where none is left."""
        self._fill()
        self._left = max(_DEEPEST, self._left - 1)

    def give_back(self) -> None:
        """Give one back that was none: the password was right."""
        self._left = min(_BURST, self._left + 1)

    def _fill(self) -> None:
        now = self._now()
        self._left = min(_BURST, self._left + (now - self._at) * _GUESSES_PER_S)
        self._at = now


@dataclass(eq=False, slots=True)
class _Waiter:
    source: str
    number: int
    turn: asyncio.Future[Turn]


class Turn:
    """One password's; ended exactly once."""

    def __init__(self, turns: Turns, source: str, *, paid: bool, first: bool) -> None:
        self._turns = turns
        self.source = source
        self.paid = paid
        """Whether the bucket has lost a guess for it already."""
        self.first = first
        """Whether its check runs before those of strangers."""

    def end(self, *, right: bool) -> None:
        """Count the try, and let the next one begin."""
        self._turns.end(self, right=right)


class Turns:
    """Gives the turns."""

    def __init__(self, penalties: Penalties, standings: Standings, now: Callable[[], float] = time.monotonic) -> None:
        self._penalties = penalties
        self._standings = standings
        self._bucket = Bucket(now)
        self._checking: Counter[str] = Counter()
        self._first: Counter[bool] = Counter()
        """How many checks run before those of strangers, and how many do not."""
        self._waiting: dict[int, _Waiter] = {}
        self._booked: OrderedDict[str, None] = OrderedDict()
        """Sources that were told to wait, and whose next guess the bucket has lost already."""
        self._now = now
        self._last_booked = now()
        """When the last of the booked guesses is due."""
        self._came = 0
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, source: str) -> Turn:
        """Wait for the source's turn, and return it; a caller who is cancelled meanwhile leaves nothing behind.

        Raises:
            TooManyFailuresError: the source has to wait longer.
        """
        self._came += 1
        waiter = _Waiter(source, self._came, asyncio.get_running_loop().create_future())
        self._waiting[waiter.number] = waiter
        self._look()
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if self._waiting.pop(waiter.number, None) is not None:
                self._look()
            elif not waiter.turn.cancelled():
                self._return(waiter.turn)
            raise

    def _return(self, given: asyncio.Future[Turn]) -> None:
        """Take a turn back that nobody was there to use: no password was looked at."""
        if given.exception() is None:
            turn = given.result()
            if turn.paid:
                self._bucket.give_back()
            self._leave(turn)

    def end(self, turn: Turn, *, right: bool) -> None:
        """Count the try of a turn."""
        if right:
            self._penalties.succeeded(turn.source)
            self._standings.remember(turn.source)
            if turn.paid:
                self._bucket.give_back()
        else:
            if not turn.paid and self._standings.of(turn.source) is not Standing.MACHINE:
                self._bucket.take()
            self._penalties.failed(turn.source)
        self._leave(turn)

    def _leave(self, turn: Turn) -> None:
        self._first[turn.first] -= 1
        self._checking[turn.source] -= 1
        if not self._checking[turn.source]:
            del self._checking[turn.source]
        self._look()

    def _look(self) -> None:
        """Give turns to those who may have them, and refuse those who would wait too long."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        standings = {each.source: self._standings.of(each.source) for each in self._waiting.values()}
        guessers = 0
        for waiter in sorted(self._waiting.values(), key=lambda each: (standings[each.source], each.number)):
            standing = standings[waiter.source]
            try:
                given = self._give(waiter, standing, ahead=guessers)
            except TooManyFailuresError as refused:
                del self._waiting[waiter.number]
                if not waiter.turn.done():
                    waiter.turn.set_exception(refused)
                continue
            if not given:
                guessers += standing is Standing.GUESSER
        if guessers and (wait_s := self._bucket.wait_s(0)) > 0:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _give(self, waiter: _Waiter, standing: Standing, *, ahead: int) -> bool:
        """Give a waiter the turn if there is one for him now.

        Raises:
            TooManyFailuresError: there will not be one soon.
        """
        source, guesses = waiter.source, standing is Standing.GUESSER
        first = standing <= Standing.KNOWN
        self._penalties.require_free(source)
        booked = guesses and source in self._booked
        wait_s = self._bucket.wait_s(ahead) if guesses and not booked else 0.0
        if wait_s > _MOST_WAIT_S:
            wait_s = self._book(source, wait_s)
            self._penalties.hold(source, wait_s)
            raise TooManyFailuresError(wait_s)
        taken = self._checking.total() >= _CHECKS_AT_ONCE or self._first[first] >= _OF_A_KIND
        if wait_s or taken or self._checking[source] >= (1 if guesses else _PER_SOURCE):
            return False
        self._penalties.require_try_left(source, self._checking[source])
        del self._waiting[waiter.number]
        if not waiter.turn.done():
            if booked:
                del self._booked[source]
            elif guesses:
                self._bucket.take()
            self._checking[source] += 1
            self._first[first] += 1
            waiter.turn.set_result(Turn(self, source, paid=guesses, first=first))
        return True

    def _book(self, source: str, wait_s: float) -> float:
        """Pay now for the next guess of a source that has failed once or twice; return how long it has to wait.

        First failures of others do not push a booked guess back. Where all of the next half minute are booked, none is.
        """
        now = self._now()
        due_s = max(wait_s, self._last_booked + 1 / _GUESSES_PER_S - now)
        if self._penalties.streak(source) > _FEW_FAILURES or due_s > _LATEST_S:
            return wait_s
        self._last_booked = now + due_s
        self._bucket.take()
        self._booked[source] = None
        if len(self._booked) > _MOST_BOOKED:
            self._booked.popitem(last=False)
        return due_s
