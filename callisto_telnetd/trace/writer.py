"""The one writer of captures: a thread, so that a disk that is slow or stands still slows no session.

Rules:
* What is put is written in its order. While the thread works, more is collected, and then written in one go.
* Past ``_FULL_BYTES`` that wait, the hub holds its inputs back until half of it is written. The server's own records
  cannot be held back: past ``_MOST_BYTES`` a file that has a quarter of that waiting takes nothing more. One that has
  not is no part of the trouble: a block for many captures waits once for each, though all share its memory.
* The thread keeps nobody from leaving: the process ends although a disk stands still.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import NamedTuple, ParamSpec, TypeVar

from callisto_telnetd.trace.capture_file import CaptureFile

_FULL_BYTES = 4 << 20
_MOST_BYTES = 16 << 20

T = TypeVar("T")
P = ParamSpec("P")


class _Job(NamedTuple):
    """A piece of work on one file: data to append, or the reason for which it is closed."""

    file: CaptureFile
    data: bytes
    ending: str | None
    done: Callable[[], None]


class _Thread(Executor):
    """One daemon thread: the interpreter's end waits for the threads of a pool, however long their disk takes."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do the work behind all that was submitted before."""
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - the caller's, who awaits it
                    future.set_exception(error)

        self._work.put(work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End behind all that was submitted; nobody waits for it."""
        self._work.put(None)


class Writer:
    """Writes capture files in a thread of its own."""

    def __init__(self, on_full: Callable[[bool], None], on_written: Callable[[int], None]) -> None:
        """Begin with nothing to write.

        Args:
            on_full: Called with whether so much waits that the inputs are to pause.
            on_written: Called with the number of bytes of each piece of work that is done.
        """
        self._pool = _Thread("trace-writer")
        self._on_full = on_full
        self._on_written = on_written
        self._jobs: list[_Job] = []
        self._working: asyncio.Future[None] | None = None
        self._full = False
        self.waiting_bytes = 0
        """That were put and are not written yet."""
        self._of_file: Counter[CaptureFile] = Counter()

    def put(self, file: CaptureFile, data: bytes, done: Callable[[], None]) -> bool:
        """Append the data, then call ``done`` in the loop; say False where so much waits that nothing is taken."""
        size = len(data)
        if self.waiting_bytes + size > _MOST_BYTES and self._of_file[file] + size > _MOST_BYTES // 4:
            return False
        self.waiting_bytes += len(data)
        self._of_file[file] += len(data)
        if self.waiting_bytes > _FULL_BYTES and not self._full:
            self._full = True
            self._on_full(True)
        self._add(_Job(file, data, None, done))
        return True

    def close_file(self, file: CaptureFile, reason: str, done: Callable[[], None]) -> None:
        """Close the file behind all that was put, then call ``done`` in the loop."""
        self._add(_Job(file, b"", reason, done))

    async def call(self, work: Callable[[], T]) -> T:
        """Do other work on the folder of captures in the writer's thread, behind what it does now."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def flush(self) -> None:
        """Wait until all that was put is written."""
        while self._working is not None:
            await asyncio.wait([self._working])
            await asyncio.sleep(0)  # its callback comes next, and may have begun again

    def stop(self) -> None:
        """End the thread when it has nothing to do any more; nobody waits for it."""
        self._pool.shutdown()

    def _add(self, job: _Job) -> None:
        self._jobs.append(job)
        if self._working is None:
            self._start()

    def _start(self) -> None:
        jobs, self._jobs = self._jobs, []
        loop = asyncio.get_running_loop()
        self._working = loop.run_in_executor(self._pool, _work, jobs)
        self._working.add_done_callback(lambda _: self._end(jobs))

    def _end(self, jobs: Sequence[_Job]) -> None:
        written_bytes = sum(len(job.data) for job in jobs)
        self.waiting_bytes -= written_bytes
        for job in jobs:
            self._of_file[job.file] -= len(job.data)
            if not self._of_file[job.file]:
                del self._of_file[job.file]
        self._on_written(written_bytes)
        self._working = None
        if self._jobs:
            self._start()
        if self._full and self.waiting_bytes <= _FULL_BYTES // 2:
            self._full = False
            self._on_full(False)
        for job in jobs:
            job.done()


def _work(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.ending is None:
            job.file.write(job.data)
        else:
            job.file.close(job.ending)
