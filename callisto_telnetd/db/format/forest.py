"""The trees of a database file: which page hangs where, from the schema, or from the pages alone where it is lost.

Rules: as :mod:`.pages` has them. No page is visited twice by a walk, whatever the pages say of one another; what hangs
in two places is noted, not followed again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct

from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.format.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    Shape,
    type_of,
)
from callisto_telnetd.db.format.recognition import Record, recognise
from callisto_telnetd.db.format.records import decode, payload_of
from callisto_telnetd.db.tables import TABLES, Table, table_named

_MAX_DEPTH = 20  # SQLite's own bound (BTCURSOR_MAX_DEPTH)
_FAMILY = {TABLE_LEAF: TABLE_LEAF, TABLE_INTERIOR: TABLE_LEAF, INDEX_LEAF: INDEX_LEAF, INDEX_INTERIOR: INDEX_LEAF}
_MAGIC = b"SQLite format 3\0"
_FIRST_FREE_AT = 32  # section 1.3: the first trunk of the free list, and how many pages that has
_TWO_LONGS = Struct(">II")
_SCHEMA_COLUMNS = 5
_MOST_TREES = 64  # of the schema; ours has 15
_ROWS_THAT_TELL = 8
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf of a table's tree; by what stands above it, its row ids are from ``low`` to ``high``."""

    number: int
    low: int
    high: int


@dataclass(slots=True)
class Tree:
    """One b-tree of the file."""

    root: int
    name: str
    """The table or index that the schema names; empty for a tree that was found without it and fits no table."""
    table: Table | None
    """None for an index, and for the schema itself."""
    found: bool = False
    """Whether the tree was found by its pages, because the schema did not name its root."""
    spare: bool = False
    """Whether its table has another, larger tree: what hangs here has come off that one."""
    leaves: list[Leaf] = field(default_factory=list)
    """In the order of their keys; of a WITHOUT ROWID table the interior pages too, which have rows, and no ranges."""
    pages: int = 0
    missing: list[Leaf] = field(default_factory=list)
    """What should hang here and does not, with the row ids that it would have."""


@dataclass(slots=True)
class Survey:
    """What hangs where; page numbers begin with 1."""

    owner: array[int]
    """For each page the place of its tree in ``trees``, plus one; 0 where it hangs in none. Overflow pages have 0."""
    trees: list[Tree] = field(default_factory=list)
    schema_fault: str = ""
    """Why the schema cannot be read, or not whole; empty where it can."""
    faults: dict[int, str] = field(default_factory=dict)
    """Pages that are not sound above the leaves, hang in two places, or are of the wrong type for their place."""
    doubly: set[int] = field(default_factory=set)
    free: set[int] = field(default_factory=set)
    """Pages of the free list, unless they hang in a tree."""
    free_fault: str = ""

    def tree_of_page(self, number: int) -> Tree | None:
        """Return the tree that a page hangs in."""
        owner = self.owner[number] if 0 < number < len(self.owner) else 0
        return self.trees[owner - 1] if owner else None

    def tree_of(self, table: Table) -> Tree | None:
        """Return the table's own tree, None where it has been lost whole."""
        return next((tree for tree in self.trees if tree.table is table and not tree.spare), None)


def survey(pages: PageFile) -> Survey:
    """Walk all trees and the free list of a file; reads each page once (2 µs a page), and interior pages again."""
    result = Survey(array("I", bytes(4 * (pages.count + 1))))
    types = bytearray(pages.count + 1)
    for number in range(1, pages.count + 1):
        types[number] = type_of(pages.page(number), number)
    walker = _Walker(pages, types, result)
    walker.walk(Tree(1, "sqlite_schema", None))
    roots = _roots(pages, result)
    for name, root in roots.items():
        walker.walk(Tree(root, name, table_named(name)))
    missing = [table.name for table in TABLES if table.name not in roots]
    if missing and not result.schema_fault:
        result.schema_fault = f"the schema has no table {missing[0]}"
    _walk_free_list(pages, result)
    if result.free_fault or not pages.page(1).startswith(_MAGIC):
        _find_free_pages(pages, types, result)
    walker.find_trees()
    return result


