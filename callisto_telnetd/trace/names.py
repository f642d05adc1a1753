"""The names of the processes that have said something: bounded, because senders choose them.

A name has to be heard a few times to be among those that are heard often; until then it is one of the newest, and goes
when as many newer ones have come. So a sender who calls himself something else each time pushes out other new names
alone. Where the often heard are too many, the one heard least makes room for one heard as often.
"""

from __future__ import annotations

MOST_OFTEN = 500
MOST_NEW = 500
_OFTEN = 4
"""Times that a name has to be heard; it is looked at again each time that the number has doubled."""


class Names:
    """Counts how often each name is heard."""

    def __init__(self) -> None:
        self._often: dict[str, int] = {}
        self._new: dict[str, int] = {}

    def hear(self, name: str) -> None:
        """Count a name once."""
        if name in self._often:
            self._often[name] += 1
        else:
            self._hear_new(name)

    def _hear_new(self, name: str) -> None:
        count = self._new.get(name, 0) + 1
        if count >= _OFTEN and not count & (count - 1) and self._make_room(count):
            del self._new[name]
            self._often[name] = count
            return
        if name not in self._new and len(self._new) >= MOST_NEW:
            del self._new[next(iter(self._new))]
        self._new[name] = count

    def _make_room(self, count: int) -> bool:
        """Have a place for a name heard so many times, where there is one; say whether there is."""
        if len(self._often) < MOST_OFTEN:
            return True
        least = min(self._often, key=self._often.__getitem__)
        if self._often[least] > count:
            return False
        del self._often[least]
        return True

    def all(self) -> list[str]:
        """Return the names: those heard often, then the new ones, each in the order in which they came."""
        return [*self._often, *self._new]
