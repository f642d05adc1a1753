"""``repair fill``: the rows that a repair has lost, taken out of a backup, and only those."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from callisto_telnetd.db.salvage.report import RepairReport
from callisto_telnetd.errors import UsageError
from callisto_telnetd.maintenance.archives_here import Listed
from callisto_telnetd.maintenance.fill import Lost, Source, counts_text
from callisto_telnetd.maintenance.snapshots import Snapshot, age_text
from callisto_telnetd.maintenance.unpacking import Unpacking
from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line
from callisto_telnetd.menus.arguments import require_count, take_yes
from callisto_telnetd.menus.backup_source import ask_password
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.progress import progress
from callisto_telnetd.quantities import counted, format_duration

USAGE = "repair fill [FILE] [yes]"


async def fill(context: Context, words: Sequence[str]) -> AsyncGenerator[Answer, None]:
    """Show which lost rows a backup has, ask, and take them."""
    plain, confirmed = take_yes(words)
    require_count(plain, 0, 1, USAGE)
    lost = await context.parts.fill.lost()
    place = plain[0] if plain else await _newest_place(context, lost)
    async with AsyncExitStack() as stack:
        snapshot = await context.parts.snapshots.newest()
        if snapshot is not None and place == snapshot.path.name:
            source, keep_for = Source(place, snapshot.path, None, snapshot.at, own=False), None
        else:
            path = await context.parts.backups.require(place)
            password = await ask_password(context, place)
            unpacking = Unpacking(context.parts.folder, context.parts.workshop, path, password)
            stack.push_async_callback(unpacking.close)
            async with progress(unpacking.open) as steps:
                async for line in steps:
                    yield Line(line)
                opened, keep_for = steps.result, unpacking.keep_for
            backup, at = opened.backup, datetime.fromisoformat(opened.facts["created"])
            source = Source(Path(place).name, backup.database, backup.recordings, at, own=True)
        async with aclosing(_taken(context, source, lost, keep_for, confirmed=confirmed)) as answers:
            async for answer in answers:
                yield answer


async def _taken(
    context: Context,
    source: Source,
    lost: Lost,
    keep_for: Callable[[asyncio.Task[Any]], None] | None,
    *,
    confirmed: bool,
) -> AsyncGenerator[Answer, None]:
    parts = context.parts
    async with progress(partial(parts.fill.look, source, lost)) as steps:
        async for line in steps:
            yield Line(line)
        found = steps.result
    lines = [
        f"{each.table}: {counted(found.get(each.table, 0), 'row')} to take; the repair lost {each.lost_text or 'none'}"
        for each in lost.report.tables
        if each.table in lost.report.lost_tables
    ]
    yield Fact({"file": source.name, "found": found}, tuple(lines))
    if not found:
        yield Done(f"nothing to take: {source.name} has no row that a repair has lost")
        return
    if more := [
        f"{each.table}: {found[each.table]} instead of {each.most_to_fill}"
        for each in lost.report.tables
        if each.most_to_fill is not None and found.get(each.table, 0) > each.most_to_fill
    ]:
        deleted = f"{source.name} has more rows than the repair can have lost ({', '.join(more)})"
        if confirmed:
            raise UsageError(f"{deleted}: deleted ones would come back; nothing was changed; without 'yes' it asks")
        yield Line(f"Warning: {deleted}: rows that were deleted since it was made come back as well")
    count = counted(sum(found.values()), "row")
    await context.confirm(f"Take {count} out of {source.name}; all others stay as they are", confirmed=confirmed)
    context.dialogue.commit()

    async def take(told: Callable[[Progress], None]) -> dict[str, int]:
        task = parts.fill.begin(source, lost, found, context.origin, told)
        if keep_for is not None:
            keep_for(task)
        return await asyncio.shield(task)  # who leaves does not stop it

    async with progress(take) as steps:
        async for line in steps:
            yield Line(line)
        taken = steps.result
    yield Fact({"taken": taken}, ())
    yield Done(f"{counted(sum(taken.values()), 'row')} taken out of {source.name} ({counts_text(taken)})")


async def _newest_place(context: Context, lost: Lost) -> str:
    """Return the name of the newest good backup of either kind from before the repair.

    Raises:
        UsageError: there is none.
    """
    archive, snapshot = await newest_good(context, lost.has)
    if archive is not None and (snapshot is None or archive.at >= snapshot.at):
        return archive.path.name
    if snapshot is None:
        raise UsageError("there is no good backup from before the repair; nothing was changed")
    return snapshot.path.name


async def newest_good(
    context: Context, fits: Callable[[datetime], bool] = lambda _: True
) -> tuple[Listed | None, Snapshot | None]:
    """Return the newest good backup of each kind: an archive that was verified here, a copy of the database.

    Args:
        context: Where it is asked.
        fits: Whether one of that time counts; of the copies only the newest is looked at.
    """
    listed = [each for each in await context.parts.backups.list() if fits(each.at)]
    # What is known of the archives may have been lost with other rows: then the newest is the best that there is.
    good = [each for each in listed if each.known.verified and not each.known.doubtful]
    if not any(each.known.verified for each in listed):
        good = [each for each in listed if each.protected is not None]
    snapshot = await context.parts.snapshots.newest()
    return (good[0] if good else None), (snapshot if snapshot is not None and fits(snapshot.at) else None)


async def offer(context: Context, report: RepairReport) -> Fact:
    """Name the newest good backup of either kind, with its age, and what can be done with it."""
    archive, snapshot = await newest_good(context)
    clock, lost = context.parts.clock, report.lost_tables
    if archive is not None and (snapshot is None or archive.at >= snapshot.at):
        name, at, age_s = archive.path.name, archive.at, archive.age_s
        rows, whole = "", f"'backup restore {name}' puts all of it in place instead"
        age = f"{format_duration(age_s)} ago"
    elif snapshot is not None:
        name, at, age_s, age = snapshot.path.name, snapshot.at, snapshot.age_s, age_text(snapshot)
        apart = f", {snapshot.doubtful} of them doubtful" if snapshot.doubtful else ""
        rows, whole = f", {counted(snapshot.rows, 'row')}{apart}", "'repair backup=NEWEST' puts it in place instead"
    else:
        return Fact({"backup": None}, ("There is no good backup, neither of all nor of the database",))
    past = await context.parts.restores.since(at)
    before = f", from before the restore of {clock.format_stamp(past.at)}" if past else ""
    lines = [f"Newest good backup: {name}, {age}{before}{rows}; {whole}"]
    if lost:
        lines.append(f"'repair fill {name}' takes the lost rows out of it, and only those")
    data = {"file": name, "age_s": round(age_s), "before_restore": past is not None, "fills": bool(lost)}
    return Fact({"backup": data | ({"rows": snapshot.rows} if rows and snapshot else {})}, tuple(lines))


def complete(context: Context, words: Sequence[str]) -> Sequence[str]:
    """Return what may follow ``repair fill``."""
    return ("yes",) if words else (*context.parts.backups.recent_names.value, "yes")
