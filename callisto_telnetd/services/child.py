"""One running process of a service: its start, its output, its end, and the end of all that it has started.

Rules:

* It leads a session and a group of its own. The signal to stop goes to the whole group; what is left of it at the
  deadline is killed, and so is what has left the group and still carries the marker.
* The leader is collected last: as long as it is not, the system gives its number to nobody else.
* Where its memory is limited, a shell sets the limit and becomes the process: not an instant of it is without.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

from callisto_telnetd.errors import ServiceError, quoted
from callisto_telnetd.interpreter import free_signals
from callisto_telnetd.services.recipe import MARKER, Recipe
from callisto_telnetd.services.strays import Known, end_all, find_marked, is_marker_of, members, start_ticks
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.process_output import ProcessOutput
from callisto_telnetd.transports.daemon import look
from callisto_telnetd.work import ended

_LOOK_S = 0.02
_KILL_S = 2.0
_OUTPUT_S = 1.0
_UMASK = 0o022
_CHECK = "-check-"
"""Behind the marker of a service it is that of its check: no service's name ends in a hyphen."""
_LIMITED = ("/bin/sh", "-c", 'ulimit -d "$1" && shift && exec "$@"', "sh")
"""Sets RLIMIT_DATA, in KiB (POSIX, "Shell Command Language", exec; ``ulimit -d``), then runs the words behind it."""


def describe_exit(code: int | None) -> str:
    """Say in words how a process ended: ``exit code 1``, ``killed by SIGSEGV (Segmentation fault)``."""
    if code is None:
        return "not ended"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name} ({signal.strsignal(-code)})"
    except ValueError:
        return f"killed by signal {-code}"


async def require_answer(program: str, folder: Path | None, environment: Mapping[str, str]) -> None:
    """Return once the disks of a program and of its folder have answered: a start waits for them with all the server.

    Raises:
        OSError: they have not, in time.
    """
    places = [*places_of(program, folder, environment), folder or Path("/")]
    await look(Path(folder or "/", program), lambda: all(place.exists() for place in places))


def places_of(program: str, folder: Path | None, environment: Mapping[str, str]) -> list[Path]:
    """Return where a program is looked for."""
    folders = [""] if "/" in program else os.get_exec_path(environment)
    return [Path(folder or "", each, program) for each in folders]


async def _require_answer(recipe: Recipe) -> None:
    try:
        await require_answer(recipe.words[0], recipe.folder, recipe.environment)
    except OSError as error:
        raise ServiceError(f"its command {quoted(recipe.words[0])} cannot be run: {error.strerror}") from None


def spawn(recipe: Recipe, *, traced: bool) -> subprocess.Popen[bytes]:
    """Start the process, its output in pipes where it is ``traced``, else thrown away.

    Raises:
        ServiceError: the system refuses; says why.
    """
    output = subprocess.PIPE if traced else subprocess.DEVNULL
    account = recipe.account
    free_signals()
    try:
        return subprocess.Popen(  # noqa: S603 - words of the owner's own settings; no shell reads them
            recipe.words if recipe.memory_bytes is None else _limited(recipe, recipe.memory_bytes),
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=recipe.folder,
            env=recipe.environment,
            start_new_session=True,
            umask=_UMASK,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=account.groups if account else None,
        )
    except OSError as error:
        if recipe.folder is not None and error.filename == str(recipe.folder):
            raise ServiceError(f"its folder {str(recipe.folder)!r} cannot be entered: {error.strerror}") from None
        raise ServiceError(f"its command {quoted(recipe.words[0])} cannot be run: {error.strerror}") from None
    except (subprocess.SubprocessError, ValueError) as error:
        raise ServiceError(f"its command {quoted(recipe.words[0])} cannot be run: {quoted(str(error))}") from None


