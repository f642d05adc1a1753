"""Whose files are believed: what names commands, keys or processes is judged as sshd's StrictModes judge theirs.

Rules:

* It belongs to root or to this process's user, and nobody else may write to it: neither its group nor others. An
  access list is seen too: what it gives at most stands in the group's bits (acl(5)).
* A link is followed, and what it leads to is judged; so is the folder in which that stands. A folder with the sticky
  bit, such as ``/tmp``, counts as closed: nobody else can put another file in the place of one that is ours.
* What is on a mount that is read-only counts as closed, whatever its mode; its owner is judged all the same.
* Folders above the data folder are their owner's matter, as those above a home are for sshd.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Collection
from pathlib import Path

from callisto_telnetd.errors import OwnershipError, named

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def fault_of(status: os.stat_result, owners: Collection[int] = (), *, closed: bool = False) -> str:
    """Return why somebody else could have written what has this status; blank where nobody could.

    Args:
        status: Of a file or a folder.
        owners: Users who are trusted beside root and this process's own.
        closed: It is on a mount that is read-only, so its mode lets nobody write.
    """
    if status.st_uid not in {0, os.geteuid(), *owners}:
        trusted = "root" if os.geteuid() == 0 else f"root or {_name_of(os.geteuid())}"
        return f"belongs to {_name_of(status.st_uid)}, not to {trusted}"
    if status.st_mode & OTHERS_WRITE and not closed:
        return f"may be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def require_own(path: Path, what: str, owners: Collection[int] = ()) -> None:
    """Refuse a file or a folder that somebody else may write to; one that is not there is no fault.

    Args:
        path: A link is followed.
        what: What it is, as people read it: ``data folder``.
        owners: As for :func:`fault_of`.

    Raises:
        OwnershipError: names the path, what is wrong and the command that mends it.
    """
    try:
        status = path.stat()
    except OSError:  # whoever needs it says why it cannot be had
        return
    refuse(path, what, status, owners, closed=is_read_only(path))


def require_own_file(path: Path, what: str, owners: Collection[int] = ()) -> None:
    """Refuse a file of the owner's that somebody else may write to, or put another in the place of.

    Args:
        path: A link is followed.
        what: What it is, as people read it.
        owners: As for :func:`fault_of`.

    Raises:
        OwnershipError: names the path, what is wrong and the command that mends it.
    """
    require_own(path, what, owners)
    for folder in dict.fromkeys((path.absolute().parent, Path(os.path.realpath(path)).parent)):
        try:
            status = folder.stat()
        except OSError:
            continue
        trusted = status.st_uid in {0, os.geteuid(), *owners}
        if not (trusted and status.st_mode & stat.S_ISVTX):
            refuse(folder, f"the folder of {what}", status, owners, closed=is_read_only(folder))


def refuse(
    path: Path, what: str, status: os.stat_result, owners: Collection[int] = (), *, closed: bool = False
) -> None:
    """Refuse what has this status where somebody else could have written it.

    Raises:
        OwnershipError: names the path, what is wrong and the command that mends it.
    """
    if fault := fault_of(status, owners, closed=closed):
        foreign = status.st_uid not in {0, os.geteuid(), *owners}
        how = f"chown {shlex.quote(_name_of(os.geteuid()))}" if foreign else "chmod go-w"
        command = f"{how} {shlex.quote(str(path))}" if str(path).isprintable() else how
        raise OwnershipError(f"{what} {named(path)} {fault}; mend it with: {command}")


def is_read_only(place: Path | int) -> bool:
    """Whether a path, links followed, or a descriptor is on a mount that is read-only."""
    try:
        return bool(os.statvfs(place).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
