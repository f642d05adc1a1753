"""An archive taken apart for a restore: every member is read and held against the manifest, in one go.

What the appliance has already, and whole, is not written again: a recording is named by its content. Members go to
names that the caller gives; no name of the archive's becomes a path.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from callisto_telnetd.db.backup.content import size_if_whole, size_of, told_as
from callisto_telnetd.db.backup.first_page import judged, require_known_schema
from callisto_telnetd.db.backup.manifest import Manifest, Members
from callisto_telnetd.db.backup.reader import open_archive
from callisto_telnetd.db.backup.verification import MEMBERS, SEAL, Tell, require_room, require_sound, write_new

DATABASE_FILE, SETTINGS_FILE, RECORDINGS_FOLDER = "callisto.db", "callisto.toml", "recordings"
"""What is in the folder then; the settings and the recordings where the archive has them."""


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
        media: The appliance's recordings; those that are there, and whole, are not written.
        tell: Told of the steps.

    Raises:
        BackupPasswordError, NewerBackupError, BackupError: it is not to be used; says why.
        DiskFullError: there is no room for its parts; says how much is needed.
    """
    with (
        told_as("the backup cannot be taken apart"),
        open_archive(path, password, told=partial(tell, SEAL)) as archive,
    ):
        members = archive.manifest.members
        require_known_schema(archive.manifest, path.name)
        require_room(_needed(members, media), folder, "the parts of the backup")
        (folder / RECORDINGS_FOLDER).mkdir(mode=0o700)
        for member, pieces in archive.contents(partial(tell, MEMBERS)):
            if member == members.database:
                write_new(folder / DATABASE_FILE, judged(archive.manifest, pieces))
            elif member == members.settings:
                write_new(folder / SETTINGS_FILE, pieces)
            elif size_if_whole(media / member.sha256) != member.size:
                # Asked again: it may be one that is there and damaged, and others write to the disk, too.
                require_room(member.size, folder, "the recordings of the backup")
                write_new(folder / RECORDINGS_FOLDER / member.sha256, pieces)
        verdict = require_sound(folder / DATABASE_FILE, path, archive.manifest)
        return Parts(archive.manifest, members.settings is not None, verdict.rows)


def _needed(members: Members, media: Path) -> int:
    """Return how many bytes are written, unless recordings that are there turn out to be damaged."""
    needed = members.database.size + (members.settings.size if members.settings else 0)
    recordings = members.each_recording()
    return needed + sum(each.size for each in recordings if size_of(media / each.sha256) != each.size)
