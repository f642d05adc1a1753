"""A repair of the running appliance's database, from the first look to the services that come back.

Rules:

* A repair belongs to the appliance, not to the session that began it: whoever leaves does not stop it.
* It looks first while everything runs. Where all is sound, services stop for the moment in which the file is closed,
  opened anew and read again; else they stop for the repair.
* From the moment a fault is known until the file is set aside, nothing is written to it: the audit waits in memory.
  Without a server nobody has opened the file before that.
* They come back whatever happens, a cancelled server's end among it: :attr:`Surroundings.pause` sees to that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import orjson

from callisto_telnetd.accounts.accounts import Accounts
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.publish import new_of
from callisto_telnetd.db.salvage.aside import remove_unfinished
from callisto_telnetd.db.salvage.report import REPORT_NAME, RepairReport
from callisto_telnetd.db.salvage.room import require_room
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import CallistoError, DamagedDatabaseError, StoreError, UsageError
from callisto_telnetd.maintenance.database_lock import DatabaseLock
from callisto_telnetd.maintenance.given_numbers import given_numbers
from callisto_telnetd.maintenance.run import Run
from callisto_telnetd.maintenance.workshop import Progress, Workshop
from callisto_telnetd.origin import Origin
from callisto_telnetd.quantities import counted
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.variables import Registry
from callisto_telnetd.work import end, in_thread


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The appliance's parts that a repair touches."""

    folder: DataFolder
    store: Store
    workshop: Workshop
    variables: Registry
    accounts: Accounts
    clock: Clock
    audit: Audit
    presence: Presence
    log: Log
    one_at_a_time: DatabaseLock
    """Held by whoever works on the whole database."""
    pause: Callable[[str], AbstractAsyncContextManager[None]]
    """Stops the services that a repair must stop, for the reason given, and starts them again on leaving."""
    reload: Callable[[], Awaitable[None]]
    """Reads all that is held in memory from the database again."""
    note_sound: Callable[[], Awaitable[None]]
    """Keeps that a full check has found the database sound, and ends the notice of a fault."""


RepairRun = Run[RepairReport]
"""A repair that runs, or has ended."""


