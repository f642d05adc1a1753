"""Trace: the process table and the live records, shown and saved; the files of earlier captures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TextIO

from callisto_telnetd.errors import TraceError, UsageError, listed, quoted
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line
from callisto_telnetd.menus.arguments import (
    parse_bytes,
    parse_duration,
    parse_whole,
    require_count,
    take_options,
    take_yes,
)
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.quantities import counted, format_bytes, format_duration
from callisto_telnetd.services.processes import ProcessRow
from callisto_telnetd.trace.captures import CaptureRequest, Ending
from callisto_telnetd.trace.records import LEVELS, Record, format_record, parse_level, record_as_dict

_OPTIONS = ("level", "for", "records", "size", "before", "note")
_MOST_RECORDS = 10_000_000
_SMALLEST_SIZE = 1 << 10
_LARGEST_SIZE = 1 << 40
_MOST_NOTE = 200
_TAIL_QUEUE = 128
_READ_LINES = 200

USAGE = "[PROCESS,…] [level=LEVEL] [for=30s] [records=1000] [size=10M] [before=10s] [note=TEXT]"


def process_facts(rows: Sequence[ProcessRow]) -> list[Fact]:
    """Return the table of processes: a heading for people, then a row each."""
    heading = f"{'PROCESS':<20} {'PID':>7}  {'CPU %':>6} {'MEMORY':>10} {'UPTIME':>12}  STATE"
    facts = [Fact({}, (heading,))]
    for row in rows:
        data = {
            "name": row.name,
            "pid": row.pid,
            "state": row.state,
            "cpu_percent": row.cpu_percent,
            "memory_bytes": row.memory_bytes,
            "uptime_s": row.uptime_s,
        }
        figures = f"{row.cpu_percent:>6.1f} {format_bytes(row.memory_bytes):>10} {format_duration(row.uptime_s):>12}"
        facts.append(Fact(data, (f"{row.name:<20} {row.pid:>7}  {figures}  {row.state}",)))
    return facts


async def run_trace(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show the process table, then the live records until Enter, ``q``, an interrupt or a bound; save them."""
    request = _parse_request(context, words)
    for fact in process_facts(context.parts.processes.rows()):
        yield Line(fact.lines[0])
    capture = context.parts.captures.start(request, _header(context, request, words))
    bounded = request.duration_s is not None or request.records is not None
    yield Line(f"Live records follow; Enter, q or Ctrl-C ends the trace{' before its bound' if bounded else ''}.")
    hub = context.parts.hub
    try:
        with context.dialogue.watch(capture.stop, until_end_of_input=not bounded):
            async for missed, batch in capture.follow():
                if missed:
                    yield Line(f"-- {missed:,} records not shown --")
                for record, line in batch:
                    yield Fact(record_as_dict(record, hub.clock.local), (line,))
    finally:
        capture.stop("the session ended")
    summary = capture.summary()
    if summary.ending is Ending.FAILED:
        raise TraceError(f"{summary.reason}; {summary}")
    if summary.ending is Ending.DISK:
        yield Line(f"The trace has stopped: {summary.reason}.")
    yield Done(str(summary))


def _parse_request(context: Context, words: list[str]) -> CaptureRequest:
    plain, options = take_options(words, _OPTIONS)
    for word in plain:
        if "=" in word:
            raise UsageError(
                f"{quoted(word)} is no option of trace; allowed: {listed([f'{key}=' for key in _OPTIONS])}"
            )
    note = options.get("note", "")
    if len(note) > _MOST_NOTE:
        raise UsageError(f"note: {len(note)} characters are more than {_MOST_NOTE}")
    return CaptureRequest(
        who=context.origin.who,
        processes=_parse_processes(context, plain),
        level=parse_level(options["level"]) if "level" in options else LEVELS["debug"],
        duration_s=parse_duration(options["for"], "for") if "for" in options else None,
        records=parse_whole(options["records"], "records", 1, _MOST_RECORDS) if "records" in options else None,
        size_bytes=(
            parse_bytes(options["size"], "size", _SMALLEST_SIZE, _LARGEST_SIZE)
            if "size" in options
            else context.parts.trace_size_bytes
        ),
        before_s=parse_duration(options["before"], "before") if "before" in options else 0.0,
        note=note,
    )


def _parse_processes(context: Context, words: Sequence[str]) -> frozenset[str]:
    chosen = [name for word in words for name in word.split(",") if name]
    known = [row.name for row in context.parts.processes.rows()]
    for name in chosen:
        if name not in known:
            raise UsageError(f"trace: {quoted(name)} is neither a command nor a process; processes: {', '.join(known)}")
    return frozenset(chosen)


def _header(context: Context, request: CaptureRequest, words: Sequence[str]) -> list[str]:
    parts, identity = context.parts, context.parts.identity
    variables = parts.variables
    lines = [
        f"Callisto {identity.version}, edition {identity.edition}, host {identity.hostname}",
        f"started {parts.clock.now().isoformat()}, zone {parts.clock.zone_name}, clock: {parts.clock.source}",
        f"by {context.origin}",
        f"filter: {' '.join(words) or 'none'}",
    ]
    if request.note:
        lines.append(f"note: {request.note}")
    return lines + [
        f"differs from its default: {each.name} = {variables.text(each.name)}" for each in variables.differing()
    ]


