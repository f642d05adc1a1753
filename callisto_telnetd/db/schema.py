"""The schema's version and the migrations that lead to it: one SQL file a version, each one transaction.

``application_id`` and ``user_version`` (SQLite, "Pragma statements") stamp the file as Callisto's and tell its version.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import stat
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from callisto_telnetd.errors import (
    DamagedDatabaseError,
    ForeignDatabaseError,
    NewerSchemaError,
    StoreError,
    named,
)

LAST_CHANGE_STATE = "last_change"
"""The key under which the highest number that a change of a variable ever had is kept, where no row tells it."""
ADDED_STATE = "audit_added"
"""The key of the entries that were added to the audit from elsewhere: their first and last numbers, as JSON."""
MOST_STATE = 200_000
"""Characters of a value that the appliance remembers: :meth:`Store.set_state` takes no more."""
APPLICATION_ID = 0x43414C4C
"""``CALL`` in ASCII: tells a database of Callisto's from any other SQLite file."""

_MOST_VERSIONS = 1000

# SQLite, "Database File Format", sections 1.3 (the header) and 3 (the rollback journal).
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
FORMAT_VERSIONS_AT = 18
"""Two bytes of the header: 2 where there may be a write-ahead log, 1 where there is none."""
_USER_VERSION_AT = 60
_APPLICATION_ID_AT = 68
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


@cache
def migrations() -> Mapping[int, str]:
    """Return the SQL that leads to each version from the one before it; read once."""
    folder = resources.files(__package__) / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return {int(file.name[:4]): file.read_text(encoding="utf-8") for file in files}


def require_known(file: Path, *, judged: bool = False) -> None:
    """Refuse a file that this version must not open; reads its first 100 bytes, changes nothing.

    A hot journal is left to SQLite, which rolls it back on opening: what stands in the file is then not yet true, and
    :func:`require_stamps` judges what SQLite then finds there.
    Call it only while no connection is open (a closed descriptor would drop SQLite's locks).

    Args:
        file: The database.
        judged: Whether its journal is known to be none of SQLite's business: the file is then all there is.

    Raises:
        DamagedDatabaseError: the file is no database, or not one of Callisto's.
        NewerSchemaError: a newer version wrote it.
    """
    try:
        header = first_bytes(file, _HEADER_BYTES)
        hot = has_journal(file) and not judged
    except OSError as error:
        raise StoreError(f"database {named(file)} cannot be read: {error.strerror}") from None
    if not header or hot:
        return
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise DamagedDatabaseError(f"{named(file)} is not a SQLite database, or its first page is damaged")
    version, application_id = (
        int.from_bytes(header[at : at + 4], "big") for at in (_USER_VERSION_AT, _APPLICATION_ID_AT)
    )
    require_stamps(file, version, application_id)


def require_stamps(file: Path, version: int, application_id: int) -> None:
    """Refuse a database that is not Callisto's, or of a newer version.

    Raises:
        ForeignDatabaseError: it is another program's.
        DamagedDatabaseError: its version is none that there ever will be.
        NewerSchemaError: a newer version wrote it.
    """
    if application_id != APPLICATION_ID:
        raise ForeignDatabaseError(f"{named(file)} is not a database of Callisto's")
    newest = max(migrations())
    if version > _MOST_VERSIONS:
        raise DamagedDatabaseError(f"{named(file)} says that it has schema {version}: its first page is damaged")
    if version > newest:
        raise NewerSchemaError(
            f"database {named(file)} has schema {version}, this version knows {newest}: use a newer callisto-telnetd"
        )


def has_stamp(header: bytes) -> bool:
    """Whether the first bytes of a file say that it is a database of Callisto's."""
    stamp = header[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4]
    return header.startswith(_MAGIC) and stamp == APPLICATION_ID.to_bytes(4, "big")


def says_write_ahead(file: Path) -> bool:
    """Whether the header of a database says that it may have a write-ahead log.

    Raises:
        OSError: nobody can tell.
    """
    header = first_bytes(file, _HEADER_BYTES)
    return header.startswith(_MAGIC) and 2 in header[FORMAT_VERSIONS_AT : FORMAT_VERSIONS_AT + 2]


def has_journal(file: Path) -> bool:
    """Whether a journal that may be hot lies beside a database; the database itself is not opened.

    Raises:
        OSError: nobody can tell.
    """
    return first_bytes(file.with_name(file.name + "-journal"), len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC


def first_bytes(file: Path, count: int) -> bytes:
    """Return the first bytes of a file; none where there is no file.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    try:  # not blocking: in the place of the file might be a pipe
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        return stream.read(count)


def statements(script: str) -> list[str]:
    """Return the single statements of a migration; SQLite itself tells where each ends."""
    result, pending = [], ""
    for line in re.sub(r"--[^\n]*", "", script).splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            result.append(pending.strip())
            pending = ""
    return [statement for statement in result if statement]
