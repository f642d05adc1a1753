"""The rule of whoever has the database written to, or replaced, by a worker: not where it is known to be damaged.

What a repair sets aside is to be, to the byte, what was found.
"""

from __future__ import annotations

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
