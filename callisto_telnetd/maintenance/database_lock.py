"""The lock of the whole database: one piece of work at a time, and everybody who finds it taken reads whose it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from callisto_telnetd.errors import UsageError
from callisto_telnetd.quantities import format_duration


class DatabaseLock:
    """Held by whoever checks, copies, compacts, repairs, backs up or restores the database."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._lock = asyncio.Lock()
        self._now_s = now_s
        self._holder = ""
        self._since_s = 0.0

    def locked(self) -> bool:
        """Return whether somebody works on the whole database."""
        return self._lock.locked()

    def require_free(self) -> None:
        """Refuse where somebody works on the whole database.

        Raises:
            UsageError: says who does what, and for how long.
        """
        if self._lock.locked():
            took = format_duration(self._now_s() - self._since_s)
            raise UsageError(f"{self._holder}, {took} so far; nothing was changed; try again later")

    @asynccontextmanager
    async def held(self, who: str, doing: str) -> AsyncIterator[None]:
        """Hold it while the block runs; wait for whoever has it.

        Args:
            who: The account, or ``system``.
            doing: What it does, as in ``makes a backup``.
        """
        async with self._lock:
            self._holder, self._since_s = f"{who} {doing}", self._now_s()
            yield
