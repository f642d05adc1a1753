"""What the worker does for a repair: the check beside a server that works, and the repair of the closed file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callisto_telnetd.db.inspection import VariableFault, inspect
from callisto_telnetd.db.repair import Order, repair
from callisto_telnetd.errors import InvalidValueError
from callisto_telnetd.maintenance.worker import Tell
from callisto_telnetd.variables import Variable


def check_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Check ``live`` while the server goes on working with it; the faults by step are under ``found``."""
    found = inspect(
        Path(order["live"]),
        _judge(order["variables"]),
        lambda name, done, of: tell(f"Checking: {name}", done, of),
        closed=False,
    )
    return {"found": found}


def repair_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Check ``live``, which nobody has open, and repair it where it is not sound; returns the report."""
    os.environ["SQLITE_TMPDIR"] = str(Path(order["live"]).parent)  # what is sorted needs the room that was looked for
    what = Order(
        live=Path(order["live"]),
        damaged=Path(order["damaged"]),
        stamp=order["stamp"],
        at=order["at"],
        variable_fault=_judge(order["variables"]),
        backup=Path(order["backup"]) if order["backup"] else None,
    )
    return repair(what, tell).as_data()


def _judge(variables: list[Mapping[str, Any]]) -> VariableFault:
    """Return what judges stored values by the catalogue; names that it does not know are let be."""
    known = {variable.name: variable for variable in map(Variable.model_validate, variables)}

    def fault(name: str, text: str) -> str | None:
        try:
            if name in known:
                known[name].parse(text)
        except InvalidValueError as error:
            return str(error)
        return None

    return fault
