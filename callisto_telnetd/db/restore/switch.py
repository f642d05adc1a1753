"""Database and settings give way to others together, at once or not at all; nobody has them open meanwhile.

Names beside ``callisto.db``:

* ``restore.unpacked/``: the parts of archives that somebody looks at, a folder each; removed when a server starts.
* ``restore.making/``: unfinished work; removed at the next opening.
* ``restore.new/``: complete, checked, on the disk. The rename to this name is the point of no return: from there on
  whoever opens the database, or reads the settings, puts its files in their places first (:func:`settle_restore`).
* ``restore.recordings``: recordings that may have to go when a restore has ended (``recordings.py``).
* ``restore.refused``, ``-2`` and so on: what somebody else has left under those names. Nobody looks into it.
* ``backup/undo.making/``: the files that are about to give way; removed at the next opening where they did not.
* ``backup/undo/``: the files that gave way the last time. The database there is a hard link where there are any: the
  new one takes the old one's *name*, so that what lies aside is never written to again. Settings are always copied:
  editors write into the file that they find.

``restore.new`` holds at most ``callisto.db`` (with a ``-journal`` that belongs to it), and ``callisto.toml`` or, where
there is to be none, ``callisto.toml.gone``. ``as-it-was`` marks files that go back unjudged, however damaged they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from callisto_telnetd.db.durable import sync, write
from callisto_telnetd.db.publish import is_complete
from callisto_telnetd.errors import DiskFullError, StoreError, UnfinishedError, named

SETTINGS_FILE = "callisto.toml"
"""As the settings themselves have it; reading their models would cost every worker a tenth of a second."""
UNDO_NOTE = "undo.json"
"""What is known of the state in ``backup/undo``."""

_GONE = f"{SETTINGS_FILE}.gone"
_AS_IT_WAS = "as-it-was"
_JOURNALS = ("-journal", "-wal", "-shm")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LINK = {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.ENOSYS}
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_REFUSED = 100


@dataclass(frozen=True, slots=True)
class Settled:
    """What :func:`settle_restore` found to do."""

    finished: bool = False
    """Whether an interrupted restore was finished: database and settings are other ones now."""
    refused: Path | None = None
    """Where something went that had the name of a new state and is none."""


def making_of(live: Path) -> Path:
    """Return the folder in which a new state is made, beside the live database."""
    return live.with_name("restore.making")


def new_of(live: Path) -> Path:
    """Return the name of a complete new state that waits to take its place."""
    return live.with_name("restore.new")


def unpacked_of(live: Path) -> Path:
    """Return the folder for parts of archives, a folder of its own for each: on the disk of the live database."""
    return live.with_name("restore.unpacked")


def remove_unpacked(live: Path) -> None:
    """Remove what a process that was killed has unpacked; call it at a start, when nobody looks at any.

    Raises:
        StoreError: it cannot be removed.
    """
    try:
        _remove(unpacked_of(live))
    except OSError as error:
        raise StoreError(f"{named(unpacked_of(live))} cannot be removed: {error.strerror}") from None


def undo_of(live: Path) -> Path:
    """Return the folder of the state before the last restore."""
    return live.parent / "backup" / "undo"


def is_plain_file(path: Path) -> bool:
    """Whether there is a file, and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def begin(live: Path) -> Path:
    """Make the folder for a new state, empty, and return it.

    Raises:
        DiskFullError, StoreError: nothing was changed.
    """
    making = making_of(live)
    try:
        _remove(making)
        making.mkdir(mode=0o700)
    except OSError as error:
        raise failure("a new state cannot be made", error) from None
    return making


def discard(live: Path) -> None:
    """Remove a new state that is not to be; what cannot be removed goes at the next opening."""
    with contextlib.suppress(OSError):
        _remove(making_of(live))


def leave_without_settings(making: Path) -> None:
    """Have the new state take ``callisto.toml`` away: there was none in it."""
    making.joinpath(_GONE).touch(mode=0o600)


def had_no_settings(state: Path) -> bool:
    """Whether a state that was kept had no ``callisto.toml``, and the one that took its place has changed that."""
    return is_plain_file(state / _GONE)


def switch(live: Path, note: bytes) -> None:
    """Put the new state of :func:`begin` in the place of the present one, durably; that one is kept for an undo.

    Args:
        live: The database. Nobody has it, or the new one, open.
        note: What is to be known of the state that gives way.

    Raises:
        DiskFullError, StoreError: everything is as it was; the new state is still where it was made.
        UnfinishedError: the new state counts already; the next opening finishes the work.
    """
    making = making_of(live)
    try:
        for entry in sorted(making.iterdir()):
            entry.chmod(0o600)
            sync(entry)
        sync(making)
        _set_aside(live, note)
        making.rename(new_of(live))
    except OSError as error:
        with contextlib.suppress(OSError):
            _remove(_undo_making(live))
        raise failure("the new state cannot be put in place", error) from None
    _finish(live)


def switch_back(live: Path) -> None:
    """Put back the state that gave way the last time, as it was, and forget that there was another.

    Raises:
        DiskFullError, StoreError: the state is as it was before the call.
        UnfinishedError: the state from before counts already; the next opening finishes the work.
    """
    undo = undo_of(live)
    if not is_plain_file(undo / live.name):
        raise StoreError("there is no state to go back to; nothing was changed")
    making = begin(live)
    try:
        for name in (live.name, f"{live.name}-journal", SETTINGS_FILE, _GONE):
            if is_plain_file(undo / name):
                _keep(undo / name, making / name, link=name != SETTINGS_FILE)
        making.joinpath(_AS_IT_WAS).touch(mode=0o600)
        sync(making)
        making.rename(new_of(live))
    except OSError as error:
        discard(live)
        raise failure("the state from before cannot be put back", error) from None
    _finish(live)
    with contextlib.suppress(OSError):  # the next opening sees by the link that it is none
        _remove(undo)


