"""What is to outlast a power failure: files and names are brought to the disk before anything stands on them."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Return once a file, or the names in a folder, are on the disk.

    Raises:
        OSError: the disk does not say so.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(file: Path, content: bytes, *, over: bool = False) -> None:
    """Write a file for its owner alone, and return once its content is on the disk; its name may not be yet.

    Args:
        file: Its name.
        content: All of it.
        over: Whether one of that name may be there, and is emptied first.

    Raises:
        OSError: it cannot be written, or one is there.
    """
    how = os.O_TRUNC if over else os.O_EXCL
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | how | os.O_CLOEXEC, 0o600)
    try:
        while content:  # a disk that fills up takes a part, and refuses the rest
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