def _limited(recipe: Recipe, memory_bytes: int) -> tuple[str, ...]:
    """Return the words that run the command with a limit of memory.

    Raises:
        ServiceError: the limit is above the server's own.
        OSError: the command cannot be run; the shell would find out when it is too late to say so.
    """
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if most != resource.RLIM_INFINITY and memory_bytes > most:
        raise ServiceError(f"its memory cannot be limited to {memory_bytes} bytes: the server's own limit is {most}")
    program = recipe.words[0]
    places = places_of(program, recipe.folder, recipe.environment)
    if not any(place.is_file() and os.access(place, os.X_OK) for place in places):
        code = errno.EACCES if any(place.exists() for place in places) else errno.ENOENT
        raise OSError(code, os.strerror(code))
    return (*_LIMITED, str(memory_bytes // 1024), *recipe.words)


def _discard(process: subprocess.Popen[bytes]) -> None:
    """End a process that has begun just now and cannot be kept."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


class Child:
    """A process that runs; made by :meth:`start`, ended by :meth:`end`."""

    def __init__(self, process: subprocess.Popen[bytes], recipe: Recipe) -> None:
        self._process = process
        self.pid = process.pid
        self.recipe = recipe
        self.known = Known(process.pid, start_ticks(process.pid) or 0)
        self.started_at = time.monotonic()
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Is set when the process has ended; it is not collected yet."""
        self._pipes: list[tuple[asyncio.BaseTransport, ProcessOutput]] = []
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._note_exit)

    @classmethod
    async def start(cls, name: str, recipe: Recipe, hub: Hub) -> Self:
        """Start it, and have its output traced.

        Raises:
            ServiceError: the system refuses; says why.
        """
        await _require_answer(recipe)
        child = cls.adopt(spawn(recipe, traced=True), recipe)
        try:
            await child.connect(name, hub)
        except BaseException as error:  # nobody would watch it
            ending = asyncio.create_task(child.end(signal.SIGKILL, 0.0))
            await ended((ending,))
            if isinstance(error, OSError):
                raise ServiceError(f"its output cannot be traced: {error.strerror}") from None
            raise
        return child

    @classmethod
    def adopt(cls, process: subprocess.Popen[bytes], recipe: Recipe) -> Self:
        """Take over a process that :func:`spawn` has started.

        Raises:
            ServiceError: there is no descriptor left to watch it by; it is ended.
        """
        try:
            return cls(process, recipe)
        except OSError as error:
            _discard(process)
            raise ServiceError(f"its process cannot be watched: {error.strerror}") from None

    async def connect(self, name: str, hub: Hub) -> None:
        """Have its output traced."""
        loop = asyncio.get_running_loop()
        streams: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")
        for stream in streams:
            output = ProcessOutput(hub, name, self.pid, stream)
            transport, _ = await loop.connect_read_pipe(lambda made=output: made, getattr(self._process, stream))  # type: ignore[misc]
            self._pipes.append((transport, output))

    def _note_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self.exited.done():
            self.exited.set_result(None)

    async def end(self, number: signal.Signals, deadline_s: float) -> int | None:
        """Stop the process and all that it has started; return its exit code, None where even SIGKILL did not end it.

        Args:
            number: The signal that asks it to stop; it goes to the whole group.
            deadline_s: Seconds until SIGKILL.
        """
        self._signal(number)
        deadline = time.monotonic() + deadline_s
        await asyncio.wait([self.exited], timeout=deadline_s)
        while members(self.pid) and time.monotonic() < deadline:  # noqa: ASYNC110 - no event tells of them; what it leads may take as long to tidy up
            await asyncio.sleep(_LOOK_S)
        self._signal(signal.SIGKILL)
        await asyncio.to_thread(end_all, self._left)
        await asyncio.wait([self.exited], timeout=_KILL_S)
        await self._close_output()
        return self._process.poll()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _left(self) -> list[Known]:
        """Return what is left of the group, of the session, and of those that carry the marker."""
        uids = {os.geteuid()} | ({self.recipe.account.uid} if self.recipe.account else set())
        own = self.recipe.environment[MARKER]
        marked = find_marked(lambda marker: marker == own, uids)
        return list(dict.fromkeys([*members(self.pid, self.pid), *marked]))

    async def _close_output(self) -> None:
        """Wait until all is published; an end of the pipe that somebody holds open is not waited for."""
        if self._pipes:
            await asyncio.wait([output.ended for _, output in self._pipes], timeout=_OUTPUT_S)
        for transport, _ in self._pipes:
            transport.close()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:  # one that was never connected has no transport to close it
                pipe.close()


async def run_check(recipe: Recipe, timeout_s: float) -> int | None:
    """Run a command to its end without a trace of its output; return its exit code, None where it took too long.

    Raises:
        ServiceError: the system refuses; says why.
    """
    environment = {**recipe.environment, MARKER: f"{recipe.environment[MARKER]}{_CHECK}"}
    recipe = replace(recipe, environment=environment)
    await _require_answer(recipe)
    child = Child.adopt(spawn(recipe, traced=False), recipe)
    try:
        await asyncio.wait([child.exited], timeout=timeout_s)
        in_time = child.exited.done()
    finally:
        ending = asyncio.create_task(child.end(signal.SIGKILL, 0.0))
        await ended((ending,))
    code = ending.result()
    return code if in_time else None


def orphans_of(data: Path, recorded: list[Known], uids: set[int]) -> list[Known]:
    """Return what an earlier server of this data folder has left running: what is written down, and what is marked."""
    found = dict.fromkeys(find_marked(partial(is_marker_of, data), uids))
    for known in recorded:
        if start_ticks(known.pid) == known.ticks:  # its number is still its own, and so is its group's
            found |= dict.fromkeys([known, *members(known.pid, known.pid)])
    return list(found)
