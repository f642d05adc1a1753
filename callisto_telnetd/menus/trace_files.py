"""The files of captures: listed, printed, written in other forms, shown again at their own pace, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.errors import TraceError, UnknownTraceError, listed, quoted
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line
from callisto_telnetd.menus.arguments import parse_words, require_count, take_yes
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.open_capture import OpenCapture
from callisto_telnetd.menus.table import Column, table
from callisto_telnetd.menus.trace_words import FILTER_OPTIONS, parse_filter, parse_speed, take_filter_options
from callisto_telnetd.quantities import counted, format_bytes, format_duration
from callisto_telnetd.trace.capture_folder import DeletedFile
from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.trace.reading import (
    CSV_HEAD,
    FORMATS,
    Entry,
    as_dict,
    comment_of,
    csv_line,
    format_line,
    line_of,
)
from callisto_telnetd.transports.daemon import look
from callisto_telnetd.work import in_thread

_FILES = (Column("", 36), Column("", 10, right=True, rank=2), Column("", 19, gap=2, rank=1), Column("", 11, gap=2))
"""Name, size, time and state; the time stands in the name, too."""


async def list_files(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the captures on disk, oldest first."""
    require_count(words, 0, 0, "trace list")
    rows = await in_thread(partial(_rows, context.parts.captures, context.parts.clock.zone))
    for answer in table(context, _FILES, rows):
        yield answer
    yield Done(counted(len(rows), "trace file"))


def _rows(captures: Captures, zone: tzinfo) -> list[tuple[dict[str, Any], Sequence[str]]]:
    """Return facts and cells of each file; reads the end of each, so it is a thread's work."""
    rows: list[tuple[dict[str, Any], Sequence[str]]] = []
    for file in captures.folder.files():
        state = "running" if captures.runs(file) else captures.folder.state_of(file.name)
        try:
            at = datetime.fromisoformat(file.started).replace(tzinfo=zone).isoformat()
        except ValueError:  # a file of somebody else's, whose name only looks like a time
            at = None
        data = {"file": file.name, "size_bytes": file.size_bytes, "at": at, "state": state}
        rows.append((data, (file.name, format_bytes(file.size_bytes), file.started, state)))
    return rows


def tell_deleted(log: Log, presence: Presence, files: Sequence[DeletedFile]) -> None:
    """Log which files the budget has taken, and show a notice to those who made them."""
    for for_number, event, reason in (
        (False, "trace files deleted for the budget", "trace.budget is used up"),
        (True, "trace files deleted for their number", "there were more than trace.files"),
    ):
        gone = [file for file in files if file.for_number == for_number]
        if gone:
            log.info(event, files=", ".join(_first_of([file.name for file in gone], _MOST_LOGGED)))
        for who in {file.who: None for file in gone if file.who}:
            names = [file.name for file in gone if file.who == who]
            told = listed(_first_of(names, _MOST_NAMED), "and")
            presence.tell(who, f"{counted(len(names), 'trace file')} deleted, because {reason}: {told}")


def _first_of(names: list[str], most: int) -> list[str]:
    """Return the first names, and how many more there are."""
    return [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]


async def _named_or_newest(context: Context, words: Sequence[str]) -> str:
    """Return the first of the words, or without any the name of the newest file.

    Raises:
        TraceError: there is none.
    """
    if words:
        return words[0]
    files = await asyncio.to_thread(context.parts.captures.folder.files)
    if not files:
        raise TraceError("there is no trace file yet; 'trace' makes one")
    return files[-1].name


_MOST_NAMED = 3
"""In a notice."""
_MOST_LOGGED = 100
_LONGEST_PAUSE_S = 60.0
"""Between two records that are shown again: a clock that was set forward would make one of years."""


def _path_of(context: Context, name: str) -> Path:
    """Return the path of a file of the folder; the owner at the command line may also name one anywhere else.

    Raises:
        UnknownTraceError: there is none.
    """
    if "/" not in name or not context.origin.is_owner:
        return context.parts.captures.folder.find(name)
    if not Path(name).is_file():
        raise UnknownTraceError(f"no trace file {quoted(name)}")
    return Path(name)


