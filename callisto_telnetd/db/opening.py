"""Opening the database: what was interrupted is finished, what must not be opened is refused, the schema is made.

Rules:

* SQLite rolls any well-formed journal back into the file beside it, whosever it is, and replays any ``-wal``. So both
  are judged before it sees them (:func:`require_openable`).
* A new database is made only where the caller says that there may be none yet.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiosqlite

from callisto_telnetd.db.journal import judge
from callisto_telnetd.db.known_damage import known_damage
from callisto_telnetd.db.publish import settle
from callisto_telnetd.db.reserve import add_look
from callisto_telnetd.db.restore.switch import settle_restore
from callisto_telnetd.db.results import code_of, translate
from callisto_telnetd.db.schema import APPLICATION_ID, migrations, require_known, require_stamps, statements
from callisto_telnetd.errors import DamagedDatabaseError, StoreError, named
from callisto_telnetd.work import ended, in_thread

_PRAGMAS = (
    "PRAGMA page_size=4096",
    "PRAGMA foreign_keys=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA cell_size_check=ON",
    "PRAGMA secure_delete=ON",
    "PRAGMA mmap_size=0",
    "PRAGMA journal_mode=PERSIST",
    "PRAGMA journal_size_limit=1048576",
    "PRAGMA synchronous=EXTRA",
    "PRAGMA busy_timeout=5000",
)


def require_openable(file: Path) -> None:
    """Refuse a file, or a journal beside it, that SQLite must not open; reads, changes nothing.

    Raises:
        DamagedDatabaseError: the file is no database of Callisto's, or what lies beside it would spoil it.
        NewerSchemaError: a newer version wrote it.
        StoreError: it cannot be read.
    """
    journal = judge(file)
    if not journal.is_harmless:
        require_known(file, judged=True)
        raise DamagedDatabaseError(f"the journal of database {named(file)} must not be rolled back: {journal.reason}")
    require_known(file)
    log = Path(f"{file}-wal")
    try:
        if log.exists() and log.stat().st_size:  # ours never has one; SQLite would put its pages into the file
            raise DamagedDatabaseError(f"{named(log)} is another program's and would spoil the database")
    except OSError as error:
        raise StoreError(f"{named(log)} cannot be looked at: {error.strerror}") from None


def is_missing(file: Path) -> bool:
    """Whether there is no database: no file, or an empty one.

    Raises:
        StoreError: nobody can tell.
    """
    try:
        return not file.exists() or (file.is_file() and not file.stat().st_size)
    except OSError as error:
        raise StoreError(f"database {named(file)} cannot be looked at: {error.strerror}") from None


async def open_connection(file: Path, *, make: bool) -> aiosqlite.Connection:
    """Return a connection to the database, with its schema as this version has it.

    Args:
        file: The database; the caller holds the folder's lock, and nobody has the file open.
        make: Whether a missing or empty file becomes a new database.

    Raises:
        DamagedDatabaseError: the file is damaged, missing, or no database of Callisto's.
        NewerSchemaError: a newer version wrote it; nothing has been changed.
        StoreError: it cannot be opened.
    """
    await in_thread(partial(_prepare, file, make=make))
    opening = asyncio.create_task(_open(file))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:  # an open connection is a thread that keeps the process from ending
        await ended((opening,))
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().close()
        raise


async def _open(file: Path) -> aiosqlite.Connection:
    try:
        damage = await in_thread(_try_to_open, file)
        connection = await aiosqlite.connect(file, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"database {named(file)} cannot be opened: {code_of(error)}") from None
    try:
        await _require_ours(connection, file)
        await in_thread(file.chmod, 0o600)
        for pragma in _PRAGMAS:
            await connection.execute(pragma)
        await add_look(connection, file.parent)
        await _migrate(connection, damage)
    except sqlite3.Error as error:
        await connection.close()
        raise type(translate(error))(f"database {named(file)} cannot be opened: {translate(error)}") from None
    except UnicodeDecodeError:  # what SQLite says of a damaged schema quotes it
        await connection.close()
        raise DamagedDatabaseError(f"database {named(file)} cannot be opened: its schema is not readable") from None
    except OSError as error:
        await connection.close()
        raise StoreError(f"database {named(file)} cannot be made the owner's alone: {error.strerror}") from None
    except BaseException:  # an open connection is a thread that keeps the process from ending
        await connection.close()
        raise
    return connection


def _prepare(file: Path, *, make: bool) -> None:
    """Finish what was interrupted, and refuse what must not be opened; reads files and syncs folders."""
    settle(file)
    settle_restore(file)
    if not make and is_missing(file):
        raise DamagedDatabaseError(f"database {named(file)} is lost: it is not there, or empty")
    require_openable(file)
    if make and not file.exists():  # else SQLite makes it, and the umask says who may look into it
        with suppress(OSError):  # SQLite says what is wrong
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _try_to_open(file: Path) -> str:
    """Open the file and close it again; return what damage is known of it.

    Where this fails in aiosqlite's thread, that one would outlive the loop it answers to.
    """
    sqlite3.connect(file).close()
    return known_damage(file)


async def require_sound_pages(connection: aiosqlite.Connection) -> None:
    """Look at every page, as ``quick_check`` does: 0.13 s for 200 MB.

    Raises:
        DamagedDatabaseError: names the first fault.
        StoreError: the pages cannot be read.
    """
    try:
        async with connection.execute("PRAGMA quick_check(1)") as cursor:
            row = await cursor.fetchone()
    except sqlite3.Error as error:
        raise translate(error) from None
    if row is None or row[0] != "ok":
        raise DamagedDatabaseError(f"the database is damaged: {row[0] if row else 'it cannot be checked'}")


async def _number(connection: aiosqlite.Connection, pragma: str) -> int:
    async with connection.execute(f"PRAGMA {pragma}") as cursor:
        row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def _require_ours(connection: aiosqlite.Connection, file: Path) -> None:
    """Look again, now that SQLite has rolled back a hot journal: a new file has no pages, any other has our stamps."""
    if await _number(connection, "page_count"):
        require_stamps(file, await _number(connection, "user_version"), await _number(connection, "application_id"))


async def _migrate(connection: aiosqlite.Connection, damage: str) -> None:
    version = await _number(connection, "user_version")
    for target, script in sorted(migrations().items()):
        if target <= version:
            continue
        if damage:
            raise DamagedDatabaseError(f"the database is damaged ({damage}) and not brought up to date before a repair")
        await connection.execute("BEGIN IMMEDIATE")
        for statement in statements(script):
            await connection.execute(statement)
        await connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        await connection.execute(f"PRAGMA user_version={target}")
        await connection.execute("COMMIT")
