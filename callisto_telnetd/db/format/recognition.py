"""Whose rows these are: the table of a page, told by the form of its records where nothing else tells it.

No two tables of the schema have rows of the same form, but ``variable`` and ``state``: those are told apart by how
their names usually begin (:attr:`Table.usual`). The entries of secondary indexes have the form of no table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from callisto_telnetd.db.column_kinds import Whole
from callisto_telnetd.db.tables import TABLES, Table

Record = Sequence[object]

_WHOLE, _TEXT, _NULL = 1, 2, 4
_CLASS = {int: _WHOLE, str: _TEXT, type(None): _NULL}


def _classes(table: Table) -> tuple[int, ...]:
    """Return the storage classes that each value of a record may have, in the order of the file."""
    classes = []
    for place in table.stored:
        column = table.columns[place]
        allowed = _WHOLE if isinstance(column.kind, Whole) else _TEXT
        classes.append(
            _NULL if table.rowid and column.name in table.key else allowed | (_NULL if column.nullable else 0)
        )
    return tuple(classes)


_FORMS = tuple((table, _classes(table), re.compile(table.usual)) for table in TABLES)
_FORM_OF = {table.name: classes for table, classes, _ in _FORMS}


def has_form(table: Table, record: Record) -> bool:
    """Whether the record has the table's number of columns and their storage classes."""
    classes = _FORM_OF[table.name]
    return len(record) == len(classes) and all(
        _CLASS.get(type(value), 0) & allowed for value, allowed in zip(record, classes, strict=True)
    )


def recognise(records: Sequence[Record], *, rowid: bool) -> Table | None:
    """Return the table that most of the records have the form of; None where none has that of any.

    Args:
        records: as :func:`~callisto_telnetd.db.format.records.decode` gives them.
        rowid: whether they come from a table's b-tree, not from an index's.
    """
    best, most = None, (0, 0)
    for table, classes, usual in _FORMS:
        if table.rowid != rowid:
            continue
        alike = [record for record in records if len(record) == len(classes) and has_form(table, record)]
        score = (len(alike), sum(usual.match(str(record[0])) is not None for record in alike) if table.usual else 0)
        if score > most:
            best, most = table, score
    return best
