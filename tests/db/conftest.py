"""The real store on a file of the test's own."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.db.store import Store, open_store

Look = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the database stands, or will stand."""
    return tmp_path / "callisto.db"


@pytest.fixture
async def store(file: Path) -> AsyncIterator[Store]:
    """A new database, open."""
    async with open_store(file) as store:
        yield store


@pytest.fixture
def look(file: Path) -> Look:
    """Ask the file through a connection of its own: what is on the disk, or what spoils it."""

    def ask(*statements: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            rows: list[tuple[Any, ...]] = []
            for sql in statements:
                rows = connection.execute(sql).fetchall()
            return rows

    return ask
