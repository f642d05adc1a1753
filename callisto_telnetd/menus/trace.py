"""The Trace entry of the main menu: its words, and what they do."""

from __future__ import annotations

from collections.abc import Sequence

from callisto_telnetd.errors import listed
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.trace_files import delete_file, export_file, list_files, play_file, show_file
from callisto_telnetd.menus.trace_live import (
    attach,
    list_processes,
    run_trace,
    show_status,
    start_capture,
    stop_capture,
    tail,
)
from callisto_telnetd.menus.trace_words import CAPTURE_USAGE, FILTER_USAGE, known_processes
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.trace.records import LEVELS

_DETAILS = (
    f"LEVEL is {listed(list(LEVELS))}: records below it are left out.",
    "match=REGEX takes the records in whose text or fields it is found: match=timeout, match='call (lost|refused)'.",
    "on=REGEX waits until it is found, and then begins with what is held from before: on=refused before=1m for=30s.",
    "before=10s begins with what happened already, as far as records are held in memory.",
    "With for= or records= the trace ends by itself; it ends at its size in every case, unless it rotates:",
    "rotate=10M keep=5 goes on in a new file every 10 MiB, and keeps the last five.",
)

_NEWEST = "Without FILE it is the newest one."
_FIRST = "Where names of processes are given, FILE stands before them."
_ONLY = "Without FILE it is the only trace that runs."


def _complete_file(context: Context, words: Sequence[str]) -> Sequence[str]:
    captures = context.parts.captures
    names = (*captures.recent_names.value, *(capture.name for capture in captures.running))
    return () if words else list(dict.fromkeys(names))


def _complete_running(context: Context, words: Sequence[str]) -> Sequence[str]:
    return () if words else [capture.name for capture in context.parts.captures.running]


def _complete_file_then_filter(context: Context, words: Sequence[str]) -> Sequence[str]:
    return _complete_filter(context, words) if words else _complete_file(context, words)


def _complete_filter(context: Context, _words: Sequence[str]) -> Sequence[str]:
    return [*(f"level={level}" for level in LEVELS), *known_processes(context)]


TRACE_MENU = Menu(
    word="trace",
    number="1",
    title="Trace",
    help="show the processes and live records, and save them to a file",
    bare=Command(
        word="trace",
        usage=CAPTURE_USAGE,
        help="show the processes, then the live records until Enter, q or Ctrl-C; all is saved to a file",
        run=run_trace,
        details=_DETAILS,
        complete=_complete_filter,
        joins_words=True,
        facts="stream",
    ),
    entries=(
        Command(
            word="processes",
            help="show the table of the processes that Callisto runs; on a terminal, again each second",
            run=list_processes,
            facts="many",
        ),
        Command(
            word="start",
            usage=CAPTURE_USAGE,
            help="capture without showing; goes on when the session ends",
            run=start_capture,
            details=_DETAILS,
            complete=_complete_filter,
            joins_words=True,
            facts="one",
        ),
        Command(word="status", help="list the traces that run", run=show_status, facts="many"),
        Command(
            word="attach",
            usage="[FILE] [before=10s]",
            help="show the live records of a trace that runs; it goes on afterwards",
            details=(_ONLY,),
            run=attach,
            complete=_complete_running,
            facts="stream",
        ),
        Command(
            word="stop",
            usage="[FILE|all]",
            help="stop a trace that runs",
            details=(_ONLY,),
            run=stop_capture,
            complete=_complete_running,
            facts="many",
            changes=True,
        ),
        Command(word="list", help="list the trace files", run=list_files, facts="many"),
        Command(
            word="show",
            usage="[FILE]",
            help="print a trace file",
            details=(_NEWEST,),
            run=show_file,
            complete=_complete_file,
            facts="stream",
            reads_file=True,
            document=True,
        ),
        Command(
            word="export",
            usage=f"[FILE] [format=jsonl|text|csv] {FILTER_USAGE}",
            help="print the records of a trace file as JSON Lines, text or CSV",
            details=(_NEWEST, _FIRST),
            run=export_file,
            complete=_complete_file_then_filter,
            joins_words=True,
            facts="stream",
            reads_file=True,
            document=True,
        ),
        Command(
            word="play",
            usage=f"[FILE] {FILTER_USAGE} [speed=4]",
            help="show the records of a trace file again, at their own pace or faster",
            details=(_NEWEST, _FIRST),
            run=play_file,
            complete=_complete_file_then_filter,
            joins_words=True,
            facts="stream",
            reads_file=True,
        ),
        Command(
            word="delete",
            usage="FILE [yes]",
            help="delete a trace file",
            run=delete_file,
            complete=_complete_file,
            facts="one",
            changes=True,
        ),
        Command(
            word="tail",
            usage=f"{FILTER_USAGE} [before=10s]",
            help="show the live records without saving them",
            run=tail,
            complete=_complete_filter,
            joins_words=True,
            facts="stream",
        ),
    ),
)
