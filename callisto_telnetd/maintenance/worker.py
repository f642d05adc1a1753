"""The worker: one job on the closed database file, in a process of its own, started by :mod:`.workshop`.

A damaged file can then bring down no server, and work in Python holds up no session. The order is one line of JSON on
standard input; what is told goes to standard output, a line of JSON each: ``step`` with ``done`` and ``of``, and at the
end ``result`` or ``error``. What only the server knows is asked for: a line on standard input answers each ``ask``.
The lines are ASCII (:func:`packed`) and read as bytes: no locale has a say in them.

Rules:

* The worker does not outlive its server: the kernel kills it (prctl(2), PR_SET_PDEATHSIG).
* It has the folder's lock by inheritance, so that no other server can open the folder while it works.
* A job leaves the old database or the new one, whenever it is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from threading import Lock
from typing import Any

from callisto_telnetd.errors import CallistoError

Tell = Callable[[str, int, int], None]
"""Told of a step: its name, how much of it is done, and how much it is in all; 0 where that is not known."""
Job = Callable[[Mapping[str, Any], Tell], Mapping[str, Any]]

_asking = Lock()

JOBS: dict[str, str] = {
    "backup": "callisto_telnetd.maintenance.backup_job:backup_job",
    "backup proof": "callisto_telnetd.maintenance.backup_job:proof_job",
    "compact": "callisto_telnetd.db.compact:compact",
    "check": "callisto_telnetd.maintenance.repair_job:check_job",
    "rows": "callisto_telnetd.maintenance.repair_job:rows_job",
    "repair": "callisto_telnetd.maintenance.repair_job:repair_job",
    "fill look": "callisto_telnetd.maintenance.fill_job:look_job",
    "fill": "callisto_telnetd.maintenance.fill_job:fill_job",
    "verify": "callisto_telnetd.maintenance.backup_job:verify_job",
    "unpack": "callisto_telnetd.maintenance.backup_job:unpack_job",
    "restore plan": "callisto_telnetd.maintenance.restore_job:plan_job",
    "restore stage": "callisto_telnetd.maintenance.restore_job:stage_job",
    "restore switch": "callisto_telnetd.maintenance.restore_job:switch_job",
    "restore back": "callisto_telnetd.maintenance.restore_job:back_job",
}
"""Each job's name, and where its function is: ``module:function``."""

_MAX_LINE_BYTES = 1 << 20
_TELL_S = 0.1
_NICE = 5
_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends; end at once if it is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def find_job(place: str) -> Job:
    """Return the function of a job."""
    module, _, function = place.partition(":")
    job: Job = getattr(import_module(module), function)
    return job


def packed(message: object) -> bytes:
    """Return a message as a line of the worker's pipe; ``json.loads`` reads it.

    Every letter beyond ASCII is escaped, so that a path whose bytes are no text in this locale (Python has them as lone
    surrogates) comes through as it is. orjson refuses those.
    """
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def ask(*words: str) -> Any:
    """Return the server's answer to a question; where the server is gone, so is this process."""
    with _asking:
        _say({"ask": words})
        return json.loads(sys.stdin.buffer.readline(_MAX_LINE_BYTES))


class Teller:
    """Tells of progress, at most ten times a second for one step; its beginning and its end always."""

    def __init__(self) -> None:
        self._step = ""
        self._at = 0.0

    def __call__(self, step: str, done: int, of: int) -> None:
        """Tell."""
        now = time.monotonic()
        if step != self._step or done == of or now - self._at >= _TELL_S:
            self._step, self._at = step, now
            _say({"step": step, "done": done, "of": of})


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(packed(message))
    sys.stdout.buffer.flush()


def main(jobs: Mapping[str, str] = JOBS) -> None:
    """Do the one of the jobs that standard input orders."""
    die_with(int(sys.argv[1]))
    os.nice(_NICE)
    order = json.loads(sys.stdin.buffer.readline(_MAX_LINE_BYTES))
    try:
        _say({"result": find_job(jobs[order["job"]])(order["order"], Teller())})
    except CallistoError as error:
        _say({"error": {"kind": type(error).__name__, "text": str(error)}})


if __name__ == "__main__":
    main()
