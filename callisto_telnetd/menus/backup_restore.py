"""``backup plan``, ``restore`` and ``undo``: what a restore would do, the restore, and the way back."""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from callisto_telnetd.errors import UsageError
from callisto_telnetd.maintenance.restore_plan import KEEP_SETTINGS, Plan
from callisto_telnetd.maintenance.restores import RestoreRun
from callisto_telnetd.maintenance.unpacking import Opened, Unpacking
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line, renamed
from callisto_telnetd.menus.arguments import require_count, take_yes
from callisto_telnetd.menus.backup_source import SOURCE, ask_password, take_source
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.progress import progress
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.menus.variable_facts import data_of
from callisto_telnetd.quantities import counted, format_bytes
from callisto_telnetd.variables import Difference

_MOST_SHOWN = 50
"""Lines of one kind; all of them are in the facts."""


async def plan(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show what a restore would do; changes nothing."""
    words, keep_settings = _take_keep_settings(words)
    source, rest = take_source(words)
    require_count(rest, 0, 0, f"backup plan {SOURCE} [{KEEP_SETTINGS}]")
    async with aclosing(source.fetched(context)) as answers:
        async for answer in answers:
            yield answer
    place = source.place or await context.parts.backups.newest()
    name, unpacking = Path(place).name, await _unpacking(context, place)
    try:
        async with progress(unpacking.open) as steps:
            async for line in steps:
                yield Line(line)
            opened = steps.result
        backup = replace(opened.backup, settings=None) if keep_settings else opened.backup
        found = await context.parts.restores.plan(backup, context.origin)
        yield Fact({"file": place, **_plan_data(context, found, opened.facts)}, tuple(_plan_lines(found, opened)))
        if not found.fits:
            raise found.refusals[0]
        words = [shlex.quote(place), *([KEEP_SETTINGS] if keep_settings else [])]
        apart = f", {found.outlook.doubtful.text} set apart" if found.outlook and found.outlook.doubtful else ""
        yield Done(f"backup {name} fits{apart}; 'backup restore {' '.join(words)}' puts it in place")
    finally:
        await unpacking.close()


async def restore(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show what a restore does, ask, and do it."""
    words, keep_settings = _take_keep_settings(words)
    plain, confirmed = take_yes(words)
    source, rest = take_source(plain)
    require_count(rest, 0, 0, f"backup restore {SOURCE} [{KEEP_SETTINGS}] [yes]")
    if confirmed and not source.place:
        raise UsageError("name the backup where 'yes' stands for the question; nothing was changed")
    async with aclosing(source.fetched(context)) as answers:
        async for answer in answers:
            yield answer
    place = source.place or await context.parts.backups.newest()
    name, unpacking = Path(place).name, await _unpacking(context, place)
    try:
        async with progress(unpacking.open) as steps:
            async for line in steps:
                yield Line(line)
            opened = steps.result
        backup = replace(opened.backup, settings=None) if keep_settings else opened.backup
        found = await context.parts.restores.plan(backup, context.origin)
        data = {"plan": {"file": place, **_plan_data(context, found, opened.facts)}}
        yield Fact(data, tuple(_plan_lines(found, opened)))
        if not found.fits:
            raise found.refusals[0]
        await context.confirm(f"Put {name} in the place of all that there is now", confirmed=confirmed)
        context.dialogue.commit()
        run = context.parts.restores.begin(backup, context.origin, context.session)
        if run.task is not None:
            unpacking.keep_for(run.task)
        async with aclosing(_followed(run)) as answers:
            async for answer in answers:
                yield answer
    finally:
        await unpacking.close()


async def undo(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Go back to the state before the last restore."""
    plain, confirmed = take_yes(words)
    require_count(plain, 0, 0, "backup undo [yes]")
    restores = context.parts.restores
    past = await restores.past()
    if past is None:
        raise UsageError("there is no state from before a restore to go back to; nothing was changed")
    found = await restores.plan(past.backup, context.origin)
    since = context.parts.clock.format_stamp(past.at)
    head = f"The state that gave way to {past.restored} at {since}"
    yield Fact(
        {"plan": {"at": past.at, "file": past.restored, **_plan_data(context, found, {})}}, (head, *_changes(found))
    )
    if not found.fits:
        raise found.refusals[0]
    await context.confirm("Go back to it", confirmed=confirmed)
    context.dialogue.commit()
    async with aclosing(_followed(restores.begin_undo(context.origin, context.session))) as answers:
        async for answer in answers:
            yield answer


def _take_keep_settings(words: Sequence[str]) -> tuple[list[str], bool]:
    """Take ``keep-settings`` off the words, wherever it stands, and say whether it was there."""
    rest = [word for word in words if word.lower().removeprefix("--") != KEEP_SETTINGS]
    return rest, len(rest) < len(words)


async def _unpacking(context: Context, place: str) -> Unpacking:
    """Return the archive of that name or path, with the password that it needs."""
    parts = context.parts
    path = await parts.backups.require(place)
    return Unpacking(parts.folder, parts.workshop, path, await ask_password(context, place))


async def _followed(run: RestoreRun) -> AsyncGenerator[Answer, None]:
    if run.task is None:
        raise AssertionError
    async with aclosing(run.follow()) as told:
        async for step in told:
            yield Line(f"{step.step} …")
    done = await run.task
    restored = {"name": done.name, "rows": done.rows, "notes": list(done.notes), "set_apart": done.apart.as_data()}
    yield Fact({"restored": restored}, done.notes)
    apart = f", {done.apart.text} set apart ('repair quarantine' shows them)" if done.apart else ""
    yield Done(f"{done.name} is in place, {counted(done.rows, 'row')}{apart}; 'backup undo' goes back")


def _plan_lines(found: Plan, opened: Opened) -> Iterator[str]:
    """Yield what the archive is, whether it fits, and what would change."""
    facts, outlook = opened.facts, found.outlook
    yield f"Backup: made {facts['created']} on {facts['host']}, serial {facts['serial'] or 'not set'}"
    if facts["note"]:
        yield f"Note: {facts['note']}"
    schema = ""
    if outlook is not None:
        older = "the same as here" if outlook.schema == outlook.schema_here else f"migrated to {outlook.schema_here}"
        schema = f", schema {outlook.schema} ({older})"
    yield f"Version: {facts['product_version']}, edition {facts['edition']}{schema}"
    yield f"Fits: {'yes' if found.fits else 'no'}"
    yield from (f"  {reason}" for reason in found.reasons)
    yield from _changes(found)


def _changes(found: Plan) -> Iterator[str]:
    outlook = found.outlook
    if outlook is None:
        return
    if outlook.doubtful:
        yield f"Set apart: {outlook.doubtful.text} that their tables do not take, as a repair does"
        yield from (f"  {fault}" for fault in outlook.doubtful.faults)
    for each in outlook.tables:
        if each.table == "state":  # the appliance's own, whatever is in the backup
            continue
        then = each.then if each.table != "account" else len(found.accounts_then)
        now = "unknown" if each.now is None else each.now
        if each.added is not None and (each.now or then):
            yield f"Table {each.table}: {now} now, all stay, {each.added} added"
        elif each.now or then:
            yield f"Table {each.table}: {now} now, {then} then"
    yield from _some([f"Variable {each.name}: {each.now} now, {each.then} then" for each in found.variables])
    if not found.variables:
        yield "Variables: none changes"
    accounts = ", ".join(found.accounts_then) or "none"
    yield f"Accounts then: {accounts}" if found.accounts_then != found.accounts_now else f"Accounts: stay, {accounts}"
    if outlook.settings is None:
        yield "Settings file: stays"
    else:
        yield f"Settings that change: {', '.join(outlook.settings) or 'none'}"
    yield f"Recordings added: {outlook.recordings}, {format_bytes(outlook.recordings_bytes)}"
    yield f"Disk: {format_bytes(outlook.needed_bytes)} needed, {format_bytes(outlook.free_bytes)} free"
    yield from (f"Note: {note}" for note in found.notes)


def _some(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:_MOST_SHOWN]
    if len(lines) > _MOST_SHOWN:
        yield f"… and {len(lines) - _MOST_SHOWN} more; --json has all of them"


def _plan_data(context: Context, found: Plan, facts: dict[str, Any]) -> dict[str, Any]:
    outlook = found.outlook.as_data() if found.outlook else None
    if outlook is not None:
        del outlook["variables"]  # those that change are told, with what they are now
    return {
        **renamed(facts, created="at", product_version="version"),
        "fits": found.fits,
        "reasons": list(found.reasons),
        "notes": list(found.notes),
        "settings_left_out": list(found.left_out),
        "variables": [_variable_data(context, each) for each in found.variables],
        "accounts_now": list(found.accounts_now),
        "accounts_then": list(found.accounts_then),
        "outlook": outlook,
    }


def _variable_data(context: Context, each: Difference) -> dict[str, Any]:
    variable = context.parts.variables.find(each.name)
    return {"name": each.name, "now": data_of(variable, each.now), "then": data_of(variable, each.then)}


def _complete_plan(context: Context, words: Sequence[str]) -> Sequence[str]:
    return (KEEP_SETTINGS,) if words else context.parts.backups.recent_names.value


def _complete_restore(context: Context, words: Sequence[str]) -> Sequence[str]:
    return (KEEP_SETTINGS, "yes") if words else context.parts.backups.recent_names.value


PLAN = Command(
    word="plan",
    usage=f"{SOURCE} [{KEEP_SETTINGS}]",
    help="show what a restore of a backup would do",
    run=plan,
    complete=_complete_plan,
    facts="one",
    private=True,
    details=(
        "FILE is a name in the folder of backups, or any path, under any name; without it, the newest.",
        "Reads all of it, and changes nothing. A URL's file is fetched into the folder of backups first.",
    ),
)
RESTORE = Command(
    word="restore",
    usage=f"{SOURCE} [{KEEP_SETTINGS}] [yes]",
    help="put a backup in the place of all that there is",
    run=restore,
    complete=_complete_restore,
    facts="one",
    private=True,
    founds=True,
    details=(
        "FILE is a name in the folder of backups, or any path, under any name; without it, the newest.",
        "Shows first what 'backup plan' shows, and asks; with 'yes' as its last word it does not ask.",
        f"{KEEP_SETTINGS} leaves callisto.toml as it is here; everything else is the backup's.",
        "Over the network, settings that name commands, users, files or what listens stay as here in any case.",
        "Ctrl-C stops it until it has asked; what is begun then goes on to its end, also if this session ends.",
        "The web server stops for the moment of the switch; other sessions are told. What was there is kept: 'undo'.",
    ),
)
UNDO = Command(
    word="undo",
    usage="[yes]",
    help="go back to the state before the last restore; again: forward",
    run=undo,
    facts="one",
)
