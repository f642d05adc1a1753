"""Who is on: every open session, so that it can be listed, told something, and ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from callisto_telnetd.origin import Origin

_MOST_NOTICES = 20
_MOST_ENDED = 1000
"""Of browsers that have not asked again since their sessions were ended: more than there can be."""
_MOST_ACCOUNTS = 100


@dataclass(slots=True)
class Present:
    """A logged-in session."""

    number: int
    origin: Origin
    since: datetime
    notify: Callable[[str], None]
    """Shows a notice before the session's next prompt."""
    end: Callable[[str], None]
    """Ends the session with a line that says why."""
    used_at: float = field(default_factory=time.monotonic)
    """Of a browser: when it last asked for a page, in seconds of the monotonic clock."""

    @property
    def is_web(self) -> bool:
        """Whether a browser holds it: it is shown no notice."""
        return self.origin.door == "web"


class Presence:
    """The sessions that are logged in now."""

    def __init__(self) -> None:
        self._present: dict[int, Present] = {}
        self._number = 0
        self._kept: dict[str, deque[str]] = {}
        """Notices for accounts that are not on, until their next log-in."""
        self._standing: dict[str, str] = {}
        self._ended: dict[int, str] = {}
        """Why a browser's session was ended from here, by its number, until that browser asks again."""

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

    def enter_web(self, origin: Origin, since: datetime) -> Present:
        """Add the session of a browser, which the web server keeps; what waits for its user goes on waiting."""
        self._number += 1
        number = self._number
        entry = Present(number, origin, since, lambda _: None, lambda reason: self._end_web(number, reason))
        self._present[number] = entry
        return entry

    def _end_web(self, number: int, reason: str) -> None:
        if self._present.pop(number, None) is not None:
            self._ended[number] = reason
            if len(self._ended) > _MOST_ENDED:
                del self._ended[next(iter(self._ended))]

    def use_web(self, number: int, origin: Origin, now: datetime) -> Present | str:
        """Note that a browser asks for a page.

        Args:
            number: Of its session.
            origin: Its account and address, as the web server says.
            now: On the appliance's clock.

        Returns:
            Its session, which has another number where this server was started after the log-in; or why it was ended.
        """
        if (reason := self._ended.pop(number, None)) is not None:
            return reason
        entry = self._present.get(number)
        if entry is None or not entry.is_web or entry.origin.who != origin.who:
            return self.enter_web(origin, now)
        entry.used_at = time.monotonic()
        return entry

    def find(self, number: int) -> Present | None:
        """Return the session of that number."""
        return self._present.get(number)

    def leave(self, entry: Present) -> None:
        """Take a session off the list."""
        self._present.pop(entry.number, None)

    def all(self) -> list[Present]:
        """Return the sessions, oldest first."""
        return list(self._present.values())

    def notify_all(self, text: str, but: int | None = None) -> None:
        """Show a notice to every session but the one of that number."""
        for entry in self.all():
            if entry.number != but and not entry.is_web:
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
        mine = [entry for entry in self.all() if entry.origin.who == who and not entry.is_web]
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
