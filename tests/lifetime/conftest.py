"""A real appliance in this process, and a driver that cancels what runs on it at each of its awaits.

A cancellation comes where an administrator's connection is lost, where he presses Ctrl-C, or where the server ends. It
may come at every ``await``, so :func:`cancelled_at` throws it at the first, the second, the third…, and
:class:`Traces` finds what was left behind: tasks, threads, processes, descriptors, locks, half-made files.
"""

from __future__ import annotations

import asyncio
import gc
import random
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from callisto_telnetd.appliance import start_faults
from callisto_telnetd.assembly import open_parts
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.origin import Origin
from callisto_telnetd.services.condition import State
from callisto_telnetd.settings import load_settings
from callisto_telnetd.terminal.command_door import CommandDoor, Frame, Request, run_command
from tests.conftest import NAME, PASSWORD

SETTLED_S = 60.0
"""How long what goes on by right may take: a restore has four workers, and the machine may be busy."""
ADMIN = Origin(NAME, "telnet", "192.0.2.7")
SETTINGS = """
[services.web-server]
enabled = false
[services.box]
command = ["sleep", "1000"]
repair = "stop"
[log]
level = "error"
[database]
check = ""
"""

T = TypeVar("T")


class Counted(Coroutine[Any, Any, T]):
    """A coroutine whose suspensions are counted; at the one that is wanted, something is called."""

    def __init__(self, work: Coroutine[Any, Any, T], wanted: int, call: Callable[[], object]) -> None:
        self._work = work
        self._wanted = wanted
        self._call = call
        self.count = 0

    def send(self, value: Any) -> Any:
        return self._counted(self._work.send(value))

    def throw(self, *error: Any) -> Any:
        return self._counted(self._work.throw(*error))

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        raise TypeError("only a task runs it")

    def _counted(self, awaited: Any) -> Any:
        self.count += 1
        if self.count == self._wanted:
            self._call()
        return awaited


async def cancelled_at(work: Coroutine[Any, Any, T], wanted: int) -> tuple[asyncio.Task[T], int]:
    """Run the work, cancel it as it waits for the ``wanted``-th time; return its task, and how often it has waited."""
    loop = asyncio.get_running_loop()
    counted = Counted(work, wanted, lambda: loop.call_soon(task.cancel))
    task: asyncio.Task[T] = loop.create_task(counted)
    await asyncio.wait([task])
    return task, counted.count


def locked() -> list[asyncio.Lock]:
    """Return the locks of this process that somebody holds."""
    return [each for each in gc.get_objects() if isinstance(each, asyncio.Lock) and each.locked()]


def _open_files() -> set[str]:
    """Return the open descriptors, by number and what they are."""
    names = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            names.add(f"{link.name} {link.readlink()}")
        except FileNotFoundError:  # the listing's own
            continue
    return names


def _running_children() -> set[int]:
    """Return the processes that this one has started and that still run."""
    return {each.pid for each in psutil.Process().children(recursive=True)}


def _where(task: asyncio.Task[Any]) -> str:
    """Return what a task waits in, from its outermost function inwards."""
    places: list[str] = []
    waiting: Any = task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        places.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
        waiting = getattr(waiting, "cr_await", None)
    return " > ".join(places)


def _half_made(folder: Path) -> list[Path]:
    """Return the files that are not made whole yet."""
    while True:
        try:
            return list(folder.rglob("*.making*"))
        except FileNotFoundError:  # a folder has gone meanwhile
            continue


def _threads() -> Counter[str]:
    """Return the threads by what they are for; those of a pool stay, to be used again."""
    names = (re.sub(r"^Thread-\d+", "", each.name) for each in threading.enumerate())
    return Counter(name for name in names if not name.startswith(("asyncio_", "password-hash_")))


