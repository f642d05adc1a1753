"""Copies of the database alone, kept beside the backups: made whole, verified, and found again.

* A copy is made page by page (SQLite's "Online Backup API") over a connection of its own that only reads. Between two
  steps it holds no lock, so that a writer waits for one step at most. A write in between begins the copy again; after
  a few times it is made in one step, which a writer outwaits.
* A copy gets its name once it has been fsynced and found sound by a full check: a name of :data:`_NAME` that is not
  sound was damaged later, or put there by somebody else.
* Only files of that name are ever removed, and never the newest good one.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.durable import sync
from callisto_telnetd.db.results import Connection, code_of
from callisto_telnetd.db.schema import APPLICATION_ID, migrations, require_known, statements
from callisto_telnetd.errors import DamagedDatabaseError, DiskFullError, StoreError, named
from callisto_telnetd.quantities import format_bytes

_NAME = re.compile(r"database-(\d{8}-\d{6})\.db", re.ASCII)
_STAMP = "%Y%m%d-%H%M%S"
_MAKING = ".making-database.db"
_KEPT = 2
_STEP_PAGES = 1024  # 4 MiB: some milliseconds
_MOST_TIMES = 3  # the steps of a whole copy, before it is made in one: 0.3 s for 200 MiB
_REST_S = 0.005  # while a writer has the file
_RESERVE_BYTES = 16 << 20
_MOST_LOOKED_AT = 16
_LOOK_S = 60.0  # a look at 200 MiB takes 0.2 s; a file made to be slow is given up
_WHOLE_S = 1800.0  # what we have made ourselves may be large, and the disk slow
_LONGEST_VALUE = 1 << 24  # a value, or a statement of the schema, in a file that anybody may have made


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy that was found sound."""

    path: Path
    at: datetime
    """When it was made, by its name: the appliance's time, in the zone of now."""
    age_s: float
    """Not below 0, also where the clock was set back since."""
    size_bytes: int
    schema: int
    rows: int
    doubtful: int
    """How many of the rows are set apart where the copy takes the place of the database."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at a file has found."""

    fault: str
    """Why it is not used; blank where it is sound."""
    schema: int = 0
    rows: int = 0
    doubtful: Doubtful = field(default_factory=Doubtful)
    """Rows that a restore sets apart: the file is whole, and not all that is in it counts."""


Known = MutableMapping[tuple[str, int, int, int], Verdict]
"""What was found already, by name, size, time of the last change and inode."""


def newest_good(folder: Path, now: datetime, known: Known | None = None) -> Snapshot | None:
    """Return the newest sound copy of a folder, None where there is none; waits for the disk.

    Args:
        folder: Where copies are kept; files of other names are not looked at.
        now: The appliance's time, with its zone. Copies whose names are later than it come last.
        known: What earlier calls have found; what this one finds is added.
    """
    for path, at in _copies(folder, now)[:_MOST_LOOKED_AT]:
        try:
            found = path.lstat()
            verdict = _judge(path, found, known)
        except (OSError, StoreError):
            continue  # taken away meanwhile, or not readable: no copy for anybody
        if not verdict.fault:
            age_s = max(0.0, (now - at).total_seconds())
            return Snapshot(path, at, age_s, found.st_size, verdict.schema, verdict.rows, verdict.doubtful.count)
    return None


def make_snapshot(live: Path, folder: Path, now: datetime, known: Known | None = None) -> Snapshot:
    """Keep a verified copy of the database and remove the older ones but one; waits for the disk.

    Args:
        live: The database, which may be in use; nobody may put another in its place meanwhile.
        folder: Where copies are kept.
        now: The appliance's time, with its zone; gives the copy its name.
        known: As for :func:`newest_good`.

    Raises:
        DiskFullError: there is no room; nothing was changed.
        DamagedDatabaseError: the copy is not sound; it was removed, and older ones are kept.
        StoreError: the database or the folder cannot be used.
    """
    making = folder / _MAKING
    try:
        _require_room(live, folder)
        making.unlink(missing_ok=True)
        making.touch(mode=0o600, exist_ok=False)
        try:
            copy_database(live, making)
            sync(making)
            verdict = inspect(making, whole=True)
            fault = verdict.fault or "; ".join(verdict.doubtful.faults)
            if fault:
                raise DamagedDatabaseError(f"the copy of the database is not sound: {fault}; it was removed")
            path, at = _free_name(folder, now)
            making.rename(path)
            sync(folder)
        finally:
            making.unlink(missing_ok=True)
        found = path.lstat()
        if known is not None:
            known[_key(path, found)] = verdict
        _prune(folder, path, now, known)
    except OSError as error:
        raise StoreError(f"the database cannot be copied to {named(folder)}: {error.strerror}") from None
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
            raise DiskFullError("the database cannot be copied: the disk is full") from None
        raise StoreError(f"the database cannot be copied: {code_of(error)}") from None
    return Snapshot(path, at, max(0.0, (now - at).total_seconds()), found.st_size, verdict.schema, verdict.rows, 0)


def inspect(path: Path, *, whole: bool = False) -> Verdict:
    """Say whether a file is a sound database of ours, whoever made it; reads only.

    Args:
        path: A file that nobody writes to: no lock is taken, no journal is looked at.
        whole: Whether indexes are held against tables and references are followed, too.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return Verdict("no file")
        require_known(path)
        if path.with_name(path.name + "-journal").exists() or path.with_name(path.name + "-wal").exists():
            return Verdict("a journal lies beside it")
        with _reading(path, _WHOLE_S if whole else _LOOK_S) as connection:
            return _inspect(connection, whole=whole)
    except StoreError as error:
        return Verdict(str(error))
    except OSError as error:
        return Verdict(error.strerror or "not readable")
    except sqlite3.Error as error:
        return Verdict(code_of(error))


@contextmanager
def _reading(path: Path, most_s: float) -> Iterator[sqlite3.Connection]:
    """Open a file that may be hostile: nothing is written, nothing of its schema runs, everything is bounded."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, factory=Connection)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        end = time.monotonic() + most_s
        connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "query_only=ON"):
            connection.execute(f"PRAGMA {pragma}")
        yield connection