class _Walker:
    def __init__(self, pages: PageFile, types: bytearray, result: Survey) -> None:
        self._pages = pages
        self._types = types
        self._result = result

    def walk(self, tree: Tree) -> None:
        """Walk a tree from its root, and note it where the root is a page of one."""
        result, types = self._result, self._types
        if not 0 < tree.root <= self._pages.count or not types[tree.root]:
            result.faults[tree.root] = f"is not the root of {tree.name}"
            return
        rowid = tree.table.rowid if tree.table else None
        family = _FAMILY[types[tree.root]]
        if rowid is not None and (family == TABLE_LEAF) != rowid:
            result.faults[tree.root] = f"is of the wrong type for the root of {tree.name}"
            return
        result.trees.append(tree)
        owner = len(result.trees)
        stack = [(tree.root, LOWEST, HIGHEST, 0)]
        while stack:
            number, low, high, depth = stack.pop()
            if fault := self._misfit(number, family, depth):
                result.faults.setdefault(number, fault)
                tree.missing.append(Leaf(number, low, high))
                continue
            result.owner[number] = owner
            tree.pages += 1
            leaf = types[number] in (TABLE_LEAF, INDEX_LEAF)
            if leaf or family == INDEX_LEAF:
                tree.leaves.append(Leaf(number, low, high))
            if not leaf:
                stack.extend(reversed(self._below(number, low, high, depth + 1)))

    def _misfit(self, number: int, family: int, depth: int) -> str:
        if not 0 < number <= self._pages.count:
            return "is outside the file"
        if self._result.owner[number]:
            self._result.doubly.add(number)
            return "hangs in two places"
        if _FAMILY.get(self._types[number]) != family:
            return "is of the wrong type for its place"
        return "hangs too deep" if depth > _MAX_DEPTH else ""

    def _below(self, number: int, low: int, high: int, depth: int) -> list[tuple[int, int, int, int]]:
        """Return the children of an interior page with their ranges."""
        shape = self._pages.shape(number)
        if shape.faults:
            self._result.faults.setdefault(number, shape.faults[0])
        if shape.type == INDEX_INTERIOR:
            return [(child, LOWEST, HIGHEST, depth) for child in shape.children]
        keys = [cell[0] for cell in shape.cells]
        below = []
        for child, key in zip(shape.children, [*keys, high], strict=False):
            below.append((child, low, min(key, high), depth))
            low = max(low, min(key + 1, HIGHEST))
        return below

    def find_trees(self) -> None:
        """Walk the trees that no root leads to; the largest of a table without a tree becomes its own."""
        owner, types = self._result.owner, self._types
        below = bytearray(self._pages.count + 1)
        for number in range(1, self._pages.count + 1):
            if not owner[number] and types[number] in (TABLE_INTERIOR, INDEX_INTERIOR):
                for child in self._pages.shape(number).children:
                    if 0 < child <= self._pages.count and child != number:
                        below[child] = 1
        known = {tree.table.name for tree in self._result.trees if tree.table}
        loose: list[Tree] = []
        for number in range(1, self._pages.count + 1):
            if types[number] and not (owner[number] or below[number] or number in self._result.free):
                table = self._table_under(number)
                tree = Tree(number, table.name if table else "", table, found=True)
                # A page of a tree that is there, come off it, stays loose: it is carved by itself.
                if table is None or table.name not in known:
                    self.walk(tree)
                    loose.append(tree)
        largest: dict[str, Tree] = {}
        for tree in sorted((tree for tree in loose if tree.table), key=lambda tree: -tree.pages):
            tree.spare = largest.setdefault(tree.name, tree) is not tree

    def _table_under(self, number: int) -> Table | None:
        """Return the table that the first leaf with rows under a page belongs to."""
        for _ in range(_MAX_DEPTH):
            shape = self._pages.shape(number)
            if shape.type != TABLE_INTERIOR:
                return table_on(self._pages, shape)
            number = next((child for child in shape.children if 0 < child <= self._pages.count), 0)
            if not number:
                break
        return None


