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
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO, NoReturn, TypeVar

_T = TypeVar("_T")
DEADLINE_S = 10.0
"""A disk that has gone to sleep takes some seconds."""
_MOST_HUNG = 2
"""At one mount; each costs a thread for as long as its disk is silent."""
_MOST_AT_ONCE = 128
"""At one mount, those counted whose deadline has not come."""
_MOST_MOUNTS = 32
"""With calls past their deadline."""
_MOST_LINKS = 40
"""As the kernel follows them."""
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_lock = threading.Lock()
_running: dict[str, list[float]] = {}
"""By mount point, the deadlines (monotonic seconds) of the calls that have not returned."""


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


def placed(path: Path, call: Callable[[], _T], seconds: float) -> Callable[[], _T]:
    """Return the call with a place among those at its mount.

    Only calls that are past their deadline count as hung. So a slow disk refuses nobody, and a dead one refuses only
    those who come to it.

    Raises:
        OSError: by the returned call: too many others wait for the same disk, or for too many other disks.
    """

    def run() -> _T:
        with _place(mount_of(path), seconds):
            return call()

    return run


@contextmanager
def _place(mount: str, seconds: float) -> Iterator[None]:
    now = time.monotonic()
    due = now + seconds
    with _lock:
        here = _running.get(mount, [])
        hung = sum(each <= now for each in here)
        if hung >= _MOST_HUNG or len(here) >= _MOST_AT_ONCE:
            raise OSError(errno.EAGAIN, f"{hung or len(here)} others wait for its disk, which does not answer")
        if not hung and sum(min(each) <= now for each in _running.values()) >= _MOST_MOUNTS:
            raise OSError(errno.EAGAIN, f"{_MOST_MOUNTS} other disks do not answer")
        _running.setdefault(mount, []).append(due)
    try:
        yield
    finally:
        with _lock:
            _running[mount].remove(due)
            if not _running[mount]:
                del _running[mount]


def mount_of(path: Path) -> str:
    """Return the mount point that a path leads to; touches nothing but the root's own file system.

    Links are followed on the root's file system alone: a link elsewhere counts for the mount in which it stands.
    """
    mounts = {
        _unescaped(line.split(" ", 5)[4]) for line in _MOUNTS.read_text("utf-8", "surrogateescape").split("\n") if line
    }
    there, rest, links = "/", os.path.abspath(path).strip("/").split("/"), 0  # noqa: PTH100 - abspath looks at nothing
    while rest:
        there = os.path.join(there, rest.pop(0))  # noqa: PTH118 - a text, as the mounts are
        if there in mounts and there != "/":
            return _longest(mounts, os.path.join(there, *rest))  # noqa: PTH118
        try:
            to = os.readlink(there)  # noqa: PTH115
        except (OSError, ValueError):  # no link, nothing, or no path
            continue
        links += 1
        if links > _MOST_LINKS:
            break
        target = os.path.normpath(os.path.join(os.path.dirname(there), to, *rest))  # noqa: PTH118, PTH120
        there, rest = "/", target.strip("/").split("/")
    return "/"


def _longest(mounts: set[str], path: str) -> str:
    while path not in mounts and path != "/":
        path = os.path.dirname(path)  # noqa: PTH120
    return path


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)


def in_time(path: Path, call: Callable[[], _T], seconds: float = DEADLINE_S) -> _T:
    """Return what the call returns, or raise what it raises; for where no event loop runs.

    Args:
        path: Whose disk is asked.
        call: Opens nothing that it does not close itself, unless it returns it.
        seconds: How long it is waited for.

    Raises:
        OSError: the call's own; or there is no answer in time.
    """
    answers: SimpleQueue[Callable[[], _T]] = SimpleQueue()
    work = placed(path, call, seconds)

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
