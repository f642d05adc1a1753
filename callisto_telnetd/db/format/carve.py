"""Rows taken from the leaves of a database file, whatever is left of the rest.

Rules:

* Rows are read through cell pointers alone, and none from the free list: what was deleted does not come back.
* A table's rows come in the order of their keys, and a key once: from the page that is sound and in its place, before
  one that is not. Only where more rows of one range wait than ``_MOST_WAITING_BYTES`` hold may a key come twice.
* ``damaged`` says nothing of the values, but that something about the page, its place or the row's overflow pages is
  wrong. Values are as the file has them: whoever keeps them tests them first (:meth:`Table.faults`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from callisto_telnetd.db.format.forest import HIGHEST, LOWEST, Survey, Tree, table_on
from callisto_telnetd.db.format.forest import survey as survey_of
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.format.pages import TABLE_INTERIOR, TABLE_LEAF, Shape
from callisto_telnetd.db.format.records import decode, payload_of
from callisto_telnetd.db.tables import TABLES, Table

_MOST_WAITING_BYTES = 8 << 20
_MOST_PAGE_BYTES = 32 << 20
"""What the rows of one page may come to: eight cells with an overflow chain have room on it, of 4 MiB each."""


@dataclass(slots=True)
class FoundRow:
    """A row as the file has it; ``values`` in the order of the table's columns."""

    table: Table
    values: tuple[object, ...]
    page: int
    damaged: bool


@dataclass(slots=True)
class Tally:
    """What a carving met."""

    unreadable: Counter[str] = field(default_factory=Counter)
    """By table, how many cells had no row that can be read; under an empty name, those of no known table."""
    faults: dict[int, str] = field(default_factory=dict)
    """What was wrong with pages of rows, by page."""
    twice: Counter[str] = field(default_factory=Counter)
    """By table, how many rows were found again and left out."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A page with rows of a table; ordered by the lowest key on it."""

    first: Any
    last: Any
    rank: int
    number: int
    fault: str
    low: int
    high: int


def carve(
    pages: PageFile,
    wanted: Collection[int] | None = None,
    survey: Survey | None = None,
    tally: Tally | None = None,
) -> Iterator[FoundRow]:
    """Yield the rows of pages, table by table in the order of :data:`TABLES`.

    Args:
        pages: the file.
        wanted: the pages; all of the file where it is None. Pages without rows are passed over.
        survey: the file's survey; it is made where none is given.
        tally: takes what was met.
    """
    survey = survey or survey_of(pages)
    yield from _Carving(pages, survey, tally or Tally()).rows(
        range(1, pages.count + 1) if wanted is None else sorted(set(wanted))
    )


