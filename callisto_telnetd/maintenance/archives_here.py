"""The archives in the folder of backups, as ``backup list`` shows them: it reads files, and is a thread's work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from callisto_telnetd.db.backup.folder import archives
from callisto_telnetd.errors import BackupError
from callisto_telnetd.maintenance.known_backups import Known


@dataclass(frozen=True, slots=True)
class Listed:
    """An archive of the folder."""

    path: Path
    at: datetime
    """By its name; in the zone of the appliance's clock."""
    age_s: float
    size_bytes: int
    protected: bool | None
    """Whether a password protects it; None for what is no archive inside."""
    known: Known


def list_archives(folder: Path, known: Mapping[str, Known], now: datetime) -> list[Listed]:
    """Return the archives, the newest first, with what is known of them; reads the beginning of each.

    Raises:
        BackupError: the folder cannot be read.
    """
    listed = []
    for each in archives(folder):
        at = each.at.replace(tzinfo=now.tzinfo)
        age_s = max(0.0, (now - at).total_seconds())
        mine = known.get(each.path.name, Known())
        listed.append(Listed(each.path, at, age_s, each.size_bytes, _protected(each.path), mine))
    return listed


def is_protected(path: Path) -> bool:
    """Say whether a password protects an archive, by its first bytes.

    Raises:
        BackupError: it is none, or cannot be read.
    """
    from callisto_telnetd.db.backup.reader import is_protected as read  # noqa: PLC0415 - with its ciphers slow to import

    return read(path)


def _protected(path: Path) -> bool | None:
    try:
        return is_protected(path)
    except BackupError:
        return None
