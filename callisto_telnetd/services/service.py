"""One service: the one task that starts its process, watches it, and starts it again.

Rules:

* Whether it should run is said by flags (wanted, held, closing); its task alone acts on them, so no two starts or stops
  of it can cross.
* A process that ends before it has worked for a while (``settled_s``) has died early. The pause before the next start
  doubles each time up to ``most_pause_s``; after ``most_early`` in a row the service is failed, and tried again every
  ``slow_s`` or by hand.
* What cannot even be started is failed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callisto_telnetd.errors import ServiceError
from callisto_telnetd.services.child import Child, describe_exit
from callisto_telnetd.services.condition import Condition, ServiceView, State
from callisto_telnetd.services.pace import Pace, Tries
from callisto_telnetd.services.processes import ProcessTable
from callisto_telnetd.services.recipe import health_of, is_set_up, make_recipe
from callisto_telnetd.services.strays import Ledger
from callisto_telnetd.services.watch import Watch
from callisto_telnetd.services.web_place import WebPlace
from callisto_telnetd.settings import ServiceSettings
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import Log, log_incident
from callisto_telnetd.variables import Registry
from callisto_telnetd.work import ended, in_thread


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all services work with."""

    variables: Registry
    hub: Hub
    log: Log
    processes: ProcessTable
    ledger: Ledger
    data: Path
    tell: Callable[[str], None]
    """Shows a notice to all sessions."""
    pace: Pace


