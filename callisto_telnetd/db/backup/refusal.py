"""How an archive is refused: in one line with its name, by parts that do not know the name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from callisto_telnetd.errors import BackupError

FILE = "{file}"
"""Stands in an error for the archive's name."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put an archive's name into the errors of the block."""
    try:
        yield
    except BackupError as error:
        raise type(error)(str(error).replace(FILE, repr(path.name))) from None


@contextmanager
def reading() -> Iterator[None]:
    """Refuse an archive where the system cannot read it in the block."""
    try:
        yield
    except OSError as error:
        raise BackupError(f"{FILE} cannot be read: {error.strerror}") from None


def refuse(reason: str) -> NoReturn:
    """Refuse an archive of ours that is not as it has to be."""
    raise BackupError(f"{FILE} is refused: {reason}; nothing was changed")


def refuse_foreign() -> NoReturn:
    """Refuse what is no archive of ours."""
    raise BackupError(f"{FILE} is no backup of Callisto's, or is cut off; nothing was changed")
