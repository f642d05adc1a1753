"""All of an archive is looked at: its seal, every member, and the database inside, without any of it being used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from callisto_telnetd.db.backup.content import one_line, told_as
from callisto_telnetd.db.backup.first_page import judged, require_known_schema
from callisto_telnetd.db.backup.folder import LOOKING_DATABASE
from callisto_telnetd.db.backup.growth import is_nothing
from callisto_telnetd.db.backup.manifest import DATABASE, Manifest
from callisto_telnetd.db.backup.reader import open_archive
from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.held_rows import excess_in
from callisto_telnetd.db.inspection import VALUES, VariableFault
from callisto_telnetd.db.inspection import inspect as inspect_all
from callisto_telnetd.db.snapshot import Verdict, inspect
from callisto_telnetd.errors import BackupError, DiskFullError
from callisto_telnetd.quantities import format_bytes

Tell = Callable[[str, int, int], None]

SEAL, MEMBERS, INSIDE = "Checking the seal", "Reading every member", "Checking the database inside"
_RESERVE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Verified:
    """What an archive is that was found whole."""

    manifest: Manifest
    protected: bool
    size_bytes: int
    rows: int
    doubtful: Doubtful
    """Rows in it that a restore sets apart."""
    unused: tuple[str, ...]
    """What is wrong with values that no system variable takes here: their defaults would stand in."""


def verify(path: Path, password: str | None, folder: Path, variable_fault: VariableFault, tell: Tell) -> Verified:
    """Look at all of an archive; waits for the disk.

    Args:
        path: The archive.
        password: Its password, None where it has none.
        folder: Where a copy of the database inside has room, while it is looked at; nobody else verifies there.
        variable_fault: Judges the values of system variables.
        tell: Told of the steps.

    Raises:
        BackupPasswordError, NewerBackupError, BackupError: it is not to be used; says why.
        DiskFullError: the database inside finds no room.
    """
    copy = folder / LOOKING_DATABASE
    with open_archive(path, password, told=partial(tell, SEAL)) as archive:
        members = archive.manifest.members
        require_known_schema(archive.manifest, path.name)
        require_room(members.database.size, folder, f"the {DATABASE} of the backup")
        try:
            with told_as("the database inside cannot be looked at"):
                copy.unlink(missing_ok=True)
                for member, pieces in archive.contents(partial(tell, MEMBERS)):
                    if member == members.database:
                        write_new(copy, judged(archive.manifest, pieces))
            tell(INSIDE, 0, 0)
            verdict = require_sound(copy, path, archive.manifest)
            found = inspect_all(copy, variable_fault, lambda *_: None, closed=True, pages=False, values=False)
        finally:
            with suppress(OSError):
                copy.unlink(missing_ok=True)
        unused = tuple(found[VALUES])
        manifest, size = archive.manifest, archive.size_bytes
        return Verified(manifest, archive.protected, size, verdict.rows, verdict.doubtful, unused)


def require_room(size: int, folder: Path, what: str) -> None:
    """Refuse where a folder's disk has no room for so many bytes, and some more.

    Raises:
        DiskFullError: says how much is needed.
        OSError: the folder cannot be looked at.
    """
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < size + _RESERVE_BYTES:
        raise DiskFullError(
            f"no room for {what}: {format_bytes(free)} free, {format_bytes(size + _RESERVE_BYTES)} needed;"
            " nothing was changed"
        )


def write_new(path: Path, pieces: Iterator[bytes]) -> None:
    """Write a content into a file that is not there, for the owner alone; pieces of zeros become holes.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        for piece in pieces:
            if is_nothing(piece):
                stream.seek(len(piece), os.SEEK_CUR)
            else:
                stream.write(piece)
        stream.truncate()  # a hole at the end counts, too


def require_sound(copy: Path, path: Path, manifest: Manifest) -> Verdict:
    """Refuse a database that is damaged, not ours, or not the one that the manifest tells of.

    Raises:
        BackupError: says what is wrong.
    """
    verdict = inspect(copy, whole=True)
    if not verdict.fault and verdict.schema == manifest.schema:
        if too_many := excess_in(copy):  # by the rule of the restore: what is called whole can be restored
            raise BackupError(f"{path.name!r} is refused: {too_many}; nothing was changed")
        return verdict
    reason = (
        one_line(verdict.fault) or f"its schema is {verdict.schema}, and not {manifest.schema} as the manifest says"
    )
    raise BackupError(f"{path.name!r} is refused: the database inside is not sound: {reason}; nothing was changed")
