"""The survey of a damaged file: which of its pages are sound leaves of which table, and which are left to be carved.

Trees are not trusted here, and neither is the schema: a leaf of a table with row ids tells by itself whose it is (no
two of our tables have the same number of columns) and which row ids it holds. So a wiped first page, a lost interior
page and pages that changed places cost nothing but themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from callisto_telnetd.db.format.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    PageFile,
    Shape,
    examine,
    type_of,
    varint,
)
from callisto_telnetd.db.tables import TABLES, Table

_MOST_COLUMNS = 16
_LAST_NUMBER = 9  # of the serial types (section 2.1)
_TELL_PAGES = 2048
_BY_WIDTH = {len(table.columns): table for table in TABLES if table.rowid}

Told = Callable[[int, int], None]
"""Told how many pages are done, and of how many."""


class Leaf(NamedTuple):
    """A sound leaf of a table with row ids."""

    first: int
    last: int
    page: int
    rows: int


@dataclass(slots=True)
class Survey:
    """What a file holds, page by page."""

    leaves: dict[str, list[Leaf]] = field(default_factory=lambda: {table.name: [] for table in TABLES if table.rowid})
    """By table, in the order of row ids, without two that overlap."""
    carved: list[int] = field(default_factory=list)
    """Pages whose rows have to be taken one by one."""
    unsound: dict[int, str] = field(default_factory=dict)
    """Pages of trees that failed the structural test, with the first fault."""
    promised: dict[str, int] = field(default_factory=dict)
    """Cells that unsound leaves promise and that cannot be read, by table where that can be told."""


def survey(pages: PageFile, told: Told) -> Survey:
    """Look at every page once."""
    found = Survey()
    for number in range(1, pages.count + 1):
        if number % _TELL_PAGES == 0:
            told(number, pages.count)
        page = pages.page(number)
        type = type_of(page, number)
        if number == 1 or type in (0, TABLE_INTERIOR):
            continue
        if type != TABLE_LEAF:
            if _may_hold_rows(page, type):
                found.carved.append(number)
            continue
        shape = examine(page, number, pages.count)
        if shape.faults or not pages.is_whole(number):
            found.unsound[number] = shape.faults[0] if shape.faults else "it is cut short"
            found.carved.append(number)
        elif shape.cells:
            table = _table_of(page, shape)
            if table is None:
                found.carved.append(number)
            else:
                leaf = Leaf(shape.cells[0][0], shape.cells[-1][0], number, len(shape.cells))
                found.leaves[table.name].append(leaf)
    for name, leaves in found.leaves.items():
        found.leaves[name] = _apart(leaves, found)
    told(pages.count, pages.count)
    return found


def _apart(leaves: list[Leaf], found: Survey) -> list[Leaf]:
    """Return the leaves in order; those that overlap with the one before are left to be carved."""
    leaves.sort()
    kept: list[Leaf] = []
    for leaf in leaves:
        if kept and leaf.first <= kept[-1].last:
            found.carved.append(leaf.page)
            found.unsound[leaf.page] = f"its row ids are those of page {kept[-1].page} too"
        else:
            kept.append(leaf)
    return kept


def _table_of(page: bytes, shape: Shape) -> Table | None:
    """Return whose leaf it is; None where its first, middle and last row do not agree, or it is nobody's."""
    cells = shape.cells
    tables = {_table_of_record(page, cells[place][2]) for place in (0, len(cells) // 2, -1)}
    return tables.pop() if len(tables) == 1 else None


def _table_of_record(page: bytes, at: int) -> Table | None:
    types = _serial_types(page, at)
    # The key of a table with row ids stands as NULL in its record (SQLite, "Database File Format", section 2.3).
    return _BY_WIDTH.get(len(types)) if types and types[0] == 0 else None


def _serial_types(page: bytes, at: int) -> list[int]:
    """Return the serial types of a record, none where it is no record."""
    types: list[int] = []
    try:
        size, head = varint(page, at)
        while head < at + size and len(types) <= _MOST_COLUMNS:
            type, head = varint(page, head)
            types.append(type)
    except IndexError:
        return []
    return types if head == at + size else []


def _may_hold_rows(page: bytes, type: int) -> bool:
    """Whether a page of an index tree may be a table's that has no row ids; those of our indexes end in a row id."""
    if type not in (INDEX_LEAF, INDEX_INTERIOR):
        return False
    cells = int.from_bytes(page[3:5], "big")
    array = 8 if type == INDEX_LEAF else 12
    for place in range(min(cells, 3)):
        at = int.from_bytes(page[array + 2 * place : array + 2 * place + 2], "big") + (0 if type == INDEX_LEAF else 4)
        try:
            _, at = varint(page, at)
        except IndexError:
            return True
        types = _serial_types(page, at)
        # An index that names the row id among its columns has it twice: (mailbox, id, row id).
        if len(types) not in (2, 3) or any(type > _LAST_NUMBER for type in types[1:]):
            return True
    return False