class _Carving:
    def __init__(self, pages: PageFile, survey: Survey, tally: Tally) -> None:
        self._pages = pages
        self._survey = survey
        self._tally = tally
        self._uses = bytearray(pages.count + 1)
        self._places: dict[int, tuple[int, int]] = {}
        self._own: dict[str, Tree | None] = {table.name: survey.tree_of(table) for table in TABLES}

    def rows(self, wanted: Collection[int]) -> Iterator[FoundRow]:
        """Yield the rows of the wanted pages."""
        sources: dict[str, list[_Source]] = {table.name: [] for table in TABLES}
        asked = set(wanted)
        for tree in self._survey.trees:
            self._places.update((leaf.number, (leaf.low, leaf.high)) for leaf in tree.leaves if leaf.number in asked)
        for number in wanted:
            if 0 < number <= self._pages.count and number not in self._survey.free:
                self._look(self._pages.shape(number), sources)
        for table in TABLES:
            yield from self._merged(table, sorted(sources.pop(table.name), key=lambda each: (each.first, each.rank)))

    def _look(self, shape: Shape, sources: dict[str, list[_Source]]) -> None:
        """Note a page as a source of the table whose rows it holds."""
        if shape.type in (0, TABLE_INTERIOR):
            return
        table = table_on(self._pages, shape)
        if table is None:
            # Of the schema and of indexes nothing is missed; of a page that should have rows, all is.
            tree = self._survey.tree_of_page(shape.number)
            if (owner := tree.table if tree else None) is not None or (tree is None and shape.faults):
                self._tally.unreadable[owner.name if owner else ""] += len(shape.cells) + shape.lost
                if shape.faults:
                    self._tally.faults[shape.number] = shape.faults[0]
            return
        keys = [key for key in self._keys(shape, table) if key is not None]
        self._count_overflow(shape)
        if not keys:
            return
        low, high = self._places.get(shape.number, (LOWEST, HIGHEST))
        fault, rank = self._verdict(shape, table)
        if not fault and table.rowid and not (low <= min(keys) and max(keys) <= high):
            fault, rank = "its row ids are not those of its place", 1
        if fault:
            self._tally.faults[shape.number] = fault
        sources[table.name].append(_Source(min(keys), max(keys), rank, shape.number, fault, low, high))

    def _verdict(self, shape: Shape, table: Table) -> tuple[str, int]:
        """Return what is wrong with a page, and how far its rows stand behind others of the same keys."""
        survey, number = self._survey, shape.number
        tree = survey.tree_of_page(number)
        if tree is None or tree.spare:
            # Where the whole tree is lost, a page that hangs nowhere is as good as any.
            rank = 2 if self._own[table.name] else 1
            return (shape.faults or ["it hangs in no tree"])[0], rank + bool(shape.faults)
        if tree.table is not table:
            return f"it hangs in the tree of {tree.name or 'an index'}", 1
        if number in survey.doubly:
            return "it hangs in two places", 1
        if shape.faults:
            return shape.faults[0], 1
        return "", 0

    def _keys(self, shape: Shape, table: Table) -> Iterator[Any]:
        """Yield what the rows of a page are ordered by; None for one that cannot be read."""
        if table.rowid:
            yield from (cell[0] for cell in shape.cells)
        else:
            for _, values, _ in self._read(shape, table):
                yield _sortable(table, values) if values is not None else None

    def _count_overflow(self, shape: Shape) -> None:
        """Count the uses of overflow pages: two rows that share one are both damaged."""
        page = b""
        for cell in shape.cells:
            if cell[3]:
                page = page or self._pages.page(shape.number)
                payload = payload_of(self._pages, page, cell, table=shape.type == TABLE_LEAF)
                for number in payload.chain if payload else ():
                    self._uses[number] = min(2, self._uses[number] + 1)

    def _read(self, shape: Shape, table: Table) -> Iterator[tuple[int, tuple[object, ...] | None, bool]]:
        """Yield each cell's size, its row (None where there is none to be read), and whether that is damaged."""
        page, in_table, room = self._pages.page(shape.number), shape.type == TABLE_LEAF, _MOST_PAGE_BYTES
        width, stored, encoding = len(table.columns), table.stored, self._pages.layout.encoding
        place_of_rowid = _rowid_place(table)
        in_order = stored == tuple(range(width))
        for cell in shape.cells:
            rowid, size, at, chained = cell
            damaged = False
            if not chained:
                record = decode(page, at, at + size, encoding)
            else:
                room -= size
                payload = payload_of(self._pages, page, cell, table=in_table) if room >= 0 else None
                record = decode(payload.data, 0, size, encoding) if payload else None
                damaged = payload is not None and (bool(payload.fault) or self._is_shared(payload.chain))
            if record is None or len(record) != width:
                yield size, None, True
                continue
            if table.rowid:
                damaged = damaged or record[place_of_rowid] is not None
                record[place_of_rowid] = rowid
            elif not in_order:
                record = [record[stored.index(place)] for place in range(width)]
            yield size, tuple(record), damaged

    def _is_shared(self, chain: tuple[int, ...]) -> bool:
        survey = self._survey
        return any(self._uses[number] > 1 or survey.owner[number] or number in survey.free for number in chain)

    def _rows_of(self, source: _Source, table: Table) -> list[tuple[Any, int, int, FoundRow]]:
        """Return the rows of a page, each with its key, its rank, and its size."""
        place = _rowid_place(table)
        rows = []
        for size, row in self._rows_on(source, table):
            key: Any = row.values[place] if table.rowid else _sortable(table, row.values)
            rank = source.rank + (row.damaged or (table.rowid and not source.low <= key <= source.high))
            rows.append((key, rank, size, row))
        return rows

    def _rows_on(self, source: _Source, table: Table) -> list[tuple[int, FoundRow]]:
        """Return the rows of a page with their sizes; where one cannot be read, none of them can be trusted."""
        shape, fault, number = self._pages.shape(source.number), bool(source.fault), source.number
        rows = [
            (size, FoundRow(table, values, number, damaged or fault))
            for size, values, damaged in self._read(shape, table)
            if values is not None
        ]
        if missed := len(shape.cells) + shape.lost - len(rows):
            self._tally.unreadable[table.name] += missed
            self._tally.faults.setdefault(number, "a row on it cannot be read")
            for _, row in rows:
                row.damaged = True
        return rows

    @staticmethod
    def _stands_alone(source: _Source, table: Table, *, waiting: bool, last: Any, following: Any) -> bool:
        """Whether the rows of a page are in order and none can be on another page: nearly every page of nearly all."""
        if waiting or source.rank or not table.rowid:
            return False
        return (last is None or last < source.first) and (following is None or source.last < following)

    def _merged(self, table: Table, sources: list[_Source]) -> Iterator[FoundRow]:
        """Yield the rows of pages in the order of their keys, each key once."""
        waiting: list[tuple[Any, int, int, FoundRow]] = []
        last: Any = None
        for place, source in enumerate(sources):
            following = sources[place + 1].first if place + 1 < len(sources) else None
            if self._stands_alone(source, table, waiting=bool(waiting), last=last, following=following):
                last = source.last
                yield from (row for _, row in self._rows_on(source, table))
                continue
            waiting += self._rows_of(source, table)
            waiting.sort(key=lambda row: row[:2])
            too_many = sum(row[2] + 200 for row in waiting) > _MOST_WAITING_BYTES
            done = 0
            for key, _, _, row in waiting:
                if following is not None and key >= following and not too_many:
                    break
                done += 1
                if key == last and last is not None:
                    self._tally.twice[table.name] += 1
                    continue
                last = key
                yield row
            del waiting[:done]


def _rowid_place(table: Table) -> int:
    return next(place for place, column in enumerate(table.columns) if column.name in table.key)


def _sortable(table: Table, values: tuple[object, ...]) -> tuple[tuple[int, Any], ...]:
    """Return the key of a row so that damaged ones compare too: numbers before text before all else."""
    return tuple(
        (0, value) if isinstance(value, int) else (1, value) if isinstance(value, str) else (2, str(value))
        for value in table.key_of(values)
    )
