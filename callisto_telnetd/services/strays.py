"""What is left of services: processes that have outlived their service, or the server that started them.

Rules:

* A process is ours if its environment holds the marker of this data folder and it belongs to this user (or to the user
  that a service runs as); or if it is one that was written down at its start: same boot, same number, same start.
* A number alone proves nothing, the system gives it to others. Every signal goes through a pidfd: it is opened first,
  then what it names is looked at again, and only then it is signalled.
* /proc is read by hand: psutil's start times move with the system's clock, and its way to an environment costs ten
  times as much for each process of the machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from callisto_telnetd.ownership import fault_of
from callisto_telnetd.services.recipe import MARKER

_PROC = Path("/proc")
_MOST_ENVIRONMENT = 4 << 20
_MOST_RECORD = 64 << 10
_MARKED_NAME = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_ROUNDS = 20
_LOOK_S = 0.02
_KILL_S = 2.0


@dataclass(frozen=True, slots=True)
class Known:
    """A process that was seen: its number and when it started, in ticks since the boot."""

    pid: int
    ticks: int


def start_ticks(pid: int) -> int | None:
    """Return when a process started (proc(5), field 22 of ``stat``); None where it is gone or has ended."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rfind(b")") + 2 :].split()  # its name may hold anything, brackets too
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def boot_id() -> str:
    """Return what names this boot of the machine."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208 - a Path for each is not needed


def find_marked(fits: Callable[[str], bool], uids: Collection[int]) -> list[Known]:
    """Return the processes of these users whose marker fits."""
    found = []
    for pid in _pids():
        if pid != os.getpid() and any(fits(marker) for marker in _markers_of(pid, uids)):
            ticks = start_ticks(pid)
            if ticks is not None and pid not in _ancestors():
                found.append(Known(pid, ticks))
    return found


def is_marker_of(data: Path, marker: str) -> bool:
    """Whether a marker is one of that data folder's: all before its last colon, for a folder may hold colons too."""
    folder, _, name = marker.rpartition(":")
    return folder == str(data) and _MARKED_NAME.fullmatch(name) is not None


def _markers_of(pid: int, uids: Collection[int]) -> list[str]:
    folder, beginning = _PROC / str(pid), os.fsencode(f"{MARKER}=")
    try:
        if folder.stat().st_uid not in uids:
            return []
        with (folder / "environ").open("rb") as stream:
            environment = stream.read(_MOST_ENVIRONMENT)
    except OSError:  # it has ended, or it is not ours to look at
        return []
    if beginning not in environment:
        return []
    each = environment.split(b"\0")
    return [os.fsdecode(value.removeprefix(beginning)) for value in each if value.startswith(beginning)]


def _ancestors() -> set[int]:
    """Return the processes above this one: where the server itself was started by a service, that one is no stray."""
    pid, above = os.getpid(), set()
    while pid > 1 and pid not in above:
        above.add(pid)
        try:
            stat = (_PROC / str(pid) / "stat").read_bytes()
        except OSError:
            break
        pid = int(stat[stat.rfind(b")") + 2 :].split()[1])
    return above


def members(group: int, session: int | None = None) -> list[Known]:
    """Return the processes of a group, or of a session too, that have not ended."""
    found = []
    for pid in _pids():
        try:
            ours = os.getpgid(pid) == group or (session is not None and os.getsid(pid) == session)
        except OSError:
            continue
        ticks = start_ticks(pid) if ours else None
        if ticks is not None:
            found.append(Known(pid, ticks))
    return found


def send(known: Known, number: signal.Signals) -> None:
    """Send a signal to that very process; one that has ended meanwhile is no error, nor is one that may not be."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(known.pid)
        try:
            if start_ticks(known.pid) == known.ticks:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def end_all(find: Callable[[], list[Known]], grace_s: float = 0.0) -> list[Known]:
    """End what ``find`` finds, again and again until it finds nothing: they may fork. Blocks, so it is for a thread.

    Args:
        find: Returns the processes that are to end.
        grace_s: Seconds between SIGTERM and SIGKILL; 0 kills at once.

    Returns:
        Those that were found, without those that are still there at the end.
    """
    ended: dict[Known, None] = {}
    deadline = time.monotonic() + grace_s
    if grace_s:
        for known in find():
            ended[known] = None
            send(known, signal.SIGTERM)
        while time.monotonic() < deadline and find():
            time.sleep(_LOOK_S)
    deadline = time.monotonic() + _KILL_S
    while (left := find()) and time.monotonic() < deadline:
        for known in left:
            ended[known] = None
            send(known, signal.SIGKILL)
        time.sleep(_LOOK_S if len(ended) < _ROUNDS else _LOOK_S / 10)
    return [known for known in ended if start_ticks(known.pid) != known.ticks]


class Ledger:
    """The file that says which processes the server has started, for the next server to end should this one die."""

    def __init__(self, file: Path) -> None:
        self.refused = ""
        """Why the last :meth:`read` did not believe the file; blank where it did."""
        self._file = file
        self._boot = boot_id()
        self._running: dict[str, Known] = {}
        self._writing = threading.Lock()

    def read(self) -> list[Known]:
        """Return the processes that were written down and still run.

        A file that cannot be understood holds none, and neither does one that somebody else could have written: it
        would name processes of his choice, and this server ends what it names.
        """
        try:
            kept = orjson.loads(self._content())
        except (OSError, orjson.JSONDecodeError):
            return []
        if not isinstance(kept, Mapping) or kept.get("boot") != self._boot:
            return []
        services = kept.get("services")
        found = [_parse(each) for each in services] if isinstance(services, list) else []
        return [known for known in found if known is not None and start_ticks(known.pid) == known.ticks]

    def add(self, name: str, known: Known) -> None:
        """Write down that the service runs.

        Raises:
            OSError: the file cannot be written.
        """
        with self._writing:
            self._running[name] = known
            self._write()

    def remove(self, name: str) -> None:
        """Write down that it does not run any more.

        Raises:
            OSError: the file cannot be written.
        """
        with self._writing:
            if self._running.pop(name, None) is not None:
                self._write()

    def _write(self) -> None:
        # Renamed into place, so a reader finds it whole; not synced, since after a power cut nothing runs any more
        services = [{"name": name, "pid": each.pid, "ticks": each.ticks} for name, each in self._running.items()]
        new = self._file.with_name(f"{self._file.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(orjson.dumps({"boot": self._boot, "services": services}))
        new.rename(self._file)

    def _content(self) -> bytes:
        # Not blocking: in the place of the file might be a pipe
        descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            self.refused = fault_of(status) if stat.S_ISREG(status.st_mode) else "is no file"
            return b"" if self.refused else stream.read(_MOST_RECORD)


def _parse(service: Any) -> Known | None:
    pid, ticks = (service.get("pid"), service.get("ticks")) if isinstance(service, Mapping) else (None, None)
    if not isinstance(pid, int) or not isinstance(ticks, int) or not 1 < pid < 1 << 31 or pid == os.getpid():
        return None
    return Known(pid, ticks)
