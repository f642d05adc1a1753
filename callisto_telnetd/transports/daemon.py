"""Calls that may hang for ever: a resolver, a mount whose server is gone.

Each runs in a daemon thread: who waits leaves at the deadline, and neither the pool that other work needs nor the exit
of the process waits for that thread. Its late answer is dropped.

What a late call may still write to must stay its own. So a thread owns what its calls open, and closes it itself once
the last of them has returned: a descriptor that is closed elsewhere may be another file by then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar, cast

from callisto_telnetd.named_file import DEADLINE_S, no_answer, placed

_T = TypeVar("_T")


def _release_nothing() -> None:
    """Close nothing: the calls have opened nothing."""


class DaemonThread:
    """Runs calls in a thread of its own, one after the other, until :meth:`end`."""

    def __init__(self, name: str, release: Callable[[], None] = _release_nothing) -> None:
        """Start it; ``release`` is its last act, and closes what the calls have opened."""
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._release = release
        self._ended = asyncio.Event()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, call: Callable[[], _T]) -> _T:
        """Run ``call``, and return or raise what it does; give the wait a deadline.

        One that nobody waits for any more when its turn comes is not begun.
        """
        answer: asyncio.Future[_T] = self._loop.create_future()

        def settle(value: _T | None, error: Exception | None) -> None:
            if answer.done():
                return  # the deadline came first, or the caller was cancelled
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(cast("_T", value))

        def work() -> None:
            if answer.done():
                return
            value, failure = None, None
            try:
                value = call()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again where somebody waits
                failure = error
            self._tell(lambda: settle(value, failure))

        self._calls.put(work)
        return await answer

    def post(self, call: Callable[[], None]) -> None:
        """Have ``call`` run in its turn, whether anybody waits or not; it raises nothing."""
        self._calls.put(call)

    async def end(self, seconds: float) -> None:
        """End the thread after what was asked of it; wait for that so long at most."""
        self._calls.put(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
        self._release()
        self._tell(self._ended.set)

    def _tell(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any longer
            self._loop.call_soon_threadsafe(call)


async def look(path: Path, call: Callable[[], _T], seconds: float = DEADLINE_S) -> _T:
    """Run one call on a path that a person has named, beside the loop.

    Args:
        path: Whose disk is asked.
        call: Opens nothing that it does not close itself.
        seconds: How long it is waited for; whoever is cancelled leaves at once.

    Raises:
        OSError: the call's own; or its disk does not answer in time, or too many others wait for it.
    """
    work = placed(path, call, seconds)
    try:
        async with asyncio.timeout(seconds):
            return await in_daemon(work, "look")
    except TimeoutError as error:
        raise error if error.errno else no_answer(seconds) from None


async def in_daemon(call: Callable[[], _T], name: str) -> _T:
    """Run one call in a thread of its own, and return or raise what it does; give the wait a deadline."""
    thread = DaemonThread(name)
    try:
        return await thread.run(call)
    finally:
        await thread.end(0)
