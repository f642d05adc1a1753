"""What of a settings file a restore over the network may bring: all but the keys that are the owner's alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from callisto_telnetd.settings.fields import Section
from callisto_telnetd.settings.models import Settings
from callisto_telnetd.settings.services import BUILT_IN_SERVICES


def brought_by_any_door(now: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of ``then`` with the owner's keys as they are ``now``.

    A service that is not there now does not come, and one that ``then`` does not name stays whole. A key that is no
    setting is left in: no server would start with it, and whoever judges the result says so.

    Args:
        now: The present file, as ``tomllib`` reads it.
        then: The other one.
    """
    return _brought(Settings, now, then)


def _brought(model: type[Section | Settings], now: object, then: Mapping[str, Any]) -> dict[str, Any]:
    held = now if isinstance(now, Mapping) else {}
    result: dict[str, Any] = {}
    for key, value in then.items():
        if key in model.BY_OWNER_ALONE:
            continue
        field = model.model_fields.get(key)
        section = _section_of(field) if field is not None else None
        if section is None or not isinstance(value, Mapping):
            result[key] = value
            continue
        by_name = field is not None and get_origin(field.annotation) is dict
        kept = (_brought_tables if by_name else _brought)(section, held.get(key), value)
        if kept or not value:
            result[key] = kept
    for key, value in held.items():
        field = model.model_fields.get(key)
        if key in model.BY_OWNER_ALONE:
            result[key] = value
        elif key not in then and field is not None and (section := _section_of(field)) is not None:
            by_name = get_origin(field.annotation) is dict
            kept = (_brought_tables if by_name else _brought)(section, value, {})
            result |= {key: kept} if kept else {}
    return result


def _brought_tables(section: type[Section], now: object, then: Mapping[str, Any]) -> dict[str, Any]:
    """Return the owner's tables by name, such as services: those of now, and those that every appliance has."""
    held = now if isinstance(now, Mapping) else {}
    result = {name: table for name, table in held.items() if name not in then}
    for name, table in then.items():
        if not isinstance(table, Mapping):
            result[name] = table
        elif name in held or name in BUILT_IN_SERVICES:
            kept = _brought(section, held.get(name), table)
            result |= {name: kept} if kept or not table else {}
    return result


def _section_of(field: FieldInfo) -> type[Section] | None:
    """Return the table that a key holds, or each of the tables by name; None for a plain value."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
