"""``demo``: demonstration data, so that size, repair and backup are tried on something real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import ExitStack, aclosing

from callisto_telnetd.db.media import Media
from callisto_telnetd.errors import UsageError
from callisto_telnetd.maintenance.demo import (
    CALLS_A_MESSAGE,
    DEFAULT_MESSAGES,
    DEFAULT_USERS,
    MOST_CALLS,
    MOST_MESSAGES,
    MOST_USERS,
    Demo,
    Made,
)
from callisto_telnetd.maintenance.demo_pieces import DEFAULT_SEED, Order
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line
from callisto_telnetd.menus.arguments import parse_whole, require_count, take_options, take_yes
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.quantities import counted
from callisto_telnetd.work import in_thread

_OPTIONS = ("users", "messages", "calls", "seed")
_USAGE = "[users=N] [messages=N] [calls=N] [seed=N] [yes]"
_MOST_SEED = 2**31 - 1
_PROGRESS_S = 1.0


def _parse_order(words: Sequence[str]) -> tuple[Order, bool]:
    """Return what is wanted, and whether ``yes`` was the last word."""
    plain, options = take_options(words, _OPTIONS)
    plain, confirmed = take_yes(plain)
    require_count(plain, 0, 0, f"demo {_USAGE}")
    users = parse_whole(options.get("users", str(DEFAULT_USERS)), "users", 0, MOST_USERS)
    messages = parse_whole(options.get("messages", str(DEFAULT_MESSAGES)), "messages", 0, MOST_MESSAGES)
    usual = min(CALLS_A_MESSAGE * messages, MOST_CALLS)
    calls = parse_whole(options.get("calls", str(usual)), "calls", 0, MOST_CALLS)
    if messages and not users:
        raise UsageError("messages: without users nobody has a mailbox; give at least users=1")
    seed = parse_whole(options.get("seed", str(DEFAULT_SEED)), "seed", 0, _MOST_SEED)
    return Order(users, messages, calls, seed), confirmed


async def fill(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Fill an empty appliance; one in use only where the last word is ``yes``."""
    order, confirmed = _parse_order(words)
    parts = context.parts
    media = Media(parts.folder.media)
    with ExitStack() as filling:
        await in_thread(filling.enter_context, media.filling("demonstration data"))
        demo = Demo(parts.store, media, order)
        await demo.prepare(beside=confirmed)
        yield Line(
            f"Making {counted(order.users, 'user')}, {counted(order.messages, 'message')} and"
            f" {counted(order.calls, 'call record')}; {context.dialogue.stop_keys} stops"
        )
        detail = f"users={order.users} messages={order.messages} calls={order.calls} seed={order.seed}"
        parts.log.info("demonstration data begun", who=context.origin.who, source=context.origin.source, detail=detail)
        audit = parts.audit.statements("demonstration data begun", context.origin, detail)
        stopped = asyncio.Event()
        begun = time.monotonic()
        with context.dialogue.watch(stopped.set, until_end_of_input=False):
            made = demo.fill(parts.clock.now(), first=audit)
            async with aclosing(made), aclosing(_progress(made, stopped)) as lines:
                async for line in lines:
                    yield line
        took_s = time.monotonic() - begun
        parts.log.info("demonstration data ended", who=context.origin.who, made=str(demo.made))
        yield _fact(demo, took_s, stopped=stopped.is_set())
        yield Done(f"{'stopped; whole are' if stopped.is_set() else 'made'} {demo.made}, in {took_s:.1f} s")


async def _progress(progress: AsyncIterator[Made], stopped: asyncio.Event) -> AsyncGenerator[Line, None]:
    """Yield a line a second, until all is made or the user stops it."""
    due = time.monotonic() + _PROGRESS_S
    async for made in progress:
        if stopped.is_set():
            return
        if time.monotonic() >= due:
            due = time.monotonic() + _PROGRESS_S
            yield Line(str(made))


def _fact(demo: Demo, took_s: float, *, stopped: bool) -> Fact:
    made = demo.made
    users = demo.numbers[: made.rows["user"]]
    lines = (f"Internal numbers: {users[0]} to {users[-1]}",) if users else ()
    return Fact(
        {
            "users": made.rows["user"],
            "mailboxes": made.rows["mailbox"],
            "messages": made.rows["message"],
            "greetings": made.rows["greeting"],
            "calls": made.rows["call_record"],
            "recordings": made.recordings,
            "recordings_bytes": made.recorded_bytes,
            "numbers": users,
            "seed": demo.order.seed,
            "stopped": stopped,
            "took_s": round(took_s, 3),
        },
        lines,
    )


DEMO = Command(
    word="demo",
    usage=_USAGE,
    help="fill the appliance with demonstration data",
    run=fill,
    facts="one",
    changes=True,
    founds=True,
    details=(
        f"Without options: {DEFAULT_USERS} users, {DEFAULT_MESSAGES} messages, {CALLS_A_MESSAGE} times as many calls.",
        "It is for an empty appliance, and nothing takes it out again. Where users or call records are there already,",
        "it refuses, unless 'yes' is the last word: the new ones then get free internal numbers.",
        "The same seed gives the same people, texts and recordings. Stopping keeps what is there; all of it is whole.",
    ),
)
