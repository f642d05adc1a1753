"""A look at a file that a person has named, which may lie on a mount whose server is gone.

It runs in a daemon thread: whoever asks leaves at the deadline, and nobody else waits for that disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from callisto_telnetd.errors import BackupError, quoted
from callisto_telnetd.transports.daemon import in_daemon

_T = TypeVar("_T")
_DEADLINE_S = 10.0
"""A disk that has gone to sleep takes some seconds."""


async def look_up(name: str, call: Callable[[], _T]) -> _T:
    """Return what the call returns, or raise what it raises.

    Args:
        name: What is looked at, for the error.
        call: Opens nothing that it does not close itself.

    Raises:
        BackupError: there is no answer for ten seconds.
    """
    try:
        async with asyncio.timeout(_DEADLINE_S):
            return await in_daemon(call, "backup-look")
    except TimeoutError:
        raise BackupError(
            f"{quoted(name)} cannot be looked at: its disk does not answer within {_DEADLINE_S:.0f} s; nothing was"
            " changed"
        ) from None
