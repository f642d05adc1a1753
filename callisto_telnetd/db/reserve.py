"""The free disk that a change of the database needs: for the journal that takes it back, and for what it adds.

SQLite's own thread looks at the disk, by a function of the connection: a change waits for no other thread.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import aiosqlite

from callisto_telnetd.errors import DiskFullError, StoreError

_RESERVE_BYTES = 1 << 20
_FREE_BYTES = "callisto_free_bytes"


async def add_look(connection: aiosqlite.Connection, folder: Path) -> None:
    """Have a connection be able to look at the disk of a folder."""
    await connection.create_function(_FREE_BYTES, 0, partial(_free_bytes, folder))


def _free_bytes(folder: Path) -> int | str:
    """Return how much is free, or why nobody can tell: SQLite tells of no error of a function."""
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return str(error.strerror)
    return disk.f_bavail * disk.f_frsize


async def require_reserve(connection: aiosqlite.Connection) -> None:
    """Refuse where a change would find no room.

    Raises:
        DiskFullError: says how much is free, and how much is needed.
        StoreError: nobody can tell.
        sqlite3.Error: the connection cannot be used.
    """
    [(free,)] = await connection.execute_fetchall(f"SELECT {_FREE_BYTES}()")
    if isinstance(free, str):
        raise StoreError(f"the disk of the database cannot be looked at: {free}")
    if free < _RESERVE_BYTES:
        raise DiskFullError(
            f"the disk is full: {free // 1024} KiB free, a change needs {_RESERVE_BYTES // 1024} KiB;"
            " nothing was changed"
        )
