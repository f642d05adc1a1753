"""Compacting: a sound database written anew without its free pages, checked, and put in the place of the old one.

The new one is of Callisto's own form (``own_form.py``), whatever another program has made of the old one.

Runs in the worker, on a closed file. A damaged database is not touched: that is a repair's work, which sets it aside.
What is known to be damaged is refused; of indexes this looks only at whether each has as many entries as its table has
rows: a look at every entry (``integrity_check``) takes longer than all the rest. Checking and copying go side by side,
each on a connection of its own: SQLite works without Python's lock.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from callisto_telnetd.db.known_damage import known_damage
from callisto_telnetd.db.opening import require_openable
from callisto_telnetd.db.own_form import layout_of, other_form, write_in_own_form
from callisto_telnetd.db.publish import making_of, publish
from callisto_telnetd.db.results import translate
from callisto_telnetd.errors import DamagedDatabaseError, DiskFullError, StoreError, named
from callisto_telnetd.quantities import counted, format_bytes

RESERVE_BYTES = 1 << 20
"""What stays free beside the new file."""
_STAMPS = ("application_id", "user_version")

Tell = Callable[[str, int, int], None]


def compact(order: Mapping[str, Any], tell: Tell) -> dict[str, int]:
    """Compact the database of the order, ``file``; return its size before and after, in bytes.

    Raises:
        DiskFullError: there is no room for a second file; nothing was changed.
        DamagedDatabaseError: the database is damaged; nothing was changed.
        StoreError: nothing was changed.
        UnfinishedError: the new database counts already; the next opening puts it in its place.
    """
    file = Path(order["file"])
    making = making_of(file)
    require_openable(file)
    if damage := known_damage(file):
        raise DamagedDatabaseError(f"the database is damaged: {damage}; nothing was changed; 'repair' helps")
    before = _size(file)
    try:
        with _translated():
            before_rows = _write(file, making, tell)
            _check(making, before_rows, tell)
        after = _size(making)
        tell("Replacing", 0, 0)
        publish(making, file)
    except BaseException:
        making.unlink(missing_ok=True)
        raise
    return {"before_bytes": before, "after_bytes": after}


def _write(file: Path, making: Path, tell: Tell) -> dict[str, object]:
    """Write the new database while the old one is checked; return what it has to agree with the old one in."""
    tell("Checking", 0, 0)
    layout = layout_of(file)  # before a connection is open, whose locks it would drop
    with closing(_connect(file)) as connection, ThreadPoolExecutor(1) as pool:
        needed = _needed(connection)
        _require_room(file.parent, needed)
        making.unlink(missing_ok=True)
        os.close(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        checked = pool.submit(_sound_traits, file, "the database")

        def look() -> int:
            tell("Copying", min(making.stat().st_size, needed), needed)
            return int(checked.done() and checked.exception() is not None)  # 1: it need not go on

        try:
            write_in_own_form(connection, layout, making, look)
        except sqlite3.Error:
            checked.result()  # says what is damaged, where it knows
            raise
        traits = checked.result()
        tell("Copying", needed, needed)
        return traits


def _check(making: Path, expected: Mapping[str, object], tell: Tell) -> None:
    tell("Checking the new file", 0, 0)
    with ThreadPoolExecutor(1) as pool:
        pages = pool.submit(_require_pages, making, "the new database")
        traits = _traits(making, "the new database")
        pages.result()
    if traits != expected:
        wrong = next(key for key in {**expected, **traits} if expected.get(key) != traits.get(key))
        raise StoreError(f"the new database differs from the old one in {wrong}; nothing was changed")
    if form := other_form(making):
        raise StoreError(f"the new database is not of Callisto's own form ({form}); nothing was changed")


def _sound_traits(file: Path, what: str) -> dict[str, object]:
    """Return the traits of a database that is sound.

    Raises:
        DamagedDatabaseError: it is not.
    """
    _require_pages(file, what)
    return _traits(file, what)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "foreign_keys=OFF"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _require_pages(file: Path, what: str) -> None:
    with closing(_connect(file)) as connection:
        (first,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if first != "ok":
        raise DamagedDatabaseError(f"{what} is damaged: {first}; nothing was changed; 'repair' helps")


def _traits(file: Path, what: str) -> dict[str, object]:
    """Return the stamps, and how many rows each table has, without an index that might know fewer.

    Raises:
        DamagedDatabaseError: references between rows are broken, or an index has more or fewer entries than rows.
    """
    with closing(_connect(file)) as connection:
        if row := connection.execute("PRAGMA foreign_key_check").fetchone():
            raise DamagedDatabaseError(
                f"{what} is damaged: a row of {row[0]} names a missing row of {row[2]}; nothing was changed;"
                " 'repair' helps"
            )
        traits: dict[str, object] = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _STAMPS}
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        for (name,) in names.fetchall():
            quoted = str(name).replace('"', '""')
            sql = f'SELECT count(*) FROM "{quoted}" NOT INDEXED'
            traits[f"rows of {name}"] = rows = connection.execute(sql).fetchone()[0]
            _require_entries(connection, quoted, rows, what)
        return traits


def _require_entries(connection: sqlite3.Connection, table: str, rows: int, what: str) -> None:
    for index, origin, partial in connection.execute(
        "SELECT name, origin, partial FROM pragma_index_list(?)", (table.replace('""', '"'),)
    ).fetchall():
        if origin == "pk" or partial:  # the table itself; what has not all rows
            continue
        quoted = str(index).replace('"', '""')
        (entries,) = connection.execute(f'SELECT count(*) FROM "{table}" INDEXED BY "{quoted}"').fetchone()
        if entries != rows:
            raise DamagedDatabaseError(
                f"{what} is damaged: index {index} has {counted(entries, 'entry')} for {counted(rows, 'row')}; nothing"
                " was changed; 'repair' helps"
            )


def _needed(connection: sqlite3.Connection) -> int:
    """Return how large the new file can become, in bytes."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _require_room(folder: Path, needed: int) -> None:
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < needed + RESERVE_BYTES:
        raise DiskFullError(
            f"too little room to compact: {format_bytes(needed + RESERVE_BYTES)} needed, {format_bytes(free)} free;"
            " nothing was changed"
        )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise StoreError(f"{named(file)} cannot be looked at: {error.strerror}; nothing was changed") from None


@contextmanager
def _translated() -> Iterator[None]:
    """Make foreign errors ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error) from None
    except OSError as error:
        raise StoreError(f"the database cannot be compacted: {error.strerror}; nothing was changed") from None
