"""The survey of a damaged file: which of its pages are sound leaves of which table, and which are left to be carved.

Trees are not trusted here, and neither is the schema: a leaf of a table with row ids tells by itself whose it is (no
two of our tables have the same number of columns) and which row ids it holds. So a wiped first page, a lost interior
page and pages that changed places cost nothing but themselves. Trees do say what is *not* there any more: a page of the
free list, or one that hangs nowhere and whose keys are those of leaves in their places, holds rows that were deleted
(``secure_delete`` was off: another program's doing).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from callisto_telnetd.db.format.forest import HIGHEST, LOWEST, Tree, table_on
from callisto_telnetd.db.format.forest import Leaf as Place
from callisto_telnetd.db.format.forest import Survey as Forest
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.format.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    Shape,
    examine,
    type_of,
    varint,
)
from callisto_telnetd.db.tables import TABLES, Table

_LEAVES = (TABLE_LEAF, INDEX_LEAF)
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
    empty: set[int] = field(default_factory=set)
    """Sound leaves of tables without a row."""
    stale: set[int] = field(default_factory=set)
    """Pages that hang nowhere, and hold rows that were deleted."""


def survey(pages: PageFile, told: Told, forest: Forest) -> Survey:
    """Look at every page once.

    Args:
        pages: The file.
        told: Told how many pages are done.
        forest: Its trees.
    """
    found = Survey()
    roots = {tree.root for tree in forest.trees}
    for number in range(1, pages.count + 1):
        if number % _TELL_PAGES == 0:
            told(number, pages.count)
        page = pages.page(number)
        type = type_of(page, number)
        if number == 1 or type in (0, TABLE_INTERIOR) or number in forest.free:
            continue
        if type in _LEAVES and number not in roots and _is_empty(page) and forest.owner[number]:
            found.unsound[number] = "it is empty, and hangs below others"  # SQLite takes such a page off
        elif type != TABLE_LEAF:
            if _may_hold_rows(page, type):
                found.carved.append(number)
        else:
            _take_leaf(pages, page, number, forest, found)
    _leave_out_deleted(pages, forest, found)
    places = {leaf.number: leaf for tree in forest.trees for leaf in tree.leaves}
    for name, leaves in found.leaves.items():
        found.leaves[name] = _apart(leaves, places, found)
    told(pages.count, pages.count)
    return found


def _is_empty(page: bytes) -> bool:
    return page[3:5] == b"\0\0"


def _take_leaf(pages: PageFile, page: bytes, number: int, forest: Forest, found: Survey) -> None:
    """Note what a leaf of a table with row ids holds."""
    shape = examine(page, number, pages.count, pages.layout)
    if shape.faults or not pages.is_whole(number):
        found.unsound[number] = shape.faults[0] if shape.faults else "it is cut short"
        found.carved.append(number)
    elif not shape.cells:
        found.empty.add(number)
    elif (table := _table_of(page, shape)) is None:
        found.carved.append(number)
        if (tree := forest.tree_of_page(number)) is not None and tree.table is not None:
            found.unsound[number] = "a row on it cannot be read"
    else:
        found.leaves[table.name].append(Leaf(shape.cells[0][0], shape.cells[-1][0], number, len(shape.cells)))


def _leave_out_deleted(pages: PageFile, forest: Forest, found: Survey) -> None:
    """Leave out the pages that hang nowhere where the tree of their table has all that they could have."""
    covered: dict[str, list[tuple[int, int]]] = {}
    for name, leaves in found.leaves.items():
        tree = next((tree for tree in forest.trees if tree.name == name and tree.table and not tree.spare), None)
        covered[name] = _covered(tree, leaves, found.empty) if tree and _is_trusted(tree, forest) else []
        loose = {leaf.page for leaf in leaves if _hangs_nowhere(forest, leaf.page)}
        found.stale |= {
            leaf.page for leaf in leaves if leaf.page in loose and _is_covered(covered[name], leaf.first, leaf.last)
        }
        found.leaves[name] = [leaf for leaf in leaves if leaf.page not in found.stale]
    for number in found.carved:
        if _hangs_nowhere(forest, number) and _is_deleted(pages, pages.shape(number), covered):
            found.stale.add(number)
    found.carved = [number for number in found.carved if number not in found.stale]
    for number in found.stale:
        found.unsound.pop(number, None)


def _hangs_nowhere(forest: Forest, number: int) -> bool:
    tree = forest.tree_of_page(number)
    return tree is None or tree.spare


def _is_trusted(tree: Tree, forest: Forest) -> bool:
    """Whether all that should hang in a tree hangs there, and nothing is wrong above its leaves."""
    return not tree.missing and all(
        forest.tree_of_page(number) is not tree for number in {*forest.faults, *forest.doubly}
    )


def _covered(tree: Tree, leaves: Sequence[Leaf], empty: set[int]) -> list[tuple[int, int]]:
    """Return the ranges of row ids, in order, for which a tree has a sound leaf in its place.

    Where nothing above a leaf bounds its range, its own rows do: the root may be another one than it was.
    """
    there = {leaf.page: leaf for leaf in leaves}
    ranges: list[tuple[int, int]] = []
    for place in tree.leaves:
        leaf = there.get(place.number)
        low, high = place.low, place.high
        if leaf is not None and low <= leaf.first and leaf.last <= high:
            low = leaf.first if low == LOWEST else low
            high = leaf.last if high == HIGHEST else high
        elif place.number not in empty or low == LOWEST or high == HIGHEST:
            continue
        if ranges and low <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], high))
        else:
            ranges.append((low, high))
    return ranges


def _is_covered(ranges: Sequence[tuple[int, int]], first: int, last: int) -> bool:
    place = bisect_right(ranges, first, key=lambda each: each[0]) - 1
    return place >= 0 and last <= ranges[place][1]


def _is_deleted(pages: PageFile, shape: Shape, covered: Mapping[str, Sequence[tuple[int, int]]]) -> bool:
    """Whether a page has only rows that the tree of its table would have in its place."""
    table = table_on(pages, shape)
    keys = [cell[0] for cell in shape.cells]
    return table is not None and table.rowid and all(_is_covered(covered[table.name], key, key) for key in keys)


def _apart(leaves: list[Leaf], places: Mapping[int, Place], found: Survey) -> list[Leaf]:
    """Return the leaves in order; of two that overlap, the one that is not in its place is left to be carved."""
    leaves.sort()
    kept: list[Leaf] = []
    for leaf in leaves:
        while kept and leaf.first <= kept[-1].last and _is_in_place(leaf, places) > _is_in_place(kept[-1], places):
            _leave_to_carving(kept.pop(), leaf, found)
        if kept and leaf.first <= kept[-1].last:
            _leave_to_carving(leaf, kept[-1], found)
        else:
            kept.append(leaf)
    return kept


def _is_in_place(leaf: Leaf, places: Mapping[int, Place]) -> bool:
    place = places.get(leaf.page)
    return place is not None and place.low <= leaf.first and leaf.last <= place.high


def _leave_to_carving(leaf: Leaf, other: Leaf, found: Survey) -> None:
    found.carved.append(leaf.page)
    found.unsound[leaf.page] = f"its row ids are those of page {other.page} too"


def _table_of(page: bytes, shape: Shape) -> Table | None:
    """Return whose leaf it is; None where its first, middle and last row do not agree, or it is nobody's."""
    cells = shape.cells
    widths = {_width(page, cells[place][2]) for place in (0, len(cells) // 2, -1)}
    return _BY_WIDTH.get(widths.pop()) if len(widths) == 1 else None


def _width(page: bytes, at: int) -> int:
    """Return how many columns a record of a table with row ids has; 0 where it is none."""
    types = _serial_types(page, at)
    # The key of a table with row ids stands as NULL in its record (SQLite, "Database File Format", section 2.3).
    return len(types) if types and types[0] == 0 else 0


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
