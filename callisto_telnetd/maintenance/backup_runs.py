"""Backups on a schedule: made here, taken to their target, and told of where that fails.

Rules:

* A run is done when the target's copy was read back whole. Only then do older ones go there, and never what a
  schedule's last good run has brought. Here they go too where the target fails: its disk is not to fill up.
* At a target only files go whose names are ours and of this host; here only those that a schedule has made.
* A failure stands at every prompt until a run succeeds. It stops no other schedule.
* A run is kept as failed while it goes on: one that a killed or stopped server never ended is told by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.errors import BackupScheduleError, CallistoError, FolderError, TargetError, TransferError, quoted
from callisto_telnetd.maintenance.alarm import Alarm
from callisto_telnetd.maintenance.backup_retention import Retention, credentials_of
from callisto_telnetd.maintenance.backup_schedules import MOST_SCHEDULES, BackupSchedule, Outcome, ScheduleFile
from callisto_telnetd.maintenance.backup_trial import prove, remove_trials
from callisto_telnetd.maintenance.backups import Backups, require_no_doubtful
from callisto_telnetd.maintenance.own_target import require_outside
from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.origin import SYSTEM, Origin
from callisto_telnetd.services.scheduler import Job, Scheduler
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.transports.delivery import Pause, deliver
from callisto_telnetd.transports.target import Target
from callisto_telnetd.work import Tasks, in_thread

_LIMIT_S = 12 * 3600.0
"""A run may make five tries of six hours; whatever takes half a day is not a nightly backup."""
_MOST_TEXT = 400
_CUT_OFF = "it was stopped before its end"
_CUT_OFF_EARLIER = "the server had stopped before its end"
Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The appliance's parts that a scheduled backup touches."""

    file: ScheduleFile
    folder: Path
    """Of the archives, ``DIR/backup``."""
    host: str
    backups: Backups
    clock: Clock
    schedule: Scheduler
    audit: Audit
    presence: Presence
    log: Log
    alarm: Alarm
    """The owner's command for failures."""
    pause: Pause = asyncio.sleep
    """Waits between two tries of a delivery."""


