"""A new database takes the place of the live one, at once or not at all; no connection may be open meanwhile.

Names beside ``callisto.db``:

* ``callisto.db.making``: unfinished work; removed at the next opening.
* ``callisto.db.new``: complete, checked, on the disk. The rename to this name is the point of no return: from there on
  whoever opens the database puts it in its place first (:func:`settle`).

The old journal has to go before the new file gets the name: SQLite would roll it back into the new one. Between the two
there is only ``callisto.db.new`` that counts, so a crash there costs nothing.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from callisto_telnetd.errors import DiskFullError, StoreError, UnfinishedError, named

_JOURNALS = ("-journal", "-wal", "-shm")
_FULL = {errno.ENOSPC, errno.EDQUOT}


def making_of(live: Path) -> Path:
    """Return where a new database is made: a file beside the live one that nobody opens."""
    return live.with_name(live.name + ".making")


def new_of(live: Path) -> Path:
    """Return the name of a complete new database that waits to take the live one's place."""
    return live.with_name(live.name + ".new")


def publish(new: Path, live: Path) -> None:
    """Put a complete and checked database in the place of the live one, durably, for its owner alone.

    Args:
        new: The database, in the folder of the live one; its name is gone afterwards.
        live: The name it gets. Nobody has either file open.

    Raises:
        DiskFullError, StoreError: the live database is as it was, and ``new`` is still there.
        UnfinishedError: the new one counts already; the next opening finishes the work.
    """
    try:
        new.chmod(0o600)
        _sync(new)
        new.rename(new_of(live))
    except OSError as error:
        kind = DiskFullError if error.errno in _FULL else StoreError
        raise kind(f"the new database cannot be put in place: {error.strerror}; nothing was changed") from None
    try:
        _roll_forward(live)
    except OSError as error:
        raise UnfinishedError(f"{named(new_of(live))} is not in its place yet: {error.strerror}") from None


def settle(live: Path) -> None:
    """Finish what a crash interrupted: a complete new database takes its place, unfinished ones are removed.

    Call it before every opening, with the folder's lock held.

    Raises:
        StoreError: that cannot be done; the database must not be opened.
    """
    try:
        if new_of(live).is_file():
            _roll_forward(live)
        for litter in live.parent.glob(f"{live.name}.making*"):
            litter.unlink()
        if (journal := Path(f"{new_of(live)}-journal")).exists():  # of somebody who looked into it
            journal.unlink()
    except OSError as error:
        raise StoreError(f"an interrupted repair of {named(live)} cannot be finished: {error.strerror}") from None


def _roll_forward(live: Path) -> None:
    _sync(live.parent)  # the name callisto.db.new lasts before anything of the old database goes
    gone = False
    for suffix in _JOURNALS:
        try:
            Path(f"{live}{suffix}").unlink()
            gone = True
        except FileNotFoundError:
            continue
    if gone:
        _sync(live.parent)
    new_of(live).rename(live)
    _sync(live.parent)


def _sync(path: Path) -> None:
    """Return once the file, or the names in the folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
