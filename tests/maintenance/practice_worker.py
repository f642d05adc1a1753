"""A worker with jobs to practise on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from callisto_telnetd.errors import DiskFullError
from callisto_telnetd.maintenance.worker import Tell, ask, main
from tests.conftest import SIGNALS_OF


def echo(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Tell of two steps and return what was ordered."""
    tell("first", 1, 2)
    tell("first", 2, 2)
    tell("second", 0, 0)
    return order


def put_questions(order: Mapping[str, Any], _tell: Tell) -> Mapping[str, Any]:
    """Ask for each word."""
    return {"answers": [ask(word) for word in order["words"]]}


def refuse(_order: Mapping[str, Any], _tell: Tell) -> Mapping[str, Any]:
    """Raise an error of ours."""
    raise DiskFullError("no room for a copy")


def die(_order: Mapping[str, Any], _tell: Tell) -> Mapping[str, Any]:
    """Be killed half-way."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def fail(_order: Mapping[str, Any], _tell: Tell) -> Mapping[str, Any]:
    """Fail without a plan."""
    raise ZeroDivisionError("a fault of our own")


def tell_signals(_order: Mapping[str, Any], _tell: Tell) -> Mapping[str, Any]:
    """Return the lines of what a process of this one's begins with, and the session that this one is in."""
    lines = subprocess.run(SIGNALS_OF, capture_output=True, text=True, check=True).stdout.splitlines()
    return {"lines": lines, "session": os.getsid(0)}


def wait(_order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Tell its number and work for ever."""
    tell(str(os.getpid()), 0, 0)
    signal.pause()
    return {}


if __name__ == "__main__":
    here = sys.modules["__main__"]
    sys.modules["practice"] = here
    jobs = {name: f"practice:{name}" for name in ("echo", "refuse", "die", "fail", "wait")}
    main({**jobs, "ask": "practice:put_questions", "signals": "practice:tell_signals"})
