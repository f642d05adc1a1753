from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.programs import ROOT, ProductProcess

MIRROR = [sys.executable, "-m", "tests.mirror", "one", "two words", "é"]


def mirrored(kind: type[subprocess.Popen[Any]], **more: Any) -> dict[str, Any]:
    """Return what the mirror says of a start by that kind of ``Popen``, and its exit code."""
    pipe = subprocess.PIPE
    environment = {**os.environ, "OF": "the mirror"}
    with kind(MIRROR, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT, text=True, env=environment, **more) as process:
        forked = b"tests.forking" in programs.words_of(process.pid)
        out, err = process.communicate("given\n", 15)
    assert err == "the end\n"
    found: dict[str, Any] = json.loads(out)
    for name, target in found["descriptors"].items():
        found["descriptors"][name] = target.partition(":")[0]  # each pipe has a number of its own
    assert found["status"]["PPid"] == str(os.getpid())
    assert found["environment"]["OF"] == "the mirror"
    found["group"] = ["its own" if each == process.pid else each for each in found["group"]]
    found["forked"], found["code"] = forked, process.returncode
    return found


def test_a_forked_program_is_as_a_fresh_one() -> None:
    """Words, module, environment, descriptors, streams, signals, limits, parent and exit code are a fresh start's."""
    fresh, forked = mirrored(subprocess.Popen), mirrored(ProductProcess)

    assert (fresh.pop("forked"), forked.pop("forked")) == (False, True)
    assert forked == fresh
    assert (forked["code"], forked["words"][1:], forked["given"]) == (7, MIRROR[3:], "given\n")


def test_a_forked_worker_is_as_a_fresh_one() -> None:
    """One that has a descriptor more, under its number, and a session of its own."""
    with tempfile.TemporaryFile() as lock:
        more = {"pass_fds": (lock.fileno(),), "start_new_session": True}
        fresh, forked = mirrored(subprocess.Popen, **more), mirrored(ProductProcess, **more)
        number = str(lock.fileno())
        place = str(Path(f"/proc/self/fd/{number}").readlink())

    assert (fresh.pop("forked"), forked.pop("forked")) == (False, True)
    assert forked == fresh
    assert (forked["group"], forked["descriptors"][number]) == (["its own", "its own"], place)


@pytest.mark.usefixtures("held_signals")
def test_a_program_that_inherits_something_else_is_started_afresh() -> None:
    """Signals that the parent holds are what the program gets: nothing is forked then."""
    fresh, own = mirrored(subprocess.Popen), mirrored(ProductProcess)

    assert own == fresh
    assert int(own["status"]["SigBlk"], 16) >> (signal.SIGTERM - 1) & 1


def test_a_program_ends_by_its_signal() -> None:
    """A signal's end is told as any other child's."""
    command = [
        sys.executable,
        "-m",
        "callisto_telnetd",
        "user",
        "add",
        "eve",
        "--password-stdin",
        "--data",
        "/dev/null/x",
    ]
    with ProductProcess(command, stdin=subprocess.PIPE, cwd=ROOT) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait(15) == -signal.SIGKILL
