"""The highest numbers that entries of the audit and changes of variables had before a repair: none is given again.

Rules:

* An entry that was set apart has had its number. One that is so high that nobody gave it is the damage's own, and
  nobody knows which one stood there: such an entry counts as lost.
* The state keeps the highest number of a change where no row tells it: where the state may have lost a row, so has the
  history of variables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from callisto_telnetd.db.memory import highest_given
from callisto_telnetd.db.salvage.report import TableReport

_MOST_BEHIND = 100_000
"""How far behind the last entry that is in place one that was set apart can have stood."""


def highest_numbers(
    connection: sqlite3.Connection, reports: Sequence[TableReport], given: Mapping[str, int], at: str
) -> dict[str, int]:
    """Return the highest numbers that may have been given, by table.

    Args:
        connection: To the new database.
        reports: What became of each table.
        given: The numbers that are known, by table.
        at: The moment of the repair, which tells what it has set apart itself.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    lost = {report.table for report in reports if report.may_lack_rows}
    if any(report.table == "state" and (report.quarantined or report.table in lost) for report in reports):
        lost.add("variable_change")
    had: dict[str, int] = {}
    for table, last in highest_given(connection, {}, ()).items():
        for number in _set_apart(connection, table, at):
            if isinstance(number, int) and 0 < number <= last + _MOST_BEHIND:
                had[table] = max(number, had.get(table, 0))
            else:
                lost.add(table)
    return {table: max(last, had.get(table, 0)) for table, last in highest_given(connection, given, lost).items()}


def _set_apart(connection: sqlite3.Connection, table: str, at: str) -> list[object]:
    """Return the numbers of what was set apart of a table, as they were found: a damaged one may be no number."""
    sql = "SELECT json_extract(content, '$.id') FROM quarantine WHERE origin = ? AND at = ?"
    return [number for (number,) in connection.execute(sql, (table, at))]
