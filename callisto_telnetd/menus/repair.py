"""Repair Database: shows a repair step by step, and what became of each table's rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from callisto_telnetd.db.check import count_rows
from callisto_telnetd.db.salvage.report import RepairReport, TableReport
from callisto_telnetd.errors import UsageError, quoted
from callisto_telnetd.maintenance.repair import summary
from callisto_telnetd.maintenance.snapshots import Snapshot, age_text
from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line, renamed
from callisto_telnetd.menus.arguments import require_count, take_options, take_yes
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.quarantine import show_quarantine
from callisto_telnetd.menus.repair_fill import complete as complete_fill
from callisto_telnetd.menus.repair_fill import fill, offer
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.quantities import counted

_USAGE = "[backup=NEWEST|NAME] [yes] | fill [FILE] [yes] | quarantine [COUNT]"
_OTHERS = {"quarantine": show_quarantine, "fill": fill}
"""What is done with what a repair has left."""
_SHOWN_FAULTS = 5
_SHOWN_PAGES = 12
_SHOWN_COUNTS = 20
"""Steps of fewer parts are named alone."""


async def repair(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Check the database after a confirmation, and repair it where it is damaged."""
    if words and (other := _OTHERS.get(words[0].lower())) is not None:
        async with aclosing(other(context, words[1:])) as answers:
            async for answer in answers:
                yield answer
        return
    words, confirmed = take_yes(words)
    plain, options = take_options(words, {"backup"})
    require_count(plain, 0, 0, f"repair {_USAGE}")
    backup = await _find_backup(context, options["backup"]) if "backup" in options else None
    question = "Check the database now, and repair it where it is damaged"
    if backup is not None:
        question = f"Put the backup {backup.path.name} ({age_text(backup)}) in the place of the database"
        if past := await context.parts.restores.since(backup.at):
            yield Line(
                f"Note: {backup.path.name} is from before the restore of {context.parts.clock.format_stamp(past.at)}:"
                f" nothing of {past.restored} is in it"
            )
    await context.confirm(question, confirmed=confirmed)
    run = context.parts.repairs.begin(context.origin, context.session, backup.path if backup else None)
    if run.task is None:
        raise AssertionError
    async with aclosing(run.follow()) as told:
        async for progress in told:
            yield Line(_progress_text(progress))
    report = await run.task
    for fact in _facts(report):
        yield fact
    if report.quarantined:
        yield Line("Rows that their tables do not take are set apart; 'repair quarantine' shows them")
    if report.outcome not in ("sound", "backup"):
        yield await offer(context, report)
    if report.outcome != "sound":
        yield Done(summary(report))
        return
    counts = await count_rows(context.parts.store)
    yield Done(
        f"database is sound, {counted(sum(each.rows for each in counts), 'row')} in {counted(len(counts), 'table')}"
    )


async def _find_backup(context: Context, name: str) -> Snapshot:
    """Return the good backup that is meant.

    Raises:
        UsageError: there is none of that name.
    """
    newest = await context.parts.snapshots.newest()
    if newest is None:
        raise UsageError("there is no good backup of the database")
    if name.upper() != "NEWEST" and name != newest.path.name:
        raise UsageError(f"{quoted(name)} is not the newest good backup, {newest.path.name}")
    return newest


def _progress_text(progress: Progress) -> str:
    if progress.done and progress.of > _SHOWN_COUNTS:
        return f"{progress.step}: {progress.done} of {progress.of}"
    return f"{progress.step} …"


def _facts(report: RepairReport) -> Iterator[Fact]:
    data = report.as_data()
    tables = data.pop("tables")
    yield Fact({"report": renamed(data, seconds="took_s")}, tuple(_head_lines(report)))
    for table, each in zip(tables, report.tables, strict=True):
        # A quarantine that holds nothing is told to programs alone: people would look for a fault.
        shown = each.table != "quarantine" or each.kept or each.lost
        yield Fact({"table": table}, (_table_text(each),) if shown else ())


def _head_lines(report: RepairReport) -> Iterator[str]:
    if report.outcome == "sound":
        yield from report.notes
        return
    if report.faults:
        yield f"Found: {counted(len(report.faults), 'fault')}"
    yield from (f"  {fault}" for fault in report.faults[:_SHOWN_FAULTS])
    if report.bad_page_count:
        named = ", ".join(map(str, report.bad_pages[:_SHOWN_PAGES]))
        more = ", …" if report.bad_page_count > _SHOWN_PAGES else ""
        yield f"Damaged pages: {report.bad_page_count} of {report.pages} ({named}{more})"
    if report.journal:
        yield f"Journal: {report.journal}"
    yield f"The damaged file is kept: {report.aside}"
    yield from report.notes


def _table_text(table: TableReport) -> str:
    parts = [f"{table.kept} kept"]
    if table.from_damaged:
        parts.append(f"{table.from_damaged} of them from damaged pages")
    if table.lost or not table.lost_exact:
        parts.append(f"lost: {table.lost_text}")
    for count, words in (
        (table.quarantined, "quarantined"),
        (table.placeholders, "placeholders made"),
        (table.cleared, "references cleared"),
    ):
        if count:
            parts.append(f"{count} {words}")
    return f"{table.table}: {', '.join(parts)}"


def _complete(context: Context, words: Sequence[str]) -> Sequence[str]:
    if words and words[0].lower() == "fill":
        return complete_fill(context, words[1:])
    return () if "yes" in words else ("yes",) if words else ("backup=NEWEST", "fill", "quarantine", "yes")


REPAIR = Command(
    word="repair",
    number="2",
    title="Repair Database",
    usage=_USAGE,
    help="check the database, and repair it where it is damaged",
    run=repair,
    private=True,
    complete=_complete,
    facts="many",
    changes=True,
    details=(
        "backup=NEWEST puts the newest good backup in the place of the database; that one is set aside all the same.",
        "'repair fill FILE' takes the rows that the last repair has lost, and only those, out of a backup.",
        "'repair quarantine' shows the rows that repairs have set apart because their tables do not take them.",
        "Asks before it begins; with 'yes' as its last word it does not ask. Other sessions stay usable.",
        "The web server stops for the time of it. A damaged file is kept; what is done goes on if this session ends.",
    ),
)
