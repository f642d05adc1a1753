"""Long lines on a screen that is read by a person: broken between words, with a hanging indent. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from callisto_telnetd.terminal.half_line import width_of

_INDENT = 2
"""Blanks before what goes on below, besides those that the line begins with."""
_FIRST_GAP = re.compile(r" *+\S++(?: \S++)*+ {2,}+(?=\S)")
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
    indent, start = "", 0
    while (room_end := _room_end(line, start, columns - len(indent))) < len(line):
        end = _row_end(line, start, room_end, indent, is_suspect)
        if _leaves_suspect(line[end:], columns, is_suspect) and " " in line[start:end].strip(" "):
            end = _row_end(line, start, end - 1, indent, is_suspect)
        yield indent + line[start:end].rstrip(" ")
        indent = indent or " " * _hang(line, columns)
        start = end
        while start < len(line) and line[start] == " ":
            start += 1
    if start < len(line) or not start:
        yield indent + line[start:]


def _leaves_suspect(rest: str, columns: int, is_suspect: Callable[[str], bool]) -> bool:
    """Whether what is left is one more row that must not stand alone."""
    return len(rest) <= columns and not rest.isspace() and is_suspect(f"  {rest.lstrip(' ')}")


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


def _room_end(line: str, start: int, room: int) -> int:
    """Return where the characters from ``start`` on have no room any more."""
    if len(line) - start <= room // 2:  # none is wider than two columns
        return len(line)
    end = start
    while end < len(line) and (room := room - width_of(line[end])) >= 0:
        end += 1
    return end


def _row_end(line: str, start: int, room_end: int, indent: str, is_suspect: Callable[[str], bool]) -> int:
    """Return where the row ends: before the last word that has no room, or within the first one where that has none."""
    first_word = start
    while line[first_word] == " " and first_word < room_end:
        first_word += 1
    ends = [at for at in range(first_word + 1, room_end + 1) if line[at] == " " and line[at - 1] != " "]
    plain = (at for at in reversed(ends) if not is_suspect(indent + line[start:at]))
    return next(plain, ends[-1] if ends else max(room_end, start + 1))
