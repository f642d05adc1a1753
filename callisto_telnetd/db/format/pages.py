"""Single pages of a database file, read without SQLite (SQLite, "Database File Format", sections 1.2 to 1.6).

Rules:

* The file is hostile. Every number in it is checked before it is followed, every loop is bounded by the page or by the
  number of pages, and what cannot be read is counted, not raised.
* Nothing is held but what a caller holds: a page is read when it is asked for. ``pread`` and no mapping: a bad sector
  is then a page without content instead of a SIGBUS.
* What a page is read by (:class:`.layout.Layout`) is found by :mod:`.detection`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from struct import Struct

from callisto_telnetd.db.format.layout import OWN, Layout

INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 0x02, 0x05, 0x0A, 0x0D
TREE_TYPES = frozenset((INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF))
FILE_HEADER_BYTES = 100
MAX_PAYLOAD_BYTES = 4 << 20
"""No row of ours is larger; what claims to be is damaged, and is not put together."""

_SMALLEST_CELL = 4  # what a cell takes at least (section 1.6, "freeblock")
_HEADER = Struct(">BHHHB")
_TWO_SHORTS, _LONG = Struct(">HH"), Struct(">I")
_LARGEST_PAGE = 1 << 16
_EXTENT, _END = (
    20,
    (1 << 20) - 1,
)  # bits of an extent's end, which is at most 65,536: begin << 20 | end, one number that sorts
DOES_NOT_ADD_UP = "its free space does not add up"

Cell = tuple[int, int, int, int]
"""A cell that can be read: its row id (0 in an index), the size of its payload in bytes, where that begins on the page,
and the first page of its overflow chain (0 where it has none)."""


@dataclass(slots=True)
class Shape:
    """What the structural test of a page found."""

    number: int
    type: int
    """One of the four types of b-tree pages, or 0."""
    cells: list[Cell] = field(default_factory=list)
    """The cells that can be read, in the order of their pointers; those of a table's interior page have no payload."""
    children: list[int] = field(default_factory=list)
    """Of an interior page: the page left of each readable cell, then the rightmost."""
    lost: int = 0
    """Cells that are promised and cannot be read."""
    faults: list[str] = field(default_factory=list)
    """Why the page is unsound; empty where it is sound."""
    filled: int = 0
    """Where the content of the page ends by what it says of itself; 0 where that cannot be told."""

    @property
    def is_leaf(self) -> bool:
        """Whether it is a leaf of a table or an index."""
        return self.type in (TABLE_LEAF, INDEX_LEAF)


