"""System Information: what the appliance is and how it fares, read from the running system."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import orjson

from callisto_telnetd.clock import format_moment
from callisto_telnetd.db.media import Media
from callisto_telnetd.db.salvage.report import REPAIR_STATE
from callisto_telnetd.errors import FolderError, StoreError, TraceError
from callisto_telnetd.maintenance.compact import COMPACT_STATE
from callisto_telnetd.maintenance.snapshots import age_text
from callisto_telnetd.menus.answers import Answer, Done, Fact
from callisto_telnetd.menus.arguments import require_count
from callisto_telnetd.menus.context import EDITION_NAMES, Context
from callisto_telnetd.menus.services import state_text
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.quantities import counted, format_bytes, format_duration
from callisto_telnetd.services.processes import ProcessRow
from callisto_telnetd.services.system import SystemFacts, system_facts
from callisto_telnetd.trace.sanitiser import clean

_COUNTED = {
    "Users": "user",
    "Mailboxes": "mailbox",
    "Messages": "message",
    "Greetings": "greeting",
    "Call records": "call_record",
}


class Shown(NamedTuple):
    """A value that programs take in other words than people: numbers with their units in their names."""

    data: Any
    text: str


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
        "User data": await _user_data(context),
        "Processes": _processes(context),
        "Sessions": _sessions(context),
        "Trace": await _trace(context),
    }
    for title, values in sections.items():
        data = {key: value.data if isinstance(value, Shown) else value for key, value in values.items()}
        lines = [f"{key}: {value.text if isinstance(value, Shown) else value}" for key, value in values.items()]
        yield Fact({title: data}, (f"-- {title} --", *lines))
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
    clock, serving = context.parts.clock, context.parts.serving
    served_s = time.monotonic() - context.parts.started_at if serving else 0.0
    return {
        "Time": format_moment(clock.now()),
        "Zone": clock.zone_name,
        "Source": clock.source,
        "Server uptime": Shown({"s": round(served_s, 1)}, format_duration(served_s) if serving else "not running"),
        "Machine uptime": Shown({"s": round(facts.uptime_s, 1)}, format_duration(facts.uptime_s)),
    }


def _system(facts: SystemFacts) -> dict[str, Any]:
    processor, memory, disk = facts.processor, facts.memory, facts.disk
    loads = [processor.load_1min, processor.load_5min, processor.load_15min]
    return {
        "Operating system": f"{facts.operating_system}, kernel {facts.kernel}",
        "Processor": f"{processor.model}, {processor.cores} cores",
        "Processor use": Shown({"percent": processor.used_percent}, f"{processor.used_percent:.0f} % of all cores"),
        "Load": Shown(loads, f"{loads[0]:.2f} {loads[1]:.2f} {loads[2]:.2f} (1, 5, 15 minutes)"),
        "Memory": Shown(
            {"total_bytes": memory.total_bytes, "available_bytes": memory.available_bytes},
            f"{format_bytes(memory.total_bytes)}, {format_bytes(memory.available_bytes)} available",
        ),
        "Disk": Shown(
            {"total_bytes": disk.total_bytes, "free_bytes": disk.free_bytes},
            f"{format_bytes(disk.total_bytes)}, {format_bytes(disk.free_bytes)} free, of the data folder",
        ),
    }


async def _database(context: Context) -> dict[str, Any]:
    """Say what can be said of the database; one that cannot answer is said to be just that."""
    store = context.parts.store
    values: dict[str, Any] = {"File": store.file.name}
    try:
        size = store.file.stat().st_size
        values["Size"] = Shown({"bytes": size}, format_bytes(size))
        values["Schema"] = await store.schema_version()
        compacted = await store.get_state(COMPACT_STATE)
        values["Last compact"] = _compact_text(context, compacted) if compacted else "never"
        repaired = await store.get_state(REPAIR_STATE)
        values["Last repair"] = _repair_text(context, repaired) if repaired else "never"
        values.update(await _checks(context))
    except (StoreError, OSError) as error:
        values["State"] = context.parts.mode.text or str(error)
    values["Newest database copy"] = await _newest_copy(context)
    values["Last good backup"] = await _last_backup(context)
    values["Unusable variables"] = len(context.parts.variables.faults)
    return values


def _compact_text(context: Context, state: str) -> str:
    try:
        done = orjson.loads(state)
        sizes = f"{format_bytes(int(done['before_bytes']))} before, {format_bytes(int(done['after_bytes']))} after"
        return f"{context.parts.clock.format_stamp(done['at'])}, {sizes}"
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return "unreadable"


def _repair_text(context: Context, state: str) -> str:
    try:
        done = orjson.loads(state)
        lost, apart = clean(str(done["lost"]), 64), int(done["quarantined"])
        counts = f"{counted(int(done['kept']), 'row')} kept, {lost} lost, {apart} set apart"
        where = f"the old file is in {clean(str(done['aside']), 500)}"
        return f"{context.parts.clock.format_stamp(done['at'])}, {counts}; {where}"
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return "unreadable"


async def _newest_copy(context: Context) -> Shown:
    copy = await context.parts.snapshots.newest()
    if copy is None:
        return Shown(None, "none")
    past = await context.parts.restores.since(copy.at)
    before = f"; from before the restore of {context.parts.clock.format_stamp(past.at)}" if past else ""
    data = {"file": copy.path.name, "age_s": round(copy.age_s), "bytes": copy.size_bytes, "rows": copy.rows}
    text = f"{copy.path.name}, {age_text(copy)}, {format_bytes(copy.size_bytes)}, {counted(copy.rows, 'row')}{before}"
    return Shown({**data, "before_restore": past is not None}, text)


async def _last_backup(context: Context) -> Shown:
    """Say which archive of everything was the last good one, and how old it is."""
    try:
        last = await context.parts.backups.last_good()
    except StoreError as error:
        return Shown({"error": str(error)}, str(error))
    if last is None:
        return Shown(None, "never")
    age_s, version = last.age_s(context.parts.clock.now()), context.parts.identity.version
    data = {"file": last.file, "at": last.at, "age_s": round(age_s), "version": last.version}
    older = f"; it is of version {last.version}: make a new one" if last.version != version else ""
    gone = "" if last.file in context.parts.backups.names() else ", which is no longer here"
    return Shown(data, f"{format_duration(age_s)} ago, {last.file}{gone}{older}")


async def _user_data(context: Context) -> dict[str, Any]:
    """Count what the appliance keeps for its users; what cannot be counted is said to be just that."""
    values: dict[str, Any] = {}
    try:
        for key, table in _COUNTED.items():  # one by one: others need not wait for the sum
            values[key] = int((await context.parts.store.fetch(f"SELECT count(*) FROM {table}"))[0][0])
    except StoreError as error:
        values["State"] = str(error)
    try:
        media = await asyncio.to_thread(Media(context.parts.folder.media).size)
    except FolderError as error:
        values["Recordings"] = Shown({"error": str(error)}, str(error))
    else:
        values["Recordings"] = Shown(
            {"count": media.files, "bytes": media.size_bytes}, f"{media.files}, {format_bytes(media.size_bytes)}"
        )
    return values


async def _checks(context: Context) -> dict[str, Any]:
    """Say when the database was checked last, how thoroughly, and what came of it."""
    clock, checks = context.parts.clock, await context.parts.self_check.known()
    values: dict[str, Any] = {"Last check": "never"}
    if checks.last is not None:
        values["Last check"] = checks.last.describe(clock)
    if checks.full is not None and checks.full != checks.last:
        values["Last full check"] = checks.full.describe(clock)
    return values


def _processes(context: Context) -> dict[str, Any]:
    if not context.parts.serving:
        return {"callisto-telnetd": "not running"}
    rows = {row.name: row for row in context.parts.processes.rows()}
    values: dict[str, Any] = {name: Shown(_process_data(row), _process_text(row)) for name, row in rows.items()}
    for view in context.parts.supervisor.views():
        data, text = (
            {"service": view.state, "restarts": view.restarts, "address": view.address or None},
            state_text(view),
        )
        if row := rows.get(view.name):  # how its service is says more than what its process does in this moment
            data, text = {**data, **_process_data(row)}, _process_text(row, text)
        values[view.name] = Shown(data, text)
    return values


def _process_data(row: ProcessRow) -> dict[str, Any]:
    return {"pid": row.pid, "state": row.state, "memory_bytes": row.memory_bytes, "uptime_s": round(row.uptime_s, 1)}


def _process_text(row: ProcessRow, state: str = "") -> str:
    return f"pid {row.pid}, {state or row.state}, {format_bytes(row.memory_bytes)}, up {format_duration(row.uptime_s)}"


def _sessions(context: Context) -> dict[str, Any]:
    gate = context.parts.gatekeeper
    return {
        "On": len(context.parts.presence.all()),
        "Connected": gate.sessions,
        "Most allowed": gate.most_sessions,
    }


async def _trace(context: Context) -> dict[str, Any]:
    """Say what came in and went out, what waits, and what is wrong; all figures are since the server's start."""
    parts = context.parts
    hub, captures = parts.hub, parts.captures
    by_input = dict(sorted(hub.by_input.items()))
    viewers = list(hub.viewers)
    waiting = sum(viewer.waiting_bytes for viewer in viewers)
    values: dict[str, Any] = {
        "Records": hub.published,
        "By input": Shown(by_input, ", ".join(f"{name} {count}" for name, count in by_input.items()) or "none"),
        "Held in memory": Shown(
            {"records": hub.held_count, "bytes": hub.held_bytes},
            f"{counted(hub.held_count, 'record')}, {format_bytes(hub.held_bytes)}",
        ),
        "Traces": Shown(
            {"running": len(captures.running), "started": captures.started, "failed": captures.failed},
            f"{len(captures.running)} running, {captures.started} started, {captures.failed} ended by their disk",
        ),
        "Written": captures.written,
        "Viewers": Shown(
            {"count": len(viewers), "waiting_bytes": waiting},
            f"{len(viewers)}, {format_bytes(waiting)} wait to be shown",
        ),
        "Not shown": hub.not_shown,
        "Viewers cut off": hub.cut_off,
        "To be written": Shown(
            {"bytes": captures.writer.waiting_bytes, "held_back": hub.held_back},
            f"{format_bytes(captures.writer.waiting_bytes)}, inputs held back {counted(hub.held_back, 'time')}",
        ),
        "Files": await asyncio.to_thread(_files, context),
    }
    for each in parts.trace_inputs:
        counts = {"malformed": each.malformed, "dropped": each.dropped, "faults": each.faults}
        state = each.fault or "open"
        text = f"{state}, {each.malformed} malformed, {each.dropped} dropped"
        values[f"Input {each.name}"] = Shown({"state": state, **counts}, text)
    return values


def _files(context: Context) -> Shown:
    """Say how much of their budget the files of captures take; a folder that cannot be read is said to be just that."""
    captures = context.parts.captures
    try:
        files = captures.folder.files()
    except TraceError as error:
        return Shown({"error": str(error)}, str(error))
    size = sum(file.size_bytes for file in files)
    data = {"count": len(files), "bytes": size, "budget_bytes": captures.budget_bytes, "deleted": captures.deleted}
    return Shown(data, f"{len(files)}, {format_bytes(size)} of {format_bytes(captures.budget_bytes)}")


INFORMATION = Command(
    word="information",
    number="4",
    title="System Information",
    help="show what the appliance is and how it fares",
    run=show_information,
    facts="one",
)