@dataclass
class Traces:
    """What the process has before something runs, and what is left of that afterwards."""

    folder: Path
    tasks: set[asyncio.Task[Any]] = field(default_factory=asyncio.all_tasks)
    threads: Counter[str] = field(default_factory=_threads)
    descriptors: set[str] = field(default_factory=_open_files)
    children: set[int] = field(default_factory=_running_children)
    locks: list[asyncio.Lock] = field(default_factory=locked)
    """Those of an appliance whose loop stands still meanwhile: another test's."""

    def left(self, *, opened: bool = False) -> list[str]:
        """Return what there is more than before; ``opened``: processes and files may be others now."""
        tasks = {task for task in asyncio.all_tasks() - self.tasks if not _is_of_service(task)}
        found = [f"task {task.get_name()} at {_where(task)}" for task in tasks]
        found += [f"thread {name}" for name in _threads() - self.threads]
        found += [f"lock {lock}" for lock in locked() if lock not in self.locks]
        found += [f"file {path}" for path in _half_made(self.folder)]
        if not opened:
            found += [f"descriptor {name}" for name in _open_files() - self.descriptors]
            found += [f"process {pid}" for pid in _running_children() - self.children]
        return found

    async def settle(self, *, opened: Callable[[], bool]) -> list[str]:
        """Wait until what goes on by right has ended, and return what does not."""
        end = time.monotonic() + SETTLED_S
        while (left := self.left(opened=opened())) and time.monotonic() < end:
            await asyncio.sleep(0.002)
        return left


def _is_of_service(task: asyncio.Task[Any]) -> bool:
    return ": health" in task.get_name() or "Event.wait" in repr(task.get_coro())


def sample(name: str, count: int) -> Callable[[int], list[int]]:
    """Return a function that chooses some awaits, the same ones each time."""
    return lambda waits: sorted(random.Random(name).sample(range(1, waits + 1), min(count, waits)))


def every(waits: int) -> list[int]:
    """Choose all awaits."""
    return list(range(1, waits + 1))


@dataclass
class Answered:
    """What a command has printed, and its exit code."""

    code: int
    lines: list[str]


@dataclass
class House:
    """An appliance that serves, and a caller of commands who reads each answer before the next."""

    parts: Parts
    data: Path

    async def run(self, *words: str, text: str | None = None, secrets: Sequence[str] = ()) -> Answered:
        """Run a command as one door does; every answer is drained."""
        lines: list[str] = []

        def emit(frame: Frame) -> None:
            lines.append(frame.text)

        async def ask(_question: str, _secret: bool) -> str:
            await asyncio.sleep(0)
            return "y"

        door = CommandDoor(Request(list(words), input=text, secrets=tuple(secrets)), emit, ask, _drain)
        return Answered(await run_command(self.parts, ADMIN, door), lines)

    async def do(self, *words: str, text: str | None = None, secrets: Sequence[str] = ()) -> Answered:
        """Run a command that must succeed."""
        answered = await self.run(*words, text=text, secrets=secrets)
        assert answered.code == 0, (words, answered.lines)
        return answered

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(SETTLED_S):
            while not holds():
                await asyncio.sleep(0.002)


async def _drain() -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def open_house(data: Path, settings: str = SETTINGS) -> AsyncIterator[House]:
    """Open an appliance as a server does, with an account and a service, and close it again."""
    folder = DataFolder(data)
    folder.make()
    (data / "callisto.toml").write_text(settings)
    async with AsyncExitStack() as stack:
        lock = stack.enter_context(folder.lock())
        parts = await stack.enter_async_context(open_parts(load_settings(data), folder, lock, faults_of=start_faults))
        await parts.accounts.make_first(PASSWORD)
        stack.push_async_callback(parts.supervisor.close)
        await parts.supervisor.open()
        stack.push_async_callback(parts.repairs.close)
        stack.push_async_callback(parts.restores.close)
        parts.schedule.start()
        house = House(parts, data)
        await house.until(lambda: parts.supervisor.view("box").state is State.RUNNING)
        yield house
