"""The watch over one process of a service: whether it has begun to work, and whether it still does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from callisto_telnetd.services.child import Child
from callisto_telnetd.services.condition import Condition, State
from callisto_telnetd.services.health import check
from callisto_telnetd.services.recipe import Recipe, fill
from callisto_telnetd.settings import HealthSettings
from callisto_telnetd.trace.logs import Log, log_incident

_FIRST_LOOK_S, _STARTING_LOOK_S = 0.125, 1.0
"""The pauses between looks at a process that starts: the first, doubled each time, and the longest."""


class Watch:
    """Follows the health of a process, and moves its service between running and unhealthy.

    Args:
        name: The service's.
        child: The process.
        health: How it is looked at; None where it works as long as it runs.
        condition: The service's.
        keep: Whether an unhealthy process is left alone rather than ended.
        text: Returns the value of a variable, for the words of a check.
        log: Told of each check that fails.
        wake: Called when the process is to be ended.
        on_working: Called when it is found to work for the first time.
    """

    def __init__(
        self,
        name: str,
        child: Child,
        health: HealthSettings | None,
        condition: Condition,
        *,
        keep: bool,
        text: Callable[[str], str],
        log: Log,
        wake: Callable[[], None],
        on_working: Callable[[], None],
    ) -> None:
        self.child = child
        self.sick = ""
        """What its process is to be ended for; blank while it need not."""
        self._name = name
        self._health = health
        self._condition = condition
        self._keep = keep
        self._text = text
        self._log = log
        self._wake = wake
        self._on_working = on_working
        self._settled_at: float | None = None

    @property
    def worked_s(self) -> float:
        """Seconds since the process was first found to work; 0 where it never was."""
        return 0.0 if self._settled_at is None else time.monotonic() - self._settled_at

    async def run(self) -> None:
        """Look at the process, until it ends or has failed its checks; one that cannot be looked at has failed."""
        try:
            await self._look_on()
        except Exception as error:  # noqa: BLE001 - a task is a door: nobody awaits what it raises
            self._give_up(f"internal error, incident {log_incident(self._log, error, service=self._name)}")

    async def _look_on(self) -> None:
        health = self._health
        if health is None:
            self._settle()
            return
        recipe = self._recipe(health)
        give_up_at, failures, look_s = time.monotonic() + health.start_s, 0, _FIRST_LOOK_S
        while not self.sick:
            starting = self._settled_at is None
            await asyncio.sleep(min(health.every_s, look_s) if starting else health.every_s)
            look_s = min(2 * look_s, _STARTING_LOOK_S)
            fault = await check(health, recipe)
            if not fault:
                failures = 0
                self._settle()
            elif starting:
                if time.monotonic() >= give_up_at:
                    self._give_up(f"not healthy within {health.start_s:g} s: {fault}")
            else:
                failures += 1
                self._condition.go(State.UNHEALTHY, fault)
                self._log.warning("service unhealthy", service=self._name, reason=fault, failures=failures)
                if failures >= health.failures:
                    self._give_up(fault)

    def _recipe(self, health: HealthSettings) -> Recipe:
        words = tuple(fill(word, self._text) for word in health.command)
        return replace(self.child.recipe, words=words) if words else self.child.recipe

    def _settle(self) -> None:
        if self._settled_at is None:
            self._settled_at = time.monotonic()
            self._on_working()
        if self._condition.state is not State.RUNNING:
            self._condition.go(State.RUNNING)

    def _give_up(self, fault: str) -> None:
        """Have an unhealthy process ended, unless it is to be kept."""
        if self._keep:
            if self._condition.state is not State.UNHEALTHY or self._condition.reason != fault:
                self._condition.go(State.UNHEALTHY, fault)
            return
        self.sick = fault
        self._wake()
