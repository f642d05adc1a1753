"""Long work shown while it goes on: each step, its pace, and how much time is left."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Generic, Self, TypeVar

from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.quantities import format_bytes, format_duration
from callisto_telnetd.work import end

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


class Steps(Generic[Outcome]):
    """The lines of work that goes on, then its result."""

    def __init__(self, shown: Pace | Quarters) -> None:
        self._shown = shown
        self._lines: deque[str] = deque(maxlen=_MOST_STEPS)
        self._news = asyncio.Event()
        self._work: asyncio.Task[Outcome] | None = None

    def follow(self, work: asyncio.Task[Outcome]) -> None:
        """Take this for the work."""
        self._work = work
        work.add_done_callback(lambda _: self._news.set())

    def told(self, told: Progress) -> None:
        """Take what is told of the work's progress."""
        if line := self._shown.line(told):
            self._lines.append(line)
            self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """Return the next line; the work has ended where there is none."""
        while not self._lines:
            if self._work is None or self._work.done():
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._lines.popleft()

    @property
    def result(self) -> Outcome:
        """What the work has returned; raises what it has raised."""
        if self._work is None:
            raise asyncio.InvalidStateError("the work has not begun")
        return self._work.result()


@asynccontextmanager
async def progress(
    begin: Callable[[Callable[[Progress], None]], Coroutine[Any, Any, Outcome]], shown: Pace | Quarters | None = None
) -> AsyncIterator[Steps[Outcome]]:
    """Begin work that belongs to the block: leaving the block cancels the work, and waits for its end.

    What the block holds meanwhile (a lock, a folder) is so held for as long as anything uses it.

    Args:
        begin: Begins the work, given what is to be told of its progress.
        shown: Makes the lines; bytes with their pace where none is given.
    """
    steps: Steps[Outcome] = Steps(shown or Pace())
    work = asyncio.create_task(begin(steps.told), name="progress")
    steps.follow(work)
    try:
        yield steps
    finally:
        await end(work)
