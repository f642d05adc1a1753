"""Compact: the database written anew without its free pages, with its size before and after.

It asks nothing: what it does can be had again at any time, and takes nothing away.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from callisto_telnetd.maintenance.compact import compact
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line
from callisto_telnetd.menus.arguments import require_count
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.progress import Quarters, progress
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.quantities import format_bytes


async def run_compact(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Compact the database, and show how far it has come."""
    require_count(words, 0, 0, "compact")
    parts = context.parts
    parts.repairing.require_free()
    async with parts.repairing.held(context.origin.who, "compacts the database"):
        parts.log.info("compact begun", who=context.origin.who, source=context.origin.source)
        work = partial(compact, parts.store, parts.workshop, parts.clock, parts.log)
        async with progress(work, Quarters()) as steps:
            async for line in steps:
                yield Line(line)
            done = steps.result
        parts.log.info(
            "compact ended",
            who=context.origin.who,
            before_bytes=done.before_bytes,
            after_bytes=done.after_bytes,
            seconds=done.seconds,
        )
    sizes = f"{format_bytes(done.before_bytes)} before, {format_bytes(done.after_bytes)} after"
    await parts.audit.note("database compacted", context.origin, sizes)
    facts = {"before_bytes": done.before_bytes, "after_bytes": done.after_bytes, "took_s": done.seconds}
    yield Fact(facts, ())
    yield Done(f"database compacted, {sizes}")


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
