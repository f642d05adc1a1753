"""The gatekeeper, shared by every door: who may connect, how many at once, whose password is checked next.

Rules:
* One place of each limit is kept for the loopback addresses: a flood cannot lock the administrator out of the box.
* The rules of penalties, of places before the log-in and of turns are those of their modules.
* All times are monotonic; every table is bounded.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address

from callisto_telnetd.accounts.penalties import Penalties
from callisto_telnetd.accounts.places import PendingPlace, PendingPlaces, Progress
from callisto_telnetd.accounts.sources import is_loopback, source_address, source_of
from callisto_telnetd.accounts.standing import Standings
from callisto_telnetd.accounts.turns import Turns
from callisto_telnetd.errors import LoginRefusedError
from callisto_telnetd.work import Tasks


class Place:
    """A session's place within the limits; given back exactly once."""

    def __init__(self, gate: Gatekeeper, pending: PendingPlace) -> None:
        self._gate = gate
        self._pending = pending
        self._held = True

    def note(self, progress: Progress) -> None:
        """Take note of how far the log-in has come."""
        self._gate.pending_places.note(self._pending, progress)

    def logged_in(self) -> None:
        """Free the place among those not yet logged in."""
        self._gate.pending_places.give_back(self._pending)

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        if self._held:
            self._held = False
            self.logged_in()
            self._gate.leave(self._pending.source)


def _ignore() -> None:
    """Stay: nobody is there to be ended."""


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
        self.standings = Standings(self.penalties)
        self.turns = Turns(self.penalties, self.standings, now)
        self.pending_places = PendingPlaces(pending, self.standings, now)
        self.tries = Tasks()
        """Passwords that are being checked: each is counted and kept in the audit, whoever has gone meanwhile."""
        self.most_sessions = sessions
        self._most_per_source = sessions_per_source
        self._allow = allow
        self._per_source: Counter[str] = Counter()
        self.sessions = 0
        """Sessions that are open, logged in or not."""

    @property
    def pending(self) -> int:
        """Sessions not yet logged in."""
        return len(self.pending_places)

    def admit(self, address: str, give_way: Callable[[], None] = _ignore) -> Place:
        """Give a new session its place.

        Args:
            address: Where it comes from.
            give_way: Ends the session; called where somebody else gets its place before it has logged in.

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
        place = Place(self, self.pending_places.take(source, give_way))
        self.sessions += 1
        self._per_source[source] += 1
        return place

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
