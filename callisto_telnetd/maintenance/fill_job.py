"""What the worker does to fill up what a repair has lost: a look at a backup, and the rows taken out of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from callisto_telnetd.db.known_damage import known_damage
from callisto_telnetd.db.media import Media
from callisto_telnetd.db.memory import Change
from callisto_telnetd.db.own_form import copy_in_encoding, layout_of
from callisto_telnetd.db.restore.staging import add_recordings, bring_up_to_date, translated
from callisto_telnetd.db.restore.switch import unpacked_of
from callisto_telnetd.db.salvage.fill import Wanted, fill, look, recordings_wanted
from callisto_telnetd.errors import DamagedDatabaseError
from callisto_telnetd.maintenance.worker import Tell


def look_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Return how many rows ``backup`` has that ``live`` has lost, by table; ``own`` is whether that file is ours."""
    live, backup = Path(order["live"]), Path(order["backup"])
    os.environ["SQLITE_TMPDIR"] = str(live.parent)
    tell("Looking for lost rows", 0, 0)
    if order["own"]:
        with translated("the backup cannot be brought up to date"):
            bring_up_to_date(backup)
    with _of_one_encoding(live, backup) as usable:
        return look(live, usable, Wanted(**order["wanted"]))


def fill_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Take the lost rows of ``live``, which nobody has open, out of ``backup``, their recordings first.

    Raises:
        StoreError: nothing was changed; ``live`` is known to be damaged, among others.
    """
    live, backup = Path(order["live"]), Path(order["backup"])
    if damage := known_damage(live):
        raise DamagedDatabaseError(f"the database is damaged: {damage}; nothing was changed; 'repair' helps")
    os.environ["SQLITE_TMPDIR"] = str(live.parent)
    tell("Taking lost rows", 0, 0)
    media = live.with_name("media")
    with _of_one_encoding(live, backup) as usable:
        wanted = recordings_wanted(live, usable, Path(order["recordings"])) if order["recordings"] else []
        with translated("the recordings cannot be added"), Media(media).filling("a set of recordings"):
            add_recordings(media, [path for path in wanted if not (media / path.name).exists()])
        return fill(live, usable, Wanted(**order["wanted"]), order["found"], Change(**order["change"]))


@contextmanager
def _of_one_encoding(live: Path, backup: Path) -> Iterator[Path]:
    """Give the backup, or a copy of it in the encoding of the live database, which is gone after that.

    Raises:
        DiskFullError, StoreError: no copy can be made.
    """
    with translated("the backup cannot be read"):
        encoding = layout_of(live).encoding
        if layout_of(backup).encoding == encoding:
            place = None
        else:
            unpacked_of(live).mkdir(mode=0o700, exist_ok=True)
            place = Path(mkdtemp(dir=unpacked_of(live)))
    try:
        if place is not None:
            with translated("the backup cannot be written in the encoding of the database"):
                copy_in_encoding(backup, place / "callisto.db", encoding)
            backup = place / "callisto.db"
        yield backup
    finally:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)  # what stays is removed at the next start
            with suppress(OSError):  # others look at theirs
                place.parent.rmdir()
