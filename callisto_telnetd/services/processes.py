"""The processes that Callisto runs, as the system sees them.

Rules:

* The supervisor says which they are; the server itself is always the first row.
* The psutil objects are kept: CPU % is measured since the row was read last, and a number that the system has given to
  another process in the meantime is seen as ``gone``, not as ours.
* A process may end at any moment, so no reading of one is an error.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

SERVER_NAME = "callisto-telnetd"

_STATES = {
    psutil.STATUS_RUNNING: "running",
    psutil.STATUS_WAKING: "running",
    psutil.STATUS_SLEEPING: "idle",
    psutil.STATUS_IDLE: "idle",
    psutil.STATUS_WAITING: "idle",
    psutil.STATUS_PARKED: "idle",
    psutil.STATUS_DISK_SLEEP: "blocked",
    psutil.STATUS_LOCKED: "blocked",
    psutil.STATUS_STOPPED: "stopped",
    psutil.STATUS_TRACING_STOP: "debugged",
    psutil.STATUS_ZOMBIE: "ended",
    psutil.STATUS_DEAD: "ended",
}

_CPU_BASE_S = 0.1


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process at one moment."""

    name: str
    """Its name at Callisto, such as ``web-server``."""
    pid: int
    state: str
    """``running`` (on a processor), ``idle`` (waits for work), ``blocked`` (waits for a disk), ``stopped``,
    ``debugged``, ``ended`` (not yet collected by its parent), ``gone``, or ``unknown`` (the system does not tell)."""
    cpu_percent: float = 0.0
    """Since the last reading; 100 is one core, so a process of several threads may have more."""
    memory_bytes: int = 0
    """What it holds in RAM (resident set), shared pages included."""
    uptime_s: float = 0.0


class ProcessTable:
    """Which processes Callisto runs, and how they are."""

    def __init__(self) -> None:
        self._server = _Watched(SERVER_NAME, os.getpid())
        self._others: dict[str, _Watched] = {}

    def add(self, name: str, pid: int) -> None:
        """Show a process under this name, in place of one that had the name before; it may have ended already."""
        self._others.pop(name, None)
        self._others[name] = _Watched(name, pid)

    def remove(self, name: str) -> None:
        """Show that process no longer; a name that is not shown is no error."""
        self._others.pop(name, None)

    def row(self, name: str) -> ProcessRow | None:
        """Return the row of one of the others; None where there is none of that name."""
        process = self._others.get(name)
        return None if process is None else process.row()

    def rows(self) -> list[ProcessRow]:
        """Return the server and then the others in the order they were added; about 0.2 ms a row."""
        return [self._server.row(), *(process.row() for process in self._others.values())]


class _Watched:
    """A process that is read again and again."""

    def __init__(self, name: str, pid: int) -> None:
        self._name = name
        self._pid = pid
        self._process: psutil.Process | None = None
        self._started_s = self._read_at_s = time.monotonic()
        self._cpu_percent = 0.0
        try:
            self._process = psutil.Process(pid)
            self._process.cpu_percent()  # the first call only sets the base
            # psutil keeps the start on the system's clock, which may be set: from here on only a monotonic one counts
            self._started_s -= max(0.0, time.time() - self._process.create_time())
        except psutil.Error:
            pass  # ended before it was added, or hidden from us: row() says which

    def _cpu(self, process: psutil.Process) -> float:
        """Return the use since the last reading; readings closer than 0.1 s apart say nothing, the last one stands."""
        now = time.monotonic()
        if now - self._read_at_s >= _CPU_BASE_S:
            self._read_at_s = now
            self._cpu_percent = process.cpu_percent()
        return self._cpu_percent

    def row(self) -> ProcessRow:
        process = self._process
        if process is None or not process.is_running():
            return ProcessRow(self._name, self._pid, "gone")
        try:
            with process.oneshot():
                return ProcessRow(
                    name=self._name,
                    pid=self._pid,
                    state=_STATES.get(process.status(), "unknown"),
                    cpu_percent=self._cpu(process),
                    memory_bytes=process.memory_info().rss,
                    uptime_s=time.monotonic() - self._started_s,
                )
        except psutil.ZombieProcess:
            return ProcessRow(self._name, self._pid, "ended")
        except psutil.NoSuchProcess:
            return ProcessRow(self._name, self._pid, "gone")
        except psutil.AccessDenied:
            return ProcessRow(self._name, self._pid, "unknown", uptime_s=time.monotonic() - self._started_s)
