"""A working copy whose sound leaves are stitched into trees anew, so that SQLite reads them at its own speed.

Interior pages hold nothing but keys and page numbers, so they can be made from the leaves. The copy gets them at its
end, and a first page whose schema leads to them. It is a means only: it is read by SQLite, and removed.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from callisto_telnetd.db.format.pages import PAGE_BYTES, TABLE_INTERIOR, TABLE_LEAF
from callisto_telnetd.db.salvage.survey import Leaf
from callisto_telnetd.db.tables import TABLES, Table

_CHILDREN = 240
"""Of an interior page: a cell takes at most 13 bytes and its pointer 2, of 4096 (section 1.6)."""
_HEADER = Struct(">BHHHBI")
_LONG = Struct(">I")
_PAGE_COUNT_AT = 28


def stitch(source: Path, target: Path, leaves: Mapping[str, Sequence[Leaf]]) -> None:
    """Write the working copy.

    Raises:
        OSError: it cannot be written.
    """
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        size = file.seek(0, 2)
        file.truncate(-(-max(size, PAGE_BYTES) // PAGE_BYTES) * PAGE_BYTES)
        roots = {table.name: _root(file, leaves.get(table.name, ())) for table in TABLES if table.rowid}
        count = file.seek(0, 2) // PAGE_BYTES
        file.seek(0)
        file.write(_first_page(roots, count))


def _root(file: BinaryIO, leaves: Sequence[Leaf]) -> int:
    """Append the interior pages of one table, level by level; return its root."""
    level = [(leaf.page, leaf.last) for leaf in leaves]
    if not level:
        return _append(file, _HEADER.pack(TABLE_LEAF, 0, 0, PAGE_BYTES, 0, 0))
    while len(level) > 1:
        groups = [level[at : at + _CHILDREN] for at in range(0, len(level), _CHILDREN)]
        level = [(_append(file, _interior(group)), group[-1][1]) for group in groups]
    return level[0][0]


def _interior(children: Sequence[tuple[int, int]]) -> bytes:
    *left, (rightmost, _) = children
    page, content, pointers = bytearray(PAGE_BYTES), PAGE_BYTES, []
    for child, key in left:
        cell = _LONG.pack(child) + _varint(key)
        content -= len(cell)
        page[content : content + len(cell)] = cell
        pointers.append(content)
    page[: _HEADER.size] = _HEADER.pack(TABLE_INTERIOR, 0, len(left), content, 0, rightmost)
    page[_HEADER.size : _HEADER.size + 2 * len(left)] = b"".join(at.to_bytes(2, "big") for at in pointers)
    return bytes(page)


def _append(file: BinaryIO, page: bytes) -> int:
    at = file.seek(0, 2)
    file.write(page.ljust(PAGE_BYTES, b"\0"))
    return at // PAGE_BYTES + 1


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


def _first_page(roots: Mapping[str, int], count: int) -> bytes:
    """Return a first page whose schema has the tables with row ids, each with its root and bare columns."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        for table in TABLES:
            if table.rowid:
                connection.execute(_bare(table))
        connection.execute("PRAGMA writable_schema=ON")
        for name, root in roots.items():
            connection.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = ?", (root, name))
        page = bytearray(connection.serialize()[:PAGE_BYTES])
    page[_PAGE_COUNT_AT : _PAGE_COUNT_AT + 4] = count.to_bytes(4, "big")
    return bytes(page)


def _bare(table: Table) -> str:
    """Return a table without types: values come out as they stand in the file."""
    columns = ", ".join(
        f'"{column.name}"' + (" INTEGER PRIMARY KEY" if (column.name,) == table.key else "") for column in table.columns
    )
    return f'CREATE TABLE "{table.name}" ({columns})'
