"""A new database takes the place of the live one, at once or not at all; no connection may be open meanwhile.

Names beside ``callisto.db``:

* ``callisto.db.making``: unfinished work; removed at the next opening.
* ``callisto.db.new``: complete, checked, on the disk. The rename to this name is the point of no return: from there on
  whoever opens the database puts it in its place first (:func:`settle`).
* ``callisto.db.refused``, ``-2`` and so on: what somebody else has left under those names. Nobody opens it.

The old journal has to go before the new file gets the name: SQLite would roll it back into the new one. Between the two
there is only ``callisto.db.new`` that counts, so a crash there costs nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from callisto_telnetd.db.durable import sync
from callisto_telnetd.db.schema import APPLICATION_ID
from callisto_telnetd.errors import DiskFullError, StoreError, UnfinishedError, named

_JOURNALS = ("-journal", "-wal", "-shm")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_MOST_REFUSED = 100

# SQLite, "Database File Format", section 1.3: the header.
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_PAGE_SIZE_AT, _PAGE_COUNT_AT, _APPLICATION_ID_AT = 16, 28, 68


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
        sync(new)
        new.rename(new_of(live))
    except OSError as error:
        kind = DiskFullError if error.errno in _FULL else StoreError
        raise kind(f"the new database cannot be put in place: {error.strerror}; nothing was changed") from None
    try:
        _roll_forward(live)
    except OSError as error:
        raise UnfinishedError(f"{named(new_of(live))} is not in its place yet: {error.strerror}") from None


def settle(live: Path) -> Path | None:
    """Finish what a crash interrupted: a complete new database takes its place, unfinished ones are removed.

    Call it before every opening, with the folder's lock held.

    Returns:
        Where something went that had the name of a new database and is none; None where there was no such thing.

    Raises:
        StoreError: that cannot be done; the database must not be opened.
    """
    new, refused = new_of(live), None
    at = new
    try:
        if os.path.lexists(new):
            if is_complete(new):
                _roll_forward(live)
            else:
                refused = _refuse(live, new)
        for at in live.parent.glob(f"{live.name}.making*"):
            if at.is_dir() and not at.is_symlink():
                refused = _refuse(live, at)
            else:
                at.unlink()
        if (at := Path(f"{new}-journal")).exists():  # of somebody who looked into it
            at.unlink()
    except OSError as error:
        raise StoreError(
            f"an interrupted repair of {named(live)} cannot be finished: {named(at)}: {error.strerror}"
        ) from None
    return refused


def is_complete(new: Path) -> bool:
    """Whether a file can be a whole database of ours, by its header and its size: what :func:`publish` renames."""
    if not stat.S_ISREG((found := new.lstat()).st_mode):
        return False
    with new.open("rb") as stream:
        header = stream.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return False
    page_bytes = int.from_bytes(header[_PAGE_SIZE_AT : _PAGE_SIZE_AT + 2], "big")
    page_bytes = 1 << 16 if page_bytes == 1 else page_bytes  # which two bytes have no room for
    pages, application_id = (int.from_bytes(header[at : at + 4], "big") for at in (_PAGE_COUNT_AT, _APPLICATION_ID_AT))
    return application_id == APPLICATION_ID and pages > 0 and found.st_size == pages * page_bytes


def _refuse(live: Path, new: Path) -> Path:
    """Give what is no new database another name; nothing of it is lost."""
    for count in range(1, _MOST_REFUSED):
        other = live.with_name(f"{live.name}.refused" + (f"-{count}" if count > 1 else ""))
        if not os.path.lexists(other):
            new.rename(other)
            sync(new.parent)
            return other
    raise FileExistsError(errno.EEXIST, "there are too many files that were refused")


def _roll_forward(live: Path) -> None:
    sync(live.parent)  # the name callisto.db.new lasts before anything of the old database goes
    gone = False
    for suffix in _JOURNALS:
        try:
            Path(f"{live}{suffix}").unlink()
            gone = True
        except FileNotFoundError:
            continue
    if gone:
        sync(live.parent)
    new_of(live).rename(live)
    sync(live.parent)
