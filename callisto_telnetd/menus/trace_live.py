"""The live trace: shown and saved, captured without a viewer, looked at again, stopped; and the live process table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from callisto_telnetd.errors import TraceError
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line, Screen
from callisto_telnetd.menus.arguments import parse_duration, require_count
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.table import Column, columns_of, table, table_lines
from callisto_telnetd.menus.trace_words import (
    FILTER_OPTIONS,
    header_lines,
    known_processes,
    parse_filter,
    parse_request,
    require_server,
    take_filter_options,
)
from callisto_telnetd.quantities import counted, format_bytes, format_duration
from callisto_telnetd.services.processes import ProcessRow
from callisto_telnetd.trace.capture import Capture, CaptureRequest, Ending, Summary
from callisto_telnetd.trace.viewers import Missed, Viewer

_REDRAW_S = 1.0
_DISK_S = 10.0
"""How long the end of a capture waits for its disk."""


_PROCESSES = (
    Column("PROCESS", 20),
    Column("PID", 7, right=True, rank=4),
    Column("CPU %", 6, right=True, gap=2, rank=2),
    Column("MEMORY", 10, right=True, rank=3),
    Column("UPTIME", 12, right=True, rank=1),
    Column("STATE", 7, gap=2, rank=5),
)
_CAPTURES = (
    Column("FILE", 36),
    Column("STATE", 8, rank=4),
    Column("RECORDS", 9, right=True, rank=3),
    Column("SIZE", 10, right=True, rank=2),
    Column("VIEWERS", 7, right=True, rank=1),
    Column("BY, UNTIL, FILTER", 12, gap=2),
)


def process_facts(rows: Sequence[ProcessRow], columns: int | None) -> list[Fact]:
    """Return the table of processes: a heading for people, then a row each; ``columns`` of the terminal, if known."""
    cells = [
        (
            row.name,
            str(row.pid),
            f"{row.cpu_percent:.1f}",
            format_bytes(row.memory_bytes),
            format_duration(row.uptime_s),
            row.state,
        )
        for row in rows
    ]
    heading, *lines = table_lines(_PROCESSES, cells, columns)
    data = [
        {
            "name": row.name,
            "pid": row.pid,
            "state": row.state,
            "cpu_percent": row.cpu_percent,
            "memory_bytes": row.memory_bytes,
            "uptime_s": row.uptime_s,
        }
        for row in rows
    ]
    return [Fact({}, (heading,)), *(Fact(each, (line,)) for each, line in zip(data, lines, strict=True))]


async def list_processes(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the table of the processes; on a terminal again each second, until Enter, ``q`` or an interrupt."""
    require_count(words, 0, 0, "trace processes")
    require_server(context)
    rows = context.parts.processes.rows()
    if (size := context.dialogue.redrawable) is not None:
        stopped = asyncio.Event()
        with context.dialogue.watch(stopped.set, until_end_of_input=True):
            while not stopped.is_set():
                rows = context.parts.processes.rows()
                lines = [fact.lines[0] for fact in process_facts(rows, size.columns)]
                yield Screen((*lines[: max(size.rows - 2, 0)], f"{context.dialogue.stop_keys} ends the table."))
                await _wait(stopped, _REDRAW_S)
                size = context.dialogue.redrawable or size
    else:
        heading, *facts = process_facts(rows, None)
        yield Line(heading.lines[0])
        for fact in facts:
            yield fact
    yield Done(counted(len(rows), "process"))


