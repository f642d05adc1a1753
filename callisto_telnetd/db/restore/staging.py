"""The new state is made beside the live one, while that works on; nothing of the live one is touched.

Rules:

* The backup's database is judged before SQLite may write to a copy of it, and checked with all its values after.
* Recordings are only ever added, under the hash of their content, and noted before: what then fails leaves none
  (``recordings.py``).
* What the appliance remembers of itself is not the backup's, and neither are audit and history (``db/memory.py``):
  :func:`carry_over` puts them into the new database, at the last moment, when nobody can change them any more.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.doubtful_rows import set_apart
from callisto_telnetd.db.durable import sync
from callisto_telnetd.db.inspection import inspect
from callisto_telnetd.db.media import Media
from callisto_telnetd.db.memory import Change, carry_memory
from callisto_telnetd.db.own_form import copy_in_own_form
from callisto_telnetd.db.quiet import open_quietly
from callisto_telnetd.db.restore.judgement import judge
from callisto_telnetd.db.restore.outlook import no_room_text
from callisto_telnetd.db.restore.recordings import note
from callisto_telnetd.db.restore.settings_file import is_settings_file
from callisto_telnetd.db.restore.switch import (
    SETTINGS_FILE,
    begin,
    discard,
    failure,
    is_plain_file,
    leave_without_settings,
    making_of,
)
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.db.results import code_of
from callisto_telnetd.db.salvage.aside import has_links
from callisto_telnetd.db.salvage.report import LOST_STATE
from callisto_telnetd.db.schema import ADDED_STATE, LAST_CHANGE_STATE, migrations, statements
from callisto_telnetd.db.tables import table_named
from callisto_telnetd.errors import DamagedDatabaseError, DiskFullError, RestoreError, StoreError, quoted

NEVER_FROM_BACKUP = ("clock", "schedule", "last_check", "last_compact", "last_repair", LAST_CHANGE_STATE, ADDED_STATE)
"""The ``state`` rows that a backup's database loses: they tell of the appliance and the file that it was made from.

The clock would jump to the offset that it had then, the schedule would run again what has run since, or skip what was
not due then, the last check was that of another file, and numbers of audit and history are this appliance's own. Every
other row of the present state is kept as well (when the last backup was made); the backup's own count only where there
is none."""

RESERVE_BYTES = 16 << 20
"""What stays free beside the new state."""
MOST_RECORDINGS = 200_000
_RECORDING = re.compile(r"[0-9a-f]{64}")
_PIECE_BYTES = 1 << 20
_BATCH = 64
"""Recordings that are written before the first of them is waited for."""
_SECRETS = (
    "DELETE FROM account",
    "UPDATE mailbox SET pin_hash = '' WHERE pin_hash <> ''",
    "DELETE FROM state WHERE key GLOB 'secret/*'",
)

Tell = Callable[[str, int, int], None]
AccountRow = Sequence[object]
"""A row of ``account``, in the order of its columns."""


def stage(live: Path, backup: Unpacked, tell: Tell, *, at: str) -> Doubtful:
    """Make the new state in ``restore.making``, checked; the appliance may work meanwhile.

    Args:
        live: The present database.
        backup: What is restored.
        tell: Told of the steps.
        at: The moment, ISO 8601.

    Returns:
        The rows that were set apart.

    Raises:
        DiskFullError, StoreError: nothing was changed; recordings that no state names go by ``remove_unnamed``.
    """
    judge(backup)
    require_room(live, backup)
    making = begin(live)
    try:
        new = making / live.name
        with translated("the new state cannot be made"):
            _copy_recordings(live, making, backup, tell)
            apart = copy_for(backup, new, tell, at=at)
            _stage_settings(live, backup, making)
            _require_sound(new, backup, tell)
            sync(new)  # now, and not while everybody waits for the switch
    except BaseException:
        discard(live)
        raise
    return apart


def copy_for(backup: Unpacked, new: Path, tell: Tell, *, at: str) -> Doubtful:
    """Make the database that a restore puts in place: of the newest schema, its doubtful rows set apart.

    A past state of this appliance is taken as it was: it was worked with so.

    Args:
        backup: Judged before.
        new: Where the database goes; nothing is there.
        tell: Told of the steps.
        at: The moment, ISO 8601.

    Returns:
        The rows that were set apart.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    tell("Copying the database", 0, 0)
    copy_in_own_form(backup.database, new)
    tell("Bringing the database up to date", 0, 0)
    bring_up_to_date(new)
    if backup.is_past:
        return Doubtful()
    if not backup.secrets:
        _drop_secrets(new)
    with closing(_open(new)) as connection:
        return set_apart(connection, at)


