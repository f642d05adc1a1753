"""What a repair has lost is filled up out of a backup: which tables lack rows, and the rows taken.

Rules:

* Only tables of which the last repair has lost rows are filled; its report in ``damaged/`` says which.
* The file is closed for the moment of the transaction; sessions go on, and what is in memory is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from callisto_telnetd.db.salvage.report import REPORT_NAME, RepairReport
from callisto_telnetd.errors import UsageError
from callisto_telnetd.maintenance.repair import Surroundings
from callisto_telnetd.maintenance.sound import require_sound
from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.origin import Origin
from callisto_telnetd.trace.sanitiser import clean
from callisto_telnetd.work import Tasks

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
    own: bool
    """Whether the file was unpacked for this, and may be brought up to date."""


class Fill:
    """Fills up what the last repair has lost."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._tasks = Tasks()

    def last_report(self) -> RepairReport:
        """Return the report of the last repair that has lost rows; waits for the disk.

        Raises:
            UsageError: there is none, or it has lost none.
        """
        for path in sorted(self._around.folder.damaged.glob(f"*/{REPORT_NAME}"), reverse=True):
            try:
                with path.open("rb") as stream:
                    report = RepairReport.from_data(orjson.loads(stream.read(_MOST_REPORT_BYTES)))
            except (OSError, ValueError, TypeError, KeyError):
                continue  # somebody else's
            if report.outcome in ("rebuilt", "recovered") and report.lost_tables:
                return report
            break
        raise UsageError("the last repair has lost no rows; nothing was changed")

    async def look(self, source: Source, lost: list[str], told: Callable[[Progress], None]) -> dict[str, int]:
        """Return how many rows could be taken, by table.

        Raises:
            UsageError: something else works on the whole database.
            StoreError: the backup cannot be used, or the database is known to be damaged.
        """
        self._require_sound()
        self._around.one_at_a_time.require_free()
        order = {**self._order(source, lost), "own": source.own}
        return {
            str(table): int(count)
            for table, count in (await self._around.workshop.run("fill look", order, told)).items()
        }

    async def take(
        self, source: Source, lost: list[str], origin: Origin, told: Callable[[Progress], None]
    ) -> dict[str, int]:
        """Take the rows, and return how many, by table; it goes on to its end where the caller is gone.

        Raises:
            UsageError: something else works on the whole database.
            StoreError: nothing was changed.
        """
        self._require_sound()
        self._around.one_at_a_time.require_free()
        return await self._tasks.finish(self._take(source, lost, origin, told))

    async def _take(
        self, source: Source, lost: list[str], origin: Origin, told: Callable[[Progress], None]
    ) -> dict[str, int]:
        around = self._around
        note = f"taken out of {clean(source.name, _MOST_NAMED)}"
        at = around.clock.now().isoformat(timespec="seconds")
        change = {"at": at, "who": origin.who, "door": origin.door, "source": origin.source, "note": note}
        order = {**self._order(source, lost), "change": change}
        async with around.one_at_a_time.held(origin.who, "takes lost rows out of a backup"):
            async with around.store.hold("filled"):
                self._require_sound()  # a damage that became known meanwhile
                taken: dict[str, int] = await around.workshop.run("fill", order, told)
            await around.reload()
        await around.audit.note("lost rows taken", origin, f"{source.name}: {counts_text(taken)}")
        return taken

    def _require_sound(self) -> None:
        require_sound(self._around.store, "only a sound database can be filled up")

    def _order(self, source: Source, lost: list[str]) -> Mapping[str, object]:
        return {
            "live": str(self._around.folder.database.absolute()),
            "backup": str(source.database.absolute()),
            "recordings": str(source.recordings.absolute()) if source.recordings else "",
            "lost": lost,
        }

    async def close(self) -> None:
        """Return once rows that are being taken are in place."""
        await self._tasks.ended()


def counts_text(counts: Mapping[str, int]) -> str:
    """Return how many rows of which tables: ``call_record: 238, user: 1``."""
    return ", ".join(f"{table}: {count}" for table, count in counts.items())
