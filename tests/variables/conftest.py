"""A real SQLite file under the registry: what the store promises to it, in its shortest form."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from callisto_telnetd.errors import StaleValueError, UnknownChangeError
from callisto_telnetd.origin import Origin
from callisto_telnetd.variables import CATALOGUE, Change, Database, Edition, Registry, Variable

SCHEMA = """
CREATE TABLE variable (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE variable_change (id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, at TEXT NOT NULL, name TEXT NOT NULL,
    old TEXT, new TEXT, who TEXT NOT NULL, door TEXT NOT NULL, source TEXT NOT NULL, note TEXT NOT NULL DEFAULT '',
    undoes INTEGER REFERENCES variable_change(id)) STRICT;
CREATE TABLE state (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX variable_change_name ON variable_change(name, id);
CREATE TABLE user (number INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL, phone TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO user (number, name) VALUES (200, 'Ada'), (201, 'Bob');
"""


class FileDatabase:
    """SQLite in threads; ``apply`` says when it has begun, and waits at the commit until it may."""

    def __init__(self, connection: sqlite3.Connection, begun: asyncio.Event, may_commit: asyncio.Event) -> None:
        self._connection = connection
        self._begun = begun
        self._may_commit = may_commit
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[list[int]]] = set()

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        def rows() -> list[tuple[Any, ...]]:
            return self._connection.execute(sql, tuple(parameters)).fetchall()

        async with self._lock:
            return await asyncio.to_thread(rows)

    async def apply(
        self,
        statements: Sequence[tuple[str, Sequence[object]]],
        then: Callable[[list[int]], None] | None = None,
    ) -> list[int]:
        task = asyncio.create_task(self._apply(statements, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _apply(
        self, statements: Sequence[tuple[str, Sequence[object]]], then: Callable[[list[int]], None] | None
    ) -> list[int]:
        self._begun.set()
        await self._may_commit.wait()
        async with self._lock:
            ids = await asyncio.to_thread(self._transact, statements)
            if then:
                then(ids)
            return ids

    def _transact(self, statements: Sequence[tuple[str, Sequence[object]]]) -> list[int]:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            return [self._connection.execute(sql, values).lastrowid or 0 for sql, values in statements]


@pytest.fixture
def begun() -> asyncio.Event:
    """Set once a transaction has begun."""
    return asyncio.Event()


@pytest.fixture
def may_commit() -> asyncio.Event:
    """Clear it to hold every transaction before its commit."""
    event = asyncio.Event()
    event.set()
    return event


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The database file itself, to look into and to spoil."""
    path = tmp_path / "callisto.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.executescript(SCHEMA)
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


@pytest.fixture
def database(connection: sqlite3.Connection, begun: asyncio.Event, may_commit: asyncio.Event) -> Database:
    """The database as the registry sees it."""
    return FileDatabase(connection, begun, may_commit)


@pytest.fixture
def now() -> Callable[[], datetime]:
    """The appliance's clock, which stands still."""
    return lambda: datetime(2026, 11, 23, 10, 15, tzinfo=ZoneInfo("Europe/Zurich"))


@pytest.fixture
def open_registry(database: Database, now: Callable[[], datetime]) -> Callable[..., Awaitable[Registry]]:
    """Open a registry over the same file, as a restart of the server does."""

    async def open_(edition: Edition = "ucm", catalogue: Sequence[Variable] = CATALOGUE) -> Registry:
        return await Registry.load(catalogue, database, edition, now)

    return open_


@pytest.fixture
async def registry(open_registry: Callable[..., Awaitable[Registry]]) -> Registry:
    """A registry of the edition ucm over an empty database."""
    return await open_registry()


@pytest.fixture
def ada() -> Origin:
    """An administrator at a terminal."""
    return Origin(who="ada", door="telnet", source="192.0.2.7")


async def undo(registry: Registry, number: int | None, by: Origin) -> list[Change]:
    """Undo a change by its number, or everybody's latest one, as the menu does."""
    while True:
        chosen = await registry.undoable() if number is None else [await registry.change(number)]
        if not chosen:
            raise UnknownChangeError("there is no change to undo")
        with suppress(StaleValueError):  # another one was faster
            return await registry.put_back(chosen, by, {each.name: registry.stored(each.name) for each in chosen})
