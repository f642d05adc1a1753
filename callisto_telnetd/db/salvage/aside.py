"""Damaged files set aside whole, before anything is tried on them, in a folder that nobody writes to again.

Rules:

* A hard link where the file system has one: it takes no room and no time. The new database takes the old one's *name*
  (``publish.py``), so what lies aside is never written to. A copy elsewhere.
* While a repair has published nothing, the live file has a second name here. Where it ends without publishing, that
  name goes (:meth:`Aside.withdraw`); after a crash it goes at the next start (:func:`remove_unfinished`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from callisto_telnetd.db.copying import copy_file
from callisto_telnetd.db.durable import sync
from callisto_telnetd.errors import DiskFullError, StoreError, named

_PARTS = ("", "-journal", "-wal", "-shm")
_NO_LINK = {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.ENOSYS}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_MOST_SAME_SECOND = 100


@dataclass(frozen=True, slots=True)
class Aside:
    """Files that were set aside."""

    folder: Path
    database: Path
    """The database among them; perhaps a link of the live one."""
    journal: Path | None
    """Its rollback journal, None where it had none."""
    log: Path | None = None
    """A write-ahead log with content: another program's, ours never has one. None where there is none."""

    def withdraw(self) -> None:
        """Take it all away again: the repair has changed nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)


def has_links(live: Path) -> bool:
    """Whether the file system gives a file a second name; tried out beside the database, and taken away again.

    Raises:
        OSError: nothing can be written there.
    """
    tried = live.with_name(live.name + ".making-link")
    tried.unlink(missing_ok=True)
    try:
        os.link(live, tried)
    except FileNotFoundError:
        return True  # there is nothing to be copied
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    tried.unlink()
    return True


def set_aside(live: Path, damaged: Path, stamp: str) -> Aside:
    """Set the database and what belongs to it aside, durably.

    Args:
        live: The database; nobody has it open.
        damaged: The folder of all that was ever set aside; made where it is missing.
        stamp: The name of the new folder in it, ``YYYYmmdd-HHMMSS``; ``-2`` and so on follow where it is taken.

    Raises:
        DiskFullError, StoreError: nothing has changed.
    """
    folder: Path | None = None
    try:
        folder = _make_folder(damaged, stamp)
        kept = {suffix: _keep(Path(f"{live}{suffix}"), folder) for suffix in _PARTS}
        for each in (folder, damaged, damaged.parent):
            sync(each)
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        kind = DiskFullError if error.errno in _FULL else StoreError
        reason = error.strerror or "it cannot be written to"
        raise kind(f"{named(live)} cannot be set aside in {named(damaged)}: {reason}; nothing was changed") from None
    return Aside(
        folder,
        kept[""] or folder / live.name,
        kept["-journal"],
        kept["-wal"] if kept["-wal"] and kept["-wal"].stat().st_size else None,
    )


def remove_unfinished(live: Path, damaged: Path) -> None:
    """Remove what an interrupted repair has set aside without publishing: folders whose file is still the live one.

    Raises:
        StoreError: they cannot be removed; the live database has a second name.
    """
    try:
        now = live.stat()
        folders = [each for each in damaged.iterdir() if each.is_dir()]
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{named(damaged)} cannot be looked at: {error.strerror}") from None
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(now, (folder / live.name).stat()):
                _remove(folder)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StoreError(f"{named(folder)} cannot be removed: {error.strerror}") from None


def _make_folder(damaged: Path, stamp: str) -> Path:
    damaged.mkdir(mode=0o700, exist_ok=True)
    for count in range(1, _MOST_SAME_SECOND):
        folder = damaged / (stamp if count == 1 else f"{stamp}-{count}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(errno.EEXIST, f"there are too many folders named {stamp}")


def _keep(file: Path, folder: Path) -> Path | None:
    kept = folder / file.name
    if not file.exists():
        return None
    if not file.is_file():
        raise OSError(errno.EINVAL, f"{file.name} is no file")
    try:
        os.link(file, kept)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        copy_file(file, kept)
    sync(kept)
    return kept
