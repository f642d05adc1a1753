"""How a service is: its state, why and for how long, and all that an administrator is told of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a service is, as an administrator is told."""

    OFF = "off"
    NOT_SET_UP = "not set up"
    STARTING = "starting"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"
    STOPPED = "stopped"
    WAITING = "waiting to restart"
    FAILED = "failed"


class Condition:
    """The state that a service is in now."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.reason = ""
        """Why it is as it is; blank where there is nothing to say."""
        self._since = self.turned_at = time.monotonic()
        """The second is when its present process began, or its last one ended: health does not move it."""

    @property
    def for_s(self) -> float:
        """Seconds in this state, for whatever reasons."""
        return time.monotonic() - self._since

    def go(self, state: State, reason: str = "") -> None:
        """Enter a state, or stay in it for another reason."""
        if state is not self.state:
            self._since = time.monotonic()
            if state not in {State.RUNNING, State.UNHEALTHY, State.STOPPING}:  # in these it has the process it had
                self.turned_at = self._since
        self.state, self.reason = state, reason


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service at one moment."""

    name: str
    state: State
    reason: str
    """Why it is as it is; blank where there is nothing to say."""
    for_s: float
    """Seconds in this state."""
    pid: int | None
    restarts: int
    """Starts since the server's, without the first."""
    last_exit: str
    """How its last process ended, in words; blank where none has."""
    next_try_s: float | None
    cpu_percent: float
    memory_bytes: int
    restart_due: tuple[str, ...]
    """The variables that have changed since its start, and take effect at its next one."""
    plan: str
    """The variable that holds its restart plan."""
    enabled: bool
    command: tuple[str, ...]
    address: str
    """Where browsers find it; blank where they do not, or while it does not run."""
