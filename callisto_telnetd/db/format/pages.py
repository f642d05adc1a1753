"""Single pages of a database file, read without SQLite (SQLite, "Database File Format", sections 1.2 to 1.6).

Rules:

* The file is hostile. Every number in it is checked before it is followed, every loop is bounded by the page or by the
  number of pages, and what cannot be read is counted, not raised.
* Nothing is held but what a caller holds: a page is read when it is asked for. ``pread`` and no mapping: a bad sector
  is then a page without content instead of a SIGBUS.
* The page size is ours, 4096 bytes without reserved ones: a header that is wiped takes nothing with it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Self

from callisto_telnetd.errors import StoreError, named

PAGE_BYTES = 4096
INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 0x02, 0x05, 0x0A, 0x0D
TREE_TYPES = frozenset((INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF))
FILE_HEADER_BYTES = 100
MAX_PAYLOAD_BYTES = 4 << 20
"""No row of ours is larger; what claims to be is damaged, and is not put together."""

# Section 1.6: of a payload that is too long, what stays on the page.
_MOST_TABLE, _MOST_INDEX = PAGE_BYTES - 35, (PAGE_BYTES - 12) * 64 // 255 - 23
_LEAST = (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW_BYTES = PAGE_BYTES - 4
_SMALLEST_CELL = 4  # what a cell takes at least (section 1.6, "freeblock")
_HEADER = Struct(">BHHHB")
_TWO_SHORTS, _LONG = Struct(">HH"), Struct(">I")
_POINTERS = tuple(Struct(f">{count}H") for count in range(PAGE_BYTES // 2 + 1))
_NO_PAGE = bytes(PAGE_BYTES)

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

    @property
    def is_leaf(self) -> bool:
        """Whether it is a leaf of a table or an index."""
        return self.type in (TABLE_LEAF, INDEX_LEAF)


class PageFile:
    """A database file that nobody writes to, page by page."""

    def __init__(self, file: Path) -> None:
        """Open the file.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise StoreError(f"database {named(file)} cannot be read: {error.strerror}") from None
        self.count = -(-self.size // PAGE_BYTES)
        """Pages, the last one perhaps cut short."""
        self.unreadable: set[int] = set()
        """Pages that the disk did not give."""

    def page(self, number: int) -> bytes:
        """Return a page, from 1 on; what is not in the file, or cannot be read from the disk, is zeros."""
        try:
            page = os.pread(self._descriptor, PAGE_BYTES, (number - 1) * PAGE_BYTES) if number > 0 else b""
        except OSError:
            self.unreadable.add(number)
            return _NO_PAGE
        return page if len(page) == PAGE_BYTES else page.ljust(PAGE_BYTES, b"\0")

    def is_whole(self, number: int) -> bool:
        """Whether the file holds the whole of the page."""
        return 0 < number <= self.size // PAGE_BYTES and number not in self.unreadable

    def shape(self, number: int) -> Shape:
        """Return the structural test of a page."""
        page = self.page(number)
        shape = examine(page, number, self.count)
        if not self.is_whole(number):
            shape.faults.insert(0, "the page is cut short, or the disk does not give it")
        return shape

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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


def local_bytes(size: int, *, table: bool) -> int:
    """Return how many bytes of a payload of ``size`` stay on the page."""
    most = _MOST_TABLE if table else _MOST_INDEX
    if size <= most:
        return size
    kept = _LEAST + (size - _LEAST) % _OVERFLOW_BYTES
    return kept if kept <= most else _LEAST


def examine(page: bytes, number: int, count: int) -> Shape:
    """Return the structural test of a page of a file of ``count`` pages; never raises."""
    start = FILE_HEADER_BYTES if number == 1 else 0
    type, free, cells, content, fragments = _HEADER.unpack_from(page, start)
    if type not in TREE_TYPES:
        return Shape(number, 0, faults=["it is no page of a tree"])
    shape = Shape(number, type)
    array = start + (8 if type >= INDEX_LEAF else 12)
    room = (PAGE_BYTES - array) // 2
    if cells > room:
        shape.faults.append("more cells than the page has room for")
        shape.lost += cells - room
        cells = room
    lowest = array + 2 * cells
    if not lowest <= content <= PAGE_BYTES:
        shape.faults.append("its content begins outside")
    pointers = _POINTERS[cells].unpack_from(page, array)
    if type == TABLE_LEAF:
        extents = _table_leaf(page, pointers, lowest, count, shape)
    else:
        extents = _other_cells(page, pointers, lowest, count, shape)
    if type < INDEX_LEAF:
        shape.children.append(_LONG.unpack_from(page, start + 8)[0])
        if not all(1 < child <= count for child in shape.children):
            shape.faults.append("a child is outside the file")
    if shape.lost:
        shape.faults.append("cells that cannot be read")
    _test_room(page, shape, extents, free, (max(lowest, content), content, fragments))
    return shape


def _table_leaf(page: bytes, pointers: tuple[int, ...], lowest: int, count: int, shape: Shape) -> list[int]:
    """Read the cells of a table's leaf; return where each begins and ends, as one number: begin << 16 | end."""
    most = min(MAX_PAYLOAD_BYTES, count * PAGE_BYTES)
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
                else:
                    rowid, body = varint(page, body - 1)
        except IndexError:
            lost += 1
            continue
        end, chain = body + size, 0
        if size > _MOST_TABLE:
            end = body + local_bytes(size, table=True) + 4
            if end <= PAGE_BYTES:
                chain = _LONG.unpack_from(page, end - 4)[0]
        if at < lowest or end > PAGE_BYTES or not 0 < size <= most or chain > count:
            lost += 1
            continue
        if rowid <= last:
            shape.faults.append("row ids out of order")
        last = rowid
        cells.append((rowid, size, body, chain))
        extents.append(at << 16 | (end if end - at >= _SMALLEST_CELL else at + _SMALLEST_CELL))
    shape.lost += lost
    return extents


def _other_cells(page: bytes, pointers: tuple[int, ...], lowest: int, count: int, shape: Shape) -> list[int]:
    """Do the same for the three other types."""
    most = min(MAX_PAYLOAD_BYTES, count * PAGE_BYTES)
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
                if size > _MOST_INDEX:
                    end = body + local_bytes(size, table=False) + 4
                    chain = _LONG.unpack_from(page, end - 4)[0] if end <= PAGE_BYTES else 0
        except IndexError:
            shape.lost += 1
            continue
        if at < lowest or end > PAGE_BYTES or not (table or 0 < size <= most) or chain > count:
            shape.lost += 1
            continue
        if table and rowid <= last:
            shape.faults.append("row ids out of order")
        last = rowid
        cells.append((rowid, size, body, chain))
        extents.append(at << 16 | (end if end - at >= _SMALLEST_CELL else at + _SMALLEST_CELL))
        if interior:
            shape.children.append(_LONG.unpack_from(page, at)[0])
    return extents


def _test_room(page: bytes, shape: Shape, extents: list[int], free: int, content: tuple[int, int, int]) -> None:
    """Test that cells and freeblocks (section 1.6) lie side by side and fill what they are said to fill."""
    lowest, begin, fragments = content
    taken = fragments
    for _ in range(PAGE_BYTES // _SMALLEST_CELL):
        if not free:
            break
        if not lowest <= free <= PAGE_BYTES - _SMALLEST_CELL:
            shape.faults.append("a freeblock outside the content")
            break
        following, size = _TWO_SHORTS.unpack_from(page, free)
        extents.append(free << 16 | (free + size))
        if size < _SMALLEST_CELL or (following and following < free + size):
            shape.faults.append("freeblocks that overlap")
            break
        free = following
    extents.sort()
    last = lowest
    for extent in extents:
        at, end = extent >> 16, extent & 0xFFFF
        if at < last or end > PAGE_BYTES:
            shape.faults.append("cells that overlap, or lie outside the content")
            return
        taken += end - at
        last = end
    if taken != PAGE_BYTES - begin and not shape.faults:
        shape.faults.append("its free space does not add up")
