"""Failed log-ins by source, and how long each source has to wait.

Rules:
* Penalties fall on the source, never on an account: whoever guesses shuts out himself alone.
* From the fifth failure in a row on, each makes the source wait longer; in any five minutes it has at most ten tries.
* The table holds 65,536 sources in less than 24 MiB: those that failed longest ago go first.
* All times are monotonic.
"""

from __future__ import annotations

import math
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from callisto_telnetd.errors import LoginRefusedError

MOST_TRIES = 10
WINDOW_S = 300.0
PENALTIES_S = (0, 0, 0, 0, 30, 60, 120, 240, 300)
"""How long a source waits after its first, second, … failure; the last holds for all later ones."""
FREE_FAILURES = PENALTIES_S.count(0)
_FORGET_S = 600.0
_MOST_SOURCES = 65_536
_FLOAT_BYTES = 8


class TooManyFailuresError(LoginRefusedError):
    """The source has to wait."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = math.ceil(wait_s)
        super().__init__(f"Too many failures. Try again in {self.wait_s} s.")


class _Failures(NamedTuple):
    """Of one source; the table keeps it packed, since as objects it would take five times the memory."""

    streak: float = 0.0
    blocked_until: float = 0.0
    times: tuple[float, ...] = ()

    def pack(self) -> bytes:
        return struct.pack(f"{2 + len(self.times)}d", self.streak, self.blocked_until, *self.times)

    @staticmethod
    def unpack(packed: bytes) -> _Failures:
        streak, blocked_until, *times = struct.unpack(f"{len(packed) // _FLOAT_BYTES}d", packed)
        return _Failures(streak, blocked_until, tuple(times))


_NONE = _Failures()


class Penalties:
    """The table of failures."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._sources: OrderedDict[str, bytes] = OrderedDict()

    def _of(self, source: str) -> _Failures:
        packed = self._sources.get(source)
        return _Failures.unpack(packed) if packed else _NONE

    def wait_s(self, source: str) -> float:
        """Return how many seconds the source has to wait; 0 if it may try."""
        return max(0.0, self._of(source).blocked_until - self._now())

    def require_free(self, source: str) -> None:
        """Refuse a source that has to wait.

        Raises:
            TooManyFailuresError: says how long.
        """
        if (wait_s := self.wait_s(source)) > 0:
            raise TooManyFailuresError(wait_s)

    def require_try_left(self, source: str, checking: int) -> None:
        """Refuse a try that would be the eleventh in five minutes, should the ``checking`` that run now fail too.

        Raises:
            TooManyFailuresError: says how long the source has to wait.
        """
        now = self._now()
        recent = [at for at in self._of(source).times if now - at < WINDOW_S]
        if recent and len(recent) + checking >= MOST_TRIES:
            raise TooManyFailuresError(recent[0] + WINDOW_S - now)

    def has_failed(self, source: str) -> bool:
        """Whether the source has failed within ten minutes."""
        times = self._of(source).times
        return bool(times) and self._now() - times[-1] <= _FORGET_S

    def streak(self, source: str) -> int:
        """Return how often in a row the source has failed."""
        return int(self._of(source).streak) if self.has_failed(source) else 0

    def failed(self, source: str) -> None:
        """Count a failure of the source, and make it wait where that is due."""
        now = self._now()
        known = self._of(source)
        streak = self.streak(source) + 1
        times = (*known.times, now)[-MOST_TRIES:]
        wait_s = float(PENALTIES_S[min(streak, len(PENALTIES_S)) - 1])
        if len(times) == MOST_TRIES:
            wait_s = max(wait_s, math.ceil(times[0] + WINDOW_S - now))
        self._keep(source, _Failures(streak, max(known.blocked_until, now + wait_s), times))

    def hold(self, source: str, wait_s: float) -> None:
        """Make a source that has failed wait for that long at least."""
        known = self._of(source)
        self._keep(source, known._replace(blocked_until=max(known.blocked_until, self._now() + wait_s)))

    def succeeded(self, source: str) -> None:
        """End the growth of the source's penalties; its tries of the last five minutes stay counted."""
        if source in self._sources:
            self._keep(source, self._of(source)._replace(streak=0))

    def _keep(self, source: str, failures: _Failures) -> None:
        self._sources[source] = failures.pack()
        self._sources.move_to_end(source)
        if len(self._sources) > _MOST_SOURCES:
            self._sources.popitem(last=False)
