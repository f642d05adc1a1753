"""The schedule's runner, on a clock that stands still until it is set, and actions that wait until they may end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from callisto_telnetd.clock import Clock
from callisto_telnetd.errors import CallistoError, StoreError
from callisto_telnetd.services.scheduler import Job, Scheduler, restart_job
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import open_log
from callisto_telnetd.variables import RestartPlan

DAILY = RestartPlan(127, 2, 0)
DEADLINE_S = 5.0


@dataclass
class Stand:
    """A schedule with what it stands on."""

    clock: Clock = field(default_factory=lambda: Clock(zone="Europe/Zurich"))
    kept: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    disk_fails: bool = False
    unreadable: bool = False
    plan: RestartPlan | None = DAILY
    at_save: Callable[[], None] | None = None
    """Called once, while the schedule waits for what it keeps."""

    def set_clock(self, text: str) -> None:
        """Set the clock, as ``date`` does."""
        self.clock.move_to(self.clock.parse_moment(text))

    async def _load(self) -> str | None:
        if self.unreadable:
            raise StoreError("the database cannot be used; nothing was changed")
        return self.kept[-1] if self.kept else None

    async def _save(self, text: str) -> None:
        if self.disk_fails:
            raise StoreError("the disk is full; nothing was changed")
        self.kept.append(text)
        if at_save := self.at_save:
            self.at_save = None
            at_save()

    @asynccontextmanager
    async def schedule(self, *jobs: Job) -> AsyncIterator[Scheduler]:
        """Open and start a schedule, as a server does."""
        hub = Hub(self.clock, 100, 1 << 20)
        schedule = Scheduler(
            jobs,
            self.clock,
            open_log(hub, "error", "json"),
            load=self._load,
            save=self._save,
            notify=self.notices.append,
        )
        await schedule.open()
        self.clock.observe(schedule.wake)
        schedule.start()
        try:
            yield schedule
        finally:
            await schedule.close()

    def job(self, action: Callable[[str], Awaitable[str]], name: str = "restart", limit_s: float = 60.0) -> Job:
        """Return a job on the stand's plan."""
        return Job(name, "gPlan", lambda: self.plan, action, limit_s)


class Action:
    """An action that counts its runs and ends when it may."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.fault: Exception | None = None

    async def __call__(self, reason: str) -> str:
        """Run once."""
        self.begun.put_nowait(reason)
        await self.may_end.wait()
        if self.fault:
            raise self.fault
        return "done"

    async def wait(self) -> str:
        """Wait for the next run."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.begun.get()


async def until(holds: Callable[[], object]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0)


async def test_a_run_is_kept_before_it_begins() -> None:
    """A clock that is set over a run makes it run at once; what is kept by then says so already."""
    stand, action = Stand(), Action()
    stand.set_clock("2026-11-23 10:00:00")
    action.may_end.clear()
    async with stand.schedule(stand.job(action)):
        await until(lambda: stand.kept)
        stand.set_clock("2026-11-24 10:00:00")
        assert await action.wait() == "the plan of gPlan"
        kept = stand.kept[-1]
        assert '"running"' in kept
    stand.kept = [kept]  # as a crash in its middle leaves it

    async with stand.schedule(stand.job(action)) as schedule:
        await until(lambda: len(stand.kept) > 1)
        (view,) = schedule.view()
    assert view.last is not None
    assert (view.last.text, view.last.failed) == ("cut off by the server's end", True)
    assert action.begun.empty()


async def test_a_schedule_that_is_read_again_keeps_its_runs() -> None:
    """A database that comes back while a job runs knows nothing of it: the run ends as one, and the next one comes."""
    stand, action = Stand(), Action()
    stand.set_clock("2026-11-23 10:00:00")
    action.may_end.clear()
    async with stand.schedule(stand.job(action)) as schedule:
        await until(lambda: stand.kept)
        stand.set_clock("2026-11-24 10:00:00")
        await action.wait()
        del stand.kept[1:]
        await schedule.open()
        action.may_end.set()
        await until(lambda: (last := schedule.view()[0].last) and last.text == "done")
        stand.set_clock("2026-11-25 10:00:00")
        await action.wait()


async def test_nothing_runs_before_what_has_run_is_known() -> None:
    """Without its database the schedule waits, and overwrites nothing; once that is back, its runs count."""
    stand, action = Stand(), Action()
    stand.set_clock("2026-11-23 10:00:00")
    async with stand.schedule(stand.job(action)):
        await until(lambda: stand.kept)
        stand.set_clock("2026-11-24 10:00:00")
        await action.wait()
    kept = [*stand.kept]
    stand.unreadable = True
    stand.set_clock("2026-11-20 10:00:00")
    async with stand.schedule(stand.job(action)) as schedule:
        stand.set_clock("2026-11-24 11:00:00")
        await until(lambda: schedule.view()[0].next_at)
        for _ in range(100):
            await asyncio.sleep(0)
        assert (stand.kept, action.begun.empty()) == (kept, True)
        stand.unreadable = False
        await schedule.open()
        stand.set_clock("2026-11-25 10:00:00")
        await action.wait()
    assert action.begun.empty()


async def test_a_run_comes_by_itself() -> None:
    """Nobody has to wake the schedule: it looks again when the next run is due."""
    stand, action = Stand(), Action()
    stand.set_clock("2026-11-24 01:59:59")
    async with stand.schedule(stand.job(action)) as schedule:
        await action.wait()
        await until(lambda: (last := schedule.view()[0].last) and last.text == "done")

    assert stand.notices == []


