"""A process that has imported the product, and forks each program that tests ask for: ``python -m tests.forking FD``.

To import the product takes three quarters of what a short-lived server costs. A program that is forked off here has
what a fresh interpreter would have: its words, environment, folder, descriptors, standard streams, ``__main__`` and
exit, and the test as its parent. ``tests/programs.py`` asks, through the socket FD, and only where nothing else is
different.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import runpy
import socket
import sys
import termios
import threading
import time

from callisto_telnetd.interpreter import uncollected

MAX_REQUEST_BYTES = 1 << 20
MOST_DESCRIPTORS = 16
PRELOADED = {
    "callisto_telnetd": ("callisto_telnetd.cli", "callisto_telnetd.appliance"),
    "callisto_telnetd.web": ("callisto_telnetd.web.server",),
    "callisto_telnetd.maintenance.worker": (
        "callisto_telnetd.db.compact",
        "callisto_telnetd.db.salvage.repair",
        "callisto_telnetd.maintenance.backup_job",
        "callisto_telnetd.maintenance.fill_job",
        "callisto_telnetd.maintenance.repair_job",
        "callisto_telnetd.maintenance.restore_job",
    ),
    "tests.mirror": (),
}
"""What a program imports before it does its work, by its module."""


def main() -> None:
    """Fork until the other end of the socket is closed; in a program, be the program, and exit as it exits."""
    asking = socket.socket(fileno=int(sys.argv[1]))
    while (words := _serve_once(asking)) == []:
        pass
    if words is not None:
        _become(words)


def _serve_once(asking: socket.socket) -> list[str] | None:
    """Serve a request; return no words to go on, None at the end, and in the program its module and arguments."""
    data, descriptors, _, _ = socket.recv_fds(asking, MAX_REQUEST_BYTES, MOST_DESCRIPTORS)
    if not data:
        asking.close()
        return None
    request = json.loads(data)
    with uncollected():
        for module in PRELOADED[request["words"][0]]:
            importlib.import_module(module)
    assert threading.active_count() == 1, threading.enumerate()
    pid = _fork_orphan()
    if pid == 0:
        asking.detach()  # closed with all the others
        _take_over(request, descriptors)
        return list(request["words"])
    for descriptor in descriptors:
        os.close(descriptor)
    asking.send(str(pid).encode())
    return []


def _fork_orphan() -> int:
    """Fork a process that goes to the nearest subreaper, the test, and return its number, or 0 in the process itself.

    A process between the two ends at once; the new one waits for that, so that it sees its lasting parent alone.
    """
    told, telling = os.pipe()
    going, go = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid:
            os.write(telling, str(pid).encode())
            os._exit(0)
        os.close(go)
        os.read(going, 1)
        return 0
    os.waitpid(between, 0)
    pid = int(os.read(told, 20))
    for descriptor in (told, telling, going, go):
        os.close(descriptor)
    return pid


def _take_over(request: dict[str, object], descriptors: list[int]) -> None:
    """Take the descriptors, the environment and the folder, and no other descriptor."""
    numbers: list[int] = [0, 1, 2, *request["inherited"]]  # type: ignore[misc] # as it was packed
    above = max(numbers) + 1
    descriptors = [fcntl.fcntl(each, fcntl.F_DUPFD, above) for each in descriptors]  # out of the way of one another
    for number, descriptor in zip(numbers, descriptors, strict=True):
        os.dup2(descriptor, number)
    for number in range(3, above):
        if number not in numbers:
            with contextlib.suppress(OSError):
                os.close(number)
    os.closerange(above, os.sysconf("SC_OPEN_MAX"))
    if request["new_session"]:
        os.setsid()
    if request["at_terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload] # as it was packed
    time.tzset()
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        stream = open(  # noqa: SIM115 - as the interpreter itself opens it: for good
            number,
            "w" if number else "r",
            encoding=old.encoding,
            errors=old.errors,
            newline="\n",
            closefd=False,
        )
        stream.reconfigure(  # the old ones were no terminal
            line_buffering=old.line_buffering or os.isatty(number), write_through=old.write_through
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _become(words: list[str]) -> None:
    """Run the module as ``python -m`` does."""
    sys.argv[:] = ["-m", *words[1:]]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
