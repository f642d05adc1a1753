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

from callisto_telnetd.db.durable import sync
from callisto_telnetd.errors import BackupError, UnknownBackupError, named, quoted

_NAME = re.compile(r"callisto-([A-Za-z0-9](?:[A-Za-z0-9-]{0,62}))-(\d{8}-\d{6})(?:-([1-9]\d{0,3}))?\.zip", re.ASCII)
_STAMP = "%Y%m%d-%H%M%S"
_LONGEST_HOST = 63
MAKING, MAKING_DATABASE = ".making-backup.zip", ".making-backup.db"
"""What is not whole yet; there is one at a time, because there is one that makes it."""
LOOKING_DATABASE = ".making-verify.db"
_LEFT_OVER = tuple(name + end for name in (MAKING, MAKING_DATABASE, LOOKING_DATABASE) for end in ("", "-journal"))
_MOST_OF_A_NAME = 1000
MOST_LISTED = 10_000


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """An archive of the folder, by its name alone."""

    path: Path
    at: datetime
    """When it was made, by its name: the appliance's time, without a zone."""
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
    """Return the archives, the newest first; nothing is opened, files of other names do not count.

    Raises:
        BackupError: the folder cannot be read.
    """
    found: list[tuple[int, ArchiveFile]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                named_so = parse_name(entry.name)
                if named_so is not None and entry.is_file(follow_symlinks=False) and len(found) < MOST_LISTED:
                    with suppress(FileNotFoundError):  # it was deleted just now
                        size = entry.stat(follow_symlinks=False).st_size
                        found.append((named_so.nth, ArchiveFile(Path(entry.path), named_so.at, size)))
    except OSError as error:
        raise BackupError(f"{named(folder)} cannot be read: {error.strerror}") from None
    return [file for _, file in sorted(found, key=lambda each: (each[1].at, each[0], each[1].path), reverse=True)]


def find(folder: Path, name: str) -> Path:
    """Return the archive of a name.

    Raises:
        BackupError: there is none.
    """
    path = folder / name
    if is_archive_name(name):
        with suppress(OSError):
            if stat.S_ISREG(path.lstat().st_mode):
                return path
    raise UnknownBackupError(
        f"there is no backup {quoted(name)} in {named(folder)}; 'backup list' shows those there are"
    )


def delete(folder: Path, name: str) -> None:
    """Remove an archive for good.

    Raises:
        BackupError: there is none, or it cannot be removed.
    """
    path = find(folder, name)
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