async def test_a_job_that_runs_is_not_started_twice() -> None:
    """A run that is due while the one before still runs begins after it."""
    stand, action = Stand(), Action()
    stand.set_clock("2026-11-23 10:00:00")
    action.may_end.clear()
    async with stand.schedule(stand.job(action)) as schedule:
        await until(lambda: stand.kept)
        stand.set_clock("2026-11-24 10:00:00")
        await action.wait()
        kept = len(stand.kept)
        stand.set_clock("2026-11-25 10:00:00")
        await until(lambda: len(stand.kept) > kept)
        assert schedule.moved is not None
        assert action.begun.empty()
        action.may_end.set()
        await action.wait()


async def test_a_job_that_fails_stops_no_other() -> None:
    """It is told to everybody with its reason; others run, and it runs again on its next day."""
    stand, bad, good = Stand(), Action(), Action()
    stand.set_clock("2026-11-23 10:00:00")
    bad.fault = CallistoError("no such program")
    async with stand.schedule(stand.job(bad, "bad"), stand.job(good, "good")):
        await until(lambda: stand.kept)
        stand.set_clock("2026-11-24 10:00:00")
        await bad.wait()
        await good.wait()
        bad.fault = RuntimeError("a bug")
        await until(lambda: stand.notices)
        stand.set_clock("2026-11-25 10:00:00")
        await bad.wait()
        await until(lambda: len(stand.notices) == 2)

    assert stand.notices[0] == "the bad of 2026-11-24 02:00 failed: no such program"
    unforeseen = "the bad of 2026-11-25 02:00 failed: internal error, incident [0-9a-f]{8}; the log tells more"
    assert re.fullmatch(unforeseen, stand.notices[1])


async def test_a_job_that_is_removed_as_it_falls_due_runs_again_where_it_comes_back() -> None:
    """One that is removed while its beginning is kept does not begin; a later one of its name runs."""
    stand, action = Stand(), Action()
    stand.set_clock("2026-11-23 10:00:00")
    async with stand.schedule(stand.job(action)) as schedule:
        await until(lambda: stand.kept)
        stand.at_save = lambda: schedule.remove("restart")
        stand.set_clock("2026-11-24 10:00:00")
        await until(lambda: not schedule.view())
        schedule.add(stand.job(action))
        count = len(stand.kept)
        stand.set_clock("2026-11-24 10:00:02")
        await until(lambda: len(stand.kept) > count)
        assert action.begun.empty()
        assert schedule.view()[0].last is None

        stand.set_clock("2026-11-25 10:00:00")
        assert await action.wait() == "the plan of gPlan"
    assert stand.notices == []


async def test_a_job_has_a_limit_of_time() -> None:
    """A run that takes too long is ended."""
    stand, action = Stand(), Action()
    stand.set_clock("2026-11-23 10:00:00")
    action.may_end.clear()
    async with stand.schedule(stand.job(action, limit_s=0.01)):
        await until(lambda: stand.kept)
        stand.set_clock("2026-11-24 10:00:00")
        await until(lambda: stand.notices)

    assert stand.notices == ["the restart of 2026-11-24 02:00 failed: not done within 0.01 s"]


async def test_a_disk_that_fails_stops_nothing() -> None:
    """Where the schedule cannot be kept it goes on in memory, and is kept as soon as that can be done again."""
    stand, action = Stand(disk_fails=True), Action()
    stand.set_clock("2026-11-23 10:00:00")
    async with stand.schedule(stand.job(action)) as schedule:
        await until(lambda: schedule.view()[0].next_at)
        stand.set_clock("2026-11-24 10:00:00")
        await action.wait()
        stand.disk_fails = False
        schedule.wake()
        await until(lambda: stand.kept)

    assert '"done"' in stand.kept[-1]


async def test_a_damaged_state_begins_anew() -> None:
    """It owes nothing then, and tomorrow everything runs."""
    stand, action = Stand(kept=["{damaged"]), Action()
    stand.set_clock("2026-11-23 10:00:00")
    async with stand.schedule(stand.job(action)):
        await until(lambda: len(stand.kept) > 1)
        assert action.begun.empty()
        stand.set_clock("2026-11-24 10:00:00")
        await action.wait()


async def test_a_changed_plan_takes_effect_at_once() -> None:
    """The next run is the new plan's from the moment on in which the plan has changed."""
    stand, action = Stand(), Action()
    stand.set_clock("2026-11-23 10:00:00")
    async with stand.schedule(stand.job(action)) as schedule:
        stand.plan = RestartPlan(127, 12, 0)
        at = schedule.next_of("gPlan")
        assert at is not None
        assert at.isoformat() == "2026-11-23T12:00:00+01:00"
        stand.set_clock("2026-11-23 12:00:01")
        await action.wait()


async def test_a_restart_names_service_and_reason() -> None:
    """The job of a service restarts it by its name, and says by which plan."""
    calls: list[tuple[str, str]] = []

    async def restart(name: str, reason: str) -> str:
        calls.append((name, reason))
        return "restarted"

    job = restart_job("web-server", "gWebServerRestart", lambda: DAILY, restart)

    assert (job.name, await job.action("the plan of gWebServerRestart")) == ("web-server restart", "restarted")
    assert calls == [("web-server", "the plan of gWebServerRestart")]
