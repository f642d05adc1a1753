"""Work has one owner, who keeps it, awaits it, and ends it.

Rules:

* asyncio itself keeps only a weak reference to a task. :class:`Tasks` keeps a strong one until the task has ended.
* A change that must not be torn apart runs as a task of the room that makes it (:meth:`Tasks.finish`). A caller who is
  cancelled goes at once, and the change goes on to its end.
* Work that belongs to a block ends with it (:func:`end`): what the block holds is free only when nothing uses it. No
  thread can be ended, so the block waits for it (:func:`in_thread`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_REMEMBERED_S = 1.0
"""How long what a disk has said is taken for true by those who must not wait for it."""


class Tasks:
    """The tasks of one room."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Return the work as a task, which is kept until it has ended."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def finish(self, change: Coroutine[Any, Any, T], name: str | None = None) -> T:
        """Return what the change returns; it goes on to its end where the caller is cancelled."""
        task = self.begin(change, name)
        return await asyncio.shield(task)

    async def ended(self) -> None:
        """Return once none of the tasks runs."""
        while self._running:
            await asyncio.wait(self._running)


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks, and return once they have ended; nothing of what they return or raise is told."""
    for task in tasks:
        task.cancel()
    await ended(tasks)


async def ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Return once the tasks have ended; a caller who is cancelled meanwhile is cancelled after that."""
    cancelled: asyncio.CancelledError | None = None
    while running := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at: asyncio would log it as never retrieved
    if cancelled is not None:
        raise cancelled


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; a caller who is cancelled meanwhile is cancelled when it has ended."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    finally:
        await ended((task,))


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what the call in a thread returns; a caller who is cancelled leaves when it has ended.

    For calls that use what the caller closes next: a file, a folder. One that may hang for ever has no place here.
    """
    return await whole(asyncio.to_thread(call, *args, **kwargs))


class Lately(Generic[T]):
    """What a call in a thread has returned last: told at once, and read anew behind that, at most once a second.

    For whoever must not wait for a disk, such as Tab; the call raises nothing.
    """

    def __init__(
        self, call: Callable[[], T], first: T, run: Callable[[Callable[[], T]], Awaitable[T]] = asyncio.to_thread
    ) -> None:
        """Begin with a value.

        Args:
            call: What is asked; it only reads.
            first: What counts until it has answered.
            run: Runs it in a thread. Where that raises an ``OSError``, what was told last counts on.
        """
        self._call = call
        self._run = run
        self._value = first
        self._reading: asyncio.Task[None] | None = None
        self._stale = False
        self._asked = self._told = 0
        self._read_at = -_REMEMBERED_S

    @property
    def value(self) -> T:
        """What was read last; where that is a second ago, it is being read again."""
        if asyncio.get_running_loop().time() - self._read_at >= _REMEMBERED_S:
            self.read_again()
        return self._value

    def read_again(self) -> None:
        """Begin to read; where that is going on, read once more after it."""
        self._stale = True
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_until_fresh(), name="reading a folder")

    async def _read_until_fresh(self) -> None:
        while self._stale:
            self._stale = False
            await self.read()

    async def read(self) -> T:
        """Return what the call says now."""
        self._asked += 1
        asked = self._asked
        self._read_at = asyncio.get_running_loop().time()
        try:
            value = await self._run(self._call)  # it only reads: nobody need wait for one that hangs
        except OSError:
            return self._value
        if asked > self._told:  # one that was asked later may have answered sooner
            self._told, self._value = asked, value
        return value

    async def close(self) -> None:
        """Return once nothing is read any more."""
        if self._reading is not None:
            await end(self._reading)


class DaemonPool(ThreadPoolExecutor):
    """asyncio's default executor, whose threads keep no process from its end.

    Work of ours has an owner that waits for it. What is left at the end hangs at a disk, and nobody waits for that.
    """

    def __init__(self, most_threads: int, grace_s: float = 0.5) -> None:
        """Begin without a thread.

        Args:
            most_threads: Begun as they are needed.
            grace_s: What :meth:`shutdown` leaves calls that are under way.
        """
        super().__init__(most_threads)
        self._most_threads = most_threads
        self._grace_s = grace_s
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._begun: list[threading.Thread] = []
        self._free = threading.Semaphore(0)
        self._beginning = threading.Lock()
        self._ended = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a call run in a thread, in its turn."""
        answer: Future[T] = Future()

        def work() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised again where somebody waits
                answer.set_exception(error)

        with self._beginning:
            if self._ended:
                raise RuntimeError("the pool has ended")
            self._waiting.put(work)
            if not self._free.acquire(blocking=False) and len(self._begun) < self._most_threads:
                thread = threading.Thread(target=self._work, name=f"asyncio_{len(self._begun)}", daemon=True)
                self._begun.append(thread)
                thread.start()
        return answer

    def _work(self) -> None:
        while (call := self._waiting.get()) is not None:
            call()
            del call  # the next one may be long in coming
            self._free.release()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; where told to wait, wait for those under way, for the grace in all."""
        with self._beginning:
            self._ended = True
            for _ in self._begun:
                self._waiting.put(None)
        deadline = time.monotonic() + self._grace_s
        for thread in self._begun if wait else ():
            thread.join(max(0.0, deadline - time.monotonic()))
        super().shutdown(wait=False, cancel_futures=cancel_futures)


class Closing(AsyncExitStack):
    """An exit stack that closes all that it has opened: a caller who is cancelled meanwhile is cancelled after that."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return bool(await whole(super().__aexit__(kind, error, traceback)))
