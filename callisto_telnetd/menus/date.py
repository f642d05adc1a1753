"""Set Date/Time: the appliance's clock, its zone, and its comparison with a time server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime

from callisto_telnetd.clock import ClockState, format_moment
from callisto_telnetd.errors import StoreError
from callisto_telnetd.menus.answers import Answer, Done, Fact
from callisto_telnetd.menus.arguments import require_count
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.quantities import counted
from callisto_telnetd.services.time_server import measure_offset
from callisto_telnetd.work import in_thread

_PREVIEW_USAGE = "date preview [YYYY-MM-DD] [HH:MM[:SS]], or zone NAME, or sync"
CLOCK_STATE = "clock"
"""The key under which the clock is kept in the database."""


def _clock_fact(context: Context, *, in_menu: bool = False) -> Fact:
    """Return the clock; a menu user is also told how to change its zone, and how to set it by the time server."""
    clock = context.parts.clock
    now = clock.now()
    data = {"at": now.isoformat(), "zone": clock.zone_name, "mode": clock.mode, "offset_s": round(clock.offset_s, 6)}
    zone, source = f"Zone: {clock.zone_name}", f"Source: {clock.source}"
    if in_menu:
        zone += " ('date zone NAME' changes it)"
        source += f" ('date sync' asks {context.parts.variables.text('gTimeServer') or 'the server of gTimeServer'})"
    return Fact(data, (f"Time: {format_moment(now)} {now:%Z} (UTC{now:%z})", zone, source))


async def show_clock(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show the clock, or set it to the date and time that follow."""
    if words:
        moment = context.parts.clock.parse_moment(" ".join(words))
        yield _effects(context, moment)
        done = await _move(context, moment)
        yield Fact(_clock_fact(context).data, ())
        yield done
        return
    yield _clock_fact(context)
    yield Done(format_moment(context.parts.clock.now()))