def type_of(page: bytes, number: int) -> int:
    """Return the type of a b-tree page, 0 for any other; costs nothing."""
    type = page[FILE_HEADER_BYTES if number == 1 else 0]
    return type if type in TREE_TYPES else 0


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the signed number at ``at`` and where it ends (section 1.6, "varint").

    Raises:
        IndexError: it is cut short.
    """
    value = 0
    for place in range(at, at + 8):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >> 63 else value, at + 9


@cache
def _pointers(count: int) -> Struct:
    return Struct(f">{count}H")


def examine(page: bytes, number: int, count: int, layout: Layout = OWN) -> Shape:
    """Return the structural test of a page of a file of ``count`` pages; never raises."""
    usable = layout.usable_bytes
    start = FILE_HEADER_BYTES if number == 1 else 0
    type, free, cells, content, fragments = _HEADER.unpack_from(page, start)
    if type not in TREE_TYPES:
        return Shape(number, 0, faults=["it is no page of a tree"])
    content = content or _LARGEST_PAGE  # which the two bytes have no room for
    shape = Shape(number, type)
    array = start + (8 if type >= INDEX_LEAF else 12)
    room = (usable - array) // 2
    if cells > room:
        shape.faults.append("more cells than the page has room for")
        shape.lost += cells - room
        cells = room
    lowest = array + 2 * cells
    if not lowest <= content <= usable:
        shape.faults.append("its content begins outside")
    pointers = _pointers(cells).unpack_from(page, array)
    if type == TABLE_LEAF:
        extents = _table_leaf(page, pointers, (lowest, count), layout, shape)
    else:
        extents = _other_cells(page, pointers, (lowest, count), layout, shape)
    if type < INDEX_LEAF:
        shape.children.append(_LONG.unpack_from(page, start + 8)[0])
        if not all(1 < child <= count for child in shape.children):
            shape.faults.append("a child is outside the file")
    if shape.lost:
        shape.faults.append("cells that cannot be read")
    _test_room(page, shape, extents, free, (max(lowest, content), content, fragments, usable))
    return shape


def _table_leaf(  # noqa: PLR0912 - a call a cell doubles its time
    page: bytes, pointers: tuple[int, ...], bounds: tuple[int, int], layout: Layout, shape: Shape
) -> list[int]:
    """Read the cells of a table's leaf; return where each begins and ends, as one number.

    Args:
        page: All of it.
        pointers: Where its cells begin.
        bounds: Where the first one can begin, and how many pages the file has.
        layout: The file's.
        shape: Takes what is found.
    """
    (lowest, count), usable, most_local = bounds, layout.usable_bytes, layout.most_table
    most = min(MAX_PAYLOAD_BYTES, count * layout.page_bytes)
    cells, extents, lost, last = shape.cells, [], 0, -(1 << 63) - 1
    for at in pointers:
        try:
            size, body = page[at], at + 2
            if size > 127:
                if (second := page[at + 1]) < 128:
                    size, body = (size & 127) << 7 | second, at + 3
                else:
                    size, body = varint(page, at)
                    body += 1
            rowid = page[body - 1]
            if rowid > 127:
                if (second := page[body]) < 128:
                    rowid, body = (rowid & 127) << 7 | second, body + 1
                elif (third := page[body + 1]) < 128:
                    rowid, body = (rowid & 127) << 14 | (second & 127) << 7 | third, body + 2
                else:
                    rowid, body = varint(page, body - 1)
        except IndexError:
            lost += 1
            continue
        end, chain = body + size, 0
        if size > most_local:
            end = body + layout.local_bytes(size, table=True) + 4
            if end <= usable:
                chain = _LONG.unpack_from(page, end - 4)[0]
        if at < lowest or end > usable or not 0 < size <= most or chain > count:
            lost += 1
            continue
        if rowid <= last:
            shape.faults.append("row ids out of order")
        last = rowid
        cells.append((rowid, size, body, chain))
        extents.append(at << _EXTENT | (end if end - at >= _SMALLEST_CELL else at + _SMALLEST_CELL))
    shape.lost += lost
    return extents


def _other_cells(
    page: bytes, pointers: tuple[int, ...], bounds: tuple[int, int], layout: Layout, shape: Shape
) -> list[int]:
    """Do the same for the three other types."""
    (lowest, count), usable, most_local = bounds, layout.usable_bytes, layout.most_index
    most = min(MAX_PAYLOAD_BYTES, count * layout.page_bytes)
    interior, table = shape.type < INDEX_LEAF, shape.type == TABLE_INTERIOR
    cells, extents, last = shape.cells, [], -(1 << 63) - 1
    for at in pointers:
        body = at + 4 if interior else at
        rowid = size = chain = 0
        try:
            if table:
                rowid, end = varint(page, body)
                body = end
            else:
                size, body = page[body], body + 1
                if size > 127:
                    size, body = varint(page, body - 1)
                end = body + size
                if size > most_local:
                    end = body + layout.local_bytes(size, table=False) + 4
                    chain = _LONG.unpack_from(page, end - 4)[0] if end <= usable else 0
        except IndexError:
            shape.lost += 1
            continue
        if at < lowest or end > usable or not (table or 0 < size <= most) or chain > count:
            shape.lost += 1
            continue
        if table and rowid <= last:
            shape.faults.append("row ids out of order")
        last = rowid
        cells.append((rowid, size, body, chain))
        extents.append(at << _EXTENT | (end if end - at >= _SMALLEST_CELL else at + _SMALLEST_CELL))
        if interior:
            shape.children.append(_LONG.unpack_from(page, at)[0])
    return extents


def _test_room(page: bytes, shape: Shape, extents: list[int], free: int, content: tuple[int, int, int, int]) -> None:
    """Test that cells and freeblocks (section 1.6) lie side by side and fill what they are said to fill."""
    lowest, begin, fragments, usable = content
    taken = fragments
    for _ in range(usable // _SMALLEST_CELL):
        if not free:
            break
        if not lowest <= free <= usable - _SMALLEST_CELL:
            shape.faults.append("a freeblock outside the content")
            break
        following, size = _TWO_SHORTS.unpack_from(page, free)
        extents.append(free << _EXTENT | (free + size))
        if size < _SMALLEST_CELL or (following and following < free + size):
            shape.faults.append("freeblocks that overlap")
            break
        free = following
    extents.sort()
    last = lowest
    for extent in extents:
        at, end = extent >> _EXTENT, extent & _END
        if at < last or end > usable:
            shape.faults.append("cells that overlap, or lie outside the content")
            return
        taken += end - at
        last = end
    shape.filled = begin + taken
    if shape.filled != usable and not shape.faults:
        shape.faults.append(DOES_NOT_ADD_UP)
