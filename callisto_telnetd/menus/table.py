"""Tables: rows of cells in columns; where the room is known and small, columns give way rather than be torn. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from callisto_telnetd.menus.answers import Fact, Line
from callisto_telnetd.menus.context import Context

_LEAST_TAIL = 12
"""Characters that are kept for a last column of any length: its lines are wrapped."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    width: int
    right: bool = False
    """Whether its cells stand at its right edge, as numbers do."""
    gap: int = 1
    """Blanks before it."""
    rank: int = 0
    """Columns of a lower rank give way first; those of rank 0 never do."""

    def cell(self, text: str, width: int) -> str:
        """Return the text, filled up to a width."""
        return text.rjust(width) if self.right else text.ljust(width)


def columns_of(context: Context) -> int | None:
    """Return the columns of the terminal that a person looks at; None for all others, who get every column."""
    size = context.dialogue.redrawable
    return size.columns if size else None


def table(
    context: Context, columns: Sequence[Column], rows: Sequence[tuple[Mapping[str, Any], Sequence[str]]]
) -> Iterator[Line | Fact]:
    """Yield the heading, where columns have titles and there are rows, and a fact a row: its data, and its cells."""
    lines = _lines(columns, [cells for _, cells in rows], columns_of(context))
    heading = next(lines)
    if heading and rows:
        yield Line(heading)
    for (data, _), line in zip(rows, lines, strict=True):  # made one by one: there may be thousands
        yield Fact(data, (line,))


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int | None) -> list[str]:
    """Return the heading and a line a row.

    Args:
        columns: The last one is not filled up; its cells may have any length.
        rows: A cell a column.
        room: Characters of a line on the terminal; None where not known: the columns then have their usual widths.
    """
    return list(_lines(columns, rows, room))


def _lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int | None) -> Iterator[str]:
    """Yield what :func:`table_lines` returns."""
    cells = [[column.title for column in columns], *rows]
    widths = [column.width for column in columns]
    kept = list(range(len(columns)))
    if room is not None and _needed(columns, widths, kept) > room:
        widths = [max(len(row[at]) for row in cells) for at in kept]
        while _needed(columns, widths, kept) > room and (going := [at for at in kept if columns[at].rank]):
            kept.remove(min(going, key=lambda at: columns[at].rank))
    for row in cells:
        yield "".join(_joined(columns, widths, kept, row))[columns[kept[0]].gap :].rstrip(" ")


def _needed(columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int]) -> int:
    *filled, last = kept
    tail = min(widths[last], _LEAST_TAIL)
    return sum(columns[at].gap + widths[at] for at in filled) + columns[last].gap + tail - columns[kept[0]].gap


def _joined(columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int], row: Sequence[str]) -> list[str]:
    *filled, last = kept
    parts = [" " * columns[at].gap + columns[at].cell(row[at], widths[at]) for at in filled]
    return [*parts, " " * columns[last].gap + row[last]]
