"""How many rows are lost: told only where the file itself says how many there were.

Rules:

* A table whose tree is whole, with all its leaves sound and every cell read, has lost nothing.
* Where that is not so, an index of the table that is whole still names every row that there was: what it names and
  nobody found is lost, exactly. An index that does not name a row that is in place is not believed.
* Else nobody can know, and the report says so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from callisto_telnetd.db.forest import Survey as Forest
from callisto_telnetd.db.forest import Tree
from callisto_telnetd.db.report import TableReport
from callisto_telnetd.db.survey import Survey
from callisto_telnetd.db.tables import TABLES

_INDEXES = {"message": "message_mailbox", "call_record": "call_record_user", "variable_change": "variable_change_name"}


def count_losses(
    connection: sqlite3.Connection,
    forest: Forest,
    unsound: Collection[int],
    unreadable: Collection[str],
    reports: dict[str, TableReport],
) -> None:
    """Put into each report how many rows its table has lost.

    Args:
        connection: The new database, with the damaged one attached as ``source`` where its schema can be read.
        forest: The trees of the damaged file.
        unsound: Its pages that failed a test.
        unreadable: The tables of which cells could not be read.
        reports: By table.
    """
    for table in TABLES:
        report, tree = reports[table.name], forest.tree_of(table)
        spare = any(each.spare and each.table is table for each in forest.trees)
        if tree is not None and not spare and table.name not in unreadable and _is_whole(tree, forest, unsound):
            continue
        report.lost_exact = False
        index = next((each for each in forest.trees if each.name == _INDEXES.get(table.name)), None)
        if index is not None and _is_whole(index, forest, unsound):
            lost = _missing_by_index(connection, table.name, _INDEXES[table.name])
            if lost is not None:
                report.lost, report.lost_exact = lost, True


def misplaced(found: Survey, forest: Forest) -> set[int]:
    """Return the sound leaves that hang where their rows do not belong: something else has stood there."""
    there = {leaf.page: (name, leaf) for name, leaves in found.leaves.items() for leaf in leaves}
    strangers = set()
    for tree in forest.trees:
        for place in tree.leaves:
            name, leaf = there.get(place.number, ("", None))
            if leaf and (name != tree.name or leaf.first < place.low or leaf.last > place.high):
                strangers.add(place.number)
    return strangers


def _is_whole(tree: Tree, forest: Forest, unsound: Collection[int]) -> bool:
    """Whether the schema names the tree, nothing is missing in it, and each of its pages is sound."""
    if tree.found or tree.missing or forest.schema_fault:
        return False
    place = forest.trees.index(tree) + 1
    suspects = {*unsound, *forest.faults, *forest.doubly}
    return not any(0 < number < len(forest.owner) and forest.owner[number] == place for number in suspects)


def _missing_by_index(connection: sqlite3.Connection, table: str, index: str) -> int | None:
    """Return how many rows the index names that nobody found; None where it is not to be believed."""
    named = f"SELECT id FROM source.{table} INDEXED BY {index}"
    found = (
        f"SELECT id FROM main.{table} UNION SELECT json_extract(content, '$.id') FROM main.quarantine"
        f" WHERE origin = '{table}'"
    )
    try:
        stranger = connection.execute(f"SELECT 1 FROM (SELECT id FROM main.{table} EXCEPT {named}) LIMIT 1").fetchone()
        if stranger is not None:
            return None
        return int(connection.execute(f"SELECT count(*) FROM ({named} EXCEPT SELECT * FROM ({found}))").fetchone()[0])
    except sqlite3.DatabaseError:
        return None
