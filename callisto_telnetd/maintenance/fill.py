"""What a repair has lost is filled up out of a backup: which tables lack rows, and the rows taken.

Rules:

* Only tables of which the last repair has lost rows are filled; its report in ``damaged/`` says which. The database
  says that it comes out of that repair, until the rows are filled up; another database does not (:data:`LOST_STATE`).
* A backup from after the repair has none of them.
* The file is closed for the moment of the transaction; sessions go on, and what is in memory is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import orjson

from callisto_telnetd.db.salvage.report import LOST_STATE, REPORT_NAME, RepairReport
from callisto_telnetd.errors import CallistoError, UsageError
from callisto_telnetd.maintenance.repair import Surroundings
from callisto_telnetd.maintenance.sound import require_sound
from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.origin import Origin
from callisto_telnetd.trace.sanitiser import clean
from callisto_telnetd.work import Tasks, in_thread

_MOST_REPORT_BYTES = 1 << 20
_MOST_NAMED = 150


@dataclass(frozen=True, slots=True)
class Source:
    """The backup that rows are taken out of."""

    name: str
    database: Path
    """Sound, and nobody writes to it."""
    recordings: Path | None
    """A folder with recordings that are not here."""
    at: datetime
    """When it was made."""
    own: bool
    """Whether the file was unpacked for this, and may be brought up to date."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What the last repair has lost."""

    report: RepairReport
    at: datetime
    """When the repair was made."""

    def has(self, at: datetime) -> bool:
        """Whether a backup of that time may have it; what is of one second with the repair counts as before it."""
        return at.replace(microsecond=0) <= self.at

    def order(self) -> Mapping[str, object]:
        """Return what a worker is to know of it (:class:`~callisto_telnetd.db.salvage.fill.Wanted`)."""
        tables = self.report.tables
        return {
            "lost": [each.table for each in tables if each.may_lack_rows],
            "placeholders": [each.table for each in tables if each.placeholders],
        }


class Fill:
    """Fills up what the last repair has lost."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._tasks = Tasks()

    async def lost(self) -> Lost:
        """Return what the last repair has lost, where it is to be filled up.

        Raises:
            UsageError: it has lost nothing, or that is filled up, or another database has taken the place.
            StoreError: the database cannot answer, or is known to be damaged.
        """
        self._require_sound()
        report, aside = await in_thread(self._last_report)
        try:
            kept = orjson.loads(await self._around.store.get_state(LOST_STATE) or "{}")
            at = datetime.fromisoformat(kept["at"]) if kept["aside"] == aside else None
        except (ValueError, TypeError, KeyError):
            at = None
        if at is None or at.tzinfo is None:
            raise UsageError(
                "what the last repair has lost is filled up, or another database has taken the place of the repaired"
                " one; nothing was changed"
            )
        return Lost(report, at)

    def _last_report(self) -> tuple[RepairReport, str]:
        """Return the report of the last repair, if that has lost rows, and the name of its folder."""
        for path in sorted(self._around.folder.damaged.glob(f"*/{REPORT_NAME}"), reverse=True):
            try:
                with path.open("rb") as stream:
                    report = RepairReport.from_data(orjson.loads(stream.read(_MOST_REPORT_BYTES)))
            except (OSError, ValueError, TypeError, KeyError):
                continue  # somebody else's
            if report.outcome in ("rebuilt", "recovered") and report.lost_tables:
                return report, path.parent.name
            break
        raise UsageError("the last repair has lost no rows; nothing was changed")

    async def look(self, source: Source, lost: Lost, told: Callable[[Progress], None]) -> dict[str, int]:
        """Return how many rows could be taken, by table.

        Raises:
            UsageError: something else works on the whole database, or the backup is from after the repair.
            StoreError: the backup cannot be used, or the database is known to be damaged.
        """
        self._require_sound()
        if not lost.has(source.at):
            raise UsageError(
                f"{source.name} is from after the repair, and has nothing of what was lost; nothing was changed"
            )
        self._around.one_at_a_time.require_free()
        order = {**self._order(source, lost), "own": source.own}
        return {
            str(table): int(count)
            for table, count in (await self._around.workshop.run("fill look", order, told)).items()
        }

    def begin(
        self, source: Source, lost: Lost, found: Mapping[str, int], origin: Origin, told: Callable[[Progress], None]
    ) -> asyncio.Task[dict[str, int]]:
        """Begin to take the rows that a look has found; return what tells how many were taken, by table.

        It goes on to its end whatever becomes of the caller, and needs the source until then.

        Raises:
            UsageError: something else works on the whole database.
            StoreError: the database is known to be damaged. The task raises it as well; nothing was changed then.
        """
        self._require_sound()
        self._around.one_at_a_time.require_free()
        task = self._tasks.begin(self._take(source, lost, found, origin, told), "filling up")
        task.add_done_callback(partial(self._tell_failure, origin))
        return task

    async def _take(
        self, source: Source, lost: Lost, found: Mapping[str, int], origin: Origin, told: Callable[[Progress], None]
    ) -> dict[str, int]:
        around = self._around
        note = f"taken out of {clean(source.name, _MOST_NAMED)}"
        at = around.clock.now().isoformat(timespec="seconds")
        change = {"at": at, "who": origin.who, "door": origin.door, "source": origin.source, "note": note}
        order = {**self._order(source, lost), "found": dict(found), "change": change}
        async with around.one_at_a_time.held(origin.who, "takes lost rows out of a backup"):
            async with around.store.hold("filled"):
                self._require_sound()  # a damage that became known meanwhile
                taken: dict[str, int] = await around.workshop.run("fill", order, told)
            await around.reload()
        await around.audit.note("lost rows taken", origin, f"{source.name}: {counts_text(taken)}")
        return taken

    def _tell_failure(self, origin: Origin, task: asyncio.Task[dict[str, int]]) -> None:
        """Log why no rows were taken; who has begun it and is gone reads that at the next log-in."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        around, known = self._around, isinstance(error, CallistoError)
        around.log.error("lost rows not taken", reason=str(error), **({} if known else {"exc_info": error}))
        if all(entry.origin.who != origin.who for entry in around.presence.all()):
            around.presence.tell(origin.who, f"lost rows were not taken: {error if known else 'internal error'}")

    def _require_sound(self) -> None:
        require_sound(self._around.store, "only a sound database can be filled up")

    def _order(self, source: Source, lost: Lost) -> Mapping[str, object]:
        return {
            "live": str(self._around.folder.database.absolute()),
            "backup": str(source.database.absolute()),
            "recordings": str(source.recordings.absolute()) if source.recordings else "",
            "wanted": lost.order(),
        }

    async def close(self) -> None:
        """Return once rows that are being taken are in place."""
        await self._tasks.ended()


def counts_text(counts: Mapping[str, int]) -> str:
    """Return how many rows of which tables: ``call_record: 238, user: 1``."""
    return ", ".join(f"{table}: {count}" for table, count in counts.items())
