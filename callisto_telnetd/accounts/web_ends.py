"""The ends of browsers' sessions that no browser asks for: they are in the audit when they are, not when it asks again.

Rules:
* A session ends where its browser was idle for gWebTimeout, and where its web server, which keeps it in memory, was
  stopped or started since its browser last asked. Both are looked for every second, before a browser is told how its
  session stands, and before anybody is shown who is on.
* Each end is noted once: what has ended here is told to the browser when it asks again, and not noted then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.presence import Presence, Present
from callisto_telnetd.quantities import counted
from callisto_telnetd.work import Tasks, end

_EVERY_S = 1.0


class WebEnds:
    """Ends the sessions of browsers that nobody holds any more."""

    def __init__(
        self, presence: Presence, audit: Audit, idle_minutes: Callable[[], int], web_server_since: Callable[[], float]
    ) -> None:
        """Look for ends of the sessions that ``presence`` has.

        Args:
            presence: Who is on.
            audit: Where an end is noted.
            idle_minutes: Returns how long a browser may be idle; 0 for as long as it likes.
            web_server_since: Returns when the web server's process began or ended, by the monotonic clock.
        """
        self._presence = presence
        self._audit = audit
        self._idle_minutes = idle_minutes
        self._web_server_since = web_server_since
        self._notes = Tasks()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look every second."""
        self._looking = asyncio.create_task(self._look_on(), name="ends of web sessions")

    async def close(self) -> None:
        """Stop, look once more, and return once all is noted."""
        if self._looking is not None:
            await end(self._looking)
            self.sweep()
        await self._notes.ended()

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            self.sweep()

    def sweep(self) -> None:
        """End what is over, and have it noted."""
        now, minutes, web_server_since = time.monotonic(), self._idle_minutes(), self._web_server_since()
        for entry in self._presence.all():
            if entry.is_web and (reason := _reason(entry, now, minutes, web_server_since)):
                entry.end(reason)
                self._notes.begin(self._audit.note("logged out", entry.origin, reason))


def _reason(entry: Present, now: float, minutes: int, web_server_since: float) -> str:
    """Return what a session is over for; blank where it is not."""
    if minutes and now - entry.used_at >= minutes * 60:
        return f"no use for {counted(minutes, 'minute')}"
    return "the web server was stopped" if entry.used_at < web_server_since else ""
