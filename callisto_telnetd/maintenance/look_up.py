"""A look at a file that a person has named, which may lie on a mount whose server is gone.

It runs in a daemon thread: whoever asks leaves at the deadline, and nobody else waits for that disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from callisto_telnetd.errors import BackupError, quoted
from callisto_telnetd.named_file import DEADLINE_S
from callisto_telnetd.transports.daemon import look

_T = TypeVar("_T")
_DEADLINE_S = DEADLINE_S


async def look_up(name: str, path: Path, call: Callable[[], _T]) -> _T:
    """Return what the call returns, or raise what it raises.

    Args:
        name: What is looked at, for the error.
        path: Whose disk is asked.
        call: Opens nothing that it does not close itself.

    Raises:
        BackupError: there is no answer in time.
    """
    try:
        return await look(path, call, _DEADLINE_S)
    except OSError as error:
        raise BackupError(f"{quoted(name)} cannot be looked at: {error.strerror}; nothing was changed") from None
