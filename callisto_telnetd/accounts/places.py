"""Places among those who are about to log in: few, so nobody may sit on them.

Rules:
* One place is kept for this machine. Of four places or more it has all but two, then its own that has been silent
  longest gives way to its next. Any other source has at most a quarter of the places.
* Where all are taken, somebody gives way to a newcomer: of the busiest source the one that has been silent longest, if
  that source holds two more than the newcomer's (a known source does not give way so to one that is not); else whoever
  has said nothing for ten seconds, or has given a name and no password for twenty; else somebody of a worse standing,
  even while his password is checked. Where nobody does, the newcomer is refused.
* To say something is to give a name: options, empty lines and half a line are nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from enum import IntEnum

from callisto_telnetd.accounts.sources import is_loopback
from callisto_telnetd.accounts.standing import Standing, Standings
from callisto_telnetd.errors import LoginRefusedError

_SILENT_S = 10.0
_NAMED_S = 20.0
"""How long whoever has given a name, or has failed, may take over the next line."""
_SHARE = 4
_LEAST_OF_A_SOURCE = 2
_BUSIER = 2
_KEPT_FROM_MACHINE = 2


class Progress(IntEnum):
    """How far a log-in has come."""

    SILENT = 0
    NAMED = 1
    CHECKED = 2
    """Its password is being checked."""


class PendingPlace:
    """The place of somebody who is about to log in."""

    def __init__(self, source: str, since: float, give_way: Callable[[], None]) -> None:
        self.source = source
        self.since = since
        self.give_way = give_way
        """Ends the connection; called after its place is gone."""
        self.progress = Progress.SILENT
        self.changed = since
        """When it came so far."""


class PendingPlaces:
    """All of them, the oldest first."""

    def __init__(self, most: int, standings: Standings, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._most_of_a_source = max(_LEAST_OF_A_SOURCE, most // _SHARE)
        self._standings = standings
        self._now = now
        self._places: dict[PendingPlace, None] = {}
        self._by_source: dict[str, dict[PendingPlace, None]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def take(self, source: str, give_way: Callable[[], None]) -> PendingPlace:
        """Take a place for the source.

        Raises:
            LoginRefusedError: none is left for it, and nobody gives way.
        """
        machine = is_loopback(source)
        own = self._by_source.get(source, {})
        full = len(self._places) >= max(1, self._most - (not machine))
        crowded = not machine and len(own) >= self._most_of_a_source
        local = [each for each in self._places if is_loopback(each.source)] if machine else []
        if self._most >= _SHARE and len(local) >= self._most - _KEPT_FROM_MACHINE:
            self._end(self._typing(local))
            full = len(self._places) >= self._most
        if (full or crowded) and not self._end(self._long_silent(own) if crowded else self._giving_way_to(source)):
            others = f"{self._most} others" if full else f"{len(own)} others from {source}"
            raise LoginRefusedError(f"Refused: {others} are about to log in. Try again later.")
        place = PendingPlace(source, self._now(), give_way)
        self._places[place] = None
        self._by_source.setdefault(source, {})[place] = None
        return place

    def give_back(self, place: PendingPlace) -> None:
        """Free the place; a second time does nothing."""
        if place in self._places:
            del self._places[place]
            own = self._by_source[place.source]
            del own[place]
            if not own:
                del self._by_source[place.source]

    def _end(self, place: PendingPlace | None) -> bool:
        if place is None:
            return False
        self.give_back(place)
        place.give_way()
        return True

    def _giving_way_to(self, source: str) -> PendingPlace | None:
        """Return who gives way to a newcomer of the source."""
        return self._of_a_busier(source) or self._long_silent(self._places) or self._of_worse_standing(source)

    def _of_a_busier(self, source: str) -> PendingPlace | None:
        least = len(self._by_source.get(source, {})) + _BUSIER
        known = self._standings.of(source) <= Standing.KNOWN
        busier = [
            each
            for each in self._others()
            if len(self._by_source[each]) >= least and (known or self._standings.of(each) > Standing.KNOWN)
        ]
        for other in sorted(busier, key=lambda each: len(self._by_source[each]), reverse=True):
            if found := self._typing(self._by_source[other]):
                return found
        return None

    def _typing(self, places: Iterable[PendingPlace]) -> PendingPlace | None:
        """Return who has come least far, the oldest of those, and is not being checked."""
        waiting = [each for each in places if each.progress is not Progress.CHECKED]
        return min(waiting, key=lambda each: each.progress, default=None)

    def _long_silent(self, places: Iterable[PendingPlace]) -> PendingPlace | None:
        now = self._now()
        for place in places:
            if now - place.since < _SILENT_S:
                return None
            named = place.progress is Progress.NAMED and now - place.changed >= _NAMED_S
            if (named or place.progress is Progress.SILENT) and not is_loopback(place.source):
                return place
        return None

    def note(self, place: PendingPlace, progress: Progress) -> None:
        """Take note of how far a log-in has come."""
        place.progress = progress
        place.changed = self._now()

    def _of_worse_standing(self, source: str) -> PendingPlace | None:
        standings = {each: self._standings.of(each) for each in self._others()}
        worst = max(standings.values(), default=Standing.MACHINE)
        if worst <= self._standings.of(source):
            return None
        found = [each for other, standing in standings.items() if standing is worst for each in self._by_source[other]]
        return min(found, key=lambda each: (each.progress, -len(self._by_source[each.source]), each.since))

    def _others(self) -> list[str]:
        return [each for each in self._by_source if not is_loopback(each)]
