"""The one writer of captures: a thread, so that a disk that is slow or stands still slows no session.

Rules:
* What is put is written in its order. While the thread works, more is collected, and then written in one go.
* Past ``_FULL_BYTES`` that wait, the hub holds its inputs back until half of it is written. Past ``_MOST_BYTES`` (the
  server's own records cannot be held back) nothing more is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from callisto_telnetd.trace.capture_file import CaptureFile

_FULL_BYTES = 4 << 20
_MOST_BYTES = 16 << 20

T = TypeVar("T")


class _Job(NamedTuple):
    """A piece of work on one file: data to append, or the reason for which it is closed."""

    file: CaptureFile
    data: bytes
    ending: str | None
    done: Callable[[], None]


class Writer:
    """Writes capture files in a thread of its own."""

    def __init__(self, on_full: Callable[[bool], None], on_written: Callable[[int], None]) -> None:
        """Begin with nothing to write.

        Args:
            on_full: Called with whether so much waits that the inputs are to pause.
            on_written: Called with the number of bytes of each piece of work that is done.
        """
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="trace-writer")
        self._on_full = on_full
        self._on_written = on_written
        self._jobs: list[_Job] = []
        self._working: asyncio.Future[None] | None = None
        self._full = False
        self.waiting_bytes = 0
        """That were put and are not written yet."""

    def put(self, file: CaptureFile, data: bytes, done: Callable[[], None]) -> bool:
        """Append the data, then call ``done`` in the loop; say False where so much waits that nothing is taken."""
        if self.waiting_bytes + len(data) > _MOST_BYTES:
            return False
        self.waiting_bytes += len(data)
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
        """End the thread when it is idle."""
        self._pool.shutdown(wait=False)

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
