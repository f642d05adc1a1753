"""A capture that is read: a file of the data folder, or any that the owner has named, whose disk may not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from callisto_telnetd.named_file import DEADLINE_S, no_answer
from callisto_telnetd.trace.reading import CaptureReader, Entry
from callisto_telnetd.transports.daemon import DaemonThread

_T = TypeVar("_T")


class OpenCapture:
    """Reads a capture in a thread of its own, which alone opens and closes the file."""

    def __init__(self) -> None:
        self._reader: CaptureReader | None = None
        self._thread = DaemonThread("trace-file", self._release)

    async def open(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be opened, is no regular file, or its disk does not answer in time.
        """
        await self._do(lambda: self._open(path))

    async def lines(self) -> list[str]:
        """Return the next lines, none at the end; raises as :meth:`open`."""
        return await self._do(lambda: self._reader.lines() if self._reader else [])

    async def entries(self) -> list[Entry | str]:
        """Return the next records, and as text the lines that hold none; raises as :meth:`open`."""
        return await self._do(lambda: self._reader.entries() if self._reader else [])

    async def close(self) -> None:
        """Let the file go; a call that hangs closes it when it returns."""
        await self._thread.end(0)

    async def _do(self, call: Callable[[], _T]) -> _T:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._thread.run(call)
        except TimeoutError as error:
            raise (error if error.errno else no_answer(DEADLINE_S)) from None

    # What follows runs in the thread.

    def _open(self, path: Path) -> None:
        self._reader = CaptureReader(path)

    def _release(self) -> None:
        if self._reader is not None:
            self._reader.close()