def settle_restore(live: Path) -> Settled:
    """Finish what a crash interrupted: a complete new state takes its place, unfinished ones are removed.

    Call it before every opening of the database and every reading of the settings, with the folder's lock held.

    Raises:
        StoreError: that cannot be done; the database must not be opened.
    """
    new, finished, refused = new_of(live), False, None
    at = new
    try:
        if os.path.lexists(new):
            if _is_new_state(live, new):
                _roll_forward(live)
                finished = True
            else:
                refused = _refuse(new)
        for at in (making_of(live), _undo_making(live)):
            _remove(at)
        at = undo_of(live)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(live.stat(), (at / live.name).lstat()):
                _remove(at)  # it has been put back: a second name of the live file is no copy of it
    except OSError as error:
        raise StoreError(
            f"an interrupted restore of {named(live)} cannot be finished: {named(at)}: {error.strerror}"
        ) from None
    return Settled(finished, refused)


def failure(what: str, error: OSError) -> StoreError:
    """Return our error for the system's: nothing was changed."""
    kind = DiskFullError if error.errno in _FULL else StoreError
    return kind(f"{what}: {error.strerror}; nothing was changed")


def _undo_making(live: Path) -> Path:
    return undo_of(live).with_name("undo.making")


def _set_aside(live: Path, note: bytes) -> None:
    making, aside = making_of(live), _undo_making(live)
    _remove(aside)
    aside.mkdir(mode=0o700)
    for suffix in ("", "-journal", "-wal"):
        file = Path(f"{live}{suffix}")
        if file.is_file() and (not suffix or _counts(file)):
            _keep(file.resolve(), aside / file.name, link=True)
    if (making / SETTINGS_FILE).exists() or (making / _GONE).exists():
        settings = live.with_name(SETTINGS_FILE)
        if settings.is_file():
            _keep(settings, aside / SETTINGS_FILE, link=False)
        else:
            leave_without_settings(aside)
    write(aside / UNDO_NOTE, note)
    sync(aside)
    sync(aside.parent)


def _counts(journal: Path) -> bool:
    """Whether SQLite would look at a journal at all: a transaction that has ended leaves its first byte zero."""
    with journal.open("rb") as stream:
        return stream.read(1) not in (b"", b"\0")


def _keep(file: Path, kept: Path, *, link: bool) -> None:
    """Give a file a second name, or copy it where that is asked for or the file system has no links; durably."""
    if not (link and _link(file, kept)):
        shutil.copyfile(file, kept)
        kept.chmod(0o600)
    sync(kept)


def _link(file: Path, kept: Path) -> bool:
    try:
        os.link(file, kept)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def _finish(live: Path) -> None:
    try:
        _roll_forward(live)
    except OSError as error:
        raise UnfinishedError(f"{named(new_of(live))} is not in its place yet: {error.strerror}") from None


def _roll_forward(live: Path) -> None:
    """Put every file of ``restore.new`` in its place; whatever is done already is found done."""
    new, settings = new_of(live), live.with_name(SETTINGS_FILE)
    sync(live.parent)  # the name restore.new lasts before anything of the old state goes
    if (aside := _undo_making(live)).is_dir():
        _remove(undo_of(live))
        aside.rename(undo_of(live))
        sync(aside.parent)
    if (new / live.name).exists():
        for suffix in _JOURNALS:  # SQLite would roll it back into the new file
            Path(f"{live}{suffix}").unlink(missing_ok=True)
        sync(live.parent)
        (new / live.name).rename(live)
    if (journal := new / f"{live.name}-journal").exists():
        journal.rename(f"{live}-journal")
    if (new / SETTINGS_FILE).exists():
        (new / SETTINGS_FILE).rename(settings)
    if (new / _GONE).exists():
        settings.unlink(missing_ok=True)
    sync(live.parent)
    sync(new)
    _remove(new)
    sync(live.parent)


def _is_new_state(live: Path, new: Path) -> bool:
    """Whether it can be what :func:`switch` renames: a folder that we alone write to, with no other files than ours."""
    found = new.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _OTHERS_WRITE:
        return False
    known = {live.name, f"{live.name}-journal", SETTINGS_FILE, _GONE, _AS_IT_WAS}
    with os.scandir(new) as entries:
        for entry in entries:
            if entry.name not in known or not entry.is_file(follow_symlinks=False):
                return False
    database = new / live.name
    return not database.exists() or (new / _AS_IT_WAS).exists() or is_complete(database)


def _refuse(new: Path) -> Path:
    """Give what is no new state another name; nothing of it is lost."""
    for count in range(1, _MOST_REFUSED):
        other = new.with_name("restore.refused" + (f"-{count}" if count > 1 else ""))
        if not os.path.lexists(other):
            new.rename(other)
            sync(new.parent)
            return other
    raise FileExistsError(errno.EEXIST, "there are too many folders that were refused")


def _remove(path: Path) -> None:
    """Remove a folder of ours with all that is in it, or whatever else has its name; links are not followed."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()
