"""Variables as text that leaves and comes back: comments after ``;`` or ``#``, then ``name = value``, a line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from callisto_telnetd.errors import UsageError, quoted

MOST_BYTES = 64 * 1024  # an export of all variables is about 500 bytes; a pasted text is held in memory whole
MOST_LINES = 2000


@dataclass(frozen=True, slots=True)
class Difference:
    """What an import would change: the variable's text now, and the one that it would have then."""

    name: str
    now: str
    then: str


def format_exchange(comment: str, values: Iterable[tuple[str, str]]) -> str:
    """Return the text of ``values``, with one line of comment before them."""
    return "".join([f"; {comment}\n", *(f"{name} = {text}".rstrip() + "\n" for name, text in values)])


def parse_exchange(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, name and value of every line that has any.

    Raises:
        UsageError: the text is too long, or a line is not ``name = value``.
    """
    if len(text) > MOST_BYTES or len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise UsageError(f"an import has at most {MOST_BYTES // 1024} KiB")
    lines = text.removeprefix("\ufeff").split("\n")  # editors on Windows put a byte order mark in front
    if len(lines) > MOST_LINES + 1:  # what follows the last line's end is no line
        raise UsageError(f"an import has at most {MOST_LINES} lines")
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith((";", "#")):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise UsageError(f"line {number}: {quoted(line)} is not NAME = VALUE")
        yield number, name.strip(), value.strip()
