"""What goes into an archive: the copy of the database, without secrets where nothing protects them, and recordings.

Rules:

* A secret is what lets somebody in: the hashes of passwords and PINs, and passwords for other machines, which the
  appliance keeps in ``state`` under names that begin with :data:`SECRET_STATE`. What a repair set apart may hold them.
* A recording goes in where a row of the copy names it, and its content is still what its name says.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from callisto_telnetd.db.backup.tar_records import MOST_BYTES
from callisto_telnetd.db.held_rows import excess_in
from callisto_telnetd.db.results import code_of
from callisto_telnetd.db.snapshot import Verdict, copy_database, inspect
from callisto_telnetd.errors import BackupError, DamagedDatabaseError, DiskFullError

SECRET_STATE = "secret/"  # noqa: S105 - the beginning of a name
_WITHOUT_SECRETS = (
    "DELETE FROM account",
    "UPDATE mailbox SET pin_hash = '' WHERE pin_hash <> ''",
    f"DELETE FROM state WHERE substr(key, 1, {len(SECRET_STATE)}) = '{SECRET_STATE}'",
    "DELETE FROM quarantine WHERE origin LIKE 'account%' OR origin LIKE 'mailbox%' OR content LIKE '%$argon2%'",
)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NAME = re.compile(rb"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20
_ROWS = 1000


@contextmanager
def told_as(what: str) -> Iterator[None]:
    """Turn what the system and SQLite say into our errors.

    Raises:
        DiskFullError: there is no room.
        BackupError: anything else; names what could not be done.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFullError(f"{what}: the disk is full; nothing was changed") from None
        raise BackupError(f"{what}: {error.strerror}; nothing was changed") from None
    except sqlite3.Error as error:
        if code_of(error).startswith("SQLITE_FULL"):
            raise DiskFullError(f"{what}: the disk is full; nothing was changed") from None
        raise BackupError(f"{what}: the database failed ({code_of(error)}); nothing was changed") from None


def take_database(live: Path, copy: Path, *, secrets: bool) -> Verdict:
    """Make a consistent and checked copy of the database, which goes on being used.

    Args:
        live: The database.
        copy: A name that nobody has; for the owner alone.
        secrets: Whether the copy may have them.

    Raises:
        DamagedDatabaseError: what was copied is not sound.
        BackupError: it has more accounts or variables than a restore takes.
        OSError, sqlite3.Error: it cannot be made.
    """
    copy.touch(mode=0o600, exist_ok=False)
    copy_database(live, copy)
    verdict = _sound(copy, whole=True)
    if not secrets:
        _remove_secrets(copy)  # nothing is changed in a file that is not known to be sound
        verdict = _sound(copy, whole=False)
    if too_many := excess_in(copy):
        raise BackupError(f"no restore would take a backup: {too_many}; no backup was made; remove some, then make one")
    return verdict


def one_line(fault: str) -> str:
    """Return what SQLite says of a database, which may take several lines."""
    return " ".join(fault.split())


def _sound(copy: Path, *, whole: bool) -> Verdict:
    verdict = inspect(copy, whole=whole)
    if verdict.fault:
        raise DamagedDatabaseError(
            f"the database is not sound: {one_line(verdict.fault)}; no backup was made; 'repair' helps, then make one"
        )
    return verdict


def _remove_secrets(copy: Path) -> None:
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "secure_delete=ON", "trusted_schema=OFF"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        for statement in _WITHOUT_SECRETS:
            if tables & set(statement.split()):
                connection.execute(statement)
        connection.execute("VACUUM")  # what stood on pages that are free now goes, too


def recordings_of(copy: Path) -> Iterator[str]:
    """Yield the names of the recordings that rows of a copy name, each once, in their order."""
    uri = f"{copy.absolute().as_uri()}?mode=ro&immutable=1"
    sql = "SELECT recording FROM message UNION SELECT recording FROM greeting ORDER BY 1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        connection.text_factory = bytes  # a damaged name is no text, and no reason to fail
        cursor = connection.execute(sql)
        while rows := cursor.fetchmany(_ROWS):
            yield from (name.decode() for (name,) in rows if _NAME.fullmatch(name))


def _open_file(path: Path) -> int:
    """Return a descriptor of a file, and of nothing else; a link is none.

    Raises:
        OSError: it is not there, or something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file")
    return descriptor


class OtherContentError(Exception):
    """A file's content is not what was said of it; the text is the file's name."""


def size_of(path: Path) -> int | None:
    """Return the size of a recording; None for what is none, or larger than an archive takes."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_BYTES else None


def size_if_whole(path: Path) -> int | None:
    """Return the size of a recording whose content is what its name says; None for any other."""
    size = size_of(path)
    if size is None:
        return None
    try:
        for _ in pieces_of(path, size, path.name):
            pass
    except OtherContentError:
        return None
    return size


def pieces_of(path: Path, size: int, sha256: str) -> Iterator[bytes]:
    """Yield the content of a file.

    Raises:
        OtherContentError: it has another size or hash, or cannot be read; after the last piece.
    """
    digest, left = hashlib.sha256(), size
    try:
        with os.fdopen(_open_file(path), "rb", buffering=0) as stream:
            while piece := stream.read(min(left + 1, _CHUNK_BYTES)):
                digest.update(piece)
                left -= len(piece)
                if left < 0:
                    break
                yield piece
    except OSError:
        raise OtherContentError(path.name) from None
    if left or digest.hexdigest() != sha256:
        raise OtherContentError(path.name)


def hash_of(path: Path) -> tuple[int, str]:
    """Return the size and the SHA-256 of a file's content.

    Raises:
        OSError: it is no file, or cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with os.fdopen(_open_file(path), "rb", buffering=0) as stream:
        while piece := stream.read(_CHUNK_BYTES):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
