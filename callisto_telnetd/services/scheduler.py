"""The runner of the schedule: reads the appliance's clock, and begins what is due.

Rules:

* The clock is read again at the latest every half minute, because nobody tells of a system clock that was set; and at
  once where the appliance's own was moved (:meth:`Scheduler.wake`) or a plan has changed.
* A run is kept as begun before it begins: a crash in its middle does not make it begin twice. Where it cannot be kept,
  the schedule goes on in memory, with a warning.
* A job has one run at a time and a limit of time; one that fails is logged and told to everybody, and stops no other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from callisto_telnetd.clock import Clock, format_moment
from callisto_telnetd.errors import CallistoError, StoreError
from callisto_telnetd.services.schedule import MOST_EFFECTS, Calendar, Effect, Moved, Outcome, Run, ScheduleError
from callisto_telnetd.trace.logs import Log, log_incident
from callisto_telnetd.variables.restart_plan import RestartPlan
from callisto_telnetd.work import end

_LONGEST_LOOK_S = 30.0
_SHORTEST_LOOK_S = 0.001
_JUMP_S = 2.0
"""A clock that has gone so far from the monotonic one was set."""
_MOST_TEXT = 200
RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Job:
    """Something that runs on a plan."""

    name: str
    """As users see it: ``web-server restart``."""
    source: str
    """Where its plan is set: a variable's name, or a setting's."""
    plan: Callable[[], RestartPlan | None]
    """Returns the plan of now; None never runs."""
    action: Callable[[str], Awaitable[str]]
    """Does it, given the reason in words, and returns what came of it; a CallistoError says why it failed."""
    limit_s: float = 600.0
    """How long a run may take."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it stands."""

    name: str
    source: str
    plan: RestartPlan | None
    next_at: datetime | None
    last: Outcome | None


def restart_job(
    service: str,
    source: str,
    plan: Callable[[], RestartPlan | None],
    restart: Callable[[str, str], Awaitable[str]],
) -> Job:
    """Return the job that restarts a service; ``restart`` takes its name and the reason, and says what came of it."""
    return Job(f"{service} restart", source, plan, partial(restart, service))