def _inspect(connection: sqlite3.Connection, *, whole: bool) -> Verdict:
    version, application_id = (_number(connection, pragma) for pragma in ("user_version", "application_id"))
    if application_id != APPLICATION_ID or version not in migrations():
        return Verdict("not a database of Callisto's, or of another version")
    # Before anything else of it is used: a schema of somebody else's may hold what runs when it is read.
    if _schema(connection) != _expected(version):
        return Verdict("its schema is not Callisto's")
    fault = connection.execute(f"PRAGMA {'integrity_check' if whole else 'quick_check'}(1)").fetchone()[0]
    if fault != "ok":
        return Verdict(str(fault)[:200])
    if whole and connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        return Verdict("a row names a row that is not there")
    tables = [name for kind, name, _, _ in _expected(version) if kind == "table"]
    rows = sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables)
    from callisto_telnetd.db.doubtful_rows import find_doubtful  # noqa: PLC0415 - slow to import, and no start needs it

    return Verdict("", version, rows, find_doubtful(connection))


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _schema(connection: sqlite3.Connection) -> frozenset[tuple[Any, ...]]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT 1000")
    return frozenset(tuple(row) for row in rows if not str(row[1]).startswith("sqlite_"))


@cache
def _expected(version: int) -> frozenset[tuple[Any, ...]]:
    """Return the schema that the migrations up to that version make."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for target, script in sorted(migrations().items()):
            for statement in statements(script) if target <= version else ():
                connection.execute(statement)
        return _schema(connection)


def _judge(path: Path, found: os.stat_result, known: Known | None) -> Verdict:
    key = _key(path, found)
    if known is not None and key in known:
        return known[key]
    verdict = inspect(path)
    if known is not None:
        while len(known) >= 4 * _MOST_LOOKED_AT:
            known.pop(next(iter(known)))
        known[key] = verdict
    return verdict


def _key(path: Path, found: os.stat_result) -> tuple[str, int, int, int]:
    return (path.name, found.st_size, found.st_mtime_ns, found.st_ino)


def _copies(folder: Path, now: datetime) -> list[tuple[Path, datetime]]:
    """Return the files of our name and their times, the newest first.

    Those from the future, as a clock that was wrong leaves them, come last.
    """
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (match := _NAME.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                with suppress(ValueError, OverflowError):
                    at = datetime.strptime(match[1], _STAMP).replace(tzinfo=now.tzinfo)
                    found.append((Path(entry.path), at))
    return sorted(found, key=lambda each: (each[1] <= now, each[1]), reverse=True)


def _free_name(folder: Path, now: datetime) -> tuple[Path, datetime]:
    """Return a name that is not taken: a clock that was set back comes by the same second again."""
    at = now.replace(microsecond=0)
    while os.path.lexists(path := folder / f"database-{at:{_STAMP}}.db"):
        at += timedelta(seconds=1)
    return path, at


def _prune(folder: Path, made: Path, now: datetime, known: Known | None) -> None:
    """Remove all copies but the one just made and the newest good one beside it."""
    kept = 1
    for path, _ in _copies(folder, now):
        if path == made:
            continue
        if kept < _KEPT and not _judge(path, path.lstat(), known).fault:
            kept += 1
        else:
            path.unlink(missing_ok=True)


def _require_room(live: Path, folder: Path) -> None:
    disk = os.statvfs(folder)
    free, need = disk.f_bavail * disk.f_frsize, live.stat().st_size + _RESERVE_BYTES
    if free < need:
        raise DiskFullError(
            f"no room for a copy of the database: {format_bytes(free)} free, {format_bytes(need)} needed;"
            " nothing was changed"
        )


def copy_database(live: Path, making: Path) -> None:
    """Copy the database as it is at one moment, in steps between which it may be written to.

    Args:
        live: The database, which may be in use; nobody may put another in its place meanwhile.
        making: A file that is there and that nobody else has open; what it holds is thrown away.

    Raises:
        OSError, sqlite3.Error: it cannot be done.
    """
    with closing(sqlite3.connect(f"{live.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as source:
        source.execute("PRAGMA busy_timeout=5000")
        try:
            _copy_pages(source, making, _STEP_PAGES, _give_up_late())
        except _RestlessError:
            _copy_pages(source, making, -1, None)


def _copy_pages(
    source: sqlite3.Connection, making: Path, pages: int, progress: Callable[[int, int, int], None] | None
) -> None:
    os.truncate(making, 0)  # an unfinished copy cannot be taken up again: it has no journal
    with closing(sqlite3.connect(making, isolation_level=None)) as target:
        target.execute("PRAGMA journal_mode=OFF")  # unfinished, it is thrown away
        target.execute("PRAGMA synchronous=OFF")  # it is fsynced as a whole
        source.backup(target, pages=pages, progress=progress, sleep=_REST_S)


class _RestlessError(Exception):
    """So much is written that the copy would never end."""


def _give_up_late() -> Callable[[int, int, int], None]:
    steps = 0

    def look(_status: int, _left: int, pages: int) -> None:
        nonlocal steps
        steps += 1
        if steps > _MOST_TIMES * (pages // _STEP_PAGES + 1):
            raise _RestlessError

    return look
