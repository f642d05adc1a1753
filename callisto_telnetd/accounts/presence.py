"""Who is on: every open session, so that it can be listed, told something, and ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from callisto_telnetd.origin import Origin


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

    def enter(
        self, origin: Origin, since: datetime, notify: Callable[[str], None], end: Callable[[str], None]
    ) -> Present:
        """Add a session; it gets the next number."""
        self._number += 1
        entry = Present(self._number, origin, since, notify, end)
        self._present[entry.number] = entry
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
