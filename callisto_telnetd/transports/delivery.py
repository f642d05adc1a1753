"""Bringing a copy to its target, however often the connection is cut on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from callisto_telnetd.errors import TransferInterruptedError
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import Patience, Tell

PAUSES_S: Final = (2.0, 10.0, 45.0, 180.0)
"""Between tries, growing: a cut line is back in seconds, a server that starts anew in minutes."""
MOST_TRIES: Final = len(PAUSES_S) + 1

Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A copy that has arrived, and was read back."""

    size: int
    sha256: str
    tries: int
    """1 where nothing went wrong."""


async def deliver(
    target: Target,
    credentials: Credentials,
    local: Path,
    name: str,
    told: Tell,
    *,
    patience: Patience | None = None,
    pause: Pause = asyncio.sleep,
) -> Delivery:
    """Upload ``local`` as ``name``, in at most ``MOST_TRIES`` tries.

    Only what may pass is tried again: a lost connection, a silent or a busy server, a copy that did not arrive whole. A
    refusal (log-in, host key, certificate, permission, room, name) ends it at once.

    Args:
        target: where to.
        credentials: what it wants to see.
        local: the file; it must not change meanwhile.
        name: letters, digits, ``.``, ``_``, ``-``.
        told: is told of each step; before a pause, of what went wrong, and when it is tried again.
        patience: the deadlines of each try.
        pause: waits between tries.

    Raises:
        TransferError: refused, or the last try failed too; no file of that name is there, unless
            :class:`~callisto_telnetd.errors.NameTakenError` says so.
    """
    for tried in range(1, MOST_TRIES + 1):
        try:
            async with open_transport(target, credentials, patience) as transport:
                moved = await transport.upload(local, name, told)
            return Delivery(moved.size, moved.sha256, tried)
        except TransferInterruptedError as error:
            if tried == MOST_TRIES:
                raise TransferInterruptedError(f"{error}; given up after {MOST_TRIES} tries") from error
            seconds = PAUSES_S[tried - 1]
            told(f"{error}; try {tried + 1} of {MOST_TRIES} in {seconds:g} s", 0, 0)
            await pause(seconds)
    raise AssertionError("the last try returns or raises")