class Repairs:
    """The appliance's repairs: one at a time."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._running: RepairRun | None = None
        self._noted = False

    def begin(self, origin: Origin, session: int | None = None, backup: Path | None = None) -> RepairRun:
        """Begin a repair and return it; it runs to its end whatever becomes of the caller.

        Args:
            origin: Who begins it.
            session: His session, which is told of it anyway.
            backup: A sound copy that takes the place of the database, whatever state that is in.

        Raises:
            UsageError: one is running already, or something else works on the whole database.
        """
        around = self._around
        around.one_at_a_time.require_free()
        if self._running is not None:
            raise UsageError("a repair is running already")
        run = RepairRun()
        self._running = run
        run.task = asyncio.create_task(self._run(run, origin, session, backup), name="repair")
        run.task.add_done_callback(self._forget)
        run.task.add_done_callback(run.ended)
        return run

    def _forget(self, task: asyncio.Task[RepairReport]) -> None:
        self._running = None
        if not task.cancelled() and (error := task.exception()) is not None:  # told to the caller, if he is still there
            known = isinstance(error, CallistoError)
            self._around.log.error("repair failed", reason=str(error), **({} if known else {"exc_info": error}))

    async def close(self) -> None:
        """Stop a repair that runs: the server ends. The old database stays, or the new one is in its place."""
        if self._running is not None and self._running.task is not None:
            await end(self._running.task)

    async def _run(self, run: RepairRun, origin: Origin, session: int | None, backup: Path | None) -> RepairReport:
        around = self._around
        async with around.one_at_a_time.held(origin.who, "repairs the database"):
            around.presence.notify_all(f"a repair of the database was begun by {origin.who}", but=session)
            result, self._noted = "it failed", False
            try:
                faults = ["it is replaced"] if backup else await self._look(run)
                report = await self._work(run, backup, faults, origin)
                result = summary(report)
                await around.note_sound()
                return report
            except CallistoError as error:
                result = f"it failed: {error}"
                raise
            except asyncio.CancelledError:
                result = "it was stopped; nothing was changed"
                raise
            finally:
                self._tell_end(f"the repair of the database has ended: {result}", origin, session)
                if around.store.damage:
                    around.store.tell_damage()
                await self._note_begun(origin)
                await around.audit.note("repair ended", origin, result)

    async def _note_begun(self, origin: Origin) -> None:
        """Have the audit tell of the beginning, once."""
        if not self._noted:
            self._noted = True
            await self._around.audit.note("repair begun", origin)

    def _tell_end(self, text: str, origin: Origin, session: int | None) -> None:
        """Tell the sessions; who has begun it and is gone reads it at the next log-in."""
        presence = self._around.presence
        presence.notify_all(text, but=session)
        if session is not None and all(entry.origin.who != origin.who for entry in presence.all()):
            presence.tell(origin.who, text)

    async def _work(self, run: RepairRun, backup: Path | None, faults: list[str], origin: Origin) -> RepairReport:
        """Close the file, repair it where that is due, open it again and read all anew."""
        around = self._around
        untouched, played_back = around.store.untouched, around.store.played_back
        if faults:
            await in_thread(require_room, around.folder.database, backup)  # before anything stops
        by = {"who": origin.who, "door": origin.door, "source": origin.source}
        given = await given_numbers(around.store, around.audit, around.variables)
        run.told(Progress("Stopping services", 0, 0))
        async with around.pause("the repair"):
            report, failure = RepairReport("sound"), None
            async with around.store.hold("repaired"):
                await self._note_begun(origin)  # which waits in memory now
                stamp = around.clock.now().strftime("%Y%m%d-%H%M%S")
                around.accounts.mended.clear()
                try:
                    if faults:
                        report = await self._mend(run, backup, stamp, {"by": by, "given": given})
                except StoreError as error:
                    failure = error
            if failure is not None:
                report = await in_thread(self._done_all_the_same, stamp, failure)
            if around.store.fault is not None:
                raise type(around.store.fault)(str(around.store.fault))
            await around.store.note_sound()
            run.told(Progress("Reading everything again", 0, 0))
            # Without a server the accounts are those of the file until now: a sound database knows better.
            around.accounts.replaced = around.accounts.replaced or (report.outcome == "sound" and untouched)
            await around.reload()
            if played_back:
                report.notes.append(f"A journal was rolled back when the database was opened: {played_back}")
            report.notes += around.accounts.mended
            run.told(Progress("Starting services", 0, 0))
        return report

    async def _look(self, run: RepairRun) -> list[str]:
        """Return what is wrong; the appliance goes on working meanwhile."""
        around = self._around
        if around.store.fault is not None:
            return [str(around.store.fault)]
        order = {"live": str(around.folder.database)}
        try:
            found = (await around.workshop.run("check", order, run.told, self._variable_fault))["found"]
        except DamagedDatabaseError as error:
            faults = of_structure = [str(error)]
        else:
            faults = [fault for each in found.values() for fault in each]
            of_structure = await in_thread(_of_structure, found)
        if of_structure:
            await around.store.note_damage(of_structure[0], tell=False)  # unless the repair fails: see _run
        return faults

    def _done_all_the_same(self, stamp: str, failure: StoreError) -> RepairReport:
        """Return the report of a repair whose worker failed, or was killed, when its new file counted already.

        Else what it has set aside goes: it is a second name of a file that goes on being written to.

        Raises:
            StoreError: the failure; the database is as it was.
        """
        folder = self._around.folder
        if new_of(folder.database).exists():  # it could not be put in its place: nothing is to go
            raise failure
        try:
            remove_unfinished(folder.database, folder.damaged)
        except StoreError as error:
            self._around.log.warning("what was set aside is still there", reason=str(error))
            raise failure from None
        for report in sorted(folder.damaged.glob(f"{stamp}*/{REPORT_NAME}")):
            self._around.log.warning("the repair's worker failed after its work was done", reason=str(failure))
            return RepairReport.from_data(orjson.loads(report.read_bytes()))
        raise failure

    async def _mend(self, run: RepairRun, backup: Path | None, stamp: str, more: Mapping[str, object]) -> RepairReport:
        around = self._around
        now = around.clock.now()
        order = {
            "live": str(around.folder.database),
            "damaged": str(around.folder.damaged),
            "stamp": stamp,
            "at": now.isoformat(timespec="seconds"),
            "backup": str(backup) if backup else "",
            **more,
        }
        # No cancellation of a caller gets here: the task is the appliance's own, and only its end cancels it.
        return RepairReport.from_data(await around.workshop.run("repair", order, run.told, self._variable_fault))

    def _variable_fault(self, name_and_text: Sequence[str]) -> str | None:
        name, text = name_and_text
        return self._around.variables.fault_of(name, text)


def _of_structure(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what of a check's faults is of the structure of the file; an import, and so a thread's work."""
    from callisto_telnetd.db.inspection import faults_of_structure  # noqa: PLC0415 - no start needs it

    return faults_of_structure(found)


def summary(report: RepairReport) -> str:
    """Return the outcome in a few words."""
    if report.outcome == "sound":
        return "database is sound"
    if report.outcome == "backup":
        return f"database replaced by the backup, {counted(report.kept, 'row')}"
    quarantined = f", {report.quarantined} quarantined" if report.quarantined else ""
    return f"database repaired, {counted(report.kept, 'row')} kept, {report.lost_text} lost{quarantined}"
