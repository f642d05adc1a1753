"""How much room a repair needs, looked at before anything stops."""

from __future__ import annotations

import os
from pathlib import Path

from callisto_telnetd.db.salvage.aside import has_links
from callisto_telnetd.db.schema import has_journal, says_write_ahead
from callisto_telnetd.errors import DiskFullError, StoreError
from callisto_telnetd.quantities import format_bytes

_RESERVE_BYTES = 4 << 20


def needed_bytes(live: Path, backup: Path | None = None) -> int:
    """Return how much room a repair needs at most.

    It is a working copy and the new file; one more copy where a journal or a log has to be played back, and one where
    the file system has no hard links. A backup is copied once.

    Raises:
        StoreError: a file cannot be looked at.
    """
    try:
        size = live.stat().st_size if live.exists() else 0
        copies = 0 if has_links(live) else 1
        if backup is not None:
            return copies * size + backup.stat().st_size + _RESERVE_BYTES
        return (2 + copies + (has_journal(live) or says_write_ahead(live))) * size + _RESERVE_BYTES
    except OSError as error:
        raise StoreError(f"the database cannot be looked at: {error.strerror}") from None


def require_room(live: Path, backup: Path | None = None) -> None:
    """Refuse where a repair would find no room.

    Raises:
        DiskFullError: says how much is free, and how much is needed.
        StoreError: nobody can tell.
    """
    try:
        disk = os.statvfs(live.parent)
    except OSError as error:
        raise StoreError(f"the disk of the database cannot be looked at: {error.strerror}") from None
    free, needed = disk.f_bavail * disk.f_frsize, needed_bytes(live, backup)
    if free < needed:
        raise DiskFullError(
            f"no room for a repair: {format_bytes(free)} free, {format_bytes(needed)} needed; nothing was changed"
        )