def records_on(pages: PageFile, shape: Shape, every: int = 1) -> Iterator[Record]:
    """Yield the records of a page, or one of ``every`` so many; those that cannot be read are left out."""
    table, encoding = shape.type == TABLE_LEAF, pages.layout.encoding
    page = pages.page(shape.number)
    for cell in shape.cells[::every]:
        if not cell[3]:
            record = decode(page, cell[2], cell[2] + cell[1], encoding)
        else:
            payload = payload_of(pages, page, cell, table=table)
            record = decode(payload.data, 0, len(payload.data), encoding) if payload else None
        if record is not None:
            yield record


def table_on(pages: PageFile, shape: Shape) -> Table | None:
    """Return the table whose rows a page holds, None for the entries of an index, the schema, or none at all.

    Some ten rows tell it, from all over the page.
    """
    if shape.type in (0, TABLE_INTERIOR):
        return None
    every = max(1, len(shape.cells) // _ROWS_THAT_TELL)
    return recognise(list(records_on(pages, shape, every)), rowid=shape.type == TABLE_LEAF)


def _roots(pages: PageFile, result: Survey) -> dict[str, int]:
    """Return the roots that the schema names, by table or index."""
    roots: dict[str, int] = {}
    if not result.trees:
        result.schema_fault = "page 1 is no page of the schema"
        return roots
    schema = result.trees[0]
    if not pages.page(1).startswith(_MAGIC):
        result.schema_fault = "page 1 is damaged"
    if not schema.leaves:
        result.schema_fault = "no page of the schema can be read"
    for leaf in schema.leaves:
        shape = pages.shape(leaf.number)
        if shape.faults:
            result.schema_fault = result.schema_fault or f"page {leaf.number} of the schema: {shape.faults[0]}"
        if shape.type != TABLE_LEAF:
            continue
        for record in records_on(pages, shape):
            if len(record) != _SCHEMA_COLUMNS or len(roots) >= _MOST_TREES:
                continue
            what, name, _, root, _ = record
            if what in ("table", "index") and isinstance(name, str) and isinstance(root, int) and root > 1:
                roots.setdefault(name, root)
    return roots


def _find_free_pages(pages: PageFile, types: bytearray, result: Survey) -> None:
    """Collect what the trunks of a free list name that page 1 does not lead to, or not to the end.

    A trunk is told by its form: a number of entries that it has room for, each another page of the file. The pages of
    overflow chains have text there.
    """
    for trunk in range(2, pages.count + 1):
        if types[trunk] or result.owner[trunk] or trunk in result.free:
            continue
        page = pages.page(trunk)
        following, count = _TWO_LONGS.unpack_from(page)
        if following > pages.count or not (following or count) or count > pages.layout.most_free:
            continue
        named = {int.from_bytes(page[8 + 4 * place : 12 + 4 * place], "big") for place in range(count)}
        if len(named) == count and all(1 < number <= pages.count and not result.owner[number] for number in named):
            result.free |= {trunk, *named}


def _walk_free_list(pages: PageFile, result: Survey) -> None:
    """Collect the pages of the free list (section 1.5); the walk ends where it comes to a page a second time."""
    first = pages.page(1)
    trunk, promised = _TWO_LONGS.unpack_from(first, _FIRST_FREE_AT) if first.startswith(_MAGIC) else (0, 0)
    while trunk:
        if not 1 < trunk <= pages.count or result.owner[trunk] or trunk in result.free:
            result.free_fault = "the free list leads to a page that is in use, outside, or on it already"
            return
        result.free.add(trunk)
        page = pages.page(trunk)
        following, count = _TWO_LONGS.unpack_from(page)
        if count > pages.layout.most_free:
            result.free_fault = f"page {trunk} of the free list names more pages than it has room for"
            return
        for place in range(count):
            number = int.from_bytes(page[8 + 4 * place : 12 + 4 * place], "big")
            if not 1 < number <= pages.count or result.owner[number] or number in result.free:
                result.free_fault = f"page {trunk} of the free list names a page that is in use, outside, or on it"
            else:
                result.free.add(number)
        trunk = following
    if len(result.free) != promised:
        result.free_fault = f"the free list has {len(result.free)} pages, page 1 says {promised}"
