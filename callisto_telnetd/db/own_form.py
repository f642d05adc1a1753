"""The form of a database file: ours is one (``format/layout.py``); what other programs make of it is written anew.

Rules:

* Page size and auto-vacuum are SQLite's to change (``VACUUM INTO``). An encoding, or bytes reserved on each page, it
  keeps for good: the rows then go into a new database of the same schema.
* The source is sound: others have looked at it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from callisto_telnetd.db.copying import copy_file
from callisto_telnetd.db.format.layout import HEADER_BYTES, OWN, Layout, stated_layout
from callisto_telnetd.db.schema import first_bytes
from callisto_telnetd.errors import DamagedDatabaseError

_OPCODES = 20_000  # of SQLite's machine, between two looks at how far it has come
_STAMPS = ("application_id", "user_version")
_PRAGMA = {"utf-8": "UTF-8", "utf-16-le": "UTF-16le", "utf-16-be": "UTF-16be"}
"""What SQLite calls the encodings of a layout."""

Look = Callable[[], int]
"""Called while it works; what is not 0 ends it (SQLITE_INTERRUPT)."""


def other_form(file: Path) -> str:
    """Return what of a file's form is not Callisto's own, in words; blank where all is, or where nobody can tell.

    A header that says WAL is none of it: opening the database takes that back. Call it only while no connection to the
    file is open (a closed descriptor would drop SQLite's locks).
    """
    try:
        layout = layout_of(file)
    except OSError:
        return ""
    parts = [f"pages of {layout.page_bytes} bytes"] if layout.page_bytes != OWN.page_bytes else []
    parts += [f"{layout.reserved_bytes} bytes reserved on each page"] if layout.reserved_bytes else []
    parts += [layout.encoding.upper()] if layout.encoding != OWN.encoding else []
    parts += ["auto-vacuum"] if layout.auto_vacuum else []
    return ", ".join(parts)


def layout_of(file: Path) -> Layout:
    """Return what the header of a sound file says; ours where it says nothing.

    Raises:
        OSError: it cannot be read.
    """
    return stated_layout(first_bytes(file, HEADER_BYTES)) or OWN


def copy_in_own_form(source: Path, target: Path) -> None:
    """Make ``target`` a copy of a sound database that nobody has open, in Callisto's own form.

    Raises:
        DamagedDatabaseError: a text in it is none.
        OSError, sqlite3.Error: it cannot be done.
    """
    if layout_of(source) == OWN:
        copy_file(source, target)
        return
    copy_in_encoding(source, target, OWN.encoding)


def copy_in_encoding(source: Path, target: Path, encoding: str) -> None:
    """Make ``target`` a copy of a sound database that nobody has open, of Callisto's own form but for the encoding.

    SQLite attaches only databases of one encoding to each other.

    Raises:
        DamagedDatabaseError: a text in it is none.
        OSError, sqlite3.Error: it cannot be done.
    """
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    # Read as it stands, without a look at any journal; of such a file VACUUM keeps the page size.
    uri = f"{source.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        _copy_rows(connection, target, encoding)


def write_in_own_form(source: sqlite3.Connection, layout: Layout, target: Path, look: Look) -> None:
    """Write a database anew, without its free pages, in Callisto's own form.

    Args:
        source: A connection made with a URI, in no transaction.
        layout: The layout of its file.
        target: An empty file.
        look: Called while it works.

    Raises:
        DamagedDatabaseError: a text in it is none.
        sqlite3.Error: it cannot be done.
    """
    source.set_progress_handler(look, _OPCODES)
    if layout.encoding != OWN.encoding or layout.reserved_bytes:
        _copy_rows(source, target, OWN.encoding)
        return
    source.execute(f"PRAGMA page_size={OWN.page_bytes}").fetchall()
    source.execute("PRAGMA auto_vacuum=NONE").fetchall()
    source.execute("VACUUM INTO ?", (target.absolute().as_uri(),))  # a URI: no text may be the name


def _copy_rows(source: sqlite3.Connection, target: Path, encoding: str) -> None:
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as new:
            new.execute(f"PRAGMA encoding='{_PRAGMA[encoding]}'").fetchall()
            _fill(source, new)
    except UnicodeError:
        raise DamagedDatabaseError("a text in the database is not UTF-8; nothing was changed; 'repair' helps") from None


def _fill(source: sqlite3.Connection, new: sqlite3.Connection) -> None:
    for pragma in (f"page_size={OWN.page_bytes}", "journal_mode=OFF", "synchronous=OFF", "foreign_keys=OFF"):
        new.execute(f"PRAGMA {pragma}").fetchall()
    made = source.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    ).fetchall()
    new.execute("BEGIN")
    for name, sql in ((name, sql) for type, name, sql in made if type == "table"):
        new.execute(sql)
        rows = source.execute(f'SELECT * FROM "{name}" NOT INDEXED')
        places = ", ".join("?" * len(rows.description))
        new.executemany(f'INSERT INTO "{name}" VALUES ({places})', rows)
    for type, _, sql in made:  # once the rows are in: a trigger would write of what nobody did
        if type != "table":
            new.execute(sql)
    for stamp in _STAMPS:
        (value,) = source.execute(f"PRAGMA {stamp}").fetchone()
        new.execute(f"PRAGMA {stamp}={value}")
    new.execute("COMMIT")