async def _wait(stopped: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopped.wait()
    except TimeoutError:
        pass


async def run_trace(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show the process table, then the live records until Enter, ``q``, an interrupt or a bound; save them."""
    require_server(context)
    request = parse_request(context, words)
    viewer = _viewer(context)
    capture = await _start(context, request, viewer)
    viewer.on_stalled = _cutting_off(context, viewer, capture)
    bounded = request.duration_s is not None or request.records is not None

    def stop() -> None:
        if not viewer.cut_off:
            capture.stop()
        viewer.close()

    try:
        for fact in process_facts(context.parts.processes.rows(), columns_of(context)):
            yield Line(fact.lines[0])
        ends = f"{context.dialogue.stop_keys} ends the trace{' before its bound' if bounded else ''}"
        yield Line(f"Live records follow; {ends}.")
        with context.dialogue.watch(stop, until_end_of_input=not bounded):
            async with aclosing(_shown(viewer)) as answers:
                async for answer in answers:
                    yield answer
    finally:
        capture.hide_from(viewer)
        if viewer.cut_off:
            _notify_at_end(context, capture)  # it goes on, as if it had been started without a viewer
        else:
            capture.stop("its viewer has gone")
    for answer in _ended(context, replace(await _closed(capture), not_shown=viewer.not_shown)):
        yield answer


def _viewer(context: Context) -> Viewer:
    return Viewer(context.parts.hub, backlog=context.dialogue.backlog)


async def _shown(viewer: Viewer) -> AsyncGenerator[Answer, None]:
    async with aclosing(viewer.follow()) as items:
        async for item in items:
            if isinstance(item, Missed):
                text = f"{counted(item.records, 'record', grouped=True)} not shown"
                yield Fact({"comment": text, "not_shown": item.records}, (f"-- {text} --",))
            else:
                yield item


def _cutting_off(context: Context, viewer: Viewer, capture: Capture | None = None) -> Callable[[], None]:
    """Return what is done where the viewer's peer takes nothing any more."""

    def cut_off() -> None:
        context.parts.log.warning(
            "trace viewer cut off",
            file=capture.name if capture else "none",
            shown=viewer.shown,
            not_shown=viewer.not_shown,
            who=context.origin.who,
            source=context.origin.source,
        )
        context.dialogue.hang_up("the trace was not read")

    return cut_off


async def _start(context: Context, request: CaptureRequest, viewer: Viewer | None = None) -> Capture:
    """Begin a capture; the log has its start before it and its end behind it, so that neither counts in it."""
    log, by = context.parts.log, {"who": context.origin.who, "source": context.origin.source}

    def log_end(closed: asyncio.Future[Summary]) -> None:
        summary = closed.result()
        log.info("trace ended", file=summary.file, records=summary.records, reason=summary.reason, **by)

    log.info("trace starts", filter=request.words or "none", **({"note": request.note} if request.note else {}), **by)
    capture = await context.parts.captures.start(request, header_lines(context, request), viewer)
    capture.closed.add_done_callback(log_end)
    return capture


async def _closed(capture: Capture) -> Summary:
    """Wait until the capture's file is closed.

    Raises:
        TraceError: its disk does not answer.
    """
    try:
        async with asyncio.timeout(_DISK_S):
            return await asyncio.shield(capture.closed)
    except TimeoutError:
        raise TraceError(f"{capture.name}: the disk has not taken its last records yet") from None


def _summary_data(summary: Summary) -> dict[str, Any]:
    """Return what programs are told of a capture's end; as in its file, what is no record is a comment."""
    return {
        "comment": f"{summary}; ended: {summary.reason}",
        "file": summary.file,
        "records": summary.records,
        "not_shown": summary.not_shown,
        "size_bytes": summary.size_bytes,
        "reason": summary.reason,
    }


def _ended(context: Context, summary: Summary) -> Iterator[Answer]:
    """Yield how a capture has ended; who has typed the line by hand is told how to see its file.

    Raises:
        TraceError: its file could not be written.
    """
    yield Fact(_summary_data(summary), ())
    if summary.ending is Ending.FAILED:
        raise TraceError(f"{summary.reason}; {summary}")
    if summary.ending is Ending.DISK:
        yield Line(f"The trace has stopped: {summary.reason}.")
    if context.dialogue.redrawable is not None:
        yield Line("'trace show' prints the file.")
    yield Done(str(summary))


# Captures without a viewer


async def start_capture(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Begin a capture that goes on when the session ends."""
    require_server(context)
    request = parse_request(context, words)
    capture = await _start(context, request)
    _notify_at_end(context, capture)
    waits = ", waiting for its trigger" if capture.waiting else ""
    yield Fact({"file": capture.name, "state": _state_of(capture)}, ())
    yield Done(f"trace {capture.name} has started{waits}")


def _notify_at_end(context: Context, capture: Capture) -> None:
    """Tell the user's sessions when the capture fires its trigger, and when it ends by itself."""
    tell = partial(context.parts.presence.tell, context.origin.who)

    def tell_end(closed: asyncio.Future[Summary]) -> None:
        summary = closed.result()
        if summary.ending is not Ending.ASKED:
            tell(f"{summary}; ended: {summary.reason}")

    capture.on_trigger = lambda: tell(f"the trigger of trace {capture.name} has fired")
    capture.closed.add_done_callback(tell_end)


def _state_of(capture: Capture) -> str:
    return "waiting" if capture.waiting else "running"


async def show_status(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the captures that run."""
    require_count(words, 0, 0, "trace status")
    require_server(context)
    captures = [capture for capture in context.parts.captures.running if capture.running]
    now = asyncio.get_running_loop().time()
    rows = []
    for capture in captures:
        left_s = None if capture.ends_at is None else max(0.0, capture.ends_at - now)
        data = {
            "file": capture.name,
            "state": _state_of(capture),
            "records": capture.taken,
            "size_bytes": capture.size_bytes,
            "viewers": capture.viewers,
            "who": capture.request.who,
            "left_s": left_s,
            "filter": capture.request.words,
            "note": capture.request.note,
        }
        tail = ", ".join(filter(None, (capture.request.who, _until(capture.request, left_s), capture.request.words)))
        figures = str(capture.taken), format_bytes(capture.size_bytes), str(capture.viewers)
        rows.append((data, (capture.name, _state_of(capture), *figures, tail)))
    for answer in table(context, _CAPTURES, rows):
        yield answer
    yield Done(counted(len(captures), "running trace"))


def _until(request: CaptureRequest, left_s: float | None) -> str:
    bounds = []
    if left_s is not None:
        bounds.append(f"{format_duration(left_s)} left")
    elif request.duration_s is not None:
        bounds.append(f"{format_duration(request.duration_s)} from its trigger on")
    if request.records is not None:
        bounds.append(counted(request.records, "record"))
    if request.size_bytes is not None:
        bounds.append(format_bytes(request.size_bytes))
    if request.part_bytes is not None:
        bounds.append(f"the last {request.keep} files of {format_bytes(request.part_bytes)}")
    return " or ".join(bounds)


def _named_or_only(context: Context, words: Sequence[str]) -> Capture:
    """Return the running capture of that name, or without one the only capture that runs.

    Raises:
        TraceError: there is none.
    """
    captures = context.parts.captures
    return captures.capture(words[0]) if words else captures.only_capture()


async def attach(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show what a running capture takes; it goes on when nobody looks any more."""
    plain, options = take_filter_options(words, ("before",), "trace attach")
    require_count(plain, 0, 1, "trace attach [FILE] [before=10s]")
    require_server(context)
    before_s = parse_duration(options["before"], "before") if "before" in options else 0.0
    capture = _named_or_only(context, plain)
    viewer = _viewer(context)
    viewer.on_stalled = _cutting_off(context, viewer, capture)
    capture.show_to(viewer, before_s)
    try:
        yield Line(f"Live records follow; {context.dialogue.stop_keys} ends the view, and the trace goes on.")
        with context.dialogue.watch(viewer.close, until_end_of_input=True):
            async with aclosing(_shown(viewer)) as answers:
                async for answer in answers:
                    yield answer
    finally:
        capture.hide_from(viewer)
    shown = f"{counted(viewer.shown, 'record')} shown, {viewer.not_shown} not shown"
    if capture.running:
        yield Done(f"{shown}; {capture.name} goes on")
        return
    for answer in _ended(context, replace(await _closed(capture), not_shown=viewer.not_shown)):
        yield answer


async def stop_capture(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Stop a running capture, or all of them."""
    require_count(words, 0, 1, "trace stop [FILE|all]")
    require_server(context)
    if not words or words[0].lower() != "all":
        capture = _named_or_only(context, words)
        capture.stop(f"stopped by {context.origin.who}")
        for answer in _ended(context, await _closed(capture)):
            yield answer
        return
    captures = [capture for capture in context.parts.captures.running if capture.running]
    for capture in captures:
        capture.stop(f"stopped by {context.origin.who}")
    for capture in captures:
        summary = await _closed(capture)
        yield Fact(_summary_data(summary), (f"{summary}.",))
    yield Done(f"{counted(len(captures), 'trace')} stopped")


async def tail(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show the live records without saving them."""
    require_server(context)
    plain, options = take_filter_options(words, (*FILTER_OPTIONS, "before"), "trace tail")
    wanted = parse_filter(plain, options, known_processes(context))
    before_s = parse_duration(options["before"], "before") if "before" in options else 0.0
    hub, viewer = context.parts.hub, _viewer(context)
    viewer.on_stalled = _cutting_off(context, viewer)
    if before_s:
        viewer.add_past(hub.held(asyncio.get_running_loop().time() - before_s, wanted))
    hub.attach(wanted, viewer.offer, viewer.fail)

    def stop() -> None:
        hub.hand_on()
        viewer.close()

    try:
        with context.dialogue.watch(stop, until_end_of_input=True):
            async with aclosing(_shown(viewer)) as answers:
                async for answer in answers:
                    yield answer
    finally:
        hub.detach(wanted, viewer.offer)
    if viewer.fault:
        raise TraceError(viewer.fault)
    yield Done(f"{counted(viewer.shown, 'record')} shown, {viewer.not_shown} not shown")
