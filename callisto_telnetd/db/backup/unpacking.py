"""An archive taken apart for a restore: every member is read and held against the manifest, in one go.

What the appliance has already is not written again: a recording is named by its content. Members go to names that the
caller gives; no name of the archive's becomes a path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from callisto_telnetd.db.backup.content import told_as
from callisto_telnetd.db.backup.manifest import Manifest, Member
from callisto_telnetd.db.backup.reader import Archive, Found, open_archive
from callisto_telnetd.db.backup.verification import MEMBERS, SEAL, extract_database, require_sound
from callisto_telnetd.errors import DiskFullError
from callisto_telnetd.quantities import format_bytes

Tell = Callable[[str, int, int], None]

DATABASE_FILE, SETTINGS_FILE, RECORDINGS_FOLDER = "callisto.db", "callisto.toml", "recordings"
"""What is in the folder then; the settings and the recordings where the archive has them."""
_RESERVE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Parts:
    """An archive that was taken apart, and found whole."""

    manifest: Manifest
    has_settings: bool
    rows: int


def unpack(path: Path, password: str | None, folder: Path, media: Path, tell: Tell) -> Parts:
    """Take an archive apart; waits for the disk.

    Args:
        path: The archive.
        password: Its password, None where it has none.
        folder: Where its parts go; it is empty, and nobody else's.
        media: The appliance's recordings; what is there with the same name and size is read, and not written.
        tell: Told of the steps.

    Raises:
        BackupPasswordError, NewerBackupError, BackupError: it is not to be used; says why.
        DiskFullError: there is no room for its parts; says how much is needed.
    """
    with (
        told_as("the backup cannot be taken apart"),
        open_archive(path, password, tell=lambda done: tell(SEAL, done, path.stat().st_size)) as archive,
    ):
        _require_room(archive.manifest, folder, media)
        of = archive.manifest.members.size_bytes
        tell(MEMBERS, 0, of)
        extract_database(archive, folder / DATABASE_FILE)
        recordings = folder / RECORDINGS_FOLDER
        recordings.mkdir(mode=0o700)
        done, has_settings = archive.manifest.members.database.size, False
        for found in _behind_database(archive):
            member = found[0]
            if member == archive.manifest.members.settings:
                has_settings = True
                _write(archive, found, folder / SETTINGS_FILE)
            elif _is_there(media, member):
                for _ in archive.pieces(found):
                    pass
            else:
                _write(archive, found, recordings / member.sha256)
            done += member.size
            tell(MEMBERS, done, of)
        verdict = require_sound(folder / DATABASE_FILE, path, archive.manifest)
        return Parts(archive.manifest, has_settings, verdict.rows)


def _behind_database(archive: Archive) -> Iterator[Found]:
    """Yield the members behind the first one, which is the database."""
    members = archive.members()
    next(members)
    yield from members


def _require_room(manifest: Manifest, folder: Path, media: Path) -> None:
    members = manifest.members
    needed = members.database.size + (members.settings.size if members.settings else 0)
    needed += sum(
        member.size for place in range(members.recordings) if not _is_there(media, member := members.recording(place))
    )
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < needed + _RESERVE_BYTES:
        raise DiskFullError(
            f"no room to take the backup apart: {format_bytes(free)} free, {format_bytes(needed + _RESERVE_BYTES)}"
            " needed; nothing was changed"
        )


def _is_there(media: Path, recording: Member) -> bool:
    try:
        status = (media / recording.sha256).lstat()
    except OSError:
        return False
    return status.st_size == recording.size


def _write(archive: Archive, found: Found, path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        archive.copy(found, stream)
