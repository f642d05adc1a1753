"""What a restore would do, as data, found out beside an appliance that works: nothing is changed for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.memory import Kept, preview
from callisto_telnetd.db.restore.judgement import Content, content_of, judge
from callisto_telnetd.db.restore.outlook import Outlook, TableChange
from callisto_telnetd.db.restore.settings_file import changed_settings
from callisto_telnetd.db.restore.staging import (
    copy_for,
    free_bytes,
    missing_recordings,
    needed_bytes,
    require_settings_file,
    translated,
)
from callisto_telnetd.db.restore.switch import SETTINGS_FILE, failure
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.db.schema import migrations
from callisto_telnetd.db.snapshot import Verdict
from callisto_telnetd.db.tables import TABLES
from callisto_telnetd.errors import DamagedDatabaseError

NEVER = "1970-01-01T00:00:00+00:00"
"""The moment at which a plan sets rows apart: in a copy that nobody keeps."""


def look_ahead(live: Path, backup: Unpacked) -> Outlook:
    """Return what a restore would do.

    Args:
        live: The present database, which may be in use.
        backup: Its database is judged first; a part that cannot be used is an error and no outlook.

    Raises:
        NewerSchemaError: the backup is a newer version's.
        ForeignDatabaseError, DamagedDatabaseError: its database cannot be used.
        RestoreError: another part of it cannot.
        StoreError: the disk cannot be looked at.
    """
    verdict = judge(backup)
    with _database_then(backup, verdict) as database, translated("the backup cannot be looked at"):
        then = content_of(database, closed=True)
        memory = preview(live, database)
    now: Content | None = None
    notes = []
    try:
        now = content_of(live, closed=False)
    except DamagedDatabaseError as error:
        notes.append(f"what is there now is not known: {error}")
    notes += [
        f"{table} here is damaged: entries of it that can be read stay ({kept.now})"
        for table, kept in memory.items()
        if not kept.whole
    ]
    if not backup.secrets and backup.is_past:
        notes.append("the accounts stay as they are")
    elif not backup.secrets:
        notes.append("the accounts stay as they are; no mailbox has a PIN afterwards: the backup holds no secrets")
    elif not then.accounts:
        notes.append("the accounts stay as they are: the backup holds none")
    settings = _settings_then(live.with_name(SETTINGS_FILE), backup, notes)
    try:
        missing = [size for _, size in missing_recordings(live.with_name("media"), backup)]
        needed, free = needed_bytes(live, backup), free_bytes(live)
    except OSError as error:
        raise failure("the disk of the database cannot be looked at", error) from None
    return Outlook(
        schema=verdict.schema,
        schema_here=max(migrations()),
        tables=tuple(_table_change(each.name, now, then, memory) for each in TABLES),
        variables=then.variables,
        settings=settings,
        recordings=len(missing),
        recordings_bytes=sum(missing),
        accounts=then.accounts,
        needed_bytes=needed,
        free_bytes=free,
        doubtful=Doubtful() if backup.is_past else verdict.doubtful,
        notes=tuple(notes),
    )


def _table_change(table: str, now: Content | None, then: Content, memory: Mapping[str, Kept]) -> TableChange:
    """Return what becomes of a table's rows; those of the appliance's memory stay, whatever is in the backup."""
    if table in memory:
        kept = memory[table]
        return TableChange(table, kept.now if now else None, kept.then, added=kept.then - kept.now)
    return TableChange(table, now.rows.get(table, 0) if now else None, then.rows.get(table, 0))


@contextmanager
def _database_then(backup: Unpacked, verdict: Verdict) -> Iterator[Path]:
    """Have the database at hand that would be put in place; doubtful rows are set apart in a copy."""
    if backup.is_past or not verdict.doubtful:
        yield backup.database
        return
    copy = backup.database.with_name(f"{backup.database.name}.ahead")
    try:
        with translated("the backup cannot be looked at"):
            copy_for(backup, copy, lambda *_told: None, at=NEVER)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _settings_then(now: Path, backup: Unpacked, notes: list[str]) -> tuple[str, ...] | None:
    """Return the keys that would change, None where the file stays; add what is to be known of it to the notes."""
    try:
        if backup.settings is not None:
            require_settings_file(backup.settings)
    except OSError as error:
        raise failure(f"{SETTINGS_FILE} in the backup cannot be looked at", error) from None
    if backup.settings is None and not backup.without_settings:
        return None
    if now.is_symlink():
        notes.append(f"{SETTINGS_FILE} is a link to some other place, and stays as it is")
        return None
    changed = changed_settings(now, backup.settings)
    if changed:
        notes.append(f"{SETTINGS_FILE} counts from the next start of the server")
    return changed
