"""Work on the whole database that belongs to the appliance, not to the session that began it; anybody may follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

from callisto_telnetd.maintenance.workshop import Progress

_TELL_S = 1.0

Result = TypeVar("Result")


class Run(Generic[Result]):
    """One piece of work that runs, or has ended."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Result] | None = None
        self._steps: list[Progress] = []
        self._followers: set[asyncio.Event] = set()

    def told(self, progress: Progress) -> None:
        """Take what the worker tells."""
        if self._steps and self._steps[-1].step == progress.step:
            self._steps[-1] = progress
        else:
            self._steps.append(progress)
        self._wake()

    def _wake(self) -> None:
        for each in self._followers:
            each.set()

    def ended(self, _task: object) -> None:
        """Let the followers go."""
        self._wake()

    async def follow(self) -> AsyncGenerator[Progress, None]:
        """Yield each step as it begins, and how far it has come at most once a second, until the work has ended."""
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        self._followers.add(news)
        shown = 0
        last: Progress | None = None
        try:
            while True:
                while shown < len(self._steps):
                    last, shown, at = self._steps[shown], shown + 1, loop.time()
                    yield last
                if self.task is None or self.task.done():
                    return
                news.clear()
                await news.wait()
                if (
                    last is not None
                    and shown == len(self._steps)
                    and last != self._steps[-1]
                    and loop.time() - at >= _TELL_S
                ):
                    last, at = self._steps[-1], loop.time()
                    yield last
        finally:
            self._followers.discard(news)
