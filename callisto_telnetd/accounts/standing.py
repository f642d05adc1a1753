"""How a source stands: whose turn is first, and who gives way, where places and hash threads are scarce."""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum

from callisto_telnetd.accounts.penalties import FREE_FAILURES, Penalties
from callisto_telnetd.accounts.sources import is_loopback

_MOST_KNOWN = 1024


class Standing(IntEnum):
    """The lower, the sooner its turn."""

    MACHINE = 0
    """127.0.0.1 and ::1: a flood cannot lock the administrator out of the box."""
    KNOWN = 1
    """Somebody has logged in from there, and it has not failed often since."""
    STRANGER = 2
    """Nothing is known of it."""
    GUESSER = 3
    """It has failed lately."""


class Standings:
    """How every source stands now."""

    def __init__(self, penalties: Penalties) -> None:
        self._penalties = penalties
        self._known: OrderedDict[str, None] = OrderedDict()

    def remember(self, source: str) -> None:
        """Take note that somebody has logged in from there; the last 1,024 sources are remembered."""
        self._known[source] = None
        self._known.move_to_end(source)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    def of(self, source: str) -> Standing:
        """Return how the source stands."""
        if is_loopback(source):
            return Standing.MACHINE
        if source in self._known and self._penalties.streak(source) <= FREE_FAILURES:
            return Standing.KNOWN
        return Standing.GUESSER if self._penalties.has_failed(source) else Standing.STRANGER
