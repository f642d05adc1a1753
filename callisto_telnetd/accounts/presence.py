"""Who is on: every open session, so that it can be listed, told something, and ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from callisto_telnetd.origin import Origin

_MOST_NOTICES = 20
_MOST_ACCOUNTS = 100


@dataclass(frozen=True, slots=True)
class Present:
    """A logged-in session."""

    number: int
    origin: Origin
    since: datetime
    notify: Callable[[str], None]
    """Shows a notice before the session's next prompt."""
    end: Callable[[str], None]
    """Ends the session with a line that says why."""


class Presence:
    """The sessions that are logged in now."""

    def __init__(self) -> None:
        self._present: dict[int, Present] = {}
        self._number = 0
        self._kept: dict[str, deque[str]] = {}
        """Notices for accounts that are not on, until their next log-in."""
        self._standing: dict[str, str] = {}

    def enter(
        self, origin: Origin, since: datetime, notify: Callable[[str], None], end: Callable[[str], None]
    ) -> Present:
        """Add a session; it gets the next number."""
        self._number += 1
        entry = Present(self._number, origin, since, notify, end)
        self._present[entry.number] = entry
        for text in self._standing.values():
            notify(text)
        for text in self._kept.pop(origin.who, ()):
            notify(text)
        return entry

    def leave(self, entry: Present) -> None:
        """Take a session off the list."""
        self._present.pop(entry.number, None)

    def all(self) -> list[Present]:
        """Return the sessions, oldest first."""
        return list(self._present.values())

    def notify_all(self, text: str, but: int | None = None) -> None:
        """Show a notice to every session but the one of that number."""
        for entry in self.all():
            if entry.number != but:
                entry.notify(text)

    def stand(self, key: str, text: str) -> None:
        """Show a notice to every session, and to each that logs in, until :meth:`clear`; an unchanged one, once."""
        if self._standing.get(key) != text:
            if key not in self._standing and len(self._standing) >= _MOST_NOTICES:
                del self._standing[next(iter(self._standing))]
            self._standing[key] = text
            self.notify_all(text)

    def clear(self, key: str) -> None:
        """End the notice that stands under ``key``, where one does."""
        self._standing.pop(key, None)

    def standing(self) -> list[str]:
        """Return the notices that stand, oldest first."""
        return list(self._standing.values())

    def tell(self, who: str, text: str) -> None:
        """Show a notice to the sessions of an account; where it has none, at its next log-in."""
        mine = [entry for entry in self.all() if entry.origin.who == who]
        for entry in mine:
            entry.notify(text)
        if not mine:
            if who not in self._kept and len(self._kept) >= _MOST_ACCOUNTS:
                del self._kept[next(iter(self._kept))]
            self._kept.setdefault(who, deque(maxlen=_MOST_NOTICES)).append(text)

    def end_sessions_of(self, name: str, reason: str, but: int | None = None) -> int:
        """End every session of the account, but the one of that number; return how many."""
        ended = [
            entry
            for entry in self.all()
            if entry.origin.who == name and entry.origin.door != "local" and entry.number != but
        ]
        for entry in ended:
            entry.end(reason)
        return len(ended)
