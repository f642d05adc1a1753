from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

import pytest

from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.menus.progress import progress
from callisto_telnetd.work import Lately, Tasks, end, ended, in_thread


class Slow:
    """Work that tells a step, and takes as long over its end as the test wants."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ended = False

    async def run(self, told: Callable[[Progress], None]) -> str:
        told(Progress("Counting", 0, 0))
        self.told.set()
        try:
            await asyncio.Event().wait()
        finally:
            while not self.may_end.is_set():  # a worker that is killed takes its time, however often one asks
                with suppress(asyncio.CancelledError):
                    await self.may_end.wait()
            self.ended = True
        return "counted"


async def show(slow: Slow, lock: asyncio.Lock) -> AsyncGenerator[str, None]:
    """Show the work's lines while a lock is held."""
    async with lock, progress(slow.run) as steps:
        async for line in steps:
            yield line
        yield steps.result


async def drained_without_end(lines: AsyncGenerator[str, None]) -> None:
    """Take a line, then wait for a peer who reads no more, as a door does."""
    async with aclosing(lines):
        async for _ in lines:
            await asyncio.Event().wait()


@pytest.mark.parametrize("cancellations", [1, 2, 3])
async def test_a_lock_is_free_only_when_the_work_under_it_has_ended(cancellations: int) -> None:
    """A caller who is cancelled while his door drains waits for the end of the work, however often he is cancelled."""
    slow, lock = Slow(), asyncio.Lock()
    caller = asyncio.create_task(drained_without_end(show(slow, lock)))
    await slow.told.wait()
    for _ in range(cancellations):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (lock.locked(), caller.done()) == (True, False)

    slow.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (slow.ended, lock.locked()) == (True, False)


async def test_progress_gives_every_line_and_then_the_result() -> None:
    """The lines come in their order, and the result is there when they have ended."""

    async def count(told: Callable[[Progress], None]) -> int:
        told(Progress("One", 0, 0))
        await asyncio.sleep(0)
        told(Progress("Two", 0, 0))
        return 2

    async with progress(count) as steps:
        assert ([line async for line in steps], steps.result) == (["One …", "Two …"], 2)


async def test_progress_raises_what_the_work_raises_after_its_lines() -> None:
    """Work that fails has its lines shown, then its error is the caller's."""

    async def fail(told: Callable[[Progress], None]) -> int:
        told(Progress("One", 0, 0))
        raise ValueError("no")

    async with progress(fail) as steps:
        assert [line async for line in steps] == ["One …"]
        with pytest.raises(ValueError, match="no"):
            _ = steps.result


async def test_a_change_goes_on_where_its_caller_is_cancelled() -> None:
    """A shielded change is kept until its end, though nobody but its owner knows of it."""
    tasks, begun, go_on, done = Tasks(), asyncio.Event(), asyncio.Event(), []

    async def change() -> None:
        begun.set()
        await go_on.wait()
        done.append("changed")

    caller = asyncio.create_task(tasks.finish(change()))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gc.collect()
    go_on.set()
    await tasks.ended()
    assert done == ["changed"]


async def test_ended_waits_for_all_and_tells_nothing_of_their_errors() -> None:
    """Tasks that fail or are cancelled have ended like all others."""

    async def fail() -> None:
        raise ValueError("nobody asks")

    failing, waiting = asyncio.create_task(fail()), asyncio.create_task(asyncio.Event().wait())
    await end(failing, waiting)
    await ended((failing, waiting))
    assert (failing.done(), waiting.cancelled()) == (True, True)


async def test_a_thread_has_ended_when_its_caller_leaves() -> None:
    """A caller who is cancelled may close what the thread has used."""
    begun, go_on, order = threading.Event(), threading.Event(), []

    def call() -> None:
        begun.set()
        go_on.wait()
        order.append("call")

    caller = asyncio.create_task(in_thread(call))
    await asyncio.to_thread(begun.wait)
    caller.cancel()
    await asyncio.sleep(0)
    caller.cancel()
    caller.add_done_callback(lambda _: order.append("caller"))
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.sleep(0)
    assert order == ["call", "caller"]


async def test_what_was_read_lately_is_read_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is told at once; behind that it is read anew, but not for each who asks."""
    numbers = itertools.count(1)
    lately = Lately(lambda: next(numbers), 0)
    moment = 100.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: moment)
    me = asyncio.current_task()

    assert await lately.read() == 1
    moment += 0.9
    assert [lately.value, lately.value] == [1, 1]
    assert asyncio.all_tasks() == {me}
    moment += 0.1
    assert [lately.value, lately.value] == [1, 1]
    await asyncio.wait(asyncio.all_tasks() - {me})
    assert lately.value == 2
    assert asyncio.all_tasks() == {me}
    await lately.close()
