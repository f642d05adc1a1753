"""The gatekeeper, shared by every door: places for sessions, and penalties for failed log-ins.

Rules:
* Penalties fall on the source address (an IPv6 network of 64 bits counts as one), never on an account: whoever guesses
  shuts out himself alone.
* From the fifth failure on, each makes the source wait longer; in any five minutes a source has at most ten tries.
* Two passwords of a source are checked at once; the others wait their turn, so that tries side by side gain nothing.
* One place of each limit is kept for the loopback addresses: a flood cannot lock the administrator out of the box.
* All times are monotonic; every table is bounded.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from callisto_telnetd.errors import LoginRefusedError

MOST_TRIES = 10
WINDOW_S = 300.0
PENALTIES_S = (0, 0, 0, 0, 30, 60, 120, 240, 300)
"""How long a source waits after its first, second, … failure; the last holds for all later ones."""
_FORGET_S = 600.0
_MOST_SOURCES = 65_536
_CHECKS_PER_SOURCE = 2


class TooManyFailuresError(LoginRefusedError):
    """The source has to wait."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = math.ceil(wait_s)
        super().__init__(f"Too many failures. Try again in {self.wait_s} s.")


def source_of(address: str) -> str:
    """Return what counts as one source: the address, or the /64 network of an IPv6 address; else the text itself."""
    try:
        parsed = ip_address(address.split("%", maxsplit=1)[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(parsed) if parsed.is_loopback else str(ip_network((parsed, 64), strict=False))
    return str(parsed)


def is_loopback(source: str) -> bool:
    """Whether the source is this machine: 127.0.0.1 or ::1."""
    return source in {"127.0.0.1", "::1"}


@dataclass(slots=True)
class _Failures:
    times: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_TRIES))
    streak: int = 0
    blocked_until: float = 0.0


class Penalties:
    """Failed log-ins by source, and how long each source has to wait."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._sources: OrderedDict[str, _Failures] = OrderedDict()
        self._trying: Counter[str] = Counter()
        self._checking: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}

    def wait_s(self, source: str) -> float:
        """Return how many seconds the source has to wait; 0 if it may try."""
        known = self._sources.get(source)
        return max(0.0, known.blocked_until - self._now()) if known else 0.0

    def require_free(self, source: str) -> None:
        """Refuse a source that has to wait.

        Raises:
            TooManyFailuresError: says how long.
        """
        if (wait_s := self.wait_s(source)) > 0:
            raise TooManyFailuresError(wait_s)

    @asynccontextmanager
    async def attempt(self, source: str) -> AsyncIterator[None]:
        """Hold a try of the source while its password is checked: two at once, the others wait their turn.

        Raises:
            TooManyFailuresError: the source has to wait.
        """
        turn = self._turns.setdefault(source, asyncio.Semaphore(_CHECKS_PER_SOURCE))
        self._trying[source] += 1
        try:
            async with turn:
                self.require_free(source)
                self._require_try_left(source)
                self._checking[source] += 1
                try:
                    yield
                finally:
                    self._checking[source] -= 1
        finally:
            self._trying[source] -= 1
            if not self._trying[source]:
                del self._trying[source], self._turns[source], self._checking[source]

    def _require_try_left(self, source: str) -> None:
        """Refuse a try that would be the eleventh in five minutes, should those that are being checked fail too."""
        now = self._now()
        known = self._sources.get(source)
        recent = [at for at in known.times if now - at < WINDOW_S] if known else []
        if recent and len(recent) + self._checking[source] >= MOST_TRIES:
            raise TooManyFailuresError(recent[0] + WINDOW_S - now)

    def failed(self, source: str) -> None:
        """Count a failure of the source, and make it wait where that is due."""
        now = self._now()
        known = self._sources.pop(source, None) or _Failures()
        self._sources[source] = known
        if len(self._sources) > _MOST_SOURCES:
            self._sources.popitem(last=False)
        if known.times and now - known.times[-1] > _FORGET_S:
            known.streak = 0
        known.times.append(now)
        known.streak += 1
        wait_s = PENALTIES_S[min(known.streak, len(PENALTIES_S)) - 1]
        if len(known.times) == MOST_TRIES:
            wait_s = max(wait_s, math.ceil(known.times[0] + WINDOW_S - now))
        known.blocked_until = max(known.blocked_until, now + wait_s)

    def succeeded(self, source: str) -> None:
        """End the growth of the source's penalties; its tries of the last five minutes stay counted."""
        if known := self._sources.get(source):
            known.streak = 0


class Place:
    """A session's place within the limits; given back exactly once."""

    def __init__(self, gate: Gatekeeper, source: str) -> None:
        self._gate = gate
        self._source = source
        self._pending = True
        self._held = True

    def logged_in(self) -> None:
        """Free the place among those not yet logged in."""
        if self._pending:
            self._pending = False
            self._gate.pending -= 1

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        if self._held:
            self._held = False
            self.logged_in()
            self._gate.leave(self._source)


class Gatekeeper:
    """Who may connect, how many at once, and who has to wait."""

    def __init__(
        self,
        sessions: int,
        sessions_per_source: int,
        pending: int,
        allow: tuple[IPv4Network | IPv6Network, ...] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.penalties = Penalties(now)
        self.most_sessions = sessions
        self._most_per_source = sessions_per_source
        self._most_pending = pending
        self._allow = allow
        self._per_source: Counter[str] = Counter()
        self.sessions = 0
        """Sessions that are open, logged in or not."""
        self.pending = 0
        """Sessions not yet logged in."""

    def admit(self, address: str) -> Place:
        """Give a new session its place.

        Raises:
            LoginRefusedError: one line that says why not.
        """
        source = source_of(address)
        if self._allow and not is_loopback(source) and not self._allowed(address):
            raise LoginRefusedError(f"Refused: {address} is not in a network that may connect.")
        self.penalties.require_free(source)
        kept = 0 if is_loopback(source) else 1
        if self.sessions >= max(1, self.most_sessions - kept):
            raise LoginRefusedError(f"Refused: {_all(self.most_sessions)} taken. Try again later.")
        if self._per_source[source] >= self._most_per_source:
            raise LoginRefusedError(
                f"Refused: {_all(self._most_per_source, f' from {source}')} taken. Try again later."
            )
        if self.pending >= max(1, self._most_pending - kept):
            raise LoginRefusedError(f"Refused: {self._most_pending} others are about to log in. Try again later.")
        self.sessions += 1
        self.pending += 1
        self._per_source[source] += 1
        return Place(self, source)

    def leave(self, source: str) -> None:
        """Count a session of the source less."""
        self.sessions -= 1
        self._per_source[source] -= 1
        if not self._per_source[source]:
            del self._per_source[source]

    def _allowed(self, address: str) -> bool:
        try:
            parsed = ip_address(source_address(address))
        except ValueError:
            return False
        return any(parsed in network for network in self._allow)


def _all(count: int, where: str = "") -> str:
    return f"all {count} sessions{where} are" if count > 1 else f"the only session{where} is"


def source_address(address: str) -> str:
    """Return the address without zone, an IPv4 address in IPv6 form as IPv4."""
    parsed = ip_address(address.split("%", maxsplit=1)[0])
    return str(parsed.ipv4_mapped) if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped else str(parsed)
