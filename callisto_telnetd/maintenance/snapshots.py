"""The verified copies of the database in ``backup/``: one made after each full check that found it sound.

The caller of :meth:`Snapshots.keep` sees to it that nobody puts another database in the place meanwhile: it holds the
lock of repairs. What was verified is remembered, so that a copy is not read again for each look.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path

from callisto_telnetd.clock import Clock
from callisto_telnetd.db.snapshot import Known, Snapshot, make_snapshot, newest_good
from callisto_telnetd.db.store import Store
from callisto_telnetd.quantities import format_duration
from callisto_telnetd.transports.daemon import look
from callisto_telnetd.work import in_thread

__all__ = ["Snapshot", "Snapshots", "age_text"]

_MOST_S = 600.0
"""For copies of some GiB, which are read whole when they are looked at first."""


class Snapshots:
    """The copies of one appliance."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._known: Known = {}
        self._lock = asyncio.Lock()

    async def keep(self, store: Store) -> Snapshot:
        """Keep a copy, after a full check has found the database sound; sessions go on meanwhile.

        Raises:
            DiskFullError: there is no room for a copy; the older ones are kept.
            StoreError: no copy could be made, or it is not sound; the older ones are kept.
        """
        async with self._lock:
            return await in_thread(make_snapshot, store.file, self._folder, self._clock.now(), self._known)

    async def newest(self) -> Snapshot | None:
        """Return the newest good copy, None where there is none, or where the folder's disk does not answer."""
        async with self._lock:
            with suppress(OSError):
                return await look(
                    self._folder, partial(newest_good, self._folder, self._clock.now(), self._known), _MOST_S
                )
        return None


def age_text(snapshot: Snapshot) -> str:
    """Return how old a copy is, in words: ``1 d 2 h ago``."""
    return f"{format_duration(snapshot.age_s)} ago"
