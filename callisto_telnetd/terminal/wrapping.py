"""Long lines on a screen that is read by a person: broken between words, with a hanging indent. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from callisto_telnetd.terminal.half_line import width_of

_INDENT = 2
"""Blanks before what goes on below, besides those that the line begins with."""
_FIRST_GAP = re.compile(r" *\S+(?: \S+)* {2,}(?=\S)")
"""Up to where a second column begins, as in a list of commands."""
_LEADING = re.compile(r" *")
_WIDEST_SHARE = 2
"""A hanging indent takes at most this part of a line: half of it."""


def wrap(line: str, columns: int, is_suspect: Callable[[str], bool] = lambda _: False) -> Iterator[str]:
    """Yield the lines that show a clean line on a terminal: none is wider, and no word is torn that fits into one.

    Args:
        line: Without control characters.
        columns: Of the terminal, at least 2.
        is_suspect: Says which line must not stand alone, because a script might take it for something else; a line is
            broken one word earlier for it, where it has more than one.
    """
    if len(line) * 2 <= columns or text_width(line) <= columns:
        yield line
        return
    hang = _hang(line, columns)
    indent, rest = "", line
    while text_width(rest) > columns - len(indent):
        end = _end_of_row(rest, columns - len(indent), lambda row, indent=indent: is_suspect(indent + row))  # type: ignore[misc]
        yield indent + rest[:end].rstrip(" ")
        rest = rest[end:].lstrip(" ")
        indent = " " * hang
    if rest:
        yield indent + rest


def text_width(text: str) -> int:
    """Return the columns that the text takes."""
    return len(text) if text.isascii() else sum(map(width_of, text))


def _hang(line: str, columns: int) -> int:
    """Return the blanks before each line but the first."""
    gap = _FIRST_GAP.match(line)
    if gap and (column := text_width(gap[0])) * _WIDEST_SHARE <= columns:
        return column
    leading = _LEADING.match(line)
    return min((len(leading[0]) if leading else 0) + _INDENT, columns // _WIDEST_SHARE)


def _end_of_row(text: str, room: int, is_suspect: Callable[[str], bool]) -> int:
    """Return where the row ends: before the last word that has no room, or within the first one where that has none."""
    room_end, left = 0, room
    while (left := left - width_of(text[room_end])) >= 0:
        room_end += 1
    first_word = len(text) - len(text.lstrip(" "))
    ends = [at for at in range(first_word + 1, room_end + 1) if text[at] == " " and text[at - 1] != " "]
    plain = [at for at in ends if not is_suspect(text[:at])]
    return (plain or ends or [max(room_end, 1)])[-1]
