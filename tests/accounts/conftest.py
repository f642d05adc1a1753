"""The accounts over a real store, with a clock that stands still."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import argon2
import pytest

from callisto_telnetd.accounts.accounts import Accounts
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.passwords import PasswordHashes
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.store import Store, open_store
from callisto_telnetd.origin import Origin
from callisto_telnetd.record_rate import RecordRate
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import Log, open_log

MOMENT = 1795425300.0
"""2026-11-23 10:15:00 in Zurich."""

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def clock() -> Clock:
    """The appliance's clock, which stands still."""
    return Clock(zone="Europe/Zurich", read=lambda: MOMENT)


@pytest.fixture
def hub(clock: Clock) -> Hub:
    """The hub under the log."""
    return Hub(clock)


@pytest.fixture
def log(hub: Hub) -> Log:
    """A log that is read from the hub."""
    return open_log(hub, stream=io.StringIO())


@pytest.fixture
def presence() -> Presence:
    """Nobody is on."""
    return Presence()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A new database."""
    async with open_store(tmp_path / "callisto.db") as store:
        yield store


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Read the database through a connection of its own: what another process would find on the disk."""

    def read(sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(tmp_path / "callisto.db")) as connection:
            return connection.execute(sql).fetchall()

    return read


@pytest.fixture
def audit(store: Store, clock: Clock, log: Log) -> Audit:
    """The audit of the database."""
    return Audit(store, clock, log, RecordRate())


@pytest.fixture
def hashes() -> Iterator[PasswordHashes]:
    """Real hashes, in threads that end with the test."""
    hashes = PasswordHashes()
    yield hashes
    hashes.close()


@pytest.fixture(scope="session")
def good_hash() -> str:
    """The hash of ``Secret-123``, made once."""
    return argon2.PasswordHasher(time_cost=2, memory_cost=46 << 10, parallelism=1).hash("Secret-123")


@pytest.fixture
async def accounts(store: Store, hashes: PasswordHashes, audit: Audit, presence: Presence, clock: Clock) -> Accounts:
    """The accounts of a new database: none yet."""
    accounts = Accounts(store, hashes=hashes, audit=audit, presence=presence, clock=clock, log=audit._log)
    await accounts.load()
    return accounts


@pytest.fixture
def ada() -> Origin:
    """An administrator at a terminal."""
    return Origin(who="ada", door="telnet", source="192.0.2.7")
