"""The repair of a closed database file, in the order that loses least; the old database or the new one, always.

Rules:

* The damaged files are set aside whole before anything else, and nothing is ever written to them.
* All work is done on ``callisto.db.making*`` files, which the next opening removes (``publish.settle``).
* The new file takes the old one's place only when it has passed the very check that the old one failed.
* Whatever goes wrong before that leaves the live files as they were, and takes back what was set aside.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from callisto_telnetd.db.doubtful_rows import set_apart
from callisto_telnetd.db.durable import sync, write
from callisto_telnetd.db.format.carve import Tally, carve
from callisto_telnetd.db.format.forest import Survey as Forest
from callisto_telnetd.db.format.forest import survey as survey_of
from callisto_telnetd.db.format.layout import OWN, Layout
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.inspection import PAGES, SCHEMA, VariableFault, inspect
from callisto_telnetd.db.memory import Change, carry_memory, raise_numbers
from callisto_telnetd.db.own_form import copy_in_own_form
from callisto_telnetd.db.publish import making_of, publish
from callisto_telnetd.db.quiet import open_quietly
from callisto_telnetd.db.results import translate
from callisto_telnetd.db.salvage.aside import Aside, set_aside
from callisto_telnetd.db.salvage.losses import count_losses, misplaced
from callisto_telnetd.db.salvage.numbers import highest_numbers
from callisto_telnetd.db.salvage.plain_read import MOST_MISSING, missing_rows
from callisto_telnetd.db.salvage.rebuild import Rebuild, Row
from callisto_telnetd.db.salvage.report import LOST_STATE, REPAIR_STATE, REPORT_NAME, Outcome, RepairReport, TableReport
from callisto_telnetd.db.salvage.room import require_room
from callisto_telnetd.db.salvage.source import open_source
from callisto_telnetd.db.salvage.stitch import stitch
from callisto_telnetd.db.salvage.survey import Leaf, Survey, survey
from callisto_telnetd.db.schema import APPLICATION_ID, has_stamp, migrations, require_known
from callisto_telnetd.db.tables import TABLES, VARIABLES
from callisto_telnetd.errors import (
    DamagedDatabaseError,
    ForeignDatabaseError,
    NewerSchemaError,
    StoreError,
    UnfinishedError,
)

CHUNK_LEAVES = 256
_MOST_NAMED_PAGES = 1000
_MOST_FAULTS = 20
_LOOKED_AT = 64

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What is repaired, and by what it is judged."""

    live: Path
    damaged: Path
    """The folder of all that was ever set aside."""
    stamp: str
    """``YYYYmmdd-HHMMSS``: the name of the folder for these files."""
    at: str
    """The moment, ISO 8601."""
    variable_fault: VariableFault
    backup: Path | None = None
    """A copy that takes the place of the database, once it is found sound; None for a repair."""
    who: str = "system"
    """Who repairs; a copy may change variables, and their history says by whom."""
    door: str = "system"
    source: str = "local"
    given: Mapping[str, int] = field(default_factory=dict)
    """The highest numbers of the audit and of the history of variables, by table, as far as they are known."""


def repair(order: Order, tell: Tell) -> RepairReport:
    """Check a database that nobody has open, and put a sound one in its place where it is not.

    Raises:
        ForeignDatabaseError, NewerSchemaError: it is not ours to repair; nothing has changed.
        DiskFullError, StoreError: it cannot be repaired now; nothing has changed.
        UnfinishedError: it is repaired; the next opening puts the new file in its place.
    """
    begun = time.monotonic()
    require_room(order.live, order.backup)
    aside = set_aside(order.live, order.damaged, order.stamp)
    try:
        report = _Repair(order, aside, tell).run(begun)
    except UnfinishedError:
        raise
    except sqlite3.Error as error:
        _clean(order.live)
        aside.withdraw()
        raise translate(error) from None
    except OSError as error:
        _clean(order.live)
        aside.withdraw()
        raise StoreError(f"the repair failed: {error.strerror}; nothing was changed") from None
    except BaseException:
        _clean(order.live)
        aside.withdraw()
        raise
    if report.outcome == "sound":
        aside.withdraw()
    _clean(order.live)
    return report


