"""A backup's database, judged as what it is: a file from outside. Only one that has our very schema is looked into."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from callisto_telnetd.db.held_rows import excess
from callisto_telnetd.db.quiet import open_quietly
from callisto_telnetd.db.restore.switch import is_plain_file
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.db.results import code_of
from callisto_telnetd.db.schema import migrations, require_known
from callisto_telnetd.db.snapshot import Verdict
from callisto_telnetd.db.snapshot import inspect as judge_copy
from callisto_telnetd.db.tables import TABLES
from callisto_telnetd.errors import (
    DamagedDatabaseError,
    ForeignDatabaseError,
    NewerSchemaError,
    RestoreError,
    quoted,
)

# SQLite, "Database File Format", section 1.3: a place in the header.
_VERSION_AT = 60
_HEADER_BYTES = 100


@dataclass(frozen=True, slots=True)
class Content:
    """What a database holds, by names and numbers."""

    rows: Mapping[str, int]
    """By table; a table that the schema does not have yet is not named."""
    accounts: tuple[str, ...]
    variables: Mapping[str, str]
    """What is stored, by name; the others stand at their defaults."""


def judge(backup: Unpacked) -> Verdict:
    """Return what is found of the backup's database, which is ours and whole page by page; its rows may be doubtful.

    Raises:
        NewerSchemaError: a newer version made it.
        ForeignDatabaseError: it is another program's.
        DamagedDatabaseError: it is damaged, or not what the manifest says.
    """
    what = f"the database in backup {quoted(backup.name)}"
    header = _header(backup, what)
    version = int.from_bytes(header[_VERSION_AT : _VERSION_AT + 4], "big")
    newest = max(migrations())
    try:
        require_known(backup.database)
    except NewerSchemaError:
        raise NewerSchemaError(
            f"{what} was made by callisto-telnetd {backup.version} and has schema {version}, this version knows"
            f" {newest}: use a newer callisto-telnetd; nothing was changed"
        ) from None
    except ForeignDatabaseError:
        raise ForeignDatabaseError(f"{what} is another program's; nothing was changed") from None
    except DamagedDatabaseError:
        raise DamagedDatabaseError(f"{what} is damaged: its first page; nothing was changed") from None
    verdict = judge_copy(backup.database)
    if verdict.fault:
        fault = "; ".join(line for line in verdict.fault.splitlines() if not line.startswith("*** in database"))
        raise DamagedDatabaseError(f"{what} is not sound: {fault}; nothing was changed")
    if verdict.schema != backup.schema:
        raise DamagedDatabaseError(
            f"{what} has schema {verdict.schema}, its manifest says {backup.schema}; nothing was changed"
        )
    return verdict


def content_of(file: Path, *, closed: bool) -> Content:
    """Return what a database of ours holds.

    Args:
        file: Judged before, or the live one.
        closed: Whether nobody has it open.

    Raises:
        DamagedDatabaseError: it cannot be read, or has more of them than a server could hold.
    """
    try:
        with closing(open_quietly(file, closed=closed)) as connection:
            there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            rows = {
                table.name: int(connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0])
                for table in TABLES
                if table.name in there
            }
            if too_many := excess(rows):
                raise DamagedDatabaseError(f"{too_many}; nothing was changed")
            accounts = tuple(str(name) for (name,) in connection.execute("SELECT name FROM account ORDER BY name"))
            stored = connection.execute("SELECT name, value FROM variable ORDER BY name")
            return Content(rows, accounts, {str(name): str(value) for name, value in stored})
    except sqlite3.Error as error:
        raise DamagedDatabaseError(f"the database cannot be read: {code_of(error)}") from None


def _header(backup: Unpacked, what: str) -> bytes:
    try:
        if not is_plain_file(backup.database):
            raise RestoreError(f"{what} is no file; nothing was changed")
        with backup.database.open("rb") as stream:
            header = stream.read(_HEADER_BYTES)
    except OSError as error:
        raise RestoreError(f"{what} cannot be read: {error.strerror}; nothing was changed") from None
    if len(header) < _HEADER_BYTES:
        raise DamagedDatabaseError(f"{what} is damaged: it is empty or cut short; nothing was changed")
    return header
