"""How many rows are lost: told only where the file itself says how many there were.

Rules:

* A table whose tree is whole, with all its leaves sound and every cell read, has lost nothing.
* Where that is not so, an index of the table that is whole still names every row that there was: what it names and
  nobody found is lost, exactly. An index that does not name a row that is in place is not believed.
* Where a page of a tree is lost and those above it are sound, no more rows can be lost than there are free row ids in
  its range: that is the most.
* Without a schema the trees that were found are whole where every page but the first is accounted for: a lost page
  would be missed by the one above it, and a lost root would leave pages that hang nowhere.
* Else nobody can know, and the report says so.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection
from struct import Struct

from callisto_telnetd.db.format.forest import HIGHEST, Tree
from callisto_telnetd.db.format.forest import Survey as Forest
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.format.pages import INDEX_LEAF, TABLE_LEAF
from callisto_telnetd.db.format.records import payload_of
from callisto_telnetd.db.salvage.report import TableReport
from callisto_telnetd.db.salvage.survey import Survey
from callisto_telnetd.db.tables import TABLES

_INDEXES = {"message": "message_mailbox", "call_record": "call_record_user", "variable_change": "variable_change_name"}
_MOST_RANGES = 1000
_TWO_LONGS = Struct(">II")


def count_losses(
    connection: sqlite3.Connection,
    pages: PageFile,
    forest: Forest,
    unsound: Collection[int],
    unreadable: Collection[str],
    *,
    reports: dict[str, TableReport],
    at: str,
) -> None:
    """Put into each report how many rows its table has lost.

    Args:
        connection: The new database, with the damaged one attached as ``source`` where its schema can be read.
        pages: The damaged file.
        forest: Its trees.
        unsound: Its pages that failed a test.
        unreadable: The tables of which cells could not be read.
        reports: By table.
        at: The moment of the repair, which tells what it has set apart itself.
    """
    whole = _whole_without_schema(pages, forest, unsound) if forest.schema_fault else set()
    for table in TABLES:
        report, tree = reports[table.name], forest.tree_of(table)
        spare = any(each.spare and each.table is table for each in forest.trees)
        if table.name in whole and table.name not in unreadable:
            continue
        if tree is not None and not spare and table.name not in unreadable and _is_whole(tree, forest, unsound):
            continue
        report.lost_exact = False
        index = next((each for each in forest.trees if each.name == _INDEXES.get(table.name)), None)
        if index is not None and _is_whole(index, forest, unsound):
            lost = _missing_by_index(connection, table.name, _INDEXES[table.name], at)
            if lost is not None:
                report.lost, most = lost
                report.lost_exact = report.lost == most
                report.lost_most = None if report.lost_exact else most
                continue
        if tree is not None and not spare and table.rowid:
            report.lost_most = _most_by_ranges(connection, tree, forest, unsound)
            report.lost_exact = report.lost_most == 0


def misplaced(found: Survey, forest: Forest) -> set[int]:
    """Return the sound leaves that hang where their rows do not belong: something else has stood there."""
    strangers = set()
    for name, leaves in found.leaves.items():  # one table at a time: all of them at once take several MiB
        there = {leaf.page: leaf for leaf in leaves}
        for tree in forest.trees:
            for place in tree.leaves:
                leaf = there.get(place.number)
                if leaf and (name != tree.name or leaf.first < place.low or leaf.last > place.high):
                    strangers.add(place.number)
    return strangers


def _is_whole(tree: Tree, forest: Forest, unsound: Collection[int]) -> bool:
    """Whether the schema names the tree, nothing is missing in it, and each of its pages is sound."""
    if tree.found or tree.missing or forest.schema_fault:
        return False
    return not _suspects(tree, forest, unsound)


def _suspects(tree: Tree, forest: Forest, unsound: Collection[int]) -> set[int]:
    """Return the pages of a tree that cannot be trusted."""
    place = forest.trees.index(tree) + 1
    suspects = {*unsound, *forest.faults, *forest.doubly}
    return {number for number in suspects if 0 < number < len(forest.owner) and forest.owner[number] == place}


def _most_by_ranges(connection: sqlite3.Connection, tree: Tree, forest: Forest, unsound: Collection[int]) -> int | None:
    """Return how many rows can be lost at most; None where that cannot be said.

    What is above the lost pages has to be sound, and every row has to hang in its place.
    """
    if tree.found or forest.schema_fault:
        return None
    suspects = _suspects(tree, forest, unsound)
    ranges = [leaf for leaf in tree.leaves if leaf.number in suspects]
    if len(ranges) < len(suspects):  # one above the leaves
        return None
    ranges += tree.missing
    if len(ranges) > _MOST_RANGES or any(leaf.high == HIGHEST for leaf in ranges):
        return None
    most, (key, *_) = 0, tree.table.key if tree.table else ("",)
    # An earlier version cut what it set apart where that was long: its content may be no JSON.
    apart = f"CASE WHEN json_valid(content) THEN json_extract(content, '$.{key}') END"
    for leaf in ranges:
        low = max(leaf.low, 1)
        (found,) = connection.execute(
            f'SELECT (SELECT count(*) FROM main."{tree.name}" WHERE "{key}" BETWEEN :first AND :last)'
            f" + (SELECT count(DISTINCT {apart}) FROM main.quarantine"
            f" WHERE origin = :name AND {apart} BETWEEN :first AND :last)",
            {"first": low, "last": leaf.high, "name": tree.name},
        ).fetchone()
        most += max(0, leaf.high - low + 1 - found)
    return most


def _whole_without_schema(pages: PageFile, forest: Forest, unsound: Collection[int]) -> set[str]:
    """Return the tables whose trees are whole although the first page does not say so."""
    if ({*unsound, *forest.faults, *forest.doubly} - {1}) or any(tree.missing for tree in forest.trees):
        return set()
    if pages.size % pages.layout.page_bytes or _astray(pages, forest):
        return set()
    there = {tree.name for tree in forest.trees if tree.table and not tree.spare}
    there -= {tree.name for tree in forest.trees if tree.spare}
    gone = [table for table in TABLES if forest.tree_of(table) is None]
    # A table without rows is one empty leaf that names nobody; so are its indexes.
    empty: Counter[int] = Counter()
    for tree in forest.trees:
        if not tree.name and tree.pages == 1 and not (shape := pages.shape(tree.root)).cells:
            empty[shape.type] += 1
    if empty[TABLE_LEAF] >= sum(table.rowid for table in gone):
        there |= {table.name for table in gone if table.rowid}
    if empty[INDEX_LEAF] >= sum((not table.rowid) + (table.name in _INDEXES) for table in gone):
        there |= {table.name for table in gone if not table.rowid}
    return there


def _astray(pages: PageFile, forest: Forest) -> bool:
    """Whether a page is neither of a tree, nor of an overflow chain, nor free."""
    loose = {
        number
        for number in range(2, pages.count + 1)
        if not (forest.owner[number] or number in forest.free or pages.layout.is_set_apart(number))
    }
    hanging = [(leaf.number, tree.table.rowid) for tree in forest.trees if tree.table for leaf in tree.leaves]
    for number, rowid in hanging if loose else ():
        for cell in pages.shape(number).cells:
            if cell[3] and (payload := payload_of(pages, pages.page(number), cell, table=rowid)):
                loose.difference_update(payload.chain)
    most = pages.layout.most_free
    for trunk in sorted(loose):
        page = pages.page(trunk)
        following, count = _TWO_LONGS.unpack_from(page)
        named = {int.from_bytes(page[8 + 4 * at : 12 + 4 * at], "big") for at in range(min(count, most))}
        if (following or count) and count <= most and len(named) == count and named <= loose | {trunk}:
            loose -= {trunk, *named}
    return bool(loose)


def _missing_by_index(connection: sqlite3.Connection, table: str, index: str, at: str) -> tuple[int, int] | None:
    """Return how many rows the index names that nobody found, at least and at most.

    Returns:
        None where the index is not to be believed. The two differ where rows were set apart because others have their
        keys: each may be one of those that are missing, its key damaged.
    """
    named = f"SELECT id FROM source.{table} INDEXED BY {index}"
    found = (
        f"SELECT id FROM main.{table} UNION SELECT json_extract(content, '$.id') FROM main.quarantine"
        f" WHERE origin = '{table}' AND at = ?"
    )
    try:
        # A row whose row id is another one than it was makes one that is found seem lost.
        stranger = f"SELECT 1 FROM (SELECT * FROM ({found}) EXCEPT {named}) LIMIT 1"
        if connection.execute(stranger, (at,)).fetchone() is not None:
            return None
        lost = f"SELECT count(*) FROM ({named} EXCEPT SELECT * FROM ({found}))"
        most = int(connection.execute(lost, (at,)).fetchone()[0])
        spare = (
            f"SELECT count(*) - count(DISTINCT id) FROM (SELECT id FROM main.{table} UNION ALL"
            f" SELECT json_extract(content, '$.id') FROM main.quarantine WHERE origin = '{table}' AND at = ?)"
        )
        return max(0, most - int(connection.execute(spare, (at,)).fetchone()[0])), most
    except sqlite3.DatabaseError:
        return None
