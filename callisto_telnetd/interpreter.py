"""This interpreter: how processes are started by it, and what its garbage collector is spared.

A process of our own has this interpreter, this package, and nothing from the folder it is started in.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)
_KEPT_BACK = re.compile(
    r"CALLISTO_.*|NOTIFY_SOCKET|WATCHDOG_(?:USEC|PID)|LISTEN_(?:FDS|PID|FDNAMES)", re.ASCII | re.IGNORECASE
)
"""Of the server's own environment: its settings and first password, and what its service manager gave to it alone."""
_RESTORED = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Ignored by every Python; what starts a process gives it back their default actions (``restore_signals``)."""
_OF_TERMINALS = frozenset({signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP})
"""Left as they are: where SIGTTOU is caught, the system tries a write to a terminal with ``tostop`` again for ever."""


def module_command(module: str, *arguments: str) -> Sequence[str]:
    """Return the words that run a module of ours; :func:`module_environment` has to go with them."""
    return (sys.executable, "-P", "-m", module, *arguments)  # -P: the working folder is no place to import from


def inherited_environment() -> dict[str, str]:
    """Return what children get of this process's environment: not its settings, nor a password, nor its manager's."""
    return {key: value for key, value in os.environ.items() if not _KEPT_BACK.fullmatch(key)}


def module_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the place of this very package first, however the server has found it."""
    before = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": os.pathsep.join((_PACKAGE_PARENT, before) if before else (_PACKAGE_PARENT,))}


def free_signals() -> None:
    """Have every process that is started from now on begin with the default action of each signal, and none blocked.

    A process inherits what is ignored, such as SIGHUP under nohup, and what is blocked; what is caught goes back to its
    default (POSIX, "exec"). A signal that is ignored here is therefore caught from now on, by a function that does
    nothing; those that stop a job at its terminal stay ignored. To be called right before each start of a process, in
    the main thread.
    """
    for number in signal.valid_signals() - _RESTORED - _OF_TERMINALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)
            signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _do_nothing(_number: int, _frame: object) -> None:
    """Stand for SIG_IGN."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from what is made within, for good: for imports, which leave no garbage.

    Looking for it would take a tenth of a server's start, and at each full collection keep its loop for some 50 ms.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def unavailable(name: str) -> Iterator[None]:
    """Have a module that is not imported yet not be found within.

    For libraries that take another one where it is there, and that we have no use for: importing it costs each start.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # so the import system has it ("The module cache")
    try:
        yield
    finally:
        del sys.modules[name]
