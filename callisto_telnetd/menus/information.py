"""System Information: what the appliance is and how it fares, read from the running system."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from callisto_telnetd.clock import format_moment
from callisto_telnetd.errors import TraceError
from callisto_telnetd.menus.answers import Answer, Done, Fact
from callisto_telnetd.menus.arguments import require_count
from callisto_telnetd.menus.context import EDITION_NAMES, Context
from callisto_telnetd.menus.information_database import database_section, user_data_section
from callisto_telnetd.menus.information_rows import Row, Section
from callisto_telnetd.menus.presence import present_now
from callisto_telnetd.menus.services import state_text
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.quantities import counted, format_bytes, format_duration
from callisto_telnetd.services.processes import ProcessRow
from callisto_telnetd.services.system import SystemFacts, disk_facts, system_facts
from callisto_telnetd.work import in_thread


async def show_information(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the facts, a section each."""
    require_count(words, 0, 0, "information")
    sections = await read_sections(context)
    for section in sections:
        lines = [f"{row.key}: {row.text}" for row in section.rows]
        yield Fact({section.key: section.facts}, (f"-- {section.title} --", *lines))
    yield Done(f"{len(sections)} sections")


async def read_sections(context: Context) -> list[Section]:
    """Return all that can be said of the appliance now."""
    facts = system_facts(await in_thread(disk_facts, context.parts.folder.path))
    return [
        _product(context, facts),
        _time(context, facts),
        _system(facts),
        _network(facts),
        await database_section(context),
        await user_data_section(context),
        _processes(context),
        _sessions(context),
        await _trace(context),
    ]


def _plain(key: str, name: str, value: str | int) -> Row:
    return Row(key, str(value), {name: value})


def _product(context: Context, facts: SystemFacts) -> Section:
    identity = context.parts.identity
    rows = [
        _plain("Product", "product", "Callisto"),
        _plain("Version", "version", identity.version),
        Row("Edition", EDITION_NAMES[identity.edition], {"edition": identity.edition}),
        Row("Serial", identity.serial or "not set", {"serial": identity.serial or None}),
        _plain("Host", "host", identity.hostname),
        _plain("Machine", "machine", facts.host_name),
    ]
    return Section("Product", rows)


def _time(context: Context, facts: SystemFacts) -> Section:
    clock, serving = context.parts.clock, context.parts.serving
    served_s = time.monotonic() - context.parts.started_at if serving else 0.0
    now = clock.now()
    rows = [
        Row("Time", format_moment(now), {"at": now.isoformat(timespec="seconds")}),
        _plain("Zone", "zone", clock.zone_name),
        Row("Source", clock.source, {"mode": clock.mode, "offset_s": round(clock.offset_s, 6)}),
        Row(
            "Server uptime",
            format_duration(served_s) if serving else "not running",
            {"server_uptime_s": round(served_s, 1) if serving else None},
        ),
        Row("Machine uptime", format_duration(facts.uptime_s), {"machine_uptime_s": round(facts.uptime_s, 1)}),
    ]
    return Section("Time", rows, name="clock")


def _system(facts: SystemFacts) -> Section:
    processor, memory, disk = facts.processor, facts.memory, facts.disk
    loads = [processor.load_1min, processor.load_5min, processor.load_15min]
    rows = [
        Row(
            "Operating system",
            f"{facts.operating_system}, kernel {facts.kernel}",
            {"operating_system": facts.operating_system, "kernel": facts.kernel},
        ),
        Row(
            "Processor",
            f"{processor.model}, {processor.cores} cores",
            {"processor": processor.model, "cores": processor.cores},
        ),
        Row(
            "Processor use",
            f"{processor.used_percent:.0f} % of all cores",
            {"cpu_percent": round(processor.used_percent, 1)},
        ),
        Row("Load", f"{loads[0]:.2f} {loads[1]:.2f} {loads[2]:.2f} (1, 5, 15 minutes)", {"load": loads}),
        Row(
            "Memory",
            f"{format_bytes(memory.total_bytes)}, {format_bytes(memory.available_bytes)} available",
            {"memory_total_bytes": memory.total_bytes, "memory_available_bytes": memory.available_bytes},
        ),
        Row(
            "Disk",
            f"{format_bytes(disk.total_bytes)}, {format_bytes(disk.free_bytes)} free, of the data folder",
            {"disk_total_bytes": disk.total_bytes, "disk_free_bytes": disk.free_bytes},
        ),
    ]
    return Section("System", rows)


def _network(facts: SystemFacts) -> Section:
    rows = [
        Row(each.name, ", ".join(each.addresses), {"name": each.name, "addresses": list(each.addresses)})
        for each in facts.network
    ]
    return Section("Network", rows or [Row("Addresses", "none", {})], items=True)