@asynccontextmanager
async def _open(context: Context, name: str) -> AsyncIterator[OpenCapture]:
    capture = OpenCapture()
    try:
        await capture.open(await look(context.parts.captures.folder.path / name, partial(_path_of, context, name)))
        yield capture
    except OSError as error:
        raise TraceError(f"{name} cannot be read: {error.strerror}") from None
    finally:
        await capture.close()


async def show_file(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the lines of a capture as they are; to programs, its records as data."""
    require_count(words, 0, 1, "trace show [FILE]")
    count, name = 0, await _named_or_newest(context, words)
    async with _open(context, name) as reader:
        if context.dialogue.wants_json:
            while entries := await reader.entries():
                for entry in entries:
                    yield Fact(as_dict(entry) if isinstance(entry, Entry) else {"comment": comment_of(entry)}, ())
                count += len(entries)
        else:
            while lines := await reader.lines():
                yield Fact({}, tuple(lines))
                count += len(lines)
    yield Done(f"{counted(count, 'line')} of {name}")


async def export_file(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the records of a capture in another form."""
    plain, options = take_filter_options(words, ("format", *FILTER_OPTIONS), "trace export")
    form = parse_words(options.get("format", "jsonl"), "format", FORMATS)
    wanted = parse_filter(plain[1:], options, None)
    count, name = 0, await _named_or_newest(context, plain)
    async with _open(context, name) as reader:
        if form == "csv":
            yield Line(csv_line(*CSV_HEAD))
        while entries := await reader.entries():
            for entry in entries:
                if isinstance(entry, Entry) and wanted.takes(entry):
                    count += 1
                    yield Fact(as_dict(entry), (line_of(entry, form),))
    yield Done(f"{counted(count, 'record')} of {name} as {form}")


async def play_file(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show the records of a capture again, as far apart as they were, until Enter, ``q`` or an interrupt."""
    plain, options = take_filter_options(words, ("speed", *FILTER_OPTIONS), "trace play")
    speed = parse_speed(options.get("speed", "1"))
    wanted = parse_filter(plain[1:], options, None)
    loop, stopped, count = asyncio.get_running_loop(), asyncio.Event(), 0
    name = await _named_or_newest(context, plain)
    async with _open(context, name) as reader:
        with context.dialogue.watch(stopped.set, until_end_of_input=True):
            due, last_s = loop.time(), None
            while entries := await reader.entries():
                for entry in entries:
                    if not isinstance(entry, Entry) or not wanted.takes(entry):
                        continue
                    now_s = entry.epoch_s
                    if now_s is not None and last_s is not None:
                        pause_s = max(0.0, now_s - last_s)  # a clock that was set back makes none
                        if pause_s / speed > _LONGEST_PAUSE_S:
                            yield Line(f"-- {format_duration(pause_s)} in which nothing was said --")
                        due += min(pause_s / speed, _LONGEST_PAUSE_S)
                    last_s = now_s if now_s is not None else last_s
                    if await _stopped_before(stopped, due):
                        break
                    count += 1
                    yield Fact(as_dict(entry), (format_line(entry),))
                if stopped.is_set():
                    break
    yield Done(f"{counted(count, 'record')} of {name} shown")


async def _stopped_before(stopped: asyncio.Event, due: float) -> bool:
    """Wait for a moment of the loop's clock; say whether the user has stopped before."""
    if due > asyncio.get_running_loop().time() and not stopped.is_set():
        try:
            async with asyncio.timeout_at(due):
                await stopped.wait()
        except TimeoutError:
            pass
    return stopped.is_set()


async def delete_file(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Delete a capture."""
    plain, confirmed = take_yes(words)
    require_count(plain, 1, 1, "trace delete FILE [yes]")
    captures = context.parts.captures
    path = await in_thread(captures.folder.find, plain[0])
    await context.confirm(f"Delete {path.name}", confirmed=confirmed)
    await captures.delete(path.name)
    context.parts.log.info("trace deleted", file=path.name, who=context.origin.who, source=context.origin.source)
    yield Fact({"file": path.name}, ())
    yield Done(f"{path.name} deleted")
