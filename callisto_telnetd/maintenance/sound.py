"""The rule of whoever has the database written to, or replaced, by a worker: not where it is known to be damaged.

What a repair sets aside is to be, to the byte, what was found.
"""

from __future__ import annotations

from contextlib import suppress

from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import StoreError


def require_sound(store: Store, rule: str) -> None:
    """Return if neither a fault nor a damage of the database is known.

    Args:
        store: The database.
        rule: What the refusal begins with, as in ``only a sound database can be compacted``.

    Raises:
        StoreError: one is known; nothing was changed.
    """
    if store.fault is not None or store.damage:
        reason = str(store.fault or f"it is damaged ({store.damage})").removesuffix("; nothing was changed")
        raise StoreError(f"{rule}: {reason}; nothing was changed; 'repair' helps")


async def know_damage(store: Store) -> None:
    """Have a damage be known that a worker has met, if it is one of the file's structure and not of its rows alone.

    Args:
        store: The database; another connection than the worker's looks at it.
    """
    with suppress(StoreError):  # of a damage: it is known then
        ((first,),) = await store.fetch("PRAGMA integrity_check(1)")
        if first != "ok":
            await store.note_damage(str(first))