def _clean(live: Path) -> None:
    for litter in live.parent.glob(f"{making_of(live).name}*"):
        litter.unlink(missing_ok=True)


class _Repair:
    def __init__(self, order: Order, aside: Aside, tell: Tell) -> None:
        self._order = order
        self._aside = aside
        self._tell = tell
        self._making = making_of(order.live)
        self._source = aside.database
        """What is read: the file set aside, or a working copy of it."""

    def run(self, begun: float) -> RepairReport:
        if self._order.backup is not None:
            self._source = self._order.backup
            report = self._take_as_it_is("backup")
            report.seconds = round(time.monotonic() - begun, 3)
            self._finish(report, values=True)
            return report
        source = open_source(self._aside, self._making.with_name(self._making.name + "-back"))
        self._source = source.file
        found = inspect(self._source, self._order.variable_fault, self._tell, closed=True, enough=True)
        faults = [fault for step in found.values() for fault in step]
        if not faults and not source.replaces:
            return RepairReport("sound", seconds=time.monotonic() - begun)
        schema_lost = bool(found[SCHEMA])
        readable = schema_lost and _require_ours(self._source)
        if faults:
            report = self._rebuilt(found, faults, schema_lost=schema_lost, readable=readable)
        else:
            report = self._take_as_it_is("journal")
        report.journal = source.journal
        report.notes += [source.log] if source.log else []
        report.seconds = round(time.monotonic() - begun, 3)
        self._finish(report)
        return report

    def _rebuilt(
        self, found: dict[str, list[str]], faults: list[str], *, schema_lost: bool, readable: bool
    ) -> RepairReport:
        """Make the new database from the pages; what was held of them goes before the new one is checked."""
        with PageFile(self._source) as pages:
            forest = survey_of(pages)
            mapped = survey(pages, lambda done, of: self._tell("Looking at every page", done, of), forest)
            if schema_lost and not readable:
                _require_rows(pages, mapped)
            report = self._rebuild(pages, forest, mapped, faults)
        report.outcome = self._outcome(mapped, found, schema_lost=schema_lost)
        return report

    def _take_as_it_is(self, outcome: Outcome) -> RepairReport:
        """Take a file whole: nothing was wrong but the journal beside it, or it is a backup."""
        copy_in_own_form(self._source, self._making)
        apart = self._fit_backup() if outcome == "backup" else {}
        with closing(open_quietly(self._making, closed=True)) as connection:
            counts = {
                table.name: int(connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0])
                for table in TABLES
                if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table.name,)).fetchone()
            }
        return RepairReport(
            outcome,
            tables=[TableReport(name, kept=count, quarantined=apart.get(name, 0)) for name, count in counts.items()],
            pages=self._making.stat().st_size // OWN.page_bytes,
            aside=str(self._aside.folder),
        )

    def _fit_backup(self) -> Mapping[str, int]:
        """Set a copy's doubtful rows apart, and let audit and history of the damaged database go on in it.

        Returns:
            How many rows of each table were set apart.
        """
        order, uri = self._order, f"{self._making.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=MEMORY").fetchall()
            apart = set_apart(connection, order.at).tables
            name = order.backup.name if order.backup else ""
            change = Change(order.at, order.who, order.door, order.source, f"restored from {name}")
            carry_memory(connection, self._aside.database, change, order.given)
        return apart

    def _outcome(self, mapped: Survey, found: dict[str, list[str]], *, schema_lost: bool) -> Outcome:
        if schema_lost:
            return "recovered"
        only_indexes = all(" index " in fault for fault in found[PAGES])
        others = any(faults for step, faults in found.items() if step != PAGES)
        return "indexes" if only_indexes and not others and not mapped.unsound else "rebuilt"

    def _rebuild(self, pages: PageFile, forest: Forest, mapped: Survey, faults: list[str]) -> RepairReport:
        new = Rebuild(self._making, self._order.at)
        try:
            broken = self._copy_leaves(new, mapped, pages.layout)
            self._tell("Looking at every value", 0, 0)
            new.sift()
            bad = {leaf.page for leaf in broken} | set(mapped.carved)
            damaged = {leaf.page for leaf in broken} | set(mapped.unsound)
            self._tell("Taking rows one by one", 0, len(bad))
            tally = Tally()
            new.take(
                Row(row.table, row.values, row.page, row.damaged or row.page in damaged)
                for row in carve(pages, bad, forest, tally)
            )
            damaged |= misplaced(mapped, forest)
            damaged |= set(forest.faults) | set(tally.faults) | ({1} if forest.schema_fault else set())
            suspects = damaged - bad
            for name, leaves in mapped.leaves.items():  # sound leaves in a wrong place were copied with the others
                new.reports[name].from_damaged += sum(leaf.rows for leaf in leaves if leaf.page in suspects)
            for report in new.reports.values():  # some of those are in quarantine
                report.from_damaged = min(report.from_damaged, report.kept)
            self._take_what_is_missing(new)
            self._judge_variables(new)
            self._count_losses(new, pages, forest, damaged, tally)
            new.keep_user_of_variable()
            new.mend_references()
            self._tell("Making indexes", 0, 0)
            new.make_indexes()
        finally:
            new.close()
        named = sorted(damaged)
        return RepairReport(
            "rebuilt",
            faults=faults[:_MOST_FAULTS],
            tables=list(new.reports.values()),
            bad_pages=named[:_MOST_NAMED_PAGES],
            bad_page_count=len(named),
            pages=pages.count,
            aside=str(self._aside.folder),
        )

    def _take_what_is_missing(self, new: Rebuild) -> None:
        """Take the few rows that a plain read of the damaged file gives, and the pages alone did not.

        Raises:
            StoreError: there are many of them: the result would be worse than a plain read.
        """
        missing = missing_rows(self._source, new.connection, new.reports, self._order.at)
        if any(len(rows) > MOST_MISSING for rows in missing.values()):
            tables = ", ".join(f"{table.name}: {len(rows)} or more" for table, rows in missing.items())
            raise StoreError(
                f"the repaired database would lack rows that the damaged one still gives ({tables});"
                " nothing was changed"
            )
        new.take(Row(table, values, 0, damaged=True) for table, rows in missing.items() for values in rows)

    def _copy_leaves(self, new: Rebuild, mapped: Survey, layout: Layout) -> list[Leaf]:
        """Copy the rows of sound leaves at SQLite's own speed; return the leaves at which it stumbles."""
        if layout.encoding != OWN.encoding:  # SQLite attaches no such file: all rows are taken one by one
            mapped.carved += [leaf.page for leaves in mapped.leaves.values() for leaf in leaves]
            mapped.leaves = {name: [] for name in mapped.leaves}
            return []
        stitched = self._making.with_name(self._making.name + "-old")
        stitch(self._source, stitched, mapped.leaves, layout)
        new.attach(stitched, "old")
        broken = self._copy(new, mapped)
        new.detach("old")
        stitched.unlink()
        return broken

    def _count_losses(self, new: Rebuild, pages: PageFile, forest: Forest, damaged: set[int], tally: Tally) -> None:
        unreadable = {table.name for table in TABLES} if tally.unreadable[""] else set(tally.unreadable)
        with contextlib.suppress(sqlite3.DatabaseError):  # indexes then cannot be asked
            new.attach(self._source, "source")
        count_losses(new.connection, pages, forest, damaged, unreadable, reports=new.reports, at=self._order.at)
        with contextlib.suppress(sqlite3.DatabaseError):
            new.detach("source")

    def _copy(self, new: Rebuild, mapped: Survey) -> list[Leaf]:
        """Copy what SQLite can read; return the leaves at which it stumbles."""
        broken: list[Leaf] = []
        of = sum(map(len, mapped.leaves.values()))
        done = 0
        # What earlier repairs have set apart comes first: what this one sets apart takes the numbers behind it.
        for table in reversed(TABLES):
            leaves = mapped.leaves.get(table.name, [])
            for at in range(0, len(leaves), CHUNK_LEAVES):
                self._tell("Copying rows", done, of)
                broken += new.copy(table, leaves[at : at + CHUNK_LEAVES])
                done += len(leaves[at : at + CHUNK_LEAVES])
        self._tell("Copying rows", of, of)
        return broken

    def _judge_variables(self, new: Rebuild) -> None:
        """Set apart what no system variable takes: its default then holds, and everybody can see why."""
        for name, value in new.connection.execute("SELECT name, value FROM variable").fetchall():
            if fault := self._order.variable_fault(name, value):
                new.quarantine(VARIABLES, (name, value), fault)
                new.connection.execute("DELETE FROM variable WHERE name = ?", (name,))
                new.reports["variable"].kept -= 1

    def _finish(self, report: RepairReport, *, values: bool = False) -> None:
        """Check the new file, keep the report, and let the new file take the old one's place."""
        self._keep_state(report)
        left = inspect(
            self._making,
            self._order.variable_fault,
            lambda name, done, of: self._tell(f"New file: {name}", done, of),
            closed=True,
            values=values,  # else each was looked at on its way in
        )
        if faults := [fault for step in left.values() for fault in step]:
            raise StoreError(f"the repaired database is not sound ({faults[0]}); nothing was changed")
        write(self._aside.folder / REPORT_NAME, json.dumps(report.as_data(), indent=1).encode() + b"\n", over=True)
        sync(self._aside.folder)
        publish(self._making, self._order.live)

    def _keep_state(self, report: RepairReport) -> None:
        value = json.dumps(
            {
                "at": self._order.at,
                "outcome": report.outcome,
                "kept": report.kept,
                "lost": report.lost_text,
                "quarantined": report.quarantined,
                "aside": report.aside,
            }
        )
        with closing(sqlite3.connect(self._making, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF").fetchall()
            connection.execute("PRAGMA journal_mode=MEMORY").fetchall()
            connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (REPAIR_STATE, value))
            connection.execute("DELETE FROM state WHERE key = ?", (LOST_STATE,))  # of an earlier repair
            if report.lost_tables:
                value = json.dumps({"at": self._order.at, "aside": Path(report.aside).name})
                connection.execute("INSERT INTO state VALUES (?, ?)", (LOST_STATE, value))
            highest = highest_numbers(connection, report.tables, self._order.given, self._order.at)
            raise_numbers(connection, highest, self._order.at)


def _require_ours(file: Path) -> bool:
    """Refuse what another program, or a newer version, has written; a damaged schema alone is no such sign.

    Returns:
        Whether the schema could be read at all.

    Raises:
        ForeignDatabaseError, NewerSchemaError: says so.
    """
    try:
        with closing(open_quietly(file, closed=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            version, stamp = (
                connection.execute(f"PRAGMA {each}").fetchone()[0] for each in ("user_version", "application_id")
            )
    except sqlite3.Error:
        with contextlib.suppress(ForeignDatabaseError, DamagedDatabaseError):
            require_known(file)  # a newer version's, damaged: that one can mend more of it
        return False
    ours = {table.name for table in TABLES}
    newest = max(migrations())
    if stamp == APPLICATION_ID and newest < version < newest + 1000 and not tables <= ours:
        raise NewerSchemaError(
            f"the database has schema {version}, this version knows {newest}: use a newer callisto-telnetd"
        )
    if tables and not tables & ours:
        raise ForeignDatabaseError("the file is another program's database; nothing was changed")
    return bool(tables)


def _require_rows(pages: PageFile, mapped: Survey) -> None:
    """Refuse a file that has content, and none of Callisto's.

    Raises:
        ForeignDatabaseError: says so.
    """
    if any(mapped.leaves.values()) or has_stamp(pages.page(1)) or pages.size <= pages.layout.page_bytes:
        return
    has_content = any(any(pages.page(number)) for number in range(1, min(pages.count, _LOOKED_AT) + 1))
    if has_content and next(carve(pages), None) is None:
        raise ForeignDatabaseError("nothing of Callisto's can be found in the file; nothing was changed")
