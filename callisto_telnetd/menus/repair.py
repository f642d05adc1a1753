"""Repair Database: the check of the database, step by step, with a truthful report.

It finds faults; it changes nothing. What stands in the way of a sound database is named.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import orjson

from callisto_telnetd.db.check import check_foreign_keys, check_integrity, count_rows
from callisto_telnetd.errors import DamagedDatabaseError, StoreError, UsageError
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line
from callisto_telnetd.menus.arguments import require_count, take_yes
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.quantities import counted

CHECK_STATE = "last_check"
"""The key under which the last check's time and result are kept in the database."""


async def repair(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Check the database after a confirmation."""
    plain, confirmed = take_yes(words)
    require_count(plain, 0, 0, "repair [yes]")
    await context.confirm("Check the database now", confirmed=confirmed)
    if context.parts.repairing.locked():
        raise UsageError("a repair is running already")
    async with context.parts.repairing:
        context.parts.presence.notify_all(
            f"a check of the database was begun by {context.origin.who}", but=context.session
        )
        context.parts.log.info("database check begun", who=context.origin.who, source=context.origin.source)
        faults = 0
        async for fact in _steps(context):
            faults += len(fact.data["faults"])
            yield fact
        result = "sound" if not faults else counted(faults, "fault")
        if reason := await _keep_result(context, result):
            yield Line(f"This result is not kept: {reason}")
        context.parts.log.log(20 if not faults else 40, "database check ended", result=result, who=context.origin.who)
        if faults:
            raise DamagedDatabaseError(f"the database has {counted(faults, 'fault')}, named above; nothing was changed")
        counts = await count_rows(context.parts.store)
        yield Line(f"Tables: {len(counts)}, rows: {sum(each.rows for each in counts)}")
        yield Done(f"database is sound, {sum(each.rows for each in counts)} rows in {len(counts)} tables")


async def _steps(context: Context) -> AsyncIterator[Fact]:
    """Yield the outcome of each step, as it ends."""
    store = context.parts.store
    yield _step("Pages, rows and indexes", await check_integrity(store))
    yield _step("References between tables", await check_foreign_keys(store))
    yield _step("System variables", list(context.parts.variables.faults.values()))


def _step(name: str, faults: list[str]) -> Fact:
    outcome = "sound" if not faults else counted(len(faults), "fault")
    return Fact({"step": name, "faults": faults}, (f"{name}: {outcome}", *(f"  {fault}" for fault in faults)))


async def _keep_result(context: Context, result: str) -> str:
    """Keep when the check was and what it found; return why not, where the disk or the database is past that."""
    value = orjson.dumps({"at": context.parts.clock.now().isoformat(timespec="seconds"), "result": result}).decode()
    try:
        await context.parts.store.set_state(CHECK_STATE, value)
    except StoreError as error:
        context.parts.log.warning("check result not kept", reason=str(error))
        return str(error)
    return ""


REPAIR = Command(
    word="repair",
    number="2",
    title="Repair Database",
    usage="[yes]",
    help="check the database and report its faults",
    run=repair,
    facts="many",
    details=("Asks before it begins; with 'yes' as its last word it does not ask. Other sessions stay usable.",),
)
