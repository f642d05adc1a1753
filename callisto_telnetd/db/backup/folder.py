"""The archives in the folder of backups: their names, which there are, and which of our files nobody needs any more."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from callisto_telnetd.db.backup.manifest import MANIFEST
from callisto_telnetd.db.backup.zip_records import LOCAL_BYTES
from callisto_telnetd.db.durable import sync
from callisto_telnetd.errors import BackupError, UnknownBackupError, named, quoted

_NAME = re.compile(r"callisto-([A-Za-z0-9](?:[A-Za-z0-9-]{0,62}))-(\d{8}-\d{6})(?:-([1-9]\d{0,3}))?\.zip", re.ASCII)
_STAMP = "%Y%m%d-%H%M%S"
_LONGEST_HOST = 63
MAKING, MAKING_DATABASE = ".making-backup.zip", ".making-backup.db"
"""What is not whole yet; there is one at a time, because there is one that makes it."""
LOOKING_DATABASE = ".making-verify.db"
_LEFT_OVER = tuple(name + end for name in (MAKING, MAKING_DATABASE, LOOKING_DATABASE) for end in ("", "-journal"))
_SEAL = re.compile(rb"callisto-backup [1-9]\d* salt=[0-9a-f]{32} seal=[0-9a-f]{64}\Z")
_LONGEST_SEAL = 200
"""Bytes at the end of an archive that its seal is among (``seal.py``)."""
HEAD_BYTES = LOCAL_BYTES + len(MANIFEST)
"""At the beginning of an archive: what shows that it may be one."""
_MOST_OF_A_NAME = 1000
MOST_LISTED = 10_000


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """An archive of the folder, by its name alone."""

    path: Path
    at: datetime
    """When it was made, by its name: the appliance's time, without a zone. Of a renamed one, when it was written."""
    size_bytes: int


class ArchiveName(NamedTuple):
    """What the name of an archive says."""

    host: str
    """As :func:`host_of_name` returns it."""
    at: datetime
    """When it was made: the appliance's time, without a zone."""
    nth: int
    """Which of that second, from 1."""


def host_of_name(hostname: str) -> str:
    """Return a host's name as it stands in the name of a file."""
    kept = re.sub(r"[^A-Za-z0-9-]+", "-", hostname)[:_LONGEST_HOST].strip("-")
    return kept or "callisto"


def is_archive_name(name: str) -> bool:
    """Say whether a name is one that our archives have."""
    return parse_name(name) is not None


def free_name(folder: Path, host: str, at: datetime) -> Path:
    """Return a name that is not taken.

    Args:
        folder: Where it is to be.
        host: As :func:`host_of_name` returns it.
        at: The appliance's time.

    Raises:
        BackupError: a thousand names of this second are taken.
    """
    for count in range(1, _MOST_OF_A_NAME):
        path = folder / f"callisto-{host}-{at:{_STAMP}}{f'-{count}' if count > 1 else ''}.zip"
        if not os.path.lexists(path):
            return path
    raise BackupError(f"every name for a backup of this second is taken in {named(folder)}")


