"""What the worker does for a restore: the look ahead and the new state, both beside a server that works; the switch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callisto_telnetd.db.memory import Change
from callisto_telnetd.db.restore.plan import look_ahead
from callisto_telnetd.db.restore.staging import carry_over, stage
from callisto_telnetd.db.restore.switch import switch, switch_back
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.maintenance.worker import Tell


def plan_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Return what a restore of ``backup`` over ``live`` would do; changes nothing."""
    os.environ["SQLITE_TMPDIR"] = str(Path(order["live"]).parent)
    tell("Looking at the backup", 0, 0)
    return look_ahead(Path(order["live"]), Unpacked.from_data(order["backup"])).as_data()


def stage_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Make the new state of ``backup`` beside ``live``, checked; the server goes on working."""
    live = Path(order["live"])
    os.environ["SQLITE_TMPDIR"] = str(live.parent)  # what is sorted needs the room that was looked for
    return stage(live, Unpacked.from_data(order["backup"]), tell, at=order["at"]).as_data()


def switch_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Put the new state in the place of ``live``, which nobody has open; the present one is kept for an undo."""
    live = Path(order["live"])
    tell("Taking over what stays", 0, 0)
    os.environ["SQLITE_TMPDIR"] = str(live.parent)
    change, given = Change(**order["change"]), order["given"]
    carry_over(live, order["accounts"], order["remembered"], change=change, given=given)
    tell("Replacing", 0, 0)
    switch(live, order["note"].encode())
    return {}


def back_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Put back what gave way to the last restore; nobody has ``live`` open."""
    tell("Going back", 0, 0)
    switch_back(Path(order["live"]))
    return {}