def carry_over(
    live: Path,
    accounts: Sequence[AccountRow] | None,
    remembered: Mapping[str, str],
    *,
    change: Change,
    given: Mapping[str, int],
) -> None:
    """Put what stays of the present state into the new database; nobody has either open.

    Args:
        live: The present database; of a damaged one audit and history are taken as far as they can be found.
        accounts: The accounts that there are to be; None for those of the backup.
        remembered: Rows of ``state`` that memory knows better than any file.
        change: Whose change the restore is, for the history of variables.
        given: The highest numbers of the audit and of that history, by table, as far as they are known.

    Raises:
        DiskFullError, StoreError: nothing was changed.
    """
    new = making_of(live) / live.name
    state = {**_state_of(live), **remembered}
    with translated("what stays cannot be put into the new database"), closing(_open(new)) as connection:
        connection.execute("BEGIN")
        for key in NEVER_FROM_BACKUP:
            connection.execute("DELETE FROM state WHERE key = ?", (key,))
        connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", state.items())
        if accounts is not None:
            connection.execute("DELETE FROM account")
            connection.executemany("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?)", accounts)
        connection.execute("COMMIT")
        carry_memory(connection, live, change, given)
        fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise DamagedDatabaseError(f"the new database is not sound: {fault}; nothing was changed")
        if connection.execute("PRAGMA foreign_key_check(variable_change)").fetchone():
            raise DamagedDatabaseError(
                "the new database is not sound: a change undoes one that is not there; nothing was changed"
            )


def take_settings(source: Path, target: Path) -> None:
    """Copy a settings file of at most 1 MiB.

    Raises:
        RestoreError: it is none.
        OSError: it cannot be copied.
    """
    require_settings_file(source)
    shutil.copyfile(source, target)
    target.chmod(0o600)


def require_settings_file(source: Path) -> None:
    """Refuse what is no file of at most 1 MiB, before anybody reads it.

    Raises:
        RestoreError: it is none.
        OSError: nobody can tell.
    """
    if not is_settings_file(source):
        raise RestoreError(f"{SETTINGS_FILE} in the backup is no file of at most 1 MiB; nothing was changed")


