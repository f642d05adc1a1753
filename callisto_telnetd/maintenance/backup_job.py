"""What the worker does for backups: an archive is made beside a server that works, or looked at."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from callisto_telnetd.db.backup.folder import remove_unfinished
from callisto_telnetd.db.backup.manifest import Manifest
from callisto_telnetd.db.backup.unpacking import unpack
from callisto_telnetd.db.backup.verification import verify
from callisto_telnetd.db.backup.writer import Order, create, prove
from callisto_telnetd.errors import BackupError
from callisto_telnetd.maintenance.worker import Tell, ask

_SWITCH_S = 0.0005
"""A thread that comes back from half a millisecond of key derivation would else wait ten times that for its turn."""


def backup_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Make the archive that the order describes."""
    sys.setswitchinterval(_SWITCH_S)
    made = create(_order_of(order), tell)
    manifest = made.manifest
    return {
        "file": made.path.name,
        "bytes": made.size_bytes,
        "content_bytes": manifest.members.size_bytes,
        "rows": made.rows,
        "recordings": manifest.members.recordings,
        "missing": manifest.missing_count,
        "left_out": list(manifest.left_out),
        "schema": manifest.schema,
        "doubtful": made.doubtful.as_data(),
    }


def proof_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Do all of the archive's making that may be refused, and leave nothing; says which rows are doubtful."""
    tell("Copying the database", 0, 0)
    return prove(_order_of(order)).as_data()


def _order_of(order: Mapping[str, Any]) -> Order:
    os.environ["SQLITE_TMPDIR"] = order["folder"]  # what SQLite writes beside needs the room that was looked for
    return Order(
        live=Path(order["live"]),
        media=Path(order["media"]),
        folder=Path(order["folder"]),
        settings=Path(order["settings"]) if order["settings"] else None,
        password=order["password"],
        product_version=order["product_version"],
        edition=order["edition"],
        host=order["host"],
        serial=order["serial"],
        note=order["note"],
        at=datetime.fromisoformat(order["at"]),
    )


def verify_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Look at all of the archive ``file``; says what it is."""
    sys.setswitchinterval(_SWITCH_S)
    folder = Path(order["folder"])
    os.environ["SQLITE_TMPDIR"] = order["folder"]
    try:
        remove_unfinished(folder)
    except OSError as error:
        raise BackupError(f"the folder of backups cannot be used: {error.strerror}") from None
    found = verify(Path(order["file"]), order["password"], folder, _variable_fault, tell)
    manifest = found.manifest
    return {
        "bytes": found.size_bytes,
        "content_bytes": manifest.members.size_bytes,
        "protected": found.protected,
        "rows": found.rows,
        "recordings": manifest.members.recordings,
        "missing": manifest.missing_count,
        "left_out": list(manifest.left_out),
        "doubtful": found.doubtful.as_data(),
        "unused": list(found.unused),
        **_said(manifest),
    }


def unpack_job(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Take the archive ``file`` apart into ``folder``; says what it is."""
    os.environ["SQLITE_TMPDIR"] = order["folder"]
    parts = unpack(Path(order["file"]), order["password"], Path(order["folder"]), Path(order["media"]), tell)
    manifest = parts.manifest
    return {
        **_said(manifest),
        "settings": parts.has_settings,
        "missing": manifest.missing_count,
    }


def _variable_fault(name: str, text: str) -> str | None:
    """Return what the server says is wrong with the value of a system variable, None where nothing is."""
    fault: str | None = ask(name, text)
    return fault


def _said(manifest: Manifest) -> dict[str, Any]:
    """Return what an archive says of itself."""
    return {
        "product_version": manifest.product_version,
        "schema": manifest.schema,
        "edition": manifest.edition,
        "host": manifest.host,
        "serial": manifest.serial,
        "created": manifest.created,
        "note": manifest.note,
        "secrets": manifest.secrets,
    }
