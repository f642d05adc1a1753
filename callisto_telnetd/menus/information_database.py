"""System Information, what is kept: the database and the users' data."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from callisto_telnetd.db.media import Media
from callisto_telnetd.db.salvage.report import REPAIR_STATE
from callisto_telnetd.errors import FolderError, StoreError
from callisto_telnetd.maintenance.compact import COMPACT_STATE
from callisto_telnetd.maintenance.self_check import Check
from callisto_telnetd.maintenance.snapshots import age_text
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.information_rows import Row, Section
from callisto_telnetd.quantities import counted, format_bytes, format_duration
from callisto_telnetd.trace.sanitiser import clean
from callisto_telnetd.work import in_thread

_COUNTED = {
    "Users": ("users", "user"),
    "Mailboxes": ("mailboxes", "mailbox"),
    "Messages": ("messages", "message"),
    "Greetings": ("greetings", "greeting"),
    "Call records": ("call_records", "call_record"),
}


async def database_section(context: Context) -> Section:
    """Say what can be said of the database; one that cannot answer is said to be just that."""
    store = context.parts.store
    rows = [Row("File", store.file.name, {"file": store.file.name})]
    try:
        size = (await in_thread(store.file.stat)).st_size
        rows.append(Row("Size", format_bytes(size), {"size_bytes": size}))
        schema = await store.schema_version()
        rows.append(Row("Schema", str(schema), {"schema": schema}))
        rows.append(_compact_row(context, await store.get_state(COMPACT_STATE)))
        rows.append(_repair_row(context, await store.get_state(REPAIR_STATE)))
        rows += await _check_rows(context)
    except (StoreError, OSError) as error:
        state = context.parts.mode.text or str(error)
        rows.append(Row("State", state, {"error": state}))
    rows.append(await _newest_copy(context))
    rows.append(await _last_backup(context))
    faults = len(context.parts.variables.faults)
    rows.append(Row("Unusable variables", str(faults), {"unusable_variables": faults}))
    return Section("Database", rows)


def _compact_row(context: Context, state: str | None) -> Row:
    if state is None:
        return Row("Last compact", "never", {"last_compact": None})
    try:
        done = orjson.loads(state)
        data = {key: int(done[key]) for key in ("before_bytes", "after_bytes")}
        when = context.parts.clock.format_stamp(done["at"])
        text = f"{when}, {format_bytes(data['before_bytes'])} before, {format_bytes(data['after_bytes'])} after"
        return Row("Last compact", text, {"last_compact": {"at": context.parts.clock.in_zone(done["at"]), **data}})
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return Row("Last compact", "unreadable", {"last_compact": {"error": "unreadable"}})


def _repair_row(context: Context, state: str | None) -> Row:
    if state is None:
        return Row("Last repair", "never", {"last_repair": None})
    try:
        done = orjson.loads(state)
        kept, quarantined, lost = int(done["kept"]), int(done["quarantined"]), clean(str(done["lost"]), 64)
        folder = clean(str(done["aside"]), 500)
        when, rows = context.parts.clock.format_stamp(done["at"]), counted(kept, "row")
        text = f"{when}, {rows} kept, {lost} lost, {quarantined} set apart; the old file is in {folder}"
        facts = {
            "at": context.parts.clock.in_zone(done["at"]),
            "kept": kept,
            "lost": int(lost) if lost.isdigit() else None,
            "lost_exact": lost.isdigit(),
            "quarantined": quarantined,
            "folder": folder,
        }
        return Row("Last repair", text, {"last_repair": facts})
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return Row("Last repair", "unreadable", {"last_repair": {"error": "unreadable"}})


async def _newest_copy(context: Context) -> Row:
    copy = await context.parts.snapshots.newest()
    if copy is None:
        return Row("Newest database copy", "none", {"newest_copy": None})
    past = await context.parts.restores.since(copy.at)
    before = f"; from before the restore of {context.parts.clock.format_stamp(past.at)}" if past else ""
    text = f"{copy.path.name}, {age_text(copy)}, {format_bytes(copy.size_bytes)}, {counted(copy.rows, 'row')}{before}"
    facts = {
        "file": copy.path.name,
        "age_s": round(copy.age_s),
        "size_bytes": copy.size_bytes,
        "rows": copy.rows,
        "before_restore": past is not None,
    }
    return Row("Newest database copy", text, {"newest_copy": facts})


async def _last_backup(context: Context) -> Row:
    """Say which archive of everything was the last good one, and how old it is."""
    try:
        last = await context.parts.backups.last_good()
    except StoreError as error:
        return Row("Last good backup", str(error), {"last_backup": {"error": str(error)}})
    if last is None:
        return Row("Last good backup", "never", {"last_backup": None})
    age_s, version = last.age_s(context.parts.clock.now()), context.parts.identity.version
    is_here = last.file in await context.parts.backups.recent_names.read()
    older = f"; it is of version {last.version}: make a new one" if last.version != version else ""
    text = f"{format_duration(age_s)} ago, {last.file}{'' if is_here else ', which is no longer here'}{older}"
    facts = {
        "file": last.file,
        "at": context.parts.clock.in_zone(last.at),
        "age_s": round(age_s),
        "version": last.version,
        "here": is_here,
    }
    return Row("Last good backup", text, {"last_backup": facts})


async def _check_rows(context: Context) -> list[Row]:
    """Say when the database was checked last, how thoroughly, and what came of it."""
    clock, checks = context.parts.clock, await context.parts.self_check.known()
    last, full = checks.last, checks.full
    facts = {"last_check": _check_facts(context, last), "last_full_check": _check_facts(context, full)}
    rows = [Row("Last check", last.describe(clock) if last else "never", facts)]
    if full is not None and full != last:
        rows.append(Row("Last full check", full.describe(clock), {}))
    return rows


def _check_facts(context: Context, check: Check | None) -> dict[str, Any] | None:
    if check is None:
        return None
    at = context.parts.clock.in_zone(check.at)
    return {"at": at, "kind": check.kind or None, "sound": check.sound, "result": check.result}


async def user_data_section(context: Context) -> Section:
    """Count what the appliance keeps for its users; what cannot be counted is said to be just that."""
    rows: list[Row] = []
    try:
        for key, (name, table) in _COUNTED.items():  # one by one: others need not wait for the sum
            count = int((await context.parts.store.fetch(f"SELECT count(*) FROM {table}"))[0][0])
            rows.append(Row(key, str(count), {name: count}))
    except StoreError as error:
        rows.append(Row("State", str(error), {"error": str(error)}))
    try:
        media = await asyncio.to_thread(Media(context.parts.folder.media).size)
    except FolderError as error:
        rows.append(Row("Recordings", str(error), {"recordings": None, "recordings_error": str(error)}))
    else:
        text = f"{media.files}, {format_bytes(media.size_bytes)}"
        rows.append(Row("Recordings", text, {"recordings": media.files, "recordings_bytes": media.size_bytes}))
    return Section("User data", rows)
