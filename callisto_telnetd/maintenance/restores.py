"""A restore of the running appliance: from the plan to the services that come back, and its undo.

Rules:

* A restore belongs to the appliance, not to the session that began it: whoever leaves does not stop it.
* All that takes time is done beside a server that works: the plan, the new state, its check. Services stop, and the
  database is held, for the switch alone. Until then, whatever fails has changed nothing.
* The switch is one rename (``db/restore/switch.py``). What cannot be opened, checked or read after it goes back by
  itself to the files that gave way.
* Clock, schedule diary, and all else that the appliance remembers of itself are not moved by a restore
  (:data:`~callisto_telnetd.db.restore.staging.NEVER_FROM_BACKUP`).
* ``callisto.toml`` is replaced together with the database, and counts from the next start of the server.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from callisto_telnetd import __version__
from callisto_telnetd.accounts.accounts import Account
from callisto_telnetd.db.check import check_quickly
from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.restore.recordings import remove_unnamed
from callisto_telnetd.db.restore.switch import discard, new_of
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.errors import (
    CallistoError,
    DamagedDatabaseError,
    RestoreError,
    StoreError,
    UnfinishedError,
    UsageError,
)
from callisto_telnetd.maintenance.given_numbers import given_numbers
from callisto_telnetd.maintenance.past_state import PastState, note_text, read_past
from callisto_telnetd.maintenance.repair import Surroundings
from callisto_telnetd.maintenance.restore_plan import Plan
from callisto_telnetd.maintenance.restore_planning import Planning
from callisto_telnetd.maintenance.run import Run
from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.origin import Origin
from callisto_telnetd.trace.sanitiser import clean
from callisto_telnetd.work import end, in_thread

_MOST_NAMED = 150
"""Characters of a backup's name in the history of variables."""
_CLOCK_STATE = "clock"
"""The key of the ``state`` row that the clock begins from at the next start."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has done."""

    name: str
    rows: int
    notes: tuple[str, ...]
    """What people should know of it, a line each."""
    apart: Doubtful
    """The rows that were set apart."""


RestoreRun = Run[Restored]
"""A restore that runs, or has ended."""


