"""The appliance's memory, its audit and the history of its variables, goes along into a database that is restored.

Rules:

* Every entry of the present database stays, under its number. Of a damaged one, all entries that can be read do
  (``present.py``); what is no entry is set apart into ``quarantine``.
* Entries that only the other database has are added. Two entries are the same where all that they say is the same,
  whatever their numbers: an entry that was added once under another number is not added again.
* A number is given once. Added entries keep theirs where none of them was ever given here; else all of them get new
  numbers behind every number that either side has given, in their order. Which of the audit's were added is kept in
  ``state``: they are the first to go where there are too many.
* Each variable that the restore changes gets an entry of its own, of whoever restores.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from callisto_telnetd.db.doubtful_rows import quarantine, set_apart
from callisto_telnetd.db.present import Present, read_present
from callisto_telnetd.db.references import mend_references
from callisto_telnetd.db.schema import ADDED_STATE, LAST_CHANGE_STATE
from callisto_telnetd.db.tables import HIGHEST_ID, TABLES, VARIABLES

MOST_AUDIT = 100_000
"""Entries that the audit keeps, its newest; entries of a backup are added up to that."""
LOST_EVENT = "audit entries lost"
_UNKNOWN_GAP = 100_000
"""Numbers that are passed over where nobody knows how many were given: more rows than a damage takes off the end."""
_LATE_GAP = 100
"""Numbers that may have been given since somebody asked for the highest."""
_PLAUSIBLE = HIGHEST_ID >> 4
"""Numbers of a backup above that are nobody's: our own would find no room behind them."""
_AUDIT, _CHANGES, _BATCH = "audit", "variable_change", "batch"


class _Memory(NamedTuple):
    """A table of the memory."""

    table: str
    said: tuple[str, ...]
    """The columns that say what an entry says."""
    links: tuple[str, ...] = ()
    """The columns that name other entries."""

    @property
    def columns(self) -> str:
        return ", ".join(("id", *self.said, *self.links))

    def same(self, one: str, other: str) -> str:
        """Return the test for two entries that say the same."""
        return " AND ".join(f"{one}.{column} IS {other}.{column}" for column in self.said)


class _Ours(NamedTuple):
    """What could be read of the present entries of a table."""

    rows: int
    last: int
    whole: bool
    """Whether that is all of them."""


_TABLES = (
    _Memory(_AUDIT, ("at", "event", "who", "door", "source", "detail")),
    _Memory(_CHANGES, ("at", "name", "old", "new", "who", "door", "source", "note"), ("batch", "undoes")),
)

SAID: Mapping[str, tuple[str, ...]] = {memory.table: memory.said for memory in _TABLES}
"""The columns that say what an entry says, by table."""


@dataclass(frozen=True, slots=True)
class Change:
    """Whose change the restore is, as the history of variables keeps it."""

    at: str
    """ISO 8601."""
    who: str
    door: str
    source: str
    note: str


class Kept(NamedTuple):
    """What becomes of a table of the memory."""

    now: int
    """Entries of the present database; all stay."""
    added: int
    """Entries that only the other database has."""
    changed: int
    """Entries for variables that change."""
    whole: bool = True
    """Whether the present database is known to have no others."""

    @property
    def then(self) -> int:
        """Entries that there are then."""
        return self.now + self.added + self.changed


