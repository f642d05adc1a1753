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
        self, presence: Presence, audit: Audit, idle_minutes: Callable[[], int], web_server_since_s: Callable[[], float]
    ) -> None:
        """Look for ends of the sessions that ``presence`` has.

        Args:
            presence: Who is on.
            audit: Where an end is noted.
            idle_minutes: Returns how long a browser may be idle; 0 for as long as it likes.
            web_server_since_s: Returns the seconds since the web server was started or stopped.
        """
        self._presence = presence
        self._audit = audit
        self._idle_minutes = idle_minutes
        self._web_server_since_s = web_server_since_s
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
        for entry in self._presence.all():
            if entry.is_web and (reason := self._reason(entry)):
                entry.end(reason)
                self._notes.begin(self._audit.note("logged out", entry.origin, reason))

    def _reason(self, entry: Present) -> str:
        idle_s, minutes = time.monotonic() - entry.used_at, self._idle_minutes()
        if minutes and idle_s >= minutes * 60:
            return f"no use for {counted(minutes, 'minute')}"
        return "the web server was stopped" if idle_s > self._web_server_since_s() else ""
