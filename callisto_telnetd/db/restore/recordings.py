"""Recordings that a restore has brought, or an undo's state has left behind, go where no state names them any more.

Rules:

* ``restore.recordings``, beside ``callisto.db``, holds names of recordings that may have to go, a line each. It is on
  the disk before the first recording of a restore is in ``media/``.
* Names come into it in two ways: a restore adds the recording; the state of the undo, which names it, gives way.
* One goes where neither the database in force names it, nor the state of the undo, nor a good copy of the database in
  ``backup/``. What stood in ``media/`` before, and no state of an undo has named, is nobody's business here.
* Where it cannot be told what a state names, or a new state still waits in ``restore.new``, all stay, and so does the
  list: the next start tries again.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from callisto_telnetd.db.durable import sync
from callisto_telnetd.db.media import Media
from callisto_telnetd.db.quiet import open_quietly
from callisto_telnetd.db.restore.switch import is_plain_file, new_of, undo_of
from callisto_telnetd.db.results import code_of
from callisto_telnetd.db.snapshot import inspect as judge_copy
from callisto_telnetd.errors import CallistoError, StoreError

_NAME = re.compile(r"[0-9a-f]{64}")
_LISTED = re.compile(rb"^([0-9a-f]{64})\n", re.MULTILINE)
_MOST_BYTES = 65 << 20
"""Of the list: a million names. What more there might be stays in ``media/``."""
_COPIES = "database-*.db"
_STILL_THERE = "recordings of a restore that may be in nobody's use are still there"
_NAMING = ("message", "greeting")
"""The tables whose rows name recordings."""


def list_of(live: Path) -> Path:
    """Return where the names of recordings stand that may have to go."""
    return live.with_name("restore.recordings")


def note(live: Path, making: Path, added: Iterable[str]) -> None:
    """Note what a restore adds, and what the state of the undo names that is about to give way; durably.

    Args:
        live: The present database.
        making: A folder beside it that is removed where the restore comes to nothing.
        added: Names of recordings that are not there yet.

    Raises:
        OSError: nothing was noted.
    """
    names = {*_listed(live), *added}
    with suppress(OSError, sqlite3.Error, StoreError):  # damaged: what it names stays
        names |= _named_by_undo(live)
    if not names:
        return
    unfinished = making / "recordings"
    with open(unfinished, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        stream.writelines(f"{name}\n".encode() for name in sorted(names))
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.rename(list_of(live))
    sync(live.parent)


def remove_unnamed(live: Path) -> None:
    """Remove the noted recordings that no state names; waits for the disk, and for nobody else.

    Args:
        live: The present database, sound; it may be in use.

    Raises:
        StoreError: they are still there; the next start tries again.
    """
    if not list_of(live).exists():
        return
    if os.path.lexists(new_of(live)):  # which state is in force is not settled yet
        raise StoreError(f"{_STILL_THERE}: a restore is not finished")
    media = Media(live.with_name("media"))
    try:
        with media.filling("a set of recordings"):  # whoever adds rows that name some has filled it
            _remove_unnamed(live, media)
    except sqlite3.Error as error:
        raise StoreError(f"{_STILL_THERE}: {code_of(error)}") from None
    except OSError as error:
        raise StoreError(f"{_STILL_THERE}: {error.strerror}") from None
    except CallistoError as error:
        raise StoreError(f"{_STILL_THERE}: {error}") from None


def _remove_unnamed(live: Path, media: Media) -> None:
    left = _listed(live)
    left -= _named_by(live, closed=False)
    kept: set[str] = set()
    if left:
        left -= _named_by_undo(live)
    if left:
        kept = {name for copy in _good_copies(live) for name in _named_by(copy, closed=True)} & left
    for name in sorted(left - kept):
        media.path(name).unlink(missing_ok=True)
    if left:
        sync(media.folder)
    if not kept:
        list_of(live).unlink()


def _named_by_undo(live: Path) -> set[str]:
    undo = undo_of(live) / live.name
    if not is_plain_file(undo):
        return set()
    if undo.with_name(f"{undo.name}-journal").exists():  # its pages are not what it stands for
        raise StoreError("the state before the last restore was not closed")
    return _named_by(undo, closed=True)


def _good_copies(live: Path) -> Iterator[Path]:
    """Yield the copies of the database that a repair would take; anybody may have made such a file."""
    return (path for path in sorted((live.parent / "backup").glob(_COPIES)) if not judge_copy(path).fault)


def _listed(live: Path) -> set[str]:
    """Return the names of the list; a line that was cut off is none, and had no recording yet."""
    try:
        with list_of(live).open("rb") as stream:
            return {name.decode() for name in _LISTED.findall(stream.read(_MOST_BYTES))}
    except FileNotFoundError:
        return set()


def _named_by(database: Path, *, closed: bool) -> set[str]:
    """Return the recordings that rows of a database of ours name, those that a repair has set apart with them.

    Raises:
        sqlite3.Error, OSError: nobody can tell.
    """
    names: set[str] = set()
    with closing(open_quietly(database, closed=closed)) as connection:
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        for table in _NAMING:
            if table in there:
                names.update(str(name) for (name,) in connection.execute(f'SELECT recording FROM "{table}"'))
        if "quarantine" in there:
            for (content,) in connection.execute("SELECT content FROM quarantine"):
                names.update(_NAME.findall(str(content)))
    return names
