"""Who is on: every open session, so that it can be listed, told something, and ended."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from callisto_telnetd.origin import Origin

_MOST_NOTICES = 20
_MOST_ENDED = 1000
"""Of browsers whose sessions were ended, and of those that have asked after a new start: more than there can be."""
_MOST_WEB = 512
"""Of browsers that are on: the web server has at most half as many, and may have been started again."""
_MOST_NUMBERS = 10**7
_MOST_ACCOUNTS = 100

T = TypeVar("T")


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
    ticket: int = 0
    """Of a browser: its number for the web server, which no other start of this server gives."""

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
        """Why a browser's session was ended from here, by its number."""
        self._start = secrets.randbelow(_MOST_NUMBERS) + 1
        """Stands before the number in each ticket."""
        self._moved: dict[int, int] = {}
        """Numbers of browsers that have logged in before this start, by their tickets."""

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
        on = [each for each in self.all() if each.is_web]
        if len(on) >= _MOST_WEB:
            self.leave(min(on, key=lambda each: each.used_at))
        self._number += 1
        number = self._number
        entry = Present(number, origin, since, lambda _: None, lambda reason: self._end_web(number, reason))
        entry.ticket = self._start * _MOST_NUMBERS + number
        self._present[number] = entry
        return entry

    def _end_web(self, number: int, reason: str) -> None:
        if self._present.pop(number, None) is not None:
            _put(self._ended, number, reason)

    def use_web(self, ticket: int, origin: Origin, now: datetime) -> Present | str:
        """Note that a browser asks for a page.

        Args:
            ticket: Of its session.
            origin: Its account and address, as the web server says.
            now: On the appliance's clock.

        Returns:
            Its session, which has another ticket where this server was started after the log-in; or why it was ended.
        """
        if self._number_of(ticket) is None:
            _put(self._moved, ticket, self.enter_web(origin, now).number)
        entry = self.find_web(ticket)
        if entry is None or entry.origin.who != origin.who:  # told to each request: a browser may send many at once
            return self.ended_web(ticket) or "the session has ended"
        entry.used_at = time.monotonic()
        return entry

    def find_web(self, ticket: int) -> Present | None:
        """Return the session of a browser."""
        entry = self._present.get(self._number_of(ticket) or 0)
        return entry if entry is not None and entry.is_web else None

    def ended_web(self, ticket: int) -> str | None:
        """Return why the session of a browser was ended from here; None where it was not."""
        return self._ended.get(self._number_of(ticket) or 0)

    def _number_of(self, ticket: int) -> int | None:
        """Return the number of a browser's session; None for one of an earlier start that has not asked again yet."""
        start, number = divmod(ticket, _MOST_NUMBERS)
        return number if start == self._start else self._moved.get(ticket)

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


def _put(kept: dict[int, T], key: int, value: T) -> None:
    """Keep a value; beyond the bound, the oldest goes."""
    kept[key] = value
    if len(kept) > _MOST_ENDED:
        del kept[next(iter(kept))]