class Scheduler:
    """The schedule of one appliance; without :meth:`start` it only tells."""

    def __init__(
        self,
        jobs: Sequence[Job],
        clock: Clock,
        log: Log,
        *,
        load: Callable[[], Awaitable[str | None]],
        save: Callable[[str], Awaitable[None]],
        notify: Callable[[str], None],
    ) -> None:
        """Make a schedule of the jobs.

        Args:
            jobs: The jobs, each with a name of its own.
            clock: The appliance's clock.
            log: The server's log.
            load: Returns the text that was kept last, None where there is none; may raise StoreError.
            save: Keeps a text; may raise StoreError.
            notify: Tells every session of a run that failed.
        """
        self._jobs = {job.name: job for job in jobs}
        self._clock = clock
        self._log = log
        self._load, self._save, self._notify = load, save, notify
        self._calendar = Calendar()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._unkept = False
        self._known = False
        """Whether what was kept is known: before that, nothing runs, and nothing is put in its place."""
        self._read_at = clock.now(), time.monotonic()

    async def open(self) -> None:
        """Read what was kept; what is damaged is refused with a warning, and the schedule begins anew.

        Where it cannot be read now, nothing runs until this is called again: what has run already is not known, nor is
        the clock, which is kept in the same place.
        """
        try:
            kept = await self._load()
            self._known = True
            self._read_at = self._clock.now(), time.monotonic()
            if kept:
                self._calendar = Calendar.from_json(kept)
        except (ScheduleError, StoreError) as error:
            text = "the schedule begins anew" if self._known else "the schedule waits for the database"
            self._log.warning(text, reason=str(error))
        for name, outcome in self._calendar.outcomes.items():
            if outcome.text == RUNNING and name not in self._running:
                self._calendar.outcomes[name] = replace(outcome, text="cut off by the server's end", failed=True)
                self._calendar.changed = True
        self.wake()

    async def keep_again(self) -> None:
        """Keep all that is known: the database has become another one, which may know less of what has run.

        Its variables may hold other plans, too: they are looked at.
        """
        self._current().changed = True
        await self._keep()
        self.wake()

    def add(self, job: Job) -> None:
        """Take one more job; it owes nothing from before.

        Raises:
            ValueError: there is one of that name.
        """
        if job.name in self._jobs:
            raise ValueError(f"there is a job {job.name!r} already")
        self._jobs[job.name] = job
        self.wake()

    def remove(self, name: str) -> None:
        """Forget a job; a run of it that is under way goes on to its end."""
        self._jobs.pop(name, None)
        self.wake()

    def start(self) -> None:
        """Begin to run what is due."""
        self._looking = asyncio.create_task(self._look_on(), name="schedule")

    async def close(self) -> None:
        """Stop looking, and end the runs that are under way."""
        tasks = [*self._running.values(), *([self._looking] if self._looking else [])]
        await end(*tasks)
        if self._looking is not None:
            await self._keep()
        self._looking = None

    def wake(self) -> None:
        """Look at once: the clock or a plan has changed."""
        self._wake.set()

    @property
    def moved(self) -> Moved | None:
        """The last jump of the clock that a server has seen."""
        return self._calendar.moved

    def view(self) -> list[JobView]:
        """Return the jobs as they stand."""
        calendar, now = self._current(), self._clock.now()
        return [
            JobView(
                job.name,
                job.source,
                calendar.plan_of(job.name),
                calendar.next_of(job.name, now),
                calendar.outcomes.get(job.name),
            )
            for job in self._jobs.values()
        ]

    def next_of(self, source: str) -> datetime | None:
        """Return the next run of the jobs whose plan is set at ``source``.

        Raises:
            LookupError: there is no such job.
        """
        names = [job.name for job in self._jobs.values() if job.source == source]
        if not names:
            raise LookupError(source)
        calendar, now = self._current(), self._clock.now()
        times = [at for name in names if (at := calendar.next_of(name, now)) is not None]
        return min(times, key=datetime.timestamp, default=None)

    def note_run(self, name: str, begun: str, text: str, *, failed: bool) -> None:
        """Take the outcome of a run that somebody else has made, out of its turn, as that of a job's last run.

        Args:
            name: The job's.
            begun: When it was begun, ISO 8601 with its offset.
            text: What came of it.
            failed: Whether it has failed.
        """
        if name in self._jobs:
            self._calendar.outcomes[name] = Outcome(begun, begun, _line(text), failed)
            self._calendar.changed = True
            self.wake()

    def preview(self, before: datetime, after: datetime) -> list[Effect]:
        """Return what would come of a clock that goes from ``before`` to ``after``, in their zones."""
        return self._current().preview(before, after)

    def _current(self) -> Calendar:
        """Return the calendar with the plans of now."""
        self._calendar.follow({job.name: job.plan() for job in self._jobs.values()}, self._clock.now())
        return self._calendar

    async def _look_on(self) -> None:
        while True:
            self._wake.clear()
            try:
                pause_s = await self._look()
            except CallistoError as error:  # a clock outside the calendar
                self._log.warning("the schedule cannot look", reason=str(error))
                pause_s = _LONGEST_LOOK_S
            except Exception as error:  # noqa: BLE001 - a fault in one look must not end the schedule
                log_incident(self._log, error, during="a look at the schedule")
                pause_s = _LONGEST_LOOK_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _look(self) -> float:
        """Begin what is due, and return how many seconds may pass until the next look."""
        if not self._known:
            return _LONGEST_LOOK_S
        now = self._clock.now()
        calendar = self._current()
        self._note_jump(now)
        runs = calendar.due(now, self._running)
        jobs = {run.job: self._jobs[run.job] for run in runs}
        for run in runs:
            planned, begun = (moment.isoformat(timespec="seconds") for moment in (run.planned, now))
            calendar.outcomes[run.job] = Outcome(planned, begun, RUNNING)
        await self._keep()
        for run in runs:
            outcome = calendar.outcomes.get(run.job)
            if outcome is None or self._jobs.get(run.job) is not jobs[run.job]:  # removed while it was kept
                calendar.outcomes.pop(run.job, None)
                continue
            task = asyncio.create_task(self._run(jobs[run.job], run, outcome), name=f"schedule: {run.job}")
            self._running[run.job] = task
        now = self._clock.now()
        waiting = [name for name in calendar.names if name not in self._running]
        times = [at.timestamp() for name in waiting if (at := calendar.next_of(name, now)) is not None]
        return max(_SHORTEST_LOOK_S, min([_LONGEST_LOOK_S, *(at - now.timestamp() for at in times)]))

    def _note_jump(self, now: datetime) -> None:
        """Say what a clock that was set since the last look has done, whoever has set it."""
        (before, before_s), monotonic_s = self._read_at, time.monotonic()
        self._read_at = now, monotonic_s
        expected_s = before.timestamp() + monotonic_s - before_s
        if abs(now.timestamp() - expected_s) < _JUMP_S and now.tzinfo is before.tzinfo:
            return
        try:
            expected = datetime.fromtimestamp(expected_s, before.tzinfo)
        except (ValueError, OverflowError, OSError):
            expected = before
        effects = tuple(each.told(done=True) for each in self._calendar.preview(expected, now))[:MOST_EFFECTS]
        self._calendar.moved = Moved(expected.isoformat(timespec="seconds"), now.isoformat(timespec="seconds"), effects)
        self._calendar.changed = True
        self._log.info("the clock was moved", before=format_moment(expected), after=format_moment(now))
        for effect in effects:
            self._log.info("a scheduled run is affected", effect=effect)

    async def _keep(self) -> None:
        if not self._calendar.changed or not self._known:
            return
        self._calendar.changed = False
        try:
            await self._save(self._calendar.to_json())
        except StoreError as error:
            self._calendar.changed = True  # tried again at the next look
            if not self._unkept:
                self._log.warning("the schedule is not kept: it goes on in memory", reason=str(error))
            self._unkept = True
            return
        if self._unkept:
            self._log.info("the schedule is kept again")
        self._unkept = False

    async def _run(self, job: Job, run: Run, begun: Outcome) -> None:
        """Do one run to its end, whatever it is, and keep what came of it."""
        planned = format_moment(run.planned)[:-3]
        late = f", with {run.passed_over} more" if run.passed_over else ""
        self._log.info("scheduled run begins", job=job.name, planned=planned + late)
        failed, text = True, "cut off by the server's end"
        try:
            async with asyncio.timeout(job.limit_s):
                text = await job.action(f"the plan of {job.source}")
            failed = False
        except TimeoutError:
            text = f"not done within {job.limit_s:g} s"
        except CallistoError as error:
            text = str(error)
        except Exception as error:  # noqa: BLE001 - a job is a door: what fails in it stops no other
            text = f"internal error, incident {log_incident(self._log, error, job=job.name)}; the log tells more"
        finally:
            # Not the calendar's: that may be another one by now, read from a database that has come back.
            if self._jobs.get(run.job) is job:
                self._calendar.outcomes[run.job] = replace(begun, text=_line(text), failed=failed)
                self._calendar.changed = True
            del self._running[run.job]
        if failed:
            self._log.error("scheduled run failed", job=job.name, reason=text)
            self._notify(f"the {job.name} of {planned} failed: {text}")
        else:
            self._log.info("scheduled run ended", job=job.name, outcome=text)
        self.wake()


def _line(text: str) -> str:
    """Return a text as one that is kept: printable, bounded."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= _MOST_TEXT else f"{clean[: _MOST_TEXT - 3]}..."
