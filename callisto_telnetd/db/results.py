"""What SQLite's result codes mean to us."""

from __future__ import annotations

import sqlite3
from typing import Any

from callisto_telnetd.errors import DamagedDatabaseError, DiskFullError, HeldError, StoreError


class Connection(sqlite3.Connection):
    """A connection whose errors are SQLite's, also where one quotes damaged text of the schema that is no UTF-8."""

    def execute(self, *words: Any) -> sqlite3.Cursor:
        """Run a statement."""
        try:
            return super().execute(*words)
        except UnicodeDecodeError:
            raise _unreadable() from None


def _unreadable() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("the schema is not readable")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT"
    return error


def translate(error: sqlite3.Error) -> StoreError:
    """Return our error for SQLite's, told by its result code (SQLite, "Result and Error Codes")."""
    name = code_of(error)
    if name.startswith("SQLITE_FULL"):
        return DiskFullError("the disk is full; nothing was changed")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DamagedDatabaseError(f"the database is damaged ({name}); nothing was changed")
    if name.startswith("SQLITE_BUSY"):  # a check reads the file for longer than ``busy_timeout``
        return HeldError("the database is being checked; nothing was changed; try again later")
    return StoreError(f"the database failed ({name}); nothing was changed")


def code_of(error: sqlite3.Error) -> str:
    """Return the name of SQLite's result code; what Python's module finds by itself (a wrong binding) has none."""
    return getattr(error, "sqlite_errorname", None) or type(error).__name__
