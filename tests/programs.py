"""Programs of the product as tests start them.

``ProductProcess`` is a ``Popen``, ``run`` a ``subprocess.run``, and ``TerminalProcess`` a ``pexpect.spawn``.

A start is forked off a process that has imported the product already (``tests/forking.py``), where a fresh interpreter
would make no difference: ``python -m callisto_telnetd``, its web server or its worker, in the root of the sources, with
nothing else to inherit than this process had at first, but for descriptors that are named. Any other start is a fresh
one, as are those of ``Popen`` itself: tests of the start, of signals held by the parent, of limits and of the
interpreter's own environment take that.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import os
import pty
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pexpect
from pexpect.pty_spawn import ptyprocess

from tests.forking import MAX_REQUEST_BYTES, PRELOADED

ROOT = Path(__file__).resolve().parents[1]
_PR_SET_CHILD_SUBREAPER = 36
_INHERITED = re.compile(
    r"^(?:Umask|[UG]id|Groups|SigBlk|SigIgn|Cap\w+|NoNewPrivs|Seccomp|Cpus_allowed):.*", re.MULTILINE
)
"""What the lines of /proc/self/status say of that which a process inherits."""
_READ_EARLY = re.compile(r"PYTHON(?!DONTWRITEBYTECODE$)|LD_|LC_|LANG|MALLOC_|GLIBC_|OPENSSL_|SSL_")
"""The beginnings of variables that are read before the first line of ours."""


class ProductProcess(subprocess.Popen[Any]):
    """A ``Popen`` whose program is forked off where that is as good as a fresh one."""

    def _execute_child(  # the seam between starting and everything else, from Python 3.11 to 3.14
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any, env: Any, *rest: Any
    ) -> None:
        pipes, asked, new_session = rest[3:9], (executable, preexec_fn, *rest[:3], *rest[10:14], *rest[15:]), rest[14]
        here = Path(cwd or ".").resolve() == ROOT
        usual = close_fds and here and all(each in {None, False, -1} for each in asked)
        words = [os.fspath(word) for word in args] if isinstance(args, list | tuple) else []
        if words[1:2] == ["-P"]:  # the folder is that of our own sources
            del words[1]
        environment = dict(os.environ if env is None else env)
        if not (usual and words[:2] == [sys.executable, "-m"] and words[2] in PRELOADED and _suits(environment)):
            super()._execute_child(  # type: ignore[misc] # not public
                args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest
            )
            return
        streams = [own if given == -1 else given for own, given in enumerate((pipes[0], pipes[3], pipes[5]))]
        self.pid = forker().fork(words[2:], environment, streams, pass_fds, new_session=new_session)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined] # not public


def run(
    command: Sequence[str], *, given: str = "", environment: Mapping[str, str] | None = None, deadline_s: float = 15.0
) -> subprocess.CompletedProcess[str]:
    """Run a program in the root of the sources to its end, with ``given`` as its standard input.

    Raises: subprocess.TimeoutExpired, when the program was killed.
    """
    pipe = subprocess.PIPE
    with ProductProcess(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=ROOT) as program:
        try:
            out, err = program.communicate(given, deadline_s)
        except BaseException:
            program.kill()
            raise
    return subprocess.CompletedProcess(command, program.returncode, out, err)


def words_of(pid: int) -> bytes:
    """Return the command line of a process as the system has it: that of the forking process, where it was forked."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


class TerminalProcess(pexpect.spawn):  # type: ignore[misc] # has no types
    """A ``pexpect.spawn`` whose program, one of the product's, is forked off where that is as good as a fresh one."""

    def _spawnpty(self, args: Sequence[bytes], *, env: Mapping[str, str], cwd: str, **rest: Any) -> Any:
        words = [os.fsdecode(word) for word in args[1:]]
        suits = words[0] == "-m" and words[1] in PRELOADED and Path(cwd) == ROOT and _suits(env)
        if not suits or rest.get("preexec_fn") is not None:
            return super()._spawnpty(args, env=env, cwd=cwd, **rest)
        ours, its = pty.openpty()
        try:
            pid = forker().fork(words[1:], env, [its] * 3, [], new_session=True, at_terminal=True)
        finally:
            os.close(its)
        process = ptyprocess.PtyProcess(pid, ours)
        process.setwinsize(*(rest.get("dimensions") or (24, 80)))
        return process


class _Forker:
    """The process that forks: one for all tests of this process, until the end."""

    def __init__(self) -> None:
        self.inherited = _inherited(os.environ)
        self._lock = threading.Lock()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
        self._asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_REQUEST_BYTES)
        with asked:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(asked.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[asked.fileno()],
                cwd=ROOT,
            )
        atexit.register(self._end)

    def fork(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        streams: Sequence[int],
        inherited: Sequence[int],
        *,
        new_session: bool,
        at_terminal: bool = False,
    ) -> int:
        """Start a program with these standard streams, as a child of this process, and return its number.

        It has the ``inherited`` descriptors as well, under their numbers; ``at_terminal``, the terminal that is its
        standard input is that of its session.
        """
        request = json.dumps(
            {
                "words": words,
                "environment": dict(environment),
                "folder": str(ROOT),
                "inherited": list(inherited),
                "new_session": new_session,
                "at_terminal": at_terminal,
            }
        ).encode()
        with self._lock:
            _take_orphans(True)
            try:
                socket.send_fds(self._asking, [request], [*streams, *inherited])
                answer = self._asking.recv(20)
            finally:
                _take_orphans(False)
        if not answer:
            self._log.seek(0)
            raise AssertionError(f"nothing was forked: {self._log.read().decode()}")
        return int(answer)

    def _end(self) -> None:
        self._asking.close()
        self._process.wait()
        self._log.close()


@functools.cache
def forker() -> _Forker:
    """Return the one of this process, which begins with the first call."""
    return _Forker()


def _suits(environment: Mapping[str, str]) -> bool:
    """Return whether a program with that environment would inherit what the forking process has."""
    return forker().inherited == _inherited(environment)


def _inherited(environment: Mapping[str, str]) -> tuple[object, ...]:
    return (
        _INHERITED.findall(Path("/proc/self/status").read_text()),
        Path("/proc/self/limits").read_text(),
        {
            name: value
            for name, value in environment.items()
            if _READ_EARLY.match(name) and (name, value) != ("PYTHONPATH", str(ROOT))
        },
    )


def _take_orphans(wanted: bool) -> None:
    """Have orphans among this process's descendants become its children (PR_SET_CHILD_SUBREAPER, prctl(2)), or not."""
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) == 0