async def list_processes(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the table of the processes that Callisto runs."""
    require_count(words, 0, 0, "trace processes")
    rows = context.parts.processes.rows()
    heading, *facts = process_facts(rows)
    yield Line(heading.lines[0])
    for fact in facts:
        yield fact
    yield Done("1 process" if len(rows) == 1 else f"{len(rows)} processes")


async def list_files(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the captures on disk, oldest first."""
    require_count(words, 0, 0, "trace list")
    files = context.parts.captures.files()
    for file in files:
        state = "running" if file.running else "ended"
        data = {"file": file.name, "size_bytes": file.size_bytes, "started": file.started, "state": state}
        yield Fact(data, (f"{file.name}  {format_bytes(file.size_bytes):>10}  {file.started}  {state}",))
    yield Done(counted(len(files), "trace file"))


async def show_file(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the lines of a capture."""
    require_count(words, 1, 1, "trace show FILE")
    path = context.parts.captures.find(words[0])
    count = 0
    with await asyncio.to_thread(path.open, encoding="utf-8", errors="replace") as stream:
        while lines := await asyncio.to_thread(_read_lines, stream):
            for line in lines:
                yield Fact({"line": line}, (line,))
            count += len(lines)
    yield Done(f"{counted(count, 'line')} of {path.name}")


def _read_lines(stream: TextIO) -> list[str]:
    lines = []
    for _ in range(_READ_LINES):
        line = stream.readline(1 << 16)
        if not line:
            break
        lines.append(line.rstrip("\n"))
    return lines


async def delete_file(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Delete a capture."""
    plain, confirmed = take_yes(words)
    require_count(plain, 1, 1, "trace delete FILE [yes]")
    path: Path = context.parts.captures.find(plain[0])
    await context.confirm(f"Delete {path.name}", confirmed=confirmed)
    context.parts.captures.delete(path.name)
    context.parts.log.info("trace deleted", file=path.name, who=context.origin.who, source=context.origin.source)
    yield Done(f"{path.name} deleted")


async def tail(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show the live records without saving them."""
    plain, options = take_options(words, ("level", "before"))
    request = CaptureRequest(
        who=context.origin.who,
        processes=_parse_processes(context, plain),
        level=parse_level(options["level"]) if "level" in options else LEVELS["debug"],
        before_s=parse_duration(options["before"], "before") if "before" in options else 0.0,
    )
    hub = context.parts.hub
    queue: asyncio.Queue[Record | None] = asyncio.Queue(_TAIL_QUEUE)
    missed = 0

    def take(record: Record) -> None:
        nonlocal missed
        if request.takes(record):
            if queue.full():
                queue.get_nowait()
                missed += 1
            queue.put_nowait(record)

    def stop() -> None:
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(None)

    shown = 0
    held = hub.held(hub.clock.time() - request.before_s) if request.before_s else []
    hub.attach(take)
    try:
        for record in filter(request.takes, held):
            shown += 1
            yield Fact(record_as_dict(record, hub.clock.local), (format_record(record, hub.clock.local),))
        with context.dialogue.watch(stop, until_end_of_input=True):
            while (next_record := await queue.get()) is not None:
                if missed:
                    yield Line(f"-- {missed:,} records not shown --")
                    missed = 0
                shown += 1
                yield Fact(record_as_dict(next_record, hub.clock.local), (format_record(next_record, hub.clock.local),))
    finally:
        hub.detach(take)
    yield Done(f"{counted(shown, 'record')} shown")


def _complete_file(context: Context, words: Sequence[str]) -> Sequence[str]:
    return () if words else [file.name for file in context.parts.captures.files()]


def _complete_option(context: Context, _words: Sequence[str]) -> Sequence[str]:
    return [*(f"level={level}" for level in LEVELS), *(row.name for row in context.parts.processes.rows())]


TRACE_MENU = Menu(
    word="trace",
    number="1",
    title="Trace",
    help="show the processes and the live records, and save them to a file",
    bare=Command(
        word="trace",
        usage=USAGE,
        help="show the processes, then the live records until Enter, q or Ctrl-C; all is saved to a file",
        run=run_trace,
        details=(
            f"LEVEL is {listed(list(LEVELS))}: records below it are left out.",
            "before=10s begins with what happened already, as far as records are held in memory.",
            "With for= or records= the trace ends by itself; it ends at its size in every case.",
        ),
        complete=_complete_option,
        facts="stream",
    ),
    entries=(
        Command(
            word="processes",
            help="show the table of the processes that Callisto runs",
            run=list_processes,
            facts="many",
        ),
        Command(word="list", help="list the trace files", run=list_files, facts="many"),
        Command(
            word="show",
            usage="FILE",
            help="print a trace file",
            run=show_file,
            complete=_complete_file,
            facts="stream",
            document=True,
        ),
        Command(
            word="delete",
            usage="FILE [yes]",
            help="delete a trace file",
            run=delete_file,
            complete=_complete_file,
            changes=True,
        ),
        Command(
            word="tail",
            usage="[PROCESS,…] [level=LEVEL] [before=10s]",
            help="show the live records without saving them",
            run=tail,
            complete=_complete_option,
            facts="stream",
        ),
    ),
)
