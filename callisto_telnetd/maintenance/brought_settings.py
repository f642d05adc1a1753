"""The settings that a restore brings: all of a backup's for the owner, and for all others what any door may bring."""

from __future__ import annotations

import secrets
import shutil
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from callisto_telnetd.db.durable import write
from callisto_telnetd.db.restore.settings_file import changed_settings, is_settings_file
from callisto_telnetd.db.restore.switch import SETTINGS_FILE, unpacked_of
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.errors import RestoreError
from callisto_telnetd.origin import Origin
from callisto_telnetd.settings.brought import brought_by_any_door
from callisto_telnetd.settings.toml_text import format_toml
from callisto_telnetd.work import in_thread

_HEAD = (
    f"# Written by a restore over the network: what the owner alone may bring is as it was in {SETTINGS_FILE} before.\n"
)


@dataclass(frozen=True, slots=True)
class Brought:
    """A backup with the settings that it may bring."""

    backup: Unpacked
    left_out: tuple[str, ...] = ()
    """The keys that stay as they are, although the backup has others."""
    refusal: RestoreError | None = None
    """Why what is the owner's cannot be told from the rest."""


@asynccontextmanager
async def brought_by(origin: Origin, backup: Unpacked, live: Path) -> AsyncIterator[Brought]:
    """Have a backup at hand with the settings that it may bring; a file that is made for that goes again.

    Args:
        origin: Who restores it. The owner brings all of it.
        backup: Its settings are not judged yet.
        live: The database, beside which the present settings stand.
    """
    if origin.is_owner or (backup.settings is None and not backup.without_settings):
        yield Brought(backup)
        return
    place = unpacked_of(live) / secrets.token_hex(8)
    try:
        try:
            brought = await in_thread(_bring, backup, live.with_name(SETTINGS_FILE), place)
        except RestoreError as error:
            brought = Brought(replace(backup, settings=None, without_settings=False), refusal=error)
        yield brought
    finally:
        await in_thread(_remove, place)


def _bring(backup: Unpacked, now: Path, place: Path) -> Brought:
    try:
        if now.is_symlink() or (backup.settings is not None and not is_settings_file(backup.settings)):
            return Brought(backup)  # the one stays whatever comes, the other is refused by whoever looks at it
        present = _read(now) if now.exists() else {}
        if present is None:
            raise RestoreError(
                f"{SETTINGS_FILE} here is not TOML, and which of its settings are the owner's alone is not known:"
                " mend it, or restore with 'keep-settings'; nothing was changed"
            )
        then = {} if backup.settings is None else _read(backup.settings)
        if then is None and not backup.is_past:
            return Brought(backup)  # no server would start with it, and that is what the plan says
        if then is None:
            raise RestoreError(f"{SETTINGS_FILE} of {backup.name} is not TOML; nothing was changed")
        return _merge(backup, now, place, present, then)
    except OSError as error:
        raise RestoreError(f"the settings cannot be looked at: {error.strerror}; nothing was changed") from None


def _merge(backup: Unpacked, now: Path, place: Path, present: dict[str, Any], then: dict[str, Any]) -> Brought:
    values = brought_by_any_door(present, then)
    if values == then:
        return Brought(backup)  # its own text, with the comments
    place.parent.mkdir(mode=0o700, exist_ok=True)
    place.mkdir(mode=0o700)
    made = place / SETTINGS_FILE
    write(made, (_HEAD + format_toml(values)).encode())
    wanted, coming = changed_settings(now, backup.settings), changed_settings(now, made)
    left_out = tuple(key for key in wanted if key not in coming)
    return Brought(replace(backup, settings=made, without_settings=False), left_out)


def _read(file: Path) -> dict[str, Any] | None:
    """Return what a file says; None where it is no TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)  # what stays is removed at the next start
    with suppress(OSError):  # others look at theirs
        place.parent.rmdir()