def _processes(context: Context) -> Section:
    if not context.parts.serving:
        return Section("Processes", [Row("callisto-telnetd", "not running", {})], items=True)
    running = {row.name: row for row in context.parts.processes.rows()}
    rows = {name: Row(name, _process_text(row), _process_facts(row)) for name, row in running.items()}
    for view in context.parts.supervisor.views():
        facts: dict[str, Any] = {
            "name": view.name,
            "service": view.state,
            "restarts": view.restarts,
            "address": view.address or None,
        }
        text = state_text(view)
        if row := running.get(view.name):  # how its service is says more than what its process does in this moment
            facts, text = {**facts, **_process_facts(row)}, _process_text(row, text)
        rows[view.name] = Row(view.name, text, facts)
    return Section("Processes", list(rows.values()), items=True)


def _process_facts(row: ProcessRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "pid": row.pid,
        "state": row.state,
        "memory_bytes": row.memory_bytes,
        "uptime_s": round(row.uptime_s, 1),
    }


def _process_text(row: ProcessRow, state: str = "") -> str:
    return f"pid {row.pid}, {state or row.state}, {format_bytes(row.memory_bytes)}, up {format_duration(row.uptime_s)}"


def _sessions(context: Context) -> Section:
    gate = context.parts.gatekeeper
    rows = [
        _plain("On", "on", len(present_now(context))),
        _plain("Connected", "connected", gate.sessions),
        _plain("Most allowed", "most_allowed", gate.most_sessions),
    ]
    return Section("Sessions", rows)


async def _trace(context: Context) -> Section:
    """Say what came in and went out, what waits, and what is wrong; all figures are since the server's start."""
    hub, captures = context.parts.hub, context.parts.captures
    by_input = dict(sorted(hub.by_input.items()))
    viewers = list(hub.viewers)
    waiting = sum(viewer.waiting_bytes for viewer in viewers)
    to_write = captures.writer.waiting_bytes
    rows = [
        _plain("Records", "records", hub.published),
        Row(
            "By input",
            ", ".join(f"{name} {count}" for name, count in by_input.items()) or "none",
            {"by_input": [{"name": name, "records": count} for name, count in by_input.items()]},
        ),
        Row(
            "Held in memory",
            f"{counted(hub.held_count, 'record')}, {format_bytes(hub.held_bytes)}",
            {"held": {"records": hub.held_count, "size_bytes": hub.held_bytes}},
        ),
        Row(
            "Traces",
            f"{len(captures.running)} running, {captures.started} started, {captures.failed} ended by their disk",
            {"traces": {"running": len(captures.running), "count": captures.started, "failed": captures.failed}},
        ),
        _plain("Written", "written", captures.written),
        Row(
            "Viewers",
            f"{len(viewers)}, {format_bytes(waiting)} wait to be shown",
            {"viewers": {"count": len(viewers), "waiting_bytes": waiting}},
        ),
        _plain("Not shown", "not_shown", hub.not_shown),
        _plain("Viewers cut off", "cut_off", hub.cut_off),
        Row(
            "To be written",
            f"{format_bytes(to_write)}, inputs held back {counted(hub.held_back, 'time')}",
            {"to_write": {"size_bytes": to_write, "held_back": hub.held_back}},
        ),
        await asyncio.to_thread(_files, context),
    ]
    return Section("Trace", [*rows, *_inputs(context)])


def _files(context: Context) -> Row:
    """Say how much of their budget the files of captures take; a folder that cannot be read is said to be just that."""
    captures = context.parts.captures
    try:
        files = captures.folder.files()
    except TraceError as error:
        return Row("Files", str(error), {"files": {"error": str(error)}})
    size = sum(file.size_bytes for file in files)
    facts = {
        "count": len(files),
        "size_bytes": size,
        "budget_bytes": captures.budget_bytes,
        "deleted": captures.deleted,
    }
    text = f"{len(files)}, {format_bytes(size)} of {format_bytes(captures.budget_bytes)}"
    return Row("Files", text, {"files": facts})


def _inputs(context: Context) -> list[Row]:
    rows, inputs = [], []
    for each in context.parts.trace_inputs:
        counts = {"malformed": each.malformed, "dropped": each.dropped, "faults": each.faults}
        inputs.append({"name": each.name, "open": not each.fault, "error": each.fault or None, **counts})
        text = f"{each.fault or 'open'}, {each.malformed} malformed, {each.dropped} dropped"
        rows.append(Row(f"Input {each.name}", text, {}))
    return [rows[0]._replace(facts={"inputs": inputs}), *rows[1:]] if rows else []


INFORMATION = Command(
    word="information",
    number="4",
    title="System Information",
    help="show what the appliance is and how it fares",
    run=show_information,
    facts="one",
)
