"""The free disk that a change of the database needs: for the journal that takes it back, and for what it adds."""

from __future__ import annotations

import os
from pathlib import Path

from callisto_telnetd.errors import DiskFullError, StoreError

_RESERVE_BYTES = 1 << 20


def require_reserve(folder: Path) -> None:
    """Refuse where a change would find no room.

    Raises:
        DiskFullError: says how much is free, and how much is needed.
        StoreError: nobody can tell.
    """
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        raise StoreError(f"the disk of the database cannot be looked at: {error.strerror}") from None
    free = disk.f_bavail * disk.f_frsize
    if free < _RESERVE_BYTES:
        raise DiskFullError(
            f"the disk is full: {free // 1024} KiB free, a change needs {_RESERVE_BYTES // 1024} KiB;"
            " nothing was changed"
        )
