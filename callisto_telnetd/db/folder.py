"""The data folder: its parts, their permissions, and the lock that makes one process its owner.

The folder is the appliance. Whoever holds the lock may open the database; nobody else may.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from callisto_telnetd.errors import FolderError, FolderInUseError, named
from callisto_telnetd.ownership import require_own

_LOCK_LOOK_S = 0.05
_SIGNS = ("callisto.db", "callisto.db.new", "restore.new", "accounts.json", "damaged")
"""What one of is in every data folder that is or was an appliance's, also where a crash has interrupted a change."""
_SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its NUL


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where the appliance keeps what it is."""

    path: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / "callisto.db"

    @property
    def trace(self) -> Path:
        """The folder of captures."""
        return self.path / "trace"

    @property
    def backup(self) -> Path:
        """The folder of backups."""
        return self.path / "backup"

    @property
    def account_file(self) -> Path:
        """The accounts once more, for when the database cannot be opened."""
        return self.path / "accounts.json"

    @property
    def damaged(self) -> Path:
        """Where repairs set damaged files aside."""
        return self.path / "damaged"

    @property
    def had_database(self) -> bool:
        """Whether this appliance has had a database: one that is missing is then lost, and not new."""
        return self.account_file.exists() or self.damaged.exists()

    @property
    def is_appliance(self) -> bool:
        """Whether an appliance lives here; a folder that cannot be looked at counts as one, and is refused later."""
        for sign in _SIGNS:
            try:
                (self.path / sign).lstat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                return True
            return True
        return False

    @property
    def media(self) -> Path:
        """The folder of recordings, named by the hash of their content."""
        return self.path / "media"

    @property
    def control_socket(self) -> Path:
        """The command line's door."""
        return self.path / "run" / "control.sock"

    @property
    def trace_socket(self) -> Path:
        """Where any program sends its syslog to."""
        return self.path / "run" / "trace.sock"

    @property
    def _lock(self) -> Path:
        return self.path / "run" / "lock"

    def make(self) -> None:
        """Make the folder and its parts where they are missing, for the owner alone.

        Raises:
            FolderError: it cannot be made or written to.
        """
        if len(os.fsencode(self.control_socket)) > _SOCKET_PATH_BYTES:
            room = _SOCKET_PATH_BYTES - len("/run/control.sock")
            raise FolderError(f"data folder {named(self.path)}: its path is longer than {room} bytes")
        try:
            for above in reversed(self.path.parents):
                above.mkdir(mode=0o755, exist_ok=True)  # Path's own way leaves those above to the umask alone
            self.path.mkdir(mode=0o700, exist_ok=True)
            for part in self._parts:
                part.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise FolderError(f"data folder {named(self.path)} cannot be used: {error.strerror}") from None
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise FolderError(f"data folder {named(self.path)} cannot be written to: permission denied")

    def require_own(self, *, serving: bool) -> None:
        """Refuse a folder in which somebody else could have named commands, or could end processes.

        Args:
            serving: Whether a server is to run what is named there. A command of root's may work in the folder of
                another user, who then is trusted with what is in it; it runs nothing that is named there.

        Raises:
            OwnershipError: names the folder, what is wrong and the command that mends it.
        """
        owners = () if serving or not self.is_of_other else (self.path.stat().st_uid,)
        require_own(self.path, "data folder", owners)
        for part in (self.control_socket.parent, self.backup, self.backup / "undo"):
            require_own(part, "folder", owners)

    @property
    def is_of_other(self) -> bool:
        """Whether the folder belongs to neither root nor this process's user; one that is not there does not."""
        try:
            return self.path.stat().st_uid not in {0, os.geteuid()}
        except OSError:
            return False

    def unmake(self, made: Sequence[Path]) -> None:
        """Take away an appliance in which nothing has been kept yet, with the folders that were made for it.

        Args:
            made: Folders that were not there before, the innermost first; those that hold anything else stay.
        """
        for file in (self.database, self.database.with_name("callisto.db-journal"), self._lock):
            file.unlink(missing_ok=True)
        for folder in (*self._parts, *made):
            with suppress(OSError):
                folder.rmdir()

    @property
    def _parts(self) -> tuple[Path, ...]:
        return (self.trace, self.backup, self.media, self.control_socket.parent)

    def lock(self) -> FolderLock:
        """Become the folder's one owner.

        Raises:
            FolderInUseError: another process is.
            FolderError: the lock file cannot be written.
        """
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FolderError(f"{named(self._lock)} cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise FolderInUseError(f"data folder {named(self.path)} is in use by another process") from None
        return FolderLock(descriptor)

    async def wait_for_lock(self, wait_s: float) -> FolderLock:
        """Become the folder's one owner once the command or server that has it is done.

        Raises:
            FolderInUseError: it still has it after ``wait_s`` seconds.
            FolderError: the lock file cannot be written.
        """
        deadline = time.monotonic() + wait_s
        while True:
            try:
                return self.lock()
            except FolderInUseError:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(_LOCK_LOOK_S)


class FolderLock:
    """Held while a process owns the data folder; the system lets go of it when the process dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int:
        """The lock's file; a process that inherits it holds the folder, too, until it ends."""
        return self._descriptor

    def release(self) -> None:
        """Let the next process have the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
