"""Compact: the database written anew without its free pages, with its size before and after.

It asks nothing: what it does can be had again at any time, and takes nothing away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from callisto_telnetd.errors import UsageError
from callisto_telnetd.maintenance.compact import Compacted, compact
from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line
from callisto_telnetd.menus.arguments import require_count
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.quantities import format_bytes

_MOST_STEPS = 100


async def run_compact(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Compact the database, and show how far it has come."""
    require_count(words, 0, 0, "compact")
    parts = context.parts
    if parts.repairing.locked():
        raise UsageError("the database is being checked, repaired or compacted already; nothing was changed")
    async with parts.repairing:
        parts.log.info("compact begun", who=context.origin.who, source=context.origin.source)
        done: Compacted | None = None
        async for step in _follow(context):
            if isinstance(step, Compacted):
                done = step
            else:
                yield Line(step)
        if done is None:
            return
        parts.log.info(
            "compact ended",
            who=context.origin.who,
            before_bytes=done.before_bytes,
            after_bytes=done.after_bytes,
            seconds=done.seconds,
        )
    sizes = f"{format_bytes(done.before_bytes)} before, {format_bytes(done.after_bytes)} after"
    await parts.audit.note("database compacted", context.origin, sizes)
    facts = {"before_bytes": done.before_bytes, "after_bytes": done.after_bytes, "seconds": done.seconds}
    yield Fact(facts, ())
    yield Done(f"database compacted, {sizes}")


async def _follow(context: Context) -> AsyncIterator[str | Compacted]:
    """Yield a line at the beginning of each step and each quarter of it, then the outcome.

    A caller who goes away ends the work, and waits until the store is open again.
    """
    parts = context.parts
    lines: deque[str] = deque(maxlen=_MOST_STEPS)
    news = asyncio.Event()
    seen: set[tuple[str, int]] = set()

    def told(progress: Progress) -> None:
        quarter = progress.done * 4 // progress.of if progress.of else 0
        if (progress.step, quarter) not in seen:
            seen.add((progress.step, quarter))
            lines.append(f"{progress.step}: {quarter * 25} % done" if quarter else f"{progress.step} …")
            news.set()

    work = asyncio.create_task(compact(parts.store, parts.workshop, parts.clock, parts.log, told))
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


COMPACT = Command(
    word="compact",
    help="write the database anew without its free pages",
    run=run_compact,
    facts="one",
    details=(
        "Needs as much free disk as the database is large. Other sessions stay usable; a change waits meanwhile,",
        "for at most five seconds. A damaged database is left alone: repair is for that.",
    ),
)
