"""``callisto.toml`` as a restore sees it: a small file, and the keys in which two of them differ; no model is read."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callisto_telnetd.db.restore.switch import is_plain_file

_MOST_BYTES = 1 << 20


def is_settings_file(file: Path) -> bool:
    """Whether it is a file of at most 1 MiB, and no link to one.

    Raises:
        OSError: nobody can tell.
    """
    return is_plain_file(file) and file.stat().st_size <= _MOST_BYTES


def changed_settings(now: Path, then: Path | None) -> tuple[str, ...]:
    """Return the keys in which two settings files differ, as in ``telnet.port``.

    One that is not there has none, and neither has one that is not TOML: whether a server starts with it is judged by
    those who know settings.
    """
    old, new = (_keys_of(file) if file is not None else {} for file in (now, then))
    return tuple(sorted(key for key in {*old, *new} if key not in old or key not in new or old[key] != new[key]))


def _keys_of(file: Path) -> dict[str, object]:
    try:
        return _flat(tomllib.loads(file.read_text(encoding="utf-8-sig"))) if is_plain_file(file) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found
