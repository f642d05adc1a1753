"""``repair quarantine``: the rows that repairs have set apart, each with its table, its reason and its content."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from callisto_telnetd.menus.answers import Answer, Done, Fact
from callisto_telnetd.menus.arguments import parse_whole, require_count
from callisto_telnetd.menus.context import Context
from callisto_telnetd.quantities import counted
from callisto_telnetd.trace.sanitiser import clean

USAGE = "repair quarantine [COUNT]"
_SHOWN, _MOST_SHOWN = 20, 1000
_LONGEST_LINE = 300
_LONGEST_CONTENT = 4000
"""Characters of a row's content that programs get: a thousand rows stay within bounds."""


async def show_quarantine(context: Context, words: Sequence[str]) -> AsyncGenerator[Answer, None]:
    """Show the newest rows that were set apart, oldest first."""
    require_count(words, 0, 1, USAGE)
    count = parse_whole(words[0], "count", 1, _MOST_SHOWN) if words else _SHOWN
    store = context.parts.store
    rows = await store.fetch(
        "SELECT id, at, origin, reason, substr(content, 1, ?) FROM quarantine ORDER BY id DESC LIMIT ?",
        (_LONGEST_CONTENT, count),
    )
    ((of,),) = await store.fetch("SELECT count(*) FROM quarantine")
    for number, at, origin, reason, content in reversed(rows):
        stamp = context.parts.clock.format_stamp(at)
        yield Fact(
            {"number": number, "at": at, "table": origin, "reason": reason, "content": content},
            (
                f"{number}  {stamp}  {clean(origin, 64)}: {clean(reason, _LONGEST_LINE)}",
                f"    {clean(content, _LONGEST_LINE)}",
            ),
        )
    yield Done(f"{len(rows)} of {counted(of, 'row')} that repairs have set apart")
