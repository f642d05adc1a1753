"""A note beside a database that is known to be damaged: from then on nothing of ours writes to that file.

The note outlasts the server. It is about the file as it stands (device, inode, size, time of the last change): where
another file has taken its place, or somebody else has written to it, the note says nothing any more.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from callisto_telnetd.db.durable import sync, write

_MOST_BYTES = 4096
_MOST_REASON = 300


def note_of(database: Path) -> Path:
    """Return where the note lies."""
    return database.with_name(f"{database.name}.damage")


def known_damage(database: Path) -> str:
    """Return what is known to be wrong with a database; blank where nothing is."""
    try:
        with note_of(database).open("rb") as stream:
            note = json.loads(stream.read(_MOST_BYTES))
        if note["file"] == identity_of(database) and isinstance(note["reason"], str):
            return str(note["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or it is about nothing
    return ""


def file_damage(database: Path, reason: str, identity: list[int]) -> None:
    """Write the note, durably, or take it away where the reason is blank.

    Where that cannot be done the next start finds out anew.

    Args:
        database: The database.
        reason: What is wrong.
        identity: Which file it is about: another may be in its place by now.
    """
    with contextlib.suppress(OSError):
        if not reason:
            note_of(database).unlink(missing_ok=True)
            return
        note = {"file": identity, "reason": reason[:_MOST_REASON]}
        write(note_of(database), json.dumps(note).encode() + b"\n", over=True)
        sync(database.parent)


def identity_of(database: Path) -> list[int]:
    """Return what tells this file, as it stands, from any other; nothing where it cannot be looked at."""
    try:
        found = database.stat()
    except OSError:
        return []
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]
