"""Places for connections: how many are open, of how many sources, and who gives way.

Rules:
* Some places are kept for this machine: its health check comes from there, and a proxy may. It may have all of them.
  A proxy that is believed may have all but those; any other source has at most ``MOST_PER_SOURCE``.
* Where all are taken, a newcomer gets the place of a connection that waits for its client: of the busiest source the
  oldest, if that source holds two more than the newcomer's; else the oldest that has been open for two seconds. A
  connection whose request is being answered stays. This machine's and a believed proxy's that have been open for two
  seconds give way to their own kind alone, and to this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol

MOST_CONNECTIONS = 128
MOST_PER_SOURCE = 32
_KEPT_FOR_LOOPBACK = 8
_BUSIER = 2
_WAITING_S = 2.0
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


def place_source(address: str) -> str:
    """Return what counts as one source of connections: the address, or the /64 network of an IPv6 address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and not parsed.is_loopback:
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)


def is_loopback(source: str) -> bool:
    """Whether the source is this machine."""
    return source in _LOOPBACK


class Holder(Protocol):
    """A connection, as its place needs it."""

    def is_waiting(self) -> bool:
        """Whether it waits for its client: nothing that was asked for whole is still to be answered."""

    def give_way(self) -> None:
        """End: somebody else has the place."""


@dataclass(frozen=True, slots=True)
class _Place:
    source: str
    since: float
    bounded: bool


class ConnectionPlaces:
    """Counts connections against their limits."""

    def __init__(
        self,
        most: int = MOST_CONNECTIONS,
        most_per_source: int = MOST_PER_SOURCE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._most_per_source = most_per_source
        self._now = now
        self._places: dict[Holder, _Place] = {}
        """The oldest first."""
        self._by_source: dict[str, dict[Holder, None]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def take(self, source: str, holder: Holder, *, shared: bool = False) -> bool:
        """Take a place for the source; False where none is left for it.

        Args:
            source: As :func:`place_source` has it.
            holder: The connection.
            shared: Whether many browsers come from there: a proxy's that is believed.
        """
        own = is_loopback(source)
        bounded = not (own or shared)
        if bounded and len(self._by_source.get(source, ())) >= self._most_per_source:
            return False
        if len(self._places) >= (self._most if own else self._most - _KEPT_FOR_LOOPBACK):
            leaving = self._giving_way_to(source) or (None if bounded else self._of_its_kind(own=own))
            if leaving is None:
                return False
            self.give_back(leaving)
            leaving.give_way()
        self._places[holder] = _Place(source, self._now(), bounded)
        self._by_source.setdefault(source, {})[holder] = None
        return True

    def give_back(self, holder: Holder) -> None:
        """Give the place back that the connection holds, if it does."""
        place = self._places.pop(holder, None)
        if place is not None:
            own = self._by_source[place.source]
            del own[holder]
            if not own:
                del self._by_source[place.source]

    def _giving_way_to(self, source: str) -> Holder | None:
        least = len(self._by_source.get(source, ())) + _BUSIER
        busier = [each for each in self._by_source.values() if len(each) >= least]
        for holders in sorted(busier, key=len, reverse=True):
            if found := self._first_waiting(holders):
                return found
        return self._first_waiting(self._places, self._now() - _WAITING_S)

    def _of_its_kind(self, *, own: bool) -> Holder | None:
        """Return the oldest idle connection of believed proxies, or where this machine comes, of either."""
        until = self._now() - _WAITING_S
        for holder, place in self._places.items():
            kind = not place.bounded and (own or not is_loopback(place.source))
            if kind and place.since <= until and holder.is_waiting():
                return holder
        return None

    def _first_waiting(self, holders: Iterable[Holder], since: float = float("inf")) -> Holder | None:
        """Return the first that may give way and has been open since then, or for longer."""
        for holder in holders:
            place = self._places[holder]
            if place.since <= since and place.bounded and holder.is_waiting():
                return holder
        return None
