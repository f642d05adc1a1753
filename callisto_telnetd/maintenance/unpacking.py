"""An archive taken apart on the disk of the database, for as long as somebody looks at it or restores it."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.restore.switch import unpacked_of
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.errors import BackupError
from callisto_telnetd.maintenance.workshop import Progress, Workshop
from callisto_telnetd.work import in_thread


@dataclass(frozen=True, slots=True)
class Opened:
    """An archive that was taken apart."""

    backup: Unpacked
    facts: dict[str, Any]
    """What its manifest says: host, serial, created, note, missing."""


class Unpacking:
    """One archive taken apart; whoever has opened it closes it."""

    def __init__(self, folder: DataFolder, workshop: Workshop, path: Path, password: str | None) -> None:
        self._folder = folder
        self._workshop = workshop
        self._path = path
        self._password = password
        self._place = unpacked_of(folder.database) / secrets.token_hex(8)
        self._user: asyncio.Task[Any] | None = None

    async def open(self, told: Callable[[Progress], None]) -> Opened:
        """Take it apart.

        Raises:
            BackupPasswordError, NewerBackupError, BackupError: it is not to be used; says why.
            DiskFullError: there is no room.
        """
        try:
            database, settings, recordings = await in_thread(self._make)
        except OSError as error:
            raise BackupError(f"the backup cannot be taken apart: {error.strerror}; nothing was changed") from None
        place = self._place.absolute()
        order = {
            "file": str(self._path.absolute()),
            "password": self._password,
            "folder": str(place),
            "media": str(self._folder.media.absolute()),
        }
        facts = await self._workshop.run("unpack", order, told)
        backup = Unpacked(
            name=self._path.name,
            database=database,
            settings=settings if facts["settings"] else None,
            recordings=recordings,
            schema=facts["schema"],
            version=facts["product_version"],
            edition=facts["edition"],
            secrets=facts["secrets"],
        )
        return Opened(backup, facts)

    def keep_for(self, user: asyncio.Task[Any]) -> None:
        """Have the parts stay until this task has ended, whatever becomes of whoever has opened the archive."""
        self._user = user

    async def close(self) -> None:
        """Remove the parts, now or when their user has ended."""
        if self._user is None or self._user.done():
            await in_thread(self._remove)
        else:
            loop = asyncio.get_running_loop()
            self._user.add_done_callback(lambda _: loop.run_in_executor(None, self._remove))

    def _make(self) -> tuple[Path, Path, Path]:
        """Make the folder; return where database, settings and recordings will be."""
        from callisto_telnetd.db.backup.unpacking import (  # noqa: PLC0415 - brings all that reads an archive
            DATABASE_FILE,
            RECORDINGS_FOLDER,
            SETTINGS_FILE,
        )

        self._place.parent.mkdir(mode=0o700, exist_ok=True)
        self._place.mkdir(mode=0o700)
        place = self._place.absolute()
        return place / DATABASE_FILE, place / SETTINGS_FILE, place / RECORDINGS_FOLDER

    def _remove(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)  # what stays is removed at the next start
        with suppress(OSError):  # others look at theirs
            self._place.parent.rmdir()
