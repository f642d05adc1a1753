"""A data folder and a backup of another state, for the tests of restores: small, and made by SQLite itself."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from callisto_telnetd.db.memory import Change
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.db.schema import APPLICATION_ID, migrations, statements

HASH = "$argon2id$v=19$m=47104,t=2,p=1$" + "c29tZXNhbHQ" * 2 + "$" + "RdescudvJCsgt3ub" * 3
AT = "2026-11-23T10:15:00+01:00"
CHANGE = Change(AT, "ada", "telnet", "192.0.2.7", "restored from backup.zip")
OLD_SETTINGS = '[appliance]\nserial = "old"\n'
NEW_SETTINGS = '[appliance]\nserial = "new"\n'
RECORDINGS = {hashlib.sha256(content).hexdigest(): content for content in (b"one", b"two" * 9000)}
LATER = {hashlib.sha256(content).hexdigest(): content for content in (b"three", b"four")}
NEWEST = max(migrations())


def make_database(file: Path, user: str, *, schema: int = NEWEST) -> None:
    """Make a database with one user of that name, one account and one state row."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for pragma in ("page_size=4096", "synchronous=OFF", "journal_mode=MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        for version, script in sorted(migrations().items()):
            for statement in statements(script) if version <= schema else ():
                connection.execute(statement)
        connection.execute("INSERT INTO user VALUES (100, ?, '')", (user,))
        connection.execute("INSERT INTO account VALUES (?, ?, ?, NULL, NULL, NULL)", (user, HASH, AT))
        connection.execute("INSERT INTO state VALUES ('schedule', ?), (?, 'x')", (user, f"only.{user}"))
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={schema}")


def make_folder(folder: Path, *, settings: bool = True) -> Path:
    """Make a data folder in the old state, and return its database."""
    for part in (folder, folder / "backup", folder / "media"):
        part.mkdir(mode=0o700)
    live = folder / "callisto.db"
    make_database(live, "old")
    live.chmod(0o600)
    if settings:
        (folder / "callisto.toml").write_text(OLD_SETTINGS)
    return live


def add_messages(file: Path, names: Iterable[str]) -> None:
    """Give the user a mailbox with a message for each recording."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("INSERT OR IGNORE INTO mailbox (number) VALUES (100)")
        for name in names:
            connection.execute(
                "INSERT INTO message (mailbox, kind, at, length_ms, recording) VALUES (100, 'voice', ?, 1, ?)",
                (AT, name),
            )


def make_later_backup(folder: Path) -> Unpacked:
    """Make an unpacked backup of the new state as it was later, with other recordings."""
    backup = make_backup(folder)
    backup.database.unlink()
    make_database(backup.database, "new")
    add_messages(backup.database, LATER)
    for name in RECORDINGS:
        (folder / "recordings" / name).unlink()
    for name, content in LATER.items():
        (folder / "recordings" / name).write_bytes(content)
    return backup


def make_backup(folder: Path, *, schema: int = NEWEST, settings: bool = True) -> Unpacked:
    """Make an unpacked backup of the new state."""
    folder.mkdir()
    make_database(folder / "database.db", "new", schema=schema)
    if schema > 1:  # the first one has no messages
        add_messages(folder / "database.db", RECORDINGS)
    (folder / "callisto.toml").write_text(NEW_SETTINGS)
    (folder / "recordings").mkdir()
    for name, content in RECORDINGS.items():
        (folder / "recordings" / name).write_bytes(content)
    return Unpacked(
        name="backup.zip",
        database=folder / "database.db",
        settings=folder / "callisto.toml" if settings else None,
        recordings=folder / "recordings",
        schema=schema,
        version="0.9.0",
        edition="ucm",
        secrets=True,
    )


def users_of(file: Path) -> list[str]:
    """Return the users of a database that is sound."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [name for (name,) in connection.execute("SELECT name FROM user")]


def state_of(folder: Path) -> str:
    """Return which state a folder is in, ``old`` or ``new``: database and settings agree."""
    (name,) = users_of(folder / "callisto.db")
    settings = folder / "callisto.toml"
    assert settings.read_text() == {"old": OLD_SETTINGS, "new": NEW_SETTINGS}[name]
    return str(name)


def litter(folder: Path) -> set[str]:
    """Return the names in a data folder that no settled appliance has."""
    known = {"callisto.db", "callisto.toml", "callisto.db-journal", "backup", "media"}
    found = {path.name for path in folder.iterdir()} - known
    found |= {path.name for path in (folder / "backup").iterdir()} - {"undo"}
    return found | {path.name for path in (folder / "media").iterdir()} - {*RECORDINGS, *LATER}
