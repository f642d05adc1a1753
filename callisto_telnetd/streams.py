r"""Standard output and error of a process of ours: always there, fit for every character, and never waited for.

Rules:

* A standard descriptor that is closed at the start is opened on ``/dev/null``: the next file to be opened would take
  its number, and our lines with it.
* A terminal has the encoding of its locale; pipes and files get UTF-8, as all our files have it. What an encoding does
  not have is shown escaped (``\u2026``).
* A server's lines are written by a thread. The loop never waits for whoever reads them: a pager that is paused, a
  terminal after Ctrl-S, a full pipe. What finds no room is counted, and told when the lines flow again.
* The descriptors stay blocking: they are shared with the terminal, and with whoever has started the process.
"""

from __future__ import annotations

import asyncio
import io
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from callisto_telnetd.quantities import counted

_MOST_WAITING_BYTES = 256 << 10
"""Some 1,500 lines: what a busy second may say at the level of debug."""
_LAST_S = 0.5
"""How long the end of a server waits for the reader of its last lines."""


class LineWriter(io.TextIOBase):
    """A text stream whose lines a daemon thread writes to a descriptor; no call of it ever waits or fails."""

    def __init__(self, descriptor: int, encoding: str = "utf-8", most_waiting_bytes: int = _MOST_WAITING_BYTES) -> None:
        self.on_flow: Callable[[int], None] = self._tell_lost
        """Called in the thread with the number of lines that were lost, when lines flow again."""
        self._descriptor = descriptor
        self._encoding = encoding
        self._most_waiting_bytes = most_waiting_bytes
        self._changed = threading.Condition()
        self._begun = ""
        """A line whose end has not come yet."""
        self._lines: list[bytes] = []
        self._waiting_bytes = 0
        """Of all lines that are not written yet, those too that are being written."""
        self._lost = 0
        self._closed = False
        threading.Thread(target=self._run, name=f"output-{descriptor}", daemon=True).start()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, text: str, /) -> int:
        """Take the text; its whole lines are written soon, or counted where too many wait already."""
        with self._changed:
            self._begun += text
            *lines, self._begun = self._begun.split("\n")
            for line in lines:
                self._take(f"{line}\n".encode(self._encoding, "backslashreplace"))
            self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Wait for nobody."""

    def wait_written(self, patience_s: float) -> None:
        """Return once all whole lines are written, or after that many seconds."""
        deadline = time.monotonic() + patience_s
        with self._changed:
            while self._waiting_bytes and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)

    def end(self, patience_s: float) -> None:
        """Return once all lines are written, or after that many seconds; later lines go nowhere."""
        with self._changed:
            if self._begun:
                self._take(self._begun.encode(self._encoding, "backslashreplace"))
            self._begun = ""
            self.on_flow = self._tell_lost
            self._changed.notify_all()
            self.wait_written(patience_s)
            self._closed = True
            self._changed.notify_all()

    def _take(self, line: bytes) -> None:
        if self._closed or self._waiting_bytes + len(line) > self._most_waiting_bytes:
            self._lost += 1
            return
        self._lines.append(line)
        self._waiting_bytes += len(line)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    if self._closed:
                        return
                    self._changed.wait()
                lines, self._lines = self._lines, []
            is_written = self._write(b"".join(lines))
            with self._changed:
                self._waiting_bytes -= sum(map(len, lines))
                lost, self._lost = (self._lost, 0) if is_written else (0, self._lost + len(lines))
                if lost:
                    self.on_flow(lost)
                self._changed.notify_all()

    def _write(self, data: bytes) -> bool:
        """Write all of it, however long that takes; return whether it was taken: a disk may be full, a reader gone."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody else who has this descriptor has made it so
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
            except OSError:
                return False
        return True

    def _tell_lost(self, lost: int) -> None:
        self.write(f"callisto-telnetd: {counted(lost, 'line')} not written: nobody read them\n")


def open_streams() -> None:
    """Have standard output and error that are there, and take every character; call it before any file is opened."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout, sys.stderr = (
        open(number, "w", closefd=False) if stream is None else stream  # noqa: SIM115
        for number, stream in ((1, sys.stdout), (2, sys.stderr))
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def stop_waiting() -> None:
    """Have threads write standard output and error from here on; :func:`end_streams` ends that."""
    sys.stdout, sys.stderr = (
        LineWriter(stream.fileno(), stream.encoding) if _is_file(stream) else stream
        for stream in (sys.stdout, sys.stderr)
    )


async def error_lines_written() -> None:
    """Return once what was said on standard error has been written, or its reader stands still."""
    if isinstance(sys.stderr, LineWriter):
        await asyncio.to_thread(sys.stderr.wait_written, _LAST_S)


def _is_file(stream: TextIO) -> bool:
    """Whether a descriptor is behind the stream: nobody waits for what is in memory alone."""
    try:
        return stream.fileno() >= 0
    except io.UnsupportedOperation:
        return False


def end_streams(patience_s: float = _LAST_S) -> None:
    """Write what waits to be written; a reader who stands still is given up after ``patience_s`` seconds each."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, LineWriter):
            stream.end(patience_s)


def discard(descriptor: int) -> None:
    """Have all that is still written to the descriptor go nowhere, what waits in a buffer and what is written now too.

    For an output whose reader has gone, or whose disk is full: the exit would fail on the rest.
    """
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def discard_stalled() -> bool:
    """Discard standard output if nobody reads it, and return whether that was so.

    For an interrupt that finds the program waiting there: what was not written is lost, and the program has failed.
    """
    try:
        stalled = not select.select([], [1], [], 0)[1]
    except (OSError, ValueError):
        return False
    if stalled:
        discard(1)
    return stalled
