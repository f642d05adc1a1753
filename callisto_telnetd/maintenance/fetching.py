"""Archives fetched from a target into the folder of backups, so that they can be looked at and restored."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from callisto_telnetd.db.backup.folder import HEAD_BYTES, begins_as_archive, ends_as_archive
from callisto_telnetd.db.durable import sync
from callisto_telnetd.errors import BackupError, named, quoted
from callisto_telnetd.maintenance.look_up import look_up
from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import is_plain
from callisto_telnetd.work import in_thread

_PREFIX = ".fetching-"
_UNDO = "undo"
"""The folder of the state before the last restore."""
_RESERVE_BYTES = 16 << 20


async def fetch(
    folder: Path, target: Target, credentials: Credentials, name: str, told: Callable[[Progress], None]
) -> None:
    """Bring an archive into the folder, whole or not at all.

    Its first and its last bytes are looked at: what a target sends in the place of a backup does not stay, and takes no
    name here.

    Args:
        folder: Of the archives here.
        target: Where it is.
        credentials: What the target wants to see.
        name: Its name there, and here.
        told: Told how far it has come.

    Raises:
        BackupError: the name is none that a file here may have, or taken here by another file; or it is no backup.
        HostKeyUnknownError: the key of an SFTP server was never accepted; has the fingerprint.
        TransferError: it cannot be fetched.
    """
    if not is_plain(name) or name.startswith((".", "database-")) or name == _UNDO:
        raise BackupError(f"{quoted(name)} is no name that a backup may have here; nothing was fetched")
    final = folder / name
    if await look_up(name, final, partial(os.path.lexists, final)):
        raise BackupError(f"{name} is here already; name it without its URL; nothing was fetched")
    making = folder / f"{_PREFIX}{secrets.token_hex(8)}.zip"
    try:
        disk = await look_up(name, folder, partial(os.statvfs, folder))
        most = max(0, disk.f_bavail * disk.f_frsize - _RESERVE_BYTES)
        async with open_transport(target, credentials) as transport:
            judge = partial(_require_head, name, target)
            await transport.download(
                name, making, most, lambda step, done, of: told(Progress(step, done, of)), (HEAD_BYTES, judge)
            )
        if not await in_thread(ends_as_archive, making):
            _refuse(name, target)
        await in_thread(_put, making, final)
    except OSError as error:
        raise BackupError(f"{named(final)} cannot be made: {error.strerror}") from None
    finally:
        with suppress(OSError):
            await in_thread(making.unlink, missing_ok=True)


def remove_unfetched(folder: Path) -> None:
    """Remove what a killed server had fetched in part; call it at a start.

    Raises:
        OSError: it cannot be removed.
    """
    for path in folder.glob(f"{_PREFIX}*.zip"):
        path.unlink(missing_ok=True)


def _require_head(name: str, target: Target, head: bytes) -> None:
    if not begins_as_archive(head):
        _refuse(name, target)


def _refuse(name: str, target: Target) -> NoReturn:
    raise BackupError(f"{quoted(name)} at {target} is no backup of Callisto's, or is cut off; nothing of it was kept")


def _put(making: Path, final: Path) -> None:
    os.link(making, final)  # unlike a rename, never over another file
    sync(final.parent)
