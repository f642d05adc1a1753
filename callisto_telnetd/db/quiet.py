"""A database file that is looked at, and that nothing of that changes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from callisto_telnetd.db.results import Connection


def open_quietly(file: Path, *, closed: bool) -> sqlite3.Connection:
    """Return a connection that changes nothing.

    Args:
        file: The database.
        closed: Whether nobody has it open: it is then read as it stands, without a look at any journal.
    """
    uri = f"{file.absolute().as_uri()}?mode=ro{'&immutable=1' if closed else ''}"
    connection = sqlite3.connect(uri, uri=True, factory=Connection)
    connection.isolation_level = None
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection
