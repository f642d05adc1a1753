"""What the worker does for a repair: the check beside a server that works, and the repair of the closed file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from callisto_telnetd.db.doubtful_rows import find_doubtful
from callisto_telnetd.db.inspection import inspect
from callisto_telnetd.db.quiet import open_quietly
from callisto_telnetd.db.results import translate
from callisto_telnetd.maintenance.worker import Tell, ask


def check_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Check ``live`` while the server goes on working with it; under ``found`` are faults by step, if any."""
    found = inspect(
        Path(order["live"]),
        _variable_fault,
        lambda name, done, of: tell(f"Checking: {name}", done, of),
        closed=False,
        enough=True,
    )
    return {"found": found}


def rows_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Return the doubtful rows of ``live``, while the server goes on working with it."""
    tell("Looking at every value", 0, 0)
    try:
        with closing(open_quietly(Path(order["live"]), closed=False)) as connection:
            return find_doubtful(connection).as_data()
    except sqlite3.Error as error:
        raise translate(error) from None


def repair_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Check ``live``, which nobody has open, and repair it where it is not sound; returns the report."""
    from callisto_telnetd.db.salvage.repair import Order, repair  # noqa: PLC0415 - a check needs none of it

    os.environ["SQLITE_TMPDIR"] = str(Path(order["live"]).parent)  # what is sorted needs the room that was looked for
    what = Order(
        live=Path(order["live"]),
        damaged=Path(order["damaged"]),
        stamp=order["stamp"],
        at=order["at"],
        variable_fault=_variable_fault,
        backup=Path(order["backup"]) if order["backup"] else None,
        **order["by"],
        given=order["given"],
    )
    return repair(what, tell).as_data()


def _variable_fault(name: str, text: str) -> str | None:
    """Return what the server says is wrong with the stored value of a system variable, None where nothing is."""
    fault: str | None = ask(name, text)
    return fault