class Service:
    """A service and its task."""

    def __init__(self, name: str, settings: ServiceSettings, around: Surroundings) -> None:
        self.name = name
        self.settings = settings
        self._around = around
        self.place = WebPlace(name)
        self._wanted = settings.enabled and is_set_up(name, settings)
        self._holds: list[str] = []
        self._closing = False
        self._restart_for = self._resting_for = ""
        self._hurry = self._ending = False
        self._woken = asyncio.Event()
        self._starts = 0
        self._tries = Tries(around.pace)
        self._child: Child | None = None
        self._last_exit = ""
        self._next_at: float | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._waiting: list[asyncio.Future[str]] = []
        first = State.STOPPED if settings.enabled else State.OFF
        self.condition = Condition(first if is_set_up(name, settings) else State.NOT_SET_UP)

    # What is asked of it

    @property
    def held(self) -> str:
        """What it is stopped for just now, and started again after; blank where it is not."""
        return self._holds[-1] if self._holds and self._wanted else ""

    async def start(self) -> None:
        """Start it, also where it waits to be started again; returns once its process runs.

        Raises:
            ServiceError: it runs already, is not set up, is held, or cannot be started.
        """
        if not is_set_up(self.name, self.settings):
            raise ServiceError(f"{self.name} is not set up: services.{self.name}.command names its program")
        if self._holds:
            raise ServiceError(f"{self.name} is stopped for {self._holds[-1]}; start it afterwards")
        if self._child is not None and self._wanted:
            raise ServiceError(f"{self.name} runs already, pid {self._child.pid}")
        self._wanted = self._hurry = True
        self._tries.forget()
        await self._await_start()

    async def stop(self, reason: str) -> None:
        """Stop it, and let it be; returns once nothing of it runs.

        Raises:
            ServiceError: it does not run, and would not be started again.
        """
        if not self._wanted and self._child is None:
            raise ServiceError(f"{self.name} does not run: it is {self.condition.state}")
        self._rest_for(reason)
        self._wanted = False
        await self.rest()
        if self._holds and self.condition.state is State.STOPPED:
            self.condition.go(State.STOPPED, reason)  # what it was held for does not start it again

    async def restart(self, reason: str) -> None:
        """Stop it and start it again; where a hold has stopped it, that start is the one asked for.

        Raises:
            ServiceError: it is stopped or off, or cannot be started.
        """
        if not self._wanted:
            raise ServiceError(f"{self.name} does not run: it is {self.condition.state}")
        if self._holds:
            self._around.log.info("service restarts later", service=self.name, reason=reason, held=self._holds[-1])
            return
        self._restart_for, self._hurry = reason, True
        self._tries.forget()
        await self._await_start()

    async def restart_as_planned(self, reason: str) -> str:
        """Restart it where it is to run, and return what came of it: one that was stopped is left alone.

        Raises:
            ServiceError: it cannot be started.
        """
        if not self._wanted:
            return f"not restarted: it is {self.condition.state}"
        held = self.held
        await self.restart(reason)
        return f"stopped for {held}; it is started afterwards" if held else "restarted"

    def hold(self, reason: str) -> None:
        """Keep it stopped until :meth:`release`; :meth:`rest` returns once nothing of it runs."""
        self._rest_for(reason)
        self._holds.append(reason)
        self._woken.set()

    async def rest(self) -> None:
        """Return once nothing of it runs."""
        self._woken.set()
        await self._idle.wait()

    def release(self, reason: str) -> None:
        """End a hold: it starts again if it is to run."""
        self._holds.remove(reason)
        self._hurry = True
        self._tries.forget()
        self._woken.set()

    def close(self) -> None:
        """Stop it for good: its task ends."""
        self._rest_for("the end of the server")
        self._closing = True
        self._woken.set()

    def _rest_for(self, reason: str) -> None:
        """Remember what it is stopped for, if it is to run now."""
        if self._should_run:
            self._resting_for = reason
            self._ending = True  # also where it is to run again before its task has looked
            if self._idle.is_set():
                self.condition.go(State.STOPPED, reason)

    async def _await_start(self) -> None:
        outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(outcome)
        self._woken.set()
        if fault := await outcome:
            raise ServiceError(f"{self.name} cannot be started: {fault}")

    def _tell_start(self, fault: str = "") -> None:
        for each in self._waiting:
            if not each.done():
                each.set_result(fault)
        self._waiting.clear()

    # What its task does

    def announce(self) -> None:
        """Say that it is about to start, if it is: its task begins once orphans are ended."""
        if self._should_run:
            self.condition.go(State.STARTING)

    @property
    def _should_run(self) -> bool:
        return self._wanted and not self._holds and not self._closing

    async def run(self) -> None:
        """Keep it as it should be, until it is closed; an error in here makes it failed, and is told."""
        try:
            while not self._closing:
                try:
                    await self._take_turn()
                except Exception as error:  # noqa: BLE001 - a task is a door: nobody awaits what it raises
                    await self._pause(await self._break_somehow(error))
        finally:
            self._idle.set()
            self._tell_start("the server stops")
            self.place.close()

    async def _take_turn(self) -> None:
        """Let it live once, or rest until something is asked of it."""
        self._woken.clear()
        if self._should_run:
            self._idle.clear()
            pause_s = await self._live()
            if self._should_run:
                await self._pause(pause_s)
            self._idle.set()
        else:
            reason = self.condition.reason
            self._tell_start(f"it was stopped ({reason})" if reason else "it was stopped")
            await self._woken.wait()

    async def _break_somehow(self, error: Exception) -> float:
        try:
            return await self._break(error)
        except Exception as again:  # noqa: BLE001 - else its task would end, and nobody be told
            self._tell_start("internal error; the log tells more")
            log_incident(self._around.log, again, service=self.name)
            return self._around.pace.slow_s

    async def _break(self, error: Exception) -> float:
        """End what runs of it after an error that nobody foresaw; return the seconds until the next start."""
        reason = f"internal error, incident {log_incident(self._around.log, error, service=self.name)}"
        child, self._child = self._child, None
        if child is not None:
            self._around.processes.remove(self.name)
            await self._write(None)
            try:
                await child.end(signal.SIGKILL, 0.0)
            except Exception as again:  # noqa: BLE001 - it is told, and the next start finds what is left by its mark
                log_incident(self._around.log, again, service=self.name)
        pause_s = self._fail(reason)
        self._tell_start(reason)
        return pause_s

    async def _pause(self, pause_s: float) -> None:
        """Wait for the next start, or until something else is asked."""
        self._next_at = time.monotonic() + pause_s
        self._idle.set()
        while self._should_run and not self._hurry and (left_s := self._next_at - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), left_s)
            self._woken.clear()
        self._next_at = None

    async def _live(self) -> float:
        """Run a process from its start to its end; return the seconds until the next one."""
        around, log = self._around, self._around.log
        self._restart_for = ""
        self._hurry = self._ending = False
        self.condition.go(State.STARTING)
        try:
            self.settings = await self.place.settle(self.settings)
            recipe = await in_thread(make_recipe, self.name, self.settings, around.variables.text, around.data)
            child = await Child.start(self.name, recipe, around.hub)
        except ServiceError as error:
            self._tell_start(str(error))
            return self._fail(str(error))
        self._child = child
        self._starts += 1
        around.processes.add(self.name, child.pid)
        await self._write(child)
        log.info("service started", service=self.name, child=child.pid)
        watch = self._watch(child)
        checks = asyncio.create_task(watch.run(), name=f"{self.name}: health")
        if not self._restart_for:  # asked for while this one was being started: the next one is meant
            self._tell_start()
        try:
            await self._until_due(watch)
        finally:
            checks.cancel()
        asked = self._ending or (bool(self._restart_for) and not child.exited.done())
        reason = watch.sick or self._restart_for or (self._resting_for if self._ending else "")
        self.condition.go(State.STOPPING, reason)
        deadline_s = min(self.settings.stop_s, around.pace.close_s) if self._closing else self.settings.stop_s
        code = await child.end(signal.Signals[f"SIG{self.settings.stop_signal}"], deadline_s)
        await ended((checks,))
        self._child = None
        around.processes.remove(self.name)
        await self._write(None)
        self._last_exit = describe_exit(code)
        log.info("service ended", service=self.name, child=child.pid, exit=self._last_exit)
        return self._judge(watch, code, asked=asked)

    def _watch(self, child: Child) -> Watch:
        around = self._around
        return Watch(
            self.name,
            child,
            health_of(self.name, self.settings),
            self.condition,
            keep=self.settings.restart == "never",
            text=around.variables.text,
            log=around.log,
            wake=self._woken.set,
            on_working=self.place.tell,
        )

    async def _until_due(self, watch: Watch) -> None:
        """Return when the process has ended, or has to."""
        child = watch.child
        while not self._ending and not self._restart_for and not watch.sick and not child.exited.done():
            woken: asyncio.Future[Any] = asyncio.ensure_future(self._woken.wait())
            ended: asyncio.Future[Any] = child.exited
            try:
                await asyncio.wait([woken, ended], return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()
            self._woken.clear()

    def _judge(self, watch: Watch, code: int | None, *, asked: bool) -> float:
        """Say what the end of a process means, and return the seconds until the next start."""
        if asked:
            self.condition.go(State.STOPPED, self._restart_for or self._resting_for)
            self._hurry = True
            return 0.0
        reason = watch.sick or f"ended by itself with {self._last_exit}"
        if said := self._last_words(watch.child):
            reason += f"; its last words: {said}"
        again = self.settings.restart == "always" or (
            self.settings.restart == "on-failure" and (code != 0 or watch.sick)
        )
        if not again:
            self._wanted = False
            self.condition.go(State.STOPPED if code == 0 else State.FAILED, reason)
            if code != 0:
                self._report(reason)
            return 0.0
        tries = self._tries
        tries.count(watch.worked_s)
        if tries.used_up:
            return self._fail(f"{reason}; that was the {tries.early}. early end in a row")
        self.condition.go(State.WAITING, reason)
        self._report(reason, notice=tries.early <= 1)
        return tries.pause_s(self.settings.restart_s)

    def _fail(self, reason: str) -> float:
        self._tries.use_up()
        self.condition.go(State.FAILED, reason)
        self._report(reason, notice=not self._tries.told)
        self._tries.told = True
        return self._around.pace.slow_s

    def _report(self, reason: str, *, notice: bool = True) -> None:
        self._around.log.warning("service failed", service=self.name, state=str(self.condition.state), reason=reason)
        if notice:
            self._around.tell(f"service {self.name}: {self.condition.state}: {reason}")

    def _last_words(self, child: Child) -> str:
        said = [each for each in self._around.hub.held(child.started_at) if each.pid == child.pid]
        return next((each.text for each in reversed(said) if each.process == self.name), "")[:200]

    async def _write(self, child: Child | None) -> None:
        ledger = self._around.ledger
        try:
            if child is None:
                await in_thread(ledger.remove, self.name)
            else:
                await in_thread(ledger.add, self.name, child.known)
        except OSError as error:  # the marker finds it all the same
            self._around.log.warning("services not written down", reason=error.strerror or str(error))

    # What is told of it

    def view(self) -> ServiceView:
        """Return how it is now."""
        row = self._around.processes.row(self.name) if self._child else None
        used = self._child.recipe.used if self._child else {}
        return ServiceView(
            name=self.name,
            state=self.condition.state,
            reason=self.condition.reason,
            for_s=self.condition.for_s,
            pid=self._child.pid if self._child else None,
            restarts=max(0, self._starts - 1),
            last_exit=self._last_exit,
            next_try_s=None if self._next_at is None else max(0.0, self._next_at - time.monotonic()),
            cpu_percent=row.cpu_percent if row else 0.0,
            memory_bytes=row.memory_bytes if row else 0,
            restart_due=tuple(name for name, text in used.items() if self._around.variables.text(name) != text),
            plan=self.settings.plan,
            enabled=self.settings.enabled,
            command=self.settings.command,
            address=self.place.address if self._child else "",
        )
