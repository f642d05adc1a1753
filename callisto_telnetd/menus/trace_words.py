"""The words of the trace's commands: which records are wanted, and the bounds of a capture."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from callisto_telnetd.errors import TraceError, UsageError, listed, quoted
from callisto_telnetd.menus.arguments import parse_bytes, parse_duration, parse_whole, parse_words, take_options
from callisto_telnetd.menus.context import Context
from callisto_telnetd.secret_text import words_without_secrets
from callisto_telnetd.trace.capture import CaptureRequest
from callisto_telnetd.trace.patterns import parse_pattern
from callisto_telnetd.trace.records import LEVELS, parse_level
from callisto_telnetd.trace.selection import Filter

FILTER_OPTIONS = ("level", "match")
_CAPTURE_OPTIONS = (
    *FILTER_OPTIONS,
    "on",
    "for",
    "records",
    "size",
    "before",
    "rotate",
    "keep",
    "format",
    "note",
)
_MOST_RECORDS = 10_000_000
_SMALLEST_SIZE = 1 << 10
_SMALLEST_PART = 64 << 10
_LARGEST_SIZE = 1 << 40
_FEWEST_PARTS, _MOST_PARTS, _USUAL_PARTS = 2, 1000, 10
_MOST_NOTE = 200
_MOST_SHOWN = 200
"""Characters of names in an error."""
_SPEED = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,2})?", re.ASCII)
_SLOWEST, _FASTEST = 0.1, 1000.0

FILTER_USAGE = "[PROCESS,…] [level=LEVEL] [match=REGEX]"
CAPTURE_USAGE = (
    f"{FILTER_USAGE} [on=REGEX] [for=30s] [records=1000] [size=10M] [before=10s] [rotate=10M [keep=10]]"
    " [format=text|jsonl] [note=TEXT]"
)


def require_server(context: Context) -> None:
    """Refuse what only a running server can do.

    Raises:
        TraceError: none runs.
    """
    if not context.parts.serving:
        raise TraceError("no server runs on this data folder: there is nothing to trace")


def take_filter_options(
    words: Sequence[str], allowed: Sequence[str], what: str = "trace"
) -> tuple[list[str], dict[str, str]]:
    """Part plain words from options; a word that looks like an option and is none is refused by name.

    Raises:
        UsageError: names the options there are.
    """
    plain, options = take_options(words, allowed)
    for word in plain:
        if "=" in word or word.startswith("--"):
            raise UsageError(
                f"{quoted(word)} is no option of {what}; allowed: {listed([f'{key}=' for key in allowed])}"
            )
    return plain, options


def parse_filter(words: Sequence[str], options: dict[str, str], known: Sequence[str] | None) -> Filter:
    """Return which records are wanted.

    Args:
        words: Names of processes, several of them joined by commas.
        options: ``level`` and ``match``, where they were given.
        known: The names that there are; None where any will do.

    Raises:
        UsageError: names what is allowed.
    """
    return Filter(
        processes=_parse_processes(words, known),
        level=parse_level(options["level"]) if "level" in options else LEVELS["debug"],
        pattern=parse_pattern(options["match"], "match") if "match" in options else None,
    )


def _parse_processes(words: Sequence[str], known: Sequence[str] | None) -> frozenset[str]:
    chosen = [name for word in words for name in word.split(",") if name]
    for name in chosen:
        if known is not None and name not in known:
            raise UsageError(f"trace: {quoted(name)} is neither a command nor a process; {_some_of(name, known)}")
    return frozenset(chosen)


def _some_of(name: str, known: Sequence[str]) -> str:
    """Return the names that are near to a wrong one, then those there are, as many as a line of an error may have."""
    near = difflib.get_close_matches(name[:_MOST_SHOWN], known, 1)
    shown: list[str] = []
    for each in known:
        if sum(map(len, shown)) + len(each) > _MOST_SHOWN:
            break
        shown.append(each)
    more = f" and {len(known) - len(shown)} more, which Tab lists" if len(shown) < len(known) else ""
    return f"{f'did you mean {near[0]}? ' if near else ''}processes: {', '.join(shown)}{more}"


def known_processes(context: Context) -> list[str]:
    """Return the names of the server and its services, then of the processes that have said something."""
    parts = context.parts
    own = (row.name for row in parts.processes.rows())
    return list(dict.fromkeys([*own, *parts.supervisor.names(), *parts.hub.names]))


def parse_request(context: Context, words: Sequence[str]) -> CaptureRequest:
    """Return what is to be captured.

    Raises:
        UsageError: names the word and what is allowed.
    """
    plain, options = take_filter_options(words, _CAPTURE_OPTIONS)
    note = options.get("note", "")
    if len(note) > _MOST_NOTE:
        raise UsageError(f"note: {len(note)} characters are more than {_MOST_NOTE}")
    if "keep" in options and "rotate" not in options:
        raise UsageError("keep: it needs rotate=, the size at which the next file begins")
    part_bytes = (
        parse_bytes(options["rotate"], "rotate", _SMALLEST_PART, _LARGEST_SIZE) if "rotate" in options else None
    )
    form = "jsonl" if context.dialogue.wants_json else "text"
    if "format" in options:
        form = parse_words(options["format"], "format", ("text", "jsonl"))
    return CaptureRequest(
        who=context.origin.who,
        filter=parse_filter(plain, options, known_processes(context)),
        duration_s=parse_duration(options["for"], "for") if "for" in options else None,
        records=parse_whole(options["records"], "records", 1, _MOST_RECORDS) if "records" in options else None,
        size_bytes=_parse_size(context, options),
        before_s=parse_duration(options["before"], "before") if "before" in options else 0.0,
        words=" ".join(
            words_without_secrets(plain + [f"{key}={value}" for key, value in options.items() if key != "note"])
        ),
        note=note,
        trigger=parse_pattern(options["on"], "on") if "on" in options else None,
        part_bytes=part_bytes,
        keep=_parse_keep(context, options, part_bytes) if part_bytes else 1,
        as_json=form == "jsonl",
    )


def _parse_keep(context: Context, options: dict[str, str], part_bytes: int) -> int:
    if "keep" in options:
        return parse_whole(options["keep"], "keep", _FEWEST_PARTS, _MOST_PARTS)
    return max(_FEWEST_PARTS, min(_USUAL_PARTS, context.parts.captures.budget_bytes // part_bytes))


def _parse_size(context: Context, options: dict[str, str]) -> int | None:
    if "size" in options:
        return parse_bytes(options["size"], "size", _SMALLEST_SIZE, _LARGEST_SIZE)
    return None if "rotate" in options else context.parts.trace_size_bytes


def parse_speed(text: str) -> float:
    """Return how many times as fast as it happened.

    Raises:
        UsageError: names the range.
    """
    if _SPEED.fullmatch(text) and _SLOWEST <= float(text) <= _FASTEST:
        return float(text)
    raise UsageError(f"speed: {quoted(text)} is not a number from {_SLOWEST} to {_FASTEST:.0f}")


def header_lines(context: Context, request: CaptureRequest) -> list[str]:
    """Return what stands at the beginning of a capture: where, when, what, who, and what differs here."""
    parts, identity = context.parts, context.parts.identity
    variables = parts.variables
    lines = [
        f"Callisto {identity.version}, edition {identity.edition}, host {identity.hostname}",
        f"started {parts.clock.now().isoformat()}, zone {parts.clock.zone_name}, clock: {parts.clock.source}",
        f"by {context.origin}",
        f"filter: {request.words or 'none'}",
    ]
    if request.note:
        lines.append(f"note: {request.note}")
    return lines + [
        f"differs from its default: {each.name} = {variables.text(each.name)}" for each in variables.differing()
    ]
