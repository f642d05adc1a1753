"""What the schedule runs by itself, cancelled at each of its awaits, as a server's end or a limit of time does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.services.condition import State
from callisto_telnetd.services.scheduler import RUNNING, JobView
from tests.lifetime.conftest import SETTINGS, Counted, House, Traces, every, open_house

_MOST_WAITS = 5000


async def with_nightly(house: House) -> None:
    """Have a backup each night, into a folder."""
    target = house.data.parent / "target"
    target.mkdir()
    words = ("plan=daily 02:00", f"target=file://{target}", "keep-last=2")
    await house.do("backup", "schedule", "add", "nightly", *words, secrets=("",))


async def with_restarts(house: House) -> None:
    """Have the service restarted each night."""
    await house.do("variables", "set", "gWebServerRestart", "daily 02:00")


async def nothing_more(_house: House) -> None:
    """Have what the settings say."""


@dataclass(frozen=True)
class Planned:
    """A job of the schedule: the settings that it needs, and what else is done for it once."""

    settings: str = SETTINGS
    prepare: Callable[[House], Any] = nothing_more


JOBS = {
    "backup nightly": Planned(prepare=with_nightly),
    "database check": Planned(SETTINGS.replace('check = ""', 'check = "daily 02:00"')),
    "box restart": Planned(
        SETTINGS.replace("enabled = false", 'enabled = false\nplan = ""').replace(
            'repair = "stop"', 'repair = "stop"\nplan = "gWebServerRestart"'
        ),
        with_restarts,
    ),
}
AT = {"backup nightly": 30, "database check": 4, "box restart": 1}
"""An await of each, in the midst of its work."""


@dataclass
class Runs:
    """The runs of the schedule that have begun, and how often each has waited."""

    tasks: list[asyncio.Task[None]]
    counted: list[Counted[None]]


@contextmanager
def cancelled_runs(wanted: int) -> Iterator[Runs]:
    """Have each run of the schedule that begins within the block cancelled as it waits for the ``wanted``-th time."""
    loop, runs = asyncio.get_running_loop(), Runs([], [])

    def make(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **rest: Any) -> asyncio.Task[Any]:
        if getattr(work, "__qualname__", "") != "Scheduler._run":
            return asyncio.Task(work, loop=loop, **rest)
        counted = Counted(work, wanted, lambda: loop.call_soon(task.cancel))
        task = asyncio.Task(counted, loop=loop, **rest)
        runs.tasks.append(task)
        runs.counted.append(counted)
        return task

    loop.set_task_factory(make)  # type: ignore[arg-type] # a generator is no task of ours
    try:
        yield runs
    finally:
        loop.set_task_factory(None)


def last_of(house: House, name: str) -> JobView:
    """Return the job as the schedule shows it."""
    return next(each for each in house.parts.schedule.view() if each.name == name)


async def run_once(house: House, name: str, wanted: int) -> int:
    """Let the job be due, cancel its run at the ``wanted``-th await, and return how often it has waited."""
    due = last_of(house, name).next_at
    assert due is not None
    with cancelled_runs(wanted) as runs:
        await house.do("date", *f"{due + timedelta(minutes=1):%Y-%m-%d %H:%M:%S}".split())
        await house.until(lambda: runs.tasks and runs.tasks[0].done())
    assert len(runs.tasks) == 1
    return runs.counted[0].count


@asynccontextmanager
async def planned(name: str, folder: Path) -> AsyncIterator[House]:
    """Have an appliance with the job on its schedule."""
    job = JOBS[name]
    async with open_house(folder / "data", job.settings) as house:
        await job.prepare(house)
        yield house


async def cancel(house: House, name: str, wanted: int) -> None:
    """Cancel a run at an await, and look for what is left of it."""
    await house.until(lambda: house.parts.supervisor.view("box").state is State.RUNNING)
    traces = Traces(house.data.parent)
    await run_once(house, name, wanted)
    left = await traces.settle(opened=lambda: name == "box restart")
    assert left == [], f"cancelled at await {wanted}"
    check_outcome(house, name)


async def run_whole(house: House, name: str) -> int:
    """Run it as planned, and return how often it has waited."""
    waits = await run_once(house, name, _MOST_WAITS)
    last = last_of(house, name).last
    assert last is not None
    assert not last.failed, last
    return waits


def check_outcome(house: House, name: str) -> None:
    """Require that everybody says the same of a run that was cut off, and that only whole archives have arrived."""
    last = last_of(house, name).last
    assert last is not None
    assert last.text != RUNNING
    if name == "backup nightly":
        runs, target = house.parts.backup_runs, house.data.parent / "target"
        own = runs.outcome("nightly")
        assert (runs.is_running("nightly"), own is not None) == (False, True)
        assert [path.name for path in target.iterdir() if path.suffix != ".zip"] == []
        assert {path.name for path in target.iterdir()} <= {path.name for path in (house.data / "backup").iterdir()}


@pytest.mark.parametrize(("name", "wanted"), AT.items())
async def test_a_job_of_the_schedule_that_is_cancelled_runs_again(name: str, wanted: int, tmp_path: Path) -> None:
    """Nothing of it is left running, held or half-made, its end is told, and the next run is a whole one."""
    async with planned(name, tmp_path) as house:
        await cancel(house, name, wanted)
        assert await run_whole(house, name) >= wanted


@pytest.mark.long
@pytest.mark.parametrize("name", JOBS)
async def test_a_job_of_the_schedule_that_is_cancelled_at_any_await_runs_again(name: str, tmp_path: Path) -> None:
    """Nothing of it is left running, held or half-made, its end is told, and the next run is a whole one."""
    async with planned(name, tmp_path) as house:
        waits = await run_whole(house, name)
        for wanted in every(waits):
            await cancel(house, name, wanted)
        await run_whole(house, name)
