"""Files that a person names: opened as regular files alone, and given up where their disk does not answer.

A pipe that nobody writes to, a device, and a mount whose server is gone hold whoever touches them, for ever. So every
path that somebody has named (keys, certificates, settings, texts to import, captures) goes through here:

* :func:`open_regular` and :func:`read_regular` take a regular file and nothing else, and do not wait to open it.
* :func:`in_time` runs what may hang all the same in a daemon thread, which neither the caller's deadline nor the end of
  the process waits for; :func:`~callisto_telnetd.transports.daemon.look` is the same beside an event loop.

What is wrong is always an ``OSError`` with a ``strerror`` for people.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO, NoReturn, TypeVar

_T = TypeVar("_T")
DEADLINE_S = 10.0
"""A disk that has gone to sleep takes some seconds."""
_MOST_HUNG = 32
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_hung = threading.BoundedSemaphore(_MOST_HUNG)
"""Places for calls that have not returned: each costs a thread for as long as its disk is silent."""


def require_regular(path: Path) -> int:
    """Return the size of a file in bytes, links followed; looks, and opens nothing.

    Raises:
        OSError: it is not there, or no regular file.
    """
    found = path.stat()
    _require(found)
    return found.st_size


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, links followed; what it is, is looked at before and after: opening a device may do much.

    Raises:
        OSError: it is not there, cannot be read, or is no regular file.
    """
    _require(path.stat())
    descriptor = os.open(path, _FLAGS)
    try:
        _require(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: as :func:`open_regular`; or it is longer than that.
    """
    with open_regular(path) as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is longer than {most_bytes >> 10} KiB")
    return content


def no_answer(seconds: float) -> TimeoutError:
    """Return the error of a disk that was waited for so long."""
    return TimeoutError(errno.ETIMEDOUT, f"its disk does not answer within {seconds:g} s")


def placed(call: Callable[[], _T]) -> Callable[[], _T]:
    """Return the call with a place among those that may hang; without a free one, it raises an ``OSError``."""

    def run() -> _T:
        if not _hung.acquire(blocking=False):
            raise OSError(errno.EAGAIN, f"{_MOST_HUNG} others wait for disks that do not answer")
        try:
            return call()
        finally:
            _hung.release()

    return run


def in_time(call: Callable[[], _T], seconds: float = DEADLINE_S) -> _T:
    """Return what the call returns, or raise what it raises; for where no event loop runs.

    Args:
        call: Opens nothing that it does not close itself, unless it returns it.
        seconds: How long it is waited for.

    Raises:
        OSError: the call's own; or there is no answer in time.
    """
    answers: SimpleQueue[Callable[[], _T]] = SimpleQueue()
    work = placed(call)

    def run() -> None:
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised again where somebody waits
            failure = error
            answers.put(lambda: _raise(failure))
        else:
            answers.put(lambda: value)

    threading.Thread(target=run, name="named-file", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise no_answer(seconds) from None
    return answer()


def _raise(error: BaseException) -> NoReturn:
    raise error


def _require(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
