"""The database of the appliance: one connection, one transaction at a time, each durable before it is answered.

Rules:
* The store is the only opener of the file (the folder's lock sees to that), but for whoever holds it meanwhile.
* A transaction is one task of the store's own, shielded from the caller: a cancelled caller leaves it whole.
* Rollback journal with ``synchronous=EXTRA``: the journal survives until the change is on disk (SQLite, "Atomic Commit
  In SQLite"). It is kept between transactions (``PERSIST``), so that a deletion finds its room on a full disk.
* A change needs some free disk (``reserve.py``); a deletion does not.
* From the moment a damage is known (:attr:`Store.damage`) nothing is written to the file until another has taken its
  place, or it was found sound after all: what a repair sets aside is what was found. It is still read.
* A file that may yet give way again takes the changes of one task alone (:attr:`Store.reservation`): nobody is told of
  a change that is gone a moment later.
* While the file is held (:meth:`Store.hold`) others wait, but not for long; with a fault they are told at once.
* ``sqlite3.Error`` goes no further than this file and ``opening.py``: it becomes one of our errors, by its code.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from callisto_telnetd.db.journal import judge
from callisto_telnetd.db.known_damage import file_damage, identity_of, known_damage
from callisto_telnetd.db.opening import is_missing, open_connection, require_sound_pages
from callisto_telnetd.db.own_form import other_form
from callisto_telnetd.db.reservation import Reservation
from callisto_telnetd.db.reserve import require_reserve
from callisto_telnetd.db.results import code_of, translate
from callisto_telnetd.db.schema import MOST_STATE
from callisto_telnetd.errors import (
    DamagedDatabaseError,
    ForeignDatabaseError,
    HeldError,
    NewerSchemaError,
    StoreError,
)
from callisto_telnetd.work import Tasks, in_thread, whole

Statement = tuple[str, Sequence[object]]
Row = tuple[Any, ...]

HELD_WAIT_S = 5.0
"""How long a caller waits for a file that is held."""


class Store:
    """The database; made by :func:`open_store`."""

    def __init__(self, file: Path, connection: aiosqlite.Connection | None, fault: StoreError | None = None) -> None:
        self.file = file
        self.fault = fault
        """Why it cannot be used now; None where it can."""
        self.damage = known_damage(file) if fault is None else ""
        """What is known to be wrong with the file, which is not written to; blank where nothing is."""
        self.last_audited = 0
        """The highest number that the audit had when a transaction had written to it; 0 where none has so far."""
        self.untouched = False
        """Whether nobody has opened the file yet; it has a fault until somebody has held it."""
        self.form = ""
        """What of the file's form is not Callisto's own, in words; blank where all is."""
        self.played_back = ""
        """What was in a journal that opening the file has rolled back into it; blank where there was none."""
        self.on_damage: list[Callable[[], None]] = []
        """Called on the loop each time :attr:`damage` changes."""
        self.held = ""
        """What the file is held for, as in ``repaired``; blank where it is not."""
        self.on_return: list[Callable[[], None]] = []
        """Called on the loop each time the database can be used again after a hold."""
        self.on_fault: list[Callable[[StoreError], None]] = []
        """Called on the loop each time the database is found unusable."""
        self.reservation = Reservation()
        """Whose changes alone are taken; those of others wait, as for a file that is held."""
        self._suspect = False
        self._closed = False
        self._connection = connection
        self._lock, self._filing = asyncio.Lock(), asyncio.Lock()
        self._free = asyncio.Event()
        self._free.set()
        self._tasks = Tasks()

    @property
    def usable(self) -> bool:
        """Whether a change is taken now, without waiting for whoever holds the file."""
        return self.fault is None and not self.held and not self.damage and not self.reservation.of_others

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of a query.

        Raises:
            StoreError: the database could not answer.
        """
        try:
            # In one step: a caller who is cancelled leaves no cursor open, which would hold a lock on the file.
            async with self._turn() as connection:
                return [tuple(row) for row in await connection.execute_fetchall(sql, parameters)]
        except sqlite3.Error as error:
            raise self._translated(error) from None

    async def apply(
        self,
        statements: Sequence[Statement],
        then: Callable[[list[int]], None] | None = None,
        *,
        grows: bool = True,
        patient: bool = True,
    ) -> list[int]:
        """Make one durable transaction of the statements and return the row id that each left.

        Args:
            statements: SQL with its parameters, in order.
            then: Called right after the commit, before any other transaction: memory follows disk, even where the
                caller has been cancelled meanwhile.
            grows: Whether room is needed; a deletion is let through on a full disk.
            patient: Whether to wait, for a few seconds, where the file is held.

        Raises:
            DamagedDatabaseError: the file is known to be damaged; nothing has changed.
            DiskFullError: there is no room; nothing has changed.
            HeldError: the file is held, or reserved by somebody else; nothing has changed.
            StoreError: nothing has changed.
        """
        return await self._tasks.finish(self._transact(statements, then, grows=grows, patient=patient))

    async def get_state(self, key: str) -> str | None:
        """Return what the appliance remembers under ``key``."""
        rows = await self.fetch("SELECT value FROM state WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    async def set_state(self, key: str, value: str) -> None:
        """Remember ``value`` under ``key``.

        Raises:
            StoreError: it cannot be kept, or is too long; what was remembered before still is.
        """
        if len(value) > MOST_STATE:  # whoever reads it would refuse it, and a repair set it apart
            raise StoreError(
                f"what is remembered as {key} has {len(value)} characters, at most {MOST_STATE}; nothing was changed"
            )
        await self.apply(
            [("INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))]
        )

    async def schema_version(self) -> int:
        """Return the version of the schema."""
        return int((await self.fetch("PRAGMA user_version"))[0][0])

    @asynccontextmanager
    async def hold(self, what: str) -> AsyncIterator[None]:
        """Have the file for oneself: nobody in this process has it open while the block runs.

        Others wait at most five seconds. At the end the file is opened anew whatever happens; one that cannot be opened
        becomes :attr:`fault`, and is no error here.

        Args:
            what: What is done to the file, as in ``repaired``.

        Raises:
            HeldError: somebody else holds it for longer than that.
        """
        await self._wait_for_release(asyncio.get_running_loop().time() + HELD_WAIT_S)
        self.held = what
        self._free.clear()
        try:
            await self._tasks.finish(self._let_go())
            yield
        finally:
            await self._tasks.finish(self._reopen())

    def give_up(self, fault: StoreError) -> None:
        """Take the database for unusable: it is open, but what the appliance is made of cannot be read from it."""
        self.fault = fault
        self._tell_fault()

    async def note_damage(self, reason: str, *, tell: bool = True) -> None:
        """Have nothing written to the file from now on, because of the reason given; what runs is finished first.

        While the file is held nothing is noted: what was found was found in a file that may be another one by now.

        Args:
            reason: What is wrong.
            tell: Whether :attr:`on_damage` is called; where not, :meth:`tell_damage` does so later.
        """
        async with self._lock:
            if not self.held:
                self._take_damage(self.damage or reason, tell=tell)  # the first is what is told

    async def note_sound(self) -> None:
        """Have the file written to again: a full check has found nothing wrong with its structure."""
        async with self._lock:
            self._take_damage("")
        for tell in self.on_return if self.usable else ():
            tell()

    def tell_damage(self) -> None:
        """Tell those who want to know of :attr:`damage`."""
        for tell in self.on_damage:
            tell()

    def _take_damage(self, reason: str, *, tell: bool = True) -> None:
        if reason == self.damage:
            return
        self.damage = reason
        self._tasks.begin(self._file_damage(reason, identity_of(self.file)))
        if tell:
            self.tell_damage()

    async def _file_damage(self, reason: str, identity: list[int]) -> None:
        async with self._filing:  # in their order
            await asyncio.to_thread(file_damage, self.file, reason, identity)

    def _translated(self, error: sqlite3.Error) -> StoreError:
        """Return our error for SQLite's; a damage is known from then on."""
        known = translate(error)
        if isinstance(known, DamagedDatabaseError):
            self._take_damage(self.damage or code_of(error))
        return known

    @asynccontextmanager
    async def _turn(self, *, patient: bool = True, changes: bool = False) -> AsyncIterator[aiosqlite.Connection]:
        """Have the connection for oneself for a moment."""
        deadline = asyncio.get_running_loop().time() + (HELD_WAIT_S if patient else 0.0)
        while True:
            await self._wait_for_release(deadline, changes=changes)
            async with self._lock:
                if self.held or (changes and self.reservation.of_others):  # since a moment ago
                    continue
                if self.fault is not None or self._connection is None:
                    raise self._refusal()
                yield self._connection
                return

    async def _wait_for_release(self, deadline: float, *, changes: bool = False) -> None:
        """Return once nobody holds the file, or nobody else has it reserved where changes are meant.

        Raises:
            HeldError: somebody still does at the deadline, which is the loop's time.
        """
        while what := self.held or (changes and self.reservation.of_others):
            try:
                async with asyncio.timeout_at(deadline):
                    await (self._free if self.held else self.reservation.ended).wait()
            except TimeoutError:
                raise HeldError(f"the database is being {what}; nothing was changed; try again later") from None

    def _refusal(self) -> StoreError:
        """Return the fault as a new error: one that is raised again and again would drag its tracebacks along."""
        if self.fault is None:
            return StoreError("the database is closed; nothing was changed")
        reason = str(self.fault).removesuffix("; nothing was changed")
        return type(self.fault)(f"the database cannot be used: {reason}; nothing was changed; 'repair' helps")

    async def _let_go(self) -> None:
        """Close the connection once what runs is done."""
        async with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                await _close(connection)

    async def _reopen(self) -> None:
        """Open the file anew; what cannot be opened is the new fault."""
        async with self._lock:  # a hold that was given up at once may still be closing
            if self._closed:  # a connection that nobody closes is a thread that keeps the process from ending
                self._set_free()
                return
            suspect, self._suspect, self.untouched = self._suspect, False, False
            try:
                self.form = await in_thread(other_form, self.file)
                self._connection = await open_connection(self.file, make=False)
                if suspect:
                    await require_sound_pages(self._connection)
                self.fault = None
                self._take_damage(await in_thread(known_damage, self.file))  # another file may have taken its place
            except StoreError as error:
                if self._connection is not None:
                    await _close(self._connection)
                    self._connection = None
                    self._suspect = True
                self.fault = error
            self._set_free()
        if self.fault is None:
            for tell in self.on_return:
                tell()
        else:
            self._tell_fault()

    def _set_free(self) -> None:
        self.held = ""
        self._free.set()

    def _tell_fault(self) -> None:
        if self.fault is not None:
            for tell in self.on_fault:
                tell(self.fault)

    async def _transact(
        self, statements: Sequence[Statement], then: Callable[[list[int]], None] | None, *, grows: bool, patient: bool
    ) -> list[int]:
        async with self._turn(patient=patient, changes=True) as connection:
            if self.damage:
                raise DamagedDatabaseError(
                    f"the database is damaged ({self.damage}) and not written to until it is repaired; nothing was"
                    " changed; 'repair' helps"
                )
            ids: list[int] = []
            try:
                await connection.execute("BEGIN IMMEDIATE")
                if grows:
                    await require_reserve(connection)
                for sql, parameters in statements:
                    async with connection.execute(sql, parameters) as cursor:
                        ids.append(cursor.lastrowid or 0)
                audited = await _last_audited(connection) if any(map(_writes_audit, statements)) else 0
                await connection.execute("COMMIT")
            except sqlite3.Error as error:
                await self._take_failure(connection, error)
                raise self._translated(error) from None
            except BaseException:  # a value that SQLite cannot take, or the loop's end: no transaction stays open
                await _roll_back(connection)
                raise
            self.last_audited = max(self.last_audited, audited)
            if then is not None:
                then(ids)
            return ids

    async def _take_failure(self, connection: aiosqlite.Connection, error: sqlite3.Error) -> None:
        """End the transaction that failed; after a failed fsync nothing written since can be trusted to last."""
        if "FSYNC" not in code_of(error):
            await _roll_back(connection)
            return
        # The kernel calls the pages clean now: only closing, opening anew and looking at every page tells what is true.
        with contextlib.suppress(sqlite3.Error):
            await _roll_back(connection)
        self._suspect = True
        self.fault = StoreError(
            "the disk failed to keep an earlier change; check the disk, then repair the database or restart the server"
        )
        self._tell_fault()

    async def close(self) -> None:
        """Wait for what runs, then close the file; a hold that ends later does not open it again."""
        self._closed = True
        await self._tasks.ended()
        if self._connection is not None:
            await self._connection.close()


def _writes_audit(statement: Statement) -> bool:
    """Whether the audit has a new entry after it: one of its own, or that of the trigger for a changed variable."""
    return statement[0].startswith(("INSERT INTO audit ", "INSERT INTO variable_change "))


async def _last_audited(connection: aiosqlite.Connection) -> int:
    """Return the highest number in the audit; the row id of a change is not that of what its trigger has written."""
    rows = await connection.execute_fetchall("SELECT coalesce(max(id), 0) FROM audit")
    return int(next(iter(rows))[0])


async def _roll_back(connection: aiosqlite.Connection) -> None:
    """End the transaction that SQLite may or may not have rolled back by itself."""
    if connection.in_transaction:
        try:
            await connection.execute("ROLLBACK")
        except sqlite3.Error:
            if connection.in_transaction:
                raise


async def _close(connection: aiosqlite.Connection) -> None:
    """Close the connection, also where its file fails: it is opened anew after that."""
    with contextlib.suppress(sqlite3.Error):
        await connection.close()


@asynccontextmanager
async def open_store(
    file: Path, *, make: bool = True, tolerant: bool = False, untouched: bool = False
) -> AsyncIterator[Store]:
    """Open the database, make or migrate it where that is due, and close it whole at the end.

    Args:
        file: The database.
        make: Whether a missing file becomes a new database; not so where the appliance is known to have had one.
        tolerant: Whether a database that is damaged, or cannot be read or migrated, gives a store with a fault.
        untouched: Whether one that is there is left closed until somebody has held it, with that as its fault.

    Raises:
        DamagedDatabaseError: the file is damaged, or no database of Callisto's.
        NewerSchemaError: a newer version wrote it; nothing has been changed.
        StoreError: it cannot be opened.
    """
    is_new = make and is_missing(file)
    try:
        if untouched and not is_new:
            raise StoreError("it is not opened before it has been looked at")  # noqa: TRY301 - a fault like any other
        journal, form = judge(file), other_form(file)
        store = Store(file, await open_connection(file, make=make))
        store.form, store.played_back = form, journal.reason if journal.must_be_rolled_back else ""
    except NewerSchemaError:
        raise
    except StoreError as error:
        if not tolerant or is_new or (make and isinstance(error, ForeignDatabaseError)):
            raise
        store = Store(file, None, error)
        store.untouched = untouched
    try:
        yield store
    finally:
        await whole(store.close())
