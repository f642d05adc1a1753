"""Long work shown while it goes on: each step, its pace, and how much time is left."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.quantities import format_bytes, format_duration

_MOST_STEPS = 100
_TELL_S = 1.0


class Pace:
    """Turns what a worker tells into lines: each step as it begins, then at most one a second, with rate and rest."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._step = ""
        self._begun = self._said = 0.0
        self._first = 0

    def line(self, progress: Progress) -> str | None:
        """Return a line for what was told now, None where there is nothing new to say."""
        step, done, of = progress
        now = self._now()
        if step != self._step:
            self._step, self._begun, self._said, self._first = step, now, now, done
            return f"{step} …"
        if not of or done >= of or now - self._said < _TELL_S:
            return None
        self._said = now
        rate = (done - self._first) / (now - self._begun)
        left = f", {format_duration((of - done) / rate + 1)} left" if rate > 0 else ""
        return f"{step}: {done * 100 // of} % done, {format_bytes(int(rate))}/s{left}"


Outcome = TypeVar("Outcome")


class Quarters:
    """Turns what a worker tells into lines: each step as it begins, then each quarter of it."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, int]] = set()

    def line(self, progress: Progress) -> str | None:
        """Return a line for what was told now, None where there is nothing new to say."""
        quarter = progress.done * 4 // progress.of if progress.of else 0
        if (progress.step, quarter) in self._seen:
            return None
        self._seen.add((progress.step, quarter))
        return f"{progress.step}: {quarter * 25} % done" if quarter else f"{progress.step} …"


async def follow(
    begin: Callable[[Callable[[Progress], None]], Awaitable[Outcome]], shown: Pace | Quarters | None = None
) -> AsyncIterator[str | Outcome]:
    """Yield lines of progress, then the outcome. A caller who goes away ends the work, and waits for its end.

    Args:
        begin: Begins the work, given what is to be told of its progress.
        shown: Makes the lines; bytes with their pace where none is given.
    """
    lines: deque[str] = deque(maxlen=_MOST_STEPS)
    news, pace = asyncio.Event(), shown or Pace()

    def told(progress: Progress) -> None:
        if line := pace.line(progress):
            lines.append(line)
            news.set()

    work = asyncio.ensure_future(begin(told))
    work.add_done_callback(lambda _: news.set())
    try:
        while not work.done() or lines:
            await news.wait()
            news.clear()
            while lines:
                yield lines.popleft()
        yield work.result()
    finally:
        work.cancel()
        await asyncio.wait((work,))