async def ask_moment(context: Context, _words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show the clock and ask for date and time; an empty answer keeps them."""
    yield _clock_fact(context, in_menu=True)
    now = format_moment(context.parts.clock.now())
    answer = (await context.dialogue.ask(f"New date and time [{now}]: ", default="")).strip()
    if not answer:
        yield Done("date and time kept")
        return
    moment = context.parts.clock.parse_moment(answer)
    effects = _effects(context, moment)
    while effects.lines:  # what was shown is judged again when the answer comes: the schedule may have changed
        yield effects
        await context.confirm("Set the clock", confirmed=False)
        shown, effects = effects, _effects(context, moment)
        if effects.lines == shown.lines:
            break
    yield await _move(context, moment)


async def preview(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Tell what setting the clock, the zone or the synchronisation would do to scheduled jobs; nothing changes."""
    clock = context.parts.clock
    if words[:1] == ["zone"]:
        require_count(words, 2, 2, _PREVIEW_USAGE)
        after = await in_thread(clock.now_in, words[1])
    elif words[:1] == ["sync"]:
        require_count(words, 1, 1, _PREVIEW_USAGE)
        measured = await measure_offset(context.parts.variables.text("gTimeServer"))
        after = clock.local(clock.time() + measured.offset_s - clock.offset_s)
    else:
        require_count(words, 1, 2, _PREVIEW_USAGE)
        after = clock.parse_moment(" ".join(words))
    effects = _effects(context, after)
    yield effects
    count = counted(len(effects.lines), "effect") if effects.lines else "no effect"
    yield Done(
        f"{format_moment(clock.now())} to {format_moment(after)}: {count} on scheduled jobs; nothing was changed"
    )


def _effects(context: Context, after: datetime) -> Fact:
    """Return what scheduled jobs would have of it, if the clock went to ``after``."""
    effects = context.parts.schedule.preview(context.parts.clock.now(), after)
    told = tuple(each.told(serving=context.parts.serving) for each in effects)
    data = [
        {
            "name": each.job,
            "effect": each.kind.replace(" ", "-"),
            "first_at": each.first.isoformat(),
            "last_at": each.last.isoformat(),
            "count": each.count,
        }
        for each in effects
    ]
    return Fact({"effects": data}, told)


async def _move(context: Context, moment: datetime) -> Done:
    clock = context.parts.clock
    before = format_moment(clock.now())
    detail = f"{format_moment(moment)} (was {before})"
    await _change(context, lambda: clock.move_to(moment), "date and time set", detail)
    return Done(f"{format_moment(moment)} (was {before})")


async def set_zone(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Set the zone of the appliance's clock."""
    require_count(words, 1, 1, "date zone NAME")
    clock = context.parts.clock
    yield _effects(context, await in_thread(clock.now_in, words[0]))
    before = clock.zone_name
    await _change(context, lambda: clock.use_zone(words[0]), "zone set", f"{words[0]} (was {before})", moves=False)
    yield Fact(_clock_fact(context).data, ())
    yield Done(f"zone {clock.zone_name} (was {before}), {format_moment(clock.now())}")


async def synchronise(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Ask the time server of gTimeServer and set the clock by it."""
    require_count(words, 0, 0, "date sync")
    clock = context.parts.clock
    server = context.parts.variables.text("gTimeServer")
    # Measured against the system's clock: that difference is what the own offset has to be.
    measured = await measure_offset(server)
    yield _effects(context, clock.local(clock.time() + measured.offset_s - clock.offset_s))
    moved_s = measured.offset_s - clock.offset_s

    def move() -> None:
        clock.move_by(moved_s)
        clock.note_sync(server)

    await _change(context, move, "clock synchronised", f"{server}, moved by {moved_s:+.3f} s")
    data = {
        "server": server,
        "moved_s": round(moved_s, 6),
        "delay_s": round(measured.delay_s, 6),
        "stratum": measured.stratum,
    }
    yield Fact(data, ())
    yield Done(f"{format_moment(clock.now())}, moved by {moved_s:+.3f} s by {server} (stratum {measured.stratum})")


async def _change(context: Context, change: Callable[[], None], event: str, detail: str, *, moves: bool = True) -> None:
    """Change the clock and keep it, as a whole, also where the caller is cancelled.

    The system's own clock can be set in no transaction: that it is about to move stands in the audit first.
    """
    parts = context.parts
    moves_system = moves and parts.clock.mode == "system"
    await parts.changes.finish(_change_whole(context, change, event, detail, moves_system=moves_system))


async def _change_whole(
    context: Context, change: Callable[[], None], event: str, detail: str, *, moves_system: bool
) -> None:
    parts, clock = context.parts, context.parts.clock
    if moves_system:
        await parts.store.apply(parts.audit.statements("system clock about to move", context.origin, detail))
    before, before_s = clock.state(), clock.time()
    change()
    await _keep(context, before, event, detail, moved_s=clock.time() - before_s if moves_system else 0.0)


async def _keep(context: Context, before: ClockState, event: str, detail: str, *, moved_s: float) -> None:
    """Keep the clock's new state, and let it take effect at the commit: memory and disk are never apart.

    The system's own clock has moved already; where its state cannot be kept, it is moved back.
    """
    parts, clock = context.parts, context.parts.clock
    after = clock.state()
    clock.put_back(before)
    try:
        await parts.store.apply(
            [
                (
                    "INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    (CLOCK_STATE, after.to_json()),
                ),
                *parts.audit.statements(event, context.origin, detail),
            ],
            then=lambda _: clock.put_back(after),
        )
    except StoreError:
        if moved_s:
            clock.move_by(-moved_s)
            clock.put_back(before)
        raise
    parts.log.info(event, who=context.origin.who, source=context.origin.source, detail=detail)


def _complete_zone(context: Context, words: Sequence[str]) -> Sequence[str]:
    return () if words else context.parts.clock.recent_zones.value


def _complete_preview(context: Context, words: Sequence[str]) -> Sequence[str]:
    if words:
        return context.parts.clock.recent_zones.value if words[-1] == "zone" else ()
    return ("zone", "sync")


DATE_MENU = Menu(
    word="date",
    number="5",
    title="Set Date/Time",
    help="show or set the appliance's date, time and zone",
    bare=Command(
        word="date",
        usage="[YYYY-MM-DD] [HH:MM[:SS]]",
        help="show or set date and time",
        run=show_clock,
        dialogue=ask_moment,
        details=(
            "Without words, shows the clock; the menu's number asks for date and time.",
            "A date alone keeps the time of day, a time alone the date.",
            "Says before the clock is set which scheduled jobs that passes over; the menu's number then asks again.",
        ),
        facts="one",
        changes=True,
    ),
    entries=(
        Command(
            word="zone",
            usage="NAME",
            help="set the zone, such as Europe/Zurich",
            run=set_zone,
            complete=_complete_zone,
            facts="one",
            changes=True,
        ),
        Command(
            word="preview",
            usage="[YYYY-MM-DD] [HH:MM[:SS]]|zone NAME|sync",
            help="tell which scheduled jobs a change of the clock would pass over or repeat",
            run=preview,
            complete=_complete_preview,
            facts="one",
        ),
        Command(
            word="sync",
            help="set the clock by the time server of gTimeServer",
            run=synchronise,
            facts="one",
            changes=True,
        ),
    ),
)