def preview(live: Path, other: Path) -> Mapping[str, Kept]:
    """Return what :func:`carry_memory` would keep, by table; changes nothing.

    Args:
        live: The present database, which may be in use.
        other: The database that takes its place; nobody has it open.

    Raises:
        sqlite3.Error: the other database cannot be read.
    """
    with closing(sqlite3.connect(":memory:", uri=True, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS theirs", (f"{other.absolute().as_uri()}?mode=ro&immutable=1",))
        present = _read_present(connection, live, closed=False)
        changed = len(_changed_variables(connection, present, "theirs"))
        kept = {}
        for memory in _TABLES:
            ours = _ours(connection, memory, present)
            added = _number_theirs(connection, memory, "theirs", ours.last)
            kept[memory.table] = Kept(ours.rows, added, changed, ours.whole)
        return kept


def carry_memory(connection: sqlite3.Connection, live: Path, change: Change, given: Mapping[str, int]) -> None:
    """Put the present memory into the database that takes the place of the present one.

    Args:
        connection: To that database, of the newest schema, opened with ``uri=True``, in no transaction.
        live: The present database, which nobody has open; of a damaged one all that can be found is taken.
        change: Whose change it is.
        given: The highest numbers that were given, by table, where that is known better than by the file.

    Raises:
        sqlite3.Error, StoreError: it cannot be done; whoever calls throws the new database away.
    """
    connection.execute("PRAGMA foreign_keys=OFF").fetchall()
    present = _read_present(connection, live, closed=True)
    changed = _changed_variables(connection, present, "main")
    connection.execute("BEGIN")
    triggers = take_triggers(connection)
    highest = {
        memory.table: _carry(connection, memory, _ours(connection, memory, present), given) for memory in _TABLES
    }
    first, last = connection.execute("SELECT min(ours), max(ours) FROM temp.numbers_audit WHERE added").fetchone()
    if first is not None:
        row = (ADDED_STATE, present.added_with(first, last))
        connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", row)
    for refused in present.refused:
        quarantine(connection, refused.table, refused.values, refused.reason, change.at)
    for sql in triggers:
        connection.execute(sql)
    mend_references(connection, only=(_CHANGES,))  # an entry that is lost may have been undone by one that is not
    connection.execute("COMMIT")
    set_apart(connection, change.at, (_AUDIT, _CHANGES))  # a past state is taken as it was, but for these
    raise_numbers(connection, highest, change.at)
    connection.execute("BEGIN")
    note_changes(connection, changed, change)
    connection.execute("COMMIT")


def highest_given(connection: sqlite3.Connection, given: Mapping[str, int], lost: Collection[str]) -> dict[str, int]:
    """Return the highest numbers that may have been given, by table.

    Args:
        connection: To a database of the newest schema.
        given: Those that are known.
        lost: The tables of which entries may be lost.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    last = {memory.table: _last(connection, memory.table) for memory in _TABLES}
    return {
        table: _beyond(number, given.get(table)) if table in lost else max(number, given.get(table, 0))
        for table, number in last.items()
    }


def _beyond(last: int, given: int | None) -> int:
    """Return a number that no entry has yet, where the last one that can be read is perhaps not the last."""
    return last + _UNKNOWN_GAP if given is None else max(last, given + _LATE_GAP)


def raise_numbers(connection: sqlite3.Connection, highest: Mapping[str, int], at: str) -> None:
    """See to it that the next entries get higher numbers than these, although entries at the end may be lost.

    The audit gets an entry that says so, and has the next number; of the changes of variables the highest number is
    kept in ``state``.

    Args:
        connection: To a database of the newest schema, in no transaction.
        highest: The highest numbers that may have been given, by table.
        at: The moment, ISO 8601.

    Raises:
        sqlite3.Error: it cannot be done.
    """
    for table, number in highest.items():
        last = _last(connection, table)
        if not last < number < _PLAUSIBLE:
            continue
        if table == _CHANGES:
            connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (LAST_CHANGE_STATE, str(number)))
            continue
        connection.execute(
            "INSERT INTO audit (id, at, event, who, door, source, detail)"
            " VALUES (?, ?, ?, 'system', 'system', 'local', ?)",
            (number + 1, at, LOST_EVENT, f"the numbers from {last + 1} to {number} are not given again"),
        )


def _read_present(connection: sqlite3.Connection, live: Path, *, closed: bool) -> Present:
    tables = [table for table in TABLES if table.name in SAID]
    return read_present(connection, live, tables, closed=closed)


def _changed_variables(
    connection: sqlite3.Connection, present: Present, then: str
) -> list[tuple[str, str | None, str | None]]:
    """Return the variables whose stored texts differ: name, text here, text then; None is the default.

    A text that no variable can have is none: its default stands in, as ever.
    """
    if present.variables is None:  # of a damaged database nobody knows what it held
        return []
    before, connection.text_factory = connection.text_factory, lambda data: data.decode("utf-8", "surrogateescape")
    try:
        rows = connection.execute(f"SELECT name, value FROM {then}.variable").fetchall()
    finally:
        connection.text_factory = before
    now, after = present.variables, {name: value for name, value in rows if not VARIABLES.faults((name, value))}
    names = sorted({*now, *after})
    return [(name, now.get(name), after.get(name)) for name in names if now.get(name) != after.get(name)]


def take_triggers(connection: sqlite3.Connection) -> list[str]:
    """Drop the triggers, which would write an audit of what nobody does now, and return what makes them again."""
    found = connection.execute("SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in found:
        connection.execute(f'DROP TRIGGER main."{name}"')
    return [sql for _, sql in found]


def _carry(connection: sqlite3.Connection, memory: _Memory, ours: _Ours, given: Mapping[str, int]) -> int:
    """Put the present entries of a table in the place of the other's, and add what only that has.

    Returns:
        The highest number that may have been given.
    """
    execute, table = connection.execute, memory.table
    last = max(ours.last, _kept_last(connection, table))
    highest = max(last, given.get(table, 0)) if ours.whole else _beyond(last, given.get(table))
    _number_theirs(connection, memory, "main", highest)
    said = ", ".join(f"t.{column}" for column in memory.said)
    links = "".join(f", {_link(memory, column)}" for column in memory.links)
    if _BATCH in memory.links:
        execute(f"CREATE TEMP TABLE batches AS SELECT batch, min(id) AS first FROM main.{table} GROUP BY batch")
        execute("CREATE INDEX temp.batches_batch ON batches (batch)")
    execute(
        f"CREATE TEMP TABLE added_{table} AS SELECT n.ours AS id, {said}{links}"
        f" FROM temp.numbers_{table} AS n JOIN main.{table} AS t ON t.id = n.theirs WHERE n.added"
    )
    execute(f"DELETE FROM main.{table}")
    execute(f"INSERT INTO main.{table} ({memory.columns}) SELECT {memory.columns} FROM temp.our_{table}")
    execute(f"INSERT INTO main.{table} ({memory.columns}) SELECT * FROM temp.added_{table}")
    if not ours.whole and not ours.rows:  # theirs is all that is known
        return max(highest, _beyond(_last(connection, table), given.get(table)))
    return highest


def _link(memory: _Memory, column: str) -> str:
    """Return what asks for the number here of the entry that another one of theirs, ``t``, names."""
    ours = f"(SELECT n.ours FROM temp.numbers_{memory.table} AS n WHERE n.theirs = {{}})"
    named = ours.format(f"t.{column}")
    if column != _BATCH:
        return named
    # A batch is known by its first entry; where that is gone, by the first of those that are left.
    left = ours.format("(SELECT b.first FROM temp.batches AS b WHERE b.batch = t.batch)")
    return f"coalesce({named}, {left})"


def _ours(connection: sqlite3.Connection, memory: _Memory, present: Present) -> _Ours:
    """Return what was read of the present entries of a table."""
    table = f"temp.our_{memory.table}"
    last = int(connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0])
    if memory.table == _CHANGES:
        last = max(last, present.last_change)
    return _Ours(_count(connection, table), last, memory.table not in present.damaged)


def _number_theirs(connection: sqlite3.Connection, memory: _Memory, theirs: str, highest: int) -> int:
    """Give each entry of the other database its number here, in ``temp.numbers_TABLE``; return how many are added."""
    execute, table = connection.execute, memory.table
    execute(f"CREATE TEMP TABLE numbers_{table} (theirs INTEGER PRIMARY KEY, ours INTEGER UNIQUE, added INTEGER)")
    execute(
        f"INSERT INTO temp.numbers_{table} SELECT t.id, o.id, 0 FROM {theirs}.{table} AS t"
        f" JOIN temp.our_{table} AS o ON o.id = t.id WHERE {memory.same('t', 'o')}"
    )
    # What has another number here was added, or its number was given twice by an earlier version. Of entries that say
    # the very same, each stands for one.
    partition = ", ".join(memory.said)
    rests = (("rest_theirs", f"{theirs}.{table}", "theirs"), ("rest_ours", f"temp.our_{table}", "ours"))
    for name, source, known in rests:
        execute(
            f"CREATE TEMP TABLE {name}_{table} AS"
            f" SELECT *, row_number() OVER (PARTITION BY {partition} ORDER BY id) AS nth"
            f" FROM {source} WHERE id NOT IN (SELECT {known} FROM temp.numbers_{table})"
        )
    execute(f"CREATE INDEX temp.rest_ours_{table}_at ON rest_ours_{table} (at, nth)")
    execute(
        f"INSERT INTO temp.numbers_{table} SELECT t.id, o.id, 0 FROM temp.rest_theirs_{table} AS t"
        f" JOIN temp.rest_ours_{table} AS o ON o.at = t.at AND o.nth = t.nth WHERE {memory.same('t', 'o')}"
    )
    return _add_theirs(connection, memory, highest)


def _add_theirs(connection: sqlite3.Connection, memory: _Memory, last: int) -> int:
    """Number what only the other database has, with ``last`` given here already; return how many entries that are."""
    execute, table = connection.execute, memory.table
    ours = _count(connection, f"temp.our_{table}")
    room = HIGHEST_ID if table != _AUDIT else max(0, MOST_AUDIT - ours)
    missing = f"SELECT id FROM temp.rest_theirs_{table} WHERE id NOT IN (SELECT theirs FROM temp.numbers_{table})"
    newest = f"{missing} ORDER BY id DESC LIMIT {room}"
    count, first, highest = execute(f"SELECT count(*), min(id), max(id) FROM ({newest})").fetchone()
    if not count:
        return 0
    if (last < first or not ours) and highest < _PLAUSIBLE:
        number = "id"
    else:
        number = f"{max(last, highest) if highest < _PLAUSIBLE else last} + row_number() OVER (ORDER BY id)"
    execute(f"INSERT INTO temp.numbers_{table} SELECT id, {number}, 1 FROM ({newest})")
    return int(count)


def note_changes(
    connection: sqlite3.Connection, changed: list[tuple[str, str | None, str | None]], change: Change
) -> None:
    """Write an entry for each variable that is another now, all as one batch; the trigger writes the audit's."""
    batch = _last(connection, _CHANGES) + 1
    connection.executemany(
        "INSERT INTO variable_change (id, batch, at, name, old, new, who, door, source, note)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (batch + place, batch, change.at, name, now, then, change.who, change.door, change.source, change.note)
            for place, (name, now, then) in enumerate(changed)
        ],
    )


def _last(connection: sqlite3.Connection, table: str) -> int:
    """Return the highest number that was given, as far as rows and the kept state tell."""
    last = int(connection.execute(f"SELECT coalesce(max(id), 0) FROM main.{table}").fetchone()[0])
    return max(last, _kept_last(connection, table))


def _kept_last(connection: sqlite3.Connection, table: str) -> int:
    """Return the number that ``state`` keeps for the table; 0 for none."""
    if table != _CHANGES:
        return 0
    sql = "SELECT coalesce(max(CAST(value AS INTEGER)), 0) FROM main.state WHERE key = ?"
    return int(connection.execute(sql, (LAST_CHANGE_STATE,)).fetchone()[0])


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
