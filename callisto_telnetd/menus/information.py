"""System Information: what the appliance is and how it fares, read from the running system."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import orjson

from callisto_telnetd.clock import format_moment
from callisto_telnetd.errors import StoreError
from callisto_telnetd.menus.answers import Answer, Done, Fact
from callisto_telnetd.menus.arguments import require_count
from callisto_telnetd.menus.context import EDITION_NAMES, Context
from callisto_telnetd.menus.repair import CHECK_STATE
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.quantities import format_bytes, format_duration
from callisto_telnetd.services.system import SystemFacts, system_facts


async def show_information(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the facts, a section each."""
    require_count(words, 0, 0, "information")
    facts = system_facts(context.parts.folder.path)
    sections = {
        "Product": _product(context, facts),
        "Time": _time(context, facts),
        "System": _system(facts),
        "Network": {each.name: ", ".join(each.addresses) for each in facts.network} or {"Addresses": "none"},
        "Database": await _database(context),
        "Processes": _processes(context),
        "Sessions": _sessions(context),
        "Trace": _trace(context),
    }
    for title, values in sections.items():
        yield Fact({title: values}, (f"-- {title} --", *(f"{key}: {value}" for key, value in values.items())))
    yield Done(f"{len(sections)} sections")


def _product(context: Context, facts: SystemFacts) -> dict[str, Any]:
    identity = context.parts.identity
    return {
        "Product": "Callisto",
        "Version": identity.version,
        "Edition": EDITION_NAMES[identity.edition],
        "Serial": identity.serial or "not set",
        "Host": identity.hostname,
        "Machine": facts.host_name,
    }


def _time(context: Context, facts: SystemFacts) -> dict[str, Any]:
    clock = context.parts.clock
    return {
        "Time": format_moment(clock.now()),
        "Zone": clock.zone_name,
        "Source": clock.source,
        "Server uptime": format_duration(time.monotonic() - context.parts.started_at),
        "Machine uptime": format_duration(facts.uptime_s),
    }


def _system(facts: SystemFacts) -> dict[str, Any]:
    processor, memory, disk = facts.processor, facts.memory, facts.disk
    return {
        "Operating system": f"{facts.operating_system}, kernel {facts.kernel}",
        "Processor": f"{processor.model}, {processor.cores} cores",
        "Processor use": f"{processor.used_percent:.0f} % of all cores",
        "Load": f"{processor.load_1min:.2f} {processor.load_5min:.2f} {processor.load_15min:.2f} (1, 5, 15 minutes)",
        "Memory": f"{format_bytes(memory.total_bytes)}, {format_bytes(memory.available_bytes)} available",
        "Disk": f"{format_bytes(disk.total_bytes)}, {format_bytes(disk.free_bytes)} free, of the data folder",
    }


async def _database(context: Context) -> dict[str, Any]:
    """Say what can be said of the database; one that cannot answer is said to be just that."""
    store = context.parts.store
    values: dict[str, Any] = {"File": store.file.name}
    try:
        values["Size"] = format_bytes(store.file.stat().st_size)
        values["Schema"] = await store.schema_version()
        checked = await store.get_state(CHECK_STATE)
        values["Last check"] = _check_text(checked) if checked else "never"
    except (StoreError, OSError) as error:
        values["State"] = str(error)
    values["Unusable variables"] = len(context.parts.variables.faults)
    return values


def _check_text(state: str) -> str:
    try:
        check: Mapping[str, str] = orjson.loads(state)
        return f"{check['at'][:19].replace('T', ' ')}, {check['result']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "unreadable"


def _processes(context: Context) -> dict[str, Any]:
    rows = context.parts.processes.rows()
    return {
        row.name: f"pid {row.pid}, {row.state}, {format_bytes(row.memory_bytes)}, up {format_duration(row.uptime_s)}"
        for row in rows
    }


def _sessions(context: Context) -> dict[str, Any]:
    gate = context.parts.gatekeeper
    return {
        "On": len(context.parts.presence.all()),
        "Connected": gate.sessions,
        "Most allowed": gate.most_sessions,
    }


def _trace(context: Context) -> dict[str, Any]:
    hub = context.parts.hub
    return {"Records": hub.published, "Held in memory": hub.held_count, "Listeners": hub.listeners}


INFORMATION = Command(
    word="information",
    number="4",
    title="System Information",
    help="show what the appliance is and how it fares",
    run=show_information,
    facts="one",
)
