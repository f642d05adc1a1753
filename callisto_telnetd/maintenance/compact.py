"""Compacting beside a running server: the store is held, the worker works, and the store is back in every case."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from callisto_telnetd.clock import Clock
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import DamagedDatabaseError, StoreError, UnfinishedError
from callisto_telnetd.maintenance.sound import know_damage, require_sound
from callisto_telnetd.maintenance.workshop import Progress, Workshop
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.work import in_thread

COMPACT_STATE = "last_compact"
"""The key under which the last compact's time and sizes are kept in the database."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compact has done; sizes in bytes."""

    before_bytes: int
    after_bytes: int
    seconds: float


async def compact(
    store: Store, workshop: Workshop, clock: Clock, log: Log, told: Callable[[Progress], None]
) -> Compacted:
    """Compact the database; others wait for at most five seconds meanwhile, and reading from memory goes on.

    Raises:
        StoreError: it cannot be compacted; nothing was changed.
    """
    require_sound(store, "only a sound database can be compacted")
    began = time.monotonic()
    before = await in_thread(_size, store)
    try:
        async with store.hold("compacted"):
            require_sound(store, "only a sound database can be compacted")  # a damage that became known meanwhile
            try:
                await workshop.run("compact", {"file": str(store.file.absolute())}, told)
            except UnfinishedError as error:  # the store puts it in its place when it opens the file anew
                log.warning("compact finished late", reason=str(error))
    except DamagedDatabaseError:
        await know_damage(store)
        raise
    if store.fault is not None:
        raise StoreError(f"the database was compacted, but cannot be opened: {store.fault}")
    done = Compacted(before, await in_thread(_size, store), round(time.monotonic() - began, 3))
    at = clock.now().isoformat(timespec="seconds")
    value = {"at": at, "before_bytes": done.before_bytes, "after_bytes": done.after_bytes}
    try:
        await store.set_state(COMPACT_STATE, orjson.dumps(value).decode())
    except StoreError as error:
        log.warning("compact not kept", reason=str(error))
    return done


def _size(store: Store) -> int:
    try:
        return store.file.stat().st_size
    except OSError as error:
        raise StoreError(f"the database cannot be looked at: {error.strerror}") from None
