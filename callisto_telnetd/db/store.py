"""The database of the appliance: one connection, one transaction at a time, each durable before it is answered.

Rules:
* The store is the only opener of the file (the folder's lock sees to that).
* A transaction is one task of the store's own, shielded from the caller: a cancelled caller leaves it whole.
* Rollback journal with ``synchronous=EXTRA``: the journal survives until the change is on disk (SQLite, "Atomic Commit
  In SQLite"). It is kept between transactions (``PERSIST``), so that a deletion finds its room on a full disk.
* A change needs ``_RESERVE_BYTES`` of free disk; a deletion does not.
* ``sqlite3.Error`` goes no further than this file: it becomes one of our errors, by its code.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from callisto_telnetd.db.schema import APPLICATION_ID, migrations, require_known, require_stamps, statements
from callisto_telnetd.errors import DamagedDatabaseError, DiskFullError, StoreError, named

Statement = tuple[str, Sequence[object]]
Row = tuple[Any, ...]

_RESERVE_BYTES = 1 << 20
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


def translate(error: sqlite3.Error) -> StoreError:
    """Return our error for SQLite's, told by its result code (SQLite, "Result and Error Codes")."""
    name = _code_of(error)
    if name.startswith("SQLITE_FULL"):
        return DiskFullError("the disk is full; nothing was changed")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DamagedDatabaseError(f"the database is damaged ({name}); nothing was changed")
    return StoreError(f"the database failed ({name}); nothing was changed")


def _code_of(error: sqlite3.Error) -> str:
    """Return the name of SQLite's result code; what Python's module finds by itself (a wrong binding) has none."""
    return getattr(error, "sqlite_errorname", None) or type(error).__name__


class Store:
    """The open database; made by :func:`open_store`."""

    def __init__(self, file: Path, connection: aiosqlite.Connection) -> None:
        self.file = file
        self._failed = False
        self._connection = connection
        self._lock = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of a query.

        Raises:
            StoreError: the database could not answer.
        """
        try:
            # In one step: a caller who is cancelled leaves no cursor open, which would hold a lock on the file.
            async with self._lock:
                return [tuple(row) for row in await self._connection.execute_fetchall(sql, parameters)]
        except sqlite3.Error as error:
            raise translate(error) from None

    async def apply(
        self, statements: Sequence[Statement], then: Callable[[list[int]], None] | None = None, *, grows: bool = True
    ) -> list[int]:
        """Make one durable transaction of the statements and return the row id that each left.

        Args:
            statements: SQL with its parameters, in order.
            then: Called right after the commit, before any other transaction: memory follows disk, even where the
                caller has been cancelled meanwhile.
            grows: Whether room is needed; a deletion is let through on a full disk.

        Raises:
            DiskFullError: there is no room; nothing has changed.
            StoreError: nothing has changed.
        """
        task = asyncio.create_task(self._transact(statements, then, grows=grows))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def get_state(self, key: str) -> str | None:
        """Return what the appliance remembers under ``key``."""
        rows = await self.fetch("SELECT value FROM state WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    async def set_state(self, key: str, value: str) -> None:
        """Remember ``value`` under ``key``."""
        await self.apply(
            [("INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))]
        )

    async def schema_version(self) -> int:
        """Return the version of the schema."""
        return int((await self.fetch("PRAGMA user_version"))[0][0])

    async def _transact(
        self, statements: Sequence[Statement], then: Callable[[list[int]], None] | None, *, grows: bool
    ) -> list[int]:
        async with self._lock:
            if self._failed:
                raise StoreError("the disk failed to keep an earlier change; check the disk, then restart the server")
            if grows:
                self.require_room()
            ids: list[int] = []
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                for sql, parameters in statements:
                    async with self._connection.execute(sql, parameters) as cursor:
                        ids.append(cursor.lastrowid or 0)
                await self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                # After a failed fsync the kernel calls the pages clean: nothing written since can be trusted to last.
                self._failed = "FSYNC" in _code_of(error)
                await self._roll_back()
                raise translate(error) from None
            except BaseException:  # a value that SQLite cannot take, or the loop's end: no transaction stays open
                await self._roll_back()
                raise
            if then is not None:
                then(ids)
            return ids

    def require_room(self) -> None:
        """Refuse where a change would find no room.

        Raises:
            DiskFullError: says how much is free, and how much is needed.
        """
        try:
            disk = os.statvfs(self.file.parent)
        except OSError as error:
            raise StoreError(f"the disk of the database cannot be looked at: {error.strerror}") from None
        free = disk.f_bavail * disk.f_frsize
        if free < _RESERVE_BYTES:
            raise DiskFullError(
                f"the disk is full: {free // 1024} KiB free, a change needs {_RESERVE_BYTES // 1024} KiB;"
                " nothing was changed"
            )

    async def _roll_back(self) -> None:
        """End the transaction that SQLite may or may not have rolled back by itself."""
        if self._connection.in_transaction:
            try:
                await self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                if self._connection.in_transaction:
                    raise

    async def close(self) -> None:
        """Wait for the transaction that runs, then close the file."""
        if self._running:
            await asyncio.wait(self._running)
        await self._connection.close()


async def _number(connection: aiosqlite.Connection, pragma: str) -> int:
    async with connection.execute(f"PRAGMA {pragma}") as cursor:
        row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def _require_ours(connection: aiosqlite.Connection, file: Path) -> None:
    """Look again, now that SQLite has rolled back a hot journal: a new file has no pages, any other has our stamps."""
    if await _number(connection, "page_count"):
        require_stamps(file, await _number(connection, "user_version"), await _number(connection, "application_id"))


async def _migrate(connection: aiosqlite.Connection) -> None:
    version = await _number(connection, "user_version")
    for target, script in sorted(migrations().items()):
        if target <= version:
            continue
        await connection.execute("BEGIN IMMEDIATE")
        for statement in statements(script):
            await connection.execute(statement)
        await connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        await connection.execute(f"PRAGMA user_version={target}")
        await connection.execute("COMMIT")


@asynccontextmanager
async def open_store(file: Path) -> AsyncIterator[Store]:
    """Open the database, make or migrate it where that is due, and close it whole at the end.

    Raises:
        DamagedDatabaseError: the file is damaged, or no database of Callisto's.
        NewerSchemaError: a newer version wrote it; nothing has been changed.
        StoreError: it cannot be opened.
    """
    require_known(file)
    try:
        sqlite3.connect(file).close()  # where this fails, aiosqlite's thread would outlive the loop it answers to
        connection = await aiosqlite.connect(file, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"database {named(file)} cannot be opened: {_code_of(error)}") from None
    try:
        await _require_ours(connection, file)
        file.chmod(0o600)
        for pragma in _PRAGMAS:
            await connection.execute(pragma)
        await _migrate(connection)
    except sqlite3.Error as error:
        await connection.close()
        raise type(translate(error))(f"database {named(file)} cannot be opened: {translate(error)}") from None
    except OSError as error:
        await connection.close()
        raise StoreError(f"database {named(file)} cannot be made the owner's alone: {error.strerror}") from None
    except BaseException:  # an open connection is a thread that keeps the process from ending
        await connection.close()
        raise
    store = Store(file, connection)
    try:
        yield store
    finally:
        await store.close()
