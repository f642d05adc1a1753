"""The check of a database file, step by step, each on its own connection: pages, schema, references, values.

``integrity_check`` sees neither broken references nor values that are of the right storage class and yet nonsense, and
calls a file sound whose schema is another one. So all four are asked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

from callisto_telnetd.db.doubtful_rows import MOST_FAULTS, row_faults
from callisto_telnetd.db.quiet import open_quietly
from callisto_telnetd.db.results import code_of
from callisto_telnetd.db.schema import APPLICATION_ID, migrations, statements
from callisto_telnetd.db.sieve import invalid_rows
from callisto_telnetd.db.tables import TABLES, VARIABLES, Table, add_functions

VariableFault = Callable[[str, str], str | None]
"""Given a system variable's name and its stored text, returns what is wrong with it, None where nothing is."""


Tell = Callable[[str, int, int], None]
Part = Callable[[sqlite3.Connection], list[str]]
PAGES, SCHEMA = "Pages, rows and indexes", "Schema and stamps"
REFERENCES, VALUES = "References between tables", "Values"
STEPS = (PAGES, SCHEMA, REFERENCES, VALUES)
_GIVES_UP = "SQLite gives up"
_SIDE_BY_SIDE = 2
_CACHE_KIB = 8192
"""Of pages while each row is looked for in the indexes: with SQLite's usual 2 MiB that takes twice as long."""


def inspect(
    file: Path,
    variable_fault: VariableFault,
    tell: Tell,
    *,
    closed: bool,
    pages: bool = True,
    values: bool = True,
    enough: bool = False,
) -> dict[str, list[str]]:
    """Return the faults of a database by step, at most twenty each; all are empty where it is sound.

    The parts run side by side, each on a connection of its own: SQLite works without Python's lock.

    Args:
        file: The database.
        variable_fault: Judges the values of system variables.
        tell: Told of each step, and how many of its parts are done.
        closed: As :func:`open_quietly` has it.
        pages: Whether pages, rows and indexes are looked at; where not, others have found them sound.
        values: Whether every value is looked at.
        enough: Whether one step with faults is enough to know: what has not begun by then is left out, but
            for the schema, which is looked at in no time.
    """
    parts: list[tuple[str, Part]] = [(PAGES, _check_pages)] if pages else []
    if values:  # what takes longest is begun first
        parts += [(VALUES, partial(_check_table, table)) for table in sorted(TABLES, key=_is_small)]
    parts += [(VALUES, partial(_check_variables, variable_fault))]
    parts += [(SCHEMA, _check_schema), (REFERENCES, _check_references)]
    found: dict[str, list[str]] = {name: [] for name in STEPS}
    tell(parts[0][0], 0, len(parts))
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        begun = [pool.submit(_run_part, file, name, part, closed=closed) for name, part in parts]
        for place, ((name, _), outcome) in enumerate(zip(parts, begun, strict=True)):
            if not (enough and name != SCHEMA and any(found.values()) and outcome.cancel()):
                found[name] += outcome.result()
            tell(name, place + 1, len(parts))
    return {name: faults[:MOST_FAULTS] for name, faults in found.items()}


def faults_of_structure(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the faults that :func:`inspect` found in the file itself, and not in what somebody has put into it."""
    return [
        fault for step, faults in found.items() for fault in faults if step in (PAGES, SCHEMA) or _GIVES_UP in fault
    ]


def _run_part(file: Path, name: str, part: Part, *, closed: bool) -> list[str]:
    try:
        with closing(open_quietly(file, closed=closed)) as connection:
            add_functions(connection)
            return list(map(_as_text, part(connection)))
    except sqlite3.Error as error:
        return [f"{name}: {_GIVES_UP} ({code_of(error)})"]


def _as_text(fault: str) -> str:
    r"""Return a fault that others can write and send: it may quote a damaged name of the schema, then ``\udcff``."""
    return fault.encode("utf-8", "backslashreplace").decode()


def _is_small(table: Table) -> bool:
    """Whether a table is looked at among the last: it is never large."""
    return not table.rowid


def is_expected_schema(connection: sqlite3.Connection, version: int) -> bool:
    """Whether the schema is the very one that our migrations make for that version."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        for number, script in sorted(migrations().items()):
            for statement in statements(script) if number <= version else ():
                made.execute(statement)
        return _schema(made) == _schema(connection)


def _schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    rows = connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema").fetchall()
    return sorted(rows)


def _check_pages(connection: sqlite3.Connection) -> list[str]:
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}").fetchall()
    rows = connection.execute(f"PRAGMA integrity_check({MOST_FAULTS})").fetchall()
    lines = [line for row in rows for line in str(row[0]).splitlines() if line.strip("* ")]
    return [line for line in lines if line != "ok" and not line.startswith("*** in database")]


def _check_schema(connection: sqlite3.Connection) -> list[str]:
    version, stamp = (connection.execute(f"PRAGMA {each}").fetchone()[0] for each in ("user_version", "application_id"))
    faults = [] if stamp == APPLICATION_ID else ["the stamp is not Callisto's"]
    if version not in migrations():
        faults.append(f"there is no schema {version}")
    elif not is_expected_schema(connection, version):
        faults.append(f"the schema is not that of version {version}")
    return faults


def _check_references(connection: sqlite3.Connection) -> list[str]:
    if not any(map(partial(_is_missing, connection), _references(connection))):
        return []
    rows = connection.execute("PRAGMA foreign_key_check").fetchmany(MOST_FAULTS)
    return [f"{table} row {row} names a missing row of {parent}" for table, row, parent, _ in rows]


def _references(connection: sqlite3.Connection) -> list[tuple[str, str, str, str]]:
    """Return each reference of the schema: table, column, and the table and the key that are meant."""
    return connection.execute(
        'SELECT child.name, "from", "table", "to" FROM sqlite_schema AS child, pragma_foreign_key_list(child.name)'
        " WHERE child.type = 'table'"
    ).fetchall()


def _is_missing(connection: sqlite3.Connection, reference: tuple[str, str, str, str]) -> bool:
    """Return whether some row names a missing one. Each name is looked for once; the pragma does it for each row."""
    child, column, parent, key = reference
    sql = (
        f'SELECT 1 FROM (SELECT DISTINCT "{column}" AS name FROM "{child}" WHERE "{column}" IS NOT NULL)'
        f' WHERE name NOT IN (SELECT "{key}" FROM "{parent}") LIMIT 1'
    )
    return connection.execute(sql).fetchone() is not None


def _check_variables(judge: VariableFault, connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name, value FROM variable")
    faults = (f"system variable {fault}" for row in rows if not VARIABLES.faults(row) and (fault := judge(*row)))
    return list(islice(faults, MOST_FAULTS))


def _check_table(table: Table, connection: sqlite3.Connection) -> list[str]:
    there = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table.name,)).fetchone()
    if there is None:  # of an older schema, or SCHEMA tells
        return []
    return [
        fault for values in islice(invalid_rows(connection, table), MOST_FAULTS) for fault in row_faults(table, values)
    ]