class Restores:
    """The appliance's restores: one at a time."""

    def __init__(
        self,
        around: Surroundings,
        edition: str,
        settings_faults: Callable[[Path], Sequence[str]],
        settings_elsewhere: Path | None = None,
    ) -> None:
        """Stand by.

        Args:
            around: The appliance's parts.
            edition: The appliance's.
            settings_faults: Returns why no server would start with a settings file, a line each; may wait.
            settings_elsewhere: The file that the owner has named in the place of the data folder's: it stays.
        """
        self._around = around
        self._edition = edition
        self._planning = Planning(around, edition, settings_faults, settings_elsewhere)
        self._running: RestoreRun | None = None

    async def plan(self, backup: Unpacked, origin: Origin, told: Callable[[Progress], None] = lambda _: None) -> Plan:
        """Return what a restore would do; as :meth:`Planning.planned` has it, and nothing that it names is kept.

        Raises:
            StoreError: the worker failed.
        """
        async with self._planning.planned(backup, origin, told) as plan:
            return plan

    async def faults_of_present_settings(self) -> Sequence[str]:
        """Return why a restore of a backup that is made now would refuse its settings, a line each."""
        return await self._planning.faults_of_present_settings()

    async def past(self) -> PastState | None:
        """Return the state before the last restore, None where there is none."""
        past = await in_thread(read_past, self._around.folder.database)
        if past is None:
            return None
        name = f"the state before {self._around.clock.format_stamp(past.at)}"
        return replace(past, backup=replace(past.backup, name=name))

    async def since(self, at: datetime) -> PastState | None:
        """Return the state that gave way to the last restore, None where none is known, or all came before ``at``.

        What is of one second with the restore counts as before it.
        """
        try:
            past = await self.past()
        except StoreError:  # what is kept for an undo is damaged: ``backup undo`` says so
            return None
        return past if past is not None and datetime.fromisoformat(past.at) >= at else None

    def begin(self, backup: Unpacked, origin: Origin, session: int | None = None) -> RestoreRun:
        """Begin a restore and return it; it runs to its end whatever becomes of the caller.

        Args:
            backup: What is restored; its files stay as they are until the run has ended.
            origin: Who begins it.
            session: His session, which is told of it anyway.

        Raises:
            UsageError: one is running already, or something else works on the whole database.
        """
        return self._begin(backup, origin, session)

    def begin_undo(self, origin: Origin, session: int | None = None) -> RestoreRun:
        """Begin to go back to the state before the last restore; another undo then goes forward again.

        Raises:
            UsageError: as for :meth:`begin`. The run fails with :class:`RestoreError` where there is no such state.
        """
        return self._begin(None, origin, session)

    def _begin(self, backup: Unpacked | None, origin: Origin, session: int | None) -> RestoreRun:
        self._around.one_at_a_time.require_free()
        if self._running is not None:
            raise UsageError("a restore is running already")
        run = RestoreRun()
        self._running = run
        run.task = asyncio.create_task(self._run(run, backup, origin, session), name="restore")
        run.task.add_done_callback(self._forget)
        run.task.add_done_callback(run.ended)
        return run

    def _forget(self, task: asyncio.Task[Restored]) -> None:
        self._running = None
        if not task.cancelled() and (error := task.exception()) is not None:  # told to the caller, if he is still there
            known = isinstance(error, CallistoError)
            self._around.log.error("restore failed", reason=str(error), **({} if known else {"exc_info": error}))

    async def close(self) -> None:
        """Stop a restore that runs: the server ends. The old state stays, or the new one is in its place."""
        if self._running is not None and self._running.task is not None:
            await end(self._running.task)

    async def _run(self, run: RestoreRun, backup: Unpacked | None, origin: Origin, session: int | None) -> Restored:
        around, what, article = self._around, *(("restore", "a") if backup else ("undo of a restore", "an"))
        async with around.one_at_a_time.held(origin.who, "restores a backup" if backup else "undoes a restore"):
            around.presence.notify_all(f"{article} {what} was begun by {origin.who}", but=session)
            await around.audit.note(f"{what} begun", origin, backup.name if backup else "")
            result = "it failed"
            try:
                done = await self._work(run, backup or await self._past_backup(), origin, session)
                result = f"{done.name} is in place"
                await around.note_sound()
                return done
            except CallistoError as error:
                result = f"it failed: {error}"
                raise
            except asyncio.CancelledError:
                result = "it was stopped; the next start settles it"
                raise
            finally:
                await in_thread(self._tidy)
                self._tell_end(f"the {what} has ended: {result}", origin, session)
                await around.audit.note(f"{what} ended", origin, result)

    def _tidy(self) -> None:
        """Remove what a worker that was killed has left, and recordings that no state names now."""
        around = self._around
        discard(around.folder.database)
        if around.store.fault is None:
            try:
                remove_unnamed(around.folder.database)
            except StoreError as error:
                around.log.warning("what the restore has left is removed at the next start", reason=str(error))

    def _tell_end(self, text: str, origin: Origin, session: int | None) -> None:
        """Tell the sessions; who has begun it and is gone reads it at the next log-in."""
        presence = self._around.presence
        presence.notify_all(text, but=session)
        if session is not None and all(entry.origin.who != origin.who for entry in presence.all()):
            presence.tell(origin.who, text)

    async def _past_backup(self) -> Unpacked:
        past = await self.past()
        if past is None:
            raise RestoreError("there is no state from before a restore to go back to; nothing was changed")
        return past.backup

    async def _work(self, run: RestoreRun, backup: Unpacked, origin: Origin, session: int | None) -> Restored:
        async with self._planning.planned(backup, origin, run.told) as plan:
            return await self._put(run, plan, origin, session)

    async def _put(self, run: RestoreRun, plan: Plan, origin: Origin, session: int | None) -> Restored:
        around = self._around
        if plan.refusals:
            raise plan.refusals[0]
        at = around.clock.now().isoformat(timespec="seconds")
        order = {"live": str(around.folder.database), "backup": plan.backup.as_data(), "at": at}
        apart = Doubtful.from_data(await around.workshop.run("restore stage", order, run.told))
        before = around.accounts.all()
        run.told(Progress("Stopping services", 0, 0))
        async with around.pause("the restore"):
            # A state that cannot be used goes, and what was written to it.
            with around.audit.paused(), around.store.reservation.held("restored"):
                await self._switch(run, plan, origin)
                try:
                    await self._require_working(run)
                except StoreError as error:
                    raise await self._go_back(run, before, error) from None
            if plan.takes_accounts:
                self._end_sessions(before, session)
            run.told(Progress("Starting services", 0, 0))
        return Restored(plan.backup.name, plan.rows, plan.notes, apart)

    async def _switch(self, run: RestoreRun, plan: Plan, origin: Origin) -> None:
        """Put the new state in its place while nobody has the database open.

        Raises:
            StoreError: nothing was changed.
        """
        around = self._around
        mark = secrets.token_hex(16)
        given = await given_numbers(around.store, around.audit, around.variables)
        order = self._switch_order(plan, mark, origin) | {"given": given}
        async with around.store.hold("restored"):
            around.accounts.mended.clear()
            try:
                await around.workshop.run("restore switch", order, run.told)
            except StoreError as error:
                if not isinstance(error, UnfinishedError) and not await self._counts(mark):
                    raise
                around.log.warning("the restore was finished by the opening", reason=str(error))
            around.accounts.replaced = plan.takes_accounts

    def _switch_order(self, plan: Plan, mark: str, origin: Origin) -> dict[str, Any]:
        """Return the order of the switch: what memory knows better than any file goes with it."""
        around = self._around
        at = around.clock.now().isoformat(timespec="seconds")
        name = clean(plan.backup.name, _MOST_NAMED)
        note = f"back to {name}" if plan.backup.is_past else f"restored from {name}"
        return {
            "change": {"at": at, "who": origin.who, "door": origin.door, "source": origin.source, "note": note},
            "live": str(around.folder.database),
            "accounts": None if plan.takes_accounts else [_row(each) for each in around.accounts.all()],
            "remembered": {_CLOCK_STATE: around.clock.state().to_json()},
            "note": note_text(
                at=at,
                restored=plan.backup.name,
                accounts=plan.takes_accounts,
                edition=self._edition,
                version=__version__,
                mark=mark,
            ),
        }

    async def _counts(self, mark: str) -> bool:
        """Whether the new state counts although its worker failed, or was killed: it is past the point of no return."""
        live = self._around.folder.database
        if await in_thread(new_of(live).exists):
            return True
        past = await in_thread(read_past, live)
        return past is not None and past.mark == mark

    async def _require_working(self, run: RestoreRun) -> None:
        """Look at every page of the new database, and read all from it.

        Raises:
            StoreError: that cannot be done.
        """
        around = self._around
        self._require_store()
        run.told(Progress("Checking what is in place", 0, 0))
        if faults := await check_quickly(around.store):
            raise DamagedDatabaseError(f"the database is damaged: {faults[0]}")
        run.told(Progress("Reading everything again", 0, 0))
        await around.reload()
        self._require_store()

    def _require_store(self) -> None:
        if (fault := self._around.store.fault) is not None:
            raise type(fault)(str(fault))

    async def _go_back(self, run: RestoreRun, before: Sequence[Account], why: StoreError) -> StoreError:
        """Put back what gave way; return the error that says so."""
        around = self._around
        reason = str(why).removesuffix("; nothing was changed")
        if await in_thread(new_of(around.folder.database).exists):
            return UnfinishedError(f"the restore is not finished: {reason}; the next start of the server finishes it")
        around.log.error("the restored state cannot be used", reason=reason)
        async with around.store.hold("restored"):
            try:
                await around.workshop.run("restore back", {"live": str(around.folder.database)}, run.told)
            except StoreError as error:
                return RestoreError(
                    f"the restored state cannot be used: {reason}; nor can the one from before: {error}"
                )
            around.accounts.return_to(before)
        await around.reload()
        return RestoreError(f"the restored state cannot be used: {reason}; the state from before is back")

    def _end_sessions(self, before: Sequence[Account], session: int | None) -> None:
        """End the sessions of accounts that are no longer there, or have another password."""
        around = self._around
        now = {each.name: each.password_hash for each in around.accounts.all()}
        for each in before:
            if now.get(each.name) != each.password_hash:
                around.presence.end_sessions_of(each.name, "the accounts were restored from a backup", but=session)


def _row(account: Account) -> list[str | None]:
    access = account.last_access
    last = (access.at, access.source, access.door) if access else (None, None, None)
    return [account.name, account.password_hash, account.created_at, *last]