def archives(folder: Path) -> list[ArchiveFile]:
    """Return the archives, the newest first.

    A name of ours is enough; a file of another name counts where its last bytes are our seal: it was renamed.

    Raises:
        BackupError: the folder cannot be read.
    """
    found: list[tuple[int, ArchiveFile]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                named_so = parse_name(entry.name)
                if len(found) >= MOST_LISTED or not entry.is_file(follow_symlinks=False):
                    continue
                if named_so is None and not _is_renamed(Path(entry.path)):
                    continue
                with suppress(FileNotFoundError):  # it was deleted just now
                    status = entry.stat(follow_symlinks=False)
                    at = named_so.at if named_so else datetime.fromtimestamp(status.st_mtime)  # noqa: DTZ006 - as names
                    nth = named_so.nth if named_so else 1
                    found.append((nth, ArchiveFile(Path(entry.path), at, status.st_size)))
    except OSError as error:
        raise BackupError(f"{named(folder)} cannot be read: {error.strerror}") from None
    return [file for _, file in sorted(found, key=lambda each: (each[1].at, each[0], each[1].path), reverse=True)]


def names_in(folder: Path) -> set[str]:
    """Return the names of all files in the folder, archives or not.

    Raises:
        BackupError: it cannot be read.
    """
    try:
        return {path.name for path in folder.iterdir()}
    except OSError as error:
        raise BackupError(f"{named(folder)} cannot be read: {error.strerror}") from None


def find(folder: Path, name: str) -> Path:
    """Return the file of a name in the folder, or of a path; what it is inside, whoever reads it finds out.

    Args:
        folder: Of the archives.
        name: Of a file there, whatever its name; or the whole path of a file anywhere.

    Raises:
        BackupError: there is none, or the path is no whole one.
    """
    if "/" in name:
        return _elsewhere(name)
    path = folder / name
    if not name.startswith("."):
        with suppress(OSError, ValueError):  # ValueError: a NUL in it
            if stat.S_ISREG(path.lstat().st_mode):
                return path
    raise _none_here(folder, name)


def _none_here(folder: Path, name: str) -> UnknownBackupError:
    return UnknownBackupError(
        f"there is no backup {quoted(name)} in {named(folder)}; 'backup list' shows those there are"
    )


def _elsewhere(name: str) -> Path:
    """Return the file of a path, links followed; waits for no pipe, and for no device."""
    path = Path(name)
    if not path.is_absolute():
        raise BackupError(f"{quoted(name)} is no whole path: name a file of the folder of backups, or begin with /")
    try:
        path = path.resolve(strict=True)
        regular = stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        raise UnknownBackupError(f"there is no file {quoted(name)}") from None
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle
        reason = getattr(error, "strerror", None) or "no such path"
        raise BackupError(f"{quoted(name)} cannot be read: {reason}") from None
    if not regular:
        raise BackupError(f"{quoted(name)} is no file")
    return path


def begins_as_archive(head: bytes) -> bool:
    """Whether the first :data:`HEAD_BYTES` of a file are those of an archive: its manifest is its first member."""
    return head[:4] == b"PK\3\4" and head[LOCAL_BYTES:HEAD_BYTES] == MANIFEST.encode()


def _is_renamed(path: Path) -> bool:
    return not path.name.startswith(".") and ends_as_archive(path)


def ends_as_archive(path: Path) -> bool:
    """Whether the last bytes of a regular file are an archive's seal, right or wrong."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb", buffering=0) as stream, suppress(OSError):  # one on a bad sector hides no other
        stream.seek(max(0, os.fstat(descriptor).st_size - _LONGEST_SEAL))
        return _SEAL.search(stream.read(_LONGEST_SEAL)) is not None
    return False


def find_here(folder: Path, name: str) -> Path:
    """Return the archive of a name in the folder: one of our names, or one whose last bytes are our seal.

    Raises:
        BackupError: there is none.
    """
    if "/" not in name:
        path = find(folder, name)
        if is_archive_name(name) or _is_renamed(path):
            return path
    raise _none_here(folder, name)


def delete(folder: Path, name: str) -> None:
    """Remove an archive for good.

    Raises:
        BackupError: there is none, or it cannot be removed.
    """
    path = find_here(folder, name)
    try:
        path.unlink()
        sync(folder)
    except OSError as error:
        raise BackupError(f"{named(path)} cannot be removed: {error.strerror}") from None


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed one has left; whoever calls it knows that nobody makes or verifies an archive now.

    Raises:
        OSError: it cannot be removed.
    """
    for name in _LEFT_OVER:
        (folder / name).unlink(missing_ok=True)


def parse_name(name: str) -> ArchiveName | None:
    """Return what an archive's name says; None for what is no such name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return ArchiveName(match[1], datetime.strptime(match[2], _STAMP), int(match[3] or 1))  # noqa: DTZ007 - the name says no zone
    except ValueError:
        return None
