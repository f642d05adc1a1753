"""When consoles send what they have joined while their actions go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callisto_telnetd.terminal.console import Console

_FLUSH_S = 0.01


class Flusher:
    """Sends what consoles have joined while their actions go on: one timer for all of them, at most every 10 ms."""

    def __init__(self) -> None:
        self._due: set[Console] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, console: Console) -> None:
        """Flush the console within 10 ms, unless it does so itself before."""
        self._due.add(console)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)

    def discard(self, console: Console) -> None:
        """Forget a console that has flushed."""
        self._due.discard(console)

    def _flush(self) -> None:
        self._timer = None
        for console in list(self._due):
            console.flush()
