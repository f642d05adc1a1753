"""A target that is this appliance's own folder is none: the copy would be gone with what it is a copy of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from callisto_telnetd.errors import BackupError, TargetError, named
from callisto_telnetd.maintenance.look_up import look_up
from callisto_telnetd.transports.target import Target


async def require_outside(data: Path, target: Target) -> None:
    """Refuse a target within the data folder, by whatever link or mount it is reached.

    One whose disk does not answer is let through: whoever sends something there is told.

    Raises:
        TargetError: it is within.
    """
    if target.scheme != "file":
        return
    within = False
    with suppress(BackupError):
        within = await look_up(target.folder, Path(target.folder), partial(_is_within, data, Path(target.folder)))
    if within:
        raise TargetError(
            f"{named(Path(target.folder))} is within the data folder {named(data)}: a copy there is lost with it; name"
            " a folder on another disk; nothing was changed"
        )


def _is_within(data: Path, folder: Path) -> bool:
    """Whether a folder is the data folder or below it.

    By its path, links followed, also where it is not there yet; and by the numbers of device and file, which a second
    mount of the same folder has too.
    """
    real, own = Path(os.path.realpath(folder)), Path(os.path.realpath(data))
    if real.is_relative_to(own):
        return True
    known = set(_numbers((own, *_folders_in(own))))
    return any(number in known for number in _numbers((real, *real.parents)))


def _folders_in(own: Path) -> list[Path]:
    try:
        with os.scandir(own) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _numbers(folders: tuple[Path, ...]) -> Iterator[tuple[int, int]]:
    for folder in folders:
        try:
            status = folder.stat()
        except OSError:
            continue
        yield status.st_dev, status.st_ino