def needed_bytes(live: Path, backup: Unpacked) -> int:
    """Return how much a restore writes, the reserve with it.

    Raises:
        OSError: nobody can tell.
    """
    database = backup.database.stat().st_size
    older = backup.schema < max(migrations())
    aside = 0 if has_links(live) else live.stat().st_size
    recordings = sum(size for _, size in missing_recordings(live.with_name("media"), backup))
    return database + (database // 4 if older else 0) + aside + recordings + RESERVE_BYTES


def free_bytes(live: Path) -> int:
    """Return how much may be written to the disk of the database.

    Raises:
        OSError: nobody can tell.
    """
    disk = os.statvfs(live.parent)
    return disk.f_bavail * disk.f_frsize


def require_room(live: Path, backup: Unpacked) -> None:
    """Refuse where a restore would find no room.

    Raises:
        DiskFullError: says how much is free, and how much is needed.
    """
    try:
        needed, free = needed_bytes(live, backup), free_bytes(live)
    except OSError as error:
        raise failure("the disk of the database cannot be looked at", error) from None
    if free < needed:
        raise DiskFullError(no_room_text(needed, free))


def missing_recordings(media: Path, backup: Unpacked, *, closely: bool = False) -> Iterator[tuple[Path, int]]:
    """Yield the backup's recordings that are not there yet, or not of that size: their files and sizes.

    Args:
        media: Where recordings stand.
        backup: What is to be restored.
        closely: Whether those that are there are read: one that is damaged is missing, too.

    Raises:
        RestoreError: something else lies among them, or they are too many.
        OSError: they cannot be looked at.
    """
    if backup.recordings is None:
        return
    with os.scandir(backup.recordings) as entries:
        for count, entry in enumerate(entries, start=1):
            if count > MOST_RECORDINGS:
                raise RestoreError(f"a backup has at most {MOST_RECORDINGS} recordings; nothing was changed")
            if not _RECORDING.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                raise RestoreError(f"{quoted(entry.name)} in the backup is no recording; nothing was changed")
            size = entry.stat(follow_symlinks=False).st_size
            there = media / entry.name
            same_size = is_plain_file(there) and there.stat().st_size == size
            if not same_size or (closely and _hash_of(there) != entry.name):
                yield Path(entry.path), size


def _stage_settings(live: Path, backup: Unpacked, making: Path) -> None:
    if live.with_name(SETTINGS_FILE).is_symlink():  # to some other place of the owner's, which is left alone
        return
    if backup.settings is not None:
        take_settings(backup.settings, making / SETTINGS_FILE)
    elif backup.without_settings:
        leave_without_settings(making)


def _copy_recordings(live: Path, making: Path, backup: Unpacked, tell: Tell) -> None:
    """Add the recordings that are missing, each durable and under its own name only when it is whole."""
    media = live.with_name("media")
    missing = list(missing_recordings(media, backup, closely=True))
    total, done = sum(size for _, size in missing), 0
    with Media(media).filling("a set of recordings"):
        note(live, making, (source.name for source, _ in missing if not os.path.lexists(media / source.name)))
        for at in range(0, len(missing), _BATCH):
            tell("Copying recordings", done, total)
            batch = missing[at : at + _BATCH]
            add_recordings(media, [source for source, _ in batch])
            done += sum(size for _, size in batch)
        if missing:
            tell("Copying recordings", total, total)


def add_recordings(media: Path, sources: Sequence[Path]) -> None:
    """Add recordings, durably; all are written before the first is waited for, so that the disk takes them together."""
    making = {source: media / f".making-{source.name}" for source in sources}
    try:
        for source, path in making.items():
            if _copy_hashed(source, path) != source.name:
                raise DamagedDatabaseError(
                    f"recording {source.name} in the backup is damaged: its content is not its name;"
                    " nothing was changed"
                )
        for path in making.values():
            sync(path)
        for source, path in making.items():
            path.rename(media / source.name)
        sync(media)
    finally:
        for path in making.values():
            with suppress(OSError):  # else the next start removes it
                path.unlink(missing_ok=True)


def _hash_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _copy_hashed(source: Path, target: Path) -> str:
    """Copy a file and return the SHA-256 of what was copied."""
    found = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out, source.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            found.update(piece)
            out.write(piece)
    return found.hexdigest()


def _open(new: Path) -> sqlite3.Connection:
    """Open the copy for writing; it is thrown away where that fails, and fsynced as a whole before it counts."""
    connection = sqlite3.connect(f"{new.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "secure_delete=ON", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("PRAGMA journal_mode=MEMORY").fetchall()
    connection.execute("PRAGMA synchronous=OFF").fetchall()
    return connection


def bring_up_to_date(new: Path) -> None:
    """Run the migrations that the copy lacks."""
    with closing(_open(new)) as connection:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        for target, script in sorted(migrations().items()):
            if target <= version:
                continue
            connection.execute("BEGIN")
            for statement in statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={target}")
            connection.execute("COMMIT")


def _drop_secrets(new: Path) -> None:
    """Take away what a backup without secrets does not have: one that was forged lets nobody in."""
    with closing(_open(new)) as connection:
        for statement in _SECRETS:
            connection.execute(statement)


def _require_sound(new: Path, backup: Unpacked, tell: Tell) -> None:
    found = inspect(
        new,
        _take_any,
        lambda name, done, of: tell(f"Checking: {name}", done, of),
        closed=True,
        values=not backup.is_past,  # it was worked with as it is
        enough=True,
    )
    if faults := [fault for step in found.values() for fault in step]:
        raise DamagedDatabaseError(
            f"the database in backup {quoted(backup.name)} is not sound: {faults[0]}; nothing was changed"
        )


def _take_any(_name: str, _text: str) -> None:
    """Judge no system variable: one that this version does not take any more stands at its default, as ever."""


def _state_of(live: Path) -> dict[str, str]:
    """Return what the appliance remembers, but of the present file alone; nothing where it cannot be read."""
    table = table_named("state")
    try:
        with closing(open_quietly(live, closed=True)) as connection:
            rows = connection.execute("SELECT key, value FROM state WHERE key <> ?", (LOST_STATE,)).fetchall()
    except sqlite3.Error:
        return {}
    return {key: value for key, value in rows if table is not None and not table.faults((key, value))}


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Make foreign errors ours; ``what`` could not be done.

    Raises:
        DiskFullError, StoreError: in the place of what SQLite and the system say.
    """
    try:
        yield
    except sqlite3.Error as error:
        kind = DiskFullError if code_of(error).startswith("SQLITE_FULL") else StoreError
        raise kind(f"{what}: {code_of(error)}; nothing was changed") from None
    except OSError as error:
        raise failure(what, error) from None
