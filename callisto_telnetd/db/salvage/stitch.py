"""A working copy whose sound leaves are stitched into trees anew, so that SQLite reads them at its own speed.

Interior pages hold nothing but keys and page numbers, so they can be made from the leaves, and so can a schema that
leads to them. The copy gets them at its end, and a first page above the schema, of the file's own layout. It is a means
only: it is read by SQLite, and removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from callisto_telnetd.db.copying import copy_file
from callisto_telnetd.db.format.layout import ENCODINGS, Layout
from callisto_telnetd.db.format.pages import FILE_HEADER_BYTES, TABLE_INTERIOR, TABLE_LEAF
from callisto_telnetd.db.salvage.survey import Leaf
from callisto_telnetd.db.tables import TABLES, Table

_CHILD_BYTES = 15  # of an interior page: a cell takes at most 13 bytes and its pointer 2 (section 1.6)
_PAGE_HEADER = Struct(">BHHHB")
_LONG = Struct(">I")
# Section 1.3: the header of the file, up to the unused bytes; the counter and the two versions behind those are 0.
_FILE_HEADER = Struct(">16sHBBBBBBIIIIIIIIIII")
_MAGIC = b"SQLite format 3\0"
_SCHEMA_FORMAT = 4
_TEXT, _NUMBER = 13, 4  # serial types (section 2.1): text is 13 and twice its size; a number of 32 bits


def stitch(source: Path, target: Path, leaves: Mapping[str, Sequence[Leaf]], layout: Layout) -> None:
    """Write the working copy.

    Raises:
        OSError: it cannot be written.
    """
    copy_file(source, target)
    with target.open("r+b") as file:
        size = file.seek(0, 2)
        file.truncate(-(-max(size, layout.page_bytes) // layout.page_bytes) * layout.page_bytes)
        stitching = _Stitching(file, layout)
        tables = [table for table in TABLES if table.rowid]
        roots = [stitching.root([(leaf.page, leaf.last) for leaf in leaves.get(table.name, ())]) for table in tables]
        stitching.write_first_page(
            [_schema_row(table, root, layout) for table, root in zip(tables, roots, strict=True)]
        )


class _Stitching:
    """Pages that are put behind those of a file."""

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self._file = file
        self._layout = layout
        self._most_children = (layout.usable_bytes - FILE_HEADER_BYTES) // _CHILD_BYTES

    def root(self, level: list[tuple[int, int]]) -> int:
        """Append the interior pages above a table's leaves, given with their last row ids; return its root."""
        if not level:
            return self._append(self._page(TABLE_LEAF, [], 0))
        while len(level) > 1:
            groups = [level[at : at + self._most_children] for at in range(0, len(level), self._most_children)]
            level = [(self._append(self._interior(group)), group[-1][1]) for group in groups]
        return level[0][0]

    def write_first_page(self, rows: Sequence[bytes]) -> None:
        """Append the rows of the schema, a leaf each, and write the first page above them."""
        leaves = [
            (self._append(self._page(TABLE_LEAF, [_varint(len(row)) + _varint(number) + row], 0)), number)
            for number, row in enumerate(rows, 1)
        ]
        page = self._interior(leaves, FILE_HEADER_BYTES)
        layout = self._layout
        header = _FILE_HEADER.pack(
            *(_MAGIC, layout.page_bytes & 0xFFFF or 1, 1, 1, layout.reserved_bytes, 64, 32, 32),
            *(0, self._count(), 0, 0, 1, _SCHEMA_FORMAT, 0, 0, ENCODINGS.index(layout.encoding) + 1, 0, 0),
        )
        self._file.seek(0)
        self._file.write(header.ljust(FILE_HEADER_BYTES, b"\0") + page[FILE_HEADER_BYTES:])

    def _interior(self, children: Sequence[tuple[int, int]], start: int = 0) -> bytes:
        *left, (rightmost, _) = children
        return self._page(TABLE_INTERIOR, [_LONG.pack(child) + _varint(key) for child, key in left], rightmost, start)

    def _page(self, type: int, cells: Sequence[bytes], rightmost: int, start: int = 0) -> bytes:
        page, content, pointers = bytearray(self._layout.page_bytes), self._layout.usable_bytes, []
        for cell in cells:
            content -= len(cell)
            page[content : content + len(cell)] = cell
            pointers.append(content)
        head = _PAGE_HEADER.pack(type, 0, len(cells), content & 0xFFFF, 0)
        head += _LONG.pack(rightmost) if type == TABLE_INTERIOR else b""
        head += b"".join(at.to_bytes(2, "big") for at in pointers)
        page[start : start + len(head)] = head
        return bytes(page)

    def _count(self) -> int:
        return self._file.seek(0, 2) // self._layout.page_bytes

    def _append(self, page: bytes) -> int:
        number = self._count() + 1
        if number == self._layout.lock_page:
            self._file.write(bytes(len(page)))
            number += 1
        self._file.write(page)
        return number


def _varint(value: int) -> bytes:
    """Return a signed number as section 1.6 writes it."""
    value &= (1 << 64) - 1
    if value >> 56:
        head = [(value >> 8 >> shift & 0x7F) | 0x80 for shift in range(49, -1, -7)]
        return bytes([*head, value & 0xFF])
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def _schema_row(table: Table, root: int, layout: Layout) -> bytes:
    """Return the record of a table in the schema; of the smallest page it takes four fifths."""
    kind, name, sql = (text.encode(layout.encoding) for text in ("table", table.name, _bare(table)))
    types = b"".join(_varint(_TEXT + 2 * len(text)) for text in (kind, name, name))
    types += _varint(_NUMBER) + _varint(_TEXT + 2 * len(sql))
    return bytes([len(types) + 1]) + types + kind + name + name + _LONG.pack(root) + sql


def _bare(table: Table) -> str:
    """Return a table without types: values come out as they stand in the file."""
    columns = ",".join(
        f'"{column.name}"' + (" INTEGER PRIMARY KEY" if (column.name,) == table.key else "") for column in table.columns
    )
    return f'CREATE TABLE "{table.name}"({columns})'
