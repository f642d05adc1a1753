"""What a restore would do, as data, found out beside an appliance that works: nothing is changed for it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from callisto_telnetd.db.restore.judgement import Content, content_of, judge
from callisto_telnetd.db.restore.staging import free_bytes, missing_recordings, needed_bytes
from callisto_telnetd.db.restore.switch import SETTINGS_FILE, failure, is_plain_file
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.db.schema import migrations
from callisto_telnetd.db.tables import TABLES
from callisto_telnetd.errors import DamagedDatabaseError, RestoreError


@dataclass(frozen=True, slots=True)
class TableChange:
    """How many rows a table has, and would have."""

    table: str
    now: int | None
    """None where the present database cannot be read."""
    then: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the files say of a restore; whoever asks adds what only the running appliance knows."""

    schema: int
    schema_here: int
    tables: tuple[TableChange, ...]
    variables: Mapping[str, str]
    """What would be stored then, by name."""
    settings: tuple[str, ...] | None
    """The keys of ``callisto.toml`` that would change; None where the file stays as it is. Values may be secrets."""
    recordings: int
    """How many would be added, and how large they are."""
    recordings_bytes: int
    accounts: tuple[str, ...]
    """Those in the backup."""
    needed_bytes: int
    free_bytes: int
    notes: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """Return it as the worker tells it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_data` wrote."""
        tables = tuple(TableChange(**each) for each in data["tables"])
        settings = None if data["settings"] is None else tuple(data["settings"])
        lists = {key: tuple(data[key]) for key in ("accounts", "notes")}
        return cls(**{**data, **lists, "tables": tables, "settings": settings})


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
    schema = judge(backup)
    then = content_of(backup.database, closed=True)
    now: Content | None = None
    notes = []
    try:
        now = content_of(live, closed=False)
    except DamagedDatabaseError as error:
        notes.append(f"what is there now is not known: {error}")
    if not backup.secrets and backup.is_past:
        notes.append("the accounts stay as they are")
    elif not backup.secrets:
        notes.append("the accounts stay as they are; no mailbox has a PIN afterwards: the backup holds no secrets")
    elif not then.accounts:
        notes.append("the accounts stay as they are: the backup holds none")
    settings = None
    if (backup.settings is not None or backup.without_settings) and live.with_name(SETTINGS_FILE).is_symlink():
        notes.append(f"{SETTINGS_FILE} is a link to some other place, and stays as it is")
    elif backup.settings is not None or backup.without_settings:
        settings = changed_settings(live.with_name(SETTINGS_FILE), backup.settings)
        if settings:
            notes.append(f"{SETTINGS_FILE} counts from the next start of the server")
    try:
        missing = [size for _, size in missing_recordings(live.with_name("media"), backup)]
        needed, free = needed_bytes(live, backup), free_bytes(live)
    except OSError as error:
        raise failure("the disk of the database cannot be looked at", error) from None
    return Outlook(
        schema=schema,
        schema_here=max(migrations()),
        tables=tuple(
            TableChange(each.name, now.rows.get(each.name, 0) if now else None, then.rows.get(each.name, 0))
            for each in TABLES
        ),
        variables=then.variables,
        settings=settings,
        recordings=len(missing),
        recordings_bytes=sum(missing),
        accounts=then.accounts,
        needed_bytes=needed,
        free_bytes=free,
        notes=tuple(notes),
    )


def changed_settings(now: Path, then: Path | None) -> tuple[str, ...]:
    """Return the keys in which two settings files differ, as in ``telnet.port``; one that is not there has none.

    Raises:
        RestoreError: the new one is not TOML.
    """
    try:
        new = _flat(tomllib.loads(then.read_text(encoding="utf-8"))) if then is not None else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        raise RestoreError(
            f"{SETTINGS_FILE} in the backup cannot be read, or is not TOML; nothing was changed"
        ) from None
    old: dict[str, object] = {}
    try:
        if is_plain_file(now):
            old = _flat(tomllib.loads(now.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return tuple(sorted(new))
    return tuple(sorted(key for key in {*old, *new} if key not in old or key not in new or old[key] != new[key]))


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found
