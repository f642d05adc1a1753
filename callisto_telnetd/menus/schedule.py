"""The schedule: what runs when, when it ran last, and what the last jump of the clock did."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

from callisto_telnetd.clock import Clock, format_moment
from callisto_telnetd.menus.answers import Answer, Done, Fact
from callisto_telnetd.menus.arguments import require_count
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.quantities import counted
from callisto_telnetd.services.schedule import Moved, Outcome
from callisto_telnetd.services.scheduler import JobView


async def list_jobs(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield every job with its plan, its next and its last run."""
    require_count(words, 0, 0, "schedule list")
    clock, schedule = context.parts.clock, context.parts.schedule
    jobs, moved = schedule.view(), schedule.moved
    lines = [line for job in jobs for line in _job_lines(job, clock)]
    data: dict[str, Any] = {"jobs": [_job_data(job) for job in jobs], "clock_moved": None}
    if moved is not None:
        data["clock_moved"] = {
            "before_at": moved.before,
            "after_at": moved.after,
            "text": list(moved.effects),
        }
        lines += _moved_lines(moved)
    yield Fact(data, tuple(lines))
    serving = "" if context.parts.serving else "; no server runs, so nothing runs now"
    yield Done(f"{counted(len(jobs), 'job')}{serving}")


def _job_data(job: JobView) -> dict[str, Any]:
    last = job.last
    return {
        "name": job.name,
        "plan": job.plan.format() if job.plan else None,
        "set_by": job.source,
        "next_run_at": job.next_at.isoformat() if job.next_at else None,
        "last_run": last and {"planned_at": last.planned, "at": last.begun, "text": last.text, "failed": last.failed},
    }


def _job_lines(job: JobView, clock: Clock) -> list[str]:
    plan = job.plan.describe() if job.plan else "never: no plan"
    return [
        f"{job.name}: {plan} (set by {job.source})",
        f"  Next run: {format_moment(job.next_at) if job.next_at else 'none'}",
        f"  Last run: {_last_text(job.last, clock) if job.last else 'never'}",
    ]


def _last_text(last: Outcome, clock: Clock) -> str:
    begun = clock.format_stamp(last.begun)
    late_s = datetime.fromisoformat(last.begun).timestamp() - datetime.fromisoformat(last.planned).timestamp()
    late = f" (late: it was planned for {clock.format_stamp(last.planned)})" if late_s >= 60 else ""
    return f"{begun}{late}, {'failed: ' if last.failed else ''}{last.text}"


def _moved_lines(moved: Moved) -> list[str]:
    before, after = (format_moment(datetime.fromisoformat(each)) for each in (moved.before, moved.after))
    effects = moved.effects or ("no scheduled run was passed over, and none comes again",)
    return [f"Last jump of the clock: {before} to {after}", *(f"  {effect}" for effect in effects)]


_LIST = Command(
    word="list",
    help="list the jobs: plan, next run, last run, and what the last jump of the clock did",
    run=list_jobs,
    facts="one",
    details=("Backups on a schedule are made, shown and removed by 'backup schedule'.",),
)

SCHEDULE_MENU = Menu(
    word="schedule",
    title="Schedule",
    help="show what runs when",
    bare=_LIST,
    entries=(_LIST,),
)