class BackupRuns:
    """The schedules of backups of one appliance."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._schedules: dict[str, BackupSchedule] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._unreadable = ""
        self._running: dict[str, Outcome] = {}
        """What is kept of each run that is under way, for the next server."""
        self._writing = asyncio.Lock()
        self._retention = Retention(around.backups, around.host, around.clock, around.log)
        self._tasks = Tasks()
        """Changes of what is kept: each goes on to its end, whoever has asked for it and is gone."""
        self._telling: asyncio.Task[None] | None = None

    def open(self, *, serving: bool = True) -> None:
        """Read the schedules and put them on the appliance's; a file that cannot be read is told, and left alone.

        The small files of a killed server's tests go.

        Args:
            serving: Whether a server runs: it runs the owner's command for what an earlier one has not ended.
        """
        remove_trials(self._around.folder)
        try:
            self._schedules, self._outcomes = self._around.file.read()
        except FolderError as error:
            self._unreadable = str(error)
        if self._unreadable:
            self._around.log.error("no backup runs on a schedule", reason=self._unreadable)
            self._around.presence.stand("backup schedules", f"no backup runs on a schedule: {self._unreadable}")
        for schedule in self._schedules.values():
            self._around.schedule.add(self._job(schedule))
            self._tell(schedule.name)
        cut_off = [name for name in self._schedules if name in self._outcomes and self._outcomes[name].text == _CUT_OFF]
        if serving and cut_off:
            self._telling = self._tasks.begin(self._tell_cut_off(cut_off))

    async def close(self) -> None:
        """Return once nothing is told any more, and every change is kept."""
        if self._telling is not None:
            self._telling.cancel()
        await self._tasks.ended()

    async def _tell_cut_off(self, names: Sequence[str]) -> None:
        for name in names:
            outcome = self._outcomes.get(name)  # the command before may take a minute: it may have run, or be gone
            if outcome is not None and outcome.text == _CUT_OFF and name not in self._running:
                await self._fail(name, outcome.at, _CUT_OFF_EARLIER)

    def all(self) -> list[BackupSchedule]:
        """Return the schedules by name."""
        return [self._schedules[name] for name in sorted(self._schedules)]

    def outcome(self, name: str) -> Outcome | None:
        """Return how the last run of a schedule has ended; None where there was none yet."""
        return self._outcomes.get(name)

    def is_running(self, name: str) -> bool:
        """Whether a run of it is under way."""
        return name in self._running

    def require(self, name: str) -> BackupSchedule:
        """Return the schedule of that name.

        Raises:
            BackupScheduleError: there is none; names those there are.
        """
        if schedule := self._schedules.get(name):
            return schedule
        known = ", ".join(sorted(self._schedules)) or "there is none yet"
        raise BackupScheduleError(f"no backup schedule {quoted(name)}: {known}; nothing was changed")

    async def add(self, schedule: BackupSchedule, origin: Origin) -> None:
        """Keep a new schedule; it counts at once.

        Raises:
            BackupScheduleError: there is one of that name, or there are too many.
            TargetError: the target is within the data folder.
            FolderError: it cannot be kept.
        """
        await self.require_target(schedule.place)
        await self._tasks.finish(self._add(schedule, origin))

    def require_free(self, name: str) -> None:
        """Check that a schedule of that name may be added.

        Raises:
            BackupScheduleError: there is one of that name, or there are too many.
        """
        if name in self._schedules:
            raise BackupScheduleError(
                f"there is a backup schedule {name} already: remove it first; nothing was changed"
            )
        if len(self._schedules) >= MOST_SCHEDULES:
            raise BackupScheduleError(f"there are {MOST_SCHEDULES} schedules, the most; nothing was changed")

    async def require_target(self, target: Target) -> None:
        """Check that copies may go there.

        Raises:
            TargetError: it is within the data folder.
        """
        await require_outside(self._around.folder.parent, target)

    async def _add(self, schedule: BackupSchedule, origin: Origin) -> None:
        async with self._writing:
            self._require_readable()
            self.require_free(schedule.name)
            await self._keep({**self._schedules, schedule.name: schedule}, self._outcomes)
            self._around.schedule.add(self._job(schedule))
        await self._around.audit.note("backup schedule added", origin, f"{schedule.name}: {schedule.target}")

    async def remove(self, name: str, origin: Origin) -> None:
        """Forget a schedule; the archives that it has made stay.

        Raises:
            BackupScheduleError: there is none of that name, or it runs just now.
            FolderError: that cannot be kept.
        """
        await self._tasks.finish(self._remove(name, origin))

    async def _remove(self, name: str, origin: Origin) -> None:
        async with self._writing:
            self._require_readable()
            self.require(name)
            if name in self._running:
                raise BackupScheduleError(f"{name} runs just now; nothing was changed; try again later")
            rest = {each: schedule for each, schedule in self._schedules.items() if each != name}
            await self._keep(rest, {each: outcome for each, outcome in self._outcomes.items() if each in rest})
            self._around.schedule.remove(_job_name(name))
            self._around.presence.clear(_notice(name))
        await self._around.audit.note("backup schedule removed", origin, name)

    def host_key_of(self, target: Target) -> str | None:
        """Return the key that was accepted of a target's server for some schedule; None where none was."""
        for schedule in self.all():
            place = schedule.place
            if schedule.host_key and (place.host, place.port) == (target.host, target.port):
                return schedule.host_key
        return None

    async def accept(self, name: str, key_line: str, origin: Origin) -> None:
        """Take the host key of the target's server for the right one from now on.

        Raises:
            BackupScheduleError: there is no schedule of that name.
            FolderError: it cannot be kept.
        """
        await self._tasks.finish(self._accept(name, key_line, origin))

    async def _accept(self, name: str, key_line: str, origin: Origin) -> None:
        async with self._writing:
            changed = self.require(name).model_copy(update={"host_key": key_line})
            await self._keep({**self._schedules, name: changed}, self._outcomes)
        await self._around.audit.note("host key accepted", origin, f"{name}: {key_line[:120]}")

    async def test(self, name: str, told: Tell = lambda _progress: None) -> None:
        """Prove a run from end to end but for its archive.

        A small file is sent to the target, read back, listed, and removed again; then all of an archive's making that
        may be refused is done, and nothing is left of it.

        Raises:
            BackupError: no backup could be made, or it would not be a good one.
            HostKeyUnknownError: an SFTP server's key was never accepted; has the fingerprint.
            TransferError: why it would not work.
            TargetError: the target is within the data folder.
            FolderError: the small file cannot be made here.
        """
        schedule = self.require(name)
        await self.require_target(schedule.place)
        await prove(schedule.place, credentials_of(schedule), self._around.folder, self._around.host)
        await self._around.backups.prove(_revealed(schedule.password), told)

    async def run(self, name: str, origin: Origin, told: Tell = lambda _progress: None) -> Outcome:
        """Run a schedule now; the appliance's schedule has the outcome as that of its last run.

        Raises:
            BackupScheduleError: there is none of that name, or it runs already.
            CallistoError: it failed; that stands at every prompt now, and the owner's command was run.
        """
        try:
            outcome = await self._run(name, origin, told)
        finally:
            last = self._outcomes.get(name)
            if last is not None and name not in self._running:
                self._around.schedule.note_run(_job_name(name), last.at, last.text, failed=last.failed)
        return outcome

    async def _run(self, name: str, origin: Origin, told: Tell) -> Outcome:
        schedule = self.require(name)
        if name in self._running:
            raise BackupScheduleError(f"{name} runs already")
        begun = self._around.clock.now().isoformat(timespec="seconds")
        before = self._outcomes.get(name)
        self._running[name] = Outcome(at=begun, failed=True, text=_CUT_OFF, archive=before.archive if before else "")
        try:
            await self._note_begun(name)
            archive, text = await self._work(schedule, origin, told)
        except CallistoError as error:
            await self._fail(name, begun, str(error))
            raise
        except asyncio.CancelledError:
            self._outcomes[name] = self._running[name]
            self._tell(name)
            raise
        finally:
            self._running.pop(name, None)
        outcome = Outcome(at=begun, failed=False, text=_line(text), archive=archive)
        await self._note(name, outcome)
        return outcome

    async def _note_begun(self, name: str) -> None:
        await self._tasks.finish(self._keep_begun(name))

    async def _keep_begun(self, name: str) -> None:
        async with self._writing:
            try:
                await self._keep(self._schedules, self._outcomes)
            except FolderError as error:
                self._around.log.warning("the outcome of a backup is not kept", schedule=name, reason=str(error))

    async def _fail(self, name: str, begun: str, reason: str) -> None:
        """Keep and tell that a run has failed; which one was the last good one stays known."""
        before = self._outcomes.get(name)
        last_good = before.archive if before else ""
        await self._note(name, Outcome(at=begun, failed=True, text=_line(reason), archive=last_good))
        self._around.log.error("scheduled backup failed", schedule=name, reason=reason)
        await self._around.alarm.raise_for(name, reason)

    async def _work(self, schedule: BackupSchedule, origin: Origin, told: Tell) -> tuple[str, str]:
        """Make, deliver, and let the old ones go; return the archive's name and what to say.

        An archive with doubtful rows is delivered as well, better than none, and the run is none that has succeeded.
        """
        around, target = self._around, schedule.place
        made = await around.backups.create(
            origin,
            password=_revealed(schedule.password),
            note=f"schedule {schedule.name}",
            told=told,
            schedule=schedule.name,
            patient=True,
        )
        name, doubtful = str(made["file"]), Doubtful.from_data(made["doubtful"])
        arrived = {each: outcome.archive for each, outcome in self._outcomes.items() if outcome.archive}
        try:
            await self.require_target(target)  # of an older schedule, or a link that leads elsewhere since
            delivery = await deliver(
                target,
                credentials_of(schedule),
                around.folder / name,
                name,
                lambda step, done, of: told(Progress(step, done, of)),
                pause=around.pause,
            )
        except (TransferError, TargetError):  # night after night, perhaps: this disk is not to fill up
            await self._retention.retain_here(schedule, {name, *arrived.values()})
            raise
        await around.backups.note_delivery(name, str(target))
        tries = f" in {delivery.tries} tries" if delivery.tries > 1 else ""
        retained = await self._retention.retain(schedule, set((arrived | {schedule.name: name}).values()))
        text = f"{name} delivered to {target}{tries}{retained}"
        require_no_doubtful(doubtful, text)
        return name, text

    def _job(self, schedule: BackupSchedule) -> Job:
        plan = schedule.restart_plan

        async def action(_reason: str) -> str:
            return (await self._run(schedule.name, SYSTEM, lambda _progress: None)).text

        source = f"backup schedule {schedule.name}"
        return Job(_job_name(schedule.name), source, lambda: plan, action, limit_s=_LIMIT_S)

    def _require_readable(self) -> None:
        if self._unreadable:
            raise BackupScheduleError(f"{self._unreadable}; mend or remove it first; nothing was changed")

    async def _note(self, name: str, outcome: Outcome) -> None:
        """Keep how a run has ended; where that is not possible, it is known until the server's end."""
        await self._tasks.finish(self._keep_outcome(name, outcome))

    async def _keep_outcome(self, name: str, outcome: Outcome) -> None:
        async with self._writing:
            if name not in self._schedules:
                return
            outcomes = {**self._outcomes, name: outcome}
            self._running.pop(name, None)
            try:
                await self._keep(self._schedules, outcomes)
            except FolderError as error:
                self._outcomes = outcomes
                self._around.log.warning("the outcome of a backup is not kept", schedule=name, reason=str(error))
            self._tell(name)

    async def _keep(self, schedules: dict[str, BackupSchedule], outcomes: dict[str, Outcome]) -> None:
        await in_thread(self._around.file.write, schedules.values(), {**outcomes, **self._running})
        self._schedules, self._outcomes = schedules, outcomes

    def _tell(self, name: str) -> None:
        """Have a failure stand at every prompt, until a run succeeds."""
        outcome = self._outcomes.get(name)
        if outcome is not None and outcome.failed:
            when = self._around.clock.format_stamp(outcome.at)
            text = f"backup {name} of {when} failed: {outcome.text}; 'backup schedule show {name}' tells more"
            self._around.presence.stand(_notice(name), text)
        else:
            self._around.presence.clear(_notice(name))


def _job_name(name: str) -> str:
    return f"backup {name}"


def _notice(name: str) -> str:
    return f"backup schedule {name}"


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _line(text: str) -> str:
    """Return a text as one line that is kept."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= _MOST_TEXT else f"{clean[: _MOST_TEXT - 3]}..."
