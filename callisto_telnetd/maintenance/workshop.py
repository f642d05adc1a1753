"""The workshop: runs jobs on the closed database in a worker, one at a time, and hands on what the worker tells."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from callisto_telnetd import errors
from callisto_telnetd.db.folder import FolderLock
from callisto_telnetd.errors import CallistoError, StoreError
from callisto_telnetd.interpreter import free_signals, inherited_environment, module_command, module_environment
from callisto_telnetd.maintenance.worker import packed
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.trace.sanitiser import clean

_WORKER = "callisto_telnetd.maintenance.worker"
_MAX_LINE_BYTES = 16 << 20
_MAX_COMPLAINT_BYTES = 64 << 10
_KILLED_S = 2.0
"""For a killed worker to be gone; it runs nothing of its own after the signal."""
MOST_SILENT_S = 3600.0
"""How long a worker may tell nothing: a check of some GiB on a slow disk is one step. A stopped one would hold the
database for good."""


class Progress(NamedTuple):
    """How far a worker has come."""

    step: str
    done: int
    of: int
    """0 where nobody knows how much it will be."""


def _ignore(_progress: Progress) -> None:
    """Take no notice."""


def _know_nothing(words: Sequence[str]) -> object:
    raise StoreError(f"the worker for this job asks what nobody here can answer: {' '.join(words)}")


class Workshop:
    """Where jobs on the closed database are done; whoever gives one holds the store."""

    def __init__(self, lock: FolderLock, log: Log, worker: str = _WORKER, most_silent_s: float = MOST_SILENT_S) -> None:
        self._most_silent_s = most_silent_s
        self._lock = lock
        self._worker = worker
        self._log = log
        self._free = asyncio.Lock()

    async def run(
        self,
        job: str,
        order: Mapping[str, Any],
        told: Callable[[Progress], None] = _ignore,
        asked: Callable[[Sequence[str]], object] = _know_nothing,
    ) -> dict[str, Any]:
        """Do a job and return its result; a caller who is cancelled kills the worker and waits for its end.

        Args:
            job: Its name in the worker's ``JOBS``.
            order: What the job needs to know; goes as JSON.
            told: Called on the loop for each message of progress.
            asked: Called on the loop for each question, with its words; what it returns goes back as JSON.

        Raises:
            CallistoError: the one that the job raised.
            StoreError: the worker ended without a result, why stands in the log; or it told nothing for too long.
        """
        async with self._free:
            free_signals()
            worker = await asyncio.create_subprocess_exec(
                *module_command(self._worker, str(os.getpid())),
                env=module_environment(inherited_environment()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(self._lock.descriptor,),
                limit=_MAX_LINE_BYTES,
                start_new_session=True,  # Ctrl-C and a closed terminal are for this process to judge
            )
            complaint = asyncio.create_task(_read_complaint(worker))
            try:
                outcome = await _follow(worker, packed({"job": job, "order": order}), told, asked, self._most_silent_s)
                code = await worker.wait()
                said = await complaint
            finally:
                await _end(worker, complaint)
        if said and outcome:
            self._log.warning("worker complained", job=job, detail=clean(said))
        if "result" in outcome:
            result: dict[str, Any] = outcome["result"]
            return result
        if "error" in outcome:
            raise _error(outcome["error"])
        self._log.error("worker failed", job=job, exit_code=code, detail=clean(said))
        raise StoreError(f"the worker for this job ended without a result (exit code {code}); the log says more")


async def _follow(
    worker: asyncio.subprocess.Process,
    order: bytes,
    told: Callable[[Progress], None],
    asked: Callable[[Sequence[str]], object],
    most_silent_s: float,
) -> Mapping[str, Any]:
    """Return the last message of the worker, blank where it ended without one."""
    stdin, stdout = worker.stdin, worker.stdout
    if stdin is None or stdout is None:
        return {}
    await _send(stdin, order)
    while line := await _next_line(stdout, most_silent_s):
        try:
            message = json.loads(line)
        except ValueError:  # cut off by its end
            return {}
        if "step" in message:
            told(Progress(message["step"], message["done"], message["of"]))
        elif "ask" in message:
            await _send(stdin, packed(asked(message["ask"])))
        else:
            return dict(message)
    return {}


async def _send(stdin: asyncio.StreamWriter, line: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # it has ended: its output says why
        stdin.write(line)
        await stdin.drain()


async def _next_line(stdout: asyncio.StreamReader, most_silent_s: float) -> bytes:
    try:
        async with asyncio.timeout(most_silent_s):
            return await stdout.readline()
    except TimeoutError:
        raise StoreError(f"the worker for this job has told nothing for {most_silent_s:.0f} s and was ended") from None


async def _read_complaint(worker: asyncio.subprocess.Process) -> str:
    """Return the end of what the worker has written to standard error."""
    said = b""
    while worker.stderr is not None and (more := await worker.stderr.read(_MAX_COMPLAINT_BYTES)):
        said = (said + more)[-_MAX_COMPLAINT_BYTES:]
    return said.decode(errors="replace").strip()


async def _end(worker: asyncio.subprocess.Process, complaint: asyncio.Task[str]) -> None:
    if worker.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        with contextlib.suppress(TimeoutError):  # one in the hands of a disk ends when that lets go of it
            async with asyncio.timeout(_KILLED_S):
                await worker.wait()
    complaint.cancel()
    await asyncio.wait((complaint,))


def _error(said: Mapping[str, str]) -> CallistoError:
    """Return the error that the worker raised, of its own class where that is one of ours."""
    kind = getattr(errors, said["kind"], None)
    if not (isinstance(kind, type) and issubclass(kind, CallistoError)):
        kind = StoreError
    error = kind.__new__(kind)
    Exception.__init__(error, said["text"])
    return error
