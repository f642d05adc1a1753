"""The state before the last restore, as ``backup/undo`` keeps it: what it is, and as something to be restored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from callisto_telnetd.db.restore.switch import UNDO_NOTE, had_no_settings, is_plain_file, undo_of
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.errors import StoreError, named
from callisto_telnetd.settings import SETTINGS_FILE

_MOST_NOTE_BYTES = 64 << 10
_VERSION_AT = 60  # SQLite, "Database File Format", section 1.3: the user version


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("no zone")
    return text


class _Note(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: int = Field(1, ge=1, le=1)
    at: Annotated[str, AfterValidator(_moment)] = Field(max_length=64)
    restored: str = Field(max_length=1000)
    accounts: bool
    edition: str = Field(max_length=64)
    version: str = Field(max_length=64)
    mark: str = Field(max_length=64)


@dataclass(frozen=True, slots=True)
class PastState:
    """The state before the last restore."""

    at: str
    """When it gave way: the appliance's time, ISO 8601."""
    restored: str
    """The name of what took its place."""
    mark: str
    """Which run of a restore it gave way to."""
    backup: Unpacked


def note_text(*, at: str, restored: str, accounts: bool, edition: str, version: str, mark: str) -> str:
    """Return what is kept beside a state that gives way.

    Args:
        at: When.
        restored: The name of what takes its place.
        accounts: Whether the accounts give way, too; else an undo leaves them as they are.
        edition: The appliance's.
        version: The product's.
        mark: Which run of a restore it is.
    """
    note = _Note(format=1, at=at, restored=restored, accounts=accounts, edition=edition, version=version, mark=mark)
    return note.model_dump_json()


def read_past(live: Path) -> PastState | None:
    """Return the state before the last restore, None where there is none; waits for the disk.

    Raises:
        StoreError: what is there cannot be used.
    """
    folder = undo_of(live)
    try:
        if not is_plain_file(folder / UNDO_NOTE):
            return None
        with (folder / UNDO_NOTE).open("rb") as stream:
            note = _Note.model_validate_json(stream.read(_MOST_NOTE_BYTES))
        schema = _schema_of(folder / live.name)
    except ValidationError:
        raise StoreError(f"{named(folder / UNDO_NOTE)} is none of Callisto's; nothing was changed") from None
    except OSError as error:
        raise StoreError(f"{named(folder)} cannot be read: {error.strerror}; nothing was changed") from None
    settings = folder / SETTINGS_FILE
    return PastState(
        note.at,
        note.restored,
        note.mark,
        Unpacked(
            name="the state before the last restore",
            database=folder / live.name,
            settings=settings if is_plain_file(settings) else None,
            recordings=None,
            schema=schema,
            version=note.version,
            edition=note.edition,
            secrets=note.accounts,
            without_settings=had_no_settings(folder),
            is_past=True,
        ),
    )


def _schema_of(file: Path) -> int:
    """Return what the file says of its schema; 0 where it says nothing, or there was no database."""
    if not is_plain_file(file):
        return 0
    with file.open("rb") as stream:
        return int.from_bytes(stream.read(_VERSION_AT + 4)[_VERSION_AT:], "big")
